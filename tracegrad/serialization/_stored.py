"""The storages of a file, and the tensors that lie in them: tensors of one storage share their elements.

NOTE [Shared storages] The first tensor that fills a storage in order holds its elements. For every other one a view of
it is recorded, and the tensor is an alias of that view (``_handle.py``, NOTE [Aliases]): a leaf of its own, as in
PyTorch, while writes to either show in both.
"""

from __future__ import annotations

import sys
from typing import Any

import jax.numpy as jnp
import numpy as np

from tracegrad._device import Device
from tracegrad._dtype import DType, bool_
from tracegrad._engine.op import Lowering
from tracegrad._engine.value import Aval, aval, concrete
from tracegrad._errors import UnsupportedError
from tracegrad._grad_mode import no_grad
from tracegrad._handle import alias, tensor_of
from tracegrad._layout import in_order
from tracegrad._ops import viewing
from tracegrad._ops._views import scattered, view_of, viewed
from tracegrad._tensor import Tensor

_MAX_DIMS = 64
#: Tensors may show an element several times (``expand``); by how much, in bytes, a file may grow when it is read.
_FREE_BYTES = 2**28
_GROWTH = 16


class Budget:
    """What the tensors of a file may take in memory, by the size of the file."""

    def __init__(self, size: int):
        self.size, self.left = size, _FREE_BYTES + _GROWTH * size

    def take(self, size: int) -> None:
        """Count a tensor of ``size`` bytes."""
        self.left -= size
        if self.left < 0:
            raise ValueError(f"the tensors of the file, which has {self.size} bytes, would take more than "
                             f"{_FREE_BYTES + _GROWTH * self.size} bytes")


class Stored:
    """One storage of a file."""

    def __init__(self, key: str, dtype: DType | None, count: int, device: Device, data: bytes | None, swapped: bool):
        self.key = key
        self.dtype = dtype  # None for one of bytes, which its tensors say the dtype of
        self.count = count  # of elements, or of bytes
        self.device = device
        self.data = data  # None in a first pass over the file
        self.swapped = swapped  # whether the other byte order is meant
        self.whole: Tensor | None = None

    def tensor(self, offset: Any, size: Any, stride: Any, dtype: DType, budget: Budget) -> Tensor:
        """Return the tensor that lies in this storage in this way.

        Raises:
            ValueError: where it does not lie in it.
        """
        shape, strides = _ints(size, "size"), _ints(stride, "stride")
        (start,) = _ints((offset,), "offset")
        if len(shape) != len(strides) or len(shape) > _MAX_DIMS:
            raise ValueError(f"a tensor with sizes {shape[:8]} and strides {strides[:8]}")
        if self.dtype not in (None, dtype):
            raise ValueError(f"storage {self.key!r} is of {self.dtype} for one tensor and of {dtype} for another")
        held = self.count // dtype.itemsize if self.dtype is None else self.count
        empty = 0 in shape
        last = start + sum((n - 1) * s for n, s in zip(shape, strides)) if not empty else start - 1
        if last >= held:
            raise ValueError(f"a tensor with sizes {shape}, strides {strides} and offset {start} lies beyond the end "
                             f"of its storage of {held} elements")
        count = 1
        for n in shape:
            count *= n
        budget.take(count * dtype.itemsize)
        plain = empty or strides == in_order(shape)
        if self.whole is None:
            self.dtype, self.count = dtype, held
            filled = plain and count == held and not start
            self.whole = self._whole(dtype, shape if filled else (held,))
            if filled:
                return self.whole
        elif self.whole.dtype is not dtype:
            raise ValueError(f"storage {self.key!r} is of {self.whole.dtype} for one tensor and of {dtype} for another")
        if empty:
            return tensor_of(concrete(np.empty(shape, dtype.np), aval(shape, dtype, self.device)))
        with no_grad():
            return alias(viewed(_strided, (shape, strides, start), self.whole, True, False))

    def _whole(self, dtype: DType, shape: tuple[int, ...]) -> Tensor:
        data = self.data
        assert data is not None
        if self.swapped:
            part = dtype.itemsize // 2 if dtype.is_complex else dtype.itemsize
            array = np.frombuffer(data, f"u{part}").byteswap().view(dtype.np)
        elif dtype is bool_:
            array = np.frombuffer(data, np.uint8) != 0
        else:
            array = np.frombuffer(data, dtype.np)
        self.data = None
        return tensor_of(concrete(array.reshape(shape), aval(shape, dtype, self.device)))


def swaps(order: str) -> bool:
    """Return whether data in the byte order ``order`` must be swapped on this machine."""
    return order != sys.byteorder


def with_bits(tensor: Tensor, metadata: Any) -> Tensor:
    """Return ``tensor`` with its elements conjugated or negated where it is noted that they are."""
    if not metadata:
        return tensor
    if type(metadata) is not dict or not set(metadata) <= {"conj", "neg"}:
        raise UnsupportedError(f"load: a tensor with the unknown properties {str(metadata)[:100]}")
    with no_grad():
        if metadata.get("conj"):
            tensor = viewing.conj(tensor)
        if metadata.get("neg"):
            tensor = viewing.negated(tensor)
        return alias(tensor)


def _ints(given: Any, what: str) -> tuple[int, ...]:
    if not isinstance(given, (tuple, list)) or not all(type(n) is int and 0 <= n < 2**63 for n in given):
        raise ValueError(f"{what}: expected integers from 0 on, got {str(given)[:100]}")
    return tuple(given)


def _strided(x: Aval, size: tuple[int, ...], stride: tuple[int, ...], offset: int) -> Lowering:
    def fn(a: Any) -> Any:
        where: Any = jnp.asarray(offset)
        for n, s in zip(size, stride):
            where = jnp.expand_dims(where, -1) + jnp.arange(n) * s
        return a.reshape(-1)[where]

    return view_of(fn, "AsStridedBackward0", scattered(fn, x), lambda strides, start: (stride, offset))
