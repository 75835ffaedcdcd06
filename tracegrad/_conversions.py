"""Tensors as other types and on other devices: ``to`` and its short forms, and the names of PyTorch's tensor types."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tracegrad import _dtype
from tracegrad._device import Device
from tracegrad._dtype import DType
from tracegrad._engine import trace
from tracegrad._engine.value import aval
from tracegrad._handle import Handle, tensor_of
from tracegrad._methods import Methods
from tracegrad._ops import creation, rearranging
from tracegrad._ops._declare import cast_rule

if TYPE_CHECKING:
    from tracegrad._tensor import Tensor


class TensorType:
    """One of PyTorch's old tensor types, such as ``torch.FloatTensor``: it makes tensors, and tells them apart.

    Example:
        >>> import tracegrad as torch
        >>> torch.LongTensor([1, 2]), isinstance(torch.ones(2), torch.FloatTensor)
        (tensor([1, 2]), True)
    """

    __slots__ = ("dtype",)

    def __init__(self, dtype: DType):
        self.dtype = dtype

    def __call__(self, *args: Any) -> Tensor:
        """Return a tensor of these sizes, or of these elements."""
        if len(args) == 1 and not isinstance(args[0], int):
            found: Any = args[0]
            if _is_size(found):
                return creation.empty(found, dtype=self.dtype)
            made: Any = found if isinstance(found, Handle) else creation.tensor(found, dtype=self.dtype)
            return made.to(self.dtype)  # type: ignore[no-any-return]
        return creation.empty(*(args or (0,)), dtype=self.dtype)

    def __instancecheck__(self, x: object) -> bool:
        return isinstance(x, Handle) and x._value.spec.aval.dtype is self.dtype

    def __repr__(self) -> str:
        return f"<class 'torch.{_dtype.type_name(self.dtype)}Tensor'>"


def _is_size(x: object) -> bool:
    return type(x).__name__ == "Size"


#: PyTorch's tensor types by name.
TYPES = {f"{_dtype.type_name(d)}Tensor": TensorType(d) for d in
         (_dtype.float32, _dtype.float64, _dtype.float16, _dtype.bfloat16, _dtype.uint8, _dtype.int8, _dtype.int16,
          _dtype.int32, _dtype.int64, _dtype.bool_)}  # fmt: skip
FloatTensor, DoubleTensor = TYPES["FloatTensor"], TYPES["DoubleTensor"]
HalfTensor, BFloat16Tensor = TYPES["HalfTensor"], TYPES["BFloat16Tensor"]
ByteTensor, CharTensor, ShortTensor = TYPES["ByteTensor"], TYPES["CharTensor"], TYPES["ShortTensor"]
IntTensor, LongTensor, BoolTensor = TYPES["IntTensor"], TYPES["LongTensor"], TYPES["BoolTensor"]


class Conversions(Methods):
    """The methods that give a tensor another dtype or device."""

    if TYPE_CHECKING:

        @property
        def dtype(self) -> DType: ...
        @property
        def device(self) -> Device: ...

    def to(self, *args: Any, dtype: Any = None, device: Any = None, non_blocking: Any = False, copy: Any = False,
           memory_format: Any = None) -> Tensor:  # fmt: skip
        """Return this tensor with another dtype, on another device, or both; itself where nothing changes.

        Args:
            args: a dtype, a device, a device and a dtype, or a tensor that has both; then ``non_blocking``, ``copy``.
            dtype: the dtype, or Python's ``bool``, ``int``, ``float`` (float64) or ``complex``.
            device: the device.
            non_blocking: taken, and of no effect: nothing blocks before a value is read.
            copy: whether to copy where nothing changes too.
            memory_format: taken, and of no effect: XLA lays tensors out as it likes.

        See https://docs.pytorch.org/docs/stable/generated/torch.Tensor.to.html
        """
        flags = []
        for i, x in enumerate(args):
            if isinstance(x, bool) and i:
                flags.append(x)
            elif isinstance(x, (DType, type)) and _dtype.given(x) in _dtype.ALL and dtype is None:
                dtype = _dtype.given(x)
            elif isinstance(x, Handle) and i == 0:
                dtype, device = x._value.spec.aval.dtype, x._value.spec.aval.device
            elif isinstance(x, (Device, str, int)) and i == 0 and not isinstance(x, bool):
                device = Device(x)
            elif x is not None or i > 1:
                kinds = ", ".join(type(x).__name__ for x in args)
                raise TypeError(f"to() received an invalid combination of arguments - got ({kinds})")
        copy = flags[1] if len(flags) > 1 else copy
        dtype = _dtype.given(dtype)
        result: Any = self
        if dtype is not None and dtype is not self.dtype:
            result = trace.record(cast_rule, (dtype,), result)
        if device is not None and Device(device).type != self.device.type:
            result = _move(result, Device(device))
        made: Tensor = result
        return rearranging.clone(made) if copy and result is self else made

    def type(self, dtype: Any = None, non_blocking: Any = False) -> Any:
        """Return the name of the tensor's type, such as ``torch.FloatTensor``, or the tensor with another dtype.

        Args:
            dtype: a dtype, one of PyTorch's tensor types, or the name of such a type.
            non_blocking: taken, and of no effect.

        Raises:
            ValueError: for another name.
        """
        if dtype is None:
            return f"torch.{_dtype.type_name(self.dtype)}Tensor"
        if isinstance(dtype, str):
            module, _, name = dtype.rpartition(".")
            if name not in TYPES or module != "torch":
                raise ValueError(f"invalid type: '{dtype}'")
            dtype = TYPES[name]
        return self.to(dtype.dtype if isinstance(dtype, TensorType) else dtype)

    def type_as(self, other: Tensor) -> Tensor:
        """Return this tensor with the dtype and device of ``other``."""
        return self.to(other)

    def float(self, memory_format: Any = None) -> Tensor:
        """Return this tensor as float32."""
        return self.to(_dtype.float32)

    def double(self, memory_format: Any = None) -> Tensor:
        """Return this tensor as float64."""
        return self.to(_dtype.float64)

    def half(self, memory_format: Any = None) -> Tensor:
        """Return this tensor as float16."""
        return self.to(_dtype.float16)

    def bfloat16(self, memory_format: Any = None) -> Tensor:
        """Return this tensor as bfloat16."""
        return self.to(_dtype.bfloat16)

    def cfloat(self, memory_format: Any = None) -> Tensor:
        """Return this tensor as complex64."""
        return self.to(_dtype.complex64)

    def cdouble(self, memory_format: Any = None) -> Tensor:
        """Return this tensor as complex128."""
        return self.to(_dtype.complex128)

    def int(self, memory_format: Any = None) -> Tensor:
        """Return this tensor as int32."""
        return self.to(_dtype.int32)

    def long(self, memory_format: Any = None) -> Tensor:
        """Return this tensor as int64."""
        return self.to(_dtype.int64)

    def short(self, memory_format: Any = None) -> Tensor:
        """Return this tensor as int16."""
        return self.to(_dtype.int16)

    def char(self, memory_format: Any = None) -> Tensor:
        """Return this tensor as int8."""
        return self.to(_dtype.int8)

    def byte(self, memory_format: Any = None) -> Tensor:
        """Return this tensor as uint8."""
        return self.to(_dtype.uint8)

    def bool(self, memory_format: Any = None) -> Tensor:
        """Return whether each element is nonzero."""
        return self.to(_dtype.bool_)

    def cpu(self, memory_format: Any = None) -> Tensor:
        """Return this tensor on the CPU."""
        return self.to("cpu")

    def cuda(self, device: Any = None, non_blocking: Any = False, memory_format: Any = None) -> Tensor:
        """Return this tensor on a GPU, the first unless told."""
        return self.to("cuda" if device is None else Device(device))

    @property
    def is_cuda(self) -> Any:
        """Whether the elements live on a GPU."""
        return self.device.type == "cuda"

    @property
    def is_cpu(self) -> Any:
        """Whether the elements live on the CPU."""
        return self.device.type == "cpu"

    def get_device(self) -> Any:
        """Return the number of the tensor's GPU, -1 on the CPU."""
        return -1 if self.device.type == "cpu" else self.device.index or 0


def _move(tensor: Any, device: Device) -> Tensor:
    """Return ``tensor`` on another device; a boundary between programs."""
    array = tensor.jax()
    place = trace.to_device(np.asarray(array), aval(array.shape, tensor.dtype, device))
    return tensor_of(trace.new_value(place, aval(array.shape, tensor.dtype, device)))
