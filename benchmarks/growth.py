"""What grows over 10,000 steps of a training loop: memory, live arrays, trie nodes, programs. None may.

The loop slices its batches out of one tensor at changing places, changes its learning rate at every step,
reads every loss, and evaluates without gradients now and then.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys

import jax
import numpy as np
from steps import table

import tracegrad as torch
from tracegrad import nn

ALLOWED_MB = 2.0  # the allocator's own coming and going


def resident_mb() -> float:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def sample() -> dict[str, float]:
    gc.collect()
    sizes = torch.cache_sizes()
    return {
        "RSS, MB": resident_mb(),
        "live arrays": len(jax.live_arrays()),
        "trie nodes": sizes["nodes"],
        "programs": sizes["programs"],
        "compiled": sizes["compiled"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--samples", type=int, default=5)
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    X = torch.tensor(rng.standard_normal((2048, 32), np.float32))
    Y = torch.tensor(rng.integers(0, 10, 2048))
    model = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

    def train(step: int, running: float) -> float:
        optimizer.param_groups[0]["lr"] = 1e-3 * (step % 100) / 100
        start = (step * 64) % 2048
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(X[start : start + 64]), Y[start : start + 64])
        loss.backward()
        optimizer.step()
        running = 0.99 * running + 0.01 * loss.item()
        if step % 50 == 0:
            with torch.no_grad():
                right = (model(X).argmax(1) == Y).sum()
            assert 0 <= right.item() <= 2048
        return running

    every = args.steps // args.samples
    warm = min(500, every)
    running, rows = 0.0, []
    for step in range(args.steps + 1):
        if step == warm:
            first = sample()
            rows.append([f"{step:,}", *(f"{v:,.1f}" for v in first.values())])
        elif step > warm and step % every == 0:
            last = sample()
            rows.append([f"{step:,}", *(f"{v:,.1f}" for v in last.values())])
        running = train(step, running)
    print(table(["after step", *first], rows))
    grown = {k: last[k] - first[k] for k in first}
    grown["RSS, MB"] = max(0.0, grown["RSS, MB"] - ALLOWED_MB)
    grew = [f"{name} by {by:,.1f}" for name, by in grown.items() if by > 0]
    if grew:
        sys.exit(f"grew: {', '.join(grew)}")
    print("nothing grew")


if __name__ == "__main__":
    main()
