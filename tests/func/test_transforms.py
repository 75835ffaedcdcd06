"""``tracegrad.func`` against ``torch.func``: values, structures, `requires_grad`, errors; nested in every way."""

from __future__ import annotations

import pytest
from _compare import same

pytestmark = pytest.mark.oracle


def x_of(torch, *shape, wants=False):
    count = 1
    for size in shape:
        count *= size
    made = (torch.arange(count, dtype=torch.float64) * 0.37 - 0.8).sin().reshape(shape)
    return made.requires_grad_() if wants else made


def with_captured(torch, make):
    return make(x_of(torch, 3, wants=True))(x_of(torch, 3))


CASES = {
    "grad": lambda t: t.func.grad(lambda x: (x * x.sin()).sum())(x_of(t, 3)),
    "grad of grad": lambda t: t.func.grad(lambda y: t.func.grad(lambda x: x**3)(y))(x_of(t)),
    "perturbations": lambda t: t.func.grad(lambda x: x * t.func.grad(lambda y: x * y * y)(x * 1.0))(x_of(t)),
    "same argument inside": lambda t: t.func.grad(lambda x: x * t.func.grad(lambda y: x * y * y)(x))(x_of(t)),
    "argnums": lambda t: t.func.grad(lambda a, b: (a * b.exp()).sum(), argnums=(1, 0))(x_of(t, 2), x_of(t, 2) + 1),
    "negative argnum": lambda t: t.func.grad(lambda a, b: (a * b.exp()).sum(), argnums=-1)(x_of(t, 2), x_of(t, 2)),
    "pytree": lambda t: t.func.grad(lambda d: (d["a"] * d["b"][0]).sum())({"a": x_of(t, 2), "b": (x_of(t, 2) + 1,)}),
    "kwargs": lambda t: t.func.grad(lambda a, b=2: (a**b).sum())(x_of(t, 2), b=3),
    "aux": lambda t: t.func.grad(lambda a: ((a * a).sum(), {"out": a * 2}), has_aux=True)(x_of(t, 2)),
    "grad_and_value": lambda t: t.func.grad_and_value(lambda a: ((a * a).sum(), a + 1), has_aux=True)(x_of(t, 2)),
    "unused": lambda t: t.func.grad(lambda a, b: a.sum(), argnums=(0, 1))(x_of(t, 2), x_of(t, 2)),
    "constant": lambda t: t.func.grad(lambda a: t.ones((), dtype=t.float64))(x_of(t, 2)),
    "captured": lambda t: with_captured(t, lambda w: t.func.grad(lambda a: (a * w).sum())),
    "captured, not in the gradient": lambda t: with_captured(
        t, lambda w: t.func.grad(lambda a: (a * a + w).sum())),
    "wanting argument": lambda t: t.func.grad(lambda a: (a**3).sum())(x_of(t, 3, wants=True)),
    "no_grad outside": lambda t: t.no_grad()(t.func.grad(lambda a: (a**3).sum()))(x_of(t, 3, wants=True)),
    "no_grad inside": lambda t: t.func.grad(lambda a: (a * t.no_grad()(lambda b: b * 2)(a)).sum())(x_of(t, 3)),
    "detach inside": lambda t: t.func.grad(lambda a: (a * a.detach()).sum())(x_of(t, 3)),
    "complex": lambda t: t.func.grad(lambda a: (a * a.conj()).real.sum())(t.complex(x_of(t, 2), x_of(t, 2) + 1)),
    "vjp": lambda t: (lambda y, pull: (y, pull(x_of(t, 3))))(*t.func.vjp(lambda a: a.sin() * a, x_of(t, 3))),
    "vjp pytree": lambda t: t.func.vjp(lambda a, b: {"u": a * b, "v": (a.sum(),)}, x_of(t, 2), x_of(t, 2))[1](
        {"u": x_of(t, 2), "v": (x_of(t),)}),
    "vjp aux": lambda t: t.func.vjp(lambda a: (a * 2, a + 1), x_of(t, 2), has_aux=True)[2],
    "vjp captured": lambda t: with_captured(t, lambda w: lambda x: t.func.vjp(lambda a: a * w, x)[0]),
    "jvp": lambda t: t.func.jvp(lambda a, b: (a * b.sin(), b), (x_of(t, 3), x_of(t, 3) + 1), (x_of(t, 3), x_of(t, 3))),
    "jvp of constant": lambda t: t.func.jvp(lambda a: t.ones(2), (x_of(t, 2),), (x_of(t, 2),)),
    "jvp of jvp": lambda t: t.func.jvp(
        lambda b: t.func.jvp(lambda a: a**4, (b,), (t.ones_like(b),))[1], (x_of(t, 2),), (x_of(t, 2),)),
    "jvp of grad": lambda t: t.func.jvp(t.func.grad(lambda a: (a**4).sum()), (x_of(t, 2),), (x_of(t, 2),)),
    "grad of jvp": lambda t: t.func.grad(
        lambda b: t.func.jvp(lambda a: (a**4).sum(), (b,), (t.ones_like(b),))[1])(x_of(t, 2)),
    "linearize": lambda t: (lambda y, push: (y, push(x_of(t, 3)), push(x_of(t, 3) * 2)))(
        *t.func.linearize(lambda a: a.sin().cumsum(0), x_of(t, 3))),
    "jacrev": lambda t: t.func.jacrev(lambda a: a.sin().cumsum(0))(x_of(t, 3)),
    "jacfwd": lambda t: t.func.jacfwd(lambda a: a.sin().cumsum(0))(x_of(t, 3)),
    "jacrev trees": lambda t: t.func.jacrev(lambda a, b: {"s": a * b.sum(), "t": (a,)}, argnums=(0, 1))(
        x_of(t, 2), x_of(t, 2, 1)),
    "jacfwd trees": lambda t: t.func.jacfwd(lambda a, b: {"s": a * b.sum(), "t": (a,)}, argnums=(1,))(
        x_of(t, 2), x_of(t, 2, 1)),
    "jacrev dict": lambda t: t.func.jacrev(lambda d: d["a"] * 2)({"a": x_of(t, 2), "b": x_of(t, 2)}),
    "jacrev chunks": lambda t: t.func.jacrev(lambda a: a.sin().cumsum(0), chunk_size=2)(x_of(t, 3)),
    "jacrev chunk of one": lambda t: t.func.jacrev(lambda a: (a.sin().cumsum(0), a), chunk_size=1)(x_of(t, 3)),
    "jacrev aux": lambda t: t.func.jacrev(lambda a: (a.sin(), a * 2), has_aux=True)(x_of(t, 2)),
    "jacfwd aux": lambda t: t.func.jacfwd(lambda a: (a.sin(), a * 2), has_aux=True)(x_of(t, 2)),
    "jacrev captured": lambda t: with_captured(t, lambda w: t.func.jacrev(lambda a: a * w)),
    "hessian": lambda t: t.func.hessian(lambda a, b: (a * a * b.exp()).sum(), argnums=(0, 1))(x_of(t, 2), x_of(t, 2)),
    "jacrev of jacrev": lambda t: t.func.jacrev(t.func.jacrev(lambda a: (a**3).cumsum(0)))(x_of(t, 2)),
    "jacfwd of jacfwd": lambda t: t.func.jacfwd(t.func.jacfwd(lambda a: (a**3).cumsum(0)))(x_of(t, 2)),
    "jacrev of jacfwd": lambda t: t.func.jacrev(t.func.jacfwd(lambda a: (a**3).cumsum(0)))(x_of(t, 2)),
    "vmap of grad": lambda t: t.vmap(t.func.grad(lambda a: (a**3).sum()))(x_of(t, 2, 3)),
    "grad of vmap": lambda t: t.func.grad(lambda a: t.vmap(lambda r: r * r.sum())(a).sum())(x_of(t, 2, 3)),
    "vmap of jacrev": lambda t: t.vmap(t.func.jacrev(lambda a: a.cumsum(0) * a))(x_of(t, 2, 3)),
    "vmap of jacfwd": lambda t: t.vmap(t.func.jacfwd(lambda a: a.cumsum(0) * a))(x_of(t, 2, 3)),
    "vmap of hessian": lambda t: t.vmap(t.func.hessian(lambda a: (a**3).sum()))(x_of(t, 2, 2)),
    "hessian of vmap": lambda t: t.func.hessian(lambda a: t.vmap(lambda r: r**3)(a).sum())(x_of(t, 2)),
    "per-example gradients": lambda t: t.vmap(
        t.func.grad(lambda w, x, y: ((x @ w).tanh() - y) ** 2), in_dims=(None, 0, 0))(
        x_of(t, 3), x_of(t, 4, 3), x_of(t, 4)),
    "vjp under vmap": lambda t: t.vmap(t.func.vjp(lambda a: a.sin() * a.sum(), x_of(t, 3))[1])(x_of(t, 2, 3)),
    "jvp under vmap": lambda t: t.vmap(
        lambda v: t.func.jvp(lambda a: a.sin() * a.sum(), (x_of(t, 3),), (v,))[1])(x_of(t, 2, 3)),
    "linearize under vmap": lambda t: t.vmap(t.func.linearize(lambda a: a.sin() * a.sum(), x_of(t, 3))[1])(
        x_of(t, 2, 3)),
    # kinks, where PyTorch's convention is not JAX's
    "abs at 0": lambda t: t.vmap(t.func.grad(lambda a: a.abs()))(t.zeros(2, dtype=t.float64)),
    "grad of vmapped abs": lambda t: t.func.grad(lambda a: t.vmap(t.abs)(a).sum())(t.zeros(2, dtype=t.float64)),
    "grad of vmapped clamp": lambda t: t.func.grad(lambda a: t.vmap(lambda r: r.clamp(0, 1))(a).sum())(
        t.tensor([-1.0, 0.0, 1.0])),
    "grad of vmapped max": lambda t: t.func.grad(lambda a: t.vmap(lambda r: r.amax())(a).sum())(t.ones(2, 3)),
    "grad of vmapped softmax": lambda t: t.func.grad(lambda a: (t.vmap(lambda r: r.softmax(0))(a) ** 2).sum())(
        x_of(t, 2, 3)),
    # errors
    "not a scalar": lambda t: t.func.grad(lambda a: a)(x_of(t, 2)),
    "not a tensor": lambda t: t.func.grad(lambda a: 3.0)(x_of(t, 2)),
    "number as argument": lambda t: t.func.grad(lambda a: a)(3.0),
    "ints as argument": lambda t: t.func.grad(lambda a: a.sum())(t.tensor([1, 2])),
    "argnum out of range": lambda t: t.func.grad(lambda a: a.sum(), argnums=1)(x_of(t, 2)),
    "argnum not int": lambda t: t.func.grad(lambda a: a.sum(), argnums=(0.5,))(x_of(t, 2)),
    "argnums not unique": lambda t: t.func.grad(lambda a: a.sum(), argnums=(0, -1))(x_of(t, 2)),
    "no aux": lambda t: t.func.grad(lambda a: a.sum(), has_aux=True)(x_of(t, 2)),
    "leaf in place": lambda t: t.func.grad(lambda a: a.mul_(2).sum())(x_of(t, 2)),
    "cotangent's shape": lambda t: t.func.vjp(lambda a: a * 2, x_of(t, 2))[1](t.ones(3)),
    "vjp of ints": lambda t: t.func.vjp(lambda a: a.long(), x_of(t, 2)),
    "vjp of numbers": lambda t: t.func.vjp(lambda a: 3, x_of(t, 2)),
    "primals no tuple": lambda t: t.func.jvp(lambda a: a, x_of(t, 2), x_of(t, 2)),
    "tangent's shape": lambda t: t.func.jvp(lambda a: a, (x_of(t, 2),), (x_of(t, 3),)),
    "tangent of ints": lambda t: t.func.jvp(lambda a: a, (x_of(t, 2),), (t.ones(2, dtype=t.int64),)),
    "jvp strict": lambda t: t.func.jvp(lambda a: t.ones(2), (x_of(t, 2),), (x_of(t, 2),), strict=True),
    "jvp aux missing": lambda t: t.func.jvp(lambda a: a, (x_of(t, 2),), (x_of(t, 2),), has_aux=True),
    "linearize, shape": lambda t: t.func.linearize(lambda a: a * 2, x_of(t, 2))[1](x_of(t, 3)),
    "linearize, dtype": lambda t: t.func.linearize(lambda a: a * 2, x_of(t, 2))[1](t.ones(2)),
    "jacrev of complex": lambda t: t.func.jacrev(lambda a: a)(t.complex(x_of(t, 2), x_of(t, 2))),
    "jacfwd of complex": lambda t: t.func.jacfwd(lambda a: t.complex(a, a))(x_of(t, 2)),
    "jacrev chunk size": lambda t: t.func.jacrev(lambda a: a, chunk_size=0)(x_of(t, 2)),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_as_pytorch(name):
    same(CASES[name])
