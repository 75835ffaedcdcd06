"""Custom Functions with a ``vmap`` of their own, and with a generated one."""

from __future__ import annotations

import pytest
from _both import WAYS, check

PROGRAMS = []


def program(function):
    PROGRAMS.append(function)
    return function


def scale(torch, note):
    class Scale(torch.autograd.Function):
        @staticmethod
        def forward(x, k):
            return x * k

        @staticmethod
        def setup_context(ctx, inputs, output):
            ctx.save_for_backward(inputs[0])
            ctx.k = inputs[1]

        @staticmethod
        def backward(ctx, g):
            return g * ctx.k * 10, None

        @staticmethod
        def vmap(info, in_dims, x, k):
            note(info.batch_size, info.randomness, in_dims, tuple(x.shape))
            return Scale.apply(x, k), in_dims[0]

    return Scale


def two(torch, note):
    class Two(torch.autograd.Function):
        @staticmethod
        def forward(x, w):
            return x * w, x.sum(-1)

        @staticmethod
        def setup_context(ctx, inputs, output):
            ctx.save_for_backward(*inputs)

        @staticmethod
        def backward(ctx, g, h):
            x, w = ctx.saved_tensors
            return g * w + h[..., None], None

        @staticmethod
        def vmap(info, in_dims, x, w):
            note(in_dims)
            x = x.movedim(in_dims[0], 0) if in_dims[0] is not None else x.expand(info.batch_size, *x.shape)
            w = w.movedim(in_dims[1], 0) if in_dims[1] is not None else w
            return Two.apply(x, w), (0, 0)

    return Two


def matrix(torch, wants=True):
    return torch.arange(6.0).reshape(2, 3).requires_grad_(wants)


@program
def over_an_input(torch, note):
    x = matrix(torch)
    y = torch.vmap(lambda r: scale(torch, note).apply(r, 3))(x)
    note(y)
    y.sum().backward()
    return x.grad


@program
def over_something_computed(torch, note):
    x = matrix(torch)
    y = torch.vmap(lambda r: scale(torch, note).apply(r * 2, 3).sum(), in_dims=1, randomness="different")(x)
    y.sum().backward()
    return y, x.grad


@program
def under_a_gradient_inside(torch, note):
    x = matrix(torch, False)
    f = torch.func.grad(lambda r: scale(torch, note).apply(r, 3).exp().sum())
    return torch.vmap(f)(x), torch.vmap(lambda r: scale(torch, note).apply(f(r), 2))(x)


@program
def under_a_gradient_outside(torch, note):
    x = matrix(torch, False)
    return torch.func.grad(lambda a: torch.vmap(lambda r: scale(torch, note).apply(r, 3).sum())(a).sum())(x)


@program
def nested(torch, note):
    x, f = matrix(torch, False), scale(torch, note)
    apart = torch.vmap(lambda a: torch.vmap(lambda b: f.apply(b, 2) + f.apply(a, 2).sum())(x))(x)
    return apart, torch.vmap(lambda a: torch.vmap(lambda b: f.apply(a * b, 2))(x))(x)


@program
def several_results(torch, note):
    x, w = matrix(torch), torch.tensor([1.0, 2.0, 3.0])
    a, b = torch.vmap(lambda r: two(torch, note).apply(r, w))(x)
    note(a, b)
    (a.sum() + b.sum() * 2).backward()
    return x.grad, torch.vmap(two(torch, note).apply, in_dims=(None, 0))(torch.ones(3), torch.ones(2, 3))


@program
def outside_of_vmap(torch, note):
    x = matrix(torch)
    scale(torch, note).apply(x, 3).sum().backward()
    return x.grad


@program
def generated(torch, note):
    class Square(torch.autograd.Function):
        generate_vmap_rule = True

        @staticmethod
        def forward(x):
            return x * x

        @staticmethod
        def setup_context(ctx, inputs, output):
            ctx.save_for_backward(*inputs)

        @staticmethod
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            return g * x * 20

    x = matrix(torch)
    y = torch.vmap(lambda r: Square.apply(r).sum())(x)
    y.sum().backward()
    note(y, x.grad)
    both = type("Both", (Square,), {"vmap": staticmethod(lambda info, in_dims, x: (x, 0))})
    torch.vmap(both.apply)(x)


def returns(what, name):
    @program
    def run(torch, note):
        class Wrong(torch.autograd.Function):
            @staticmethod
            def forward(x):
                return x

            @staticmethod
            def setup_context(ctx, inputs, output):
                pass

            @staticmethod
            def vmap(info, in_dims, x):
                return what(x)

        try:
            torch.vmap(Wrong.apply)(matrix(torch, False))
        except RuntimeError as error:
            note(str(error).replace("tracegrad.Tensor", "torch.Tensor").split(" out_dims has")[0])

    run.__name__ = f"returns_{name}"


returns(lambda x: x, "a_tensor")
returns(lambda x: (x, 0, 0), "three")
returns(lambda x: (x, (0, 0)), "other_dims")


@program
def without_setup_context(torch, note):
    class Old(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def vmap(info, in_dims, x):
            return x * 2, in_dims[0]

    torch.vmap(Old.apply)(matrix(torch, False))


@pytest.mark.oracle
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("run", PROGRAMS, ids=lambda p: p.__name__)
def test_as_in_pytorch(run, way):
    check(run, way)
