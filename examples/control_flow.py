"""A model whose path depends on values: how often its layer is applied is decided by what the layer produces.

Run it with ``python examples/control_flow.py``. Each input goes through ``while`` and ``if`` on its own
numbers; every path is differentiated as it was taken, and one taken before runs the programs compiled then.
"""

from __future__ import annotations

import math

import tracegrad as torch
from tracegrad import nn


class Spiral(nn.Module):
    """Grow a state by one shared layer until it is large enough, then read it out on one of two ways."""

    def __init__(self, width: int = 16, reach: float = 3.0, most: int = 8) -> None:
        super().__init__()
        self.enter = nn.Linear(1, width)
        self.turn = nn.Linear(width, width)
        self.calm = nn.Linear(width, 1)
        self.wild = nn.Linear(width, 1)
        self.reach = reach
        self.most = most

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, int]:
        """Return the prediction for one input, and how many turns it took."""
        state = torch.tanh(self.enter(x))
        turns = 0
        while turns < self.most and state.norm() < self.reach:
            state = state + torch.tanh(self.turn(state))
            turns += 1
        if turns > self.most // 2:
            return self.wild(state), turns
        return self.calm(state), turns


def main() -> None:
    torch.manual_seed(0)
    model = Spiral()
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    inputs = [torch.tensor([-1 + 2 * i / 31]) for i in range(32)]
    targets = [torch.tensor([math.sin(3 * (-1 + 2 * i / 31))]) for i in range(32)]
    paths: set[int] = set()
    first = last = 0.0
    for epoch in range(1, 31):
        total = 0.0
        counts: dict[int, int] = {}
        for i in torch.randperm(len(inputs)).tolist():
            optimizer.zero_grad()
            prediction, turns = model(inputs[i])
            loss = ((prediction - targets[i]) ** 2).sum()
            loss.backward()
            optimizer.step()
            total += loss.item()
            counts[turns] = counts.get(turns, 0) + 1
        paths.update(counts)
        last = total / len(inputs)
        for group in optimizer.param_groups:
            group["lr"] *= 0.93
        first = first or last
        if epoch == 1 or epoch % 5 == 0:
            taken = ", ".join(f"{turns}: {n}" for turns, n in sorted(counts.items()))
            print(f"epoch {epoch:2}  mean squared error {last:.4f}  inputs by number of turns {{{taken}}}")
    programs, runs = (torch.cache_sizes()[key] for key in ("compiled", "runs"))
    print(f"{len(paths)} different paths, {programs} programs compiled, {runs} runs of them")
    assert len(paths) > 1, "the path should have depended on the values"
    assert last < first / 3, f"the error should have fallen: {first:.4f} -> {last:.4f}"


if __name__ == "__main__":
    main()
