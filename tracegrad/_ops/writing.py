"""Writing by index, as ``x[...] = y`` does: each form is a pure op that returns the new tensor, and a `write`.

An index is resolved as for reading. What only slices is one recorded op, with the starts as numbers; a mask with a
value that broadcasts is a ``where``, so nothing is read; other masks become positions, as reading by them does.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from tracegrad import _dtype
from tracegrad._dtype import DType
from tracegrad._engine.op import Lowering
from tracegrad._engine.trace import force, record
from tracegrad._engine.value import Aval, Number
from tracegrad._handle import NO_GRAD, Handle, check_inplace, write
from tracegrad._ops import _rules as rules
from tracegrad._ops._checks import bounds
from tracegrad._ops._declare import cast_rule, op
from tracegrad._ops.creation import from_host
from tracegrad._ops.indexing import as_tuple, check_empty, check_host, host_elements, resolve, take
from tracegrad._ops.shape import expanded
from tracegrad._rewriting import put_rule

if TYPE_CHECKING:
    from tracegrad._tensor import Tensor


def setitem(self: Tensor, index: Any, value: Any) -> None:
    """Set the elements ``self[index]`` to ``value``, a number or a tensor that is broadcast and converted.

    Raises:
        IndexError: where an index is out of bounds or there are too many.
        RuntimeError: where ``value`` does not fit, or ``self`` is a leaf that wants gradients.
        TypeError: where ``value`` is neither a number nor a tensor.
    """
    _check_value(value, self.dtype)
    if type(index) is bool:
        if not index:
            return
        index = None
    plan, starts, gathered, _ = resolve(self, index if type(index) is tuple else as_tuple(index), masks=True)
    if gathered:
        _check_leaf(self, bool(plan))
        write(self, _put_gathered(self, plan, starts, gathered, value))
        return
    if isinstance(value, Handle) and _is_that_part(value, self, plan, starts):
        _check_leaf(self, True)
        storage = self._storage  # ``x[i] += y``: the elements were written already
        assert storage is not None
        storage.count()
        return
    result = record(_assign, (plan,), self, *starts, value)
    _check_leaf(self, index is not ...)
    write(self, result)


def _check_leaf(x: Tensor, through_view: bool) -> None:
    """Do as `check_inplace`; PyTorch writes to ``x`` or to a view of it, and says so."""
    try:
        check_inplace(x)
    except RuntimeError as error:
        words = str(error)
        raise RuntimeError("a view of " + words if through_view and words.startswith("a leaf") else words) from None


def _check_value(value: Any, dtype: DType) -> None:
    """Raise in PyTorch's words where ``value`` is no number or tensor, or a number that ``dtype`` cannot hold."""
    if isinstance(value, Handle):
        return
    if not isinstance(value, (bool, int, float, complex)):
        raise TypeError(f"can't assign a {_type_of(value)} to a torch.{_dtype.type_name(dtype)}Tensor")
    check_number(value, dtype)


def _type_of(value: Any) -> str:
    kind = type(value)
    return kind.__name__ if kind.__module__ in ("builtins", "__main__") else f"{kind.__module__}.{kind.__name__}"


_WORDS = {"float32": "float", "float64": "double", "float16": "at::Half", "bfloat16": "c10::BFloat16", "int32": "int"}


def check_number(value: Any, dtype: DType) -> None:
    """Raise in PyTorch's words where ``dtype`` cannot hold the number ``value``."""
    if isinstance(value, complex):
        fits = dtype.is_complex or value.imag == 0
    elif dtype.is_inexact or dtype is _dtype.bool_:
        fits = True
    else:
        limits = np.iinfo(dtype.np)
        least = int(limits.min) if limits.min else -int(limits.max)  # PyTorch lets unsigned numbers wrap around
        fits = math.isfinite(value) and least <= value <= int(limits.max)
    if not fits:
        word = _WORDS.get(dtype.name, f"{dtype.name}_t")
        raise RuntimeError(f"value cannot be converted to type {word} without overflow")


def _is_that_part(value: Any, x: Tensor, plan: tuple[Any, ...], starts: tuple[Any, ...]) -> bool:
    """Whether ``value`` is the view ``x[index]`` itself."""
    return (value._storage is not None and value._storage is x._storage and len(value._steps) == len(x._steps) + 1
            and all(type(s) is int for s in starts) and value._steps[-1] == (take, (plan,), starts, False)
            and all(a is b for a, b in zip(value._steps, x._steps)) and value._made == x._made != NO_GRAD)  # fmt: skip


def _assign(x: Aval, *rest: Any) -> Lowering:
    *starts, value, plan = rest
    lowering = take(x, *starts, plan)
    assert lowering.view is not None
    put = lowering.view.put
    to = _taken(x, plan)
    cast = _cast(value, x.dtype)
    given: tuple[int, ...] = ()
    if isinstance(value, Aval):
        given = value.shape
        while given and given[0] == 1:
            given = given[1:]
        expanded(_Shaped(given, value.dtype), to)

    def fn(a: Any, *operands: Any) -> Any:
        *numbers, v = operands
        return put(a, jnp.broadcast_to(cast(v).reshape(given), to), *numbers)

    return Lowering(fn, name="CopySlices", saves=False, device=x.device, checks=lowering.checks)


def _taken(x: Aval, plan: tuple[Any, ...]) -> tuple[int, ...]:
    """Return the shape of what `take` makes by ``plan``."""
    shape, d = [], 0
    for what in plan:
        if what == -2:
            shape.append(1)
            continue
        if what != -1:
            shape.append(x.shape[d] if what == -3 else what[0] if isinstance(what, tuple) else what)
        d += 1
    return (*shape, *x.shape[d:])


class _Shaped(Aval):
    __slots__ = ()

    def __init__(self, shape: tuple[int, ...], dtype: DType):
        self.shape, self.dtype = shape, dtype


def _cast(value: rules.Operand, dtype: DType) -> Any:
    """Return the function that converts ``value`` to ``dtype`` as ``copy_`` does."""
    if isinstance(value, Number):
        return lambda v: _held(v, dtype)
    if value.dtype.is_complex and not dtype.is_complex:
        return lambda v: jnp.real(v).astype(dtype.np)
    return cast_rule(value, dtype).fn


def _held(v: Any, dtype: DType) -> Any:
    if type(v) is complex and not dtype.is_complex:
        v = v.real
    if type(v) is int and v < 0 and dtype.np.kind == "u":
        v += 1 << 8 * dtype.itemsize
    return rules.cast(v, dtype)


# -- index tensors -------------------------------------------------------------------------------------------


def _put_gathered(x: Tensor, plan: tuple[Any, ...], starts: tuple[Any, ...], gathered: dict[int, Any],
                  value: Any) -> Tensor:  # fmt: skip
    """Return ``x`` with the elements at index tensors of a view of it replaced."""
    source = record(take, (plan,), x, *starts) if plan else x
    new: Tensor = _put_mask(source, gathered, value)
    if new is None:
        new = _put(source, gathered, value, False, True)
    if plan:
        new = record(put_rule, (take, (plan,)), x, new, *starts)
    return new


def _put_mask(x: Tensor, gathered: dict[int, Any], value: Any) -> Any:
    """Return ``x`` with elements replaced by a mask; None where there is none.

    Where ``value`` has a number of elements along the masked dims, the mask becomes positions in ``gathered``.
    """
    ((d, mask), *more) = gathered.items()
    if more or mask.dtype is not _dtype.bool_:
        return None
    shape = x._value.spec.aval.shape
    count = len(shape) - mask.ndim + 1  # dims of what the mask selects
    given = value._value.spec.aval.shape if isinstance(value, Handle) else ()
    lead = count - len(given)
    spread = (1,) * lead + given
    found = (*shape[:d], 1, *shape[d + mask.ndim :])
    if lead >= 0 and all(n in (1, m) for n, m in zip(spread, found)):
        return record(_where_mask, (d, spread[:d] + (1,) * mask.ndim + spread[d + 1 :]), x, mask, value)
    del gathered[d]
    for i, positions in enumerate(np.asarray(force(mask._value)).nonzero()):
        gathered[d + i] = from_host(positions, x.device)
    return None


def _where_mask(x: Aval, mask: Aval, value: rules.Operand, d: int, spread: tuple[int, ...]) -> Lowering:
    cast = _cast(value, x.dtype)
    shape = mask.shape + (1,) * (x.ndim - d - mask.ndim)

    def fn(a: Any, m: Any, v: Any) -> Any:
        return jnp.where(m.reshape(shape), cast(v).reshape(spread if isinstance(value, Aval) else ()), a)

    return Lowering(fn, name="IndexPutBackward0", device=x.device)


def _put(source: Tensor, gathered: dict[int, Any], value: Any, accumulate: bool, strips: bool) -> Tensor:
    on_host, shape = host_elements(gathered.values()), source._value.spec.aval.shape
    new: Tensor = record(_index_put, (tuple(gathered), accumulate, strips), source, value, *gathered.values())
    if on_host and 0 not in shape and all(i._value.spec.aval.numel for i in gathered.values()):
        check_host(on_host, [shape[d] for d in gathered])
    return new


def _index_put(x: Aval, value: rules.Operand, *rest: Any) -> Lowering:
    """The rule of writing at index tensors; ``at``: their dims; ``strips``: a value may have leading dims of size 1."""
    *indices, at, accumulate, strips = rest
    try:
        spread = np.broadcast_shapes(*[i.shape for i in indices])
    except ValueError:
        raise IndexError("shape mismatch: indexing tensors could not be broadcast together with shapes "
                         + ", ".join(str(list(i.shape)) for i in indices)) from None
    check_empty(x, at, spread)
    together = at[-1] - at[0] == len(at) - 1
    rest_of = [n for d, n in enumerate(x.shape) if d not in at]
    place = at[0] if together else 0
    to = (*rest_of[:place], *spread, *rest_of[place:])
    given = value.shape if isinstance(value, Aval) else ()
    while strips and given and given[0] == 1:
        given = given[1:]
    if len(given) > len(to) or any(n not in (1, m) for n, m in zip(given[::-1], to[::-1])):
        raise RuntimeError(f"shape mismatch: value tensor of shape {list(given)} cannot be broadcast to indexing "
                           f"result of shape {list(to)}")
    if isinstance(value, Aval) and value.dtype is not x.dtype:
        raise RuntimeError("Index put requires the source and destination dtypes match, got "
                           f"{_dtype.type_name(x.dtype)} for the destination and {_dtype.type_name(value.dtype)} for "
                           "the source.")
    cast = _cast(value, x.dtype)

    def where(arrays: Any) -> Any:
        found: list[Any] = [slice(None)] * (at[-1] + 1)
        for d, i in zip(at, arrays):
            found[d] = i
        return tuple(found)

    def values(v: Any) -> Any:
        return jnp.broadcast_to(cast(v).reshape(given), to)

    def fn(a: Any, v: Any, *arrays: Any) -> Any:
        if accumulate:
            if a.dtype == np.bool_:
                return a.at[where(arrays)].max(values(v), mode="drop")
            return a.at[where(arrays)].add(values(v), mode="drop")
        return a.at[where(arrays)].set(values(v), mode="drop")

    def forward(a: Any, v: Any, *arrays: Any) -> Any:
        return fn(a, v, *arrays), arrays

    def backward(arrays: Any, ct: Any) -> Any:
        taken = ct.at[where(arrays)].get(mode="fill", fill_value=0)
        if isinstance(value, Aval):
            extra = len(to) - len(given)
            taken = taken.sum(tuple(range(extra)))
            taken = taken.sum(tuple(d for d, n in enumerate(given) if n == 1), keepdims=True)
            taken = taken.reshape(value.shape)
        base = ct if accumulate else ct.at[where(arrays)].set(0, mode="drop")
        return (base, taken, *[None] * len(arrays))

    checks = tuple(check for n, d in enumerate(at) if 0 not in to  # else nothing is written
                   for check in bounds(n + 2, x.shape[d], n, IndexError, negative=True))  # fmt: skip
    return Lowering(fn, forward, backward, "IndexPutBackward0", device=x.device, checks=checks)


@op(inplace=True)
def index_put(input: Tensor, indices: Any, values: Tensor, accumulate: bool = False) -> Tensor:
    """Return ``input`` with the elements at ``indices``, a tuple of index tensors, replaced by ``values``.

    Where ``accumulate``, the values are added to the elements instead, as often as an index occurs.

    See https://docs.pytorch.org/docs/stable/generated/torch.Tensor.index_put_.html

    Example:
        >>> import tracegrad as torch
        >>> torch.zeros(3).index_put((torch.tensor([0, 0]),), torch.tensor(1.0), accumulate=True)
        tensor([2., 0., 0.])
    """
    items = tuple(slice(None) if i is None else i for i in indices)
    plan, _, gathered, _ = resolve(input, items)
    if not gathered:
        made: Tensor = record(_assign, (plan,), input, values)
        return made
    source = record(take, (plan,), input) if plan else input
    new = _put(source, gathered, values, bool(accumulate), False)
    if plan:
        new = record(put_rule, (take, (plan,)), input, new)
    return new


# -- by mask -------------------------------------------------------------------------------------------------


@op(inplace=True)
def masked_scatter(input: Tensor, mask: Tensor, source: Tensor) -> Tensor:
    """Return ``input`` with the elements where ``mask`` is true replaced by those of ``source``, in order.

    Raises:
        RuntimeError: where ``source`` has fewer elements than ``mask`` has that are true; ``mask`` is read for that
            only where ``source`` has fewer elements than ``mask``.
    """
    if mask.dtype is not _dtype.bool_:
        raise RuntimeError(f"masked_scatter_ only supports boolean masks, but got mask with dtype "
                           f"{_dtype.type_name(mask.dtype)}")
    if source.dtype is not input.dtype:
        raise RuntimeError("masked_scatter: expected self and source to have same dtypes but got"
                           f"{_dtype.type_name(input.dtype)} and {_dtype.type_name(source.dtype)}")
    shape = rules.broadcast(mask._value.spec.aval, input._value.spec.aval)
    if source.numel() < math.prod(shape):
        count = int(np.count_nonzero(np.broadcast_to(np.asarray(force(mask._value)), shape)))
        if source.numel() < count:
            raise RuntimeError("Number of elements of source < number of ones in mask")
    made: Tensor = record(_masked_scatter, (shape,), input, mask, source)
    return made


def _masked_scatter(x: Aval, mask: Aval, source: Aval, shape: tuple[int, ...]) -> Lowering:
    def fn(a: Any, m: Any, s: Any) -> Any:
        if not s.size:
            return jnp.broadcast_to(a, shape)
        m = jnp.broadcast_to(m, shape)
        nth = jnp.maximum(jnp.cumsum(m.reshape(-1)) - 1, 0).reshape(shape)
        return jnp.where(m, s.reshape(-1)[jnp.minimum(nth, s.size - 1)], a)

    return Lowering(fn, name="MaskedScatterBackward0")


def deny_deletion(self: Tensor, index: Any) -> None:
    """Raise: elements of a tensor cannot be deleted."""
    raise TypeError("Tensor does not support deleting items")
