"""Ops that order elements along a dim, or pick some of them by their order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
from jax import lax

from tracegrad._dtype import BOOL, COMPLEX
from tracegrad._engine.op import Lowering
from tracegrad._engine.trace import record
from tracegrad._engine.value import Aval
from tracegrad._ops import _rules as rules
from tracegrad._ops._declare import op
from tracegrad._ops._out import into
from tracegrad._ops.pointwise import refuse
from tracegrad._ops.reduction import ValuesIndices, pick

if TYPE_CHECKING:
    from tracegrad._tensor import Tensor


class Sort(ValuesIndices):
    """What ``sort`` returns."""


class Topk(ValuesIndices):
    """What ``topk`` returns."""


class Kthvalue(ValuesIndices):
    """What ``kthvalue`` returns."""


@op()
def sort(input: Tensor, dim: int = -1, descending: bool = False, stable: bool = False, *, out: Any = None,
         **numpy: Any) -> Sort:  # fmt: skip
    """Return the elements in order along ``dim``, and where they stood. Equal ones keep their order.

    Example:
        >>> import tracegrad as torch
        >>> torch.tensor([3, 1, 2]).sort().values
        tensor([1, 2, 3])
    """
    if out is not None or numpy:
        return into(out, sort, input, dim, descending, stable, **numpy)
    return Sort._make(record(_sort, (dim, descending), input))


@op()
def argsort(input: Tensor, dim: int = -1, descending: bool = False, stable: bool = False,
            *, out: Tensor | None = None, **numpy: Any) -> Tensor:  # fmt: skip
    """Return the indices that would sort ``input`` along ``dim``.

    Example:
        >>> import tracegrad as torch
        >>> torch.tensor([3, 1, 2]).argsort()
        tensor([1, 2, 0])
    """
    if out is not None or numpy:
        return into(out, argsort, input, dim, descending, stable, **numpy)
    return record(_argsort, (dim, descending), input)  # type: ignore[no-any-return]


def _ordered(a: Any, axis: int, descending: bool) -> tuple[Any, Any]:
    """Return the sorted elements and their indices, by a stable sort."""
    if not a.ndim:
        return a, jnp.zeros((), jnp.int64)
    index = lax.broadcasted_iota(jnp.int64, a.shape, axis)
    if not descending:
        return lax.sort((a, index), dimension=axis, num_keys=1, is_stable=True)  # type: ignore[return-value]
    flipped = (lax.rev(a, (axis,)), lax.rev(index, (axis,)))
    values, index = lax.sort(flipped, dimension=axis, num_keys=1, is_stable=True)
    return lax.rev(values, (axis,)), lax.rev(index, (axis,))


def _sort(x: Aval, dim: int, descending: bool) -> Lowering:
    axis = rules.dim(dim, x.ndim)
    if x.dtype.is_complex:
        raise RuntimeError(" Sort does not support complex dtypes on CPU")

    def fn(a: Any) -> Any:
        index = _ordered(lax.stop_gradient(a), axis, descending)[1]
        return (jnp.take_along_axis(a, index, axis) if a.ndim else a), index

    def forward(a: Any) -> tuple[Any, Any]:
        values, index = _ordered(a, axis, descending)
        return (values, index), index

    return Lowering(fn, forward, _put_back(x, axis), "SortBackward0")


def _put_back(x: Aval, axis: int) -> Any:
    """Return the backward of an op that picked elements: every cotangent goes to where its element stood."""

    def backward(index: Any, cts: Any) -> tuple[Any, ...]:
        if not x.ndim:
            return (cts[0],)
        return (jnp.put_along_axis(jnp.zeros(x.shape, x.dtype.np), index, cts[0], axis, inplace=False),)

    return backward


def _argsort(x: Aval, dim: int, descending: bool) -> Lowering:
    fn = _sort(x, dim, descending).fn
    return Lowering(lambda a: fn(a)[1], differentiable=False)


@op()
def topk(input: Tensor, k: int, dim: int = -1, largest: bool = True, sorted: bool = True, *, out: Any = None,
         **numpy: Any) -> Topk:  # fmt: skip
    """Return the ``k`` largest (or smallest) elements along ``dim`` in order, and where they stood.

    Example:
        >>> import tracegrad as torch
        >>> torch.tensor([3, 1, 2]).topk(2).values
        tensor([3, 2])
    """
    if out is not None or numpy:
        return into(out, topk, input, k, dim, largest, sorted, **numpy)
    return Topk._make(record(_topk, (k, dim, largest), input))


def _topk(x: Aval, k: int, dim: int, largest: bool) -> Lowering:
    axis = rules.dim(dim, x.ndim)
    if not 0 <= k <= (x.shape[axis] if x.ndim else 1):
        raise RuntimeError("selected index k out of range")
    if x.dtype.category in (BOOL, COMPLEX):
        complex_ = x.dtype.category == COMPLEX
        raise RuntimeError(f"{' ' if complex_ else ''}topk does not support "
                           f"{'complex' if complex_ else 'bool'} dtypes on CPU")

    def find(a: Any) -> Any:
        if not a.ndim:
            return jnp.zeros((k,) if k == 0 else (), jnp.int64)
        if not largest:
            return lax.slice_in_dim(_ordered(a, axis, False)[1], 0, k, axis=axis)
        return jnp.moveaxis(lax.top_k(jnp.moveaxis(a, axis, -1), k)[1], -1, axis).astype(jnp.int64)

    def fn(a: Any) -> Any:
        index = find(lax.stop_gradient(a))
        return (jnp.take_along_axis(a, index, axis) if a.ndim else a), index

    def forward(a: Any) -> tuple[Any, Any]:
        values, index = fn(a)
        return (values, index), index

    return Lowering(fn, forward, _put_back(x, axis), "TopkBackward0")


@op()
def kthvalue(input: Tensor, k: int, dim: int = -1, keepdim: bool = False, *, out: Any = None, **numpy: Any) -> Kthvalue:
    """Return the ``k``-th smallest element along ``dim``, counted from 1, and where it stood."""
    if out is not None or numpy:
        return into(out, kthvalue, input, k, dim, keepdim, **numpy)
    return Kthvalue._make(record(_kthvalue, (k, dim, keepdim), input))


def _kthvalue(x: Aval, k: int, dim: int, keepdim: bool) -> Lowering:
    refuse("kthvalue_cpu", x.dtype, BOOL, COMPLEX)
    axis = rules.dim(dim, x.ndim)
    if not 1 <= k <= (x.shape[axis] if x.ndim else 1):
        raise RuntimeError(f"kthvalue(): selected number k out of range for dimension {axis}")

    def find(a: Any, d: int) -> Any:
        return lax.slice_in_dim(_ordered(a, d, False)[1], k - 1, k, axis=d)

    return pick(x, axis, keepdim, find, "KthvalueBackward0")


@op()
def msort(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return ``input`` sorted along its first dim."""
    if out is not None:
        return into(out, msort, input)
    return sort(input, 0).values
