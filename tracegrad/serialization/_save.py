"""Writing files that ``load`` and PyTorch's ``torch.load`` read; a file is there whole or not at all."""

from __future__ import annotations

import io
import os
import pickle
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any

from tracegrad._errors import UnsupportedError
from tracegrad.serialization._archive import ALIGNMENT, Writer
from tracegrad.serialization._pickler import Pickler


def save(obj: Any, f: Any, pickle_module: Any = None, pickle_protocol: int = 2,
         _use_new_zipfile_serialization: bool = True, _disable_byteorder_record: bool = False) -> None:  # fmt: skip
    """Write an object to a ``.pt`` file in PyTorch's format; ``torch.load`` reads what consists of its own types.

    A path is written whole or not at all: where saving fails, the file that was there stays. Tensors that share
    elements are written once and share them again when loaded. Of elements that no saved tensor shows, zeros are
    written.

    Args:
        obj: tensors, state dicts, containers, numbers; also other objects that pickle takes, which `load` only gives
            back where their classes are allowed with ``serialization.add_safe_globals``.
        f: a path, or a file open for writing bytes.
        pickle_module: not supported; files are written by a writer of our own.
        pickle_protocol: 2 to 5; PyTorch reads 2 best.

    Raises:
        RuntimeError: where the folder does not exist, or tensors show the same elements as different dtypes.

    See https://docs.pytorch.org/docs/stable/generated/torch.save.html

    Example:
        >>> import io
        >>> import tracegrad as torch
        >>> file = io.BytesIO()
        >>> torch.save(torch.nn.Linear(2, 1).state_dict(), file)
        >>> list(torch.load(io.BytesIO(file.getvalue())))
        ['weight', 'bias']
    """
    if pickle_module is not None and pickle_module is not pickle:
        raise UnsupportedError("save: pickle_module is not supported: files are written by a pickler of our own")
    if not _use_new_zipfile_serialization:
        raise UnsupportedError("save: the old format is read but not written; PyTorch reads the new one since 1.6")
    if type(pickle_protocol) is not int or not 2 <= pickle_protocol <= pickle.HIGHEST_PROTOCOL:
        raise ValueError(f"save: pickle_protocol must be 2 to {pickle.HIGHEST_PROTOCOL}, got {pickle_protocol}")
    if isinstance(f, (str, os.PathLike)):
        with replacing(os.fspath(f)) as file:
            _write(obj, file, pickle_protocol, _disable_byteorder_record)
    elif hasattr(f, "write"):
        _write(obj, f, pickle_protocol, _disable_byteorder_record)
    else:
        raise AttributeError("expected 'f' to be string, path, or a file-like object with a 'write' attribute")


def _write(obj: Any, file: IO[bytes], protocol: int, no_order: bool) -> None:
    stream = io.BytesIO()
    pickler = Pickler(stream, protocol)
    pickler.dump(obj)
    writer = Writer(file, "archive")
    writer.write("data.pkl", stream.getbuffer())
    writer.write(".format_version", b"1")
    writer.write(".storage_alignment", str(ALIGNMENT).encode())
    if not no_order:
        writer.write("byteorder", sys.byteorder.encode())
    for kept in pickler.storages.values():
        writer.write(f"data/{kept.key}", kept.data())
    writer.write("version", b"3\n")
    writer.finish()


@contextmanager
def replacing(path: str) -> Iterator[IO[bytes]]:
    """Open a file beside ``path`` for writing, and put it in the place of ``path`` once all is well."""
    path = os.path.realpath(path)
    folder = os.path.dirname(path)
    if not os.path.isdir(folder):
        raise RuntimeError(f"Parent directory {folder} does not exist.")
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        mask = os.umask(0)
        os.umask(mask)
        mode = stat.S_IFREG | (0o666 & ~mask)
    if not stat.S_ISREG(mode):  # a device or a pipe cannot be replaced, a folder must not
        with open(path, "wb") as file:
            yield file
        return
    handle, beside = tempfile.mkstemp(prefix=f".{os.path.basename(path)[:100]}.", suffix=".tmp", dir=folder)
    try:
        with open(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(beside, stat.S_IMODE(mode))
        os.replace(beside, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(beside)
        raise
