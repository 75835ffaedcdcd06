"""gradcheck and gradgradcheck: what they find, and PyTorch's words for it."""

from __future__ import annotations

import warnings

import pytest

import tracegrad


def both():
    torch = pytest.importorskip("torch")
    return torch, tracegrad


def doubles(torch, *values, wants=True):
    return torch.tensor(values or (0.5, -1.5), dtype=torch.float64, requires_grad=wants)


def bad(torch, factor=3.0):
    names = {"forward": staticmethod(lambda ctx, x: x * 2), "backward": staticmethod(lambda ctx, g: g * factor)}
    return type("Bad", (torch.autograd.Function,), names).apply


CASES = {
    "one": lambda t: t.autograd.gradcheck(lambda x: x.sin() * x, doubles(t)),
    "two": lambda t: t.autograd.gradcheck(lambda x, y: (x * y, (x - y).exp().sum()),
                                          (doubles(t), doubles(t, 1.0, 2.0))),
    "constant_input": lambda t: t.autograd.gradcheck(lambda x, y: x * y,
                                                     (doubles(t), doubles(t, 1.0, 2.0, wants=False))),
    "no_gradient": lambda t: t.autograd.gradcheck(lambda x: x.detach() * 0 + 1, doubles(t)),
    "detached": lambda t: t.autograd.gradcheck(lambda x: x.detach() * 2, doubles(t)),
    "none_wanted": lambda t: t.autograd.gradcheck(lambda x: x * 2, doubles(t, wants=False)),
    "wrong": lambda t: t.autograd.gradcheck(bad(t), doubles(t)),
    "wrong_false": lambda t: t.autograd.gradcheck(bad(t), doubles(t), raise_exception=False),
    "tolerances": lambda t: t.autograd.gradcheck(bad(t, 2.01), doubles(t), atol=0.1),
    "second": lambda t: t.autograd.gradgradcheck(lambda x: x**3, doubles(t)),
    "second_given": lambda t: t.autograd.gradgradcheck(lambda x: x**3, doubles(t), doubles(t, 2.0, 3.0)),
    "second_wrong": lambda t: t.autograd.gradgradcheck(bad_twice(t), doubles(t), doubles(t, 2.0, 3.0)),
    "forward": lambda t: t.autograd.gradcheck(lambda x: x.exp(), doubles(t), check_forward_ad=True),
    "batched": lambda t: t.autograd.gradcheck(lambda x: x.exp(), doubles(t), check_batched_grad=True),
    "fast": lambda t: t.autograd.gradcheck(lambda x: x.exp(), doubles(t), fast_mode=True),
    "complex": lambda t: t.autograd.gradcheck(lambda z: (z * z.conj() + z.exp(), z.abs()),
                                              t.tensor([1 + 2j, 0.5j], dtype=t.complex128, requires_grad=True)),
    "to_complex": lambda t: t.autograd.gradcheck(lambda x: t.exp(x * 1j), doubles(t)),
    "dtypes": lambda t: t.autograd.gradcheck(lambda x: x * 2, doubles(t), check_grad_dtypes=True),
    "matrix": lambda t: t.autograd.gradcheck(t.matmul, (doubles(t, [1.0, 2.0], [3.0, 4.0]), doubles(t))),
}  # fmt: skip


def bad_twice(torch):
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * 3 * x.detach() ** 2 + 0 * x * g

    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    names = {"forward": staticmethod(forward), "backward": staticmethod(backward)}
    return type("Bad", (torch.autograd.Function,), names).apply


@pytest.mark.oracle
@pytest.mark.filterwarnings("ignore:.*torch.jit.script")
@pytest.mark.parametrize("case", CASES)
def test_as_in_pytorch(case):
    found = []
    for torch in both():
        try:
            found.append(CASES[case](torch))
        except Exception as error:
            text = str(error).split("numerical:")[0].split("NOTE")[0].strip()
            found.append((type(error).__name__, text))
    assert found[1] == found[0]


def test_single_precision_is_warned_of():
    x = tracegrad.ones(2, requires_grad=True)
    with pytest.warns(UserWarning, match="Input #0 requires gradient and is not a double precision"):
        assert tracegrad.autograd.gradcheck(lambda x: x * 2, x, atol=0.1)


def test_inputs_are_left_as_they_were():
    x = doubles(tracegrad)
    value = x._value
    tracegrad.autograd.gradcheck(lambda x: x.sin(), x)
    assert x._value is value and x.grad is None


def test_no_program_per_element(compiled):
    x = doubles(tracegrad, 1.0, 2.0, 3.0, 4.0)
    tracegrad.synchronize()
    compiled()
    tracegrad.autograd.gradcheck(lambda x: x.sin() * x, x)
    assert compiled() <= 8


def test_a_backward_that_is_not_deterministic():
    calls = []

    def backward(ctx, g):
        calls.append(1)
        return g * (2 + 1e-7 * len(calls))

    function = type("Noisy", (tracegrad.autograd.Function,), {
        "forward": staticmethod(lambda ctx, x: x * 2), "backward": staticmethod(backward)})  # fmt: skip
    with pytest.raises(RuntimeError, match="Backward is not reentrant"):
        tracegrad.autograd.gradcheck(function.apply, doubles(tracegrad))
    with warnings.catch_warnings():
        assert tracegrad.autograd.gradcheck(function.apply, doubles(tracegrad), nondet_tol=1e-3)
