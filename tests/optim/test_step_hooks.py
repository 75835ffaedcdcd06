"""Hooks on the steps of optimizers: those of one, those of all, and of steps that a user wrote."""

from __future__ import annotations

from importlib import import_module

import pytest
from _both import WAYS, check

import tracegrad

PROGRAMS = []


def program(function):
    PROGRAMS.append(function)
    return function


def parameter(torch):
    p = torch.tensor([1.0, 2.0], requires_grad=True)
    p.grad = torch.tensor([0.5, 1.0])
    return p


def logging(note, name):
    return lambda optimizer, args, kwargs: note(name, len(args), args[0] is optimizer, sorted(kwargs),
                                                optimizer.param_groups[0]["params"][0].detach() * 1)  # fmt: skip


def descent(torch, note):
    class Descent(torch.optim.Optimizer):
        def __init__(self, params, lr):
            super().__init__(params, {"lr": lr})

        def step(self, closure=None, extra=0):
            note("step", closure is None, extra)
            with torch.no_grad():
                for group in self.param_groups:
                    for p in group["params"]:
                        p.sub_(group["lr"] * p.grad)

    return Descent


@program
def of_an_override(torch, note):
    p = parameter(torch)
    optimizer = descent(torch, note)([p], 0.1)
    optimizer.step()
    before = optimizer.register_step_pre_hook(logging(note, "before"))
    optimizer.register_step_post_hook(logging(note, "after"))
    optimizer.step(extra=1)
    optimizer.step(lambda: 3.0)
    before.remove()
    optimizer.step()
    return p


@program
def of_a_derived_class_that_calls_super(torch, note):
    # A base of its own: PyTorch calls the hooks twice if some test before this one made an instance of the base itself.
    class Loud(descent(torch, note)):
        def step(self, closure=None):
            note("loud")
            return super().step(closure)

    p = parameter(torch)
    optimizer = Loud([p], 0.1)
    optimizer.register_step_pre_hook(logging(note, "before"))
    optimizer.register_step_post_hook(logging(note, "after"))
    optimizer.step()
    optimizer.step()
    return p


@program
def of_one_instance_only(torch, note):
    p, q = parameter(torch), parameter(torch)
    kind = descent(torch, note)
    first, second = kind([p], 0.1), kind([q], 0.1)
    first.register_step_pre_hook(logging(note, "first"))
    first.step()
    second.step()
    sgd = torch.optim.SGD([p], lr=0.1)
    sgd.register_step_post_hook(logging(note, "sgd"))
    torch.optim.SGD([q], lr=0.1).step()
    sgd.step()
    return p, q


@program
def of_all(torch, note):
    p, q = parameter(torch), parameter(torch)
    kind = descent(torch, note)
    known = kind([p], 0.1)
    known.register_step_pre_hook(logging(note, "own before"))
    known.register_step_post_hook(logging(note, "own after"))
    optimizer = import_module(f"{torch.__name__}.optim.optimizer")
    with (
        optimizer.register_optimizer_step_pre_hook(logging(note, "before")),
        optimizer.register_optimizer_step_post_hook(logging(note, "after")),
    ):
        known.step()
        torch.optim.SGD([q], lr=0.1).step()
        descent(torch, note)([q], 0.1).step(None, 7)
    known.step()
    return p, q


@program
def other_arguments(torch, note):
    p = parameter(torch)
    optimizer = descent(torch, note)([p], 0.1)
    handle = optimizer.register_step_pre_hook(lambda o, args, kwargs: (args, {"extra": 5}))
    optimizer.step()
    handle.remove()
    optimizer.register_step_pre_hook(lambda o, args, kwargs: 3)
    try:
        optimizer.step()
    except RuntimeError as error:
        note(str(error).split(" must")[1])


@program
def closures(torch, note):
    p = parameter(torch)
    optimizer = torch.optim.SGD([p], lr=0.1)
    optimizer.register_step_pre_hook(logging(note, "before"))

    def closure():
        optimizer.zero_grad()
        loss = (p * p).sum()
        loss.backward()
        return loss

    loss = optimizer.step(closure)
    return loss, p


@program
def errors_leave_the_hooks(torch, note):
    p = parameter(torch)
    optimizer = torch.optim.SGD([p], lr=0.1)
    optimizer.register_step_pre_hook(logging(note, "before"))
    for _ in range(2):
        try:
            optimizer.step(lambda: 1 // 0)
        except ZeroDivisionError:
            note("caught")
    optimizer.step()
    return p


@pytest.mark.oracle
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("run", PROGRAMS, ids=lambda p: p.__name__)
def test_as_in_pytorch(run, way):
    check(run, way)


def test_nobody_pays_for_hooks_of_others():
    class Mine(tracegrad.optim.Optimizer):
        def step(self, closure=None):
            return None

    optimizer = Mine([tracegrad.ones(2, requires_grad=True)], {})
    assert not hasattr(Mine.step, "hooked")
    optimizer.register_step_pre_hook(lambda *args: None)
    assert hasattr(Mine.step, "hooked")
