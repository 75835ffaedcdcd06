"""What `compile` records: the trace of one call of a function, which nothing flushes, and what Python did beside it.

A replay skips the function's Python. So a recording must know of all that Python did besides recording operations:
which values it read (a branch would be frozen), which changing numbers went into operations (a learning rate, the
number of a random draw) and where they came from. What it cannot follow is noted as a *doubt*: that recording is run
like any other trace, but not replayed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tracegrad._engine import sites
from tracegrad._engine.trace import Shadow, Trace, state
from tracegrad._engine.trie import Node
from tracegrad._engine.value import Input, Value
from tracegrad._errors import UnsupportedError


@dataclass(frozen=True, eq=False)
class Effect:
    """Something that Python did beside the operations, and does again at each replay."""

    #: Tells what it is: equal in two recordings that do the same.
    key: tuple[Any, ...]
    #: Does it, and returns the input numbers of the operation that follows, in order; None where there are none.
    again: Callable[[], Any]
    #: Whether it would still do the same: else the function is recorded anew.
    holds: Callable[[], bool]
    #: Whether it holds, and would do nothing but return what it did the last time.
    same: Callable[[], bool]


class Recording(Trace):
    """The trace of one call of a compiled function."""

    __slots__ = ("whole", "recorded", "known", "strict", "doubts", "passing", "effects", "sources", "inputs",
                 "announced", "lenient", "entered", "thread")  # fmt: skip

    def __init__(self, known: dict[int, Value], strict: bool):
        super().__init__(state.mode)
        self.missing = True  # every op takes the miss path, where its operands are seen
        self.node = Shadow(self.node.real)
        self.whole = self.recorded = True
        self.known = known  # id -> every value there was before, none of which a function may read
        self.strict = strict  # whether a read raises; else the rest is recorded and flushed like any other code
        self.doubts: list[str] = []
        self.passing: list[str] = []  # doubts that another call may not have
        self.effects: list[Effect] = []
        #: (is float, index) of an input number -> the effect that gives it, and which of its numbers it is
        self.sources: dict[tuple[bool, int], tuple[int, int]] = {}
        self.inputs: dict[int, tuple[Input, tuple[int, int]]] = {}  # id -> a number of an effect, and which
        self.announced = -1  # the effect whose numbers the next operation takes
        self.lenient = ""  # who may read, as it does nothing with it that a replay would freeze
        self.entered: dict[int, Value] = {}  # id -> a value that was made of host data meanwhile, and entered
        self.thread = threading.get_ident()

    # -- what the engine tells -----------------------------------------------------------------------------------------

    def meet(self, value: Value) -> None:
        """Note that ``value`` is about to enter."""
        if id(value) in self.known:
            return
        if value.array is None:
            self.doubt("it uses what another thread records", passing=True)
        elif type(value.array) is not np.ndarray:
            own = self.lenient or "it uses an array that no tensor held before the call"
            self.doubt(own, passing=bool(self.lenient))
        self.entered[id(value)] = value

    def numbered(self, node: Node, operands: tuple[Any, ...]) -> None:
        """Note where the input numbers of a new operation come from."""
        taken = 0
        for at, is_float, i in node.numbers:
            number = operands[at]
            if type(number) is not Input:
                continue
            if id(number) in self.inputs:
                self.sources[is_float, i] = self.inputs[id(number)][1]
            elif self.announced >= 0:
                self.sources[is_float, i] = self.announced, taken
                taken += 1
        self.announced = -1

    def stays(self, reason: str) -> bool:
        """Whether nothing is flushed although somebody asks for it.

        Raises:
            UnsupportedError: where a value is needed and the recording is strict.
        """
        if reason == "an optimizer step ended":
            return True
        if threading.get_ident() != self.thread:
            self.doubt("another thread needs what it computes", passing=True)
            self.end()
            return False
        self._refuse(reason)
        return False

    def reading(self, value: Value) -> None:
        """Note that somebody reads ``value``, which may be concrete.

        Raises:
            UnsupportedError: where the recording is strict.
        """
        if value.array is None or type(value.array) is np.ndarray and id(value) not in self.known:
            return  # pending: `stays` is asked; or data of the function's own
        if self.lenient:
            self.doubt(self.lenient, passing=True)
        elif id(value) in self.known or id(value) not in self.entered:
            self._refuse("a value was read")

    def _refuse(self, reason: str) -> None:
        file, line = sites.user_line()
        self.doubt(f"{reason} at {file}:{line}")
        strict = self.strict
        self.end()
        if strict:
            raise UnsupportedError(
                f"compile: {reason} at {file}, line {line}, inside of a compiled function. It is recorded once and "
                "then runs without Python, so what Python does with the value would be frozen. Return the value and "
                "read it outside, choose between tensors by where(), or pass fullgraph=False: then functions that read "
                "values run without being compiled.")

    # -- what libraries tell -------------------------------------------------------------------------------------------

    def doubt(self, reason: str, passing: bool = False) -> None:
        """Note why this recording cannot be replayed; ``passing``: through no fault of the function's."""
        noted = self.passing if passing else self.doubts
        if reason not in noted:
            noted.append(reason)

    def effect(self, key: tuple[Any, ...], again: Callable[[], Any], holds: Callable[[], bool] = lambda: True,
               inputs: tuple[Input, ...] = (), same: Callable[[], bool] = lambda: False) -> None:  # fmt: skip
        """Note something that Python does, and that a replay must do again; see `Effect`.

        Its numbers are those of ``inputs``, wherever these are used, or without them those of the next operation.
        """
        number = len(self.effects)
        self.effects.append(Effect(key, again, holds, same))
        self.inputs.update((id(x), (x, (number, k))) for k, x in enumerate(inputs))
        self.announced = -1 if inputs else number

    def end(self) -> None:
        """Make this an ordinary trace."""
        self.whole = self.recorded = False
        self.known, self.entered, self.inputs = {}, {}, {}
        if not self.closed:
            self.missing = self.immediate or self.lines is not None
            if not self.missing:
                self.node = self.node.real


def recording() -> Recording | None:
    """Return what `compile` records in this thread, None where it records nothing or inside of a scope."""
    now = state.trace
    return now if now.recorded and isinstance(now, Recording) else None

