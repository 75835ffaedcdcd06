"""Pack and unpack hooks: what operations save while they are in force, and the gradients of what they return."""

from __future__ import annotations

import pytest
from _both import WAYS, check

import tracegrad
from tracegrad._engine import trace

PROGRAMS = []


def program(function):
    PROGRAMS.append(function)
    return function


def leaf(torch, *values):
    return torch.tensor(values or (0.5, 1.5), requires_grad=True)


#: Operations whose saved tensors, and their order, are PyTorch's.
OPERATIONS = {
    "mul": lambda torch, x, w: x * w,
    "mul by a constant": lambda torch, x, w: x * torch.ones(2),
    "mul by a number": lambda torch, x, w: x * 2,
    "add": lambda torch, x, w: x + w,
    "div": lambda torch, x, w: x / w,
    "exp": lambda torch, x, w: x.exp(),
    "sin": lambda torch, x, w: x.sin(),
    "tanh": lambda torch, x, w: x.tanh(),
    "sigmoid": lambda torch, x, w: x.sigmoid(),
    "sqrt": lambda torch, x, w: x.sqrt(),
    "log": lambda torch, x, w: x.log(),
    "pow": lambda torch, x, w: x**3,
    "softmax": lambda torch, x, w: x.softmax(0),
    "log_softmax": lambda torch, x, w: x.log_softmax(0),
    "matmul": lambda torch, x, w: x.view(1, 2) @ w.view(2, 1),
    "sum": lambda torch, x, w: x.sum(),
    "mean": lambda torch, x, w: x.mean(),
    "cat": lambda torch, x, w: torch.cat([x, w]),
    "gelu": lambda torch, x, w: torch.nn.functional.gelu(x),
    "chain": lambda torch, x, w: (x * w).sin() * w,
    "views": lambda torch, x, w: (x[:1] * w[1:]).t(),
}


def saved_by(name):
    operation = OPERATIONS[name]

    @program
    def run(torch, note):
        x, w = leaf(torch), leaf(torch, 2.0, 3.0)

        def pack(t):
            note("pack", t.detach() * 1, t.requires_grad, t.is_leaf, t is x, t is w, torch.is_grad_enabled())
            return len(kept), kept.append(t.detach() * 2)

        def unpack(packed):
            note("unpack")
            return kept[packed[0]] / 2

        kept = []
        with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
            y = operation(torch, x, w)
            note(y)
        z = y * 3
        note(y.requires_grad, y.grad_fn.name(), z)
        z.sum().backward()
        return x.grad, w.grad, len(kept)

    run.__name__ = f"saved_by_{name.replace(' ', '_')}"


for _name in OPERATIONS:
    saved_by(_name)


@program
def what_is_unpacked_counts(torch, note):
    x, w = leaf(torch), leaf(torch, 2.0, 3.0)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t, lambda t: t * 0 + 7):
        y = x * w
    note(y)
    (y * y).sum().backward()
    return x.grad, w.grad


@program
def the_innermost_context(torch, note):
    x = leaf(torch)
    hooks = torch.autograd.graph.saved_tensors_hooks
    with hooks(lambda t: (note("outer"), t)[1], lambda t: (note("outer back"), t)[1]):
        with hooks(lambda t: (note("inner"), t)[1], lambda t: (note("inner back"), t)[1]):
            y = x.sin()
        z = y.cos()
    z.exp().sum().backward()
    return x.grad


@program
def freed(torch, note):
    x = leaf(torch)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t * 2, lambda t: t / 2):
        y = x.exp() * x
    note(y)
    y.sum().backward(retain_graph=True)
    y.sum().backward()
    note(x.grad)
    y.sum().backward()


@program
def errors_in_hooks(torch, note):
    def fail(t):
        raise ValueError("no room")

    x = leaf(torch)
    try:
        with torch.autograd.graph.saved_tensors_hooks(fail, lambda t: t):
            x.exp()
    except ValueError as error:
        note(str(error))
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t, fail):
        y = x.exp()
    try:
        y.sum().backward()
    except ValueError as error:
        note(str(error))
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t, lambda t: 3):
        y = x.exp()
    try:
        y.sum().backward()
    except TypeError as error:
        note(str(error))
    x.exp().sum().backward()
    return x.grad


@program
def twice_differentiable(torch, note):
    x, w = leaf(torch), leaf(torch, 2.0, 3.0)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t.detach() * 2, lambda t: t / 2):
        y = (x * w).exp() * x.sin()
    note(y)
    g, h = torch.autograd.grad(y.sum(), [x, w], create_graph=True)
    note(g, h)
    (g * h).sum().backward()
    return x.grad, w.grad


@program
def without_gradients_nothing_is_saved(torch, note):
    x, n = leaf(torch), torch.ones(2)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: note("never"), lambda t: t):
        n.exp()
        x.detach() * n
        with torch.no_grad():
            x * x
    return x


@program
def writes_inside(torch, note):
    x = leaf(torch)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t.clone(), lambda t: t):
        y = x * 1
        z = y.sin()
        y.mul_(x)
        y.add_(z)
    note(y)
    y.sum().backward()
    return x.grad


@program
def a_model_on_the_cpu(torch, note):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Tanh(), torch.nn.Linear(3, 1))
    with torch.no_grad():
        for i, p in enumerate(model.parameters()):
            p.fill_(0.1 * (i + 1))
    x = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    with torch.autograd.graph.save_on_cpu():
        loss = torch.nn.functional.mse_loss(model(x), torch.ones(2, 1))
    note(loss)
    loss.backward()
    return [p.grad for p in model.parameters()]


@program
def in_a_checkpoint(torch, note):
    from importlib import import_module

    checkpoint = import_module(f"{torch.__name__}.utils.checkpoint").checkpoint
    x = leaf(torch)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t, lambda t: t):
        y = checkpoint(lambda a: a.exp() * a, x, use_reentrant=False)
        z = torch.vmap(lambda a: a * a)(y * x)
    z.sum().backward()
    return x.grad


@pytest.mark.oracle
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("run", PROGRAMS, ids=lambda p: p.__name__)
def test_as_in_pytorch(run, way):
    check(run, way)


def test_costs_nothing_afterwards(compiled):
    torch = tracegrad
    x = leaf(torch)
    for i in range(5):
        x.grad = None
        with torch.autograd.graph.saved_tensors_hooks(lambda t: t, lambda t: t):
            assert trace.state.trace.missing
            y = x.exp() * x
        assert not trace.state.trace.missing
        (y * y).sum().backward()
        x.grad.tolist()
        if i == 2:
            compiled()
    assert compiled() == 0


def test_another_thread_saves_nothing():
    import threading

    torch, seen = tracegrad, []

    def other():
        z = leaf(torch)
        (z.exp() * z).sum().backward()
        seen.append(z.grad.tolist())

    with torch.autograd.graph.saved_tensors_hooks(lambda t: seen.append("packed"), lambda t: t):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert len(seen) == 1 and seen[0] != "packed"
