"""Loops over time for scopes: functions of one example, or of a batch of them, and what to compare them with."""

from __future__ import annotations

import numpy as np
import pytest

import tracegrad as torch
from tracegrad._config import config
from tracegrad._engine import report

F = torch.nn.functional
T, B, D, H = 6, 2, 3, 3


@pytest.fixture(autouse=True)
def roll():
    before = config.roll
    torch.set_default_dtype(torch.float64)
    yield
    config.roll = before
    torch.set_default_dtype(torch.float32)


@pytest.fixture(autouse=True, scope="module")
def caches():
    """What runs op by op has the same programs in many tests."""
    torch.clear_caches()
    yield
    torch.clear_caches()


def parameters(wants=True):
    """Return weights, an input whose first dimension is time and whose second the batch, and first states."""
    rng = np.random.default_rng(0)
    made = {k: 0.5 * rng.standard_normal(s) for k, s in {"W": (D, H), "U": (H, H), "b": (H,), "V": (H, H)}.items()}
    made |= {"x": rng.standard_normal((T, B, D)), "h": rng.standard_normal((B, H))}
    return {k: torch.tensor(v, requires_grad=wants) for k, v in made.items()}


def weights(p):
    return {k: p[k] for k in ("W", "U", "b", "V")}


def lanes(f, p):
    """Return what ``f`` gives for each example of the batch, one after the other, stacked."""
    found = [f(p["x"][:, i], p["h"][i]) for i in range(B)]
    if isinstance(found[0], dict):
        return {k: torch.stack([one[k] for one in found]) for k in found[0]}
    return tuple(map(torch.stack, zip(*found))) if isinstance(found[0], tuple) else torch.stack(found)


def numbers(found):
    if isinstance(found, dict):
        found = list(found.values())
    if isinstance(found, (list, tuple)):
        return [n for one in found for n in numbers(one)]
    return [None if found is None else np.array(found.detach().numpy() if isinstance(found, torch.Tensor) else found)]


def loss_of(found):
    return sum((one * one).sum() for one in (found if isinstance(found, tuple) else (found,)) if one.requires_grad)


def run(program, *args):
    """Return what ``program`` computes of fresh parameters, and the gradients that its results give."""
    torch.manual_seed(0)
    p = parameters()
    found = program(p, *args)
    loss = loss_of(found)
    if isinstance(loss, torch.Tensor):
        loss.backward()
    return numbers(found) + numbers([t.grad for t in p.values()])


def same(got, expected, what=""):
    assert len(got) == len(expected)
    for i, (a, b) in enumerate(zip(got, expected)):
        assert (a is None) == (b is None), (what, i)
        if a is not None:
            assert a.dtype == b.dtype
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12, err_msg=f"{what}, {i}")


def check(program, expected, rolled=True, roll="always"):
    """Compare a program, rolled, with what is expected, cold and warm; return its loops."""
    config.roll = roll
    known = len(report.totals.records)
    for which in ("cold", "warm"):
        same(run(program), expected, which)
    loops = [loop for record in report.totals.records[known:] for loop in record.loops if "(in " in loop]
    assert bool(loops) == rolled, loops
    return loops


BODIES = {}


def body(fn):
    BODIES[fn.__name__] = fn
    return fn


@body
def last_state(p, x, h):
    for t in range(T):
        h = torch.tanh(x[t] @ p["W"] + h @ p["U"] + p["b"])
    return h


@body
def stacked_states(p, x, h):
    hs = []
    for t in range(T):
        h = torch.tanh(x[t] @ p["W"] + h @ p["U"])
        hs.append(h)
    return torch.stack(hs, -2)


@body
def running_loss(p, x, h):
    total = 0.0
    for z in x.unbind(0):
        h = torch.tanh(z @ p["W"] + h @ p["U"])
        total = total + (h * p["b"]).mean()
    return total, h


@body
def an_early_state(p, x, h):
    hs = []
    for t in range(T):
        h = torch.tanh(x[t] @ p["W"] + h @ p["U"])
        hs.append(h)
    return hs[2], hs[-1].detach()


@body
def lag_two(p, x, h):
    before, h = h, h * 2
    for t in range(T):
        before, h = h, torch.tanh(h @ p["U"] + before @ p["V"] + x[t])
    return h, before


@body
def odd_first(p, x, h):
    state = None
    for t in range(T):
        z = x[t] @ p["W"]
        state = torch.tanh(z if state is None else z + state @ p["U"])
    return state


@body
def stacked_layers(p, x, h):
    first, g = [], h
    for t in range(T):
        h = torch.tanh(x[t] @ p["W"] + h @ p["U"])
        first.append(h)
    for z in reversed(first):
        g = torch.sin(z @ p["V"] + g)
    return g


@body
def loop_in_loop(p, x, h):
    for t in range(T):
        h = h + x[t] @ p["W"]
        for _ in range(4):
            h = torch.sin(h @ p["U"] + p["b"])
    return h


@body
def own_backwards(p, x, h):
    for t in range(T):
        h = torch.softmax(F.relu(x[t] @ p["W"]) + F.gelu(h @ p["U"]).abs(), -1) * torch.sigmoid(p["b"])
        h = torch.where(h > 0.2, h, h.sqrt()).clamp(0.1, 0.6)
    return h


@body
def no_grad_within(p, x, h):
    mean = torch.zeros(H)
    for t in range(T):
        h = torch.tanh(x[t] @ p["W"] + h @ p["U"])
        with torch.no_grad():
            mean = mean * 0.9 + h * 0.1
    return h * mean


@body
def without_gradients(p, x, h):
    with torch.no_grad():
        for t in range(T):
            h = torch.tanh(x[t] @ p["W"] + h @ p["U"])
    return h * p["b"]


@body
def detached_within(p, x, h):
    for t in range(T):
        h = torch.tanh(x[t] @ p["W"] + h.detach() @ p["U"] + h * 0.5)
    return h


@body
def truncated(p, x, h):
    total = 0.0
    for t in range(T):
        h = h.detach() if t == T // 2 else h
        h = torch.tanh(x[t] @ p["W"] + h @ p["U"])
        total = total + h.sum()
    return total


@body
def written_in_parts(p, x, h):
    out = torch.zeros(T, *h.shape) * h
    for t in range(T):
        h = torch.tanh(x[t] @ p["W"] + h @ p["U"])
        out[t] = h
    return out.sum(0) * out[1]


@body
def accumulated_in_place(p, x, h):
    total = torch.zeros_like(h)
    for t in range(T):
        h = torch.tanh(x[t] @ p["W"] + h @ p["U"])
        total += h
        total.mul_(0.9)
    return total


@body
def changing_numbers(p, x, h):
    for t in range(T):
        h = torch.tanh(h * (t + 0.5) + (t / 4) * x[t]) * t
    return h


@body
def integers_carried(p, x, h):
    count = torch.zeros(H, dtype=torch.int64)
    for t in range(T):
        h = torch.tanh(x[t] @ p["W"] + h @ p["U"])
        count = count + (h > 0)
    return h * count, count


@body
def an_embedding_within(p, x, h):
    tokens = (x[:, ..., 0] > 0).long() + 1
    for t in range(T):
        h = torch.tanh(F.embedding(tokens[t], p["V"]) + h @ p["U"])
    return h


@body
def all_states_in_every_trip(p, x, h):
    hs = []
    for t in range(T):
        h = torch.tanh(x[t] @ p["W"] + h @ p["U"])
        hs.append(h)
    for _ in range(T):
        h = torch.tanh(h @ p["V"] + torch.stack(hs).mean(0))
    return h


@body
def simulation(p, x, h):
    speed = torch.zeros_like(h)
    for _ in range(T):
        speed = speed - 0.1 * h
        h = h + 0.1 * speed
    return h, speed
