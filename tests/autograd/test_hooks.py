"""Hooks on tensors and on steps of the backward graph: PyTorch's order, results and errors, whatever is flushed."""

from __future__ import annotations

import gc

import pytest
from _both import WAYS, check

import tracegrad
from tracegrad._engine import report

PROGRAMS = []


def program(function):
    PROGRAMS.append(function)
    return function


def leaf(torch, *values):
    return torch.tensor(values or (1.0, 2.0), requires_grad=True)


@program
def replaces_a_gradient(torch, note):
    x = leaf(torch)
    y = x * 3
    y.register_hook(lambda g: g * 10)
    (y * y).sum().backward()
    return x.grad


@program
def sees_a_gradient(torch, note):
    x = leaf(torch)
    y = x * 3
    y.register_hook(lambda g: note("y", g))
    (y * y).sum().backward()
    return x.grad


@program
def in_order_of_registration(torch, note):
    x = leaf(torch)
    y = x * 3
    y.register_hook(lambda g: (note("first", g), g + 1)[1])
    y.register_hook(lambda g: (note("second", g), g * 2)[1])
    y.register_hook(lambda g: note("third", g))
    y.sum().backward()
    return x.grad


@program
def removed(torch, note):
    x = leaf(torch)
    y = x * 3
    handle = y.register_hook(lambda g: g * 10)
    with y.register_hook(lambda g: g + 1):
        y.sum().backward(retain_graph=True)
    handle.remove()
    handle.remove()
    y.sum().backward()
    return x.grad


@program
def removes_itself(torch, note):
    x = leaf(torch)
    y = x * 3

    def once(g):
        note("once", g)
        handle.remove()

    handle = y.register_hook(once)
    y.sum().backward(retain_graph=True)
    y.sum().backward()
    return x.grad


@program
def on_a_leaf(torch, note):
    x = leaf(torch)
    x.register_hook(lambda g: (note("total", g), g * 2)[1])
    (x * x + x).sum().backward()
    (x * 3).sum().backward()
    return x.grad


@program
def on_the_root(torch, note):
    x = leaf(torch)
    y = (x * x).sum()
    y.register_hook(lambda g: (note("root", g), g * 5)[1])
    y.backward()
    return x.grad


@program
def on_a_root_that_is_reached_twice(torch, note):
    x = leaf(torch)
    y = x * x
    z = y * 2
    y.register_hook(lambda g: (note("y", g), g * 5)[1])
    torch.autograd.backward([y.sum(), z.sum(), y], [None, None, torch.ones(2)])
    return x.grad


@program
def before_leaves_further_back(torch, note):
    w1, w2 = leaf(torch), leaf(torch, 3.0, 4.0)
    for name, w in (("w1", w1), ("w2", w2)):
        w.register_hook(lambda g, name=name: note(name, g))
        w.register_post_accumulate_grad_hook(lambda p, name=name: note("has", name, p.grad))
    h1 = w1 * 3
    h1.register_hook(lambda g: note("h1", g, w2.grad, w1.grad))
    h2 = h1 * w2
    h2.register_hook(lambda g: note("h2", g))
    loss = h2.sum()
    loss.register_hook(lambda g: note("loss", g))
    loss.backward()


@program
def leaves_in_reverse_order_of_use(torch, note):
    ws = [leaf(torch, float(i), 1.0) for i in range(4)]
    x = torch.ones(2)
    for i, w in enumerate(ws):
        w.register_post_accumulate_grad_hook(lambda p, i=i: note(i, p.grad))
        x = x * w
    x.sum().backward()


@program
def a_leaf_used_twice_waits(torch, note):
    w, v = leaf(torch), leaf(torch, 5.0, 6.0)
    w.register_post_accumulate_grad_hook(lambda p: note("w", p.grad))
    v.register_post_accumulate_grad_hook(lambda p: note("v", p.grad))
    a = w * 2
    a.register_hook(lambda g: note("a", g))
    b = a * v
    b.register_hook(lambda g: note("b", g))
    (b * w).sum().backward()


@program
def an_optimizer_in_the_backward(torch, note):
    w = leaf(torch)
    w.register_post_accumulate_grad_hook(lambda p: (p.data.sub_(p.grad * 0.1), setattr(p, "grad", None)))
    for _ in range(3):
        (w * w).sum().backward()
    return w, w.grad


@program
def several_outputs(torch, note):
    x = torch.arange(6.0).reshape(2, 3).requires_grad_()
    a, b = (x * 2).unbind(0)
    b.register_hook(lambda g: (note("b", g), g * 3)[1])
    a.register_hook(lambda g: (note("a", g), g * 5)[1])
    (a * b).sum().backward(retain_graph=True)
    b.sum().backward()
    return x.grad


@program
def branches(torch, note):
    x = leaf(torch)
    y = x.exp()
    a, b = y * 2, y.sin()
    a.register_hook(lambda g: (note("a", g), g + 1)[1])
    y.register_hook(lambda g: (note("y", g), g * 2)[1])
    b.register_hook(lambda g: (note("b", g), g - 1)[1])
    (a * b + x).sum().backward()
    return x.grad


@program
def not_reached(torch, note):
    x = leaf(torch)
    y = x * 2
    z = y * y
    z.register_hook(lambda g: note("never"))
    y.register_hook(lambda g: note("y", g))
    (y + x).sum().backward()
    return x.grad


@program
def of_dead_tensors(torch, note):
    x = leaf(torch)

    def hidden():
        y = x * 2
        y.register_hook(lambda g: (note("y", g), g * 7)[1])
        return y.exp().sum()

    loss = hidden()
    gc.collect()
    note(loss)
    loss.backward()
    return x.grad


@program
def across_reads(torch, note):
    x = leaf(torch)
    y = x * 2
    y.register_hook(lambda g: (note("y", g), g * 2)[1])
    note(y)
    z = y.exp()
    z.register_hook(lambda g: (note("z", g), g * 3)[1])
    note(z)
    y.register_hook(lambda g: (note("y later", g), g + 1)[1])
    w = z * y
    w.register_hook(lambda g: note("w", g))
    w.sum().backward()
    return x.grad


@program
def retained_gradients(torch, note):
    x = leaf(torch)
    y = x * 3
    y.register_hook(lambda g: g * 10)
    y.retain_grad()
    y.register_hook(lambda g: g * 10)
    y.grad_fn.register_prehook(lambda gs: (gs[0] * 10,))
    z = y * y
    z.retain_grad()
    z.sum().backward()
    return x.grad, y.grad, z.grad


@program
def captured_and_needed(torch, note):
    x = leaf(torch)
    y = x * 2
    y.register_hook(lambda g: (note("y", g), g * 10)[1])
    x.register_hook(lambda g: (note("x", g), g * 10)[1])
    return torch.autograd.grad((y * y).sum(), [x, y])


@program
def captured_alone(torch, note):
    x = leaf(torch)
    y = x * 2
    y.register_hook(lambda g: (note("y", g), g * 10)[1])
    x.register_hook(lambda g: note("never"))
    return torch.autograd.grad((y * y).sum(), [y])


@program
def captured_leaf(torch, note):
    x = leaf(torch)
    x.register_hook(lambda g: g * 10)
    x.register_post_accumulate_grad_hook(lambda p: note("never"))
    return torch.autograd.grad((x * x).sum(), [x]), x.grad


@program
def accumulated_into_inputs(torch, note):
    x, w = leaf(torch), leaf(torch)
    y = x * w
    y.register_hook(lambda g: (note("y", g), g * 10)[1])
    x.register_hook(lambda g: (note("x", g), g * 10)[1])
    w.register_hook(lambda g: note("never"))
    x.register_post_accumulate_grad_hook(lambda p: note("has", p.grad))
    (y * y).sum().backward(inputs=[x])
    return x.grad, w.grad


@program
def create_graph(torch, note):
    x = leaf(torch)
    y = x * x
    y.register_hook(lambda g: (note("y", g, torch.is_grad_enabled()), g * x)[1])
    (g,) = torch.autograd.grad((y * y).sum(), x, create_graph=True)
    (gg,) = torch.autograd.grad(g.sum(), x)
    return g, gg


@program
def create_graph_with_node_hooks(torch, note):
    x = leaf(torch)
    y = x * x
    y.grad_fn.register_hook(lambda gi, go: (gi[0] * 2, gi[1] * 3))
    y.grad_fn.register_prehook(lambda go: (go[0] * x,))
    z = y.exp()
    note(z)
    z.sum().backward(create_graph=True)
    g = x.grad
    (gg,) = torch.autograd.grad(g.sum(), x)
    return g, gg


@program
def no_grad_inside(torch, note):
    x = leaf(torch)
    y = x * x
    y.register_hook(lambda g: note(torch.is_grad_enabled(), (g * x).requires_grad))
    y.sum().backward()
    with torch.no_grad():
        z = x.grad * 1
    return z


@program
def a_backward_inside(torch, note):
    x, w = leaf(torch), leaf(torch, 5.0, 6.0)
    y = x * x

    def hook(g):
        with torch.enable_grad():
            loss = (w * w * g.detach()).sum()
        loss.backward()
        note("inside", w.grad)
        return g * 2

    y.register_hook(hook)
    y.exp().sum().backward()
    return x.grad, w.grad


@program
def accumulated_twice(torch, note):
    x = leaf(torch)
    y = x * 2
    y.register_hook(lambda g: g * 3)
    for _ in range(3):
        y.sum().backward(retain_graph=True)
    return x.grad


@program
def freed(torch, note):
    x = leaf(torch)
    y = x.exp()
    y.register_hook(lambda g: note("y", g))
    y.sum().backward()
    y.sum().backward()


@program
def node_hooks(torch, note):
    x = leaf(torch)
    y = x * x
    y.grad_fn.register_hook(lambda gi, go: (note("hook", *gi, *go), (gi[0] * 2, gi[1]))[1])
    y.grad_fn.register_hook(lambda gi, go: note("second", *gi, *go))
    y.grad_fn.register_prehook(lambda go: (note("pre", *go), (go[0] * 3,))[1])
    y.register_hook(lambda g: (note("tensor", g), g + 1)[1])
    y.exp().sum().backward()
    return x.grad


@program
def node_hooks_see_none(torch, note):
    x = leaf(torch)
    y = x * 2 + torch.ones(2)
    y.grad_fn.register_hook(lambda gi, go: note(len(gi), gi[1], len(go)))
    y.grad_fn.next_functions[0][0].register_hook(lambda gi, go: note(len(gi), gi[1], len(go)))
    y.sum().backward()
    return x.grad


@program
def prehooks_drop_a_gradient(torch, note):
    x = leaf(torch)
    y = x * x
    y.grad_fn.register_prehook(lambda go: (None,))
    y.sum().backward()
    return x.grad


@program
def node_hook_of_several_outputs(torch, note):
    x = torch.arange(4.0).reshape(2, 2).requires_grad_()
    a, b = (x * 2).split(1)
    b.grad_fn.register_prehook(lambda go: note("pre", *go))
    b.grad_fn.register_hook(lambda gi, go: note("post", *gi))
    (b * 3).sum().backward()
    return x.grad


@program
def accumulate_nodes(torch, note):
    x = leaf(torch)
    y = x * 2
    node = y.grad_fn.next_functions[0][0]
    node.register_prehook(lambda go: (note("pre", *go), (go[0] * 2,))[1])
    node.register_hook(lambda gi, go: note("post", len(gi), *go, x.grad))
    x.register_hook(lambda g: (note("tensor", g), g + 1)[1])
    y.sum().backward()
    return x.grad


def wrong(name, on, result):
    def run(torch, note):
        x = leaf(torch)
        y = x * 2
        made = result(torch)

        def myhook(*gradients):
            return made

        {"leaf": lambda: x.register_hook, "tensor": lambda: y.register_hook,
         "post": lambda: y.grad_fn.register_hook, "pre": lambda: y.grad_fn.register_prehook,
         "accumulated": lambda: x.register_post_accumulate_grad_hook}[on]()(myhook)  # fmt: skip
        y.sum().backward()

    run.__name__ = f"wrong_{on}_{name}"
    PROGRAMS.append(run)


for on in ("leaf", "tensor"):
    wrong("int", on, lambda torch: 3)
    wrong("tuple", on, lambda torch: (torch.ones(2),))
    wrong("shape", on, lambda torch: torch.ones(3))
    wrong("dtype", on, lambda torch: torch.ones(2, dtype=torch.float64))
for on in ("post", "pre"):
    wrong("int", on, lambda torch: 3)
    wrong("tensor", on, lambda torch: torch.ones(2))
    wrong("list", on, lambda torch: [torch.ones(2)])
    wrong("length", on, lambda torch: (torch.ones(2),) * 3)
    wrong("inside", on, lambda torch, count=2 if on == "post" else 1: (3, None)[:count])
wrong("none_replaced", "post", lambda torch: (torch.ones(2), torch.ones(2)))
wrong("int", "accumulated", lambda torch: 3)


@program
def refused(torch, note):
    for make in (lambda: torch.ones(2).register_hook(print),
                 lambda: torch.ones(2).register_post_accumulate_grad_hook(print),
                 lambda: (leaf(torch) * 2).register_post_accumulate_grad_hook(print),
                 lambda: (leaf(torch) * 2).register_hook(3) and None):  # fmt: skip
        try:
            note(make() is None)
        except Exception as error:
            note(type(error).__name__, str(error))


@program
def errors_leave_everything_usable(torch, note):
    x = leaf(torch)
    y = x * x
    z = y.exp()

    def fails(g):
        raise ValueError("mine")

    handle = y.register_hook(fails)
    try:
        z.sum().backward(retain_graph=True)
    except ValueError as error:
        note(str(error), torch.is_grad_enabled(), x.grad)
    handle.remove()
    z.sum().backward()
    return x.grad


@program
def complex_gradients(torch, note):
    z = torch.tensor([1 + 2j, 3 - 1j], requires_grad=True)
    w = z * z
    w.register_hook(lambda g: (note("w", g.real, g.imag), g * (1 + 1j))[1])
    w.abs().sum().backward()
    return z.grad.real, z.grad.imag


@program
def registered_under_no_grad(torch, note):
    x = leaf(torch)
    y = x * 2
    with torch.no_grad():
        y.register_hook(lambda g: g * 2)
    y.sum().backward()
    return x.grad


@program
def before_a_write(torch, note):
    x = leaf(torch)
    y = x * 2
    y.register_hook(lambda g: note("old", g))
    y.mul_(5)
    y.register_hook(lambda g: note("new", g))
    y.sum().backward()
    return x.grad


@pytest.mark.oracle
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("run", PROGRAMS, ids=lambda p: p.__name__)
def test_hooks_as_in_pytorch(run, way):
    check(run, way)


def test_a_step_with_hooks_and_a_function_is_one_program(compiled):
    class Scaled(tracegrad.autograd.Function):
        @staticmethod
        def forward(ctx, x, factor):
            ctx.save_for_backward(x)
            ctx.factor = factor
            return x * factor

        @staticmethod
        def backward(ctx, gradient):
            (x,) = ctx.saved_tensors
            return gradient * ctx.factor + x * 0, None

    torch = tracegrad
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    x, y = torch.randn(16, 4), torch.randn(16, 1)

    def step():
        hidden = Scaled.apply(model[0](x), 0.5)
        hidden.register_hook(lambda g: g.clamp(-1, 1))
        loss = (model[2](model[1](hidden)) - y).square().mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    torch.synchronize()
    counts = []
    for _ in range(6):
        step()
        counts.append(compiled())
    assert counts[2:] == [0, 0, 0, 0]
    runs = report.totals.runs
    step()
    torch.synchronize()
    assert report.totals.runs == runs + 1


@pytest.mark.parametrize("read", ["", "a", "b", "ab", "abc"])
def test_a_complete_leaf_has_its_hook_called_before_what_lies_further_back_wherever_flushes_were(read):
    def program(torch, read=read):
        log = []
        w, v = (torch.tensor([1.0, 2.0], requires_grad=True) for _ in range(2))
        a = w.sin()
        b = (a * 2) if "a" not in read else (a * (2 + 0 * len(a.tolist())))
        c = b * v.exp() if "b" not in read else b * v.exp() * (1 + 0 * len(b.tolist()))
        if "c" in read:
            c.tolist()
        for name, t in (("w", w), ("v", v), ("a", a), ("b", b)):
            t.register_hook(lambda _, name=name: log.append(name))
        (c + v).sum().backward()
        return log

    for _ in range(2):
        assert program(tracegrad) == ["v", "b", "a", "w"]
    with tracegrad.eager():
        assert program(tracegrad) == ["v", "b", "a", "w"]


@pytest.mark.oracle
def test_pytorch_calls_hooks_in_this_order():
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle: pip install -e .[oracle]")
    log = []
    w, v = (torch.tensor([1.0, 2.0], requires_grad=True) for _ in range(2))
    a = w.sin()
    b = a * 2
    for name, t in (("w", w), ("v", v), ("a", a), ("b", b)):
        t.register_hook(lambda _, name=name: log.append(name))
    (b * v.exp() + v).sum().backward()
    assert log == ["v", "b", "a", "w"]
