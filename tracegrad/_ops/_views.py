"""Recording view ops: what they share with what they are views of, and how they lie in it.

NOTE [Order] A view whose elements may not lie in the order of its base (a transpose, an expand) is ``_strided``: only
then need its strides be worked out, to tell whether PyTorch's ``reshape`` would copy, or ``contiguous``.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
from jax import lax

from tracegrad._engine.op import Lowering, Viewing
from tracegrad._engine.trace import record
from tracegrad._engine.value import Aval
from tracegrad._handle import as_parts, as_view
from tracegrad._layout import Layout, Step, in_order, layout

if TYPE_CHECKING:
    from tracegrad._tensor import Tensor


def viewed(rule: Callable[..., Lowering], params: tuple[Any, ...], input: Tensor, strided: bool = False,
           covers: bool = True) -> Tensor:  # fmt: skip
    """Record a view op and mark its result as a view of ``input``; see NOTE [Order] for ``strided``.

    ``covers``: every element of ``input`` is in the result.
    """
    return as_view(record(rule, params, input), input, (rule, params, (), covers), strided)


def several_views(rule: Callable[..., Lowering], params: tuple[Any, ...], input: Tensor, dim: int, name: str,
                  drops: bool = False) -> tuple[Tensor, ...]:  # fmt: skip
    """Record an op whose results are the parts of ``input`` along ``dim``, without that dim where it ``drops`` it."""
    made: tuple[Tensor, ...] = record(rule, params, input)
    shape = input._value.spec.aval.shape
    axis = dim if dim >= 0 else dim + len(shape)
    sizes = (1,) * len(made) if drops else tuple([view._value.spec.aval.shape[axis] for view in made])
    as_parts(made, input, _parts(axis, sizes, drops, name))
    return made


@lru_cache(10_000)
def _parts(axis: int, sizes: tuple[int, ...], drops: bool, name: str) -> list[tuple[Step, Any]]:
    """Return how each of several parts is made, and its number with PyTorch's name of the op, if it has one."""
    starts = itertools.accumulate(sizes, initial=0)
    return [((part, (axis, start, size, drops), (), False), (i, name) if name else None)
            for i, (start, size) in enumerate(zip(starts, sizes))]  # fmt: skip


def part(x: Aval, axis: int, start: int, size: int, drops: bool) -> Lowering:
    """The rule of one result of an op with several views, which its remaking records."""
    shape = x.shape[:axis] + (() if drops else (size,)) + x.shape[axis + 1 :]
    where = (slice(None),) * axis + (slice(start, start + size),)

    def put(a: Any, new: Any) -> Any:
        begin = [0] * a.ndim
        begin[axis] = start
        return lax.dynamic_update_slice(a, new.reshape(x.shape[:axis] + (size,) + x.shape[axis + 1 :]), begin)

    def lay(strides: tuple[int, ...], offset: int | None) -> Layout:
        left = strides[:axis] + strides[axis + 1 :] if drops else strides
        return left, None if offset is None else offset + start * strides[axis]

    return view_of(lambda a: a[where].reshape(shape), "SelectBackward0" if drops else "SliceBackward0", put, lay)


def view_of(fn: Callable[..., Any], name: str, put: Callable[..., Any], lay: Callable[..., Layout]) -> Lowering:
    """Return the lowering of a view op: its derivative saves nothing. See `Viewing` for ``put`` and ``lay``."""
    return Lowering(fn, name=name, saves=False, view=Viewing(put, lay))


def same_order(fn: Callable[..., Any], name: str, x: Aval, lay: Callable[..., Layout]) -> Lowering:
    """Return the lowering of a view op that only changes sizes."""
    return view_of(fn, name, lambda a, new: jnp.reshape(new, x.shape), lay)


def other_order(axes: tuple[int, ...], name: str) -> Lowering:
    """Return the lowering of a view op that reorders dims."""
    back = tuple(sorted(range(len(axes)), key=axes.__getitem__))
    return view_of(lambda a: jnp.transpose(a, axes), name, lambda a, new: jnp.transpose(new, back),
                   lambda strides, offset: (tuple(strides[d] for d in axes), offset))  # fmt: skip


def scattered(fn: Callable[..., Any], x: Aval) -> Callable[..., Any]:
    """Return a ``put`` for any view op that only picks elements: where they are is found by viewing their numbers."""

    def put(a: Any, new: Any) -> Any:
        numbers = fn(jnp.arange(x.numel).reshape(x.shape))
        return a.reshape(-1).at[numbers.reshape(-1)].set(new.reshape(-1)).reshape(x.shape)

    return put


def is_contiguous(input: Tensor) -> bool:
    """Return whether PyTorch's elements of ``input`` lie in order; see NOTE [Order]."""
    if not input._strided:
        return True
    shape = input._value.spec.aval.shape
    return 0 in shape or all(n == 1 or s == t for n, s, t in zip(shape, layout(input)[0], in_order(shape)))
