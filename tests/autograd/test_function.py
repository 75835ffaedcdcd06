"""Custom Functions: PyTorch's results, contexts and errors, whatever is flushed."""

from __future__ import annotations

import numpy as np
import pytest
from _both import WAYS, check

import tracegrad

PROGRAMS = []


def program(function):
    PROGRAMS.append(function)
    return function


def leaf(torch, *values):
    return torch.tensor(values or (1.0, 2.0), requires_grad=True)


def made(torch, forward, backward, **more):
    """Return a Function of these two."""
    names = {"forward": staticmethod(forward), "backward": staticmethod(backward)}
    names.update({k: staticmethod(v) for k, v in more.items()})
    return type("Mine", (torch.autograd.Function,), names)


def pulled(torch, function, *more, x=None):
    x = leaf(torch) if x is None else x
    out = function.apply(x, *more)
    first = out[0] if isinstance(out, tuple) else out
    first.sum().backward()
    return x.grad


def cube(torch):
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * 3 * x * x

    return made(torch, forward, backward)


@program
def saves_an_input(torch, note):
    x = leaf(torch)
    y = cube(torch).apply(x * 2)
    note(y)
    (y * y).sum().backward()
    return x.grad


@program
def saves_an_output(torch, note):
    def forward(ctx, x):
        out = x.exp()
        ctx.save_for_backward(out)
        return out

    def backward(ctx, g):
        (out,) = ctx.saved_tensors
        note(out)
        return g * out.detach()

    x = leaf(torch)
    y = made(torch, forward, backward).apply(x)
    note(y)
    y.sum().backward()
    return x.grad


@program
def saves_intermediates_and_none(torch, note):
    def forward(ctx, x, y, z):
        w = x * z
        ctx.save_for_backward(x, None, y, w)
        ctx.z = z
        return x * y + y * z + w * y

    def backward(ctx, g):
        x, nothing, y, w = ctx.saved_tensors
        return g * (y + y * ctx.z), g * (x + ctx.z + w), nothing

    x, y = leaf(torch), leaf(torch, 3.0, 4.0)
    out = made(torch, forward, backward).apply(x, y, 4)
    note(out)
    out.sum().backward()
    return x.grad, y.grad


@program
def with_setup_context(torch, note):
    def forward(x, factor=3):
        return x * factor

    def setup_context(ctx, inputs, output):
        note("setup", *inputs, output)
        ctx.factor = inputs[1]

    def backward(ctx, g):
        return g * ctx.factor, None

    function = made(torch, forward, backward, setup_context=setup_context)
    x = leaf(torch)
    (function.apply(x) + function.apply(x, 5)).sum().backward()
    return x.grad


@program
def calls_with_keywords(torch, note):
    x = leaf(torch)
    return made(torch, lambda ctx, a, k=2: a * k, lambda ctx, g: (g, None)).apply(x, k=7)


@program
def double_backward(torch, note):
    x = leaf(torch)
    y = cube(torch).apply(x)
    note(y)
    (g,) = torch.autograd.grad((y * y).sum(), x, create_graph=True)
    note(g)
    (gg,) = torch.autograd.grad(g.sum(), x, create_graph=True)
    (ggg,) = torch.autograd.grad(gg.sum(), x)
    return g, gg, ggg


@program
def double_backward_through_an_output(torch, note):
    def forward(ctx, x):
        out = x.exp()
        ctx.save_for_backward(out)
        return out

    x = leaf(torch)
    y = made(torch, forward, lambda ctx, g: g * ctx.saved_tensors[0]).apply(x * 2)
    note(y)
    (g,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    note(g)
    (gg,) = torch.autograd.grad((g * x).sum(), x)
    return g, gg


@program
def double_backward_alone(torch, note):
    x = leaf(torch)
    y = cube(torch).apply(x)
    (g,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    return torch.autograd.grad(g.sum(), x)


@program
def several_outputs(torch, note):
    def forward(ctx, a, b):
        note(*ctx.needs_input_grad, torch.is_grad_enabled(), a.requires_grad)
        return a * 2, b * 3, "text", None, a.long()

    def backward(ctx, *gs):
        note(torch.is_grad_enabled(), *gs)
        return gs[0] * 2, gs[1] * 3

    a, b = leaf(torch), leaf(torch, 3.0, 4.0)
    function = made(torch, forward, backward)
    c, d, text, none, ints = function.apply(a, b)
    note(c.requires_grad, d.requires_grad, text, none, ints)
    (c * d).sum().backward(retain_graph=True)
    c.sum().backward()
    return a.grad, b.grad


@program
def without_materialized_gradients(torch, note):
    def forward(ctx, a, b):
        ctx.set_materialize_grads(False)
        return a * 2, b * 3

    def backward(ctx, g, h):
        note(g, h)
        return g, h

    a, b = leaf(torch), leaf(torch)
    c, d = made(torch, forward, backward).apply(a, b)
    d.sum().backward()
    return a.grad, b.grad


@program
def non_differentiable_outputs(torch, note):
    def forward(ctx, x):
        values, order = x.sort(descending=True)
        twice = x * 2
        ctx.mark_non_differentiable(order, twice)
        ctx.save_for_backward(order)
        return values, order, twice

    def backward(ctx, g, *rest):
        note(*rest)
        (order,) = ctx.saved_tensors
        return g[order.argsort()]

    x = leaf(torch, 1.0, 3.0, 2.0)
    values, order, twice = made(torch, forward, backward).apply(x)
    note(values.requires_grad, order.requires_grad, twice.requires_grad)
    (values * torch.tensor([1.0, 2.0, 3.0])).sum().backward()
    return x.grad


@program
def an_input_returned(torch, note):
    function = made(torch, lambda ctx, a, b: (a, b), lambda ctx, g, h: (g * 5, h))
    a, b = leaf(torch), torch.ones(2)
    c, d = function.apply(a, b)
    note(c is a, d is b, c.requires_grad, d.requires_grad, a.is_leaf)
    (c * d).sum().backward()
    c, d = function.apply(b, b)
    note(c is b, d is b, c.requires_grad)
    return a.grad


def writer(torch, note=None):
    def forward(ctx, x):
        x.add_(1)
        ctx.mark_dirty(x)
        return x

    return made(torch, forward, lambda ctx, g: g * 5)


@program
def a_dirty_input(torch, note):
    x = leaf(torch)
    y = x * 2
    z = writer(torch).apply(y)
    note(z is y, z.requires_grad, y)
    (z * z).sum().backward()
    return x.grad


@program
def a_dirty_input_without_gradients(torch, note):
    x = torch.ones(2)
    z = writer(torch).apply(x)
    return z is x, z, x, x._version


@program
def a_dirty_leaf(torch, note):
    x = leaf(torch)
    try:
        writer(torch).apply(x)
    except RuntimeError as error:
        return str(error), x._version


@program
def dirty_and_not_returned(torch, note):
    def forward(ctx, x):
        x.add_(1)
        ctx.mark_dirty(x)
        return x * 2

    made(torch, forward, lambda ctx, g: g).apply(leaf(torch) * 2)


@program
def no_gradients_wanted(torch, note):
    function = made(torch, lambda ctx, a: (note(*ctx.needs_input_grad), a * 2)[1], lambda ctx, g: note("never"))
    with torch.no_grad():
        note(function.apply(leaf(torch)).requires_grad)
    return function.apply(torch.ones(2))


@program
def some_gradients_are_none(torch, note):
    a, b = leaf(torch), leaf(torch)
    made(torch, lambda ctx, a, b: a * b, lambda ctx, g: (None, g * 2)).apply(a, b).sum().backward()
    return a.grad, b.grad


@program
def broadcast_and_converted_gradients(torch, note):
    x = leaf(torch)
    for g in (torch.ones(3, 2), torch.ones(2, dtype=torch.float64), torch.ones(2, dtype=torch.int64)):
        note(pulled(torch, made(torch, lambda ctx, a: a * 2, lambda ctx, _, g=g: g)))
    w = torch.tensor([[1.0], [2.0]], requires_grad=True)
    made(torch, lambda ctx, a: a * 1, lambda ctx, g: torch.ones(4, 2, 3)).apply(w).sum().backward()
    return x, w.grad


@program
def freed(torch, note):
    x = leaf(torch)
    y = cube(torch).apply(x)
    z = made(torch, lambda ctx, a: a * 2, lambda ctx, g: g * 2).apply(x)
    for _ in range(2):
        z.sum().backward()
    note(x.grad)
    y.sum().backward(retain_graph=True)
    y.sum().backward()
    try:
        note(*y.grad_fn.saved_tensors)
    except RuntimeError as error:
        note(str(error))
    y.sum().backward()


@program
def the_graph_node(torch, note):
    def forward(ctx, x):
        ctx.save_for_backward(x)
        ctx.mine = "mine"
        return x * 2

    x = leaf(torch)
    y = made(torch, forward, lambda ctx, g: (note(ctx.later), g)[1]).apply(x)
    note(y)
    node = y.grad_fn
    note(type(node).__name__, node.name(), node.mine, *node.saved_tensors, node is y.grad_fn)
    note(repr(node).startswith("<torch.autograd.function.MineBackward object at 0x"), repr(y))
    node.later = "later"
    note([n.name() for n, _ in node.next_functions], *node.needs_input_grad)
    node.register_hook(lambda gi, go: (note("post", *gi, *go), (gi[0] * 3,))[1])
    node.register_prehook(lambda go: (note("pre", *go), (go[0] * 7,))[1])
    y.register_hook(lambda g: (note("tensor", g), g * 2)[1])
    y.sum().backward()
    return x.grad


@program
def once_differentiable(torch, note):
    @torch.autograd.function.once_differentiable
    def backward(ctx, g):
        note(torch.is_grad_enabled())
        return g * 2

    function = made(torch, lambda ctx, a: a * 2, backward)
    x = leaf(torch)
    (g,) = torch.autograd.grad((function.apply(x) ** 2).sum(), x, create_graph=True)
    note(g)
    torch.autograd.grad(g.sum(), x)


@program
def a_function_in_a_function(torch, note):
    inner = cube(torch)

    def forward(ctx, x):
        ctx.save_for_backward(x)
        return inner.apply(x) * 2

    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            y = inner.apply(x) * 2
        note(y)
        return torch.autograd.grad(y, x, g)[0]

    x = leaf(torch)
    made(torch, forward, backward).apply(x).sum().backward()
    return x.grad


@program
def a_backward_in_a_backward(torch, note):
    w = leaf(torch, 5.0, 6.0)

    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            (x * w).sin().sum().backward()
        return g * x.grad

    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * 2

    x = leaf(torch)
    y = x * 3
    made(torch, forward, backward).apply(y).exp().sum().backward()
    return x.grad, w.grad


@program
def with_numpy(torch, note):
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.tensor(np.sin(x.detach().numpy()))

    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return torch.tensor(g.numpy() * np.cos(x.detach().numpy()))

    x = leaf(torch)
    y = made(torch, forward, backward).apply(x * 2)
    (y * y).sum().backward()
    return y, x.grad


@program
def a_value_decides(torch, note):
    def forward(ctx, x):
        ctx.big = x.sum().item() > 2
        return x * 2 if ctx.big else x * 3

    x = leaf(torch)
    function = made(torch, forward, lambda ctx, g: g * (2 if ctx.big else 3))
    (function.apply(x) + function.apply(x * 0.1)).sum().backward()
    return x.grad


@program
def the_same_result_twice(torch, note):
    def forward(ctx, x):
        y = x * 2
        return y, y

    x = leaf(torch)
    a, b = made(torch, forward, lambda ctx, g, h: (note(g, h), g + 10 * h)[1]).apply(x)
    (a * 3 + b).sum().backward()
    return x.grad


@program
def only_integer_results(torch, note):
    out = made(torch, lambda ctx, x: x.long(), lambda ctx, g: g).apply(leaf(torch))
    return out, out.requires_grad


@program
def other_results(torch, note):
    for result in (3, None, "text", {"a": 1}):
        note(made(torch, lambda ctx, x, result=result: result, lambda ctx, g: g).apply(leaf(torch)))
    out = made(torch, lambda ctx, x: [x * 2], lambda ctx, g: g).apply(leaf(torch))
    return type(out).__name__, out[0].requires_grad


@program
def of_some_inputs_only(torch, note):
    a, b = leaf(torch), leaf(torch)
    y = cube(torch).apply(a) + cube(torch).apply(b)
    unused = made(torch, lambda ctx, x: x * 2, lambda ctx, g: note("never")).apply(b)
    return torch.autograd.grad((y + unused).sum(), [a])


@program
def straight_through(torch, note):
    function = made(torch, lambda ctx, x: x.round(), lambda ctx, g: g)
    x = leaf(torch, 0.4, 1.6)
    (function.apply(x) * torch.tensor([2.0, 3.0])).sum().backward()
    return x.grad


@program
def a_reversed_gradient(torch, note):
    function = made(torch, lambda ctx, x: x.view_as(x), lambda ctx, g: g.neg())
    x = leaf(torch)
    y = x * 2
    (function.apply(y) + y.exp()).sum().backward()
    return x.grad


@program
def complex_numbers(torch, note):
    function = made(torch, lambda ctx, z: z * (1 + 1j), lambda ctx, g: g * (1 - 1j))
    z = torch.tensor([1 + 2j, 3j], requires_grad=True)
    function.apply(z).abs().sum().backward()
    return z.grad.real, z.grad.imag


@program
def vjp_instead_of_backward(torch, note):
    function = type("Mine", (torch.autograd.Function,), {
        "forward": staticmethod(lambda ctx, x: x * 2), "vjp": staticmethod(lambda ctx, g: g * 2)})  # fmt: skip
    return pulled(torch, function)


ERRORS = {
    "too_many": lambda torch: pulled(torch, made(torch, lambda ctx, x: x * 2, lambda ctx, g: (g, g))),
    "too_many_none": lambda torch: pulled(torch, made(torch, lambda ctx, x: x * 2, lambda ctx, g: (g, None, None))),
    "too_few": lambda torch: pulled(torch, made(torch, lambda ctx, x, n: x * 2, lambda ctx, g: g), 3),
    "number": lambda torch: pulled(torch, made(torch, lambda ctx, x: x * 2, lambda ctx, g: 3)),
    "list": lambda torch: pulled(torch, made(torch, lambda ctx, x: x * 2, lambda ctx, g: [g])),
    "none": lambda torch: pulled(torch, made(torch, lambda ctx, x: x * 2, lambda ctx, g: None)),
    "shape": lambda torch: pulled(torch, made(torch, lambda ctx, x: x * 2, lambda ctx, g: torch.ones(3))),
    "small": lambda torch: pulled(torch, made(torch, lambda ctx, x: x * 2, lambda ctx, g: torch.ones(1))),
    "of_a_number": lambda torch: pulled(torch, made(torch, lambda ctx, x, n: x * 2, lambda ctx, g: (g, g)), 3),
    "saved": lambda torch: made(torch, lambda ctx, x: (ctx.save_for_backward(3), x)[1], None).apply(leaf(torch) * 2),
    "dirty": lambda torch: made(torch, lambda ctx, x: (ctx.mark_dirty(3), x)[1], None).apply(leaf(torch) * 2),
    "marked": lambda torch: made(torch, lambda ctx, x: (ctx.mark_non_differentiable(3), x * 2)[1],
                                 None).apply(leaf(torch)),
    "no_forward": lambda torch: type("F", (torch.autograd.Function,), {}).apply(leaf(torch)),
    "no_backward": lambda torch: pulled(torch, type("F", (torch.autograd.Function,),
                                                    {"forward": staticmethod(lambda ctx, x: x * 2)})),
    "both": lambda torch: pulled(torch, made(torch, lambda ctx, x: x * 2, lambda ctx, g: g, vjp=lambda ctx, g: g)),
    "raises": lambda torch: pulled(torch, made(torch, lambda ctx, x: x * 2, lambda ctx, g: 1 // 0)),
    "jvp": lambda torch: torch.autograd.Function.jvp(None),
    "vmap": lambda torch: torch.autograd.Function.vmap(None, None),
    "setup": lambda torch: torch.autograd.Function.setup_context(None, (), None),
    "instance": lambda torch: cube(torch)()(leaf(torch)) and None,
}  # fmt: skip


def error(name, run):
    def fails(torch, note):
        return run(torch)

    fails.__name__ = f"error_{name}"
    PROGRAMS.append(fails)


for name, run in ERRORS.items():
    error(name, run)


@program
def dirty_without_grad_mode(torch, note):
    def forward(ctx, x):
        ctx.mark_dirty(x)
        return x.mul_(2)

    function = made(torch, forward, lambda ctx, g: g * 2)
    for x in (leaf(torch), leaf(torch) * 3, torch.ones(2)):
        with torch.no_grad():
            y = function.apply(x)
        note(y is x, y, y.requires_grad, y.is_leaf, y.grad_fn is None)
        note(x, x.requires_grad, x.is_leaf, x.grad_fn and x.grad_fn.name(), x._version)


@pytest.mark.oracle
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("run", PROGRAMS, ids=lambda p: p.__name__)
def test_functions_as_in_pytorch(run, way):
    check(run, way)


def test_a_class_made_anew_is_the_same_step(compiled):
    torch = tracegrad
    x = leaf(torch)
    torch.synchronize()
    counts = []
    for _ in range(4):
        x.grad = None
        (cube(torch).apply(x) * 2).sum().backward()
        x.grad.tolist()
        counts.append(compiled())
    assert counts[1:] == [0, 0, 0]


def test_contexts_do_not_outlive_their_graph():
    import gc
    import weakref

    torch = tracegrad
    contexts = []

    def forward(ctx, x):
        contexts.append(weakref.ref(ctx))
        out = x * 2
        ctx.save_for_backward(x, out)
        return out

    function = made(torch, forward, lambda ctx, g: g * 2)
    for read in (False, True):
        x = leaf(torch)
        y = function.apply(x)
        if read:
            y.tolist()
        y.sum().backward()
        x.grad.tolist()
        del y, x
    torch.synchronize()
    gc.collect()
    assert [c() for c in contexts] == [None, None]
