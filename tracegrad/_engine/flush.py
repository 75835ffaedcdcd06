"""Flushing: close a trace, find or compile its program, run it, and hand the arrays to the live values.

NOTE [Live sets] Outputs are the slots that some handle still holds. A program compiled for more serves; otherwise the
union with every live set seen at this node is compiled, so a debugger or a list of kept losses cannot multiply
programs.

NOTE [Donation] What a program donates is fixed when it is compiled: leaves that nothing but the trace held, matched to
outputs of the same aval. Such an input that is still referenced at a later run is passed as a copy. The reference count
asked is the array's own, so arrays handed out as NumPy views, by ``.jax()`` or by DLPack count.

NOTE [Interrupts] A run's outputs are stored by one call in C (``list.extend`` over ``starmap``): a KeyboardInterrupt
that arrives while the program runs is raised after they are safe, and the next read of a value finishes the flush.
"""

from __future__ import annotations

import struct
import sys
import threading
import time
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import repeat, starmap
from operator import attrgetter
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tracegrad._engine import blocks, checks, jax_state, recurrence, report, sites, trie
from tracegrad._engine import program as programs
from tracegrad._engine.program import OUTPUT, PART, PIECE, Program
from tracegrad._engine.segment import Segment
from tracegrad._engine.trace import Shadow, Trace, collection_paused, state
from tracegrad._engine.trie import Node
from tracegrad._engine.value import Flat, Part, Piece, Value

_array_of = attrgetter("array")
_set_array = vars(Value)["array"].__set__
_set_trace = vars(Value)["trace"].__set__
_lock = threading.RLock()
_CLOSED = Shadow(trie.root(state.mode))


class Run:
    """One execution of a program for one trace; kept on the trace until every value has its array."""

    __slots__ = ("program", "live", "leaves", "results", "segment", "flats")

    def __init__(self, program: Program, live: list[int], leaves: list[Value], flats: Sequence[Flat | None] = ()):
        self.program = program
        self.live = live
        self.leaves = leaves
        self.results: list[Any] = []  # empty, or the one list of outputs
        self.segment: Segment | None = None
        self.flats = flats  # of each block: what gets the new array, None where that gets a `Flat` of its own


def flush(trace: Trace, reason: str) -> None:
    """Run ``trace`` and make its live values concrete; nothing happens where that was done already.

    Where it fails, the trace is closed all the same, so that recording goes on; its values try again when read.
    A scope is not flushed: what it recorded runs as one op of the enclosing trace. Nor is what `compile` records.
    """
    if trace.whole and trace.stays(reason):  # type: ignore[attr-defined]
        return
    if not trace.closed:
        trace.final = trace.node.real
        trace.closed = True
        trace.node = _CLOSED
        trace.reason = reason
    if state.trace is trace:
        state.trace = Trace(state.mode, state.eager > 0)
    before = jax_state.setting()
    try:
        with _lock, collection_paused:
            if trace.final is not None:
                _run(trace, trace.final)
                _release(trace)
    finally:
        jax_state.restore(before)
    if checks.waiting.runs:
        if trace.immediate:
            checks.look()
        else:
            checks.bound()


def flush_current(reason: str) -> None:
    """Flush this thread's trace."""
    flush(state.trace, reason)


def _run(trace: Trace, node: Node) -> None:
    run = trace.run
    if run is None or not run.results:
        live = _held(trace.values, node)
        if not live:
            return
        values = trace.values
        leaves = [values[n] for n in _leaf_slots(node)]
        numbers = _numbers(trace, node)
        if trace.inline:
            program = Program(node, frozenset(live), trace.reason, ("", 0), inline=True)
            run = trace.run = Run(program, live, leaves)
            with narrowing():
                run.results.append(program.replay([*numbers, *(_inline_leaf(v.array) for v in leaves)]))
        else:
            program = _find(trace, node, frozenset(live), leaves, numbers)
            run = _call(trace, program, live, leaves, numbers)
    _hand_out(trace, run)
    if run.program.checks:
        checks.note(run.results[0][run.program.flag], run.program.checks)


def _call(trace: Trace, program: Program, live: list[int], leaves: list[Value], numbers: list[Any]) -> Run:
    arrays, flats = _arguments(program, leaves)
    run = trace.run = Run(program, live, leaves, flats)
    start = time.perf_counter()
    if numbers and type(numbers[0]) is np.ndarray:
        with jax.enable_x64(True):  # else JAX would narrow them
            run.results.extend(starmap(program.call, ((*numbers, *arrays),)))
    else:
        run.results.extend(starmap(program.call, ((*numbers, *arrays),)))
    del arrays
    program.record.run_seconds += time.perf_counter() - start
    program.record.runs += 1
    report.totals.runs += 1
    program.node.stamp = trie.tick()
    programs.keep(program)
    return run


def replay(trace: Trace, program: Program, live: list[int], leaves: list[Value]) -> None:
    """Run ``program`` for a closed trace that nobody recorded: all its values are there, concrete or pending.

    Where it fails or is interrupted, a read of one of the values goes on with it, as after a flush.
    """
    before = jax_state.setting()
    try:
        with _lock:
            run = _call(trace, program, live, leaves, _numbers(trace, program.node))
            _hand_out(trace, run)
            if program.checks:
                checks.note(run.results[0][program.flag], program.checks)
            _release(trace)
    finally:
        jax_state.restore(before)
    if checks.waiting.runs:
        checks.bound()


def _hand_out(trace: Trace, run: Run) -> None:
    program, outs, values = run.program, run.results[0], trace.values
    if program.has_graph and run.segment is None:
        run.segment = Segment(program, trace.values, (trace.floats, trace.ints), outs, run.leaves)
        run.segment.trace = trace
        for slot, handle in trace.retained.items():
            run.segment.output(slot).retains = handle
        if trace.cuts:
            kept = {program.path[depth].slot for depth in program.kept}
            run.segment.cuts = {slot: cut for slot, cut in trace.cuts.items() if slot in kept}
    if program.handed[0] is not run.live:  # the list that a node keeps, see `_held`
        program.handed = (run.live, _places(program, run.live))
    leaves, segment = run.leaves, run.segment
    if segment is not None:
        for slot in run.live:
            if values[slot].spec.wants and values[slot].source is None:
                values[slot].source = segment.output(slot)
    alone, together = program.handed[1]
    for slot, kind, i in alone:
        value = values[slot]
        value.array = outs[i] if kind == OUTPUT else leaves[i].array
        value.trace = None
    for (kind, at), slots, starts, shapes, positions in together:
        parts: Iterable[Any] = map(Piece, repeat(outs[at]), starts, shapes)
        if kind == PART:
            flat = run.flats[at]
            if flat is None:
                parts = map(Part, repeat(Flat(outs[at], program.blocks[at].aval)), starts, shapes)
            else:
                flat.array = outs[at]
                parts = [leaves[i].array for i in positions]
        fresh = list(map(values.__getitem__, slots))
        deque(map(_set_array, fresh, parts), 0)
        deque(map(_set_trace, fresh, repeat(None)), 0)


def _places(program: Program, live: list[int]) -> Any:
    """Return where the arrays of ``live`` are found: of those that have their own, and of the pieces of each array."""
    alone = []
    together: dict[Any, list[Any]] = {}
    for slot in live:
        kind, place = program.places[slot]
        if kind not in (PIECE, PART):
            alone.append((slot, kind, place))
            continue
        at, start, shape = place
        position = 0
        if kind == PART:
            block = program.blocks[at]
            position = block.positions[block.starts.index(start)]
        together.setdefault((kind, at), []).append((slot, start, shape, position))
    return alone, [(key, *zip(*pieces)) for key, pieces in together.items()]


def _release(trace: Trace) -> None:
    trace.final = trace.run = None
    trace.values, trace.floats, trace.ints, trace.retained, trace.cuts = {}, {}, {}, {}, {}


# -- finding or compiling the program ----------------------------------------------------------------------------------


def _find(trace: Trace, node: Node, live: frozenset[int], leaves: list[Value], numbers: list[Any]) -> Program:
    known = node.programs
    if known is None:
        known = node.programs = []
    outdated = []
    for program in known:
        if live <= program.live:
            if program.misfits >= blocks.PATIENCE and not program.settled:
                outdated.append(program)
            else:
                return program
    wanted = live.union(*(program.live for program in known))
    blocks.put_back(leaves)
    arrays = [v.array for v in leaves]
    donated = _unshared(leaves, arrays)
    where = sites.user_line()
    failure = ""
    while True:
        program = Program(node, wanted, trace.reason, where, roll=not failure)
        program.donated = frozenset(donated & program.heirs().keys())
        program.settled = bool(outdated)
        program.lay_out(blocks.plan(program, leaves, program.settled))
        try:
            traced = program.trace([*numbers, *blocks.examples(program, leaves)])
        except Exception as error:
            rolled = [plan for plan in program.scopes() if plan.regions]
            if not (rolled or program.regions):
                raise
            # Whatever is wrong with a loop rolled, unrolled it runs.
            failure = f"all loops: {type(error).__name__} when they were emitted: {error}"
            for plan in rolled:
                plan.unroll(failure)
            continue
        still_needed = program.leaves_needed_after()
        if not (program.donated & still_needed):
            break
        donated -= still_needed
    if failure and not any(why.startswith(failure) for why in program.record.unrolled):
        program.record.unrolled.append(failure)
    program.record.donated = len(program.donated)
    program.record.difference = report.difference(program.path)
    if trace.recorded:
        program.compile(traced, whole=True)
    else:
        program.compile(traced, whole=not known[0].record.cheap if known else None)
    recurrence.compiled(program.path, (trace.reason, where))
    known[:] = [*(p for p in known if p not in outdated), program]
    stamp = trie.tick()
    for step in program.path:
        step.stamp = stamp
    return program


@contextmanager
def narrowing() -> Iterator[None]:
    """Run ops in somebody else's JAX trace: where that has no 64-bit types, 32 bits carry the 64-bit tags."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*requested dtype .* is not available")
        yield


def _inline_leaf(array: Any) -> Any:
    """Return a leaf for somebody else's JAX trace: with 32 bits, where that trace has no 64-bit types."""
    if isinstance(array, jax.core.Tracer) or _x64() or array.dtype.itemsize < 8:
        return array
    narrow = {"int64": np.int32, "uint64": np.uint32, "float64": np.float32, "complex128": np.complex64}
    kind = narrow.get(array.dtype.name)
    return array if kind is None else np.asarray(array).astype(kind)


def _x64() -> bool:
    return bool(jax.config.jax_enable_x64)  # type: ignore[attr-defined]


def _leaf_slots(node: Node) -> tuple[int, ...]:
    if node.programs:
        return node.programs[0].leaf_slots
    return tuple(n.slot for n in node.path() if n.kind == trie.LEAF)


def _numbers(trace: Trace, node: Node) -> list[Any]:
    """Return the input numbers, packed. Those that came before are on the device from their second time on."""
    floats, ints = node.floats, node.ints
    if not (floats or ints):
        return []
    try:
        packed = struct.pack(f"{floats}d{ints}q", *map(trace.floats.__getitem__, range(floats)),
                             *map(trace.ints.__getitem__, range(ints)))  # fmt: skip
    except struct.error:  # where an op is recorded once more, nobody looks at its numbers
        raise OverflowError("int too big to convert") from None
    if trace.inline:
        return _unpacked(packed, floats, ints)
    known = node.packed
    if known is not None and known[0] == packed:
        if known[1] is None:
            with jax_state.tracing():
                known = node.packed = (packed, list(map(jnp.asarray, _unpacked(packed, floats, ints))))
        return known[1]  # type: ignore[no-any-return]
    node.packed = (packed, None)
    return _unpacked(packed, floats, ints)


def _unpacked(packed: bytes, floats: int, ints: int) -> list[Any]:
    found = [np.frombuffer(packed, np.float64, floats), np.frombuffer(packed, np.int64, ints, 8 * floats)]
    return [a for a in found if a.size]


# -- reference counts --------------------------------------------------------------------------------------------------


def _held(values: dict[int, Value], node: Node) -> list[int]:
    """Return the slots of the pending values that something besides the trace refers to.

    Traces that repeat mostly end with the same reference counts, which say the same.
    """
    counts = list(map(sys.getrefcount, values.values()))
    known = node.counts
    if known is not None and known[0] == counts:
        return known[1]  # type: ignore[no-any-return]
    end = node.end
    held = [s for (s, v), count in zip(values.items(), counts) if count > _DEAD and v.array is None and s < end]
    if len(values) == end:
        node.counts = (counts, held)
    return held


def _counts(objects: list[Any]) -> list[int]:
    return list(map(sys.getrefcount, objects))


def _calibrate() -> tuple[int, int, int]:
    """Measure the counts of objects that nothing but the trace holds: they differ between Python versions."""
    dead = Value()
    dead.array = None
    values = {0: dead}
    del dead
    held = list(map(sys.getrefcount, values.values()))
    leaf = Value()
    leaf.array = object()
    leaves, by_slot = [leaf], {0: leaf}
    del leaf
    arrays = [v.array for v in leaves]
    result = held[0], _counts(leaves)[0], _counts(arrays)[0]
    del by_slot
    return result


_DEAD, _LONE_VALUE, _LONE_ARRAY = _calibrate()


def _unshared(leaves: list[Value], arrays: list[Any]) -> set[int]:
    """Return the positions of the leaves that nothing but the trace refers to."""
    counts = zip(_counts(leaves), _counts(arrays))
    return {i for i, (value, array) in enumerate(counts) if value <= _LONE_VALUE and array <= _LONE_ARRAY}


def _arguments(program: Program, leaves: list[Value]) -> tuple[list[Any], list[Flat | None]]:
    """Return the blocks' arrays, then those of the other leaves, with a copy of each donated one that others have.

    With the blocks' `Flat`s that get the new arrays.
    """
    together: list[Any] = []
    flats: list[Flat | None] = []
    if program.blocks or Part in set(map(type, map(_array_of, leaves))):
        together, flats = blocks.gather(program, leaves)
    arrays = [v.array for v in leaves]
    if program.lone:
        values, counts = _counts(leaves), _counts(arrays)
        shared = [i for i in program.lone if values[i] > _LONE_VALUE or counts[i] > _LONE_ARRAY]
        if shared:
            with jax_state.tracing():
                for i in shared:
                    array = arrays[i]
                    bundled = isinstance(array, tuple)
                    arrays[i] = tuple(a.copy() for a in array) if bundled else array.copy()
    return ([*together, *(arrays[i] for i in program.loose)] if together else arrays), flats
