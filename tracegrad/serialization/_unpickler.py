"""A reader of pickles that runs no code: a small machine for the instructions that checkpoints consist of.

Python's own unpickler imports what a file names and calls it. This one has a table of names instead (`Names`), and
calls nothing else. Every instruction costs about what it takes in the file: no size in it is believed, no key is hashed
before it is known to be harmless.
"""

from __future__ import annotations

import pickle
import pickletools
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO, Any

#: Keys whose hash a file can choose, so that many of them would make a dictionary slow.
_MAX_ODD_KEYS = 10_000
_MAX_KEY_PARTS = 1_000
_OLD_MODULES = {"__builtin__": "builtins", "copy_reg": "copyreg", "UserDict": "collections"}
_OLD_NAMES = {"__builtin__.xrange": "builtins.range", "__builtin__.unicode": "builtins.str"}


@dataclass(frozen=True, eq=False)
class Names:
    """What a file may name, and what it means."""

    #: ``find("module.name")`` returns an object, or raises.
    find: Callable[[str], Any]
    #: ``call(object, arguments)``: what the file asks for by ``object(*arguments)``; raises where it may not.
    call: Callable[[Any, tuple[Any, ...]], Any]
    #: ``new(class, arguments)``: the same for an object that is made without its ``__init__``.
    new: Callable[[Any, tuple[Any, ...]], Any]
    #: ``persistent(id)`` returns what lies outside of the pickle.
    persistent: Callable[[Any], Any]
    #: ``own(object)``: whether it is an instance of a class that the user allowed.
    own: Callable[[Any], bool]
    #: Something that stands for objects in a first pass over a file: containers of it are not filled.
    blank: tuple[type, ...] = field(default=())


def unpickle(stream: IO[bytes], names: Names, encoding: str = "utf-8") -> Any:
    """Return the object whose pickle begins at the position of ``stream``, and leave ``stream`` behind it.

    Raises:
        pickle.UnpicklingError: where the pickle is malformed, or asks for something that is not allowed.
    """
    machine = _Machine(names, encoding)
    try:
        for instruction, argument, at in pickletools.genops(stream):
            try:
                step = _STEPS.get(instruction.name)
                if step is None:
                    raise pickle.UnpicklingError(f"the instruction {instruction.name} is not one of checkpoints")
                step(machine, argument)
            except (IndexError, KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
                raise pickle.UnpicklingError(
                    f"malformed instruction {instruction.name} at byte {at} of the pickle "
                    f"({type(error).__name__}: {error})") from None  # fmt: skip
    except (ValueError, UnicodeError, OverflowError) as error:  # of genops
        raise pickle.UnpicklingError(f"malformed pickle: {error}") from None
    if len(machine.stack) != 1 or machine.marks:
        raise pickle.UnpicklingError(f"malformed pickle: it ends with {len(machine.stack)} objects rather than one")
    return machine.stack[0]


class _Machine:
    def __init__(self, names: Names, encoding: str):
        self.names, self.encoding = names, encoding
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.odd_keys = 0

    def pop(self) -> Any:
        if self.marks and len(self.stack) <= self.marks[-1]:
            raise IndexError("nothing is left above the mark")
        return self.stack.pop()

    def top(self) -> Any:
        if self.marks and len(self.stack) <= self.marks[-1]:
            raise IndexError("nothing is left above the mark")
        return self.stack[-1]

    def since_mark(self) -> list[Any]:
        start = self.marks.pop()
        found = self.stack[start:]
        del self.stack[start:]
        return found

    def key(self, x: Any) -> Any:
        """Return ``x``, which is about to be hashed; refuse what cannot be, or would take long."""
        kind = type(x)
        if kind is str or kind is bytes or x is None or kind is bool or (kind is int and -(2**60) < x < 2**60):
            return x
        self.odd_keys += 1
        if self.odd_keys > _MAX_ODD_KEYS:
            raise ValueError(f"more than {_MAX_ODD_KEYS} keys that are neither strings nor small integers")
        waiting, count = [x], 0
        while waiting:
            part = waiting.pop()
            count += 1
            if count > _MAX_KEY_PARTS:
                raise ValueError("a key of too many parts")
            if isinstance(part, tuple):
                waiting.extend(part)
            elif isinstance(part, (list, dict, set, bytearray)):
                raise TypeError(f"unhashable type: '{type(part).__name__}'")
        return x

    def fill(self, target: Any, items: list[Any]) -> None:
        """Put keys and values, one after another, into a dictionary."""
        if isinstance(target, self.names.blank):
            return
        if type(target) not in (dict, OrderedDict, Counter) and not self.names.own(target):
            raise TypeError(f"{type(target).__name__} takes no keys")
        if len(items) % 2:
            raise ValueError("a key without a value")
        for i in range(0, len(items), 2):
            target[self.key(items[i])] = items[i + 1]

    def extend(self, target: Any, items: list[Any]) -> None:
        if isinstance(target, self.names.blank):
            return
        if type(target) is not list and not self.names.own(target):
            raise TypeError(f"{type(target).__name__} takes no elements")
        target.extend(items)

    def add(self, target: Any, items: list[Any]) -> None:
        if isinstance(target, self.names.blank):
            return
        if type(target) is not set:
            raise TypeError(f"{type(target).__name__} takes no elements")
        target.update(map(self.key, items))

    def find(self, module: Any, name: Any) -> Any:
        if not isinstance(module, str) or not isinstance(name, str):
            raise TypeError("the name of a global is no string")
        full = _OLD_NAMES.get(f"{module}.{name}") or f"{_OLD_MODULES.get(module, module)}.{name}"
        return self.names.find(full)

    def call(self, call: Callable[..., Any], what: Any, arguments: Any) -> Any:
        if type(arguments) is not tuple:
            raise TypeError(f"arguments are no tuple but {type(arguments).__name__}")
        if isinstance(what, type) and what in _CONTAINERS:
            return _CONTAINERS[what](self, *arguments)
        return call(what, arguments)

    def build(self, state: Any) -> None:
        """Give the object on top of the stack its attributes."""
        target = self.top()
        if isinstance(target, self.names.blank):
            return
        if self.names.own(target):
            if hasattr(target, "__setstate__"):
                target.__setstate__(state)
            else:
                target.__dict__.update(state)
            return
        if type(target) not in (OrderedDict, Counter) or type(state) is not dict:
            raise TypeError(f"{type(target).__name__} takes no attributes")
        for name in state:
            if type(name) is not str or hasattr(type(target), name):
                raise ValueError(f"the attribute {name!r} of {type(target).__name__} is not for files to set")
        target.__dict__.update(state)

    def text(self, raw: Any) -> Any:
        """Return a string of Python 2, which genops returns as latin-1 text."""
        return raw.encode("latin-1") if self.encoding == "bytes" else raw.encode("latin-1").decode(self.encoding)


# -- containers that are made by a call -------------------------------------------------------------------------


def _ordered(machine: _Machine, pairs: Any = ()) -> Any:
    made: Any = OrderedDict()
    machine.fill(made, [x for key, value in _pairs(pairs) for x in (key, value)])
    return made


def _counter(machine: _Machine, counts: Any = ()) -> Any:
    made: Any = Counter()
    machine.fill(made, [x for key, value in _pairs(counts) for x in (key, value)])
    return made


def _pairs(given: Any) -> Any:
    if not isinstance(given, (dict, list, tuple)):
        raise TypeError(f"{type(given).__name__} holds no pairs")
    return given.items() if isinstance(given, dict) else given


def _set(machine: _Machine, elements: Any = ()) -> Any:
    if not isinstance(elements, (list, tuple)):
        raise TypeError(f"a set of {type(elements).__name__}")
    return set(map(machine.key, elements))


def _frozenset(machine: _Machine, elements: Any = ()) -> Any:
    return frozenset(_set(machine, elements))


_CONTAINERS: dict[Any, Callable[..., Any]] = {
    OrderedDict: _ordered, Counter: _counter, set: _set, frozenset: _frozenset,
}  # fmt: skip


# -- instructions -----------------------------------------------------------------------------------------------


def _push(machine: _Machine, argument: Any) -> None:
    machine.stack.append(argument)


def _text(machine: _Machine, argument: Any) -> None:
    machine.stack.append(machine.text(argument))


def _constant(value: Any) -> Callable[[_Machine, Any], None]:
    return lambda machine, _: machine.stack.append(value)


def _empty(kind: type) -> Callable[[_Machine, Any], None]:
    return lambda machine, _: machine.stack.append(kind())


def _mark(machine: _Machine, _: Any) -> None:
    machine.marks.append(len(machine.stack))


def _discard(machine: _Machine, _: Any) -> None:
    if machine.marks and len(machine.stack) <= machine.marks[-1]:
        machine.marks.pop()
    else:
        machine.stack.pop()


def _discard_marked(machine: _Machine, _: Any) -> None:
    machine.since_mark()


def _tuple(count: int) -> Callable[[_Machine, Any], None]:
    def step(machine: _Machine, _: Any) -> None:
        parts = [machine.pop() for _ in range(count)]
        machine.stack.append(tuple(reversed(parts)))

    return step


def _dict(machine: _Machine, _: Any) -> None:
    made: dict[Any, Any] = {}
    machine.fill(made, machine.since_mark())
    machine.stack.append(made)


def _append(machine: _Machine, _: Any) -> None:
    item = machine.pop()
    machine.extend(machine.top(), [item])


def _appends(machine: _Machine, _: Any) -> None:
    items = machine.since_mark()
    machine.extend(machine.top(), items)


def _setitem(machine: _Machine, _: Any) -> None:
    value, key = machine.pop(), machine.pop()
    machine.fill(machine.top(), [key, value])


def _setitems(machine: _Machine, _: Any) -> None:
    items = machine.since_mark()
    machine.fill(machine.top(), items)


def _additems(machine: _Machine, _: Any) -> None:
    items = machine.since_mark()
    machine.add(machine.top(), items)


def _put(machine: _Machine, index: Any) -> None:
    machine.memo[index] = machine.top()


def _memoize(machine: _Machine, _: Any) -> None:
    machine.memo[len(machine.memo)] = machine.top()


def _get(machine: _Machine, index: Any) -> None:
    if index not in machine.memo:
        raise KeyError(f"nothing was kept under {index}")
    machine.stack.append(machine.memo[index])


def _global(machine: _Machine, argument: Any) -> None:
    module, _, name = argument.partition(" ")
    machine.stack.append(machine.find(module, name))


def _stack_global(machine: _Machine, _: Any) -> None:
    name, module = machine.pop(), machine.pop()
    machine.stack.append(machine.find(module, name))


def _reduce(machine: _Machine, _: Any) -> None:
    arguments, what = machine.pop(), machine.pop()
    machine.stack.append(machine.call(machine.names.call, what, arguments))


def _new(machine: _Machine, _: Any) -> None:
    arguments, what = machine.pop(), machine.pop()
    machine.stack.append(machine.call(machine.names.new, what, arguments))


def _build(machine: _Machine, _: Any) -> None:
    machine.build(machine.pop())


def _persistent(machine: _Machine, _: Any) -> None:
    machine.stack.append(machine.names.persistent(machine.pop()))


def _nothing(machine: _Machine, _: Any) -> None:
    pass


_STEPS: dict[str, Callable[[_Machine, Any], None]] = {
    "PROTO": _nothing, "FRAME": _nothing, "STOP": _nothing,
    "NONE": _constant(None), "NEWTRUE": _constant(True), "NEWFALSE": _constant(False),
    **dict.fromkeys("INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT".split(), _push),
    **dict.fromkeys("UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8".split(), _push),
    **dict.fromkeys("BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8".split(), _push),
    **dict.fromkeys("STRING BINSTRING SHORT_BINSTRING".split(), _text),
    "EMPTY_LIST": _empty(list), "EMPTY_DICT": _empty(dict), "EMPTY_SET": _empty(set), "EMPTY_TUPLE": _empty(tuple),
    "MARK": _mark, "POP": _discard, "POP_MARK": _discard_marked,
    "DUP": lambda machine, _: machine.stack.append(machine.top()),
    "TUPLE": lambda machine, _: machine.stack.append(tuple(machine.since_mark())),
    "TUPLE1": _tuple(1), "TUPLE2": _tuple(2), "TUPLE3": _tuple(3),
    "LIST": lambda machine, _: machine.stack.append(machine.since_mark()), "DICT": _dict,
    "FROZENSET": lambda machine, _: machine.stack.append(_frozenset(machine, machine.since_mark())),
    "APPEND": _append, "APPENDS": _appends, "SETITEM": _setitem, "SETITEMS": _setitems, "ADDITEMS": _additems,
    "PUT": _put, "BINPUT": _put, "LONG_BINPUT": _put, "MEMOIZE": _memoize,
    "GET": _get, "BINGET": _get, "LONG_BINGET": _get,
    "GLOBAL": _global, "STACK_GLOBAL": _stack_global, "REDUCE": _reduce, "NEWOBJ": _new, "BUILD": _build,
    "BINPERSID": _persistent,
}  # fmt: skip
