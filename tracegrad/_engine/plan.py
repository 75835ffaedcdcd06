"""Plans: what of a path runs for some of its slots, in which units, and how these become JAX operations.

A program (`program.py`) is a plan, and so is what a scope recorded (`scope.py`). They differ in who differentiates: a
program, backwards alone, those of its path and later ones with what it returns; a scope, JAX too, from outside, as
`Plan.outside` says (NOTE [Replays are differentiated] in `body.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from tracegrad._engine import alike, loop, region, rolling, tape
from tracegrad._engine.checks import Found
from tracegrad._engine.region import Region, Through, Way
from tracegrad._engine.rows import Env, Numbers
from tracegrad._engine.stretch import Stretch, Unit
from tracegrad._engine.trie import BACKWARD, LOOP, OP, VARIABLE, Node
from tracegrad._engine.value import Spec


class Plan:
    """The path to ``node``, as it is emitted."""

    name = ""  # of what a scope is for

    def __init__(self, node: Node):
        self.node = node
        self.path = node.path()
        self.producers = tape.producers(self.path)
        self.run_nodes: list[Node] = []
        #: depths of the nodes whose pullbacks are used, by backwards of the path or by later ones
        self.differentiated: set[int] = set()
        #: what is emitted one after the other: nodes, and regions of loops
        self.units: list[Unit] = []
        self.regions: list[Region] = []
        self.unrolled: list[str] = []  # what repeats and was not rolled, and why
        self.draws: dict[int, list[Node]] = {}  # see `alike.py`
        #: the nodes that JAX pulls through from outside, by depth; None where it does not differentiate
        self.outside: loop.Wanted | None = None

    def spec(self, slot: int) -> Spec:
        """Return what is known of ``slot``."""
        maker = self.producers[slot]
        return maker.specs[slot - maker.slot]

    # -- planning ------------------------------------------------------------------------------------------------

    def run_for(self, needed: set[int]) -> None:
        """Run what the slots ``needed`` and the pullbacks of what is ``differentiated`` need, node by node."""
        self.run_nodes = tape.steps(self.path, needed, self.differentiated)
        self.units = list(self.run_nodes)

    def roll(self, live: frozenset[int], kept: Iterable[int]) -> None:
        """Roll the loops among the units.

        Args:
            live: the slots that come out.
            kept: depths of the nodes that somebody pulls through besides the backwards of the path.
        """
        pulls = [n.pull for n in self.run_nodes if n.kind == BACKWARD and n.pull is not None]
        fenced = {n.depth for draws in self.draws.values() for n in draws}
        pulled = dict.fromkeys(kept, 1)
        for i, pull in enumerate(pulls, 1):
            fenced.update(self.producers[slot].depth for slot in pull.targets)
            if pull.alone:
                fenced |= pull.traversed
            for depth in pull.traversed:
                pulled[depth] = pulled.get(depth, 0) | 1 << i
        units, self.unrolled = rolling.rolled(self.run_nodes, self.spec, live, pulled, fenced)
        if any(unit.kind == LOOP for unit in units):
            try:
                self.units = region.grouped(units, fenced)
            except Exception as error:  # as in `rolled`
                self.unrolled.append(f"all loops: {type(error).__name__} when they were grouped: {error}")
        self.regions = [unit for unit in self.units if isinstance(unit, Region)]

    def unroll(self, why: str) -> None:
        """Emit node by node from now on: something is wrong with the loops."""
        self.units, self.regions = list(self.run_nodes), []
        self.unrolled.append(why)

    def through(self, traversed: frozenset[int], roots: Collection[int]) -> list[Any]:
        """Return the nodes and regions, in order, of a backward from ``roots`` that traverses these nodes."""
        if all(r.depths.isdisjoint(traversed) for r in self.regions):
            return [self.path[d] for d in sorted(traversed)]
        found: list[Any] = []
        for unit in self.units:
            if isinstance(unit, Region):
                if not unit.depths.isdisjoint(traversed):
                    others = [self.path[d] for d in traversed - unit.depths]
                    way = unit.way(traversed, {*roots, *(n.inputs[i] for n in others for i in n.wanted)})
                    found.append(Through(unit, way, way))
            elif unit.depth in traversed:
                found.append(unit)
        return found

    def scopes(self) -> list[Plan]:
        """Return the plans of the scopes in it, and of those in these, each once."""
        found: dict[Plan, None] = {}
        for node in self.run_nodes:
            plan = node.lowering.scope if node.lowering else None
            if plan is not None and plan not in found:
                found |= dict.fromkeys((plan, *plan.scopes()))
        return list(found)

    def told(self) -> tuple[list[str], list[str]]:
        """Return in words which loops are rolled, here and in scopes, and what repeats and is not, and why."""
        rolled, unrolled = [], []
        for plan in (self, *self.scopes()):
            place = f" (in {plan.name})" if plan.name else ""
            stretches = [unit for r in plan.regions for unit in r.units if isinstance(unit, Stretch)]
            rolled += [stretch.describe() + place for stretch in stretches]
            unrolled += [why + place for why in plan.unrolled]
        return rolled, unrolled

    # -- emission ------------------------------------------------------------------------------------------------

    def emit(self, env: Env, numbers: Numbers, outs: Collection[int], found: list[Found] | None,
             kept: Mapping[int, Way]) -> dict[Any, tape.Linear]:  # fmt: skip
        """Emit the units; return the pullbacks, by the depth of a node or the way through a region.

        Args:
            env: the arrays of the leaves, to which those of the other slots are added.
            numbers: the input numbers.
            outs: the slots whose arrays are wanted in the end.
            found: what the checks find is added; None where nothing is checked.
            kept: ways of later backwards through regions, by depth.
        """
        at = loop.Emission(env, numbers, self.outside, set(), found)
        linear: dict[Any, tape.Linear] = {}
        through = {n.depth: self.through(n.pull.traversed, n.pull.roots) for n in self.run_nodes if n.pull is not None}
        for unit in self.units:
            if isinstance(unit, Region):
                ways = [t.way for nodes in through.values() for t in nodes if isinstance(t, Through)
                        and t.region is unit]  # fmt: skip
                ways += [kept[unit.depth]] if unit.depth in kept else []
                linear.update(unit.emit(at, self._needed_of(unit, outs), list(dict.fromkeys(ways))))
            elif unit.depth in self.draws:
                alike.emit(self.draws[unit.depth], env, numbers)
            elif unit.kind == OP and env.row(unit.slot) is not None:
                continue  # drawn already
            elif unit.kind == OP and unit.depth in self.differentiated:
                linear[unit.depth] = loop.linearized(unit, at)
            elif unit.kind == BACKWARD:
                gradients = tape.run_backward(unit, through[unit.depth], env, linear)
                env.update(enumerate(gradients if self.outside is None else map(loop.constant, gradients), unit.slot))
            elif unit.kind in (OP, VARIABLE):
                loop.emit(unit, at)
        return linear

    def _needed_of(self, one: Region, outs: Collection[int]) -> set[int]:
        """Return the slots whose arrays are wanted outside of a region."""
        return {*outs}.union(*(unit.reads() for unit in self.units if unit is not one))
