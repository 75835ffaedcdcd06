"""Regions: loops and what joins them, emitted and differentiated as one function.

NOTE [Rolled tapes] A node is linearised by itself. What is rolled has no nodes of its own any more, so a backward pulls
through a whole region at once: JAX differentiates the region's function, ``lax.scan`` and all. That is the same as long
as the backward goes through the same nodes of every trip, which `rolling.py` sees to, and nobody asks for what arrives
in between: such nodes are fenced off. A backward that comes after the flush and goes through a part of a region finds
no pullback for it; it computes the region's values again (`Segment.is_whole`).
"""

from __future__ import annotations

from collections.abc import Collection, Container, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from tracegrad._engine import layout, loop
from tracegrad._engine.checks import Found, Placed
from tracegrad._engine.joints import Joint
from tracegrad._engine.rows import Env
from tracegrad._engine.stretch import Stretch, Unit, flattened
from tracegrad._engine.tape import Linear
from tracegrad._engine.trie import LOOP, OP


class Way(NamedTuple):
    """How a backward goes through a region."""

    flows: tuple[int, ...]  # the slots at which cotangents arrive
    depths: frozenset[int]  # the nodes pulled through
    ends: tuple[int, ...]  # the slots outside to which they go


class Region:
    """Some units of a program that are emitted together, in order."""

    kind = LOOP

    def __init__(self, units: Sequence[Unit]):
        self.units = units
        self.nodes = list(flattened(units))
        self.depth = self.nodes[0].depth
        self.depths = frozenset(n.depth for n in self.nodes)
        self.made = frozenset(s for n in self.nodes for s in range(n.slot, n.end))
        self.used: set[int] = set().union(*(unit.reads() for unit in units))

    def reads(self) -> set[int]:
        """Return the slots from outside that it needs."""
        return self.used - self.made

    def way(self, traversed: frozenset[int], arrive: Collection[int]) -> Way:
        """Return the way of a backward through the nodes ``traversed``, if cotangents ``arrive`` at these slots."""
        depths = traversed & self.depths
        sent = {n.inputs[i] for n in self.nodes if n.depth in depths for i in n.wanted}
        return Way(tuple(sorted(self.made.intersection(arrive))), depths, tuple(sorted(sent - self.made)))

    def emit(self, around: loop.Emission, needed: set[int], ways: Sequence[Way]) -> dict[Way, Linear]:
        """Emit it; return its pullback for each of ``ways``: nearly always there is but one.

        Args:
            around: what the plan is emitted with.
            needed: the slots whose arrays are wanted outside.
            ways: what backwards will ask for; for each but the first it is computed once more.
        """
        env = around.env
        outs = self.made & needed
        rows: dict[int, tuple[int, int, int]] = {}
        keys: list[tuple[int, int]] = []
        placed: list[Placed] = []
        places: list[tuple[int, int | None]] = []  # of each flow: the array, and its row there

        def run(way: Way | None = None, ends: Sequence[int] = (), turns: Sequence[tuple[int, ...]] = (),
                late: Sequence[loop.Late] = (), *given: Any) -> tuple[list[Any], Any]:  # fmt: skip
            inner = Env(zip(ends, given), outer=env)
            for i, (slots, stack) in enumerate(zip(turns, given[len(ends) :])):
                inner.hold(self.depth, -1 - i, stack, slots)
            flows = way.flows if way else ()
            taps = {one.depth: (one, tap) for one, tap in zip(late, given[len(given) - len(late) :])}
            wanted = self._wanted(way, around.wanted) if way else around.wanted
            found: list[Found] | None = None if around.found is None else []
            at = loop.Emission(inner, around.numbers, wanted, self.used.union(outs, flows), found, taps)
            for unit in self.units:
                loop.emit(unit, at)
            rows.update((slot, inner.rows[slot]) for slot in outs if slot in inner.rows)
            stacks = {row[:2]: inner.stacks[row[:2]] for row in rows.values()}
            alone = {slot: jnp.asarray(inner[slot]) for slot in outs if slot not in rows}
            placed[:], wrong = loop.parted(found)
            keys[:] = stacks
            others = [at.others[one.depth] for one in late]
            arrays: dict[Any, Any] = {}
            for slot in flows:
                row = inner.rows.get(slot)
                arrays[slot if row is None else row[:2]] = inner[slot] if row is None else inner.stacks[row[:2]]
            order = list(arrays)
            places[:] = [(order.index(slot if row is None else row[:2]), row and row[2])
                         for slot, row in ((slot, inner.rows.get(slot)) for slot in flows)]
            return list(arrays.values()), (alone, list(stacks.values()), wrong, others)

        linear: dict[Way, Linear] = {}
        if not ways:
            _, (alone, stacks, wrong, _) = run()
        for way in ways[::-1]:
            late: list[loop.Late] = []
            if around.wanted is None or self.depths.isdisjoint(around.wanted):
                wanted = self._wanted(way, None)
                late = [x for u in self.units if isinstance(u, Stretch) for x in loop.late(u, wanted, way.ends)]
            ends, turns = self._divided(way)
            given = [*(env[slot] for slot in ends), *(env.stacked(env.segments(slots)) for slots in turns),
                     *(jnp.zeros(one.shape, one.dtype) for one in late)]  # fmt: skip
            flows, pullback, (alone, stacks, wrong, others) = jax.vjp(
                partial(run, way, ends, turns, late), *given, has_aux=True)
            linear[way] = _linear(way.ends, ends, turns, flows, tuple(places), pullback, late, others)
        env.update(alone)
        env.stacks.update(zip(keys, stacks))
        env.rows.update(rows)
        if around.found is not None:
            around.found.extend(zip(wrong, placed))
        return linear

    def _divided(self, way: Way) -> tuple[tuple[int, ...], list[tuple[int, ...]]]:
        """Return the ends of a way that are given alone, and those that are given as the rows of one array each.

        These are what a loop takes in turn, such as the weights of its trips: their gradients come together too.
        """
        left = set(way.ends)
        turns = []
        for unit in self.units:
            for slots in unit.per_trip if isinstance(unit, Stretch) else ():
                if len(set(slots)) == len(slots) and left.issuperset(slots):
                    left.difference_update(slots)
                    turns.append(slots)
        return tuple(slot for slot in way.ends if slot in left), turns

    def _wanted(self, way: Way, outside: loop.Wanted | None) -> loop.Wanted:
        """Return what JAX pulls through: that of the way, and what it pulls through from ``outside``.

        The latter makes no difference to the way's own pullback: cotangents that arrive at its flows come to its ends
        through its nodes alone.
        """
        return {n.depth: n.wanted for n in self.nodes if n.depth in way.depths or outside and n.depth in outside}


def _linear(slots: Sequence[int], ends: Sequence[int], turns: Sequence[tuple[int, ...]], outs: Sequence[Any],
            places: Sequence[tuple[int, int | None]], pullback: Any, late: Sequence[loop.Late],
            others: Sequence[Any]) -> Linear:  # fmt: skip
    """Return the pullback of a region as residuals and a function of them and of a cotangent, or None, for each flow.

    Args:
        slots: whose gradients it returns.
        ends: those of them that were given alone.
        turns: those that were given as rows of arrays.
        outs: what was differentiated.
        places: for each flow, which of ``outs`` it is, or is a row of.
        pullback: JAX's, of ``outs``.
        late: the gradients that are left until the end, each with the operand in ``others`` that it needs.
        others: these operands.
    """
    residuals, tree = jax.tree_util.tree_flatten((pullback, others))
    avals = [(out.shape, out.dtype) for out in outs]

    def apply(arrays: Sequence[Any], cotangents: Sequence[Any]) -> list[Any]:
        parts: list[dict[int | None, Any]] = [{} for _ in avals]
        for c, (i, row) in zip(cotangents, places):
            if c is not None:
                parts[i][row] = lax.convert_element_type(c, avals[i][1])
        full = [_whole(part, *of) for part, of in zip(parts, avals)]
        pull, others = jax.tree_util.tree_unflatten(tree, arrays)
        gradients = list(pull(full))
        found = dict(zip(ends, gradients))
        for rows, stack in zip(turns, gradients[len(ends) :]):
            found.update((slot, layout.row(stack, i)) for i, slot in enumerate(rows))
        for one, other, cotangent in zip(late, others, gradients[len(ends) + len(turns) :]):
            found[one.slot] += one.gradient(other, cotangent)
        return [found[slot] for slot in slots]

    return Linear(residuals, apply)


def _whole(parts: dict[int | None, Any], shape: tuple[int, ...], dtype: Any) -> Any:
    """Return the cotangent of an array of which ``parts`` have arrived, by row; None is all of it."""
    if None in parts:
        return parts[None]
    if not parts or 2 * len(parts) < shape[0]:
        whole = jnp.zeros(shape, dtype)
        for row, c in parts.items():
            whole = whole.at[row].set(c)
        return whole
    zero = jnp.zeros(shape[1:], dtype)
    return jnp.stack([parts.get(row, zero) for row in range(shape[0])])


class Through:
    """A region on the way of one backward: stands among the nodes that it pulls through."""

    kind = LOOP

    def __init__(self, region: Region, way: Way, key: Any):
        self.region, self.way, self.depth = region, way, region.depth
        self.key = key  # of its pullback among those given

    def pull(self, flowing: dict[int, Any], linear: dict[Any, Linear]) -> None:
        """Carry JAX's cotangents in ``flowing`` through."""
        arrived = [flowing.get(slot) for slot in self.way.flows]
        if all(c is None for c in arrived):
            return
        one = linear[self.key]
        for slot, c in zip(self.way.ends, one.apply(one.residuals, arrived)):
            known = flowing.get(slot)
            flowing[slot] = c if known is None else known + c


# -- which units form a region -----------------------------------------------------------------------------------------


def grouped(units: Sequence[Unit], fenced: Container[int]) -> list[Unit]:
    """Return ``units`` with the loops among them, and what joins these, as regions.

    Loops are one region where one takes the rows of another; what lies between them belongs to it. Whatever needs
    a region's values comes after it.
    """
    makers = {s: i for i, unit in enumerate(units) for s in _made(unit)}
    uses = [{makers[s] for s in _depends(unit) if s in makers} for unit in units]
    group: dict[int, set[int]] = {i: {i} for i, unit in enumerate(units) if unit.kind == LOOP}
    for i in list(group):
        for j in sorted({makers[s] for s in _by_rows(units[i]) if s in makers}):
            if j in group and group[i] is not group[j]:
                joined = group[i] | group[j]
                between = _between(joined, uses)
                if all(units[k].kind == LOOP or _may_join(units[k], fenced) for k in between):
                    joined = joined.union(between, *(group[k] for k in between if k in group))
                    for k in joined:
                        group[k] = joined
    return _ordered(units, uses, group)


def _ordered(units: Sequence[Unit], uses: Sequence[set[int]], group: dict[int, set[int]]) -> list[Unit]:
    """Return the units in an order in which each comes after what it uses, those of a group as a region."""
    order: list[Unit] = []
    done: set[int] = set()

    def emitted(members: set[int]) -> bool:
        if not all(uses[m] <= done | members for m in members):
            return False
        order.append(Region([units[m] for m in sorted(members)]) if min(members) in group else units[min(members)])
        done.update(members)
        return True

    waiting: list[set[int]] = []
    for i in range(len(units)):
        members = group.get(i, {i})
        if i != max(members):
            continue
        if not emitted(members):
            waiting.append(members)
        elif i in group:
            before = -1
            while before != len(order):
                before = len(order)
                waiting = [w for w in waiting if not emitted(w)]
    assert not waiting
    return order


def _made(unit: Unit) -> Sequence[int]:
    return [s for slots in unit.slots for s in slots] if isinstance(unit, Stretch) else range(unit.slot, unit.end)


def _depends(unit: Unit) -> set[int]:
    return unit.reads() if unit.kind == LOOP else {x for x in unit.inputs if type(x) is int}


def _by_rows(unit: Unit) -> set[int]:
    """Return the slots that ``unit`` takes as rows of a stack."""
    if isinstance(unit, Stretch):
        return set().union(*unit.per_trip)
    return unit.reads() if isinstance(unit, Joint) and unit.joins else set()


def _between(members: set[int], uses: Sequence[set[int]]) -> set[int]:
    """Return what is computed from some of the units ``members`` and used by others."""
    after, first, last = set(members), min(members), max(members)
    for i in range(first, last):
        if not after.isdisjoint(uses[i]):
            after.add(i)
    before = set(members)
    for i in range(last, first, -1):
        if i in before:
            before.update(uses[i])
    return (after & before) - members


def _may_join(unit: Unit, fenced: Container[int]) -> bool:
    if unit.kind != OP or unit.depth in fenced or any(spec.aval.parts for spec in unit.specs):
        return False
    return not (unit.lowering.renews or unit.lowering.own)
