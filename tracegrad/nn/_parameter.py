"""Parameters: tensors that a module finds among its attributes and an optimizer updates."""

from __future__ import annotations

from typing import Any

import numpy as np

from tracegrad import _device, _dtype
from tracegrad._device import Device
from tracegrad._dtype import DType
from tracegrad._engine.trace import new_value
from tracegrad._engine.value import aval
from tracegrad._handle import alias, constant, tensor_of, want_grad
from tracegrad._tensor import Tensor


class Parameter(Tensor):
    """A tensor that becomes a parameter of the module that it is assigned to.

    Args:
        data: the elements, which the parameter shares; it is a leaf of its own, whatever made them. An empty tensor
            when None.
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
        self = empty((0,)) if data is None else _shared(data)
        self.__class__ = cls
        if requires_grad:
            if not self.dtype.is_inexact:
                raise RuntimeError("Only Tensors of floating point and complex dtype can require gradients")
            want_grad(self)
        return self  # type: ignore[return-value]

    def __init__(self, data: Tensor | None = None, requires_grad: bool = True) -> None:
        pass

    def __repr__(self) -> str:
        return "Parameter containing:\n" + super().__repr__()

    def __deepcopy__(self, memo: dict[int, Any]) -> Parameter:
        found = memo.get(id(self))
        if found is None:
            found = memo[id(self)] = type(self)(tensor_of(constant(self._value)), self.requires_grad)
        return found


Parameter.__module__ = "tracegrad.nn"


class Buffer(Tensor):
    """A tensor that becomes a buffer of the module that it is assigned to: part of its state, not trained.

    Args:
        data: the elements, which the buffer shares.
        persistent: whether the buffer is part of the module's ``state_dict``.
    """

    persistent: bool

    def __new__(cls, data: Tensor | None = None, *, persistent: bool = True) -> Buffer:
        """Return a buffer with the elements of ``data``."""
        self: Any = empty((0,)) if data is None else _shared(data)
        self.__class__ = cls
        if data is not None and data.requires_grad:
            want_grad(self)
        self.persistent = persistent
        return self  # type: ignore[no-any-return]

    def __init__(self, data: Tensor | None = None, *, persistent: bool = True) -> None:
        pass


Buffer.__module__ = "tracegrad.nn"


def _shared(data: Any) -> Tensor:
    if not isinstance(data, Tensor):
        raise AttributeError(f"'{type(data).__name__}' object has no attribute 'detach'")
    return alias(data)


def empty(shape: tuple[int, ...], device: Device | str | None = None, dtype: DType | None = None) -> Tensor:
    """Return a tensor whose elements nobody has set. Nothing is recorded and no memory is touched."""
    dtype = dtype or _dtype.get_default_dtype()
    place = _device.get_default_device() if device is None else Device(device)
    return tensor_of(new_value(np.empty(shape, dtype.np), aval(tuple(shape), dtype, place)))


def parameter(*shape: int, device: Device | str | None = None, dtype: DType | None = None) -> Parameter:
    """Return a parameter of this shape for an initialisation to fill."""
    made = empty(shape, device, dtype)
    made.__class__ = Parameter
    want_grad(made)
    return made  # type: ignore[return-value]
