"""Checks for users' tests: tensors that are close, tensors to try things on, gradients against JAX's."""

from tracegrad.testing._close import assert_close as assert_close
from tracegrad.testing._jax import assert_matches_jax as assert_matches_jax
from tracegrad.testing._made import make_tensor as make_tensor
