"""The short way to replay a plan, which most training steps can go: new elements for values that nobody else has.

A replay makes new values, points tensors at them, and runs the program, as a flush does. Where a tensor's value is held
by that tensor alone, nobody can tell whether the tensor got a new value or the value got new elements; so then the
value is kept, and so is a gradient that only its tensor has. What is left of a replay in Python is little more than the
call of the program.

NOTE [At once] The old parameters are donated, so an interrupt must not come between the run and the storing of the new
ones. One call in C does both: it takes the outputs from the run one by one, and sets each as the elements of its value.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from itertools import chain, repeat, starmap
from operator import attrgetter, is_, itemgetter
from sys import getrefcount
from time import perf_counter
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from tracegrad._engine import checks, jax_state, report, trie
from tracegrad._engine import program as programs
from tracegrad._engine.flush import _lock, _numbers
from tracegrad._engine.program import CONSTANT, OUTPUT, PIECE
from tracegrad._engine.segment import Segment
from tracegrad._engine.value import Piece, Value
from tracegrad._handle import Handle
from tracegrad._tensor import Tensor

if TYPE_CHECKING:
    from tracegrad._compile._plan import Plan

_value_of = attrgetter("_value")
_array_of = attrgetter("array")
_grad_of = attrgetter("_grad")
_set_flat = vars(Piece)["flat"].__set__
_set_array = vars(Value)["array"].__set__


class _Numbers:
    """As much of a trace as `_numbers` reads."""

    __slots__ = ("floats", "ints")
    inline = False

    def __init__(self, floats: dict[int, float], ints: dict[int, int]):
        self.floats, self.ints = floats, ints


class Lean:
    """How a plan is replayed in place."""

    def __init__(self, plan: Plan, leaves: dict[int, int], written: list[tuple[int, int]]):
        program = plan.program
        assert program is not None
        self.plan, self.program = plan, program
        self.numbers = _Numbers(dict(plan.floats), dict(plan.ints))
        self.last: list[Any] = []  # what the effects gave the last time, and the arrays of it if it came twice
        self.packed: list[Any] | None = None
        places, specs = program.places, dict(plan.fresh_specs)
        lone = sorted({leaf for leaf, _ in written} | program.donated)
        self.lone, self.lone_values = _pick(lone), (_LONE_VALUE,) * len(lone)
        self.donated, self.lone_arrays = _pick(sorted(program.donated)), (_LONE_ARRAY,) * len(program.donated)
        #: (output, leaf) of each value that gets new elements
        self.written = [(places[slot][1], leaf) for leaf, slot in written]
        self.writes = [(h, n) for (_, h), _, _, n in plan.written if n and isinstance(h, Handle)]
        self.dropped = [p for (_, p), grad in plan.grads if grad is None]
        self.owners = [p for (_, p), grad in plan.grads if grad is not None]
        slots: list[Any] = [plan.new[grad[1]].slot for _, grad in plan.grads if grad is not None]
        self.grad_specs = [specs[s] for s in slots]
        self.grad_places: list[Any] = [places[s] for s in slots]
        flats = {place[0] if kind == PIECE else -1 for kind, place in self.grad_places}
        self.flat = flats.pop() if len(flats) == 1 else -1  # the output that has all gradients, if there is one
        #: the gradients that the last replay set, with their values and pieces, and how often each is referred to
        self.grads: list[Any] = []
        had = dict(zip(map(id, plan.watched), plan.had_grad))
        self.stay = all(had.get(id(p), False) for p in self.owners)  # else nobody may want them to live until then
        self.parts: list[Any] = []
        self.counts = [_LONE_VALUE] * (2 * len(slots)) + [_LONE_ARRAY] * (len(slots) if self.flat >= 0 else 0)
        #: what the results are: None and the object, or its slot, place and spec
        self.results: list[Any] = []
        for role, x in plan.results:
            slot: Any = plan.new[role[1]].slot if role is not None and role[0] == "new" else None
            self.results.append((None, x, None) if slot is None else (slot, places[slot], specs[slot]))
        used = {x if kind == OUTPUT else x[0] for kind, x in (*places.values(), *program.residual_places)
                if kind in (OUTPUT, PIECE)}  # fmt: skip
        self.size = max(*used, program.flag, -1) + 1
        taken = {output for output, _ in self.written} | {x for kind, x in self.grad_places if kind == OUTPUT}
        self.spare = [i for i in range(self.size) if i not in taken]  # outputs that are no value's elements yet

    def run(self, leaves: list[Value], arguments: Sequence[Any]) -> Any:
        """Do what was recorded again, and return the results; NotImplemented where somebody has what would change."""
        plan, program = self.plan, self.program
        arrays = list(map(_array_of, leaves))
        if self.lone(list(map(getrefcount, leaves))) != self.lone_values:
            return NotImplemented
        if self.donated(list(map(getrefcount, arrays))) != self.lone_arrays:
            return NotImplemented
        sinks: list[Any] = [None] * self.size
        for output, leaf in self.written:
            sinks[output] = leaves[leaf]
        for output in self.spare:
            sinks[output] = Value()
        kept = bool(self.grads) and all(map(is_, map(_grad_of, self.owners), self.grads)) and self._are_lone()
        values = self.parts[0] if kept else list(map(_concrete, self.grad_specs))
        if self.flat < 0:
            for value, (kind, place) in zip(values, self.grad_places):
                if kind == OUTPUT:
                    sinks[place] = value
        start = perf_counter()
        with _lock:
            given = [effect.again() for effect in plan.effects]
            packed = self.packed
            if packed is None or len(given) != len(self.last) or not all(map(is_, given, self.last)):
                packed = self._packed(given)
            before = jax_state.setting()
            try:
                if packed and type(packed[0]) is np.ndarray:
                    jax.enable_x64.set_local(True)  # else JAX would narrow them
                # See NOTE [At once].
                deque(map(_set_array, sinks, chain.from_iterable(starmap(program.call, ((*packed, *arrays),)))), 0)
            finally:
                jax_state.restore(before)
        del arrays
        record = program.record
        record.run_seconds += perf_counter() - start
        record.runs += 1
        report.totals.runs += 1
        program.node.stamp = trie.tick()
        programs.keep(program)
        outs = list(map(_array_of, sinks))
        if kept and self.flat >= 0:
            deque(map(_set_flat, self.parts[1], repeat(outs[self.flat])), 0)
        elif self.owners:
            for value, (kind, place) in zip(values, self.grad_places):
                if kind == PIECE:
                    value.array = Piece(outs[place[0]], *place[1:])
            if not kept:
                self._set(list(map(_handle, values)))
        for p in self.dropped:
            p._grad = None
        for handle, n in self.writes:
            if handle._storage is None:
                handle._writes += n
            else:
                for _ in range(n):
                    handle._storage.count()
        if program.checks:
            runs = checks.waiting.runs
            runs.append((outs[program.flag], program.checks))
            if len(runs) > 1:
                checks.bound()
        return self._results(outs, leaves, arguments)

    def _are_lone(self) -> bool:
        """Whether nobody else has the gradients that the last replay set, and they are what they were."""
        return list(map(getrefcount, chain(self.grads, *self.parts))) == self.counts

    def _set(self, grads: list[Any]) -> None:
        """Set new gradients, and note how often they are referred to while only their tensors have them."""
        for p, grad in zip(self.owners, grads):
            p._grad = grad
        if not self.stay:
            return
        self.grads = grads
        values = list(map(_value_of, grads))
        self.parts = [values, list(map(_array_of, values))] if self.flat >= 0 else [values]

    def _packed(self, given: list[Any]) -> list[Any]:
        """Return the arrays of the input numbers."""
        numbers = self.numbers
        for is_float, i, effect, k in self.plan.sources:
            (numbers.floats if is_float else numbers.ints)[i] = given[effect][k]
        packed = _numbers(numbers, self.program.node)  # type: ignore[arg-type]
        self.last, self.packed = given, None if packed and type(packed[0]) is np.ndarray else packed
        return packed

    def _results(self, outs: list[Any], leaves: list[Value], arguments: Sequence[Any]) -> list[Any]:
        plan, program = self.plan, self.program
        segment = None
        if program.has_graph:
            numbers = self.numbers
            values = dict(zip(plan.leaf_slots, leaves))
            segment = Segment(program, values, (dict(numbers.floats), dict(numbers.ints)), outs, leaves)
            segment.trace = segment  # what both are known by
        results = []
        for (slot, what, spec), (role, _) in zip(self.results, plan.results):
            if slot is None:
                results.append(what if role is None else plan._find(role, arguments, ()))
                continue
            kind, place = what
            value = _concrete(spec)
            value.array = outs[place] if kind == OUTPUT else Piece(outs[place[0]], *place[1:])
            if spec.wants and segment is not None:
                value.source = segment.output(slot)
            results.append(_handle(value))
        return results


def lean(plan: Plan) -> Lean | None:
    """Return the short way for ``plan``, None where it has none."""
    program = plan.program
    if program is None or plan.storages:
        return None
    leaves = {id(h): i for i, h in enumerate(plan.holders) if h is not None}
    specs, written = dict(plan.fresh_specs), []
    for (kind, h), slot, _, _ in plan.written:
        leaf = leaves.get(id(h)) if kind == "held" else None
        if leaf is None or specs[slot] is not plan.specs[leaf] or program.places[slot][0] != OUTPUT:
            return None
        if program.has_graph and leaf not in program.donated:
            return None  # a later backward may need what it was
        written.append((leaf, slot))
    if len({program.places[slot][1] for _, slot in written}) < len(written):
        return None
    taken = {program.places[slot][1] for _, slot in written}
    used = [role[1] for role, _ in plan.results if role is not None and role[0] == "new"]
    for (kind, _), grad in plan.grads:
        if kind != "held":
            return None
        if grad is not None:
            if grad[0] != "new" or grad[1] in used:
                return None
            place = program.places[plan.new[grad[1]].slot]  # type: ignore[index]
            if place[0] not in (OUTPUT, PIECE) or place[0] == OUTPUT and place[1] in taken:
                return None
            used.append(grad[1])
            if place[0] == OUTPUT:
                taken.add(place[1])
    if len(set(used)) < len(used) or len(used) < len(plan.new) or any(new.slot is None for new in plan.new):
        return None
    if any(program.places[new.slot][0] not in (OUTPUT, PIECE) for new in plan.new):  # type: ignore[index]
        return None
    if any(role is not None and role[0] == "gradient" for role, _ in plan.results):
        return None
    if any(kind == CONSTANT for kind, _ in program.places.values()):
        return None
    return Lean(plan, leaves, written)


def _pick(positions: Sequence[int]) -> Callable[[Any], Any]:
    """Return what picks these positions out of a list, as a tuple."""
    if len(positions) > 1:
        return itemgetter(*positions)
    return lambda found: tuple([found[i] for i in positions])


def _concrete(spec: Any) -> Value:
    value = Value()
    value.trace, value.slot, value.spec, value.array, value.source = None, -1, spec, None, None
    return value


def _handle(value: Value) -> Any:
    tensor = object.__new__(Tensor)
    tensor._value = value
    return tensor


def _calibrate() -> tuple[int, int]:
    """Measure the reference counts of a value that one tensor holds, and of its array: they differ between Pythons."""
    value = _concrete(None)
    value.array = object()
    holders = [_handle(value)]
    del value
    leaves = list(map(_value_of, holders))
    arrays = list(map(_array_of, leaves))
    counts = list(map(getrefcount, leaves))
    return counts[0], list(map(getrefcount, arrays))[0]


_LONE_VALUE, _LONE_ARRAY = _calibrate()
