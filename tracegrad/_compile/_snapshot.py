"""Every tensor of the process before a recording, so that what the recording took and changed is known afterwards."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from typing import Any

from tracegrad._engine.value import Value
from tracegrad._errors import UnsupportedError
from tracegrad._handle import Handle
from tracegrad.optim._packing import Pack


def _kinds() -> set[type]:
    found: set[type] = {Value, Pack}
    waiting: list[type] = [Handle]
    while waiting:
        kind = waiting.pop()
        found.add(kind)
        waiting += kind.__subclasses__()
    return found


class Was:
    """What one tensor was."""

    __slots__ = ("handle", "value", "grad", "has_grad", "writes")

    def __init__(self, handle: Any):
        self.handle = weakref.ref(handle)
        self.value: Value = handle._value
        grad = handle._grad
        self.grad = None if grad is None else weakref.ref(grad)
        self.has_grad = grad is not None
        self.writes: int = handle._version

    def keeps_grad(self, handle: Any) -> bool:
        """Whether the tensor still has the gradient that it had."""
        grad = handle._grad
        return grad is None if self.grad is None else grad is not None and grad is self.grad()


class Snapshot:
    """All tensors, packed states and values that live now.

    Values that several tensors have are given up for values of their own, so that each leaf of a recording has one
    holder; arrays may be shared.
    """

    def __init__(self) -> None:
        if gc.get_freeze_count():
            raise UnsupportedError("compile: gc.freeze() hides tensors from the search for what a function reads. Call "
                                   "gc.unfreeze() before the first call.")
        kinds = _kinds()
        handles: list[Any] = []
        packs: list[Pack] = []
        self.values: dict[int, Value] = {}
        for x in [x for x in gc.get_objects() if type(x) in kinds]:
            kind = type(x)
            if kind is Value:
                self.values[id(x)] = x
            elif kind is Pack:
                packs.append(x)
            elif hasattr(x, "_value"):
                handles.append(x)
        held: set[int] = set()
        for handle in handles:
            if id(handle._value) in held and handle._value.array is not None:
                handle._value = own = _copied(handle._value)
                self.values[id(own)] = own
            held.add(id(handle._value))
        self.tensors = {id(h): Was(h) for h in handles}
        self.packs = [(p, p._value) for p in packs]
        #: id of a tensor that is the gradient of another -> that one
        self.gradients = {id(h._grad): weakref.ref(h) for h in handles if h._grad is not None}

    def find(self, handle: Any) -> Was | None:
        """Return what ``handle`` was, None where it is a new one."""
        was = self.tensors.get(id(handle))
        return was if was is not None and was.handle() is handle else None

    def changed(self) -> Iterator[tuple[Any, Was]]:
        """Yield the tensors that have another value or another gradient now."""
        for was in self.tensors.values():
            handle = was.handle()
            if handle is not None and not (handle._value is was.value and was.keeps_grad(handle)):
                yield handle, was

    def owner(self, number: int) -> Any:
        """Return the tensor whose gradient was the tensor with this id, None where it was none's."""
        owner = self.gradients.get(number)
        return None if owner is None else owner()

    def holders(self) -> dict[int, Any]:
        """Return, by the id of each value that there was, the id of the tensor, or the packed states, that had it."""
        found: dict[int, Any] = {id(was.value): number for number, was in self.tensors.items()}
        return found | {id(value): pack for pack, value in self.packs}


def _copied(value: Value) -> Value:
    own = Value()
    own.trace, own.slot, own.spec, own.array, own.source = None, -1, value.spec, value.array, value.source
    return own
