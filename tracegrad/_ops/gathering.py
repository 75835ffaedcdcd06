"""Elements picked and placed by tensors of indices: gather, scatter and their kin."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from tracegrad import _dtype
from tracegrad._dtype import type_name
from tracegrad._engine.op import Lowering
from tracegrad._engine.trace import record
from tracegrad._engine.value import Aval, Number
from tracegrad._ops import _rules as rules
from tracegrad._ops._checks import bounds, indices
from tracegrad._ops._declare import op
from tracegrad._ops._out import into

if TYPE_CHECKING:
    from tracegrad._tensor import Tensor

_INDEX = (_dtype.int64, _dtype.int32)


def _check_host(index: Any, input: Any, dim: int, error: type[Exception], text: str, negative: bool = False) -> None:
    """Raise where an index tensor that is still host data has an element out of bounds.

    Elements that are on the device already are not looked at.
    """
    try:
        array, shape = index._value.array, input._value.spec.aval.shape
    except AttributeError:
        return
    if type(array) is np.ndarray and array.size and array.dtype.kind == "i" and -len(shape) <= dim < len(shape):
        size = shape[dim]
        wrong = array[(array < (-size if negative else 0)) | (array >= size)]
        if wrong.size:
            raise error(text.format(i=wrong.flat[0], d=dim % len(shape), n=size))


def added(at: Any, values: Any) -> Any:
    """Add ``values`` to the elements ``at``, which are ``a.at[index]``; the sum of bools is whether one is true."""
    return at.max(values) if values.dtype == jnp.bool_ else at.add(values)


def multiplied(at: Any, values: Any) -> Any:
    """Multiply the elements ``at``, which are ``a.at[index]``, by ``values``."""
    return at.min(values) if values.dtype == jnp.bool_ else at.multiply(values)


_BOUNDS = "index {i} is out of bounds for dimension {d} with size {n}"


@op()
def gather(input: Tensor, dim: int, index: Tensor, *, sparse_grad: bool = False, out: Tensor | None = None) -> Tensor:
    """Return, for each position of ``index``, the element of ``input`` there, but at that index along ``dim``."""
    if out is not None:
        return into(out, gather, input, dim, index, sparse_grad=sparse_grad)
    _check_host(index, input, dim, RuntimeError, _BOUNDS)
    made: Tensor = record(_gather, (dim,), input, index)
    return made


def _gather(x: Aval, index: Aval, d: int) -> Lowering:
    axis = rules.dim(d, x.ndim)
    if index.dtype not in _INDEX and index.numel:
        raise RuntimeError("gather(): Expected dtype int32/int64 for index")
    if index.numel and max(index.ndim, 1) != max(x.ndim, 1):
        raise RuntimeError("Index tensor must have the same number of dimensions as input tensor")
    for k, (a, b) in enumerate(zip(index.shape, x.shape)):
        if k != axis and a > b:
            raise RuntimeError(f"Size does not match at dimension {k} expected index {list(index.shape)} to be no "
                               "larger "
                               f"than self {list(x.shape)} apart from dimension {axis}")

    def fn(a: Any, i: Any) -> Any:
        if not i.size:
            return jnp.zeros(i.shape, a.dtype)
        if a.ndim == 0 or i.ndim == 0:
            return jnp.broadcast_to(a.reshape(-1)[i.reshape(-1)].reshape(i.shape), i.shape)
        part = a[tuple(slice(None) if k == axis else slice(n) for k, n in enumerate(i.shape))]
        return jnp.take_along_axis(part, i, axis, mode="fill")

    checks = bounds(1, x.shape[axis] if x.ndim else 1, axis, RuntimeError)
    return Lowering(fn, name="GatherBackward0", checks=checks)


@op()
def take_along_dim(input: Tensor, indices: Tensor, dim: int | None = None, *, out: Tensor | None = None,
                   **numpy: Any) -> Tensor:  # fmt: skip
    """Return the elements of ``input`` at ``indices`` along ``dim``, the other dims broadcast.

    Where ``dim`` is None, both are taken as flat.
    """
    if out is not None or numpy:
        return into(out, take_along_dim, input, indices, dim, **numpy)
    made: Tensor = record(_take_along_dim, (dim,), input, indices)
    return made


def _take_along_dim(x: Aval, index: Aval, d: int | None) -> Lowering:
    if index.dtype is not _dtype.int64:
        raise RuntimeError(f"torch.take_along_dim(): dtype of indices should be Long but got {type_name(index.dtype)}")
    if d is None:
        return Lowering(lambda a, i: a.reshape(-1)[i.reshape(-1)], name="GatherBackward0",
                        checks=bounds(1, x.numel, 0, RuntimeError))  # fmt: skip
    if index.ndim != x.ndim:
        raise RuntimeError("torch.take_along_dim(): input and indices should have the same number of dimensions, but "
                           "got "
                           f"{x.ndim} dimensions for input, and {index.ndim} dimensions for indices")
    axis = rules.dim(d, x.ndim)
    # PyTorch wraps every index into the size, so none is out of bounds.
    return Lowering(lambda a, i: jnp.take_along_axis(a, i % max(a.shape[axis], 1), axis), name="GatherBackward0")


@op()
def take(input: Tensor, index: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return the elements of ``input``, as if it were flat, at ``index``, in the shape of ``index``."""
    if out is not None:
        return into(out, take, input, index)
    array, count = index._value.array, input._value.spec.aval.numel
    if type(array) is np.ndarray and array.dtype.kind == "i" and count:
        for i in array[(array < -count) | (array >= count)].flat:
            raise IndexError(f"out of range: tried to access index {i} on a tensor of {count} elements.")
    made: Tensor = record(_take, (), input, index)
    return made


def _take(x: Aval, index: Aval) -> Lowering:
    if index.dtype is not _dtype.int64:
        raise RuntimeError(f"take(): Expected a long tensor for index, but got {type_name(index.dtype)}")
    if not x.numel and index.numel:
        raise IndexError("take(): tried to take from an empty tensor")

    def error(i: int) -> Exception:
        return IndexError(f"out of range: tried to access index {i} on a tensor of {x.numel} elements.")

    return Lowering(lambda a, i: a.reshape(-1).at[i].get(mode="fill"), name="TakeBackward0",
                    checks=(indices(1, x.numel, error, negative=True),))  # fmt: skip


@op()
def index_select(input: Tensor, dim: int, index: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return the slices of ``input`` along ``dim`` whose numbers are in the vector ``index``."""
    if out is not None:
        return into(out, index_select, input, dim, index)
    _check_host(index, input, dim, IndexError, "index out of range in self")
    made: Tensor = record(_index_select, (dim,), input, index)
    return made


def _index_select(x: Aval, index: Aval, d: int) -> Lowering:
    axis = rules.dim(d, x.ndim)
    if index.ndim > 1:
        raise IndexError("index_select(): Index is supposed to be a vector")
    if index.dtype not in _INDEX:
        raise RuntimeError("index_select(): Expected dtype int32 or int64 for index")

    def fn(a: Any, i: Any) -> Any:
        return jnp.take(a, i.reshape(-1), axis, mode="fill") if a.ndim else a

    size = x.shape[axis] if x.ndim else 1
    return Lowering(fn, name="IndexSelectBackward0", checks=(indices(1, size, lambda i: _no_slice(x, i, size)),))


def _no_slice(x: Aval, i: int, size: int) -> Exception:
    """Return the error of ``index_select``: PyTorch checks vectors and other tensors in two places."""
    if x.ndim < 2:
        return IndexError("index out of range in self")
    return RuntimeError(f"INDICES element is out of DATA bounds, id={i} axis_dim={size}")


# -- writing, out of place -----------------------------------------------------------------------------------


@op(inplace=True)
def masked_fill(input: Tensor, mask: Tensor, value: Any) -> Tensor:
    """Return ``input`` with ``value``, a number or 0-dim tensor, where ``mask``, broadcast with it, is true."""
    made: Tensor = record(_masked_fill, (), input, mask, value)
    return made


def _masked_fill(x: Aval, mask: Aval, value: Any) -> Lowering:
    if mask.dtype is not _dtype.bool_:
        raise RuntimeError("masked_fill_ only supports boolean masks, but got mask with dtype "
                           f"{_c_name(mask.dtype)}")
    _check_value("masked_fill_", x, value)
    rules.broadcast(mask, x)
    number = 0 if isinstance(value, Number) else 1

    def fn(a: Any, m: Any, v: Any) -> Any:
        return jnp.where(m, jnp.asarray(v).astype(x.dtype.np), a)

    return Lowering(fn, name=f"MaskedFillBackward{number}")


def _check_value(name: str, x: Aval, value: Any) -> None:
    if isinstance(value, Aval) and value.ndim:
        raise RuntimeError(f"{name} only supports a 0-dimensional value tensor, but got tensor with {value.ndim} "
                           "dimension(s).")
    is_complex = value.dtype.is_complex if isinstance(value, Aval) else value.kind is complex
    if is_complex and not x.dtype.is_complex:
        raise RuntimeError(f"value cannot be converted to type {_c_name(x.dtype)} without overflow")


def _c_name(dtype: Any) -> str:
    names = {"float32": "float", "float64": "double", "int64": "long int", "int32": "int"}
    return names.get(dtype.name, str(dtype.name))


@op(inplace=True)
def scatter(input: Tensor, dim: int, index: Tensor, src: Any = None, *, value: Any = None,
            reduce: str | None = None, out: Tensor | None = None) -> Tensor:  # fmt: skip
    """Return ``input`` with elements of ``src``, a tensor or a number, where ``index`` says along ``dim``.

    Where two go to one place, which one stays is not defined. ``reduce`` is ``"add"`` or ``"multiply"``.
    """
    if out is not None:
        return into(out, scatter, input, dim, index, src, value=value, reduce=reduce)
    _check_host(index, input, dim, RuntimeError, _BOUNDS)
    made: Tensor = record(_scatter, (dim, reduce), input, index, value if src is None else src)
    return made


@op(inplace=True)
def scatter_add(input: Tensor, dim: int, index: Tensor, src: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return ``input`` with elements of ``src`` added at the places that ``index`` gives along ``dim``."""
    if out is not None:
        return into(out, scatter_add, input, dim, index, src)
    _check_host(index, input, dim, RuntimeError, _BOUNDS)
    made: Tensor = record(_scatter, (dim, "scatter_add"), input, index, src)
    return made


def _scatter(x: Aval, index: Aval, src: Any, d: int, reduce: str | None) -> Lowering:
    axis = rules.dim(d, x.ndim)
    if index.dtype not in _INDEX and index.numel:
        raise RuntimeError("scatter(): Expected dtype int32/int64 for index")
    if max(index.ndim, 1) != max(x.ndim, 1):
        raise RuntimeError("Index tensor must have the same number of dimensions as self tensor")
    if reduce not in (None, "add", "multiply", "scatter_add"):
        raise RuntimeError("reduce argument must be either add or multiply.")
    is_tensor = isinstance(src, Aval) and not (src.ndim == 0 and index.ndim > 0)
    if isinstance(src, Aval):
        if src.dtype is not x.dtype:
            raise RuntimeError("scatter(): Expected self.dtype to be equal to src.dtype")
        if is_tensor and max(src.ndim, 1) != max(index.ndim, 1):
            raise RuntimeError("Index tensor must have the same number of dimensions as src tensor")
    for k, size in enumerate(index.shape):
        if (k != axis and size > x.shape[k]) or (is_tensor and size > src.shape[k]):
            extra = f" and to be no larger size than src {list(src.shape)}" if is_tensor else ""
            raise RuntimeError(f"Expected index {list(index.shape)} to be no larger than self {list(x.shape)} apart "
                               "from "
                               f"dimension {axis}{extra}")
    part = tuple(slice(n) for n in index.shape)

    def fn(a: Any, i: Any, s: Any) -> Any:
        if not i.size:
            return a
        new = jnp.asarray(s).astype(x.dtype.np)
        new = new[part] if is_tensor else jnp.broadcast_to(new, i.shape)
        if a.ndim == 0:
            a, i, new = a.reshape(1), i.reshape(-1), new.reshape(-1)
        place = [jnp.arange(n).reshape([-1 if j == k else 1 for j in range(i.ndim)]) for k, n in enumerate(i.shape)]
        place[axis] = i
        at = a.at[tuple(place)]
        made = at.set(new) if reduce is None else (multiplied if reduce == "multiply" else added)(at, new)
        return made.reshape(x.shape)

    name = "ScatterAddBackward0" if reduce == "scatter_add" else f"ScatterBackward{0 if is_tensor else 1}"
    checks = bounds(1, x.shape[axis] if x.ndim else 1, axis, RuntimeError)
    return Lowering(fn, name=name, checks=checks, underived="scatter" if reduce in ("add", "multiply") else "")


@op(inplace=True)
def index_add(input: Tensor, dim: int, index: Tensor, source: Tensor, *, alpha: Any = 1,
              out: Tensor | None = None) -> Tensor:  # fmt: skip
    """Return ``input`` with ``alpha`` times the slices of ``source`` along ``dim`` added at ``index``."""
    if out is not None:
        return into(out, index_add, input, dim, index, source, alpha=alpha)
    _check_host(index, input, dim, RuntimeError, _BOUNDS)
    made: Tensor = record(_index_add, (dim,), input, index, source, alpha)
    return made


def _index_add(x: Aval, index: Aval, source: Aval, alpha: Number, d: int) -> Lowering:
    axis = rules.dim(d, x.ndim)
    if index.ndim > 1:
        raise IndexError("index_add_(): Index is supposed to be a vector")
    if index.dtype not in _INDEX:
        raise RuntimeError("index_add_(): Expected dtype int32/int64 for index")
    if source.dtype is not x.dtype:
        raise RuntimeError(f"index_add_(): self ({type_name(x.dtype)}) and source ({type_name(source.dtype)}) must "
                           "have "
                           "the same scalar type")
    rest, of = list(x.shape), list(source.shape)
    if x.ndim != source.ndim or rest[:axis] + rest[axis + 1 :] != of[:axis] + of[axis + 1 :]:
        raise RuntimeError("source tensor shape must match self tensor shape, excluding the specified dimension. Got "
                           f"self.shape = {rest} source.shape = {of}")
    if of and index.numel != of[axis]:
        raise RuntimeError(f"index_add_(): Number of indices ({index.numel}) should be equal to source.size(dim): "
                           f"({of[axis]}), for dim: {axis}")
    lead = (slice(None),) * axis

    def fn(a: Any, i: Any, s: Any, k: Any) -> Any:
        factor = jnp.asarray(k).astype(s.dtype)
        s = s & factor if s.dtype == jnp.bool_ else s * factor
        return added(a.at[(*lead, i.reshape(-1))], s) if a.ndim else added(a.reshape(1).at[0], s).reshape(())

    size = x.shape[axis] if x.ndim else 1
    plain = indices(1, size, lambda _: IndexError("index out of range in self"))
    checks = bounds(1, size, axis, RuntimeError) if x.ndim > 1 else (plain,)
    return Lowering(fn, name="IndexAddBackward0", checks=checks)


@op(inplace=True)
def index_fill(input: Tensor, dim: int, index: Tensor, value: Any) -> Tensor:
    """Return ``input`` with ``value``, a number or 0-dim tensor, in its slices number ``index`` along ``dim``."""
    _check_host(index, input, dim, IndexError, _BOUNDS, negative=True)
    made: Tensor = record(_index_fill, (dim,), input, index, value)
    return made


def _index_fill(x: Aval, index: Aval, value: Any, d: int) -> Lowering:
    axis = rules.dim(d, x.ndim)
    if index.ndim > 1:
        raise RuntimeError("index_fill_(): Index is supposed to be a vector")
    if index.dtype not in _INDEX:
        raise RuntimeError("index_fill_(): Expected dtype int64 for index.")
    _check_value("index_fill_", x, value)
    lead = (slice(None),) * axis

    def fn(a: Any, i: Any, v: Any) -> Any:
        v = jnp.asarray(v).astype(a.dtype)
        return a.at[(*lead, i.reshape(-1))].set(v) if a.ndim else v

    return Lowering(fn, name=f"IndexFillBackward{0 if isinstance(value, Number) else 1}",
                    checks=bounds(1, x.shape[axis] if x.ndim else 1, axis, IndexError, negative=True))  # fmt: skip
