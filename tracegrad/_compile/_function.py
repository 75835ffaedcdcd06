"""Compiled functions: which plan is for a call, when one is recorded, and when a function runs as it is."""

from __future__ import annotations

import functools
import inspect
import types
import warnings
import weakref
from collections import Counter, deque
from collections.abc import Callable, Sequence
from operator import attrgetter, is_
from typing import Any

import jax
import numpy as np

from tracegrad import _pytree
from tracegrad._compile._guards import Surroundings
from tracegrad._compile._lean import Lean
from tracegrad._compile._plan import Plan
from tracegrad._compile._snapshot import Snapshot
from tracegrad._engine.flush import flush, flush_current
from tracegrad._engine.recording import Recording
from tracegrad._engine.trace import computed, state, watched
from tracegrad._engine.value import Spec
from tracegrad._errors import UnsupportedError
from tracegrad._tensor import Tensor

#: How many specialisations a function has, for one object that it is a method of.
MOST = 8
#: How often in a row a recording may be given up for one reason.
_PATIENCE = 3
#: How many calls at most go by between two recordings of what cannot be replayed for the time being.
_LONGEST = 1000
_HASHED = frozenset((int, bool, str, bytes, type(None)))
_TENSOR = frozenset((Tensor,))
_value_of = attrgetter("_value")
_spec_of = attrgetter("spec")
#: Those that live, for ``explain()``.
functions: weakref.WeakSet[Compiled] = weakref.WeakSet()

Key = tuple[Any, ...]


class _Calls:
    """The plans for calls with one key: arguments of the same kinds, in one mode."""

    def __init__(self) -> None:
        self.plans: list[Plan] = []
        self.recorded: deque[Plan] = deque(maxlen=4)  # once, see NOTE [Two recordings]
        self.failed: Counter[str] = Counter()
        self.refused = ""
        self.wait = self.left = 0  # how many calls go by before another recording, at first and still


class Compiled:
    """A function that runs as one program, without its Python; see `compile`."""

    __name__: str

    def __init__(self, function: Callable[..., Any], strict: bool):
        functools.update_wrapper(self, function)
        self.__wrapped__ = function
        self._function = function
        self._strict = strict
        #: ids of the objects among the arguments -> key -> plans
        self._known: dict[tuple[int, ...], dict[Key, _Calls]] = {}
        self._objects: dict[int, Any] = {}  # by id: a weak reference, or the object where there cannot be one
        self._last: Key = ()
        self._steady: Lean | None = None  # what may go on, where the call before was replayed
        self._mode: Any = None  # that it was called in
        self._warned = False
        self.calls = 0
        self.replays = 0
        self.recordings: deque[str] = deque(maxlen=16)  # why each was made
        functions.add(self)

    def __get__(self, owner: Any, kind: type | None = None) -> Any:
        return self if owner is None else types.MethodType(self, owner)

    def __repr__(self) -> str:
        return f"<compiled {self._function!r}>"

    def __reduce__(self) -> Any:
        return Compiled, (self._function, self._strict)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        now = state.trace
        if now.whole or now.inline or state.eager or watched.lines:
            return self._function(*args, **kwargs)
        self.calls += 1
        steady = self._steady
        if steady is not None and not kwargs and state.mode is self._mode:
            result = steady.again(args)
            if result is not NotImplemented:
                self.replays += 1
                structure = steady.plan.structure
                return result[0] if structure.kind is None else _pytree.unflatten(result, structure)
            self._steady = None
        objects: tuple[int, ...] = ()
        tensors: Sequence[Any] = args
        if not kwargs and _TENSOR.issuperset(map(type, args)):
            chosen = (state.mode, *map(_spec_of, map(_value_of, args)))
        else:
            tensors, objects, chosen = self._described(args, kwargs)
        if len(tensors) > 1 and len(set(map(id, tensors))) < len(tensors):
            chosen += tuple([next(i for i, y in enumerate(tensors) if y is x) for x in tensors])
        for x in tensors:
            value = x._value
            if value.spec.wants:
                chosen += (type(value.source), x._variable is None or x._variable.hooks is None, x._retains)
        why = ""
        of = self._known.get(objects)
        calls = None if of is None else of.get(chosen)
        if calls is not None:
            for plan in calls.plans:
                why = plan.misfit(tensors)
                if not why:
                    result = plan.run(tensors)
                    if result is not NotImplemented:
                        self.replays += 1
                        if plan.lean is not None and plan.lean.ready and tensors is args:
                            self._steady, self._mode = plan.lean, state.mode
                        return result
                    why = "a tensor that it uses has another shape or dtype, or wants gradients or not"
            if calls.refused:
                return self._without(calls.refused, args, kwargs)
            if calls.left:
                calls.left -= 1
                return self._function(*args, **kwargs)
        return self._record(objects, chosen, calls, why, args, kwargs, tensors)

    def _described(self, args: Any, kwargs: Any) -> tuple[list[Any], tuple[int, ...], Key]:
        """Return the tensors among the arguments, numbers that stand for the objects, and what the rest is."""
        given, structure = _pytree.flatten((args, kwargs))
        key: list[Any] = [state.mode, repr(structure)]
        objects: list[int] = []
        tensors = []
        for x in given:
            kind = type(x)
            if isinstance(x, Tensor):
                tensors.append(x)
                key.append(x._value.spec if kind is Tensor else (kind, x._value.spec))
            elif kind in _HASHED:
                key.append((kind, x))
            elif kind is float or kind is complex:
                key.append((kind, repr(x)))
            else:
                objects.append(self._identity(x))
        return tensors, tuple(objects), tuple(key)

    def _identity(self, x: Any) -> int:
        """Return a number that stands for an object as long as that lives."""
        if isinstance(x, (np.ndarray, np.generic)):
            raise UnsupportedError("compile: an argument is a NumPy array, whose elements a recording would freeze. "
                                   "Pass a tensor: torch.from_numpy(x).")
        number = id(x)
        if number not in self._objects:
            try:
                self._objects[number] = weakref.ref(x, lambda _: self._forget(number))
            except TypeError:
                self._objects[number] = x
        return number

    def _forget(self, number: int) -> None:
        self._objects.pop(number, None)
        for objects in [objects for objects in self._known if number in objects]:
            del self._known[objects]

    def _without(self, reason: str, args: Any, kwargs: Any) -> Any:
        """Call the function as it is, where that is allowed."""
        if self._strict:
            raise UnsupportedError(
                f"compile: {self.__name__} cannot run without its Python: {reason}. Change that, or pass "
                "fullgraph=False: then what cannot be compiled runs like any other code.")
        return self._function(*args, **kwargs)

    # -- recording -----------------------------------------------------------------------------------------------------

    def _record(self, objects: tuple[int, ...], key: Key, calls: _Calls | None, why: str, args: Any, kwargs: Any,
                tensors: Sequence[Any]) -> Any:  # fmt: skip
        of = self._known.setdefault(objects, {})
        if (calls is None and len(of) >= MOST) or sum(len(c.plans) for c in of.values()) >= MOST:
            if not self._warned:
                self._warned = True
                warnings.warn(
                    f"compile: {self.__name__} has {MOST} specialisations; other calls run without being compiled. "
                    f"The last reason for another one: {why or self._new(key)}. tracegrad.explain() lists them all. A "
                    "number that changes can be passed as a tensor.", stacklevel=3)
            return self._function(*args, **kwargs)
        self._steady = None
        flush_current("a compiled function is called")
        for x in tensors:
            if isinstance(computed(x._value), jax.core.Tracer):
                return self._function(*args, **kwargs)
        if calls is None:
            why = self._new(key)
            calls = of[key] = _Calls()
        self._last = key
        self.recordings.append(why or "it must do the same twice before it is replayed")
        mode = state.mode
        before = Snapshot()
        given, structure = _pytree.flatten((args, kwargs))
        around = Surroundings((self._function, *given))
        recording = Recording(before.values, self._strict)
        state.trace = recording
        try:
            result = self._function(*args, **kwargs)
        except BaseException:
            recording.end()
            raise
        if not recording.recorded:
            calls.refused = recording.doubts[0]
            return result
        changed = around.changed()
        if changed:
            recording.doubt(f"it changes {changed}")
        now, structure_now = _pytree.flatten((args, kwargs))
        if structure_now != structure or not all(map(is_, now, given)):
            recording.doubt("it changes a list or a dict among its arguments")
        if state.mode is not mode or state.trace is not recording:
            recording.doubt("it leaves another mode than it was called in")
        plan = None if recording.doubts or recording.passing else Plan(recording, before, tensors, result, around)
        del before
        recording.end()
        flush(recording, "a compiled function ended")
        if recording.passing:
            reason = recording.passing[0]
            self.recordings.append(f"again soon: {reason}")
            calls.wait = 2 * calls.wait + 1 if calls.failed[reason] and calls.wait < _LONGEST else calls.wait
            calls.left = calls.wait
            calls.failed[reason] += 1
        elif plan is None or recording.doubts:
            self._failed(calls, recording.doubts[0])
        else:
            calls.wait = 0
            plan.ready()
            around.let_go()
            self._found(calls, plan)
        return result

    def _new(self, key: Key) -> str:
        """Return in what a call differs from the last one that was recorded."""
        old = self._last
        if not old:
            return "it was never called"
        if len(old) == len(key):
            for a, b in zip(key, old):
                if a != b:
                    return f"{_shown(a)}, where it was {_shown(b)}"
        return "another number or structure of arguments, or another object"

    @staticmethod
    def _failed(calls: _Calls, reason: str, patience: int = _PATIENCE) -> None:
        calls.failed[reason] += 1
        if calls.failed[reason] >= patience:
            calls.refused = reason

    def _found(self, calls: _Calls, plan: Plan) -> None:
        """Enter a plan among those replayed, if it was recorded before."""
        why = ""
        for known in (*calls.plans, *reversed(calls.recorded)):
            difference = known.difference(plan)
            if difference:
                why = why or difference
                continue
            plan.confirm(known)
            calls.failed.clear()
            if known not in calls.plans:
                calls.recorded.remove(known)
            elif known.serves_as(plan):
                calls.plans.remove(known)
            calls.plans = [plan, *(p for p in calls.plans if p.lives())]
            return
        if why:
            # Several branches may take turns; numbers and data that differ each time never repeat.
            self._failed(calls, why, _PATIENCE if ":" in why else 4 * _PATIENCE)
        calls.recorded.append(plan)

    def lines(self) -> list[str]:
        """Describe this function for ``explain()``."""
        plans = sum(len(c.plans) for of in self._known.values() for c in of.values())
        code = getattr(inspect.unwrap(self._function), "__code__", None)
        at = f" ({code.co_filename}:{code.co_firstlineno})" if code is not None else ""
        found = [f"compiled {self.__name__}{at}: {plans} specialisations, {self.calls} calls, {self.replays} without "
                 "Python"]  # fmt: skip
        found += [f"  recorded: {why}" for why in self.recordings]
        refused = {c.refused: None for of in self._known.values() for c in of.values() if c.refused}
        return found + [f"  not compiled: {why}" for why in refused]


def _shown(part: Any) -> str:
    if isinstance(part, Spec):
        return f"a tensor {part}"
    if type(part) is tuple and len(part) == 2:
        return str(part[1])
    return "another mode" if not isinstance(part, (tuple, str)) else str(part)
