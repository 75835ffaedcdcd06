"""Draws that are handed out together are computed together: the same numbers, one by one or not."""

import numpy as np
import pytest

import tracegrad as torch
from tracegrad import nn
from tracegrad._engine import program as programs
from tracegrad._engine.value import Piece

DRAWS = {
    "rand": lambda: torch.rand(3, 5),
    "randn": lambda: torch.randn(3, 5),
    "randint": lambda: torch.randint(-5, 90, (4,)),
    "bernoulli": lambda: torch.bernoulli(torch.full((7,), 0.3)),
    "uniform_": lambda: torch.empty(3, 2).uniform_(-2.0, 5.0),
    "normal_": lambda: torch.empty(3, 2).normal_(1.0, 3.0),
    "double": lambda: torch.randn(6, dtype=torch.float64),
    "complex": lambda: torch.randn(6, dtype=torch.complex64),
    "half": lambda: torch.rand(6, dtype=torch.bfloat16),
    "randperm": lambda: torch.randperm(9),
    "exponential_": lambda: torch.empty(5).exponential_(0.5),
    "0-dim": lambda: torch.rand(()),
    "empty": lambda: torch.rand(0, 3),
}


@pytest.mark.parametrize("name", DRAWS)
def test_together_and_one_by_one(name):
    torch.manual_seed(3)
    together = [DRAWS[name]() for _ in range(7)]
    together = [t.tolist() for t in together]
    torch.manual_seed(3)
    assert [DRAWS[name]().tolist() for _ in range(7)] == together
    torch.manual_seed(3)
    with torch.eager():
        assert [DRAWS[name]().tolist() for _ in range(7)] == together


def test_a_model():
    def weights():
        torch.manual_seed(0)
        model = nn.Sequential(*(nn.Linear(6, 6) for _ in range(10)))
        return [p for p in model.parameters()]

    lazy = weights()
    lazy[0].tolist()
    assert all(type(p._value.array) is Piece for p in lazy[1:])
    with torch.eager():
        eager = weights()
    for a, b in zip(lazy, eager):
        assert np.array_equal(a.detach().numpy(), b.detach().numpy())
    loss = sum((p * p).sum() for p in lazy)
    loss.backward()
    for p in lazy:
        np.testing.assert_allclose(p.grad.numpy(), 2 * p.detach().numpy())


def test_some_are_used_some_have_died_some_are_changed():
    def run():
        torch.manual_seed(5)
        draws = [torch.rand(4) for _ in range(12)]
        total = draws[0] + draws[1] * 2
        draws[2].mul_(3)
        view = draws[3][1:3]
        named = draws[4].detach()
        draws[5].requires_grad_()
        kept = draws[::2] + [draws[3], draws[5]]
        del draws
        return [t.tolist() for t in (total, view, named, *kept)]

    lazy = run()
    with torch.eager():
        eager = run()
    for a, b in zip(lazy, eager):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_a_second_model_is_the_same_program(compiled):
    for i in range(3):
        model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3))
        model[0].weight.tolist()
        if i == 0:
            compiled()
    assert compiled() == 0
    assert programs.count() > 0
