"""Where a trace that nobody reads is cut: at the start of an iteration, always at the same place of a loop.

NOTE [Cuts] A loop that never reads a value (an evaluation with ``correct += ...``, gradient accumulation, a simulation)
would grow one endless trace. Cutting it at a number of operations would drift: the places move through the loop's body,
and each is another program. So a cut stands before an op of the loop's own, found once an iteration came three times:

- a *data loop*, in whose every iteration new arrays meet the same others (a model's weights), is cut at each iteration:
  it runs one cached program an iteration while the next one is recorded. A loop over parameters is none;
- a loop whose iterations are differentiated together (time steps, layers, losses that are added up) is one computation:
  it is cut at the first iteration after ``TRACEGRAD_MAX_PENDING`` operations, or a multiple of them where it will be
  rolled (`rolling.py`);
- any other loop (a simulation) is cut at the first iteration after 256 operations: what XLA needs for more of them at
  once grows faster than their number, and running them gains nothing any more.

NOTE [What varies before a step] A step whose beginning is chosen at random (augmentations) would be compiled for every
choice. So the first op that is common to the last traces which ended at one place is remembered, and the trace is cut
before it: the varying part is a program of its own, and what follows is the same program again. In a loop that never
reads, the common part is found by its last ops, which came before.

A cut is looked for at misses only: a history that was flushed somewhere is flushed there again.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from tracegrad._config import config
from tracegrad._engine import rolling
from tracegrad._engine.trie import BACKWARD, LEAF, OP, Node
from tracegrad._engine.value import Spec, Value

#: Loops are looked for whenever this many operations were added.
_AGAIN = 16
#: A data loop is cut at the first iteration after this many operations: one with fewer is not worth a run.
_SHORT = 8
#: A loop through which nothing is differentiated is cut at the first iteration after this many.
_LONG = 256
#: How many ops must come again after what varies to be taken for a step.
_SAME = 8
#: A trace of rolled loops may be this many times as long as others.
_ROLLED = 32

#: What stands before an op (its own class and those of the two ops before it) -> from how many operations on it is cut,
#: 0 for as many as may be pending.
_loops: dict[Hashable, int] = {}
#: The class of the first op of what is common to traces that begin in different ways.
_joins: set[Hashable] = set()
#: The classes of the last three ops of such a common part, the last first, where it is not flushed by itself.
_ends: set[Hashable] = set()
#: Where traces end -> the classes of the ops of the last one that was compiled, and how many were.
_endings: dict[Any, tuple[list[Hashable], int]] = {}

#: The reference count of a value that nothing but its trace holds.
_DEAD = next(map(sys.getrefcount, map({0: Value()}.__getitem__, [0])))


def due(values: Mapping[int, Value], node: Node, rule: Any, params: Any, where: Any) -> str:
    """Return why the trace at ``node`` is to be flushed before an op that it was never continued with; '' if not.

    Args:
        values: those of the trace, by slot.
        node: the last of the trace.
        rule: of the op.
        params: of the op.
        where: the user's line.
    """
    weight = node.weight
    if not weight:
        return ""
    own = (rule, params, where)
    if own in _joins and own not in map(_class, node.path()):
        return "a step begins after what varies"
    if _ends and weight >= _SHORT and tuple(_ops_before(node, 3)) in _ends:
        return "a step ended before what varies"
    last = node
    while last.parent is not None and last.parent.weight == weight:  # what entered for this op counts nothing
        last = last.parent
    assert last.parent is not None
    before, bound = last.parent.weight, node.bound or config.max_pending
    if before < bound <= weight and _will_be_rolled(node, bound):
        node.bound = 2 * bound
        return ""
    if _loops and weight >= (_loops.get((own, *_ops_before(node)), sys.maxsize) or bound):
        return "the next iteration of a loop begins"
    if weight // _AGAIN > before // _AGAIN and (not node.bound or before < bound <= weight):
        path = node.path()
        classes = [_class(n) for n in path]
        found = _find_loop(path, classes, values)
        if not found and _find_join(path, classes, values):
            return "a step began after what varies"
        if not found and before < bound <= weight:
            return f"{weight} pending operations"
    return f"{weight} pending operations" if weight >= 2 * bound else ""


def _class(node: Node) -> Hashable:
    return (node.rule, node.params, node.where) if node.kind == OP else (node.kind, node.specs)


def _ops_before(node: Node | None, count: int = 2) -> list[Hashable]:
    found: list[Hashable] = []
    while node is not None and len(found) < count:
        if node.kind == OP:
            found.append(_class(node))
        node = node.parent
    return found


# -- loops -------------------------------------------------------------------------------------------------------------


def _find_loop(path: Sequence[Node], classes: Sequence[Hashable], values: Mapping[int, Value]) -> bool:
    """Look for a loop at the end of ``path``, and note the op at which its iterations are cut, and from when on."""
    period = _period(classes, 3)
    start = len(path) - 2 * period
    crossing = _crossing(path, range(start, start + period))
    if not crossing:
        return False
    places = {i: (classes[i], *_ops_before(path[i].parent)) for i in crossing}
    after_leaf = [i for i in crossing if path[i - 1].kind == LEAF]
    at = min(after_leaf or crossing, key=lambda i: (len(crossing[i]), places[i] not in _loops, i))
    own = path[at : at + period]
    if any(spec.wants for spec in crossing[at].values()) or _holds_graph(path[:start], values):
        threshold = 0
    elif any(n.kind == LEAF for n in own) and _shared([own], path[at - period].slot):
        threshold = _SHORT
    else:
        threshold = min(_LONG, config.max_pending)
    if places[at] not in _loops and threshold:
        _forget_whole(path, places[at], threshold)
    _loops[places[at]] = threshold
    return True


def _will_be_rolled(node: Node, bound: int) -> bool:
    """Whether a loop at the end of the path to ``node`` is one that gradients go through, and makes the path short."""
    if bound >= _ROLLED * config.max_pending:
        return False
    path = node.path()
    period = _period([_class(n) for n in path], 3)
    if not period or not _is_differentiated(path, period):
        return False
    specs = {slot: spec for n in path for slot, spec in enumerate(n.specs, n.slot)}
    units, _ = rolling.rolled([n for n in path if n.specs], specs.__getitem__)
    return 2 * len(units) < config.max_pending


def _is_differentiated(path: Sequence[Node], period: int) -> bool:
    """Whether a graph goes through the last two periods: what they compute is differentiated together."""
    last, before = path[-period:], path[-2 * period : -period]
    carried = range(before[0].slot, last[0].slot)
    specs = {slot: spec for n in before for slot, spec in enumerate(n.specs, n.slot)}
    return any(type(x) is int and x in carried and specs[x].wants for n in last for x in n.inputs)


def _forget_whole(path: Sequence[Node], place: Hashable, threshold: int) -> None:
    """Drop from the trie what was recorded without a cut: or each number of iterations would be a program."""
    for node in path:
        if node.kind == OP and (_class(node), *_ops_before(node.parent)) == place:
            assert node.parent is not None
            if node.parent.weight >= threshold:
                node.parent.forget(node.key)
                return


def _crossing(path: Sequence[Node], places: range) -> dict[int, dict[int, Spec]]:
    """Return, for the ops at ``places``, the values that ops before made and that are used from there on."""
    found: dict[int, dict[int, Spec]] = {i: {} for i in places if path[i].kind == OP}
    last_use = {x: i for i, n in enumerate(path) for x in n.inputs if type(x) is int}
    for made, node in enumerate(path):
        for slot, spec in enumerate(node.specs if node.kind == OP else (), node.slot):
            for i in range(max(made + 1, places.start), min(last_use.get(slot, 0) + 1, places.stop)):
                if i in found:
                    found[i][slot] = spec
    return found


def _holds_graph(path: Sequence[Node], values: Mapping[int, Value]) -> bool:
    """Whether somebody holds a result of ``path`` that can still be differentiated."""
    ops = [n for n in path if n.kind == OP and n.wanted]
    wanting = [slot for n in ops for slot, spec in enumerate(n.specs, n.slot) if spec.wants]
    return any(count > _DEAD for count in map(sys.getrefcount, map(values.__getitem__, wanting)))


def _is_over(path: Sequence[Node], parts: Sequence[Sequence[Node]]) -> bool:
    """Whether nothing of the parts is left to be differentiated: a backward followed each, or none is wanted."""
    starts = [part[0].depth for part in parts]
    return not any(n.wanted for part in parts for n in part) or all(
        any(n.kind == BACKWARD for n in path[a:b]) for a, b in itertools.pairwise(starts))  # fmt: skip


def _shared(parts: Sequence[Sequence[Node]], slot: int) -> bool:
    """Whether an array from before ``slot`` is used by all of the parts, which have the same ops."""
    for steps in zip(*parts):
        used = {x for x in steps[0].inputs if type(x) is int and x < slot}
        for x in used.intersection(*(n.inputs for n in steps)):
            maker = steps[0]
            while not maker.slot <= x < maker.end:
                assert maker.parent is not None
                maker = maker.parent
            if maker.specs[x - maker.slot].aval.ndim:
                return True
    return False


def _period(classes: Sequence[Hashable], times: int) -> int:
    """Return the shortest period of which the last elements are so many whole ones; 0 where there is none."""
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
        if matched[i] >= (times - 1) * i:
            return i
    return 0


# -- steps after what varies -------------------------------------------------------------------------------------------


def _find_join(path: Sequence[Node], classes: Sequence[Hashable], values: Mapping[int, Value]) -> bool:
    """Look for a step at the end of ``path`` whose ops came again and again with others between; note its first op."""
    ops = [n for n in path if n.kind == OP]
    numbers: dict[Hashable, int] = {}
    own = [numbers.setdefault(c, len(numbers)) for n, c in zip(path, classes) if n.kind == OP]
    seen: dict[tuple[int, ...], list[int]] = {}
    for end in range(_SAME, len(own) + 1):
        ends = seen.setdefault(tuple(own[end - _SAME : end]), [])
        if not ends or end - ends[-1] >= _SAME:
            ends.append(end)
        if len(ends) < 4 or end < len(own) - _AGAIN:  # the first of a loop's iterations differs from the others
            continue
        first, second, third = ends[-3:]
        common = _SAME
        while common < first and own[first - common - 1] == own[second - common - 1] == own[third - common - 1]:
            common += 1
        parts = [ops[e - common : e] for e in (first, second, third)]
        if common >= min(second - first, third - second) or not _shared(parts, parts[0][0].slot):
            continue
        if own[first : second - common] == own[second : third - common]:
            continue  # nothing varies: it is a loop
        between = own[first - common : second - common]
        once = [n for n, i in zip(parts[2], own[third - common : third - _SAME + 1]) if between.count(i) == 1]
        if once and _is_over(path, parts) and not _holds_graph(parts[0], values):
            _joins.add(_class(once[0]))
            ahead = 0
            while second + ahead < third - common and own[first + ahead] == own[second + ahead]:
                ahead += 1
            last = ops[second + ahead - 1]
            _ends.add(tuple(_ops_before(last, 3)))
            return True
    return False


def compiled(path: Sequence[Node], where: Any) -> None:
    """Note that a trace which ends at ``where`` had to be compiled; find what it has in common with the last one."""
    classes = [_class(n) for n in path if n.kind == OP]
    before, count = _endings.get(where, ([], 0))
    _endings[where] = classes, count + 1
    if len(_endings) > 1000:
        _endings.clear()
    if count < 2:
        return
    common = 0
    while common < min(len(classes), len(before)) and classes[-1 - common] == before[-1 - common]:
        common += 1
    if common == len(classes) or common == len(before):
        return
    trains = any(n.kind == BACKWARD for n in path)
    worth = _SAME // 2 if trains else _SAME  # fewer ops are compiled as fast as what varies
    for i in range(len(classes) - common, len(classes) - worth + 1):
        own = classes[i]
        if classes.index(own) == i and before.index(own) == i - len(classes) + len(before):
            _joins.add(own)
            return


def clear() -> None:
    """Forget every loop."""
    for known in (_loops, _joins, _ends, _endings):
        known.clear()
