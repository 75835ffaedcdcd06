"""What a compiled function's Python may read, looked at before each replay: globals, closures, attributes, modules.

What Python read is frozen into a recording. All of it cannot be known, but what the code names can: from the function
on, `Surroundings` goes through globals and closure cells that are named in it, the functions and objects found there,
the attributes that any of this code names, the items of lists and dicts, and all of every module. Each of these places
must hold what it held: the same object, or an equal number, string, tuple of such, or None.
"""

from __future__ import annotations

import os
import sys
import sysconfig
import types
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import chain
from operator import attrgetter, is_
from typing import Any

from tracegrad._engine.value import Value
from tracegrad._handle import Handle
from tracegrad.nn import Module, _hooks
from tracegrad.nn._module import changes
from tracegrad.optim import Optimizer
from tracegrad.optim.lr_scheduler import LRScheduler

_PLAIN = (int, float, complex, bool, str, bytes, type(None))
_LIBRARIES = tuple({os.path.join(p, "") for name in ("stdlib", "platstdlib", "purelib", "platlib")
                    if (p := sysconfig.get_paths().get(name))})  # fmt: skip
_OURS = __name__.partition(".")[0]
_HOME = os.path.join(os.path.dirname(os.path.dirname(__file__)), "")
_ON_HEAP = 1 << 9  # among the flags of a class: made by Python code
_MISSING = object()
_held_in = attrgetter("cell_contents")
_HOLDERS = ("types.SimpleNamespace", "argparse.Namespace")  # classes of libraries whose attributes are a user's
_ONCE = ("__init__", "__new__", "__del__", "__repr__")  # special methods that no replay would call
_MANY = 1000  # items of a container that are looked at one by one; of larger ones, the number


def _is_library(module: str | None) -> bool:
    """Whether a module is one that a user did not write: ours, or installed."""
    if module is None:
        return True
    top = module.partition(".")[0]
    if top == _OURS or top in sys.builtin_module_names:
        return True
    file = getattr(sys.modules.get(module), "__file__", None) or ""
    return file.startswith(_LIBRARIES)


def _of_library(made: Any) -> bool:
    """Whether a class or a function is one that a user did not write.

    ``functools.wraps`` gives a user's function the module of another, and what ``exec`` makes may have none.
    """
    if not _is_library(made.__module__):
        return False
    if isinstance(made, type):
        return made.__module__ != "builtins" or not made.__flags__ & _ON_HEAP
    file = made.__code__.co_filename
    return file.startswith((*_LIBRARIES, _HOME)) or file.startswith("<") and "__name__" in made.__globals__


def _plain(x: Any) -> bool:
    return type(x) in _PLAIN or type(x) is tuple and all(map(_plain, x))


def _same(a: Any, b: Any) -> bool:
    """Whether a place still holds what it held."""
    return a is b or type(a) is type(b) and _plain(a) and repr(a) == repr(b)


def _items(own: dict[str, Any], kind: str) -> list[Any]:
    return [*own[kind], *own[kind].values()]


def _keyed(x: dict[Any, Any]) -> list[Any]:
    return [*x, *x.values()]


class _Place:
    """Several entries of one container: how to read them, and what they held."""

    __slots__ = ("read", "names", "held", "cell", "entries")

    def __init__(self, read: Callable[[], Iterable[Any]], names: tuple[str, ...] = ()):
        self.read = read
        self.names = names
        self.held: tuple[Any, ...] = tuple(read())
        self.cell: Any = None  # the cell of a closure, if that is the container
        self.entries: list[tuple[Any, str]] = []  # dicts and keys, if these are all

    def changed(self) -> str:
        """Return what is another object, or number, than it was; '' where nothing is."""
        now = tuple(self.read())
        if len(now) != len(self.held):
            return f"the number of items of {self.names[0]}"
        for i, (a, b) in enumerate(zip(now, self.held)):
            if not _same(a, b):
                return self.names[i] if len(self.names) == len(now) else f"an item of {self.names[0]}"
        self.held = now
        return ""


class Surroundings:
    """What can be found from a function, and what each place held when it was found."""

    def __init__(self, roots: Iterable[Any]):
        self.optimizers: list[Optimizer] = []
        self.schedulers: list[LRScheduler] = []
        self.modules: list[Module] = []
        self._seen: dict[int, Any] = {}
        self._names: set[str] = set()
        self._asked: set[str] = set()  # those of them that an object may be without
        self._objects: list[tuple[Any, set[str]]] = []
        self._named: dict[int, tuple[Any, dict[str, None], str]] = {}  # id of a dict -> it, and which entries
        self._places: list[_Place] = []
        for root in roots:
            self._value(root, getattr(root, "__name__", "an argument"))
        self._attributes()
        of_modules = {id(m.__dict__) for m in self.modules}
        self._of_modules = [self._entries(*given) for key, given in self._named.items() if key in of_modules]
        self._places += [self._entries(*given) for key, given in self._named.items() if key not in of_modules]
        for m in self.modules:
            self._of_modules += self._module_places(m)
        if "param_groups" in self._names:  # else the steps read them, which know what they read
            for optimizer in self.optimizers:
                self._places += [_Place(g.values, ("the options of an optimizer",)) for g in optimizer.param_groups]
        if self._names & {"get_last_lr", "get_lr"}:
            self._places += [_Place(partial(getattr, s, "_last_lr"), ("a learning rate",)) for s in self.schedulers]
        self._count = changes.count
        self._look()

    def let_go(self) -> None:
        """Hold the places alone from now on, and no longer the objects that have them."""
        self.modules, self.optimizers, self.schedulers, self._objects = [], [], [], []
        self._seen, self._named = {}, {}

    def changed(self) -> str:
        """Return what is no longer as it was, '' where everything is."""
        try:
            plain = all(map(is_, chain(map(_held_in, self._cells), [d.get(k, _MISSING) for d, k in self._entered]),
                            self._held))  # fmt: skip
        except ValueError:  # a cell is empty now
            plain = False
        for place in self._others if plain else self._places:
            now = tuple(place.read())
            if len(now) != len(place.held) or not all(map(is_, now, place.held)):
                found = place.changed()
                if found:
                    return found
        if not plain:
            self._look()
        if self._count != changes.count or _hooks.flags.used:
            count = changes.count
            for place in self._of_modules:
                found = place.changed()
                if found:
                    return found
            self._count = count
        return ""

    def _look(self) -> None:
        """Note what cells and entries of dicts hold now, so that one look at all of them is enough."""
        cells, entered, self._others = list[_Place](), list[_Place](), list[_Place]()
        for place in self._places:
            in_cell = place.cell is not None and place.held[0] is not _MISSING
            (cells if in_cell else entered if place.entries else self._others).append(place)
        self._cells = [place.cell for place in cells]
        self._entered = [entry for place in entered for entry in place.entries]
        self._held = [x for place in (*cells, *entered) for x in place.held]

    # -- places --------------------------------------------------------------------------------------------------------

    @staticmethod
    def _entries(held: Any, names: dict[str, None], of: str) -> _Place:
        chosen = tuple(names)
        place = _Place(lambda: [held.get(name, _MISSING) for name in chosen], tuple(of + name for name in chosen))
        place.entries = [(held, name) for name in chosen]
        return place

    def _module_places(self, m: Module) -> Iterator[_Place]:
        own = m.__dict__
        name = f"{type(m).__name__}."
        attributes = tuple(k for k in own if k not in ("_parameters", "_buffers", "_modules"))
        yield _Place(lambda: [own.get(k, _MISSING) for k in attributes], tuple(name + k for k in attributes))
        yield _Place(lambda: tuple(own), (f"the attributes of {type(m).__name__}",))
        for kind in ("_parameters", "_buffers", "_modules"):
            yield _Place(partial(_items, own, kind), (f"the {kind[1:]} of {type(m).__name__}",))
        for k, hooks in own.items():
            if k.endswith("_hooks"):
                yield _Place(hooks.values, (f"the hooks of {type(m).__name__}",))

    # -- finding them --------------------------------------------------------------------------------------------------

    def _note(self, held: Any, name: str, of: str) -> None:
        known = self._named.get(id(held))
        if known is None:
            known = self._named[id(held)] = (held, {}, of)
        known[1][name] = None

    def _function(self, f: Any) -> None:
        if id(f) in self._seen or _of_library(f):
            return
        self._seen[id(f)] = f
        for cell, name in zip(f.__closure__ or (), f.__code__.co_freevars):
            def read(cell: Any = cell) -> tuple[Any, ...]:
                try:
                    return (cell.cell_contents,)
                except ValueError:
                    return (_MISSING,)
            self._places.append(_Place(read, (name,)))
            self._places[-1].cell = cell
            self._value(read()[0], name)
        for default in (*(f.__defaults__ or ()), *(f.__kwdefaults__ or {}).values()):
            self._value(default, f"a default of {f.__name__}")
        self._code(f.__code__, f.__globals__)
        self._objects.append((f, set()))

    def _code(self, code: Any, scope: dict[str, Any]) -> None:
        self._names.update(code.co_names)
        if not {"getattr", "hasattr"}.isdisjoint(code.co_names):
            asked = {x for x in code.co_consts if type(x) is str and x.isidentifier()} - self._asked
            self._asked |= asked
            self._names |= asked
            for _, done in self._objects:  # that one is without it was not noted
                done -= asked
        for name in code.co_names:
            if name in scope:
                self._note(scope, name, "")
                self._value(scope[name], name)
        for inner in code.co_consts:
            if isinstance(inner, types.CodeType):
                self._code(inner, scope)

    def _value(self, x: Any, name: str) -> None:
        kind = type(x)
        if kind in _PLAIN or id(x) in self._seen or isinstance(x, (Handle, Value)):
            return
        if isinstance(x, types.FunctionType):
            self._function(x)
            return
        self._seen[id(x)] = x
        if isinstance(x, types.MethodType):
            self._value(x.__func__, name)
            self._value(x.__self__, name)
        elif isinstance(x, partial):
            for part in (x.func, *x.args, *x.keywords.values()):
                self._value(part, name)
        elif isinstance(x, Module):
            self._module(x, name)
        elif isinstance(x, (Optimizer, LRScheduler)) and _of_library(kind):
            if isinstance(x, Optimizer):
                self.optimizers.append(x)
            else:
                self.schedulers.append(x)
                self._objects.append((x, set()))
                self._value(x.optimizer, name)
        elif isinstance(x, (list, tuple, dict, set, frozenset, deque)):
            self._container(x, name)
            if not _of_library(kind):
                self._object(x, f"{name}.")
        elif isinstance(x, types.ModuleType):
            if not _is_library(x.__name__):
                self._object(x, f"{name}.")
        elif f"{kind.__module__}.{kind.__name__}" in _HOLDERS or not _of_library(x if isinstance(x, type) else kind):
            self._object(x, f"{name}.")
        elif isinstance(getattr(x, "__wrapped__", None), types.FunctionType):
            self._function(x.__wrapped__)

    def _module(self, x: Module, name: str) -> None:
        self.modules.append(x)
        if not _of_library(type(x)):
            self._object(x, f"{name}.")
            self._attribute(x, "forward")
        for key, part in x._modules.items():
            self._value(part, f"{name}.{key}")
        if not _of_library(type(x)):
            for key, part in x.__dict__.items():
                if key not in ("_parameters", "_buffers", "_modules", "_non_persistent_buffers_set"):
                    self._value(part, f"{name}.{key}")

    def _container(self, x: Any, name: str) -> None:
        if len(x) > _MANY:
            self._places.append(_Place(lambda: (len(x),), (f"the number of items of {name}",)))
            return
        items = partial(_keyed, x) if isinstance(x, dict) else lambda: x
        if not isinstance(x, (tuple, frozenset)):
            self._places.append(_Place(items, (name,)))
        for item in items():
            self._value(item, name)

    def _object(self, x: Any, name: str) -> None:
        self._objects.append((x, set()))
        for cls in type(x).__mro__:  # operators call these, and no code names them
            if not _of_library(cls):
                for own, found in list(cls.__dict__.items()):
                    if isinstance(found, types.FunctionType) and own.startswith("__") and own not in _ONCE:
                        self._attribute(x, own)

    def _attributes(self) -> None:
        """Go through the attributes that code names, until there is nothing new."""
        before = None
        while before != (len(self._names), len(self._asked), len(self._objects)):
            before = (len(self._names), len(self._asked), len(self._objects))
            names = set(self._names)
            for x, done in list(self._objects):
                new = names - done
                done |= new
                for name in new:
                    self._attribute(x, name)

    def _attribute(self, x: Any, name: str) -> None:
        own = getattr(x, "__dict__", {})
        of = f"{getattr(x, '__name__', type(x).__name__)}."
        if name in own:
            self._note(own, name, of)
            self._value(own[name], name)
            return
        line = (*(x.__mro__[1:] if isinstance(x, type) else ()), *type(x).__mro__)
        classes = [cls.__dict__ for cls in line if not _of_library(cls)]
        if name not in self._asked and not any(name in held for held in classes):
            return
        for held in (own, *classes):  # where it is not, it may come to be
            self._note(held, name, of)
            if name in held:  # all of them, as a method may call the one that it overrides
                found = held[name]
                self._value(getattr(found, "fget", None) or getattr(found, "__func__", None) or found, name)
