"""The trie of all traces of this process: a node is "after this exact history, this op on these slots".

Recording looks up ``node.kids[key]``, after a look at ``node.next``, see NOTE [What came last]. The path from the root
to a node is a whole trace, so what was found out about it once (avals, which outputs want gradients, compiled programs)
hangs on its nodes for ever after.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tracegrad import _dtype
from tracegrad._config import config
from tracegrad._dtype import DType
from tracegrad._engine.op import Lowering, Rule
from tracegrad._engine.value import Aval, Number, Spec

if TYPE_CHECKING:
    from tracegrad._engine.body import Body
    from tracegrad._engine.program import Program
    from tracegrad._engine.tape import Pull

ROOT, MODE, LEAF, VARIABLE, OP, BACKWARD = range(6)
LOOP = 6  # steps that are emitted together (`loop.py`): never in the trie


class Mode:
    """The ambient modes that change an op's meaning. One object per combination, so a dict key."""

    __slots__ = ("grad", "enabled", "inference", "default")

    def __init__(self, grad: bool, inference: bool, default: DType):
        self.grad = grad and not inference  # whether ops are recorded for gradients
        self.enabled = grad  # whether they would be outside of inference mode
        self.inference = inference
        self.default = default  # the default dtype


_modes: dict[tuple[bool, bool, DType], Mode] = {}


def mode(grad: bool, inference: bool = False) -> Mode:
    """Return the mode with these flags and today's default dtype."""
    key = (grad, inference, _dtype.get_default_dtype())
    found = _modes.get(key)
    return _modes.setdefault(key, Mode(*key)) if found is None else found


class _Step:
    """What recording reads of a node in a hit, see NOTE [What came last]: a base's slots come first in memory."""

    __slots__ = ("a", "b", "fn", "key", "kids", "lowering", "next", "numbers", "real", "single", "slot", "spec")
    a: Any  # the first operand's slot, of an op whose only param is a function of one or two operands; else None
    b: Any  # the second's slot; of a number its type, with its value where that is no input; None where there is none
    fn: Any  # that function, else None
    key: Any
    kids: dict[Any, Node]
    lowering: Lowering | None
    next: Node | None  # the kid that the last trace went on to
    numbers: tuple[tuple[int, bool, int], ...]  # (operand, is float, index) of each number that is an input
    real: Node  # itself; an immediate trace's node has the trie's own node here
    single: bool  # one tensor comes back rather than a tuple
    slot: int  # the first output's slot
    spec: Spec  # the first output's spec


class Node(_Step):
    """One recorded step and everything that is known of it. Shared by every trace that has this history.

    NOTE [What came last] A trace mostly goes on as the last one did. So recording looks first whether ``next`` is what
    it wants. Slots are compared by identity, which says the same wherever it says yes: all values that a node made have
    the node's own int objects. A look-up in ``kids`` hashes, and touches the dict's and the key's memory too: when a
    program has run since, little of a long trace is left in the processor's cache.
    """

    __slots__ = (
        "parent", "kind", "mode", "depth", "slots", "specs", "end", "rule", "params", "inputs", "wanted", "floats",
        "ints", "leaves", "where", "programs", "pull", "stamp", "weight", "bound", "packed", "counts", "bodies",
        "known",
    )  # fmt: skip
    parent: Node | None
    kind: int
    mode: Mode
    depth: int  # index in the path
    slots: tuple[int, ...]  # the outputs' slots
    specs: tuple[Spec, ...]  # the outputs' specs
    end: int  # slots in use after this node
    rule: Rule | None
    params: tuple[Any, ...]
    inputs: tuple[Any, ...]  # per operand: a slot, ("f", index) / ("i", index) of an input number, ("c", number)
    wanted: tuple[int, ...]  # operands whose gradient is wanted
    floats: int  # float inputs in use after this node
    ints: int  # int inputs in use after this node
    leaves: int  # leaves entered after this node
    where: tuple[str, int]  # the user's file and line
    programs: list[Program] | None  # compiled for traces that were flushed here
    pull: Pull | None  # what a BACKWARD node differentiates
    stamp: int  # flush counter when a trace last ended here
    packed: Any  # the input numbers of the last trace that ended here, and their arrays, or None
    counts: Any  # the reference counts of its values at the last flush, and the slots that they said were held
    bodies: dict[Any, Body] | None  # of scopes that ended here, by the slots that came out, what for, and `config.roll`
    known: dict[Any, Any] | None  # what backwards worked out about this history
    weight: int  # operations since the root, a segment's pullback counted with all of its own
    bound: int  # how many operations may be pending from here on where a loop will be rolled, 0: as configured

    def __init__(self, parent: Node | None, key: Any, kind: int, mode: Mode):
        global _count
        self.parent = parent
        self.key = key
        self.kids = {}
        self.next = self.fn = self.a = self.b = None
        self.kind = kind
        self.mode = mode
        self.depth = parent.depth + 1 if parent else -1
        self.slot = self.end = parent.end if parent else 0
        self.slots = self.specs = ()
        self.single = True
        self.rule = None
        self.params = ()
        self.lowering = None
        self.inputs = self.numbers = self.wanted = ()
        self.floats = parent.floats if parent else 0
        self.ints = parent.ints if parent else 0
        self.leaves = parent.leaves if parent else 0
        self.where = ("", 0)
        self.programs = None
        self.pull = None
        self.stamp = 0
        self.counts = self.packed = None
        self.bodies = None
        self.known = None
        self.real = self
        self.weight = parent.weight if parent else 0
        self.bound = parent.bound if parent else 0
        _count += 1

    def give(self, specs: tuple[Spec, ...]) -> None:
        """Set the outputs."""
        self.specs = specs
        if specs:
            self.spec = specs[0]
        self.end = self.slot + len(specs)
        self.slots = (self.slot, *range(self.slot + 1, self.end)) if specs else ()

    def forget(self, key: Any) -> None:
        """Drop the kid of ``key``, if there is one."""
        self.kids.pop(key, None)
        self.next = None

    def reads(self) -> set[int]:
        """Return the slots whose arrays it needs."""
        inputs = self.inputs if self.pull is None else self.pull.cotangents
        return {x for x in inputs if type(x) is int}

    def path(self) -> list[Node]:
        """Return the nodes from the root's child to this one."""
        nodes: list[Node] = []
        node: Node | None = self
        while node is not None and node.kind != ROOT:
            nodes.append(node)
            node = node.parent
        nodes.reverse()
        return nodes

    def operands(self) -> list[Aval | Number]:
        """Return what the op was recorded with: avals and numbers, those without a value that are input numbers."""
        found: list[Aval | Number] = []
        for x in self.inputs:
            if type(x) is int:
                node = self
                while not node.slot <= x < node.end:
                    assert node.parent is not None
                    node = node.parent
                found.append(node.specs[x - node.slot].aval)
            else:
                found.append(Number(type(x[1]), x[1]) if x[0] == "c" else Number(float if x[0] == "f" else int))
        return found

    @property
    def name(self) -> str:
        """PyTorch's name of this op's backward node."""
        return self.lowering.name if self.lowering else ""


_count = 0
clock = 0
_roots: dict[Mode, Node] = {}


def root(mode: Mode) -> Node:
    """Return the node at which traces that begin in ``mode`` start."""
    found = _roots.get(mode)
    if found is None:
        found = _roots.setdefault(mode, Node(None, None, ROOT, mode))
    return found


def size() -> int:
    """Return how many nodes the trie has."""
    return _count


def tick() -> int:
    """Advance and return the flush counter; prune the trie where it has outgrown ``TRACEGRAD_MAX_TRIE``."""
    global clock
    clock += 1
    if _count > config.max_trie:
        prune()
    return clock


def prune() -> None:
    """Drop the least recently flushed half of the traces."""
    global _count
    order: list[Node] = []
    stack = list(_roots.values())
    while stack:
        node = stack.pop()
        order.append(node)
        stack.extend(node.kids.values())
    latest: dict[int, int] = {}
    for node in reversed(order):
        latest[id(node)] = max([node.stamp, *(latest[id(kid)] for kid in node.kids.values())])
    stamps = sorted(latest[id(node)] for node in order if not node.kids)
    threshold = stamps[len(stamps) // 2] if stamps else 0
    for node in order:
        for key, kid in list(node.kids.items()):
            if latest[id(kid)] < threshold or (latest[id(kid)] == threshold == 0):
                node.forget(key)
    _count = 0
    stack = list(_roots.values())
    while stack:
        node = stack.pop()
        _count += 1
        stack.extend(node.kids.values())


def clear() -> None:
    """Forget every trace."""
    global _count
    for node in _roots.values():
        node.kids.clear()
        node.next = node.programs = None
    _count = len(_roots)
