"""Reading by index, as ``x[...]`` does.

An index is resolved in Python, where shapes are known: bounds, negatives and steps. Ints and starts of slices are then
number operands of one recorded op, so that ``x[t]`` and ``x[i : i + n]`` in a loop are one program; lengths and steps
are static. A boolean mask is read when it is used, since its result's shape depends on it.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from tracegrad import _dtype
from tracegrad._engine.checks import Check
from tracegrad._engine.op import Lowering
from tracegrad._engine.trace import force, record
from tracegrad._engine.value import Aval, Number
from tracegrad._handle import Handle, as_view, tensor_of
from tracegrad._layout import Layout
from tracegrad._ops import _rules as rules
from tracegrad._ops._checks import BOUNDS, bounds
from tracegrad._ops._declare import op
from tracegrad._ops._out import into
from tracegrad._ops._views import view_of
from tracegrad._ops.creation import from_host, tensor

if TYPE_CHECKING:
    from tracegrad._tensor import Tensor

#: What a plan says of a dim besides a slice (its length, or its length and step): take one index, add a dim, keep all.
_SELECT, _NEW, _WHOLE = -1, -2, -3


# -- basic indices -------------------------------------------------------------------------------------------


def getitem(input: Tensor, index: Any) -> Tensor:
    """Return ``input[index]``, a view where ``index`` has ints, slices, None and ``...`` only, else a copy.

    Raises:
        IndexError: where an index is out of bounds or there are too many. Elements of index tensors are checked at
            once while they are still host data (lists, arrays, new tensors), later when the op has run.
    """
    kind = type(index)
    if kind is int:
        shape = input._value.spec.aval.shape
        if not shape:
            raise _no_dims(index)
        size = shape[0]
        if not -size <= index < size:
            raise IndexError(f"index {index} is out of bounds for dimension 0 with size {size}")
        if index < 0:
            index += size
        return as_view(record(take, _ROW, input, index), input, (take, _ROW, (index,), False))
    if kind is slice:
        shape = input._value.spec.aval.shape
        if not shape:
            raise IndexError("slice() cannot be applied to a 0-dim tensor.")
        start, stop, step = index.indices(shape[0])
        if step == 1:
            return _basic(input, (stop - start if stop > start else 0,), (start,), False)
        return _basic(input, ((_length(start, stop, step), step),), (start,), True)
    if kind is not tuple:
        if getattr(index, "_value", None) is not None and index.ndim and index.dtype is _dtype.int64:
            shape, on_host = input._value.spec.aval.shape, host_elements((index,))
            made: Tensor = record(_gather, ((0,),), input, index)
            if on_host and made._value.spec.aval.numel:
                check_host(on_host, shape)
            return made
        index = as_tuple(index)
    elif len(index) == 2 and type(index[1]) is int and type(index[0]) is slice and index[0] == _ALL:  # such as x[:, t]
        shape = input._value.spec.aval.shape
        if len(shape) > 1 and 0 <= index[1] < shape[1]:
            return _basic(input, _COLUMN, index[1:], True)
    plan, starts, gathered, strided = resolve(input, index)
    if not gathered:
        return _basic(input, plan, starts, strided)
    source = _basic(input, plan, starts, strided) if plan else input
    on_host, shape = host_elements(gathered.values()), source._value.spec.aval.shape
    made = record(_gather, (tuple(gathered),), source, *gathered.values())
    if on_host and made._value.spec.aval.numel:
        check_host(on_host, [shape[d] for d in gathered])
    return made


_FIRST = (_SELECT,)
_ROW = (_FIRST,)
_ALL = slice(None)
_COLUMN = (_WHOLE, _SELECT)
_ZERO_DIM = ("invalid index of a 0-dim tensor. Use `tensor.item()` in Python or `tensor.item<T>()` in C++ to convert a "
             "0-dim tensor to a number")


def _no_dims(index: int) -> IndexError:
    return IndexError(f"index {index} is out of bounds for dimension 0 with size 0" if index else _ZERO_DIM)


def _length(start: int, stop: int, step: int) -> int:
    if step < 0:
        raise ValueError("step must be greater than zero")
    return max(0, -((start - stop) // step))


def _basic(input: Tensor, plan: tuple[Any, ...], starts: tuple[Any, ...], strided: bool) -> Tensor:
    """Record a basic index; ``starts`` has one number, or 0-dim tensor, per select and slice of ``plan``."""
    params = (plan,)
    return as_view(record(take, params, input, *starts), input, (take, params, starts, False), strided)


def take(x: Aval, *rest: Any) -> Lowering:
    """The rule of a basic index, a view: ``plan`` says what is done with each dim, the operands where it starts."""
    *starts, plan = rest
    sizes: list[int] = []  # taken of each dim
    steps: list[int] = []
    counts: list[int] = []  # elements taken of each dim
    shape: list[int] = []
    at: list[int | None] = []  # which operand says where it starts
    name = "AliasBackward0"
    for what in plan:
        if what == _NEW:
            shape.append(1)
            name = "UnsqueezeBackward0"
            continue
        if what == _WHOLE:
            at.append(None)
            sizes.append(x.shape[len(sizes)])
            steps.append(1)
            counts.append(sizes[-1])
            shape.append(sizes[-1])
            continue
        at.append(sum(a is not None for a in at))
        length, step = what if isinstance(what, tuple) else (1 if what == _SELECT else what, 1)
        sizes.append((length - 1) * step + 1 if length else 0)
        steps.append(step)
        counts.append(length)
        if what == _SELECT:
            name = "SelectBackward0"
        else:
            shape.append(length)
            name = "SliceBackward0"
    for size in x.shape[len(sizes) :]:
        at.append(None)
        sizes.append(size)
        steps.append(1)
        counts.append(size)
        shape.append(size)
    device = x.device if all(isinstance(s, Number) for s in starts) else None

    dense = all(step == 1 for step in steps)

    def begins(a: Any, given: tuple[Any, ...]) -> list[Any]:
        begin = [0 if i is None else given[i] for i in at]
        if all(type(b) is int for b in begin):
            return begin
        begin = [jnp.asarray(b).astype(np.int32) for b in begin]
        return [jnp.where(b < 0, b + n, b) if i is not None and isinstance(starts[i], Aval) else b
                for i, b, n in zip(at, begin, a.shape)]  # fmt: skip

    def fn(a: Any, *given: Any) -> Any:
        begin = begins(a, given)
        if all(type(b) is int for b in begin):
            part = lax.slice(a, begin, [b + n for b, n in zip(begin, sizes)], steps)
        else:
            part = lax.dynamic_slice(a, begin, sizes, allow_negative_indices=False)
            if not dense:
                part = lax.slice(part, [0] * a.ndim, sizes, steps)
        return part.reshape(shape)

    def put(a: Any, new: Any, *given: Any) -> Any:
        if 0 in shape:
            return a
        begin, new = begins(a, given), new.reshape(counts)
        if not dense and all(type(b) is int for b in begin):
            return a.at[tuple(slice(b, b + n, step) for b, n, step in zip(begin, sizes, steps))].set(new)
        if not dense:
            part = lax.dynamic_slice(a, begin, sizes, allow_negative_indices=False)
            new = part.at[tuple(slice(None, None, step) for step in steps)].set(new)
        return lax.dynamic_update_slice(a, new, begin, allow_negative_indices=False)

    def lay(strides: tuple[int, ...], offset: int | None, *given: int | None) -> Layout:
        found = []
        d = 0
        for what in plan:
            if what == _NEW:
                found.append(x.shape[d] * strides[d] if d < x.ndim else 1)
                continue
            if what != _WHOLE:
                start = given[at[d]]  # type: ignore[index]
                start = start + x.shape[d] if start is not None and start < 0 else start
                offset = None if offset is None or start is None else offset + start * strides[d]
            if what != _SELECT:
                found.append(strides[d] * (steps[d] if what != _WHOLE else 1))
            d += 1
        return (*found, *strides[d:]), offset

    checks: tuple[Check, ...] = ()
    for d, i in enumerate(at):
        if i is not None and isinstance(starts[i], Aval):
            checks += bounds(i + 1, x.shape[d], d, IndexError, negative=True)
    lowering = view_of(fn, name, put, lay)
    return replace(lowering, device=device, checks=checks)


@op()
def select(input: Tensor, dim: int, index: int) -> Tensor:
    """Return a view of the slice number ``index`` along ``dim``, without that dim."""
    shape = input._value.spec.aval.shape
    if not shape:
        raise IndexError("select() cannot be applied to a 0-dim tensor.")
    d = rules.dim(dim, len(shape))
    index = int(index)
    if not -shape[d] <= index < shape[d]:
        raise IndexError(f"select(): index {index} out of range for tensor of size {list(shape)} at dimension {dim}")
    return _basic(input, (_WHOLE,) * d + _FIRST, (index + shape[d] if index < 0 else index,), d > 0)


@op()
def narrow(input: Tensor, dim: int, start: int, length: int) -> Tensor:
    """Return a view of ``length`` slices along ``dim``, from number ``start`` on."""
    shape = input._value.spec.aval.shape
    if not shape:
        raise RuntimeError("narrow() cannot be applied to a 0-dim tensor.")
    d = rules.dim(dim, len(shape))
    start, size = int(start), shape[d]
    if length < 0:
        raise RuntimeError("narrow(): length must be non-negative.")
    if not -size <= start <= size:
        raise IndexError(f"start out of range (expected to be in range of [{-size}, {size}], but got {start})")
    start = start + size if start < 0 else start
    if start + length > size:
        raise RuntimeError(f"start ({start}) + length ({length}) exceeds dimension size ({size}).")
    return _basic(input, (_WHOLE,) * d + (length,), (start,), d > 0)


# -- any index -----------------------------------------------------------------------------------------------


def as_tuple(index: Any) -> tuple[Any, ...]:
    """Return an index that is no tuple as one; a list of slices, sequences or tensors means a tuple too."""
    if isinstance(index, tuple):
        return tuple(index)
    if isinstance(index, list) and len(index) < 32:
        for x in index:
            if x is None or x is Ellipsis or isinstance(x, (slice, list, tuple, Handle)):
                return tuple(index)
    return (index,)


def resolve(input: Tensor, items: tuple[Any, ...], masks: bool = False) -> Any:
    """Return ``(plan, starts, gathered, strided)`` of an index.

    ``plan`` and ``starts`` are the part that makes a view, see `take`; ``gathered`` has the index tensors of dims of
    that view. A mask is read, and becomes its positions; with ``masks``, one that is the only index tensor stays one.
    """
    shape = input._value.spec.aval.shape
    used = _dims_used(items)
    if used > len(shape):
        if not shape and len(items) == 1 and isinstance(items[0], (int, np.integer)):
            raise _no_dims(int(items[0]))
        raise IndexError(f"too many indices for tensor of dimension {len(shape)}")
    plan: list[Any] = []
    starts: list[Any] = []
    gathered: dict[int, Any] = {}  # dim of what the plan leaves -> index
    at = 0  # dim of the input
    out = 0  # dim of what the plan leaves
    strided = False
    seen = False
    for item in items:
        kind = type(item)
        if kind is slice:
            size = shape[at]
            start, stop, step = item.indices(size)
            length = _length(start, stop, step)
            if step == 1 and length == size:
                plan.append(_WHOLE)
            else:
                plan.append(length if step == 1 else (length, step))
                starts.append(start)
                strided |= step != 1 or at > 0
            at += 1
            out += 1
        elif kind is int or isinstance(item, np.integer):
            size, i = shape[at], int(item)
            if not -size <= i < size:
                raise IndexError(f"index {i} is out of bounds for dimension {at} with size {size}")
            plan.append(_SELECT)
            starts.append(i + size if i < 0 else i)
            strided |= at > 0
            at += 1
        elif item is None:
            plan.append(_NEW)
            out += 1
        elif item is Ellipsis:
            skip = 0 if seen else len(shape) - used
            seen = True
            plan.extend([_WHOLE] * skip)
            at += skip
            out += skip
        elif kind is bool or kind is np.bool_:
            plan.append(_NEW)
            gathered[out] = from_host(np.zeros(1 if item else 0, np.int64))
            out += 1
        else:
            index = _tensor_index(item)
            of = index._value.spec.aval
            if of.dtype is _dtype.bool_ or of.dtype is _dtype.uint8:
                for k, size in enumerate(of.shape):
                    if size != shape[at + k]:
                        raise IndexError(f"The shape of the mask {list(of.shape)} at index {k} does not match the "
                                         f"shape of the indexed tensor {list(shape)} at index {at + k}")
                if masks and of.shape and sum(map(_is_index_tensor, items)) == 1:
                    gathered[out] = index if of.dtype is _dtype.bool_ else index != 0
                    plan.extend([_WHOLE] * index.ndim)
                    at += index.ndim
                    out += index.ndim
                    continue
                mask = np.asarray(force(index._value)) != 0
                if mask.ndim == 0:
                    plan.append(_NEW)
                    gathered[out] = from_host(np.zeros(int(mask), np.int64))
                    out += 1
                    continue
                for positions in mask.nonzero():
                    gathered[out] = from_host(positions)
                    plan.append(_WHOLE)
                    at += 1
                    out += 1
            elif of.dtype not in (_dtype.int64, _dtype.int32):
                raise IndexError("tensors used as indices must be long, int, byte or bool tensors")
            else:
                if not of.shape:
                    if not shape[at]:  # whatever it is, there is nothing
                        raise IndexError(BOUNDS.format(i=int(force(index._value)), d=at, n=0))
                    for array in host_elements((index,)).values():
                        if not -shape[at] <= array < shape[at]:
                            raise IndexError(BOUNDS.format(i=array, d=at, n=shape[at]))
                    plan.append(_SELECT)
                    starts.append(tensor_of(index._value))  # the view stays where it is when ``index`` is written to
                else:
                    gathered[out] = index
                    plan.append(_WHOLE)
                    out += 1
                at += 1
    while plan and plan[-1] == _WHOLE:
        plan.pop()
    if not gathered and not plan and items and type(items[-1]) is slice:
        plan.append(shape[at - 1] if at == 1 else _WHOLE)
        starts.extend([0] * (at == 1))
    return tuple(plan), tuple(starts), gathered, strided


def _is_index_tensor(item: Any) -> bool:
    if isinstance(item, Handle) and not item.ndim:
        return item.dtype is _dtype.bool_ or item.dtype is _dtype.uint8
    plain = item is None or item is Ellipsis or isinstance(item, (slice, int, np.integer))
    return isinstance(item, (bool, np.bool_)) or not plain


def _dims_used(items: tuple[Any, ...]) -> int:
    used = 0
    for item in items:
        if type(item) is slice or type(item) is int:
            used += 1
            continue
        if item is None or item is Ellipsis or isinstance(item, (bool, np.bool_)):
            continue
        is_mask = getattr(item, "dtype", None) in (_dtype.bool_, _dtype.uint8, np.dtype(np.bool_), np.dtype(np.uint8))
        used += item.ndim if is_mask else 1
        if isinstance(item, list):
            used += _depth(item) - 1
    return used


def _depth(item: Any) -> int:
    """Return how many dims a list takes: as many as it is deep where it is a mask."""
    depth, first = 0, item
    while isinstance(first, list) and first:
        depth, first = depth + 1, first[0]
    return max(depth, 1) if isinstance(first, (bool, np.bool_)) else 1


def _tensor_index(item: Any) -> Tensor:
    if isinstance(item, Handle):
        if item.dtype is _dtype.uint8:
            warnings.warn("indexing with dtype torch.uint8 is now deprecated, please use a dtype torch.bool instead.",
                          stacklevel=4)  # fmt: skip
        return item  # type: ignore[return-value]
    if isinstance(item, (float, complex)):
        raise IndexError("only integers, slices (`:`), ellipsis (`...`), None and long or byte Variables are valid "
                         f"indices (got {type(item).__name__})")
    if isinstance(item, (list, tuple, range)) and len(item) == 0:
        return from_host(np.zeros(0, np.int64))
    return tensor(item)


def host_elements(indices: Iterable[Tensor]) -> dict[int, Any]:
    """Return the elements of those index tensors that are still host data, by number. Recording may move them."""
    return {n: i._value.array for n, i in enumerate(indices) if type(i._value.array) is np.ndarray}


def check_host(elements: dict[int, Any], sizes: Sequence[int]) -> None:
    """Raise where an element is out of bounds; ``sizes`` are those of the dims that the index tensors stand for."""
    for n, array in elements.items():
        wrong = array[(array < -sizes[n]) | (array >= sizes[n])]
        if wrong.size:
            raise IndexError(BOUNDS.format(i=wrong.flat[0], d=n, n=sizes[n]))


def check_empty(x: Aval, at: Sequence[int], spread: tuple[int, ...]) -> None:
    """Raise where a dim without elements is indexed."""
    if 0 not in spread and any(x.shape[d] == 0 for d in at):
        raise IndexError("index is out of bounds for dimension with size 0")


def _gather(x: Aval, *rest: Any) -> Lowering:
    *indices, at = rest
    if x.ndim < len(at) or x.ndim == 0:
        raise IndexError(f"too many indices for tensor of dimension {x.ndim}")
    try:
        spread = np.broadcast_shapes(*[i.shape for i in indices])
    except ValueError:
        raise IndexError("shape mismatch: indexing tensors could not be broadcast together with shapes "
                         + ", ".join(str(list(i.shape)) for i in indices)) from None
    check_empty(x, at, spread)

    def fn(a: Any, *given: Any) -> Any:
        where: list[Any] = [slice(None)] * (at[-1] + 1)
        for d, i in zip(at, given):
            where[d] = i
        return a.at[tuple(where)].get(mode="fill")

    empty = 0 in spread or any(n == 0 for d, n in enumerate(x.shape) if d not in at)  # then nothing is looked up
    checks = tuple(check for n, d in enumerate(at) if not empty
                   for check in bounds(n + 1, x.shape[d], n, IndexError, negative=True))  # fmt: skip
    return Lowering(fn, name="IndexBackward0", device=x.device, checks=checks)


# -- by mask -------------------------------------------------------------------------------------------------


@op()
def nonzero(input: Tensor, *, as_tuple: bool = False, out: Any = None) -> Any:
    """Return the indices of the elements that are not zero: one row each, or one tensor per dim where ``as_tuple``.

    How many there are depends on the elements, so they are read when this is called.
    """
    if out is not None:
        return into(out, nonzero, input, as_tuple=as_tuple)
    array = np.asarray(force(input._value))
    found = np.atleast_1d(array).nonzero()
    if as_tuple:
        return tuple(from_host(i, input.device) for i in found)
    rows = np.stack(found, 1) if array.ndim else np.zeros((found[0].size, 0), np.int64)
    return from_host(rows, input.device)


@op()
def argwhere(input: Tensor) -> Tensor:
    """Return the indices of the elements that are not zero, one row each."""
    made: Tensor = nonzero(input)
    return made


@op()
def masked_select(input: Tensor, mask: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return the elements of ``input`` where ``mask``, broadcast with it, is true, in one dimension."""
    if out is not None:
        return into(out, masked_select, input, mask)
    if mask.dtype is not _dtype.bool_:
        raise RuntimeError("masked_select: expected BoolTensor for mask")
    shape = rules.broadcast(mask._value.spec.aval, input._value.spec.aval)
    positions = np.broadcast_to(np.asarray(force(mask._value)), shape).ravel().nonzero()[0]
    made: Tensor = record(_masked_select, (shape,), input, from_host(positions, input.device))
    return made


def _masked_select(x: Aval, positions: Aval, shape: tuple[int, ...]) -> Lowering:
    return Lowering(lambda a, i: jnp.broadcast_to(a, shape).reshape(-1)[i], name="MaskedSelectBackward0")
