"""The steps that a backward records: BACKWARD nodes, VJPs as ops, and the forward of a flushed segment once more."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jax.interpreters.partial_eval import dce_jaxpr

from tracegrad import _device, _dtype
from tracegrad._engine import jax_state, sites, tape, trace
from tracegrad._engine.flush import narrowing
from tracegrad._engine.op import Lowering
from tracegrad._engine.segment import Segment, pull_rule
from tracegrad._engine.trace import state
from tracegrad._engine.trie import BACKWARD, OP, VARIABLE, Node
from tracegrad._engine.value import Aval, Input, Number, Value, Variable, aval, concrete
from tracegrad._handle import Handle, tensor_of
from tracegrad.autograd._hooks import attach, keep_line

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
        cotangents: Sequence[Tensor | None]) -> list[Tensor]:  # fmt: skip
    """Record the VJP of ``node`` for its operands ``wanted`` as an op of its operands and cotangents."""
    given = tuple(c is not None for c in cotangents)
    static = tuple((i, type(x), x) for i, x in enumerate(operands) if not isinstance(x, (Handle, Input)))
    dynamic = [x for x in operands if isinstance(x, (Handle, Input))]
    params = (node.lowering, node.single, node.specs, wanted, given, len(operands), static)
    result = trace.record(_vjp_rule, params, *dynamic, *[c for c in cotangents if c is not None])
    return list(result)


def _vjp_rule(*args: Any) -> Lowering:
    lowering, single, specs, wanted, given, count, static = args[-7:]
    fixed = {i: x for i, _, x in static}

    def fn(*arrays: Any) -> tuple[Any, ...]:
        feed = iter(arrays)
        operands = [fixed[i] if i in fixed else next(feed) for i in range(count)]
        cotangents = [jnp.conj(next(feed)) if g else tape.zero(spec.aval) for g, spec in zip(given, specs)]
        node = _Lone(lowering, wanted, single)
        _, linear = tape.linearize(node, operands)  # type: ignore[arg-type]
        return tuple(jnp.conj(c) for c in linear.apply(linear.residuals, cotangents))

    # A derivative that saves nothing does not depend on where it is taken, one that is linear not on every operand.
    operands = count - len(static)
    unread = _unread(fn, args[:-7]) if lowering.saves else range(operands)
    constant = tuple(i for i in unread if i < operands)
    return Lowering(fn, name=lowering.name.replace("Backward", "BackwardBackward"), constant=constant)


def _unread(fn: Callable[..., Any], given: Sequence[Aval | Number]) -> list[int]:
    """Return the arguments that nothing is computed from."""
    structs = [x.struct if isinstance(x, Aval) else x.kind(0) if x.value is None else x.value for x in given]
    with jax_state.tracing():
        jaxpr = jax.make_jaxpr(fn)(*structs).jaxpr
        _, read = dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))
    return [i for i, is_read in enumerate(read) if not is_read]


class _Lone:
    """As much of a node as `tape.linearize` reads."""

    def __init__(self, lowering: Lowering, wanted: tuple[int, ...], single: bool):
        self.lowering, self.wanted, self.single = lowering, wanted, single


def revive(segment: Segment, roots: Sequence[int]) -> list[Tensor]:
    """Record a flushed segment's forward anew, and return its outputs ``roots``."""
    if segment.leaves is None:
        raise RuntimeError(FREED)
    program = segment.program
    ancestors = program.ancestors(set(roots))
    handles: dict[int, Tensor] = {slot: tensor_of(value) for slot, value in segment.leaves.items()}
    for slot, array in segment.anchors.items():
        handles[slot] = tensor_of(concrete(array, aval_of(array)))
    before = state.mode
    numbers = Numbers(*segment.numbers)
    try:
        for node in ancestors:
            if node.kind == VARIABLE:
                source = segment.sources.get(node.slot)
                old = handles[node.inputs[0]]._value
                handles[node.slot] = (tensor_of(trace.mark_variable(old, source)) if isinstance(source, Variable)
                                      else tensor_of(old))  # fmt: skip
            elif node.kind == OP:
                trace.set_mode(node.mode)
                assert node.rule is not None
                result = trace.record(node.rule, node.params, *operands_of(node, handles, numbers))
                made = (result,) if node.single else result
                for slot, out in enumerate(made, node.slot):
                    handles[slot] = out
                if made[0]._value.spec.wants:
                    if node.slot in segment.cuts:
                        attach(made[0]._value, segment.cuts[node.slot])
                    if segment.trace.lines:
                        keep_line(made[0]._value, segment.trace.lines.get(node.slot))
    finally:
        trace.set_mode(before)
    return [handles[s] for s in roots]


def pull_inline(params: Any, arrays: Sequence[Any]) -> list[Tensor]:
    """Pull through a segment of somebody else's JAX trace: at once, since nothing of it can be used again."""
    program, _, traversed, ends = params
    if ends is None:
        (node,) = (program.path[d] for d in traversed)
        ends = [node.inputs[i] for i in node.wanted]
    avals = [program.spec(s).aval for s in ends]
    with narrowing():
        return [tensor_of(concrete(a, of)) for a, of in zip(pull_rule(*params).fn(*arrays), avals)]


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
    """Return what a Function saved of its output ``slot`` with its place on the tape."""
    return tensor_of(concrete(trace.computed(saved), saved.spec.aval, segment.output(slot)))


def aval_of(array: Any) -> Aval:
    """Return the aval of an array."""
    device = _device.default() if isinstance(array, jax.core.Tracer) else _device.from_jax(next(iter(array.devices())))
    return aval(tuple(array.shape), _dtype.from_np(array.dtype), device)
