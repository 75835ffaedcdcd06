"""Functions as they are and compiled, call after call: helpers of the tests of ``tracegrad.compile``."""

from __future__ import annotations

import copy

import numpy as np
import pytest

import tracegrad as torch
from tracegrad.nn import functional as F


def same(a, b):
    """Whether two trees of tensors and numbers are equal to the last bit."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype is b.dtype and np.array_equal(a.detach().numpy(),
                                                                                     b.detach().numpy())  # fmt: skip
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def check(make, calls, fullgraph=True):
    """Run what ``make() -> (function, state)`` makes as it is and compiled; ``state()`` is compared after each call."""
    plain, state = make()
    function, compiled_state = make()
    compiled = torch.compile(function, fullgraph=fullgraph)
    for args in calls:
        expected, found = plain(*copy.deepcopy(args)), compiled(*args)
        assert same(expected, found), compiled.lines()
        assert same(state(), compiled_state()), compiled.lines()
    return compiled


def replayed(compiled, calls):
    return compiled.replays >= calls or pytest.fail("\n".join(compiled.lines()))


def batches(n, *shape):
    return [(torch.tensor(np.random.default_rng(i).standard_normal(shape, np.float32)),) for i in range(n)]


def trained(optimizer, schedule=None, dropout=0.0, clip=None, norm=False, set_to_none=True):
    def make():
        torch.manual_seed(0)
        layers = [torch.nn.Linear(4, 6), *([torch.nn.BatchNorm1d(6)] if norm else []), torch.nn.ReLU(),
                  torch.nn.Dropout(dropout), torch.nn.Linear(6, 3)]  # fmt: skip
        model = torch.nn.Sequential(*layers)
        o = optimizer(model.parameters())
        s = schedule(o) if schedule else None

        def step(x):
            o.zero_grad(set_to_none=set_to_none)
            out = model(x)
            loss = F.cross_entropy(out, torch.tensor([0, 1, 2, 0, 1]))
            loss.backward()
            if clip is not None:
                torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
            o.step()
            if s is not None:
                s.step()
            return loss, out.argmax(1)

        def state():
            grads = [p.grad if p.grad is None else p.grad.clone() for p in model.parameters()]
            return [*model.parameters(), *model.buffers(), *grads, o.param_groups[0]["lr"]]

        return step, state

    return make
