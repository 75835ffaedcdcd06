"""The writer of pickles: tensors go under PyTorch's names, which need not be installed, and their elements aside."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from typing import Any

import numpy as np

from tracegrad._device import Device
from tracegrad._dtype import DType
from tracegrad._engine.trace import force
from tracegrad._grad_mode import no_grad
from tracegrad._handle import Handle
from tracegrad._layout import in_order, layout
from tracegrad._ops.pointwise import neg
from tracegrad._ops.viewing import bits, conj_physical
from tracegrad._size import Size
from tracegrad._tensor import Tensor
from tracegrad.nn._parameter import Buffer, Parameter
from tracegrad.serialization._names import STORAGES


class Name:
    """A global of PyTorch's."""

    def __init__(self, module: str, name: str):
        self.module, self.name = module, name


_TENSOR, _TYPED_TENSOR = Name("torch._utils", "_rebuild_tensor_v2"), Name("torch._utils", "_rebuild_tensor_v3")
_PARAMETER = Name("torch._utils", "_rebuild_parameter")
_PARAMETER_WITH_STATE = Name("torch._utils", "_rebuild_parameter_with_state")
_FROM_TYPE, _TENSOR_TYPE = Name("torch._tensor", "_rebuild_from_type_v2"), Name("torch", "Tensor")
_SIZE, _DEVICE = Name("torch", "Size"), Name("torch", "device")
_STORAGE_NAMES = {dtype: Name("torch", name) for name, dtype in STORAGES.items()}
_BYTES = Name("torch.storage", "UntypedStorage")


class Kept:
    """One storage that is written: what shares elements is in one."""

    def __init__(self, key: str, dtype: DType, count: int, device: Device):
        self.key = key
        self.dtype, self.count, self.device = dtype, count, device
        self.array: np.ndarray[Any, Any] | None = None
        self.complete = False  # whether `array` has all elements, and is not ours to write to

    def put(self, tensor: Handle, strides: tuple[int, ...], offset: int) -> None:
        """Take the elements of ``tensor``. Elements of the storage that no tensor in the file has stay zeros."""
        array = np.asarray(force(tensor._value))
        if self.complete:
            return
        if array.size == self.count and not offset and strides == in_order(array.shape):
            self.array, self.complete = np.ascontiguousarray(array), True
            return
        if self.array is None:
            self.array = np.zeros(self.count, self.dtype.np)
        if array.size:
            steps = tuple(s * self.dtype.itemsize for s in strides)
            np.lib.stride_tricks.as_strided(self.array[offset:], array.shape, steps)[...] = array

    def data(self) -> Any:
        """Return the bytes."""
        array = np.zeros(self.count, self.dtype.np) if self.array is None else self.array
        return array.reshape(-1).view(np.uint8).data


class _StorageId:
    """What stands in the pickle for a storage."""

    def __init__(self, kept: Kept, typed: bool):
        self.kept, self.typed = kept, typed


_Base: Any = pickle._Pickler


class Pickler(_Base):  # type: ignore[misc]
    """Writes a pickle that PyTorch reads, and collects the storages of its tensors in `storages`.

    The standard library's pickler in Python is the base: the one in C looks names up by importing them.
    """

    dispatch: dict[Any, Any] = dict(_Base.dispatch)

    def __init__(self, file: Any, protocol: int):
        super().__init__(file, protocol)
        self.storages: dict[Any, Kept] = {}  # by what owns the elements: a tensor, or a storage of several

    def persistent_id(self, obj: Any) -> Any:
        """Return the description of a storage, None for everything else."""
        if type(obj) is not _StorageId:
            return None
        kept = obj.kept
        location = "cpu" if kept.device.type != "cuda" else f"cuda:{kept.device.index or 0}"
        if obj.typed:
            return ("storage", _STORAGE_NAMES[kept.dtype], kept.key, location, kept.count)
        return ("storage", _BYTES, kept.key, location, kept.count * kept.dtype.itemsize)

    def save(self, obj: Any, save_persistent_id: bool = True) -> None:
        """Write any object."""
        if not isinstance(obj, (Handle, Size, DType, Device, Name)):
            super().save(obj, save_persistent_id)
            return
        known = self.memo.get(id(obj))
        if known is not None:
            self.write(self.get(known[0]))
        elif isinstance(obj, Name):
            self.write(pickle.GLOBAL + f"{obj.module}\n{obj.name}\n".encode())
            self.memoize(obj)
        elif isinstance(obj, DType):
            self.write(pickle.GLOBAL + f"torch\n{obj.name}\n".encode())
            self.memoize(obj)
        else:
            self._call(obj, *self._recipe(obj))

    def _call(self, obj: Any, function: Name, arguments: tuple[Any, ...]) -> None:
        self.save(function)
        self.save(arguments)
        self.write(pickle.REDUCE)
        self.memoize(obj)

    def _recipe(self, obj: Any) -> tuple[Name, tuple[Any, ...]]:
        """Return the function of PyTorch's that makes ``obj``, and its arguments."""
        if isinstance(obj, Size):
            return _SIZE, (tuple(obj),)
        if isinstance(obj, Device):
            return _DEVICE, (obj.type,) if obj.index is None else (obj.type, obj.index)
        state = {name: value for name, value in vars(obj).items() if name != "_value" and not hasattr(type(obj), name)}
        if type(obj) is Parameter:
            hooks: OrderedDict[Any, Any] = OrderedDict()
            data = (_Rebuilt(*self._data(obj, False)), obj.requires_grad, hooks)
            return (_PARAMETER_WITH_STATE, (*data, state)) if state else (_PARAMETER, data)
        function, arguments = self._data(obj, obj.requires_grad)
        if type(obj) is Buffer:
            state = {**state, "persistent": obj.persistent, "_is_buffer": True}
        if type(obj) in (Tensor, Buffer) and not state:
            return function, arguments
        kind = _TENSOR_TYPE if type(obj) in (Tensor, Buffer) else type(obj)
        return _FROM_TYPE, (function, kind, arguments, state)

    def _data(self, tensor: Any, wants: bool) -> tuple[Name, tuple[Any, ...]]:
        of = tensor._value.spec.aval
        strides, offset = layout(tensor, read=True)
        assert offset is not None
        if tensor._storage is None:  # it shares with nobody, and is not to begin with it here
            owner, size = tensor, of.numel * of.dtype.itemsize
        else:
            owner = tensor.untyped_storage()
            size = owner.nbytes()
        kept = self.storages.get(owner)
        if kept is None:
            count = size // of.dtype.itemsize
            kept = self.storages[owner] = Kept(str(len(self.storages)), of.dtype, count, of.device)
        elif kept.dtype is not of.dtype:
            raise RuntimeError("Cannot save multiple tensors or storages that view the same data as different types")
        conjugate, negative = bits(tensor)  # the bytes are those of the numbers that it is a view of
        with no_grad():
            plain = conj_physical(tensor) if conjugate else neg(tensor) if negative else tensor
        kept.put(plain, strides, offset)
        typed = of.dtype in _STORAGE_NAMES
        hooks: OrderedDict[Any, Any] = OrderedDict()
        place = (_StorageId(kept, typed), offset, tuple(of.shape), strides, wants, hooks)
        found = {name: True for name, on in (("conj", conjugate), ("neg", negative)) if on}
        noted = (found,) if found else ()
        return (_TENSOR, (*place, *noted)) if typed else (_TYPED_TENSOR, (*place, of.dtype, *noted))


class _Rebuilt:
    """A call inside the arguments of another."""

    def __init__(self, function: Name, arguments: tuple[Any, ...]):
        self.function, self.arguments = function, arguments


def _save_rebuilt(pickler: Pickler, obj: _Rebuilt) -> None:
    pickler._call(obj, obj.function, obj.arguments)


Pickler.dispatch[_Rebuilt] = _save_rebuilt
