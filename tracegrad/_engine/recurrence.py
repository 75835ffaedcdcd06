"""Where a trace that nobody reads is cut: at the start of an iteration, always at the same place of a loop.

NOTE [Cuts] A loop that never reads a value (an evaluation with ``correct += ...``, gradient accumulation, a simulation)
would grow one endless trace. Cutting it at a number of operations would drift: the places move through the loop's body,
and each is another program. So a cut stands before an op of the loop's own, found when the trace has become long:

- a *data loop*, in whose every iteration new arrays meet the same others (a model's weights), is cut at each iteration:
  it runs one cached program an iteration while the next one is recorded. A loop over parameters is none;
- any other loop is cut at the first iteration after ``TRACEGRAD_MAX_PENDING`` operations;
- where a step keeps missing because what stands before it varies (augmentations chosen at random), the cut stands
  before what is common, so that the varying part alone is compiled anew.

A cut is looked for at misses only: a history that was flushed somewhere is flushed there again.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

from tracegrad._config import config
from tracegrad._engine.trie import LEAF, OP, Node

#: From how many operations on, or how many bytes of leaves, a loop is looked for; and after how many more again.
_LONG, _HEAVY, _AGAIN = 256, 256 << 20, 64

#: What stands before an op: its own class and those of the two ops before it.
_data_loops: set[Hashable] = set()
_other_loops: set[Hashable] = set()
#: The class of the first op of what is common to the traces that end at one place.
_joins: set[Hashable] = set()
#: Where traces end -> the classes of the ops of the last one that was compiled, and how many were.
_endings: dict[Any, tuple[list[Hashable], int]] = {}


def due(node: Node, rule: Any, params: Any, where: Any) -> str:
    """Return why the trace at ``node`` is to be flushed before an op that it was never continued with; '' if not."""
    weight = node.weight
    if not weight:
        return ""
    own = (rule, params, where)
    if own in _joins:
        return "a step begins after what varies"
    bound = config.max_pending
    if _data_loops or weight >= bound:
        key = (own, *_ops_before(node))
        if key in _data_loops:
            return "the next iteration of a loop begins"
        if weight >= bound:
            assert node.parent is not None
            first = node.parent.weight < bound
            if key in _other_loops or weight >= 2 * bound or first and not _finds(node, _other_loops, False):
                return f"{weight} pending operations"
    if weight % _AGAIN == 0 and (weight >= _LONG or node.bytes >= _HEAVY):
        _finds(node, _data_loops, True)
    return ""


def _class(node: Node) -> Hashable:
    return (node.rule, node.params, node.where) if node.kind == OP else (node.kind, node.specs)


def _ops_before(node: Node | None, count: int = 2) -> list[Hashable]:
    found: list[Hashable] = []
    while node is not None and len(found) < count:
        if node.kind == OP:
            found.append(_class(node))
        node = node.parent
    return found


def _finds(node: Node, loops: set[Hashable], data: bool) -> bool:
    """Look for a loop at the end of the path to ``node``; add the op at which its iterations are to be cut."""
    path = node.path()
    classes = [_class(n) for n in path]
    period = _period(classes)
    if not period:
        return False
    last, before = path[-period:], path[-2 * period : -period]
    if data:
        carried = range(before[0].slot, last[0].slot)
        specs = {slot: spec for n in before for slot, spec in enumerate(n.specs, n.slot)}
        shared = {n.slot for n in path[: -2 * period] if n.kind == LEAF and n.spec.aval.ndim}
        if not any(n.kind == LEAF for n in last) or not any(x in shared for n in last for x in n.inputs):
            return False
        if any(type(x) is int and x in carried and specs[x].wants for n in last for x in n.inputs):
            return False  # a graph goes through the iterations: what they compute is differentiated together
    start = len(path) - period
    crossing = {i: _crossing(path, i) for i in range(start, len(path)) if path[i].kind == OP}
    if not crossing:
        return False
    after_leaf = [i for i in crossing if path[i - 1].kind == LEAF]
    at = min(after_leaf or crossing, key=lambda i: (crossing[i], i))
    loops.add((classes[at], *_ops_before(path[at].parent)))
    return True


def _period(classes: Sequence[Hashable]) -> int:
    """Return the shortest period of which the last elements are two whole ones; 0 where there is none."""
    back = classes[::-1]
    matched = [0] * len(back)  # how far ``back[i:]`` goes along with ``back``
    left = right = 0
    for i in range(1, len(back)):
        if i < right:
            matched[i] = min(right - i, matched[i - left])
        while i + matched[i] < len(back) and back[matched[i]] == back[i + matched[i]]:
            matched[i] += 1
        if i + matched[i] > right:
            left, right = i, i + matched[i]
        if matched[i] >= i:
            return i
    return 0


def _crossing(path: Sequence[Node], at: int) -> int:
    """Return how many values that ops made before ``path[at]`` are used from there on."""
    slot = path[at].slot
    made = {s for n in path[:at] if n.kind == OP for s in range(n.slot, n.end)}
    return len({x for n in path[at:] for x in n.inputs if type(x) is int and x < slot and x in made})


def compiled(path: Sequence[Node], where: Any) -> None:
    """Note that a trace which ends at ``where`` had to be compiled; find what it has in common with the last one."""
    ops = [n for n in path if n.kind == OP]
    classes = [_class(n) for n in ops]
    before, count = _endings.get(where, ([], 0))
    _endings[where] = classes, count + 1
    if len(_endings) > 1000:
        _endings.clear()
    if count < 2:
        return
    common = 0
    while common < min(len(classes), len(before)) and classes[-1 - common] == before[-1 - common]:
        common += 1
    if common == len(classes) or common == len(before) or 2 * common < len(classes):
        return
    for own in classes[-common:]:
        if classes.count(own) == 1 == before.count(own):
            _joins.add(own)
            return


def clear() -> None:
    """Forget every loop."""
    for known in (_data_loops, _other_loops, _joins, _endings):
        known.clear()
