"""``functional_call`` and ``stack_module_state`` against PyTorch's."""

from __future__ import annotations

import pytest
from _compare import same

import tracegrad

pytestmark = pytest.mark.oracle


def linear(t, seed=0):
    m = t.nn.Linear(3, 2).double()
    with t.no_grad():
        m.weight.copy_((t.arange(6, dtype=t.float64) + seed).sin().reshape(2, 3))
        m.bias.copy_((t.arange(2, dtype=t.float64) + seed).cos())
    return m


def tied(t):
    m = t.nn.Sequential(linear(t), t.nn.Tanh(), t.nn.Linear(2, 2).double())
    m.again = m[0]
    return m


def weights(t):
    return {"weight": t.ones(2, 3, dtype=t.float64) * 2}


def ensemble(t):
    models = [linear(t, i) for i in range(3)]
    params, buffers = t.func.stack_module_state(models)
    out = t.vmap(lambda p, b, x: t.func.functional_call(models[0], (p, b), (x,)), (0, 0, None))(
        params, buffers, t.ones(4, 3, dtype=t.float64))
    (out**2).sum().backward()
    return out, params["weight"].grad, params["bias"].is_leaf


def with_buffers(t):
    m = t.nn.BatchNorm1d(3).double()
    buffers = {"running_mean": t.zeros(3, dtype=t.float64), "num_batches_tracked": t.tensor(5)}
    out = t.func.functional_call(m, (dict(m.named_parameters()), buffers), t.arange(12, dtype=t.float64).reshape(4, 3))
    return out, buffers, m.running_mean, m.num_batches_tracked


def per_example(t):
    m = linear(t)
    params = {k: v.detach() for k, v in m.named_parameters()}

    def loss(p, x):
        return (t.func.functional_call(m, p, (x,)) ** 2).sum()

    return t.vmap(t.func.grad(loss), in_dims=(None, 0))(params, t.arange(12, dtype=t.float64).reshape(4, 3))


def deprecated(t):
    return t.nn.utils.stateless.functional_call(linear(t), weights(t), t.ones(3, dtype=t.float64))


CASES = {
    "call": lambda t: t.func.functional_call(linear(t), weights(t), t.ones(3, dtype=t.float64)),
    "keywords": lambda t: t.func.functional_call(linear(t), weights(t), kwargs={"input": t.ones(3, dtype=t.float64)}),
    "buffers": with_buffers,
    "ensemble": ensemble,
    "per-example gradients": per_example,
    "deprecated": deprecated,
    "strict": lambda t: t.func.functional_call(linear(t), {"w": t.ones(2)}, t.ones(3), strict=True),
    "no tensor": lambda t: t.func.functional_call(linear(t), {"weight": 3}, t.ones(3)),
    "twice": lambda t: t.func.functional_call(linear(t), (weights(t), weights(t)), t.ones(3)),
    "no dictionary": lambda t: t.func.functional_call(linear(t), 3, t.ones(3)),
    "no dictionaries": lambda t: t.func.functional_call(linear(t), (3,), t.ones(3)),
    "tied, different": lambda t: t.func.functional_call(
        tied(t), {"0.weight": t.ones(2, 3), "again.weight": t.zeros(2, 3)}, t.ones(3)),
    "no models": lambda t: t.func.stack_module_state([]),
    "other class": lambda t: t.func.stack_module_state([linear(t), t.nn.Tanh()]),
    "other mode": lambda t: t.func.stack_module_state([linear(t), linear(t).eval()]),
    "functionalize": lambda t: t.func.functionalize(lambda a: a.clone().add_(1))(t.ones(2)),
    "functionalize what": lambda t: t.func.functionalize(lambda a: a, remove="all")(t.ones(2)),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_as_pytorch(name):
    same(CASES[name], text=name != "functionalize what")


def test_the_module_keeps_its_own_also_after_an_error():
    m = linear(tracegrad)
    own = m.weight
    with pytest.raises(RuntimeError):
        tracegrad.func.functional_call(m, weights(tracegrad), tracegrad.ones(5, dtype=tracegrad.float64))
    assert m.weight is own
