"""Making tensors from data and from nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tracegrad import _device, _dtype
from tracegrad._device import Device
from tracegrad._dtype import DType
from tracegrad._engine.value import aval, concrete
from tracegrad._handle import tensor_of, want_grad
from tracegrad._ops._declare import op

if TYPE_CHECKING:
    from tracegrad._tensor import Tensor


@op(method=False)
def tensor(data: Any, *, dtype: DType | None = None, device: Device | str | None = None,
           requires_grad: bool = False) -> Tensor:  # fmt: skip
    """Return a tensor that holds a copy of ``data``."""
    array = np.array(data, dtype.np if dtype else None)
    if dtype is None and array.dtype == np.float64 and not isinstance(data, (np.ndarray, np.generic)):
        array = array.astype(_dtype.get_default_dtype().np)
    place = Device(device) if device is not None else _device.default()
    made = tensor_of(concrete(array, aval(array.shape, _dtype.from_np(array.dtype), place)))
    if requires_grad:
        want_grad(made)
    return made
