"""Retained gradients: whose they are after writes, and which backwards fill them."""

from __future__ import annotations

import pytest
from _both import WAYS, check

PROGRAMS = []


def program(function):
    PROGRAMS.append(function)
    return function


def leaf(torch):
    return torch.tensor([1.0, 2.0], requires_grad=True)


def written(write, used=False, through_view=False):
    """Make a program of a retained tensor that ``write`` writes to."""

    @program
    def run(torch, note):
        x = leaf(torch)
        y = x * 3
        y.retain_grad()
        note(y)
        before = y * 5 if used else 0
        v = y[0] if through_view else y
        if through_view:
            v.retain_grad()
        write(torch, v, x)
        note(y)
        (y * y + before).sum().backward(retain_graph=True)
        note(y.grad, x.grad, v.grad)
        (y + before).sum().backward()
        return y.grad, x.grad

    run.__name__ = f"written_{len(PROGRAMS)}"


def quietly(torch, y, x):
    with torch.no_grad():
        y.mul_(2)


written(lambda torch, y, x: y.mul_(2))
written(lambda torch, y, x: y.mul_(2), used=True)
written(lambda torch, y, x: y.mul_(2).add_(1).mul_(x))
written(lambda torch, y, x: y.__setitem__(0, 7.0))
written(lambda torch, y, x: y.copy_(x * 4))
written(lambda torch, y, x: y.mul_(2), through_view=True)
written(quietly)
written(quietly, used=True)


@program
def a_base_whose_view_retains(torch, note):
    x = leaf(torch)
    y = x * 3
    v = y[0]
    v.retain_grad()
    w = v * 5
    note(w)
    y.mul_(2)
    (y.sum() + w).backward()
    return x.grad


@program
def retained_twice(torch, note):
    x = leaf(torch)
    y = torch.zeros(2)
    y.add_(x * 2)
    y.retain_grad()
    y.mul_(3)
    y.retain_grad()
    note(y)
    (y * y).sum().backward()
    return y.grad, x.grad, y.retains_grad


@program
def a_hook_stays(torch, note):
    x = leaf(torch)
    y = x * 3
    y.register_hook(lambda g: note("old", g))
    y.retain_grad()
    y.mul_(2)
    y.register_hook(lambda g: (note("new", g), g * 10)[1])
    note(y)
    (y * y).sum().backward()
    return y.grad, x.grad


@program
def filled_by_grad(torch, note):
    x = leaf(torch)
    y = x * 3
    z = y.exp()
    y.retain_grad()
    z.retain_grad()
    note(z)
    note(torch.autograd.grad((z * y).sum(), x, retain_graph=True), y.grad, z.grad)
    note(torch.autograd.grad((z * y).sum(), y, retain_graph=True), y.grad, z.grad)
    note(torch.autograd.grad((z * y).sum(), z, retain_graph=True), y.grad, z.grad)
    y.register_hook(lambda g: g * 10)
    note(torch.autograd.grad((z * y).sum(), [x, y], retain_graph=True), y.grad, z.grad)
    (z * y).sum().backward(inputs=[x])
    return x.grad, y.grad, z.grad


@program
def filled_as_an_input(torch, note):
    x = leaf(torch)
    y = x * 3
    z = y.exp()
    note(z)
    (z * y).sum().backward(inputs=[y], retain_graph=True)
    note(y.grad, y.retains_grad, z.retains_grad, x.grad)
    z.sum().backward()
    note(y.grad, x.grad)
    z.sum().backward(inputs=[z, x])
    return z.grad


@program
def with_a_graph(torch, note):
    x = leaf(torch)
    y = x * 3
    y.retain_grad()
    y.mul_(x)
    note(y)
    (g,) = torch.autograd.grad((y * y).sum(), x, create_graph=True)
    note(g, y.grad)
    g.sum().backward()
    return x.grad, y.grad


@pytest.mark.oracle
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("run", PROGRAMS, ids=lambda p: p.__name__)
def test_as_in_pytorch(run, way):
    check(run, way)
