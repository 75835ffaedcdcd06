"""Blocks: small parameters that programs take, and give back, as one flat array.

An array costs a run about a microsecond on its way in and another on its way out, whatever its size. So the small
parameters that an optimizer updates together are one array of a program, which cuts it inside, where a cut is next to
free. Between programs each value holds its `Part` of the `Flat`; it gets an array of its own when somebody reads it.

NOTE [Layout] Where a program's leaves lie is fixed when it is compiled. What it renews will be one block from the
second run on, and so will whatever an optimizer announced as a `Pool`: this is taken for granted, wherever the elements
lie at first. Other leaves are taken where they lie now. If they lie elsewhere at a run, they are laid together before
it (`Block.lay`), or cut out. A program for which that happens again and again is compiled once more, for where they
lie then (`Program.misfits`).

NOTE [In place] The new parameters of a block that nothing else refers to get the `Flat` and the `Part`s of the old
ones. So writing back a thousand parameters that a compiled function updates is one store.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from operator import attrgetter, itemgetter
from sys import getrefcount
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from tracegrad import _device
from tracegrad._engine import jax_state
from tracegrad._engine.value import Aval, Flat, Part, Piece, Value, Variable, aval

if TYPE_CHECKING:
    from tracegrad._engine.program import Program

#: Elements of the largest array that is laid beside others; copying more costs more than one array more.
SMALL = 16_384
#: Parts of the smallest block.
FEWEST = 4
#: After how many misfits in a row a program is compiled again.
PATIENCE = 3

_array_of = attrgetter("array")
_flat_of = attrgetter("flat")
_start_of = attrgetter("start")
_PARTS = frozenset((Part,))


class Pool:
    """Variables whose elements will be one block: each knows the pool, and its own place there."""

    __slots__ = ("count",)

    def __init__(self, variables: Sequence[Variable]):
        self.count = len(variables)
        for i, variable in enumerate(variables):
            variable.pool = self, i


class Block:
    """Leaves of a program that it takes as one array."""

    __slots__ = ("positions", "starts", "shapes", "aval", "donated", "pick")

    def __init__(self, positions: Sequence[int], starts: Sequence[int], shapes: list[tuple[int, ...]], of: Aval,
                 donated: bool = False):  # fmt: skip
        self.positions = tuple(positions)  # among the program's leaves
        self.starts = list(starts)
        self.shapes = shapes
        self.aval = of  # of the one array
        self.donated = donated
        self.pick: Callable[[Any], Any] = itemgetter(*self.positions)

    def find(self, arrays: Sequence[Any]) -> Flat | None:
        """Return the `Flat` in which the leaves lie, None where they lie elsewhere."""
        parts = self.pick(arrays)
        if not _PARTS.issuperset(map(type, parts)):
            return None
        flat: Flat = parts[0].flat
        if len(set(map(_flat_of, parts))) > 1 or flat.aval is not self.aval:
            return None
        return flat if list(map(_start_of, parts)) == self.starts else None

    def counts(self, arrays: Sequence[Any]) -> tuple[int, int]:
        """Return how often the leaves' `Flat` is referred to, but for their parts, and how often its array is."""
        flat: Flat = arrays[self.positions[0]].flat
        return getrefcount(flat) - len(self.positions), getrefcount(flat.array)

    def owned(self, arrays: Sequence[Any]) -> bool:
        """Whether nothing but their parts refers to the `Flat` in which the leaves lie, and nothing to its array."""
        of_flat, of_array = self.counts(arrays)
        return of_flat <= _FLAT and of_array <= _ARRAY

    def restore(self, leaves: Sequence[Value], arrays: Sequence[Any]) -> bool:
        """Have leaves that were read, and so have arrays of their own, lie in the block again.

        The elements are the same in both places. False, and nothing done, where others do not lie in it.
        """
        parts = self.pick(arrays)
        flat = next((x.flat for x in parts if type(x) is Part and x.flat.aval is self.aval), None)
        if flat is None:
            return False
        known = flat.known(flat.array)
        again = []
        for x, i, start, shape in zip(parts, self.positions, self.starts, self.shapes):
            if type(x) is Part:
                if x.flat is not flat or x.start != start:
                    return False
            elif known.get(start) is x:
                again.append((leaves[i], Part(flat, start, shape)))
            else:
                return False
        for value, part in again:
            value.array = part
        return True

    def lay(self, leaves: Sequence[Value], arrays: Sequence[Any]) -> None:
        """Lay the leaves' elements in a new array, and have them lie there."""
        parts = self.pick(arrays)
        if self.aval.device.type == "cpu":
            host = np.empty(self.aval.shape, self.aval.dtype.np)
            seen: dict[int, Any] = {}
            for x, start in zip(parts, self.starts):
                if isinstance(x, Piece):
                    of = x.flat.array if type(x) is Part else x.flat
                    known = seen.get(id(of))
                    if known is None:
                        known = seen[id(of)] = np.asarray(of).reshape(-1)
                    size = int(np.prod(x.shape))
                    host[start : start + size] = known[x.start : x.start + size]
                else:
                    host[start : start + x.size] = np.asarray(x).reshape(-1)
            with jax_state.tracing():
                made = jax.device_put(host, _device.to_jax(self.aval.device))
        else:
            with jax_state.tracing():
                made = _laid([x.cut() if isinstance(x, Piece) else x for x in parts])
        flat = Flat(made, self.aval)
        for i, start, shape in zip(self.positions, self.starts, self.shapes):
            leaves[i].array = Part(flat, start, shape)


@jax.jit
def _laid(arrays: list[Any]) -> Any:
    return jnp.concatenate([a.reshape(-1) for a in arrays])


# -- which leaves ------------------------------------------------------------------------------------------------------


def plan(program: Program, leaves: Sequence[Value], settled: bool) -> list[Block]:
    """Return the blocks in which a program takes ``leaves``; see NOTE [Layout]. ``settled``: only as they lie now."""
    heirs, arrays = program.heirs(), list(map(_array_of, leaves))
    renewed: dict[Any, list[tuple[int, int]]] = {}
    for i in program.donated:
        node, of = program.producers[heirs[i]], leaves[i].spec.aval
        if node.lowering is not None and heirs[i] - node.slot < node.lowering.renews and of.numel <= SMALL:
            renewed.setdefault((node.depth, of.dtype, of.device), []).append((heirs[i], i))
    # By place: of twins, which lie in the same place now, and may not at another run, only one is taken together.
    lying: dict[int, dict[int, int]] = {}
    pools: dict[Any, dict[int, int]] = {}
    for i, value in enumerate(leaves):
        if i in program.donated:
            continue
        if type(value.array) is Part:
            lying.setdefault(id(value.array.flat), {}).setdefault(value.array.start, i)
        if isinstance(value.source, Variable) and value.source.pool is not None:
            pool, place = value.source.pool
            pools.setdefault((pool, value.spec.aval.dtype, value.spec.aval.device), {}).setdefault(place, i)
    found = [_as_one(group, leaves, True) for group in renewed.values() if len(group) >= FEWEST]
    if settled:
        found = [block for block in found if block.find(arrays) is not None]
    for places in lying.values():
        if len(places) >= FEWEST:
            positions = [i for _, i in sorted(places.items())]
            shapes = [leaves[i].spec.aval.shape for i in positions]
            found.append(Block(positions, [arrays[i].start for i in positions], shapes, arrays[positions[0]].flat.aval))
    for (pool, *_), places in pools.items():
        if len(places) == pool.count and not settled and not any(type(arrays[i]) is Part for i in places.values()):
            found.append(_as_one(list(places.items()), leaves))
    return found


def _as_one(group: list[tuple[int, int]], leaves: Sequence[Value], donated: bool = False) -> Block:
    """Return a block that has these leaves one after another, and nothing else."""
    positions = [i for _, i in sorted(group)]
    avals = [leaves[i].spec.aval for i in positions]
    starts = [0, *accumulate(of.numel for of in avals)]
    of = aval((starts.pop(),), avals[0].dtype, avals[0].device)
    return Block(positions, starts, [of.shape for of in avals], of, donated)


def put_back(leaves: Sequence[Value]) -> None:
    """Have leaves that were cut out of an array in which others lie be parts of it again: its `Flat` has them too."""
    for flat in {v.array.flat for v in leaves if type(v.array) is Part}:
        starts = {id(array): start for start, array in flat.known(flat.array).items()}
        for value in leaves:
            if id(value.array) in starts:
                value.array = Part(flat, starts[id(value.array)], value.spec.aval.shape)


def fit(program: Program, leaves: Sequence[Value]) -> bool:
    """Have the leaves lie where the program takes them; return whether most did so already."""
    arrays = list(map(_array_of, leaves))
    fits = True
    for block in program.blocks:
        if block.find(arrays) is None:
            if not block.restore(leaves, arrays):
                block.lay(leaves, arrays)
                fits = False
            arrays = list(map(_array_of, leaves))
    lying = [i for i in program.loose if type(arrays[i]) is Part]
    for i in lying:
        leaves[i].array = arrays[i].cut()
    return fits and len(lying) < FEWEST


def examples(program: Program, leaves: Sequence[Value]) -> list[Any]:
    """Return what the program takes, to trace it with."""
    fit(program, leaves)
    first = [leaves[block.positions[0]].array.flat.array for block in program.blocks]
    return [*first, *(leaves[i].array for i in program.loose)]


def gather(program: Program, leaves: Sequence[Value]) -> tuple[list[Any], list[Flat | None]]:
    """Return the array of each block, and its `Flat` where that is to be used again, see NOTE [In place].

    Leaves that the program takes one by one have an array of their own afterwards.
    """
    program.misfits = 0 if fit(program, leaves) else program.misfits + 1
    arrays = list(map(_array_of, leaves))
    values, counts = list(map(getrefcount, leaves)), list(map(getrefcount, arrays))
    given: list[Any] = []
    flats: list[Flat | None] = []
    for block in program.blocks:
        lone = max(block.pick(values)) <= _VALUE and max(block.pick(counts)) <= _PART and block.owned(arrays)
        flat: Flat = arrays[block.positions[0]].flat
        flats.append(flat if block.donated and lone else None)
        if block.donated and not lone:
            with jax_state.tracing():
                given.append(flat.array.copy())
        else:
            given.append(flat.array)
    return given, flats


def _calibrate() -> tuple[int, int, int, int]:
    """Measure the counts of what nothing but a trace's leaves refer to: they differ between Python versions."""
    flat = Flat(object(), None)  # type: ignore[arg-type]
    leaves = [Value(), Value()]
    for value in leaves:
        value.array = Part(flat, 0, ())
    del value, flat
    by_slot = dict(enumerate(leaves))
    arrays = list(map(_array_of, leaves))
    values, counts = list(map(getrefcount, leaves)), list(map(getrefcount, arrays))
    del by_slot
    return values[0], counts[0], *Block((0, 1), (), [], None).counts(arrays)  # type: ignore[arg-type]


_VALUE, _PART, _FLAT, _ARRAY = _calibrate()
