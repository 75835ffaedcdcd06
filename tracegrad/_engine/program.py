"""Programs: a recorded path as one compiled JAX function; what it returns and donates is fixed when it is compiled."""

from __future__ import annotations

import functools
import sys
import threading
import time
import warnings
from collections import Counter, OrderedDict
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from tracegrad import _disk, _mappings, _working_memory
from tracegrad._config import config
from tracegrad._engine import alike, blocks, checks, credit, jax_state, layout, orders, report, tape, trie
from tracegrad._engine.plan import Plan
from tracegrad._engine.region import Region, Through, Way
from tracegrad._engine.rows import Env, Numbers
from tracegrad._engine.trie import BACKWARD, LEAF, OP, VARIABLE, Node

#: Where a slot's or a residual's array is found after a run. What goes with a `PIECE` is the index of an output, the
#: piece's first element there, and its shape; a `PART` is one of a block, see `blocks.py`.
LEAF_ARRAY, OUTPUT, CONSTANT, PIECE, PART = range(5)
#: Rows of one stacked array are returned as that where at least one of this many is live.
_LIVE_ROWS = 4
#: On a CPU, XLA copies a parameter that it overwrites if something reads it that the new elements do not depend on,
#: such as the gradient of what a layer was given: unless it looks at the order in which it runs things. That makes up
#: for the concurrency that it costs from about this many bytes on, see ``benchmarks/lowerings.md``.
_IN_PLACE: dict[str, Any] = {"xla_cpu_copy_insertion_use_region_analysis": True}
_RENEWED = 3 << 19
#: The process's mappings are counted whenever this many programs more were kept.
_LOOK = 16


class Program(Plan):
    """The path to ``node`` compiled for the slots in ``live``."""

    def __init__(self, node: Node, live: frozenset[int], reason: str, where: tuple[str, int],
                 inline: bool = False, roll: bool = True):  # fmt: skip
        super().__init__(node)
        self.inline = inline  # replayed in somebody else's JAX trace, once
        self.live = live
        self.leaf_slots = tuple(n.slot for n in self.path if n.kind == LEAF)
        self._plan()
        if not inline:
            self.draws = alike.groups(self.run_nodes, live)
            if roll:
                self.roll(live, self.kept)
        #: of the regions whose pullback a later backward may ask for, by depth
        self.kept_ways = self._kept_ways()
        self.donated: frozenset[int] = frozenset()  # positions among ``leaf_slots``
        self.blocks: list[blocks.Block] = []  # leaves that come as one array, before those that come one by one
        self.loose: Sequence[int] = range(len(self.leaf_slots))  # the positions of the latter
        self.lone: frozenset[int] = frozenset()  # those of them that are donated
        self.misfits = 0  # how often in a row blocks had to be laid, or leaves to be cut out of some
        self.settled = False  # whether it was compiled because of that
        #: slot -> (kind, index) of every live slot: what to hand to the values after a run.
        self.places: dict[int, tuple[int, Any]] = {}
        self.handed: tuple[Any, Any] = (None, None)  # the last live list, and where its slots' arrays are found
        #: (kind, index) of every residual array of the segment, in `Linear.residuals` order per kept node or region.
        self.residual_places: list[tuple[int, int]] = []
        self.residual_counts: dict[int, int] = {}  # depth of a kept node or region -> its number of residuals
        self.apply: dict[int, Any] = {}  # depth of a kept node or region -> `Linear.apply`
        self.constants: list[Any] = []
        #: the checks of the ops that run, and where among the outputs is what they found
        self.checks: list[checks.Placed] = []
        self.flag = -1
        self.traversals: dict[Any, Any] = {}  # see `Segment.traversal`
        self.call: Any = None
        self.record = report.Record(sum(n.kind == OP for n in self.path), where, reason)

    # -- planning ------------------------------------------------------------------------------------------------

    def _plan(self) -> None:
        path = self.path
        freed = tape.freed(path)
        graph = [s for s in self.live if self.producers[s].kind == OP and self.producers[s].wanted]
        reached, ends = tape.reach(path, graph)
        self.has_graph = bool(graph)
        #: leaves and variables in which the tape of the live values ends
        self.graph_ends = tuple(ends)
        #: depths of the nodes whose pullback a later backward may ask for
        self.kept = sorted(reached - freed)
        self.freed = frozenset(reached & freed)
        #: leaves from which the live values whose tape is whole can be computed again, and the outputs of backwards
        #: among their ancestors, which cannot
        self.graph_leaves: tuple[int, ...] = ()
        self.anchors: tuple[int, ...] = ()
        if graph:
            ancestors = self.ancestors(set(graph) - tape.lost(path, self.freed))
            self.graph_leaves = tuple(n.slot for n in ancestors if n.kind == LEAF)
            self.anchors = tuple(s for n in ancestors if n.kind == BACKWARD for s in range(n.slot, n.end))
        self.differentiated.update(self.kept)
        needed = set(self.live) | set(self.anchors)
        for depth in self.kept:
            needed.update(range(path[depth].slot, path[depth].end))
        self.run_for(needed)

    def through_kept(self, traversed: frozenset[int]) -> list[Any]:
        """Return the same of a backward after the flush, which traverses regions whole (`Segment.is_whole`)."""
        if all(r.depths.isdisjoint(traversed) for r in self.regions):
            return [self.path[d] for d in sorted(traversed)]
        found: list[Any] = []
        for unit in self.units:
            if not isinstance(unit, Region):
                found += [unit] if unit.depth in traversed else []
            elif not unit.depths.isdisjoint(traversed):
                found.append(Through(unit, self.kept_ways[unit.depth], unit.depth))
        return found

    def _kept_ways(self) -> dict[int, Way]:
        kept = frozenset(self.kept)
        if not kept or not self.regions:
            return {}
        roots = [s for s in self.live if self.spec(s).wants]
        regions = [t for t in self.through(kept, roots) if isinstance(t, Through)]
        return {t.depth: t.way for t in regions if t.region.depths.isdisjoint(self.freed)}

    def ancestors(self, needed: set[int]) -> list[Node]:
        """Return the nodes that the slots ``needed`` are computed from, in recorded order."""
        found = []
        for node in reversed(self.path):
            if any(s in needed for s in range(node.slot, node.end)):
                found.append(node)
                if node.kind != BACKWARD:
                    needed.update(x for x in node.inputs if type(x) is int)
        return found[::-1]

    def heirs(self) -> dict[int, int]:
        """Return, by position, the leaves whose memory an output can take over, each with that output's slot.

        The heir of a leaf is the output of the op that reads it last which stands where the leaf stands among the
        operands of the same aval: an optimizer's new parameter takes the memory of the old one.
        """
        position = {slot: i for i, slot in enumerate(self.leaf_slots)}
        last: dict[int, Node] = {}
        for node in self.run_nodes:
            for x in node.inputs:
                if type(x) is int and x in position:
                    last[x] = node
        alias = {n.slot: n.inputs[0] for n in self.path if n.kind == VARIABLE}
        kept = {alias.get(s, s) for s in self.live}
        found: dict[int, int] = {}
        for node in self.run_nodes:
            if node.kind != OP:
                continue
            outs: dict[Any, list[int]] = {}
            for slot, spec in enumerate(node.specs, node.slot):
                outs.setdefault(spec.aval, []).append(slot)
            for x in node.inputs:
                if type(x) is int and last.get(x) is node:
                    free = outs.get(self.spec(x).aval)
                    if free:
                        slot = free.pop(0)
                        if slot in kept and self.producers[x].kind == LEAF:
                            found.setdefault(position[x], slot)
        return found

    def leaves_needed_after(self) -> set[int]:
        """Return the positions of the leaves whose arrays are still wanted after a run: they cannot be donated."""
        found: set[int] = {i for kind, i in (*self.places.values(), *self.residual_places) if kind == LEAF_ARRAY}
        return found | {self.leaf_slots.index(s) for s in self.graph_leaves}

    # -- emission ------------------------------------------------------------------------------------------------

    def replay(self, args: Sequence[Any]) -> list[Any]:
        """Run the path on arrays or tracers; return the outputs, and note where each live slot is found in them.

        ``args`` are the float inputs and the int inputs, each packed in one array where there are any, then the leaves.
        """
        given = list(args)
        floats: Any = None
        ints: Any = None
        if self.node.floats:
            floats = given.pop(0)
        if self.node.ints:
            ints = given.pop(0)
        leaves = self._leaves(given)
        env = Env(zip(self.leaf_slots, leaves))
        found: list[checks.Found] = []
        outs = {*self.live, *self.anchors}
        linear = self.emit(env, Numbers(floats, ints), outs, None if self.inline else found, self.kept_ways)
        outputs = self._outputs(env, linear, leaves)
        self.checks = [placed for _, placed in found]
        if found:
            self.flag = len(outputs)
            outputs.append(checks.combined([what for what, _ in found]))
        return outputs

    def lay_out(self, found: list[blocks.Block]) -> None:
        """Take the leaves in these blocks, and the others one by one."""
        self.blocks = found
        together = {i for block in found for i in block.positions}
        self.loose = [i for i in range(len(self.leaf_slots)) if i not in together]
        self.lone = self.donated - together

    def _leaves(self, given: list[Any]) -> list[Any]:
        """Return the leaves by position."""
        if not self.blocks:
            return given
        leaves: list[Any] = [None] * len(self.leaf_slots)
        for block in self.blocks:
            for i, piece in zip(block.positions, layout.cut(given.pop(0), block.shapes, block.starts)):
                leaves[i] = piece
        for i, array in zip(self.loose, given):
            leaves[i] = array
        return leaves

    def _outputs(self, env: Env, linear: dict[Any, tape.Linear], leaves: Sequence[Any]) -> list[Any]:
        """Collect each distinct array once: XLA would return an input, or an output named twice, as a copy."""
        outputs: list[Any] = []
        place: dict[int, tuple[int, int]] = {id(a): (LEAF_ARRAY, i) for i, a in enumerate(leaves)}
        self.places, self.residual_places, self.constants = {}, [], []

        def put(array: Any) -> tuple[int, int]:
            found = place.get(id(array))
            if found is None:
                if isinstance(array, (jax.Array, jax.core.Tracer, tuple)):
                    found = place[id(array)] = (OUTPUT, len(outputs))
                    outputs.append(array)
                else:
                    found = place[id(array)] = (CONSTANT, len(self.constants))
                    self.constants.append(array)
            return found

        # JAX gives the memory of donated leaves to outputs of the same aval in order, so the heirs come first.
        heirs, parts = self.heirs(), {}
        for block in self.blocks:
            if block.donated:
                at = put(layout.joined([env[heirs[i]] for i in block.positions]))[1]
                for i, start, shape in zip(block.positions, block.starts, block.shapes):
                    parts[id(env[heirs[i]])] = PART, (at, start, shape)
        for i in sorted(self.lone):
            put(env[heirs[i]])
        self.places.update((slot, parts[id(env[slot])]) for slot in self.live if id(env.get(slot)) in parts)
        for group in self._spent():
            at, start = put(layout.joined([env[s] for s in group]))[1], 0
            for slot in group:
                self.places[slot] = PIECE, (at, start, self.spec(slot).aval.shape)
                start += self.spec(slot).aval.numel
        for slot, (loop, which, row) in self._live_rows(env).items():
            kind, i = put(env.stacks[loop, which])
            if kind == OUTPUT:
                of = self.spec(slot).aval
                self.places[slot] = PIECE, (i, row * of.numel, of.shape)
        for slot in sorted({*self.live, *self.anchors} - self.places.keys()):
            spec = self.spec(slot)
            array = env[slot]
            if not isinstance(array, (jax.Array, jax.core.Tracer, tuple)):
                array = env[slot] = jnp.asarray(array, spec.aval.dtype.np)
            self.places[slot] = put(array)
        self.residual_counts.clear()
        rolled = set().union(*(r.depths for r in self.regions))
        for depth in sorted({*self.kept_ways, *(d for d in self.kept if d not in rolled)}):
            one = linear[self.kept_ways.get(depth, depth)]
            self.residual_counts[depth] = len(one.residuals)
            self.apply[depth] = one.apply
            self.residual_places.extend(put(a) for a in one.residuals)
        return outputs

    def _live_rows(self, env: Env) -> dict[int, tuple[int, int, int]]:
        """Return the live rows of stacked arrays of which so many rows are live that they are returned whole."""
        rows = {slot: row for slot in self.live if (row := env.row(slot)) is not None}
        counts = Counter(row[:2] for row in rows.values())
        return {s: r for s, r in rows.items() if counts[r[:2]] * _LIVE_ROWS >= env.stacks[r[:2]].shape[0]}

    def _spent(self) -> list[list[int]]:
        """Return the small live gradients that an optimizer has read: those of a dtype are returned as one array.

        They stay in ``.grad``, where hardly anybody looks at them now; an array costs a run about a microsecond.
        """
        groups: dict[Any, list[int]] = {}
        for node in self.run_nodes if not self.inline else ():
            if node.kind == OP and node.lowering is not None and node.lowering.renews:
                for x in dict.fromkeys(node.inputs):
                    if x in self.live and x not in self.anchors and self.producers[x].kind == BACKWARD:
                        of = self.spec(x).aval
                        if of.numel <= blocks.SMALL:
                            groups.setdefault(of.dtype, []).append(x)
        return [group for group in groups.values() if len(group) > 1]

    def residual_depths(self) -> list[int]:
        """Return the depth of the node or region of each residual, in order."""
        return [depth for depth, count in self.residual_counts.items() for _ in range(count)]

    # -- compiling and running -----------------------------------------------------------------------------------

    @property
    def _on_cpu(self) -> bool:
        return all(self.spec(slot).aval.device.type == "cpu" for slot in self.leaf_slots)

    def trace(self, args: Sequence[Any]) -> Any:
        """Replay under ``jax.jit``'s tracing."""
        start = time.perf_counter()

        def tracegrad_program(*args: Any) -> list[Any]:
            return self.replay(args)

        numbers = bool(self.node.floats) + bool(self.node.ints)
        taken = [*(block.donated for block in self.blocks), *(i in self.lone for i in self.loose)]
        donate = tuple(numbers + n for n, donated in enumerate(taken) if donated)
        with jax_state.tracing(), layout.recognised():
            jit = functools.partial(jax.jit, donate_argnums=donate, keep_unused=True)
            traced = jit(tracegrad_program).trace(*args)
            if self._on_cpu and orders.pays(traced):
                traced = jit(orders.reordered(traced)).trace(*args)
        self.record.trace_seconds += time.perf_counter() - start
        self.record.loops, self.record.unrolled = self.told()
        return traced

    def compile(self, traced: Any, whole: bool | None = None) -> None:
        """Lower and compile what `trace` returned, ``whole`` or cheaply, or as there is credit."""
        _disk.open_once()
        start = time.perf_counter()
        notice = threading.Timer(config.slow_compile, self._say_slow)
        notice.daemon = True
        notice.start()
        try:
            with jax_state.tracing(), warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="Some donated buffers were not usable")
                warnings.filterwarnings("ignore", message="Error (reading|writing) persistent compilation cache")
                if whole is None:
                    whole = not self._on_cpu or credit.grant(self.record)
                self.record.cheap = not whole
                compiled = self._compile(traced.lower())
        finally:
            notice.cancel()
        if self._on_cpu:
            _working_memory.make_room(compiled)
        self._compiled = compiled
        self.call = self._first_call
        self.record.compile_seconds = time.perf_counter() - start
        report.compiled(self.record)

    def _compile(self, lowered: Any) -> Any:
        if self.record.cheap:
            return lowered.compile(credit.OPTIONS)
        if self._on_cpu and sum(self.spec(self.leaf_slots[i]).aval.nbytes for i in self.donated) >= _RENEWED:
            try:
                return lowered.compile(_IN_PLACE)
            except jax.errors.JaxRuntimeError:  # a later XLA may have another name for it
                pass
        return lowered.compile()

    def _first_call(self, *args: Any) -> Any:
        """Call with JAX's checks, which build its C++ entry; later calls go there straight.

        That skips a Python frame, and with it the one place where an interrupt could come between the run and the
        storing of its outputs.
        """
        outs = self._compiled(*args)
        self.call = getattr(self._compiled, "_call", None) or self._compiled
        return outs

    def _say_slow(self) -> None:
        file, line = self.record.where
        print(f"tracegrad: compiling a program of {self.record.ops} operations, flushed at {file}:{line} ...",
              file=sys.stderr, flush=True)  # fmt: skip


_recent: OrderedDict[int, Program] = OrderedDict()
_last: Program | None = None  # the last of them
_added = 0  # how many came


def keep(program: Program) -> None:
    """Note that ``program`` runs; drop the least recently run where there are more than the bound.

    Half of them go where they take so much of the process that XLA could end it, see `_mappings.py`.
    """
    global _last, _added
    if program is _last:
        return
    _last = program
    key = id(program)
    if key in _recent:
        _recent.move_to_end(key)
        return
    _recent[key] = program
    _added += 1
    bound = config.max_programs
    if _added % _LOOK == 0 and len(_recent) > 2 * _LOOK and _mappings.crowded():
        bound = min(bound, len(_recent) // 2)
    while len(_recent) > bound:
        _, old = _recent.popitem(last=False)
        if old.node.programs is not None and old in old.node.programs:
            old.node.programs.remove(old)


def count() -> int:
    """Return how many compiled programs are kept."""
    return len(_recent)


def all_programs() -> list[Program]:
    """Return the programs kept, the least recently run first."""
    return list(_recent.values())


def clear() -> None:
    """Forget every program and every trace."""
    global _last, _added
    _last, _added = None, 0
    _recent.clear()
    trie.clear()
