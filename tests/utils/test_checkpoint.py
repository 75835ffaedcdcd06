"""``utils.checkpoint``: the same results and gradients as without, less memory, and PyTorch's arguments."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import tracegrad
from tracegrad._engine.trie import LEAF
from tracegrad.utils.checkpoint import checkpoint, checkpoint_sequential


def plain(function, *args, use_reentrant=None, **kwargs):
    return function(*args, **kwargs)


def model(seed=0):
    tracegrad.manual_seed(seed)
    nn = tracegrad.nn
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Dropout(0.5), nn.Linear(8, 8), nn.BatchNorm1d(8),
                         nn.Linear(8, 3))  # fmt: skip


def train(call, read=False, steps=2, reentrant=False):
    net = model()
    inputs = tracegrad.ones(5, 4).cumsum(0).requires_grad_()
    optimizer = tracegrad.optim.SGD(net.parameters(), lr=0.1)

    def block(x):
        h = net[:4](x)
        if read:
            assert h.sum().item() == h.sum().item()
        return net[4:](h), h.mean()

    for _ in range(steps):
        optimizer.zero_grad()
        y, m = call(block, inputs, use_reentrant=reentrant)
        ((y**2).sum() + m).backward()
        optimizer.step()
    return [p.detach().numpy() for p in (*net.parameters(), *net.buffers(), inputs.grad)]


@pytest.mark.parametrize("options", [{}, {"read": True}, {"reentrant": True}], ids=str)
def test_training_is_the_same(options):
    wanted = train(plain)
    for a, b in zip(train(checkpoint, **options), wanted):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6)


def test_training_is_the_same_in_eager():
    wanted = train(plain, steps=1)
    with tracegrad.eager():
        found = train(checkpoint, steps=1)
    for a, b in zip(found, wanted):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6)


def test_steady_state_compiles_nothing(compiled):
    train(checkpoint, steps=2)
    compiled()
    train(checkpoint, steps=2)
    assert compiled() == 0


def chain(x):
    for _ in range(6):
        x = (x.sin() * 2).tanh()
    return x.sum()


def residuals(call):
    x = tracegrad.ones(100, requires_grad=True)
    y = call(chain, x, use_reentrant=False)
    y.item()
    kept = [a for a in y._value.source.segment.residuals if not hasattr(a, "spec")]
    y.backward()
    return sum(a.size for a in kept if a is not None), x.grad.tolist()


def test_a_read_between_forward_and_backward_keeps_the_inputs_alone():
    with_, without = residuals(checkpoint), residuals(plain)
    assert with_[0] <= 1 and without[0] >= 600
    assert with_[1] == pytest.approx(without[1])


def test_the_backward_computes_again():
    """What XLA is given; on a CPU, it undoes it: its barriers go before it looks for what is computed twice."""

    def sines(call):
        x = tracegrad.ones(3, requires_grad=True)
        call(chain, x, use_reentrant=False).backward()
        x.grad.tolist()
        program = tracegrad._engine.program.all_programs()[-1]
        args = [np.ones((), np.float32) if n.specs[0].aval.shape == () else np.ones(3, np.float32)
                for n in program.path if n.kind == LEAF]  # fmt: skip
        return str(program.trace(args).jaxpr).count(" sin ")

    assert sines(plain) == 6 and sines(checkpoint) == 12


def test_arguments_and_results():
    w = tracegrad.ones(2, requires_grad=True)

    def f(a, n, *, scale, other=None):
        return {"y": a * n * scale * w, "n": n, "none": other, "same": a}, [a.sum()]

    x = tracegrad.tensor([1.0, 2.0], requires_grad=True)
    found, (total,) = checkpoint(f, x, 3, scale=2.0, use_reentrant=False)
    assert found["n"] == 3 and found["none"] is None and found["same"] is x
    (found["y"].sum() + total).backward()
    assert x.grad.tolist() == [7.0, 7.0] and w.grad.tolist() == [6.0, 12.0]


def test_nested_and_twice():
    x = tracegrad.tensor([0.3, -0.7], dtype=tracegrad.float64, requires_grad=True)

    def twice(call):
        y = call(lambda a: call(lambda b: b.sin() * b, a, use_reentrant=False) ** 2, x, use_reentrant=False)
        (g,) = tracegrad.autograd.grad(y.sum(), x, create_graph=True)
        (h,) = tracegrad.autograd.grad(g.sum(), x)
        return [*g.tolist(), *h.tolist()]

    assert twice(checkpoint) == pytest.approx(twice(plain))


def test_under_transforms():
    x = tracegrad.tensor([0.3, -0.7], dtype=tracegrad.float64)

    def f(a):
        return checkpoint(lambda b: (b.sin() * b).sum(), a, use_reentrant=False)

    def g(a):
        return (a.sin() * a).sum()

    func = tracegrad.func
    np.testing.assert_allclose(func.hessian(f)(x).numpy(), func.hessian(g)(x).numpy())
    both = tracegrad.stack([x, x * 2])
    np.testing.assert_allclose(func.vmap(func.grad(f))(both).numpy(), func.vmap(func.grad(g))(both).numpy())


def test_gradients_taken_inside():
    x = tracegrad.tensor([0.3, -0.7], requires_grad=True)

    def f(a):
        b = a * 2
        (g,) = tracegrad.autograd.grad((b**3).sum(), b, create_graph=True)
        return (g * b).sum()

    checkpoint(f, x, use_reentrant=False).backward()
    np.testing.assert_allclose(x.grad.tolist(), 3 * 8 * 3 * x.detach().numpy() ** 2, rtol=1e-5)


def test_a_backward_inside_reaches_leaves_outside():
    x, w = tracegrad.ones(2, requires_grad=True), tracegrad.tensor([2.0, 3.0], requires_grad=True)

    def f(a):
        (a * w).sum().backward()
        return a * 2

    y = checkpoint(f, x, use_reentrant=False)
    assert w.grad.tolist() == [1.0, 1.0] and y.tolist() == [2.0, 2.0]


def test_hooks_and_functions_inside():
    torch = tracegrad
    seen = []

    class Cube(torch.autograd.Function):
        @staticmethod
        def forward(ctx, a):
            ctx.save_for_backward(a)
            return a**3

        @staticmethod
        def backward(ctx, g):
            (a,) = ctx.saved_tensors
            return g * 30 * a * a  # ten times what it is

    def f(a):
        b = a * 2
        b.register_hook(lambda g: (seen.append(g.tolist()), g * 100)[1])
        return Cube.apply(b).sum()

    for _ in range(2):
        x = torch.tensor([1.0, 2.0], requires_grad=True)
        checkpoint(f, x, use_reentrant=False).backward()
        assert x.grad.tolist() == [1000 * 3 * 4 * 2, 1000 * 3 * 16 * 2]
    assert seen == [[120.0, 480.0]] * 2


def test_reentrant_needs_an_input_that_wants_gradients():
    w = tracegrad.ones(2, requires_grad=True)
    with pytest.warns(UserWarning, match="None of the inputs have requires_grad=True. Gradients will be None"):
        y = checkpoint(lambda a: a * w, tracegrad.ones(2), use_reentrant=True)
    assert not y.requires_grad
    assert checkpoint(lambda a: a * w, tracegrad.ones(2), use_reentrant=False).requires_grad


def test_arguments_in_pytorchs_words():
    oracle = pytest.importorskip("torch")
    from torch.utils import checkpoint as theirs

    for bad in ({"use_reentrant": True, "n": 3}, {"use_reentrant": True, "debug": True}):
        messages = []
        for call, torch in ((checkpoint, tracegrad), (theirs.checkpoint, oracle)):
            with pytest.raises(ValueError) as error:
                call(lambda a: a, torch.ones(2), **bad)
            messages.append(str(error.value))
        assert messages[0] == messages[1]
    texts = []
    for call, torch in ((checkpoint, tracegrad), (theirs.checkpoint, oracle)):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            call(lambda a: a * 2, torch.ones(2, requires_grad=True))
        texts.append([str(w.message) for w in caught])
    assert texts[0] == texts[1]
    with pytest.raises(tracegrad.UnsupportedError, match="context_fn"):
        checkpoint(lambda a: a, tracegrad.ones(2), use_reentrant=False, context_fn=lambda: (None, None))


def test_without_grad_mode_it_just_runs():
    with tracegrad.no_grad():
        assert checkpoint(lambda a: a * 2, tracegrad.ones(2), use_reentrant=False).tolist() == [2.0, 2.0]


def test_an_error_inside():
    x = tracegrad.ones(2, requires_grad=True)
    with pytest.raises(ZeroDivisionError):
        checkpoint(lambda a: a / (1 // 0), x, use_reentrant=False)
    assert (x * 2).tolist() == [2.0, 2.0]


@pytest.mark.parametrize("segments", [1, 2, 3])
def test_sequential(segments):
    net = model()
    x = tracegrad.ones(5, 4).cumsum(0).requires_grad_()
    tracegrad.manual_seed(1)
    net(x).sum().backward()
    wanted, x.grad = x.grad.numpy(), None
    tracegrad.manual_seed(1)
    checkpoint_sequential(net, segments, x, use_reentrant=False).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), wanted, rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match="Unexpected keyword arguments: n"):
        checkpoint_sequential(net, segments, x, use_reentrant=False, n=1)
