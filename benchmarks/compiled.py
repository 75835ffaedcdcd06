"""Compiled training steps: ``tracegrad.compile``, the same step as it is, and ``jax.jit`` with optax by hand.

All run in one process and take turns, round by round, and read the loss of every step. The figure is the median over
rounds of the ratio to ``jax.jit`` within the round.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax_steps
import torch_steps
from problems import PROBLEMS
from steps import CHECKED, table, versions

import tracegrad

#: at most this multiple of jax
FIGURES = {"mlp64": 1.03, "mlp1024": 1.03, "many": 0.7}
STEPS = {"mlp64": 400, "mlp1024": 25, "many": 20}


class Compiled(torch_steps.Contender):
    """A model in training by one compiled function, which returns the loss."""

    def __init__(self, *args: Any):
        super().__init__(*args)
        model, optimizer = self.model, self.optimizer
        cross_entropy = tracegrad.nn.functional.cross_entropy

        def step(x: Any, y: Any) -> Any:
            optimizer.zero_grad()
            loss = cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            return loss

        self.function = tracegrad.compile(step)

    def step(self, n: int) -> float:
        """Take step ``n`` and return its loss."""
        return self.function(*self.batches[n % len(self.batches)]).item()


def median_of(step: Callable[[int], float], count: int, n: int) -> float:
    times = []
    for k in range(n, n + count):
        start = time.perf_counter()
        step(k)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def measure(name: str, rounds: int) -> list[str]:
    problem = PROBLEMS[name]
    weights, batches = problem.data()
    contenders: dict[str, Any] = {
        "jax": jax_steps.Contender(problem, weights, batches),
        "imperative": torch_steps.Contender(tracegrad, problem, weights, batches),
        "compiled": Compiled(tracegrad, problem, weights, batches),
    }
    for n in range(CHECKED):
        losses = [c.step(n) for c in contenders.values()]
        if max(losses) - min(losses) > problem.tolerance * max(losses):
            raise SystemExit(f"{name}: the contenders compute different things: {losses}")
    found: dict[str, list[float]] = {c: [] for c in contenders}
    n = CHECKED
    for k in range(rounds + 1):
        for c, contender in contenders.items():
            took = median_of(contender.step, STEPS[name], n)
            if k:  # the first round warms up
                found[c].append(took)
        n += STEPS[name]
    compiled = contenders["compiled"].function
    if compiled.replays < compiled.calls - CHECKED:
        raise SystemExit("\n".join(compiled.lines()))
    ratio = statistics.median(a / b for a, b in zip(found["compiled"], found["jax"]))
    times = [f"{1e3 * statistics.median(t):.3f}" for t in found.values()]
    return [problem.title, *times, f"{ratio:.2f} (<= {FIGURES[name]})", "yes" if ratio <= FIGURES[name] else "NO"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=STEPS, default=list(STEPS))
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    print(f"{versions()}; load {os.getloadavg()[0]:.1f}")
    rows = [measure(name, args.rounds) for name in args.only]
    print(table(["step, ms", "jax", "imperative", "compiled", "/ jax", "met"], rows))


if __name__ == "__main__":
    main()
