"""The backwards that most steps do: straight from one pending loss to leaves, nothing of the user's on the way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tracegrad._engine import trace
from tracegrad._engine.trace import Trace, state
from tracegrad._engine.value import Variable
from tracegrad.autograd import _anomaly, _replay
from tracegrad.autograd._leaves import accumulate

if TYPE_CHECKING:
    from tracegrad._tensor import Tensor

#: The targets of a backward that is asked for the gradients of all leaves, and of nothing inside the tape.
ALL_LEAVES: tuple[None, tuple[int, ...]] = (None, ())


def straight(root: Tensor, cotangent: Tensor, retain: bool) -> bool:
    """Do the whole backward, if this trace has done it before and only leaves without hooks take part.

    Else nothing is done, and the answer is False: `Sweep` records the same node, and finds its way from there.
    """
    current, values = state.trace, state.trace.values
    if not _pending(current, root, cotangent):
        return False
    node = current.node
    kid = node.real.kids.get(("backward", (root._value.slot,), (cotangent._value.slot,), retain, ALL_LEAVES))
    if kid is None:
        return False
    assert kid.pull is not None
    handles = []
    for slot in kid.pull.targets:
        variable = values[slot].source
        if type(variable) is not Variable or variable.hooks is not None:
            return False
        handles.append(variable.handle())
    if len(set(map(id, handles))) < len(handles):
        return False
    tensors = trace.commit(current, node, kid, ())
    if tensors is None:
        return False
    current.has_backward = True
    for handle, gradient in zip(handles, tensors):
        if handle is None or not handle._value.spec.wants:
            continue
        if handle._grad is None:
            handle._grad = gradient
        else:
            accumulate(handle, gradient, False)
    return True


def straight_to(targets: Sequence[Tensor], root: Tensor, cotangent: Tensor, retain: bool,
                create_graph: bool) -> list[Any] | None:  # fmt: skip
    """Return the gradients with respect to ``targets``, under the same conditions as `straight`; else None."""
    current, values = state.trace, state.trace.values
    if not _pending(current, root, cotangent):
        return None
    node = current.node
    sourced = node.real.known and node.real.known.get("sourced")
    if sourced is None or create_graph and not state.mode.grad:
        return None
    slots: dict[Any, int] = {}
    for slot in sourced:
        variable = values[slot].source
        if type(variable) is not Variable or variable in slots:
            return None
        slots[variable] = slot
    asked: list[int] = []
    inner: dict[int, None] = {}
    for t in targets:
        value = t._value
        slot = value.slot if value.trace is current and value.array is None else -1
        source = value.source
        if source is None and slot >= 0:
            inner[slot] = None
        elif isinstance(source, Variable) and source in slots and source.hooks is None:
            slot = slots[source]
        else:
            return None
        asked.append(slot)
    wanted = tuple(sorted(set(asked))), tuple(inner)
    if create_graph:
        key = _replay.key_of(current, (root._value.slot,), (cotangent,), wanted)
        found = None if key is None else _replay.repeat(current, key)
    else:
        kid = node.real.kids.get(("backward", (root._value.slot,), (cotangent._value.slot,), retain, wanted))
        if kid is None:
            return None
        assert kid.pull is not None
        tensors = trace.commit(current, node, kid, ())
        found = None if tensors is None else dict(zip(kid.pull.targets, tensors))
    if found is None:
        return None
    current.has_backward = True
    return list(map(found.get, asked))


def _pending(current: Trace, root: Tensor, cotangent: Tensor) -> bool:
    """Whether a backward stays in the current trace, and nothing of the user's is on its way."""
    value = root._value
    if value.trace is not current or value.array is not None or cotangent._value.trace is not current:
        return False
    return not (current.cuts or current.retained or current.immediate or current.scoped or _anomaly.checks())
