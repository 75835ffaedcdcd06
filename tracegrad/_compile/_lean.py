"""The short way to replay a plan, which most training steps can go: new elements for values that nobody else has.

A replay makes new values, points tensors at them, and runs the program, as a flush does. Where a tensor's value is held
by that tensor alone, nobody can tell whether the tensor got a new value or the value got new elements; so then the
value is kept, and so is a gradient that only its tensor has. What is left of a replay in Python is little more than the
call of the program.

NOTE [In blocks] Small parameters are parts of one array (`_engine/blocks.py`). Then one store changes them all.

NOTE [Meanwhile] What Python does before the program is called, everybody waits for; what it does after, runs beside the
program. So a replay notes afterwards what it left: which values, arrays and gradients the tensors have. Whoever writes
to a tensor points it at another value; whoever reads or keeps something shows in the reference counts. If all is as it
was left, the next replay (`Lean.again`) needs to look at nothing but that, the arguments, effects and surroundings.

NOTE [At once] The old parameters are donated, so an interrupt must not come between the run and the storing of the new
ones. One call in C does both: it takes the outputs from the run one by one, and sets each as the elements of its value.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable, Sequence
from itertools import chain, repeat, starmap
from operator import attrgetter, is_, is_not, itemgetter
from sys import getrefcount
from time import perf_counter
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from tracegrad._engine import checks, jax_state, report, trie
from tracegrad._engine import program as programs
from tracegrad._engine.flush import _lock, _numbers
from tracegrad._engine.program import CONSTANT, OUTPUT, PART, PIECE
from tracegrad._engine.segment import Segment
from tracegrad._engine.trace import _ArrayImpl, computed, to_device
from tracegrad._engine.value import Flat, Part, Piece, Value
from tracegrad._handle import Handle
from tracegrad._tensor import Tensor

if TYPE_CHECKING:
    from tracegrad._compile._plan import Plan
    from tracegrad._engine.program import Program

_value_of = attrgetter("_value")
_array_of = attrgetter("array")
_grad_of = attrgetter("_grad")
_spec_of = attrgetter("spec")
_storage_of = attrgetter("_storage")
_hooks_of = attrgetter("_variable.hooks")
_ARRAYS = frozenset((_ArrayImpl,))
_READY = frozenset((_ArrayImpl, Part, tuple))
_set_flat = vars(Piece)["flat"].__set__
_ARRAY = repeat("array")


#: Those that hold what they left.
_steady: weakref.WeakSet[Lean] = weakref.WeakSet()


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
        self.alone = lone  # positions of the leaves that nobody else may have
        self.lone, self.lone_values = _pick(lone), (_LONE_VALUE,) * len(lone)
        self.donated, self.lone_arrays = _pick(sorted(program.donated)), (_LONE_ARRAY,) * len(program.donated)
        #: (output, leaf) of each value that gets new elements by itself, and the blocks that do, with their outputs
        self.written = [(places[slot][1], leaf) for leaf, slot in written if places[slot][0] == OUTPUT]
        self.renewed = [(i, block) for i, block in enumerate(program.blocks) if block.donated]
        self.loose = _pick(program.loose)
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
                if kind in (OUTPUT, PIECE, PART)}  # fmt: skip
        self.size = max(*used, program.flag, -1) + 1
        taken = {i for i, _ in (*self.written, *self.renewed)} | {x for kind, x in self.grad_places if kind == OUTPUT}
        self.spare = [i for i in range(self.size) if i not in taken]  # outputs that are no value's elements yet
        #: what the last replay left, and the next one finds if nobody touched it; see NOTE [Meanwhile]
        self.values: list[Value] = []
        self.arrays: list[Any] = []
        self.flats: list[Flat] = []  # of the blocks
        self.own: list[Flat] = []  # of those that get new elements
        self.sinks: list[Any] = []
        self.ready = False  # whether that was noted
        self.steady: bool | None = None  # whether `again` can do it

    def _can_be_steady(self) -> bool:
        """Whether `again` can tell that nothing was touched, not where gradients are taken; prepare for it."""
        plan, program, owners = self.plan, self.program, set(map(id, self.owners))
        self.positions = [i for i, holder in enumerate(plan.holders) if holder is not None]
        where = {leaf: i for i, leaf in enumerate(self.positions)}
        if plan._gradients_at or plan.alone_roles or plan.fixed or any(plan.argument_grads):
            return False
        if any(had is not (id(p) in owners) for p, had in zip(plan.watched, plan.had_grad)):
            return False
        if not self.stay or not where.keys() >= set(self.alone):
            return False
        self.holders = [plan.holders[i] for i in self.positions]
        self.bare = [p for p, had in zip(plan.watched, plan.had_grad) if not had]
        self.same = [(n, ref) for n, (ref, varied) in enumerate(zip(plan.given, plan.varied)) if not varied]
        self.others = plan.captured - {id(ref()) for _, ref in self.same}
        at = where | {leaf: len(self.holders) + n for leaf, n in plan._arguments_at}
        self.order = _pick([at[i] for i in range(len(plan.holders))])
        self.chosen = _pick([at[i] for i in program.loose])
        self.pick_lone = _pick([where[i] for i in self.alone])
        self.pick_donated = _pick([where[i] for i in sorted(program.donated)])
        alone = {leaf for _, leaf in self.written}
        self.referred = [_VALUE_THEN + (i in alone) for i in self.alone] + [_ARRAY_THEN] * len(program.donated)
        self.referred += [_FLAT_THEN + len(block.positions) for _, block in self.renewed]
        self.referred += [_FLAT_ARRAY_THEN] * len(self.renewed)
        return True

    def run(self, leaves: list[Value], arguments: Sequence[Any]) -> Any:
        """Do what was recorded again, and return the results; NotImplemented where somebody has what would change."""
        self.let_go()
        if not self._fits(leaves):
            for other in list(_steady):  # another function over the same tensors
                other.let_go()
            if not self._fits(leaves):
                return NotImplemented
        arrays = list(map(_array_of, leaves))
        given = self.loose(arrays)
        if Part in set(map(type, given)):
            return NotImplemented
        self.flats = [arrays[block.positions[0]].flat for block in self.program.blocks]
        del arrays
        kept = bool(self.grads) and all(map(is_, map(_grad_of, self.owners), self.grads)) and self._are_lone()
        return self._go(leaves, given, self._sinks(leaves), kept, arguments)

    def _fits(self, leaves: list[Value]) -> bool:
        """Whether the leaves lie where the program takes them, and nobody else has what it overwrites."""
        arrays = list(map(_array_of, leaves))
        for block in self.program.blocks:
            if block.find(arrays) is None:
                if not block.restore(leaves, arrays):
                    return False
                arrays = list(map(_array_of, leaves))
            if block.donated and not block.owned(arrays):
                return False
        if self.lone(list(map(getrefcount, leaves))) != self.lone_values:
            return False
        return bool(self.donated(list(map(getrefcount, arrays))) == self.lone_arrays)

    def again(self, arguments: Sequence[Any]) -> Any:
        """Do what the last replay did, and return the results; NotImplemented where anything was touched since.

        What was the same object then and is now needs no other check, see NOTE [Meanwhile].
        """
        plan = self.plan
        if not self.ready or list(map(type, arguments)) != [Tensor] * len(plan.given):
            return NotImplemented
        given = list(map(_value_of, arguments))
        fresh = list(map(_array_of, given))
        if list(map(_spec_of, given)) != self.specs:
            return NotImplemented
        if not _ARRAYS.issuperset(map(type, fresh)):
            made_ready(given)
            fresh = list(map(_array_of, given))
            if not _ARRAYS.issuperset(map(type, fresh)):
                return NotImplemented
        ids = set(map(id, arguments))
        if len(ids) < len(given) or not self.others.isdisjoint(ids):
            return NotImplemented
        if self.same and not all([ref() is arguments[n] for n, ref in self.same]):
            return NotImplemented
        if any(map(is_not, map(_grad_of, (*arguments, *self.bare)), repeat(None))):
            return NotImplemented
        values = list(map(_value_of, self.holders))
        arrays = list(map(_array_of, values))
        if values != self.values or not all(map(is_, arrays, self.arrays)):
            return NotImplemented
        if self._references(values, arrays) != self.referred:
            return NotImplemented
        if not all(map(is_, map(_grad_of, self.owners), self.grads)) or self.flat < 0 and not self._are_lone():
            return NotImplemented
        if list(map(_storage_of, plan.alone)) != plan.no_storages or plan.around.changed():
            return NotImplemented
        if list(map(_hooks_of, plan.watched)) != plan.no_hooks:
            return NotImplemented
        known: list[Any] | None = self.last
        for effect in plan.effects:
            if known is not None and not effect.same():
                known = None
        if known is None and not all([effect.holds() for effect in plan.effects]):
            return NotImplemented
        self.ready = False
        sinks, self.sinks = self.sinks, []
        return self._go(self.order([*values, *given]), self.chosen([*arrays, *fresh]), sinks, True, arguments, known)

    def _references(self, values: Sequence[Value], arrays: Sequence[Any]) -> list[int]:
        """Return how often is referred to what the program overwrites."""
        own = map(_array_of, self.own)
        return list(map(getrefcount, chain(self.pick_lone(values), self.pick_donated(arrays), self.own, own)))

    def _sinks(self, leaves: Sequence[Value]) -> list[Any]:
        """Return what gets each output."""
        sinks: list[Any] = [None] * self.size
        for output, _ in self.renewed:
            sinks[output] = self.flats[output]
        for output, leaf in self.written:
            sinks[output] = leaves[leaf]
        for output in self.spare:
            sinks[output] = Value()
        return sinks

    def _go(self, leaves: Sequence[Value], given: Sequence[Any], sinks: list[Any], kept: bool,
            arguments: Sequence[Any], known: list[Any] | None = None) -> Any:  # fmt: skip
        """Run the program.

        Args:
            leaves: the values that it takes.
            given: the arrays of those that come one by one.
            sinks: what gets the outputs.
            kept: whether the gradients of the last replay are those of their tensors, and get the new elements.
            arguments: of the call.
            known: what the effects give; they are done here where it is None.
        """
        plan, program = self.plan, self.program
        values: list[Any] = []
        if self.flat < 0:
            values = self.parts[0] if kept and self.grads else list(map(_concrete, self.grad_specs))
            for value, (kind, place) in zip(values, self.grad_places):
                if kind == OUTPUT:
                    sinks[place] = value
        start = perf_counter()
        with _lock:
            if known is None:
                known = [effect.again() for effect in plan.effects]
            packed = self.packed
            if packed is None or len(known) != len(self.last) or not all(map(is_, known, self.last)):
                packed = self._packed(known)
            before = jax_state.setting()
            try:
                if packed and type(packed[0]) is np.ndarray:
                    jax.enable_x64.set_local(True)  # else JAX would narrow them
                # See NOTE [At once].
                operands = (*packed, *map(_array_of, self.flats), *given)
                outputs = chain.from_iterable(starmap(program.call, (operands,)))
                deque(map(setattr, sinks, _ARRAY, outputs), 0)
            finally:
                jax_state.restore(before)
        del operands, given
        program.misfits = 0
        record = program.record
        record.run_seconds += perf_counter() - start
        record.runs += 1
        report.totals.runs += 1
        program.node.stamp = trie.tick()
        programs.keep(program)
        outs = list(map(_array_of, sinks))
        kept = kept and bool(self.grads) and (self.flat < 0 or self._are_lone())
        if kept and self.flat >= 0:
            deque(map(_set_flat, self.parts[1], repeat(outs[self.flat])), 0)
        elif self.owners:
            values = values or list(map(_concrete, self.grad_specs))
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
        results = self._results(outs, leaves, arguments)
        if self.steady is None:
            self.steady = self._can_be_steady()
        if self.steady and (self.grads or not self.owners):
            self._prepare(leaves, arguments)
        return results

    def _prepare(self, leaves: Sequence[Value], arguments: Sequence[Any]) -> None:
        """Note what there is now, see NOTE [Meanwhile]."""
        self.specs = list(map(_spec_of, map(_value_of, arguments)))
        self.values = list(map(leaves.__getitem__, self.positions))
        self.arrays = list(map(_array_of, self.values))
        self.own = [self.flats[i] for i, _ in self.renewed]
        self.sinks = self._sinks(leaves)
        _steady.add(self)
        self.ready = not any([spec.wants for spec in self.specs])

    def let_go(self) -> None:
        """Hold nothing that would count as somebody's."""
        self.ready = False
        self.values, self.arrays, self.own, self.flats, self.sinks = [], [], [], [], []

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

    def _results(self, outs: list[Any], leaves: Sequence[Value], arguments: Sequence[Any]) -> list[Any]:
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
        if leaf is None or specs[slot] is not plan.specs[leaf] or not _in_place(program, leaf, *program.places[slot]):
            return None
        if program.has_graph and leaf not in program.donated:
            return None  # a later backward may need what it was
        written.append((leaf, slot))
    if len({program.places[slot][1] for _, slot in written}) < len(written):
        return None
    renewed = {i for block in program.blocks if block.donated for i in block.positions}
    if not renewed <= {leaf for leaf, _ in written}:
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


def made_ready(values: Sequence[Value]) -> bool:
    """Put the elements of every value on its device, but for parts, which are there; return whether that was done."""
    if _READY.issuperset(map(type, map(_array_of, values))):
        return True
    for value in values:
        if type(value.array) not in _READY:
            array = computed(value)
            if type(array) is np.ndarray:
                value.array = to_device(array, value.spec.aval)
    return _READY.issuperset(map(type, map(_array_of, values)))


def _in_place(program: Program, leaf: int, kind: int, place: Any) -> bool:
    """Whether the new elements of a leaf can take the place of the old ones."""
    if kind != PART:
        return kind == OUTPUT
    block = program.blocks[place[0]]
    return leaf in block.positions and block.starts[block.positions.index(leaf)] == place[1]


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


def _calibrate_then() -> list[int]:
    """Measure the counts that `Lean.again` sees of a value and its array, of a flat among the sinks and its array."""
    lean = object.__new__(Lean)
    value, flat = _concrete(None), Flat(object(), None)  # type: ignore[arg-type]
    value.array = object()
    holders, lean.flats = [_handle(value)], [flat]
    del value, flat
    lean.values = list(map(_value_of, holders))
    lean.arrays = list(map(_array_of, lean.values))
    lean.own, lean.sinks = [lean.flats[0]], [lean.flats[0]]
    lean.pick_lone = lean.pick_donated = _pick([0])
    values = list(map(_value_of, holders))
    arrays = list(map(_array_of, values))
    return lean._references(values, arrays)


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
_VALUE_THEN, _ARRAY_THEN, _FLAT_THEN, _FLAT_ARRAY_THEN = _calibrate_then()
