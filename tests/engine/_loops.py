"""Programs with loops that are rolled, and how they are compared with themselves unrolled."""

from __future__ import annotations

import numpy as np

import tracegrad as torch
from tracegrad._config import config
from tracegrad._engine import report

F = torch.nn.functional
T, B, D, H = 6, 2, 3, 3


def parameters():
    rng = np.random.default_rng(0)
    made = {"W": (D, H), "U": (H, H), "b": (H,), "V": (H, H)}
    made = {k: torch.tensor(0.5 * rng.standard_normal(s), requires_grad=True) for k, s in made.items()}
    made["x"] = torch.tensor(rng.standard_normal((B, T, D)), requires_grad=True)
    made["h0"] = torch.tensor(rng.standard_normal((B, H)), requires_grad=True)
    return made


def numbers(found):
    if isinstance(found, (list, tuple)):
        return [n for one in found for n in numbers(one)]
    return [None if found is None else np.array(found.detach().numpy() if isinstance(found, torch.Tensor) else found)]


def run(program):
    """Return what ``program`` computes, and its gradients."""
    torch.manual_seed(0)
    p = parameters()
    found = program(p)
    return numbers(found) + numbers([t.grad for t in p.values()])


def check(program, rolled=True):
    """Compare ``program``, rolled, with itself op by op, cold and warm; return its loops."""
    with torch.eager():
        expected = run(program)
    config.roll = "always"
    for _ in range(2):
        got = run(program)
        assert len(got) == len(expected)
        for a, b in zip(got, expected):
            assert (a is None) == (b is None)
            if a is not None:
                assert a.dtype == b.dtype
                np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-13)
    loops = [loop for record in report.totals.records for loop in record.loops]
    assert bool(loops) == rolled, loops
    return loops


def rnn(p, x=None, h=None):
    x, h, hs = p["x"] if x is None else x, p["h0"] if h is None else h, []
    for t in range(x.shape[1]):
        h = torch.tanh(x[:, t] @ p["W"] + h @ p["U"] + p["b"])
        hs.append(h)
    return hs


CASES = {}
#: those whose backward goes through a part of each trip, which nothing rolls
DIVIDED = {"one_value_carried_as_two", "gradients_of_states_that_end_there", "retained_gradients", "hooked",
           "hooked_before_the_loop_in_effect", "custom_function_within"}  # fmt: skip


def case(fn):
    CASES[fn.__name__] = fn
    return fn


@case
def different_sizes(p):
    h, w = p["h0"][:, :2], p["U"][:, :2]
    for t in range(T):
        h = torch.tanh(p["x"][:, t] @ w + h @ p["V"][:2, :2])
    h.sum().backward()
    return h


@case
def last_state(p):
    h = rnn(p)[-1]
    h.sum().backward()
    return h


@case
def stacked_states(p):
    out = torch.stack(rnn(p), 1)
    (out * out).sum().backward()
    return out


@case
def joined_states(p):
    out = torch.cat(rnn(p), 1)
    (out * out).sum().backward()
    return out


@case
def some_states(p):
    hs = rnn(p)
    (hs[2] * hs[4]).sum().backward()
    return hs[2], hs[4]


@case
def an_early_state(p):
    hs = rnn(p)
    hs[2].sum().backward()
    return hs[-1]


@case
def every_state_read(p):
    hs = rnn(p)
    torch.stack(hs).sum().backward()
    return hs


@case
def running_loss(p):
    loss, h = 0.0, p["h0"]
    for t in range(T):
        h = torch.tanh(p["x"][:, t] @ p["W"] + h @ p["U"])
        loss = loss + (h**2).mean()
    loss.backward()
    return loss


@case
def losses(p):
    found, h = [], p["h0"]
    for t in range(T):
        h = torch.tanh(p["x"][:, t] @ p["W"] + h @ p["U"])
        found.append((h**2).mean())
    sum(found).backward()
    return found


@case
def unbound(p):
    h = p["h0"]
    for x in p["x"].unbind(1):
        h = torch.tanh(x @ p["W"] + h @ p["U"])
    h.sum().backward()
    return h


@case
def iterated(p):
    h = p["h0"]
    for x in p["x"].transpose(0, 1):
        h = torch.tanh(x @ p["W"] + h @ p["U"])
    h.sum().backward()
    return h


@case
def slices(p):
    h = p["h0"]
    for i in range(0, T, 2):
        h = torch.tanh(p["x"][:, i : i + 2].sum(1) @ p["W"] + h @ p["U"])
    h.sum().backward()
    return h


@case
def overlapping_slices(p):
    h = p["h0"]
    for i in range(T - 2):
        h = h * 0.5 + p["x"][:, i : i + 3].mean(1)
    h.sum().backward()
    return h


@case
def list_of_leaves(p):
    xs = [torch.tensor(np.full((B, D), i / 3.0), requires_grad=i % 2 == 0) for i in range(T)]
    h = p["h0"]
    for x in xs:
        h = torch.tanh(x @ p["W"] + h @ p["U"])
    h.sum().backward()
    return [x.grad for x in xs]


@case
def two_carried(p):
    h = c = p["h0"]
    for t in range(T):
        f = torch.sigmoid(p["x"][:, t] @ p["W"] + h @ p["U"])
        c = f * c + (1 - f) * torch.tanh(h @ p["V"])
        h = torch.tanh(c) * f
    (h + c).sum().backward()
    return h, c


@case
def zero_start(p):
    return rnn(p, h=torch.zeros(B, H))[-1].sum().backward()


@case
def lag_two(p):
    before, h = p["h0"], p["h0"] * 2
    for t in range(T):
        before, h = h, torch.tanh(h @ p["U"] + before @ p["V"] + p["x"][:, t])
    h.sum().backward()
    return h, before


@case
def fibonacci(p):
    hs = [p["h0"], p["x"][:, 0], p["x"][:, 1]]
    for _ in range(T):
        hs.append(torch.tanh(hs[-1] @ p["U"] + hs[-3]))
    torch.stack(hs).sum().backward()
    return hs[-2]


@case
def one_value_carried_as_two(p):
    a, b = p["h0"], p["x"][:, 0]
    for _ in range(T):
        a = b = torch.tanh(a @ p["U"]) * b
    a.sum().backward()
    return a, b


@case
def odd_first(p):
    h = None
    for t in range(T):
        z = p["x"][:, t] @ p["W"]
        h = torch.tanh(z if h is None else z + h @ p["U"])
    h.sum().backward()
    return h


@case
def odd_last(p):
    h = p["h0"]
    for t in range(T):
        h = torch.tanh(p["x"][:, t] @ p["W"] + h @ p["U"])
        if t == T - 1:
            h = h * h
    h.sum().backward()
    return h


@case
def state_after_loss(p):
    loss, h = 0.0, p["h0"]
    for t in range(T):
        loss = loss + (h * p["x"][:, t]).sum()
        h = torch.tanh(h @ p["U"])
    loss.backward()
    return loss, h


@case
def one_after_another(p):
    h = rnn(p)[-1]
    for _ in range(T):
        h = torch.sin(h @ p["V"] + p["b"])
    h.sum().backward()
    return h


@case
def stacked_layers(p):
    out = torch.stack(rnn(p), 1)
    out = torch.stack(rnn({**p, "W": p["U"], "U": p["V"]}, out), 1)
    out.sum().backward()
    return out


@case
def layers_within(p):
    h = g = p["h0"]
    for t in range(T):
        h = torch.tanh(p["x"][:, t] @ p["W"] + h @ p["U"])
        g = torch.tanh(h @ p["W"] + g @ p["V"])
    g.sum().backward()
    return g


@case
def layers_over_lists(p):
    h, first = p["h0"], rnn(p)
    for z in first:
        h = torch.tanh(z @ p["V"] + h)
    h.sum().backward()
    return h


@case
def backwards_over_lists(p):
    h, first = p["h0"], rnn(p)
    for z in reversed(first):
        h = torch.tanh(z @ p["V"] + h)
    h.sum().backward()
    return h


@case
def every_second_state(p):
    h, first = p["h0"], rnn(p)
    for z in first[1::2]:
        h = torch.tanh(z @ p["V"] + h)
    h.sum().backward()
    return h


@case
def bidirectional(p):
    x = p["x"]
    there, back = rnn(p), rnn({**p, "U": p["V"]}, x.flip(1))
    out = torch.cat([torch.stack(there, 1), torch.stack(back[::-1], 1)], 2)
    (out**2).sum().backward()
    return out


@case
def bidirectional_in_one_loop(p):
    f = g = p["h0"]
    for t in range(T):
        f = torch.tanh(p["x"][:, t] @ p["W"] + f @ p["U"])
        g = torch.tanh(p["x"][:, T - 1 - t] @ p["W"] + g @ p["V"])
    (f * g).sum().backward()
    return f, g


@case
def loop_in_loop(p):
    h = p["h0"]
    for t in range(T):
        h = h + p["x"][:, t] @ p["W"]
        for _ in range(4):
            h = torch.sin(h @ p["U"] + p["b"])
    h.sum().backward()
    return h


@case
def nested_lists(p):
    h, all_hs = p["h0"], []
    for t in range(T):
        hs = []
        for i in range(4):
            h = torch.sin(h @ p["U"] + p["x"][:, i])
            hs.append(h)
        all_hs.append(torch.stack(hs))
        h = h * p["x"][:, t]
    (torch.stack(all_hs) ** 2).sum().backward()
    return all_hs[1]
