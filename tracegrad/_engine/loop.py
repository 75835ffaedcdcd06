"""Loops: a stretch emitted as one ``lax.scan``.

NOTE [Rolled bodies] The body is one trip, the pattern. Its ops run as they would alone, and where gradients go through
the loop they are differentiated by JAX, with the conventions of the tape: an op's own backward is its ``custom_vjp``,
and no gradient goes through an op, or to an operand, that the tape does not pull through.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from tracegrad._config import config
from tracegrad._engine.checks import Found, Placed
from tracegrad._engine.derived import derived
from tracegrad._engine.joints import Joint
from tracegrad._engine.op import Lowering
from tracegrad._engine.rows import Env, Numbers
from tracegrad._engine.stretch import Stretch, Unit
from tracegrad._engine.tape import Alone, Linear, linearize
from tracegrad._engine.trie import OP, VARIABLE, Node
from tracegrad._engine.value import Aval

#: How many times as large as an op's result a weight is whose gradient is left until the end of a loop.
_HEAVY = 4
#: depth of an op that JAX pulls through -> its operands that gradients go to
Wanted = Mapping[int, tuple[int, ...]]


@dataclass(frozen=True, eq=False)
class Emission:
    """What a unit is emitted with."""

    env: Env
    numbers: Numbers
    wanted: Wanted | None  # None where JAX differentiates nothing
    needed: set[int]  # the slots used outside of a unit, whatever else is among them
    found: list[Found] | None  # what the checks of its ops find is added; None where nothing is checked
    #: depth of an op whose weight's gradient is left until the loop's end -> what takes its cotangents, a row a trip
    taps: Mapping[int, tuple[Late, Any]] = field(default_factory=dict)
    #: depth of such an op -> its other operand in all trips, which is added
    others: dict[int, Any] = field(default_factory=dict)


class Late(NamedTuple):
    """The gradient of a weight by an op of a loop's body, computed for all trips together after the loop."""

    depth: int
    operand: int
    other: int  # the operand that the gradient needs
    gradient: Callable[[Any, Any], Any]  # of all trips' other operands and cotangents
    slot: int  # the weight
    shape: tuple[int, ...]  # of all trips' cotangents
    dtype: Any


def late(stretch: Stretch, wanted: Wanted, ends: Container[int]) -> list[Late]:
    """Return the gradients of weights that are left until the end of a loop, for weights among ``ends``."""
    s, found = stretch, []
    own = _of_pattern(s, wanted)
    for node in s.units:
        for operand, other, gradient in node.lowering.joint if node.kind == OP else ():
            slot, of = node.inputs[operand], node.specs[0].aval
            heavy = operand in own[node.depth] and s.spec(slot).aval.numel > _HEAVY * of.numel
            if heavy and slot in s.invariant and slot in ends and slot != node.inputs[other]:
                found.append(Late(node.depth, operand, other, gradient, slot, (s.count, *of.shape), of.dtype.np))
                break
    return found


def _of_pattern(s: Stretch, wanted: Wanted) -> dict[int, tuple[int, ...]]:
    return {column[s.pattern]: tuple(sorted(set().union(*(wanted.get(d, ()) for d in column)))) for column in s.columns}


@jax.custom_vjp
def _tapped(out: Any, tap: Any) -> Any:
    """Return ``out``, whose cotangent goes to ``tap`` as well."""
    return out


_tapped.defvjp(lambda out, tap: (out, None), lambda _, cotangent: (cotangent, cotangent))


def emit(unit: Unit, at: Emission) -> None:
    """Emit ``unit``, and note the arrays of its values."""
    if isinstance(unit, Stretch):
        _Loop(unit, at)
    elif isinstance(unit, Joint):
        unit.emit(at.env, at.wanted is not None and not at.wanted.get(unit.depth))
    elif unit.kind == VARIABLE:
        at.env.name(unit.slot, unit.inputs[0])
    else:
        _run(unit, at)


def _run(node: Node, at: Emission) -> list[Any]:
    """Run an op, and return its operands."""
    lowering = node.lowering
    assert lowering is not None
    if lowering.packs:
        at.env[node.slot] = at.numbers.together(node.inputs)
        return []
    args = _operands(node, at)
    if at.wanted is None:
        result = lowering.fn(*args)
    else:
        wanted = at.wanted.get(node.depth, ())
        if node.depth in at.taps:
            one, tap = at.taps[node.depth]
            result = _differentiated(lowering, [i for i in wanted if i != one.operand], args)
            result = _tapped(result, tap)
        else:
            result = _differentiated(lowering, wanted, args)
    _note(node, at, args, (result,) if node.single else tuple(result))
    return args


def linearized(node: Node, at: Emission) -> Linear:
    """Run an op, and return its pullback."""
    args = _operands(node, at)
    of: Node | Alone = node
    if at.wanted is not None:
        pulled = node.depth in at.wanted
        args = [x if pulled and i in node.wanted else constant(x) for i, x in enumerate(args)]
        if pulled:  # its values too are differentiated, by its own backward where it has one
            assert node.lowering is not None
            fn = derived(node.lowering, args)
            of = Alone(replace(node.lowering, fn=fn, forward=None, backward=None), node.wanted, node.single)
    outs, linear = linearize(of, args)
    _note(node, at, args, outs)
    return linear


def _operands(node: Node, at: Emission) -> list[Any]:
    return [at.env[x] if type(x) is int else x[1] if x[0] == "c" else at.numbers[x] for x in node.inputs]


def _note(node: Node, at: Emission, args: Sequence[Any], outs: Sequence[Any]) -> None:
    """Note what an op returned, and what its checks find."""
    for slot, out, spec in zip(range(node.slot, node.end), outs, node.specs):
        at.env[slot] = out if at.wanted is None or spec.wants else constant(out)
    checks = node.lowering.checks if node.lowering is not None and config.check else ()
    if checks and at.found is not None:
        at.found.extend((check.find(args, outs), (check, node.where)) for check in checks)


def parted(found: Sequence[Found] | None) -> tuple[list[Placed], list[tuple[Any, ...]]]:
    """Return whose the checks are and, as arrays, what they found."""
    return [place for _, place in found or ()], [tuple(map(jnp.asarray, wrong)) for wrong, _ in found or ()]


def constant(a: Any) -> Any:
    """Return ``a`` as what JAX pulls nothing through."""
    return lax.stop_gradient(a) if isinstance(a, jax.Array) else a


def _differentiated(lowering: Lowering, wanted: Sequence[int], args: list[Any]) -> Any:
    """Run an op such that JAX pulls through it as the tape does: to the operands ``wanted`` alone."""
    args = [x if i in wanted else constant(x) for i, x in enumerate(args)]
    return (lowering.fn if lowering.plain or not wanted else derived(lowering, args))(*args)


def _strong(array: Any, of: Aval) -> Any:
    return lax.convert_element_type(array, of.dtype.np)


class _Loop:
    """The emission of one stretch."""

    def __init__(self, stretch: Stretch, at: Emission):
        self.stretch = s = stretch
        self.env = env = at.env
        wanted = None if at.wanted is None else _of_pattern(s, at.wanted)
        self._divide(at.needed)
        inner = {s.named(k) for k in self.taken}.union(*(unit.reads() for unit in s.units))
        self.at = replace(at, wanted=wanted, needed=inner, taps={}, others={})
        self.taps = {n.depth: at.taps[n.depth] for n in s.units if n.depth in at.taps}
        self.others = at.others
        for node in s.fixed:
            _run(node, self.at)
        stacks = {slots[s.pattern]: env.stacked(env.segments(slots)) for slots in s.per_trip}
        self.tables, columns = {}, {}
        for kind, places in s.numbers.items():
            self.tables[kind], found = at.numbers.rows(kind, places)
            columns.update({(kind, int(i)): c for i, c in zip(places[s.pattern], found)})
        self.columns = columns
        self._run_ahead(stacks)
        if s.units:
            self._scan({slot: stacks[slot] for slot in stacks if slot in inner})
        self._hand_out_fixed()

    def _divide(self, needed: set[int]) -> None:
        """Decide how values leave: stacked, as the last ones that were carried, or as that of the last trip."""
        s = self.stretch
        first: dict[int, int] = {}  # value -> the first trip of which it is needed
        for slot in s.index.keys() & needed:
            trip, which = s.index[slot]
            first[which] = min(trip, first.get(which, trip))
        self.taken = {*s.carried, *first}
        ahead = {slot for node in s.ahead for slot in range(node.slot, node.end)}
        self.stacked: list[int] = []
        self.last: list[int] = []
        self.carried_out: list[int] = []
        self.ahead_out: list[int] = []
        self.fixed_out: list[int] = []
        for which, trip in sorted(first.items()):
            lag = len(s.carried[which].initial) if which in s.carried else 0
            if s.named(which) in s.shared:
                self.fixed_out.append(which)
            elif s.named(which) in ahead:
                self.ahead_out.append(which)
            elif trip >= s.count - lag:
                self.carried_out.append(which)
            else:
                (self.last if trip == s.count - 1 else self.stacked).append(which)

    def _inside(self, tables: dict[str, Any], rows: Mapping[int, Any]) -> Emission:
        env = Env(rows.items(), outer=self.env)
        numbers = Numbers(tables.get("f"), tables.get("i"), self.columns)
        return replace(self.at, env=env, numbers=numbers, found=None if self.at.found is None else [])

    def _note_checks(self, wrong: Sequence[tuple[Any, Any]], placed: Sequence[Any]) -> None:
        if self.at.found is not None:
            firsts = [(some.any(), what[jnp.argmax(some)]) for some, what in wrong]
            self.at.found.extend(zip(firsts, placed))

    def _run_ahead(self, stacks: dict[int, Any]) -> None:
        """Run what does not depend on what is carried: for all trips at once. The results join ``stacks``."""
        s = self.stretch
        if not s.ahead:
            return
        slots = [slot for node in s.ahead for slot in range(node.slot, node.end)]
        outside = self.at.needed.union(*(node.reads() for node in s.ahead))
        placed: list[Any] = []

        def one(rows: Mapping[int, Any], tables: dict[str, Any]) -> Any:
            inside = self._inside(tables, rows)
            for node in s.ahead:
                _run(node, inside)
            placed[:], wrong = parted(inside.found)
            return [inside.env[slot] for slot in slots], wrong

        given = {slot: stack for slot, stack in stacks.items() if slot in outside}
        results, wrong = jax.vmap(one, axis_size=s.count)(given, self.tables)
        stacks.update(zip(slots, results))
        self._note_checks(wrong, placed)
        for which in self.ahead_out:
            self.env.hold(s.depth, which, stacks[s.named(which)], [slots[which] for slots in s.slots])

    def _scan(self, stacks: dict[int, Any]) -> None:
        s, env = self.stretch, self.env
        carried = [[_strong(env[slot], s.spec(slot).aval) for slot in c.slots] for c in s.carried.values()]
        last = [jnp.zeros(of.shape, of.dtype.np) for of in (s.spec(s.named(k)).aval for k in self.last)]
        taps = {depth: tap for depth, (_, tap) in self.taps.items()}
        placed: list[Any] = []

        def body(state: Any, row: Any) -> tuple[Any, Any]:
            carried, _ = state
            rows, tables, taps = row
            inside = replace(self._inside(tables, rows), taps={d: (self.taps[d][0], tap) for d, tap in taps.items()})
            others = {}
            for c, arrays in zip(s.carried.values(), carried):
                for lag, array in enumerate(arrays, 1):
                    inside.env[s.named(c.which, lag)] = array
            for unit in s.units:
                if unit.depth in taps:
                    others[unit.depth] = _run(unit, inside)[self.taps[unit.depth][0].other]
                else:
                    emit(unit, inside)
            placed[:], wrong = parted(inside.found)

            def value(which: int) -> Any:
                slot = s.named(which)
                return _strong(inside.env[slot], s.spec(slot).aval)

            after = [[value(c.which), *arrays[:-1]] for c, arrays in zip(s.carried.values(), carried)]
            outs = [value(k) for k in self.stacked]
            return (after, [value(k) for k in self.last]), (outs, others, wrong)

        state, rows = (carried, last), (stacks, self.tables, taps)
        (carried, last), (outs, others, wrong) = lax.scan(body, state, rows, s.count)
        self.others.update(others)
        self._note_checks(wrong, placed)
        for which, array in zip(self.stacked, outs):
            env.hold(s.depth, which, array, [slots[which] for slots in s.slots])
        for which, array in zip(self.last, last):
            env[s.slots[-1][which]] = array
        for c, arrays in zip(s.carried.values(), carried):
            if c.which in self.carried_out:
                for lag, array in enumerate(arrays):
                    env[s.slots[-1 - lag][c.which]] = array

    def _hand_out_fixed(self) -> None:
        s = self.stretch
        for which in self.fixed_out:
            for slots in s.slots:
                self.env[slots[which]] = self.env[s.named(which)]
