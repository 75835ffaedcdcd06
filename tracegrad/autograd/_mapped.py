"""A custom Function under ``vmap``: its own ``vmap`` gets the whole batch, and its results are lanes again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from tracegrad import _pytree
from tracegrad._engine import tape, trace
from tracegrad._engine.scope import Mapped, Scope, current
from tracegrad._handle import Handle, tensor_of
from tracegrad.autograd._scopes import finish


class VmapInfo(NamedTuple):
    """What a Function's ``vmap`` is told of the ``vmap`` around it."""

    batch_size: int
    randomness: str


def mapping(args: Sequence[Any]) -> Scope | None:
    """Return the ``vmap`` that this thread records in, if there is a tensor among ``args``."""
    scope = current()
    return scope if scope is not None and scope.size is not None and any(isinstance(x, Handle) for x in args) else None


def differentiated_inside(scope: Scope, args: Sequence[Any]) -> bool:
    """Whether a transform inside of ``scope`` differentiates with respect to what ``args`` are computed from."""
    for x in args:
        value = x._value if isinstance(x, Handle) else None
        if value is not None and value.trace is scope and value.spec.wants and trace.state.mode.grad:
            if any(end not in scope.operands for end in tape.ends(scope.node.real, value.slot)):
                return True
    return False


def whole_batch(scope: Scope, args: Sequence[Any]) -> tuple[list[Any], tuple[int | None, ...]]:
    """Return arguments as they are around ``scope``, each with the dimension that is mapped there, None for none."""
    given: list[Any] = []
    dims: list[int | None] = []
    for x in args:
        value = x._value if isinstance(x, Handle) else None
        dim = None
        if value is not None and value.trace is scope and value.slot in scope.values:
            slot = value.slot
            if slot in scope.operands:
                outer, dim = scope.operands[slot]
                x = tensor_of(outer)
            elif scope.is_mapped(slot):
                dim = 0
                (x,) = finish(scope, (slot,), lambda axes: Mapped(scope.size or 0, axes, (0,)))
            else:
                x = scope.lift(value, "item")
        given.append(x)
        dims.append(dim)
    return given, tuple(dims)


def lanes_of(scope: Scope, result: Any) -> Any:
    """Return what one lane sees of what a Function's ``vmap`` returned: results, and where their lanes are."""
    if not (isinstance(result, tuple) and len(result) == 2):
        raise RuntimeError("Expected the vmap staticmethod to have two returns, an output and out_dims with pytree "
                           "structure compatible with the output. "
                           + (f"Got {len(result)} returns" if isinstance(result, tuple) else f"Got a {type(result)}")
                           + " instead")  # fmt: skip
    found, structure = _pytree.flatten(result[0])
    dims = _pytree.spread(result[1], structure)
    if dims is None:
        raise RuntimeError(f"The autograd.Function's vmap staticmethod returned an incompatible (output, out_dims) "
                           f"tuple. Expected out_dims={result[1]} to be compatible with the structure of `output`.")
    lanes = [x if d is None or not isinstance(x, Handle) else scope.input(x, d % x.ndim)  # type: ignore[arg-type]
             for x, d in zip(found, dims)]  # fmt: skip
    return _pytree.unflatten(lanes, structure)
