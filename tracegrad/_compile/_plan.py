"""A plan: what a recorded call took, from where, and what it changed; and how to do that again without Python.

NOTE [Roles] A plan names each tensor from outside by its *role*: the n-th tensor argument, the ``.grad`` of another
tensor, a tensor or packed states that were found elsewhere (by identity), or a constant that the function made of data.
At a replay, the holder of each role is asked for its value, the program runs on the arrays, and those that were written
to get their new values, through a trace that looks like one that was recorded and flushed; so donation, interrupts,
errors found later and backwards through the results are those of any flush.

NOTE [Two recordings] A recording is replayed only after a second one took and did the very same. So states that a first
call makes, and whatever changes from call to call without anybody's knowing (random numbers of Python's, counters, data
that is read inside), is found before it could be frozen. What can change later is guarded, see `_guards.py`.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Sequence
from operator import attrgetter
from typing import Any

import numpy as np

from tracegrad import _pytree
from tracegrad._compile._guards import Surroundings
from tracegrad._compile._lean import Lean, lean, made_ready
from tracegrad._compile._snapshot import Snapshot, Was, _copied
from tracegrad._engine.flush import _CLOSED, _held, replay
from tracegrad._engine.program import Program
from tracegrad._engine.recording import Effect, Recording
from tracegrad._engine.segment import pull_rule
from tracegrad._engine.trace import Trace
from tracegrad._engine.trie import LEAF, Node
from tracegrad._engine.value import Aval, Spec, Value, Variable, _nobody
from tracegrad._handle import Handle, Storage, _Refs, is_alone
from tracegrad._tensor import Tensor
from tracegrad.optim._packing import Pack

ARGUMENT, GRADIENT, HELD, NEW = "argument", "gradient", "held", "new"
Role = tuple[str, Any]

_value_of = attrgetter("_value")
_spec_of = attrgetter("spec")
_array_of = attrgetter("array")
_grad_of = attrgetter("_grad")
_storage_of = attrgetter("_storage")
_hooks_of = attrgetter("_variable.hooks")


class Again(Trace):
    """The trace of a replay: one that looks recorded and flushed."""

    __slots__ = ()

    def __init__(self, node: Node, values: dict[int, Value], floats: dict[int, float], ints: dict[int, int]):
        self.node, self.final, self.closed = _CLOSED, node, True
        self.values, self.floats, self.ints = values, floats, ints
        self.immediate = self.inline = self.missing = self.has_backward = False
        self.retained, self.cuts, self.lines, self.run = {}, {}, None, None
        self.reason = "a compiled function was called"


class _Constant:
    """The holder of data that the function made."""

    __slots__ = ("_value",)

    def __init__(self, value: Value):
        self._value = value


class _New:
    """A tensor that the function made: which slot it has, or which value, and how it is a view of another one."""

    __slots__ = ("slot", "value", "storage", "steps", "keeps", "made", "strided")

    def __init__(self, handle: Any):
        self.slot: int | None = None
        self.value: Value | None = None
        self.storage: int | None = None
        self.steps = handle._steps
        self.keeps: int | None = None
        self.made, self.strided = handle._made, handle._strided


class Plan:
    """One recorded call."""

    def __init__(self, recording: Recording, before: Snapshot, arguments: Sequence[Any], result: Any,
                 around: Surroundings):  # fmt: skip
        self.around = around
        self._recording = recording
        self._before = before
        self._doubt = recording.doubt
        self._arguments = {id(a): i for i, a in reversed(list(enumerate(arguments)))}
        self.given = [weakref.ref(a) for a in arguments]  # those of this call
        self.varied = [False] * len(arguments)  # whether other calls gave others
        self.effects: list[Effect] = recording.effects
        #: gradients that were the same in all recordings, which may have been found in another way
        self.fixed: dict[Any, tuple[Role, Any]] = {}
        self.node = recording.node.real
        self.program: Program | None = None
        self.lean: Lean | None = None
        self._leaves()
        self._numbers()
        self._fresh: list[Any] = []
        self.new: list[_New] = []
        self._changes()
        self._results(result)
        self._storages()
        self._escapes()
        self._watches(before, around)
        del self._recording, self._before, self._doubt, self._arguments, self._fresh

    # -- what the call took and did ------------------------------------------------------------------------------------

    def _role(self, handle: Any) -> Role:
        """Return the role of a tensor; a new one is numbered."""
        number = self._arguments.get(id(handle))
        if number is not None:
            return ARGUMENT, number
        if isinstance(handle, Pack):
            return HELD, handle
        if self._before.find(handle) is not None:
            owner = self._before.owner(id(handle))
            if owner is None:
                return HELD, handle
            role = GRADIENT, self._role(owner)
            if owner._variable is None:
                self._doubt("it uses the gradient of a tensor that is no leaf")
            self.fixed[_key(role)] = role, weakref.ref(handle)
            return role
        for i, known in enumerate(self._fresh):
            if known is handle:
                return NEW, i
        self._fresh.append(handle)
        self.new.append(_New(handle))
        i = len(self._fresh) - 1
        new, value = self.new[i], handle._value
        if type(handle) is not Tensor:
            self._doubt(f"it returns or keeps a new {type(handle).__name__}")
        if handle._retains or self._recording.retained:
            self._doubt("a tensor that it made retains its gradient")
        if value.trace is self._recording and value.array is None:
            new.slot = value.slot
        elif value.trace is None or value.trace is self._recording:
            new.value = value
        if id(value) in self._before.values:
            self._doubt("it returns or keeps the very elements of a tensor from outside: clone() it")
        if value.source is not None or handle._variable is not None:
            self._doubt("it returns or keeps a new leaf that requires grad")
        if handle._keeps is not None:
            kind, new.keeps = self._role(handle._keeps)
            if kind != NEW:
                self._doubt("it returns or keeps a view of a tensor from outside")
        if handle._grad is not None:
            self._doubt("a tensor that it made has a gradient")
        return NEW, i

    def _leaves(self) -> None:
        holders, values = self._before.holders(), self._recording.values
        self.leaf_slots: list[int] = []
        self.roles: list[Role | None] = []
        self.holders: list[Any] = []
        self.constants: list[tuple[int, Any]] = []
        self.specs: list[Spec] = []
        self._bound: dict[int, Role] = {}
        for node in self.node.path():
            if node.rule is pull_rule:
                self._doubt("it goes backward through operations that were done outside")
            if node.kind != LEAF:
                continue
            value = values[node.slot]
            holder = holders.get(id(value)) if id(value) in self._before.values else None
            role: Role | None = None
            if isinstance(holder, int):  # a tensor, which may have died meanwhile: a gradient that was replaced
                owner, holder = self._before.owner(holder), self._before.tensors[holder].handle()
                if holder is not None:
                    role = self._role(holder)
                elif owner is not None:
                    role = GRADIENT, self._role(owner)
                else:
                    self._doubt("it lets go of a tensor from outside that it used")
            elif holder is not None:
                role = HELD, holder
            elif id(value) in self._recording.entered:
                self.constants.append((len(self.holders), np.asarray(value.array)))
                holder = _Constant(value)
            else:
                self._doubt("it uses a value that no tensor holds")
            self.leaf_slots.append(node.slot)
            self.roles.append(role)
            self.holders.append(holder if role is None or role[0] == HELD else None)
            self.specs.append(value.spec)
        self._arguments_at = [(i, r[1]) for i, r in enumerate(self.roles) if r is not None and r[0] == ARGUMENT]
        self._gradients_at = [(i, r) for i, r in enumerate(self.roles) if r is not None and r[0] == GRADIENT]

    def _numbers(self) -> None:
        recording = self._recording
        self.floats, self.ints = dict(recording.floats), dict(recording.ints)
        self.sources = [(is_float, i, *source) for (is_float, i), source in recording.sources.items()]
        self.sourced = frozenset(recording.sources)

    def _changes(self) -> None:
        #: what is written to: role, slot or value, role of the variable that it stays, number of writes
        self.written: list[tuple[Role, Any, bool, int]] = []
        self.grads: list[tuple[Role, Role | None]] = []
        recording = self._recording
        for handle, was in self._before.changed():
            value = handle._value
            if value is not was.value:
                if value.trace is not recording or value.array is not None:
                    self._doubt("it points a tensor from outside at another value without an operation")
                elif value.source is not None and (value.source is not handle._variable or not was.value.spec.wants):
                    self._doubt("it changes which gradients a tensor from outside takes part in")
                elif not is_alone(handle):
                    self._doubt("it writes to a tensor that shares elements with another one outside", passing=True)
                else:
                    own = isinstance(value.source, Variable)
                    self.written.append((self._role(handle), value.slot, own, handle._version - was.writes))
            if not was.keeps_grad(handle):
                grad = handle._grad
                self.grads.append((self._role(handle), None if grad is None else self._role(grad)))
        for pack, value in self._before.packs:
            if pack._value is not value:
                self.written.append(((HELD, pack), pack._value.slot, False, 0))

    def _results(self, result: Any) -> None:
        found, self.structure = _pytree.flatten(result)
        self.results: list[tuple[Role | None, Any]] = []
        for x in found:
            if isinstance(x, Handle):
                self.results.append((self._role(x), None))
            else:
                self.results.append((None, x))

    def _storages(self) -> None:
        """Note which of the new tensors share elements."""
        known: dict[int, int] = {}
        self.storages: list[tuple[Aval, int, int | None]] = []  # aval of the base, writes, which tensor is the base
        for i, (handle, new) in enumerate(zip(list(self._fresh), self.new)):
            storage = handle._storage
            if storage is None:
                continue
            group = storage.group
            base = storage.base()
            members = [*storage.live(), *(() if base is None else (base,))]
            if any(not any(m is f for f in self._fresh) for m in members):
                self._doubt("it returns or keeps a view of a tensor that it does not return")
            if group is not None and (group.others(storage) or group.whole is not None):
                self._doubt("it returns or keeps a tensor that shares elements with another one")
            if any(type(s) is not int for step in new.steps for s in step[2]):
                self._doubt("it returns or keeps a view whose place is a tensor")
            if id(storage) not in known:
                known[id(storage)] = len(self.storages)
                self.storages.append((storage.aval, storage.writes, None))
            new.storage = known[id(storage)]
            if base is handle:
                self.storages[new.storage] = (storage.aval, storage.writes, i)

    def _escapes(self) -> None:
        """Note what somebody keeps of the trace that is neither a result nor the new value of a known tensor."""
        recording = self._recording
        slots = {new.slot for new in self.new if new.slot is not None} | {slot for _, slot, _, _ in self.written}
        self.live = sorted(slots)
        escaped = [s for s in _held(recording.values, self.node) if s not in slots]
        if escaped:
            gc.collect()
            escaped = [s for s in _held(recording.values, self.node) if s not in slots]
        if escaped:
            node = next(n for n in self.node.path() if n.slot <= escaped[0] < n.end)
            file, line = node.where
            self._doubt(f"something outside keeps a tensor that it made at {file}:{line}: return it instead")
        if any(n.slot in recording.cuts for n in self.node.path()) and any(
                self.spec_of(recording, s).wants for s in self.live):
            self._doubt("hooks or custom Functions stand on the way of a later backward")

    @staticmethod
    def spec_of(recording: Recording, slot: int) -> Spec:
        """Return what is known of a slot."""
        return recording.values[slot].spec

    def _watches(self, before: Snapshot, around: Surroundings) -> None:
        """Note of which tensors it matters whether they have a gradient, and who must stay alone."""
        self.fresh_specs = [(slot, self._recording.values[slot].spec) for slot in self.live]
        self.owned = {slot: role for role, slot, own, _ in self.written if own}
        watched: dict[int, Any] = {}
        for x in (*self.holders, *(p for m in around.modules for p in m.parameters()),
                  *(p for o in around.optimizers for g in o.param_groups for p in g["params"])):  # fmt: skip
            if isinstance(x, Handle) and id(x) not in self._arguments and x._variable is not None:
                watched[id(x)] = x
        for (kind, x), _ in self.grads:
            if kind == HELD and x._variable is not None:
                watched[id(x)] = x
        self.watched = list(watched.values())
        self.no_hooks = [None] * len(self.watched)
        if list(map(_hooks_of, self.watched)) != self.no_hooks:
            self._doubt("a leaf has hooks")
        self.had_grad = [before.tensors[id(x)].has_grad if id(x) in before.tensors else False for x in self.watched]
        self.alone: list[Any] = [x for (kind, x), _, _, _ in self.written if kind == HELD and isinstance(x, Handle)]
        self.no_storages = [None] * len(self.alone)
        self.alone_roles = [role for role, _, _, _ in self.written if role[0] in (ARGUMENT, GRADIENT)]
        self.argument_grads = [was is not None and was.has_grad for was in map(self._was, self.given)]
        roles = (*(r for r in self.roles if r), *(r for r, *_ in self.written), *(r for r, _ in self.grads),
                 *(r for r, _ in self.results if r))  # fmt: skip
        #: tensors found by identity, which no argument may be
        self.captured = {id(x) for x in (*self.watched, *(x for kind, x in roles if kind == HELD))}

    def _was(self, given: Any) -> Was | None:
        handle = given()
        return None if handle is None else self._before.find(handle)

    # -- comparing -----------------------------------------------------------------------------------------------------

    def difference(self, other: Plan) -> str:
        """Return in what another recording differs from this one, '' where it took and did the same."""
        if self.node is not other.node:
            return "the operations differ"
        if list(map(_key, self.roles)) != list(map(_key, other.roles)):
            return "the tensors that it uses differ"
        if [e.key for e in self.effects] != [e.key for e in other.effects] or self.sourced != other.sourced:
            return "what it does beside the operations differs"
        kinds: list[tuple[bool, Any, Any]] = [(False, self.ints, other.ints), (True, self.floats, other.floats)]
        for is_float, own, others in kinds:
            for i, x in own.items():
                if (is_float, i) not in self.sourced and repr(x) != repr(others[i]):
                    file, line = next(n.where for n in self.node.path() if (is_float, i) in _numbers_of(n))
                    return f"a Python number changes from call to call, at {file}:{line}. Pass it as a tensor"
        for (_, a), (_, b) in zip(self.constants, other.constants):
            if a.tobytes() != b.tobytes():
                return "data that it makes tensors of change from call to call: pass them as arguments"
        if self._writes() != other._writes() or self.live != other.live:
            return "the tensors that it writes to differ"
        if self._sets() != other._sets():
            return "the gradients that it sets differ"
        returned, others = ([_key(role) for role, _ in plan.results] for plan in (self, other))
        if self.structure != other.structure or returned != others:
            return "what it returns differs"
        for (role, a), (_, b) in zip(self.results, other.results):
            if role is None and not (a is b or type(a) is type(b) and repr(a) == repr(b)):
                return f"a {type(b).__name__} that it returns changes from call to call: return a tensor"
        return ""

    def _writes(self) -> set[Any]:
        return {(_key(role), *rest) for role, *rest in self.written}

    def _sets(self) -> set[Any]:
        return {(_key(role), _key(grad) if grad is None or grad[0] != NEW else self.new[grad[1]].slot)
                for role, grad in self.grads}  # fmt: skip

    def serves_as(self, other: Plan) -> bool:
        """Whether this plan is for the same calls as ``other``, which does the same."""
        return self.had_grad == other.had_grad and self.argument_grads == other.argument_grads

    def lives(self) -> bool:
        """Whether a call may still fit: what it was recorded with is there."""
        refs = [*(given for varied, given in zip(self.varied, self.given) if not varied),
                *(ref for _, ref in self.fixed.values())]  # fmt: skip
        return all(ref() is not None for ref in refs) and all(effect.holds() for effect in self.effects)

    def confirm(self, other: Plan) -> None:
        """Take over from an earlier recording of the same which arguments were others."""
        self.varied = [v or a() is not b() for v, a, b in zip(other.varied, self.given, other.given)]
        self.fixed = {k: x for k, x in self.fixed.items() if k in other.fixed and other.fixed[k][1]() is x[1]()}

    def ready(self) -> None:
        """Find the program, once the recording was run."""
        live = set(self.live)
        self.program = next((p for p in self.node.programs or () if live <= p.live), None)
        self.lean = lean(self)

    # -- replaying -----------------------------------------------------------------------------------------------------

    def misfit(self, arguments: Sequence[Any]) -> str:
        """Return why this plan is not for a call now, '' where it is."""
        for given, varied, x in zip(self.given, self.varied, arguments):
            if not varied and given() is not x:
                return "another tensor is passed"
            if varied and id(x) in self.captured:
                return "a tensor is passed that the function uses anyway"
        for role, ref in self.fixed.values():
            if self._find(role, arguments, ()) is not ref():
                return "another tensor is a gradient"
        if [x is not None for x in map(_grad_of, self.watched)] != self.had_grad:
            return "other tensors have gradients"
        if [x._grad is not None for x in arguments] != self.argument_grads:
            return "other arguments have gradients"
        if list(map(_storage_of, self.alone)) != self.no_storages and not all(map(is_alone, self.alone)):
            return "a tensor that it writes to has a view"
        for role in self.alone_roles:
            x = self._find(role, arguments, ())
            if x._storage is not None and not is_alone(x):
                return "an argument or a gradient that it writes to is a view or has one"
        if list(map(_hooks_of, self.watched)) != self.no_hooks:
            return "a leaf has hooks"
        for effect in self.effects:
            if not effect.holds():
                return "an optimizer's options or states have changed"
        return self.around.changed()

    def _find(self, role: Role, arguments: Sequence[Any], new: Sequence[Any]) -> Any:
        kind, which = role
        if kind == HELD:
            return which
        if kind == ARGUMENT:
            return arguments[which]
        if kind == NEW:
            return new[which]
        return self._find(which, arguments, new)._grad

    def run(self, arguments: Sequence[Any]) -> Any:
        """Do what was recorded again, and return the result; `misfit` was asked.

        Return NotImplemented, having done nothing, where a tensor is of another kind than the one recorded.
        """
        holders = self.holders
        if self._arguments_at or self._gradients_at:
            holders = list(holders)
            for i, n in self._arguments_at:
                holders[i] = arguments[n]
            for i, role in self._gradients_at:
                holders[i] = self._find(role, arguments, ())
        leaves = list(map(_value_of, holders))
        del holders
        if list(map(_spec_of, leaves)) != self.specs or not made_ready(leaves):
            return NotImplemented
        if self.lean is not None:
            found = self.lean.run(leaves, arguments)
            if found is not NotImplemented:
                return found[0] if self.structure.kind is None else _pytree.unflatten(found, self.structure)
        floats, ints = dict[int, Any](self.floats), dict[int, Any](self.ints)
        if self.effects:
            given = [effect.again() for effect in self.effects]
            for is_float, i, effect, k in self.sources:
                (floats if is_float else ints)[i] = given[effect][k]
        values = dict(zip(self.leaf_slots, leaves))
        trace = Again(self.node, values, floats, ints)
        for slot, spec in self.fresh_specs:
            value = Value()
            value.trace, value.slot, value.spec, value.array, value.source = trace, slot, spec, None, None
            values[slot] = value
        new = self._made(values)
        written = [(self._find(role, arguments, new), values[slot], own, count)
                   for role, slot, own, count in self.written]  # fmt: skip
        grads = [(self._find(role, arguments, new), None if grad is None else self._find(grad, arguments, new))
                 for role, grad in self.grads]  # fmt: skip
        results = [x if role is None else self._find(role, arguments, new) for role, x in self.results]
        for handle, value, own, count in written:
            if own:
                value.source = handle._variable
            handle._value = value
            if count:
                _count(handle, count)
        for handle, grad in grads:
            handle._grad = grad
        del written, grads
        if self.program is not None:
            replay(trace, self.program, self.live, leaves)
        return results[0] if self.structure.kind is None else _pytree.unflatten(results, self.structure)

    def _made(self, values: dict[int, Value]) -> list[Any]:
        """Return the tensors that the function made."""
        made = []
        for new in self.new:
            tensor = object.__new__(Tensor)
            tensor._value = values[new.slot] if new.slot is not None else _copied(new.value)  # type: ignore[arg-type]
            made.append(tensor)
        for i, (of, writes, base) in enumerate(self.storages):
            views = [made[k] for k, new in enumerate(self.new) if new.storage == i and k != base]
            storage = object.__new__(Storage)
            storage.base = _nobody if base is None else weakref.ref(made[base])  # type: ignore[assignment]
            storage.aval, storage.writes, storage.views = of, writes, _Refs(map(weakref.ref, views))
            for k, new in enumerate(self.new):
                if new.storage == i:
                    tensor = made[k]
                    tensor._storage, tensor._steps, tensor._made = storage, new.steps, new.made
                    tensor._strided, tensor._keeps = new.strided, None if new.keeps is None else made[new.keeps]
        return made


def _numbers_of(node: Node) -> list[tuple[bool, int]]:
    return [(is_float, index) for _, is_float, index in node.numbers]


def _count(handle: Any, count: int) -> None:
    if not isinstance(handle, Handle):
        return
    if handle._storage is None:
        handle._writes += count
    else:
        for _ in range(count):
            handle._storage.count()


def _key(role: Role | None) -> Any:
    """Return what two roles are compared by: tensors must not be, as that is an operation."""
    if role is None:
        return None
    kind, which = role
    return (kind, _key(which) if kind == GRADIENT else id(which) if kind == HELD else which)
