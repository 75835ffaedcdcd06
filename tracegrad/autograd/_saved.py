"""Saved tensors: what a custom Function keeps for its backward, through the pack and unpack hooks in force.

NOTE [Saved by operations] What tracegrad's own operations need for their gradients is XLA's affair: it is not held by
tensors, and a value that many operations use is kept once or computed again. Where pack and unpack hooks are in force,
operations save their operands and results after all: see `_packed.py`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tracegrad._engine.value import Value, Variable
from tracegrad._handle import Handle, tensor_of

if TYPE_CHECKING:
    from tracegrad._tensor import Tensor


class _Hooks(threading.local):
    """What each thread has of its own."""

    def __init__(self) -> None:
        self.stack: list[tuple[Callable[[Any], Any], Callable[[Any], Any]]] = []
        self.disabled: str | None = None


hooks = _Hooks()


class Saved:
    """One tensor as it was when it was saved."""

    __slots__ = ("value", "place", "handle")

    def __init__(self, value: Value, place: int, handle: Any):
        self.value = value
        self.place = place  # index among the outputs of the Function's step, -1 for what is none
        self.handle = handle  # the leaf itself, which comes back as long as it has this value

    def unpack(self, history: Callable[[int, Value], Tensor] | None) -> Tensor:
        """Return the tensor; an output gets its place on the tape by ``history``."""
        if self.place >= 0 and history is not None:
            return history(self.place, self.value)
        if self.handle is not None and self.handle._value is self.value:
            return self.handle  # type: ignore[no-any-return]
        return tensor_of(self.value)


class Packed:
    """One tensor as a pack hook returned it."""

    __slots__ = ("packed", "unpack_hook")

    def __init__(self, packed: Any, unpack_hook: Callable[[Any], Any]):
        self.packed = packed
        self.unpack_hook = unpack_hook

    def unpack(self, history: Any) -> Any:
        """Return what the unpack hook makes of it."""
        tensor = self.unpack_hook(self.packed)
        if not isinstance(tensor, Handle):
            raise TypeError("Output of saved tensor unpack_hook expected to be a Tensor but got result of type "
                            f"{type(tensor).__name__}")
        return tensor


def keep(tensor: Tensor, value: Value, place: int, shown: Tensor) -> Saved | Packed:
    """Save a tensor.

    Args:
        tensor: what was saved.
        value: its value when it was.
        place: its index among the outputs of the Function's step, -1 for what is none.
        shown: the tensor as a pack hook gets it.
    """
    if hooks.stack:
        pack, unpack = hooks.stack[-1]
        return Packed(pack(shown), unpack)
    leaf = place < 0 and isinstance(value.source, Variable)
    return Saved(value, place, tensor if leaf else None)
