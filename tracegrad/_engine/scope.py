"""Scopes: a function recorded apart, on a trace of its own, that becomes one op of the enclosing trace.

While a scope is entered, ops go to its trace. Values of enclosing traces that are used in it enter as leaves without
being flushed. At the end, what was recorded is one op of the enclosing trace: its operands are the leaves and the input
numbers, its implementation is a replay of the recorded path, wrapped by what the scope is for: ``jax.vmap`` or
``jax.checkpoint``. Recording inside is by look-ups like everywhere else, and the op at the end is one more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jax import lax

from tracegrad._config import config
from tracegrad._dtype import int64
from tracegrad._engine import marking, tape, trace
from tracegrad._engine.body import Body, pack_rule, scope_rule
from tracegrad._engine.op import Lowering
from tracegrad._engine.trace import Trace, state
from tracegrad._engine.trie import VARIABLE
from tracegrad._engine.value import Input, Spec, Value, Variable, aval

if TYPE_CHECKING:
    from tracegrad._tensor import Tensor

Run = Callable[..., tuple[Any, ...]]

#: From this many input numbers on, those of a kind are one operand: an array.
_MANY = 8


@dataclass(frozen=True)
class Plain:
    """A scope whose function simply runs."""

    def __call__(self, run: Run) -> Run:
        """Return ``run``."""
        return run

    checks = __call__


@dataclass(frozen=True)
class Checkpointed:
    """A scope of which a backward keeps the operands alone and runs the rest again."""

    def __call__(self, run: Run) -> Run:
        """Return ``run`` under ``jax.checkpoint``, else XLA would find the second run superfluous and undo it."""
        return jax.checkpoint(run, prevent_cse=True)

    def checks(self, run: Run) -> Run:
        """Return what runs the checks."""
        return run


@dataclass(frozen=True)
class Mapped:
    """A scope that runs for each index of an axis of its operands."""

    size: int
    axes: tuple[int | None, ...]  # of each leaf
    outs: tuple[int, ...]  # of each output

    def __call__(self, run: Run) -> Run:
        """Return ``run`` under ``jax.vmap``."""
        return self._mapped(run, self.outs)

    def checks(self, run: Run) -> Run:
        """Return what runs the checks of all lanes."""
        return self._mapped(run, 0)

    def _mapped(self, run: Run, outs: Any) -> Run:
        def fn(*operands: Any) -> tuple[Any, ...]:
            # The index keeps one axis mapped, also where no output needs a mapped leaf.
            axes = (*self.axes, *(None,) * (len(operands) - len(self.axes)), 0)
            lanes = jax.vmap(lambda *args: run(*args[:-1]), axes, outs, axis_size=self.size)
            return lanes(*operands, jnp.arange(self.size))  # type: ignore[no-untyped-call]

        return fn


@dataclass(frozen=True)
class Again:
    """A scope that runs once more than its forward did."""

    def __call__(self, run: Run) -> Run:
        """Return ``run`` behind a barrier, else XLA would find what it shares with the first run superfluous."""
        return lambda *operands: run(*lax.optimization_barrier(operands))  # type: ignore[no-untyped-call]

    def checks(self, run: Run) -> Run:
        """Return what runs the checks."""
        return run


Wrap = Plain | Checkpointed | Again | Mapped


class Scope(Trace):
    """The trace of a function that is recorded apart, and what it took from outside."""

    __slots__ = ("name", "outer", "operands", "bound", "size", "randomness", "lane", "lifted", "written", "kept",
                 "recorded")  # fmt: skip
    scoped = whole = True

    def __init__(self, name: str, size: int | None = None, randomness: str = "same"):
        super().__init__(state.mode)
        self.name = name  # of the transform, for messages
        self.outer = state.trace
        self.recorded = self.outer.recorded
        self.size = size  # how many lanes it runs for; None where it is no `vmap`
        self.randomness = randomness
        self.operands: dict[int, tuple[Value, int | None]] = {}  # slot of a leaf -> outer value, axis that is mapped
        self.bound: dict[int, int] = {}  # id of an outer value that is used as it is -> its slot here
        self.lane: Tensor | None = None  # the index of the lane
        self.kept = False  # it may be entered again, for its backward
        self.lifted: dict[int, Tensor] = {}  # slot -> its tensor in the enclosing trace, where it was read
        self.written: dict[int, tuple[Tensor, Value]] = {}  # id -> a tensor from outside, with what it was

    # -- coming and going --------------------------------------------------------------------------------------------

    def __enter__(self) -> Scope:
        self.outer = state.trace
        self.recorded = self.outer.recorded
        state.trace = self
        return self

    def __exit__(self, *error: object) -> None:
        mode = state.mode
        state.trace = self.outer
        self.closed = True
        if not self.kept:
            self.release()
        if self.outer.node.real.mode is not mode:
            trace.set_mode(mode)

    # -- writes to tensors from outside --------------------------------------------------------------------------------

    def note(self, tensor: Tensor, value: Value) -> None:
        """Note that a write is about to point ``tensor`` at ``value``, which is of this scope.

        Raises:
            RuntimeError: as PyTorch does, where the lanes differ in ``value`` and ``tensor`` is not mapped.
        """
        old = tensor._value
        if old.trace is self:
            return
        if self.is_mapped(value.slot):
            raise RuntimeError(
                "vmap: inplace arithmetic(self, *extra_args) is not possible because there exists a Tensor `other` in "
                "extra_args that has more elements than `self`. This happened due to `other` being vmapped over but "
                "`self` not being vmapped over in a vmap. Please try to use out-of-place operators instead of inplace "
                "arithmetic. If said operator is being called inside the PyTorch framework, please file a bug report "
                "instead.")
        self.written.setdefault(id(tensor), (tensor, old))

    def changed(self) -> tuple[list[tuple[Tensor, Value]], tuple[int, ...]]:
        """Return the tensors from outside that were written to, with what they were, and the slots of what they are."""
        found = [(t, old) for t, old in self.written.values() if t._value.trace is self]
        makers = tape.producers(self.node.real.path()) if found else {}
        slots = []
        for tensor, _ in found:
            maker = makers[tensor._value.slot]
            slots.append(maker.inputs[0] if maker.kind == VARIABLE else tensor._value.slot)
        return found, tuple(slots)

    def hand_out(self, found: Sequence[tuple[Tensor, Value]], results: Sequence[Tensor]) -> None:
        """Point tensors from outside that were written to at their new values in the enclosing trace."""
        with self.outside():
            for (tensor, old), result in zip(found, results):
                value = result._value
                if old.spec.wants and isinstance(old.source, Variable):
                    value = marking.mark_variable(value, old.source, again=True)
                tensor._value = value

    def release(self) -> None:
        """Let go of everything: what is still held of this scope can no longer be used."""
        self.values, self.operands, self.bound, self.lifted, self.written, self.cuts = {}, {}, {}, {}, {}, {}
        self.lane = None

    def stays(self, reason: str) -> bool:
        """Whether nothing is flushed although somebody asks for it."""
        return True

    def reading(self, value: Value) -> None:
        """Note that somebody reads ``value`` while `compile` records."""
        self.outer.reading(value)  # type: ignore[attr-defined]

    @contextmanager
    def outside(self) -> Iterator[None]:
        """Record in the enclosing trace meanwhile."""
        inside, mode = state.trace, state.mode
        state.trace = self.outer
        try:
            trace.set_mode(mode)
            yield
        finally:
            self.outer = state.trace
            state.trace = inside

    # -- leaves ------------------------------------------------------------------------------------------------------

    def take(self, value: Value) -> int:
        """Return the slot of an outer value that is used as it is; -1 once the scope has ended."""
        slot = self.bound.get(id(value))
        if slot is not None:
            return slot
        if self.closed:
            return -1
        if value.array is None and not around(value):
            trace.computed(value)
        slot = self._leaf(value.spec, value)
        self.operands[slot] = (value, None)
        self.bound[id(value)] = slot
        return slot

    def input(self, tensor: Tensor, axis: int) -> Tensor:
        """Return what one lane sees of an outer tensor: one index of ``axis``."""
        outer = tensor._value
        of = outer.spec.aval
        lane = aval(of.shape[:axis] + of.shape[axis + 1 :], of.dtype, of.device)
        inner = Value()
        inner.trace, inner.array, inner.source = self, None, None
        inner.spec = lane.wanting if outer.spec.wants else lane.plain
        inner.slot = self._leaf(inner.spec, inner)
        self.operands[inner.slot] = (outer, axis)
        return _handle(inner)

    def _leaf(self, spec: Spec, value: Value) -> int:
        while True:
            node = self.node
            kid = node.kids.get(spec) or trace._grow_leaf(node.real, spec)
            after = trace.Shadow(kid) if self.missing else kid
            if self.node is node:
                self.values[kid.slot] = value
                self.node = after
                return kid.slot

    def index(self) -> Tensor:
        """Return the index of the lane, a 0-dim integer."""
        if self.lane is None:
            with self.outside():
                lanes = trace.record(_lanes, (self.size,))
            self.lane = self.input(lanes, 0)
        return self.lane

    def ndim(self, slot: int) -> int:
        """Return the number of dimensions that one lane sees of the value under ``slot``."""
        return self.values[slot].spec.aval.ndim

    def slot_of(self, tensor: Tensor) -> int:
        """Return the slot of a tensor here; one from outside enters."""
        value = tensor._value
        return value.slot if value.trace is self else self.take(value)

    # -- ends --------------------------------------------------------------------------------------------------------

    def is_mapped(self, slot: int) -> bool:
        """Whether the lanes differ in the value under ``slot``."""
        return any(self.operands[leaf][1] is not None for leaf in self.leaves((slot,)))

    def leaves(self, slots: tuple[int, ...]) -> tuple[int, ...]:
        """Return the leaves that ``slots`` are computed from."""
        return self._body(slots).leaves

    def has_cuts(self, slots: tuple[int, ...]) -> bool:
        """Whether hooks or custom Functions stand on the tape of ``slots``."""
        return not self._body(slots).tape.isdisjoint(self.cuts)

    def record(self, slots: tuple[int, ...], wrap: Callable[[tuple[int | None, ...]], Wrap]) -> tuple[Tensor, ...]:
        """Record the path that leads to ``slots`` as one op of the enclosing trace, and return its outputs.

        ``wrap`` says, of the axes of the leaves, what is made of the path.
        """
        if not slots:
            return ()
        taken = [self.operands[leaf] for leaf in self.leaves(slots)]
        foreign = any(isinstance(v.array, jax.core.Tracer) for v, _ in taken)  # somebody else's JAX trace
        body = self._body(slots, rolls=not foreign)
        floats, ints = body.node.floats, body.node.ints
        numbers = [[Input(self.floats[i]) for i in range(floats)], [Input(self.ints[i]) for i in range(ints)]]
        with self.outside():
            if floats + ints >= _MANY and not foreign:
                device = next((v.spec.aval.device for v, _ in taken if v.spec.aval.ndim), None)
                numbers = [[trace.record(pack_rule, (device,), *kind)] for kind in numbers if kind]
            params = (body, wrap(tuple(axis for _, axis in taken)))
            operands = [*(_handle(v) for v, _ in taken), *(x for kind in numbers for x in kind)]
            return trace.record(scope_rule, params, *operands)  # type: ignore[no-any-return]

    def _body(self, slots: tuple[int, ...], rolls: bool = True) -> Body:
        node, key = self.node.real, (slots, self.name, config.roll if rolls else "never")
        if node.bodies is None:
            node.bodies = {}
        found = node.bodies.get(key)
        if found is None:
            found = node.bodies[key] = Body(node, slots, self.name, key[-1] != "never")
        return found

    def read(self, value: Value, reader: str) -> Any:
        """Return the array of a value of this scope to somebody who reads it, where that can be told before the end.

        Raises:
            RuntimeError: as PyTorch does, where each lane has a value of its own, and once the scope has ended.
        """
        if self.closed:
            raise RuntimeError(
                f"{self.name}: a tensor made while the function ran was used after its end. Return it from the "
                "function instead of keeping it elsewhere.")
        return trace.computed(self.lift(value, reader)._value)

    def lift(self, value: Value, reader: str) -> Tensor:
        """Return a value of this scope as a tensor of the enclosing trace, where the lanes do not differ in it."""
        found = self.lifted.get(value.slot)
        if found is None:
            if self.is_mapped(value.slot):
                raise RuntimeError(_UNREADABLE[reader])
            found = self.lifted[value.slot] = self.record((value.slot,), lambda axes: Plain())[0]
        return found


_UNREADABLE = {
    "backward": "backward() called inside a functorch transform. This is not supported, please use functorch.grad or "
                "functorch.vjp instead or call backward() outside of functorch transforms.",
    "item": "vmap: It looks like you're calling .item() on a Tensor. We don't support vmap over calling .item() on a "
            "Tensor, please try to rewrite what you're doing with other operations. If error is occurring somewhere "
            "inside PyTorch internals, please file a bug report.",
    "bool": "vmap: It looks like you're attempting to use a Tensor in some data-dependent control flow. We don't "
            "support that yet, please file an issue at https://github.com/pytorch/pytorch/issues .",
}  # fmt: skip


def _handle(value: Value) -> Tensor:
    tensor = object.__new__(trace._Tensor)
    tensor._value = value
    return tensor


def _lanes(size: int) -> Lowering:
    return Lowering(lambda: jnp.arange(size, dtype=int64.np), differentiable=False)


def current() -> Scope | None:
    """Return the scope that this thread records in, None outside of scopes."""
    now = state.trace
    return now if isinstance(now, Scope) else None


def scopes() -> Iterator[Scope]:
    """Yield the scopes that this thread is in, the innermost first."""
    around = state.trace
    while isinstance(around, Scope):
        yield around
        around = around.outer


def mapped_level(value: Value) -> int:
    """Return which of the nested `vmap` makes ``value`` differ from lane to lane, counted from 1; 0 where none does."""
    holder = value.trace
    if value.array is None and isinstance(holder, Scope) and holder.size is not None and holder.is_mapped(value.slot):
        around = [s for s in scopes() if s.size is not None]
        return len(around) - around.index(holder) if holder in around else 0
    return 0


@contextmanager
def outside_all() -> Iterator[None]:
    """Record outside of every scope meanwhile."""
    with ExitStack() as stack:
        for scope in list(scopes()):
            stack.enter_context(scope.outside())
        yield


def all_around() -> Iterator[Trace]:
    """Yield the open traces around the current scope, the innermost first."""
    for scope in scopes():
        if not scope.outer.closed:
            yield scope.outer


def around(value: Value) -> bool:
    """Whether ``value`` is pending in a trace around the current scope."""
    return value.array is None and any(value.trace is t for t in all_around())
