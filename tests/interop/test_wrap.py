"""`wrap`: any function of JAX as an op of the tape."""

from __future__ import annotations

import functools
import traceback

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.experimental import pallas as pl

import tracegrad as tg


def both(fn, *args, wrt=(0,), **kwargs):
    """Compare value and gradients of the wrapped ``fn`` with JAX's, lazily, cold and warm, with reads, and eagerly."""
    arrays = [jnp.asarray(a) if isinstance(a, np.ndarray) else a for a in args]

    def total(*xs):
        full = list(arrays)
        for i, x in zip(wrt, xs):
            full[i] = x
        return sum(jnp.sum(leaf) for leaf in jax.tree.leaves(fn(*full, **kwargs)))

    want = jax.tree.leaves(fn(*arrays, **kwargs))
    gradients = jax.grad(total, tuple(range(len(wrt))))(*[arrays[i] for i in wrt])
    wrapped = tg.wrap(fn)

    def run(read):
        ts = [tg.tensor(a).requires_grad_(i in wrt) if isinstance(a, np.ndarray) else a for i, a in enumerate(args)]
        outs = jax.tree.leaves(wrapped(*ts, **kwargs), is_leaf=lambda x: isinstance(x, tg.Tensor))
        if read:
            [o.tolist() for o in outs]
        sum(o.sum() for o in outs).backward()
        for o, w in zip(outs, want, strict=True):
            assert o.dtype.np == w.dtype
            np.testing.assert_allclose(o.tolist(), w, rtol=2e-5, atol=1e-6)
        for i, g in zip(wrt, gradients, strict=True):
            assert ts[i].grad.dtype is ts[i].dtype
            np.testing.assert_allclose(ts[i].grad.tolist(), g, rtol=2e-5, atol=1e-6)

    for read in (False, True, False):
        run(read)
    with tg.eager():
        run(False)


X = np.array([0.5, 1.5, 2.5], np.float32)
M = np.arange(6, dtype=np.float32).reshape(2, 3) / 3


@jax.custom_vjp
def clipped(x):
    return x * 2


clipped.defvjp(lambda x: (x * 2, x), lambda x, g: (jnp.clip(g, -0.5, 0.5) + jnp.zeros(3),))


@jax.custom_jvp
def odd(x):
    return jnp.sin(x)


odd.defjvp(lambda x, t: (jnp.sin(x[0]), 7.0 * t[0]))


def rnn(w, xs):
    def cell(h, x):
        return jnp.tanh(h @ w + x), h

    return lax.scan(cell, jnp.zeros(3), xs)[0]


def newton(x):
    return lax.fori_loop(0, 10, lambda i, y: 0.5 * (y + x / y), jnp.ones(3))


def solver(x):
    return lax.custom_root(lambda y: y * y - x, jnp.ones(3), lambda f, y: newton(x),
                           lambda g, y: y / g(jnp.ones(3)))  # fmt: skip


def kernel(x_ref, y_ref, o_ref):
    o_ref[...] = x_ref[...] * y_ref[...]


@jax.custom_vjp
def pallas(x, y):
    return pl.pallas_call(kernel, out_shape=jax.ShapeDtypeStruct(x.shape, x.dtype), interpret=True)(x, y)


pallas.defvjp(lambda x, y: (pallas(x, y), (x, y)), lambda s, g: (pallas(g, s[1]), pallas(g, s[0])))


def test_functions_of_jax():
    both(jnp.sin, X)
    both(lambda x, y: (x @ y, jnp.sum(x) * y), M, X, wrt=(0, 1))
    both(jax.jit(lambda x: jnp.where(x > 1, x, 0.0) + jnp.zeros(3)), X)
    both(jax.nn.softmax, M * M, axis=0)
    both(functools.partial(jnp.power, 2.0), X)


def test_rules_of_their_own():
    both(clipped, X)
    both(odd, X)


def test_loops_and_solvers():
    both(rnn, np.eye(3, dtype=np.float32) / 2, np.stack([X, X * 2]), wrt=(0, 1))
    both(solver, X)


def test_pallas():
    both(pallas, X, X + 1, wrt=(0, 1))


def test_containers():
    def fn(params, pair, *, scale):
        return {"out": params["w"] * pair[0] * scale["s"], "more": [pair[1], None, (params["w"].sum(),)]}

    f = tg.wrap(fn)
    w = tg.tensor(X, requires_grad=True)
    out = f({"w": w}, (tg.ones(3), jnp.arange(3)), scale={"s": np.float32(2)})
    assert set(out) == {"out", "more"} and out["more"][1] is None and type(out["more"][2]) is tuple
    assert out["out"].tolist() == (X * 2).tolist() and out["more"][0].tolist() == [0, 1, 2]
    (out["out"].sum() + out["more"][2][0]).backward()
    assert w.grad.tolist() == [3.0, 3.0, 3.0]
    assert tg.wrap(lambda x: None)(w) is None


def test_higher_orders():
    f = tg.wrap(lambda x: jnp.sin(x) * x)
    x = tg.tensor(0.7, dtype=tg.float64, requires_grad=True)
    y = f(x)
    want = lambda x: jnp.sin(x) * x  # noqa: E731
    with jax.enable_x64(True):
        for _ in range(4):
            np.testing.assert_allclose(y.item(), want(0.7), rtol=1e-10)
            (y,) = tg.autograd.grad(y, x, create_graph=True)
            want = jax.grad(want)
    h = tg.func.hessian(tg.wrap(lambda x: jnp.sum(x**3)))(tg.tensor(X))
    np.testing.assert_allclose(h.tolist(), np.diag(6 * X), rtol=1e-6)


def test_inside_transforms():
    f = tg.wrap(lambda x, y: jnp.sin(x) @ y)
    x, y = tg.tensor(M), tg.tensor(X)
    np.testing.assert_allclose(tg.vmap(f, (0, None))(x, y).tolist(), np.sin(M) @ X, rtol=1e-6)

    def loss(a):
        return f(tg.from_jax(a), y).sum().jax()

    want = jax.grad(lambda a: (jnp.sin(a) @ X).sum())(M)
    np.testing.assert_allclose(jax.jit(jax.grad(loss))(jnp.asarray(M)), want, rtol=1e-6)
    jac = tg.func.jacrev(lambda x: f(x, y))(x)
    assert jac.shape == (2, 2, 3)


def test_dtypes():
    zeros = tg.wrap(lambda x: x + jnp.zeros(3))
    assert zeros(tg.ones(3)).dtype is tg.float32
    assert zeros(tg.ones(3, dtype=tg.float64)).dtype is tg.float64
    assert zeros(tg.ones(3, dtype=tg.bfloat16)).dtype is tg.float32
    scaled = tg.wrap(lambda x, s: x * s)
    assert scaled(tg.ones(2, dtype=tg.bfloat16), 2.0).dtype is tg.bfloat16  # a Python float is weak
    assert scaled(tg.ones(2, dtype=tg.float64), 0.1).tolist() == [0.1, 0.1]
    assert tg.wrap(jnp.argmax)(tg.tensor(X)).dtype is tg.int32
    assert tg.wrap(lambda i: i + 1)(tg.arange(3)).dtype is tg.int32
    with jax.enable_x64(True):
        assert zeros(tg.ones(3)).dtype is tg.float64
        assert tg.wrap(jnp.argmax)(tg.tensor(X)).dtype is tg.int64
    assert zeros(tg.ones(3)).dtype is tg.float32
    assert not jax.config.jax_enable_x64


def test_integers_among_the_operands():
    take = tg.wrap(lambda table, rows: (table[rows], rows * 2))
    table = tg.tensor(M, requires_grad=True)
    out, rows = take(table, tg.tensor([1, 1, 0]))
    assert rows.tolist() == [2, 2, 0] and not rows.requires_grad
    out.sum().backward()
    assert table.grad.tolist() == [[1.0] * 3, [2.0] * 3]


def test_complex_gradients_are_pytorchs():
    z = tg.tensor([1 + 2j, 3 - 1j], requires_grad=True)
    w = tg.tensor([1 + 2j, 3 - 1j], requires_grad=True)
    tg.wrap(lambda z: z * z)(z).backward(tg.ones(2, dtype=tg.complex64))
    (w * w).backward(tg.ones(2, dtype=tg.complex64))
    assert z.grad.tolist() == w.grad.tolist()


def test_static_arguments():
    calls = []

    def fn(x, n, mode, alpha=1.0):
        calls.append((n, mode, alpha))
        return x**n if mode == "pow" and alpha > 0 else x * n

    f = tg.wrap(fn, static_argnames="alpha")
    x = tg.tensor([2.0, 3.0])
    assert f(x, 3, "pow").tolist() == [8.0, 27.0] and f(x, 3, mode="mul").tolist() == [6.0, 9.0]
    assert f(x, 3, "pow", alpha=-1.0).tolist() == [6.0, 9.0]
    f(x, 3, "pow")
    assert len(calls) == 3
    g = tg.wrap(lambda s, x: x * s[0] if s[0] > 1 else x, static_argnums=0)
    assert g((2.0,), x).tolist() == [4.0, 6.0] and g((1.0,), x).tolist() == [2.0, 3.0]
    h = tg.wrap(lambda x, one: x * one)
    assert h(tg.tensor([2]), 1).dtype is tg.int32 and h(tg.tensor([2]), 1.0).dtype is tg.float32
    assert h(tg.tensor([2]), True).tolist() == [2]


def test_no_gradient():
    a, b = tg.tensor(X, requires_grad=True), tg.tensor(X, requires_grad=True)
    for nondiff in (1, "b", (-1,)):
        a.grad = b.grad = None
        f = tg.wrap(lambda a, b: a * b, nondiff=nondiff)
        y = f(a, b=b) if nondiff == "b" else f(a, b)
        y.sum().backward()
        assert a.grad.tolist() == X.tolist() and b.grad is None
    assert not tg.wrap(lambda a: a * 2, nondiff=0)(a).requires_grad
    with tg.no_grad():
        assert not tg.wrap(lambda a: a * 2)(a).requires_grad


def test_compiles_once(compiled):
    f = tg.wrap(lambda x, t: jnp.tanh(x) * t)
    w = tg.ones(3, requires_grad=True)

    def step(t):
        w.grad = None
        f(w, t).sum().backward()
        return w.grad.tolist()

    step(1.0)
    first = compiled()
    results = [step(t) for t in (1.0, 2.0, 3.0, 4.0)]
    assert first and compiled() == 0
    np.testing.assert_allclose(np.array(results)[:, 0], (1 - np.tanh(1) ** 2) * np.arange(1, 5), rtol=1e-6)
    for i in range(6):
        tg.wrap(jnp.sin)(tg.ones(2) * i).tolist()  # wrapped anew, but the same function
    assert compiled() <= 3  # the number static, then an input; cyclic garbage may hold a value once


def test_one_program_with_the_code_around_it(compiled):
    f = tg.wrap(jnp.sin)
    w = tg.tensor([1.0] * 5, requires_grad=True)
    for _ in range(2):
        w.grad = None
        (f(w * 2) * 3).sum().backward()
        w.grad.tolist()
    assert compiled() == 1


def failing(x, y):
    return x @ y


def test_errors():
    x = tg.ones(3, requires_grad=True)
    with pytest.raises(TypeError, match="dot_general|contracting|incompatible") as caught:
        tg.wrap(failing)(x, tg.ones(4))
    notes = " ".join(caught.value.__notes__)
    assert "In failing, wrapped by tracegrad.wrap and called with operands (float32[3], float32[4])" in notes
    lines = [frame.line for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert "tg.wrap(failing)(x, tg.ones(4))" in lines
    with pytest.raises(jax.errors.ConcretizationTypeError):
        tg.wrap(lambda x: x if x.sum() > 0 else -x)(x)
    with pytest.raises(TypeError, match="returned str, which no tensor can hold"):
        tg.wrap(lambda x: "no")(x)
    with pytest.raises(TypeError, match="returned an array of key.*, which no tensor can hold"):
        tg.wrap(lambda x: jax.random.key(0))(x)
    with pytest.raises(TypeError, match="neither a tensor nor hashable"):
        tg.wrap(lambda x, s: x, static_argnums=1)(x, [1])
    with pytest.raises(TypeError, match="expected a function, got int"):
        tg.wrap(5)
    assert (x * 2).tolist() == [2.0, 2.0, 2.0]  # nothing is broken by it


def test_freed_graphs():
    x = tg.tensor(X, requires_grad=True)
    y = tg.wrap(jnp.exp)(x)
    y.sum().backward()
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        y.sum().backward()


def test_functions_that_use_tensors():
    layer = tg.nn.Linear(3, 2)
    fn, params = layer.to_jax()
    f = tg.wrap(fn)
    leaves = {k: tg.from_jax(v).requires_grad_() for k, v in params.items()}
    pending = tg.ones(3) * 2
    out = f(leaves, pending)
    out.sum().backward()
    layer(tg.ones(3) * 2).sum().backward()
    assert tg.equal(leaves["weight"].grad, layer.weight.grad)


def test_names():
    f = tg.wrap(jnp.sin)
    assert f.__name__ == "sin" and type(f(tg.ones(1, requires_grad=True)).grad_fn).__name__ == "sinBackward"
    decorated = tg.wrap(failing)
    assert decorated.__wrapped__ is failing
