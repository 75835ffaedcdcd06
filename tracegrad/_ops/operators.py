"""Python's operators on tensors: where the other operand is nothing that ops take, Python asks that instead.

``None == x`` is False then, ``[0] * n`` repeats a list, and ``x + y`` calls ``y.__radd__``. Each operator records by
itself rather than through its op: one call less, and an exception that is not raised costs nothing.
"""

from __future__ import annotations

import numbers
import operator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tracegrad._engine.trace import binary
from tracegrad._handle import Handle
from tracegrad._ops import _rules as rules
from tracegrad._ops.comparison import ordering
from tracegrad._ops.pointwise import subtraction

_TAKEN = (Handle, numbers.Number, np.ndarray, jax.Array)


def _refused(other: Any) -> Any:
    """Return NotImplemented where ops never take ``other``; else raise on what is being handled."""
    if isinstance(other, _TAKEN):
        raise
    return NotImplemented


def add(self: Any, other: Any) -> Any:
    """``self + other``."""
    try:
        return binary(rules.arithmetic, operator.add, self, other)
    except TypeError:
        return _refused(other)


def sub(self: Any, other: Any) -> Any:
    """``self - other``."""
    try:
        return binary(subtraction, operator.sub, self, other)
    except TypeError:
        return _refused(other)


def mul(self: Any, other: Any) -> Any:
    """``self * other``."""
    try:
        return binary(rules.arithmetic, operator.mul, self, other)
    except TypeError:
        return _refused(other)


def truediv(self: Any, other: Any) -> Any:
    """``self / other``."""
    try:
        return binary(rules.division, operator.truediv, self, other)
    except TypeError:
        return _refused(other)


def eq(self: Any, other: Any) -> Any:
    """``self == other``."""
    try:
        return binary(rules.comparison, jnp.equal, self, other)
    except TypeError:
        return _refused(other)


def ne(self: Any, other: Any) -> Any:
    """``self != other``."""
    try:
        return binary(rules.comparison, jnp.not_equal, self, other)
    except TypeError:
        return _refused(other)


def lt(self: Any, other: Any) -> Any:
    """``self < other``."""
    try:
        return binary(ordering, jnp.less, self, other)
    except TypeError:
        return _refused(other)


def le(self: Any, other: Any) -> Any:
    """``self <= other``."""
    try:
        return binary(ordering, jnp.less_equal, self, other)
    except TypeError:
        return _refused(other)


def gt(self: Any, other: Any) -> Any:
    """``self > other``."""
    try:
        return binary(ordering, jnp.greater, self, other)
    except TypeError:
        return _refused(other)


def ge(self: Any, other: Any) -> Any:
    """``self >= other``."""
    try:
        return binary(ordering, jnp.greater_equal, self, other)
    except TypeError:
        return _refused(other)
