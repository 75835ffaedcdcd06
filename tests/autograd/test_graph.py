"""The backward graph as users walk it, and what stands on it."""

from __future__ import annotations

import gc

import pytest
from _both import WAYS, check

import tracegrad

PROGRAMS = []


def program(function):
    PROGRAMS.append(function)
    return function


def leaf(torch, *values):
    return torch.tensor(values or (1.0, 2.0), requires_grad=True)


def tree(node):
    """Return the names of a graph, nested."""
    if node is None:
        return None
    return [node.name(), [[tree(n), i] for n, i in node.next_functions]]


@program
def names(torch, note):
    x, w = leaf(torch), leaf(torch)
    y = (x * w + torch.ones(2)).exp()
    note(y)
    z = (y - 2) / 3
    a, b = torch.stack([z, x]).unbind(0)
    loss = (b.relu() * a.detach()).sum()
    note(loss)
    return tree(loss.grad_fn)


@program
def walked(torch, note):
    x = leaf(torch)
    y = x * 2
    z = (y * y).sum() + y.sum()
    seen = set()
    order = []

    def walk(node):
        if node is None or node in seen:
            return
        seen.add(node)
        order.append(node.name())
        for below, _ in node.next_functions:
            walk(below)

    walk(z.grad_fn)
    return order


@program
def identity(torch, note):
    x = leaf(torch)
    y = x * 2
    z = y + 1
    node = y.grad_fn
    note(node is y.grad_fn, z.grad_fn.next_functions[0][0] is node, node == z.grad_fn, len({node, y.grad_fn}))
    note(z)
    note(node is y.grad_fn, z.grad_fn.next_functions[0][0] is node)
    leaf_node = node.next_functions[0][0]
    note(leaf_node is (x * 3).grad_fn.next_functions[0][0], leaf_node.variable is x)


@program
def metadata(torch, note):
    x = leaf(torch)
    y = x * 2
    y.grad_fn.metadata["mine"] = 3
    z = y * y
    note(z)
    note(y.grad_fn.metadata, z.grad_fn.metadata)
    node = y.grad_fn.next_functions[0][0]
    node.metadata["leaf"] = 5
    return (x * 4).grad_fn.next_functions[0][0].metadata


@program
def nodes_keep_the_graph(torch, note):
    x = leaf(torch)

    def build():
        return ((x * 2).exp().sum()).grad_fn

    node = build()
    gc.collect()
    note(torch.ones(1) * 2)
    return tree(node), node.next_functions[0][0].next_functions[0][0].next_functions[0][0].variable is x


@program
def hooks_on_inner_nodes(torch, note):
    x = leaf(torch)
    loss = ((x * 2).exp() * 3).sum()
    note(loss)
    node = loss.grad_fn.next_functions[0][0].next_functions[0][0]
    node.register_hook(lambda gi, go: (note(node.name(), *gi, *go), (gi[0] * 10,))[1])
    loss.backward()
    return x.grad


@program
def output_numbers(torch, note):
    x = leaf(torch)
    a, b = x.unbind(0)
    note(a.output_nr, b.output_nr, x.output_nr, (a + b).grad_fn.next_functions[1][1])
    note(b)
    return a.output_nr, b.output_nr


@program
def gradient_edges(torch, note):
    x = leaf(torch)
    y = x * 2
    edge = torch.autograd.graph.get_gradient_edge(y)
    a, b = (y * 3).unbind(0)
    other = torch.autograd.graph.get_gradient_edge(b)
    at_x = torch.autograd.graph.get_gradient_edge(x)
    loss = (y * y).sum() + b
    note(edge.node is y.grad_fn, edge.output_nr, other.output_nr, at_x.node.name())
    del y, a, b
    note(loss)
    return torch.autograd.grad(loss, [edge, other, at_x], retain_graph=True)


@program
def gradient_edge_of_a_constant(torch, note):
    torch.autograd.graph.get_gradient_edge(torch.ones(2))


@program
def multi_grad_hooks(torch, note):
    a, b, c, d = (leaf(torch) for _ in range(4))
    inner = a * 2
    register = torch.autograd.graph.register_multi_grad_hook
    register((a, inner, c, d), lambda grads: note("all", *grads))
    handle = register((b, a, c), lambda grad: note("any", grad), mode="any")
    note(inner)
    ((inner * b).sum() * c.sum()).backward(retain_graph=True)
    (inner + c).sum().backward()
    (a * 1 + b).sum().backward(inputs=(a,))
    handle.remove()
    ((inner * a).sum() * d.sum()).backward(inputs=(a, d))
    register((a,), print, mode="none")


@program
def saved_tensors_hooks(torch, note):
    class Cube(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x**3

        @staticmethod
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            return g * 3 * x * x

    def pack(x):
        note("pack", x.detach())
        return (x.detach() * 2, "packed")

    def unpack(packed):
        note("unpack", *packed)
        return packed[0]

    x = leaf(torch)
    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        y = Cube.apply(x)
    note(y)
    y.sum().backward()
    with torch.autograd.graph.save_on_cpu():
        z = Cube.apply(x)
    z.sum().backward()
    with torch.autograd.graph.saved_tensors_hooks(lambda x: x, lambda x: 3):
        y = Cube.apply(x)
    note(x.grad)
    y.sum().backward()


@program
def saved_tensors_hooks_disabled(torch, note):
    with torch.autograd.graph.disable_saved_tensors_hooks("not here"):
        with torch.autograd.graph.saved_tensors_hooks(lambda x: x, lambda x: x):
            pass


@program
def mutation_allowed(torch, note):
    x = leaf(torch)
    with torch.autograd.graph.allow_mutation_on_saved_tensors():
        y = x.exp()
        z = y.sin()
        y.mul_(2)
        (y + z).sum().backward()
        try:
            with torch.autograd.graph.allow_mutation_on_saved_tensors():
                pass
        except RuntimeError as error:
            note(str(error))
    return x.grad


@program
def variables_of_old(torch, note):
    x = torch.autograd.Variable(torch.ones(2), requires_grad=True)
    with torch.autograd.set_multithreading_enabled(False):
        (x * 2).sum().backward()
    return isinstance(x, torch.autograd.Variable), isinstance(3, torch.autograd.Variable), x, x.grad


def written(name, write):
    """Make a program of the step that a write leaves, with hooks on it."""

    @program
    def run(torch, note):
        x = leaf(torch)
        y = x * 3
        write(torch, y, x)
        note(y)
        step = y.grad_fn
        step.register_prehook(lambda go: note("before", *go))
        step.register_hook(lambda gi, go: note("after", *gi, *go))
        (y * 1).sum().backward()
        return step.name(), type(step).__name__, [n and n.name() for n, _ in step.next_functions], y.output_nr, x.grad

    run.__name__ = f"written_by_{name}"


def quietly(torch, y, x):
    with torch.no_grad():
        y.zero_()
        y[0] = 1


def given_data(torch, y, x):
    y.data = torch.zeros(2)


written("fill_", lambda torch, y, x: y.fill_(2.0))
written("fill_of_a_tensor", lambda torch, y, x: y.fill_(torch.tensor(2.0, requires_grad=True)))
written("zero_", lambda torch, y, x: y.zero_())
written("copy_", lambda torch, y, x: y.copy_(torch.ones(2)))
written("copy_with_a_history", lambda torch, y, x: y.copy_(x * 5))
written("setitem", lambda torch, y, x: y.__setitem__(0, 5.0))
written("setitem_of_a_tensor", lambda torch, y, x: y.__setitem__(0, x[1]))
written("masked_fill_", lambda torch, y, x: y.masked_fill_(torch.tensor([True, False]), 0.0))
written("detach_zero_", lambda torch, y, x: y.detach().zero_())
written("no_grad", quietly)
written("data", given_data)
written("nothing_and_no_grad", lambda torch, y, x: (y.mul_(x), quietly(torch, y, x), y.exp_()))


@program
def copies_into_a_constant(torch, note):
    x = leaf(torch)
    y = torch.zeros(2, dtype=torch.float64)
    y.copy_(x)
    y.grad_fn.register_hook(lambda gi, go: note("after", *gi, *go))
    note([n and n.name() for n, _ in y.grad_fn.next_functions])
    y.sum().backward()
    return x.grad


@program
def one_step_before_and_after_a_quiet_write(torch, note):
    x = leaf(torch)
    y = x * 3
    step = y.grad_fn
    y.register_hook(lambda g: note("first", g))
    note(y)
    y.detach().zero_()
    y.register_hook(lambda g: (note("second", g), g * 2)[1])
    note(step is y.grad_fn, y)
    quietly(torch, y, x)
    z = y * 1
    note(step is y.grad_fn, z.grad_fn.next_functions[0][0] is step)
    z.sum().backward()
    return x.grad


@pytest.mark.oracle
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("run", PROGRAMS, ids=lambda p: p.__name__)
def test_graphs_as_in_pytorch(run, way):
    check(run, way)


def test_very_deep_with_a_hook():
    torch = tracegrad
    x = leaf(torch)
    y = x
    seen = []
    for i in range(20_000):
        y = y + 1
        if i == 10_000:
            y.register_hook(lambda g: (seen.append(1), g * 2)[1])
    y.sum().backward()
    assert x.grad.tolist() == [2.0, 2.0] and seen == [1]


def test_very_wide_with_hooks():
    torch = tracegrad
    xs = [leaf(torch) for _ in range(300)]
    seen = []
    total = torch.zeros(2)
    for i, x in enumerate(xs):
        y = x * 2
        y.register_hook(lambda g, i=i: (seen.append(i), g * 2)[1])
        total = total + y
    total.sum().backward()
    assert seen == list(range(300))[::-1]
    assert xs[0].grad.tolist() == xs[-1].grad.tolist() == [4.0, 4.0]
