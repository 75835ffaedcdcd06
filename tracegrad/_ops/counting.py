"""Ops that count and look up: histograms, bins, distinct elements.

How many distinct elements there are, and how long a count of integers is, depends on the elements: those ops
(``unique``, ``unique_consecutive``, ``bincount``) read them when they are called.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tracegrad import _dtype
from tracegrad._dtype import BOOL, COMPLEX, INTEGRAL, type_name
from tracegrad._engine.op import Lowering
from tracegrad._engine.trace import force, record
from tracegrad._engine.value import Aval
from tracegrad._handle import Handle
from tracegrad._ops import _rules as rules
from tracegrad._ops._declare import op
from tracegrad._ops._out import into
from tracegrad._ops.creation import from_host
from tracegrad._ops.pointwise import refuse

if TYPE_CHECKING:
    from tracegrad._tensor import Tensor


class Histogram(NamedTuple):
    """What ``histogram`` returns; prints as PyTorch's ``torch.return_types.histogram`` does."""

    hist: Tensor
    bin_edges: Tensor

    def __repr__(self) -> str:
        return f"torch.return_types.histogram(\nhist={self.hist!r},\nbin_edges={self.bin_edges!r})"


# -- histograms -------------------------------------------------------------------------------------------------------


@op()
def bincount(input: Tensor, weights: Tensor | None = None, minlength: int = 0) -> Tensor:
    """Return how often each integer from 0 on occurs, or the sum of its weights. Reads the elements.

    Example:
        >>> import tracegrad as torch
        >>> torch.tensor([0, 2, 2]).bincount()
        tensor([1, 0, 2])
    """
    of = input._value.spec.aval
    if minlength < 0:
        raise RuntimeError("minlength should be >= 0")
    refuse("bincount_cpu", of.dtype, _dtype.FLOATING, COMPLEX, BOOL)
    array = np.asarray(force(input._value))
    if array.ndim != 1 or (array < 0).any():
        raise RuntimeError("bincount only supports 1-d non-negative integral inputs.")
    if weights is not None and weights.shape != input.shape:
        raise RuntimeError("weights should be 1-d and have the same length as input")
    length = max(minlength, int(array.max()) + 1 if array.size else 0)
    given = () if weights is None else (weights,)
    return record(_bincount, (length,), input, *given)  # type: ignore[no-any-return]


def _bincount(x: Aval, *rest: Any) -> Lowering:
    *weights, length = rest
    dtype = _dtype.int64
    if weights:
        dtype = _dtype.float32 if weights[0].dtype is _dtype.float32 else _dtype.float64

    def fn(a: Any, *w: Any) -> Any:
        return jnp.zeros(length, dtype.np).at[a].add(w[0].astype(dtype.np) if w else 1)

    return Lowering(fn, underived="bincount")


@op()
def histc(input: Tensor, bins: int = 100, min: float = 0, max: float = 0, *, out: Tensor | None = None) -> Tensor:
    """Return how many elements fall into each of ``bins`` bins of equal width from ``min`` to ``max``.

    Where both are equal, the least and the greatest element are taken. The last bin includes its end.
    """
    if out is not None:
        return into(out, histc, input, bins, min, max)
    return record(_histc, (bins, float(min), float(max)), input)  # type: ignore[no-any-return]


def _histc(x: Aval, bins: int, low: float, high: float) -> Lowering:
    if not x.dtype.is_floating_point:
        refuse("histogram_cpu", x.dtype, BOOL, INTEGRAL, COMPLEX)
    if bins <= 0:
        raise RuntimeError("bins must be > 0")
    if low > high:
        raise RuntimeError("torch.histc: max must be larger than min")

    def fn(a: Any) -> Any:
        flat = a.reshape(-1)
        least, most = _range(flat, low, high, 1)
        return _counts(flat, jnp.linspace(least, most, bins + 1, dtype=a.dtype), None, least, most)

    return Lowering(fn, differentiable=False)


def _range(flat: Any, low: float, high: float, margin: float) -> tuple[Any, Any]:
    """Return the ends of a histogram: those given, or the extremes where they are equal, made to differ."""
    if low != high:
        return jnp.asarray(low, flat.dtype), jnp.asarray(high, flat.dtype)
    if not flat.size:
        return jnp.asarray(low, flat.dtype), jnp.asarray(low + 1, flat.dtype)
    least, most = flat.min(), flat.max()
    same = least == most
    return jnp.where(same, least - margin, least), jnp.where(same, most + margin, most)


def _counts(flat: Any, edges: Any, weight: Any, least: Any = None, most: Any = None) -> Any:
    """Return the counts between ``edges``; with bins of equal width, by PyTorch's arithmetic instead of a search."""
    bins = edges.shape[0] - 1
    inside = (flat >= edges[0]) & (flat <= edges[-1])
    if least is None:
        at = jnp.searchsorted(edges, flat, side="right") - 1
    else:
        at = ((flat - least) / ((most - least) / bins)).astype(jnp.int64)
        at = jnp.clip(at, 0, bins - 1)
        at = jnp.where(flat < edges[at], at - 1, jnp.where(flat >= edges[at + 1], at + 1, at))
    at = jnp.where(inside, jnp.clip(at, 0, bins - 1), bins)
    return jnp.zeros(bins + 1, flat.dtype).at[at].add(1 if weight is None else weight.reshape(-1))[:-1]


@op()
def histogram(input: Tensor, bins: Any, *, range: Sequence[float] | None = None, weight: Tensor | None = None,
              density: bool = False, out: Any = None) -> Histogram:  # fmt: skip
    """Return how many elements, or how much weight, each bin holds, and the edges of the bins.

    Args:
        input: floating point.
        bins: how many bins of equal width, or their edges in increasing order.
        range: the two ends; the least and the greatest element where it is None.
        weight: what each element counts, of the shape of ``input``.
        density: whether to divide so that the integral is 1.
        out: where to write both.
    """
    if out is not None:
        return into(out, histogram, input, bins, range=range, weight=weight, density=density)
    ends = (0.0, 0.0) if range is None else (float(range[0]), float(range[1]))
    given = [x for x in (bins, weight) if isinstance(x, Handle)]
    count = None if isinstance(bins, Handle) else bins
    return Histogram._make(record(_histogram, (count, ends, density), input, *given))


def _histogram(x: Aval, *rest: Any) -> Lowering:
    *given, bins, (low, high), density = rest
    refuse("histogram_cpu", x.dtype, BOOL, INTEGRAL, COMPLEX)
    if bins is not None and bins <= 0:
        raise RuntimeError("torch.histogram(): number of bins must be greater than 0")
    if low > high:
        raise RuntimeError("torch.histogram(): max must be larger than min")

    def fn(a: Any, *operands: Any) -> Any:
        flat, rest = a.reshape(-1), list(operands)
        least = most = None
        if bins is None:
            edges = rest.pop(0)
        else:
            least, most = _range(flat, low, high, 0.5)
            edges = jnp.linspace(least, most, bins + 1, dtype=a.dtype)
        counts = _counts(flat, edges, rest[0] if rest else None, least, most)
        if density:
            counts = counts / counts.sum() / jnp.diff(edges)
        return counts, edges

    return Lowering(fn, underived="histogram")


# -- bins -------------------------------------------------------------------------------------------------------------


@op(method=False)
def searchsorted(sorted_sequence: Tensor, input: Tensor | float, *, out_int32: bool = False, right: bool = False,
                 side: str | None = None, sorter: Tensor | None = None,
                 out: Tensor | None = None) -> Tensor:  # fmt: skip
    """Return where each element of ``input`` would go in the sorted last dim of ``sorted_sequence``.

    Args:
        sorted_sequence: sorted along its last dim; one row for all, or as many rows as ``input`` has.
        input: what to look up, or a number.
        out_int32: whether to return ``int32``, not ``int64``.
        right: whether to go behind equal elements, as ``side="right"`` does.
        side: ``left`` or ``right``.
        sorter: the indices that sort ``sorted_sequence``, where it is not sorted.
        out: where to write the result.

    Example:
        >>> import tracegrad as torch
        >>> torch.searchsorted(torch.tensor([1, 3, 5]), torch.tensor([3, 6]))
        tensor([1, 3])
    """
    if out is not None:
        return into(out, searchsorted, sorted_sequence, input, out_int32=out_int32, right=right, side=side,
                    sorter=sorter)  # fmt: skip
    given = () if sorter is None else (sorter,)
    params = (out_int32, right, side)
    return record(_searchsorted, params, sorted_sequence, input, *given)  # type: ignore[no-any-return]


@op(method=False)
def bucketize(input: Tensor | float, boundaries: Tensor, *, out_int32: bool = False, right: bool = False,
              out: Tensor | None = None) -> Tensor:  # fmt: skip
    """Return the number of the bucket between sorted ``boundaries`` that each element of ``input`` is in."""
    if out is not None:
        return into(out, bucketize, input, boundaries, out_int32=out_int32, right=right)
    if boundaries.ndim != 1:
        raise RuntimeError(f"boundaries tensor must be 1 dimension, but got dim({boundaries.ndim})")
    return record(_searchsorted, (out_int32, right, None), boundaries, input)  # type: ignore[no-any-return]


def _searchsorted(rows: Aval, x: Any, *rest: Any) -> Lowering:
    *sorter, int32, right, side = rest
    if side not in (None, "left", "right"):
        raise RuntimeError(f"torch.searchsorted(): side can only be 'left' or 'right' but got {side}")
    if side == "left" and right:
        raise RuntimeError("torch.searchsorted(): side and right can't be set to opposites, got side of left while "
                           "right was True")
    if isinstance(x, Aval):
        if rows.ndim == 0:
            raise RuntimeError("torch.searchsorted(): input value can be a scalar only when boundaries tensor "
                               f"dimension is 1, but we got boundaries tensor dim(0) and input value's dim({x.ndim}) "
                               f"numel({x.numel})")
        if rows.ndim > 1 and rows.shape[:-1] != x.shape[:-1]:
            raise RuntimeError("torch.searchsorted(): boundaries tensor should be 1 dimension or the first N-1 "
                               "dimensions of boundaries tensor and input value tensor must match, but we got "
                               f"boundaries tensor {list(rows.shape)} and input value tensor {list(x.shape)}")
    elif rows.ndim != 1:
        raise RuntimeError("torch.searchsorted(): input value can be a scalar only when boundaries tensor dimension is "
                           f"1, but we got boundaries tensor dim({rows.ndim}) and input value's dim(0) numel(1)")
    where = "right" if right or side == "right" else "left"
    out, dtype = (jnp.int32 if int32 else jnp.int64), rules.result_type((rows, x))

    def fn(a: Any, v: Any, *order: Any) -> Any:
        a, v = rules.cast(a, dtype), rules.cast(v, dtype)
        if order:
            a = jnp.take_along_axis(a, order[0], -1)
        if not v.size or not a.size:
            return jnp.zeros(v.shape, out)
        if a.ndim == 1:
            return jnp.searchsorted(a, v, side=where).astype(out)
        found: Any = jax.vmap(lambda row, of: jnp.searchsorted(row, of, side=where))
        shape = v.shape
        return found(a.reshape(-1, a.shape[-1]), v.reshape(-1, shape[-1])).reshape(shape).astype(out)

    return Lowering(fn, differentiable=False)


@op(method=False)
def isin(elements: Any, test_elements: Any, *, assume_unique: bool = False, invert: bool = False,
         out: Tensor | None = None) -> Tensor:  # fmt: skip
    """Return which of ``elements`` are among ``test_elements``, or are not where ``invert``.

    Example:
        >>> import tracegrad as torch
        >>> torch.isin(torch.tensor([1, 2, 3]), torch.tensor([2, 3]))
        tensor([False,  True,  True])
    """
    if out is not None:
        return into(out, isin, elements, test_elements, assume_unique=assume_unique, invert=invert)
    return record(_isin, (invert,), elements, test_elements)  # type: ignore[no-any-return]


def _isin(a: Any, b: Any, invert: bool) -> Lowering:
    dtype = rules.result_type((a, b))
    if dtype.category in (BOOL, COMPLEX):
        raise RuntimeError(f"Unsupported input type encountered for isin(): {type_name(dtype)}")
    return Lowering(lambda x, y: jnp.isin(rules.cast(x, dtype), rules.cast(y, dtype), invert=invert),
                    differentiable=False)  # fmt: skip


# -- distinct elements ------------------------------------------------------------------------------------------------


@op()
def unique(input: Tensor, sorted: bool = True, return_inverse: bool = False, return_counts: bool = False,
           dim: int | None = None) -> Any:  # fmt: skip
    """Return the distinct elements in order, or the distinct slices along ``dim``. Reads the elements.

    Args:
        input: any shape.
        sorted: the result is in order in any case.
        return_inverse: whether to return too which of them each element is.
        return_counts: whether to return too how often each occurs.
        dim: where slices are compared; elements where it is None.

    Example:
        >>> import tracegrad as torch
        >>> torch.unique(torch.tensor([3, 1, 3]), return_counts=True)
        (tensor([1, 3]), tensor([1, 2]))
    """
    array = np.asarray(force(input._value))
    if dim is None:
        _, first, inverse, counts = np.unique(array, return_index=True, return_inverse=True, return_counts=True)
        inverse = inverse.reshape(array.shape)
    else:
        first, inverse, counts = _distinct_slices(array, rules.dim(dim, array.ndim))
    return _distinct(input, first, inverse, counts, dim, return_inverse, return_counts)


def _distinct_slices(array: np.ndarray[Any, Any], axis: int) -> Any:
    """Return the first of each distinct slice in order, which slice each is, and counts."""
    if array.shape[axis] == 0 or array.size == 0:
        if 0 in array.shape[:axis] + array.shape[axis + 1 :]:
            raise RuntimeError("There are 0 sized dimensions, and they aren't selected, so unique cannot be applied")
        return (np.zeros(0, np.int64),) * 3
    rows = np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1)
    order = np.lexsort(rows.T[::-1])
    new = np.r_[True, (rows[order][1:] != rows[order][:-1]).any(1)]
    inverse = np.empty(order.size, np.int64)
    inverse[order] = np.cumsum(new) - 1
    return order[new], inverse, np.bincount(inverse)


@op()
def unique_consecutive(input: Tensor, return_inverse: bool = False, return_counts: bool = False,
                       dim: int | None = None) -> Any:  # fmt: skip
    """Return ``input`` without elements, or slices along ``dim``, equal to the one before. Reads the elements.

    Example:
        >>> import tracegrad as torch
        >>> torch.tensor([1, 1, 2, 1]).unique_consecutive()
        tensor([1, 2, 1])
    """
    array = np.asarray(force(input._value))
    axis = 0 if dim is None else rules.dim(dim, array.ndim)
    if dim is None:
        rows = array.reshape(-1, 1)
    else:
        size = array.shape[axis]
        rows = np.moveaxis(array, axis, 0).reshape(size, array.size // max(size, 1))
    new = (rows[1:] != rows[:-1]).any(1)
    new = np.r_[True, new] if len(rows) else np.zeros(0, bool)
    inverse = np.cumsum(new) - 1
    first = new.nonzero()[0]
    shaped = inverse.reshape(array.shape) if dim is None else inverse
    return _distinct(input, first, shaped, np.bincount(inverse, minlength=first.size), dim, return_inverse,
                     return_counts)  # fmt: skip


def _distinct(input: Tensor, first: Any, inverse: Any, counts: Any, dim: int | None, return_inverse: bool,
              return_counts: bool) -> Any:  # fmt: skip
    """Return the slices of ``input`` at ``first``, and what was asked for besides."""
    at = from_host(np.asarray(first, np.int64), input.device)
    made = record(_at_first, (dim,), input, at)
    extra = [inverse] * return_inverse + [counts] * return_counts
    if not extra:
        return made
    return (made, *[from_host(np.asarray(x, np.int64), input.device) for x in extra])


def _at_first(x: Aval, at: Aval, dim: int | None) -> Lowering:
    axis = 0 if dim is None else rules.dim(dim, x.ndim)
    return Lowering(lambda a, i: jnp.take(a.reshape(-1) if dim is None else a, i, axis), name="Unique2Backward0",
                    underived="_unique2")  # fmt: skip


@op(method=False)
def unravel_index(indices: Tensor, shape: Any) -> tuple[Tensor, ...]:
    """Return indices into a flat tensor as indices into each dim of ``shape``.

    Example:
        >>> import tracegrad as torch
        >>> torch.unravel_index(torch.tensor(5), (2, 3))
        (tensor(1), tensor(2))
    """
    sizes = (shape,) if isinstance(shape, int) else tuple(shape)
    if indices.dtype.category != INTEGRAL:
        raise TypeError(f"expected 'indices' to be integer dtype, but got {indices.dtype!r}")
    if any(n < 0 for n in sizes):
        raise ValueError(f"'shape' cannot have negative values, but got {sizes}")
    return tuple(record(_unravel_index, (sizes,), indices))


def _unravel_index(x: Aval, sizes: tuple[int, ...]) -> Lowering:
    def fn(a: Any) -> Any:
        found = []
        for n in reversed(sizes):
            found.append(a % n)
            a = a // n
        return tuple(reversed(found))

    return Lowering(fn, differentiable=False)
