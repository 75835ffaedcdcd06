"""The record of an update as most steps do it: all its numbers change, and nobody needs a handle of what it makes."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Any

from tracegrad._engine.op import Rule
from tracegrad._engine.trace import enter, pending, state
from tracegrad._engine.value import Value

_value_of = attrgetter("_value")
_slot_of = attrgetter("slot")


def renew(rule: Rule, params: tuple[Any, ...], operands: Sequence[Any], numbers: Sequence[Any]) -> list[Value] | None:
    """Record an op that renews its first operands, if the trace goes on as the last one did; else return None.

    `trace.record` does the same for tensors and each of ``numbers`` as an `Input`, in any case.

    Returns:
        The values that it makes: those of operands that it renews have their variables.
    """
    trace = state.trace
    values = list(map(_value_of, operands))
    for value in values:
        if value.trace is not trace and enter(trace, value) < 0:
            return None
    node = trace.node
    kid = node.next
    if kid is None or kid.key != (rule, params, *map(_slot_of, values), *map(type, numbers)):
        return None
    if not set(map(type, numbers)) <= {float}:
        return None
    made = pending(trace, kid.slots, kid.specs)
    for value, operand in zip(made[: kid.lowering.renews], operands):  # type: ignore[union-attr]
        value.source = operand._variable
    floats = {index: numbers[operand - len(values)] for operand, _, index in kid.numbers}
    # As in `trace.commit`.
    if trace.node is node:
        trace.floats.update(floats)
    if trace.node is node:
        trace.values.update(zip(kid.slots, made))
    if trace.node is node:
        trace.node = kid
        return made
    return None
