"""Integer divisors; and floating-point numbers as mantissas and exponents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax.numpy as jnp
from jax import lax

from tracegrad._dtype import BOOL, COMPLEX, FLOATING, INTEGRAL
from tracegrad._engine.op import Lowering
from tracegrad._engine.trace import record
from tracegrad._engine.value import Aval
from tracegrad._ops import _rules as rules
from tracegrad._ops._declare import op
from tracegrad._ops._out import into
from tracegrad._ops.pointwise import Operand, joined, promoted, refuse

if TYPE_CHECKING:
    from tracegrad._tensor import Tensor


class Frexp(NamedTuple):
    """What ``frexp`` returns; prints as PyTorch's ``torch.return_types.frexp`` does."""

    mantissa: Tensor
    exponent: Tensor

    def __repr__(self) -> str:
        return f"torch.return_types.frexp(\nmantissa={self.mantissa!r},\nexponent={self.exponent!r})"


@op(inplace=True)
def gcd(input: Tensor, other: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return the greatest common divisors of integers, at least 0.

    Example:
        >>> import tracegrad as torch
        >>> torch.gcd(torch.tensor([4, 6]), torch.tensor([6, 9]))
        tensor([2, 3])
    """
    if out is not None:
        return into(out, gcd, input, other)
    return record(_divisors, ("gcd",), input, other)  # type: ignore[no-any-return]


@op(inplace=True)
def lcm(input: Tensor, other: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return the least common multiples of integers, at least 0."""
    if out is not None:
        return into(out, lcm, input, other)
    return record(_divisors, ("lcm",), input, other)  # type: ignore[no-any-return]


def _divisors(a: Operand, b: Operand, name: str) -> Lowering:
    dtype = joined(a, b)
    refuse(f"{name}_cpu", dtype, BOOL, FLOATING, COMPLEX)
    return promoted(jnp.gcd if name == "gcd" else jnp.lcm, dtype, "", differentiable=False)


@op(inplace=True)
def ldexp(input: Tensor, other: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return ``input * 2 ** other``."""
    if out is not None:
        return into(out, ldexp, input, other)
    return record(_ldexp, (), input, other)  # type: ignore[no-any-return]


def _ldexp(a: Operand, b: Operand) -> Lowering:
    # PyTorch takes the power in the default dtype at least, then multiplies.
    power = b.dtype if isinstance(b, Aval) and b.dtype.is_inexact else rules.to_float(rules.result_type((b,)))
    dtype = rules.to_float(joined(a, b))
    return Lowering(lambda x, y: rules.cast(x, dtype) * jnp.exp2(rules.cast(y, power)).astype(dtype.np),
                    name="LdexpBackward0")  # fmt: skip


@op()
def frexp(input: Tensor, *, out: Any = None) -> Frexp:
    """Return the mantissas, from 0.5 to 1 in size, and the exponents of floating-point numbers.

    Example:
        >>> import tracegrad as torch
        >>> torch.frexp(torch.tensor([8.])).exponent
        tensor([4], dtype=torch.int32)
    """
    if out is not None:
        return into(out, frexp, input)
    return Frexp._make(record(_frexp, (), input))


def _frexp(x: Aval) -> Lowering:
    if not x.dtype.is_floating_point:
        raise RuntimeError("torch.frexp() only supports floating-point dtypes")

    def fn(a: Any) -> tuple[Any, Any]:
        mantissa, exponent = jnp.frexp(lax.stop_gradient(a))
        limit = 14 if a.dtype == jnp.float16 else 120  # what its own dtype can take 2 to the power of
        scale = jnp.exp2(-jnp.clip(exponent, -limit, limit).astype(a.dtype))
        none = jnp.where(jnp.isfinite(a), a - lax.stop_gradient(a), 0)  # carries the gradient
        return mantissa + none * scale, exponent.astype(jnp.int32)

    return Lowering(fn, name="FrexpBackward0")


@op(inplace=True)
def nextafter(input: Tensor, other: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return the next floating-point numbers after ``input`` towards ``other``."""
    if out is not None:
        return into(out, nextafter, input, other)
    return record(_nextafter, (), input, other)  # type: ignore[no-any-return]


def _nextafter(a: Operand, b: Operand) -> Lowering:
    dtype = joined(a, b)
    refuse("nextafter_cpu", dtype, BOOL, INTEGRAL, COMPLEX)

    def fn(x: Any, y: Any) -> Any:
        # The gradient is that of ``x``, and 0 where both are equal.
        found = jnp.nextafter(lax.stop_gradient(x), lax.stop_gradient(y))
        return found + jnp.where((x != y) & jnp.isfinite(x), x - lax.stop_gradient(x), 0)

    return promoted(fn, dtype, "NextafterBackward0")
