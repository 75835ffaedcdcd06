"""``tracegrad.compile`` on random models, optimizers and programs: a compiled step is the step, call after call."""

from __future__ import annotations

import numpy as np
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import tracegrad as torch


def same(a, b):
    """Whether two trees of tensors and numbers are equal; another program may round in another way."""
    if isinstance(a, torch.Tensor):
        alike = a.shape == b.shape and a.dtype is b.dtype
        return alike and np.allclose(a.detach().numpy(), b.detach().numpy(), 1e-6, 1e-7)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


OPTIMIZERS = [
    lambda p: torch.optim.SGD(p, lr=0.1),
    lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=0.01),
    lambda p: torch.optim.Adam(p, lr=0.05),
    lambda p: torch.optim.AdamW(p, lr=0.05, amsgrad=True),
]
LAYERS = [
    lambda: torch.nn.Linear(3, 3), torch.nn.Tanh, torch.nn.ReLU, lambda: torch.nn.Dropout(0.4),
    lambda: torch.nn.BatchNorm1d(3), lambda: torch.nn.LayerNorm(3),
]  # fmt: skip
EVENTS = ["step", "step", "step", "rows", "eval", "train", "no grads", "write a parameter", "hold a parameter",
          "hold a gradient", "read the states", "lr", "write the input", "freeze", "view", "twice"]  # fmt: skip


class Training:
    """A model in training, and what happens between its steps."""

    def __init__(self, layers, optimizer, zero, clip, schedule, compiled):
        torch.manual_seed(0)
        self.model = torch.nn.Sequential(torch.nn.Linear(3, 3), *(LAYERS[i]() for i in layers))
        self.optimizer = OPTIMIZERS[optimizer](self.model.parameters())
        self.schedule = torch.optim.lr_scheduler.ExponentialLR(self.optimizer, 0.9) if schedule else None
        self.zero, self.clip = zero, clip
        self.step = torch.compile(self.one) if compiled else self.one
        self.held = []
        self.rows = 2

    def one(self, x):
        if self.zero:
            self.optimizer.zero_grad()
        x.mul_(2)
        out = self.model(x)
        loss = (out * out).mean()
        loss.backward()
        if self.clip:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 0.5)
        self.optimizer.step()
        if self.schedule is not None:
            self.schedule.step()
        return loss, out.detach().t(), x

    def happen(self, event, k):
        """Let something happen, and return what it gave."""
        p = self.model[0].weight
        if event in ("step", "twice"):
            x = torch.linspace(-1, 1, 3 * self.rows).reshape(self.rows, 3) + 0.1 * k
            first = self.step(x)
            return [first, self.step(x)] if event == "twice" else [first, x]
        if event == "rows":
            self.rows = 5 - self.rows
        elif event in ("eval", "train"):
            self.model.train(event == "train")
        elif event == "no grads":
            self.model.zero_grad()
        elif event == "write a parameter":
            with torch.no_grad():
                p.mul_(0.9)
        elif event == "hold a parameter":
            self.held.append(p.detach().clone() if k % 2 else p.data)
        elif event == "hold a gradient" and p.grad is not None:
            self.held.append(p.grad if k % 2 else p.grad.detach())
        elif event == "read the states":
            self.held.append([t for s in self.optimizer.state.values() for t in s.values()])
        elif event == "lr":
            self.optimizer.param_groups[0]["lr"] *= 0.5
        elif event == "write the input":
            self.held = self.held[1:]
        elif event == "freeze":
            self.model[0].bias.requires_grad_(not self.model[0].bias.requires_grad)
        elif event == "view":
            self.held.append(p.detach()[0])
        return None

    def state(self):
        """Return everything that a step may change."""
        parts = [*self.model.parameters(), *self.model.buffers(), *self.held]
        return [*parts, *(p.grad for p in self.model.parameters()), self.optimizer.param_groups[0]["lr"]]


@settings(max_examples=5, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(layers=st.lists(st.integers(0, len(LAYERS) - 1), max_size=3), optimizer=st.integers(0, len(OPTIMIZERS) - 1),
       zero=st.booleans(), clip=st.booleans(), schedule=st.booleans(),
       events=st.lists(st.sampled_from(EVENTS), min_size=4, max_size=18))  # fmt: skip
def test_a_compiled_step_is_the_step(layers, optimizer, zero, clip, schedule, events):
    torch.set_default_dtype(torch.float64)  # in which rounding does not decide the sign of a gradient
    try:
        follow(events, *(Training(layers, optimizer, zero, clip, schedule, c) for c in (False, True)))
    finally:
        torch.set_default_dtype(torch.float32)


def follow(events, plain, compiled):
    """Let the same happen to both."""
    for k, event in enumerate([*events, "step", "step", "step", "step"]):
        results = []
        for training in (plain, compiled):
            torch.manual_seed(k)
            results.append([training.happen(event, k), torch.default_generator.get_state().tolist()])
        assert same(*results), (event, compiled.step.lines())
        assert same(plain.state(), compiled.state()), (event, compiled.step.lines())
