"""Tensors out of bytes: of a buffer, of a file."""

from __future__ import annotations

import os
from array import array
from typing import TYPE_CHECKING, Any

import numpy as np

from tracegrad import _dtype
from tracegrad._dtype import DType
from tracegrad._engine.trace import record
from tracegrad._errors import UnsupportedError
from tracegrad._handle import Handle, constant, tensor_of
from tracegrad._ops._declare import cast_rule, op
from tracegrad._ops.creation import DeviceLike, as_tensor, finish, from_host

if TYPE_CHECKING:
    from tracegrad._tensor import Tensor


@op(method=False)
def frombuffer(buffer: Any, *, dtype: DType, count: int = -1, offset: int = 0, requires_grad: bool = False) -> Tensor:
    """Return a vector of the bytes of any object with the buffer protocol, read as ``dtype``.

    The bytes are copied: ops run later than they are called, and must not see later writes.

    Args:
        buffer: such as ``bytes``, a ``bytearray`` or an ``array.array``.
        dtype: what the bytes are.
        count: how many elements are read; all when -1.
        offset: how many bytes are skipped.
        requires_grad: whether gradients are wanted.

    Raises:
        ValueError: where the bytes are too few, or no whole number of elements.

    See https://docs.pytorch.org/docs/stable/generated/torch.frombuffer.html

    Example:
        >>> import tracegrad as torch
        >>> torch.frombuffer(b"abc", dtype=torch.uint8)
        tensor([97, 98, 99], dtype=torch.uint8)
    """
    try:
        data = memoryview(buffer).cast("B")
    except TypeError:
        raise ValueError("object does not implement Python buffer protocol.") from None
    size, each = data.nbytes, dtype.itemsize
    if size == 0 or count == 0:
        raise ValueError(f"both buffer length ({size}) and count ({count}) must not be 0")
    if not 0 <= offset < size:
        raise ValueError(f"offset ({offset} bytes) must be non-negative and no greater than buffer length ({size} "
                         "bytes) minus 1")
    if count > 0 and offset + count * each > size:
        raise ValueError(f"requested buffer length ({count} * {each} bytes) after offset ({offset} bytes) must not be "
                         f"greater than actual buffer length ({size} bytes)")
    if count < 0 and (size - offset) % each:
        raise ValueError(f"buffer length ({size - offset} bytes) after offset ({offset} bytes) must be a multiple of "
                         f"element size ({each})")
    end = size if count < 0 else offset + count * each
    return finish(from_host(_elements(bytes(data[offset:end]), dtype)), requires_grad)


@op(method=False)
def asarray(obj: Any, *, dtype: DType | None = None, device: DeviceLike = None, copy: bool | None = None,
            requires_grad: bool = False) -> Tensor:  # fmt: skip
    """Return ``obj`` as a tensor: itself where it is one, else a copy. Bytes are read as by `frombuffer`.

    Args:
        obj: a tensor, an array, bytes, a number, or nested sequences of numbers.
        dtype: the dtype of the result; that of ``obj`` when None.
        device: where it is to be.
        copy: True copies in any case; False raises where the result cannot share the elements of ``obj``.
        requires_grad: whether gradients are wanted.

    Raises:
        ValueError: for ``copy=False`` and anything but a tensor: memory is not shared with others, since ops run later
            than they are called.

    See https://docs.pytorch.org/docs/stable/generated/torch.asarray.html
    """
    if isinstance(obj, (bytes, bytearray, memoryview, array)):
        made = frombuffer(obj, dtype=dtype or _dtype.get_default_dtype())
    else:
        made = as_tensor(obj, dtype, device)
    if copy is False and not isinstance(obj, Handle):
        if isinstance(obj, (list, tuple, range)):
            raise ValueError("can't alias arbitrary sequence into a tensor.")
        raise ValueError(f"asarray: a tensor cannot share the memory of {type(obj).__name__}; see from_dlpack")
    if copy is False and made is not obj:
        raise ValueError("can't alias tensor with another dtype or device.")
    if made is obj and copy:
        made = record(cast_rule, (made.dtype,), made)
    if not requires_grad and made._value.spec.wants:
        made = tensor_of(constant(made._value))
    return finish(made, requires_grad)


@op(method=False)
def from_file(filename: str | os.PathLike[str], shared: bool | None = None, size: int = 0, *,
              dtype: DType | None = None, device: DeviceLike = None,
              requires_grad: bool = False) -> Tensor:  # fmt: skip
    """Return a vector of the first ``size`` elements of a file.

    Raises:
        RuntimeError: where the file has fewer elements.
        UnsupportedError: where ``shared``: tensors are never written to files behind one's back.

    See https://docs.pytorch.org/docs/stable/generated/torch.from_file.html
    """
    if shared:
        raise UnsupportedError("from_file: shared=True would write what is done to the tensor to the file, which is "
                               "not supported. Read it, and write it with save() or numpy's tofile()")
    to = dtype or _dtype.get_default_dtype()
    needed = size * to.itemsize
    with open(filename, "rb") as file:
        data = file.read(needed)
    if len(data) < needed:
        raise RuntimeError(f"unable to mmap {needed} bytes from file <{os.fspath(filename)}>: it has {len(data)}")
    return finish(from_host(_elements(data, to), device), requires_grad)


def _elements(data: bytes, dtype: DType) -> np.ndarray[Any, Any]:
    found: np.ndarray[Any, Any] = np.frombuffer(data, np.uint8)
    return found.astype(np.bool_) if dtype is _dtype.bool_ else found.view(dtype.np)
