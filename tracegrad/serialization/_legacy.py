"""The format of PyTorch before 1.6: pickles one after another, then the bytes of the storages."""

from __future__ import annotations

import io
import pickle
import struct
from typing import IO, Any

from tracegrad._errors import UnsupportedError
from tracegrad.serialization._names import Checkpoint, MapLocation, storage_id
from tracegrad.serialization._stored import Stored, swaps
from tracegrad.serialization._unpickler import Names, unpickle

_MAGIC = 0x1950A86A20F9469CFC6C
_VERSION = 1001


class _Blank:
    """Stands for every object in the first pass over a file, which only looks for its storages."""


def _blank(what: Any, given: Any) -> _Blank:
    return _Blank()


class _Bounded(io.RawIOBase):
    """A file from which nobody reads more than is left of it, whatever size the file declares."""

    def __init__(self, file: IO[bytes]):
        self._file = file
        start = file.tell()
        self.end = file.seek(0, io.SEEK_END)
        file.seek(start)

    def read(self, size: int = -1) -> bytes:
        left = self.end - self._file.tell()
        return self._file.read(left if size < 0 else min(size, left))

    def readline(self, size: int | None = -1) -> bytes:
        return self._file.readline()

    def tell(self) -> int:
        return self._file.tell()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)


def load(given: IO[bytes], where: str, map_location: MapLocation, encoding: str) -> Any:
    """Return the object in a file of the old format."""
    file: Any = _Bounded(given)
    plain = Names(_no_name, _no_call, _no_call, _no_call, lambda x: False)
    try:
        if unpickle(file, plain, encoding) != _MAGIC:
            raise pickle.UnpicklingError("it is a pickle")
    except (pickle.UnpicklingError, UnsupportedError):
        raise pickle.UnpicklingError("Invalid magic number; corrupt file? It is neither a zip archive nor a file of "
                                     "PyTorch's old format") from None
    if unpickle(file, plain, encoding) != _VERSION:
        raise RuntimeError(f"load: {where}: Invalid protocol version; {_VERSION} is known")
    system = unpickle(file, plain, encoding)
    order = "little" if not isinstance(system, dict) or system.get("little_endian", True) else "big"

    start = file.tell()
    found: dict[str, tuple[Any, ...]] = {}

    def note(given: Any) -> _Blank:
        described = storage_id(given)
        if found.setdefault(described[1], described) != described:
            raise ValueError(f"storage {described[1]!r} is described in two ways")
        return _Blank()

    real = Checkpoint(lambda given: storages[storage_id(given)[1]], map_location, file.end).names()
    blank = Names(real.find, _blank, _blank, note, lambda x: False, (_Blank,))
    unpickle(file, blank, encoding)
    keys = unpickle(file, plain, encoding)
    if not isinstance(keys, list) or not all(type(k) is str for k in keys) or set(keys) != set(found):
        raise pickle.UnpicklingError("malformed file: its list of storages does not match its tensors")

    checkpoint = Checkpoint(lambda given: storages[storage_id(given)[1]], map_location, file.end)
    storages: dict[str, Stored] = {}
    for key in dict.fromkeys(keys):
        dtype, _, location, count = found[key]
        itemsize = 1 if dtype is None else dtype.itemsize
        head = file.read(8)
        size = struct.unpack(f"{'<' if order == 'little' else '>'}q", head)[0] if len(head) == 8 else -1
        if size != count or file.end - file.tell() < size * itemsize:
            raise RuntimeError(f"load: {where}: the storage {key!r} has {size} elements in a file with "
                               f"{max(0, file.end - file.tell())} bytes left, expected {count}. The file is corrupt.")
        data = file.read(size * itemsize)
        storages[key] = Stored(key, dtype, count, checkpoint.place(location, len(data)), data, swaps(order))
    file.seek(start)
    result = unpickle(file, checkpoint.names(), encoding)
    checkpoint.check()
    return result


def _no_name(name: str) -> Any:
    raise pickle.UnpicklingError(f"the global {name[:100]} stands where none belongs")


def _no_call(*given: Any) -> Any:
    raise pickle.UnpicklingError("an object stands where none belongs")
