"""Tensors as pytrees of JAX: what ``jax.jit``, ``grad``, ``vmap`` and ``tree.map`` take apart and build again.

A tensor is a node with one child, its array; its class, its dtype and whether it is a leaf that wants gradients are
static. JAX also builds trees out of what is no array (shapes, axes, None): then the tensor only carries it.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from tracegrad import _device, _dtype
from tracegrad._dtype import DType
from tracegrad._engine.value import Value, aval, concrete
from tracegrad._handle import Handle, want_grad

_NARROW = {_dtype.int64: _dtype.int32, _dtype.uint64: _dtype.uint32, _dtype.float64: _dtype.float32,
           _dtype.complex128: _dtype.complex64}  # fmt: skip


class Carried:
    """What stands in the place of a tensor's array and is none."""

    __slots__ = ("what",)

    def __init__(self, what: Any):
        self.what = what

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        raise TypeError(f"this tensor was built by JAX and has no elements, but {type(self.what).__name__}")

    def __repr__(self) -> str:
        return f"Carried({self.what!r})"


def register(kind: type[Handle]) -> None:
    """Make a class of tensors known to JAX."""
    jax.tree_util.register_pytree_node(kind, _flatten, _unflatten)


def _flatten(tensor: Any) -> tuple[tuple[Any, ...], Any]:
    array = tensor._value.array
    if type(array) is Carried:
        child = array.what
    elif tensor._child is not None and tensor._child[0] is array:
        child = tensor._child[1]
    else:
        child = tensor.jax()
    return (child,), (type(tensor), tensor.dtype, bool(tensor.requires_grad and tensor.is_leaf))


def _unflatten(static: Any, children: tuple[Any, ...]) -> Any:
    kind, dtype, wants = static
    made = object.__new__(kind)
    made._value = value_of(children[0], dtype)
    if made._value.array is not children[0]:
        # JAX takes apart again what it built, to learn what a jitted function returns: it must find the same array.
        made._child = (made._value.array, children[0])
    if wants and made._value.spec.aval.dtype.is_inexact:
        want_grad(made)
    return made


def value_of(array: Any, dtype: DType | None = None) -> Value:
    """Return a value that holds ``array``, whatever that is.

    ``dtype``: what the array carries. Where JAX has no 64-bit types, arrays of 32 bits carry 64-bit tensors.
    """
    found = _dtype_of(array)
    if found is None or not isinstance(array, (jax.Array, np.ndarray)):
        shape = tuple(getattr(array, "shape", ()))
        return concrete(Carried(array), aval(shape, found or dtype or _dtype.float32))
    if dtype is not None and _NARROW.get(dtype) is found:
        found = dtype
    shape = tuple(array.shape)
    if isinstance(array, jax.core.Tracer):
        if found in _NARROW and array.dtype == found.np and not jax.config.jax_enable_x64:  # type: ignore[attr-defined]
            array = jax.lax.convert_element_type(array, _NARROW[found].np)
        return concrete(array, aval(shape, found))
    if isinstance(array, np.ndarray):
        return concrete(array.astype(found.np), aval(shape, found))
    if array.dtype != found.np or array.weak_type:
        with jax.enable_x64(True):
            array = jax.lax.convert_element_type(array, found.np)
    return concrete(array, aval(shape, found, _device.from_jax(min(array.devices(), key=lambda d: d.id))))


def _dtype_of(array: Any) -> DType | None:
    try:
        return _dtype.from_np(array.dtype)
    except (AttributeError, TypeError):  # of JAX's keys, and of gradients of integers
        return None
