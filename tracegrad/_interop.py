"""JAX, DLPack: tensors from other arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from tracegrad import _device, _dtype
from tracegrad._engine.value import aval, concrete
from tracegrad._handle import tensor_of

if TYPE_CHECKING:
    from tracegrad._tensor import Tensor


def from_jax(array: Any) -> Tensor:
    """Return a tensor that holds a ``jax.Array``, without a copy; or a JAX tracer, inside JAX's transforms.

    A program never donates an array that somebody else refers to, so ``array`` keeps its contents.

    Args:
        array: of any shape, with a dtype that PyTorch has.

    Raises:
        TypeError: for another dtype, or where ``array`` is no JAX array.

    Example:
        >>> import jax.numpy as jnp
        >>> import tracegrad as torch
        >>> torch.from_jax(jnp.arange(3.0)) * 2
        tensor([0., 2., 4.])
    """
    if not isinstance(array, (jax.Array, jax.core.Tracer)):
        raise TypeError(f"from_jax: expected a jax.Array, got {type(array).__name__}; use tensor() for other data")
    if isinstance(array, jax.core.Tracer):
        return tensor_of(concrete(array, aval(tuple(array.shape), _dtype.from_np(array.dtype))))
    if array.weak_type:
        array = jax.lax.convert_element_type(array, array.dtype)
    device = _device.from_jax(next(iter(array.devices())))
    return tensor_of(concrete(array, aval(tuple(array.shape), _dtype.from_np(array.dtype), device)))


def from_dlpack(source: Any) -> Tensor:
    """Return a tensor with the elements of any object that has ``__dlpack__``; a copy, since its owner may write to it.

    Example:
        >>> import numpy as np
        >>> import tracegrad as torch
        >>> torch.from_dlpack(np.ones(2, np.float32))
        tensor([1., 1.])
    """
    with jax.enable_x64(True):
        return from_jax(jnp.from_dlpack(source, copy=True))
