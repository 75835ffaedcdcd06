"""Rolling: finding the periodic stretches of a program's steps.

NOTE [Growing] A period is grown together with its dependences. Two steps one period apart correspond if they run the
same lowering, and if each pair of operands is the same value from outside, two values from outside, two that are one
trip apart, or an initial value and what the first trip made of it (see NOTE [Roles]). To match the ops first and look
at the operands later would join loops that follow each other, or find half of a body. Loops found become single steps,
and the search is repeated for loops around them.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Container, Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from tracegrad._config import config
from tracegrad._engine.joints import joined
from tracegrad._engine.stretch import Stretch, Unit, flattened
from tracegrad._engine.trie import LEAF, LOOP, OP, Node
from tracegrad._engine.value import Spec

NOTHING: Mapping[int, int] = {}

#: How many trips at least pay, how many trips later a value is carried at most, and how many rounds of the search there
#: are: one for each depth of nesting.
_TRIPS, _LAG, _ROUNDS = 8, 8, 3
#: How many operations at least pay, on a CPU as measured, and elsewhere, where a trip of a loop costs more.
_OPS, _OPS_ELSEWHERE = 32, 256
#: Leaves that differ by trip and have at least this many elements are weights of layers, which run faster unrolled than
#: stacked: if they want gradients, and if they want none and may be inputs.
_WEIGHTS, _FROZEN = 1 << 10, 1 << 16


def _least(device: str) -> tuple[int, int]:
    """Return how many trips and how many operations a stretch has at least."""
    if config.roll == "auto":
        return _TRIPS, _OPS if device == "cpu" else _OPS_ELSEWHERE
    return (2, 2) if config.roll == "always" else (int(config.roll), 2)


def rolled(
    nodes: Sequence[Node],
    spec: Callable[[int], Spec],
    live: frozenset[int] = frozenset(),
    pulled: Mapping[int, int] = NOTHING,
    fenced: Container[int] = (),
) -> tuple[list[Unit], list[str]]:
    """Return ``nodes`` with the periodic stretches among them as one unit each, and what was not rolled, and why.

    Args:
        nodes: what runs, in order.
        spec: tells what is known of a slot.
        live: the slots that somebody holds.
        pulled: depth -> which backwards pull through that node, one bit each: the same in all trips of a stretch.
        fenced: depths of the nodes that no stretch may contain.
    """
    units: list[Unit] = [n for n in nodes if n.kind != LEAF]
    if config.roll == "never" or not units:
        return units, []
    least = _least(next((s.aval.device.type for unit in reversed(units) for s in unit.specs), "cpu"))
    if len(units) < least[1]:
        return units, []
    place: dict[int, int] = {}
    for i, leaf in enumerate(n for n in nodes if n.kind == LEAF):
        place[leaf.slot] = -1 - i
    made = 0
    for unit in units:
        for slot in range(unit.slot, unit.end):
            place[slot] = made
            made += 1
    refused: dict[str, None] = {}
    try:
        for _ in range(_ROUNDS):
            found = _Search(units, place, spec, live, least, refused, pulled, fenced).stretches()
            if not found:
                break
            for start, stretch in sorted(found, key=lambda f: f[0], reverse=True):
                units[start : start + stretch.count * len(stretch.trips[0])] = [stretch]
        return joined(units, fenced), [*refused, *_ended(nodes, fenced, least[0])]
    except Exception as error:  # nothing depends on loops being found
        return [n for n in nodes if n.kind != LEAF], [f"all loops: {type(error).__name__} in the search: {error}"]


def _ended(nodes: Sequence[Node], fenced: Container[int], trips: int) -> list[str]:
    """Return the places where something is done in at least ``trips`` trips that ends every loop, in words."""
    count = Counter(n.where for n in nodes if n.wanted and (n.depth in fenced or n.lowering and n.lowering.own))
    return [f"{number} operations at {file}:{line}: a hook, a custom Function or a gradient that is asked for ends the "
            "loop" for (file, line), number in count.items() if number >= trips]


class _Search:
    """One round over ``units``."""

    def __init__(self, units: Sequence[Unit], place: dict[int, int], spec: Callable[[int], Spec],
                 live: frozenset[int], least: tuple[int, int], refused: dict[str, None],
                 pulled: Mapping[int, int], fenced: Container[int]):  # fmt: skip
        self.units = units
        self.place = place
        self.spec = spec
        self.live = live
        self.least = least
        self.refused = refused
        self.pulled = pulled
        known: dict[Hashable, int] = {}
        self.kinds = [known.setdefault(_kind(unit, i, fenced), len(known)) for i, unit in enumerate(units)]
        self.starts: list[int] = []  # the place of the first value that each makes
        self.sizes: list[int] = []  # how many operations each has
        at = 0
        for unit in units:
            self.starts.append(at)
            stretch = isinstance(unit, Stretch)
            at += len(unit.index) if stretch else unit.end - unit.slot
            self.sizes.append(unit.weight if stretch else 1)
        self.starts.append(at)
        self.operands = [tuple([place[x] for x in unit.inputs if type(x) is int]) if unit.kind in (OP, LOOP) else ()
                         for unit in units]  # fmt: skip

    def stretches(self) -> list[tuple[int, Stretch]]:
        """Return where stretches begin, and what they are."""
        trips, _ = self.least
        kinds = np.array(self.kinds)
        taken = np.zeros(len(self.units) + 1, bool)
        found: list[tuple[int, Stretch]] = []
        for period in self._periods(trips):
            same = (kinds[period:] == kinds[:-period]) & ~taken[period:-1] & ~taken[: -1 - period]
            same = np.concatenate([[False], same, [False]])
            edges = np.flatnonzero(same[1:] != same[:-1])
            stop = 0
            for low, high in zip(edges[::2].tolist(), edges[1::2].tolist()):
                if high - low >= (trips - 1) * period:
                    # The last trip of what was found before may reach into this one.
                    for start, stretch in self._grown(period, max(low, stop), high + period):
                        found.append((start, stretch))
                        stop = start + stretch.count * period
                        taken[start:stop] = True
        return found

    def _periods(self, trips: int) -> list[int]:
        """Return the likely periods: the commonest distances to the last equal run of four steps, and their sums."""
        count: Counter[int] = Counter()
        last: dict[tuple[int, ...], int] = {}
        kinds = self.kinds
        for i, run in enumerate(zip(kinds, kinds[1:], kinds[2:], kinds[3:])):
            before = last.get(run)
            if before is not None:
                count[i - before] += 1
            last[run] = i
        if len(kinds) < 8:
            count.update(range(1, 1 + len(kinds) // 2))
        common = [p for p, _ in count.most_common(4)]
        likely = {*common, *(a + b for a in common for b in common), *(3 * a for a in common)}
        return sorted(p for p in likely if p * trips <= len(kinds))

    def _grown(self, period: int, low: int, high: int) -> list[tuple[int, Stretch]]:
        """Return the stretches with this period among the steps from ``low`` to ``high``, whose kinds repeat."""
        trips, ops = self.least
        found = []
        start, work = low, 20 * (high - low)
        while high - start >= trips * period and work > 0:
            stop, again = self._grow(period, start, high)
            work -= stop - start
            count = (stop - start) // period
            size = sum(self.sizes[start : start + count * period])
            if count < trips or size < ops:
                if config.roll == "auto" and count >= trips:
                    self._refuse(start, period, count, f"{size} operations are too few to pay")
                start = max(start + 1, again)
                continue
            alike = self._alike(start, period, count)
            if alike < count and alike < trips:
                if count - alike < trips:
                    self._refuse(start, period, count, "a backward goes through a part of it")
                start += alike * period
                continue
            stretch = self._made(start, period, alike)
            if stretch is not None:
                found.append((start, stretch))
            start += alike * period
        return found

    def _alike(self, start: int, period: int, count: int) -> int:
        """Return how many trips the same backwards pull through as through the first."""
        marks = None
        for trip in range(count):
            units = self.units[start + trip * period : start + (trip + 1) * period]
            own = [self.pulled.get(node.depth, 0) for node in flattened(units)]
            if marks is not None and own != marks:
                return trip
            marks = own
        return count

    def _grow(self, period: int, start: int, high: int) -> tuple[int, int]:
        """Return up to where trips that begin at ``start`` correspond, and from where on they might again."""
        starts, operands = self.starts, self.operands
        base = starts[start]
        width = starts[start + period] - base
        first = base + width  # what the first trip makes ends here
        stop = start + period
        late = start + (_LAG + 1) * period
        while stop < high:
            for new, old in zip(operands[stop], operands[stop - period]):
                if new - old == width:
                    if old >= base or new < base or stop < late:
                        continue
                elif new < base:
                    if old < base:
                        continue
                elif old < base and new < first and stop < late:
                    continue
                again = bisect_right(starts, new - width if old < base else old)
                return stop, max(start + 1, again)
            stop += 1
        return stop, high

    def _made(self, start: int, period: int, count: int) -> Stretch | None:
        trips = [self.units[i : i + period] for i in range(start, start + count * period, period)]
        stretch = Stretch(trips, self.place, self.spec)
        if not stretch.why_not:
            for slots in stretch.per_trip:
                spec = self.spec(slots[0])
                heavy = spec.aval.numel >= (_WEIGHTS if spec.wants else _FROZEN)
                if heavy and all(self.place[s] < 0 for s in slots):
                    stretch.why_not = "each trip has weights of its own"
        if config.roll == "auto" and stretch.weight < _OPS_ELSEWHERE and not stretch.carried:
            if len(self.live.intersection(stretch.index)) >= count:
                stretch.why_not = "a few results that have nothing to do with each other"
        if stretch.why_not:
            self._refuse(start, period, count, stretch.why_not)
            return None
        return stretch

    def _refuse(self, start: int, period: int, count: int, why: str) -> None:
        node = next(flattened(self.units[start : start + 1]))
        ops = sum(self.sizes[start : start + period])
        file, line = node.where
        self.refused[f"{count} trips of {ops} operations at {file}:{line}: {why}"] = None


def _kind(unit: Unit, i: int, fenced: Container[int]) -> Hashable:
    """Return what equal units have in common; a step that ends every stretch has nothing."""
    if isinstance(unit, Stretch):
        return (unit.count, tuple(_kind(node, i, fenced) for node in unit.nodes[0]))
    node: Any = unit
    lowering = node.lowering
    if node.kind != OP or node.depth in fenced or lowering.renews or lowering.own:
        return i
    if any(spec.aval.parts for spec in node.specs):
        return i
    return (lowering, node.mode.grad, node.end - node.slot)
