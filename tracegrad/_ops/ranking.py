"""Elements picked by their rank or frequency: medians, quantiles, modes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
from jax import lax

from tracegrad._dtype import BOOL, COMPLEX, float32, float64
from tracegrad._engine.op import Lowering
from tracegrad._engine.trace import record
from tracegrad._engine.value import Aval
from tracegrad._handle import Handle
from tracegrad._ops import _rules as rules
from tracegrad._ops._checks import never
from tracegrad._ops._declare import op
from tracegrad._ops._out import into
from tracegrad._ops.pointwise import refuse
from tracegrad._ops.reduction import ValuesIndices, not_empty, pick

if TYPE_CHECKING:
    from tracegrad._tensor import Tensor

class Median(ValuesIndices):
    """What ``median`` along a dim returns."""


class Nanmedian(ValuesIndices):
    """What ``nanmedian`` along a dim returns."""


class Mode(ValuesIndices):
    """What ``mode`` returns."""


# -- medians ----------------------------------------------------------------------------------------------------------


@op()
def median(input: Tensor, dim: int | None = None, keepdim: bool = False, *, out: Any = None, **numpy: Any) -> Any:
    """Return the median, the lower one of an even number, or a pair ``(values, indices)`` along ``dim``."""
    if out is not None or numpy:
        return into(out, median, input, dim, keepdim, **numpy)
    if dim is None:
        return record(_full_median, (False,), input)
    return Median._make(record(_median, (dim, keepdim, False), input))


@op()
def nanmedian(input: Tensor, dim: int | None = None, keepdim: bool = False, *, out: Any = None, **numpy: Any) -> Any:
    """Return ``median`` of the elements that are not nan.

    Example:
        >>> import tracegrad as torch
        >>> torch.tensor([1., float("nan"), 3., 2.]).nanmedian()
        tensor(2.)
    """
    if out is not None or numpy:
        return into(out, nanmedian, input, dim, keepdim, **numpy)
    if dim is None:
        return record(_full_median, (True,), input)
    return Nanmedian._make(record(_median, (dim, keepdim, True), input))


def _median_index(a: Any, dim: int, skip_nan: bool) -> Any:
    order = jnp.argsort(a, dim, stable=True)
    if not jnp.issubdtype(a.dtype, jnp.floating):
        return lax.slice_in_dim(order, (a.shape[dim] - 1) // 2, (a.shape[dim] - 1) // 2 + 1, axis=dim)
    lost = jnp.isnan(a)
    count = jnp.sum(~lost, dim, keepdims=True) if skip_nan else a.shape[dim]
    middle = jnp.maximum((jnp.broadcast_to(count, lost.any(dim, keepdims=True).shape) - 1) // 2, 0)
    found = jnp.take_along_axis(order, middle, dim)
    if skip_nan:
        return found
    return jnp.where(lost.any(dim, keepdims=True), jnp.argmax(lost, dim, keepdims=True), found)


def _median(x: Aval, dim: int, keepdim: bool, skip_nan: bool) -> Lowering:
    name = "nanmedian" if skip_nan else "median"
    refuse("median_cpu", x.dtype, BOOL, COMPLEX)
    not_empty(x, dim, name)
    node = f"{name.capitalize()}Backward1"
    return pick(x, rules.dim(dim, x.ndim), keepdim, lambda a, d: _median_index(a, d, skip_nan), node)


def _full_median(x: Aval, skip_nan: bool) -> Lowering:
    refuse("median_cpu", x.dtype, BOOL, COMPLEX)
    node = f"{'Nanm' if skip_nan else 'M'}edianBackward0"
    if x.numel == 0:
        return Lowering(lambda a: jnp.full((), math.nan).astype(a.dtype), name=node)

    def fn(a: Any) -> Any:
        flat = a.reshape(-1)
        found = flat[_median_index(flat, 0, skip_nan)[0]]
        # PyTorch shares the gradient among all elements equal to the median.
        equal = (flat == found) | ((flat != flat) & (found != found))
        weights = equal / equal.sum()
        return lax.stop_gradient(found) + _tangent(flat, weights) if x.dtype.is_inexact else found

    return Lowering(fn, name=node)


def _tangent(flat: Any, weights: Any) -> Any:
    """Return a zero whose gradient with respect to ``flat`` is ``weights``."""
    weights = lax.stop_gradient(weights).astype(flat.dtype)
    return jnp.sum(jnp.where(weights != 0, flat - lax.stop_gradient(flat), 0) * weights)


# -- quantiles --------------------------------------------------------------------------------------------------------


@op()
def quantile(input: Tensor, q: Tensor | float, dim: int | None = None, keepdim: bool = False, *,
             interpolation: str = "linear", out: Tensor | None = None, **numpy: Any) -> Tensor:  # fmt: skip
    """Return what a share ``q`` of the elements along ``dim`` lies below.

    Args:
        input: ``float32`` or ``float64``.
        q: a share from 0 to 1, or a vector of several, whose dim comes first in the result.
        dim: all elements where it is None.
        keepdim: whether ``dim`` stays, with size 1.
        interpolation: what to return between two elements: ``linear``, ``lower``, ``higher``, ``midpoint`` or
            ``nearest``.
        out: where to write the result.
        **numpy: ``axis`` for ``dim``, as NumPy has it.

    Example:
        >>> import tracegrad as torch
        >>> torch.quantile(torch.tensor([0., 1., 2., 3.]), 0.5)
        tensor(1.5000)
    """
    if out is not None or numpy:
        return into(out, quantile, input, q, dim, keepdim, interpolation=interpolation, **numpy)
    return _record_quantile("quantile", input, q, dim, keepdim, interpolation)


@op()
def nanquantile(input: Tensor, q: Tensor | float, dim: int | None = None, keepdim: bool = False, *,
                interpolation: str = "linear", out: Tensor | None = None, **numpy: Any) -> Tensor:  # fmt: skip
    """Return ``quantile`` of the elements that are not nan."""
    if out is not None or numpy:
        return into(out, nanquantile, input, q, dim, keepdim, interpolation=interpolation, **numpy)
    return _record_quantile("nanquantile", input, q, dim, keepdim, interpolation)


def _record_quantile(name: str, input: Tensor, q: Any, dim: int | None, keepdim: bool, interpolation: str) -> Tensor:
    if not isinstance(q, Handle) and not 0 <= q <= 1:
        raise RuntimeError(f"{name}() q must be in the range [0, 1] but got {q:g}")
    return record(_quantile, (name, dim, keepdim, interpolation), input, q)  # type: ignore[no-any-return]


_ROUNDED: dict[str, Callable[[Any], Any]] = {"lower": jnp.floor, "higher": jnp.ceil, "nearest": jnp.round}


def _quantile(x: Aval, q: Any, name: str, dim: int | None, keepdim: bool, interpolation: str) -> Lowering:
    if x.dtype not in (float32, float64):
        raise RuntimeError(f"{name}() input tensor must be either float or double dtype")
    if isinstance(q, Aval) and q.ndim > 1:
        raise RuntimeError(f"{name}() q must be a scalar or 1D tensor")
    if isinstance(q, Aval) and q.dtype is not x.dtype:
        raise RuntimeError(f"{name}() q tensor must be same dtype as the input tensor")
    if x.numel == 0:
        raise RuntimeError(f"{name}() input tensor must be non-empty")
    if interpolation not in (*_ROUNDED, "linear", "midpoint"):
        raise RuntimeError(f"{name}() interpolation must be one of linear, lower, higher, midpoint or nearest, but got "
                           f"{interpolation}")
    axis = None if dim is None else rules.dim(dim, x.ndim)
    shape = q.shape if isinstance(q, Aval) else ()
    left = () if axis is None or not x.ndim else x.shape[:axis] + (1,) * keepdim + x.shape[axis + 1 :]
    left = (1,) * x.ndim if axis is None and keepdim else left
    skip_nan = name == "nanquantile"

    def fn(a: Any, share: Any) -> Any:
        a = a.reshape(-1) if axis is None or not a.ndim else jnp.moveaxis(a, axis, -1)
        share = rules.cast(share, x.dtype).reshape(-1)
        rows = jnp.sort(a, -1)
        lost = jnp.isnan(rows)
        count = jnp.sum(~lost, -1, keepdims=True) if skip_nan else rows.shape[-1]
        rank = jnp.broadcast_to(share * (count - 1), (*rows.shape[:-1], share.size))
        rank = jnp.maximum(rank, 0)
        if not skip_nan:  # where one is nan, the last is, and it is the result
            rank = jnp.where(lost.any(-1, keepdims=True), rows.shape[-1] - 1, rank)
        if interpolation in _ROUNDED:
            rank = _ROUNDED[interpolation](lax.stop_gradient(rank))
        below = jnp.floor(lax.stop_gradient(rank))
        low, high = (jnp.take_along_axis(rows, f(lax.stop_gradient(rank)).astype(jnp.int64), -1)
                     for f in (jnp.floor, jnp.ceil))
        weight = jnp.full_like(rank, 0.5) if interpolation == "midpoint" else rank - below
        made = jnp.where(weight < 0.5, low + weight * (high - low), high - (high - low) * (1 - weight))
        return jnp.moveaxis(made, -1, 0).reshape(shape + left)

    checks = ()
    if isinstance(q, Aval):
        checks = (never(1, lambda v: ~((v >= 0) & (v <= 1)),
                        lambda _: RuntimeError(f"{name}() q values must be in the range [0, 1]")),)  # type: ignore[assignment]
    return Lowering(fn, name="SqueezeBackward1", checks=checks)


# -- modes ------------------------------------------------------------------------------------------------------------


@op()
def mode(input: Tensor, dim: int = -1, keepdim: bool = False, *, out: Any = None, **numpy: Any) -> Mode:
    """Return the most frequent element along ``dim``, the smallest of several, and where its last one stands.

    Example:
        >>> import tracegrad as torch
        >>> torch.tensor([1, 2, 2, 3]).mode().values
        tensor(2)
    """
    if out is not None or numpy:
        return into(out, mode, input, dim, keepdim, **numpy)
    return Mode._make(record(_mode, (dim, keepdim), input))


def _mode(x: Aval, dim: int, keepdim: bool) -> Lowering:
    refuse("mode_cpu", x.dtype, COMPLEX)
    axis = rules.dim(dim, x.ndim)
    not_empty(x, dim, "mode")

    def find(a: Any, d: int) -> Any:
        index = lax.broadcasted_iota(jnp.int64, a.shape, d)
        rows, order = lax.sort((a, index), dimension=d, num_keys=1, is_stable=True)
        before = jnp.roll(rows, 1, d)
        first = lax.cummax(jnp.where((rows != before) & (index > 0), index, 0), d)  # of the run that each belongs to
        best = jnp.argmax(index - first, d, keepdims=True)
        return jnp.take_along_axis(order, best, d)

    return pick(x, axis, keepdim, find, "ModeBackward0")
