"""Random compositions of transforms over random functions, against ``torch.func`` in float64; hooks and Functions."""

from __future__ import annotations

import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _compare import same
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

import tracegrad
from tracegrad.func import grad, hessian, jacrev, vjp, vmap

STEPS = ["x.sin()", "x * x.sum()", "x.exp() * 0.3", "x + w", "x * w", "x.cumsum(0)", "x.abs()", "x.flip(0)", "x.tanh()",
         "x.softmax(0)", "x - x.detach() * 0.5", "x[:1] * x", "T.where(x > 0, x, w * x)", "x.clone().mul_(w)",
         "T.stack([x, w]).prod(0)", "x.clamp(-0.5, 0.4)", "m @ x", "quiet(T, x) * x"]  # fmt: skip
#: Each makes a function of a vector to a vector of such a function.
TRANSFORMS = {
    "grad": lambda T, f, v: lambda x: T.func.grad(lambda y: (f(y) * v).sum())(x),
    "value": lambda T, f, v: lambda x: T.func.grad_and_value(lambda y: f(y).sum())(x)[1] * x,
    "jvp": lambda T, f, v: lambda x: T.func.jvp(f, (x,), (v,))[1],
    "jvp of x": lambda T, f, v: lambda x: T.func.jvp(f, (x,), (x,))[1] + x,
    "vjp": lambda T, f, v: lambda x: T.func.vjp(f, x)[1](v * x)[0],
    "vjps": lambda T, f, v: lambda x: T.vmap(T.func.vjp(f, x)[1])(x[:, None] * v)[0].mean(0),
    "lanes": lambda T, f, v: lambda x: T.vmap(lambda s: f(x * s).sum())(x),
    "rows": lambda T, f, v: lambda x: T.vmap(f, in_dims=1, out_dims=1)(x[:, None] * v).sum(1),
    "rows of two": lambda T, f, v: lambda x: T.vmap(lambda a, b: f(a) * b, in_dims=(0, None))(
        x[:, None] * v, v).mean(0),
    "jacrev": lambda T, f, v: lambda x: T.func.jacrev(f)(x) @ v,
    "jacfwd": lambda T, f, v: lambda x: v @ T.func.jacfwd(f)(x),
    "per example": lambda T, f, v: lambda x: T.vmap(T.func.grad(lambda y: (f(y) * v).sum()))(x[:, None] * v).sum(0),
    "batched": lambda T, f, v: lambda x: batched(T, f, x, v),
}  # fmt: skip


FORWARD = {"jvp", "jvp of x", "jacfwd"}


def quiet(T, x):
    with T.no_grad():
        return x * 2


def batched(T, f, x, v):
    _, pull = T.func.vjp(f, x)
    return T.vmap(pull, chunk_size=2)(v[:, None] * v)[0].sum(0)


def build(T, steps, names):
    w = T.tensor([0.7, -0.4, 0.2], dtype=T.float64)
    m = T.tensor([[0.1, 0.2, 0.3], [0.4, -0.2, 0.1], [0.5, 0.3, -0.7]], dtype=T.float64)
    v = T.tensor([0.3, -0.6, 0.9], dtype=T.float64)

    def f(x):
        for step in steps:
            x = eval(step, {"x": x, "w": w, "m": m, "T": T, "quiet": quiet})
        return x

    for name in names:
        f = TRANSFORMS[name](T, f, v)
    return f


def comparable(steps, names):
    """PyTorch's transforms, but the innermost, and its forward mode go through ``no_grad``."""
    return not (names and any("quiet" in step for step in steps))


def from_outside(T, steps, names):
    x = T.tensor([0.5, -0.8, 0.4], dtype=T.float64, requires_grad=True)
    y = build(T, steps, names)(x)
    if y.requires_grad:
        y.sum().backward()
    return y, (T.zeros(3, dtype=T.float64) if x.grad is None else x.grad)


@pytest.mark.oracle
@settings(max_examples=20, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck),
          phases=(Phase.explicit, Phase.generate, Phase.shrink))  # fmt: skip
@given(st.lists(st.sampled_from(STEPS), min_size=1, max_size=3),
       st.lists(st.sampled_from(list(TRANSFORMS)), max_size=2))  # fmt: skip
def test_random_compositions(steps, names):
    assume(comparable(steps, names))
    same(lambda T: from_outside(T, steps, names), rtol=1e-7, wants=False)


@pytest.mark.slow
@pytest.mark.oracle
@settings(max_examples=400, deadline=None, database=None, suppress_health_check=list(HealthCheck),
          phases=(Phase.explicit, Phase.generate))  # fmt: skip
@given(st.lists(st.sampled_from(STEPS), min_size=1, max_size=4),
       st.lists(st.sampled_from(list(TRANSFORMS)), max_size=3))  # fmt: skip
def test_more_random_compositions(steps, names):
    assume(comparable(steps, names))
    same(lambda T: from_outside(T, steps, names), rtol=1e-6, wants=False)


# -- with the rest of autograd ---------------------------------------------------------------------------------


class Tenfold(tracegrad.autograd.Function):
    """The square, with a gradient ten times as large, so that it shows whether this backward ran."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * 20 * x


def test_functions_inside_a_vmap():
    x = tracegrad.tensor([1.0, 2.0])
    np.testing.assert_allclose(vmap(Tenfold.apply)(x).numpy(), [1, 4])
    np.testing.assert_allclose(vmap(grad(Tenfold.apply))(x).numpy(), [20, 40])
    np.testing.assert_allclose(grad(lambda a: vmap(Tenfold.apply)(a).sum())(x).numpy(), [20, 40])
    w = tracegrad.tensor(3.0, requires_grad=True)
    leaf = tracegrad.tensor([1.0, 2.0], requires_grad=True)
    for _ in range(2):
        leaf.grad = w.grad = None
        vmap(lambda a: Tenfold.apply(a * w))(leaf).sum().backward()
        np.testing.assert_allclose(leaf.grad.numpy(), [180, 360])
        np.testing.assert_allclose(w.grad.numpy(), 20 * 3 * (1 + 4))
    np.testing.assert_allclose(hessian(lambda a: vmap(Tenfold.apply)(a).sum())(x).numpy(), [[20, 0], [0, 20]])


def test_hooks_inside_a_vmap():
    leaf = tracegrad.tensor([[1.0], [2.0], [3.0]], requires_grad=True)

    def f(a):
        b = a * 2
        b.register_hook(lambda g: g * 10)
        return (b * b).sum()

    for read in (False, True, False):
        leaf.grad = None
        y = vmap(f)(leaf).sum()
        if read:
            y.item()
        y.backward()
        np.testing.assert_allclose(leaf.grad.numpy(), [[80], [160], [240]])


def test_the_whole_is_one_program(compiled):
    w = tracegrad.ones(3, requires_grad=True)

    def step():
        x = tracegrad.ones(4, 3)
        per_example = vmap(grad(lambda p, a: ((p * a).sum() - 1) ** 2), in_dims=(None, 0))(w.detach(), x)
        loss = per_example.pow(2).sum() + (jacrev(lambda p: p * p)(w) ** 2).sum()
        loss.backward()
        with tracegrad.no_grad():
            w.sub_(w.grad, alpha=0.01)
        w.grad = None
        return w.tolist()

    for _ in range(2):
        step()
    before = tracegrad.cache_sizes()["runs"]
    compiled()
    step()
    assert compiled() == 0 and tracegrad.cache_sizes()["runs"] - before == 1


def test_inside_jax():
    w = jnp.asarray([1.0, 2.0])

    def f(array):
        x = tracegrad.from_jax(array)
        captured = tracegrad.from_jax(array * 2)
        return vmap(lambda a: grad(lambda b: (b * captured).sin().sum())(a))(x).jax()

    def g(array):
        return jax.vmap(lambda a: jax.grad(lambda b: jnp.sin(b * array * 2).sum())(a))(array)

    np.testing.assert_allclose(jax.jit(f)(w), g(w), rtol=1e-6)

    def pulled(array):
        _, pull = vjp(lambda a: a.sin() * a, tracegrad.from_jax(array))
        return vmap(pull)(tracegrad.eye(2))[0].jax()

    np.testing.assert_allclose(jax.jit(pulled)(w), jax.jacrev(lambda a: jnp.sin(a) * a)(w), rtol=1e-6)


def test_threads():
    results = {}

    def work(n):
        x = tracegrad.ones(3) * n
        results[n] = [vmap(grad(lambda a: a**3))(x).tolist() for _ in range(5)]

    threads = [threading.Thread(target=work, args=(n,)) for n in range(1, 5)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert results == {n: [[3.0 * n * n] * 3] * 5 for n in range(1, 5)}


def test_many_operations_inside_are_not_flushed():
    x = tracegrad.ones(2)

    def f(a):
        for _ in range(tracegrad._config.config.max_pending + 10):
            a = a + 1
        return a

    before = tracegrad._config.config.max_pending
    tracegrad._config.config.max_pending = 20
    try:
        assert vmap(f)(x).tolist() == [31.0, 31.0]
    finally:
        tracegrad._config.config.max_pending = before
