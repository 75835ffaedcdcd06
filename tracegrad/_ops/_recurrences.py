"""One layer of a recurrent network, as one op: how it runs over time, with a VJP of its own.

All kinds share one frame. The inputs of all time steps are multiplied by ``w_ih`` at once, and ``lax.scan`` does what
depends on the step before; both directions of a layer are in one loop, where XLA can do them side by side. Of each
step, the forward keeps the state and what the products summed to. Out of that the backward makes, for all steps at
once, the *factors* by which cotangents are multiplied. So its loop, which runs the other way, multiplies, adds and
carries the cotangents of the state, no more. The gradients of weights and inputs are one product each of what the loop
leaves.

NOTE [Contiguous gates] Where XLA's CPU backend fuses a sigmoid with the cutting of gates, it does not vectorise it.
What several fusions read it computes by itself. So the sigmoid is taken of all gates at once, although some of them
want another function, and the GRU keeps its third gate, so that this is read by a fusion of its own. That makes the
forward's loop take half the time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from tracegrad import _dtype
from tracegrad._dtype import type_name
from tracegrad._engine.op import Lowering
from tracegrad._engine.value import Aval
from tracegrad._ops._opmath import opmath, require_floating
from tracegrad._ops.linear import check_linear


class Kind(NamedTuple):
    """What tells one kind of recurrent layer from another; arrays end in (batch, width)."""

    #: How many gates there are: the rows of the weights are that many times the hidden size.
    gates: int
    #: ``step(given, hidden, state) -> (state, kept)``: a time step, from its products with the weights.
    step: Callable[[Any, Any, tuple[Any, ...]], tuple[tuple[Any, ...], Any]]
    #: ``factors(given, kept, before, after) -> factors``, for all time steps, or for one.
    factors: Callable[[Any, Any, tuple[Any, ...], tuple[Any, ...]], Any]
    #: ``back(cotangents, factors) -> (cotangent of hidden, what else goes to the state before)``.
    back: Callable[[tuple[Any, ...], Any], tuple[Any, tuple[Any, ...]]]
    #: ``of_given(cotangents of hidden, of h, factors) -> cotangents of given``; None where they are those of hidden.
    of_given: Callable[[Any, Any, Any], Any] | None = None


def cut(gates: Any, n: int) -> list[Any]:
    """Return ``n`` equal parts of the last dim."""
    width = gates.shape[-1] // n
    return [gates[..., k * width : (k + 1) * width] for k in range(n)]


# -- plain: h' = act(given + hidden) -----------------------------------------------------------------------------------


def _plain(act: Callable[[Any], Any], slope: Callable[[Any], Any]) -> Kind:
    def step(given: Any, hidden: Any, state: tuple[Any, ...]) -> tuple[tuple[Any, ...], Any]:
        return (act(given + hidden),), None

    def factors(given: Any, kept: Any, before: tuple[Any, ...], after: tuple[Any, ...]) -> Any:
        return slope(after[0])

    def back(d: tuple[Any, ...], factors: Any) -> tuple[Any, tuple[Any, ...]]:
        return d[0] * factors, (0,)

    return Kind(1, step, factors, back)


# -- LSTM: gates i, f, g, o; c' = f c + i g; h' = o tanh(c') -----------------------------------------------------------


def _lstm_gates(z: Any) -> tuple[Any, ...]:
    i, f, _, o = cut(jax.nn.sigmoid(z), 4)  # see NOTE [Contiguous gates]
    return i, f, jnp.tanh(cut(z, 4)[2]), o


def _lstm_step(given: Any, hidden: Any, state: tuple[Any, ...]) -> tuple[tuple[Any, ...], Any]:
    z = given + hidden
    i, f, g, o = _lstm_gates(z)
    c = f * state[1] + i * g
    return (o * jnp.tanh(c), c), z


def _lstm_factors(given: Any, kept: Any, before: tuple[Any, ...], after: tuple[Any, ...]) -> Any:
    i, f, g, o = _lstm_gates(kept)
    t = jnp.tanh(after[1])
    return (g * i * (1 - i), before[1] * f * (1 - f), i * (1 - g * g), t * o * (1 - o)), o * (1 - t * t), f


def _lstm_back(d: tuple[Any, ...], factors: Any) -> tuple[Any, tuple[Any, ...]]:
    dh, dc = d
    (i, f, g, o), of_h, forget = factors
    dc = dc + dh * of_h
    return jnp.concatenate([dc * i, dc * f, dc * g, dh * o], -1), (0, dc * forget)


# -- GRU: gates r, z, n; n = tanh(given + r hidden); h' = n + z (h - n) ------------------------------------------------


def _gru_gates(given: Any, hidden: Any) -> list[Any]:
    width = given.shape[-1] // 3 * 2
    return cut(jax.nn.sigmoid(given[..., :width] + hidden[..., :width]), 2)


def _gru_step(given: Any, hidden: Any, state: tuple[Any, ...]) -> tuple[tuple[Any, ...], Any]:
    r, z = _gru_gates(given, hidden)
    n = jnp.tanh(cut(given, 3)[2] + r * cut(hidden, 3)[2])
    return ((state[0] - n) * z + n,), (hidden, n)


def _gru_factors(given: Any, kept: Any, before: tuple[Any, ...], after: tuple[Any, ...]) -> Any:
    hidden, n = kept
    r, z = _gru_gates(given, hidden)
    of_n = (1 - z) * (1 - n * n)
    return (of_n * cut(hidden, 3)[2] * r * (1 - r), (before[0] - n) * z * (1 - z), of_n * r), z, of_n


def _gru_back(d: tuple[Any, ...], factors: Any) -> tuple[Any, tuple[Any, ...]]:
    (dh,) = d
    (r, z, n), keep, _ = factors
    return jnp.concatenate([dh * r, dh * z, dh * n], -1), (dh * keep,)


def _gru_of_given(dhidden: Any, dh: Any, factors: Any) -> Any:
    return jnp.concatenate([dhidden[..., : dhidden.shape[-1] // 3 * 2], dh * factors[2]], -1)


KINDS = {
    "rnn_tanh": _plain(jnp.tanh, lambda y: 1 - y * y),
    "rnn_relu": _plain(jax.nn.relu, lambda y: (y > 0).astype(y.dtype)),
    "lstm": Kind(4, _lstm_step, _lstm_factors, _lstm_back),
    "gru": Kind(3, _gru_step, _gru_factors, _gru_back, _gru_of_given),
}


# -- over time ---------------------------------------------------------------------------------------------------------


class _Direction(NamedTuple):
    """One direction of a layer, as if there were no other: where it goes backwards, its arrays are reversed in time."""

    x: Any  # (time, batch, inputs)
    live: Any  # (time, batch, 1): where the sequences go on; None where all are as long
    state: tuple[Any, ...]  # h, and c of an LSTM, before the first step
    w_ih: Any
    w_hh: Any
    b_ih: Any = None
    b_hh: Any = None
    w_hr: Any = None


def layer(x: Aval, *rest: Any) -> Lowering:
    """The rule of one layer: outputs of all time steps, and for each direction the states after the last one.

    The operands are ``x``; for each direction the states before, ``w_ih``, ``w_hh``, two biases and ``w_hr``; and the
    lengths of the sequences; as far as the params say that they are there: kind, number of directions, biased,
    projected, with lengths.
    """
    *operands, name, directions, biased, projected, with_lengths = rest
    kind, wide, count = KINDS[name], opmath(x.dtype), 2 if name == "lstm" else 1
    size = count + 2 + 2 * biased + projected
    for d in range(directions):
        _check(x, operands[d * size :][:count], operands[d * size :][count:size], kind.gates, biased)

    def named(args: Any) -> list[_Direction]:
        live = None
        if with_lengths:
            *args, lengths = args
            live = (jnp.arange(x.shape[0])[:, None] < lengths)[:, :, None]
        a, *others = [v.astype(wide) for v in args]
        found = []
        for d in range(directions):
            state, w_ih, w_hh, *more = (tuple(others[d * size :][:count]), *others[d * size + count :])
            b_ih, b_hh = more[:2] if biased else (None, None)
            w_hr = more[2 * biased] if projected else None
            found.append(_Direction(_turned(a, d), _turned(live, d), state, w_ih, w_hh, b_ih, b_hh, w_hr))
        return found

    def run(ways: list[_Direction], keep: bool) -> tuple[list[Any], Any, Any]:
        given = []
        for p in ways:
            one = _product(p.x, p.w_ih.T)
            # A bias that is no summand of the gate is added in the loop.
            given.append(one if not biased else one + (p.b_ih if kind.of_given else p.b_ih + p.b_hh))

        turned = [p.w_hh.T for p in ways]  # once, not in each step

        def step(states: Any, now: Any) -> tuple[Any, Any]:
            new, kept = zip(*map(step_of, ways, turned, states, *now))
            return new, (new, kept) if keep else tuple(state[0] for state in new)

        def step_of(p: _Direction, w: Any, state: tuple[Any, ...], given: Any, live: Any) -> tuple[Any, Any]:
            hidden = state[0] @ w
            new, kept = kind.step(given, hidden + p.b_hh if biased and kind.of_given else hidden, state)
            if p.w_hr is not None:
                new = (new[0] @ p.w_hr.T, *new[1:])
            if live is not None:
                new = tuple(jnp.where(live, a, b) for a, b in zip(new, state))
            return new, kept

        return given, *lax.scan(step, tuple(p.state for p in ways), (given, [p.live for p in ways]))

    def results(outputs: list[Any], last: Any) -> tuple[Any, ...]:
        turned = [_turned(y, d) for d, y in enumerate(outputs)]
        y = turned[0] if directions == 1 else jnp.concatenate(turned, -1)
        return tuple(a.astype(x.dtype.np) for a in (y, *(a for state in last for a in state)))

    def fn(*args: Any) -> Any:
        _, last, outputs = run(named(args), False)
        return results(outputs, last)

    def forward(*args: Any) -> tuple[Any, Any]:
        given, last, (states, kept) = run(named(args), True)
        saved = args, given if kind.of_given else [None] * directions, states, kept
        return results([state[0] for state in states], last), saved

    def backward(saved: Any, cotangents: Any) -> tuple[Any, ...]:
        args, given, states, kept = saved
        ways = named(args)
        dy, *dlast = [c.astype(wide) for c in cotangents]
        before = [tuple(jnp.concatenate([a[None], b[:-1]]) for a, b in zip(p.state, s)) for p, s in zip(ways, states)]
        factors = [kind.factors(*of) for of in zip(given, kept, before, states)]
        needs_dh = bool(kind.of_given or projected)

        def step(ds: Any, now: Any) -> tuple[Any, Any]:
            new, found = zip(*map(step_of, ways, ds, *now))
            return new, found

        def step_of(p: _Direction, d: tuple[Any, ...], dy: Any, live: Any, factors: Any) -> tuple[Any, Any]:
            d = arrived = (d[0] + dy, *d[1:])
            if live is not None:
                d = tuple(jnp.where(live, a, 0) for a in d)
            dh = d[0]
            dhidden, through = kind.back(d if p.w_hr is None else (dh @ p.w_hr, *d[1:]), factors)
            new = (dhidden @ p.w_hh + through[0], *through[1:])
            if live is not None:
                new = tuple(jnp.where(live, a, b) for a, b in zip(new, arrived))
            return new, (dhidden, dh if needs_dh else None)

        dys = [_turned(c, d) for d, c in enumerate(cut(dy, directions))]
        ends = tuple(tuple(dlast[d * count : (d + 1) * count]) for d in range(directions))
        dstates, found = lax.scan(step, ends, (dys, [p.live for p in ways], factors), reverse=True)
        dx, grads = jnp.zeros((), wide), []
        for d, (p, dstate, (dhidden, dh)) in enumerate(zip(ways, dstates, found)):
            dgiven = kind.of_given(dhidden, dh, factors[d]) if kind.of_given else dhidden
            dx = dx + _turned(_product(dgiven, p.w_ih), d)
            grads += [*dstate, _gradient(dgiven, p.x), _gradient(dhidden, before[d][0])]
            if biased:
                grads += [jnp.sum(dgiven, (0, 1)), jnp.sum(dhidden, (0, 1))]
            if projected:
                grads.append(_gradient(dh, _lstm_gates(kept[d])[3] * jnp.tanh(states[d][1])))
        return (*(g.astype(x.dtype.np) for g in (dx, *grads)), *(None,) * with_lengths)

    fast = name == "lstm" and x.dtype is _dtype.float32 and not projected
    graph_name = "CatBackward0" if directions == 2 else "MkldnnRnnLayerBackward0" if fast else "StackBackward0"
    return Lowering(fn, forward, backward, graph_name)


def _turned(a: Any, direction: int) -> Any:
    return a[::-1] if direction and a is not None else a


def _product(a: Any, w: Any) -> Any:
    """Return the product of all time steps with a matrix; see NOTE [Flat] in `linear`."""
    return (a.reshape(-1, a.shape[-1]) @ w).reshape(*a.shape[:-1], w.shape[-1])


def _gradient(d: Any, of: Any) -> Any:
    """Return the gradient of a weight: the products of all time steps, summed."""
    return lax.dot_general(d, of, (((0, 1), (0, 1)), ((), ())))


def _check(x: Aval, state: list[Aval], weights: list[Aval], gates: int, biased: bool) -> None:
    require_floating(x, "recurrent layer")
    if x.ndim != 3:
        raise RuntimeError(f"input must have 3 dimensions, got {x.ndim}")
    if x.shape[0] == 0:
        raise RuntimeError("Expected sequence length to be larger than 0 in RNN")
    w_ih, w_hh, *others = weights
    check_linear(x, w_ih, others[0] if biased else None)
    check_linear(state[0], w_hh, others[1] if biased else None)
    rows = gates * state[-1].shape[-1]
    for w in (w_ih, w_hh):
        if w.ndim != 2 or w.shape[0] != rows:
            raise RuntimeError(f"the weights of a recurrent layer with {gates} gates and hidden size "
                               f"{state[-1].shape[-1]} must have {rows} rows, but have the shape {list(w.shape)}")
    for w_hr in others[2 * biased :]:
        if w_hr.dtype is not x.dtype or w_hr.shape != (state[0].shape[-1], state[-1].shape[-1]):
            wide, narrow = state[-1].shape[-1], state[0].shape[-1]
            raise RuntimeError(f"the projection of a recurrent layer from {wide} to {narrow} must be "
                               f"{type_name(x.dtype)}{[narrow, wide]}, but is "
                               f"{type_name(w_hr.dtype)}{list(w_hr.shape)}")
    for h in state:
        if h.dtype is not x.dtype or h.shape[:-1] != x.shape[1:-1]:
            raise RuntimeError("the state of a recurrent layer must have the dtype and the batch size of its input, "
                               f"{type_name(x.dtype)} and {x.shape[1]}, but is {type_name(h.dtype)}{list(h.shape)}")
