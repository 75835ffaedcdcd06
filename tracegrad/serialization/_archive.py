"""The zip archive that a ``.pt`` file is: every size is checked before it is believed, and records are aligned.

Records are stored, never compressed, as PyTorch does it: what is read is never larger than the file. Nothing is ever
extracted to a path, so names in the archive cannot lead anywhere.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from typing import IO, Any

_LOCAL = struct.Struct("<4s5H3L2H")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR = struct.Struct("<4sLQL")
_MAGIC, _MAGIC_CENTRAL, _MAGIC_END = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"
_MAGIC_END64, _MAGIC_LOCATOR = b"PK\x06\x06", b"PK\x06\x07"

#: Sizes and offsets from here on need the fields of 64 bits; the others then hold this.
_WIDE = _ELSEWHERE = 0xFFFFFFFF
_DATE = (1 << 5) | 1  # the first of January 1980, so that equal objects make equal files
ALIGNMENT = 64

_HINT = "The file is corrupt: it was cut off, changed, or is no file that save() wrote"


class Reader:
    """The records of an archive, by their names below its one top folder."""

    def __init__(self, file: IO[bytes], where: str):
        self._file, self._where = file, where
        self._size = file.seek(0, io.SEEK_END)
        file.seek(0)
        try:
            with zipfile.ZipFile(file) as archive:
                entries = archive.infolist()
        except (zipfile.BadZipFile, NotImplementedError, ValueError, OverflowError, EOFError, struct.error) as error:
            raise self.corrupt(f"has no readable list of records ({error})") from None
        self._entries: dict[str, zipfile.ZipInfo] = {}
        tops = set()
        for entry in entries:
            top, _, name = entry.orig_filename.partition("/")
            tops.add(top)
            if name in self._entries:
                raise self.corrupt(f"has the record {name!r} twice")
            self._entries[name] = entry
        if len(tops) > 1:
            raise self.corrupt("has more than one top folder")
        if sum(entry.compress_size for entry in entries) > self._size:
            raise self.corrupt(f"declares more data than its {self._size} bytes")

    def corrupt(self, what: str) -> RuntimeError:
        """Return the error that says ``what`` is wrong with the archive."""
        return RuntimeError(f"load: failed reading zip archive: {self._where} {what}. {_HINT}.")

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def size(self, name: str) -> int:
        """Return the number of bytes of a record."""
        return self._entry(name).file_size

    def _entry(self, name: str) -> zipfile.ZipInfo:
        if name not in self._entries:
            raise self.corrupt(f"has no record {name!r}")
        return self._entries[name]

    def read(self, name: str) -> bytes:
        """Return the bytes of a record."""
        entry = self._entry(name)
        if entry.flag_bits & 1:
            raise self.corrupt(f"has an encrypted record {name!r}")
        if entry.compress_type != zipfile.ZIP_STORED:
            raise self.corrupt(f"has a compressed record {name!r}, which PyTorch never writes and which may unpack to "
                               "any size: unpack it and pack it without compression")
        if entry.file_size != entry.compress_size:
            raise self.corrupt(f"gives two sizes for the record {name!r}")
        if not 0 <= entry.header_offset < self._size:
            raise self.corrupt(f"places the record {name!r} at byte {entry.header_offset}")
        self._file.seek(entry.header_offset)
        header = self._file.read(_LOCAL.size)
        if len(header) < _LOCAL.size or header[:4] != _MAGIC:
            raise self.corrupt(f"has no header for the record {name!r} at byte {entry.header_offset}")
        fields = _LOCAL.unpack(header)
        own = self._file.read(fields[-2])
        start = entry.header_offset + _LOCAL.size + fields[-2] + fields[-1]
        if own.decode("utf-8", "replace") != entry.orig_filename:
            raise self.corrupt(f"calls the record {name!r} {own[:80]!r} in another place")
        if start + entry.file_size > self._size:
            raise self.corrupt(f"ends before the record {name!r} does")
        self._file.seek(start)
        data = self._file.read(entry.file_size)
        if zlib.crc32(data) != entry.CRC:
            raise self.corrupt(f"has a record {name!r} whose checksum (CRC) is wrong")
        return data


class Writer:
    """Writes an archive from the front to the back; needs no seeking."""

    def __init__(self, file: IO[bytes], top: str):
        self._file, self._top = file, top
        self._at = 0
        self._directory: list[bytes] = []

    def _put(self, data: Any) -> None:
        self._file.write(data)
        self._at += memoryview(data).nbytes

    def write(self, name: str, data: Any) -> None:
        """Write one record; its first byte is aligned, for readers that map the file into memory."""
        full = f"{self._top}/{name}".encode()
        view = memoryview(data).cast("B")
        size, crc, at = view.nbytes, zlib.crc32(view), self._at
        wide = size >= _WIDE
        extra = struct.pack("<2H2Q", 1, 16, size, size) if wide else b""
        begin = at + _LOCAL.size + len(full) + len(extra) + 4
        padding = -begin % ALIGNMENT
        extra += struct.pack("<2H", 0x4246, padding) + b"Z" * padding
        shown = _ELSEWHERE if wide else size
        self._put(_LOCAL.pack(_MAGIC, 45 if wide else 20, 0x800, 0, 0, _DATE, crc, shown, shown, len(full), len(extra)))
        self._put(full)
        self._put(extra)
        self._put(view)
        more = struct.pack("<2Q", size, size) if wide else b""
        if at >= _WIDE:
            more += struct.pack("<Q", at)
        if more:
            more = struct.pack("<2H", 1, len(more)) + more
        self._directory.append(_CENTRAL.pack(
            _MAGIC_CENTRAL, 45, 45 if more else 20, 0x800, 0, 0, _DATE, crc, shown, shown, len(full), len(more), 0, 0,
            0, 0, at if at < _WIDE else _ELSEWHERE) + full + more)  # fmt: skip

    def finish(self) -> None:
        """Write the list of records."""
        start, count = self._at, len(self._directory)
        for entry in self._directory:
            self._put(entry)
        size, end = self._at - start, self._at
        wide = start >= _WIDE or size >= _WIDE or count >= 0xFFFF
        if wide:
            self._put(_END64.pack(_MAGIC_END64, 44, 45, 45, 0, 0, count, count, size, start))
            self._put(_LOCATOR.pack(_MAGIC_LOCATOR, 0, end, 1))
        shown = (0xFFFF, 0xFFFF, _ELSEWHERE, _ELSEWHERE) if wide else (count, count, size, start)
        self._put(_END.pack(_MAGIC_END, 0, 0, *shown, 0))
