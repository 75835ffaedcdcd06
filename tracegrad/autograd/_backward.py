"""Backward: one op on the current trace, chained with the pullbacks of the segments that were flushed before.

NOTE [Backward] A backward records at most one BACKWARD node, which pulls through the pending part of the tape, then
one pullback per segment that it reaches, the latest first. What is reached is worked out once and hangs on the trie.
With ``create_graph`` every op's VJP is recorded as an op of its own, so it is differentiated like any other.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from tracegrad import _device, _dtype
from tracegrad._engine import sites, tape, trace
from tracegrad._engine.flush import flush, narrowing
from tracegrad._engine.op import Lowering
from tracegrad._engine.segment import Segment, SegmentOutput, pull_rule
from tracegrad._engine.trace import Trace, state
from tracegrad._engine.trie import BACKWARD, LEAF, OP, VARIABLE, Node
from tracegrad._engine.value import Aval, Input, Value, Variable, aval, concrete
from tracegrad._handle import Handle, tensor_of

if TYPE_CHECKING:
    from tracegrad._tensor import Tensor

_FREED = ("Trying to backward through the graph a second time (or directly access saved tensors after they have "
          "already been freed). Saved intermediate values of the graph are freed when you call .backward() or "
          "autograd.grad(). Specify retain_graph=True if you need to backward through the graph a second time or if "
          "you need to access saved tensors after calling backward.")  # fmt: skip


class Sweep:
    """One backward in progress: the cotangents that wait, by where they wait."""

    def __init__(self, retain: bool, create_graph: bool, targets: list[Tensor] | None):
        self.retain = retain
        self.create_graph = create_graph
        self.gradients: dict[int, Tensor] = {}  # id(Variable or SegmentOutput) -> gradient
        self.keep: list[Any] = []  # whatever `gradients` has the id of
        self.segments: dict[Segment, dict[int, Tensor]] = {}
        self.heap: list[tuple[int, int, Segment]] = []
        self.targets = targets
        self.order: list[Variable] = []  # the variables, in the order in which they were reached
        self.revived: list[tuple[Tensor, SegmentOutput]] = []  # asked for, and recorded anew
        if targets is not None:
            self.wanted_sources = {id(t._value.source) for t in targets if t._value.source is not None}

    def add(self, source: Any, gradient: Tensor) -> None:
        """Send ``gradient`` on to a variable or to an earlier segment's output."""
        if isinstance(source, Variable):
            known = self.gradients.get(id(source))
            if known is None:
                self.keep.append(source)
                self.order.append(source)
            self.gradients[id(source)] = gradient if known is None else add(known, gradient)
        elif source is not None:
            waiting = self.segments.get(source.segment)
            if waiting is None:
                waiting = self.segments[source.segment] = {}
                heapq.heappush(self.heap, (-source.segment.order, id(source.segment), source.segment))
            known = waiting.get(source.slot)
            waiting[source.slot] = gradient if known is None else add(known, gradient)

    # -- the pending part of the tape --------------------------------------------------------------------------------

    def pending(self, roots: Sequence[Tensor], cotangents: Sequence[Tensor]) -> None:
        """Pull through the current trace, from roots that are pending in it."""
        with trace.collection_paused:
            current = state.trace
            slots, cts = [], []
            for c in cotangents:
                cts.append(trace.enter(current, c._value) if c._value.trace is not current else c._value.slot)
            for root in roots:
                if root._value.trace is not current or current.closed or root._value.array is not None:
                    self.start(roots, cotangents)  # it was flushed meanwhile
                    return
                slots.append(root._value.slot)
            if self.create_graph:
                self._expand(current, slots, cotangents)
                return
            targets, inner = self._inner_targets(current)
            key = ("backward", tuple(slots), tuple(cts), self.retain, targets)
            node = current.node
            kid = node.real.kids.get(key)
            if kid is None:
                kid = _grow_backward(node.real, key, targets)
            tensors = trace.commit(current, node, kid, ())
            if tensors is None:
                return self.pending(roots, cotangents)
            current.has_backward = True
            assert kid.pull is not None
            values = [(current.values[slot], slot) for slot in kid.pull.targets]
            results = [(value.source, slot, g) for (value, slot), g in zip(values, tensors)]
            for source, slot, gradient in results:
                if slot in inner:
                    self.deliver(inner[slot], gradient)
                else:
                    self.add(source, gradient)
            if current.immediate:
                flush(current, "eager()")

    def _inner_targets(self, current: Trace) -> tuple[Any, dict[int, Any]]:
        """Return the slots whose gradients are asked for (None: the leaves') and who asks for those inside the tape."""
        inner: dict[int, Any] = {}
        for slot, handle in current.retained.items():
            if handle() is not None:
                inner[slot] = handle
        for tensor, output in self.revived:
            if tensor._value.trace is current and tensor._value.array is None:
                inner[tensor._value.slot] = output
        if self.targets is None:
            return (None, tuple(inner)), inner
        explicit = set()
        for t in self.targets:
            value = t._value
            if value.trace is current and value.array is None and value.source is None:
                inner[value.slot] = t
                explicit.add(value.slot)
        for slot, value in current.values.items():
            source = value.source
            if source is None or slot >= current.node.real.end:
                continue
            if isinstance(source, SegmentOutput) or id(source) in self.wanted_sources:
                explicit.add(slot)
        return (tuple(sorted(explicit)), tuple(inner)), inner

    def deliver(self, who: Any, gradient: Tensor) -> None:
        """Hand a gradient to a tensor inside the tape: a target, or a handle that retains its gradient."""
        if isinstance(who, Handle):
            self._note(id(who), gradient)
            return
        if isinstance(who, SegmentOutput):
            self._deliver_output(who, gradient)
            return
        handle = who()
        if handle is not None:
            if self.targets is None:
                accumulate(handle, gradient, self.create_graph)
            elif any(handle is t for t in self.targets):
                self._note(id(handle), gradient)

    def _note(self, key: int, gradient: Tensor) -> None:
        known = self.gradients.get(key)
        self.gradients[key] = gradient if known is None else add(known, gradient)

    # -- flushed segments ----------------------------------------------------------------------------------------------

    def start(self, roots: Sequence[Tensor], cotangents: Sequence[Tensor]) -> None:
        """Begin at ``roots``, wherever each is."""
        here: list[tuple[Tensor, Tensor]] = []
        for root, c in zip(roots, cotangents):
            value = root._value
            if value.array is None and value.trace is not state.trace:
                trace.force(value)
            if value.source is not None:
                self.add(value.source, c)
            elif value.array is None:
                here.append((root, c))
        if here:
            self.pending([r for r, _ in here], [c for _, c in here])

    def segments_left(self) -> None:
        """Pull through the flushed segments, the latest first."""
        while self.heap:
            _, _, segment = heapq.heappop(self.heap)
            waiting = self.segments.pop(segment)
            targets = self._segment_targets(segment)
            roots = tuple(sorted(waiting))
            traversed, ends = segment.traversal(roots, targets)
            if segment.touches_freed(traversed):
                raise RuntimeError(_FREED)
            tape.check(segment.program.path, traversed)
            for slot in roots:
                who = segment.outputs.get(slot)
                if who is not None and slot not in ends and not self.create_graph:
                    self._deliver_output(who, waiting[slot])
            if self.create_graph and self._expand_single(segment, roots, waiting):
                continue
            if self.create_graph:
                inside = [s for s in segment.outputs if targets is not None and s in targets and s in (*ends, *roots)]
                revived = revive(segment, (*roots, *inside))
                self.revived += [(t, segment.outputs[s]) for t, s in zip(revived[len(roots) :], inside)]
                self.start(revived[: len(roots)], [waiting[s] for s in roots])
                continue
            if not ends:
                continue
            arrays = segment.residuals_of(traversed)
            params = (segment.program, roots, traversed, ends)
            cotangents = [waiting[s] for s in roots]
            if segment.program.inline:
                given = [a.array if isinstance(a, Value) else a for a in arrays]
                results = _pull_inline(params, [*given, *(trace.force(c._value) for c in cotangents)])
                del given
            else:
                residuals = [tensor_of(a if isinstance(a, Value) else concrete(a, _aval_of(a))) for a in arrays]
                state.trace.has_backward = True
                results = trace.record(pull_rule, params, *residuals, *cotangents)
                del residuals
            del arrays
            if not self.retain:
                segment.free(traversed)
            for slot, gradient in zip(ends, results):
                who = segment.outputs.get(slot)
                if who is not None:
                    self._deliver_output(who, gradient)
                else:
                    self.add(segment.sources.get(slot), gradient)

    def _segment_targets(self, segment: Segment) -> frozenset[int] | None:
        retained = {slot for slot, o in segment.outputs.items() if o.retains is not None and o.retains() is not None}
        if self.targets is None:
            if not retained:
                return None
            return frozenset(retained | set(segment.sources))
        wanted = {slot for slot, o in segment.outputs.items() if id(o) in self.wanted_sources} | retained
        for slot, source in segment.sources.items():
            if isinstance(source, SegmentOutput) or id(source) in self.wanted_sources:
                wanted.add(slot)
        return frozenset(wanted)

    def _deliver_output(self, who: SegmentOutput, gradient: Tensor) -> None:
        if self.targets is not None:
            if id(who) in self.wanted_sources:
                self.keep.append(who)
                self._note(id(who), gradient)
        elif who.retains is not None and (handle := who.retains()) is not None:
            accumulate(handle, gradient, self.create_graph)

    def _expand_single(self, segment: Segment, roots: Sequence[int], waiting: dict[int, Tensor]) -> bool:
        """Record the VJP of a segment that is one op on leaves, as ``eager()`` and JAX tracers make them."""
        if segment.leaves is None:
            raise RuntimeError(_FREED)
        ancestors = segment.program.ancestors(set(roots))
        if sum(n.kind == OP for n in ancestors) != 1 or any(n.kind not in (LEAF, OP) for n in ancestors):
            return False
        node = ancestors[-1]
        for slot in roots:
            if slot in segment.outputs:
                self._deliver_output(segment.outputs[slot], waiting[slot])
        handles = {slot: tensor_of(value) for slot, value in segment.leaves.items()}
        outs = [waiting.get(s) for s in range(node.slot, node.end)]
        gradients = vjp(node, node.wanted, _operands(node, handles, _Numbers(*segment.numbers)), outs)
        for i, gradient in zip(node.wanted, gradients):
            self.add(segment.sources.get(node.inputs[i]), gradient)
        return True

    # -- create_graph --------------------------------------------------------------------------------------------------

    def _expand(self, current: Trace, slots: Sequence[int], cotangents: Sequence[Tensor]) -> None:
        """Record each op's VJP as an op."""
        path = current.node.real.path()
        values = dict(current.values)
        targets, inner = self._inner_targets(current)
        wanted = None if targets[0] is None else set(targets[0]) | set(inner)
        traversed, _ = tape.reach(path, slots, wanted)
        tape.check(path, traversed)
        leads = None if wanted is None else tape.ways(path, wanted)
        if not traversed.isdisjoint(tape.freed(path)):
            raise RuntimeError(_FREED)
        handles = {slot: tensor_of(values[slot]) for d in traversed for slot in _touched(path[d])}
        flowing: dict[int, Tensor] = {}
        for slot, c in zip(slots, cotangents):
            flowing[slot] = add(flowing[slot], c) if slot in flowing else c
        state.trace.has_backward = True
        for depth in sorted(traversed, reverse=True):
            node = path[depth]
            outs = [flowing.get(s) for s in range(node.slot, node.end)]
            if all(c is None for c in outs):
                continue
            operands = _operands(node, handles, current)
            wanted_inputs = tuple(i for i in node.wanted if leads is None or node.inputs[i] in leads)
            for i, gradient in zip(wanted_inputs, vjp(node, wanted_inputs, operands, outs)):
                slot = node.inputs[i]
                flowing[slot] = add(flowing[slot], gradient) if slot in flowing else gradient
        for slot, gradient in flowing.items():
            if slot in inner:
                self.deliver(inner[slot], gradient)
            value = values[slot]
            if value.source is not None and (wanted is None or slot in wanted):
                self.add(value.source, gradient)


def _touched(node: Node) -> list[int]:
    return [x for x in node.inputs if type(x) is int]


def _operands(node: Node, handles: dict[int, Tensor], numbers: Any) -> list[Any]:
    operands: list[Any] = []
    for x in node.inputs:
        if type(x) is int:
            operands.append(handles[x])
        else:
            kind, index = x
            operands.append(index if kind == "c" else Input((numbers.floats if kind == "f" else numbers.ints)[index]))
    return operands


def add(a: Tensor, b: Tensor) -> Tensor:
    """Record the sum of two cotangents."""
    return trace.record(_add, (), a, b)  # type: ignore[no-any-return]


def _add(a: Aval, b: Aval) -> Lowering:
    return Lowering(lambda x, y: x + y, name="AddBackward0", saves=False)


def vjp(node: Node, wanted: tuple[int, ...], operands: Sequence[Any],
        cotangents: Sequence[Tensor | None]) -> list[Tensor]:  # fmt: skip
    """Record the VJP of ``node`` for its operands ``wanted`` as an op of its operands and cotangents."""
    given = tuple(c is not None for c in cotangents)
    static = tuple((i, type(x), x) for i, x in enumerate(operands) if not isinstance(x, (Handle, Input)))
    dynamic = [x for x in operands if isinstance(x, (Handle, Input))]
    params = (node.lowering, node.single, node.specs, wanted, given, len(operands), static)
    result = trace.record(_vjp_rule, params, *dynamic, *[c for c in cotangents if c is not None])
    return list(result)


def _vjp_rule(*args: Any) -> Lowering:
    lowering, single, specs, wanted, given, count, static = args[-7:]
    fixed = {i: x for i, _, x in static}

    def fn(*arrays: Any) -> tuple[Any, ...]:
        feed = iter(arrays)
        operands = [fixed[i] if i in fixed else next(feed) for i in range(count)]
        cotangents = [jnp.conj(next(feed)) if g else tape.zero(spec.aval) for g, spec in zip(given, specs)]
        node = _Lone(lowering, wanted, single)
        _, linear = tape.linearize(node, operands)  # type: ignore[arg-type]
        return tuple(jnp.conj(c) for c in linear.apply(linear.residuals, cotangents))

    # A derivative that saves nothing does not depend on where it is taken.
    constant = () if lowering.saves else tuple(range(count - len(static)))
    return Lowering(fn, name=lowering.name.replace("Backward", "BackwardBackward"), constant=constant)


class _Lone:
    """As much of a node as `tape.linearize` reads."""

    def __init__(self, lowering: Lowering, wanted: tuple[int, ...], single: bool):
        self.lowering, self.wanted, self.single = lowering, wanted, single


def revive(segment: Segment, roots: Sequence[int]) -> list[Tensor]:
    """Record a flushed segment's forward anew, and return its outputs ``roots``."""
    if segment.leaves is None:
        raise RuntimeError(_FREED)
    program = segment.program
    ancestors = program.ancestors(set(roots))
    handles: dict[int, Tensor] = {slot: tensor_of(value) for slot, value in segment.leaves.items()}
    for slot, array in segment.anchors.items():
        handles[slot] = tensor_of(concrete(array, _aval_of(array)))
    before = state.mode
    numbers = _Numbers(*segment.numbers)
    try:
        for node in ancestors:
            if node.kind == VARIABLE:
                source = segment.sources.get(node.slot)
                old = handles[node.inputs[0]]._value
                handles[node.slot] = (tensor_of(trace.mark_variable(old, source)) if isinstance(source, Variable)
                                      else tensor_of(old))  # fmt: skip
            elif node.kind == OP:
                trace.set_mode(node.mode)
                assert node.rule is not None
                result = trace.record(node.rule, node.params, *_operands(node, handles, numbers))
                for slot, out in enumerate((result,) if node.single else result, node.slot):
                    handles[slot] = out
    finally:
        trace.set_mode(before)
    return [handles[s] for s in roots]


def _pull_inline(params: Any, arrays: Sequence[Any]) -> list[Tensor]:
    """Pull through a segment of somebody else's JAX trace: at once, since nothing of it can be used again."""
    program, _, _, ends = params
    avals = [program.spec(s).aval for s in ends]
    with narrowing():
        return [tensor_of(concrete(a, of)) for a, of in zip(pull_rule(*params).fn(*arrays), avals)]


class _Numbers:
    def __init__(self, floats: dict[int, float], ints: dict[int, int]):
        self.floats, self.ints = floats, ints


def _grow_backward(parent: Node, key: Any, targets: Any) -> Node:
    explicit, inner = targets
    path = parent.path()
    _, slots, cts, retain, _ = key
    wanted = None if explicit is None else set(explicit) | set(inner)
    traversed, ends = tape.reach(path, slots, wanted)
    if explicit is None and inner:
        makers = tape.producers(path)
        ends = [*ends, *(s for s in inner if makers[s].depth in traversed or s in slots)]
    if not traversed.isdisjoint(tape.freed(path)):
        raise RuntimeError(_FREED)
    tape.check(path, traversed)
    makers = tape.producers(path)
    kid = Node(parent, key, BACKWARD, parent.mode)
    kid.pull = tape.Pull(slots, cts, tuple(ends), traversed, not retain)
    kid.inputs = (*slots, *cts)
    kid.give(tuple(makers[s].specs[s - makers[s].slot].aval.plain for s in ends))
    kid.single = False
    kid.where = sites.user_line()
    return parent.kids.setdefault(key, kid)


def _aval_of(array: Any) -> Aval:
    device = _device.default() if isinstance(array, jax.core.Tracer) else _device.from_jax(next(iter(array.devices())))
    return aval(tuple(array.shape), _dtype.from_np(array.dtype), device)


def accumulate(handle: Tensor, gradient: Tensor, create_graph: bool) -> None:
    """Add ``gradient`` to ``handle.grad``; the handle that ``.grad`` holds stays the same unless ``create_graph``."""
    known = handle._grad
    if known is None:
        handle._grad = gradient
    elif create_graph:
        handle._grad = add(known, gradient)
    else:
        known._value = add(known, gradient)._value


def finish(sweep: Sweep) -> None:
    """Accumulate into the ``.grad`` of every variable reached."""
    for variable in sweep.order:
        handle = variable.handle()
        if handle is not None and handle._value.spec.wants:
            accumulate(handle, sweep.gradients[id(variable)], sweep.create_graph)
