"""``grad_fn``: PyTorch's view of the tape, made on demand from the trie and from segments."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from tracegrad._engine import tape
from tracegrad._engine.segment import Segment, SegmentOutput
from tracegrad._engine.trace import Trace
from tracegrad._engine.trie import BACKWARD, LEAF, VARIABLE
from tracegrad._engine.trie import Node as TrieNode
from tracegrad._engine.value import Value, Variable

if TYPE_CHECKING:
    from tracegrad._tensor import Tensor


class Node:
    """One step of the backward graph. Two are equal where they stand for the same step."""

    __slots__ = ("_owner", "_path", "_step", "_makers")

    def __init__(self, owner: Trace | Segment, path: list[TrieNode], step: TrieNode):
        self._owner = owner
        self._path = path
        self._step = step
        self._makers: dict[int, TrieNode] | None = None

    def name(self) -> str:
        """Return PyTorch's name of this step, such as ``MulBackward0``."""
        return type(self).__name__

    @property
    def next_functions(self) -> tuple[tuple[Any, int], ...]:
        """The steps that this one sends gradients to, each with the output's index; (None, 0) for constants."""
        return tuple(self._next(x) for i, x in enumerate(self._step.inputs) if type(x) is int)

    def _next(self, slot: int) -> tuple[Any, int]:
        if self._makers is None:
            self._makers = tape.producers(self._path)
        step = self._makers[slot]
        index = slot - step.slot
        if not step.specs[index].wants or step.kind == BACKWARD:
            return (None, 0)
        if step.kind in (LEAF, VARIABLE):
            source = self._source(slot)
            return (None, 0) if source is None else (of_source(source), 0)
        return (make(self._owner, self._path, step), index)

    def _source(self, slot: int) -> Any:
        if isinstance(self._owner, Segment):
            return self._owner.sources.get(slot)
        value = self._owner.values.get(slot)
        return value.source if value is not None else None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Node) and self._owner is other._owner and self._step is other._step

    def __hash__(self) -> int:
        return hash((id(self._owner), id(self._step)))

    def __repr__(self) -> str:
        return f"<{self.name()} object at {id(self):#x}>"


class AccumulateGrad:
    """The end of the backward graph: gradients of a leaf arrive here."""

    __slots__ = ("_variable",)

    def __init__(self, variable: Variable):
        self._variable = variable

    def name(self) -> str:
        """Return PyTorch's name of this step."""
        return "torch::autograd::AccumulateGrad"

    @property
    def variable(self) -> Tensor | None:
        """The leaf tensor."""
        return self._variable.handle()

    @property
    def next_functions(self) -> tuple[()]:
        """Nothing follows."""
        return ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AccumulateGrad) and self._variable is other._variable

    def __hash__(self) -> int:
        return id(self._variable)

    def __repr__(self) -> str:
        return f"<AccumulateGrad object at {id(self):#x}>"


@cache
def _class(name: str) -> type[Node]:
    return type(name, (Node,), {"__slots__": (), "__module__": "tracegrad.autograd"})


def make(owner: Trace | Segment, path: list[TrieNode], step: TrieNode) -> Node:
    """Return the graph node of a recorded step."""
    return _class(step.name or "Backward0")(owner, path, step)


def of_source(source: Variable | SegmentOutput) -> Any:
    """Return the graph node to which gradients of a leaf, or of a flushed value, go."""
    if isinstance(source, Variable):
        return AccumulateGrad(source)
    program = source.segment.program
    return make(source.segment, program.path, program.producers[source.slot])


def grad_fn(value: Value) -> Any:
    """Return the graph node that made ``value``, None for a leaf."""
    if not value.spec.wants or isinstance(value.source, Variable):
        return None
    if value.source is not None:
        return of_source(value.source)
    trace = value.trace
    assert trace is not None
    path = (trace.final or trace.node.real).path()
    return make(trace, path, tape.producers(path)[value.slot])
