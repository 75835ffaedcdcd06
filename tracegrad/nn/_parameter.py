"""Parameters: tensors that a module finds among its attributes and an optimizer updates."""

from __future__ import annotations

from typing import Any

import numpy as np

from tracegrad import _device, _dtype
from tracegrad._device import Device
from tracegrad._dtype import DType
from tracegrad._engine.value import aval, concrete
from tracegrad._handle import constant, tensor_of, want_grad
from tracegrad._tensor import Tensor


class Parameter(Tensor):
    """A tensor that becomes a parameter of the module that it is assigned to.

    Args:
        data: the elements; the parameter is a leaf of its own, whatever made them. An empty tensor when None.
        requires_grad: whether gradients are wanted.

    See https://docs.pytorch.org/docs/stable/generated/torch.nn.parameter.Parameter.html

    Example:
        >>> import tracegrad as torch
        >>> torch.nn.Parameter(torch.ones(2))
        Parameter containing:
        tensor([1., 1.], requires_grad=True)
    """

    def __new__(cls, data: Tensor | None = None, requires_grad: bool = True) -> Parameter:
        """Return a leaf with the elements of ``data``."""
        self = object.__new__(cls)
        self._value = constant((empty((0,)) if data is None else data)._value)
        if requires_grad:
            want_grad(self)
        return self

    def __init__(self, data: Tensor | None = None, requires_grad: bool = True) -> None:
        pass

    def __repr__(self) -> str:
        return "Parameter containing:\n" + super().__repr__()

    def __deepcopy__(self, memo: dict[int, Any]) -> Parameter:
        found = memo.get(id(self))
        if found is None:
            found = memo[id(self)] = type(self)(self, self.requires_grad)
        return found


Parameter.__module__ = "tracegrad.nn"


class Buffer(Tensor):
    """A tensor that becomes a buffer of the module that it is assigned to: part of its state, not trained.

    Args:
        data: the elements.
        persistent: whether the buffer is part of the module's ``state_dict``.
    """

    persistent: bool

    def __new__(cls, data: Tensor | None = None, *, persistent: bool = True) -> Buffer:
        """Return a buffer with the elements of ``data``."""
        self = object.__new__(cls)
        self._value = (empty((0,)) if data is None else data)._value
        self.persistent = persistent
        return self

    def __init__(self, data: Tensor | None = None, *, persistent: bool = True) -> None:
        pass


Buffer.__module__ = "tracegrad.nn"


def empty(shape: tuple[int, ...], device: Device | str | None = None, dtype: DType | None = None) -> Tensor:
    """Return a tensor whose elements nobody has set. Nothing is recorded and no memory is touched."""
    dtype = dtype or _dtype.get_default_dtype()
    place = _device.get_default_device() if device is None else Device(device)
    return tensor_of(concrete(np.empty(shape, dtype.np), aval(tuple(shape), dtype, place)))


def parameter(*shape: int, device: Device | str | None = None, dtype: DType | None = None) -> Parameter:
    """Return a parameter of this shape for an initialisation to fill."""
    return Parameter(empty(shape, device, dtype))
