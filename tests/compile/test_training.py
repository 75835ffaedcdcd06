"""Compiled training steps: parameters, states, options, schedules and random numbers are read at the call."""

from __future__ import annotations

import copy
import signal

import numpy as np
import pytest
from _compiled import batches, check, replayed, same, trained

import tracegrad as torch
from tracegrad.nn import functional as F


@pytest.mark.parametrize("optimizer", [
    lambda p: torch.optim.SGD(p, lr=0.1),
    lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, dampening=0.1, nesterov=False, weight_decay=0.01),
    lambda p: torch.optim.Adam(p, lr=0.05, amsgrad=True),
    lambda p: torch.optim.AdamW(p, lr=0.05),
])  # fmt: skip
def test_a_training_step(optimizer):
    assert replayed(check(trained(optimizer), batches(8, 5, 4)), 4)


def test_a_training_step_with_everything():
    make = trained(lambda p: torch.optim.Adam(p, lr=0.1), lambda o: torch.optim.lr_scheduler.StepLR(o, 2, 0.5),
                   clip=0.5, norm=True)  # fmt: skip
    assert replayed(check(make, batches(10, 5, 4)), 6)


def test_gradients_that_are_filled_with_zeros():
    make = trained(lambda p: torch.optim.SGD(p, lr=0.1), set_to_none=False)
    assert replayed(check(make, batches(8, 5, 4)), 3)


def test_random_numbers_go_on():
    results = []
    for wrap in (lambda f: f, torch.compile):
        f = wrap(lambda x: F.dropout(x, 0.5) + torch.rand(3))
        torch.manual_seed(3)
        results.append([f(torch.ones(3)).tolist() for _ in range(6)] + [torch.rand(2).tolist()])
    assert results[0] == results[1] and replayed(f, 3)


@pytest.mark.parametrize("drawing", [
    lambda x: x.clone().normal_(), lambda x: x.clone().bernoulli_(torch.full((3,), 0.5)), lambda x: torch.randperm(5),
    lambda x: x.clone().exponential_(), lambda x: torch.multinomial(x + 1, 2), lambda x: torch.randint(0, 9, (4,)),
    lambda x: F.alpha_dropout(x, 0.5), lambda x: F.rrelu(x, training=True), lambda x: torch.normal(x, 1.0),
])  # fmt: skip
def test_every_kind_of_draw(drawing):
    results = []
    for wrap in (lambda f: f, torch.compile):
        f = wrap(drawing)
        torch.manual_seed(3)
        results.append([f(torch.ones(3)).tolist() for _ in range(5)] + [torch.rand(2).tolist()])
    assert results[0] == results[1] and replayed(f, 2)


def test_seeds_set_inside():
    def f(x):
        torch.manual_seed(5)
        return x + torch.rand(2)

    g = torch.compile(f)
    first = f(torch.zeros(2)).tolist()
    assert all(g(torch.zeros(2)).tolist() == first for _ in range(5)) and replayed(g, 2)
    assert torch.rand(2).tolist() == [f(torch.zeros(2)), torch.rand(2)][1].tolist()


def test_options_of_an_optimizer_that_change_outside():
    w = [torch.ones(2, requires_grad=True) for _ in range(2)]
    o = [torch.optim.SGD([p], lr=0.5) for p in w]

    def step(k):
        def f(x):
            o[k].zero_grad()
            (w[k] * x).sum().backward()
            o[k].step()
        return f

    plain, compiled = step(0), torch.compile(step(1))
    for n in range(10):
        for k in range(2):
            o[k].param_groups[0]["lr"] = 0.5 / (n + 1)
            o[k].param_groups[0]["weight_decay"] = 0.1 if n >= 6 else 0.0
        plain(torch.ones(2))
        compiled(torch.ones(2))
        assert same(w[0], w[1]) and o[1].param_groups[0]["lr"] == 0.5 / (n + 1)
    assert replayed(compiled, 5)


def test_states_that_are_looked_at_between():
    make = trained(lambda p: torch.optim.Adam(p, lr=0.1))
    plain, state = make()
    step, compiled_state = make()
    o = step.__closure__[[c for c in step.__code__.co_freevars].index("o")].cell_contents
    compiled = torch.compile(step)
    for k, (x,) in enumerate(batches(12, 5, 4)):
        plain(x)
        compiled(x)
        if k == 5:
            saved = copy.deepcopy(o.state_dict())
            assert float(saved["state"][0]["step"]) == 6
            o.load_state_dict(saved)
    assert same(state(), compiled_state()) and replayed(compiled, 4)


def stepping(o, params):
    def step(x):
        o.zero_grad()
        sum((w * x).sum() for w in params).backward()
        o.step()

    return step


def test_states_that_are_saved_now_and_then():
    w = torch.ones(2, requires_grad=True)
    o = torch.optim.Adam([w], lr=0.1)
    compiled = torch.compile(stepping(o, [w]))
    for k in range(72):
        compiled(torch.ones(2))
        if k % 6 == 5:
            assert float(o.state_dict()["state"][0]["step"]) == k + 1
    assert replayed(compiled, 24)


def test_parameters_that_are_written_between():
    make = trained(lambda p: torch.optim.Adam(p, lr=0.1))
    (plain, state), (step, compiled_state) = make(), make()
    compiled = torch.compile(step)
    for (x,) in batches(8, 5, 4):
        for s in (state, compiled_state):
            with torch.no_grad():
                s()[0].mul_(0.9)
        plain(x)
        compiled(x)
        assert same(state(), compiled_state())
    assert replayed(compiled, 3)


def test_what_users_hold_of_old_parameters_stays():
    make = trained(lambda p: torch.optim.SGD(p, lr=0.1))
    step, state = make()
    compiled = torch.compile(step)
    kept = []
    for (x,) in batches(8, 5, 4):
        kept.append((state()[0].detach().clone(), state()[0].detach().numpy().copy(), state()[0].detach().numpy()))
        compiled(x)
    assert all(np.array_equal(a.numpy(), b) and np.array_equal(b, c) for a, b, c in kept) and replayed(compiled, 3)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs interval timers")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # interrupts inside of JAX's finalizers
@pytest.mark.parametrize("lean", [True, False])
def test_an_interrupt_loses_no_parameter(lean):
    w = [torch.zeros(3, requires_grad=True) for _ in range(4)]
    o = torch.optim.SGD(w, lr=1.0, momentum=0.5)
    compiled = torch.compile(stepping(o, w))
    for _ in range(5):
        compiled(torch.ones(3))
    plans = [p for of in compiled._known.values() for calls in of.values() for p in calls.plans]
    assert all(p.lean is not None for p in plans)
    if not lean:
        for p in plans:
            p.lean = None

    def interrupt(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    interrupted = 0
    try:
        for k in range(120):
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.00001 + 0.000002 * k)
                for _ in range(10):
                    compiled(torch.ones(3))
            except KeyboardInterrupt:
                interrupted += 1
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
            assert all(np.isfinite(p.tolist()).all() and len(set(p.tolist())) == 1 for p in w)
            assert all(p.grad is None or p.grad.tolist() == [1.0] * 3 for p in w)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert interrupted > 20
    old = [p.tolist()[0] for p in w]
    compiled(torch.ones(3))
    assert all(p.tolist()[0] < before for p, before in zip(w, old))
