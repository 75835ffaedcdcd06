"""What operations save while pack hooks are in force: each op becomes a cut, as a custom Function is one.

Elsewhere nobody saves tensors: XLA keeps, or computes again, what gradients need. Inside `saved_tensors_hooks` every op
takes the miss path, which hands it to `pack`: the operands and results that its derivative reads go through the pack
hook, and a step is recorded after it whose backward unpacks them and pulls back from what it got.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jax.core import eval_jaxpr
from jax.interpreters.partial_eval import dce_jaxpr

from tracegrad._engine import jax_state, tape, trace
from tracegrad._engine.body import scope_rule
from tracegrad._engine.op import Lowering
from tracegrad._engine.trie import Node
from tracegrad._engine.value import Input, Number, Value
from tracegrad._grad_mode import no_grad
from tracegrad._handle import Handle
from tracegrad._rewriting import overwrite_rule
from tracegrad.autograd import _saved
from tracegrad.autograd._function import step_rule
from tracegrad.autograd._hooks import Cut, attach
from tracegrad.autograd._steps import FREED

if TYPE_CHECKING:
    from tracegrad._tensor import Tensor


class Derivative:
    """The pullback of an op as a function of what PyTorch would save: operands and results. Static, one for a node."""

    def __init__(self, node: Node):
        lowering, operands = node.lowering, node.operands()
        assert lowering is not None
        self.name, self.wanted, self.outs = node.name, node.wanted, [s.aval for s in node.specs if s.wants]
        self.wanting = [i for i, spec in enumerate(node.specs) if spec.wants]  # the results that gradients come from
        fixed = [(i, x.value) for i, x in enumerate(operands) if isinstance(x, Number) and x.value is not None]
        moving = [i for i in range(len(operands)) if i not in dict(fixed)]

        def whole(*arrays: Any) -> tuple[Any, ...]:
            given = list(arrays[: len(moving)])
            for i, number in fixed:
                given.insert(i, number)
            outs, linear = tape.linearize(tape.Alone(lowering, node.wanted, node.single), given)
            feed = iter(arrays[len(moving) :])
            cotangents = [jnp.conj(next(feed)) if s.wants else tape.zero(s.aval) for s in node.specs]
            gradients = linear.apply(linear.residuals, cotangents)
            return (*(outs[i] for i in self.wanting), *map(jnp.conj, gradients))

        with jax_state.tracing():
            structs = [x.kind(0) if isinstance(x, Number) else x.struct for x in (operands[i] for i in moving)]
            closed = jax.make_jaxpr(whole)(*structs, *(of.struct for of in self.outs))
        self.run, read = _without_forward(closed, len(self.outs))
        #: what it reads, in order: ("in", operand), ("number", operand), ("gradient", k) and ("out", k) of what wants
        kinds = [("number" if isinstance(operands[i], Number) else "in", i) for i in moving]
        kinds += [(kind, k) for kind in ("gradient", "out") for k in range(len(self.outs))]
        self.reads = [x for x, is_read in zip(kinds, read) if is_read]


def _without_forward(closed: Any, count: int) -> tuple[Callable[..., Any], list[bool]]:
    """Return gradients as a function of what they read among operands, cotangents and results, and which these are.

    Args:
        closed: the jaxpr of the ``count`` results, then the gradients, of the operands and the cotangents. Where a
            gradient goes by a result, the function takes that one, rather than compute it of the operands.
        count: the number of results.
    """
    jaxpr = closed.jaxpr
    makers = {id(e.outvars[0]): e for e in jaxpr.eqns if len(e.outvars) == 1}
    results = dict.fromkeys(v for v in jaxpr.outvars[:count] if id(v) in makers)
    eqns = [e for e in jaxpr.eqns if e.outvars[0] not in results]
    rest = jaxpr.replace(invars=[*jaxpr.invars, *results], eqns=eqns, outvars=jaxpr.outvars[count:],
                         debug_info=jaxpr.debug_info._replace(arg_names=None, result_paths=None))  # fmt: skip
    lean, used = dce_jaxpr(rest, [True] * len(rest.outvars))
    inputs = dict(zip(results, used[len(jaxpr.invars) :]))
    read = [inputs.pop(v, False) if id(v) in makers else False for v in jaxpr.outvars[:count]]
    return partial(eval_jaxpr, lean, closed.consts), [*used[: len(jaxpr.invars)], *read]


def _derivative(*args: Any) -> Lowering:
    """The rule of the gradients of a packed op: operands are what its `Derivative` reads; its cotangents if given."""
    of, given = args[-2:]

    def fn(*arrays: Any) -> tuple[Any, ...]:
        feed = iter(arrays)
        full = [tape.zero(of.outs[k]) if kind == "gradient" and not given[k] else next(feed) for kind, k in of.reads]
        return tuple(of.run(*full))

    unread = set(range(len(args) - 2)).difference(*tape.computed_from(fn, args[:-2]))
    return Lowering(fn, name=of.name.replace("Backward", "BackwardBackward"), constant=tuple(sorted(unread)))


def pack(node: Node, operands: Sequence[Any], result: Any) -> Any:
    """Return the results of an op that was just recorded as those of a step that keeps what it saves packed."""
    lowering = node.lowering
    if not node.wanted or lowering is None or not lowering.saves or lowering.own:
        return result
    if node.rule is scope_rule or trace.state.trace.scoped:
        return result  # a checkpoint or a vmap is one op, which JAX differentiates
    if node.known is None:
        node.known = {}
    of = node.known.get("packed")
    if of is None:
        of = node.known["packed"] = Derivative(node)
    if not any(kind in ("in", "out") for kind, _ in of.reads):
        return result
    outs = [result] if node.single else list(result)
    tensors = [x for x in operands if isinstance(x, Handle)]
    made = trace.record(step_rule, (of.name, len(of.wanting), True), *(outs[i] for i in of.wanting), *tensors)
    for i, out in zip(of.wanting, made if len(of.wanting) > 1 else (made,)):
        outs[i] = out
    cut = Cut()
    cut.function = _Packed(of, operands, [outs[i] for i in of.wanting])
    attach(outs[of.wanting[0]]._value, cut)
    return outs[0] if node.single else tuple(outs)


class _Packed:
    """What one op saved, as the context of a custom Function."""

    def __init__(self, of: Derivative, operands: Sequence[Any], outs: Sequence[Tensor]):
        self.of = of
        self.numbers = {i: x if isinstance(x, Input) else Input(x) for i, x in enumerate(operands)
                        if ("number", i) in of.reads}  # fmt: skip
        tensors = [i for i, x in enumerate(operands) if isinstance(x, Handle)]
        self.places = {i: k for k, i in enumerate(tensors, len(outs))}  # operand of the op -> of its step
        hook, self._unpack = _saved.hooks.stack[-1]
        saved = [("in", i) for kind, i in of.reads if kind == "in"]
        if len(saved) == 2:
            saved.reverse()  # the order of PyTorch's formulas of two operands
        saved += [("out", k) for kind, k in of.reads if kind == "out"]
        with no_grad():
            self.packed: dict[tuple[str, int], Any] | None = {
                (kind, k): hook(operands[k] if kind == "in" else outs[k]) for kind, k in saved}  # fmt: skip

    def free(self) -> None:
        """Let go of what was saved, after a backward without ``retain_graph``."""
        self.packed = None

    def pull(self, node: Node, outs: Sequence[Tensor | None], history: Callable[[int, Value], Tensor]) -> list[Any]:
        """Return the gradient of each wanted operand of the step, of the gradients of its outputs."""
        if self.packed is None:
            raise RuntimeError(FREED)
        arguments: list[Any] = []
        for kind, k in self.of.reads:
            if kind in ("in", "out"):
                tensor = _saved.Packed(self.packed[kind, k], self._unpack).unpack(None)
                arguments.append(self._placed(tensor, kind, k, node, history))
            elif kind == "number":
                arguments.append(self.numbers[k])
            elif outs[k] is not None:
                arguments.append(outs[k])
        found = trace.record(_derivative, (self.of, tuple(c is not None for c in outs)), *arguments)
        by_place = {self.places[i]: g for i, g in zip(self.of.wanted, found)}
        return [by_place.get(i) for i in node.wanted]

    def _placed(self, tensor: Tensor, kind: str, k: int, node: Node, history: Callable[[int, Value], Tensor]) -> Tensor:
        """Return an unpacked tensor in its place on the tape, where the backward is differentiated itself."""
        if not trace.state.mode.grad:
            return tensor
        if kind == "out":
            index = k
        elif self.places[k] in node.wanted:
            index = node.inputs[self.places[k]] - node.slot
        else:
            return tensor
        return trace.record(overwrite_rule, (True,), history(index, tensor._value), tensor)  # type: ignore[no-any-return]
