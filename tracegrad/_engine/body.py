"""What a scope recorded, as one op of the enclosing trace: a plan of its path, replayed wherever that op runs.

NOTE [Replays are differentiated] That op is differentiated by ``jax.vjp`` through the replay, so the replay says in
JAX's words what the tape knows: an op without wanted operands, and a backward without ``create_graph``, are constants;
so are operands that no gradient goes to; and an op with a backward of its own is a ``jax.custom_vjp``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np

from tracegrad._dtype import float64, int64
from tracegrad._engine import tape
from tracegrad._engine.checks import Check, Found
from tracegrad._engine.op import Lowering
from tracegrad._engine.plan import Plan
from tracegrad._engine.region import Region
from tracegrad._engine.rows import Env, Numbers
from tracegrad._engine.stretch import Stretch
from tracegrad._engine.trie import LEAF, OP, Node


class Body(Plan):
    """The path of a scope, planned for some of its slots. It hangs on the node that the path led to."""

    def __init__(self, node: Node, slots: tuple[int, ...], name: str, rolls: bool):
        super().__init__(node)
        self.name = name
        self.slots = slots
        self.rolls = rolls  # whether its loops are yet to be rolled
        self.run_for(set(slots))
        #: the leaves that the slots are computed from: the op's operands
        self.leaves = tuple(n.slot for n in self.run_nodes if n.kind == LEAF)
        specs = [self.spec(s) for s in slots]
        traversed, ends = tape.reach(self.path, [s for s, spec in zip(slots, specs) if spec.wants])
        if traversed:
            self.outside = {depth: self.path[depth].wanted for depth in traversed}
        #: operands through which no gradient flows, as far as they are leaves; and outputs
        self.constant = tuple(i for i, s in enumerate(self.leaves) if s not in ends)
        self.unwanted = tuple(i for i, spec in enumerate(specs) if not spec.wants)
        self.tape = frozenset(self.path[d].slot for d in traversed)  # the first slots of the nodes with a pullback
        of_way = [self.path[d].lowering for d in sorted(traversed)]
        self.backward = self.producers[slots[0]].name if slots else ""
        self.underived = next((x.underived for x in of_way if x is not None and x.underived), "")
        checks = [check for n in self.run_nodes if n.lowering is not None for check in n.lowering.checks]
        self.checks = list(dict.fromkeys(checks))
        #: how it runs, rolled and not: JAX remembers what it traced of a function (`jax.checkpoint`)
        self._functions = self.run, partial(self.run)

    @property
    def function(self) -> Callable[..., tuple[Any, ...]]:
        """How it runs today."""
        return self._functions[0 if self.regions else 1]

    @property
    def weight(self) -> int:
        """How many operations there are to emit, a loop counted as one more than those of a trip."""
        units = [u for unit in self.units for u in (unit.units if isinstance(unit, Region) else [unit])]
        return sum(len(u.columns) + 1 if isinstance(u, Stretch) else u.kind == OP for u in units)

    def run(self, *operands: Any) -> tuple[Any, ...]:
        """Return the slots' arrays, of the arrays of the leaves and the input numbers."""
        env = self._replay(operands, None)
        return tuple(jnp.asarray(env[s]) for s in self.slots)

    def find(self, *operands: Any) -> tuple[Any, Any]:
        """Return what its checks find, in order: whether something is wrong, and which check says what (`error`)."""
        found: list[Found] = []
        self._replay(operands, found)
        count, numbers = len(self.checks), {check: i for i, check in enumerate(self.checks)}
        most = 2**62 // count
        said = [jnp.clip(jnp.asarray(what, np.int64), -most, most) * count + numbers[own]
                for (_, what), (own, _) in found]  # fmt: skip
        return jnp.stack([jnp.asarray(wrong) for (wrong, _), _ in found]), jnp.stack(said)

    def error(self, said: int) -> Exception:
        """Return the exception of what one of the checks says."""
        what, number = divmod(said, len(self.checks))
        return self.checks[number].error(what)

    def make_ready(self) -> None:
        """Roll its loops, unless that was done."""
        if self.rolls:
            self.rolls = False
            self.roll(frozenset(self.slots), self.outside or ())

    def _replay(self, operands: Sequence[Any], found: list[Found] | None) -> Env:
        arrays, numbers = operands[: len(self.leaves)], operands[len(self.leaves) :]
        floats, ints = self.node.floats, self.node.ints
        if len(numbers) == floats + ints:  # one by one
            packed = Numbers(numbers[:floats], numbers[floats:])
        else:
            packed = Numbers(numbers[0] if floats else None, numbers[-1])
        env = Env(zip(self.leaves, arrays))
        try:
            self.emit(env, packed, self.slots, found, {})
        except Exception as error:
            if not self.regions:
                raise
            # Whatever is wrong with a loop rolled, unrolled it runs.
            self.unroll(f"all loops: {type(error).__name__} when they were emitted: {error}")
            if found is not None:
                found.clear()
            return self._replay(operands, found)
        return env


def scope_rule(*args: Any) -> Lowering:
    """The rule of the op that a scope becomes: operands are leaves and input numbers; params the body and its wrap."""
    body, wrap = args[-2:]
    body.make_ready()

    def find(operands: Sequence[Any], outs: Sequence[Any]) -> tuple[Any, Any]:
        wrong, said = wrap.checks(body.find)(*operands)
        lanes, said = wrong.reshape(-1, wrong.shape[-1]), said.reshape(-1, wrong.shape[-1])
        first = jnp.argmax(lanes.any(0))
        return wrong.any(), said[jnp.argmax(lanes[:, first]), first]

    def fn(*operands: Any) -> Any:
        return wrap(body.function)(*operands)

    return Lowering(fn, name=body.backward, constant=(*body.constant, *range(len(body.leaves), len(args) - 2)),
                    unwanted=body.unwanted, underived=body.underived, weight=body.weight, scope=body,
                    checks=(Check(find, body.error),) if body.checks else ())  # fmt: skip


def pack_rule(*args: Any) -> Lowering:
    """The rule of input numbers of one kind as an array, on the device that is the param."""
    *numbers, device = args
    dtype = float64 if numbers[0].kind is float else int64

    def fn(*given: Any) -> Any:
        return jnp.stack([jnp.asarray(x, dtype.np) for x in given])

    return Lowering(fn, differentiable=False, device=device, packs=True)
