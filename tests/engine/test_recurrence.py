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


def test_batches_that_come_again_and_kept_losses_do_not_hide_the_loop() -> None:
    net, batches = model(), data(3)
    losses = []
    for i in range(40):
        x, y = batches[i % 3]
        with torch.no_grad():
            losses.append(F.cross_entropy(net(x), y))
    assert report.totals.compiled <= 3 and report.totals.runs > 2
    again = F.cross_entropy(net(batches[1][0]), batches[1][1]).item()
    assert losses[1].item() == pytest.approx(again) == losses[37].item()


def test_a_loop_is_found_where_its_arrays_enter_at_every_sixteenth_operation() -> None:
    norm = torch.nn.BatchNorm1d(8).eval()
    first, last = torch.nn.Linear(6, 8), torch.nn.Linear(8, 3)
    correct = torch.zeros((), dtype=torch.int64)
    torch.synchronize()
    with torch.no_grad():
        for x, y in data(30):
            correct += (last(norm(first(x)).relu().tanh()).argmax(1) == y).sum()
    assert report.totals.runs > 10 and report.totals.compiled <= 4


def test_a_simulation_in_place_is_cut_at_one_place() -> None:
    x, v = torch.ones(3), torch.zeros(3)
    torch.synchronize()
    for _ in range(100):
        v.add_(x, alpha=-0.01)
        v.mul_(0.999)
        x.add_(v, alpha=0.01)
    assert report.totals.runs > 3 and report.totals.compiled <= 3


def test_accumulating_a_changing_number_of_gradients() -> None:
    net, batches = model(), data(8)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    for count in (3, 6, 2, 5, 7, 4, 8, 3, 5, 8, 7, 6, 4, 2):
        optimizer.zero_grad()
        for x, y in batches[:count]:
            F.cross_entropy(net(x), y).backward()
        optimizer.step()
    assert report.totals.compiled <= 8


def test_random_flips_do_not_multiply_the_step() -> None:
    net, batches = model(), data(40)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    rng = random.Random(1)
    ways = [lambda x: x.flip(1), lambda x: x * 1.1, torch.tanh, lambda x: x.roll(1, 1), lambda x: x.flip(0).abs()]
    for x, y in batches:
        for way in ways:
            if rng.random() < 0.5:
                x = way(x)
        optimizer.zero_grad()
        F.cross_entropy(net(x), y).backward()
        optimizer.step()
    whole = [r for r in report.totals.records if r.reason == "an optimizer step ended"]
    assert len(whole) <= 6
    assert sum(r.hits for r in whole) > 25


def test_an_evaluation_behind_random_augmentations_runs_its_own_program() -> None:
    net = torch.nn.Sequential(model(), torch.nn.Linear(3, 3), torch.nn.Tanh(), torch.nn.Linear(3, 3))
    torch.synchronize()

    def evaluate(read: bool) -> int:
        rng = random.Random(2)
        correct = torch.zeros((), dtype=torch.int64)
        with torch.no_grad():
            for x, y in data(40):
                x = torch.stack([x[i] if rng.random() < 0.5 else x[i].flip(0) for i in range(4)])
                correct += (net(x).argmax(1) == y).sum()
                if read:
                    correct.item()
        return correct.item()  # type: ignore[no-any-return]

    found = evaluate(False)
    assert any(r.hits > 10 for r in report.totals.records)
    assert found == evaluate(True)


def test_what_is_differentiated_together_is_not_cut() -> None:
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3))
    batches = data(12)

    def train() -> float:
        net.zero_grad()
        losses = [F.cross_entropy(net(x), y) for x, y in batches]
        sum(losses[1:], losses[0]).backward()
        return net[0].weight.grad.abs().sum().item()  # type: ignore[no-any-return]

    train()
    _, _, runs = counted(train)
    assert runs == 1


def test_a_period_is_found_at_the_end() -> None:
    assert recurrence._period([9, 1, 2, 3, 1, 2, 3], 2) == 3
    assert recurrence._period([1, 2, 2], 2) == 1
    assert recurrence._period([1, 2, 2], 3) == 0
    assert recurrence._period([1, 2, 3, 2, 3, 2, 3], 3) == 2
    assert recurrence._period([1, 2, 3], 2) == 0
    assert recurrence._period([], 2) == 0
