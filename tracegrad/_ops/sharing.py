"""A tensor and its elements: whose they are, where they lie, how others come to share them, and writing them all."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp

from tracegrad._engine import trace
from tracegrad._engine.op import Lowering
from tracegrad._engine.value import Aval
from tracegrad._errors import UnsupportedError
from tracegrad._handle import (
    Handle,
    address,
    alias,
    check_inplace,
    constant,
    is_alone,
    resize,
    share,
    write,
)
from tracegrad._layout import in_order, layout
from tracegrad._ops import creation
from tracegrad._ops._filling import copy_rule, fill_rule, replace_rule
from tracegrad._ops.writing import check_number

if TYPE_CHECKING:
    from tracegrad._tensor import Tensor


# -- sharing -------------------------------------------------------------------------------------------------


def detach(self: Tensor) -> Tensor:
    """Return a tensor with the same elements through which no gradient flows. Writes to either show in both."""
    return alias(self)


def detach_(self: Tensor) -> Tensor:
    """Make this tensor a leaf that wants no gradients.

    Raises:
        RuntimeError: for a view.
    """
    if self._steps:
        raise RuntimeError(
            "Can't detach views in-place. Use detach() instead. If you are using DistributedDataParallel (DDP) for "
            "training, and gradient_as_bucket_view is set as True, gradients are views of DDP buckets, and hence "
            "detach_() cannot be called on these gradients. To fix this error, please refer to the "
            "Optimizer.zero_grad() function in torch/optim/optimizer.py as the solution.")
    self._value = constant(self._value)
    self._variable = None
    return self


def data(self: Tensor) -> Tensor:
    """The tensor without its history: writes to it are not seen by autograd.

    Setting it makes the tensor share the elements of another, of any shape, and keeps its place on the tape.
    """
    return alias(self, counted=False)


def set_data(self: Tensor, new: Any) -> None:
    """Have ``self`` share the elements of ``new``."""
    if not isinstance(new, Handle):
        raise TypeError(f"Variable data has to be a tensor, but got {type(new).__name__}")
    if self._value.spec.wants and not new.dtype.is_inexact:
        raise RuntimeError("data set to a tensor that requires gradients must be floating point or complex dtype")
    share(self, new)  # type: ignore[arg-type]


def give(tensor: Tensor, new: Tensor) -> None:
    """Have ``tensor`` give up its elements for those of ``new``, which is nobody else's: ``tensor.data = new``."""
    if is_alone(tensor):  # nobody keeps the old elements, and a write is cheaper
        write(tensor, new)
    else:
        share(tensor, new)


def set_(self: Tensor, source: Any = None, *rest: Any) -> Tensor:
    """Have this tensor share the elements of the tensor ``source``, with its shape; none without ``source``.

    Raises:
        UnsupportedError: for a storage, an offset, sizes or strides: there is no memory to lay them out in.
    """
    if source is None:
        source = creation.empty(0, dtype=self.dtype)
    if rest or not isinstance(source, Handle):
        raise UnsupportedError("set_ takes one tensor: storages, offsets and strides are not supported. Take a view of "
                               "a tensor, and pass that.")
    if source.dtype is not self.dtype:
        raise RuntimeError(f"Could not set tensor of type {source.dtype.name} to a tensor of type {self.dtype.name}")
    check_inplace(self)
    share(self, source)  # type: ignore[arg-type]
    assert self._storage is not None
    self._storage.count()
    return self


def resize_(self: Tensor, *sizes: Any, **keyword: Any) -> Tensor:
    """Give this tensor another shape: the first elements stay, and those that are new are zeros.

    Raises:
        RuntimeError: for a tensor that wants gradients.
        UnsupportedError: where it has other elements than before and shares them with other tensors.
    """
    to = creation.sizes(sizes)
    if self._value.spec.wants:
        raise RuntimeError("cannot resize variables that require grad")
    if to != self._value.spec.aval.shape:
        resize(self, trace.record(_resize, (to,), self))
    return self


def _resize(x: Aval, to: tuple[int, ...]) -> Lowering:
    count = 1
    for n in to:
        count *= n

    def fn(a: Any) -> Any:
        flat = a.reshape(-1)[:count]
        return jnp.pad(flat, (0, count - flat.size)).reshape(to)

    return Lowering(fn, differentiable=False)


def swap_tensors(t1: Tensor, t2: Tensor) -> None:
    """Exchange two tensors: each name then has the class, elements, gradient and attributes of the other.

    Raises:
        RuntimeError: where one of them is a view, or has views.
    """
    for t in (t1, t2):
        storage = t._storage
        if storage is not None and (t._steps or any(True for _ in storage.live())):
            raise RuntimeError("Cannot swap a tensor that is a view, or has views.")
    t1.__class__, t2.__class__ = t2.__class__, t1.__class__
    t1.__dict__, t2.__dict__ = t2.__dict__, t1.__dict__
    for t in (t1, t2):
        if t._variable is not None:
            t._variable.handle = weakref.ref(t)
        if t._storage is not None:
            t._storage.base = weakref.ref(t)


# -- where elements lie --------------------------------------------------------------------------------------


def data_ptr(self: Tensor) -> int:
    """Return a number that stands for the address of the first element: equal for aliases, kept by in-place ops."""
    if not self._value.spec.aval.numel:
        return 0
    return address(self) + storage_offset(self) * self.dtype.itemsize


def storage_offset(self: Tensor) -> int:
    """Return how many elements of the storage come before the first of this tensor."""
    offset = layout(self, read=True)[1]
    assert offset is not None
    return offset


def stride(self: Tensor, dim: int | None = None) -> Any:
    """Return the strides that PyTorch's tensor would have, in elements."""
    strides = layout(self)[0]
    return strides if dim is None else strides[dim]


def is_contiguous(self: Tensor, memory_format: Any = None) -> bool:
    """Return whether PyTorch's elements would lie in order."""
    shape = self._value.spec.aval.shape
    return 0 in shape or all(n == 1 or a == b for n, a, b in zip(shape, layout(self)[0], in_order(shape)))


def is_set_to(self: Tensor, tensor: Tensor) -> bool:
    """Return whether ``tensor`` has the same storage, offset, sizes and strides."""
    return (self.shape == tensor.shape and address(self) == address(tensor)
            and layout(self) == layout(tensor))  # fmt: skip


class UntypedStorage:
    """What tensors share that are views of one another: an identity and a size; its bytes cannot be reached."""

    def __init__(self, tensor: Tensor) -> None:
        self._address = address(tensor)
        assert tensor._storage is not None
        of = (tensor._storage.group or tensor._storage).aval
        self._nbytes = of.numel * of.dtype.itemsize

    def data_ptr(self) -> int:
        """Return a number that stands for the address of the first byte."""
        return self._address

    def nbytes(self) -> int:
        """Return the number of bytes."""
        return self._nbytes

    size = nbytes

    def __eq__(self, other: object) -> bool:
        return isinstance(other, UntypedStorage) and self._address == other._address

    def __hash__(self) -> int:
        return hash(self._address)


def untyped_storage(self: Tensor) -> UntypedStorage:
    """Return the storage that this tensor shares with its views and aliases."""
    return UntypedStorage(self)


# -- writing all elements ------------------------------------------------------------------------------------


def copy_(self: Tensor, src: Any, non_blocking: Any = False) -> Tensor:
    """Copy the elements of ``src``, broadcast and converted, into this tensor; gradients flow to ``src``."""
    check_inplace(self)
    source = src if isinstance(src, Handle) else creation.tensor(src)
    of = self._value.spec.aval
    return _replaced(self, source, copy_rule, (of.shape, of.dtype), "CopyBackwards")


def zero_(self: Tensor) -> Tensor:
    """Set every element to zero."""
    check_inplace(self, fills=True)
    return _replaced(self, 0, fill_rule, (self._value.spec.aval,), "ZeroBackward0")


def fill_(self: Tensor, value: Any) -> Tensor:
    """Set every element to ``value``, a number or a 0-dim tensor."""
    check_inplace(self, fills=True)
    of = self._value.spec.aval
    if not isinstance(value, Handle):
        check_number(value, of.dtype)
    elif value.ndim:
        raise RuntimeError("fill_ only supports 0-dimension value tensor but got tensor with "
                           f"{value.ndim} dimensions.")
    name = "FillBackward3" if isinstance(value, Handle) else "FillBackward2"
    return _replaced(self, value, fill_rule, (of,), name)


def _replaced(self: Tensor, new: Any, rule: Any, params: tuple[Any, ...], name: str) -> Tensor:
    """Write to every element what ``rule`` makes of ``new``."""
    wants = self._value.spec.wants or isinstance(new, Handle) and new._value.spec.wants
    if wants and trace.state.mode.grad:
        return write(self, trace.record(replace_rule, (rule, params, name), self, new))
    return write(self, trace.record(rule, params, new))
