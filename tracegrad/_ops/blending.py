"""Ops that choose among operands or mix them: extrema, bounds, ``where``, interpolation."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
from jax import lax

from tracegrad import _dtype
from tracegrad._dtype import BOOL, COMPLEX, INTEGRAL, DType
from tracegrad._engine.op import Lowering
from tracegrad._engine.trace import record
from tracegrad._engine.value import Aval, Number
from tracegrad._ops import _rules as rules
from tracegrad._ops._declare import op
from tracegrad._ops._opmath import c_name, in_opmath
from tracegrad._ops._out import into
from tracegrad._ops.indexing import nonzero
from tracegrad._ops.pointwise import Operand, also, joined, promoted, refuse

if TYPE_CHECKING:
    from tracegrad._tensor import Tensor


# -- extrema -------------------------------------------------------------------------------------------------



@op()
def maximum(input: Tensor, other: Tensor | complex, *, out: Tensor | None = None) -> Tensor:
    """Return the larger of both, nan where one is; at ties each gets half of the gradient."""
    if out is not None:
        return into(out, maximum, input, other)
    return record(_extremum, ("maximum",), input, other)  # type: ignore[no-any-return]


@op()
def minimum(input: Tensor, other: Tensor | complex, *, out: Tensor | None = None) -> Tensor:
    """Return the smaller of both, nan where one is; at ties each gets half of the gradient."""
    if out is not None:
        return into(out, minimum, input, other)
    return record(_extremum, ("minimum",), input, other)  # type: ignore[no-any-return]


@op()
def fmax(input: Tensor, other: Tensor | complex, *, out: Tensor | None = None) -> Tensor:
    """Return the larger of both, the other where one is nan."""
    if out is not None:
        return into(out, fmax, input, other)
    return record(_extremum, ("fmax",), input, other)  # type: ignore[no-any-return]


@op()
def fmin(input: Tensor, other: Tensor | complex, *, out: Tensor | None = None) -> Tensor:
    """Return the smaller of both, the other where one is nan."""
    if out is not None:
        return into(out, fmin, input, other)
    return record(_extremum, ("fmin",), input, other)  # type: ignore[no-any-return]


_EXTREMA: dict[str, Callable[..., Any]] = {
    "maximum": jnp.maximum,
    "minimum": jnp.minimum,
    "fmax": lambda x, y: jnp.where((x >= y) | (y != y), x, y),
    "fmin": lambda x, y: jnp.where((x <= y) | (y != y), x, y),
}


def _extremum(a: Aval, b: Aval, name: str) -> Lowering:
    dtype = joined(a, b)
    if dtype.category == COMPLEX:
        raise RuntimeError(f"{name} not implemented for complex tensors.")
    return promoted(_EXTREMA[name], dtype, f"{name.capitalize()}Backward0")


@op(inplace=True)
def heaviside(input: Tensor, values: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return 0 where ``input`` is negative, 1 where positive, ``values`` where it is 0."""
    if out is not None:
        return into(out, heaviside, input, values)
    return record(_heaviside, (), input, values)  # type: ignore[no-any-return]


def _heaviside(x: Aval, values: Aval) -> Lowering:
    rules.broadcast(x, values)
    if x.dtype.is_complex or values.dtype.is_complex:
        raise RuntimeError("heaviside is not yet implemented for complex tensors.")
    if x.dtype is not values.dtype:
        raise RuntimeError("heaviside is not yet implemented for tensors with different dtypes.")
    def fn(a: Any, b: Any) -> Any:
        return jnp.where(a == 0, b, (a > 0).astype(a.dtype))

    return Lowering(fn, name="NotImplemented", underived="heaviside")


# -- three operands ------------------------------------------------------------------------------------------


@op(inplace=True)
def lerp(input: Tensor, end: Tensor, weight: Tensor | float, *, out: Tensor | None = None) -> Tensor:
    """Return ``input + weight * (end - input)``.

    Example:
        >>> import tracegrad as torch
        >>> torch.lerp(torch.tensor([0., 10.]), torch.tensor([1., 20.]), 0.5)
        tensor([ 0.5000, 15.0000])
    """
    if out is not None:
        return into(out, lerp, input, end, weight)
    return record(_lerp, (), input, end, weight)  # type: ignore[no-any-return]


def _lerp(a: Aval, b: Aval, weight: Operand) -> Lowering:
    rules.broadcast(a, b, weight)
    number = isinstance(weight, Number)
    for what, x in (("end", b), ("weight", weight)):
        if isinstance(x, Aval) and x.dtype is not a.dtype and (what == "end" or x.ndim):
            expected, found = c_name(a.dtype), c_name(x.dtype)
            raise RuntimeError(f"expected dtype {expected} for `{what}` but got dtype {found}")
    refuse(f"lerp_kernel_{'scalar' if number else 'tensor'}", a.dtype, BOOL, INTEGRAL)

    def fn(x: Any, y: Any, w: Any) -> Any:
        return jnp.where(abs(w) < 0.5, x + w * (y - x), y - (y - x) * (1 - w))

    return promoted(in_opmath(fn), a.dtype, f"LerpBackward{0 if number else 1}", saves=not number)


@op(inplace=True)
def addcmul(input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: complex = 1,
            out: Tensor | None = None) -> Tensor:  # fmt: skip
    """Return ``input + value * tensor1 * tensor2``."""
    if out is not None:
        return into(out, addcmul, input, tensor1, tensor2, value=value)
    return record(_addcmul, (), input, tensor1, tensor2, value)  # type: ignore[no-any-return]


def _addcmul(a: Aval, b: Aval, c: Aval, value: Number) -> Lowering:
    dtype = joined(a, b, c)
    refuse("addcmul_cpu_out", dtype, BOOL)
    return promoted(in_opmath(lambda x, y, z, s: x + s * y * z), dtype, "AddcmulBackward0")


@op(inplace=True)
def addcdiv(input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: complex = 1,
            out: Tensor | None = None) -> Tensor:  # fmt: skip
    """Return ``input + value * tensor1 / tensor2``. RuntimeError where both are integers."""
    if out is not None:
        return into(out, addcdiv, input, tensor1, tensor2, value=value)
    return record(_addcdiv, (), input, tensor1, tensor2, value)  # type: ignore[no-any-return]


def _addcdiv(a: Aval, b: Aval, c: Aval, value: Number) -> Lowering:
    dtype = joined(a, b, c)
    if not b.dtype.is_inexact and not c.dtype.is_inexact:
        historic = "(input + value * torch.trunc(tensor1 / tensor2)).to(input.dtype)"
        future = "(input + value * tensor1 / tensor2)"
        raise RuntimeError(
            "Integer division with addcdiv is no longer supported, and in a future  release addcdiv will "
            "perform a true division of tensor1 and tensor2. The historic addcdiv behavior can be implemented "
            f"as {historic} for integer inputs and as {future} for float inputs. The future addcdiv behavior is "
            f"just the latter implementation: {future}, for all dtypes.")
    return promoted(in_opmath(lambda x, y, z, s: x + s * (y / z)), dtype, "AddcdivBackward0")


@op(method=False)
def where(condition: Tensor, input: Any = None, other: Any = None, *, out: Tensor | None = None) -> Any:
    """Return ``input`` where ``condition``, else ``other``: tensors or numbers, broadcast and promoted.

    With ``condition`` alone, return the indices where it is true, one tensor per dim: its elements are read.

    Example:
        >>> import tracegrad as torch
        >>> x = torch.tensor([-1., 2.])
        >>> torch.where(x > 0, x, 0.)
        tensor([0., 2.])
    """
    if out is not None:
        return into(out, where, condition, input, other)
    if input is None and other is None:
        return nonzero(condition, as_tuple=True)
    return record(_where, (), condition, input, other)


def _where(condition: Aval, a: Operand, b: Operand) -> Lowering:
    if condition.dtype.category != BOOL and condition.dtype is not _dtype.uint8:
        raise RuntimeError("where expected condition to be a boolean tensor, but got a tensor with dtype "
                           f"{_dtype.type_name(condition.dtype)}")
    rules.broadcast(condition, a, b)
    dtype = rules.result_type((a, b))
    return Lowering(lambda c, x, y: jnp.where(c != 0, rules.cast(x, dtype), rules.cast(y, dtype)),
                    name="WhereBackward0")  # fmt: skip


# -- bounds --------------------------------------------------------------------------------------------------


@op(inplace=True)
def clamp(input: Tensor, min: Tensor | float | None = None, max: Tensor | float | None = None,
          *, out: Tensor | None = None) -> Tensor:  # fmt: skip
    """Return ``input`` moved into ``[min, max]``; the gradient is 1 at the bounds too.

    Example:
        >>> import tracegrad as torch
        >>> torch.tensor([-1., 0.5, 2.]).clamp(0, 1)
        tensor([0.0000, 0.5000, 1.0000])
    """
    if out is not None:
        return into(out, clamp, input, min, max)
    if max is None:
        if min is None:
            raise RuntimeError("torch.clamp: At least one of 'min' or 'max' must not be None")
        return record(_at_least, ("Clamp", 1, 0), input, min)  # type: ignore[no-any-return]
    if min is None:
        return record(_at_most, ("Clamp", 1, 0), input, max)  # type: ignore[no-any-return]
    return record(_between, (), input, min, max)  # type: ignore[no-any-return]


@op(inplace=True)
def clamp_min(input: Tensor, min: Tensor | float, *, out: Tensor | None = None) -> Tensor:
    """Return ``input`` where it is at least ``min``, else ``min``."""
    if out is not None:
        return into(out, clamp_min, input, min)
    return record(_at_least, ("ClampMin", 0, 1), input, min)  # type: ignore[no-any-return]


@op(inplace=True)
def clamp_max(input: Tensor, max: Tensor | float, *, out: Tensor | None = None) -> Tensor:
    """Return ``input`` where it is at most ``max``, else ``max``."""
    if out is not None:
        return into(out, clamp_max, input, max)
    return record(_at_most, ("ClampMax", 0, 1), input, max)  # type: ignore[no-any-return]


also("clip", clamp, inplace=True)


def _bounded(x: Aval, *bounds: Operand) -> DType:
    dtype = joined(x, *bounds)
    if dtype.category == COMPLEX:
        raise NotImplementedError("clamp is not supported for complex types")
    return dtype


def _raise_to(x: Any, low: Any) -> Any:
    return jnp.where((x < low) | (low != low), low, x)


def _lower_to(x: Any, high: Any) -> Any:
    return jnp.where((x > high) | (high != high), high, x)


def _at_least(x: Aval, low: Operand, name: str, number: int, tensor: int) -> Lowering:
    index = number if isinstance(low, Number) else tensor
    return promoted(_raise_to, _bounded(x, low), f"{name}Backward{index}")


def _at_most(x: Aval, high: Operand, name: str, number: int, tensor: int) -> Lowering:
    index = number if isinstance(high, Number) else tensor
    return promoted(_lower_to, _bounded(x, high), f"{name}Backward{index}")


def _between(x: Aval, low: Operand, high: Operand) -> Lowering:
    numbers = isinstance(low, Number) and isinstance(high, Number)
    return promoted(lambda a, b, c: _lower_to(_raise_to(a, b), c), _bounded(x, low, high),
                     f"ClampBackward{1 if numbers else 0}")  # fmt: skip


@op(inplace=True)
def nan_to_num(input: Tensor, nan: float | None = None, posinf: float | None = None,
               neginf: float | None = None, *, out: Tensor | None = None) -> Tensor:  # fmt: skip
    """Return ``input`` with nan and infinities replaced, when not told: by 0 and by the largest numbers."""
    if out is not None:
        return into(out, nan_to_num, input, nan, posinf, neginf)
    flags = (posinf is None, neginf is None)
    return record(_nan_to_num, flags, input, nan or 0.0, posinf or 0.0, neginf or 0.0)  # type: ignore[no-any-return]


def _nan_to_num(x: Aval, nan: Number, high: Number, low: Number, greatest: bool, least: bool) -> Lowering:
    if not x.dtype.is_inexact:
        return Lowering(lambda a, *_: a, name="NanToNumBackward0")
    dtype = _dtype.to_real(x.dtype)

    def real(a: Any, if_nan: Any, if_high: Any, if_low: Any) -> Any:
        limits: Any = jnp.finfo(dtype.np)  # type: ignore[no-untyped-call]
        if_high = limits.max if greatest else if_high
        if_low = limits.min if least else if_low
        a = jnp.where(a != a, rules.cast(if_nan, dtype), a)
        a = jnp.where(a == math.inf, rules.cast(if_high, dtype), a)
        return jnp.where(a == -math.inf, rules.cast(if_low, dtype), a)

    def fn(a: Any, *rest: Any) -> Any:
        return lax.complex(real(a.real, *rest), real(a.imag, *rest)) if x.dtype.is_complex else real(a, *rest)

    return Lowering(fn, name="NanToNumBackward0")


