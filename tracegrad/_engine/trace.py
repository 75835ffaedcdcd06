"""Recording: the hit path, which is the product, and the miss path, where all the intelligence goes.

NOTE [One commit] An op changes the trace in two adjacent stores, ``trace.values[slot] = value`` and
``trace.node = kid``, after checking that ``trace.node`` is still the node it looked up. CPython runs signal handlers,
garbage collections and other threads at calls and at loop ends only, never between these three steps; so whatever ran
before them (a ``__del__`` that records, a handler, another thread that flushed this trace) shows as a changed
``trace.node``, and the op is recorded again. An interrupt leaves at worst an entry beyond ``node.end``, which the next
record overwrites. No lock, no repair.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from tracegrad import _device, _dtype
from tracegrad._engine import checks, jax_state, recurrence, sites, trie
from tracegrad._engine.collection import collection_paused as collection_paused
from tracegrad._engine.growing import op_node
from tracegrad._engine.numbers import changing_key, not_a_tensor, number_key, plain
from tracegrad._engine.op import Rule, number_token, prepare
from tracegrad._engine.trie import LEAF, OP, Mode, Node
from tracegrad._engine.value import Aval, Input, Number, Part, Piece, Spec, Value, Variable, aval, concrete

if TYPE_CHECKING:
    from tracegrad._tensor import Tensor

class Shadow:
    """Stands where a trace's node does when no look-up may hit: the trace is closed, or flushes after every op."""

    __slots__ = ("kids", "real")
    next: Node | None = None

    def __init__(self, real: Node):
        self.kids: dict[Any, Node] = {}
        self.real = real


class Trace:
    """The operations of one thread since its last flush."""

    __slots__ = ("node", "values", "floats", "ints", "immediate", "inline", "closed", "final",
                 "has_backward", "retained", "cuts", "reason", "run", "lines", "missing")  # fmt: skip
    scoped = False  # whether it is a `scope.Scope`
    whole = False  # whether nothing flushes it before its end: a scope, or what `compile` records
    recorded = False  # whether it is what `compile` records, or a scope in that

    def __init__(self, mode: Mode, immediate: bool = False, inline: bool = False):
        root = trie.root(mode)
        #: slot -> the user's file and line of this run, where somebody wants to know; a node has those of the first run
        self.lines: dict[int, tuple[str, int]] | None = {} if watched.lines else None
        self.missing = immediate or watched.lines or packing.saved is not None  # every op takes the miss path
        self.node: Node | Shadow = Shadow(root) if self.missing else root
        self.values: dict[int, Value] = {}  # slot -> value; dead ones included, see `program.live_slots`
        self.floats: dict[int, float] = {}  # input numbers
        self.ints: dict[int, int] = {}
        self.immediate = immediate  # flush after every op
        self.inline = inline  # replay in the surrounding JAX trace, without jit
        self.closed = False
        self.final: Node | None = None  # the last node, once closed
        self.has_backward = False
        self.retained: dict[int, Any] = {}  # slot -> weak reference to the handle that retains its gradient
        self.cuts: dict[int, Any] = {}  # first slot of a node -> its hooks and its custom Function, for a backward
        self.reason = ""
        self.run: Any = None  # the flush in progress, see `flush.Run`


class _Watched:
    """What is kept of every op while somebody looks for errors."""

    lines = False


watched = _Watched()


class _Packing(threading.local):
    """What each thread does with the results of an op that saves tensors: ``(node, operands, result) -> result``."""

    saved: Callable[[Node, tuple[Any, ...], Any], Any] | None = None


packing = _Packing()


def pack_saved(pack: Callable[[Node, tuple[Any, ...], Any], Any] | None) -> None:
    """Have every op of this thread take the miss path, and its result go through ``pack``; or no longer, where None."""
    packing.saved = pack
    trace = state.trace
    if not trace.closed:
        trace.missing = pack is not None or trace.immediate or trace.lines is not None
        trace.node = Shadow(trace.node.real) if trace.missing else trace.node.real


def watch_lines(on: bool) -> None:
    """Keep the user's line of every op from now on, which takes the miss path for it; or no longer."""
    watched.lines = on
    trace = state.trace
    if on and not trace.closed and trace.lines is None:
        trace.lines, trace.missing = {}, True
        trace.node = Shadow(trace.node.real)


class _State(threading.local):
    """What each thread has of its own."""

    def __init__(self) -> None:
        self.mode = trie.mode(True)
        self.eager = 0
        self.trace = Trace(self.mode)


state = _State()
_new = object.__new__
_COMMON = frozenset((float, int, Input))  # operands without `_value` that an exception would be too slow for
#: The class of JAX's concrete arrays, without making one: that would start JAX's backends.
_ArrayImpl: Any = next(c for c in jax.Array.__subclasses__() if c.__module__.startswith("jaxlib"))
_Tensor: type[Tensor]
_flush: Callable[[Trace, str], None]


def bind(tensor: type[Tensor], flush: Callable[[Trace, str], None]) -> None:
    """Set the handle class that ops return, and what flushes a trace (both live above this layer)."""
    global _Tensor, _flush
    _Tensor, _flush = tensor, flush


# -- the hit path -----------------------------------------------------------------------------------------------


def unary(rule: Rule, fn: Any, input: Tensor) -> Any:
    """Record an op of one tensor: ``rule(aval, fn)`` says how it runs. ``fn`` alone is its key."""
    trace = state.trace
    try:
        v = input._value
    except AttributeError:
        raise not_a_tensor(input) from None
    slot = v.slot if v.trace is trace else enter(trace, v)
    node = trace.node
    kid = node.next
    if kid is None or kid.a is not slot or kid.fn is not fn or kid.b is not None:
        kid = node.kids.get((fn, slot))
        if kid is None:
            return miss(rule, (fn,), (input,), fn)
        node.next = kid
    value = Value()
    value.trace = trace
    value.slot = kid.slot
    value.spec = kid.spec
    value.array = value.source = None
    tensor = _new(_Tensor)
    tensor._value = value
    if trace.node is node:
        trace.values[kid.slot] = value
        trace.node = kid
        return tensor
    return unary(rule, fn, input)


def binary(rule: Rule, fn: Any, a: Any, b: Any) -> Any:
    """Record an op of two operands: ``rule(a, b, fn)`` says how it runs. ``fn`` alone is its key."""
    kind = type(b)
    if kind is float or kind is int:
        return _with_number(rule, fn, a, b, kind)
    trace = state.trace
    try:
        va = a._value
        vb = b._value
    except AttributeError:
        return record(rule, (fn,), a, b)
    slot_a = va.slot if va.trace is trace else enter(trace, va)
    slot_b = vb.slot if vb.trace is trace else enter(trace, vb)
    node = trace.node
    kid = node.next
    if kid is None or kid.a is not slot_a or kid.b is not slot_b or kid.fn is not fn:
        kid = node.kids.get((fn, slot_a, slot_b))
        if kid is None:
            return miss(rule, (fn,), (a, b), fn)
        node.next = kid
    value = Value()
    value.trace = trace
    value.slot = kid.slot
    value.spec = kid.spec
    value.array = value.source = None
    tensor = _new(_Tensor)
    tensor._value = value
    if trace.node is node:
        trace.values[kid.slot] = value
        trace.node = kid
        return tensor
    return binary(rule, fn, a, b)


def _with_number(rule: Rule, fn: Any, a: Any, b: float, kind: type) -> Any:
    """Record an op of a tensor and a float or int; `record` does it where the trace does not go on as the last did."""
    trace = state.trace
    try:
        v = a._value
    except AttributeError:
        return record(rule, (fn,), a, b)
    slot = v.slot if v.trace is trace else enter(trace, v)
    node = trace.node
    kid = node.next
    if kid is None or kid.a is not slot or kid.fn is not fn or kid.b is not kind and kid.b != (kind, b) \
            or kid.rule is not rule:  # fmt: skip
        return record(rule, (fn,), a, b)
    value = Value()
    value.trace = trace
    value.slot = kid.slot
    value.spec = kid.spec
    value.array = value.source = None
    tensor = _new(_Tensor)
    tensor._value = value
    if kid.b is kind and trace.node is node:
        if kind is float:
            trace.floats[kid.numbers[0][2]] = b
        else:
            trace.ints[kid.numbers[0][2]] = b  # type: ignore[assignment]
    if trace.node is node:
        trace.values[kid.slot] = value
        trace.node = kid
        return tensor
    return _with_number(rule, fn, a, b, kind)


def record(rule: Rule, params: tuple[Any, ...], *operands: Any) -> Any:
    """Record any op: ``rule(*operands, *params)`` says how it runs. Operands are tensors and Python numbers."""
    trace = state.trace
    key = [rule, params]
    numbers = False
    for x in operands:
        kind = type(x)
        if kind in _COMMON:
            numbers = True
            if kind is Input:
                key.append(type(x.value))
            else:
                key.append((kind, x) if x and x == x else number_token(x))
            continue
        try:
            v = x._value
        except AttributeError:
            if kind is np.ndarray and any(isinstance(y, _Tensor) for y in operands):
                return record(rule, params, *map(_adopted, operands))
            numbers = True
            key.append(number_key(x))
            continue
        key.append(v.slot if v.trace is trace else enter(trace, v))
    node = trace.node
    kid = node.next
    found = tuple(key)
    if kid is None or kid.key != found and not (numbers and kid.numbers and kid.key == changing_key(key)):
        kid = node.kids.get(found)
        if kid is None and numbers:
            kid = node.kids.get(changing_key(key))
        if kid is None:
            return miss(rule, params, operands)
        node.next = kid
    inputs = kid.numbers
    if not kid.single or len(inputs) > 1 or inputs and kid.lowering.renews:  # type: ignore[union-attr]
        tensors = commit(trace, node, kid, operands)
        return record(rule, params, *operands) if tensors is None else tensors
    value = Value()
    value.trace = trace
    value.slot = kid.slot
    value.spec = kid.spec
    value.array = value.source = None
    tensor = _new(_Tensor)
    tensor._value = value
    if inputs:
        operand, is_float, index = inputs[0]
        number = operands[operand]
        if type(number) is Input:
            number = number.value
        if trace.node is node:
            if is_float:
                trace.floats[index] = number
            else:
                trace.ints[index] = number
    if trace.node is node:
        trace.values[kid.slot] = value
        trace.node = kid
        return tensor
    return record(rule, params, *operands)


def enter(trace: Trace, value: Value) -> int:
    """Make ``value`` a leaf of ``trace`` and return its slot; a value pending in another trace is flushed first.

    Return -1, which no key holds, where ``trace`` cannot take it: it is closed, or ``value`` is a JAX tracer and
    ``trace`` is not inline. The look-up then misses, and the miss path opens another trace.
    """
    if trace.whole:
        if trace.scoped:
            return trace.take(value)  # type: ignore[attr-defined,no-any-return]
        trace.meet(value)  # type: ignore[attr-defined]
    kind = type(value.array)
    if kind is not _ArrayImpl and kind is not tuple and (kind is not Part or trace.immediate) \
            and not _make_ready(trace, value):  # fmt: skip
        return -1
    while True:
        node = trace.node
        kid = node.next
        if kid is None or kid.key is not value.spec:
            kid = node.kids.get(value.spec)
            if kid is not None:
                node.next = kid
        after: Node | Shadow | None = kid
        if kid is None:
            if trace.closed:
                return -1
            kid = node.real.kids.get(value.spec) or _grow_leaf(node.real, value.spec)
            after = Shadow(kid) if trace.missing else kid
        slot = kid.slot
        if trace.node is node:
            trace.values[slot] = value
            value.slot = slot
            value.trace = trace
            trace.node = after  # type: ignore[assignment]
            return slot


def _make_ready(trace: Trace, value: Value) -> bool:
    """Compute a value that is pending elsewhere, or put it on its device; return whether ``trace`` can take it."""
    array = computed(value)
    if type(array) is np.ndarray:
        value.array = to_device(array, value.spec.aval)
    return trace.inline or not isinstance(array, jax.core.Tracer)


def commit(trace: Trace, node: Node | Shadow, kid: Node, operands: tuple[Any, ...]) -> Any:
    """Append ``kid`` to ``trace``, unless it moved on from ``node``: then return None."""
    floats: dict[int, float] = {}
    ints: dict[int, int] = {}
    for operand, is_float, index in kid.numbers:
        x: Any = operands[operand]
        into: dict[int, Any] = floats if is_float else ints
        into[index] = x.value if type(x) is Input else x
    fresh: dict[int, Value] = {}
    tensors = []
    for slot, spec in zip(kid.slots, kid.specs):
        value = Value()
        value.trace = trace
        value.slot = slot
        value.spec = spec
        value.array = value.source = None
        tensor = _new(_Tensor)
        tensor._value = value
        fresh[slot] = value
        tensors.append(tensor)
    if kid.kind == OP:
        for i in range(kid.lowering.renews):  # type: ignore[union-attr]
            tensors[i]._value.source = operands[i]._variable
    after = Shadow(kid) if trace.missing else kid
    # Each call may be followed by somebody else's record at these slots, which shows in `trace.node`.
    if floats and trace.node is node:
        trace.floats.update(floats)
    if ints and trace.node is node:
        trace.ints.update(ints)
    if trace.node is node:
        trace.values.update(fresh)
    if trace.node is node:
        trace.node = after
        return tensors[0] if kid.single else tuple(tensors)
    return None


def pending(trace: Trace, slots: Sequence[int], specs: Sequence[Spec]) -> list[Value]:
    """Return new values of ``trace``, which does not have them yet."""
    made = []
    for slot, spec in zip(slots, specs):
        value = Value()
        value.trace = trace
        value.slot = slot
        value.spec = spec
        value.array = value.source = None
        made.append(value)
    return made


# -- the miss path ----------------------------------------------------------------------------------------------


def miss(rule: Rule, params: tuple[Any, ...], operands: tuple[Any, ...], short: Any = None) -> Any:
    """Record an op whose node may not exist yet. ``short`` is its key where the rule and params are not."""
    before = jax_state.setting()
    try:
        with collection_paused:
            while True:
                trace = open_trace(operands)
                slots: list[Any] = [short] if short is not None else [rule, params]
                for x in operands:
                    value = getattr(x, "_value", None)
                    if value is None:
                        slots.append(number_key(x))
                    else:
                        slots.append(value.slot if value.trace is trace else enter(trace, value))
                if trace.closed:
                    continue
                node = trace.node
                real = node.real
                kid = _find(real, slots)
                if kid is None:
                    kid = _grow(trace, real, rule, params, operands, slots)
                    if kid is None:
                        continue
                result = commit(trace, node, kid, operands)
                if result is None:
                    continue
                if trace.lines is not None:
                    trace.lines[kid.slot] = sites.user_line()
                if trace.recorded and not trace.scoped:
                    trace.numbered(kid, operands)  # type: ignore[attr-defined]
                if trace.immediate:
                    _flush(trace, "a JAX tracer" if trace.inline else "eager()")
                if packing.saved is not None:
                    return packing.saved(kid, operands, result)
                return result
    finally:
        jax_state.restore(before)


def _find(node: Node, key: list[Any]) -> Node | None:
    return node.kids.get(tuple(key)) or node.kids.get(changing_key(key))


def open_trace(operands: tuple[Any, ...] = ()) -> Trace:
    """Return this thread's open trace, of the kind that ``operands`` and the modes need."""
    trace = state.trace
    if trace.whole and not trace.closed:
        return trace
    inline = any(isinstance(x._value.array, jax.core.Tracer) for x in operands if hasattr(x, "_value"))
    immediate = inline or state.eager > 0
    if not trace.closed and trace.node is not None:
        if trace.inline == inline and trace.immediate == immediate:
            return trace
        if trace.inline and not inline and trace.node.real.kind == trie.ROOT:
            pass
        else:
            _flush(trace, "a JAX tracer follows" if inline else "the way of recording changes")
    state.trace = trace = Trace(state.mode, immediate, inline)
    return trace


def _grow(trace: Trace, node: Node, rule: Rule, params: tuple[Any, ...], operands: tuple[Any, ...],
          key: list[Any]) -> Node | None:  # fmt: skip
    """Make the node for an op that was never recorded after this history; None where the trace was cut instead."""
    values = [getattr(x, "_value", None) for x in operands]
    where = sites.user_line()
    reason = "" if trace.whole else recurrence.due(trace.values, node, rule, params, where)
    if reason:
        while node.kind == LEAF:  # what entered for this op belongs to what follows
            assert node.parent is not None
            node = node.parent
        trace.node = Shadow(node) if trace.missing else node
        _flush(trace, reason)
        return None
    if node.mode.grad and any(v is not None and v.array is None and v.source is not None and _cuts(trace, v)
                              for v in values):  # fmt: skip
        _flush(trace, "a new variable is used")
        return None
    numbers = tuple(number_key(x) for x in operands if not hasattr(x, "_value"))
    changing, site = False, None
    if numbers:
        changing = any(type(x) is Input for x in operands)
        if not changing and any(type(n) is tuple and n[0] in (int, float) for n in numbers):
            changing, site = sites.is_changing(rule, params, numbers, node)
        if changing:
            key = list(changing_key(key))
    described: list[Aval | Number] = []
    for x, v in zip(operands, values):
        if v is not None:
            described.append(v.spec.aval)
        else:
            number = x.value if type(x) is Input else x
            if type(number) not in (bool, int, float, complex):
                number = plain(number)
            kind = type(number)
            described.append(Number(kind, None if changing and kind in (int, float) else number))
    prepared = prepare(rule, params, described)
    kid = op_node(node, tuple(key), prepared, described, values, key)
    kid.rule, kid.params = rule, params
    kid.where = where
    if type(key[1]) is int:  # a short key
        kid.fn, kid.a, kid.b = key if len(key) == 3 else (*key, None)
    elif numbers and len(key) == 4 and len(params) == 1 and type(key[2]) is int:  # a tensor and a number
        kid.fn, kid.a, kid.b = params[0], key[2], key[3]
    if site is not None and not changing:
        site.static.append((node, tuple(key)))
    return node.kids.setdefault(tuple(key), kid)


def _cuts(trace: Trace, variable: Value) -> bool:
    """Whether a pending variable is made concrete before it is first used, by a flush.

    What made it (the initialisation of a model, an in-place update) must not be compiled into the program that uses
    it. A new variable that recurs before the first backward of a step is part of the step: only its first sighting
    cuts. One that is made after a backward, or by a write to an older one, begins the next step.
    """
    if trace.whole or type(variable.source) is not Variable:
        return False
    node = trace.node.real
    while not node.slot <= variable.slot < node.end:
        assert node.parent is not None
        node = node.parent
    return node.kind == OP or node.key[2] or not node.stamp


def _grow_leaf(node: Node, spec: Spec) -> Node:
    kid = Node(node, spec, LEAF, node.mode)
    kid.give((spec,))
    kid.leaves += 1
    kid.where = sites.user_line()
    return node.kids.setdefault(spec, kid)


def new_value(array: Any, of: Aval) -> Value:
    """Return a value that holds ``array``, for a tensor that the user makes of it."""
    value = concrete(array, of)
    if state.mode.inference:
        value.spec = of.inferred[0]
    return value


def set_mode(mode: Mode) -> None:
    """Switch this thread's ambient mode; recorded as a node when an op follows."""
    state.mode = mode
    while True:
        trace = state.trace
        if trace.closed:
            return
        node = trace.node
        real = node.real
        if real.kind == trie.ROOT:
            if trace.whole:
                trace.node = Shadow(trie.root(mode)) if trace.missing else trie.root(mode)
            else:
                state.trace = Trace(mode, trace.immediate, trace.inline)
            return
        if real.kind == trie.MODE:
            assert real.parent is not None
            real = real.parent
        if real.mode is not mode:
            kid = real.kids.get(mode)
            if kid is None:
                kid = real.kids.setdefault(mode, Node(real, mode, trie.MODE, mode))
            real = kid
        after = Shadow(real) if trace.missing else real
        if trace.node is node:
            trace.node = after
            return


def force(value: Value, reader: str = "item") -> Any:
    """Return the array of ``value`` to somebody who reads it, flushing the trace in which it is pending.

    Here errors come out that depend on elements, see `checks.py`: all that were found until this value was there.
    """
    if state.trace.recorded:
        state.trace.reading(value)  # type: ignore[attr-defined]
    array = computed(value, reader)
    if checks.waiting.runs and type(array) is _ArrayImpl:
        checks.look(array)
    return array


def computed(value: Value, reader: str = "item") -> Any:
    """Return the array of ``value``, which nobody reads yet."""
    while value.array is None:
        trace = value.trace
        assert trace is not None
        if trace.scoped:
            return trace.read(value, reader)  # type: ignore[attr-defined]
        _flush(trace, "a value was read")
    if isinstance(value.array, Piece):
        value.array = value.array.cut()
    return value.array


def to_device(array: np.ndarray[Any, Any], of: Aval) -> Any:
    """Put a private NumPy copy on its device."""
    with jax_state.tracing():
        return jax.device_put(array, _device.to_jax(of.device))


def _adopted(x: Any) -> Any:
    """Return a NumPy array as a tensor with a copy of its elements, everything else as it is."""
    if type(x) is not np.ndarray:
        return x
    tensor = _new(_Tensor)
    tensor._value = new_value(np.array(x), aval(x.shape, _dtype.from_np(x.dtype)))
    return tensor
