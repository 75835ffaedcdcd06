"""Operators, element by element: arithmetic. Comparisons, logic and bits are in `comparison`.

A number may stand in either place of a two-operand op; the reflected operators (``2 - x``) are at the end.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
from jax import lax

from tracegrad import _dtype
from tracegrad._dtype import BOOL, COMPLEX, INTEGRAL, DType
from tracegrad._engine.op import Lowering
from tracegrad._engine.trace import binary, record, unary
from tracegrad._engine.value import Aval, Number
from tracegrad._ops import _rules as rules
from tracegrad._ops._checks import divisor
from tracegrad._ops._declare import Declared, op, table
from tracegrad._ops._opmath import in_opmath
from tracegrad._ops._out import into

if TYPE_CHECKING:
    from tracegrad._tensor import Tensor

Operand = Aval | Number


def also(name: str, function: Callable[..., Any], inplace: bool = False, method: bool = True) -> None:
    """Enter a second name of a declared op into the op table."""
    if name in table:
        raise TypeError(f"op {name} is declared twice, as another name of {function.__name__} too")
    table[name] = Declared(name, function, inplace, method)


def refuse(kernel: str, dtype: DType, *categories: int) -> None:
    """Raise PyTorch's NotImplementedError of a missing kernel where ``dtype`` is of one of ``categories``."""
    if dtype.category in categories:
        raise NotImplementedError(f"\"{kernel}\" not implemented for '{_dtype.type_name(dtype)}'")


def promoted(fn: Callable[..., Any], dtype: DType, name: str, **kwargs: Any) -> Lowering:
    """Return the lowering that runs ``fn`` on its operands as arrays of ``dtype``."""
    return Lowering(lambda *args: fn(*[rules.cast(x, dtype) for x in args]), name=name, **kwargs)


def joined(*operands: Operand) -> DType:
    """Return the result type of operands that broadcast."""
    rules.broadcast(*operands)
    return rules.result_type(operands)


# -- arithmetic ----------------------------------------------------------------------------------------------


@op(inplace=True)
def add(input: Tensor, other: Tensor | complex, *, alpha: complex = 1, out: Tensor | None = None) -> Tensor:
    """Return ``input + alpha * other``, broadcast and promoted.

    Example:
        >>> import tracegrad as torch
        >>> torch.add(torch.tensor([1, 2]), torch.tensor([3, 4]), alpha=10)
        tensor([31, 42])
    """
    if out is not None:
        return into(out, add, input, other, alpha=alpha)
    if alpha == 1:
        return binary(rules.arithmetic, operator.add, input, other)  # type: ignore[no-any-return]
    return record(_scaled, ("Add",), input, other, alpha)  # type: ignore[no-any-return]


@op(inplace=True)
def sub(input: Tensor, other: Tensor | complex, *, alpha: complex = 1, out: Tensor | None = None) -> Tensor:
    """Return ``input - alpha * other``, broadcast and promoted. RuntimeError for bools."""
    if out is not None:
        return into(out, sub, input, other, alpha=alpha)
    if alpha == 1:
        return binary(subtraction, operator.sub, input, other)  # type: ignore[no-any-return]
    return record(_scaled, ("Sub",), input, other, alpha)  # type: ignore[no-any-return]


@op(method=False)
def rsub(input: Tensor, other: Tensor | complex, *, alpha: complex = 1) -> Tensor:
    """Return ``other - alpha * input``: ``sub`` with its operands swapped."""
    if alpha == 1:
        return record(_reflected_subtraction, (), input, other)  # type: ignore[no-any-return]
    return record(_scaled, ("Rsub",), other, input, alpha)  # type: ignore[no-any-return]


def subtraction(a: Operand, b: Operand, fn: Callable[..., Any]) -> Lowering:
    """The rule of ``a - b``, which bools do not have."""
    bools = [_is_bool(a), _is_bool(b)]
    if all(bools):
        raise RuntimeError("Subtraction, the `-` operator, with two bool tensors is not supported. "
                           "Use the `^` or `logical_xor()` operator instead.")
    if any(bools):
        raise RuntimeError("Subtraction, the `-` operator, with a bool tensor is not supported. "
                           "If you are trying to invert a mask, use the `~` or `logical_not()` operator instead.")
    return rules.arithmetic(a, b, fn)


def _reflected_subtraction(a: Operand, b: Operand) -> Lowering:
    subtraction(b, a, jnp.subtract)
    name = "RsubBackward1" if isinstance(b, Number) else "RsubBackward0"
    return promoted(lambda x, y: y - x, joined(a, b), name, saves=False)


def _is_bool(x: Operand) -> bool:
    return x.kind is bool if isinstance(x, Number) else x.dtype.category == BOOL


def _scaled(a: Operand, b: Operand, alpha: Number, name: str) -> Lowering:
    """The rule of ``a + alpha * b`` and ``a - alpha * b``."""
    dtype = joined(a, b)
    if name != "Add":
        subtraction(a, b, jnp.subtract)
    if alpha.kind is bool and dtype.category != BOOL:
        raise RuntimeError("Boolean alpha only supported for Boolean results.")
    if alpha.kind in (float, complex) and dtype.category in (BOOL, INTEGRAL):
        raise RuntimeError("For integral input tensors, argument alpha must not be a floating point number.")
    if alpha.kind is complex and dtype.category != COMPLEX:
        raise RuntimeError("For non-complex input tensors, argument alpha must not be a complex number.")
    fn = (lambda x, y, s: x + s * y) if name == "Add" else (lambda x, y, s: x - s * y)
    return promoted(in_opmath(fn), dtype, f"{name}Backward0", saves=False)


@op(inplace=True)
def mul(input: Tensor, other: Tensor | complex, *, out: Tensor | None = None) -> Tensor:
    """Return ``input * other``, broadcast and promoted.

    Example:
        >>> import tracegrad as torch
        >>> torch.mul(torch.tensor([1, 2]), 1.5)
        tensor([1.5000, 3.0000])
    """
    if out is not None:
        return into(out, mul, input, other)
    return binary(rules.arithmetic, operator.mul, input, other)  # type: ignore[no-any-return]


@op(inplace=True)
def div(input: Tensor, other: Tensor | complex, *, rounding_mode: str | None = None,
        out: Tensor | None = None) -> Tensor:  # fmt: skip
    """Return ``input / other``; rounded where ``rounding_mode`` is ``"floor"`` or ``"trunc"``.

    XLA divides many elements by one number by multiplying with its reciprocal. So the last bit may not be PyTorch's,
    and as XLA takes denormal numbers for 0, a ``float32`` divided by more than ``2 ** 126`` is 0.

    Example:
        >>> import tracegrad as torch
        >>> torch.div(torch.tensor([-7, 7]), 2, rounding_mode="trunc")
        tensor([-3,  3])
    """
    if out is not None:
        return into(out, div, input, other, rounding_mode=rounding_mode)
    if rounding_mode is None:
        return binary(rules.division, operator.truediv, input, other)  # type: ignore[no-any-return]
    return record(_rounded_division, (rounding_mode,), input, other)  # type: ignore[no-any-return]


def _rounded_division(a: Operand, b: Operand, mode: str) -> Lowering:
    if mode not in ("floor", "trunc"):
        raise RuntimeError("div expected rounding_mode to be one of None, 'trunc', or 'floor' but found "
                           f"'{mode}'")
    dtype = joined(a, b)
    refuse(f"div_{mode}_cpu", dtype, BOOL, COMPLEX)
    _no_zero(dtype, b)
    if dtype.category == INTEGRAL:
        fn = jnp.floor_divide if mode == "floor" else (lambda x, y: (x - jnp.fmod(x, y)) // y)
        return promoted(fn, dtype, "DivBackward2", checks=divisor(1, b))
    quotient = _floor_quotient if mode == "floor" else (lambda x, y: jnp.trunc(x / y))
    return promoted(lambda x, y: lax.stop_gradient(quotient(x, y)), dtype, "DivBackward2")


def _floor_quotient(x: Any, y: Any) -> Any:
    """Return the floor of the exact quotient, which the floor of the rounded one may miss by one."""
    rest = jnp.fmod(x, y)
    q = (x - rest) / y
    q = jnp.where((rest != 0) & ((y < 0) != (rest < 0)), q - 1, q)
    floored = jnp.floor(q)
    floored = jnp.where(q - floored > 0.5, floored + 1, floored)
    floored = jnp.where(q == 0, jnp.copysign(jnp.zeros_like(q), x / y), floored)
    return jnp.where(y == 0, x / y, floored)


def _no_zero(dtype: DType, divisor: Operand) -> None:
    if dtype.category == INTEGRAL and isinstance(divisor, Number) and divisor.value == 0:
        raise RuntimeError("ZeroDivisionError")


@op(inplace=True)
def true_divide(input: Tensor, other: Tensor | complex, *, out: Tensor | None = None) -> Tensor:
    """Return ``input / other``, never rounded."""
    if out is not None:
        return into(out, true_divide, input, other)
    return binary(rules.division, operator.truediv, input, other)  # type: ignore[no-any-return]


@op(inplace=True)
def floor_divide(input: Tensor, other: Tensor | complex, *, out: Tensor | None = None) -> Tensor:
    """Return ``input / other`` rounded down. Not differentiable.

    Example:
        >>> import tracegrad as torch
        >>> torch.tensor([-7, 7]) // 2
        tensor([-4,  3])
    """
    if out is not None:
        return into(out, floor_divide, input, other)
    return record(_floor_division, (), input, other)  # type: ignore[no-any-return]


def _floor_division(a: Operand, b: Operand) -> Lowering:
    found = _rounded_division(a, b, "floor")
    return Lowering(found.fn, name="NotImplemented", underived="floor_divide", checks=found.checks)


@op(inplace=True)
def remainder(input: Tensor, other: Tensor | complex, *, out: Tensor | None = None) -> Tensor:
    """Return Python's ``input % other``: the result has the sign of ``other``.

    Example:
        >>> import tracegrad as torch
        >>> torch.tensor([-3., 5.]) % 2
        tensor([1., 1.])
    """
    if out is not None:
        return into(out, remainder, input, other)
    return record(_modulo, ("remainder",), input, other)  # type: ignore[no-any-return]


@op(inplace=True)
def fmod(input: Tensor, other: Tensor | complex, *, out: Tensor | None = None) -> Tensor:
    """Return C's ``fmod``: the result has the sign of ``input``."""
    if out is not None:
        return into(out, fmod, input, other)
    return record(_modulo, ("fmod",), input, other)  # type: ignore[no-any-return]


def _modulo(a: Operand, b: Operand, name: str) -> Lowering:
    dtype = joined(a, b)
    refuse(f"{name}_cpu", dtype, BOOL, COMPLEX)
    _no_zero(dtype, b)
    number = isinstance(b, Number)
    return promoted(jnp.remainder if name == "remainder" else jnp.fmod, dtype,
                    f"{name.capitalize()}Backward{0 if number else 1}", saves=not number,
                    checks=divisor(1, b) if dtype.category == INTEGRAL else ())  # fmt: skip


#: Exponents that stay part of the trace: XLA multiplies or takes roots for them.
_STATIC_EXPONENTS = frozenset(n / 2 for n in range(-8, 17))


@op(inplace=True)
def pow(input: Tensor | complex, exponent: Tensor | complex, *, out: Tensor | None = None) -> Tensor:
    """Return ``input ** exponent``. RuntimeError for an integer to a negative integer number.

    Example:
        >>> import tracegrad as torch
        >>> torch.tensor([1., 2., 3.]) ** 2
        tensor([1., 4., 9.])
    """
    if out is not None:
        return into(out, pow, input, exponent)
    kind = type(exponent)
    if (kind is int or kind is float) and exponent in _STATIC_EXPONENTS:
        return record(_static_power, (kind, exponent), input)  # type: ignore[no-any-return]
    return record(_power, (), input, exponent)  # type: ignore[no-any-return]


@op(inplace=True)
def square(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return ``input * input``; bools become integers."""
    if out is not None:
        return into(out, square, input)
    return record(_static_power, (int, 2), input)  # type: ignore[no-any-return]


@op(inplace=True)
def float_power(input: Tensor | complex, exponent: Tensor | complex, *, out: Tensor | None = None) -> Tensor:
    """Return ``input ** exponent`` in double precision."""
    if out is not None:
        return into(out, float_power, input, exponent)
    return record(_float_power, (), input, exponent)  # type: ignore[no-any-return]


def _static_power(x: Aval, kind: type, exponent: float) -> Lowering:
    dtype = rules.result_type((x, Number(kind, exponent)))
    if exponent < 0:
        _check_integer_power(dtype)
    return promoted(lambda a: _to_static(a, exponent), dtype, "PowBackward0")


def _to_static(a: Any, exponent: float) -> Any:
    if exponent == 0.5:
        return jnp.sqrt(a)
    if exponent == -0.5 and not jnp.iscomplexobj(a):
        return lax.rsqrt(a)
    if exponent == int(exponent):
        return lax.integer_pow(a, int(exponent))
    return jnp.power(a, jnp.asarray(exponent, a.dtype))


def _check_integer_power(dtype: DType) -> None:
    if dtype.category == INTEGRAL:
        raise RuntimeError("Integers to negative integer powers are not allowed.")


def _power(a: Operand, b: Operand) -> Lowering:
    dtype = joined(a, b)
    if isinstance(b, Number) and b.value is not None and b.kind is int and b.value < 0:
        _check_integer_power(dtype)
    if isinstance(b, Aval):
        refuse("pow", dtype, BOOL)
    name = _power_name(a, b)
    if dtype.category == BOOL:
        return promoted(lambda x, y: x | ~y, dtype, name)
    return promoted(_integer_power if dtype.category == INTEGRAL else _float_to, dtype, name)


def _power_name(a: Operand, b: Operand) -> str:
    return f"PowBackward{0 if isinstance(b, Number) else 2 if isinstance(a, Number) else 1}"


def _float_to(x: Any, y: Any) -> Any:
    # 0 ** 0 is 1 ** 0 to the gradient, which is 0.
    if jnp.iscomplexobj(x):
        of_zero = jnp.where(y == 0, 1, jnp.where(y.real > 0, 0, jnp.nan))  # JAX's is nan
        return jnp.where(x == 0, of_zero, jnp.power(jnp.where(x == 0, 1, x), y))
    return jnp.power(jnp.where((x == 0) & (y == 0), 1, x), y)


def _integer_power(x: Any, y: Any) -> Any:
    """Return the power by squaring, which wraps around as PyTorch's does; JAX's is wrong for exponents from 64 on."""
    if jnp.issubdtype(x.dtype, jnp.signedinteger):
        sign = jnp.where(y & 1, x, 1)  # of a power of -1
        inverse = jnp.where(abs(x) == 1, sign, 0)
        return jnp.where(y < 0, inverse, _squared_up(x, jnp.maximum(y, 0)))
    return _squared_up(x, y)


def _squared_up(x: Any, y: Any) -> Any:
    def step(state: Any) -> Any:
        result, square, left = state
        return jnp.where(left & 1, result * square, result), square * square, left >> 1

    x, y = jnp.broadcast_arrays(x, y)
    return lax.while_loop(lambda state: (state[2] > 0).any(), step, (jnp.ones_like(x), x, y))[0]


def _float_power(a: Operand, b: Operand) -> Lowering:
    dtype = _dtype.complex128 if joined(a, b).category == COMPLEX else _dtype.float64
    if isinstance(b, Number) and b.value in _STATIC_EXPONENTS:
        exponent = float(b.value)
        return Lowering(lambda x, y: _to_static(rules.cast(x, dtype), exponent), name="PowBackward0")
    return promoted(_float_to, dtype, _power_name(a, b))


@op(inplace=True)
def neg(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return ``-input``. RuntimeError for bools."""
    if out is not None:
        return into(out, neg, input)
    return unary(_negation, jnp.negative, input)  # type: ignore[no-any-return]


def _negation(x: Aval, fn: Callable[..., Any]) -> Lowering:
    if x.dtype.category == BOOL:
        raise RuntimeError("Negation, the `-` operator, on a bool tensor is not supported. "
                           "If you are trying to invert a mask, use the `~` or `logical_not()` operator instead.")
    return Lowering(fn, name="NegBackward0", saves=False)


@op()
def positive(input: Tensor) -> Tensor:
    """Return ``input`` itself. RuntimeError for bools."""
    if input.dtype is _dtype.bool_:
        raise RuntimeError("The `+` operator, on a bool tensor is not supported.")
    return input


also("negative", neg, inplace=True)
also("subtract", sub, inplace=True)
also("multiply", mul, inplace=True)
also("divide", div, inplace=True)


# -- reflected operators -------------------------------------------------------------------------------------


def rtruediv(input: Tensor, other: Tensor | complex) -> Tensor:
    """Return ``other / input``."""
    return record(_reflected_division, (), other, input)  # type: ignore[no-any-return]


def _reflected_division(a: Operand, b: Operand) -> Lowering:
    # PyTorch multiplies by the reciprocal, hence its backward's name; one division rounds once.
    return promoted(jnp.true_divide, rules.to_float(joined(a, b)), "MulBackward0")


def rpow(input: Tensor, other: Tensor | complex) -> Tensor:
    """Return ``other ** input``."""
    return record(_power, (), other, input)  # type: ignore[no-any-return]


def rfloordiv(input: Tensor, other: Tensor | complex) -> Tensor:
    """Return ``other // input``."""
    return floor_divide(other, input)  # type: ignore[arg-type]


def rmod(input: Tensor, other: Tensor | complex) -> Tensor:
    """Return ``other % input``."""
    return remainder(other, input)  # type: ignore[arg-type]
