"""The tape: which recorded ops a backward pulls through, and how cotangents flow along them.

A recorded op is the unit of differentiation. Where a backward (or a segment, `segment.py`) needs it, its forward is
emitted through ``jax.vjp``, once, and every backward of the program pulls on that one pullback.

NOTE [Conjugates] JAX's and PyTorch's gradients of complex tensors are conjugates of each other. Every cotangent that
is a value of a trace is PyTorch's; `pull_back` converts where it begins and where it ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.interpreters.partial_eval import dce_jaxpr

from tracegrad._engine import jax_state
from tracegrad._engine.op import Lowering, Prepared
from tracegrad._engine.trie import BACKWARD, LEAF, LOOP, OP, VARIABLE, Node
from tracegrad._engine.value import Aval, Number


@dataclass(frozen=True, eq=False)
class Pull:
    """What one backward does: static, so it hangs on the node."""

    roots: tuple[int, ...]  # slots differentiated
    cotangents: tuple[int, ...]  # the slots of their cotangents
    targets: tuple[int, ...]  # slots whose gradients come out, the leaves in the order in which they were reached
    traversed: frozenset[int]  # depths of the nodes pulled through
    frees: bool  # whether these nodes' saved values are freed after it
    alone: bool = False  # one node, whose operands' gradients come out each by itself


@dataclass(frozen=True, eq=False)
class Linear:
    """An op linearised at its operands: flat residuals and a static function of them."""

    residuals: list[Any]
    apply: Callable[[Sequence[Any], Sequence[Any]], list[Any]]  # (residuals, out cotangents) -> wanted cotangents


def producers(path: Sequence[Node]) -> dict[int, Node]:
    """Return the node that makes each slot."""
    return {slot: node for node in path for slot in range(node.slot, node.end)}


def freed(path: Sequence[Node]) -> set[int]:
    """Return the depths of the nodes whose saved values an earlier backward of this path has freed."""
    depths: set[int] = set()
    for node in path:
        if node.kind == BACKWARD and node.pull is not None and node.pull.frees:
            depths.update(d for d in node.pull.traversed if saves(path[d]))
    return depths


def saves(node: Node) -> bool:
    """Whether the derivative of ``node`` needs tensors that a backward frees."""
    return node.lowering is not None and node.lowering.saves


def lost(path: Sequence[Node], freed: Iterable[int]) -> set[int]:
    """Return the slots from which every backward to leaves comes to one of the nodes at the depths ``freed``."""
    gone: set[int] = set()
    depths = set(freed)
    for node in path:
        if node.depth in depths or any(node.inputs[i] in gone for i in node.wanted):
            gone.update(range(node.slot, node.end))
    return gone


def reach(path: Sequence[Node], roots: Sequence[int], targets: set[int] | None = None,
          floor: int = 0) -> tuple[frozenset[int], list[int]]:  # fmt: skip
    """Return the depths of the nodes that a backward from ``roots`` pulls through, and the slots it ends in.

    Without ``targets`` it ends in every leaf that wants gradients, the leaf whose gradient is complete first before
    the others. With them, only what lies on a way to one of them is pulled through; leaves are among the ways where
    their slot is in ``targets``. Ops that made slots below ``floor`` are not pulled through: it ends in these slots.
    """
    leads = None if targets is None else ways(path, targets)
    needed = dict.fromkeys(roots)  # in the order in which the last gradient arrives
    traversed: set[int] = set()
    ends: list[int] = []
    leaves: set[int] = set()
    for node in reversed(path):
        slots = [slot for slot in range(node.slot, node.end) if slot in needed]
        if not slots:
            continue
        if node.kind in (LEAF, VARIABLE) or node.kind == OP and not node.wanted:
            leaves.update(slot for slot, spec in enumerate(node.specs, node.slot) if spec.wants and slot in needed
                          and (targets is None or slot in targets))  # fmt: skip
        elif node.kind == OP and node.wanted:
            leading = leads is None or any(node.inputs[i] in leads for i in node.wanted)
            if node.slot < floor:
                ends.extend(s for s in slots if leading or (targets is not None and s in targets))
                continue
            ends.extend(s for s in slots if targets is not None and s in targets)
            if leading:
                traversed.add(node.depth)
                for i in node.wanted:
                    slot = node.inputs[i]
                    needed.pop(slot, None)
                    needed[slot] = None
    return frozenset(traversed), [*ends[::-1], *(slot for slot in needed if slot in leaves)]


def maker(last: Node, slot: int) -> Node:
    """Return the node that makes ``slot`` on the path to ``last``."""
    while last.slot > slot or last.end <= slot:
        assert last.parent is not None
        last = last.parent
    return last


def first_uses(path: Sequence[Node]) -> dict[int, int]:
    """Return, for every slot that gradients go to, the slot of the first node that sends one."""
    uses: dict[int, int] = {}
    for node in path:
        if node.kind == OP:
            for i in node.wanted:
                uses.setdefault(node.inputs[i], node.slot)
    return uses


def check(path: Sequence[Node], traversed: frozenset[int]) -> None:
    """Raise where a backward would pull through an op without a derivative."""
    for depth in traversed:
        lowering = path[depth].lowering
        if lowering is not None and lowering.underived:
            raise RuntimeError(f"derivative for aten::{lowering.underived} is not implemented")
        if lowering is not None and lowering.misfit:
            users = [(n.lowering.name, i) for n in path if n.depth in traversed and n.lowering is not None
                     for i in n.wanted if n.inputs[i] == path[depth].slot]  # fmt: skip
            name, index = users[-1] if users else ("after it", 0)
            got, expected = lowering.misfit
            raise RuntimeError(f"Function {name} returned an invalid gradient at index {index} - got {got} but "
                               f"expected shape compatible with {expected}")


def ways(path: Sequence[Node], targets: set[int]) -> set[int]:
    """Return ``targets`` and every slot computed from them: what gradients to them pass through."""
    leads = set(targets)
    for node in path:
        if node.kind == OP and any(node.inputs[i] in leads for i in node.wanted):
            leads.update(range(node.slot, node.end))
    return leads


def linearize(node: Node | Alone, operands: Sequence[Any]) -> tuple[tuple[Any, ...], Linear]:
    """Run ``node`` on ``operands`` and return its outputs with its pullback."""
    lowering = node.lowering
    assert lowering is not None
    wanted = node.wanted
    if lowering.forward is not None and lowering.backward is not None:
        outs, saved = lowering.forward(*operands)
        residuals, tree = jax.tree_util.tree_flatten(saved)
        backward, single = lowering.backward, node.single

        def apply_own(arrays: Sequence[Any], cotangents: Sequence[Any]) -> list[Any]:
            saved = jax.tree_util.tree_unflatten(tree, arrays)
            result = backward(saved, cotangents[0] if single else tuple(cotangents))
            return [result[i] for i in wanted]

        return (outs,) if single else tuple(outs), Linear(residuals, apply_own)

    def of_wanted(*inputs: Any) -> Any:
        args = list(operands)
        for i, x in zip(wanted, inputs):
            args[i] = x
        return lowering.fn(*args)

    outs, pullback = jax.vjp(of_wanted, *[operands[i] for i in wanted])
    residuals, tree = jax.tree_util.tree_flatten(pullback)
    single = node.single

    def apply(arrays: Sequence[Any], cotangents: Sequence[Any]) -> list[Any]:
        pull = jax.tree_util.tree_unflatten(tree, arrays)
        return list(pull(cotangents[0] if single else tuple(cotangents)))

    return (outs,) if single else tuple(outs), Linear(residuals, apply)


def pull_back(nodes: Sequence[Any], cotangents: dict[int, Any], linear: dict[Any, Linear]) -> dict[int, Any]:
    """Carry ``cotangents`` (slot -> array) back through ``nodes``, in recorded order; return those of all slots.

    Among the nodes may be regions of them (`region.py`), which carry them by themselves.
    """
    flowing = {slot: _conj(c) for slot, c in cotangents.items()}
    for node in reversed(nodes):
        if node.kind == LOOP:
            node.pull(flowing, linear)
            continue
        outs = [flowing.get(slot) for slot in range(node.slot, node.end)]
        if all(c is None for c in outs):
            continue
        full = [zero(spec.aval) if c is None else c for c, spec in zip(outs, node.specs)]
        one = linear[node.depth]
        for i, c in zip(node.wanted, one.apply(one.residuals, full)):
            if c is None:
                continue
            slot = node.inputs[i]
            known = flowing.get(slot)
            flowing[slot] = c if known is None else known + c
    return {slot: _conj(c) for slot, c in flowing.items()}


def run_backward(node: Node, nodes: Sequence[Any], env: dict[int, Any], linear: dict[Any, Linear]) -> list[Any]:
    """Return the outputs of a ``BACKWARD`` node, which pulls through ``nodes``."""
    pull = node.pull
    assert pull is not None
    flowing: dict[int, Any] = {}
    for root, c in zip(pull.roots, pull.cotangents):
        flowing[root] = flowing[root] + env[c] if root in flowing else env[c]
    if pull.alone:
        gradients = pull_alone(nodes[0], flowing, linear[nodes[0].depth])
    else:
        flowing = pull_back(nodes, flowing, linear)
        gradients = [flowing.get(target) for target in pull.targets]
    found = zip(gradients, (spec.aval for spec in node.specs))
    return [jnp.zeros(of.shape, of.dtype.np) if g is None else g for g, of in found]


def steps(path: Sequence[Node], needed: set[int], differentiated: set[int]) -> list[Node]:
    """Return the nodes that must run for the slots ``needed``, in recorded order.

    Adds to ``differentiated`` the depths of the nodes whose pullbacks they use.
    """
    run: list[Node] = []
    for node in reversed(path):
        if not any(s in needed for s in range(node.slot, node.end)):
            continue
        run.append(node)
        if node.kind == BACKWARD:
            pull = node.pull
            assert pull is not None
            differentiated |= pull.traversed
            needed.update(pull.roots, pull.cotangents)
            for depth in pull.traversed:
                needed.update(range(path[depth].slot, path[depth].end))
        else:
            needed.update(x for x in node.inputs if type(x) is int)
    return run[::-1]


def ends(node: Node, slot: int) -> tuple[int, ...]:
    """Return the leaves and variables in which the tape of ``slot`` ends, at ``node``; worked out once."""
    if node.known is None:
        node.known = {}
    found = node.known.get(slot)
    if found is None:
        found = node.known[slot] = tuple(reach(node.path(), (slot,))[1])
    return found


class Alone:
    """As much of a node as `linearize` reads."""

    def __init__(self, lowering: Lowering, wanted: Sequence[int], single: bool):
        self.lowering, self.wanted, self.single = lowering, tuple(wanted), single


def pullback(lowering: Lowering, single: bool, outs: Sequence[Aval], wanted: Sequence[int], given: Sequence[bool],
             fixed: Sequence[tuple[int, Any]]) -> Callable[..., tuple[Any, ...]]:  # fmt: skip
    """Return the gradients of an op's operands ``wanted`` as a function of its operands and cotangents.

    Args:
        lowering: how the op runs.
        single: whether it has one output rather than a tuple.
        outs: the avals of its outputs.
        wanted: the operands whose gradients it gives.
        given: for each output, whether its cotangent is among the arguments; it is zero otherwise.
        fixed: operands that are no arguments, by their index: (index, number).
    """

    def fn(*arrays: Any) -> tuple[Any, ...]:
        operands = list(arrays[: len(arrays) - sum(given)])
        for i, number in fixed:
            operands.insert(i, number)
        feed = iter(arrays[len(arrays) - sum(given) :])
        cotangents = [jnp.conj(next(feed)) if g else zero(of) for g, of in zip(given, outs)]
        _, linear = linearize(Alone(lowering, wanted, single), operands)
        return tuple(jnp.conj(c) for c in linear.apply(linear.residuals, cotangents))

    return fn


def computed_from(fn: Callable[..., Any], given: Sequence[Aval | Number]) -> list[list[int]]:
    """Return, for each result of ``fn``, the arguments that it is computed from."""
    structs = [x.struct if isinstance(x, Aval) else x.kind(0) if x.value is None else x.value for x in given]
    with jax_state.tracing():
        jaxpr = jax.make_jaxpr(fn)(*structs).jaxpr
        results = range(len(jaxpr.outvars))
        used = [dce_jaxpr(jaxpr, [i == j for j in results])[1] for i in results]
    return [[k for k, is_used in enumerate(u) if is_used] for u in used]


def saved(prepared: Prepared, operands: Sequence[Aval | Number], wanted: Sequence[int]) -> set[int]:
    """Return the operands of an op that its gradients with respect to those ``wanted`` depend on."""
    if prepared.lowering.own:
        return set()
    fixed = [(i, x.value) for i, x in enumerate(operands) if isinstance(x, Number) and x.value is not None]
    places = [i for i in range(len(operands)) if i not in dict(fixed)]
    given = [of.dtype.is_inexact for of in prepared.outs]
    cotangents = [of for of, g in zip(prepared.outs, given) if g]
    fn = pullback(prepared.lowering, prepared.single, prepared.outs, wanted, given, fixed)
    found = set().union(*computed_from(fn, [*(operands[i] for i in places), *cotangents]))
    return {places[k] for k in found if k < len(places)}


def pull_alone(node: Node, cotangents: dict[int, Any], one: Linear) -> list[Any]:
    """Carry ``cotangents`` (slot -> array) back through ``node``; return those of its wanted operands, one by one."""
    full = [
        _conj(cotangents[slot]) if slot in cotangents else zero(spec.aval)
        for slot, spec in enumerate(node.specs, node.slot)
    ]
    return [None if c is None else _conj(c) for c in one.apply(one.residuals, full)]


def zero(of: Any) -> Any:
    """Return the cotangent of an output that nothing flows to."""
    if not of.dtype.is_inexact:
        return np.zeros(of.shape, jax.dtypes.float0)
    return jnp.zeros(of.shape, of.dtype.np)


def _conj(c: Any) -> Any:
    return jnp.conj(c) if jnp.iscomplexobj(c) else c
