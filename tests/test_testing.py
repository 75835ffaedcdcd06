"""The helper that compares gradients with JAX's: what it accepts, and what it says of what it does not."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tracegrad as torch
from tracegrad.testing import assert_matches_jax


def test_one_function_for_both():
    assert_matches_jax(lambda x, y: (x * y).sum(), torch.ones(3), torch.arange(3.0))


def test_vectors_tuples_integers_and_plain_arguments():
    index = torch.tensor([2, 0])

    def ours(x, scale, index):
        return x[index] * scale, x.sum(), x > 0

    assert_matches_jax(ours, torch.randn(3), 2.5, index)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex128])
def test_dtypes(dtype):
    x = torch.linspace(0.5, 2.0, 4).to(dtype)
    assert_matches_jax(lambda x: x * x / (x + 1), x)


def test_complex_gradients_in_pytorchs_convention():
    z = np.array([1 + 2j, 3 - 1j])
    assert_matches_jax(lambda z: torch.exp(z) * z, z, jax_function=lambda z: jnp.exp(z) * z)


def test_unused_argument_has_a_gradient_of_zeros():
    assert_matches_jax(lambda x, y: x.sum(), torch.ones(2), torch.ones(2))


def test_arguments_are_left_alone():
    x = torch.ones(2, requires_grad=True)
    assert_matches_jax(lambda x: (x * 2).sum(), x)
    assert x.grad is None


def test_jax_configuration_is_left_alone():
    assert_matches_jax(lambda x: x.sum(), torch.ones(2, dtype=torch.float64))
    assert jnp.asarray(1.0).dtype == jnp.float32 and not jax.config.jax_enable_x64


@pytest.mark.parametrize(("ours", "theirs", "message"), [
    (lambda x, weight: (x * weight).sum() + 1, lambda x, weight: (x * weight).sum(),
     r"the value differs from JAX's in 1 of 1 elements, most: got 3.0, expected 2.0 \(rtol=1e-05, atol=1e-05\)"),
    (lambda x, weight: (x * weight.detach()).sum(), lambda x, weight: (x * weight).sum(),
     r"the gradient of argument 1 \(weight\) differs from JAX's in 2 of 2 elements, most at index \(0,\): got 0.0, "
     "expected 1.0"),
    (lambda x, weight: x, lambda x, weight: x.sum(), r"the value has shape \(2,\), JAX's has \(\)"),
    (lambda x, weight: (x, x), lambda x, weight: x, "got 2 outputs, JAX's function returns 1"),
    (lambda x, weight: (x, 1.0), lambda x, weight: (x, 1.0), "output 1 is no tensor but float"),
])  # fmt: skip
def test_differences_are_named(ours, theirs, message):
    with pytest.raises(AssertionError, match=message):
        assert_matches_jax(ours, torch.ones(2), torch.ones(2), jax_function=theirs)


def test_tolerance_is_the_callers():
    assert_matches_jax(lambda x: x.sum() + 1, torch.ones(2), jax_function=lambda x: x.sum(), atol=1.5)
    with pytest.raises(AssertionError, match=r"got nan, expected 2.0"):
        assert_matches_jax(lambda x: x.sum() * torch.nan, torch.ones(2), jax_function=lambda x: x.sum(), atol=9.0)
