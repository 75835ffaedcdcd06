"""Operators, element by element: arithmetic, comparison, logic, bits.

A number may stand in either place of a two-operand op; the reflected operators (``2 - x``) are at the end.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from tracegrad import _dtype
from tracegrad._dtype import BOOL, COMPLEX, FLOATING, INTEGRAL, DType
from tracegrad._engine import trace
from tracegrad._engine.op import Lowering
from tracegrad._engine.trace import binary, record, unary
from tracegrad._engine.value import Aval, Number
from tracegrad._ops import _rules as rules
from tracegrad._ops._declare import Declared, op, table

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
def add(input: Tensor, other: Tensor | complex, *, alpha: complex = 1) -> Tensor:
    """Return ``input + alpha * other``, broadcast and promoted.

    Example:
        >>> import tracegrad as torch
        >>> torch.add(torch.tensor([1, 2]), torch.tensor([3, 4]), alpha=10)
        tensor([31, 42])
    """
    if alpha == 1:
        return binary(rules.arithmetic, operator.add, input, other)  # type: ignore[no-any-return]
    return record(_scaled, ("Add",), input, other, alpha)  # type: ignore[no-any-return]


@op(inplace=True)
def sub(input: Tensor, other: Tensor | complex, *, alpha: complex = 1) -> Tensor:
    """Return ``input - alpha * other``, broadcast and promoted. RuntimeError for bools."""
    if alpha == 1:
        return binary(_subtraction, operator.sub, input, other)  # type: ignore[no-any-return]
    return record(_scaled, ("Sub",), input, other, alpha)  # type: ignore[no-any-return]


@op(method=False)
def rsub(input: Tensor, other: Tensor | complex, *, alpha: complex = 1) -> Tensor:
    """Return ``other - alpha * input``: ``sub`` with its operands swapped."""
    if alpha == 1:
        return record(_reflected_subtraction, (), input, other)  # type: ignore[no-any-return]
    return record(_scaled, ("Rsub",), other, input, alpha)  # type: ignore[no-any-return]


def _subtraction(a: Operand, b: Operand, fn: Callable[..., Any]) -> Lowering:
    bools = [_is_bool(a), _is_bool(b)]
    if all(bools) and isinstance(a, Aval) and isinstance(b, Aval):
        raise RuntimeError("Subtraction, the `-` operator, with two bool tensors is not supported. "
                           "Use the `^` or `logical_xor()` operator instead.")
    if any(bools):
        raise RuntimeError("Subtraction, the `-` operator, with a bool tensor is not supported. "
                           "If you are trying to invert a mask, use the `~` or `logical_not()` operator instead.")
    return rules.arithmetic(a, b, fn)


def _reflected_subtraction(a: Operand, b: Operand) -> Lowering:
    _subtraction(b, a, jnp.subtract)
    name = "RsubBackward1" if isinstance(b, Number) else "RsubBackward0"
    return promoted(lambda x, y: y - x, joined(a, b), name, saves=False)


def _is_bool(x: Operand) -> bool:
    return x.kind is bool if isinstance(x, Number) else x.dtype.category == BOOL


def _scaled(a: Operand, b: Operand, alpha: Number, name: str) -> Lowering:
    """The rule of ``a + alpha * b`` and ``a - alpha * b``."""
    dtype = joined(a, b)
    if name != "Add":
        _subtraction(a, b, jnp.subtract)
    if alpha.kind is bool and dtype.category != BOOL:
        raise RuntimeError("Boolean alpha only supported for Boolean results.")
    if alpha.kind in (float, complex) and dtype.category in (BOOL, INTEGRAL):
        raise RuntimeError("For integral input tensors, argument alpha must not be a floating point number.")
    if alpha.kind is complex and dtype.category != COMPLEX:
        raise RuntimeError("For non-complex input tensors, argument alpha must not be a complex number.")
    fn = (lambda x, y, s: x + s * y) if name == "Add" else (lambda x, y, s: x - s * y)
    return promoted(fn, dtype, f"{name}Backward0", saves=False)


@op(inplace=True)
def mul(input: Tensor, other: Tensor | complex) -> Tensor:
    """Return ``input * other``, broadcast and promoted.

    Example:
        >>> import tracegrad as torch
        >>> torch.mul(torch.tensor([1, 2]), 1.5)
        tensor([1.5000, 3.0000])
    """
    return binary(rules.arithmetic, operator.mul, input, other)  # type: ignore[no-any-return]


@op(inplace=True)
def div(input: Tensor, other: Tensor | complex, *, rounding_mode: str | None = None) -> Tensor:
    """Return ``input / other``; rounded where ``rounding_mode`` is ``"floor"`` or ``"trunc"``.

    Example:
        >>> import tracegrad as torch
        >>> torch.div(torch.tensor([-7, 7]), 2, rounding_mode="trunc")
        tensor([-3,  3])
    """
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
        return promoted(fn, dtype, "DivBackward2")
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
    # Only a number that is part of the trace is known here; zeros among a tensor's elements are not looked for.
    if dtype.category == INTEGRAL and isinstance(divisor, Number) and divisor.value == 0:
        raise RuntimeError("ZeroDivisionError")


@op(inplace=True)
def true_divide(input: Tensor, other: Tensor | complex) -> Tensor:
    """Return ``input / other``, never rounded."""
    return binary(rules.division, operator.truediv, input, other)  # type: ignore[no-any-return]


@op(inplace=True)
def floor_divide(input: Tensor, other: Tensor | complex) -> Tensor:
    """Return ``input / other`` rounded down. Not differentiable.

    Example:
        >>> import tracegrad as torch
        >>> torch.tensor([-7, 7]) // 2
        tensor([-4,  3])
    """
    return record(_floor_division, (), input, other)  # type: ignore[no-any-return]


def _floor_division(a: Operand, b: Operand) -> Lowering:
    return Lowering(_rounded_division(a, b, "floor").fn, name="NotImplemented", underived="floor_divide")


@op(inplace=True)
def remainder(input: Tensor, other: Tensor | complex) -> Tensor:
    """Return Python's ``input % other``: the result has the sign of ``other``.

    Example:
        >>> import tracegrad as torch
        >>> torch.tensor([-3., 5.]) % 2
        tensor([1., 1.])
    """
    return record(_modulo, ("remainder",), input, other)  # type: ignore[no-any-return]


@op(inplace=True)
def fmod(input: Tensor, other: Tensor | complex) -> Tensor:
    """Return C's ``fmod``: the result has the sign of ``input``."""
    return record(_modulo, ("fmod",), input, other)  # type: ignore[no-any-return]


def _modulo(a: Operand, b: Operand, name: str) -> Lowering:
    dtype = joined(a, b)
    refuse(f"{name}_cpu", dtype, BOOL, COMPLEX)
    _no_zero(dtype, b)
    number = isinstance(b, Number)
    return promoted(jnp.remainder if name == "remainder" else jnp.fmod, dtype,
                     f"{name.capitalize()}Backward{0 if number else 1}", saves=not number)  # fmt: skip


#: Exponents that stay part of the trace: XLA multiplies or takes roots for them.
_STATIC_EXPONENTS = frozenset(n / 2 for n in range(-8, 17))


@op(inplace=True)
def pow(input: Tensor | complex, exponent: Tensor | complex) -> Tensor:
    """Return ``input ** exponent``. RuntimeError for an integer to a negative integer number.

    Example:
        >>> import tracegrad as torch
        >>> torch.tensor([1., 2., 3.]) ** 2
        tensor([1., 4., 9.])
    """
    kind = type(exponent)
    if (kind is int or kind is float) and exponent in _STATIC_EXPONENTS:
        return record(_static_power, (kind, exponent), input)  # type: ignore[no-any-return]
    return record(_power, (), input, exponent)  # type: ignore[no-any-return]


@op(inplace=True)
def square(input: Tensor) -> Tensor:
    """Return ``input * input``; bools become integers."""
    return record(_static_power, (int, 2), input)  # type: ignore[no-any-return]


@op(inplace=True)
def float_power(input: Tensor | complex, exponent: Tensor | complex) -> Tensor:
    """Return ``input ** exponent`` in double precision."""
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
    name = f"PowBackward{0 if isinstance(b, Number) else 2 if isinstance(a, Number) else 1}"
    if dtype.category == BOOL:
        return promoted(lambda x, y: x | ~y, dtype, name)
    return promoted(_integer_power if dtype.category == INTEGRAL else _float_to, dtype, name)


def _float_to(x: Any, y: Any) -> Any:
    # 0 ** 0 is 1 ** 0 to the gradient, which is 0.
    return jnp.power(jnp.where((x == 0) & (y == 0), 1, x), y)


def _integer_power(x: Any, y: Any) -> Any:
    if jnp.issubdtype(x.dtype, jnp.unsignedinteger):
        return jnp.power(x, y)
    sign = jnp.where(y & 1, x, 1)  # of a power of -1
    inverse = jnp.where(abs(x) == 1, sign, 0)
    return jnp.where(y < 0, inverse, jnp.power(x, jnp.maximum(y, 0)))


def _float_power(a: Operand, b: Operand) -> Lowering:
    dtype = _dtype.complex128 if joined(a, b).category == COMPLEX else _dtype.float64
    if isinstance(b, Number) and b.value in _STATIC_EXPONENTS:
        exponent = float(b.value)
        return Lowering(lambda x, y: _to_static(rules.cast(x, dtype), exponent), name="PowBackward0")
    return promoted(_float_to, dtype, _power(a, b).name)


@op(inplace=True)
def neg(input: Tensor) -> Tensor:
    """Return ``-input``. RuntimeError for bools."""
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


# -- comparison ----------------------------------------------------------------------------------------------


@op(inplace=True)
def eq(input: Tensor, other: Tensor | complex) -> Tensor:
    """Return where ``input == other``.

    Example:
        >>> import tracegrad as torch
        >>> torch.tensor([1, 2]) == torch.tensor([1, 3])
        tensor([ True, False])
    """
    return binary(rules.comparison, jnp.equal, input, other)  # type: ignore[no-any-return]


@op(inplace=True)
def ne(input: Tensor, other: Tensor | complex) -> Tensor:
    """Return where ``input != other``."""
    return binary(rules.comparison, jnp.not_equal, input, other)  # type: ignore[no-any-return]


@op(inplace=True)
def lt(input: Tensor, other: Tensor | complex) -> Tensor:
    """Return where ``input < other``."""
    return binary(_ordering, jnp.less, input, other)  # type: ignore[no-any-return]


@op(inplace=True)
def le(input: Tensor, other: Tensor | complex) -> Tensor:
    """Return where ``input <= other``."""
    return binary(_ordering, jnp.less_equal, input, other)  # type: ignore[no-any-return]


@op(inplace=True)
def gt(input: Tensor, other: Tensor | complex) -> Tensor:
    """Return where ``input > other``."""
    return binary(_ordering, jnp.greater, input, other)  # type: ignore[no-any-return]


@op(inplace=True)
def ge(input: Tensor, other: Tensor | complex) -> Tensor:
    """Return where ``input >= other``."""
    return binary(_ordering, jnp.greater_equal, input, other)  # type: ignore[no-any-return]


_SHORT = {"less": "lt", "less_equal": "le", "greater": "gt", "greater_equal": "ge"}


def _ordering(a: Operand, b: Operand, fn: Callable[..., Any]) -> Lowering:
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
def logical_and(input: Tensor, other: Tensor | complex) -> Tensor:
    """Return where both are true, that is not 0."""
    return binary(rules.logic, jnp.logical_and, input, other)  # type: ignore[no-any-return]


@op(inplace=True)
def logical_or(input: Tensor, other: Tensor | complex) -> Tensor:
    """Return where one of both is true."""
    return binary(rules.logic, jnp.logical_or, input, other)  # type: ignore[no-any-return]


@op(inplace=True)
def logical_xor(input: Tensor, other: Tensor | complex) -> Tensor:
    """Return where exactly one of both is true."""
    return binary(rules.logic, jnp.logical_xor, input, other)  # type: ignore[no-any-return]


@op(inplace=True)
def logical_not(input: Tensor) -> Tensor:
    """Return where ``input`` is 0."""
    return unary(rules.predicate, jnp.logical_not, input)  # type: ignore[no-any-return]


@op(inplace=True)
def bitwise_not(input: Tensor) -> Tensor:
    """Return ``~input`` of integers or bools."""
    return unary(_inversion, jnp.bitwise_not, input)  # type: ignore[no-any-return]


def _inversion(x: Aval, fn: Callable[..., Any]) -> Lowering:
    if x.dtype.is_inexact:
        raise NotImplementedError(f"\"bitwise_not_cpu\" not implemented for '{_dtype.type_name(x.dtype)}'")
    return Lowering(fn, differentiable=False)


@op(inplace=True)
def bitwise_and(input: Tensor, other: Tensor | int) -> Tensor:
    """Return ``input & other`` of integers or bools."""
    return binary(_bits, jnp.bitwise_and, input, other)  # type: ignore[no-any-return]


@op(inplace=True)
def bitwise_or(input: Tensor, other: Tensor | int) -> Tensor:
    """Return ``input | other`` of integers or bools."""
    return binary(_bits, jnp.bitwise_or, input, other)  # type: ignore[no-any-return]


@op(inplace=True)
def bitwise_xor(input: Tensor, other: Tensor | int) -> Tensor:
    """Return ``input ^ other`` of integers or bools."""
    return binary(_bits, jnp.bitwise_xor, input, other)  # type: ignore[no-any-return]


def _bits(a: Operand, b: Operand, fn: Callable[..., Any]) -> Lowering:
    dtype = joined(a, b)
    refuse(f"{fn.__name__}_cpu", dtype, FLOATING, COMPLEX)
    return promoted(fn, dtype, "", differentiable=False)


@op(inplace=True)
def bitwise_left_shift(input: Tensor | int, other: Tensor | int) -> Tensor:
    """Return ``input << other``; bits shifted out are lost."""
    return record(_shift, ("lshift",), input, other)  # type: ignore[no-any-return]


@op(inplace=True)
def bitwise_right_shift(input: Tensor | int, other: Tensor | int) -> Tensor:
    """Return ``input >> other``; a signed number keeps its sign."""
    return record(_shift, ("rshift",), input, other)  # type: ignore[no-any-return]


def _shift(a: Operand, b: Operand, name: str) -> Lowering:
    dtype = joined(a, b)
    refuse(f"{name}_cpu", dtype, FLOATING, COMPLEX, *((BOOL,) if isinstance(b, Aval) else ()))
    return promoted(jnp.left_shift if name == "lshift" else jnp.right_shift, dtype, "", differentiable=False)


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
