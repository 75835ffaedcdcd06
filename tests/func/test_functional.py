"""``autograd.functional``, and ``autograd.grad(is_grads_batched=True)``, against PyTorch's."""

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


def af(t):
    return t.autograd.functional


def tuples(tree):
    """PyTorch returns lists in forward mode."""
    return tuple(map(tuples, tree)) if isinstance(tree, (tuple, list)) else tree


def two(a, b):
    return (a * b.exp()).cumsum(0), (a * a).sum()


def number(a, b):
    return (a**3 * b.sin()).sum()


def graph(t, name, v=True, **options):
    x = x_of(t, 2, wants=True)
    arguments = [lambda a: (a**3).cumsum(0), x] if name in ("vjp", "jvp") else [lambda a: (a**3).sum(), x]
    results = getattr(af(t), name)(*arguments, *([x_of(t, 2)] if v else []), create_graph=True, **options)
    found = results[1] if isinstance(results, tuple) else results
    return results, *t.autograd.grad(found.sum(), x)


def batched(t, read=False, **options):
    x, y = x_of(t, 3, wants=True), x_of(t, 3, wants=True)
    z = (x * x).cumsum(0) * 2
    if read:
        z.sum().item()
    return t.autograd.grad(z, [x, y], x_of(t, 4, 3), is_grads_batched=True, allow_unused=True, **options)


def batched_graph(t, read):
    x = x_of(t, 3, wants=True)
    z = (x**3).cumsum(0)
    if read:
        z.sum().item()
    (g,) = t.autograd.grad(z, x, x_of(t, 2, 3), is_grads_batched=True, create_graph=True)
    return g, *t.autograd.grad((g * g).sum(), x)


CASES = {
    "vjp": lambda t: af(t).vjp(two, (x_of(t, 2), x_of(t, 2)), (x_of(t, 2), x_of(t))),
    "vjp without v": lambda t: af(t).vjp(number, (x_of(t, 2), x_of(t, 2))),
    "vjp graph": lambda t: graph(t, "vjp"),
    "vjp no_grad": lambda t: t.no_grad()(lambda: af(t).vjp(two, (x_of(t, 2), x_of(t, 2)), (x_of(t, 2), x_of(t))))(),
    "jvp": lambda t: af(t).jvp(two, (x_of(t, 2), x_of(t, 2)), (x_of(t, 2), x_of(t, 2))),
    "jvp graph": lambda t: graph(t, "jvp"),
    "jvp without v": lambda t: af(t).jvp(lambda a: a * 2, x_of(t)),
    "vhp": lambda t: af(t).vhp(number, (x_of(t, 2), x_of(t, 2)), (x_of(t, 2), x_of(t, 2))),
    "vhp graph": lambda t: graph(t, "vhp"),
    "hvp": lambda t: af(t).hvp(number, (x_of(t, 2), x_of(t, 2)), (x_of(t, 2), x_of(t, 2))),
    "hvp graph": lambda t: graph(t, "hvp"),
    "jacobian": lambda t: af(t).jacobian(two, (x_of(t, 2), x_of(t, 2))),
    "jacobian of one": lambda t: af(t).jacobian(lambda a: a.sin(), x_of(t, 2)),
    "jacobian graph": lambda t: graph(t, "jacobian", v=False),
    "jacobian at once": lambda t: af(t).jacobian(two, (x_of(t, 2), x_of(t, 2)), vectorize=True),
    "jacobian at once, graph": lambda t: graph(t, "jacobian", v=False, vectorize=True),
    "jacobian forward": lambda t: tuples(af(t).jacobian(two, (x_of(t, 2), x_of(t, 2)), vectorize=True,
                                                        strategy="forward-mode")),
    "jacobian of a constant": lambda t: af(t).jacobian(lambda a, b: a * 2, (x_of(t, 2), x_of(t, 2))),
    "jacobian of a constant, at once": lambda t: af(t).jacobian(lambda a, b: a * 2, (x_of(t, 2), x_of(t)),
                                                                vectorize=True),
    "hessian": lambda t: af(t).hessian(number, (x_of(t, 2), x_of(t, 2))),
    "hessian of one": lambda t: af(t).hessian(lambda a: (a**3).sum(), x_of(t, 2)),
    "hessian at once": lambda t: af(t).hessian(number, (x_of(t, 2), x_of(t, 2)), vectorize=True),
    "hessian forward": lambda t: tuples(af(t).hessian(number, (x_of(t, 2), x_of(t, 2)), vectorize=True,
                                               outer_jacobian_strategy="forward-mode")),
    "hessian graph": lambda t: graph(t, "hessian", v=False),
    "strict vjp": lambda t: af(t).vjp(lambda a, b: a.sum(), (x_of(t, 2), x_of(t, 2)), strict=True),
    "strict output": lambda t: af(t).vjp(lambda a: t.ones(()), x_of(t, 2), strict=True),
    "strict jvp": lambda t: af(t).jvp(lambda a: t.ones(2), x_of(t, 2), x_of(t, 2), strict=True),
    "strict vhp": lambda t: af(t).vhp(lambda a: a.sum(), x_of(t, 2), x_of(t, 2), strict=True),
    "strict jacobian": lambda t: af(t).jacobian(lambda a, b: a * 2, (x_of(t, 2), x_of(t, 2)), strict=True),
    "strict hessian": lambda t: af(t).hessian(lambda a: a.sum(), x_of(t, 2), strict=True),
    "strict at once": lambda t: af(t).jacobian(lambda a: a, x_of(t, 2), strict=True, vectorize=True),
    "forward, graph": lambda t: af(t).jacobian(lambda a: a, x_of(t, 2), create_graph=True, strategy="forward-mode"),
    "strategy": lambda t: af(t).jacobian(lambda a: a, x_of(t, 2), strategy="any"),
    "no tensor": lambda t: af(t).vjp(lambda a: a, 3.0),
    "no tensor in a tuple": lambda t: af(t).jvp(lambda a, b: a, (x_of(t, 2), 3.0)),
    "output no tensor": lambda t: af(t).vjp(lambda a: 3.0, x_of(t, 2)),
    "v missing": lambda t: af(t).vjp(lambda a: a, x_of(t, 2)),
    "v missing, jvp": lambda t: af(t).jvp(lambda a: a, x_of(t, 2)),
    "v too long": lambda t: af(t).vjp(lambda a: a, x_of(t, 2), (x_of(t, 2), x_of(t, 2))),
    "v of another shape": lambda t: af(t).vjp(lambda a: (a, a), x_of(t, 2), (x_of(t, 2), x_of(t, 3))),
    "hessian of several": lambda t: af(t).hessian(lambda a: (a.sum(), a.sum()), x_of(t, 2)),
    "hessian of a vector": lambda t: af(t).hessian(lambda a: a, x_of(t, 2)),
    "batched": batched,
    "batched after a read": lambda t: batched(t, read=True),
    "batched, twice": lambda t: batched_graph(t, False),
    "batched, twice, after a read": lambda t: batched_graph(t, True),
    "batched, wrong shape": lambda t: (lambda x: t.autograd.grad(x * 2, x, x_of(t, 4, 2), is_grads_batched=True))(
        x_of(t, 3, wants=True)),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_as_pytorch(name):
    # PyTorch tells of a batch's shape as (); and leaves its mark on the inputs of a Hessian in forward mode.
    same(CASES[name], text=name != "batched, wrong shape", wants=name != "hessian forward")
