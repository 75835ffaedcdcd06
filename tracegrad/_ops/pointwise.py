"""Arithmetic on two operands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax.numpy as jnp

from tracegrad._engine.trace import binary, unary
from tracegrad._ops import _rules as rules
from tracegrad._ops._declare import op

if TYPE_CHECKING:
    from tracegrad._tensor import Tensor


@op(inplace=True)
def mul(input: Tensor, other: Any) -> Tensor:
    """Return ``input * other``, broadcast and promoted."""
    return binary(rules.arithmetic, jnp.multiply, input, other)


@op(inplace=True)
def add(input: Tensor, other: Any) -> Tensor:
    """Return ``input + other``, broadcast and promoted."""
    return binary(rules.arithmetic, jnp.add, input, other)


@op(inplace=True)
def exp(input: Tensor) -> Tensor:
    """Return ``e ** x`` for every element ``x`` of ``input``."""
    return unary(rules.floating, jnp.exp, input)
