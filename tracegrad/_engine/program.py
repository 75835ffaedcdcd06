"""Programs: a recorded path as one compiled JAX function; what it returns and donates is fixed when it is compiled."""

from __future__ import annotations

import sys
import threading
import time
import warnings
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from tracegrad import _disk
from tracegrad._config import config
from tracegrad._engine import alike, checks, jax_state, report, tape, trie
from tracegrad._engine.trie import BACKWARD, LEAF, OP, VARIABLE, Node
from tracegrad._engine.value import Spec

#: Where a slot's or a residual's array is found after a run. What goes with a `PIECE` is the index of an output, the
#: piece's first element there, and its shape.
LEAF_ARRAY, OUTPUT, CONSTANT, PIECE = range(4)
#: Elements of the largest array that is laid beside others; copying more costs more than one array more.
SMALL = 16_384


class Program:
    """The path to ``node`` compiled for the slots in ``live``."""

    def __init__(self, node: Node, live: frozenset[int], reason: str, where: tuple[str, int],
                 inline: bool = False):  # fmt: skip
        self.node = node
        self.inline = inline  # replayed in somebody else's JAX trace, once
        self.live = live
        self.path = node.path()
        self.producers = tape.producers(self.path)
        self.leaf_slots = tuple(n.slot for n in self.path if n.kind == LEAF)
        self._plan()
        self.donated: frozenset[int] = frozenset()  # positions among ``leaf_slots``
        #: slot -> (kind, index) of every live slot: what to hand to the values after a run.
        self.places: dict[int, tuple[int, Any]] = {}
        self.handed: tuple[Any, list[tuple[int, int, Any]]] = (None, [])  # the last live list, and places of its slots
        #: (kind, index) of every residual array of the segment, in `Linear.residuals` order per kept node.
        self.residual_places: list[tuple[int, int]] = []
        self.residual_counts: dict[int, int] = {}  # depth of a kept node -> its number of residuals
        self.apply: dict[int, Any] = {}  # depth of a kept node -> `Linear.apply`
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
        differentiated = set(self.kept)
        needed = set(self.live) | set(self.anchors)
        for depth in self.kept:
            needed.update(range(path[depth].slot, path[depth].end))
        self.run_nodes = tape.steps(path, needed, differentiated)
        self.differentiated = differentiated

    def ancestors(self, needed: set[int]) -> list[Node]:
        """Return the nodes that the slots ``needed`` are computed from, in recorded order."""
        found = []
        for node in reversed(self.path):
            if any(s in needed for s in range(node.slot, node.end)):
                found.append(node)
                if node.kind != BACKWARD:
                    needed.update(x for x in node.inputs if type(x) is int)
        return found[::-1]

    def spec(self, slot: int) -> Spec:
        """Return what is known of ``slot``."""
        maker = self.producers[slot]
        return maker.specs[slot - maker.slot]

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
        leaves = given
        env: dict[int, Any] = dict(zip(self.leaf_slots, leaves))
        linear: dict[int, tape.Linear] = {}
        self.checks, found = [], []
        draws = {} if self.inline else alike.groups(self.run_nodes, self.live)
        rows: dict[int, tuple[Any, int]] = {}  # slot -> the array and its row that holds the value
        for node in self.run_nodes:
            if node.depth in draws:
                array = alike.emit(draws[node.depth], {"f": floats, "i": ints})
                rows.update((n.slot, (array, i)) for i, n in enumerate(draws[node.depth]))
            elif node.slot in rows:
                continue
            elif node.kind == VARIABLE and node.inputs[0] in rows:
                rows[node.slot] = rows[node.inputs[0]]
            elif node.kind == OP:
                args = [self._operand(x, env, floats, ints) for x in node.inputs]
                assert node.lowering is not None
                if node.depth in self.differentiated:
                    outs, linear[node.depth] = tape.linearize(node, args)
                else:
                    result = node.lowering.fn(*args)
                    outs = (result,) if node.single else tuple(result)
                for slot, out in enumerate(outs, node.slot):
                    env[slot] = out
                if node.lowering.checks and config.check and not self.inline:
                    found += [check.find(args, outs) for check in node.lowering.checks]
                    self.checks += [(check, node.where) for check in node.lowering.checks]
            elif node.kind == VARIABLE:
                env[node.slot] = env[node.inputs[0]]
            elif node.kind == BACKWARD:
                for slot, gradient in enumerate(tape.run_backward(node, self.path, env, linear), node.slot):
                    env[slot] = gradient
        outputs = self._outputs(env, rows, linear, leaves)
        if found:
            self.flag = len(outputs)
            outputs.append(checks.combined(found))
        return outputs

    @staticmethod
    def _operand(x: Any, env: dict[int, Any], floats: Any, ints: Any) -> Any:
        if type(x) is int:
            return env[x]
        kind, index = x
        return index if kind == "c" else floats[index] if kind == "f" else ints[index]

    def _outputs(self, env: dict[int, Any], rows: dict[int, tuple[Any, int]], linear: dict[int, tape.Linear],
                 leaves: Sequence[Any]) -> list[Any]:  # fmt: skip
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
        heirs = self.heirs()
        first = [heirs[i] for i in sorted(self.donated)]
        for slot in first:
            put(env[slot])
        for group in self._spent():
            at, start = put(jnp.concatenate([env[s].reshape(-1) for s in group]))[1], 0
            for slot in group:
                self.places[slot] = PIECE, (at, start, self.spec(slot).aval.shape)
                start += self.spec(slot).aval.numel
        for slot in self.live & rows.keys():
            (array, row), of = rows[slot], self.spec(slot).aval
            self.places[slot] = PIECE, (put(array)[1], row * of.numel, of.shape)
        for slot in sorted({*self.live, *self.anchors} - self.places.keys()):
            spec = self.spec(slot)
            array = env[slot]
            if not isinstance(array, (jax.Array, jax.core.Tracer, tuple)):
                array = env[slot] = jnp.asarray(array, spec.aval.dtype.np)
            self.places[slot] = put(array)
        for depth in self.kept:
            one = linear[depth]
            self.residual_counts[depth] = len(one.residuals)
            self.apply[depth] = one.apply
            self.residual_places.extend(put(a) for a in one.residuals)
        return outputs

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
                        if of.numel <= SMALL:
                            groups.setdefault(of.dtype, []).append(x)
        return [group for group in groups.values() if len(group) > 1]

    def residual_depths(self) -> list[int]:
        """Return the depth of the node of each residual, in order."""
        return [depth for depth in self.kept for _ in range(self.residual_counts[depth])]

    # -- compiling and running -----------------------------------------------------------------------------------

    def trace(self, args: Sequence[Any]) -> Any:
        """Replay under ``jax.jit``'s tracing."""
        start = time.perf_counter()

        def tracegrad_program(*args: Any) -> list[Any]:
            return self.replay(args)

        numbers = bool(self.node.floats) + bool(self.node.ints)
        donate = tuple(numbers + i for i in sorted(self.donated))
        with jax_state.tracing():
            traced = jax.jit(tracegrad_program, donate_argnums=donate, keep_unused=True).trace(*args)
        self.record.trace_seconds += time.perf_counter() - start
        return traced

    def compile(self, traced: Any) -> None:
        """Lower and compile what `trace` returned."""
        _disk.open_once()
        start = time.perf_counter()
        notice = threading.Timer(config.slow_compile, self._say_slow)
        notice.daemon = True
        notice.start()
        try:
            with jax_state.tracing(), warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="Some donated buffers were not usable")
                warnings.filterwarnings("ignore", message="Error (reading|writing) persistent compilation cache")
                compiled = traced.lower().compile()
        finally:
            notice.cancel()
        self._compiled = compiled
        self.call = self._first_call
        self.record.compile_seconds = time.perf_counter() - start
        report.compiled(self.record)

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


def keep(program: Program) -> None:
    """Note that ``program`` runs; drop the least recently run where there are more than the bound."""
    global _last
    if program is _last:
        return
    _last = program
    key = id(program)
    if key in _recent:
        _recent.move_to_end(key)
        return
    _recent[key] = program
    while len(_recent) > config.max_programs:
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
    global _last
    _last = None
    _recent.clear()
    trie.clear()
