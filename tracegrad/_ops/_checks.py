"""What ops look for in their elements when they run: indices out of bounds, zeros among divisors and the like."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp

from tracegrad._engine.checks import Check
from tracegrad._engine.value import Aval

#: PyTorch's words for an index out of bounds: ``i`` is the index, ``d`` the dim, ``n`` its size.
BOUNDS = "index {i} is out of bounds for dimension {d} with size {n}"


def first(wrong: Any, elements: Any) -> tuple[Any, Any]:
    """Return whether ``wrong`` holds anywhere, and the first of ``elements`` at which it does."""
    if not wrong.size:
        return False, 0
    place = jnp.min(jnp.where(wrong.reshape(-1), jnp.arange(wrong.size), wrong.size))
    return place < wrong.size, elements.reshape(-1)[jnp.minimum(place, wrong.size - 1)]


def never(operand: int, wrong: Callable[[Any], Any], error: Callable[[int], Exception]) -> Check:
    """Check that ``wrong(array)`` holds for no element of an operand."""

    def find(operands: Sequence[Any], outputs: Sequence[Any]) -> tuple[Any, Any]:
        return jnp.any(wrong(jnp.asarray(operands[operand]))), 0

    return Check(find, error)


def indices(operand: int, size: int, error: Callable[[int], Exception], negative: bool = False) -> Check:
    """Check that an operand's elements are less than ``size``, and not negative, or not below ``-size``."""
    least = -size if negative else 0

    def find(operands: Sequence[Any], outputs: Sequence[Any]) -> tuple[Any, Any]:
        i = jnp.asarray(operands[operand])
        return first((i < least) | (i >= size), i)

    return Check(find, error)


def bounds(operand: int, size: int, dim: int, kind: type[Exception], negative: bool = False) -> tuple[Check, ...]:
    """Return the check of an index along ``dim``, which has ``size``, with PyTorch's usual message."""
    return (indices(operand, size, lambda i: kind(BOUNDS.format(i=i, d=dim, n=size)), negative),)


def divisor(operand: int, of: Any) -> tuple[Check, ...]:
    """Return the check that a divisor among integers has no zero; none for one that is part of the trace."""
    if not isinstance(of, Aval) and of.value is not None:
        return ()
    return (never(operand, lambda y: y == 0, lambda _: RuntimeError("ZeroDivisionError")),)
