"""Copies of tensors: ``copy.copy``, ``copy.deepcopy`` and pickles. What shared elements before does so after."""

from __future__ import annotations

import copy
import copyreg
from typing import TYPE_CHECKING, Any

import numpy as np

from tracegrad._device import Device
from tracegrad._dtype import DType
from tracegrad._engine.trace import force, new_value
from tracegrad._engine.value import aval
from tracegrad._grad_mode import no_grad
from tracegrad._handle import Group, Handle, Storage, alias, constant, tensor_of, want_grad, whole
from tracegrad._layout import in_order, layout
from tracegrad._ops.scattering import strided_part
from tracegrad._ops.viewing import bits

if TYPE_CHECKING:
    from tracegrad._tensor import Tensor

#: Of a tensor among others: shape, strides and offset in elements, dtype, and its bits (see `viewing.py`).
Place = tuple[tuple[int, ...], tuple[int, ...], int, DType, tuple[bool, bool]]


def own_attributes(tensor: Handle) -> dict[str, Any]:
    """Return what a user has set on ``tensor``, or a subclass has, but not the state of the handle."""
    return {k: v for k, v in vars(tensor).items() if not (k.startswith("_") and (k == "_value" or hasattr(Handle, k)))}


def shallow_copy(tensor: Tensor) -> Tensor:
    """Return a leaf of the same class that shares the elements of ``tensor``."""
    return _finished(alias(tensor), type(tensor), tensor._value.spec.wants, own_attributes(tensor))


def deep_copy(tensor: Tensor, memo: dict[int, Any]) -> Tensor:
    """Return a leaf of its own with the elements, the gradient and the attributes of ``tensor``.

    Raises:
        RuntimeError: for a tensor that some recorded op made.
    """
    known = memo.get(id(tensor))
    if known is not None:
        return known  # type: ignore[no-any-return]
    if not tensor.is_leaf:
        raise RuntimeError(
            "Only Tensors created explicitly by the user (graph leaves) support the deepcopy protocol at the moment.  "
            "If you were attempting to deepcopy a module, this may be because of a torch.nn.utils.weight_norm usage, "
            "see https://github.com/pytorch/pytorch/pull/103001")
    made = memo[id(tensor)] = _finished(_deep(tensor, memo), type(tensor), tensor._value.spec.wants, {})
    if tensor._grad is not None:
        made._grad = copy.deepcopy(tensor._grad, memo)
    vars(made).update(copy.deepcopy(own_attributes(tensor), memo))
    return made


def _deep(tensor: Tensor, memo: dict[int, Any]) -> Tensor:
    shared = _shared(tensor)
    if shared is None:
        return tensor_of(constant(tensor._value))
    copied = memo.get(id(shared))
    if copied is None:
        memo.setdefault(id(memo), []).append(shared)  # so that its id is nobody else's meanwhile
        if not tensor._steps and not shared_place(tensor):
            found = memo[id(shared)] = tensor_of(constant(tensor._value))
            return found
        copied = memo[id(shared)] = tensor_of(constant(whole(shared)._value))
    return _part(copied, _place(tensor))


def shared_place(tensor: Tensor) -> Any:
    """Return where the elements of the storage of ``tensor`` are among those of its group."""
    return tensor._storage.place if tensor._storage is not None else ()


def reduced(tensor: Tensor) -> Any:
    """Return what a pickle holds: for tensors that share elements, these once."""
    rest = (type(tensor), tensor._value.spec.wants, own_attributes(tensor))
    shared = _shared(tensor)
    if shared is not None:
        return _rebuild_part, (shared, _place(tensor), *rest)
    return _rebuild, (*_contents(tensor), *rest)


def _contents(tensor: Tensor) -> tuple[np.ndarray[Any, Any], DType, Device]:
    return np.array(force(tensor._value)), tensor.dtype, tensor.device


def _shared(tensor: Tensor) -> Storage | Group | None:
    """Return what stands for the elements that ``tensor`` shares with others that live; None where it shares none."""
    storage = tensor._storage
    if storage is None:
        return None
    if storage.group is not None and storage.group.others(storage):
        return storage.group
    return storage if any(view is not tensor for view in storage.live()) or tensor._keeps is not None else None


def _place(tensor: Tensor) -> Place:
    strides, offset = layout(tensor, read=True)
    assert offset is not None
    return tuple(tensor.shape), strides, offset, tensor.dtype, bits(tensor)


def _part(elements: Tensor, place: Place) -> Tensor:
    """Return a leaf with some of the elements of ``elements``, which both share."""
    shape, strides, offset, dtype, of_bits = place
    if (shape, strides, offset, dtype) == (elements.shape, in_order(shape), 0, elements.dtype) and not any(of_bits):
        return alias(elements)
    with no_grad():
        return alias(strided_part(elements, *place))


def _finished(made: Tensor, cls: type[Tensor], wants: bool, attributes: dict[str, Any]) -> Tensor:
    made.__class__ = cls
    if wants:
        want_grad(made)
    vars(made).update(attributes)
    return made


def _new(array: np.ndarray[Any, Any], dtype: DType, device: Device) -> Tensor:
    return tensor_of(new_value(array, aval(array.shape, dtype, device)))


def _rebuild(array: np.ndarray[Any, Any], dtype: DType, device: Device, cls: type[Tensor], wants: bool,
             attributes: dict[str, Any]) -> Tensor:  # fmt: skip
    return _finished(_new(array, dtype, device), cls, wants, attributes)


def _rebuild_part(elements: Tensor, place: Place, cls: type[Tensor], wants: bool,
                  attributes: dict[str, Any]) -> Tensor:  # fmt: skip
    return _finished(_part(elements, place), cls, wants, attributes)


def _reduced_elements(shared: Storage | Group) -> Any:
    return _new, _contents(whole(shared))


copyreg.pickle(Storage, _reduced_elements)  # what a pickle refers to again and again must be one object: this one
copyreg.pickle(Group, _reduced_elements)
