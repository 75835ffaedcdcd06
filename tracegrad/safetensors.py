"""Tensors in ``.safetensors`` files, by the ``safetensors`` library, under the names of its ``safetensors.torch``.

The format holds names and elements, no code and no objects. Needs ``pip install tracegrad[safetensors]``.

See https://huggingface.co/docs/safetensors
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from tracegrad import _dtype
from tracegrad._device import Device
from tracegrad._engine.trace import force
from tracegrad._engine.value import aval, concrete
from tracegrad._errors import UnsupportedError
from tracegrad._handle import tensor_of
from tracegrad._tensor import Tensor
from tracegrad.nn import Module
from tracegrad.serialization._save import replacing

if TYPE_CHECKING:
    from types import TracebackType

_NAMES = {
    "F64": _dtype.float64, "F32": _dtype.float32, "F16": _dtype.float16, "BF16": _dtype.bfloat16,
    "I64": _dtype.int64, "I32": _dtype.int32, "I16": _dtype.int16, "I8": _dtype.int8, "U64": _dtype.uint64,
    "U32": _dtype.uint32, "U16": _dtype.uint16, "U8": _dtype.uint8, "BOOL": _dtype.bool_, "C64": _dtype.complex64,
}  # fmt: skip


def save(tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> bytes:
    """Return the bytes of a file with these tensors.

    Args:
        tensors: by name; contiguous, and none of them sharing elements with another.
        metadata: texts to keep with them.

    Raises:
        ValueError: where ``tensors`` is no dict of tensors, or one is not contiguous.
        RuntimeError: where tensors share elements.

    Example:
        >>> import tracegrad as torch
        >>> from tracegrad.safetensors import load, save
        >>> load(save({"w": torch.ones(2)}))
        {'w': tensor([1., 1.])}
    """
    arrays = _arrays(tensors)
    return bytes(_library().serialize(_described(arrays), metadata=metadata))


def save_file(tensors: dict[str, Tensor], filename: str | os.PathLike[str],
              metadata: dict[str, str] | None = None) -> None:  # fmt: skip
    """Write a file with these tensors, whole or not at all; as `save`."""
    arrays = _arrays(tensors)
    with replacing(os.fspath(filename)) as file:
        file.write(_library().serialize(_described(arrays), metadata=metadata))


def load(data: bytes) -> dict[str, Tensor]:
    """Return the tensors in the bytes of a file.

    Raises:
        safetensors.SafetensorError: where they are malformed.
        UnsupportedError: for dtypes that are not supported.
    """
    found = {}
    for name, entry in _library().deserialize(data):
        found[name] = _tensor(entry["dtype"], entry["shape"], entry["data"], Device("cpu"))
    return found


def load_file(filename: str | os.PathLike[str], device: str | int | Device = "cpu", *,
              backend: str = "mmap") -> dict[str, Tensor]:  # fmt: skip
    """Return the tensors in a file.

    Args:
        filename: its path.
        device: where the tensors go; a number is that GPU.
        backend: accepted for the library's signature.

    Raises:
        FileNotFoundError: where there is no such file.
        safetensors.SafetensorError: where it is malformed.
    """
    with safe_open(filename, "pt", device) as file:
        return {name: file.get_tensor(name) for name in file.keys()}


class safe_open:
    """A file whose tensors are read one by one, or in part.

    Args:
        filename: its path.
        framework: accepted for the library's signature: tensors are always those of this package.
        device: where the tensors go.

    Example:
        >>> import os, tempfile
        >>> import tracegrad as torch
        >>> from tracegrad.safetensors import safe_open, save_file
        >>> path = os.path.join(tempfile.mkdtemp(), "a.safetensors")
        >>> save_file({"w": torch.arange(6).view(2, 3)}, path, {"made": "today"})
        >>> with safe_open(path) as file:
        ...     print(file.keys(), file.metadata(), file.get_slice("w")[:, 1])
        ['w'] {'made': 'today'} tensor([1, 4])
    """

    def __init__(self, filename: str | os.PathLike[str], framework: str = "pt", device: str | int | Device = "cpu"):
        self._device = Device("cuda", device) if isinstance(device, int) else Device(device)
        self._file = _library().safe_open(os.fspath(filename), framework="np")

    def __enter__(self) -> safe_open:
        self._file.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:  # fmt: skip
        self._file.__exit__(kind, error, traceback)

    def keys(self) -> list[str]:
        """Return the names of the tensors."""
        return list(self._file.keys())

    def metadata(self) -> dict[str, str] | None:
        """Return the texts that were kept with the tensors."""
        return self._file.metadata()  # type: ignore[no-any-return]

    def get_tensor(self, name: str) -> Tensor:
        """Return one tensor."""
        part = self._file.get_slice(name)
        _check(part.get_dtype())
        return self._made(self._file.get_tensor(name), part.get_dtype())

    def get_slice(self, name: str) -> _Slice:
        """Return what reads parts of one tensor by an index."""
        return _Slice(self, self._file.get_slice(name))

    def _made(self, array: Any, name: str) -> Tensor:
        array = np.asarray(array)
        return _tensor(name, array.shape, np.ascontiguousarray(array).tobytes(), self._device)


class _Slice:
    """Reads parts of one tensor of an open file."""

    def __init__(self, file: safe_open, part: Any):
        self._file, self._part = file, part

    def get_shape(self) -> list[int]:
        """Return the shape of the whole tensor."""
        return self._part.get_shape()  # type: ignore[no-any-return]

    def get_dtype(self) -> str:
        """Return the format's name of the dtype."""
        return self._part.get_dtype()  # type: ignore[no-any-return]

    def __getitem__(self, index: Any) -> Tensor:
        _check(self._part.get_dtype())
        return self._file._made(self._part[index], self._part.get_dtype())


def save_model(model: Module, filename: str | os.PathLike[str], metadata: dict[str, str] | None = None,
               force_contiguous: bool = True) -> None:  # fmt: skip
    """Write a module's state dict; of parameters that share elements only one, the others' names in the metadata.

    See https://huggingface.co/docs/safetensors/torch_shared_tensors
    """
    state = dict(model.state_dict())
    metadata = dict(metadata or {})
    for kept, others in _duplicates(state, set()).items():
        for name in others:
            metadata.setdefault(name, kept)
            del state[name]
    if force_contiguous:
        state = {name: tensor.contiguous() for name, tensor in state.items()}
    save_file(state, filename, metadata or None)


def load_model(model: Module, filename: str | os.PathLike[str], strict: bool = True,
               device: str | int | Device = "cpu", *, backend: str = "mmap") -> tuple[set[str], list[str]]:  # fmt: skip
    """Load what `save_model` wrote into a module; return the names that were missing, and those without a place.

    Raises:
        RuntimeError: where ``strict`` and there are any.
    """
    loaded = load_file(filename, device, backend=backend)
    duplicates = _duplicates(dict(model.state_dict()), set(loaded))
    found = model.load_state_dict(loaded, strict=False)
    missing, unexpected = set(found.missing_keys), list(found.unexpected_keys)
    for others in duplicates.values():
        for name in others:
            if name in missing:
                missing.remove(name)
            else:
                unexpected.append(name)
    if strict and (missing or unexpected):
        lines = [f"Error(s) in loading state_dict for {type(model).__name__}:"]
        for names, what in ((sorted(missing), "Missing"), (sorted(unexpected), "Unexpected")):
            if names:
                shown = ", ".join(f'"{name}"' for name in names)
                lines.append(f"    {what} key(s) in state_dict: {shown}")
        raise RuntimeError("\n".join(lines))
    return missing, unexpected


# -- shared elements -------------------------------------------------------------------------------------------


def _shared(tensors: Mapping[str, Tensor]) -> list[list[str]]:
    """Return the groups of names whose tensors have elements in common."""
    areas: dict[Any, list[tuple[int, int, str]]] = {}
    for name, tensor in tensors.items():
        if tensor._storage is not None and tensor.numel():
            end = 1 + sum((n - 1) * s for n, s in zip(tensor.shape, tensor.stride()))
            start = tensor.data_ptr()
            areas.setdefault(tensor.untyped_storage(), []).append((start, start + end * tensor.itemsize, name))
    groups = []
    for parts in areas.values():
        last = -1
        for start, stop, name in sorted(parts):
            if start >= last:
                groups.append([name])
            else:
                groups[-1].append(name)
            last = max(last, stop)
    return [sorted(group) for group in groups if len(group) > 1]


def _duplicates(state: dict[str, Tensor], preferred: set[str]) -> dict[str, list[str]]:
    """Return, for every group that shares elements, the name that stays, and the others."""
    found = {}
    for names in _shared(state):
        whole = [n for n in names if state[n].numel() * state[n].itemsize == state[n].untyped_storage().nbytes()]
        if not whole:
            raise RuntimeError(
                "Error while trying to find names to remove to save state dict, but found no suitable name to keep for "
                f"saving amongst: {set(names)}. None is covering the entire storage. Refusing to save/load the model "
                "since you could be storing much more memory than needed.")
        kept = next((n for n in whole if n in preferred), whole[0])
        found[kept] = [n for n in names if n != kept]
    return found


# -- bytes -----------------------------------------------------------------------------------------------------


def _arrays(tensors: dict[str, Tensor]) -> dict[str, np.ndarray[Any, Any]]:
    if not isinstance(tensors, dict):
        raise ValueError(f"Expected a dict of [str, torch.Tensor] but received {type(tensors)}")
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            raise ValueError(f"Key `{name}` is invalid, expected torch.Tensor but received {type(tensor)}")
    shared = _shared(tensors)
    if shared:
        raise RuntimeError(
            "Some tensors share memory, this will lead to duplicate memory on disk and potential differences when "
            f"loading them again: {[set(names) for names in shared]}. A potential way to correctly save your model is "
            "to use `save_model`. More information at https://huggingface.co/docs/safetensors/torch_shared_tensors")
    found = {}
    for name, tensor in tensors.items():
        if tensor.dtype not in _NAMES.values():
            raise UnsupportedError(f"the safetensors format has no {tensor.dtype}: save {name!r} as another dtype")
        if not tensor.is_contiguous():
            raise ValueError(
                f"You are trying to save a non contiguous tensor: `{name}` which is not allowed. It either means you "
                "are trying to save tensors which are reference of each other in which case it's recommended to save "
                "only the full tensors, and reslice at load time, or simply call `.contiguous()` on your tensor to "
                "pack it before saving.")
        found[name] = np.ascontiguousarray(force(tensor._value)).reshape(tuple(tensor.shape))
    return found


def _described(arrays: dict[str, np.ndarray[Any, Any]]) -> dict[str, Any]:
    spec = _library().TensorSpec  # it points into the arrays, which the caller holds
    return {name: spec(dtype=array.dtype.name, shape=list(array.shape), data_ptr=array.ctypes.data,
                       data_len=array.nbytes) for name, array in arrays.items()}  # fmt: skip


def _tensor(name: str, shape: Any, data: Any, device: Device) -> Tensor:
    dtype = _check(name)
    array = np.frombuffer(bytes(data), np.uint8) != 0 if dtype is _dtype.bool_ else np.frombuffer(bytes(data), dtype.np)
    return tensor_of(concrete(array.reshape(tuple(shape)), aval(tuple(shape), dtype, device)))


def _check(name: str) -> _dtype.DType:
    if name not in _NAMES:
        raise UnsupportedError(f"a tensor of the dtype {name}, which is not supported; known are {', '.join(_NAMES)}")
    return _NAMES[name]


def _library() -> Any:
    try:
        return importlib.import_module("safetensors")
    except ImportError:
        raise ImportError("tracegrad.safetensors needs the safetensors library: pip install 'tracegrad[safetensors]'"
                          ) from None  # fmt: skip
