"""What the names in a checkpoint mean: PyTorch's functions that rebuild tensors, its types, and the user's own."""

from __future__ import annotations

import pickle
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

from tracegrad import _device, _dtype
from tracegrad._device import Device
from tracegrad._dtype import DType
from tracegrad._errors import UnsupportedError
from tracegrad._formats import strided
from tracegrad._handle import want_grad
from tracegrad._size import Size
from tracegrad._tensor import Tensor
from tracegrad.nn._parameter import Buffer, Parameter
from tracegrad.serialization import _safe
from tracegrad.serialization._stored import Budget, Stored, with_bits
from tracegrad.serialization._unpickler import Names

MapLocation = str | Device | Mapping[str, Any] | Callable[[Any, str], Any] | None

#: PyTorch's storage classes and what they hold; a storage of bytes leaves it to its tensors.
STORAGES: dict[str, DType | None] = {
    "DoubleStorage": _dtype.float64, "FloatStorage": _dtype.float32, "HalfStorage": _dtype.float16,
    "BFloat16Storage": _dtype.bfloat16, "LongStorage": _dtype.int64, "IntStorage": _dtype.int32,
    "ShortStorage": _dtype.int16, "CharStorage": _dtype.int8, "ByteStorage": _dtype.uint8, "BoolStorage": _dtype.bool_,
    "ComplexDoubleStorage": _dtype.complex128, "ComplexFloatStorage": _dtype.complex64,
}  # fmt: skip
_REFUSED = {
    "torch._utils._rebuild_sparse_tensor": "a sparse tensor: save its to_dense()",
    "torch._utils._rebuild_sparse_csr_tensor": "a sparse tensor: save its to_dense()",
    "torch._utils._rebuild_qtensor": "a quantised tensor: save its dequantize()",
    "torch._utils._rebuild_nested_tensor": "a nested tensor: save the list of its parts",
    "torch._utils._rebuild_meta_tensor_no_storage": "a tensor without elements, on the device 'meta'",
    "torch._utils._rebuild_wrapper_subclass": "a tensor of a wrapper class: save a plain tensor",
    "torch._utils._rebuild_device_tensor_from_numpy": "a tensor of a device's own format: save its cpu()",
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": "a tensor of a device's own format: save its cpu()",
    **{f"torch.{kind}Storage": "a quantised tensor: save its dequantize()"
       for kind in ("QInt8", "QUInt8", "QInt32", "QUInt4x2", "QUInt2x4")},
}  # fmt: skip


class StorageType:
    """What stands for one of PyTorch's storage classes."""

    def __init__(self, dtype: DType | None):
        self.dtype = dtype


_STORAGE_TYPES = {name: StorageType(dtype) for name, dtype in STORAGES.items()}
_BYTES = StorageType(None)


class LocatedStorage:
    """What ``map_location`` functions get: it says where a storage is to go."""

    def __init__(self, device: Device, size: int):
        self.device, self._size = device, size

    def nbytes(self) -> int:
        """Return the number of bytes."""
        return self._size

    size = __len__ = nbytes

    def cpu(self) -> LocatedStorage:
        """Return this storage on the CPU."""
        return LocatedStorage(Device("cpu"), self._size)

    def cuda(self, device: Any = None) -> LocatedStorage:
        """Return this storage on a GPU."""
        place = device if isinstance(device, (Device, str)) else Device("cuda", device or 0)
        return LocatedStorage(Device(place), self._size)


def storage_id(given: Any) -> tuple[DType | None, str, str, int]:
    """Return the dtype, key, location and number of elements that a persistent id tells."""
    if isinstance(given, tuple) and given and given[0] == "module":
        raise UnsupportedError("load: the file holds a whole module, which is code. Save the model's state_dict().")
    if not isinstance(given, tuple) or len(given) not in (5, 6) or given[0] != "storage":
        raise ValueError(f"an unknown kind of persistent id: {str(given)[:100]}")
    kind, key, location, count = given[1:5]
    if len(given) == 6 and given[5] is not None:
        raise UnsupportedError("load: a storage that is a part of another, as versions before 0.4 wrote them")
    if not isinstance(kind, StorageType) or type(key) is not str or type(location) is not str:
        raise ValueError(f"a malformed description of a storage: {str(given)[:100]}")
    if type(count) is not int or not 0 <= count < 2**63:
        raise ValueError(f"a storage of {str(count)[:40]} elements")
    return kind.dtype, key, location, count


class Checkpoint:
    """One file that is being read."""

    def __init__(self, find_storage: Callable[[Any], Stored], map_location: MapLocation, size: int):
        self._find_storage = find_storage
        self._map_location = map_location
        self._budget = Budget(size)
        self._bare: dict[int, Stored] = {}  # storages that no tensor was made of
        self._calls: dict[int, tuple[Any, Callable[..., Any]]] = {}
        self._own: set[type] = set()

    def names(self) -> Names:
        """Return what the reader of pickles needs to know."""
        return Names(self._find, self._call, self._new, self._persistent, lambda x: type(x) in self._own)

    def check(self) -> None:
        """Raise where the file holds storages as such."""
        if self._bare:
            raise UnsupportedError("load: the file holds storages, not tensors; save the tensors themselves")

    def _persistent(self, given: Any) -> Stored:
        found = self._find_storage(given)
        if found.whole is None:
            self._bare[id(found)] = found
        return found

    # -- names -------------------------------------------------------------------------------------------------------

    def _find(self, name: str) -> Any:
        own = _safe.added(name)
        if own is not None:
            if isinstance(own, type):
                self._own.add(own)
            self._calls[id(own)] = (own, own)
            return own
        known = _PLAIN.get(name)
        if known is not None:
            meaning, call = known
            if call is not None:
                self._calls[id(meaning)] = (meaning, call)
            return meaning
        if name in self._REBUILDS:
            call = getattr(self, self._REBUILDS[name])
            self._calls[id(call)] = (call, call)
            return call
        module, _, last = name.rpartition(".")
        if name in _REFUSED:
            raise UnsupportedError(f"load: the file holds {_REFUSED[name]}")
        if name in ("torch.storage.UntypedStorage", "torch.UntypedStorage"):
            return _BYTES
        if module in ("torch", "torch.cuda", "torch.storage") and last in _STORAGE_TYPES:
            return _STORAGE_TYPES[last]
        if module == "torch" and last in _DTYPES:
            return _DTYPES[last]
        if module == "torch" and last.startswith(_DTYPE_PREFIXES):
            raise UnsupportedError(f"load: the file holds a tensor of {name}, a dtype that tracegrad does not have")
        raise pickle.UnpicklingError(
            f"Unsupported global: GLOBAL {name[:200]} was not an allowed global by default. Nothing but tensors, "
            "containers and numbers is made of a file. If you trust it, allow the class or function with "
            f"`tracegrad.serialization.add_safe_globals([{last[:200]}])`")

    def _call(self, what: Any, arguments: tuple[Any, ...]) -> Any:
        known = self._calls.get(id(what))
        if known is None:
            raise ValueError(f"a call of what is no function of checkpoints: {type(what).__name__}")
        return known[1](*arguments)

    def _new(self, what: Any, arguments: tuple[Any, ...]) -> Any:
        if what in self._own:
            return what.__new__(what, *arguments)
        return self._call(what, arguments)

    # -- where tensors go --------------------------------------------------------------------------------------------

    def place(self, location: str, size: int) -> Device:
        """Return the device for a storage that was saved at ``location``."""
        to = self._map_location
        if isinstance(to, Mapping):
            return _restored(str(to.get(location, location)))
        if to is None:
            return _restored(location)
        if callable(to) and not isinstance(to, Device):
            chosen = to(LocatedStorage(Device("cpu"), size), location)
            return _restored(location) if chosen is None else _restored(str(Device(chosen.device)))
        return _restored(str(to))

    # -- rebuilding tensors ------------------------------------------------------------------------------------------

    _REBUILDS = {
        "torch._utils._rebuild_tensor": "_tensor",
        "torch._utils._rebuild_tensor_v2": "_tensor",
        "torch._utils._rebuild_tensor_v3": "_typed_tensor",
        "torch._utils._rebuild_parameter": "_parameter",
        "torch._utils._rebuild_parameter_with_state": "_parameter",
        "torch._tensor._rebuild_from_type_v2": "_from_type",
    }

    def _tensor(self, stored: Any, offset: Any, size: Any, stride: Any, requires_grad: Any = False,
                hooks: Any = None, metadata: Any = None) -> Tensor:  # fmt: skip
        if not isinstance(stored, Stored) or stored.dtype is None:
            raise TypeError(f"a tensor made of {type(stored).__name__}")
        return self._made(stored, offset, size, stride, stored.dtype, requires_grad, metadata)

    def _typed_tensor(self, stored: Any, offset: Any, size: Any, stride: Any, requires_grad: Any, hooks: Any,
                      dtype: Any, metadata: Any = None) -> Tensor:  # fmt: skip
        if not isinstance(stored, Stored) or not isinstance(dtype, DType):
            raise TypeError(f"a tensor of {type(dtype).__name__} made of {type(stored).__name__}")
        return self._made(stored, offset, size, stride, dtype, requires_grad, metadata)

    def _made(self, stored: Stored, offset: Any, size: Any, stride: Any, dtype: DType, requires_grad: Any,
              metadata: Any) -> Tensor:  # fmt: skip
        made = with_bits(stored.tensor(offset, size, stride, dtype, self._budget), metadata)
        self._bare.pop(id(stored), None)
        return _wanting(made, requires_grad)

    def _parameter(self, data: Any, requires_grad: Any, hooks: Any = None, state: Any = None) -> Parameter:
        if type(data) is not Tensor:
            raise TypeError(f"a parameter made of {type(data).__name__}")
        # It was made a moment ago, for this parameter: changing its class keeps it among those that share its elements.
        data.__class__ = Parameter
        _with_attributes(_wanting(data, requires_grad), state)
        return data  # type: ignore[return-value]

    def _from_type(self, make: Any, cls: Any, arguments: Any, state: Any) -> Tensor:
        if not isinstance(arguments, tuple) or not (cls in (Tensor, Parameter) or cls in self._own):
            raise TypeError("a tensor of an unknown class")
        made = self._call(make, arguments)
        if not isinstance(made, Tensor):
            raise TypeError(f"a tensor made of {type(made).__name__}")
        state = dict(state) if type(state) is dict else state
        if type(state) is dict and state.pop("_is_buffer", False):
            made.__class__ = Buffer
            made.persistent = bool(state.pop("persistent", True))  # type: ignore[attr-defined]
        elif type(made) is not cls:
            made.__class__ = cls
        return _with_attributes(made, state)


def _restored(location: str) -> Device:
    kind = location.partition(":")[0]
    if kind not in ("cpu", "cuda", "tpu"):
        raise RuntimeError(f"don't know how to restore data location of torch.storage.UntypedStorage (tagged with "
                           f"{location[:40]})")
    try:
        device = Device(location)
    except ValueError:
        raise RuntimeError(f"Invalid device string: '{location[:40]}'") from None
    if device.type == "cpu":
        return Device("cpu")
    try:
        _device.to_jax(device)
    except RuntimeError:
        raise RuntimeError(
            f"Attempting to deserialize object on a {kind.upper()} device but there is none. If you are running on a "
            "CPU-only machine, please use torch.load with map_location=torch.device('cpu') to map your storages to the "
            "CPU.") from None
    return device


def _wanting(tensor: Tensor, wants: Any) -> Tensor:
    if type(wants) is not bool:
        raise TypeError(f"requires_grad is {type(wants).__name__}")
    if wants and not tensor.dtype.is_inexact:
        raise ValueError(f"a tensor of {tensor.dtype} that requires gradients")
    want_grad(tensor, wants)
    return tensor


def _with_attributes(tensor: Tensor, state: Any) -> Tensor:
    """Give a tensor the attributes that its owner once set, except where that would change what it is."""
    if state is None:
        return tensor
    if type(state) is not dict:
        raise TypeError(f"attributes of a tensor as {type(state).__name__}")
    for name in state:
        if type(name) is not str or name == "_value" or hasattr(type(tensor), name):
            raise ValueError(f"the attribute {str(name)[:40]!r} of a tensor is not for files to set")
    tensor.__dict__.update(state)
    return tensor


def _encoded(text: Any, encoding: Any = "latin1") -> bytes:
    if type(text) is not str or encoding not in ("latin1", "latin-1"):
        raise TypeError(f"bytes of {type(text).__name__} in {str(encoding)[:20]!r}")
    return text.encode("latin-1")


def _bytes(given: Any = b"", encoding: Any = "latin1") -> bytes:
    if isinstance(given, str):
        return _encoded(given, encoding)
    if type(given) is not bytes:
        raise TypeError(f"bytes of {type(given).__name__}")
    return given


def _bytearray(given: Any = b"", encoding: Any = "latin1") -> bytearray:
    return bytearray(_bytes(given, encoding))


def _complex(real: Any, imag: Any = 0.0) -> complex:
    if not isinstance(real, (int, float)) or not isinstance(imag, (int, float)):
        raise TypeError("a complex number of other things than numbers")
    return complex(real, imag)


def _slice(*parts: Any) -> slice:
    return slice(*parts)


def _range(*parts: int) -> range:
    return range(*parts)


def _size(given: Any = ()) -> Size:
    if not isinstance(given, (tuple, list)) or not all(type(n) is int for n in given):
        raise TypeError("a torch.Size of other things than integers")
    return Size(given)


def _named_device(*given: Any) -> Device:
    try:
        return Device(*given)
    except RuntimeError as error:
        raise ValueError(str(error)) from None


def _layout(name: Any) -> Any:
    if name != "torch.strided":
        raise UnsupportedError(f"load: the file holds the layout {str(name)[:40]}; tensors here are all dense")
    return strided


_DTYPES = {d.name: d for d in _dtype.ALL}
_DTYPE_PREFIXES = ("float8", "float4", "bits", "int", "uint", "quint", "qint", "complex")
_PLAIN: dict[str, tuple[Any, Callable[..., Any] | None]] = {
    "collections.OrderedDict": (OrderedDict, None), "collections.Counter": (Counter, None),
    "builtins.set": (set, None), "builtins.frozenset": (frozenset, None), "builtins.complex": (complex, _complex),
    "builtins.bytearray": (bytearray, _bytearray), "builtins.bytes": (bytes, _bytes), "builtins.slice": (slice, _slice),
    "builtins.range": (range, _range), "_codecs.encode": (_encoded, _encoded), "torch.Size": (Size, _size),
    "torch.device": (Device, _named_device), "torch.Tensor": (Tensor, None),
    "torch.nn.parameter.Parameter": (Parameter, None),
    "torch.serialization._get_layout": (_layout, _layout),
}  # fmt: skip
