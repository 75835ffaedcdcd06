"""Where the arrays of slots are while a program is emitted: alone, or as rows of one stacked array.

A rolled loop (`loop.py`) returns the values of all its trips stacked. Whatever wants all of them, such as
``torch.stack(hs)`` or the next layer's loop, takes the stack itself; a row is cut out only for what wants it alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax

from tracegrad._engine import layout


class Rows(NamedTuple):
    """Rows ``first, first + step, ...`` of a stacked array: of the value ``which`` that a loop makes in each trip."""

    loop: int  # the loop's depth
    which: int
    first: int
    step: int
    size: int  # how many


#: Where a sequence of values is found: slots and `Rows`, in order.
Segments = tuple[int | Rows, ...]


class Env(dict[int, Any]):
    """The array of each slot; inside of a loop's body, those of its own before those around it."""

    def __init__(self, given: Iterable[tuple[int, Any]] = (), outer: Env | None = None):
        super().__init__(given)
        self.outer = outer
        self.rows: dict[int, tuple[int, int, int]] = {}  # slot -> loop, which, trip
        self.stacks: dict[tuple[int, int], Any] = {}  # (loop, which) -> array

    def __missing__(self, slot: int) -> Any:
        env: Env | None = self
        while env is not None:
            if slot in env:
                return env[slot]
            if slot in env.rows:
                loop, which, trip = env.rows[slot]
                row = self[slot] = lax.index_in_dim(env.stacks[loop, which], trip, 0, keepdims=False)
                return row
            env = env.outer
        raise KeyError(slot)

    def row(self, slot: int) -> tuple[int, int, int] | None:
        """Return the loop, the number among its stacks and the trip of a slot that is a row of a stack."""
        env: Env | None = self
        while env is not None:
            found = env.rows.get(slot)
            if found is not None:
                return found
            if slot in env:
                return None
            env = env.outer
        return None

    def stack(self, loop: int, which: int) -> Any:
        """Return a stacked array."""
        env: Env | None = self
        while env is not None:
            found = env.stacks.get((loop, which))
            if found is not None:
                return found
            env = env.outer
        raise KeyError((loop, which))

    def name(self, slot: int, other: int) -> None:
        """Let ``slot`` be another name of the value at ``other``."""
        row = self.row(other)
        if row is None:
            self[slot] = self[other]
        else:
            self.rows[slot] = row

    def hold(self, loop: int, which: int, array: Any, slots: Sequence[int]) -> None:
        """Note that ``slots`` are the rows of ``array``."""
        self.stacks[loop, which] = array
        for trip, slot in enumerate(slots):
            self.rows[slot] = (loop, which, trip)

    # -- sequences of values -----------------------------------------------------------------------------------------

    def segments(self, slots: Sequence[int]) -> Segments:
        """Return where these values are found, as few segments as can be."""
        found: list[int | Rows] = []
        for slot in slots:
            row = self.row(slot)
            last = found[-1] if found else None
            if row is None:
                found.append(slot)
                continue
            loop, which, trip = row
            if isinstance(last, Rows) and (last.loop, last.which) == (loop, which):
                step = trip - last.first if last.size == 1 else last.step
                if step and trip == last.first + step * last.size:
                    found[-1] = Rows(loop, which, last.first, step, last.size + 1)
                    continue
            found.append(Rows(loop, which, trip, 1, 1))
        return tuple(found)

    def stacked(self, segments: Segments) -> Any:
        """Return the values of ``segments`` as one array."""
        arrays = [self._rows(s) if isinstance(s, Rows) else self[s] for s in segments]
        if len(arrays) == 1 and isinstance(segments[0], Rows):
            return arrays[0]
        found = None if any(isinstance(s, Rows) for s in segments) else layout.stacked(arrays)
        if found is not None:
            return found
        return lax.concatenate([a if isinstance(s, Rows) else lax.expand_dims(jnp.asarray(a), (0,))
                                for s, a in zip(segments, arrays)], 0)  # fmt: skip

    def _rows(self, rows: Rows) -> Any:
        array = self.stack(rows.loop, rows.which)
        low = rows.first if rows.step > 0 else rows.first + rows.step * (rows.size - 1)
        high, step = low + abs(rows.step) * (rows.size - 1) + 1, abs(rows.step)
        if (low, high, step) != (0, array.shape[0], 1):
            array = lax.slice_in_dim(array, low, high, step)
        return array if rows.step > 0 else lax.rev(array, (0,))


class Numbers:
    """The input numbers: packed in two arrays, or few of a scope's as they are; for one trip of a loop, those of it."""

    def __init__(self, floats: Any, ints: Any, columns: dict[tuple[str, int], int] | None = None):
        self.packed = {"f": floats, "i": ints}
        self.columns = columns  # where each number of the trip stands; None: at its own place

    def __getitem__(self, ref: tuple[str, int]) -> Any:
        kind, index = ref
        return self.packed[kind][index if self.columns is None else self.columns[ref]]

    def _array(self, kind: str) -> Any:
        packed = self.packed[kind]
        return jnp.stack(packed) if isinstance(packed, tuple) else packed

    def together(self, refs: Sequence[tuple[str, int]]) -> Any:
        """Return numbers of one kind as one array."""
        kind = refs[0][0]
        places = [index if self.columns is None else self.columns[kind, index] for _, index in refs]
        packed = self._array(kind)
        first, stop = places[0], places[0] + len(places)
        return packed[first:stop] if places == list(range(first, stop)) else packed[np.array(places)]

    def rows(self, kind: str, places: np.ndarray[Any, Any]) -> tuple[Any, list[int]]:
        """Return the numbers at ``places`` (one row a trip) as one array, and the column of each there."""
        if self.columns is not None:
            columns = self.columns
            places = np.vectorize(lambda i: columns[kind, i], otypes=[np.int64])(places)
        packed = self._array(kind)
        first, trips = places[0], len(places)
        low, stride = int(first.min()), int(places[1, 0] - first[0])
        if stride > int(first.max()) - low and (places == first + stride * np.arange(trips)[:, None]).all():
            part = packed[low : low + stride * trips]
            part = jnp.pad(part, (0, stride * trips - part.shape[0]))
            return part.reshape(trips, stride), [int(i) - low for i in first]
        return packed[places], list(range(places.shape[1]))
