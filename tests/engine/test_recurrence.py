"""Loops that never read flush by themselves, at the same place of each iteration (`_engine/recurrence.py`)."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import tracegrad as torch
from tracegrad._config import config
from tracegrad._engine import recurrence, report, trace
from tracegrad.nn import functional as F


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Look for loops early, so that the programs are small."""
    monkeypatch.setattr(recurrence, "_LONG", 48)
    monkeypatch.setattr(recurrence, "_AGAIN", 16)
    torch.clear_caches()
    yield
    torch.clear_caches()


def counted(run: Callable[[], Any]) -> tuple[Any, int, int]:
    """Return the result, and how many programs were compiled and run."""
    compiled, runs = report.totals.compiled, report.totals.runs
    result = run()
    return result, report.totals.compiled - compiled, report.totals.runs - runs


def data(count: int, width: int = 6) -> list[tuple[Any, Any]]:
    rng = np.random.default_rng(0)
    return [(torch.tensor(rng.standard_normal((4, width), np.float32)), torch.tensor(rng.integers(0, 3, 4)))
            for _ in range(count)]  # fmt: skip


def model(width: int = 6) -> Any:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(width, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))


@pytest.mark.parametrize("grad", [False, True])
def test_an_evaluation_runs_one_program_an_iteration(grad: bool) -> None:
    net, batches = model(), data(40)

    def evaluate() -> Any:
        correct, total = 0, 0.0
        with torch.set_grad_enabled(grad):
            for x, y in batches:
                out = net(x)
                correct += (out.argmax(1) == y).sum()
                total += F.cross_entropy(out, y).detach()
        return correct.item(), total.item()

    first, compiled, _ = counted(evaluate)
    assert compiled <= 4
    assert first == pytest.approx(counted(evaluate)[0])
    again, compiled, runs = counted(evaluate)
    assert again == pytest.approx(first) and compiled == 0 and runs > 20
    with torch.eager():
        assert evaluate() == pytest.approx(first)


def test_accumulating_gradients_runs_one_program_an_iteration() -> None:
    net, batches = model(), data(40)

    def accumulate() -> Any:
        net.zero_grad()
        for x, y in batches:
            (F.cross_entropy(net(x), y) / len(batches)).backward()
        return net[0].weight.grad.numpy()

    first, compiled, _ = counted(accumulate)
    assert compiled <= 4
    counted(accumulate)
    again, compiled, runs = counted(accumulate)
    assert compiled == 0 and runs > 20
    np.testing.assert_allclose(again, first, rtol=1e-5)
    whole = F.cross_entropy(net(torch.cat([x for x, _ in batches])), torch.cat([y for _, y in batches]))
    np.testing.assert_allclose(torch.autograd.grad(whole, net[0].weight)[0].numpy(), first, atol=1e-6)


def test_a_simulation_is_cut_after_the_same_number_of_iterations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "max_pending", 40)

    def simulate() -> Any:
        state = torch.ones(3)
        longest = 0
        with torch.no_grad():
            for _ in range(200):
                state = state * 0.99
                state = state + torch.sin(state) * 0.01
                state = state.clamp(-2, 2)
                longest = max(longest, trace.state.trace.node.real.weight)
        return state.sum().item(), longest

    (first, longest), compiled, _ = counted(simulate)
    assert compiled <= 3 and longest < 60
    (again, _), compiled, _ = counted(simulate)
    assert compiled == 0 and again == first


def test_layers_of_one_graph_stay_one_program() -> None:
    torch.manual_seed(0)
    weights = [torch.randn(3, 3).mul_(0.3).requires_grad_() for _ in range(40)]

    def train() -> Any:
        x = torch.ones(2, 3)
        for w in weights:
            x = torch.tanh(x @ w) + x * 0.5
        x.sum().backward()
        return weights[0].grad.abs().sum().item()

    train()
    _, _, runs = counted(train)
    assert runs == 1


def test_what_varies_before_a_step_does_not_compile_the_step_anew() -> None:
    net, batches = model(), data(30, 8)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    rng = random.Random(0)
    ways = [lambda x: x.flip(0), lambda x: x * rng.uniform(0.8, 1.2), torch.tanh, torch.abs, lambda x: x.roll(1, 0)]
    sizes = []
    for x, y in batches:
        for way in rng.sample(ways, 3):
            x = way(x)
        start = rng.randint(0, 2)
        known = len(report.totals.records)
        optimizer.zero_grad()
        F.cross_entropy(net(x[:, start : start + 6]), y).backward()
        optimizer.step()
        sizes.append(max((r.ops for r in report.totals.records[known:]), default=0))
    assert sum(size > 6 for size in sizes) <= 4  # the others are the varying part alone


def test_a_period_is_found_at_the_end() -> None:
    assert recurrence._period([9, 1, 2, 3, 1, 2, 3]) == 3
    assert recurrence._period([1, 2, 2]) == 1
    assert recurrence._period([1, 2, 3]) == 0
    assert recurrence._period([]) == 0
