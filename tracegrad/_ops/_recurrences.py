"""One layer of a recurrent network in one direction, as one op: how it runs over time, with a VJP of its own.

All kinds share one frame. The inputs of all time steps are multiplied by ``w_ih`` at once, and ``lax.scan`` does what
depends on the step before. Of each step, the forward keeps the state and what the products summed to. Out of that the
backward makes, for all steps at once, the *factors* by which cotangents are multiplied. So its loop, which runs the
other way, multiplies, adds and carries the cotangents of the state, no more. The gradients of weights and inputs are
one product each of what the loop leaves.

NOTE [Contiguous gates] XLA's CPU backend fuses a function of a part of the gates with the cutting, and does not
vectorise that. So the sigmoid is taken of all gates in one, before a barrier, although some of them want another
function. That makes the forward's loop take half the time.
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
    i, f, _, o = cut(lax.optimization_barrier(jax.nn.sigmoid(z)), 4)
    return i, f, jnp.tanh(cut(z, 4)[2]), o


def _lstm_step(given: Any, hidden: Any, state: tuple[Any, ...]) -> tuple[tuple[Any, ...], Any]:
    z = given + hidden
    i, f, g, o = _lstm_gates(z)
    c = f * state[1] + i * g
    return (o * jnp.tanh(c), c), z


def _lstm_factors(given: Any, kept: Any, before: tuple[Any, ...], after: tuple[Any, ...]) -> Any:
    i, f, g, o = _lstm_gates(kept)
    t = jnp.tanh(after[1])
    g, t = lax.optimization_barrier((g, t))  # each is wanted twice
    return (g * i * (1 - i), before[1] * f * (1 - f), i * (1 - g * g), t * o * (1 - o)), o * (1 - t * t), f


def _lstm_back(d: tuple[Any, ...], factors: Any) -> tuple[Any, tuple[Any, ...]]:
    dh, dc = d
    (i, f, g, o), of_h, forget = factors
    dc = dc + dh * of_h
    return jnp.concatenate([dc * i, dc * f, dc * g, dh * o], -1), (0, dc * forget)


# -- GRU: gates r, z, n; n = tanh(given + r hidden); h' = n + z (h - n) ------------------------------------------------


def _gru_gates(given: Any, hidden: Any) -> tuple[Any, ...]:
    width = given.shape[-1] // 3 * 2
    r, z = cut(lax.optimization_barrier(jax.nn.sigmoid(given[..., :width] + hidden[..., :width])), 2)
    return r, z, jnp.tanh(given[..., width:] + r * hidden[..., width:])


def _gru_step(given: Any, hidden: Any, state: tuple[Any, ...]) -> tuple[tuple[Any, ...], Any]:
    _, z, n = _gru_gates(given, hidden)
    return ((state[0] - n) * z + n,), hidden


def _gru_factors(given: Any, kept: Any, before: tuple[Any, ...], after: tuple[Any, ...]) -> Any:
    r, z, n = lax.optimization_barrier(_gru_gates(given, kept))
    of_n = (1 - z) * (1 - n * n)
    return (of_n * cut(kept, 3)[2] * r * (1 - r), (before[0] - n) * z * (1 - z), of_n * r), z, of_n


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


class _Operands(NamedTuple):
    x: Any  # (time, batch, inputs)
    state: tuple[Any, ...]  # h, and c of an LSTM, before the first step
    w_ih: Any
    w_hh: Any
    b_ih: Any = None
    b_hh: Any = None
    w_hr: Any = None
    live: Any = None  # (time, batch, 1): where the sequences go on


def layer(x: Aval, *rest: Any) -> Lowering:
    """The rule of one layer in one direction: outputs of all time steps, and the states after the last one.

    The operands are ``x``, the states before, ``w_ih``, ``w_hh``, two biases, ``w_hr`` and the lengths of the
    sequences, as far as the params say that they are there: kind, reverse, biased, projected, with lengths.
    """
    *_, name, reverse, biased, projected, with_lengths = rest
    operands = [x, *rest[:-5]]
    kind, wide, count = KINDS[name], opmath(x.dtype), 2 if name == "lstm" else 1
    _check(x, operands[1 : 1 + count], operands[1 + count :], kind.gates, biased)

    def named(args: Any) -> _Operands:
        live = None
        if with_lengths:
            *args, lengths = args
            live = (jnp.arange(x.shape[0])[:, None] < lengths)[:, :, None]
        a, *others = [v.astype(wide) for v in args]
        state, weights = tuple(others[:count]), others[count:]
        w_ih, w_hh, *others = weights
        b_ih, b_hh = others[:2] if biased else (None, None)
        return _Operands(a, state, w_ih, w_hh, b_ih, b_hh, others[-1] if projected else None, live)

    def run(p: _Operands, keep: bool) -> tuple[Any, Any, Any]:
        given = _product(p.x, p.w_ih.T)
        of_hidden = p.b_hh if kind.of_given else None  # a bias that is no summand of the gate is added in the loop
        if biased:
            given = given + (p.b_ih if kind.of_given else p.b_ih + p.b_hh)
        w = p.w_hh.T

        def step(state: tuple[Any, ...], now: Any) -> tuple[tuple[Any, ...], Any]:
            given, live = now
            hidden = state[0] @ w
            new, kept = kind.step(given, hidden if of_hidden is None else hidden + of_hidden, state)
            if p.w_hr is not None:
                new = (new[0] @ p.w_hr.T, *new[1:])
            if live is not None:
                new = tuple(jnp.where(live, a, b) for a, b in zip(new, state))
            return new, (new, kept) if keep else new[0]

        return (given, *lax.scan(step, p.state, (given, p.live), reverse=reverse))

    def fn(*args: Any) -> Any:
        _, last, outputs = run(named(args), False)
        return tuple(a.astype(x.dtype.np) for a in (outputs, *last))

    def forward(*args: Any) -> tuple[Any, Any]:
        given, last, (states, kept) = run(named(args), True)
        saved = args, given if kind.of_given else None, states, kept
        return tuple(a.astype(x.dtype.np) for a in (states[0], *last)), saved

    def backward(saved: Any, cotangents: Any) -> tuple[Any, ...]:
        args, given, states, kept = saved
        p = named(args)
        dy, *dlast = [c.astype(wide) for c in cotangents]
        before = tuple(_shifted(a, b, reverse) for a, b in zip(p.state, states))
        factors = kind.factors(given, kept, before, states)
        needs_dh = bool(kind.of_given) or p.w_hr is not None

        def step(d: tuple[Any, ...], now: Any) -> tuple[tuple[Any, ...], Any]:
            dy, live, factors = now
            d = arrived = (d[0] + dy, *d[1:])
            if live is not None:
                d = tuple(jnp.where(live, a, 0) for a in d)
            dh = d[0]
            dhidden, through = kind.back(d if p.w_hr is None else (dh @ p.w_hr, *d[1:]), factors)
            new = (dhidden @ p.w_hh + through[0], *through[1:])
            if live is not None:
                new = tuple(jnp.where(live, a, b) for a, b in zip(new, arrived))
            return new, (dhidden, dh if needs_dh else None)

        dstate, (dhidden, dh) = lax.scan(step, tuple(dlast), (dy, p.live, factors), reverse=not reverse)
        dgiven = kind.of_given(dhidden, dh, factors) if kind.of_given else dhidden
        grads = [_product(dgiven, p.w_ih), *dstate, _gradient(dgiven, p.x), _gradient(dhidden, before[0])]
        if biased:
            grads += [jnp.sum(dgiven, (0, 1)), jnp.sum(dhidden, (0, 1))]
        if p.w_hr is not None:
            *_, o = _lstm_gates(kept)
            grads.append(_gradient(dh, o * jnp.tanh(states[1])))
        return (*(g.astype(x.dtype.np) for g in grads), *(None,) * with_lengths)

    fast = name == "lstm" and x.dtype is _dtype.float32 and not projected
    return Lowering(fn, forward, backward, "MkldnnRnnLayerBackward0" if fast else "StackBackward0")


def _product(a: Any, w: Any) -> Any:
    """Return the product of all time steps with a matrix; see NOTE [Flat] in `linear`."""
    return (a.reshape(-1, a.shape[-1]) @ w).reshape(*a.shape[:-1], w.shape[-1])


def _gradient(d: Any, of: Any) -> Any:
    """Return the gradient of a weight: the products of all time steps, summed."""
    return lax.dot_general(d, of, (((0, 1), (0, 1)), ((), ())))


def _shifted(first: Any, states: Any, reverse: bool) -> Any:
    """Return the states before each time step, from those after it."""
    return jnp.concatenate([states[1:], first[None]] if reverse else [first[None], states[:-1]])


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
    for h in state:
        if h.dtype is not x.dtype or h.shape[:-1] != x.shape[1:-1]:
            raise RuntimeError("the state of a recurrent layer must have the dtype and the batch size of its input, "
                               f"{type_name(x.dtype)} and {x.shape[1]}, but is {type_name(h.dtype)}{list(h.shape)}")
