"""How the trie grows: the node of an op that was never recorded after one history."""

from __future__ import annotations

from typing import Any

from tracegrad._engine import inference
from tracegrad._engine.op import Prepared
from tracegrad._engine.trie import OP, Node
from tracegrad._engine.value import Aval, Number


def op_node(parent: Node, key: Any, prepared: Prepared, described: list[Aval | Number], values: list[Any],
            slots: list[Any]) -> Node:  # fmt: skip
    """Make the node of an op: what it reads, which operands' gradients are wanted, and what is known of its outputs.

    Args:
        parent: the history after which it is recorded.
        key: under which it will be found there.
        prepared: how it runs.
        described: its operands.
        values: of the operands, None for numbers.
        slots: what it is looked up by: the last of them are the operands' slots.
    """
    kid = Node(parent, key, OP, parent.mode)
    lowering = prepared.lowering
    inputs: list[Any] = []
    numbers = []
    wanted = []
    for i, (what, value) in enumerate(zip(described, values)):
        if value is not None:
            inputs.append(slots[i - len(values)])
            if value.spec.wants and lowering.differentiable and parent.mode.grad and i not in lowering.constant:
                wanted.append(i)
        elif isinstance(what, Number) and what.value is None:
            is_float = what.kind is float
            index = kid.floats if is_float else kid.ints
            numbers.append((i, is_float, index))
            inputs.append(("f" if is_float else "i", index))
            if is_float:
                kid.floats += 1
            else:
                kid.ints += 1
        else:
            assert isinstance(what, Number)
            inputs.append(("c", what.value))
    inferred = False
    if parent.mode.inference or any(v is not None and v.spec.inference for v in values):
        inferred, wanted = inference.settled(parent.mode, prepared, described, values, wanted)
    kid.inputs, kid.numbers = tuple(inputs), tuple(numbers)
    wants = [i < lowering.renews or bool(wanted) and a.dtype.is_inexact and i not in lowering.unwanted
             for i, a in enumerate(prepared.outs)]  # fmt: skip
    kid.give(tuple(a.inferred[w] if inferred else a.wanting if w else a.plain for a, w in zip(prepared.outs, wants)))
    kid.wanted = tuple(wanted) if any(s.wants for s in kid.specs) else ()
    kid.lowering, kid.single = lowering, prepared.single
    kid.weight += lowering.weight
    return kid
