"""``vmap`` against PyTorch's: dims, structures, writes, randomness, errors, and gradients through it."""

from __future__ import annotations

import numpy as np
import pytest
from _compare import same

import tracegrad
from tracegrad.func import grad, vmap


def x_of(torch, *shape, wants=False):
    count = 1
    for size in shape:
        count *= size
    made = (torch.arange(count, dtype=torch.float64) * 0.37 - 0.8).sin().reshape(shape)
    return made.requires_grad_() if wants else made


def written(t):
    x, y = x_of(t, 3, 2), x_of(t, 3)
    z = t.vmap(lambda a, b: a.mul_(b), in_dims=(1, None))(x, y)
    return x, z


def view_written(t):
    x = x_of(t, 3, 2)
    z = t.vmap(lambda a: (a[0].mul_(2), a.clone())[1])(x)
    return x, z


def captured_written(t):
    count, x = t.zeros(()), x_of(t, 3)
    z = t.vmap(lambda a: count.add_(1) * a)(x)
    return count, z


def backward_through(t):
    x, w = x_of(t, 4, 3, wants=True), x_of(t, 3, wants=True)
    y = t.vmap(lambda a: ((a * w).tanh().sum(), a.detach() * 2))(x)
    y[0].sum().backward()
    return x.grad, w.grad, y


def twice_through(t):
    x, w = x_of(t, 4, 3, wants=True), x_of(t, 3, wants=True)
    y = t.vmap(lambda a: (a * w).sin().sum())(x)
    (g,) = t.autograd.grad(y.sum(), w, create_graph=True)
    return (g, *t.autograd.grad((g * g).sum(), (x, w)))


def no_grad_inside(t):
    x = x_of(t, 4, wants=True)

    def f(a):
        with t.no_grad():
            b = a * 3
        return a * b

    y = t.vmap(f)(x)
    y.sum().backward()
    return x.grad


CASES = {
    "last dim": lambda t: t.vmap(lambda a: a.sum(), in_dims=1)(x_of(t, 2, 3)),
    "negative dim": lambda t: t.vmap(lambda a: a.cumsum(0), in_dims=-1, out_dims=-1)(x_of(t, 2, 3)),
    "dims of two": lambda t: t.vmap(lambda a, b: a * b, in_dims=(0, 1), out_dims=1)(x_of(t, 2, 3), x_of(t, 3, 2)),
    "none": lambda t: t.vmap(lambda a, b: a @ b, in_dims=(0, None))(x_of(t, 4, 3), x_of(t, 3, 2)),
    "nested dims": lambda t: t.vmap(lambda d, u: d["a"] + u[0] + u[1], in_dims=({"a": 0}, (1, None)))(
        {"a": x_of(t, 2)}, (x_of(t, 3, 2), x_of(t, 3))),
    "prefix of dims": lambda t: t.vmap(lambda d: d["a"] + d["b"], in_dims=(0,))({"a": x_of(t, 2), "b": x_of(t, 2)}),
    "number passed on": lambda t: t.vmap(lambda a, n: a * n, in_dims=(0, None))(x_of(t, 2), 3),
    "keyword": lambda t: t.vmap(lambda a, n=1: a * n)(x_of(t, 2), n=4),
    "keyword tensor": lambda t: t.vmap(lambda a, n=1: a * n)(x_of(t, 2), n=x_of(t, 3)),
    "outputs": lambda t: t.vmap(lambda a: {"u": a, "v": [a.sum(), (a * 2,)]})(x_of(t, 2, 3)),
    "outputs' dims": lambda t: t.vmap(lambda a: (a, a * 2), out_dims=(1, 0))(x_of(t, 2, 3)),
    "output not mapped": lambda t: t.vmap(lambda a: t.ones(2))(x_of(t, 3)),
    "captured as output": lambda t: (lambda w: t.vmap(lambda a: w)(x_of(t, 3)))(x_of(t, 2)),
    "output of None": lambda t: t.vmap(lambda a: (a, t.ones(2)), out_dims=(0, None))(x_of(t, 3)),
    "number as output of None": lambda t: t.vmap(lambda a: (a, 3.0), out_dims=(0, None))(x_of(t, 3)),
    "nested": lambda t: t.vmap(t.vmap(lambda a, b: a * b, in_dims=(None, 0)), in_dims=(0, None))(
        x_of(t, 2), x_of(t, 3)),
    "nested, captured": lambda t: t.vmap(lambda a: t.vmap(lambda b: (a * b).sum())(a * 2))(x_of(t, 2, 3)),
    "chunks": lambda t: t.vmap(lambda a, b: (a * b, a), in_dims=(0, None), chunk_size=2)(x_of(t, 5, 2), x_of(t, 2)),
    "chunk dims": lambda t: t.vmap(lambda a: a * 2, in_dims=1, out_dims=1, chunk_size=2)(x_of(t, 2, 3)),
    "matmul": lambda t: t.vmap(t.matmul, in_dims=(0, None))(x_of(t, 2, 3, 4), x_of(t, 4, 2)),
    "linear": lambda t: t.vmap(t.nn.functional.linear, in_dims=(None, 0))(x_of(t, 2, 4), x_of(t, 3, 2, 4)),
    "indexing": lambda t: t.vmap(lambda a, i: a[i], in_dims=(0, None))(x_of(t, 3, 4), t.tensor([1, 0])),
    "mapped index": lambda t: t.vmap(lambda a, i: a.gather(0, i))(x_of(t, 3, 4), t.tensor([[1], [0], [3]])),
    "where": lambda t: t.vmap(lambda a: t.where(a > 0, a, -a))(x_of(t, 3, 2)),
    "in place on a copy": lambda t: t.vmap(lambda a: a.clone().add_(a).mul_(2))(x_of(t, 3)),
    "in place on the input": written,
    "in place on a view of the input": view_written,
    "in place on a captured": captured_written,
    "backward through": backward_through,
    "twice through": twice_through,
    "no_grad inside": no_grad_inside,
    "no_grad outside": lambda t: t.no_grad()(t.vmap(lambda a: a * 2))(x_of(t, 3, wants=True)),
    "detached": lambda t: t.vmap(lambda a: a.detach())(x_of(t, 3, wants=True)),
    "read of what is not mapped": lambda t: t.vmap(lambda a: a * t.ones(2).sum().item())(x_of(t, 3)),
    "branch on what is not mapped": lambda t: (lambda w: t.vmap(lambda a: a * 2 if w.sum() * 1 > 0 else a)(x_of(t, 3)))(
        t.ones(2)),
    "size 1": lambda t: t.vmap(lambda a: a * 2)(x_of(t, 1, 2)),
    # errors
    "item": lambda t: t.vmap(lambda a: a.item())(x_of(t, 3)),
    "float": lambda t: t.vmap(lambda a: float(a))(x_of(t, 3)),
    "bool": lambda t: t.vmap(lambda a: a if a > 0 else -a)(x_of(t, 3)),
    "write into a captured": lambda t: (lambda y: t.vmap(lambda a: y.copy_(a))(x_of(t, 3)))(x_of(t)),
    "no inputs": lambda t: t.vmap(lambda: t.ones(2))(),
    "in_dims a list": lambda t: t.vmap(lambda a: a, in_dims=[0])(x_of(t, 3)),
    "in_dim no int": lambda t: t.vmap(lambda a: a, in_dims=(0.5,))(x_of(t, 3)),
    "dim out of range": lambda t: t.vmap(t.sin, in_dims=1)(x_of(t, 3)),
    "dim of a scalar": lambda t: t.vmap(t.sin)(x_of(t)),
    "number mapped": lambda t: t.vmap(t.sin)(3.0),
    "nothing mapped": lambda t: t.vmap(t.sin, in_dims=None)(x_of(t, 3)),
    "nothing mapped, tuple": lambda t: t.vmap(lambda a: a, in_dims=(None,))(x_of(t, 3)),
    "sizes differ": lambda t: t.vmap(t.add)(x_of(t, 3), x_of(t, 2)),
    "output a number": lambda t: t.vmap(lambda a: 3.0)(x_of(t, 3)),
    "output None": lambda t: t.vmap(lambda a: None)(x_of(t, 3)),
    "mapped output of None": lambda t: t.vmap(lambda a: a, out_dims=None)(x_of(t, 3)),
    "out_dim out of range": lambda t: t.vmap(lambda a: a, out_dims=2)(x_of(t, 3)),
    "out_dims no int": lambda t: t.vmap(lambda a: a, out_dims="0")(x_of(t, 3)),
    "wrong randomness": lambda t: t.vmap(lambda a: a, randomness="any")(x_of(t, 3)),
    "wrong chunk size": lambda t: t.vmap(lambda a: a, chunk_size=0)(x_of(t, 3)),
    "random": lambda t: t.vmap(lambda a: a + t.rand(()))(x_of(t, 3)),
    "dropout": lambda t: t.vmap(lambda a: t.nn.functional.dropout(a))(x_of(t, 3)),
    "error inside": lambda t: t.vmap(lambda a: a @ t.ones(3, 2))(x_of(t, 3, 2)),
}  # fmt: skip
LOOSE = {"error inside"}  # the text tells of the shapes that PyTorch's batching rule makes


@pytest.mark.oracle
@pytest.mark.parametrize("name", CASES)
def test_as_pytorch(name):
    same(CASES[name], text=name not in LOOSE)


@pytest.mark.oracle
def test_structures_that_do_not_fit():
    same(lambda t: t.vmap(lambda a: a, in_dims=((0, 0),))(x_of(t, 3)), text=False)
    same(lambda t: t.vmap(lambda a: (a, a), out_dims=(0, 0, 0))(x_of(t, 3)), text=False)


def test_an_error_inside_leaves_everything_usable():
    x = tracegrad.ones(3)
    y = x * 2
    with pytest.raises(ValueError, match="mine"):
        vmap(lambda a: next(iter([]), None) or (_ for _ in ()).throw(ValueError("mine")))(x)
    assert (y + 1).tolist() == [3, 3, 3]


def test_what_escapes_says_so():
    kept = []
    vmap(lambda a: (kept.append(a * 2), a)[1])(tracegrad.ones(3))
    for use in (lambda a: a + 1, lambda a: a.tolist(), lambda a: a.sum().backward()):
        with pytest.raises(RuntimeError, match="vmap: a tensor made while the function ran was used after its end"):
            use(kept[0])


def test_same_and_different():
    x = tracegrad.zeros(4, 3)
    same_draws = vmap(lambda a: a + tracegrad.rand(3), randomness="same")(x).numpy()
    assert (same_draws == same_draws[0]).all()
    draws = vmap(lambda a: a + tracegrad.rand(3), randomness="different")(x).numpy()
    assert len(np.unique(draws)) == 12
    nested = vmap(vmap(lambda a: a + tracegrad.rand(()), randomness="different"), randomness="different")(x).numpy()
    assert len(np.unique(nested)) == 12
    outer = vmap(vmap(lambda a: a + tracegrad.rand(()), randomness="same"), randomness="different")(x).numpy()
    assert len(np.unique(outer)) == 4 and (outer == outer[:, :1]).all()


def test_different_draws_are_fresh_and_reproducible():
    def draw():
        return vmap(lambda a: tracegrad.nn.functional.dropout(a, 0.5), randomness="different")(tracegrad.ones(6, 20))

    tracegrad.manual_seed(3)
    first, second = draw().numpy(), draw().numpy()
    tracegrad.manual_seed(3)
    with tracegrad.eager():
        again = draw().numpy()
    assert (first == again).all() and (first != second).any()
    assert len({row.tobytes() for row in first}) == 6


def test_chunks_draw_as_told():
    x = tracegrad.zeros(6)
    same_draws = vmap(lambda a: a + tracegrad.rand(()), randomness="same", chunk_size=4)(x).numpy()
    assert len(np.unique(same_draws)) == 1
    draws = vmap(lambda a: a + tracegrad.rand(()), randomness="different", chunk_size=4)(x).numpy()
    assert len(np.unique(draws)) == 6


def test_steady_state_compiles_nothing(compiled):
    w = tracegrad.ones(3, requires_grad=True)

    def step():
        x = tracegrad.ones(4, 3)
        losses, gradients = vmap(lambda a: (((a * w) ** 2).sum(), grad(lambda v: (v * w).sum())(a)))(x)
        (losses.sum() + gradients.sum()).backward()
        return w.grad.tolist()

    for _ in range(3):
        step()
    compiled()
    step()
    assert compiled() == 0


def test_captured_pending_values_are_not_flushed(compiled):
    def run():
        w = tracegrad.ones(3) * 2
        return vmap(lambda a: a * w)(tracegrad.ones(2, 3)).tolist()

    tracegrad.clear_caches()
    compiled()
    run()
    assert compiled() == 1
