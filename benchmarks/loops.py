"""Training steps of recurrent nets written as Python loops over time, side by side.

``tracegrad`` and ``torch`` run one text, a Python loop. ``scan`` is the same step as a JAX user writes it by hand, with
``jax.jit`` and ``lax.scan``; ``unrolled`` is ``jax.jit`` of a Python loop, for few steps only, since XLA needs minutes
for many. Each contender has a process of its own; rounds are interleaved, and losses must agree before anything counts.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
from steps import table

BATCH, WIDTH, HIDDEN, NARROW, RATE, CHECKED = 32, 64, 256, 64, 0.05, 4
#: name -> (layers, steps over time, the contenders)
CASES: dict[str, tuple[str, int, tuple[str, ...]]] = {
    "rnn32": ("rnn", 32, ("scan", "unrolled", "tracegrad", "torch")),
    "rnn128": ("rnn", 128, ("scan", "tracegrad", "torch")),
    "rnn512": ("rnn", 512, ("scan", "tracegrad", "torch")),
    "lstm64": ("lstm", 64, ("scan", "tracegrad", "torch")),
}
#: the largest ratio of tracegrad's time to that of ``scan``
FIGURES = {"rnn128": 1.1}
#: the largest ratio of the compile time of 512 steps over time to that of 32
GROWTH = 1.5

Weights = dict[str, Any]


def data(layers: str, length: int) -> tuple[Weights, np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return weights, inputs and what is to be learned."""
    rng = np.random.default_rng(0)

    def draw(*shape: int) -> np.ndarray[Any, Any]:
        return rng.normal(0, shape[0] ** -0.5, shape).astype(np.float32)

    weights = {}
    if layers == "rnn":
        weights = {"W": draw(WIDTH, HIDDEN), "U": draw(HIDDEN, HIDDEN), "b": 0 * draw(HIDDEN), "V": draw(HIDDEN, 1)}
    else:
        for layer, width in enumerate((WIDTH, 2 * NARROW)):
            for way in "fb":
                weights[f"W{layer}{way}"] = draw(width, 4 * NARROW)
                weights[f"U{layer}{way}"] = draw(NARROW, 4 * NARROW)
                weights[f"b{layer}{way}"] = 0 * draw(4 * NARROW)
        weights["V"] = draw(2 * NARROW, 1)
    return weights, draw(BATCH, length, WIDTH) * BATCH**0.5, draw(BATCH, length, 1) * BATCH**0.5


# -- one text for PyTorch and tracegrad ------------------------------------------------------------------------------


def python_rnn(torch: Any, w: Weights, x: Any) -> Any:
    h, hs = torch.zeros(BATCH, HIDDEN), []
    for t in range(x.shape[1]):
        h = torch.tanh(x[:, t] @ w["W"] + h @ w["U"] + w["b"])
        hs.append(h)
    return torch.stack(hs, 1) @ w["V"]


def python_lstm(torch: Any, w: Weights, x: Any) -> Any:
    for layer in "01":
        outs = []
        for way in "fb":
            h = c = torch.zeros(BATCH, NARROW)
            hs = []
            for t in range(x.shape[1]) if way == "f" else reversed(range(x.shape[1])):
                gates = x[:, t] @ w[f"W{layer}{way}"] + h @ w[f"U{layer}{way}"] + w[f"b{layer}{way}"]
                i, f, g, o = gates.chunk(4, 1)
                c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
                h = torch.sigmoid(o) * torch.tanh(c)
                hs.append(h)
            outs.append(torch.stack(hs if way == "f" else hs[::-1], 1))
        x = torch.cat(outs, 2)
    return x @ w["V"]


def python_step(torch: Any, layers: str, weights: Weights, x: Any, y: Any) -> Callable[[], float]:
    forward = python_rnn if layers == "rnn" else python_lstm
    w = {k: torch.tensor(a, requires_grad=True) for k, a in weights.items()}
    x, y = torch.tensor(x), torch.tensor(y)
    optimizer = torch.optim.SGD(w.values(), lr=RATE)

    def step() -> float:
        optimizer.zero_grad()
        loss = ((forward(torch, w, x) - y) ** 2).mean()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


# -- JAX by hand -----------------------------------------------------------------------------------------------------


def jax_step(contender: str, layers: str, w: Weights, x: Any, y: Any) -> Callable[[], float]:
    import jax
    import jax.numpy as jnp

    def scan(cell: Any, carry: Any, xs: Any, reverse: bool = False) -> Any:
        if contender == "scan":
            return jax.lax.scan(cell, carry, xs, reverse=reverse)[1]
        outs = []
        for one in xs:
            carry, out = cell(carry, one)
            outs.append(out)
        return jnp.stack(outs)

    def rnn(w: Weights, xs: Any) -> Any:
        def cell(h: Any, x: Any) -> Any:
            h = jnp.tanh(x @ w["W"] + h @ w["U"] + w["b"])
            return h, h

        return scan(cell, jnp.zeros((BATCH, HIDDEN)), xs) @ w["V"]

    def lstm(w: Weights, xs: Any) -> Any:
        for layer in "01":
            outs = []
            for way in "fb":
                def cell(state: Any, x: Any, k: str = layer + way) -> Any:
                    h, c = state
                    i, f, g, o = jnp.split(x @ w["W" + k] + h @ w["U" + k] + w["b" + k], 4, 1)
                    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
                    h = jax.nn.sigmoid(o) * jnp.tanh(c)
                    return (h, c), h

                zero = jnp.zeros((BATCH, NARROW))
                outs.append(scan(cell, (zero, zero), xs, reverse=way == "b"))
            xs = jnp.concatenate(outs, 2)
        return xs @ w["V"]

    forward = rnn if layers == "rnn" else lstm

    def loss_of(w: Weights, x: Any, y: Any) -> Any:
        out = jnp.swapaxes(forward(w, jnp.swapaxes(x, 0, 1)), 0, 1)
        return ((out - y) ** 2).mean()

    @jax.jit
    def update(w: Weights, x: Any, y: Any) -> Any:
        loss, gradients = jax.value_and_grad(loss_of)(w, x, y)
        return {k: w[k] - RATE * gradients[k] for k in w}, loss

    w, x, y = jax.device_put((w, x, y))

    def step() -> float:
        nonlocal w
        w, loss = update(w, x, y)
        return float(loss)

    return step


# -- processes -------------------------------------------------------------------------------------------------------


def work(case: str, contender: str) -> None:
    """Take the first steps, then as many as each line asks for; answer with their median time."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever else prints goes to stderr
    layers, length, _ = CASES[case]
    given = data(layers, length)
    if contender in ("torch", "tracegrad"):
        module = import_module(contender)
        step = python_step(module, layers, *given)
    else:
        step = jax_step(contender, layers, *given)
    start = time.perf_counter()
    losses = [step()]
    first = time.perf_counter() - start
    losses += [step() for _ in range(CHECKED)]
    compiled = 0
    if contender == "tracegrad":
        compiled = max(sum(map(int, ms)) for ms in re.findall(r"trace (\d+) ms, compile (\d+) ms", module.explain()))
    print(json.dumps({"first": first, "compiled": compiled, "losses": losses}), file=answers)
    for line in sys.stdin:
        times = []
        for _ in range(int(line)):
            start = time.perf_counter()
            step()
            times.append(time.perf_counter() - start)
        print(json.dumps(statistics.median(times)), file=answers)


def measure(case: str, rounds: int, count: int) -> dict[str, tuple[float, float, float]]:
    """Return each contender's time of a step in ms, of the first one in s, and what tracegrad compiled in, in ms."""
    processes, starts = {}, {}
    for contender in CASES[case][2]:
        command = [sys.executable, __file__, "--work", case, contender]
        processes[contender] = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        starts[contender] = json.loads(processes[contender].stdout.readline() or '{"losses": [NaN], "first": 0}')
    for values in zip(*(s["losses"] for s in starts.values())):
        if not max(values) - min(values) <= 1e-4 * max(map(abs, values)):
            raise SystemExit(f"{case}: the contenders compute different things: {starts}")
    found: dict[str, list[float]] = {contender: [] for contender in processes}
    for _ in range(rounds):
        for contender, process in processes.items():
            print(count, file=process.stdin, flush=True)
            found[contender].append(json.loads(process.stdout.readline()))
    for process in processes.values():
        process.stdin.close()
        process.wait()
    return {c: (1e3 * statistics.median(ts), starts[c]["first"], starts[c]["compiled"]) for c, ts in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", default=list(CASES), choices=CASES)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--count", type=int, default=10, help="steps a round")
    parser.add_argument("--work", nargs=2)
    args = parser.parse_args()
    if args.work:
        work(*args.work)
        return
    columns = ("scan", "unrolled", "tracegrad", "torch")
    rows, compiled = [], {}
    for case in args.only:
        found = measure(case, args.rounds, args.count)
        compiled[case] = found["tracegrad"][2]
        ratio, limit = found["tracegrad"][0] / found["scan"][0], FIGURES.get(case)
        judged = f"{ratio:.2f}" + (f" (<= {limit}: {'yes' if ratio <= limit else 'NO'})" if limit else "")
        times = [[f"{found[c][i]:.{3 - i}f}" if c in found else "" for c in columns] for i in (0, 1)]
        rows.append([case, *times[0], judged, *times[1], f"{compiled[case]:.0f}"])
    print(table(["step, ms", *columns, "/ scan", *(f"first s, {c}" for c in columns), "compiled in, ms"], rows))
    if {"rnn32", "rnn512"} <= compiled.keys():
        ratio = compiled["rnn512"] / compiled["rnn32"]
        met = "yes" if ratio <= GROWTH else "NO"
        print(f"compile time of 512 steps over that of 32: {ratio:.2f} (<= {GROWTH}: {met})")


if __name__ == "__main__":
    main()
