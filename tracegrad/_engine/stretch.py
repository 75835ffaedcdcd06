"""A stretch: consecutive steps that do the same several times, and what each trip has from where.

NOTE [Roles] Every operand of a trip is one of these: made in the same trip; *carried*, made by an earlier trip (in the
first trips the initial value); *invariant*, one value from outside for all trips; or *per trip*, a value from outside
for each. One trip, the pattern, stands for all: in the loop's body a value goes by the slot that it has in the pattern,
so each of these slots must play one role only.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Sequence
from typing import Any

import numpy as np

from tracegrad._engine.trie import LOOP, OP, Node
from tracegrad._engine.value import Spec

#: Bytes of the values of all trips that are made before the loop, of one operation.
_AHEAD = 64 << 20

#: A step of a program as it is emitted: one node, or several that are emitted together.
Unit = Any


class Carried:
    """A value of one trip that later trips use: at most as many trips later as there are initial values."""

    def __init__(self, which: int, initial: dict[int, int]):
        self.which = which
        self.initial = initial  # how many trips before the first -> slot

    @property
    def slots(self) -> list[int]:
        """The initial values, the latest first."""
        return [self.initial[i] for i in range(1, len(self.initial) + 1)]


class Stretch:
    """``trips`` of equal steps, emitted as one loop (`loop.py`)."""

    kind = LOOP

    def __init__(self, trips: Sequence[Sequence[Unit]], place: dict[int, int], spec: Callable[[int], Spec]):
        self.trips = trips
        self.spec = spec
        self.nodes = [list(flattened(trip)) for trip in trips]
        self.count = len(trips)
        self.columns = [[node.depth for node in column] for column in zip(*self.nodes)]  # depths, by step and trip
        self.depth = self.nodes[0][0].depth
        self.slots = [[s for n in nodes for s in range(n.slot, n.end)] for nodes in self.nodes]
        self.index = {slot: (t, k) for t, slots in enumerate(self.slots) for k, slot in enumerate(slots)}
        self.carried: dict[int, Carried] = {}
        self.invariant: dict[int, None] = {}
        self.per_trip: dict[tuple[int, ...], None] = {}
        numbers: dict[str, list[list[int]]] = {"f": [], "i": []}
        self.why_not = ""
        base, width = place[self.slots[0][0]], len(self.slots[0])
        for column in zip(*self.nodes):
            for operand, last in enumerate(column[-1].inputs):
                if type(last) is not int:
                    if last[0] != "c":
                        numbers[last[0]].append([n.inputs[operand][1] for n in column])
                    continue
                slots = [n.inputs[operand] for n in column]
                self._give_role(slots, [place[s] for s in slots], base, width)
                if self.why_not:
                    return
        #: of floats and of ints: where they are among the enclosing numbers, one row a trip
        self.numbers = {kind: np.array(lists, np.int64).T for kind, lists in numbers.items() if lists}
        self._choose_pattern()

    def _give_role(self, slots: list[int], places: list[int], base: int, width: int) -> None:
        last, count = places[-1], self.count
        if last < base:
            if any(p >= base for p in places):
                self.why_not = "a trip uses what another did not"
            elif all(s == slots[0] for s in slots):
                self.invariant[slots[0]] = None
            else:
                self.per_trip[tuple(slots)] = None
            return
        lag = count - 1 - (last - base) // width
        inside = [p >= base for p in places]
        if inside != [t >= lag for t in range(count)] or any(
            last - p != (count - 1 - t) * width for t, p in enumerate(places[lag:], lag)
        ):
            self.why_not = "a trip uses what another did not"
            return
        if not lag:
            return
        which = (last - base) % width
        initial = {lag - t: slots[t] for t in range(lag)}
        known = self.carried.setdefault(which, Carried(which, {}))
        if any(known.initial.get(i, slot) != slot for i, slot in initial.items()):
            self.why_not = "one carried value starts as two"
        known.initial.update(initial)

    def _choose_pattern(self) -> None:
        count = self.count
        lag = max((len(c.initial) for c in self.carried.values()), default=0)
        for t in dict.fromkeys((count - 1, count - 2, count // 2, count // 3)):
            names = [slots[t] for slots in self.per_trip]
            if t >= lag and len(set(names)) == len(names) and self.invariant.keys().isdisjoint(names):
                self.pattern = t
                self.units = list(self.trips[t])
                self._part()
                return
        self.why_not = "the values of its trips cannot be told apart"

    def _part(self) -> None:
        """Part what runs before the loop: once, as it is the same in all trips, or for all trips at once."""
        self.fixed: list[Node] = []  # what is the same in all trips, run once
        self.ahead: list[Node] = []  # what does not depend on what is carried, run for all trips at once
        shared, known = {*self.invariant}, {*self.invariant}
        known.update(slots[self.pattern] for slots in self.per_trip)
        carried = {self.named(k) for k in self.carried}
        rest = []
        for unit in self.units:
            inputs = unit.reads()
            made = set() if isinstance(unit, Stretch) else set(range(unit.slot, unit.end))
            alone = unit.kind == OP and carried.isdisjoint(made)
            numbered = alone and any(type(x) is not int and x[0] != "c" for x in unit.inputs)
            if alone and not numbered and inputs <= shared:
                self.fixed.append(unit)
                shared.update(made)
                known.update(made)
            elif alone and inputs <= known and self._pays(unit, shared):
                self.ahead.append(unit)
                known.update(made)
            else:
                rest.append(unit)
        self.units = rest
        #: names of the values that all trips share, whether they come from outside or are made before the loop
        self.shared = shared

    def _pays(self, node: Node, shared: Container[int]) -> bool:
        """Whether ``node`` runs for all trips at once: in loops that carry nothing, and where it reads parts.

        The gradient of a shared value of which it reads a part, as ``x[:, t]`` does, would else be added up whole in
        every trip.
        """
        lowering = node.lowering
        assert lowering is not None
        if sum(spec.aval.numel * spec.aval.dtype.np.itemsize for spec in node.specs) * self.count > _AHEAD:
            return False
        joint = {operand for operand, _, _ in lowering.joint}
        wide = [node.inputs[i] for i in node.wanted if i not in joint and node.inputs[i] in shared
                and self.spec(node.inputs[i]).aval.numel > node.specs[0].aval.numel]  # fmt: skip
        summed = lowering.forward is None or lowering.plain  # JAX adds up the gradients of all trips at once
        return summed if wide else not self.carried

    @property
    def weight(self) -> int:
        """How many recorded operations it has."""
        return self.count * len(self.columns)

    @property
    def inputs(self) -> tuple[Any, ...]:
        """All operands of all trips, in order: what a loop around it compares."""
        return tuple(x for nodes in self.nodes for n in nodes for x in n.inputs)

    @property
    def slot(self) -> int:
        """The first slot that it makes."""
        return self.slots[0][0]

    def reads(self) -> set[int]:
        """Return the slots from outside that it needs."""
        found = {s for c in self.carried.values() for s in c.initial.values()}
        return found.union(self.invariant, *self.per_trip)

    def named(self, which: int, lag: int = 0) -> int:
        """Return the name in the body of a value that this trip makes, or that one ``lag`` trips earlier made."""
        return self.slots[self.pattern - lag][which]

    def describe(self) -> str:
        """Return how many trips of how many operations, and where."""
        file, line = self.nodes[0][0].where
        return f"{self.count} trips of {len(self.columns)} operations at {file}:{line}"


def flattened(units: Sequence[Unit]) -> Iterator[Node]:
    """Yield the nodes of ``units``."""
    for unit in units:
        if isinstance(unit, Stretch):
            for nodes in unit.nodes:
                yield from nodes
        else:
            yield unit.node if unit.kind == LOOP else unit
