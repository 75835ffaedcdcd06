"""The steps that a backward records: BACKWARD nodes, VJPs as ops, and values of a flushed segment once more."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax

from tracegrad import _device, _dtype
from tracegrad._engine import marking, sites, tape, trace
from tracegrad._engine.flush import narrowing
from tracegrad._engine.op import Lowering
from tracegrad._engine.segment import Segment, pull_rule
from tracegrad._engine.trace import Trace
from tracegrad._engine.trie import BACKWARD, LEAF, OP, VARIABLE, Node
from tracegrad._engine.value import Aval, Input, Number, Value, aval, concrete
from tracegrad._handle import Handle, tensor_of
from tracegrad.autograd._hooks import Cut

if TYPE_CHECKING:
    from tracegrad._tensor import Tensor

FREED = ("Trying to backward through the graph a second time (or directly access saved tensors after they have "
          "already been freed). Saved intermediate values of the graph are freed when you call .backward() or "
          "autograd.grad(). Specify retain_graph=True if you need to backward through the graph a second time or if "
          "you need to access saved tensors after calling backward.")  # fmt: skip


def touched(node: Node) -> list[int]:
    """Return the slots that a node reads."""
    return [x for x in node.inputs if type(x) is int]


def operands_of(node: Node, handles: dict[int, Tensor], numbers: Any) -> list[Any]:
    """Return what a node was recorded with."""
    operands: list[Any] = []
    for x in node.inputs:
        if type(x) is int:
            operands.append(handles[x])
        else:
            kind, index = x
            operands.append(index if kind == "c" else Input((numbers.floats if kind == "f" else numbers.ints)[index]))
    return operands


def vjp(node: Node, wanted: tuple[int, ...], operands: Sequence[Any],
        cotangents: Sequence[Tensor | None]) -> dict[int, Tensor]:  # fmt: skip
    """Record the VJP of ``node`` for its operands ``wanted`` as ops of its operands and cotangents.

    Returns:
        operand -> its gradient, without those that nothing of the given cotangents comes to.
    """
    given = tuple(c is not None for c in cotangents)
    static = tuple((i, type(x), x) for i, x in enumerate(operands) if not isinstance(x, (Handle, Input)))
    dynamic = [x for x in (*operands, *cotangents) if isinstance(x, (Handle, Input))]
    groups: tuple[tuple[int, ...], ...] = (wanted,)
    if len(wanted) > 1 or not all(given):
        groups = _groups(node, wanted, given, static, dynamic)
    gradients: dict[int, Tensor] = {}
    for group in groups:
        params = (node.lowering, node.single, node.specs, group, given, static)
        gradients.update(zip(group, trace.record(_vjp_rule, params, *dynamic)))
    return gradients


def _groups(node: Node, wanted: tuple[int, ...], given: tuple[bool, ...], static: Any,
            dynamic: Sequence[Any]) -> tuple[tuple[int, ...], ...]:  # fmt: skip
    """Return which of the operands ``wanted`` have gradients, in groups that one op computes.

    The gradients of a simple op are ops of their own where they depend on different things, as PyTorch's formulas do:
    so the last derivative of a product is a constant. What the ops have in common XLA computes once.
    """
    if node.known is None:
        node.known = {}
    wants = tuple([isinstance(x, Handle) and x._value.spec.wants for x in dynamic])
    key = ("vjp", wanted, given, wants)
    found = node.known.get(key)
    if found is None:
        avals = [x._value.spec.aval if isinstance(x, Handle) else Number(type(x.value)) for x in dynamic]
        lowering, first = node.lowering, len(dynamic) - sum(given)  # the first cotangent
        assert lowering is not None
        outs = [s.aval for s in node.specs]
        fn = tape.pullback(lowering, node.single, outs, wanted, given, [(i, x) for i, _, x in static])
        with trace.collection_paused:
            results = tape.computed_from(fn, avals)
        groups: dict[Any, list[int]] = {}
        constant = all(given) and node.rule is not _vjp_rule  # such as that of a sign: zeros, not nothing
        for i, reads in zip(wanted, results):
            if constant or any(x >= first for x in reads):
                simple = lowering.weight == 1 and len(wanted) <= 3
                groups.setdefault(frozenset(x for x in reads if wants[x]) if simple else (), []).append(i)
        found = node.known[key] = tuple(map(tuple, groups.values()))
    return found


def _vjp_rule(*args: Any) -> Lowering:
    lowering, single, specs, wanted, given, static = args[-6:]
    fn = tape.pullback(lowering, single, [s.aval for s in specs], wanted, given, [(i, x) for i, _, x in static])
    # A derivative that saves nothing does not depend on where it is taken, one that is linear not on every operand.
    read = set().union(*tape.computed_from(fn, args[:-6])) if lowering.saves else ()
    constant = tuple(i for i in range(len(args) - 6 - sum(given)) if i not in read)
    return Lowering(fn, name=lowering.name.replace("Backward", "BackwardBackward"), constant=constant,
                    scope=lowering.scope)  # fmt: skip


def revive(segment: Segment, slots: set[int]) -> dict[int, Tensor]:
    """Return tensors of the slots of a flushed segment, each in its place on the segment's tape.

    What nobody kept is computed again from the segment's leaves, by one recorded op.
    """
    program, leaves = segment.program, segment.leaves
    known = {**leaves, **{slot: concrete(array, aval_of(array)) for slot, array in segment.anchors.items()}}
    missing = tuple(sorted(slots - known.keys()))
    if missing:
        nodes = program.ancestors(set(missing))
        if any(n.kind in (LEAF, BACKWARD) and n.slot not in known for n in nodes):
            raise RuntimeError(FREED)
        given = [s for n in nodes if n.kind in (LEAF, BACKWARD) for s in range(n.slot, n.end) if s in known]
        used = sorted({x for n in nodes for x in n.inputs if type(x) is tuple and x[0] != "c"})
        floats, ints = segment.numbers
        made = trace.record(_again, (program, (*given, *used), missing), *(tensor_of(known[slot]) for slot in given),
                            *(Input((floats if kind == "f" else ints)[i]) for kind, i in used))  # fmt: skip
        known.update(zip(missing, (x._value for x in made)))
    handles = {}
    for slot in slots:
        value = known[slot]
        if slot not in leaves and program.spec(slot).wants:
            source = segment.sources.get(slot)
            if source is not None or program.producers[slot].kind == OP:
                value = marking.mark_variable(value, source or segment.output(slot))
        handles[slot] = tensor_of(value)
    return handles


def _again(*args: Any) -> Lowering:
    """The rule of the op that computes slots of a program again.

    Operands are values of slots and input numbers; the params are the program, which these are, and the slots.
    """
    program, given, missing = args[-3:]
    nodes = program.ancestors(set(missing))

    def fn(*arrays: Any) -> tuple[Any, ...]:
        env = dict(zip(given, arrays))
        for node in nodes:
            if node.kind == VARIABLE:
                env[node.slot] = env[node.inputs[0]]
            elif node.kind == OP:
                result = node.lowering.fn(*[env[x] if x in env else x[1] for x in node.inputs])
                env.update(enumerate((result,) if node.single else result, node.slot))
        return tuple(env[slot] for slot in missing)

    return Lowering(fn, differentiable=False, weight=sum(n.kind == OP for n in nodes))


def pull_inline(params: Any, arrays: Sequence[Any]) -> list[Tensor]:
    """Pull through a segment of somebody else's JAX trace: at once, since nothing of it can be used again."""
    program, _, traversed, ends = params
    if ends is None:
        (node,) = (program.path[d] for d in traversed)
        ends = [node.inputs[i] for i in node.wanted]
    avals = [program.spec(s).aval for s in ends]
    with narrowing():
        return [tensor_of(concrete(a, of)) for a, of in zip(pull_rule(*params).fn(*arrays), avals)]


@dataclass(frozen=True, eq=False)
class Stretch:
    """As much of the tape as a backward with ``create_graph`` walks at once."""

    owner: Trace | Segment
    nodes: list[Node]  # where to stop, the last first: what is pulled through, and cuts on outputs that are asked for
    traversed: Container[int]  # the depths of those pulled through
    handles: dict[int, Tensor]  # slot -> the tensor, for each operand of these
    numbers: Numbers
    cuts: dict[int, Cut]
    leads: Container[int] | None  # the slots that lead to what is asked for, None for all
    who: dict[int, Any]  # slot -> who asks for its gradient
    sources: dict[int, Any]  # slot -> where gradients go from there, for the leaves
    wanted: Container[int] | None  # the leaves that are asked for, None for all
    history: Callable[[int, Value], Tensor]  # gives an output that was saved its place on the tape


def stops(traversed: list[Node], makers: Iterable[Node], cuts: dict[int, Cut]) -> list[Node]:
    """Return the nodes ``traversed``, and those of ``makers`` where a cut stands, the last first as they are."""
    if not cuts:
        return traversed
    found = {n.depth: n for n in traversed}
    found.update((n.depth, n) for n in makers if n.slot in cuts)
    return [found[depth] for depth in sorted(found, reverse=True)]


class Numbers:
    """The input numbers of a trace."""

    def __init__(self, floats: dict[int, float], ints: dict[int, int]):
        self.floats, self.ints = floats, ints


def grow_backward(parent: Node, key: Any, targets: Any) -> Node:
    """Make the node of a backward that was never recorded after this history."""
    explicit, inner = targets
    path = parent.path()
    _, slots, _, _, _, *rest = key
    wanted = None if explicit is None else set(explicit) | set(inner)
    traversed, ends = tape.reach(path, slots, wanted, rest[0] if rest else 0)
    if explicit is None and inner:
        makers = tape.producers(path)
        ends = [*ends, *(s for s in inner if makers[s].depth in traversed or s in slots)]
    return _backward_node(parent, key, path, traversed, ends)


def grow_alone(parent: Node, key: Any, targets: Any) -> Node:
    """Make the node of a pull through one node, whose operands' gradients come out each by itself."""
    path = parent.path()
    node = tape.producers(path)[key[1][0]]
    operands = [node.inputs[i] for i in node.wanted]
    return _backward_node(parent, key, path, frozenset((node.depth,)), operands, alone=True)


def _backward_node(parent: Node, key: Any, path: list[Node], traversed: frozenset[int], ends: list[int],
                   alone: bool = False) -> Node:  # fmt: skip
    _, slots, cts, retain, *_ = key
    if not traversed.isdisjoint(tape.freed(path)):
        raise RuntimeError(FREED)
    tape.check(path, traversed)
    makers = tape.producers(path)
    kid = Node(parent, key, BACKWARD, parent.mode)
    kid.pull = tape.Pull(slots, cts, tuple(ends), traversed, not retain, alone)
    kid.inputs = (*slots, *cts)
    kid.give(tuple(makers[s].specs[s - makers[s].slot].aval.plain for s in ends))
    kid.single = False
    kid.where = sites.user_line()
    return parent.kids.setdefault(key, kid)


def output_of(segment: Segment, slot: int, saved: Value) -> Tensor:
    """Return what was saved of ``slot`` with its place on the tape."""
    return tensor_of(marking.mark_variable(saved, segment.sources.get(slot) or segment.output(slot)))


def aval_of(array: Any) -> Aval:
    """Return the aval of an array."""
    device = _device.default() if isinstance(array, jax.core.Tracer) else _device.from_jax(next(iter(array.devices())))
    return aval(tuple(array.shape), _dtype.from_np(array.dtype), device)
