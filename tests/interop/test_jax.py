"""Tensors in JAX's world: transformations over them, trees of them, modules as pure functions."""

from __future__ import annotations

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import tracegrad as tg

X = np.array([1.0, 2.0, 3.0], np.float32)


def leaves(tree):
    return [np.asarray(x).tolist() for x in jax.tree.leaves(tree)]


# -- in and out --------------------------------------------------------------------------------------------------------


def test_arrays_in_and_out():
    a = jnp.asarray(X)
    t = tg.from_jax(a)
    assert t.jax() is a and t.dtype is tg.float32
    t.add_(1)
    assert a.tolist() == X.tolist() and t.tolist() == (X + 1).tolist()
    pending = tg.ones(3) * 2
    handed = pending.jax()
    pending.mul_(5)
    assert handed.tolist() == [2.0] * 3 and pending.tolist() == [10.0] * 3
    assert jnp.sin(tg.tensor(X)).tolist() == jnp.sin(X).tolist()
    assert (jnp.asarray(tg.tensor(X)) == X).all()
    assert tg.from_jax(jnp.asarray(2.0)).jax().weak_type is False


def test_64_bit_arrays():
    for dtype in (tg.int64, tg.float64, tg.complex128):
        t = tg.ones(2, dtype=dtype)
        assert t.jax().dtype == dtype.np and tg.from_jax(t.jax()).dtype is dtype
    assert not jax.config.jax_enable_x64


def test_errors_of_from_jax():
    with pytest.raises(TypeError, match="expected a jax.Array, got ndarray"):
        tg.from_jax(X)
    with pytest.raises(TypeError, match="jax.random.key_data"):
        tg.from_jax(jax.random.key(0))


# -- trees -------------------------------------------------------------------------------------------------------------


def test_tree_map():
    tree = {"a": tg.tensor(X), "b": [tg.arange(2), (tg.nn.Parameter(tg.ones(1)),)]}
    doubled = jax.tree.map(lambda a: a + a, tree)
    assert leaves(doubled) == [(2 * X).tolist(), [0, 2], [2.0]]
    assert doubled["b"][0].dtype is tg.int64 and doubled["b"][0].jax().dtype == np.int64
    parameter = doubled["b"][1][0]
    assert type(parameter) is tg.nn.Parameter and parameter.requires_grad and parameter.is_leaf
    assert jax.tree.structure(doubled) == jax.tree.structure(tree)
    half = jax.tree.map(lambda a: a.astype(jnp.bfloat16), tree["a"])
    assert half.dtype is tg.bfloat16 and (half * 2).tolist() == [2.0, 4.0, 6.0]
    assert jax.tree.map(jnp.sum, tree["a"]).shape == ()
    assert jax.tree.map(np.asarray, tree["a"]).tolist() == X.tolist()


def test_trees_without_arrays():
    w = tg.nn.Parameter(tg.ones(2, 3))
    shapes = jax.tree.map(lambda a: a.shape, {"w": w}, is_leaf=None)
    assert jax.tree.leaves(shapes, is_leaf=lambda x: type(x) is tuple) == [(2, 3)]
    assert repr(shapes["w"]).startswith("Parameter containing:\ntensor(<(2, 3)>")
    with pytest.raises(TypeError, match="has no elements"):
        shapes["w"].tolist()
    assert jax.tree.leaves(jax.tree.map(lambda a: None, w)) == []
    struct = jax.eval_shape(lambda t: t @ t.T, w)
    assert struct.shape == (2, 2) and struct.dtype is tg.float32
    assert jax.tree.leaves(jax.tree.map(lambda a: 0, w)) == [0]


def test_gradients_of_trees():
    params = {"w": tg.nn.Parameter(tg.tensor(X)), "n": [tg.tensor([2.0])]}

    def loss(p):
        return ((p["w"] ** 2).sum() * p["n"][0]).sum().jax()

    value, found = jax.value_and_grad(loss)(params)
    assert value == 28.0 and found["w"].tolist() == (4 * X).tolist() and found["n"][0].tolist() == [14.0]
    assert type(found["w"]) is tg.nn.Parameter
    found = jax.jit(jax.grad(loss))(params)
    assert found["w"].tolist() == (4 * X).tolist()


class Marked(tg.Tensor):
    pass


def test_subclasses():
    made = jax.tree.map(lambda a: a, Marked([1, 1]))
    assert type(made) is Marked and made.tolist() == [1.0, 1.0]


# -- transformations ---------------------------------------------------------------------------------------------------


def test_jit():
    traced = []

    @jax.jit
    def f(t, i, tree):
        traced.append(t)
        return {"sum": t + tree["x"], "index": t[i], "long": i + 1, "none": None}

    for _ in range(3):
        out = f(tg.tensor(X), tg.tensor(1), {"x": tg.ones(3)})
    assert len(traced) == 1 and out["none"] is None
    assert out["sum"].tolist() == (X + 1).tolist() and out["index"].item() == 2.0
    assert out["long"].dtype is tg.int64 and out["long"].jax().dtype == np.int64
    assert (out["long"] + 2**40).item() == 2**40 + 2
    wide = jax.jit(lambda t: t * 2)(tg.tensor(X, dtype=tg.float64))
    assert wide.dtype is tg.float64 and wide.jax().dtype == np.float64
    assert jax.jit(lambda t: t)(tg.tensor(X) * 2).tolist() == (2 * X).tolist()


def test_jit_with_backward_inside():
    w = tg.tensor(X, requires_grad=True)

    @jax.jit
    def f(w):
        (w**3).sum().backward()
        return w.grad

    assert f(w).tolist() == (3 * X**2).tolist()
    assert w.grad is None


def test_vmap():
    batch = tg.tensor(np.stack([X, 2 * X]))
    assert jax.vmap(lambda t: (t * t).sum())(batch).tolist() == [14.0, 56.0]
    found = jax.vmap(lambda a, t: a @ t["x"], in_axes=(1, None))(tg.ones(3, 4), {"x": tg.tensor(X)})
    assert found.tolist() == [6.0] * 4
    grads = jax.vmap(jax.grad(lambda t: (t**2).sum().jax()))(batch)
    assert grads.tolist() == (2 * np.stack([X, 2 * X])).tolist()


def test_loops():
    total, steps = lax.scan(lambda c, t: (c + t, c * t), tg.tensor(0.0), tg.tensor(X))
    assert total.item() == 6.0 and steps.tolist() == [0.0, 2.0, 9.0]
    assert lax.cond(True, lambda t: t * 2, lambda t: t, tg.tensor(X)).tolist() == (2 * X).tolist()
    assert lax.fori_loop(0, 3, lambda i, t: t * 2, tg.tensor(X)).tolist() == (8 * X).tolist()


def test_gradients_both_ways():
    w = tg.tensor(X, requires_grad=True)
    scale = jnp.asarray(3.0)

    def f(array):
        return ((tg.from_jax(array) * w) ** 2).sum().jax()  # w is a constant of JAX's

    np.testing.assert_allclose(jax.grad(f)(jnp.ones(3)), 2 * X**2)
    (w * tg.from_jax(scale)).sum().backward()  # scale is a constant of ours
    assert w.grad.tolist() == [3.0] * 3
    w.grad = None
    tg.wrap(lambda a: f(a * 1.0))(w).backward()
    assert w.grad.tolist() == (2 * X**3).tolist()


SHARDED = """
import jax, numpy as np, tracegrad as tg
from jax.sharding import NamedSharding, PartitionSpec as P
mesh = jax.make_mesh((4,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
t = tg.arange(8.0).view(8, 1)
w = {"w": tg.nn.Parameter(tg.tensor([[2.0, 3.0]]))}
place = NamedSharding(mesh, P("x"))
t, w = jax.device_put(t, place), jax.device_put(w, NamedSharding(mesh, P()))
seen = []

def f(t, w):
    seen.append(tuple(t.shape))
    local = (t @ w["w"]).sum(0)
    return t @ w["w"], tg.from_jax(jax.lax.psum(local.jax(), "x"))

run = jax.jit(jax.shard_map(f, mesh=mesh, in_specs=(P("x"), P()), out_specs=(P("x"), P())))
for _ in range(2):
    out, total = run(t, w)
assert seen[0] == (2, 1), seen
assert out.tolist() == (np.arange(8.0)[:, None] @ [[2.0, 3.0]]).tolist() and total.tolist() == [56.0, 84.0]
assert len(out.jax().sharding.device_set) == 4
assert (out * 2).sum().item() == 280.0

def loss(w):
    return run(t, w)[0].sum().jax()

assert jax.grad(loss)(w)["w"].tolist() == [[28.0, 28.0]]
print("good")
"""


def test_shard_map():
    flags = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-W", "error", "-c", SHARDED], capture_output=True, text=True, env=flags)
    assert done.stdout.strip() == "good", done.stderr[-3000:]


# -- modules -----------------------------------------------------------------------------------------------------------


def model():
    tg.manual_seed(0)
    return tg.nn.Sequential(tg.nn.Linear(3, 4), tg.nn.Tanh(), tg.nn.Linear(4, 1))


DATA = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)


def test_modules_as_functions():
    net = model()
    fn, params = net.to_jax()
    assert list(params) == [name for name, _ in net.named_parameters()]
    want = net(tg.tensor(DATA))
    for run in (fn, jax.jit(fn)):
        out = run(params, DATA)
        assert isinstance(out, jax.Array)
        np.testing.assert_allclose(out, want.tolist(), rtol=1e-6)
    assert fn.__name__ == "Sequential"
    want.sum().backward()
    gradient = jax.grad(lambda p: fn(p, DATA).sum())
    for grads in (gradient(params), jax.jit(gradient)(params)):
        for name, p in net.named_parameters():
            np.testing.assert_allclose(grads[name], p.grad.tolist(), rtol=1e-5, atol=1e-6)
    assert all(type(p) is tg.nn.Parameter for p in net.parameters())
    per_sample = jax.vmap(jax.grad(lambda p, x: fn(p, x).sum()), (None, 0))(params, jnp.asarray(DATA))
    np.testing.assert_allclose(per_sample["0.bias"].sum(0), net[0].bias.grad.tolist(), rtol=1e-4, atol=1e-6)
    missing = {k: v for k, v in params.items() if k != "0.bias"}
    with pytest.raises(KeyError, match=r"missing names \['0.bias'\]"):
        fn(missing, DATA)


def test_training_with_optax():
    optax = pytest.importorskip("optax")
    net = model()
    fn, params = net.to_jax()
    theirs, ours = optax.adam(0.05), tg.optim.Adam(net.parameters(), lr=0.05)
    state = theirs.init(params)

    @jax.jit
    def step(params, state, x):
        value, grads = jax.value_and_grad(lambda p: (fn(p, x) ** 2).mean())(params)
        updates, state = theirs.update(grads, state)
        return optax.apply_updates(params, updates), state, value

    for _ in range(5):
        params, state, value = step(params, state, jnp.asarray(DATA))
        ours.zero_grad()
        loss = (net(tg.tensor(DATA)) ** 2).mean()
        loss.backward()
        ours.step()
        np.testing.assert_allclose(value, loss.item(), rtol=1e-4)
    for name, p in net.named_parameters():
        np.testing.assert_allclose(params[name], p.tolist(), rtol=1e-3, atol=1e-5)


def test_optax_on_tensors():
    optax = pytest.importorskip("optax")
    params = {"w": tg.nn.Parameter(tg.tensor(X))}
    optimizer = optax.sgd(0.5)
    grads = jax.grad(lambda p: (p["w"] ** 2).sum().jax())(params)
    updates, _ = optimizer.update(grads, optimizer.init(params))
    new = optax.apply_updates(params, updates)
    assert new["w"].tolist() == [0.0, 0.0, 0.0] and type(new["w"]) is tg.nn.Parameter


def test_buffers():
    net = tg.nn.Sequential(tg.nn.Linear(3, 2), tg.nn.BatchNorm1d(2))
    fn, params, buffers = net.to_jax(buffers=True)
    before = {k: v.tolist() for k, v in net.state_dict().items()}
    out, new = jax.jit(fn)(params, buffers, DATA)
    assert {k: v.tolist() for k, v in net.state_dict().items()} == before  # nothing is left behind
    want = net(tg.tensor(DATA))
    np.testing.assert_allclose(out, want.tolist(), rtol=1e-5)
    for name, b in net.named_buffers():
        np.testing.assert_allclose(new[name], b.tolist(), rtol=1e-5)
    plain, params = net.to_jax()
    with pytest.raises(RuntimeError, match="writes to the buffers 1.running_mean"):
        plain(params, DATA)
    net.eval()
    np.testing.assert_allclose(plain(params, DATA), net(tg.tensor(DATA)).tolist(), rtol=1e-5)


def test_dropout():
    net = tg.nn.Dropout(0.5)
    fn, params = net.to_jax()
    with pytest.raises(tg.UnsupportedError, match="draws random numbers.*eval"):
        jax.jit(fn)(params, DATA)
    assert fn(params, DATA).shape == DATA.shape
    net.eval()
    assert jax.jit(fn)(params, DATA).tolist() == DATA.tolist()


class Tied(tg.nn.Module):
    def __init__(self):
        super().__init__()
        self.a = tg.nn.Linear(2, 2, bias=False)
        self.b = tg.nn.Linear(2, 2, bias=False)
        self.b.weight = self.a.weight

    def forward(self, x, *, twice=False):
        y = self.b(self.a(x["x"]))
        return {"y": y * 2 if twice else y, "n": 3}


def test_tied_parameters_and_containers():
    net = Tied()
    fn, params = net.to_jax()
    assert list(params) == ["a.weight"]
    x = {"x": jnp.ones((1, 2))}
    out = fn(params, x, twice=True)
    assert out["n"] == 3 and out["y"].tolist() == (net({"x": tg.ones(1, 2)})["y"] * 2).tolist()
    grads = jax.grad(lambda p: fn(p, x)["y"].sum())(params)
    net({"x": tg.ones(1, 2)})["y"].sum().backward()
    np.testing.assert_allclose(grads["a.weight"], net.a.weight.grad.tolist(), rtol=1e-6)
