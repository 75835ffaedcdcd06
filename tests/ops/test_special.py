"""The namespace ``special``: its names, what the table cannot say of its functions, and second derivatives."""

from __future__ import annotations

import math

import numpy as np
import pytest

import tracegrad

special = tracegrad.special
#: In PyTorch, and refused here by being absent.
ABSENT = {"airy_ai"}


@pytest.mark.oracle
def test_names():
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle: pip install -e .[oracle]")
    names = set(torch.special.__all__)
    absent = {n for n in names if not hasattr(special, n)}
    assert {n for n in absent if "polynomial" not in n} == ABSENT


def test_other_names_are_the_same_functions():
    assert special.psi is special.digamma is tracegrad.digamma
    assert special.expit is tracegrad.sigmoid
    assert special.gammaln is tracegrad.lgamma
    assert special.gammainc is tracegrad.igamma
    assert special.multigammaln is tracegrad.mvlgamma


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_narrow_types_are_computed_in_float32(dtype):
    x = tracegrad.tensor([0.25, 0.75])
    narrow = getattr(tracegrad, dtype)
    for fn in (special.erf, special.ndtri, special.i0, special.entr, special.erfcx):
        out = fn(x.to(narrow))
        assert out.dtype is narrow
        assert np.allclose(out.float().tolist(), fn(x).tolist(), 1e-2 if narrow is not tracegrad.float32 else 1e-6)


def test_far_from_zero():
    big = tracegrad.tensor([10.0, 1e3, 1e10, float("inf"), -1e3], dtype=tracegrad.float64)
    assert special.erfcx(big).tolist()[:4] == pytest.approx([0.05614099274382259, 5.641893014533e-4, 5.6418958e-11, 0])
    assert special.erfcx(big)[4].item() == float("inf")
    assert special.log_ndtr(tracegrad.tensor([-30.0, -300.0])).tolist() == pytest.approx([-454.3212, -45006.62], 1e-5)
    assert special.i0e(tracegrad.tensor([1e4])).item() == pytest.approx(0.003989473, 1e-5)


@pytest.mark.parametrize("name", ["erfcx", "ndtri", "ndtr", "entr", "i0", "i0e", "i1", "i1e", "log_ndtr"])
def test_second_derivative(name):
    fn, x0, h = getattr(special, name), np.array([0.3, 0.62]), 1e-5

    def slope(at, create_graph=False):
        x = tracegrad.tensor(at, requires_grad=True)
        (g,) = tracegrad.autograd.grad(fn(x).sum(), x, create_graph=create_graph)
        return x, g

    x, g = slope(x0, True)
    (second,) = tracegrad.autograd.grad(g.sum(), x)
    expected = (np.array(slope(x0 + h)[1].tolist()) - np.array(slope(x0 - h)[1].tolist())) / (2 * h)
    assert np.allclose(second.tolist(), expected, 1e-5, 1e-6)


def test_polygamma_is_a_method_too():
    x = tracegrad.tensor([1.0, 2.0])
    assert x.polygamma(1).tolist() == tracegrad.polygamma(1, x).tolist()
    y = x.clone()
    assert y.polygamma_(1) is y and y.tolist() == x.polygamma(1).tolist()


def test_polygamma_is_exact():
    """Constants from mpmath; PyTorch's trigamma is off by up to 5e-10."""
    for n, x, expected in ((1, 1.0, math.pi**2 / 6), (1, 0.3, 12.2453645461077313), (2, 1.5, -0.828796644234319996),
                           (5, 2.5, 0.578569178567183485), (1, -1.3, 14.5368762441370796)):  # fmt: skip
        found = tracegrad.polygamma(n, tracegrad.tensor(x, dtype=tracegrad.float64)).item()
        assert found == pytest.approx(expected, rel=1e-14)
