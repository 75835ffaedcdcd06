"""Backward: one op on the current trace, chained with the pullbacks of the segments that were flushed before.

NOTE [Backward] A backward records at most one BACKWARD node, which pulls through the pending part of the tape, then
one pullback per segment that it reaches, the latest first. What is reached is worked out once and hangs on the trie.
Where it meets hooks or custom Functions, it goes from one of these cuts to the next: see `_cuts.py`. With
``create_graph`` every op's VJP is recorded as an op of its own, so it is differentiated like any other.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from tracegrad._engine import scope, tape, trace
from tracegrad._engine.flush import flush
from tracegrad._engine.segment import Segment, SegmentOutput, pull_rule
from tracegrad._engine.trace import Trace, state
from tracegrad._engine.trie import OP, Node
from tracegrad._engine.value import Value, Variable, concrete
from tracegrad._grad_mode import no_grad
from tracegrad._handle import Handle, tensor_of
from tracegrad.autograd import _anomaly, _replay
from tracegrad.autograd._cuts import Cutting, edges
from tracegrad.autograd._hooks import DONE
from tracegrad.autograd._leaves import accumulate, add
from tracegrad.autograd._steps import (
    FREED,
    Numbers,
    Stretch,
    aval_of,
    grow_alone,
    grow_backward,
    operands_of,
    output_of,
    pull_inline,
    revive,
    stops,
    touched,
    vjp,
)
from tracegrad.autograd._straight import ALL_LEAVES

if TYPE_CHECKING:
    from tracegrad._tensor import Tensor


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
            targets: Any = ALL_LEAVES
            inner: dict[int, Any] = {}
            if alone:
                targets = ()
            elif self.targets is not None or current.retained:
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
        if self.targets is None and not current.retained:
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
        if self.targets is None:
            return (None, tuple(inner)), inner
        explicit = set()
        for t in self.targets:
            value = t._value
            if value.trace is current and value.array is None and value.source is None:
                inner[value.slot] = t
                explicit.add(value.slot)
        for slot in _sourced(current):
            source = _source(current.values[slot], current)
            if isinstance(source, (SegmentOutput, Value)) or id(source) in self.wanted_sources:
                explicit.add(slot)
        if current.retained:  # those that do not lead to a target are not come to
            asked = {slot for slot, who in inner.items() if isinstance(who, Handle)}
            ways = tape.ways(current.node.real.path(), explicit | asked)
            inner = {slot: who for slot, who in inner.items() if slot in ways}
        return (tuple(sorted(explicit)), tuple(inner)), inner

    def deliver(self, who: Any, gradient: Tensor) -> None:
        """Hand a gradient to a tensor inside the tape: a target, or a handle that retains its gradient."""
        if id(who) not in self.delivered:
            self.capture(who, gradient)
        ref = who.retains if isinstance(who, SegmentOutput) else who
        handle: Any = ref if ref is None or isinstance(ref, Handle) else ref()
        if handle is not None and handle._retains is not None:  # each time another tensor, unlike a leaf's
            with nullcontext() if self.create_graph else no_grad():
                accumulate(handle, gradient, True)

    def capture(self, who: Any, gradient: Tensor) -> None:
        """Note the gradient of a target inside the tape."""
        if isinstance(who, Handle):
            self._note(id(who), gradient)
        elif isinstance(who, SegmentOutput) and self.targets is not None and id(who) in self.wanted_sources:
            self.keep.append(who)
            self._note(id(who), gradient)

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
        self.through_with(state.trace)

    def segments_left(self) -> None:
        """Pull through the traces around this scope, then through the flushed segments, the latest first."""
        while self.around or self.heap:
            if self.around:
                self._pull_around()
                continue
            _, _, segment = heapq.heappop(self.heap)
            waiting = self.segments.pop(segment)
            inline = segment.program.inline and scope.current() is not None
            whole = self.create_graph or not segment.program.regions or segment.is_whole(
                tuple(sorted(waiting)), self._segment_targets(segment))  # fmt: skip
            if self.create_graph or inline or not whole:
                with nullcontext() if self.create_graph else no_grad():
                    self._expand_segment(segment, waiting, not (whole or self.retain))
            else:
                self._through(segment, waiting)
            self.through_with(segment.trace)

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
            if who is not None and slot not in ends and targets is not None and slot in targets:
                self.deliver(who, waiting[slot])
        if not ends:
            self._check(segment, traversed)
            return
        for slot, gradient in zip(ends, self._record_pull(segment, waiting, traversed, ends)):
            who = segment.outputs.get(slot)
            if who is not None and slot >= floor:
                self.deliver(who, gradient)
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
            given = [trace.computed(a) if isinstance(a, Value) else a for a in arrays]
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

    def _expand_segment(self, segment: Segment, waiting: dict[int, Tensor], frees: bool) -> None:
        """Go through a segment by recorded, differentiable steps."""
        program = segment.program
        targets = self._segment_targets(segment)
        traversed, _ = segment.traversal(tuple(sorted(waiting)), targets)
        self._check(segment, traversed)
        nodes = [program.path[depth] for depth in sorted(traversed, reverse=True)]
        with scope.outside_all():  # a variable made anew inside of a scope would be another one
            handles = revive(segment, {slot for node in nodes for slot in touched(node)})
        who = self._who(segment, targets)
        wanted = None if self.targets is None else targets
        self._walk(waiting, Stretch(
            segment, stops(nodes, [program.producers[slot] for slot in who], segment.cuts), traversed, handles,
            Numbers(*segment.numbers), segment.cuts, None if targets is None else tape.ways(program.path, set(targets)),
            who, segment.sources, wanted, lambda slot, saved: output_of(segment, slot, saved)))  # fmt: skip
        self._send(waiting, who, segment.sources, wanted)
        if frees:
            segment.free(traversed)

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
        wanted = {slot for slot, o in segment.outputs.items() if id(o) in self.wanted_sources}
        for slot, source in segment.sources.items():
            if isinstance(source, SegmentOutput) or id(source) in self.wanted_sources:
                wanted.add(slot)
        if retained:
            wanted |= retained & tape.ways(segment.program.path, wanted)
        return frozenset(wanted)

    # -- create_graph --------------------------------------------------------------------------------------------------

    def _expand(self, current: Trace, slots: Sequence[int], cotangents: Sequence[Tensor]) -> None:
        """Record each op's VJP as an op."""
        targets, inner = self._inner_targets(current)
        wanted = None if targets[0] is None else set(targets[0]) | set(inner)
        first, key = current.node.real, _replay.key_of(current, slots, cotangents, targets)
        flowing = None if key is None else _replay.repeat(current, key)
        if flowing is not None:
            state.trace.has_backward = True
            self._send(flowing, inner, {s: _source(current.values[s], current) for s in flowing}, wanted)
            return
        values = dict(current.values)
        traversed, leads, read = _expansion(current.node.real, tuple(slots), targets, wanted)
        handles = {slot: tensor_of(values[slot]) for slot in read}
        # The user's code at a cut may flush: what is needed further on is looked up before.
        sources = {slot: source for slot, v in values.items() if (source := _source(v, current)) is not None}
        makers = [tape.maker(current.node.real, s) for s in inner] if current.cuts else []
        stretch = Stretch(
            current, stops([*traversed.values()], makers, current.cuts), traversed, handles,
            Numbers(current.floats, current.ints), current.cuts, leads, inner, sources, wanted,
            lambda slot, saved: tensor_of(values[slot]))  # fmt: skip
        flowing = {}
        for slot, c in zip(slots, cotangents):
            flowing[slot] = add(flowing[slot], c) if slot in flowing else c
        self._walk(flowing, stretch)
        if key is not None:
            _replay.remember(first, key, current, {s: c for s, c in flowing.items() if s in inner or s in sources})
        self._send(flowing, inner, sources, wanted)

    def _walk(self, flowing: dict[int, Tensor], stretch: Stretch) -> None:
        """Record the VJPs of a stretch of the tape as ops, from the gradients ``flowing``, to which it adds."""
        state.trace.has_backward = True
        for node in stretch.nodes:
            if any(s in flowing for s in range(node.slot, node.end)):
                self._expand_node(node, flowing, stretch)

    def _send(self, flowing: dict[int, Tensor], who: dict[int, Any], sources: dict[int, Any],
              wanted: Collection[int] | None) -> None:  # fmt: skip
        """Send on the gradients that arrived at slots."""
        for slot, gradient in flowing.items():
            if slot in who:
                self.deliver(who[slot], gradient)
            source = sources.get(slot)
            if source is not None and (wanted is None or slot in wanted):
                self.add(source, gradient)

    def _expand_node(self, node: Node, flowing: dict[int, Tensor], stretch: Stretch) -> None:
        """Record the VJP of a node as an op, from ``flowing`` into it, past the cut that stands there."""
        leads, cut, owner = node.depth in stretch.traversed, stretch.cuts.get(node.slot), stretch.owner
        operands = operands_of(node, stretch.handles, stretch.numbers) if leads else []
        wanted = tuple(i for i in node.wanted if stretch.leads is None or node.inputs[i] in stretch.leads)

        def pull(gradients: Sequence[Tensor | None]) -> list[Tensor | None]:
            if all(c is None for c in gradients):
                return []
            found = vjp(node, wanted, operands, gradients)
            return [found.get(i) for i in node.wanted]

        slots = range(node.slot, node.end)
        if cut is not None and cut.stage(self.stages.get(cut, 0)) < DONE:
            for slot in [s for s in flowing if s in stretch.sources] if stretch.wanted is None else ():
                self.add(stretch.sources[slot], flowing.pop(slot))
            self.leaves_above(owner, node.end)
        while cut is not None and cut.stage(self.stages.get(cut, 0)) < DONE:
            outs = [flowing.pop(s, None) for s in slots]
            if all(c is None for c in outs):
                return
            for slot, c in self.at_cut(owner, cut, node, outs, stretch.who, leads, pull,
                                       lambda index, saved: stretch.history(node.slot + index, saved)):  # fmt: skip
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


def _sourced(current: Trace) -> list[int]:
    """Return the slots of a trace whose gradients go further back. They follow from its history."""
    node = current.node.real
    if node.known is None:
        node.known = {}
    found = node.known.get("sourced")
    if found is None:
        found = node.known["sourced"] = [
            s for s, v in current.values.items() if s < node.end and _source(v, current) is not None]
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
