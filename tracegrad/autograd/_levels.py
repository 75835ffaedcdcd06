"""Levels: fresh variables that stand for tensors while a functional transform differentiates with respect to them.

A transform makes a variable that aliases each argument, runs the user's function on these, and pulls back to them with
recorded, differentiable ops. Transforms nest without further care: each level has variables of its own, so the
derivatives of two levels cannot be confused, and an argument that wants gradients of its own passes them on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp

from tracegrad._engine import marking, tape, trace
from tracegrad._engine.op import Lowering
from tracegrad._engine.segment import SegmentOutput
from tracegrad._engine.value import Aval, Level, Value
from tracegrad._grad_mode import enable_grad, inference_mode
from tracegrad._handle import Handle, constant, tensor_of
from tracegrad.autograd._api import grad

if TYPE_CHECKING:
    from tracegrad._tensor import Tensor


class Levels:
    """The variables of one transform; a context, in grad mode, for the time that it runs."""

    def __init__(self) -> None:
        self.own: set[Level] = set()
        self.grad_mode = trace.state.mode.grad  # around the transform
        self._mode = inference_mode(False)  # grad mode, in inference mode too

    def __enter__(self) -> Levels:
        self._mode.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        for level in self.own:
            level.active = False
        self._mode.__exit__(None, None, None)

    def fresh(self, tensor: Any) -> Tensor:
        """Return a tensor of the same elements that gradients at this level go to; to be called in grad mode."""
        if not isinstance(tensor, Handle):
            raise ValueError(f"Thing passed to transform API must be Tensor, got {type(tensor)}")
        value = tensor._value
        if not value.spec.aval.dtype.is_inexact:
            raise RuntimeError("only Tensors of floating point dtype can require gradients")
        if value.spec.wants:
            return alias(tensor)  # type: ignore[arg-type]
        if value.spec.inference:
            value = marking.mark_inference(value, False)
        level = Level()
        self.own.add(level)
        return tensor_of(marking.mark_variable(value, level))

    def zeros(self, like: Tensor) -> Tensor:
        """Return zeros of the shape and dtype of ``like`` that gradients at this level go to."""
        return self.fresh(zeros_like(like))

    def pull(self, outs: Sequence[Tensor], inputs: Sequence[Tensor], cotangents: Sequence[Tensor | None],
             create_graph: bool | None = None) -> list[Tensor | None]:  # fmt: skip
        """Return the gradients of ``outs`` with respect to ``inputs``, None where there is none.

        Without ``create_graph``, they can be differentiated where somebody outside of this level may want to.
        """
        pairs = [(o, c) for o, c in zip(outs, cotangents) if o._value.spec.wants]
        if not pairs:
            return [None] * len(inputs)
        if create_graph is None:
            create_graph = self.reaches_out([x for pair in pairs for x in pair if x is not None])
        with enable_grad():
            found = grad([o for o, _ in pairs], inputs, [c for _, c in pairs], retain_graph=True,
                         create_graph=create_graph, allow_unused=True)  # fmt: skip
        return list(found)

    def push(self, outs: Sequence[Tensor], inputs: Sequence[Tensor],
             tangents: Sequence[Tensor]) -> list[Tensor | None]:  # fmt: skip
        """Return what ``outs`` change by where ``inputs`` change by ``tangents``, None for those that do not.

        It is the derivative of the pullback, which is linear in its cotangents, with respect to these.
        """
        return self.transposed(outs, inputs).apply(tangents)

    def transposed(self, outs: Sequence[Tensor], inputs: Sequence[Tensor]) -> Transposed:
        """Return the pullback as a function of cotangents that can be pulled back itself."""
        with enable_grad():
            cotangents = [self.zeros(o) if o._value.spec.wants else None for o in outs]
            gradients = self.pull(outs, inputs, cotangents, create_graph=True)
        return Transposed(self, cotangents, gradients)

    def reaches_out(self, tensors: Sequence[Tensor]) -> bool:
        """Whether ``tensors`` depend on what wants gradients at another level, or outside of all."""
        seen: set[Any] = set()
        stack: list[Any] = [t._value for t in tensors]
        while stack:
            value = stack.pop()
            if isinstance(value, Value):
                if not value.spec.wants or value in seen:
                    continue
                seen.add(value)
                owner = value.trace
                if value.source is not None:
                    stack.append(value.source)
                elif owner is None or owner.closed:
                    return True
                else:
                    for end in tape.ends(owner.node.real, value.slot):
                        leaf = owner.values[end]
                        if leaf is value:
                            return True  # what a scope gets from outside
                        stack.append(leaf.source or leaf)
            elif isinstance(value, SegmentOutput):
                key = (value.segment, value.slot)
                if key not in seen:
                    seen.add(key)
                    _, ends = value.segment.traversal((value.slot,), None)
                    stack.extend(s for end in ends if (s := value.segment.sources.get(end)) is not None)
            elif not isinstance(value, Level) or (value.active and value not in self.own):
                return True
        return False

    def close(self, tensor: Tensor) -> Tensor:
        """Return a result without this level: it wants gradients where somebody else's variables are in it."""
        if tensor._value.spec.wants and not (self.grad_mode and self.reaches_out([tensor])):
            return tensor_of(constant(tensor._value))
        return tensor


class Transposed:
    """A pullback with open cotangents, of which the derivative is the pushforward."""

    def __init__(self, levels: Levels, cotangents: list[Tensor | None], gradients: list[Tensor | None]):
        self.levels, self.cotangents, self.gradients = levels, cotangents, gradients

    def apply(self, tangents: Sequence[Tensor]) -> list[Tensor | None]:
        """Return the tangent of each output, None where it does not depend on the inputs."""
        used = [(g, t) for g, t in zip(self.gradients, tangents) if g is not None]
        open_ = [c for c in self.cotangents if c is not None]
        if not used or not open_:
            return [None] * len(self.cotangents)
        found = iter(self.levels.pull([g for g, _ in used], open_, [t for _, t in used]))
        return [None if c is None else next(found) for c in self.cotangents]


def alias(tensor: Tensor) -> Tensor:
    """Return the elements of ``tensor`` in a value of their own, which gradients flow through."""
    return trace.record(_alias, (), tensor)  # type: ignore[no-any-return]


def zeros_like(tensor: Tensor) -> Tensor:
    """Return zeros of the shape and dtype of ``tensor``."""
    return trace.record(_zeros, (), tensor)  # type: ignore[no-any-return]


def unit_vectors(like: Sequence[Tensor], begin: int = 0, count: int | None = None) -> list[Tensor]:
    """Return ``count`` of the unit vectors of all elements of ``like``, from number ``begin``, all where it is None.

    Each tensor of ``like`` has its part: of its shape, with the number of the vector in front.
    """
    avals = [x._value.spec.aval for x in like]
    total = sum(of.numel for of in avals)
    count = total if count is None else count
    found, start = [], 0
    for of in avals:
        found.append(trace.record(_unit, (of, begin - start, count)))
        start += of.numel
    return found


def _unit(of: Aval, first: int, count: int) -> Lowering:
    def fn() -> Any:
        rows = jnp.arange(first, first + count)[:, None] == jnp.arange(of.numel)
        return rows.astype(of.dtype.np).reshape(count, *of.shape)

    return Lowering(fn, differentiable=False, device=of.device)


def _alias(x: Aval) -> Lowering:
    return Lowering(lambda a: a, name="AliasBackward0", saves=False)


def _zeros(x: Aval) -> Lowering:
    return Lowering(lambda a: jnp.zeros(x.shape, x.dtype.np), differentiable=False)
