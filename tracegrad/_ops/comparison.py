"""Comparisons, logic and bits, element by element."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from tracegrad import _dtype
from tracegrad._dtype import BOOL, COMPLEX, FLOATING
from tracegrad._engine import trace
from tracegrad._engine.op import Lowering
from tracegrad._engine.trace import binary, record, unary
from tracegrad._engine.value import Aval
from tracegrad._ops import _rules as rules
from tracegrad._ops._declare import op
from tracegrad._ops._out import into
from tracegrad._ops.pointwise import Operand, also, joined, promoted, refuse

if TYPE_CHECKING:
    from tracegrad._tensor import Tensor


# -- comparison ----------------------------------------------------------------------------------------------


@op(inplace=True)
def eq(input: Tensor, other: Tensor | complex, *, out: Tensor | None = None) -> Tensor:
    """Return where ``input == other``.

    Example:
        >>> import tracegrad as torch
        >>> torch.tensor([1, 2]) == torch.tensor([1, 3])
        tensor([ True, False])
    """
    if out is not None:
        return into(out, eq, input, other)
    return binary(rules.comparison, jnp.equal, input, other)  # type: ignore[no-any-return]


@op(inplace=True)
def ne(input: Tensor, other: Tensor | complex, *, out: Tensor | None = None) -> Tensor:
    """Return where ``input != other``."""
    if out is not None:
        return into(out, ne, input, other)
    return binary(rules.comparison, jnp.not_equal, input, other)  # type: ignore[no-any-return]


@op(inplace=True)
def lt(input: Tensor, other: Tensor | complex, *, out: Tensor | None = None) -> Tensor:
    """Return where ``input < other``."""
    if out is not None:
        return into(out, lt, input, other)
    return binary(ordering, jnp.less, input, other)  # type: ignore[no-any-return]


@op(inplace=True)
def le(input: Tensor, other: Tensor | complex, *, out: Tensor | None = None) -> Tensor:
    """Return where ``input <= other``."""
    if out is not None:
        return into(out, le, input, other)
    return binary(ordering, jnp.less_equal, input, other)  # type: ignore[no-any-return]


@op(inplace=True)
def gt(input: Tensor, other: Tensor | complex, *, out: Tensor | None = None) -> Tensor:
    """Return where ``input > other``."""
    if out is not None:
        return into(out, gt, input, other)
    return binary(ordering, jnp.greater, input, other)  # type: ignore[no-any-return]


@op(inplace=True)
def ge(input: Tensor, other: Tensor | complex, *, out: Tensor | None = None) -> Tensor:
    """Return where ``input >= other``."""
    if out is not None:
        return into(out, ge, input, other)
    return binary(ordering, jnp.greater_equal, input, other)  # type: ignore[no-any-return]


_SHORT = {"less": "lt", "less_equal": "le", "greater": "gt", "greater_equal": "ge"}


def ordering(a: Operand, b: Operand, fn: Callable[..., Any]) -> Lowering:
    """The rule of comparisons that complex numbers do not have."""
    refuse(f"{_SHORT[fn.__name__]}_cpu", rules.result_type((a, b)), COMPLEX)
    return rules.comparison(a, b, fn)


also("not_equal", ne, inplace=True)
also("less", lt, inplace=True)
also("less_equal", le, inplace=True)
also("greater", gt, inplace=True)
also("greater_equal", ge, inplace=True)


@op()
def isclose(input: Tensor, other: Tensor, rtol: float = 1e-05, atol: float = 1e-08,
            equal_nan: bool = False) -> Tensor:  # fmt: skip
    """Return where ``abs(input - other) <= atol + rtol * abs(other)``. The dtypes must be one."""
    return record(_isclose, (float(rtol), float(atol), equal_nan), input, other)  # type: ignore[no-any-return]


def _isclose(a: Aval, b: Aval, rtol: float, atol: float, equal_nan: bool) -> Lowering:
    rules.broadcast(a, b)
    if a.dtype is not b.dtype:
        raise RuntimeError(f"{_dtype.type_name(a.dtype)} did not match {_dtype.type_name(b.dtype)}")
    dtype = rules.to_float(a.dtype)

    def fn(x: Any, y: Any) -> Any:
        same = x == y
        if equal_nan:
            same |= jnp.isnan(x) & jnp.isnan(y)
        x, y = x.astype(dtype.np), y.astype(dtype.np)
        off = abs(x - y)
        return same | (jnp.isfinite(off) & (off <= atol + abs(rtol * y)))

    return Lowering(fn, differentiable=False)


@op()
def allclose(input: Tensor, other: Tensor, rtol: float = 1e-05, atol: float = 1e-08,
             equal_nan: bool = False) -> bool:  # fmt: skip
    """Return whether ``isclose`` holds everywhere, as a Python bool."""
    return _all(isclose(input, other, rtol, atol, equal_nan))


@op()
def equal(input: Tensor, other: Tensor) -> bool:
    """Return whether both have one shape and equal elements, as a Python bool.

    Example:
        >>> import tracegrad as torch
        >>> torch.equal(torch.tensor([1, 2]), torch.tensor([1, 2]))
        True
    """
    return input.shape == other.shape and _all(eq(input, other))


def _all(x: Tensor) -> bool:
    return bool(np.asarray(trace.force(x._value)).all())


# -- logic and bits ------------------------------------------------------------------------------------------


@op(inplace=True)
def logical_and(input: Tensor, other: Tensor | complex, *, out: Tensor | None = None) -> Tensor:
    """Return where both are true, that is not 0."""
    if out is not None:
        return into(out, logical_and, input, other)
    return binary(rules.logic, jnp.logical_and, input, other)  # type: ignore[no-any-return]


@op(inplace=True)
def logical_or(input: Tensor, other: Tensor | complex, *, out: Tensor | None = None) -> Tensor:
    """Return where one of both is true."""
    if out is not None:
        return into(out, logical_or, input, other)
    return binary(rules.logic, jnp.logical_or, input, other)  # type: ignore[no-any-return]


@op(inplace=True)
def logical_xor(input: Tensor, other: Tensor | complex, *, out: Tensor | None = None) -> Tensor:
    """Return where exactly one of both is true."""
    if out is not None:
        return into(out, logical_xor, input, other)
    return binary(rules.logic, jnp.logical_xor, input, other)  # type: ignore[no-any-return]


@op(inplace=True)
def logical_not(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return where ``input`` is 0."""
    if out is not None:
        return into(out, logical_not, input)
    return unary(rules.predicate, jnp.logical_not, input)  # type: ignore[no-any-return]


@op(inplace=True)
def bitwise_not(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return ``~input`` of integers or bools."""
    if out is not None:
        return into(out, bitwise_not, input)
    return unary(_inversion, jnp.bitwise_not, input)  # type: ignore[no-any-return]


def _inversion(x: Aval, fn: Callable[..., Any]) -> Lowering:
    if x.dtype.is_inexact:
        raise NotImplementedError(f"\"bitwise_not_cpu\" not implemented for '{_dtype.type_name(x.dtype)}'")
    return Lowering(fn, differentiable=False)


@op(inplace=True)
def bitwise_and(input: Tensor, other: Tensor | int, *, out: Tensor | None = None) -> Tensor:
    """Return ``input & other`` of integers or bools."""
    if out is not None:
        return into(out, bitwise_and, input, other)
    return binary(_bits, jnp.bitwise_and, input, other)  # type: ignore[no-any-return]


@op(inplace=True)
def bitwise_or(input: Tensor, other: Tensor | int, *, out: Tensor | None = None) -> Tensor:
    """Return ``input | other`` of integers or bools."""
    if out is not None:
        return into(out, bitwise_or, input, other)
    return binary(_bits, jnp.bitwise_or, input, other)  # type: ignore[no-any-return]


@op(inplace=True)
def bitwise_xor(input: Tensor, other: Tensor | int, *, out: Tensor | None = None) -> Tensor:
    """Return ``input ^ other`` of integers or bools."""
    if out is not None:
        return into(out, bitwise_xor, input, other)
    return binary(_bits, jnp.bitwise_xor, input, other)  # type: ignore[no-any-return]


def _bits(a: Operand, b: Operand, fn: Callable[..., Any]) -> Lowering:
    dtype = joined(a, b)
    refuse(f"{fn.__name__}_cpu", dtype, FLOATING, COMPLEX)
    return promoted(fn, dtype, "", differentiable=False)


@op(inplace=True)
def bitwise_left_shift(input: Tensor | int, other: Tensor | int, *, out: Tensor | None = None) -> Tensor:
    """Return ``input << other``; bits shifted out are lost."""
    if out is not None:
        return into(out, bitwise_left_shift, input, other)
    return record(_shift, ("lshift",), input, other)  # type: ignore[no-any-return]


@op(inplace=True)
def bitwise_right_shift(input: Tensor | int, other: Tensor | int, *, out: Tensor | None = None) -> Tensor:
    """Return ``input >> other``; a signed number keeps its sign."""
    if out is not None:
        return into(out, bitwise_right_shift, input, other)
    return record(_shift, ("rshift",), input, other)  # type: ignore[no-any-return]


def _shift(a: Operand, b: Operand, name: str) -> Lowering:
    dtype = joined(a, b)
    refuse(f"{name}_cpu", dtype, FLOATING, COMPLEX, BOOL)
    return promoted(jnp.left_shift if name == "lshift" else jnp.right_shift, dtype, "", differentiable=False)
