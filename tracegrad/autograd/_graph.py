"""``grad_fn``: PyTorch's view of the tape, made on demand from the trie and from segments.

A `Node` keeps a value that its step made, and so the tape: while somebody holds it, a flush makes a segment of what it
stands on. As long as it lives it is the one object for its step, before and after a flush.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from tracegrad._engine import tape
from tracegrad._engine.segment import Segment, SegmentOutput
from tracegrad._engine.trace import computed
from tracegrad._engine.trie import BACKWARD, LEAF, VARIABLE
from tracegrad._engine.trie import Node as TrieNode
from tracegrad._engine.value import Value, Variable, concrete
from tracegrad._handle import tensor_of
from tracegrad.autograd._context import FunctionCtx
from tracegrad.autograd._cuts import edges
from tracegrad.autograd._hooks import NOTHING, Cut, RemovableHandle, cut_of, leaf_hooks, node_of, put

if TYPE_CHECKING:
    from tracegrad._tensor import Tensor

_nodes: weakref.WeakValueDictionary[Any, Any] = weakref.WeakValueDictionary()


class Node:
    """One step of the backward graph.

    See https://docs.pytorch.org/docs/stable/autograd.html#torch.autograd.graph.Node
    """

    def name(self) -> str:
        """Return PyTorch's name of this step, such as ``MulBackward0``."""
        name = type(self).__name__
        return f"torch::autograd::{name}" if name in ("CopyBackwards", "CopySlices") else name

    @property
    def next_functions(self) -> tuple[tuple[Any, int], ...]:
        """The steps that this one sends gradients to, each with the output's index; (None, 0) for constants."""
        raise NotImplementedError

    @property
    def metadata(self) -> dict[Any, Any]:
        """A dictionary for the user."""
        raise NotImplementedError

    def register_hook(self, fn: Callable[..., Any]) -> RemovableHandle:
        """Call ``fn(grad_inputs, grad_outputs)`` when this step was pulled through.

        Both are tuples, with None where there is no gradient; it may return a tuple to use as ``grad_inputs`` instead.
        """
        raise NotImplementedError

    def register_prehook(self, fn: Callable[..., Any]) -> RemovableHandle:
        """Call ``fn(grad_outputs)`` before this step is pulled through; it may return a tuple to use instead."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"<{type(self).__name__} object at {id(self):#x}>"


Node.__module__ = "tracegrad.autograd.graph"


class Step(Node):
    """A recorded op."""

    _value: Value  # the output that this was asked for; holding it holds the tape

    @property
    def _step(self) -> TrieNode:
        return node_of(self._value)[1]

    @property
    def _cut(self) -> Cut:
        return cut_of(self._value)[0]

    @property
    def next_functions(self) -> tuple[tuple[Any, int], ...]:
        """The steps that this one sends gradients to, each with the output's index; (None, 0) for constants."""
        owner, step, _ = node_of(self._value)
        return tuple(_next(owner, step.inputs[i]) for i in edges(step))

    @property
    def metadata(self) -> dict[Any, Any]:
        """A dictionary for the user."""
        return self._cut.metadata

    @property
    def requires_grad(self) -> bool:
        """Whether gradients go through this step."""
        return True

    def _sequence_nr(self) -> int:
        return self._step.depth

    def register_hook(self, fn: Callable[..., Any]) -> RemovableHandle:
        """Call ``fn(grad_inputs, grad_outputs)`` when this step was pulled through.

        Both are tuples, with None where there is no gradient; it may return a tuple to use as ``grad_inputs`` instead.
        """
        return put(self._cut.post, fn)

    def register_prehook(self, fn: Callable[..., Any]) -> RemovableHandle:
        """Call ``fn(grad_outputs)`` before this step is pulled through; it may return a tuple to use instead."""
        return put(self._cut.pre, fn)


class FunctionStep(Step):
    """A call of a custom Function, with the attributes of its context."""

    _context: Any

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("_value", "_context"):
            object.__setattr__(self, name, value)
        else:
            setattr(self._context, name, value)

    @property
    def saved_tensors(self) -> tuple[Tensor | None, ...]:
        """What was given to ``save_for_backward``."""
        context = self._context
        owner, step, _ = node_of(self._value)
        before = context._history
        context._history = lambda index, saved: tensor_of(_output(owner, step.slot + index, saved))
        try:
            return context.saved_tensors  # type: ignore[no-any-return]
        finally:
            context._history = before

    def __repr__(self) -> str:
        return f"<torch.autograd.function.{self.name()} object at {id(self):#x}>"


def _output(owner: Any, slot: int, saved: Value) -> Value:
    if isinstance(owner, Segment):
        return concrete(computed(saved), saved.spec.aval, owner.output(slot))
    return owner.values[slot]  # type: ignore[no-any-return]


class AccumulateGrad(Node):
    """The end of the backward graph: gradients of a leaf arrive here."""

    _variable: Variable

    def name(self) -> str:
        """Return PyTorch's name of this step."""
        return "torch::autograd::AccumulateGrad"

    @property
    def variable(self) -> Tensor | None:
        """The leaf tensor."""
        return self._variable.handle()  # type: ignore[no-any-return]

    @property
    def next_functions(self) -> tuple[()]:
        """Nothing follows."""
        return ()

    @property
    def metadata(self) -> dict[Any, Any]:
        """A dictionary for the user."""
        return leaf_hooks(self._variable).metadata

    def register_hook(self, fn: Callable[..., Any]) -> RemovableHandle:
        """Call ``fn((), grad_outputs)`` when the leaf's gradient was accumulated."""
        return put(leaf_hooks(self._variable).post, fn)

    def register_prehook(self, fn: Callable[..., Any]) -> RemovableHandle:
        """Call ``fn(grad_outputs)`` before the leaf's gradient is accumulated; it may return a tuple to use instead."""
        return put(leaf_hooks(self._variable).pre, fn)

    def __repr__(self) -> str:
        return f"<AccumulateGrad object at {id(self):#x}>"


AccumulateGrad.__module__ = "tracegrad.autograd"


@cache
def _class(name: str, base: type[Step]) -> type[Step]:
    return type(name, (base,), {"__module__": "tracegrad.autograd"})


def _next(owner: Any, slot: Any) -> tuple[Any, int]:
    if type(slot) is not int:
        return (None, 0)
    if isinstance(owner, Segment):
        step = owner.program.producers[slot]
        source: Any = owner.sources.get(slot)
        value = None
    else:
        step = tape.maker(owner.final or owner.node.real, slot)
        value = owner.values.get(slot)
        source = None if value is None else value.source
    if step.lowering is not None and step.lowering.stands_in:
        return _next(owner, step.inputs[0])
    index = slot - step.slot
    if not step.specs[index].wants or step.kind == BACKWARD:
        return (None, 0)
    if step.kind in (LEAF, VARIABLE):
        if source is not None:
            return (of_source(source), index if isinstance(source, Variable) else _index(source))
        return (None, 0) if value is None or value.trace is owner else (grad_fn(value), node_of(value)[2])
    if isinstance(owner, Segment):
        return (of_source(owner.output(slot)), index)
    assert value is not None
    return (grad_fn(value), index)


def _index(source: SegmentOutput) -> int:
    return source.slot - source.segment.program.producers[source.slot].slot


def of_source(source: Variable | SegmentOutput) -> Any:
    """Return the graph node to which gradients of a leaf, or of a flushed value, go."""
    if isinstance(source, SegmentOutput):
        # No array: the value stands for its place on the tape.
        aval = source.segment.program.spec(source.slot).aval
        return grad_fn(concrete(NOTHING, aval, source))
    made = _nodes.get(id(source))
    if made is None:
        made = AccumulateGrad()
        made._variable = source
        made = _nodes.setdefault(id(source), made)
    return made


class GradientEdge(NamedTuple):
    """Where a gradient goes: an input of a step of the backward graph; stands for its tensor in ``autograd.grad``."""

    node: Node
    output_nr: int
    ownership_token: Node | None = None

    def tensor(self) -> Tensor:
        """Return a tensor whose gradients go there."""
        node = self.node
        if isinstance(node, AccumulateGrad):
            leaf = node.variable
            if leaf is None:
                raise RuntimeError("One of the differentiated Tensors does not require grad")
            return leaf
        assert isinstance(node, Step)
        owner, step, index = node_of(node._value)
        if index == self.output_nr:
            return tensor_of(node._value)
        slot = step.slot + self.output_nr
        if isinstance(owner, Segment):
            return tensor_of(concrete(NOTHING, step.specs[self.output_nr].aval, owner.output(slot)))
        return tensor_of(owner.values[slot])


GradientEdge.__module__ = "tracegrad.autograd.graph"


def edge_of(tensor: Tensor | GradientEdge) -> GradientEdge:
    """Return where gradients of ``tensor`` go."""
    if isinstance(tensor, GradientEdge):
        return tensor
    value = tensor._value
    if not value.spec.wants:
        raise RuntimeError("It is not possible to get the gradient edge for a Tensor that does not require gradients")
    if isinstance(value.source, Variable):
        return GradientEdge(of_source(value.source), 0)
    return GradientEdge(grad_fn(value), node_of(value)[2])


def executed(roots: Sequence[Tensor], targets: Sequence[Tensor] | None) -> set[Node]:
    """Return the steps that a backward from ``roots`` comes through, on a way to ``targets`` where these are given."""
    order: list[Node] = []
    seen: set[Node] = set()
    stack: list[tuple[Node, bool]] = [(edge_of(root).node, False) for root in roots]
    while stack:
        node, done = stack.pop()
        if done:
            order.append(node)
        elif node not in seen:
            seen.add(node)
            stack.append((node, True))
            stack += [(n, False) for n, _ in node.next_functions if n is not None and n not in seen]
    if targets is None:
        return seen
    ends = {edge_of(t).node for t in targets}
    leading: set[Node] = set()
    for node in order:  # from the leaves up
        if node in ends or any(n in leading for n, _ in node.next_functions):
            leading.add(node)
    return leading


def grad_fn(value: Value) -> Any:
    """Return the graph node that made ``value``, None for a leaf."""
    if not value.spec.wants or isinstance(value.source, Variable):
        return None
    owner, step, _ = node_of(value)
    # A trace and the segment that it became go by the trace, which lives as long as the node does.
    key = (id(owner.trace if isinstance(owner, Segment) else owner), step.slot)
    made = _nodes.get(key)
    if made is None:
        cut = owner.cuts.get(step.slot)
        function = None if cut is None or not isinstance(cut.function, FunctionCtx) else cut.function
        if function is None:
            made = object.__new__(_class(step.name or "Backward0", Step))
        else:
            made = object.__new__(_class(type(function).__name__, FunctionStep))
            made.__dict__["_context"] = function
        made._value = value
        made = _nodes.setdefault(key, made)
    return made
