"""Where the elements of a view lie: PyTorch's strides and offsets, worked out from the view ops when somebody asks.

Arrays have no strides here; but what is a view and what a copy (``reshape``), and what a write may do, depends on them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from tracegrad._engine import trace
from tracegrad._engine.op import Prepared, prepare
from tracegrad._engine.value import Aval, Number

if TYPE_CHECKING:
    from tracegrad._tensor import Tensor

#: One view op: its rule, its params, its numbers (the starts of slices), and whether all elements are in its result.
Step = tuple[Any, tuple[Any, ...], tuple[Any, ...], bool]

#: Strides and offset, in elements; an offset that is data is None.
Layout = tuple[tuple[int, ...], int | None]

_layouts: dict[Any, Layout] = {}


def prepared(of: Aval, steps: tuple[Step, ...]) -> list[Prepared]:
    """Return how each of ``steps`` runs, the first on ``of``."""
    found = []
    for rule, params, starts, _ in steps:
        numbers = [Number(int) if type(s) is int else s._value.spec.aval for s in starts]
        found.append(prepare(rule, params, [of, *numbers]))
        of = found[-1].outs[0]
    return found


def in_order(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the strides, in elements, of a tensor whose elements lie in order."""
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= max(size, 1)
    return tuple(reversed(strides))


def laid(of: Aval, steps: tuple[Step, ...]) -> Layout:
    """Return the strides and the offset of what ``steps`` make of a tensor of aval ``of``."""
    key = (of, steps)
    found = _layouts.get(key)
    if found is None:
        found = (in_order(of.shape), 0)
        for (_, _, starts, _), how in zip(steps, prepared(of, steps)):
            view = how.lowering.view
            assert view is not None
            found = view.lay(*found, *[s if type(s) is int else None for s in starts])
        if all(type(s) is int for step in steps for s in step[2]):
            if len(_layouts) > 20_000:
                _layouts.clear()
            _layouts[key] = found
    return found


def path(tensor: Tensor) -> tuple[Aval, tuple[Step, ...]]:
    """Return the aval of all elements of the storage, and the steps from there to ``tensor``."""
    storage = tensor._storage
    assert storage is not None
    if not storage.place:
        return storage.aval, tensor._steps
    assert storage.group is not None
    return storage.group.aval, storage.place + tensor._steps


def layout(tensor: Tensor, read: bool = False) -> Layout:
    """Return PyTorch's strides and storage offset of ``tensor``; an offset that is data is None unless ``read``."""
    if tensor._storage is None:
        return in_order(tensor._value.spec.aval.shape), 0
    of, steps = path(tensor)
    if read:
        steps = tuple((rule, params, tuple(s if type(s) is int else int(trace.force(s._value)) for s in starts), covers)
                      for rule, params, starts, covers in steps)  # fmt: skip
    return laid(of, steps)


def overlaps(tensor: Tensor, fills: bool) -> bool:
    """Return whether a write to ``tensor`` would mean several of its elements at once, as in an ``expand``.

    ``fills``: they all get the same number, so only what ``tensor`` is a part of matters.
    """
    of, steps = path(tensor)
    for n, how in enumerate(prepared(of, steps), 1):
        if n < len(steps) or not fills:
            strides, _ = laid(of, steps[:n])
            if any(size > 1 and stride == 0 for size, stride in zip(how.outs[0].shape, strides)):
                return True
    return False


def apart(of: Aval, a: tuple[Step, ...], b: tuple[Step, ...]) -> bool:
    """Return whether two views of a tensor of aval ``of`` surely share no element."""
    (low_a, high_a), (low_b, high_b) = _extent(of, a), _extent(of, b)
    return high_a <= low_b or high_b <= low_a


def _extent(of: Aval, steps: tuple[Step, ...]) -> tuple[float, float]:
    """Return the first byte of a view and that after its last."""
    strides, offset = laid(of, steps)
    part = prepared(of, steps)[-1].outs[0] if steps else of
    if offset is None:
        return (0, math.inf)
    count = 1 + sum((n - 1) * s for n, s in zip(part.shape, strides)) if 0 not in part.shape else 0
    return offset * part.dtype.itemsize, (offset + count) * part.dtype.itemsize


def stretched(shape: tuple[int, ...], strides: tuple[int, ...], to: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return the strides that let elements of these strides be seen in the shape ``to``; None where none do.

    Dims that lie in one run are taken together, and each run must be split up exactly by dims of ``to``.
    """
    if 0 in shape:
        return strides if shape == to else in_order(to)
    runs: list[list[int]] = []  # size and innermost stride
    for size, stride in zip(shape, strides):
        if size == 1:
            continue
        if runs and runs[-1][1] == size * stride:
            runs[-1] = [runs[-1][0] * size, stride]
        else:
            runs.append([size, stride])
    found: list[int] = []
    run = runs.pop() if runs else [1, 1]
    left, stride = run
    for size in reversed(to):
        if left == 1 and size != 1 and runs:
            left, stride = runs.pop()
        if left % size:
            return None
        found.append(stride)
        left //= size
        stride *= size
    return tuple(reversed(found))
