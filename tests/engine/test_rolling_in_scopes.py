"""Loops inside of scopes (``vmap``, ``checkpoint``) are rolled, and compute what they do op by op without a scope."""

from __future__ import annotations

import functools

import jax
import numpy as np
import pytest
from _bodies import (  # noqa: F401
    BODIES,
    B,
    D,
    F,
    H,
    T,
    caches,
    check,
    lanes,
    loss_of,
    numbers,
    parameters,
    roll,
    run,
    same,
    weights,
)
from _more_loops import Scaled

import tracegrad as torch
from tracegrad._config import config
from tracegrad._engine import loop, report, rolling
from tracegrad._engine.program import Program
from tracegrad.func import grad
from tracegrad.utils.checkpoint import checkpoint as _checkpoint

vmap = torch.vmap
checkpoint = functools.partial(_checkpoint, use_reentrant=False)


def noted(kind="loops", start=0):
    """Return what was said of the programs compiled since there were ``start`` of them."""
    return [text for record in report.totals.records[start:] for text in getattr(record, kind)]


# -- every loop in every scope -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BODIES)
def test_in_a_checkpoint(name):
    f = BODIES[name]
    with torch.eager():
        expected = run(lambda p: f(p, p["x"], p["h"]))
    check(lambda p: checkpoint(lambda x, h: f(p, x, h), p["x"], p["h"]), expected)


@pytest.mark.parametrize("name", BODIES)
def test_in_a_vmap(name):
    f = BODIES[name]
    with torch.eager():
        expected = run(lambda p: lanes(functools.partial(f, p), p))
    check(lambda p: vmap(functools.partial(f, p), (1, 0))(p["x"], p["h"]), expected)


@pytest.mark.parametrize("name", ["stacked_states", "running_loss", "lag_two", "stacked_layers", "loop_in_loop",
                                  "own_backwards", "no_grad_within", "written_in_parts", "an_embedding_within"])
def test_gradients_of_every_example(name):
    def gradient(w, x, h):
        return grad(lambda w: loss_of(BODIES[name](w, x, h)))(w)

    p = parameters(wants=False)
    with torch.eager():
        expected = numbers(lanes(lambda x, h: gradient(weights(p), x, h), p))
    config.roll = "always"
    start = len(report.totals.records)
    for _ in range(2):
        same(numbers(vmap(gradient, (None, 1, 0))(weights(p), p["x"], p["h"])), expected)
    assert any("(in vmap)" in loop for loop in noted("loops", start))


NESTED = {
    "a checkpoint in vmap": lambda f, p: vmap(lambda x, h: checkpoint(f, p, x, h), (1, 0))(p["x"], p["h"]),
    "vmap in a checkpoint": lambda f, p: checkpoint(vmap(functools.partial(f, p), (1, 0)), p["x"], p["h"]),
    "vmap in vmap": lambda f, p: vmap(vmap(lambda x, h, b: f({**p, "b": b}, x, h), (1, 0, None)), (None, None, 0))(
        p["x"], p["h"], torch.stack([p["b"], p["b"] * 2])),
    "a checkpoint in a checkpoint": lambda f, p: checkpoint(lambda x: checkpoint(f, p, x, p["h"]) * 2, p["x"]),
    "out_dims": lambda f, p: vmap(lambda x, h: (f(p, x, h), p["b"] * 2), (1, 0), (1, None))(p["x"], p["h"]),
    "in chunks": lambda f, p: vmap(functools.partial(f, p), (1, 0), chunk_size=1)(p["x"], p["h"]),
}  # fmt: skip


@pytest.mark.parametrize("way, name", [*((way, "stacked_states") for way in NESTED),
                                       ("vmap in vmap", "written_in_parts"), ("in chunks", "written_in_parts")])
def test_nested(way, name):
    program = functools.partial(NESTED[way], BODIES[name])
    config.roll = "never"
    check(program, run(program))


# -- a scope in every trip ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("inner", [1, 4])
def test_a_checkpoint_in_every_trip(inner):
    def cell(p, x, h, t):
        for _ in range(inner):
            h = torch.tanh(x @ p["W"] + h @ p["U"] * (t + 0.5))
        return h

    def program(p, scope=checkpoint):
        h, found = p["h"], []
        for t in range(T + 2):
            h = scope(cell, p, p["x"][t % T], h, t)
            found.append(h)
        return torch.stack(found), h

    with torch.eager():
        expected = run(program, lambda f, *args: f(*args))
    torch.clear_caches()
    config.roll = "always"
    for _ in range(2):
        same(run(program), expected)
    loops = noted()
    assert any("(in " not in loop for loop in loops)
    assert inner == 1 or any("4 trips" in loop and "(in checkpoint)" in loop for loop in loops)


def test_many_numbers_in_the_scopes_of_a_loop():
    def cell(p, x, h, t):
        for i in range(5):
            h = F.dropout(torch.tanh(x + h @ p["U"] * (t + i / 4)), 0.3)
        return h

    def program(p, scope=checkpoint):
        h = p["h"]
        for t in range(T):
            h = scope(cell, p, p["x"][t], h, t)
        return h

    with torch.eager():
        expected = run(program, lambda f, *args: f(*args))
    check(program, expected)
    check(program, expected, rolled=False, roll="never")


def test_vmap_in_every_trip():
    def program(p):
        h = p["h"]
        for t in range(T):
            h = vmap(lambda x, h: torch.tanh(x @ p["W"] + h @ p["U"]))(p["x"][t], h)
        return h

    config.roll = "never"
    expected = run(program)
    torch.clear_caches()
    config.roll = "always"
    for _ in range(2):
        same(run(program), expected)
    assert noted()


# -- random numbers, writes, checks ------------------------------------------------------------------------------------


@pytest.mark.parametrize("randomness", ["same", "different"])
def test_dropout_within_vmap(randomness):
    def f(p, x, h):
        for t in range(T):
            h = F.dropout(torch.tanh(x[t] @ p["W"] + h @ p["U"]), 0.5) + 0.1 * torch.randn(H)
        return h

    def program(p):
        return vmap(functools.partial(f, p), (1, 0), randomness=randomness)(p["x"], p["h"])

    config.roll = "never"
    check(program, run(program))


def test_dropout_within_a_checkpoint():
    def f(p, x, h):
        for t in range(T):
            h = F.dropout(torch.tanh(x[t] @ p["W"] + h @ p["U"]), 0.5)
        return h

    with torch.eager():
        expected = run(lambda p: f(p, p["x"], p["h"]))
    check(lambda p: checkpoint(f, p, p["x"], p["h"]), expected)


def test_writes_to_tensors_from_outside():
    def program(p, scope=checkpoint):
        mean = torch.zeros(H)

        def f(x, h):
            for t in range(T):
                h = torch.tanh(x[t] @ p["W"] + h @ p["U"])
                with torch.no_grad():
                    mean.mul_(0.9).add_(h.mean(0) * 0.1)
            return h

        return scope(f, p["x"], p["h"]), mean

    with torch.eager():
        expected = run(program, lambda f, *args: f(*args))
    check(program, expected)


def test_the_statistics_of_a_module_within_a_checkpoint():
    torch.manual_seed(0)
    norm = torch.nn.BatchNorm1d(H)
    state = {k: v.clone() for k, v in norm.state_dict().items()}

    def program(p, scope=checkpoint):
        norm.load_state_dict(state)
        norm.zero_grad()

        def f(x, h):
            for t in range(T):
                h = norm(torch.tanh(x[t] @ p["W"] + h @ p["U"]))
            return h

        return scope(f, p["x"], p["h"]), norm.running_mean, norm.num_batches_tracked

    with torch.eager():
        expected = run(program, lambda f, *args: f(*args))
    config.roll = "always"
    torch.clear_caches()
    for _ in range(2):
        same(run(program), expected)


@pytest.mark.parametrize("scope", [checkpoint, lambda f, tokens, h: vmap(f)(tokens, h)])
@pytest.mark.parametrize("how", ["always", "never"])
@pytest.mark.parametrize("wants", [False, True])
def test_a_wrong_index_within_is_found(scope, how, wants):
    config.roll = how
    table = torch.ones(3, H, requires_grad=wants)

    def f(tokens, h):
        for t in range(T):
            h = torch.tanh(h + F.embedding(tokens[..., t] + 0, table))
            h = h + table[tokens[..., 0] + 0]
        return h

    tokens = torch.zeros(B, T, dtype=torch.int64)
    right = scope(f, tokens, torch.zeros(B, H))
    assert right.shape == (B, H)
    right.sum().item()
    tokens[1, 4] = 7
    with pytest.raises(IndexError, match="index out of range in self"):
        scope(f, tokens, torch.zeros(B, H)).sum().item()
    tokens[1, 4], tokens[0, 0] = 0, -2**62
    with pytest.raises(IndexError):
        scope(f, tokens, torch.zeros(B, H)).sum().item()
    scope(f, tokens * 0, torch.zeros(B, H)).sum().item()


def test_the_number_that_a_check_found_is_told():
    config.roll = "always"
    x = torch.ones(B, 5)

    def f(x, tokens):
        total = 0.0
        for t in range(T):
            total = torch.sin(total + x[tokens[t] - 3].sum())
        return total

    tokens = torch.full((B, T), 4)
    tokens[1, 2] = 23
    with pytest.raises(IndexError, match="index 20 is out of bounds for dimension 0 with size 5"):
        vmap(f)(x, tokens).sum().item()


def test_draws_in_somebody_elses_jax_trace_are_the_same():
    """There nothing is rolled, and numbers of 64 bits stay what they are although that trace has no such arrays."""

    def f(a):
        torch.manual_seed(67280421310721)

        def of_one(row):
            for _ in range(12):
                row = F.dropout(row, 0.3)
            return row

        return vmap(of_one, randomness="same")(torch.from_jax(a)).jax()

    config.roll = "always"
    a = jax.numpy.ones((2, 50), jax.numpy.float32)
    start = len(report.totals.records)
    expected = f(a)
    assert noted("loops", start)
    np.testing.assert_allclose(jax.jit(f)(a), expected, rtol=1e-5)


def test_in_a_compiled_function():
    config.roll = "always"
    p = parameters()

    def step(x, scope=checkpoint):
        def f(x, h):
            for t in range(12):
                h = torch.tanh(x[t % T] + h @ p["U"] * (t + 0.5))
            return h

        (found,) = torch.autograd.grad((scope(f, x, p["h"]) ** 2).sum(), [p["U"]])
        return found

    compiled = torch.compile(step)
    xs = [p["x"].detach() * k for k in (1, 2, 3, 4)]
    expected = [step(x, lambda f, *args: f(*args)).numpy() for x in xs]
    start = len(report.totals.records)
    for x, one in zip(xs, expected):
        np.testing.assert_allclose(compiled(x).numpy(), one, rtol=1e-10, atol=1e-12)
    assert any("(in checkpoint)" in loop for loop in noted("loops", start))


# -- what is rolled, and said ------------------------------------------------------------------------------------------


def test_explain_tells_of_the_loops_in_scopes():
    x = torch.ones(B, 40, H)

    def f(x):
        h = x[0]
        for t in range(40):
            h = torch.tanh(h + x[t])
        for _ in range(10):
            h = h.exp()
        return h

    vmap(f)(x).numpy()
    found = report.totals.records[-1]
    assert [loop.split(" at ")[0] for loop in found.loops] == ["39 trips of 3 operations"]
    assert found.loops[0].endswith("(in vmap)")
    assert found.unrolled[0].endswith("too few to pay (in vmap)") and "10 trips of 1 op" in found.unrolled[0]
    assert " (in vmap)" in torch.explain()


def test_settings_act_at_once():
    x = torch.ones(B, H)

    def f(h):
        for _ in range(6):
            h = torch.tanh(h)
        return h

    def loops(how):
        config.roll = how
        start = len(report.totals.records)
        vmap(f)(x).numpy()
        return noted("loops", start)

    assert not loops("never") and loops("always") and not loops("7") and loops("6") and not loops("auto")


def test_a_hook_within_ends_a_loop_of_the_backward_and_says_so():
    def program(p, scope=checkpoint):
        def f(x, h):
            for t in range(T):
                h = torch.tanh(x[t] @ p["W"] + h @ p["U"])
                h.register_hook(lambda g: g * 2)
            return h

        return scope(f, p["x"], p["h"])

    with torch.eager():
        expected = run(program, lambda f, *args: f(*args))
    start = len(report.totals.records)
    check(program, expected)
    assert any("a hook, a custom Function or a gradient that is asked for ends the loop (in checkpoint)" in why
               for why in noted("unrolled", start))  # fmt: skip


def test_a_custom_function_within_is_not_rolled_and_says_so():
    def program(p, scope=checkpoint):
        def f(x, h):
            for t in range(T):
                h = torch.tanh(Scaled.apply(x[t] @ p["W"]) + h @ p["U"])
            return h

        return scope(f, p["x"], p["h"])

    with torch.eager():
        expected = run(program, lambda f, *args: f(*args))
    start = len(report.totals.records)
    check(program, expected, rolled=False)
    assert any("a hook, a custom Function" in why and why.endswith("(in checkpoint)")
               for why in noted("unrolled", start))  # fmt: skip


@pytest.mark.parametrize("where, what", [(loop._Loop, "_scan"), (rolling._Search, "_grow")])
def test_what_cannot_be_emitted_runs_unrolled_and_says_so(monkeypatch, where, what):
    def broken(*args):
        raise AssertionError("no such loop")

    f = BODIES["stacked_states"]
    with torch.eager():
        expected = run(lambda p: f(p, p["x"], p["h"]))
    monkeypatch.setattr(where, what, broken)
    check(lambda p: checkpoint(f, p, p["x"], p["h"]), expected, rolled=False)
    assert "not rolled: all loops: AssertionError" in torch.explain()


def test_what_cannot_be_differentiated_runs_unrolled_and_says_so(monkeypatch):
    """The scope's op is recorded without an error, which comes when the program is traced."""
    torch.clear_caches()
    real = loop._differentiated

    @jax.custom_vjp
    def broken(x):
        return x

    def fail(*_):
        raise AssertionError("no derivative")

    broken.defvjp(lambda x: (x, None), fail)
    inside = []
    monkeypatch.setattr(loop._Loop, "_scan", lambda self, *args, real=loop._Loop._scan: (
        inside.append(0), real(self, *args), inside.pop()))  # fmt: skip
    monkeypatch.setattr(loop, "_differentiated", lambda *args: (
        jax.tree_util.tree_map(broken, real(*args)) if inside else real(*args)))  # fmt: skip
    f = BODIES["last_state"]
    with torch.eager():
        expected = run(lambda p: f(p, p["x"], p["h"]))
    check(lambda p: checkpoint(f, p, p["x"], p["h"]), expected, rolled=False)
    assert "not rolled: all loops: AssertionError when they were emitted: no derivative (in checkpoint)" in (
        torch.explain())


# -- size --------------------------------------------------------------------------------------------------------------


def size_of(jaxpr):
    inner = [x for eqn in jaxpr.eqns for x in jax.tree_util.tree_leaves(list(eqn.params.values()), is_leaf=is_jaxpr)]
    return len(jaxpr.eqns) + sum(size_of(getattr(x, "jaxpr", x)) for x in inner if is_jaxpr(x))


def is_jaxpr(x):
    return hasattr(x, "eqns") or hasattr(x, "jaxpr")


def in_vmap(f, p, x, h):
    return vmap(functools.partial(f, p), (1, 0))(x, h)


@pytest.mark.parametrize("scope", [checkpoint, in_vmap])
def test_the_program_does_not_grow_with_the_number_of_steps(scope, monkeypatch):
    config.roll = "auto"
    sizes = []
    real = Program.trace

    def noted(self, args):
        traced = real(self, args)
        sizes.append(size_of(traced.jaxpr.jaxpr))
        return traced

    monkeypatch.setattr(Program, "trace", noted)

    def body(p, x, h):
        for t in range(x.shape[0]):
            h = F.dropout(torch.tanh(x[t] @ p["W"] + h @ p["U"] * (t + 0.5)), 0.0)
        return h

    def largest(steps):
        sizes.clear()
        p = parameters()
        for _ in range(2):
            x = torch.ones(steps, B, D)
            (scope(body, p, x, p["h"]) ** 2).sum().backward()
            p["U"].grad.numpy()
        return max(sizes[-1:])

    largest(8)  # the changing numbers become inputs
    assert largest(128) == largest(32) < 200
