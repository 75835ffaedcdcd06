"""Reading files that ``save`` of this package or of PyTorch wrote."""

from __future__ import annotations

import io
import os
import pickle
from collections.abc import Callable
from contextlib import nullcontext
from typing import IO, Any

from tracegrad._errors import UnsupportedError
from tracegrad.serialization import _legacy
from tracegrad.serialization._archive import Reader
from tracegrad.serialization._names import Checkpoint, MapLocation, storage_id
from tracegrad.serialization._stored import Stored, swaps
from tracegrad.serialization._unpickler import unpickle


def load(f: Any, map_location: MapLocation = None, pickle_module: Any = None, *, weights_only: bool | None = None,
         mmap: bool | None = None, **pickle_load_args: Any) -> Any:  # fmt: skip
    """Return the object in a ``.pt`` file that `save` wrote, or PyTorch's ``torch.save``, old formats included.

    No code of the file is ever run: it may hold tensors, parameters, containers, numbers, strings, sizes, dtypes and
    devices, and objects of the classes allowed with `add_safe_globals`. Every size is checked before memory is taken.
    Tensors that shared a storage share their elements again.

    Args:
        f: a path, or a file open for reading bytes that can seek.
        map_location: where the tensors go: a device, a dict from saved locations to devices, or a function of a
            storage and its saved location that returns the storage, or what its ``cpu()`` or ``cuda()`` returns.
        pickle_module: not supported; files are read by a reader of our own.
        weights_only: accepted; False changes nothing, since code from files is never run.
        mmap: accepted for paths; the file is read all the same.
        pickle_load_args: ``encoding`` of strings that Python 2 wrote.

    Raises:
        pickle.UnpicklingError: where the file asks for something that is not allowed, or is malformed.
        RuntimeError: where the archive is corrupt, or the device of a tensor does not exist here.
        EOFError: for an empty file.
        UnsupportedError: for sparse and quantised tensors, unknown dtypes, TorchScript programs.

    See https://docs.pytorch.org/docs/stable/generated/torch.load.html

    Example:
        >>> import io
        >>> import tracegrad as torch
        >>> file = io.BytesIO()
        >>> torch.save({"w": torch.ones(2), "epoch": 3}, file)
        >>> torch.load(io.BytesIO(file.getvalue()))
        {'w': tensor([1., 1.]), 'epoch': 3}
    """
    if pickle_module is not None and pickle_module is not pickle:
        raise RuntimeError("Can not safely load weights when explicit pickle_module is specified")
    encoding = pickle_load_args.pop("encoding", "utf-8")
    if pickle_load_args:
        raise TypeError(f"load() got an unexpected keyword argument '{next(iter(pickle_load_args))}'")
    is_path = isinstance(f, (str, os.PathLike))
    if mmap and not is_path:
        raise ValueError("f must be a file path in order to use the mmap argument")
    if not is_path:
        for needed in ("read", "seek", "tell"):
            if not hasattr(f, needed):
                raise AttributeError(f"'{type(f).__name__}' object has no attribute '{needed}'. You can only "
                                     "torch.load from a file that is seekable. Please pre-load the data into a buffer "
                                     "like io.BytesIO and try to load from it instead.")
    where = repr(os.fspath(f)) if is_path else getattr(f, "name", None) and repr(f.name) or "the file"
    with open(f, "rb") if is_path else nullcontext(f) as file:
        start = file.tell()
        first = file.read(4)
        file.seek(start)
        if isinstance(first, str):
            raise TypeError("load: expected a file of bytes, got one of text: open it with mode 'rb'")
        if not first:
            raise EOFError(f"load: {where} is empty")
        if first == b"PK\x03\x04":
            return _guarded(lambda: _archive(file, where, map_location, encoding), where, weights_only)
        return _guarded(lambda: _legacy.load(file, where, map_location, encoding), where, weights_only)


def _guarded(read: Callable[[], Any], where: str, weights_only: bool | None) -> Any:
    """Return what ``read`` returns; name the file in its errors."""
    try:
        return read()
    except pickle.UnpicklingError as error:
        more = ""
        if weights_only is False:
            more = " weights_only=False makes no difference: tracegrad never runs code from a file."
        raise pickle.UnpicklingError(f"Weights only load failed. load: {where}: {error}.{more}") from None


def _archive(file: IO[bytes], where: str, map_location: MapLocation, encoding: str) -> Any:
    archive = Reader(file, where)
    if "constants.pkl" in archive and "data.pkl" in archive:
        raise UnsupportedError(f"load: {where} is a TorchScript archive, which is a program. Save the model's "
                               "state_dict() with torch.save, and load that.")
    order = "little"
    if "byteorder" in archive:
        order = archive.read("byteorder").decode("latin-1")
        if order not in ("little", "big"):
            raise archive.corrupt(f"has the unknown byte order {order[:20]!r}")
    storages: dict[str, Stored] = {}

    def find(given: Any) -> Stored:
        dtype, key, location, count = storage_id(given)
        size = count * (1 if dtype is None else dtype.itemsize)
        known = storages.get(key)
        if known is not None:
            if known.dtype is not dtype and dtype is not None or known.count * (
                    1 if known.dtype is None else known.dtype.itemsize) < size:  # fmt: skip
                raise ValueError(f"storage {key!r} is described in two ways")
            return known
        name = f"data/{key}"
        if name in archive and archive.size(name) != size:
            raise archive.corrupt(f"has {archive.size(name)} bytes in the record {name!r} rather than {size}")
        data = archive.read(name)
        made = storages[key] = Stored(key, dtype, count, checkpoint.place(location, size), data, swaps(order))
        return made

    data = archive.read("data.pkl")
    file.seek(0, io.SEEK_END)
    checkpoint = Checkpoint(find, map_location, file.tell())
    result = unpickle(io.BytesIO(data), checkpoint.names(), encoding)
    checkpoint.check()
    return result
