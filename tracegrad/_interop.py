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
        BufferError: for a tensor that wants gradients.
        ValueError: where ``copy`` is False and memory cannot be shared.
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
    with jax.enable_x64(True):
        if isinstance(ext_tensor, Handle):
            if ext_tensor._value.spec.wants:
                raise BufferError("Can't export tensors that require gradient, use tensor.detach()")
            array, constant = ext_tensor.jax(), True  # type: ignore[attr-defined]
        else:
            constant = isinstance(ext_tensor, jax.Array)
            array = ext_tensor if constant else _shared(ext_tensor, copy)
        if copy or (copy is None and not constant):
            # JAX's own copy=True does not copy what PyTorch exports. Waiting for it keeps later writes out.
            array = array.copy().block_until_ready()
    if device is not None:
        place = to_jax(Device(device))
        if place not in array.devices():
            if copy is False:
                raise ValueError(f"from_dlpack: cannot share memory between {array.devices()} and {device}")
            with jax.enable_x64(True):
                array = jax.device_put(array, place)
    return from_jax(array)


def _shared(source: Any, copy: bool | None) -> Any:
    """Return the elements of ``source`` where they are, as far as JAX can; ValueError where ``copy`` is False."""
    if isinstance(source, np.ndarray) and not (source.flags.writeable and source.dtype.isbuiltin == 1):
        if copy is False:  # NumPy exports neither
            raise ValueError("from_dlpack: memory of read-only arrays and of bfloat16 arrays cannot be shared")
        return jnp.array(source)
    try:
        return jnp.from_dlpack(source, copy=False if copy is False else None)
    except jax.errors.JaxRuntimeError as error:  # elements that do not lie in one piece
        if copy is False:
            raise ValueError(f"from_dlpack: JAX cannot share this memory ({error})") from None
    if hasattr(source, "contiguous"):
        return jnp.from_dlpack(source.contiguous())
    return jnp.array(np.from_dlpack(source))


def to_dlpack(tensor: Tensor) -> Any:
    """Return the elements of a tensor as a DLPack capsule, without a copy.

    Later in-place ops on the tensor are not seen through it. Nor may anybody write to it: elements may be shared with
    other tensors, and never change.

    See https://docs.pytorch.org/docs/stable/dlpack.html
    """
    return tensor.__dlpack__()
