"""Draws that differ in their numbers alone, such as a model's initial weights, computed by one vectorised operation.

XLA takes 25 ms to compile one draw, and a model has hundreds, of a few shapes. Those of one shape become rows of one
array here. Only draws that are handed out as they are: what a step uses itself is better fused with its use.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import jax
import numpy as np

from tracegrad._engine.rows import Env, Numbers
from tracegrad._engine.trie import OP, VARIABLE, Node

#: How many at least.
_LEAST = 3


def groups(nodes: Iterable[Node], live: frozenset[int]) -> dict[int, list[Node]]:
    """Return the draws that are computed together, by the depth of the first."""
    found: dict[Any, list[Node]] = {}
    handed_out: dict[int, bool] = {}  # slot -> whether nothing here uses it, and it is live under one of its names
    for node in reversed(list(nodes)):
        if node.kind == VARIABLE:
            handed_out[node.inputs[0]] = handed_out.get(node.slot, node.slot in live)
            continue
        for x in node.inputs:
            if type(x) is int:
                handed_out[x] = False
        lowering = node.lowering
        if node.kind != OP or lowering is None or lowering.checks or not node.single or not node.numbers:
            continue
        if all(type(x) is not int for x in node.inputs) and handed_out.get(node.slot, node.slot in live):
            key = lowering, tuple(x if x[0] == "c" else x[0] for x in node.inputs)
            found.setdefault(key, []).insert(0, node)
    return {draws[0].depth: draws for draws in found.values() if len(draws) >= _LEAST}


def emit(nodes: Sequence[Node], env: Env, numbers: Numbers) -> None:
    """Compute the values of ``nodes`` as rows of one array."""
    lowering = nodes[0].lowering
    assert lowering is not None
    operands: list[Any] = []
    dynamic: list[int] = []
    for i, column in enumerate(zip(*(node.inputs for node in nodes))):
        kind, value = column[0]
        if kind == "c":
            operands.append(value)
        else:
            dynamic.append(i)
            operands.append(numbers.packed[kind][np.array([index for _, index in column])])

    def one(*given: Any) -> Any:
        args = list(operands)
        for i, x in zip(dynamic, given):
            args[i] = x
        return lowering.fn(*args)

    array = jax.vmap(one)(*(operands[i] for i in dynamic))
    env.hold(nodes[0].depth, 0, array, [node.slot for node in nodes])
