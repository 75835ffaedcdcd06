"""The same elements in another order, and parts of matrices: flips, rolls, triangles, diagonals, copies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax.numpy as jnp

from tracegrad._engine.op import Lowering
from tracegrad._engine.trace import record
from tracegrad._engine.value import Aval
from tracegrad._layout import Layout
from tracegrad._ops import _rules as rules
from tracegrad._ops._declare import op
from tracegrad._ops._out import into, renamed
from tracegrad._ops._views import is_contiguous, view_of, viewed
from tracegrad._ops.creation import sizes

if TYPE_CHECKING:
    from tracegrad._tensor import Tensor


@op()
def clone(input: Tensor, *, memory_format: Any = None) -> Tensor:
    """Return a copy of ``input``; gradients flow through it."""
    made: Tensor = record(_clone, (), input)
    return made


def _clone(x: Aval) -> Lowering:
    return Lowering(lambda a: a, name="CloneBackward0", saves=False)


@op(function=False)
def contiguous(input: Tensor, memory_format: Any = None) -> Tensor:
    """Return ``input`` itself, or a copy where it is a view whose elements do not lie in order."""
    return input if is_contiguous(input) else clone(input)


@op()
def flip(input: Tensor, *dims: Any, **keyword: Any) -> Tensor:
    """Return ``input`` with the order of the elements reversed along these dims; a copy, not a view."""
    if keyword:
        return renamed(flip, keyword, input, *dims)
    if not dims:
        raise TypeError('flip() missing 1 required positional arguments: "dims"')
    made: Tensor = record(_flip, (sizes(dims, name="dims"),), input)
    return made


def _flip(x: Aval, d: tuple[int, ...]) -> Lowering:
    axes = rules.dims(d, x.ndim) if d else ()
    return Lowering(lambda a: jnp.flip(a, axes), name="FlipBackward0", saves=False)


@op()
def fliplr(input: Tensor) -> Tensor:
    """Return ``input`` with its second dim reversed."""
    if input.ndim < 2:
        raise RuntimeError("Input must be >= 2-d.")
    return flip(input, 1)


@op()
def flipud(input: Tensor) -> Tensor:
    """Return ``input`` with its first dim reversed."""
    if input.ndim < 1:
        raise RuntimeError("Input must be >= 1-d.")
    return flip(input, 0)


@op()
def roll(input: Tensor, shifts: Any, dims: Any = None) -> Tensor:
    """Return ``input`` with its elements moved on by ``shifts`` along ``dims``, the last ones coming first.

    Without ``dims``, ``input`` is rolled as if it were flat.
    """
    steps = (shifts,) if isinstance(shifts, int) else tuple(shifts)
    axes = () if dims is None else (dims,) if isinstance(dims, int) else tuple(dims)
    made: Tensor = record(_roll, (axes,), input, *steps)
    return made


def _roll(x: Aval, *rest: Any) -> Lowering:
    *shifts, d = rest
    if len(shifts) != len(d) and not (len(shifts) == 1 and not d):
        raise RuntimeError(f"shifts and dimensions must align. shifts: {len(shifts)}, dims:{len(d)}")
    axes = tuple(rules.dim(a, x.ndim) for a in d)

    def fn(a: Any, *by: Any) -> Any:
        return jnp.roll(a, by, axes) if axes else jnp.roll(a, by[0])

    return Lowering(fn, name="RollBackward0", saves=False)


@op()
def rot90(input: Tensor, k: int = 1, dims: Any = (0, 1)) -> Tensor:
    """Return ``input`` turned ``k`` times by 90 degrees in the plane of two dims, from the first to the second."""
    made: Tensor = record(_rot90, (k, tuple(dims)), input)
    return made


def _rot90(x: Aval, k: int, d: tuple[int, ...]) -> Lowering:
    if len(d) != 2:
        raise RuntimeError(f"expected total rotation dims == 2, but got dims = {len(d)}")
    if x.ndim < 2:
        raise RuntimeError(f"expected total dims >= 2, but got total dims = {x.ndim}")
    axes = rules.dim(d[0], x.ndim), rules.dim(d[1], x.ndim)
    if axes[0] == axes[1]:
        raise RuntimeError(f"expected rotation dims to be different, but got dim0 = {d[0]} and dim1 = {d[1]}")
    return Lowering(lambda a: jnp.rot90(a, k, axes), name="Rot90Backward0", saves=False)


@op(inplace=True)
def tril(input: Tensor, diagonal: int = 0, *, out: Tensor | None = None) -> Tensor:
    """Return the lower triangles of matrices, zeros above the diagonal number ``diagonal``."""
    if out is not None:
        return into(out, tril, input, diagonal)
    made: Tensor = record(_triangle, (diagonal, True), input)
    return made


@op(inplace=True)
def triu(input: Tensor, diagonal: int = 0, *, out: Tensor | None = None) -> Tensor:
    """Return the upper triangles of matrices, zeros below the diagonal number ``diagonal``."""
    if out is not None:
        return into(out, triu, input, diagonal)
    made: Tensor = record(_triangle, (diagonal, False), input)
    return made


def _triangle(x: Aval, k: int, lower: bool) -> Lowering:
    name = "tril" if lower else "triu"
    if x.ndim < 2:
        raise RuntimeError(f"{name}: input tensor must have at least 2 dimensions")
    of = jnp.tril if lower else jnp.triu
    return Lowering(lambda a: of(a, k), name=f"{name.capitalize()}Backward0", saves=False)


@op()
def diagonal(input: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """Return a view of the diagonals of ``input`` in the plane of two dims, along a new last dim."""
    return viewed(_diagonal, (offset, dim1, dim2), input, True, False)


def _diagonal(x: Aval, offset: int, d1: int, d2: int) -> Lowering:
    a1, a2 = rules.dim(d1, x.ndim), rules.dim(d2, x.ndim)
    if a1 == a2:
        raise RuntimeError(f"diagonal dimensions cannot be identical {d1}, {d2}")

    rows, cols = x.shape[a1], x.shape[a2]
    length = max(0, min(rows, cols - offset) if offset >= 0 else min(rows + offset, cols))
    first = max(0, -offset), max(0, offset)

    def where() -> Any:
        i = jnp.arange(length)
        return ..., i + first[0], i + first[1]

    def put(a: Any, new: Any) -> Any:
        return jnp.moveaxis(jnp.moveaxis(a, (a1, a2), (-2, -1)).at[where()].set(new), (-2, -1), (a1, a2))

    def lay(strides: tuple[int, ...], start: int | None) -> Layout:
        along = strides[a1] + strides[a2]
        if start is not None and length:
            start += first[0] * strides[a1] + first[1] * strides[a2]
        return (*(s for i, s in enumerate(strides) if i not in (a1, a2)), along), start

    return view_of(lambda a: jnp.moveaxis(a, (a1, a2), (-2, -1))[where()], "DiagonalBackward0", put, lay)


@op()
def diag(input: Tensor, diagonal: int = 0, *, out: Tensor | None = None) -> Tensor:
    """Return the diagonal of a matrix, or the matrix with the vector ``input`` as its diagonal."""
    if out is not None:
        return into(out, diag, input, diagonal)
    made: Tensor = record(_diag, (diagonal,), input)
    return made


def _diag(x: Aval, k: int) -> Lowering:
    if x.ndim == 2:
        return Lowering(_diagonal(x, k, 0, 1).fn, name="DiagonalBackward0_copy", saves=False)
    if x.ndim != 1:
        raise RuntimeError(f"diag(): Supports 1D or 2D tensors. Got {x.ndim}D")
    return Lowering(lambda a: jnp.diag(a, k), name="DiagEmbedBackward0", saves=False)


@op()
def diag_embed(input: Tensor, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
    """Return matrices with the last dim of ``input`` on their diagonals."""
    made: Tensor = record(_diag_embed, (offset, dim1, dim2), input)
    return made


def _diag_embed(x: Aval, offset: int, d1: int, d2: int) -> Lowering:
    a1, a2 = rules.dim(d1, x.ndim + 1), rules.dim(d2, x.ndim + 1)
    if a1 == a2:
        raise RuntimeError(f"diagonal dimensions cannot be identical {d1}, {d2}")

    def fn(a: Any) -> Any:
        n = a.shape[-1]
        size = n + abs(offset)
        i = jnp.arange(n)
        whole = jnp.zeros((*a.shape[:-1], size, size), a.dtype)
        return jnp.moveaxis(whole.at[..., i + max(0, -offset), i + max(0, offset)].set(a), (-2, -1), (a1, a2))

    return Lowering(fn, name="DiagEmbedBackward0", saves=False)
