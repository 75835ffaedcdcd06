"""Slices and elements written into a copy of a tensor, at places given by tensors of indices or by position."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from tracegrad import _dtype
from tracegrad._dtype import DType, type_name
from tracegrad._engine.op import Lowering
from tracegrad._engine.trace import record
from tracegrad._engine.value import Aval
from tracegrad._errors import UnsupportedError
from tracegrad._layout import layout
from tracegrad._ops import _rules as rules
from tracegrad._ops._checks import bounds, indices
from tracegrad._ops._declare import op
from tracegrad._ops._out import into
from tracegrad._ops._views import view_of, viewed
from tracegrad._ops.gathering import added, multiplied
from tracegrad._ops.pointwise import refuse
from tracegrad._ops.viewing import bits, conj, negated, reread

if TYPE_CHECKING:
    from tracegrad._tensor import Tensor

_INDEX = (_dtype.int64, _dtype.int32)


# -- reducing what goes to one place ----------------------------------------------------------------------------------


@op(inplace=True)
def scatter_reduce(input: Tensor, dim: int, index: Tensor, src: Tensor, reduce: str, *, include_self: bool = True,
                   out: Tensor | None = None) -> Tensor:  # fmt: skip
    """Return ``input`` with the elements of ``src`` that ``index`` sends to one place along ``dim`` reduced there.

    Args:
        input: any shape.
        dim: the dim that ``index`` counts along.
        index: ``int64``, as many dims as ``input``.
        src: of the dtype of ``input``, at least as large as ``index``.
        reduce: ``sum``, ``prod``, ``mean``, ``amax`` or ``amin``. Equal extremes share the gradient.
        include_self: whether the element of ``input`` takes part.
        out: where to write the result.

    Example:
        >>> import tracegrad as torch
        >>> torch.zeros(2).scatter_reduce(0, torch.tensor([0, 0, 1]), torch.tensor([1., 5., 2.]), "amax")
        tensor([5., 2.])
    """
    if out is not None:
        return into(out, scatter_reduce, input, dim, index, src, reduce, include_self=include_self)
    return record(_scatter_reduce, (dim, reduce, include_self), input, index, src)  # type: ignore[no-any-return]


def _scatter_reduce(x: Aval, index: Aval, src: Aval, d: int, reduce: str, include_self: bool) -> Lowering:
    axis = rules.dim(d, x.ndim)
    if index.dtype not in _INDEX and index.numel:
        raise RuntimeError("scatter(): Expected dtype int64 for index")
    if src.dtype is not x.dtype:
        raise RuntimeError("scatter(): Expected self.dtype to be equal to src.dtype")
    for what, y in (("self", x), ("src", src)):
        if max(index.ndim, 1) != max(y.ndim, 1):
            raise RuntimeError(f"Index tensor must have the same number of dimensions as {what} tensor")
    if reduce not in _IDENTITIES:
        raise RuntimeError("reduce argument must be either sum, prod, mean, amax or amin, got " + reduce + ".")
    for k, size in enumerate(index.shape):
        if (k != axis and size > x.shape[k]) or size > src.shape[k]:
            raise RuntimeError(f"Expected index {list(index.shape)} to be no larger than self {list(x.shape)} apart "
                               f"from dimension {axis} and to be no larger than src {list(src.shape)}")
    part = tuple(slice(n) for n in index.shape)

    def place(i: Any) -> tuple[Any, ...]:
        at = [lax.broadcasted_iota(jnp.int64, i.shape, k) for k in range(i.ndim)]
        if at:
            at[axis] = i
        return tuple(at) if x.ndim else (i.reshape(-1),)

    return _reducing(x, src, place, part, reduce, include_self, "ScatterReduceBackward0",
                     bounds(1, x.shape[axis] if x.ndim else 1, axis, RuntimeError))  # fmt: skip


@op(inplace=True)
def index_reduce(input: Tensor, dim: int, index: Tensor, source: Tensor, reduce: str, *, include_self: bool = True,
                 out: Tensor | None = None) -> Tensor:  # fmt: skip
    """Return ``input`` with the slices of ``source`` along ``dim`` that ``index`` sends to one slice reduced there.

    ``reduce`` is ``prod``, ``mean``, ``amax`` or ``amin``; ``include_self``: the slice of ``input`` takes part.
    """
    if out is not None:
        return into(out, index_reduce, input, dim, index, source, reduce, include_self=include_self)
    return record(_index_reduce, (dim, reduce, include_self), input, index, source)  # type: ignore[no-any-return]


def _index_reduce(x: Aval, index: Aval, source: Aval, d: int, reduce: str, include_self: bool) -> Lowering:
    axis = _check_slices("index_reduce", x, index, source, d)
    if reduce not in _IDENTITIES or reduce == "sum":
        raise RuntimeError(f"index_reduce(): Expected reduce to be one of prod, mean, amax or amin but got {reduce}.")

    def place(i: Any) -> tuple[Any, ...]:
        at = [lax.broadcasted_iota(jnp.int64, source.shape, k) for k in range(source.ndim)]
        if at:
            at[axis] = jnp.broadcast_to(i.reshape([-1 if k == axis else 1 for k in range(x.ndim)]), source.shape)
        return tuple(at) if x.ndim else (i.reshape(-1),)

    part = tuple(slice(n) for n in source.shape)
    return _reducing(x, source, place, part, reduce, include_self, "IndexReduceBackward0",
                     bounds(1, x.shape[axis] if x.ndim else 1, axis, RuntimeError))  # fmt: skip


#: What each reduction starts from where the tensor's own element takes no part.
_IDENTITIES: dict[str, float] = {"sum": 0, "prod": 1, "mean": 0, "amax": -math.inf, "amin": math.inf}


def _identity(reduce: str, dtype: Any) -> Any:
    value: Any = _IDENTITIES[reduce]
    if math.isinf(value) and not jnp.issubdtype(dtype, jnp.inexact):
        limits = (False, True) if jnp.issubdtype(dtype, jnp.bool_) else (np.iinfo(dtype).min, np.iinfo(dtype).max)
        value = limits[value > 0]
    return jnp.asarray(value, dtype)


def _reducing(x: Aval, src: Aval, place: Any, part: tuple[slice, ...], reduce: str, include_self: bool, name: str,
              checks: tuple[Any, ...]) -> Lowering:  # fmt: skip
    """Return the lowering that reduces ``src[part]`` into a copy of ``x`` at ``place(index)``."""
    if reduce == "mean":
        refuse("scatter_gather_tensor_cpu_reduce_mean", x.dtype, _dtype.BOOL)
    flat = (1,) if not x.ndim else x.shape

    def fn(a: Any, i: Any, s: Any) -> Any:
        at = place(i.astype(jnp.int64))
        a, s = a.reshape(flat), s[part].reshape(at[0].shape)
        if not include_self:
            a = a.at[at].set(_identity(reduce, a.dtype))
        if reduce in _FOLDS:
            return _FOLDS[reduce](a, at, s).reshape(x.shape)
        total = added(a.at[at], s)
        if reduce == "mean":
            base = jnp.ones(flat, total.dtype) if include_self else jnp.zeros(flat, total.dtype)
            count = jnp.maximum(base.at[at].add(1), 1)
            total = total / count if x.dtype.is_inexact else total // count
        return total.reshape(x.shape)

    return Lowering(fn, name=name, checks=checks)


def _differentiable(run: Any, slopes: Any) -> Any:
    """Return ``run(a, at, s)`` with derivatives, which JAX does not have: the slopes by ``a`` and by ``s``."""
    fold = jax.custom_jvp(run)

    def push(operands: Any, tangents: Any) -> Any:
        a, at, s = operands
        out = fold(a, at, s)
        of_a, of_s = slopes(fold, a, at, s, out)
        return out, of_a * tangents[0] + jnp.zeros_like(a).at[at].add(of_s * tangents[2])

    fold.defjvp(push)
    return fold


def _slopes_of_product(fold: Any, a: Any, at: Any, s: Any, out: Any) -> tuple[Any, Any]:
    """Where exactly one factor is 0, it alone has a slope: the product of the others."""
    safe = jnp.where(a == 0, 1, a)
    zero = s == 0
    alone = zero & (jnp.zeros(a.shape, jnp.int32).at[at].add(zero.astype(jnp.int32))[at] == 1)
    rest = fold(a, at, jnp.where(alone, 1, s))
    return fold(safe, at, s) / safe, jnp.where(alone, rest[at], out[at] / jnp.where(zero, 1, s))


def _slopes_of_extreme(fold: Any, a: Any, at: Any, s: Any, out: Any) -> tuple[Any, Any]:
    """All that are equal to the extreme share its slope."""
    mine, theirs = (a == out).astype(a.dtype), (s == out[at]).astype(a.dtype)
    count = jnp.maximum(mine.at[at].add(theirs), 1)
    return mine / count, theirs / count[at]


_FOLDS = {
    "prod": _differentiable(lambda a, at, s: multiplied(a.at[at], s), _slopes_of_product),
    "amax": _differentiable(lambda a, at, s: a.at[at].max(s), _slopes_of_extreme),
    "amin": _differentiable(lambda a, at, s: a.at[at].min(s), _slopes_of_extreme),
}


# -- slices -----------------------------------------------------------------------------------------------------------


def _check_slices(name: str, x: Aval, index: Aval, source: Aval, d: int) -> int:
    """Check the operands of an op that writes slices along a dim; return the dim."""
    axis = rules.dim(d, x.ndim)
    if index.ndim > 1:
        raise IndexError(f"{name}_(): Index should have dimension 1 or 0 (got {index.ndim})" if name == "index_copy"
                         else f"{name}(): Index is supposed to be a vector")
    if index.dtype not in _INDEX:
        if name == "index_copy":
            raise RuntimeError("index_copy_(): Expected a long tensor for index, but got " + type_name(index.dtype))
        raise RuntimeError(f"{name}(): Expected dtype int32/int64 for index")
    if source.dtype is not x.dtype:
        if name == "index_copy":
            raise RuntimeError("index_copy_(): self and source expected to have the same dtype, but got (self) "
                               f"{type_name(x.dtype)} and (source) {type_name(source.dtype)}")
        raise RuntimeError(f"{name}(): self and source should have the same type")
    rest, of = list(x.shape), list(source.shape)
    if (source.ndim or name != "index_copy") and rest[:axis] + rest[axis + 1 :] != of[:axis] + of[axis + 1 :]:
        raise RuntimeError(f"{name}_(): Source/destination tensor must have same slice shapes. Destination slice "
                           f"shape: {rest[:axis] + rest[axis + 1 :]} at dimension {axis} and source slice shape: "
                           f"{of[:axis] + of[axis + 1 :]} at dimension 0.")
    if of and index.numel != of[axis]:
        error = IndexError if name == "index_copy" else RuntimeError
        raise error(f"{name}_(): Number of indices ({index.numel}) should be equal to source.size(dim) ({of[axis]})")
    return axis


@op(inplace=True)
def index_copy(input: Tensor, dim: int, index: Tensor, source: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return ``input`` with the slices of ``source`` along ``dim`` in the places ``index``.

    Example:
        >>> import tracegrad as torch
        >>> torch.zeros(3).index_copy(0, torch.tensor([2, 0]), torch.tensor([5., 7.]))
        tensor([7., 0., 5.])
    """
    if out is not None:
        return into(out, index_copy, input, dim, index, source)
    return record(_index_copy, (dim,), input, index, source)  # type: ignore[no-any-return]


def _index_copy(x: Aval, index: Aval, source: Aval, d: int) -> Lowering:
    axis = _check_slices("index_copy", x, index, source, d)
    lead = (slice(None),) * axis

    def fn(a: Any, i: Any, s: Any) -> Any:
        slices = jnp.atleast_1d(a)
        made = slices.at[(*lead, i.reshape(-1))].set(s if s.ndim else s.reshape((1,) * slices.ndim))
        return made.reshape(a.shape)

    size = x.shape[axis] if x.ndim else 1
    wrong = (indices(1, size, lambda i: IndexError(
        f"index_copy_(): index {i} is out of bounds for dimension {axis} with size {size}")),)  # fmt: skip
    return Lowering(fn, name="IndexCopyBackward0", checks=wrong)


@op(inplace=True)
def put(input: Tensor, index: Tensor, source: Tensor, accumulate: bool = False) -> Tensor:
    """Return ``input`` with elements of ``source`` at ``index``, as if it were flat; added where ``accumulate``.

    Example:
        >>> import tracegrad as torch
        >>> torch.zeros(2, 2).put(torch.tensor([1, -1]), torch.tensor([5., 7.]))
        tensor([[0., 5.],
                [0., 7.]])
    """
    return record(_put, (accumulate,), input, index, source)  # type: ignore[no-any-return]


def _put(x: Aval, index: Aval, source: Aval, accumulate: bool) -> Lowering:
    if index.dtype is not _dtype.int64:
        raise RuntimeError(f"put_(): Expected a long tensor for index, but got {type_name(index.dtype)}")
    if source.dtype is not x.dtype:
        raise RuntimeError(f"put_(): self and source expected to have the same dtype, but got self.dtype = "
                           f"{type_name(x.dtype)} and source.dtype = {type_name(source.dtype)}")
    if index.numel != source.numel:
        raise IndexError("put_(): Expected source and index to have the same number of elements, but got "
                           f"source.numel() = {source.numel}, index.numel() = {index.numel}")

    def fn(a: Any, i: Any, s: Any) -> Any:
        at = a.reshape(-1).at[i.reshape(-1)]
        return (added(at, s.reshape(-1)) if accumulate else at.set(s.reshape(-1))).reshape(a.shape)

    checks = indices(1, x.numel, lambda i: IndexError(
        f"out of range: tried to access index {i} on a tensor of {x.numel} elements."), negative=True)  # fmt: skip
    return Lowering(fn, name="PutBackward0", checks=(checks,))


# -- by position ------------------------------------------------------------------------------------------------------


@op()
def select_scatter(input: Tensor, src: Tensor, dim: int, index: int) -> Tensor:
    """Return ``input`` with ``src`` as its slice number ``index`` along ``dim``."""
    return record(_select_scatter, (dim, index), input, src)  # type: ignore[no-any-return]


def _select_scatter(x: Aval, src: Aval, d: int, index: int) -> Lowering:
    if not x.ndim:
        raise IndexError("select() cannot be applied to a 0-dim tensor.")
    axis = rules.dim(d, x.ndim)
    size = x.shape[axis]
    if not -size <= index < size:
        raise IndexError(f"select(): index {index} out of range for tensor of size {list(x.shape)} at dimension {d}")
    at = (slice(None),) * axis + (index % size,)
    return _placed("select", x, src, at, "SelectScatterBackward0")


@op()
def slice_scatter(input: Tensor, src: Tensor, dim: int = 0, start: int | None = None, end: int | None = None,
                  step: int = 1) -> Tensor:  # fmt: skip
    """Return ``input`` with ``src`` in the place of ``input[start:end:step]`` along ``dim``."""
    return record(_slice_scatter, (dim, start, end, step), input, src)  # type: ignore[no-any-return]


def _slice_scatter(x: Aval, src: Aval, d: int, start: int | None, end: int | None, step: int) -> Lowering:
    axis = rules.dim(d, x.ndim)
    if step <= 0:
        raise RuntimeError("slice step must be positive")
    at = (slice(None),) * axis + (slice(start, end, step),)
    return _placed("slice", x, src, at, "SliceScatterBackward0")


@op()
def diagonal_scatter(input: Tensor, src: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """Return ``input`` with ``src`` as its diagonals in the plane of two dims."""
    return record(_diagonal_scatter, (offset, dim1, dim2), input, src)  # type: ignore[no-any-return]


def _diagonal_scatter(x: Aval, src: Aval, offset: int, d1: int, d2: int) -> Lowering:
    a1, a2 = rules.dim(d1, x.ndim), rules.dim(d2, x.ndim)
    if a1 == a2:
        raise RuntimeError(f"diagonal dimensions cannot be identical {d1}, {d2}")
    rows, cols = x.shape[a1], x.shape[a2]
    n = np.arange(max(0, min(rows, cols - offset) if offset >= 0 else min(rows + offset, cols)))
    shape = tuple(s for k, s in enumerate(x.shape) if k not in (a1, a2)) + (n.size,)
    _same_sizes("diagonal", src, shape)

    def fn(a: Any, s: Any) -> Any:
        moved = jnp.moveaxis(a, (a1, a2), (-2, -1))
        made = moved.at[..., n + max(0, -offset), n + max(0, offset)].set(s.astype(a.dtype))
        return jnp.moveaxis(made, (-2, -1), (a1, a2))

    return Lowering(fn, name="DiagonalScatterBackward0", saves=False)


def _placed(name: str, x: Aval, src: Aval, at: tuple[Any, ...], node: str) -> Lowering:
    _same_sizes(name, src, np.empty(x.shape, np.void(0).dtype)[at].shape)
    return Lowering(lambda a, s: a.at[at].set(s.astype(a.dtype)), name=node, saves=False)


def _same_sizes(name: str, src: Aval, shape: tuple[int, ...]) -> None:
    if src.shape != shape:
        raise RuntimeError(f"expected src to have a size equal to the {name} of self. src size = {list(src.shape)}, "
                           f"{name} size = {list(shape)}")


@op()
def as_strided(input: Tensor, size: Sequence[int], stride: Sequence[int],
               storage_offset: int | None = None) -> Tensor:  # fmt: skip
    """Return a view with elements taken from the storage of ``input`` in steps.

    Args:
        input: any shape; its storage is the tensor that it is a view of, laid out in order.
        size: of the result.
        stride: per dim of the result, how many elements of the storage lie from one to the next.
        storage_offset: where the first one is; where that of ``input`` is, when None.

    Example:
        >>> import tracegrad as torch
        >>> torch.arange(5).as_strided((3, 3), (1, 1))
        tensor([[0, 1, 2],
                [1, 2, 3],
                [2, 3, 4]])
    """
    of, storage = input, input._storage
    if storage is not None and storage.place:
        raise UnsupportedError("as_strided() of a tensor that was detached from a view is not supported: call it on a "
                               "clone() of that tensor")
    if storage is not None and input._steps:
        of = storage.owner()  # type: ignore[assignment]
        if storage_offset is None:
            storage_offset = layout(input, read=True)[1]
    place = tuple(size), tuple(stride), storage_offset or 0
    return strided_part(of, *place, input._value.spec.aval.dtype, bits(input))


def strided_part(of: Tensor, size: tuple[int, ...], stride: tuple[int, ...], offset: int, dtype: DType,
                 of_bits: tuple[bool, bool] = (False, False)) -> Tensor:  # fmt: skip
    """Return a view of elements of ``of`` that are taken in steps, where they are read as numbers of ``dtype``.

    ``of_bits`` are those that the view shall have, see NOTE [Bits] in `viewing.py`.
    """
    made = viewed(_as_strided, (size, stride, offset), reread(of, dtype), True, False)
    made = conj(made) if of_bits[0] else made
    return negated(made) if of_bits[1] else made


def _as_strided(x: Aval, size: tuple[int, ...], stride: tuple[int, ...], offset: int) -> Lowering:
    at = strided_places(x, size, stride, offset)

    def put(a: Any, new: Any) -> Any:
        return a.reshape(-1).at[at].set(new).reshape(a.shape)

    return view_of(lambda a: a.reshape(-1)[at], "AsStridedBackward0", put, lambda strides, start: (stride, offset))


@op()
def as_strided_scatter(input: Tensor, src: Tensor, size: Sequence[int], stride: Sequence[int],
                       storage_offset: int | None = None) -> Tensor:  # fmt: skip
    """Return ``input`` with ``src`` at the elements that ``as_strided`` reads, counted as if ``input`` were flat."""
    params = (tuple(size), tuple(stride), storage_offset or 0)
    return record(_as_strided_scatter, params, input, src)  # type: ignore[no-any-return]


def _as_strided_scatter(x: Aval, src: Aval, size: tuple[int, ...], stride: tuple[int, ...], offset: int) -> Lowering:
    at = strided_places(x, size, stride, offset)
    _same_sizes("slice", src, size)
    return Lowering(lambda a, s: a.reshape(-1).at[at].set(s.astype(a.dtype)).reshape(a.shape),
                    name="AsStridedScatterBackward0", saves=False)  # fmt: skip


def strided_places(x: Aval, size: tuple[int, ...], stride: tuple[int, ...], offset: int) -> Any:
    """Return where the elements of ``as_strided`` lie in ``x`` as if it were flat; RuntimeError beyond its end."""
    if len(size) != len(stride):
        raise RuntimeError("mismatch in length of strides and shape")
    for s in stride:
        if s < 0:
            raise RuntimeError("as_strided: Negative strides are not supported at the moment, got strides: "
                               f"{list(stride)}")
    last = offset + sum((n - 1) * s for n, s in zip(size, stride))
    if math.prod(size) and last >= x.numel:
        width = x.dtype.itemsize
        raise RuntimeError(f"setStorage: sizes {list(size)}, strides {list(stride)}, storage offset {offset}, and "
                           f"itemsize {width} requiring a storage size of {(last + 1) * width} are out of bounds for "
                           f"storage of size {x.numel * width}")
    at = np.full(size, offset, np.int64)
    for k, (n, s) in enumerate(zip(size, stride)):
        at += (np.arange(n) * s).reshape([-1 if j == k else 1 for j in range(len(size))])
    return at


# -- diagonals --------------------------------------------------------------------------------------------------------


@op()
def diagflat(input: Tensor, offset: int = 0) -> Tensor:
    """Return the matrix with all elements of ``input`` on its diagonal number ``offset``."""
    return record(_diagflat, (offset,), input)  # type: ignore[no-any-return]


def _diagflat(x: Aval, offset: int) -> Lowering:
    return Lowering(lambda a: jnp.diagflat(a, offset), name="DiagEmbedBackward0", saves=False)
