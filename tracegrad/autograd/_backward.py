"""Backward: one op on the current trace, chained with the pullbacks of the segments that were flushed before.

NOTE [Backward] A backward records at most one BACKWARD node, which pulls through the pending part of the tape, then
one pullback per segment that it reaches, the latest first. What is reached is worked out once and hangs on the trie.
Where it meets hooks or custom Functions, it goes from one of these cuts to the next: see `_cuts.py`. With
``create_graph`` every op's VJP is recorded as an op of its own, so it is differentiated like any other.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from tracegrad._engine import scope, tape, trace
from tracegrad._engine.flush import flush
from tracegrad._engine.segment import Segment, SegmentOutput, pull_rule
from tracegrad._engine.trace import Trace, state
from tracegrad._engine.trie import LEAF, OP, Node
from tracegrad._engine.value import Value, Variable, concrete
from tracegrad._grad_mode import no_grad
from tracegrad._handle import Handle, tensor_of
from tracegrad.autograd import _anomaly
from tracegrad.autograd._cuts import Cutting, edges
from tracegrad.autograd._hooks import DONE, Cut
from tracegrad.autograd._leaves import accumulate, add
from tracegrad.autograd._steps import (
    FREED,
    Numbers,
    aval_of,
    grow_alone,
    grow_backward,
    operands_of,
    output_of,
    pull_inline,
    revive,
    touched,
    vjp,
)

if TYPE_CHECKING:
    from tracegrad._tensor import Tensor


#: What `Sweep._inner_targets` says of a plain backward: the gradients of all leaves, of nothing inside the tape.
_PLAIN: tuple[Any, dict[int, Any]] = ((None, ()), {})


class Sweep(Cutting):
    """One backward in progress: the cotangents that wait, by where they wait."""

    def __init__(self, retain: bool, create_graph: bool, targets: list[Tensor] | None):
        super().__init__()
        self.retain = retain
        self.create_graph = create_graph
        self.gradients: dict[int, Tensor] = {}  # id(Variable or SegmentOutput) -> gradient
        self.keep: list[Any] = []  # whatever `gradients` has the id of
        self.segments: dict[Segment, dict[int, Tensor]] = {}
        self.heap: list[tuple[int, int, Segment]] = []
        self.around: dict[int, tuple[Value, Tensor]] = {}  # what waits in traces around this scope
        self.targets = targets
        self.order: dict[Variable, None] = {}  # the variables, in the order in which their gradients were complete
        self.revived: list[tuple[Tensor, SegmentOutput]] = []  # asked for, and recorded anew
        if targets is not None:
            self.wanted_sources = {id(t._value.source) for t in targets if t._value.source is not None}

    def add(self, source: Any, gradient: Tensor) -> None:
        """Send ``gradient`` on to a variable or to an earlier segment's output."""
        known: Any
        if isinstance(source, Variable):
            known = self.gradients.get(id(source))
            if known is None:
                self.keep.append(source)
            else:
                self.order.pop(source, None)
            self.order[source] = None
            self.gradients[id(source)] = gradient if known is None else add(known, gradient)
        elif isinstance(source, Value):
            waits = self.around.get(id(source))
            self.around[id(source)] = source, gradient if waits is None else add(waits[1], gradient)
        elif source is not None:
            waiting = self.segments.get(source.segment)
            if waiting is None:
                waiting = self.segments[source.segment] = {}
                heapq.heappush(self.heap, (-source.segment.order, id(source.segment), source.segment))
            known = waiting.get(source.slot)
            waiting[source.slot] = gradient if known is None else add(known, gradient)

    # -- the pending part of the tape --------------------------------------------------------------------------------

    def pending(self, here: list[tuple[Tensor, Tensor]]) -> list[tuple[Tensor, Tensor]]:
        """Pull through the current trace, from roots that are pending in it; return where to go on, if not through."""
        current = state.trace
        if any(root._value.trace is not current or root._value.array is not None for root, _ in here):
            return here  # it was flushed meanwhile
        slots = [root._value.slot for root, _ in here]
        if self.create_graph:
            self._expand(current, slots, [c for _, c in here])
            return []
        cut = self.next_cut(current.cuts, max(slots))
        if cut >= 0:
            return self._past_cut(current, here, cut)
        return here if self._pull(current, slots, [c for _, c in here]) is None else []

    def _pull(self, current: Trace, slots: Sequence[int], cotangents: Sequence[Tensor],
              floor: int = 0, alone: bool = False) -> Any:  # fmt: skip
        """Record a BACKWARD node; return the gradients that wait at slots below ``floor``, or None after a flush.

        With ``alone`` it is a pull through the one node that made ``slots``: return its wanted operands' gradients.
        """
        while True:
            cts = [trace.enter(current, c._value) if c._value.trace is not current else c._value.slot
                   for c in cotangents]  # fmt: skip
            if current.closed:
                return None
            targets, inner = _PLAIN
            if alone:
                targets = ()
            elif self.targets is not None or current.retained or self.revived:
                targets, inner = self._inner_targets(current)
            key: tuple[Any, ...] = ("backward", tuple(slots), tuple(cts), self.retain, targets)
            if floor:
                key = (*key, floor, alone)
            node = current.node
            kid = node.real.kids.get(key)
            if kid is None:
                with trace.collection_paused:
                    kid = (grow_alone if alone else grow_backward)(node.real, key, targets)
            tensors = trace.commit(current, node, kid, ())
            if tensors is None:
                continue
            current.has_backward = True
            if alone:
                return tensors
            assert kid.pull is not None
            values = current.values
            waiting: dict[int, Tensor] = {}
            for slot, gradient in zip(kid.pull.targets, tensors):
                source = _source(values[slot], current)
                if source is None and slot < floor:
                    waiting[slot] = gradient
                elif slot in inner:
                    self.deliver(inner[slot], gradient)
                else:
                    self.add(source, gradient)
            if current.immediate:
                flush(current, "eager()")
            return waiting

    def _past_cut(self, current: Trace, here: list[tuple[Tensor, Tensor]], slot: int) -> list[tuple[Tensor, Tensor]]:
        """Pull down to the cut at ``slot`` of the current trace, and call what is there; return where to go on."""
        node = tape.maker(current.node.real, slot)
        flowing: dict[int, Tensor] = {}
        for root, c in here:
            s = root._value.slot
            flowing[s] = add(flowing[s], c) if s in flowing else c
        above = {s: c for s, c in flowing.items() if s >= node.end}
        if above:
            waiting = self._pull(current, list(above), list(above.values()), node.end)
            if waiting is None:
                return here
            for s in above:
                del flowing[s]
            for s, c in waiting.items():
                flowing[s] = add(flowing[s], c) if s in flowing else c
        # Held, these places on the tape outlive whatever the user's code flushes.
        held = {s: tensor_of(current.values[s]) for s in (*flowing, *(node.inputs[i] for i in node.wanted))}
        outs = [flowing.pop(s, None) for s in range(node.slot, node.end)]
        left = [(held[s], c) for s, c in flowing.items()]
        if all(c is None for c in outs):
            return left
        who, leads = self._asked_here(current, node)

        def pull(gradients: Sequence[Tensor | None]) -> Any:
            given = {s: c for s, c in enumerate(gradients, node.slot) if c is not None}
            return self._pull(current, list(given), list(given.values()), node.end, alone=True)

        self.leaves_above(current, node.end)
        values = [current.values[s] for s in range(node.slot, node.end)]
        cut = current.cuts.get(node.slot)
        further = self.at_cut(current, cut, node, outs, who, leads, pull, lambda i, saved: tensor_of(values[i]))
        self._refresh()
        return left + [(held[s] if s in held else tensor_of(values[s - node.slot]), c) for s, c in further]

    def _asked_here(self, current: Trace, node: Node) -> tuple[dict[int, Any], bool]:
        """Return who asks for gradients of the outputs of ``node``, and whether it leads to what is asked for."""
        if self.targets is None and not current.retained and not self.revived:
            return {}, True
        (explicit, _), inner = self._inner_targets(current)
        if explicit is None:
            return inner, True
        leads = tape.ways(current.node.real.path(), {*explicit, *inner})
        return inner, any(node.inputs[i] in leads for i in node.wanted)

    def _refresh(self) -> None:
        """Find the targets again after the user's code, which may have flushed them."""
        if self.targets is not None:
            self.wanted_sources = {id(t._value.source) for t in self.targets if t._value.source is not None}

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
            source = _source(value, current)
            if source is None or slot >= current.node.real.end:
                continue
            if isinstance(source, (SegmentOutput, Value)) or id(source) in self.wanted_sources:
                explicit.add(slot)
        return (tuple(sorted(explicit)), tuple(inner)), inner

    def deliver(self, who: Any, gradient: Tensor) -> None:
        """Hand a gradient to a tensor inside the tape: a target, or a handle that retains its gradient."""
        if id(who) in self.delivered:
            return
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
        left = list(zip(roots, cotangents))
        while left:
            here: list[tuple[Tensor, Tensor]] = []
            for root, c in left:
                value = root._value
                if value.array is None and value.trace is not state.trace:
                    if value.source is None and scope.around(value):
                        self.add(value, c)
                        continue
                    trace.computed(value)
                if value.source is not None:
                    self.add(value.source, c)
                elif value.array is None:
                    here.append((root, c))
            left = self.pending(here) if here else []
        if self.uses is not None:
            self.uses.close(state.trace)

    def segments_left(self) -> None:
        """Pull through the traces around this scope, then through the flushed segments, the latest first."""
        while self.around or self.heap:
            if self.around:
                self._pull_around()
                continue
            _, _, segment = heapq.heappop(self.heap)
            waiting = self.segments.pop(segment)
            inline = segment.program.inline and scope.current() is not None
            if self.create_graph or inline:
                with nullcontext() if self.create_graph else no_grad():
                    self._expand_segment(segment, waiting)
            else:
                self._through(segment, waiting)
            if self.uses is not None:
                self.uses.close(segment.trace)

    def _through(self, segment: Segment, waiting: dict[int, Tensor]) -> None:
        """Pull through a segment from the slots ``waiting``, from cut to cut."""
        makers = segment.program.producers

        def flow(further: Iterable[tuple[int, Tensor]]) -> None:
            for slot, c in further:
                if makers[slot].kind == OP:
                    waiting[slot] = add(waiting[slot], c) if slot in waiting else c
                else:
                    self.add(segment.sources.get(slot), c)

        while waiting:
            slot = self.next_cut(segment.cuts, max(waiting))
            node = makers.get(slot)
            floor = 0 if node is None else node.end
            above = {s: waiting.pop(s) for s in list(waiting) if s >= floor}
            if above:
                flow(self._pull_segment(segment, above, floor))
            if node is None:
                return
            outs = [waiting.pop(s, None) for s in range(node.slot, node.end)]
            if all(c is None for c in outs):
                continue
            targets = self._segment_targets(segment)
            leads = True
            if self.targets is not None:
                assert targets is not None
                ways = tape.ways(segment.program.path, set(targets))
                leads = any(node.inputs[i] in ways for i in node.wanted)
            alone = frozenset((node.depth,))

            def pull(gradients: Sequence[Tensor | None], node: Node = node, alone: frozenset[int] = alone) -> Any:
                given = {s: c for s, c in enumerate(gradients, node.slot) if c is not None}
                return self._record_pull(segment, given, alone, None)

            def history(index: int, saved: Value, node: Node = node) -> Tensor:
                return output_of(segment, node.slot + index, saved)

            self.leaves_above(segment, node.end)
            cut, who = segment.cuts.get(node.slot), self._who(segment, targets)
            flow(self.at_cut(segment, cut, node, outs, who, leads, pull, history))
            self._refresh()

    def _who(self, segment: Segment, targets: frozenset[int] | None) -> dict[int, Any]:
        return {s: o for s, o in segment.outputs.items() if targets is not None and s in targets}

    def _pull_segment(self, segment: Segment, waiting: dict[int, Tensor],
                      floor: int = 0) -> Iterable[tuple[int, Tensor]]:  # fmt: skip
        """Record a segment's pullback; return slots below ``floor``, and leaves, with the gradients that came there."""
        targets = self._segment_targets(segment)
        roots = tuple(sorted(waiting))
        traversed, ends = segment.traversal(roots, targets, floor)
        for slot in roots:
            who = segment.outputs.get(slot)
            if who is not None and slot not in ends:
                self._deliver_output(who, waiting[slot])
        if not ends:
            self._check(segment, traversed)
            return
        for slot, gradient in zip(ends, self._record_pull(segment, waiting, traversed, ends)):
            who = segment.outputs.get(slot)
            if who is not None and slot >= floor:
                self._deliver_output(who, gradient)
            else:
                yield slot, gradient

    def _check(self, segment: Segment, traversed: frozenset[int]) -> None:
        if segment.touches_freed(traversed):
            raise RuntimeError(FREED)
        tape.check(segment.program.path, traversed)

    def _record_pull(self, segment: Segment, waiting: dict[int, Tensor], traversed: frozenset[int],
                     ends: tuple[int, ...] | None) -> Sequence[Tensor]:  # fmt: skip
        """Record the pullback of some nodes of a segment; without ``ends``, of one node to each wanted operand."""
        self._check(segment, traversed)
        roots = tuple(sorted(waiting))
        arrays = segment.residuals_of(traversed)
        params = (segment.program, roots, traversed, ends)
        cotangents = [waiting[s] for s in roots]
        results: Sequence[Tensor]
        if segment.program.inline:
            given = [a.array if isinstance(a, Value) else a for a in arrays]
            results = pull_inline(params, [*given, *(trace.force(c._value) for c in cotangents)])
            del given
        else:
            residuals = [tensor_of(a if isinstance(a, Value) else concrete(a, aval_of(a))) for a in arrays]
            state.trace.has_backward = True
            results = trace.record(pull_rule, params, *residuals, *cotangents)
            del residuals
        del arrays
        if not self.retain:
            segment.free(traversed)
        return results

    def _expand_segment(self, segment: Segment, waiting: dict[int, Tensor]) -> None:
        """Go through a segment by recorded, differentiable steps."""
        targets = self._segment_targets(segment)
        roots = tuple(sorted(waiting))
        traversed, ends = segment.traversal(roots, targets)
        self._check(segment, traversed)
        if self._expand_single(segment, roots, waiting):
            return
        inside = [s for s in segment.outputs if targets is not None and s in targets and s in (*ends, *roots)]
        with scope.outside_all():  # a variable made anew inside of a scope would be another one
            revived = revive(segment, (*roots, *inside))
        self.revived += [(t, segment.outputs[s]) for t, s in zip(revived[len(roots) :], inside)]
        self.start(revived[: len(roots)], [waiting[s] for s in roots])

    def _pull_around(self) -> None:
        """Record the VJPs of the steps of the innermost trace around this scope that something waits for."""
        waiting = list(self.around.values())
        moved = [(tensor_of(v), g) for v, g in waiting if not scope.around(v)]
        owner = next((t for t in scope.all_around() if any(v.trace is t for v, _ in waiting)), None)
        here = [(v, g) for v, g in waiting if v.trace is owner and v.array is None]
        for v, _ in here:
            del self.around[id(v)]
        for t, _ in moved:
            del self.around[id(t._value)]
        with nullcontext() if self.create_graph else no_grad():
            if moved:  # flushed meanwhile
                self.start(*map(list, zip(*moved)))
            if here:
                assert owner is not None
                self._expand(owner, [v.slot for v, _ in here], [g for _, g in here])

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
        if id(who) in self.delivered:
            return
        if self.targets is not None:
            if id(who) in self.wanted_sources:
                self.keep.append(who)
                self._note(id(who), gradient)
        elif who.retains is not None and (handle := who.retains()) is not None:
            accumulate(handle, gradient, self.create_graph)

    def _expand_single(self, segment: Segment, roots: Sequence[int], waiting: dict[int, Tensor]) -> bool:
        """Record the VJP of a segment that is one op on leaves, as ``eager()`` and JAX tracers make them."""
        if segment.leaves is None:
            raise RuntimeError(FREED)
        ancestors = segment.program.ancestors(set(roots))
        if sum(n.kind == OP for n in ancestors) != 1 or any(n.kind not in (LEAF, OP) for n in ancestors):
            return False
        node = ancestors[-1]
        handles = {slot: tensor_of(value) for slot, value in segment.leaves.items()}
        operands = operands_of(node, handles, Numbers(*segment.numbers))

        def history(index: int, saved: Value) -> Tensor:
            return output_of(segment, node.slot + index, saved)

        targets = self._segment_targets(segment)
        wanted = tuple(i for i in node.wanted if targets is None or node.inputs[i] in targets)
        who = self._who(segment, targets)
        self._expand_node(segment, segment.cuts.get(node.slot), node, waiting, operands, wanted, who,
                          bool(wanted), history, {})  # fmt: skip
        for slot in [s for s in roots if s in waiting and s in segment.outputs]:
            self._deliver_output(segment.outputs[slot], waiting.pop(slot))
        for slot, gradient in waiting.items():
            self.add(segment.sources.get(slot), gradient)
        return True

    # -- create_graph --------------------------------------------------------------------------------------------------

    def _expand(self, current: Trace, slots: Sequence[int], cotangents: Sequence[Tensor]) -> None:
        """Record each op's VJP as an op."""
        values = dict(current.values)
        targets, inner = self._inner_targets(current)
        wanted = None if targets[0] is None else set(targets[0]) | set(inner)
        traversed, leads, read = _expansion(current.node.real, tuple(slots), targets, wanted)
        handles = {slot: tensor_of(values[slot]) for slot in read}
        # The user's code at a cut may flush: what is needed further on is looked up before.
        sources = {slot: source for slot, v in values.items() if (source := _source(v, current)) is not None}
        numbers = Numbers(current.floats, current.ints)
        cuts = current.cuts
        flowing: dict[int, Tensor] = {}
        for slot, c in zip(slots, cotangents):
            flowing[slot] = add(flowing[slot], c) if slot in flowing else c
        state.trace.has_backward = True
        nodes = list(traversed.values())
        if cuts and inner:
            makers = [tape.maker(current.node.real, s) for s in inner]
            nodes += [n for n in makers if n.slot in cuts and n.depth not in traversed]
            nodes.sort(key=lambda n: -n.depth)
        for node in nodes:
            depth = node.depth
            if all(s not in flowing for s in range(node.slot, node.end)):
                continue
            operands = operands_of(node, handles, numbers) if depth in traversed else []
            wanted_inputs = tuple(i for i in node.wanted if leads is None or node.inputs[i] in leads)

            def history(index: int, saved: Value, node: Node = node) -> Tensor:
                return tensor_of(values[node.slot + index])

            self._expand_node(current, cuts.get(node.slot), node, flowing, operands, wanted_inputs, inner,
                              depth in traversed, history, sources if wanted is None else {})  # fmt: skip
        for slot, gradient in flowing.items():
            if slot in inner:
                self.deliver(inner[slot], gradient)
            source = sources.get(slot)
            if source is not None and (wanted is None or slot in wanted):
                self.add(source, gradient)

    def _expand_node(self, owner: Trace | Segment, cut: Cut | None, node: Node, flowing: dict[int, Tensor],
                     operands: Sequence[Any], wanted: tuple[int, ...], who: dict[int, Any], leads: bool,
                     history: Callable[[int, Value], Tensor], sources: dict[int, Any]) -> None:  # fmt: skip
        """Record the VJP of a node as an op, from ``flowing`` into it, past the cut that stands there."""

        def pull(gradients: Sequence[Tensor | None]) -> list[Tensor | None]:
            if all(c is None for c in gradients):
                return []
            found = dict(zip(wanted, vjp(node, wanted, operands, gradients)))
            return [found.get(i) for i in node.wanted]

        slots = range(node.slot, node.end)
        if cut is not None and cut.stage(self.stages.get(cut, 0)) < DONE:
            for slot in [s for s in flowing if s in sources]:
                self.add(sources[slot], flowing.pop(slot))
            self.leaves_above(owner, node.end)
        while cut is not None and cut.stage(self.stages.get(cut, 0)) < DONE:
            outs = [flowing.pop(s, None) for s in slots]
            if all(c is None for c in outs):
                return
            for slot, c in self.at_cut(owner, cut, node, outs, who, leads, pull, history):
                flowing[slot] = add(flowing[slot], c) if slot in flowing else c
            self._refresh()
        if leads and any(s in flowing for s in slots):
            gradients = pull([flowing.get(s) for s in slots])
            if self.anomaly:
                _anomaly.check(node, edges(node), gradients, owner)
            for i, gradient in zip(node.wanted, gradients):
                slot = node.inputs[i]
                if gradient is not None:
                    flowing[slot] = add(flowing[slot], gradient) if slot in flowing else gradient


def _expansion(last: Node, slots: tuple[int, ...], targets: Any,
               wanted: set[int] | None) -> tuple[dict[int, Node], set[int] | None, tuple[int, ...]]:  # fmt: skip
    """Return the nodes that a backward with ``create_graph`` goes through, the last first, by depth.

    With them come the slots that lead to what is asked for, None for all, and those that the nodes read.
    """
    if last.known is None:
        last.known = {}
    key = ("expansion", slots, targets)
    found = last.known.get(key)
    if found is None:
        path = last.path()
        traversed, _ = tape.reach(path, slots, wanted)
        tape.check(path, traversed)
        if not traversed.isdisjoint(tape.freed(path)):
            raise RuntimeError(FREED)
        leads = None if wanted is None else tape.ways(path, wanted)
        nodes = {d: path[d] for d in sorted(traversed, reverse=True)}
        found = last.known[key] = nodes, leads, tuple({s: None for n in nodes.values() for s in touched(n)})
    return found


def _source(value: Value, owner: Trace) -> Any:
    """Return where gradients of a leaf of ``owner`` go: the value itself, where it is pending around that scope."""
    if value.source is None and value.array is None and value.trace is not owner:
        return value if value.spec.wants else None
    return value.source


def finish(sweep: Sweep) -> None:
    """Accumulate into the ``.grad`` of every variable reached."""
    for variable in list(sweep.order):
        sweep.arrive(variable)
