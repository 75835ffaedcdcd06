"""Tensors out of arrays that others own: JAX's, and those of any library through DLPack."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from tracegrad import _dtype
from tracegrad._device import Device, to_jax
from tracegrad._handle import Handle, tensor_of
from tracegrad._jaxtree import value_of

if TYPE_CHECKING:
    from tracegrad._tensor import Tensor


def from_jax(array: Any) -> Tensor:
    """Return a tensor that holds a ``jax.Array``, without a copy; or a JAX tracer, inside JAX's transforms.

    A program never donates an array that somebody else refers to, so ``array`` keeps its contents. No gradient flows
    between the two worlds outside of JAX's transforms: inside them, JAX differentiates what tensors compute, and
    `wrap` makes JAX's functions operations that ``backward()`` differentiates.

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
    if jnp.issubdtype(array.dtype, jax.dtypes.extended):
        raise TypeError(f"from_jax: no dtype for {array.dtype}; use jax.random.key_data for keys")
    _dtype.from_np(array.dtype)
    return tensor_of(value_of(array))


def from_dlpack(ext_tensor: Any, *, device: Any = None, copy: bool | None = None) -> Tensor:
    """Return a tensor with the elements of any object that has ``__dlpack__``.

    Elements of what nobody can write to, tensors and JAX arrays, are shared. Everything else is copied, since ops run
    later than they are called, and must not see what its owner writes then.

    Args:
        ext_tensor: an array of NumPy, PyTorch, JAX or another library.
        device: where the tensor is to be; where its elements are when None.
        copy: True copies in any case. False shares the memory, as JAX can, and is a promise that its owner does not
            write to it any more.

    Raises:
        TypeError: for a DLPack capsule, which has no ``__dlpack__``: pass the object that it was made of.

    See https://docs.pytorch.org/docs/stable/generated/torch.from_dlpack.html

    Example:
        >>> import numpy as np
        >>> import tracegrad as torch
        >>> torch.from_dlpack(np.ones(2, np.float32))
        tensor([1., 1.])
    """
    if not hasattr(ext_tensor, "__dlpack__"):
        raise TypeError(f"from_dlpack: expected an object with __dlpack__, got {type(ext_tensor).__name__}; capsules "
                        "are not supported: pass the array itself")
    if isinstance(ext_tensor, Handle):
        array = ext_tensor.jax()  # type: ignore[attr-defined]
        shared = True
    else:
        shared = isinstance(ext_tensor, jax.Array)
        if shared:
            array = ext_tensor
        else:
            if getattr(ext_tensor, "requires_grad", False):
                ext_tensor.__dlpack__()  # raises in the words of its library
            with jax.enable_x64(True):
                array = _taken(ext_tensor, not copy and copy is not None)
    if copy and shared:
        with jax.enable_x64(True):
            array = array.copy()
    if device is not None:
        place = to_jax(Device(device))
        if place not in array.devices():
            if copy is False:
                raise ValueError(f"from_dlpack: cannot share memory between {array.devices()} and {device}")
            with jax.enable_x64(True):
                array = jax.device_put(array, place)
    return from_jax(array)


def _taken(source: Any, share: bool) -> Any:
    if isinstance(source, np.ndarray) and not share:
        return jnp.array(source, copy=True)  # NumPy gives away neither read-only memory nor bfloat16
    return jnp.from_dlpack(source, copy=None if share else True)


def to_dlpack(tensor: Tensor) -> Any:
    """Return the elements of a tensor as a DLPack capsule, without a copy.

    Later in-place ops on the tensor are not seen through it. Nor may anybody write to it: elements may be shared with
    other tensors, and never change.

    See https://docs.pytorch.org/docs/stable/dlpack.html
    """
    return tensor.__dlpack__()
