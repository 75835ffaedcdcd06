"""Gradients of loops in scopes, inside of them and from outside, and of higher orders."""

from __future__ import annotations

import functools
import warnings

import _bodies
import jax
import numpy as np
import pytest
from _bodies import (  # noqa: F401
    BODIES,
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
)

import tracegrad as torch
from tracegrad._config import config
from tracegrad.func import grad, grad_and_value, hessian, jacrev, jvp, vjp
from tracegrad.utils.checkpoint import checkpoint as _checkpoint

vmap = torch.vmap
checkpoint = functools.partial(_checkpoint, use_reentrant=False)


def states(p, x, h):
    found = []
    for t in range(T):
        h = torch.tanh(x[t] @ p["W"] + h @ p["U"])
        found.append(h)
    return found


def with_its_gradient(p, x, h):
    """The pull is no part of what outside gradients go through; the values it pulls from are."""
    hs = states(p, x, h)
    (g,) = torch.autograd.grad((hs[-1] ** 2).sum(), [p["U"]], retain_graph=True)
    return hs[-1] @ p["V"] + (g * p["b"]).sum(), torch.stack(hs).sum(0)


def with_two_gradients(p, x, h):
    hs = states(p, x, h)
    (first,) = torch.autograd.grad(torch.stack(hs).sum(), [p["W"]], retain_graph=True)
    (second,) = torch.autograd.grad(hs[2].prod(), [h], retain_graph=True)
    return hs[-1] + first.sum() * p["b"] + second * hs[1]


def with_states_asked_for(p, x, h):
    hs = states(p, x, h)
    found = torch.autograd.grad(torch.stack(hs).prod(0).sum(), [hs[1], hs[3]], retain_graph=True)
    return hs[-1] * found[0] + found[1] * p["b"]


def with_a_graph(p, x, h):
    hs = states(p, x, h)
    (g,) = torch.autograd.grad((hs[-1] ** 2).sum(), [h], create_graph=True)
    return hs[-1] + g * g


def of_a_level(p, x, h):
    g, (value, end) = grad_and_value(
        lambda u: (lambda hs: ((hs[-1] ** 2).sum(), hs[-1]))(states({**p, "U": u}, x, h)), has_aux=True)(p["U"])
    return g * value, end


GRADIENTS = [with_its_gradient, with_two_gradients, with_states_asked_for, with_a_graph, of_a_level]


@pytest.mark.parametrize("f", GRADIENTS)
def test_gradients_within_a_checkpoint(f):
    with torch.eager():
        expected = run(lambda p: f(p, p["x"] * 1, p["h"] * 1))

    def program(p):
        own = {k: v * 1 for k, v in p.items()}
        return checkpoint(lambda: f({k: v * 1 for k, v in own.items()}, own["x"] * 1, own["h"] * 1))

    check(program, expected)


@pytest.mark.parametrize("f", GRADIENTS)
def test_gradients_within_vmap(f):
    def once_more(p, x, h):
        return f({k: v * 1 for k, v in p.items()}, x * 1, h * 1)

    with torch.eager():
        expected = run(lambda p: lanes(functools.partial(once_more, p), p))
    check(lambda p: vmap(functools.partial(once_more, p), (1, 0))(p["x"], p["h"]), expected)


def test_second_gradients_through_vmap():
    def program(p):
        found = vmap(functools.partial(BODIES["own_backwards"], p), (1, 0))(p["x"], p["h"])
        g, u = torch.autograd.grad((found**3).sum(), [p["h"], p["U"]], create_graph=True)
        return g, u * found.sum()

    config.roll = "never"
    check(program, run(program))


@pytest.mark.parametrize("read", [False, True])
def test_second_gradients_through_a_checkpoint(read):
    def program(p, scope=checkpoint):
        found = scope(BODIES["stacked_states"], p, p["x"], p["h"])
        if read:
            found.sum().item()
        g, u = torch.autograd.grad((found**3).sum(), [p["h"], p["U"]], create_graph=True)
        return g, u * found.sum()

    with torch.eager():
        expected = run(program, lambda f, *args: f(*args))
    check(program, expected)


def test_transforms_of_scopes():
    f = BODIES["last_state"]

    def program(p):
        p = {k: v.detach() for k, v in p.items()}
        one = lambda u, h: f({**p, "U": u}, p["x"][:, 0], h)  # noqa: E731
        tangents = (p["V"], p["b"])
        _, pull = vjp(lambda u: checkpoint(one, u, p["h"][0]), p["U"])
        return (jacrev(one)(p["U"], p["h"][0]), *jvp(one, (p["U"], p["h"][0]), tangents),
                hessian(lambda h: one(p["U"], h).sum())(p["h"][0]), *pull(p["b"]),
                *vmap(lambda h: jvp(lambda h: one(p["U"], h), (h,), (p["b"],)))(p["h"]),
                vmap(jacrev(lambda h: one(p["U"], h)))(p["h"]))  # fmt: skip

    config.roll = "never"
    check(program, run(program))


def test_against_jax():
    p = parameters(wants=False)
    arrays = {k: v.jax() for k, v in p.items()}

    def loss(p, x, h):
        def step(h, z):
            h = jax.numpy.tanh(z @ p["W"] + h @ p["U"])
            return h, h

        return (jax.lax.scan(step, h, x)[1] ** 2).sum()

    with jax.enable_x64(True):
        expected = jax.vmap(jax.grad(loss), (None, 1, 0))(arrays, arrays["x"], arrays["h"])
        twice = jax.grad(lambda p: jax.grad(loss, 2)(p, p["x"], p["h"]).prod())(arrays)
    config.roll = "always"
    got = vmap(grad(lambda p, x, h: loss_of(BODIES["stacked_states"](p, x, h))), (None, 1, 0))(p, p["x"], p["h"])
    for k in ("W", "U"):
        np.testing.assert_allclose(got[k].numpy(), expected[k], rtol=1e-10, atol=1e-12)
    own = parameters()
    (g,) = torch.autograd.grad((checkpoint(BODIES["stacked_states"], own, own["x"], own["h"]) ** 2).sum(), [own["h"]],
                               create_graph=True)  # fmt: skip
    g.prod().backward()
    for k in ("W", "U", "x", "h"):
        np.testing.assert_allclose(own[k].grad.numpy(), twice[k], rtol=1e-9, atol=1e-12)


def test_a_user_of_jax_differentiates_a_vmap():
    def f(a):
        return vmap(lambda row: (row * row).sum())(torch.from_jax(a)).sum().jax()

    a = jax.numpy.arange(6.0).reshape(2, 3)
    np.testing.assert_allclose(jax.grad(f)(a), 2 * a)
    np.testing.assert_allclose(jax.jit(jax.grad(f))(a), 2 * a)


@pytest.mark.oracle
def test_against_pytorch():
    pt = pytest.importorskip("torch")
    from torch.utils.checkpoint import checkpoint as of_pytorch

    def program(lib, checkpoint, p):
        def gradient(u, x, h):
            return lib.func.grad(lambda u: (BODIES["last_state"]({**p, "U": u}, x, h) ** 2).sum())(u)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(_bodies, "torch", lib)
            end = checkpoint(BODIES["stacked_states"], p, p["x"], p["h"], use_reentrant=False)
            (end**2).sum().backward()
            each = lib.vmap(gradient, (None, 1, 0))(p["U"].detach(), p["x"].detach(), p["h"].detach())
        return [end, each, p["W"].grad, p["U"].grad, p["x"].grad, p["h"].grad]

    config.roll = "always"
    own = parameters()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = program(pt, of_pytorch, {k: pt.tensor(v.detach().numpy(), requires_grad=True) for k, v in own.items()})
    same(numbers(program(torch, _checkpoint, own)), [t.detach().numpy() for t in theirs])
