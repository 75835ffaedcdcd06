"""Mathematical functions, element by element: of one tensor, of two."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
from jax import lax
from jax.scipy import special

from tracegrad._dtype import BOOL, COMPLEX, INTEGRAL, type_name
from tracegrad._engine.op import Lowering
from tracegrad._engine.trace import record, unary
from tracegrad._engine.value import Aval, Number
from tracegrad._ops import _rules as rules
from tracegrad._ops._declare import op
from tracegrad._ops._out import into
from tracegrad._ops.pointwise import Operand, also, joined, promoted, refuse

if TYPE_CHECKING:
    from tracegrad._tensor import Tensor

#: Where PyTorch's backward node is not called as `rules.backward_name` would.
_NAMES = {"log1p": "Log1P", "deg2rad": "Deg2Rad", "rad2deg": "Rad2Deg"}


def _floating(x: Aval, fn: Callable[..., Any], saves: bool = True) -> Lowering:
    """Integers and bools become floating-point numbers first; 16-bit types compute in float32."""
    name = _NAMES.get(fn.__name__)
    dtype = rules.to_float(x.dtype)
    run: Callable[..., Any] = fn
    if dtype.itemsize == 2:
        run = lambda a: fn(a.astype(jnp.float32)).astype(dtype.np)  # noqa: E731
    elif dtype is not x.dtype:
        run = lambda a: fn(a.astype(dtype.np))  # noqa: E731
    return Lowering(run, name=f"{name}Backward0" if name else rules.backward_name(fn), saves=saves)


def _tanh(x: Aval, fn: Callable[..., Any]) -> Lowering:
    """The backward keeps the result alone, where JAX's keeps ``1 - result`` too: an array a trip in a rolled loop."""
    lowering = _floating(x, fn)

    def forward(a: Any) -> tuple[Any, Any]:
        out = lowering.fn(a)
        return out, out

    def backward(out: Any, g: Any) -> tuple[Any, ...]:
        return (g * (1 - out * out),)

    return replace(lowering, forward=forward, backward=backward)


# -- size and sign -------------------------------------------------------------------------------------------


@op(inplace=True)
def abs(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return the distance of every element from 0; its gradient at 0 is 0.

    Example:
        >>> import tracegrad as torch
        >>> torch.tensor([-1, 2]).abs()
        tensor([1, 2])
    """
    if out is not None:
        return into(out, abs, input)
    return unary(_absolute, jnp.abs, input)  # type: ignore[no-any-return]


def _absolute(x: Aval, fn: Callable[..., Any]) -> Lowering:
    refuse("abs_cpu", x.dtype, BOOL)

    def backward(a: Any, ct: Any) -> tuple[Any, ...]:
        return (ct * jnp.conj(_unit(a)),)

    return Lowering(fn, lambda a: (jnp.abs(a), a), backward, "AbsBackward0")


def _unit(a: Any) -> Any:
    """Return the sign of ``a``, 0 at 0; JAX has no gradient of it for complex numbers."""
    if not jnp.iscomplexobj(a):
        return jnp.where(a != a, 0, jnp.sign(a)).astype(a.dtype)
    return jnp.where(a == 0, 0, a / jnp.abs(jnp.where(a == 0, 1, a)))


@op(inplace=True)
def sign(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return -1, 0 or 1 by the sign of every element."""
    if out is not None:
        return into(out, sign, input)
    return unary(_sign, _unit, input)  # type: ignore[no-any-return]


def _sign(x: Aval, fn: Callable[..., Any]) -> Lowering:
    if x.dtype.is_complex:
        raise NotImplementedError("Unlike NumPy, torch.sign is not intended to support complex numbers. "
                                  "Please use torch.sgn instead.")
    return _signs(x, "SignBackward0", saves=False)


@op(inplace=True)
def sgn(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return ``sign``, or ``z / abs(z)`` of complex numbers."""
    if out is not None:
        return into(out, sgn, input)
    return record(_signs, ("SgnBackward0",), input)  # type: ignore[no-any-return]


def _signs(x: Aval, name: str, saves: bool = True) -> Lowering:
    if x.dtype.category == BOOL:
        return Lowering(lambda a: a, name=name)
    return Lowering(_unit, name=name, saves=saves)


@op()
def signbit(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return where the sign bit is set, as it is in -0.0."""
    if out is not None:
        return into(out, signbit, input)
    return unary(_signbit, jnp.signbit, input)  # type: ignore[no-any-return]


def _signbit(x: Aval, fn: Callable[..., Any]) -> Lowering:
    if x.dtype.is_complex:
        raise NotImplementedError("signbit is not implemented for complex tensors.")
    return Lowering(fn if x.dtype.is_inexact else lambda a: a.astype(jnp.int64) < 0, differentiable=False)


@op(inplace=True)
def reciprocal(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return ``1 / input``."""
    if out is not None:
        return into(out, reciprocal, input)
    return unary(_floating, jnp.reciprocal, input)  # type: ignore[no-any-return]


# -- complex numbers -----------------------------------------------------------------------------------------


@op()
def angle(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return the argument of every element in radians: 0 or pi of real numbers."""
    if out is not None:
        return into(out, angle, input)
    return unary(_floating, _angle, input)  # type: ignore[no-any-return]


def _angle(x: Any) -> Any:
    if jnp.iscomplexobj(x):
        safe = jnp.where(x == 0, 1, x)
        return jnp.where(x == 0, lax.stop_gradient(jnp.angle(x)), jnp.angle(safe))
    return jnp.where(x != x, lax.stop_gradient(x), jnp.where(x < 0, jnp.asarray(math.pi, x.dtype), 0))


@op(method=False)
def polar(abs: Tensor, angle: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return complex numbers of these absolute values and angles in radians.

    Example:
        >>> import tracegrad as torch
        >>> torch.polar(torch.tensor([2.]), torch.tensor([0.]))
        tensor([2.+0.j])
    """
    if out is not None:
        return into(out, polar, abs, angle)
    return record(_polar, (), abs, angle)  # type: ignore[no-any-return]


def _polar(a: Aval, b: Aval) -> Lowering:
    rules.broadcast(a, b)
    if not (a.dtype.is_floating_point and b.dtype.is_floating_point):
        raise RuntimeError("Expected both inputs to be Half, Float or Double tensors but got "
                           f"{type_name(a.dtype)} and {type_name(b.dtype)}")
    if a.dtype is not b.dtype:
        raise RuntimeError(f"Expected object of scalar type {type_name(a.dtype)} but got scalar type "
                           f"{type_name(b.dtype)} for second argument")
    return Lowering(lambda x, y: lax.complex(x * jnp.cos(y), x * jnp.sin(y)), name="PolarBackward0")


# -- exponentials, logarithms, roots -------------------------------------------------------------------------


@op(inplace=True)
def exp(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return ``e ** x`` of every element ``x``."""
    if out is not None:
        return into(out, exp, input)
    return unary(_floating, jnp.exp, input)  # type: ignore[no-any-return]


@op(inplace=True)
def exp2(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return ``2 ** x`` of every element ``x``."""
    if out is not None:
        return into(out, exp2, input)
    return unary(_floating, jnp.exp2, input)  # type: ignore[no-any-return]


@op(inplace=True)
def expm1(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return ``e ** x - 1``, exact where ``x`` is small."""
    if out is not None:
        return into(out, expm1, input)
    return unary(_floating, jnp.expm1, input)  # type: ignore[no-any-return]


@op(inplace=True)
def log(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return the natural logarithm."""
    if out is not None:
        return into(out, log, input)
    return unary(_floating, jnp.log, input)  # type: ignore[no-any-return]


@op(inplace=True)
def log2(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return the logarithm to base 2."""
    if out is not None:
        return into(out, log2, input)
    return unary(_floating, jnp.log2, input)  # type: ignore[no-any-return]


@op(inplace=True)
def log10(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return the logarithm to base 10."""
    if out is not None:
        return into(out, log10, input)
    return unary(_floating, jnp.log10, input)  # type: ignore[no-any-return]


@op(inplace=True)
def log1p(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return ``log(1 + x)``, exact where ``x`` is small."""
    if out is not None:
        return into(out, log1p, input)
    return unary(_floating, jnp.log1p, input)  # type: ignore[no-any-return]


@op(inplace=True)
def sqrt(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return the square root, nan of negative numbers."""
    if out is not None:
        return into(out, sqrt, input)
    return unary(_floating, jnp.sqrt, input)  # type: ignore[no-any-return]


@op(inplace=True)
def rsqrt(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return ``1 / sqrt(x)``."""
    if out is not None:
        return into(out, rsqrt, input)
    return unary(_floating, _rsqrt, input)  # type: ignore[no-any-return]


def _rsqrt(x: Any) -> Any:
    return 1 / jnp.sqrt(x) if jnp.iscomplexobj(x) else lax.rsqrt(x)


@op(inplace=True)
def sigmoid(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return ``1 / (1 + e ** -x)``."""
    if out is not None:
        return into(out, sigmoid, input)
    return unary(_floating, _sigmoid, input)  # type: ignore[no-any-return]


def _sigmoid(x: Any) -> Any:
    return lax.logistic(x)


# -- trigonometry --------------------------------------------------------------------------------------------


@op(inplace=True)
def sin(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return the sine of an angle in radians."""
    if out is not None:
        return into(out, sin, input)
    return unary(_floating, jnp.sin, input)  # type: ignore[no-any-return]


@op(inplace=True)
def cos(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return the cosine of an angle in radians."""
    if out is not None:
        return into(out, cos, input)
    return unary(_floating, jnp.cos, input)  # type: ignore[no-any-return]


@op(inplace=True)
def tan(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return the tangent of an angle in radians."""
    if out is not None:
        return into(out, tan, input)
    return unary(_floating, jnp.tan, input)  # type: ignore[no-any-return]


@op(inplace=True)
def asin(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return the inverse sine, nan outside of [-1, 1]."""
    if out is not None:
        return into(out, asin, input)
    return unary(_floating, jnp.arcsin, input)  # type: ignore[no-any-return]


@op(inplace=True)
def acos(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return the inverse cosine, nan outside of [-1, 1]."""
    if out is not None:
        return into(out, acos, input)
    return unary(_floating, jnp.arccos, input)  # type: ignore[no-any-return]


@op(inplace=True)
def atan(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return the inverse tangent."""
    if out is not None:
        return into(out, atan, input)
    return unary(_floating, jnp.arctan, input)  # type: ignore[no-any-return]


@op(inplace=True)
def sinh(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return the hyperbolic sine."""
    if out is not None:
        return into(out, sinh, input)
    return unary(_floating, jnp.sinh, input)  # type: ignore[no-any-return]


@op(inplace=True)
def cosh(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return the hyperbolic cosine."""
    if out is not None:
        return into(out, cosh, input)
    return unary(_floating, jnp.cosh, input)  # type: ignore[no-any-return]


@op(inplace=True)
def tanh(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return the hyperbolic tangent."""
    if out is not None:
        return into(out, tanh, input)
    return unary(_tanh, jnp.tanh, input)  # type: ignore[no-any-return]


@op(inplace=True)
def asinh(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return the inverse hyperbolic sine."""
    if out is not None:
        return into(out, asinh, input)
    return unary(_floating, jnp.arcsinh, input)  # type: ignore[no-any-return]


@op(inplace=True)
def acosh(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return the inverse hyperbolic cosine, nan below 1."""
    if out is not None:
        return into(out, acosh, input)
    return unary(_floating, jnp.arccosh, input)  # type: ignore[no-any-return]


@op(inplace=True)
def atanh(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return the inverse hyperbolic tangent, nan outside of [-1, 1]."""
    if out is not None:
        return into(out, atanh, input)
    return unary(_floating, jnp.arctanh, input)  # type: ignore[no-any-return]


@op(inplace=True)
def deg2rad(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return degrees as radians."""
    if out is not None:
        return into(out, deg2rad, input)
    return unary(_angles, jnp.deg2rad, input)  # type: ignore[no-any-return]


@op(inplace=True)
def rad2deg(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return radians as degrees."""
    if out is not None:
        return into(out, rad2deg, input)
    return unary(_angles, jnp.rad2deg, input)  # type: ignore[no-any-return]


def _angles(x: Aval, fn: Callable[..., Any]) -> Lowering:
    if x.dtype.is_complex:
        raise RuntimeError(f"{fn.__name__} is not supported for complex tensors.")
    return _floating(x, fn, saves=False)


also("absolute", abs, inplace=True)
also("arcsin", asin, inplace=True)
also("arccos", acos, inplace=True)
also("arctan", atan, inplace=True)
also("arcsinh", asinh, inplace=True)
also("arccosh", acosh, inplace=True)
also("arctanh", atanh, inplace=True)


# -- of two tensors ------------------------------------------------------------------------------------------


@op(inplace=True)
def atan2(input: Tensor, other: Tensor | complex, *, out: Tensor | None = None) -> Tensor:
    """Return the angle of the point ``(other, input)``; its gradient at the origin is 0."""
    if out is not None:
        return into(out, atan2, input, other)
    return record(_atan2, (), input, other)  # type: ignore[no-any-return]


def _atan2(a: Aval, b: Aval) -> Lowering:
    dtype = rules.to_float(joined(a, b))
    refuse("atan2_cpu", dtype, COMPLEX)

    def fn(y: Any, x: Any) -> Any:
        # At the origin the value is that of constants, so that no gradient flows.
        origin = (y == 0) & (x == 0)
        here = jnp.arctan2(jnp.where(origin, 1, y), jnp.where(origin, 1, x))
        return jnp.where(origin, lax.stop_gradient(jnp.arctan2(y, x)), here)

    return promoted(fn, dtype, "Atan2Backward0")


@op(inplace=True)
def hypot(input: Tensor, other: Tensor | complex, *, out: Tensor | None = None) -> Tensor:
    """Return ``sqrt(input ** 2 + other ** 2)`` without overflow between."""
    if out is not None:
        return into(out, hypot, input, other)
    return record(_hypot, (), input, other)  # type: ignore[no-any-return]


def _hypot(a: Aval, b: Aval) -> Lowering:
    dtype = joined(a, b)
    refuse("hypot_cpu", dtype, BOOL, INTEGRAL, COMPLEX)

    def fn(x: Any, y: Any) -> Any:
        return jnp.hypot(rules.cast(x, dtype), rules.cast(y, dtype))

    def forward(x: Any, y: Any) -> tuple[Any, Any]:
        x, y = rules.cast(x, dtype), rules.cast(y, dtype)
        out = jnp.hypot(x, y)
        return out, (x, y, out)

    def backward(saved: Any, ct: Any) -> tuple[Any, ...]:
        x, y, out = saved
        return tuple(rules.unbroadcast(ct * (z / out), of) for z, of in zip((x, y), (a, b)))

    return Lowering(fn, forward, backward, "HypotBackward0")


@op(inplace=True)
def xlogy(input: Tensor | complex, other: Tensor | complex, *, out: Tensor | None = None) -> Tensor:
    """Return ``input * log(other)``, 0 where ``input`` is 0 and ``other`` is no nan."""
    if out is not None:
        return into(out, xlogy, input, other)
    return record(_float_pair, ("xlogy",), input, other)  # type: ignore[no-any-return]


@op()
def logaddexp(input: Tensor, other: Tensor | complex, *, out: Tensor | None = None) -> Tensor:
    """Return ``log(exp(input) + exp(other))`` without overflow between."""
    if out is not None:
        return into(out, logaddexp, input, other)
    return record(_logs_added, ("logaddexp",), input, other)  # type: ignore[no-any-return]


@op()
def logaddexp2(input: Tensor, other: Tensor | complex, *, out: Tensor | None = None) -> Tensor:
    """Return ``log2(2 ** input + 2 ** other)`` without overflow between."""
    if out is not None:
        return into(out, logaddexp2, input, other)
    return record(_logs_added, ("logaddexp2",), input, other)  # type: ignore[no-any-return]


@op(inplace=True)
def copysign(input: Tensor, other: Tensor | complex, *, out: Tensor | None = None) -> Tensor:
    """Return the size of ``input`` with the sign of ``other``."""
    if out is not None:
        return into(out, copysign, input, other)
    return record(_float_pair, ("copysign",), input, other)  # type: ignore[no-any-return]


def _xlogy(x: Any, y: Any) -> Any:
    safe = jnp.where((x == 0) & (y <= 0), 1, y)
    return jnp.where(jnp.isnan(y), y, special.xlogy(x, safe))


def _copysign(x: Any, y: Any) -> Any:
    # The factor is a constant to the gradient, as is PyTorch's, and 0 where x is 0.
    sign = jnp.where(jnp.signbit(y), -1, 1).astype(x.dtype) * jnp.sign(x)
    exact = jnp.copysign(lax.stop_gradient(x), lax.stop_gradient(y))
    none = jnp.where(jnp.isfinite(x), x - lax.stop_gradient(x), 0)
    return exact + none * lax.stop_gradient(sign)


_FLOAT_PAIRS: dict[str, Callable[..., Any]] = {
    "xlogy": _xlogy, "copysign": _copysign,
}  # fmt: skip


def logs_added(x: Any, y: Any) -> Any:
    """Return ``log(exp(x) + exp(y))`` of complex numbers, on the branch of the one with the larger real part."""
    swapped = x.real < y.real
    high, low = jnp.where(swapped, y, x), jnp.where(swapped, x, y)
    lost = jnp.isinf(low.real) & (low.real == high.real)
    return jnp.where(lost, x, high + jnp.log1p(jnp.exp(jnp.where(lost, 0, low - high))))


def _logs_added(a: Aval, b: Aval, name: str) -> Lowering:
    dtype = joined(a, b)
    refuse(f"{name}_cpu", dtype, BOOL, INTEGRAL, *((COMPLEX,) if name == "logaddexp2" else ()))
    fn = jnp.logaddexp if name == "logaddexp" else jnp.logaddexp2
    return promoted(logs_added if dtype.is_complex else fn, dtype, f"{name.capitalize()}Backward0")


def _float_pair(a: Operand, b: Operand, name: str) -> Lowering:
    dtype = joined(a, b)
    refuse(f"{name}_cpu", dtype, COMPLEX)
    index = 0 if isinstance(a, Aval) and isinstance(b, Aval) else 1
    index = 2 if name == "xlogy" and isinstance(b, Number) else index
    return promoted(_FLOAT_PAIRS[name], rules.to_float(dtype), f"{name.capitalize()}Backward{index}")


also("arctan2", atan2, inplace=True)
