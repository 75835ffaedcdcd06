"""Ops that fold all elements up to each one along a dim: running sums, products, extremes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
from jax import lax

from tracegrad._dtype import BOOL, COMPLEX, INTEGRAL, DType
from tracegrad._engine.op import Lowering
from tracegrad._engine.trace import record
from tracegrad._engine.value import Aval
from tracegrad._ops import _rules as rules
from tracegrad._ops._declare import op
from tracegrad._ops._out import into
from tracegrad._ops._rules import REQUIRED
from tracegrad._ops.math import logs_added
from tracegrad._ops.pointwise import refuse
from tracegrad._ops.reduction import ValuesIndices, widened

if TYPE_CHECKING:
    from tracegrad._tensor import Tensor


class Cummax(ValuesIndices):
    """What ``cummax`` returns."""


class Cummin(ValuesIndices):
    """What ``cummin`` returns."""


@op(inplace=True)
def cumsum(input: Tensor, dim: int = REQUIRED, *, dtype: DType | None = None, out: Tensor | None = None,
            **numpy: Any) -> Tensor:  # fmt: skip
    """Return the sums of all elements up to each one along ``dim``.

    Example:
        >>> import tracegrad as torch
        >>> torch.tensor([1, 2, 3]).cumsum(0)
        tensor([1, 3, 6])
    """
    if out is not None or numpy:
        return into(out, cumsum, input, dim, dtype=dtype, **numpy)
    return record(_running, ("cumsum", dim, dtype), input)  # type: ignore[no-any-return]


@op(inplace=True)
def cumprod(input: Tensor, dim: int = REQUIRED, *, dtype: DType | None = None, out: Tensor | None = None,
            **numpy: Any) -> Tensor:  # fmt: skip
    """Return the products of all elements up to each one along ``dim``."""
    if out is not None or numpy:
        return into(out, cumprod, input, dim, dtype=dtype, **numpy)
    return record(_running, ("cumprod", dim, dtype), input)  # type: ignore[no-any-return]


def _running(x: Aval, name: str, dim: int, dtype: DType | None) -> Lowering:
    axis, to = rules.dim(dim, x.ndim), widened(x, dtype)
    fn = lax.cumsum if name == "cumsum" else lax.cumprod
    node = f"{name.capitalize()}Backward0"
    return Lowering(lambda a: fn(a.astype(to.np), axis) if a.ndim else a.astype(to.np), name=node,
                    saves=name == "cumprod")  # fmt: skip


@op()
def logcumsumexp(input: Tensor, dim: int = REQUIRED, *, out: Tensor | None = None, **numpy: Any) -> Tensor:
    """Return ``logsumexp`` of all elements up to each one along ``dim``."""
    if out is not None or numpy:
        return into(out, logcumsumexp, input, dim, **numpy)
    return record(_logcumsumexp, (dim,), input)  # type: ignore[no-any-return]


def _logcumsumexp(x: Aval, dim: int) -> Lowering:
    refuse("logcumsumexp_out_cpu", x.dtype, BOOL, INTEGRAL)
    axis = rules.dim(dim, x.ndim)

    def fn(a: Any) -> Any:
        if not a.ndim or not a.size:
            return a
        return lax.associative_scan(logs_added, a, axis=axis) if x.dtype.is_complex else lax.cumlogsumexp(a, axis)

    return Lowering(fn, name="LogcumsumexpBackward0")


@op()
def cummax(input: Tensor, dim: int = REQUIRED, *, out: Any = None, **numpy: Any) -> Cummax:
    """Return the largest of all elements up to each one along ``dim``, and where the last such one stands.

    Example:
        >>> import tracegrad as torch
        >>> torch.tensor([1, 3, 2]).cummax(0).values
        tensor([1, 3, 3])
    """
    if out is not None or numpy:
        return into(out, cummax, input, dim, **numpy)
    return Cummax._make(record(_running_extreme, ("cummax", dim), input))


@op()
def cummin(input: Tensor, dim: int = REQUIRED, *, out: Any = None, **numpy: Any) -> Cummin:
    """Return the smallest of all elements up to each one along ``dim``, and where the last such one stands."""
    if out is not None or numpy:
        return into(out, cummin, input, dim, **numpy)
    return Cummin._make(record(_running_extreme, ("cummin", dim), input))


def _running_extreme(x: Aval, name: str, dim: int) -> Lowering:
    refuse(f"{name}_cpu", x.dtype, COMPLEX)
    axis = rules.dim(dim, x.ndim)
    node = f"{name.capitalize()}Backward0"

    def later(a: tuple[Any, Any], b: tuple[Any, Any]) -> tuple[Any, Any]:
        (x, i), (y, j) = a, b
        wins = (y >= x) if name == "cummax" else (y <= x)
        wins = (y != y) | ((x == x) & wins)  # nan stays, and the last nan wins
        return jnp.where(wins, y, x), jnp.where(wins, j, i)

    def fn(a: Any) -> Any:
        if not a.ndim:
            return a, jnp.zeros((), jnp.int64)
        index = lax.broadcasted_iota(jnp.int64, a.shape, axis)
        return lax.associative_scan(later, (a, index), axis=axis) if a.size else (a, index)

    def forward(a: Any) -> tuple[Any, Any]:
        found = fn(lax.stop_gradient(a))
        return found, found[1]

    def backward(index: Any, cts: Any) -> tuple[Any, ...]:
        return (add_along(jnp.zeros(x.shape, x.dtype.np), index, cts[0], axis),)

    return Lowering(fn, forward, backward, node)


def add_along(a: Any, index: Any, values: Any, axis: int) -> Any:
    """Return ``a`` with ``values`` added at ``index`` along ``axis``."""
    if not a.ndim:
        return a + values
    place = [lax.broadcasted_iota(jnp.int64, index.shape, k) for k in range(a.ndim)]
    place[axis] = index
    return a.at[tuple(place)].add(values)
