"""Cold starts: from the beginning of the imports to the loss of the first step, each in a new process.

Contenders take turns: ``jax.jit`` by hand and tracegrad, without a cache on disk and with a warm one.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time

from problems import PROBLEMS
from steps import table, versions

#: Contender -> (library, whether its compiled programs are on disk).
CONTENDERS = {"jax": ("jax", False), "tracegrad": ("tracegrad", False),
              "jax, warm cache": ("jax", True), "tracegrad, warm cache": ("tracegrad", True)}  # fmt: skip
FIGURES = {"tracegrad": 1.2, "tracegrad, warm cache": 0.5}


def work(name: str, library: str) -> None:
    """Take the first step in this process, and print how long it took."""
    problem = PROBLEMS[name]
    weights, batches = problem.data()
    start = time.perf_counter()
    if library == "jax":
        import jax_steps

        trained = jax_steps.contender(problem, weights, batches)
    else:
        import torch_steps

        import tracegrad

        trained = torch_steps.Contender(tracegrad, problem, weights, batches)
    trained.step(0)
    print(time.perf_counter() - start)


def once(name: str, library: str, folder: str | None) -> float:
    """Return the seconds of a new process."""
    cache = {"TRACEGRAD_CACHE": folder or "0"} if library == "tracegrad" else {}
    if library == "jax" and folder:
        cache = {"JAX_COMPILATION_CACHE_DIR": folder, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.05"}
    found = subprocess.run([sys.executable, __file__, "--work", name, library], stdout=subprocess.PIPE, text=True,
                           check=True, env={**os.environ, **cache})  # fmt: skip
    return float(found.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=PROBLEMS, default=["gpt", "cnn"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--work", nargs=2, metavar=("PROBLEM", "LIBRARY"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        work(*args.work)
        return
    print(versions())
    rows = []
    for name in args.only:
        times: dict[str, list[float]] = {c: [] for c in CONTENDERS}
        with tempfile.TemporaryDirectory() as folder:
            for library in ("jax", "tracegrad"):  # fills the cache, and Python's own
                once(name, library, os.path.join(folder, library))
            for _ in range(args.rounds):
                for contender, (library, cached) in CONTENDERS.items():
                    times[contender].append(once(name, library, os.path.join(folder, library) if cached else None))
        medians = {c: statistics.median(t) for c, t in times.items()}
        ratios = {c: medians[c] / medians["jax"] for c in FIGURES}
        met = all(ratios[c] <= limit for c, limit in FIGURES.items())
        compared = [f"{ratios[c]:.2f} (<= {limit})" for c, limit in FIGURES.items()]
        rows.append([PROBLEMS[name].title, *(f"{t:.2f}" for t in medians.values()), *compared, "yes" if met else "NO"])
    print(table(["import to first loss, s", *CONTENDERS, "/ jax", "warm / jax", "met"], rows))


if __name__ == "__main__":
    main()
