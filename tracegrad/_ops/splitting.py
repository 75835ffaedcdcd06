"""Views of parts of a tensor: split, chunk, unbind."""

from __future__ import annotations

import builtins
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from tracegrad._engine.op import Lowering
from tracegrad._engine.trace import force
from tracegrad._engine.value import Aval
from tracegrad._handle import Handle
from tracegrad._ops import _rules as rules
from tracegrad._ops._declare import op
from tracegrad._ops.shape import several_views, view_of

if TYPE_CHECKING:
    from tracegrad._tensor import Tensor


@op()
def split(input: Tensor, split_size_or_sections: Any, dim: int = 0, **keyword: Any) -> tuple[Tensor, ...]:
    """Return views of the parts of ``input`` along ``dim``: of one size, the last smaller, or of the sizes given."""
    return several_views(_split, (rules.frozen(split_size_or_sections), dim), input)


def _split(x: Aval, size: Any, d: int) -> Lowering:
    if x.ndim == 0:
        raise RuntimeError("split expects at least a 1-dimensional tensor")
    axis = rules.dim(d, x.ndim)
    n = x.shape[axis]
    if isinstance(size, int):
        if size < 0:
            raise RuntimeError(f"split expects split_size be non-negative, but got split_size={size}")
        if size == 0 and n != 0:
            raise RuntimeError(f"split_size can only be 0 if dimension size is 0, but got dimension size of {n}")
        return _parts(axis, list(range(size, n, size)) if size else [], "SplitBackward0")
    if builtins.sum(size) != n or any(s < 0 for s in size):
        raise RuntimeError(f"split_with_sizes expects split_sizes to sum exactly to {n} (input tensor's size at "
                           f"dimension {d}), but got split_sizes={list(size)}")
    return _parts(axis, np.cumsum(size)[:-1].tolist(), "SplitWithSizesBackward0")


def _parts(axis: int, cuts: list[int], name: str) -> Lowering:
    return view_of(lambda a: tuple(jnp.split(a, cuts, axis)), name)


@op()
def chunk(input: Tensor, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    """Return at most ``chunks`` views of parts of ``input`` along ``dim``, all but the last of one size."""
    return several_views(_chunk, (chunks, dim), input)


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
def tensor_split(input: Tensor, indices_or_sections: Any, dim: int = 0) -> tuple[Tensor, ...]:
    """Return views of parts of ``input`` along ``dim``: this many of about one size, or cut at these indices."""
    if isinstance(indices_or_sections, Handle):
        indices_or_sections = np.asarray(force(indices_or_sections._value)).tolist()
    return several_views(_tensor_split, (rules.frozen(indices_or_sections), dim), input)


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

    return view_of(fn, "SliceBackward0")


@op()
def unbind(input: Tensor, dim: int = 0) -> tuple[Tensor, ...]:
    """Return views of the slices of ``input`` along ``dim``, without that dim."""
    return several_views(_unbind, (dim,), input)


def _unbind(x: Aval, d: int) -> Lowering:
    if x.ndim == 0:
        raise IndexError(f"Dimension specified as {d} but tensor has no dimensions")
    axis = rules.dim(d, x.ndim)
    return view_of(lambda a: tuple(jnp.moveaxis(a, axis, 0)[i] for i in range(a.shape[axis])), "UnbindBackward0")
