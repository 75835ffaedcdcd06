"""Marking values: as leaves of the tape that gradients go to, and as made in inference mode, or not.

What a value is to autograd never changes: a marked one is another value with the same array, or the slot of a VARIABLE
node where the array is pending.
"""

from __future__ import annotations

from typing import Any

from tracegrad._engine import sites
from tracegrad._engine import trace as traces
from tracegrad._engine.trace import Shadow, enter, state
from tracegrad._engine.trie import VARIABLE, Node
from tracegrad._engine.value import Spec, Value


def mark_variable(value: Value, variable: Any, again: bool = False) -> Value:
    """Return ``value`` as a leaf of the tape that gradients of ``variable`` go to, ``again`` after a write to it."""
    spec = value.spec
    return _marked(value, spec.aval.inferred[1] if spec.inference else spec.aval.wanting, variable, again)


def mark_inference(value: Value, inferred: bool) -> Value:
    """Return ``value`` as one that was made in inference mode, or not in it."""
    aval = value.spec.aval
    return _marked(value, aval.inferred[0] if inferred else aval.plain, None, True)


def _marked(value: Value, spec: Spec, source: Any, again: bool) -> Value:
    if value.array is not None and not state.trace.recorded:
        fresh = Value()
        fresh.trace, fresh.slot, fresh.array = None, -1, value.array
        fresh.spec, fresh.source = spec, source
        return fresh
    while True:
        trace = state.trace
        slot = value.slot if value.trace is trace else enter(trace, value)
        node = trace.node
        if trace.closed or value.array is not None and not trace.recorded:
            return _marked(value, spec, source, again)
        key = ("variable", slot, again or trace.has_backward, spec)
        kid = node.real.kids.get(key)
        if kid is not None:
            kid.stamp = max(kid.stamp, 1)
        else:
            kid = Node(node.real, key, VARIABLE, node.real.mode)
            kid.inputs = (slot,)
            kid.give((spec,))
            kid.where = sites.user_line()
            kid = node.real.kids.setdefault(key, kid)
        fresh = Value()
        fresh.trace, fresh.slot, fresh.spec, fresh.array, fresh.source = trace, kid.slot, kid.spec, None, source
        after = Shadow(kid) if trace.missing else kid
        if trace.node is node:
            trace.values[kid.slot] = fresh
            trace.node = after
            if trace.immediate:
                traces._flush(trace, "eager()")
            return fresh
