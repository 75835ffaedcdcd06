"""Custom autograd Functions as parts of models."""

from __future__ import annotations

from _same import failing, same


def straight_through(torch):
    class Sign(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x.sign()

        @staticmethod
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            return g * (x.abs() <= 1)

    return Sign


def scaled(torch):
    class Scale(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, factor):
            ctx.factor = factor
            return x.view_as(x)

        @staticmethod
        def backward(ctx, g):
            return g * ctx.factor, None

    return Scale


@same
def test_a_straight_through_estimator_trains(torch):
    sign = straight_through(torch)
    w = torch.tensor([0.5, -0.3, 2.0], requires_grad=True)
    optimizer = torch.optim.SGD([w], lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        ((sign.apply(w) - 1) ** 2).sum().backward()
        optimizer.step()
    return w, sign.apply(w)


@same
def test_gradient_reversal_for_domain_adaptation(torch):
    scale = scaled(torch)
    w = torch.tensor([1.0, 2.0], requires_grad=True)
    feature = w * 2
    label, domain = feature.sum(), scale.apply(feature, -0.5).pow(2).sum()
    (label + domain).backward()
    return w, domain


@same
def test_a_function_inside_a_module(torch):
    sign = straight_through(torch)

    class Binary(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.tensor([[0.5, -0.2], [1.5, 0.1]]))

        def forward(self, x):
            return torch.nn.functional.linear(x, sign.apply(self.weight))

    model = Binary()
    out = model(torch.tensor([[1.0, 2.0]]))
    out.sum().backward()
    return out, model


@same
def test_a_clip_that_passes_gradients_by_the_setup_context_form(torch):
    class Clip(torch.autograd.Function):
        @staticmethod
        def forward(x, low):
            return x.clamp(min=low)

        @staticmethod
        def setup_context(ctx, inputs, output):
            ctx.save_for_backward(inputs[0])

        @staticmethod
        def backward(ctx, g):
            return g.clone(), None

    w = torch.tensor([-1.0, 2.0], requires_grad=True)
    y = Clip.apply(w, 0.0)
    (y * 3).sum().backward()
    return y, w


@same
def test_several_outputs_and_one_unused(torch):
    class Split(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2, x * 3

        @staticmethod
        def backward(ctx, a, b):
            return a * 2 + b * 3

    w = torch.tensor([1.0, 2.0], requires_grad=True)
    a, b = Split.apply(w)
    a.sum().backward()
    return a, b, w


@same
def test_second_derivatives_through_a_function(torch):
    class Square(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            return 2 * x * g

    w = torch.tensor([1.0, 2.0], requires_grad=True)
    (g,) = torch.autograd.grad(Square.apply(w).sum(), w, create_graph=True)
    (g * g).sum().backward()
    return g, w


@same
def test_needs_input_grad_skips_work(torch):
    asked = []

    class Product(torch.autograd.Function):
        @staticmethod
        def forward(ctx, a, b):
            ctx.save_for_backward(a, b)
            return a * b

        @staticmethod
        def backward(ctx, g):
            a, b = ctx.saved_tensors
            asked.append(ctx.needs_input_grad)
            return g * b if ctx.needs_input_grad[0] else None, g * a if ctx.needs_input_grad[1] else None

    w, x = torch.tensor([1.0, 2.0], requires_grad=True), torch.ones(2)
    Product.apply(w, x).sum().backward()
    Product.apply(x, w).sum().backward()
    return asked, w, x.grad


@same
def test_wrong_numbers_of_gradients_raise(torch):
    class Wrong(torch.autograd.Function):
        @staticmethod
        def forward(ctx, a, b):
            return a + b

        @staticmethod
        def backward(ctx, g):
            return g

    w = torch.ones(2, requires_grad=True)
    with failing() as error:
        Wrong.apply(w, w).sum().backward()
    (w * 2).sum().backward()
    return error, w


@same
def test_an_exception_in_backward_leaves_all_usable(torch):
    class Bad(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 1

        @staticmethod
        def backward(ctx, g):
            raise ValueError("not today")

    w = torch.ones(2, requires_grad=True)
    with failing() as error:
        (Bad.apply(w * 2) * 3).sum().backward()
    before = w.grad
    (w * 5).sum().backward()
    return error, before, w


@same
def test_functions_without_backward_raise_only_when_pulled_through(torch):
    class Forward(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

    w = torch.ones(2, requires_grad=True)
    y = Forward.apply(w)
    with failing() as error:
        y.sum().backward()
    return y.tolist(), error


@same
def test_a_function_under_no_grad_has_no_history(torch):
    sign = straight_through(torch)
    w = torch.ones(2, requires_grad=True)
    with torch.no_grad():
        y = sign.apply(w)
    return y, sign.apply(torch.ones(2))


@same
def test_mark_non_differentiable_indices(torch):
    class Best(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            value, index = x.max(0)
            ctx.mark_non_differentiable(index)
            ctx.save_for_backward(index)
            ctx.n = x.shape[0]
            return value, index

        @staticmethod
        def backward(ctx, g, _):
            (index,) = ctx.saved_tensors
            return torch.zeros(ctx.n).index_fill(0, index, 1.0) * g

    w = torch.tensor([1.0, 3.0, 2.0], requires_grad=True)
    value, index = Best.apply(w)
    (value * 4).backward()
    return value, index, w


@same
def test_mark_dirty_for_an_in_place_function(torch):
    class Double(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.mark_dirty(x)
            return x.mul_(2)

        @staticmethod
        def backward(ctx, g):
            return g * 2

    w = torch.tensor([1.0, 2.0], requires_grad=True)
    h = w * 1
    y = Double.apply(h)
    (h * y).sum().backward()
    return h.tolist(), y is h, w


@same
def test_a_function_in_the_middle_of_a_training_step_with_clipping_and_hooks(torch):
    scale = scaled(torch)
    w = torch.tensor([1.0, -2.0], requires_grad=True)
    optimizer = torch.optim.SGD([w], lr=0.1, momentum=0.9)
    norms = []
    for _ in range(3):
        optimizer.zero_grad()
        h = w * 3
        h.register_hook(lambda g: g * 2)
        scale.apply(h, 0.5).pow(2).sum().backward()
        norms.append(torch.nn.utils.clip_grad_norm_([w], 1.0).item())
        optimizer.step()
    return w, norms


@same
def test_the_name_of_a_function_in_the_graph(torch):
    y = straight_through(torch).apply(torch.ones(1, requires_grad=True))
    return y.grad_fn.name(), type(y.grad_fn).__name__, str(y)


@same
def test_functions_with_python_branches_on_values(torch):
    class Branch(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.positive = x.sum().item() > 0
            return x * 2 if ctx.positive else x * -1

        @staticmethod
        def backward(ctx, g):
            return g * 2 if ctx.positive else -g

    w = torch.tensor([1.0, 2.0], requires_grad=True)
    Branch.apply(w).sum().backward()
    Branch.apply(-w).sum().backward()
    return w
