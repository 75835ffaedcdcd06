"""Training steps side by side: tracegrad and PyTorch from one source, and ``jax.jit`` with optax by hand.

Each contender has a process of its own, which waits while the others run; rounds are interleaved (A B C A B
C ...). The losses of the first steps must agree before anything is timed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from importlib import import_module, metadata
from typing import Any

from problems import PROBLEMS, Problem

CHECKED = 6  # steps whose losses are compared
CONTENDERS = ("jax", "tracegrad", "torch", "torch1", "torchc")

#: what -> (at most this multiple of jax, at most this multiple of torch): the figures to reach
FIGURES: dict[str, tuple[float | None, float | None]] = {
    "mlp64": (1.6, 0.6),
    "mlp1024": (1.1, None),
    "bag": (1.1, None),
    "penalty": (1.1, None),
    "gpt": (0.8, 1.0),
    "cnn": (0.8, None),
    "many": (0.7, None),
    "resnet": (1.0, 1.0),
    "evaluation": (1.1, 1.0),
    "augmentation": (1.1, 1.0),
    "schedules": (1.1, 1.0),
    "bilstm": (1.0, 1.0),
    "lstmloop": (1.0, 1.0),
    "simulation": (None, 1.0),
    "accumulation": (1.0, 1.0),
}


# -- a contender's process -----------------------------------------------------------------------------------


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def work(problem: Problem, contender: str) -> None:
    """Build the model, take the first steps, then obey: one JSON command a line, one JSON answer a line."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever else prints goes to stderr
    module = import_module(contender.rstrip("1c") if contender.startswith("torch") else contender)
    if contender == "torch1":
        module.set_num_threads(1)
    steps: Any = import_module("jax_steps" if contender == "jax" else "torch_steps")
    weights, batches = problem.data()
    imported = peak_mb()
    start = time.perf_counter()
    args = (problem, weights, batches) if contender == "jax" else (module, problem, weights, batches)
    make = steps.contender if contender == "jax" else steps.Contender
    trained = make(*args, compiled=True) if contender == "torchc" else make(*args)
    losses = [trained.step(0)]
    first = time.perf_counter() - start
    losses += [trained.step(n) for n in range(1, CHECKED)]
    print(json.dumps({"first": first, "losses": losses, "imported": imported}), file=answers)
    n = CHECKED
    for line in sys.stdin:
        command, count = json.loads(line)
        answer: dict[str, Any] = {}
        if command == "round":
            times = []
            for _ in range(count):
                start = time.perf_counter()
                trained.step(n)
                times.append(time.perf_counter() - start)
                n += 1
            answer = {"median": statistics.median(times), "mean": statistics.fmean(times)}
        elif command == "schedule":  # a fresh model whose learning rate changes at every step
            module.clear_caches()
            trained = make(*args)
            for k, lr in enumerate(schedule(count)):
                trained.set_lr(lr)
                trained.step(k)
                if k == problem.warm - 1:
                    known = module.cache_sizes()["compiled"]
            answer = {"compiled": module.cache_sizes()["compiled"] - known}
        answer["peak"] = peak_mb()
        print(json.dumps(answer), file=answers)


def schedule(count: int) -> list[float]:
    """Return learning rates that all differ and pass through 0 and 1, as a warm-up and a restart do."""
    rates = [1e-4 * (1 + 0.37 * k) for k in range(count)]
    rates[0], rates[5], rates[count // 2] = 0.0, 1.0, 0.0
    return rates


class Process:
    """A contender's process, seen from the one that measures."""

    def __init__(self, problem: Problem, contender: str):
        self.contender = contender
        command = [sys.executable, __file__, "--work", problem.name, contender]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        env={**os.environ, "TRACEGRAD_CACHE": "0"})  # fmt: skip
        self.start = self._answer()
        self.rounds: list[dict[str, float]] = []

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.contender} failed")
        return json.loads(line)

    def ask(self, command: str, count: int) -> dict[str, Any]:
        assert self.process.stdin is not None
        print(json.dumps([command, count]), file=self.process.stdin, flush=True)
        return self._answer()

    def end(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


# -- the measuring process -----------------------------------------------------------------------------------


def compare(problem: Problem, processes: list[Process]) -> float:
    """Return by how much the losses of the first steps differ at most; stop where it is too much."""
    columns = [p.start["losses"] for p in processes]
    worst = 0.0
    for values in zip(*columns):
        worst = max(worst, (max(values) - min(values)) / max(1e-6, *map(abs, values)))
    if not worst <= problem.tolerance:
        shown = "\n".join(f"  {p.contender:10} {p.start['losses']}" for p in processes)
        raise SystemExit(f"{problem.name}: the contenders compute different things ({worst:.1e}):\n{shown}")
    return worst


def measure(problem: Problem, contenders: list[str], rounds: int, scale: float) -> dict[str, Any]:
    processes: list[Process] = []
    try:
        for contender in contenders:
            processes.append(Process(problem, contender))
        result: dict[str, Any] = {"losses differ by": compare(problem, processes)}
        count = max(2, round(problem.steps * scale))
        for process in processes:
            process.ask("round", max(2, count // 4))
        for _ in range(rounds):
            for process in processes:
                process.rounds.append(process.ask("round", count))
        for process in processes:
            row = {
                "ms": 1e3 * statistics.median(r["median"] for r in process.rounds),
                "mean ms": 1e3 * statistics.median(r["mean"] for r in process.rounds),
                "first s": process.start["first"],
                "imported MB": process.start["imported"],
                "peak MB": process.rounds[-1]["peak"],
            }
            if process.contender == "tracegrad":
                row["compiled late"] = process.ask("schedule", max(16, 2 * problem.warm))["compiled"]
            result[process.contender] = row
    finally:
        for process in processes:
            process.end()
    return result


def judged(name: str, result: dict[str, Any]) -> list[str]:
    """Return the ratios and whether the figures are met."""
    ours = result["tracegrad"]["ms"]
    cells, met = [], True
    for other, limit in zip(("jax", "torch"), FIGURES[name]):
        times = [row["ms"] for c, row in result.items() if c.startswith(other)]  # PyTorch: its better thread count
        if not times:
            cells.append("")
            continue
        ratio = ours / min(times)
        cells.append(f"{ratio:.2f}" + (f" (<= {limit})" if limit else ""))
        met = met and (limit is None or ratio <= limit)
    return [*cells, "yes" if met else "NO"]


def table(head: list[str], rows: list[list[str]]) -> str:
    widths = [max(len(r[i]) for r in [head, *rows]) for i in range(len(head))]
    lines = [[c.ljust(w) for c, w in zip(r, widths)] for r in [head, ["-" * w for w in widths], *rows]]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def show(results: dict[str, dict[str, Any]], contenders: list[str]) -> None:
    def cells(name: str, key: str, form: str) -> list[str]:
        return [format(results[name][c][key], form) for c in contenders]

    compared = "tracegrad" in contenders
    head = ["step, ms", *contenders, *(["/ jax", "/ torch", "met"] if compared else [])]
    rows = [[PROBLEMS[n].title, *cells(n, "ms", ".3f"), *(judged(n, r) if compared else [])]
            for n, r in results.items()]  # fmt: skip
    print(table(head, rows), end="\n\n")
    rows = [[PROBLEMS[n].title, *cells(n, "first s", ".2f"), *cells(n, "peak MB", ".0f"),
             *([str(r["tracegrad"]["compiled late"])] if compared else []), f"{r['losses differ by']:.0e}"]
            for n, r in results.items()]  # fmt: skip
    head = ["", *(f"first s, {c}" for c in contenders), *(f"peak MB, {c}" for c in contenders),
            *(["compiled after step 3"] if compared else []), "losses differ by"]  # fmt: skip
    print(table(head, rows))
    imported = {c: max(r[c]["imported MB"] for r in results.values()) for c in contenders}
    print("peak MB after the imports alone:", ", ".join(f"{c} {mb:.0f}" for c, mb in imported.items()))


def versions() -> str:
    names = ("jax", "torch", "optax", "numpy")
    return ", ".join([f"Python {platform.python_version()}", *(f"{n} {metadata.version(n)}" for n in names),
                      f"{os.cpu_count()} cores"])  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=PROBLEMS, default=list(PROBLEMS))
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies the steps of a round")
    parser.add_argument("--json", help="write the results to this file as well")
    parser.add_argument("--work", nargs=2, metavar=("PROBLEM", "CONTENDER"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        name, contender = args.work
        work(PROBLEMS[name], contender)
        return
    print(versions())
    results = {}
    for name in args.only:
        results[name] = measure(PROBLEMS[name], args.contenders, args.rounds, args.scale)
        times = ", ".join(f"{c} {results[name][c]['ms']:.3f}" for c in args.contenders)
        print(f"{name}: {times} ms; load {os.getloadavg()[0]:.1f}", file=sys.stderr)
    show(results, args.contenders)
    if args.json:
        with open(args.json, "w") as file:
            json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
