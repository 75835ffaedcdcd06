"""How a backward gets past a cut: it calls hooks, or a custom Function, and goes on with what they return."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tracegrad._engine.segment import Segment
from tracegrad._engine.trace import Trace, state
from tracegrad._engine.value import Aval, Value, Variable
from tracegrad._grad_mode import enable_grad, no_grad
from tracegrad.autograd import _anomaly
from tracegrad.autograd._hooks import DONE, NODE, PREHOOKS, TENSOR_HOOKS, Cut, run_all
from tracegrad.autograd._leaves import Uses, arrive

if TYPE_CHECKING:
    from tracegrad._engine.trie import Node
    from tracegrad._tensor import Tensor

#: Operations to which PyTorch takes a Python number as a tensor, which then counts among the inputs.
_WRAPPING = {"AddBackward0", "SubBackward0", "MulBackward0", "DivBackward0"}
_COPYING = {"CopyBackwards"}  # to which gradients go whatever the dtype


def edges(node: Node) -> list[int]:
    """Return which operands PyTorch counts among the inputs of a step, in order: not numbers, indices and masks."""
    if node.known is None:
        node.known = {}
    found = node.known.get("edges")
    if found is None:
        lowering = node.lowering
        assert lowering is not None
        wraps = lowering.name in _WRAPPING
        found = [i for i, x in enumerate(node.operands()) if i not in lowering.constant and (
            wraps or isinstance(x, Aval) and (x.dtype.is_inexact or lowering.name in _COPYING))]  # fmt: skip
        if lowering.name == "CopySlices" and found == [0] and len(node.inputs) > 1:
            found = [0, len(node.inputs) - 1]  # a number that was written
        node.known["edges"] = found
    return found


class _Running(threading.local):
    """The backwards whose hooks run now, in each thread, the innermost last."""

    def __init__(self) -> None:
        self.sweeps: list[Cutting] = []


_running = _Running()


def running() -> Cutting | None:
    """Return the backward that called the user's code, which now runs; None outside of backwards."""
    return _running.sweeps[-1] if _running.sweeps else None


class Cutting:
    """The part of a backward that knows how far it has come at each cut."""

    retain: bool
    create_graph: bool
    targets: list[Tensor] | None
    gradients: dict[int, Tensor]
    order: dict[Variable, None]
    segments: dict[Segment, dict[int, Tensor]]

    def __init__(self) -> None:
        self.roots: Sequence[Tensor] = ()  # what is differentiated
        self.stages: dict[Cut, int] = {}
        self.delivered: set[Any] = set()  # cuts whose outputs' gradients were handed to who asked; ids of targets
        self.uses: Uses | None = None
        self.passed: list[Trace] = []  # the traces through which nothing further comes, until `uses` knows them
        self.anomaly = _anomaly.checks()

    def deliver(self, who: Any, gradient: Tensor) -> None:
        """Hand a gradient to a tensor inside the tape: one that is asked for, or retains it."""
        raise NotImplementedError

    def capture(self, who: Any, gradient: Tensor) -> None:
        """Hand a gradient to a tensor inside the tape that is asked for."""
        raise NotImplementedError

    @contextmanager
    def user_mode(self) -> Iterator[None]:
        """Return the context in which hooks and custom Functions run."""
        _running.sweeps.append(self)
        try:
            with enable_grad() if self.create_graph else no_grad():
                yield
        finally:
            _running.sweeps.pop()

    def next_cut(self, cuts: dict[int, Cut], top: int) -> int:
        """Return the slot at which the next cut at or below slot ``top`` stands, -1 where there is none."""
        if self.anomaly:
            return top
        if not cuts:
            return -1
        stages = self.stages
        return max((s for s, cut in cuts.items() if s <= top and cut.stage(stages.get(cut, 0)) < DONE), default=-1)

    def leaves_above(self, owner: Trace | Segment, floor: int) -> None:
        """Accumulate the gradients that are complete before the user's code at slot ``floor`` runs."""
        if self.targets is not None:
            return
        here = owner.trace if isinstance(owner, Segment) else owner
        if self.uses is None:
            this = [owner] if isinstance(owner, Segment) else []
            self.uses = Uses(state.trace, [*self.segments, *this])
            for trace in self.passed:
                self.uses.close(trace)
        for variable in [v for v in self.order if self.uses.complete(v, here, floor)]:
            self.arrive(variable)

    def through_with(self, trace: Trace) -> None:
        """Note that nothing further comes through ``trace``."""
        if self.uses is None:
            self.passed.append(trace)
        else:
            self.uses.close(trace)

    def arrive(self, variable: Variable) -> None:
        """Accumulate the gradient of a leaf."""
        del self.order[variable]
        gradient = self.gradients.pop(id(variable))
        if variable.hooks is None:
            arrive(variable, gradient, self.create_graph)
        else:
            with self.user_mode():
                arrive(variable, gradient, self.create_graph)

    def at_cut(self, owner: Trace | Segment, cut: Cut | None, node: Node, outs: Sequence[Tensor | None],
               who: dict[int, Any], leads: bool, pull: Callable[[Sequence[Tensor | None]], Sequence[Tensor | None]],
               history: Callable[[int, Value], Tensor]) -> Iterable[tuple[int, Tensor]]:  # fmt: skip
        """Go one stage further at a cut, with the gradients ``outs`` of its node's outputs.

        Args:
            owner: the trace that recorded the node, or the segment that it became.
            cut: the cut; None where the node is walked alone only.
            node: where it stands.
            outs: the gradient of each output.
            who: slot -> who asks for the gradient of this output.
            leads: whether the node is on a way to what is asked for.
            pull: pulls through the node alone: the gradients of its wanted operands.
            history: gives an output that was saved its place on the tape.

        Returns:
            Slots with gradients to go on with: the outputs' as long as the node was not pulled through, else the
            operands'.
        """
        if cut is None:
            cut = Cut()
        stage = min(cut.stage(self.stages.get(cut, TENSOR_HOOKS)), NODE)
        self.stages[cut] = stage + 1
        slots = range(node.slot, node.end)
        if stage == TENSOR_HOOKS:
            for slot, gradient in zip(slots, outs):
                asks = who.get(slot)
                # PyTorch captures before the hooks where the node is pulled through, else after them.
                if self.targets is not None and leads and asks is not None and gradient is not None:
                    self.capture(asks, gradient)
                    self.delivered.add(id(asks))
            with self.user_mode():
                outs = cut.hook_tensors(outs)
            return [(slot, g) for slot, g in zip(slots, outs) if g is not None]
        if cut not in self.delivered:
            self.delivered.add(cut)
            for slot, gradient in zip(slots, outs):
                if slot in who and gradient is not None:
                    self.deliver(who[slot], gradient)
        if not leads:
            return []
        if stage == PREHOOKS:
            with self.user_mode():
                outs = run_all(cut.pre, tuple(outs))
            return [(slot, g) for slot, g in zip(slots, outs) if g is not None]
        gradients: Sequence[Tensor | None]
        if cut.function is None:
            gradients = pull(outs)
        else:
            with self.user_mode():
                gradients = cut.function.pull(node, outs, history)
            if not self.retain:
                cut.function.free()
        if self.anomaly:
            _anomaly.check(node, edges(node), gradients, owner)
        if cut.post:
            inputs = edges(node)
            by_operand = dict(zip(node.wanted, gradients))
            with self.user_mode():
                hooked = run_all(cut.post, tuple(by_operand.get(i) for i in inputs), tuple(outs))
            by_operand = dict(zip(inputs, hooked))
            gradients = [by_operand.get(i) for i in node.wanted]
        return [(node.inputs[i], g) for i, g in zip(node.wanted, gradients) if g is not None]

