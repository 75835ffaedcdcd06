"""What the ops of linear algebra share: their refusals, their errors about elements, the text of their results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax.numpy as jnp
from jax import lax

from tracegrad._dtype import type_name
from tracegrad._engine.checks import Check
from tracegrad._engine.value import Aval
from tracegrad._errors import LinAlgError

T = TypeVar("T", bound=type)


def printed(name: str) -> Callable[[T], T]:
    """Give a named tuple PyTorch's text: ``torch.return_types.name(`` and a line for each field."""

    def decorate(cls: T) -> T:
        def __repr__(self: Any) -> str:
            return f"torch.return_types.{name}(\n" + ",\n".join(f"{f}={getattr(self, f)!r}" for f in self._fields) + ")"

        cls.__repr__ = __repr__  # type: ignore[assignment]
        return cls

    return decorate


# -- refusals ------------------------------------------------------------------------------------------------


def matrices(name: str, x: Aval, what: str = "A") -> None:
    """Raise where ``x`` has fewer than two dims."""
    if x.ndim < 2:
        raise RuntimeError(f"{name}: The input tensor {what} must have at least 2 dimensions.")


def square(name: str, x: Aval) -> None:
    """Raise where ``x`` holds no square matrices."""
    matrices(name, x)
    if x.shape[-1] != x.shape[-2]:
        raise RuntimeError(f"{name}: A must be batches of square matrices, but they are {x.shape[-2]} by "
                           f"{x.shape[-1]} matrices")


def inexact(name: str, x: Aval) -> None:
    """Raise where ``x`` holds integers or bools."""
    if not x.dtype.is_inexact:
        raise RuntimeError(f"{name}: Expected a floating point or complex tensor as input. Got {type_name(x.dtype)}")


def precise(name: str, x: Aval) -> None:
    """Raise where ``x`` holds integers, bools or 16-bit numbers."""
    inexact(name, x)
    if x.dtype.itemsize == 2:
        raise RuntimeError(f"{name}: Low precision dtypes not supported. Got {type_name(x.dtype)}")


def kernel(name: str, x: Aval) -> None:
    """Raise where PyTorch's ``kernel`` does not take the dtype: integers, bools, 16-bit numbers."""
    if not x.dtype.is_inexact or x.dtype.itemsize == 2:
        raise NotImplementedError(f"\"{name}\" not implemented for '{type_name(x.dtype)}'")


def batch(*xs: Aval) -> tuple[int, ...]:
    """Return the broadcast shape of the batch dims."""
    shape: list[int] = []
    for x in xs:
        own = x.shape[:-2]
        shape = [1] * (len(own) - len(shape)) + shape
        for i, size in enumerate(own, len(shape) - len(own)):
            if size != 1 and shape[i] not in (1, size):
                raise RuntimeError(f"The size of tensor a ({shape[i]}) must match the size of tensor b ({size}) at "
                                   f"non-singleton dimension {i}")
            shape[i] = size if size != 1 else shape[i]
    return tuple(shape)


# -- errors about elements -----------------------------------------------------------------------------------


def failed(output: int, matrix: Aval, text: str, error: type[Exception] = LinAlgError) -> Check:
    """Check LAPACK's ``info``, an output of one number a matrix: 0, or the place in it where the op failed.

    ``text`` has places for that number, ``{i}``, and for the batch element, ``{batch}``.
    """
    count = 1
    for size in matrix.shape[:-2]:
        count *= size

    def find(operands: Sequence[Any], outputs: Sequence[Any]) -> tuple[Any, Any]:
        if not count:
            return False, 0
        info = outputs[output].reshape(-1).astype(jnp.int64)
        place = jnp.argmax(info != 0)
        return (info != 0).any(), info[place] * count + place

    def make(what: int) -> Exception:
        i, place = divmod(what, count)
        return error(text.format(i=i, batch=f"(Batch element {place}): " if matrix.ndim > 2 else ""))

    return Check(find, make)


def finite(operand: int, error: Callable[[], Exception]) -> Check:
    """Check that a matrix has neither nan nor infinities."""
    return Check(lambda operands, outputs: (~jnp.isfinite(operands[operand]).all(), 0), lambda _: error())


# -- arrays of matrices ------------------------------------------------------------------------------------------


def adjoint(a: Any) -> Any:
    """Return the conjugate transposes."""
    return jnp.conj(jnp.swapaxes(a, -1, -2))


def diagonals(v: Any) -> Any:
    """Return the matrices with ``v`` on their diagonals."""
    return v[..., None] * jnp.eye(v.shape[-1], dtype=v.dtype)


def conjugated(backward: Callable[..., Any]) -> Callable[[Any, Any], tuple[Any, ...]]:
    """Return a backward, of one operand or a tuple of them, written for PyTorch's gradients, in JAX's."""

    def run(saved: Any, cotangents: Any) -> tuple[Any, ...]:
        many = isinstance(cotangents, tuple)
        given = tuple(map(_conj, cotangents)) if many else _conj(cotangents)
        found = backward(saved, given)
        return tuple(map(_conj, found)) if isinstance(found, tuple) else (_conj(found),)

    return run


def _conj(a: Any) -> Any:
    return jnp.conj(a) if jnp.iscomplexobj(a) else a


def products(*factors: Any) -> Any:
    """Return the product of arrays of matrices, from left to right, in full precision."""
    result = factors[0]
    for f in factors[1:]:
        result = jnp.matmul(result, f, precision=lax.Precision.HIGHEST)
    return result


def first_zero(lu: Any) -> Any:
    """Return LAPACK's ``info`` of a decomposition: the first zero on the diagonal, counted from 1, or 0."""
    zero = jnp.diagonal(lu, axis1=-2, axis2=-1) == 0
    if not zero.shape[-1]:
        return jnp.zeros(zero.shape[:-1], jnp.int32)
    return jnp.where(zero.any(-1), jnp.argmax(zero, -1) + 1, 0).astype(jnp.int32)


def by_lu(lu: Any, order: Any, b: Any, transposed: bool = False) -> Any:
    """Return ``x`` of ``a @ x = b`` (of ``a.mT @ x = b`` where ``transposed``), by the LU decomposition of ``a``.

    ``order`` says how the rows of ``a`` were exchanged.
    """
    shape = jnp.broadcast_shapes(lu.shape[:-2], b.shape[:-2])
    lu = jnp.broadcast_to(lu, (*shape, *lu.shape[-2:]))
    b = jnp.broadcast_to(b, (*shape, *b.shape[-2:]))
    order = jnp.broadcast_to(order, (*shape, order.shape[-1]))[..., None]
    solve = lax.linalg.triangular_solve
    if not transposed:
        b = jnp.take_along_axis(b, order, -2)
        b = solve(lu, b, left_side=True, lower=True, unit_diagonal=True)
        return solve(lu, b, left_side=True, lower=False)
    b = solve(lu, b, left_side=True, lower=False, transpose_a=True)
    b = solve(lu, b, left_side=True, lower=True, unit_diagonal=True, transpose_a=True)
    return jnp.take_along_axis(b, jnp.argsort(order, -2), -2)


def solved(a: Any, b: Any) -> tuple[Any, Any]:
    """Return ``x`` of ``a @ x = b``, differentiable to any order with one decomposition, and its ``info``."""
    lu, _, order = lax.linalg.lu(lax.stop_gradient(a))
    x = lax.custom_linear_solve(
        lambda x: jnp.matmul(a, x, precision=lax.Precision.HIGHEST),
        jnp.broadcast_to(b, (*jnp.broadcast_shapes(a.shape[:-2], b.shape[:-2]), *b.shape[-2:])),
        solve=lambda _, y: by_lu(lu, order, y),
        transpose_solve=lambda _, y: by_lu(lu, order, y, transposed=True),
    )
    return x, first_zero(lu)
