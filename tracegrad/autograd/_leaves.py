"""How gradients arrive at leaves: added up, through the leaf's hooks, as soon as they are complete.

NOTE [Complete] As in PyTorch, a leaf gets its gradient before steps that lie further back are pulled through. That
shows only to hooks, which may look at the ``.grad`` of leaves; so `Uses` is worked out where a backward meets one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from tracegrad._engine import tape, trace
from tracegrad._engine.op import Lowering
from tracegrad._engine.segment import Segment, SegmentOutput
from tracegrad._engine.trace import Trace
from tracegrad._engine.value import Aval, Variable
from tracegrad._grad_mode import no_grad
from tracegrad._handle import tensor_of, write
from tracegrad.autograd._hooks import LeafHooks, run, run_all

if TYPE_CHECKING:
    from tracegrad._tensor import Tensor


def add(a: Tensor, b: Tensor) -> Tensor:
    """Record the sum of two cotangents."""
    return trace.record(_add, (), a, b)  # type: ignore[no-any-return]


def _add(a: Aval, b: Aval) -> Lowering:
    return Lowering(lambda x, y: x + y, name="AddBackward0", saves=False)


def accumulate(handle: Tensor, gradient: Tensor, create_graph: bool) -> None:
    """Add ``gradient`` to ``handle.grad``; the handle that ``.grad`` holds stays the same unless ``create_graph``."""
    owner = gradient._value.trace
    if owner is not None and owner.scoped and handle._value.trace is not owner:
        outer = owner.lift(gradient._value, "backward")  # type: ignore[attr-defined]
        with owner.outside():  # type: ignore[attr-defined]
            return accumulate(handle, outer, create_graph)
    known = handle._grad
    if known is None:
        handle._grad = tensor_of(gradient._value)  # hooks, and other leaves, may have the same tensor
    elif create_graph:
        handle._grad = add(known, gradient)
    elif known._storage is None:
        known._value = add(known, gradient)._value
        known._writes += 1
    else:
        with no_grad():
            write(known, add(known, gradient))


def fill_with_zeros(gradient: Tensor) -> None:
    """Fill a ``.grad`` with zeros, of which no graph knows any more."""
    if gradient.requires_grad:
        gradient.detach_()
    gradient.zero_()


def arrive(variable: Variable, gradient: Tensor, create_graph: bool) -> None:
    """Accumulate the complete gradient of a leaf, through its hooks."""
    handle = variable.handle()
    if handle is None or not handle._value.spec.wants:
        return
    hooks: LeafHooks | None = variable.hooks
    if hooks is None:
        accumulate(handle, gradient, create_graph)
        return
    (found,) = run_all(hooks.pre, (run(hooks.tensor, gradient),))
    if found is not None:
        accumulate(handle, found, create_graph)
    for hook in list(hooks.accumulated.values()):
        returned = hook(handle)
        if returned is not None:
            raise TypeError(f"expected Variable, but hook returned '{type(returned).__name__}'")
    run_all(hooks.post, (), (found,))


class Uses:
    """The traces, pending and flushed, that a backward may come through, and where each variable is used in them."""

    def __init__(self, current: Trace, segments: Iterable[Segment]):
        self.first: dict[Trace, dict[Variable, int]] = {}  # per trace: the slot of the first node that uses a variable
        self.count: Counter[Variable] = Counter()  # in how many traces it is used
        waiting = list(segments)
        if not current.closed and current.values:
            uses = tape.first_uses(current.node.real.path())
            sources = {slot: value.source for slot, value in list(current.values.items())}
            waiting += self._enter(current, sources, uses)
        while waiting:
            segment = waiting.pop()
            if segment.trace not in self.first:
                cache = segment.program.traversals
                if "uses" not in cache:
                    cache["uses"] = tape.first_uses(segment.program.path)
                waiting += self._enter(segment.trace, segment.sources, cache["uses"])

    def _enter(self, trace: Trace, sources: dict[int, Any], uses: dict[int, int]) -> list[Segment]:
        first = self.first[trace] = {}
        further = []
        for slot, source in sources.items():
            if isinstance(source, SegmentOutput):
                further.append(source.segment)
            elif source is not None and slot in uses:
                first[source] = min(uses[slot], first.get(source, uses[slot]))
        self.count.update(first.keys())
        return further

    def close(self, trace: Trace) -> None:
        """Note that nothing further comes through ``trace``."""
        self.count.subtract(self.first.pop(trace, {}).keys())

    def complete(self, variable: Variable, trace: Trace, floor: int) -> bool:
        """Whether no node of ``trace`` below slot ``floor``, and no other trace, uses ``variable``."""
        count = self.count[variable]
        here = self.first.get(trace, {}).get(variable)
        return count <= 0 or (count == 1 and here is not None and here >= floor)
