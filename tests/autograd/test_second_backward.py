"""Backwards through backwards: one tape, whatever of it was flushed, differentiated anew or freed meanwhile."""

from __future__ import annotations

import pytest
from _both import WAYS, check

PROGRAMS = []


def program(function):
    PROGRAMS.append(function)
    return function


def leaf(torch, *values):
    return torch.tensor(values or (0.5, 1.2), dtype=torch.float64, requires_grad=True)


def squared_cosine(torch, note):
    """Return a leaf, an intermediate tensor, a result, and its gradient as a differentiable tensor."""
    x = leaf(torch)
    y = x.cos()
    z = y * y
    note(z)
    (g,) = torch.autograd.grad(z.sum(), x, create_graph=True)
    note(g)
    return x, y, z, g


@program
def a_later_hook(torch, note):
    x, y, _, g = squared_cosine(torch, note)
    y.register_hook(lambda c: (note("y", c), c * 2)[1])
    g.sum().backward()
    return x.grad


@program
def hooks_before_and_later(torch, note):
    x = leaf(torch)
    y = x.cos()
    y.register_hook(lambda c: (note("first", c), c * 2)[1])
    z = y * y
    z.register_hook(lambda c: note("z", c))
    note(z)
    (g,) = torch.autograd.grad(z.sum(), x, create_graph=True)
    note(g)
    handle = y.register_hook(lambda c: (note("second", c), c + 1)[1])
    g.sum().backward(retain_graph=True)
    handle.remove()
    (g * z).sum().backward()
    return x.grad


@program
def later_hooks_on_steps(torch, note):
    x, y, z, g = squared_cosine(torch, note)
    y.grad_fn.register_hook(lambda gi, go: note("step", *gi, *go))
    z.grad_fn.register_prehook(lambda go: (note("before", *go), (go[0] * 3,))[1])
    (g.sum() + z.sum()).backward()
    return x.grad


@program
def retained_later(torch, note):
    x, y, z, g = squared_cosine(torch, note)
    y.retain_grad()
    z.retain_grad()
    (g.sum() + z.sum()).backward()
    return x.grad, y.grad, z.grad


@program
def with_respect_to_an_intermediate(torch, note):
    _, y, z, g = squared_cosine(torch, note)
    note(torch.autograd.grad(g.sum(), y, retain_graph=True))
    (h,) = torch.autograd.grad((g * z).sum(), y, create_graph=True)
    note(h)
    return torch.autograd.grad(h.sum(), [y], allow_unused=True)


@program
def freed_by_the_second(torch, note):
    x, _, z, g = squared_cosine(torch, note)
    g.sum().backward()
    z.sum().backward()
    return x.grad


@program
def the_second_once_more(torch, note):
    x, _, _, g = squared_cosine(torch, note)
    g.sum().backward(retain_graph=True)
    g.sum().backward()
    note(x.grad)
    g.sum().backward()


@program
def freed_by_the_first(torch, note):
    x = leaf(torch)
    y = x.cos()
    z = y * y
    note(z)
    z.sum().backward()
    torch.autograd.grad(z.sum(), x, create_graph=True)


@program
def half_freed(torch, note):
    x, w = leaf(torch), leaf(torch)
    y, z = x.cos() * w, x.sin() * 2
    note(z)
    y.sum().backward()
    (g,) = torch.autograd.grad(z.sum(), x, create_graph=True)
    note(g)
    g.sum().backward()
    note(x.grad, w.grad)
    torch.autograd.grad(y.sum(), w, create_graph=True)


@program
def half_freed_before_the_read(torch, note):
    x = leaf(torch)
    y, z = x.cos(), x.sin()
    y.sum().backward()
    note(z, y)
    (g,) = torch.autograd.grad(z.sum(), x, create_graph=True)
    note(g)
    g.sum().backward()
    note(x.grad)
    torch.autograd.grad(y.sum(), x, create_graph=True)


@program
def four_times(torch, note):
    x = leaf(torch)
    y = x.sin()
    z = y * x
    for _ in range(4):
        note(z)
        (z,) = torch.autograd.grad(z.sum(), x, create_graph=True)
    y.register_hook(lambda c: (note("y", c), c * 2)[1])
    return torch.autograd.grad(z.sum(), [x, y])


@program
def steps_of_several_outputs(torch, note):
    x = torch.arange(1.0, 7.0, dtype=torch.float64).reshape(2, 3).requires_grad_()
    a, b = (x * x).unbind(0)
    c, _ = a.sort()
    z = c * b.exp()
    note(z)
    (g,) = torch.autograd.grad(z.sum(), x, create_graph=True)
    note(g)
    b.register_hook(lambda c: (note("b", c), c * 2)[1])
    g.sum().backward()
    return x.grad


@program
def leaves_written_to_meanwhile(torch, note):
    w = leaf(torch)
    z = (w * w).exp()
    note(z)
    (g,) = torch.autograd.grad(z.sum(), w, create_graph=True)
    note(g)
    loss = g.sum()
    (h,) = torch.autograd.grad(loss, w, retain_graph=True)
    with torch.no_grad():
        u = w.detach().clone()
        note(h)
    return torch.autograd.grad(loss, w), u


@program
def variables_made_of_pending_values(torch, note):
    base = torch.ones(2, dtype=torch.float64) * 0.5
    w = base.exp().requires_grad_()
    y = w.sin()
    z = y * y * w
    note(z)
    (g,) = torch.autograd.grad(z.sum(), w, create_graph=True)
    note(g)
    y.retain_grad()
    g.sum().backward()
    return w.grad, y.grad


@program
def a_backward_among_the_ancestors(torch, note):
    w = leaf(torch)
    (w * w * w).sum().backward()
    x = leaf(torch)
    y = x.exp() * w.grad
    z = y * y
    note(z)
    (g,) = torch.autograd.grad(z.sum(), x, create_graph=True)
    note(g)
    y.register_hook(lambda c: (note("y", c), c * 2)[1])
    g.sum().backward()
    return x.grad


@program
def functions_on_the_way(torch, note):
    class Exp(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            result = x.exp()
            ctx.save_for_backward(result)
            return result

        @staticmethod
        def backward(ctx, c):
            (result,) = ctx.saved_tensors
            note("backward", c, result)
            return c * result

    x = leaf(torch)
    y = Exp.apply(x.sin())
    z = y * x
    note(z)
    (g,) = torch.autograd.grad(z.sum(), x, create_graph=True)
    note(g)
    y.register_hook(lambda c: (note("y", c), c * 2)[1])
    (h,) = torch.autograd.grad(g.sum(), x, create_graph=True)
    note(h)
    h.sum().backward()
    return x.grad


@program
def graph_of_the_gradient(torch, note):
    _, y, z, g = squared_cosine(torch, note)
    seen = set()

    def walk(node):
        if node is not None and node not in seen:
            seen.add(node)
            for below, _ in node.next_functions:
                walk(below)

    walk(g.grad_fn)
    return y.grad_fn in seen, z.grad_fn in seen


@program
def gradients_in_a_transform(torch, note):
    x = leaf(torch)
    y = x.cos()
    z = y * y
    note(z)
    (g,) = torch.autograd.grad(z.sum(), x, create_graph=True)
    note(g)
    rows = torch.autograd.grad(g, x, torch.eye(2, dtype=torch.float64), is_grads_batched=True, retain_graph=True)
    again = torch.autograd.grad(g, y, torch.eye(2, dtype=torch.float64), is_grads_batched=True)
    return rows, again


@program
def gradients_that_are_always_zero(torch, note):
    """Zeros, not None, though nothing of the cotangent comes to them."""
    x, y = leaf(torch), leaf(torch, -2.0, 0.7)
    found = []
    for z in (torch.copysign(x, y), torch.nextafter(x, y), torch.div(x, y, rounding_mode="floor")):
        note(z)
        gradients = torch.autograd.grad(z.sum(), [x, y], create_graph=True)
        found += [g.detach() for g in gradients]
    return found


@pytest.mark.oracle
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("run", PROGRAMS, ids=lambda p: p.__name__)
def test_as_in_pytorch(run, way):
    check(run, way)
