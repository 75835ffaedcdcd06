"""Copies of what view ops show: ``permute_copy`` is ``permute`` that shares nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tracegrad._ops import _rules as rules
from tracegrad._ops import indexing, rearranging, scattering, shape, splitting, viewing
from tracegrad._ops._declare import op
from tracegrad._ops._out import into
from tracegrad._ops.rearranging import clone

if TYPE_CHECKING:
    from tracegrad._tensor import Tensor


@op(method=False)
def alias_copy(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return a copy of ``input``."""
    if out is not None:
        return into(out, alias_copy, input)
    return clone(input)


@op(method=False)
def as_strided_copy(input: Tensor, size: Sequence[int], stride: Sequence[int], storage_offset: int | None = None, *,
                    out: Tensor | None = None) -> Tensor:  # fmt: skip
    """Return a copy of ``as_strided(...)`` of the same arguments."""
    if out is not None:
        return into(out, as_strided_copy, input, size, stride, storage_offset)
    return clone(scattering.as_strided(input, size, stride, storage_offset))


@op(method=False)
def diagonal_copy(input: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1, *, out: Tensor | None = None) -> Tensor:
    """Return a copy of ``diagonal(...)`` of the same arguments."""
    if out is not None:
        return into(out, diagonal_copy, input, offset, dim1, dim2)
    return clone(rearranging.diagonal(input, offset, dim1, dim2))


@op(method=False)
def expand_copy(input: Tensor, size: Sequence[int], *, out: Tensor | None = None) -> Tensor:
    """Return a copy of ``expand(...)`` of the same arguments."""
    if out is not None:
        return into(out, expand_copy, input, size)
    return clone(shape.expand(input, size))


@op()
def narrow_copy(input: Tensor, dim: int, start: int, length: int, *, out: Tensor | None = None) -> Tensor:
    """Return a copy of ``narrow(...)`` of the same arguments."""
    if out is not None:
        return into(out, narrow_copy, input, dim, start, length)
    return clone(indexing.narrow(input, dim, start, length))


@op(method=False)
def permute_copy(input: Tensor, dims: Sequence[int], *, out: Tensor | None = None) -> Tensor:
    """Return a copy of ``permute(...)`` of the same arguments."""
    if out is not None:
        return into(out, permute_copy, input, dims)
    return clone(shape.permute(input, dims))


@op(method=False)
def select_copy(input: Tensor, dim: int, index: int, *, out: Tensor | None = None) -> Tensor:
    """Return a copy of ``select(...)`` of the same arguments."""
    if out is not None:
        return into(out, select_copy, input, dim, index)
    return clone(indexing.select(input, dim, index))


@op(method=False)
def squeeze_copy(input: Tensor, dim: Any = None, *, out: Tensor | None = None) -> Tensor:
    """Return a copy of ``squeeze(...)`` of the same arguments."""
    if out is not None:
        return into(out, squeeze_copy, input, dim)
    return clone(shape.squeeze(input, dim))


@op(method=False)
def t_copy(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return a copy of ``t(...)`` of the same arguments."""
    if out is not None:
        return into(out, t_copy, input)
    return clone(shape.t(input))


@op(method=False)
def transpose_copy(input: Tensor, dim0: int, dim1: int, *, out: Tensor | None = None) -> Tensor:
    """Return a copy of ``transpose(...)`` of the same arguments."""
    if out is not None:
        return into(out, transpose_copy, input, dim0, dim1)
    return clone(shape.transpose(input, dim0, dim1))


@op(method=False)
def unfold_copy(input: Tensor, dimension: int, size: int, step: int, *, out: Tensor | None = None) -> Tensor:
    """Return a copy of ``unfold(...)`` of the same arguments."""
    if out is not None:
        return into(out, unfold_copy, input, dimension, size, step)
    return clone(viewing.unfold(input, dimension, size, step))


@op(method=False)
def unsqueeze_copy(input: Tensor, dim: int, *, out: Tensor | None = None) -> Tensor:
    """Return a copy of ``unsqueeze(...)`` of the same arguments."""
    if out is not None:
        return into(out, unsqueeze_copy, input, dim)
    return clone(shape.unsqueeze(input, dim))


@op(method=False)
def view_copy(input: Tensor, size: Any, *, out: Tensor | None = None) -> Tensor:
    """Return a copy of ``view(...)`` of the same arguments."""
    if out is not None:
        return into(out, view_copy, input, size)
    return clone(shape.view(input, size))


@op(method=False)
def view_as_real_copy(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return a copy of ``view_as_real(...)`` of the same arguments."""
    if out is not None:
        return into(out, view_as_real_copy, input)
    return clone(viewing.view_as_real(input))


@op(method=False)
def view_as_complex_copy(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return a copy of ``view_as_complex(...)`` of the same arguments."""
    if out is not None:
        return into(out, view_as_complex_copy, input)
    return clone(viewing.view_as_complex(input))


@op(method=False)
def slice_copy(input: Tensor, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1, *,
               out: Tensor | None = None) -> Tensor:  # fmt: skip
    """Return a copy of ``input[start:end:step]`` along ``dim``."""
    if out is not None:
        return into(out, slice_copy, input, dim, start, end, step)
    axis = rules.dim(dim, input.ndim)
    return clone(indexing.getitem(input, (slice(None),) * axis + (slice(start, end, step),)))


@op(method=False)
def split_copy(input: Tensor, split_size: int, dim: int = 0) -> tuple[Tensor, ...]:
    """Return copies of the parts of ``input`` along ``dim``, of one size, the last smaller."""
    return tuple(map(clone, splitting.split(input, split_size, dim)))


@op(method=False)
def split_with_sizes_copy(input: Tensor, split_sizes: Sequence[int], dim: int = 0) -> tuple[Tensor, ...]:
    """Return copies of the parts of ``input`` along ``dim`` of the sizes given."""
    return tuple(map(clone, splitting.split(input, list(split_sizes), dim)))


@op(method=False)
def unbind_copy(input: Tensor, dim: int = 0) -> tuple[Tensor, ...]:
    """Return copies of the slices of ``input`` along ``dim``, without that dim."""
    return tuple(map(clone, splitting.unbind(input, dim)))
