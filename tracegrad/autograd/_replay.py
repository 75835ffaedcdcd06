"""A differentiable backward that was recorded before at this point of a history, recorded again in one go.

With ``create_graph`` the VJP of every op is recorded as an op. Which ops these are follows from the trace's history and
from what is asked for, unless the user's code runs on the way. So the nodes of the first time hang on the node where
they began, and the next time their values are made without finding out anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from tracegrad._engine.trace import Trace, pending
from tracegrad._engine.trie import OP, Node
from tracegrad._engine.value import Value
from tracegrad._handle import tensor_of

if TYPE_CHECKING:
    from tracegrad._tensor import Tensor


class _Known(NamedTuple):
    nodes: tuple[Node, ...]
    arrived: tuple[tuple[int, int], ...]  # slot -> the slot of the gradient that came to it


def key_of(current: Trace, slots: Sequence[int], cotangents: Sequence[Tensor], targets: Any) -> Any:
    """Return under which key such a backward is remembered; None where the user's code may run on its way."""
    if current.cuts or current.missing or current.scoped:
        return None
    if any(c._value.trace is not current for c in cotangents):
        return None
    return ("replay", tuple(slots), tuple(c._value.slot for c in cotangents), targets)


def remember(first: Node, key: Any, current: Trace, arrived: dict[int, Tensor]) -> None:
    """Note what was recorded since ``first`` for the backward ``key``, and what came to slots that send it on."""
    nodes = []
    node: Node | None = current.node.real
    while node is not first:
        if node is None or node.kind != OP or node.numbers:
            return
        nodes.append(node)
        node = node.parent
    if all(c._value.trace is current and c._value.array is None for c in arrived.values()):
        assert first.known is not None
        first.known[key] = _Known(tuple(nodes[::-1]), tuple((slot, c._value.slot) for slot, c in arrived.items()))


def repeat(current: Trace, key: Any) -> dict[int, Tensor] | None:
    """Record the backward ``key`` again; return what comes where, None where nothing is known and nothing is done."""
    node = current.node
    known = (node.real.known or {}).get(key)
    if known is None:
        return None
    fresh: dict[int, Value] = {}
    for step in known.nodes:
        fresh.update(zip(step.slots, pending(current, step.slots, step.specs)))
    values = current.values
    if current.node is node:
        values.update(fresh)
    if current.node is node:
        current.node = known.nodes[-1] if known.nodes else node
        return {slot: tensor_of(values[g]) for slot, g in known.arrived}
    return None
