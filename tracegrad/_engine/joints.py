"""Where the values of a rolled loop's trips are joined, as ``torch.stack(hs)`` does, or come from, as ``for x in xs``.

Such an op takes or returns the stacked array itself: its lowering says how (`Lowering.of_rows`, `Lowering.rows`).
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Any

from jax import lax

from tracegrad._engine.rows import Env
from tracegrad._engine.stretch import Stretch, Unit
from tracegrad._engine.trie import LOOP, OP, Node

#: From this many values on that are joined or parted.
_LEAST = 4


class Joint:
    """An op of many operands, or of many outputs, that are rows of a stacked array."""

    kind = LOOP

    def __init__(self, node: Node):
        self.node = node
        self.depth = node.depth
        self.slot, self.end, self.inputs = node.slot, node.end, node.inputs
        self.joins = node.lowering is not None and node.lowering.of_rows is not None  # else it parts

    def reads(self) -> set[int]:
        """Return the slots from outside that it needs."""
        return self.node.reads()

    def emit(self, env: Env, constant: bool) -> None:
        """Note its outputs in ``env``; no gradient goes through where it is ``constant``."""
        lowering = self.node.lowering
        assert lowering is not None
        given = env.stacked(env.segments(self.inputs)) if self.joins else env[self.inputs[0]]
        given = lax.stop_gradient(given) if constant else given
        if lowering.of_rows is not None:
            env[self.slot] = lowering.of_rows(given)
        elif lowering.rows is not None:
            env.hold(self.depth, 0, lowering.rows(given), range(self.slot, self.end))


def joined(units: Sequence[Unit], fenced: Container[int]) -> list[Unit]:
    """Return ``units`` with the ops that join or part the values of the loops among them as `Joint`.

    Not those whose depths are ``fenced``.
    """
    loops = [unit for unit in units if isinstance(unit, Stretch)]
    if not loops:
        return list(units)
    made: set[int] = set()
    taken: set[int] = set()
    for stretch in loops:
        stretch.units = joined(stretch.units, fenced)
        made.update(stretch.index)
        taken.update(*stretch.per_trip)
    found: list[Unit] = []
    for unit in units:
        if unit.kind == OP and unit.depth not in fenced:
            if unit.lowering.rows and _count(range(unit.slot, unit.end), taken) >= _LEAST:
                made.update(range(unit.slot, unit.end))
                unit = Joint(unit)
            elif unit.lowering.of_rows and _count(unit.inputs, made) >= _LEAST:
                unit = Joint(unit)
        found.append(unit)
    return found


def _count(slots: Sequence[Any], among: set[int]) -> int:
    return sum(slot in among for slot in slots)
