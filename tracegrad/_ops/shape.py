"""Other shapes for the same elements: views, joins, splits and rearrangements.

NOTE [Order] A view whose elements do not lie in the order of its base (a transpose, an expand) is ``_strided``:
PyTorch's ``reshape`` copies such a tensor, so here its result is no view either, and ``contiguous`` makes a copy of it.
"""

from __future__ import annotations

import builtins
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from tracegrad._dtype import DType
from tracegrad._engine.op import Lowering
from tracegrad._engine.trace import force, record
from tracegrad._engine.value import Aval, Number
from tracegrad._errors import UnsupportedError
from tracegrad._handle import Handle, as_view
from tracegrad._ops import _rules as rules
from tracegrad._ops._declare import op
from tracegrad._ops.creation import check_sizes, sizes

if TYPE_CHECKING:
    from tracegrad._tensor import Tensor


def viewed(rule: Callable[..., Lowering], params: tuple[Any, ...], input: Tensor, strided: bool = False) -> Tensor:
    """Record a view op and mark its result as a view of ``input``; see NOTE [Order] for ``strided``."""
    view = as_view(record(rule, params, input), input, partial(record, rule, params))
    if strided or is_strided(input):
        view._strided = True  # type: ignore[attr-defined]
    return view


def several_views(rule: Callable[..., Lowering], params: tuple[Any, ...], input: Tensor) -> tuple[Tensor, ...]:
    """Record a view op with several results and mark them as views of ``input``."""
    made: tuple[Tensor, ...] = record(rule, params, input)
    for i, view in enumerate(made):
        as_view(view, input, lambda base, i=i: record(rule, params, base)[i])  # type: ignore[misc]
        view._strided = True  # type: ignore[attr-defined]
    return made


def is_strided(input: Tensor) -> bool:
    """Return whether ``input`` is a view whose elements do not lie in order; see NOTE [Order]."""
    return getattr(input, "_strided", False)


def view_of(fn: Callable[..., Any], name: str) -> Lowering:
    """Return the lowering of a view op: its derivative saves nothing."""
    return Lowering(fn, name=name, saves=False)


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
    to = sizes(shape, keyword.get("shape"))
    if is_strided(input):
        made: Tensor = record(_reshape, (to, "UnsafeViewBackward0"), input)
        return made
    return viewed(_reshape, (to,), input)


def _reshape(x: Aval, to: tuple[int, ...], name: str = "ViewBackward0") -> Lowering:
    shape = infer(to, x.numel)
    return view_of(lambda a: jnp.reshape(a, shape), name)


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
def view(input: Tensor, *shape: Any, **keyword: Any) -> Tensor:
    """Return a view of the same elements in this shape, given as varargs or one sequence. See `reshape`."""
    if shape and type(shape[0]) is DType:
        raise UnsupportedError("view(dtype): reading elements as another dtype is not supported yet; "
                               "convert the numbers with to(dtype)")
    return viewed(_reshape, (sizes(shape, keyword.get("size")),), input)


@op()
def view_as(input: Tensor, other: Tensor) -> Tensor:
    """Return a view of ``input`` in the shape of ``other``."""
    return viewed(_reshape, (other._value.spec.aval.shape,), input)


@op()
def reshape_as(input: Tensor, other: Tensor) -> Tensor:
    """Return the elements of ``input`` in the shape of ``other``."""
    return reshape(input, other._value.spec.aval.shape)


@op()
def flatten(input: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Return ``input`` with the dims from ``start_dim`` to ``end_dim`` made one."""
    if is_strided(input):
        made: Tensor = record(_flatten, (start_dim, end_dim, "UnsafeViewBackward0"), input)
        return made
    return viewed(_flatten, (start_dim, end_dim), input)


def _flatten(x: Aval, start: int, end: int, name: str = "ViewBackward0") -> Lowering:
    start, end = rules.dim(start, x.ndim), rules.dim(end, x.ndim)
    if start > end:
        raise RuntimeError("flatten() has invalid args: start_dim cannot come after end_dim")
    shape = (*x.shape[:start], math.prod(x.shape[start : end + 1]), *x.shape[end + 1 :])
    return view_of(lambda a: jnp.reshape(a, shape), name)


@op()
def ravel(input: Tensor) -> Tensor:
    """Return the elements of ``input`` in one dimension."""
    return flatten(input)


@op()
def unflatten(input: Tensor, dim: int, sizes: Any) -> Tensor:
    """Return ``input`` with ``dim`` made into several dims of these sizes."""
    return viewed(_unflatten, (dim, tuple(sizes)), input)


def _unflatten(x: Aval, d: int, to: tuple[int, ...]) -> Lowering:
    d = rules.dim(d, x.ndim)
    if not to:
        raise RuntimeError("unflatten: sizes must be non-empty")
    try:
        found = infer(to, x.shape[d])
    except RuntimeError:
        raise RuntimeError(f"unflatten: Provided sizes {list(to)} don't multiply up to the size of dim {d} "
                           f"({x.shape[d]}) in the input tensor") from None
    shape = (*x.shape[:d], *found, *x.shape[d + 1 :])
    return view_of(lambda a: jnp.reshape(a, shape), "ViewBackward0")


@op()
def squeeze(input: Tensor, dim: Any = None) -> Tensor:
    """Return ``input`` without its dims of size 1, or without those among ``dim``."""
    return viewed(_squeeze, (rules.frozen(dim),), input)


def _squeeze(x: Aval, d: Any) -> Lowering:
    axes = tuple(a for a in rules.dims(d, x.ndim) if x.shape[a] == 1) if d != () else ()
    number = 0 if d is None else 1 if isinstance(d, int) else 2
    return view_of(lambda a: jnp.squeeze(a, axes), f"SqueezeBackward{number}")


@op()
def unsqueeze(input: Tensor, dim: int) -> Tensor:
    """Return ``input`` with a new dim of size 1 at ``dim``."""
    return viewed(_unsqueeze, (dim,), input)


def _unsqueeze(x: Aval, d: int) -> Lowering:
    at = rules.dim(d, x.ndim + 1)
    return view_of(lambda a: jnp.expand_dims(a, at), "UnsqueezeBackward0")


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
    if x.ndim == 0:
        return view_of(lambda a: a, "TransposeBackward0")
    return view_of(lambda a: jnp.swapaxes(a, d0, d1), "TransposeBackward0")


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
    return view_of(jnp.transpose, "TBackward0")


@op()
def adjoint(input: Tensor) -> Tensor:
    """Return ``input`` with its last two dims swapped, conjugated where it is complex."""
    return viewed(_adjoint, (), input, True)


def _adjoint(x: Aval) -> Lowering:
    if x.ndim < 2:
        raise RuntimeError("tensor.adjoint() is only supported on matrices or batches of matrices. "
                           f"Got {x.ndim}-D tensor.")
    if x.dtype.is_complex:
        return view_of(lambda a: jnp.conj(jnp.swapaxes(a, -1, -2)), "ConjBackward0")
    return view_of(lambda a: jnp.swapaxes(a, -1, -2), "TransposeBackward0")


@op()
def permute(input: Tensor, *dims: Any, **keyword: Any) -> Tensor:
    """Return ``input`` with its dims in this order, given as varargs or one sequence."""
    return viewed(_permute, (sizes(dims, keyword.get("dims"), "dims"),), input, True)


def _permute(x: Aval, order: tuple[int, ...]) -> Lowering:
    if len(order) != x.ndim:
        raise RuntimeError("permute(sparse_coo): number of dimensions in the tensor input does not match the length of "
                           f"the desired ordering of dimensions i.e. input.dim() = {x.ndim} is not equal to "
                           f"len(dims) = {len(order)}")
    axes = tuple(rules.dim(d, x.ndim) for d in order)
    if len(set(axes)) != len(axes):
        raise RuntimeError("permute(): duplicate dims are not allowed.")
    return view_of(lambda a: jnp.transpose(a, axes), "PermuteBackward0")


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
    return view_of(lambda a: jnp.moveaxis(a, found[0], found[1]) if a.ndim else a, "PermuteBackward0")


# -- more of the same elements -------------------------------------------------------------------------------


@op()
def expand(input: Tensor, *size: Any, **keyword: Any) -> Tensor:
    """Return a view in which dims of size 1 are repeated to these sizes; -1 keeps a size, new dims come first."""
    return viewed(_expand, (sizes(size, keyword.get("size")),), input, True)


@op()
def expand_as(input: Tensor, other: Tensor) -> Tensor:
    """Return a view of ``input`` repeated to the shape of ``other``."""
    return viewed(_expand, (other._value.spec.aval.shape,), input, True)


@op()
def broadcast_to(input: Tensor, size: Any) -> Tensor:
    """Return a view of ``input`` broadcast to ``size``: another name of `expand`."""
    return viewed(_expand, (sizes((size,)),), input, True)


def _expand(x: Aval, to: tuple[int, ...]) -> Lowering:
    shape = expanded(x, to)
    return view_of(lambda a: jnp.broadcast_to(a, shape), "ExpandBackward0")


def expanded(x: Aval, to: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of ``x`` expanded to ``to``; RuntimeError in PyTorch's words where it does not fit."""
    lead = len(to) - x.ndim
    if lead < 0:
        raise RuntimeError(f"expand(torch.FloatTensor{{{list(x.shape)}}}, size={list(to)}): the number of sizes "
                           "provided "
                           f"({len(to)}) must be greater or equal to the number of dimensions in the tensor ({x.ndim})")
    found = []
    for i, size in enumerate(to):
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
    return tuple(found)


@op(method=False)
def broadcast_tensors(*tensors: Any) -> tuple[Tensor, ...]:
    """Return views of the tensors broadcast to one shape."""
    if len(tensors) == 1 and isinstance(tensors[0], (list, tuple)):
        tensors = tuple(tensors[0])
    shape = rules.broadcast(*[x._value.spec.aval for x in tensors])
    return tuple(expand(x, shape) for x in tensors)


@op()
def repeat(input: Tensor, *repeats: Any, **keyword: Any) -> Tensor:
    """Return copies of ``input`` side by side, this many times along each dim; new dims come first."""
    made: Tensor = record(_repeat, (sizes(repeats, keyword.get("repeats"), "repeats"), True), input)
    return made


@op()
def tile(input: Tensor, *dims: Any, **keyword: Any) -> Tensor:
    """Return copies of ``input`` side by side; with fewer counts than dims, the last dims are meant."""
    made: Tensor = record(_repeat, (sizes(dims, keyword.get("dims"), "dims"), False), input)
    return made


def _repeat(x: Aval, counts: tuple[int, ...], strict: bool) -> Lowering:
    if len(counts) < x.ndim:
        if strict:
            raise RuntimeError("Number of dimensions of repeat dims can not be smaller than number of dimensions of "
                               "tensor")
        counts = (1,) * (x.ndim - len(counts)) + counts
    shape = (1,) * (len(counts) - x.ndim) + x.shape
    check_sizes(tuple(a * b for a, b in zip(shape, counts)))
    return Lowering(lambda a: jnp.tile(a, counts), name="RepeatBackward0", saves=False)


@op()
def repeat_interleave(input: Tensor, repeats: Any, dim: int | None = None, *, output_size: int | None = None) -> Tensor:
    """Return each element, or each slice along ``dim``, ``repeats`` times in a row.

    ``repeats`` is an int, or a tensor with one count per slice, which is read when this is called.
    """
    if isinstance(repeats, Handle):
        counts = np.asarray(force(repeats._value))
        repeats = tuple(counts.tolist()) if counts.ndim else int(counts)
    made: Tensor = record(_repeat_interleave, (rules.frozen(repeats), dim), input)
    return made


def _repeat_interleave(x: Aval, repeats: Any, d: int | None) -> Lowering:
    axis = 0 if d is None else rules.dim(d, x.ndim)
    counts = repeats if isinstance(repeats, tuple) else (repeats,)
    if any(c < 0 for c in counts):
        raise RuntimeError("Repeats must be non-negative")
    length = x.numel if d is None else x.shape[axis] if x.ndim else 1
    if len(counts) not in (1, length):
        raise RuntimeError("repeats must have the same size as input along dim, but got repeats.size(0) = "
                           f"{len(counts)} "
                           f"and input.size({axis}) = {length}")
    of = counts[0] if len(counts) == 1 else np.array(counts)
    total = counts[0] * length if len(counts) == 1 else builtins.sum(counts)
    return Lowering(lambda a: jnp.repeat(a.reshape(-1) if d is None or a.ndim == 0 else a, of, axis,
                                         total_repeat_length=total), name="ViewBackward0", saves=False)  # fmt: skip


# -- joining -------------------------------------------------------------------------------------------------


@op(method=False)
def cat(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Return the tensors joined along ``dim``; their other sizes agree, empty 1-D tensors are skipped.

    Raises:
        RuntimeError: where sizes or numbers of dims differ.
    """
    made: Tensor = record(_cat, (dim,), *_listed("cat", tensors))
    return made


@op(method=False)
def concat(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Return the tensors joined along ``dim``: another name of `cat`."""
    return cat(tensors, dim)


@op(method=False)
def concatenate(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Return the tensors joined along ``dim``: another name of `cat`."""
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
    return Lowering(lambda *arrays: jnp.concatenate([arrays[i].astype(dtype) for i in used], axis),
                    name="CatBackward0", saves=False)  # fmt: skip


@op(method=False)
def stack(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Return tensors of one shape joined along a new dim."""
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
    return Lowering(lambda *arrays: jnp.stack([a.astype(dtype) for a in arrays], axis), name="StackBackward0",
                    saves=False)  # fmt: skip


@op(method=False)
def hstack(tensors: Sequence[Tensor]) -> Tensor:
    """Return the tensors joined along their second dim, or along the only one."""
    parts = atleast_1d(list(tensors))
    return cat(parts, 0 if parts and parts[0].ndim == 1 else 1)


@op(method=False)
def vstack(tensors: Sequence[Tensor]) -> Tensor:
    """Return the tensors, rows where they have one dim, joined along the first dim."""
    return cat(atleast_2d(list(tensors)))


@op(method=False)
def dstack(tensors: Sequence[Tensor]) -> Tensor:
    """Return the tensors joined along their third dim."""
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
