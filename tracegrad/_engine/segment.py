"""A flushed piece of the tape: what a backward that comes after the flush still needs of it.

A live value that wants gradients leaves its trace as a `SegmentOutput`. A later backward records the segment's
pullback, which takes the residuals that the program returned, as one op of the then-current trace. For
``create_graph`` it records the VJP of each op, with operands computed again from the segment's leaves (`revive`): then
the pullback itself must be differentiable.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from tracegrad._engine import tape
from tracegrad._engine.op import Lowering
from tracegrad._engine.program import CONSTANT, LEAF_ARRAY, Program
from tracegrad._engine.value import Value, Variable

_sequence = itertools.count()


class SegmentOutput:
    """Where gradients of a flushed value go: a slot of a segment."""

    __slots__ = ("segment", "slot", "retains")

    def __init__(self, segment: Segment, slot: int):
        self.segment = segment
        self.slot = slot
        self.retains: Any = None  # weak reference to the handle that retains its gradient


class Segment:
    """One run of a program whose outputs may still be differentiated."""

    __slots__ = ("order", "program", "sources", "leaves", "anchors", "residuals", "numbers", "freed", "outputs", "cuts",
                 "trace")  # fmt: skip

    def __init__(self, program: Program, values: dict[int, Value], numbers: tuple[dict[int, float], dict[int, int]],
                 outs: Sequence[Any], leaves: Sequence[Value]):  # fmt: skip
        self.order = next(_sequence)
        self.program = program
        self.freed: set[int] = set()
        self.outputs: dict[int, SegmentOutput] = {}
        self.cuts: dict[int, Any] = {}  # as a trace has them
        self.trace: Any = None  # the trace that was flushed: what both are known by
        #: slot -> variable or earlier segment's output, for every leaf in which the segment's tape ends
        self.sources: dict[int, Variable | SegmentOutput] = {}
        for slot in program.graph_ends:
            source = values[slot].source
            if source is not None:
                self.sources[slot] = source
        #: per kept node's residual: the leaf's value, or the array that the program returned
        self.residuals: list[Any] = [
            program.constants[i] if kind == CONSTANT else leaves[i] if kind == LEAF_ARRAY else outs[i]
            for kind, i in program.residual_places
        ]
        #: what `revive` starts from, as far as outputs need it whose tape is not freed
        self.leaves: dict[int, Value] = {s: values[s] for s in program.graph_leaves}
        self.anchors: dict[int, Any] = {}
        for slot in program.anchors:
            kind, i = program.places[slot]
            self.anchors[slot] = leaves[i].array if kind == LEAF_ARRAY else outs[i]
        self.numbers = numbers

    def output(self, slot: int) -> SegmentOutput:
        """Return the one `SegmentOutput` of ``slot``."""
        found = self.outputs.get(slot)
        if found is None:
            found = self.outputs[slot] = SegmentOutput(self, slot)
        return found

    def traversal(self, roots: tuple[int, ...], targets: frozenset[int] | None,
                  floor: int = 0) -> tuple[frozenset[int], tuple[int, ...]]:  # fmt: skip
        """Return the nodes pulled through from ``roots``, and the slots whose gradients come out."""
        cache = self.program.traversals
        found = cache.get((roots, targets, floor))
        if found is None:
            wanted = None if targets is None else set(targets)
            traversed, ends = tape.reach(self.program.path, roots, wanted, floor)
            found = cache[(roots, targets, floor)] = (traversed, tuple(ends))
        return found

    def touches_freed(self, traversed: frozenset[int]) -> bool:
        """Whether a backward through these nodes needs values that an earlier one freed."""
        return not (self.freed.isdisjoint(traversed) and self.program.freed.isdisjoint(traversed))

    def free(self, traversed: frozenset[int]) -> None:
        """Mark what these nodes saved as freed, and let go of its arrays."""
        program = self.program
        hit = {d for d in traversed.intersection(program.kept) if tape.saves(program.path[d])}
        self.freed |= hit
        position = 0
        for depth, count in program.residual_counts.items():
            way = program.kept_ways.get(depth)
            if depth in hit if way is None else not way.depths.isdisjoint(hit):
                self.residuals[position : position + count] = [None] * count
            position += count
        if self.leaves or self.anchors:
            needed = self._intact()
            self.leaves = {s: v for s, v in self.leaves.items() if s in needed}
            self.anchors = {s: a for s, a in self.anchors.items() if s in needed}

    def _intact(self) -> frozenset[int]:
        """Return the slots that outputs are computed from whose tape is not freed."""
        program = self.program
        key = ("intact", frozenset(self.freed), frozenset(self.outputs))
        found = program.traversals.get(key)
        if found is None:
            slots = self.outputs.keys() - tape.lost(program.path, self.freed | program.freed)
            nodes = program.ancestors(set(slots))
            found = program.traversals[key] = frozenset(s for n in nodes for s in range(n.slot, n.end))
        return found

    def residuals_of(self, traversed: frozenset[int]) -> list[Any]:
        """Return the residuals of these nodes and their regions, in order: values of leaves, and arrays."""
        program = self.program
        through = {unit.depth for unit in program.through_kept(traversed)} if program.regions else traversed
        kinds = zip(program.residual_depths(), program.residual_places, self.residuals)
        return [a for depth, (kind, _), a in kinds if depth in through and kind != CONSTANT]

    def is_whole(self, roots: tuple[int, ...], targets: frozenset[int] | None) -> bool:
        """Whether a backward goes through each region (`region.py`) as a whole or not at all, and stops in none."""
        program = self.program
        traversed, ends = self.traversal(roots, targets)
        for region in program.regions:
            inside = traversed & region.depths
            way = program.kept_ways.get(region.depth)
            if inside and (way is None or inside != way.depths or not region.made.intersection(roots) <= {*way.flows}):
                return False
            if not region.made.isdisjoint(ends) or not region.made.isdisjoint(self.cuts):
                return False
        return True


def pull_rule(*args: Any) -> Lowering:
    """The rule of the op that a backward records for a segment.

    Operands are the residual arrays of the traversed nodes, those that are constants left out, and one cotangent per
    root; the params are the program, the roots, the traversed nodes and the slots whose gradients come out, None for
    those of each operand of the one node traversed.
    """
    program, roots, traversed, ends = args[-4:]
    nodes = program.through_kept(traversed)
    through = {unit.depth for unit in nodes}

    def fn(*arrays: Any) -> tuple[Any, ...]:
        given = iter(arrays)
        linear = {d: tape.Linear([], program.apply[d]) for d in through}
        for depth, (kind, i) in zip(program.residual_depths(), program.residual_places):
            if depth in through:
                linear[depth].residuals.append(program.constants[i] if kind == CONSTANT else next(given))
        if ends is None:
            (node,) = nodes
            alone = tape.pull_alone(node, dict(zip(roots, given)), linear[node.depth])
            slots = (node.inputs[i] for i in node.wanted)
            return tuple(tape.zero(program.spec(s).aval) if c is None else c for s, c in zip(slots, alone))
        flowing = tape.pull_back(nodes, dict(zip(roots, given)), linear)
        return tuple(flowing[s] if s in flowing else tape.zero(program.spec(s).aval) for s in ends)

    return Lowering(fn, name="SegmentBackward0", differentiable=False, weight=len(traversed))
