"""What one operation costs when its value is never read: tracegrad records it, PyTorch and JAX run it.

All three are in one process, in interleaved rounds; a round is a loop of 1,000 operations. PyTorch and
tracegrad keep what a backward would need. What a loop leaves behind (PyTorch's graph, tracegrad's trace) is
released after the clock stops, and timed apart. JAX has no tape: its column is the operation alone.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any

import jax
import jax.numpy as jnp
from steps import table, versions

LENGTH = 1_000
Loop = Callable[[], Any]


def chain(z: Any, b: Any) -> Loop:
    def loop() -> Any:
        y = z
        for _ in range(LENGTH):
            y = y * b
        return y

    return loop


def of(torch: Any) -> dict[str, Loop]:
    """Return the loops for a module with PyTorch's interface."""
    F = torch.nn.functional
    b = torch.ones(4, 4, requires_grad=True)
    x = torch.ones(4, 4, requires_grad=True) * 1.0
    w = torch.ones(4, 4, requires_grad=True)
    bias = torch.zeros(4, requires_grad=True)
    x.sum().item()

    def times(op: Callable[[], Any]) -> Loop:
        def loop() -> None:
            for _ in range(LENGTH):
                op()

        return loop

    return {
        "z = z * b": chain(x, b),
        "x * w": times(lambda: x * w),
        "x + 2.0": times(lambda: x + 2.0),
        "x.relu()": times(lambda: x.relu()),
        "x.sum(1)": times(lambda: x.sum(1)),
        "x @ w": times(lambda: x @ w),
        "softmax(x, -1)": times(lambda: F.softmax(x, dim=-1)),
        "x[1]": times(lambda: x[1]),
        "x[:, 1:3]": times(lambda: x[:, 1:3]),
        "x.view(16)": times(lambda: x.view(16)),
        "x.transpose(0, 1)": times(lambda: x.transpose(0, 1)),
        "linear(x, w, b)": times(lambda: F.linear(x, w, bias)),
        "layer_norm(x, (4,))": times(lambda: F.layer_norm(x, (4,))),
        "x.detach()": times(lambda: x.detach()),
    }


def of_jax() -> dict[str, Loop]:
    x = b = w = jnp.ones((4, 4))
    bias = jnp.zeros(4)

    def times(op: Callable[[], Any]) -> Loop:
        def loop() -> Any:
            for _ in range(LENGTH):
                y = op()
            return y.block_until_ready()

        return loop

    multiply = chain(x, b)
    return {
        "z = z * b": lambda: multiply().block_until_ready(),
        "x * w": times(lambda: x * w),
        "x + 2.0": times(lambda: x + 2.0),
        "x.relu()": times(lambda: jax.nn.relu(x)),
        "x.sum(1)": times(lambda: x.sum(1)),
        "x @ w": times(lambda: x @ w),
        "softmax(x, -1)": times(lambda: jax.nn.softmax(x, -1)),
        "x[1]": times(lambda: x[1]),
        "x[:, 1:3]": times(lambda: x[:, 1:3]),
        "x.view(16)": times(lambda: x.reshape(16)),
        "x.transpose(0, 1)": times(lambda: x.transpose(1, 0)),
        "linear(x, w, b)": times(lambda: x @ w.T + bias),
        "x.detach()": times(lambda: jax.lax.stop_gradient(x)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--only", nargs="+", help="operations, by their text in the table")
    args = parser.parse_args()
    tracegrad, torch = import_module("tracegrad"), import_module("torch")
    torch.set_num_threads(1)  # its best for operations this small
    print(versions())
    contenders: dict[str, dict[str, Loop]] = {"tracegrad": of(tracegrad), "torch": of(torch), "jax": of_jax()}
    rows = []
    for name in contenders["torch"]:
        if args.only and name not in args.only:
            continue
        loops = {c: loops[name] for c, loops in contenders.items() if name in loops}
        loop_us: dict[str, list[float]] = {c: [] for c in loops}
        release_us: dict[str, list[float]] = {c: [] for c in loops}
        for round in range(args.rounds + 2):
            for contender, loop in loops.items():
                gc.collect()
                start = time.perf_counter()
                kept = loop()
                stop = time.perf_counter()
                kept = None  # noqa: F841
                if contender == "tracegrad":
                    tracegrad.synchronize()  # nothing is held, so nothing runs: the trace is dropped
                end = time.perf_counter()
                if round >= 2:
                    loop_us[contender].append((stop - start) / LENGTH * 1e6)
                    release_us[contender].append((end - stop) / LENGTH * 1e6)
        median = {c: statistics.median(times) for c, times in loop_us.items()}
        release = {c: statistics.median(times) for c, times in release_us.items()}
        rows.append([
            name, *(f"{median[c]:.2f}" if c in median else "" for c in contenders),
            f"{median['tracegrad'] / median['torch']:.2f}",
            f"{release['tracegrad']:.2f}", f"{release['torch']:.2f}",
        ])  # fmt: skip
    print(table(["us per operation", *contenders, "/ torch", "release, tracegrad", "release, torch"], rows))


if __name__ == "__main__":
    main()
