"""Rounding, and telling kinds of numbers apart, element by element."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp

from tracegrad._dtype import BOOL, COMPLEX, INTEGRAL
from tracegrad._engine.op import Lowering
from tracegrad._engine.trace import record, unary
from tracegrad._engine.value import Aval
from tracegrad._ops import _rules as rules
from tracegrad._ops._declare import op
from tracegrad._ops._out import into
from tracegrad._ops.pointwise import also, refuse

if TYPE_CHECKING:
    from tracegrad._tensor import Tensor

# -- rounding ------------------------------------------------------------------------------------------------


@op(inplace=True)
def floor(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return every element rounded down."""
    if out is not None:
        return into(out, floor, input)
    return unary(_rounded, jnp.floor, input)  # type: ignore[no-any-return]


@op(inplace=True)
def ceil(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return every element rounded up."""
    if out is not None:
        return into(out, ceil, input)
    return unary(_rounded, jnp.ceil, input)  # type: ignore[no-any-return]


@op(inplace=True)
def trunc(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return every element rounded towards 0."""
    if out is not None:
        return into(out, trunc, input)
    return unary(_rounded, jnp.trunc, input)  # type: ignore[no-any-return]


@op(inplace=True)
def round(input: Tensor, *, decimals: int = 0, out: Tensor | None = None) -> Tensor:
    """Return every element rounded to ``decimals`` places, halves to the even neighbour.

    Example:
        >>> import tracegrad as torch
        >>> torch.round(torch.tensor([0.5, 1.5, 2.5]))
        tensor([0., 2., 2.])
    """
    if out is not None:
        return into(out, round, input, decimals=decimals)
    if decimals == 0:
        return unary(_rounded, jnp.rint, input)  # type: ignore[no-any-return]
    return record(_rounded_to, (decimals,), input)  # type: ignore[no-any-return]


def _rounded(x: Aval, fn: Callable[..., Any]) -> Lowering:
    name = "round" if fn is jnp.rint else fn.__name__
    if x.dtype.is_complex and name != "round":
        raise NotImplementedError(f"{name} is not supported for complex inputs")
    refuse(f"{name}_vml_cpu", x.dtype, BOOL, COMPLEX)
    return Lowering(fn if x.dtype.is_inexact else lambda a: a, name=f"{name.capitalize()}Backward0", saves=False)


def _rounded_to(x: Aval, decimals: int) -> Lowering:
    refuse("round_cpu", x.dtype, BOOL, INTEGRAL, COMPLEX)

    def fn(a: Any) -> Any:
        ten = jnp.asarray(10.0 ** math.fabs(decimals), a.dtype)
        return jnp.rint(a * ten) / ten if decimals > 0 else jnp.rint(a / ten) * ten

    return Lowering(fn, name="RoundBackward1", saves=False)


@op(inplace=True)
def frac(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return what ``trunc`` takes away."""
    if out is not None:
        return into(out, frac, input)
    return unary(_fraction, _frac, input)  # type: ignore[no-any-return]


def _frac(x: Any) -> Any:
    return x - jnp.trunc(x)


def _fraction(x: Aval, fn: Callable[..., Any]) -> Lowering:
    refuse("frac_cpu", x.dtype, BOOL, INTEGRAL, COMPLEX)
    return Lowering(fn, name="FracBackward0", saves=False)


also("fix", trunc, inplace=True)


# -- kinds of numbers ----------------------------------------------------------------------------------------


@op()
def isnan(input: Tensor) -> Tensor:
    """Return where an element is nan."""
    return unary(rules.predicate, jnp.isnan, input)  # type: ignore[no-any-return]


@op()
def isinf(input: Tensor) -> Tensor:
    """Return where an element is infinite."""
    return unary(rules.predicate, jnp.isinf, input)  # type: ignore[no-any-return]


@op()
def isfinite(input: Tensor) -> Tensor:
    """Return where an element is neither infinite nor nan."""
    return unary(rules.predicate, jnp.isfinite, input)  # type: ignore[no-any-return]


@op()
def isposinf(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return where an element is positive infinity."""
    if out is not None:
        return into(out, isposinf, input)
    return unary(_signed_infinity, jnp.isposinf, input)  # type: ignore[no-any-return]


@op()
def isneginf(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return where an element is negative infinity."""
    if out is not None:
        return into(out, isneginf, input)
    return unary(_signed_infinity, jnp.isneginf, input)  # type: ignore[no-any-return]


@op()
def isreal(input: Tensor) -> Tensor:
    """Return where the imaginary part is 0."""
    return unary(rules.predicate, jnp.isreal, input)  # type: ignore[no-any-return]


def _signed_infinity(x: Aval, fn: Callable[..., Any]) -> Lowering:
    if x.dtype.is_complex:
        raise RuntimeError(f"{fn.__name__} does not support complex inputs.")
    infinity = math.inf if fn is jnp.isposinf else -math.inf
    return Lowering(lambda a: a == infinity if x.dtype.is_inexact else jnp.zeros(a.shape, bool), differentiable=False)
