"""What lies where inside of a program: arrays that were cut out of others, and are put together again.

A block of parameters is cut into its pieces, and what an optimizer makes of them is joined to a block. A loop over
layers takes the weights of all trips as the rows of one array, and its gradients come out as rows. XLA would copy all
of these one by one, and take long to compile it. So what was cut is remembered while a program is traced
(`recognised`), and what is put together of such pieces is taken from where they lie.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax


class _Known(threading.local):
    """What was cut of what, and joined of what, in the program that this thread traces. By id: with what has the id."""

    cuts: dict[int, tuple[Any, Any, int]] | None = None  # a piece -> it, of what flat array, its start
    rows: dict[int, tuple[Any, Any, int]]  # a row -> it, of what stack, its number
    joins: dict[tuple[int, ...], tuple[Any, Any]]  # arrays -> the whole, and they


_known = _Known()


@contextmanager
def recognised() -> Iterator[None]:
    """Have `joined` and `stacked` find again what `cut` and `row` took apart."""
    _known.cuts, _known.rows, _known.joins = {}, {}, {}
    try:
        yield
    finally:
        _known.cuts, _known.rows, _known.joins = None, {}, {}


def cut(array: Any, shapes: Sequence[tuple[int, ...]], starts: Sequence[int] | None = None) -> list[Any]:
    """Return the pieces of a flat array, by their shapes."""
    pieces, start = [], 0
    for i, shape in enumerate(shapes):
        start = start if starts is None else starts[i]
        end = start + int(np.prod(shape))
        piece = array[start:end] if isinstance(array, np.ndarray) else lax.slice(array, (start,), (end,))
        piece = piece.reshape(shape)
        if _known.cuts is not None:
            _known.cuts[id(piece)] = piece, array, start
        pieces.append(piece)
        start = end
    return pieces


def row(stack: Any, number: int) -> Any:
    """Return one row of an array."""
    found = lax.index_in_dim(stack, number, 0, keepdims=False)
    if _known.cuts is not None:
        _known.rows[id(found)] = found, stack, number
    return found


def stacked(arrays: Sequence[Any]) -> Any:
    """Return arrays of one shape as the rows of one array, without a copy of each; None where they lie elsewhere."""
    cuts = _known.cuts
    if not cuts or len(arrays) < 2 or any(id(a) not in cuts for a in arrays):
        return None
    _, flat, first = cuts[id(arrays[0])]
    step, count, shape = cuts[id(arrays[1])][2] - first, len(arrays), arrays[0].shape
    size = int(np.prod(shape))
    if step < max(size, 1):
        return None
    for i, array in enumerate(arrays):
        _, of, start = cuts[id(array)]
        if of is not flat or start != first + i * step or array.shape != shape:
            return None
    end = first + count * step
    part = lax.slice(flat, (first,), (min(end, flat.size),))
    if end > flat.size:  # nothing lies between the last one and the end
        part = lax.pad(part, np.zeros((), part.dtype), [(0, end - flat.size, 0)])
    return lax.slice_in_dim(part.reshape(count, step), 0, size, axis=1).reshape(count, *shape)


def whole(arrays: Sequence[Any]) -> Any:
    """Return the flat array of which ``arrays`` are all pieces, in order; None where there is none."""
    cuts = _known.cuts
    known = cuts.get(id(arrays[0])) if cuts else None
    if cuts is None or known is None:
        return None
    _, flat, end = known
    if end:
        return None
    for array in arrays:
        known = cuts.get(id(array))
        if known is None or known[1] is not flat or known[2] != end:
            return None
        end += array.size
    return flat if end == flat.size else None


def joined(arrays: Sequence[Any]) -> Any:
    """Return the elements of several arrays as one flat array."""
    found = whole(arrays)
    if found is not None:
        return found
    if _known.cuts is None:
        return jnp.concatenate([a.reshape(-1) for a in arrays])
    key = tuple(map(id, arrays))
    if key not in _known.joins:
        _known.joins[key] = jnp.concatenate(_parts(arrays)), arrays
    return _known.joins[key][0]


def _parts(arrays: Sequence[Any]) -> list[Any]:
    """Return flat arrays with the elements of ``arrays`` in order: few, where rows of the same stacks take turns."""
    places = [_known.rows.get(id(a)) for a in arrays]
    parts, i = [], 0
    while i < len(arrays):
        period, count = _turns(places, i)
        if count < 2:
            parts.append(arrays[i].reshape(-1))
            i += 1
            continue
        taken = []
        for place in places[i : i + period]:
            assert place is not None
            _, stack, first = place
            taken.append(lax.slice_in_dim(stack, first, first + count).reshape(count, -1))
        parts.append(lax.concatenate(taken, 1).reshape(-1))
        i += period * count
    return parts


def _turns(places: Sequence[tuple[Any, Any, int] | None], start: int) -> tuple[int, int]:
    """Return from how many stacks rows come in turns from ``start`` on, and how often, each time the next ones."""
    first = places[start]
    if first is None:
        return 0, 0
    period = next((k for k, place in enumerate(places[start + 1 :], 1) if place is None or place[1] is first[1]), 0)
    count, i = 1, start + period
    while period and i < len(places):
        now, before = places[i], places[i - period]
        if now is None or before is None or now[1] is not before[1] or now[2] != before[2] + 1:
            break
        i += 1
        count = (i - start) // period
    return period, count
