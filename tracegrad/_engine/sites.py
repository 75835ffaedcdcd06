"""Where in the user's code an op was recorded, and which Python numbers change there.

NOTE [Changing numbers] A Python number starts as a static part of the trace: XLA folds it, and ``x ** 2`` stays
``x * x``. At the second distinct value *at one site* it becomes an input of the program, everywhere that this site
occurs; so ten schedules cost one more program and not ten. A site is the chain of (code object, instruction) from
the op to the user's frame. The nodes recorded with a static number there are dropped from the trie, else a
schedule that comes back to its first value would lead into them and on to yet another program.
"""

from __future__ import annotations

import os
import sys
from types import CodeType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tracegrad._engine.trie import Node

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_internal: dict[CodeType, bool] = {}


def _is_internal(code: CodeType) -> bool:
    found = _internal.get(code)
    if found is None:
        name = code.co_filename
        found = _internal[code] = name.startswith(_PACKAGE) or name.startswith("<frozen ")
    return found


def user_line() -> tuple[str, int]:
    """Return the file and line of the innermost frame outside this package."""
    frame: Any = sys._getframe(1)
    while frame is not None and _is_internal(frame.f_code):
        frame = frame.f_back
    return (frame.f_code.co_filename, frame.f_lineno) if frame is not None else ("<unknown>", 0)


class Site:
    """One place that records an op with Python numbers."""

    __slots__ = ("numbers", "changing", "static")

    def __init__(self) -> None:
        self.numbers: Any = None  # the keys of the numbers first seen here
        self.changing = False
        self.static: list[tuple[Node, Any]] = []  # (parent, key) of the nodes recorded with static numbers


_sites: dict[Any, Site] = {}
_positions: dict[CodeType, list[Any]] = {}


def _position(frame: Any) -> Any:
    """Return which instruction runs, as its place in the source: CPython's offset moves when a loop becomes hot."""
    table = _positions.get(frame.f_code)
    if table is None:
        table = _positions[frame.f_code] = list(frame.f_code.co_positions())
    return table[frame.f_lasti // 2]


def is_changing(rule: Any, params: Any, numbers: tuple[Any, ...], node: Node) -> tuple[bool, Site]:
    """Note that ``numbers`` occur at the current site; return whether they are inputs, and the site."""
    chain: list[Any] = [rule, params]
    frame: Any = sys._getframe(1)
    while frame is not None:
        internal = _is_internal(frame.f_code)
        if not internal or not frame.f_code.co_filename.startswith(_PACKAGE + "_engine"):
            chain.append((frame.f_code, _position(frame)))
        if not internal:
            break
        frame = frame.f_back
    if len(_sites) > 20_000:
        clear()
    site = _sites.setdefault(tuple(chain), Site())
    if site.numbers is None:
        site.numbers = numbers
    elif not site.changing and site.numbers != numbers:
        site.changing = True
        for parent, key in site.static:
            parent.forget(key)
        site.static.clear()
    return site.changing, site


def clear() -> None:
    """Forget every site."""
    _sites.clear()
    _positions.clear()
