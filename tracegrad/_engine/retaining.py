"""Which tensors inside the tape retain their gradients: noted where their values are, in a trace or in a segment."""

from __future__ import annotations

import weakref
from typing import Any

from tracegrad._engine.value import Value, Variable


class Retaining:
    """A tensor's place on the tape as long as it retains the gradient there; called, it returns the tensor or None."""

    __slots__ = ("_tensor",)

    def __init__(self, tensor: Any):
        self._tensor = weakref.ref(tensor)

    def __call__(self) -> Any:
        tensor = self._tensor()
        return tensor if tensor is not None and tensor._retains is self else None


def retain(tensor: Any, value: Value) -> None:
    """Have every backward that comes to ``value`` add its gradient to ``tensor.grad``, and only there."""
    tensor._retains = place = Retaining(tensor)
    if value.source is None:
        if value.trace is not None:
            value.trace.retained[value.slot] = place
    elif not isinstance(value.source, Variable):
        value.source.retains = place


def stop(tensor: Any) -> None:
    """Have no backward add to ``tensor.grad`` any more, although it says that it retains its gradient."""
    tensor._retains = Retaining(tensor)
