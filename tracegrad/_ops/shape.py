"""Other shapes for the same elements: views and joins."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp

from tracegrad import _dtype
from tracegrad._dtype import DType, type_name
from tracegrad._engine.op import Lowering
from tracegrad._engine.trace import record
from tracegrad._engine.value import Aval, Number
from tracegrad._layout import Layout, layout, stretched
from tracegrad._ops import _rules as rules
from tracegrad._ops._declare import op
from tracegrad._ops._out import into, renamed
from tracegrad._ops._rules import REQUIRED
from tracegrad._ops._views import other_order, same_order, view_of, viewed
from tracegrad._ops.creation import sizes
from tracegrad._ops.viewing import conj, retyped

if TYPE_CHECKING:
    from tracegrad._tensor import Tensor


# -- other sizes, same order ---------------------------------------------------------------------------------


@op()
def reshape(input: Tensor, *shape: Any, **keyword: Any) -> Tensor:
    """Return the same elements in this shape, given as varargs or one sequence; -1 stands for the size that is left.

    Raises:
        RuntimeError: where the shape does not hold as many elements.

    Example:
        >>> import tracegrad as torch
        >>> torch.arange(4).reshape(2, -1).tolist()
        [[0, 1], [2, 3]]
    """
    if keyword:
        return renamed(reshape, keyword, input, *shape)
    to = sizes(shape)
    if input._strided and not _viewable(input, to):
        made: Tensor = record(_reshape, (to, "UnsafeViewBackward0"), input)
        return made
    return viewed(_reshape, (to,), input)


def _viewable(input: Tensor, to: tuple[int, ...]) -> bool:
    return _fits(input._value.spec.aval.shape, layout(input)[0], to)


@lru_cache(10_000)
def _fits(shape: tuple[int, ...], strides: tuple[int, ...], to: tuple[int, ...]) -> bool:
    """Return whether elements of these strides can be seen in the shape ``to`` without a copy."""
    return stretched(shape, strides, infer(to, math.prod(shape))) is not None


def _reshape(x: Aval, to: tuple[int, ...], name: str = "ViewBackward0") -> Lowering:
    return _reshaped(x, infer(to, x.numel), name)


def _reshaped(x: Aval, shape: tuple[int, ...], name: str) -> Lowering:
    def lay(strides: tuple[int, ...], offset: int | None) -> Layout:
        found = stretched(x.shape, strides, shape)
        assert found is not None
        return found, offset

    return same_order(lambda a: jnp.reshape(a, shape), name, x, lay)


def infer(to: tuple[int, ...], numel: int) -> tuple[int, ...]:
    """Return the shape ``to`` with its -1 replaced; RuntimeError in PyTorch's words where it does not fit."""
    for i, x in enumerate(to):
        if x < -1:
            raise RuntimeError(f"invalid shape dimension {x} at index {i} of shape {list(to)}")
    if to.count(-1) > 1:
        raise RuntimeError("only one dimension can be inferred")
    known = math.prod(x for x in to if x != -1)
    if -1 in to:
        if known == 0 and numel == 0:
            raise RuntimeError(f"cannot reshape tensor of 0 elements into shape {list(to)} because the unspecified "
                               "dimension size -1 can be any value and is ambiguous")
        if known != 0 and numel % known == 0:
            return tuple(numel // known if x == -1 else x for x in to)
    elif known == numel:
        return to
    raise RuntimeError(f"shape '{list(to)}' is invalid for input of size {numel}")


@op()
def view(input: Tensor, *size: Any, **keyword: Any) -> Tensor:
    """Return a view of the same elements in this shape, given as varargs or one sequence. See `reshape`.

    Given a dtype instead, return a tensor that reads the same bytes as numbers of that type, without a history.

    Raises:
        RuntimeError: where the elements lie so that the shape needs a copy, or that the type's size does not fit.
    """
    if keyword:
        return renamed(view, keyword, input, *size)
    if len(size) == 1 and isinstance(size[0], (DType, type)):
        return retyped(input, _dtype.given(size[0]))
    if not size:
        raise TypeError("view() received an invalid combination of arguments - got (), but expected a dtype or sizes")
    to = sizes(size)
    if input._strided and not _viewable(input, to):
        raise RuntimeError("view size is not compatible with input tensor's size and stride (at least one dimension "
                           "spans across two contiguous subspaces). Use .reshape(...) instead.")
    return viewed(_reshape, (to,), input)


@op()
def view_as(input: Tensor, other: Tensor) -> Tensor:
    """Return a view of ``input`` in the shape of ``other``."""
    return view(input, other._value.spec.aval.shape)


@op()
def reshape_as(input: Tensor, other: Tensor) -> Tensor:
    """Return the elements of ``input`` in the shape of ``other``."""
    return reshape(input, other._value.spec.aval.shape)


@op()
def flatten(input: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Return ``input`` with the dims from ``start_dim`` to ``end_dim`` made one; itself where that is one already."""
    ndim = len(input._value.spec.aval.shape)
    if ndim and rules.dim(start_dim, ndim) == rules.dim(end_dim, ndim):
        return input
    if input._strided:
        return reshape(input, _flat(input._value.spec.aval, start_dim, end_dim))
    return viewed(_flatten, (start_dim, end_dim), input)


def _flatten(x: Aval, start: int, end: int) -> Lowering:
    return _reshaped(x, _flat(x, start, end), "ViewBackward0")


def _flat(x: Aval, start: int, end: int) -> tuple[int, ...]:
    start, end = rules.dim(start, x.ndim), rules.dim(end, x.ndim)
    if start > end:
        raise RuntimeError("flatten() has invalid args: start_dim cannot come after end_dim")
    return (*x.shape[:start], math.prod(x.shape[start : end + 1]), *x.shape[end + 1 :])


@op()
def ravel(input: Tensor) -> Tensor:
    """Return the elements of ``input`` in one dimension."""
    return flatten(input)


@op()
def unflatten(input: Tensor, dim: int, sizes: Any) -> Tensor:
    """Return ``input`` with ``dim`` made into several dims of these sizes."""
    return viewed(_unflatten, (dim, tuple(sizes)), input)


def _unflatten(x: Aval, d: int, to: tuple[int, ...]) -> Lowering:
    if not x.ndim:
        raise RuntimeError(f"unflatten got an unexpected error:\nDimension specified as {d} but tensor has no "
                           "dimensions")
    d = rules.dim(d, x.ndim)
    if not to:
        raise RuntimeError("unflatten: sizes must be non-empty")
    try:
        found = infer(to, x.shape[d])
    except RuntimeError:
        raise RuntimeError(f"unflatten: Provided sizes {list(to)} don't multiply up to the size of dim {d} "
                           f"({x.shape[d]}) in the input tensor") from None
    return _reshaped(x, (*x.shape[:d], *found, *x.shape[d + 1 :]), "ViewBackward0")


@op()
def squeeze(input: Tensor, dim: Any = None, **numpy: Any) -> Tensor:
    """Return ``input`` without its dims of size 1, or without those among ``dim``."""
    if numpy:
        return renamed(squeeze, numpy, input, dim)
    return viewed(_squeeze, (rules.frozen(dim),), input)


def _squeeze(x: Aval, d: Any) -> Lowering:
    axes = tuple(a for a in rules.dims(d, x.ndim) if x.shape[a] == 1) if d != () else ()
    number = 0 if d is None else 1 if isinstance(d, int) else 2

    def lay(strides: tuple[int, ...], offset: int | None) -> Layout:
        return tuple(s for i, s in enumerate(strides) if i not in axes), offset

    return same_order(lambda a: jnp.squeeze(a, axes), f"SqueezeBackward{number}", x, lay)


@op()
def unsqueeze(input: Tensor, dim: int = REQUIRED, **numpy: Any) -> Tensor:
    """Return ``input`` with a new dim of size 1 at ``dim``."""
    if numpy:
        return renamed(unsqueeze, numpy, input, dim)
    return viewed(_unsqueeze, (dim,), input)


def _unsqueeze(x: Aval, d: int) -> Lowering:
    at = rules.dim(d, x.ndim + 1)

    def lay(strides: tuple[int, ...], offset: int | None) -> Layout:
        own = x.shape[at] * strides[at] if at < x.ndim else 1
        return (*strides[:at], own, *strides[at:]), offset

    return same_order(lambda a: jnp.expand_dims(a, at), "UnsqueezeBackward0", x, lay)


@op(method=False)
def atleast_1d(*tensors: Any) -> Any:
    """Return each tensor with at least one dim; a tuple where there are several."""
    return _at_least(tensors, lambda x: reshape(x, 1) if x.ndim == 0 else x)


@op(method=False)
def atleast_2d(*tensors: Any) -> Any:
    """Return each tensor with at least two dims; a tuple where there are several."""
    return _at_least(tensors, lambda x: reshape(x, 1, 1) if x.ndim == 0 else unsqueeze(x, 0) if x.ndim == 1 else x)


@op(method=False)
def atleast_3d(*tensors: Any) -> Any:
    """Return each tensor with at least three dims; a tuple where there are several."""
    return _at_least(tensors, lambda x: unsqueeze(atleast_2d(x), -1) if x.ndim < 3 else x)


def _at_least(tensors: tuple[Any, ...], one: Callable[[Any], Any]) -> Any:
    if len(tensors) == 1 and isinstance(tensors[0], (list, tuple)):
        tensors = tuple(tensors[0])
        return tuple(map(one, tensors))
    return one(tensors[0]) if len(tensors) == 1 else tuple(map(one, tensors))


# -- other order of dims -------------------------------------------------------------------------------------


@op()
def transpose(input: Tensor, dim0: int, dim1: int) -> Tensor:
    """Return ``input`` with two dims swapped."""
    return viewed(_transpose, (dim0, dim1), input, True)


def _transpose(x: Aval, d0: int, d1: int) -> Lowering:
    d0, d1 = rules.dim(d0, x.ndim), rules.dim(d1, x.ndim)
    axes = list(range(x.ndim))
    if axes:
        axes[d0], axes[d1] = d1, d0
    return other_order(tuple(axes), "TransposeBackward0")


@op()
def swapaxes(input: Tensor, axis0: int, axis1: int) -> Tensor:
    """Return ``input`` with two dims swapped: another name of `transpose`."""
    return viewed(_transpose, (axis0, axis1), input, True)


@op()
def swapdims(input: Tensor, dim0: int, dim1: int) -> Tensor:
    """Return ``input`` with two dims swapped: another name of `transpose`."""
    return viewed(_transpose, (dim0, dim1), input, True)


@op()
def t(input: Tensor) -> Tensor:
    """Return the transpose of a matrix; a tensor with fewer dims as it is."""
    return viewed(_t, (), input, True)


def _t(x: Aval) -> Lowering:
    if x.ndim > 2:
        raise RuntimeError(f"t() expects a tensor with <= 2 dimensions, but self is {x.ndim}D")
    return other_order(tuple(range(x.ndim))[::-1], "TBackward0")


@op()
def adjoint(input: Tensor) -> Tensor:
    """Return a view of ``input`` with its last two dims swapped, conjugated where it is complex."""
    ndim = len(input._value.spec.aval.shape)
    if ndim < 2:
        raise RuntimeError("tensor.adjoint() is only supported on matrices or batches of matrices. "
                           f"Got {ndim}-D tensor.")
    return conj(viewed(_transpose, (-2, -1), input, True))


@op()
def permute(input: Tensor, *dims: Any, **keyword: Any) -> Tensor:
    """Return ``input`` with its dims in this order, given as varargs or one sequence."""
    if keyword:
        return renamed(permute, keyword, input, *dims)
    return viewed(_permute, (sizes(dims, name="dims"),), input, True)


def reverse(input: Tensor) -> Tensor:
    """Return a view of ``input`` with its dims in reversed order."""
    ndim = len(input._value.spec.aval.shape)
    return viewed(_permute, _SWAPPED if ndim == 2 else (tuple(range(ndim - 1, -1, -1)),), input, True)


_SWAPPED = ((1, 0),)


def _permute(x: Aval, order: tuple[int, ...]) -> Lowering:
    if len(order) != x.ndim:
        raise RuntimeError("permute(sparse_coo): number of dimensions in the tensor input does not match the length of "
                           f"the desired ordering of dimensions i.e. input.dim() = {x.ndim} is not equal to "
                           f"len(dims) = {len(order)}")
    axes = tuple(rules.dim(d, x.ndim) for d in order)
    if len(set(axes)) != len(axes):
        raise RuntimeError("permute(): duplicate dims are not allowed.")
    return other_order(axes, "PermuteBackward0")


@op()
def movedim(input: Tensor, source: Any, destination: Any) -> Tensor:
    """Return ``input`` with the dims ``source`` moved to ``destination``, the others in order."""
    return viewed(_movedim, (rules.frozen(source), rules.frozen(destination)), input, True)


@op()
def moveaxis(input: Tensor, source: Any, destination: Any) -> Tensor:
    """Return ``input`` with dims moved: another name of `movedim`."""
    return viewed(_movedim, (rules.frozen(source), rules.frozen(destination)), input, True)


def _movedim(x: Aval, source: Any, destination: Any) -> Lowering:
    source = (source,) if isinstance(source, int) else source
    destination = (destination,) if isinstance(destination, int) else destination
    if len(source) != len(destination):
        raise RuntimeError(f"movedim: Invalid source or destination dims: source ({list(source)} dims) should contain "
                           f"the same number of dims as destination ({list(destination)} dims)")
    found = []
    for name, given in (("source", source), ("destination", destination)):
        axes = tuple(rules.dim(d, x.ndim) for d in given)
        if len(set(axes)) != len(axes):
            raise RuntimeError(f"movedim: repeated dim in `{name}` ({list(given)})")
        found.append(axes)
    order = [d for d in range(x.ndim) if d not in found[0]]
    for to, d in sorted(zip(found[1], found[0])) if x.ndim else ():
        order.insert(to, d)
    return other_order(tuple(order), "PermuteBackward0")


# -- more of the same elements -------------------------------------------------------------------------------


@op()
def expand(input: Tensor, *size: Any, **keyword: Any) -> Tensor:
    """Return a view in which dims of size 1 are repeated to these sizes; -1 keeps a size, new dims come first."""
    if keyword:
        return renamed(expand, keyword, input, *size)
    return viewed(_expand, (sizes(size),), input, True, False)


@op()
def expand_as(input: Tensor, other: Tensor) -> Tensor:
    """Return a view of ``input`` repeated to the shape of ``other``."""
    return viewed(_expand, (other._value.spec.aval.shape,), input, True, False)


@op()
def broadcast_to(input: Tensor, size: Any) -> Tensor:
    """Return a view of ``input`` broadcast to ``size``: another name of `expand`."""
    return viewed(_expand, (sizes((size,)),), input, True, False)


def _expand(x: Aval, to: tuple[int, ...]) -> Lowering:
    shape = expanded(x, to)
    lead = len(shape) - x.ndim
    first = (0,) * lead + tuple(slice(1 if m == 1 else None) for m in x.shape)

    def lay(strides: tuple[int, ...], offset: int | None) -> Layout:
        kept = tuple(0 if m == 1 and n != 1 else s for m, n, s in zip(x.shape, shape[lead:], strides))
        extra: list[int] = []
        for i in range(lead - 1, -1, -1):
            after = (extra[-1] if extra else kept[0] if kept else 1) * (shape[i + 1] if i + 1 < len(shape) else 1)
            extra.append(0 if shape[i] != 1 else after)
        return (*reversed(extra), *kept), offset

    return view_of(lambda a: jnp.broadcast_to(a, shape), "ExpandBackward0",
                   lambda a, new: new[first] if new.size else a, lay)  # fmt: skip


def expanded(x: Aval, to: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of ``x`` expanded to ``to``; RuntimeError in PyTorch's words where it does not fit."""
    lead = len(to) - x.ndim
    if lead < 0:
        raise RuntimeError(f"expand(torch.{type_name(x.dtype)}Tensor{{{list(x.shape)}}}, size={list(to)}): the number "
                           f"of sizes provided ({len(to)}) must be greater or equal to the number of dimensions in the "
                           f"tensor ({x.ndim})")
    found = []
    for i in range(len(to) - 1, -1, -1):  # PyTorch speaks of the last one that is wrong
        size = to[i]
        if i < lead:
            if size < 0:
                raise RuntimeError(f"The expanded size of the tensor ({size}) isn't allowed in a leading, non-existing "
                                   f"dimension {i}")
            found.append(size)
            continue
        has = x.shape[i - lead]
        if size != -1 and has != 1 and has != size:
            raise RuntimeError(f"The expanded size of the tensor ({size}) must match the existing size ({has}) at "
                               f"non-singleton dimension {i}.  Target sizes: {list(to)}.  Tensor sizes: "
                               f"{list(x.shape)}")
        found.append(has if size == -1 else size)
    return tuple(reversed(found))


@op(method=False)
def broadcast_tensors(*tensors: Any) -> tuple[Tensor, ...]:
    """Return views of the tensors broadcast to one shape."""
    if len(tensors) == 1 and isinstance(tensors[0], (list, tuple)):
        tensors = tuple(tensors[0])
    shape = rules.broadcast(*[x._value.spec.aval for x in tensors])
    return tuple(expand(x, shape) for x in tensors)


# -- joining -------------------------------------------------------------------------------------------------


@op(method=False)
def cat(tensors: Sequence[Tensor], dim: int = 0, *, out: Tensor | None = None, **numpy: Any) -> Tensor:
    """Return the tensors joined along ``dim``; their other sizes agree, empty 1-D tensors are skipped.

    Raises:
        RuntimeError: where sizes or numbers of dims differ.
    """
    if out is not None or numpy:
        return into(out, cat, tensors, dim, **numpy)
    made: Tensor = record(_cat, (dim,), *_listed("cat", tensors))
    return made


@op(method=False)
def concat(tensors: Sequence[Tensor], dim: int = 0, *, out: Tensor | None = None, **numpy: Any) -> Tensor:
    """Return the tensors joined along ``dim``: another name of `cat`."""
    if out is not None or numpy:
        return into(out, concat, tensors, dim, **numpy)
    return cat(tensors, dim)


@op(method=False)
def concatenate(tensors: Sequence[Tensor], dim: int = 0, *, out: Tensor | None = None, **numpy: Any) -> Tensor:
    """Return the tensors joined along ``dim``: another name of `cat`."""
    if out is not None or numpy:
        return into(out, concatenate, tensors, dim, **numpy)
    return cat(tensors, dim)


def _listed(name: str, tensors: Any) -> Sequence[Tensor]:
    if type(tensors) is not list and type(tensors) is not tuple and not isinstance(tensors, (list, tuple)):
        raise TypeError(f"{name}(): argument 'tensors' (position 1) must be tuple of Tensors, not "
                        f"{type(tensors).__name__}")
    return tensors


def _cat(*operands: Any) -> Lowering:
    *xs, d = operands
    if not xs:
        raise ValueError("torch.cat(): expected a non-empty list of Tensors")
    for i, x in enumerate(xs):
        if isinstance(x, Number):
            raise TypeError(f"expected Tensor as element {i} in argument 0, but got {x.kind.__name__}")
        if x.ndim == 0:
            raise RuntimeError(f"zero-dimensional tensor (at position {i}) cannot be concatenated")
    used = [i for i, x in enumerate(xs) if x.shape != (0,)] or [0]
    first = xs[used[0]]
    axis = rules.dim(d, first.ndim)
    for i in used[1:]:
        if xs[i].ndim != first.ndim:
            raise RuntimeError(f"Tensors must have same number of dimensions: got {first.ndim} and {xs[i].ndim}")
        for k, (a, b) in enumerate(zip(first.shape, xs[i].shape)):
            if k != axis and a != b:
                raise RuntimeError(f"Sizes of tensors must match except in dimension {axis}. Expected size {a} but got "
                                   f"size {b} for tensor number {i} in the list.")
    dtype = rules.result_type(xs).np

    def of_rows(stacked: Any) -> Any:
        shape = (*first.shape[:axis], len(xs) * first.shape[axis], *first.shape[axis + 1 :])
        return jnp.moveaxis(stacked.astype(dtype), 0, axis).reshape(shape)

    return Lowering(lambda *arrays: jnp.concatenate([arrays[i].astype(dtype) for i in used], axis),
                    name="CatBackward0", saves=False,
                    of_rows=of_rows if all(x is first for x in xs) else None)  # fmt: skip


@op(method=False)
def stack(tensors: Sequence[Tensor], dim: int = 0, *, out: Tensor | None = None, **numpy: Any) -> Tensor:
    """Return tensors of one shape joined along a new dim."""
    if out is not None or numpy:
        return into(out, stack, tensors, dim, **numpy)
    made: Tensor = record(_stack, (dim,), *_listed("stack", tensors))
    return made


def _stack(*operands: Any) -> Lowering:
    *xs, d = operands
    if not xs:
        raise RuntimeError("stack expects a non-empty TensorList")
    for i, x in enumerate(xs):
        if isinstance(x, Number):
            raise TypeError(f"expected Tensor as element {i} in argument 0, but got {x.kind.__name__}")
    axis = rules.dim(d, xs[0].ndim + 1)
    for i, x in enumerate(xs):
        if x.shape != xs[0].shape:
            raise RuntimeError(f"stack expects each tensor to be equal size, but got {list(xs[0].shape)} at entry 0 "
                               "and "
                               f"{list(x.shape)} at entry {i}")
    dtype = rules.result_type(xs).np

    def of_rows(stacked: Any) -> Any:
        return jnp.moveaxis(stacked.astype(dtype), 0, axis)

    return Lowering(lambda *arrays: jnp.stack([a.astype(dtype) for a in arrays], axis), name="StackBackward0",
                    saves=False, of_rows=of_rows if all(x is xs[0] for x in xs) else None)  # fmt: skip


@op(method=False)
def hstack(tensors: Sequence[Tensor], *, out: Tensor | None = None) -> Tensor:
    """Return the tensors joined along their second dim, or along the only one."""
    if out is not None:
        return into(out, hstack, tensors)
    parts = atleast_1d(list(tensors))
    return cat(parts, 0 if parts and parts[0].ndim == 1 else 1)


@op(method=False)
def vstack(tensors: Sequence[Tensor], *, out: Tensor | None = None) -> Tensor:
    """Return the tensors, rows where they have one dim, joined along the first dim."""
    if out is not None:
        return into(out, vstack, tensors)
    return cat(atleast_2d(list(tensors)))


@op(method=False)
def dstack(tensors: Sequence[Tensor], *, out: Tensor | None = None) -> Tensor:
    """Return the tensors joined along their third dim."""
    if out is not None:
        return into(out, dstack, tensors)
    return cat(atleast_3d(list(tensors)), 2)


@op(method=False)
def meshgrid(*tensors: Any, indexing: str = "ij") -> tuple[Tensor, ...]:
    """Return a grid per 1-D tensor, in which it varies along one dim; ``"xy"`` swaps the first two dims."""
    if len(tensors) == 1 and isinstance(tensors[0], (list, tuple)):
        tensors = tuple(tensors[0])
    if indexing not in ("ij", "xy"):
        raise RuntimeError(f'torch.meshgrid: indexing must be one of "xy" or "ij", but received: {indexing}')
    for x in tensors:
        if x.ndim > 1:
            raise RuntimeError(f"torch.meshgrid: Expected 0D or 1D tensor in the tensor list but got: {x.ndim}-D "
                               "tensor")
    n = len(tensors)
    shape = tuple(x._value.spec.aval.numel for x in tensors)
    grids = [expand(reshape(x, [-1 if k == i else 1 for k in range(n)]), shape) for i, x in enumerate(tensors)]
    return tuple(transpose(g, 0, 1) for g in grids) if indexing == "xy" and n > 1 else tuple(grids)
