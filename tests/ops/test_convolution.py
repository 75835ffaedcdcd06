"""Convolutions against PyTorch in each of the ways in which they run: values, gradients, gradients of gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tracegrad

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.oracle

#: dims, shape of the input, outputs, kernel, and further arguments
CASES = {
    "few inputs": (2, (2, 1, 6, 5), 3, 3, {"padding": 1}),
    "few inputs, strides and dilation": (2, (2, 2, 9, 8), 3, (3, 2), {"stride": (2, 1), "dilation": (1, 2)}),
    "one element": (2, (2, 5, 4, 3), 6, 1, {}),
    "one element, strides": (2, (2, 5, 5, 4), 6, 1, {"stride": 2}),
    "one element, padding": (2, (2, 40, 3, 2), 3, 1, {"padding": 1}),
    "strides": (2, (2, 8, 7, 6), 5, 3, {"stride": 2, "padding": 1}),
    "larger outputs": (2, (2, 8, 4, 5), 5, 2, {"padding": 1}),
    "larger in one dim": (2, (2, 16, 4, 5), 5, (2, 3), {"padding": (1, 0)}),
    "larger, dilated": (2, (2, 16, 4, 5), 5, 3, {"padding": 3, "dilation": 2}),
    "same": (2, (2, 16, 4, 5), 5, (1, 3), {"padding": "same"}),
    "groups": (2, (2, 6, 5, 4), 4, 3, {"padding": 1, "groups": 2}),
    "each channel": (2, (2, 5, 5, 4), 5, 3, {"padding": 1, "groups": 5}),
    "each channel, two outputs": (2, (2, 3, 5, 4), 6, 2, {"stride": 2, "groups": 3, "dilation": 2, "padding": 1}),
    "no batch, one element": (2, (3, 5, 4), 5, 1, {}),
    "1-D, larger": (1, (2, 16, 9), 5, 3, {"padding": 2}),
    "1-D, few inputs, strides": (1, (2, 3, 9), 5, 3, {"stride": 2}),
}


def run(lib: Any, arrays: list[np.ndarray], n: int, options: dict[str, Any]) -> list[np.ndarray]:
    """Return the output, its gradients, and the gradients of a function of those."""
    x, w, b = (lib.tensor(a, requires_grad=True) for a in arrays)
    y = getattr(lib.nn.functional, f"conv{n}d")(x, w, b, **options)
    first = lib.autograd.grad((y * y.detach().cos()).sum(), (x, w, b), create_graph=True)
    second = lib.autograd.grad(sum((g * g).sum() for g in first[:2]), (x, w))
    return [t.detach().numpy() for t in (y, *first, *second)]


@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients(case: str) -> None:
    n, shape, outs, kernel, options = CASES[case]
    rng = np.random.default_rng(0)
    size = kernel if isinstance(kernel, tuple) else (kernel,) * n
    weight = rng.standard_normal((outs, shape[-n - 1] // options.get("groups", 1), *size))
    arrays = [rng.standard_normal(shape), weight, rng.standard_normal(outs)]
    for found, expected in zip(run(tracegrad, arrays, n, options), run(torch, arrays, n, options)):
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("case", ["few inputs", "one element, strides", "strides", "larger outputs", "each channel"])
def test_errors_of_float32_are_as_small_as_pytorchs(case: str) -> None:
    n, shape, outs, kernel, options = CASES[case]
    rng = np.random.default_rng(1)
    weight = rng.standard_normal((outs, shape[1] // options.get("groups", 1), *(kernel,) * n))
    arrays = [rng.standard_normal(shape), weight, np.zeros(outs)]
    exact = run(torch, arrays, n, options)
    narrow = [a.astype(np.float32) for a in arrays]
    for ours, theirs, right in zip(run(tracegrad, narrow, n, options), run(torch, narrow, n, options), exact):
        size = np.abs(right).max() * 1e-6
        assert np.abs(ours - right).max() <= 3 * np.abs(theirs - right).max() + size


def test_no_elements() -> None:
    x, w = tracegrad.ones(0, 8, 4, 4), tracegrad.ones(3, 8, 3, 3, requires_grad=True)
    y = tracegrad.conv2d(x, w, stride=2)
    y.sum().backward()
    assert y.shape == (0, 3, 1, 1) and w.grad is not None and not w.grad.any().item()


def test_other_dtypes_and_eager() -> None:
    arrays = [np.ones((1, 8, 4, 4)), np.ones((2, 8, 3, 3))]
    with tracegrad.eager():
        x, w = (tracegrad.tensor(a, dtype=tracegrad.bfloat16, requires_grad=True) for a in arrays)
        y = tracegrad.conv2d(x, w, stride=2)
        y.sum().backward()
    assert y.dtype is tracegrad.bfloat16 and y.tolist() == [[[[72.0]], [[72.0]]]]
    assert w.grad is not None and w.grad.sum().item() == 144
