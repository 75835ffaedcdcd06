"""Views of parts of a tensor: split, chunk, unbind."""

from __future__ import annotations

import builtins
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from tracegrad._engine.op import Lowering
from tracegrad._engine.trace import force
from tracegrad._engine.value import Aval
from tracegrad._handle import Handle
from tracegrad._ops import _rules as rules
from tracegrad._ops._declare import op
from tracegrad._ops._out import renamed
from tracegrad._ops._rules import REQUIRED
from tracegrad._ops._views import several_views
from tracegrad._ops.rearranging import clone

if TYPE_CHECKING:
    from tracegrad._tensor import Tensor


@op()
def split(tensor: Tensor, split_size_or_sections: Any = REQUIRED, dim: int = 0, **numpy: Any) -> tuple[Tensor, ...]:
    """Return views of the parts of ``tensor`` along ``dim``: of one size, the last smaller, or of the sizes given."""
    if numpy:
        return renamed(split, numpy, tensor, split_size_or_sections, dim)
    size = rules.frozen(split_size_or_sections)
    return several_views(_split, (size, dim), tensor, dim, "Split" if type(size) is int else "SplitWithSizes")


def _split(x: Aval, size: Any, d: int) -> Lowering:
    rules.check_given(size, "split_size")
    if x.ndim == 0:
        raise RuntimeError("split expects at least a 1-dimensional tensor")
    axis = rules.dim(d, x.ndim)
    n = x.shape[axis]
    if isinstance(size, int):
        if size < 0:
            raise RuntimeError(f"split expects split_size be non-negative, but got split_size={size}")
        if size == 0 and n != 0:
            raise RuntimeError(f"split_size can only be 0 if dimension size is 0, but got dimension size of {n}")
        if size and n and n % size == 0:
            return _equal_parts(axis, size, x, "SplitBackward0")
        return _parts(axis, list(range(size, n, size)) if size else [], "SplitBackward0")
    if builtins.sum(size) != n or any(s < 0 for s in size):
        raise RuntimeError(f"split_with_sizes expects split_sizes to sum exactly to {n} (input tensor's size at "
                           f"dimension {d}), but got split_sizes={list(size)}")
    return _parts(axis, np.cumsum(size)[:-1].tolist(), "SplitWithSizesBackward0")


def _parts(axis: int, cuts: list[int], name: str) -> Lowering:
    return Lowering(lambda a: tuple(jnp.split(a, cuts, axis)), name=name, saves=False)


def _equal_parts(axis: int, size: int, x: Aval, name: str) -> Lowering:
    """Return the lowering of parts of one ``size``."""
    count = x.shape[axis] // size

    def rows(a: Any) -> Any:
        return jnp.moveaxis(a.reshape((*x.shape[:axis], count, size, *x.shape[axis + 1 :])), axis, 0)

    return replace(_parts(axis, list(range(size, x.shape[axis], size)), name), rows=rows)


@op()
def chunk(input: Tensor, chunks: int, dim: int = 0, **numpy: Any) -> tuple[Tensor, ...]:
    """Return at most ``chunks`` views of parts of ``input`` along ``dim``, all but the last of one size."""
    if numpy:
        return renamed(chunk, numpy, input, chunks, dim)
    return several_views(_chunk, (chunks, dim), input, dim, "Split")


def _chunk(x: Aval, chunks: int, d: int) -> Lowering:
    if x.ndim == 0:
        raise RuntimeError("chunk expects at least a 1-dimensional tensor")
    if chunks <= 0:
        raise RuntimeError(f"chunk expects `chunks` to be greater than 0, got: {chunks}")
    n = x.shape[rules.dim(d, x.ndim)]
    if n == 0:
        return _parts(rules.dim(d, x.ndim), [0] * (chunks - 1), "SplitWithSizesBackward0")
    return _split(x, -(-n // chunks), d)


@op()
def tensor_split(input: Tensor, indices_or_sections: Any = REQUIRED, dim: int = 0, **numpy: Any) -> tuple[Tensor, ...]:
    """Return views of parts of ``input`` along ``dim``: this many of about one size, or cut at these indices."""
    if numpy:
        return renamed(tensor_split, numpy, input, indices_or_sections, dim)
    rules.check_given(indices_or_sections, "indices_or_sections")
    if isinstance(indices_or_sections, Handle):
        indices_or_sections = np.asarray(force(indices_or_sections._value)).tolist()
    return several_views(_tensor_split, (rules.frozen(indices_or_sections), dim), input, dim, "")


def _tensor_split(x: Aval, at: Any, d: int) -> Lowering:
    if x.ndim == 0:
        raise RuntimeError("tensor_split expected at least a 1-dimensional tensor, but got a tensor with 0 dims")
    axis = rules.dim(d, x.ndim)
    if isinstance(at, int):
        if at <= 0:
            raise RuntimeError(f"number of sections must be larger than 0, got {at}")
        size, extra = divmod(x.shape[axis], at)
        at = np.cumsum([size + (i < extra) for i in range(at)])[:-1].tolist()
    cuts = tuple(at)

    def fn(a: Any) -> tuple[Any, ...]:
        part = [slice(None)] * axis
        return tuple(a[(*part, slice(i, j))] for i, j in zip((0, *cuts), (*cuts, None)))

    return Lowering(fn, name="SliceBackward0", saves=False)


@op()
def unbind(input: Tensor, dim: int = 0, **numpy: Any) -> tuple[Tensor, ...]:
    """Return views of the slices of ``input`` along ``dim``, without that dim."""
    if numpy:
        return renamed(unbind, numpy, input, dim)
    return several_views(_unbind, (dim,), input, dim, "Unbind", drops=True)


def _unbind(x: Aval, d: int) -> Lowering:
    if x.ndim == 0:
        raise IndexError(f"Dimension specified as {d} but tensor has no dimensions")
    axis = rules.dim(d, x.ndim)
    def fn(a: Any) -> tuple[Any, ...]:
        return tuple(lax.index_in_dim(a, i, axis, keepdims=False) for i in range(a.shape[axis]))

    return Lowering(fn, name="UnbindBackward0", saves=False, rows=lambda a: jnp.moveaxis(a, axis, 0))


# -- other names ------------------------------------------------------------------------------------------------------


@op()
def split_with_sizes(input: Tensor, split_sizes: Any, dim: int = 0, **numpy: Any) -> tuple[Tensor, ...]:
    """Return views of the parts of ``input`` along ``dim`` of the sizes given."""
    if numpy:
        return renamed(split_with_sizes, numpy, input, split_sizes, dim)
    return split(input, list(split_sizes), dim)


@op()
def unsafe_split(input: Tensor, split_size: int, dim: int = 0, **numpy: Any) -> tuple[Tensor, ...]:
    """Return copies of the parts that ``split`` returns views of."""
    if numpy:
        return renamed(unsafe_split, numpy, input, split_size, dim)
    return tuple(clone(x) for x in split(input, split_size, dim))


@op()
def unsafe_chunk(input: Tensor, chunks: int, dim: int = 0, **numpy: Any) -> tuple[Tensor, ...]:
    """Return copies of the parts that ``chunk`` returns views of."""
    if numpy:
        return renamed(unsafe_chunk, numpy, input, chunks, dim)
    return tuple(clone(x) for x in chunk(input, chunks, dim))


@op()
def hsplit(input: Tensor, indices_or_sections: Any = REQUIRED, **keyword: Any) -> tuple[Tensor, ...]:
    """Return ``tensor_split`` along the second dim, along the only one of a vector.

    Example:
        >>> import tracegrad as torch
        >>> torch.arange(4).hsplit(2)
        (tensor([0, 1]), tensor([2, 3]))
    """
    if keyword:
        return renamed(hsplit, keyword, input)
    return _evenly("hsplit", input, indices_or_sections, 1, 0 if input.ndim == 1 else 1)


@op()
def vsplit(input: Tensor, indices_or_sections: Any = REQUIRED, **keyword: Any) -> tuple[Tensor, ...]:
    """Return ``tensor_split`` along the first dim of a tensor of at least two."""
    if keyword:
        return renamed(vsplit, keyword, input)
    return _evenly("vsplit", input, indices_or_sections, 2, 0)


@op()
def dsplit(input: Tensor, indices_or_sections: Any = REQUIRED, **keyword: Any) -> tuple[Tensor, ...]:
    """Return ``tensor_split`` along the third dim."""
    if keyword:
        return renamed(dsplit, keyword, input)
    return _evenly("dsplit", input, indices_or_sections, 3, 2)


def _evenly(name: str, input: Tensor, at: Any, least: int, dim: int) -> tuple[Tensor, ...]:
    rules.check_given(at, "indices_or_sections")
    if input.ndim < least:
        raise RuntimeError(f"torch.{name} requires a tensor with at least {least} dimension"
                           f"{'s' * (least > 1)}, but got a tensor with {input.ndim} dimensions!")
    if isinstance(at, int) and (at == 0 or input.shape[dim] % at):
        raise RuntimeError(f"torch.{name} attempted to split along dimension {dim}, but the size of the dimension "
                           f"{input.shape[dim]} is not divisible by the split_size {at}!")
    return tensor_split(input, at, dim)
