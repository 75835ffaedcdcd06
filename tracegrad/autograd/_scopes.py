"""The end of a scope, and its backward where hooks or custom Functions stand on its tape.

Else a scope is differentiated by JAX like any other op. JAX knows nothing of the user's code; so where there is some,
a cut stands at the scope's op. A backward that comes there enters the scope again, pulls through its tape like through
any other, calling the user's code on its way, and records what that gave as one more op.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp

from tracegrad._engine import trace
from tracegrad._engine.op import Lowering
from tracegrad._engine.scope import Again, Checkpointed, Mapped, Scope, Wrap
from tracegrad._engine.value import Aval, Value
from tracegrad._handle import tensor_of
from tracegrad.autograd._api import grad
from tracegrad.autograd._hooks import Cut, attach
from tracegrad.autograd._steps import FREED

if TYPE_CHECKING:
    from tracegrad._engine.trie import Node
    from tracegrad._tensor import Tensor


def finish(scope: Scope, slots: tuple[int, ...], wrap: Callable[[tuple[int | None, ...]], Wrap]) -> tuple[Tensor, ...]:
    """Record the path of ``scope`` that leads to ``slots`` as one op of the enclosing trace; return its outputs.

    ``wrap`` says, of the axes of the leaves, what is made of the path.
    """
    results = scope.record(slots, wrap)
    wanting = [r for r in results if r._value.spec.wants]
    if wanting and scope.cuts and scope.has_cuts(slots):
        cut = Cut()
        cut.function = _Again(scope, slots, wrap)
        attach(wanting[0]._value, cut)
        scope.kept = True
    return results


class _Again:
    """Stands for the backward of a scope at its cut, as the context of a custom Function does."""

    def __init__(self, scope: Scope, slots: tuple[int, ...], wrap: Callable[[tuple[int | None, ...]], Wrap]):
        self.scope: Scope | None = scope
        self.end = scope.node
        self.slots = slots
        self.leaves = scope.leaves(slots)
        self.wrap = wrap(tuple(scope.operands[leaf][1] for leaf in self.leaves))

    def free(self) -> None:
        """Let go of the scope, after a backward without ``retain_graph``."""
        if self.scope is not None:
            self.scope.release()
        self.scope = None

    def pull(self, node: Node, outs: Sequence[Tensor | None], history: Any) -> list[Tensor | None]:
        """Return the gradient of each wanted operand, of the gradients of the outputs."""
        scope, wrap = self.scope, self.wrap
        if scope is None:
            raise RuntimeError(FREED)
        size, axes = (wrap.size, wrap.outs) if isinstance(wrap, Mapped) else (None, (None,) * len(outs))
        scope.node, scope.closed = self.end, False
        with scope:
            handles = {slot: _local(scope, slot) for slot in (*self.leaves, *self.slots)}
            inputs = [handles[self.leaves[i]] for i in node.wanted]
            pairs = [(handles[s], c if d is None else scope.input(c, d))
                     for s, c, d in zip(self.slots, outs, axes) if c is not None]  # fmt: skip
            found = grad([o for o, _ in pairs], inputs, [c for _, c in pairs], retain_graph=True,
                         create_graph=trace.state.mode.grad, allow_unused=True)  # fmt: skip
            slots = tuple(scope.slot_of(g) for g in found if g is not None)
            places = [scope.operands[self.leaves[i]][1] for i, g in zip(node.wanted, found) if g is not None]
            if size is None:
                results = finish(scope, slots, lambda axes: Again() if isinstance(wrap, Checkpointed) else wrap)
            else:
                lanes = finish(scope, slots, lambda axes: Mapped(size, axes, tuple(d or 0 for d in places)))
                with scope.outside():
                    results = tuple(g if d is not None else trace.record(_sum_lanes, (), g)
                                    for g, d in zip(lanes, places))  # fmt: skip
        left = iter(results)
        return [None if g is None else next(left) for g in found]


def _local(scope: Scope, slot: int) -> Tensor:
    """Return a tensor of the value under ``slot``, behind which nothing of the tape is seen."""
    value = Value()
    value.trace, value.slot, value.spec = scope, slot, scope.values[slot].spec
    value.array = value.source = None
    scope.values[slot] = value
    return tensor_of(value)


def _sum_lanes(x: Aval) -> Lowering:
    return Lowering(lambda a: jnp.sum(a, 0), name="SumBackward1", saves=False)
