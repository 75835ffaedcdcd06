"""Errors that depend on elements: found by the program that runs, raised when a value is read.

PyTorch looks at an index before it uses it. A recorded op cannot: its elements come later, and to wait for them would
stop the pipeline. So a lowering may have checks, which run in the program beside the op. A program with checks returns
one more array of two integers: the number of the first check that found something wrong, 0 where none did, and what it
found. It is not read after the run, which would be a wait too. It is kept until somebody reads a value, and then waits
anyway. Programs without checks pay nothing.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np


@dataclass(frozen=True, eq=False)
class Check:
    """One thing that may be wrong with the elements of an op's operands or outputs."""

    #: ``find(operands, outputs) -> (wrong, what)``: a bool, and an integer that the message tells of; both 0-dim.
    find: Callable[[Sequence[Any], Sequence[Any]], tuple[Any, Any]]
    #: ``error(what)`` makes PyTorch's exception.
    error: Callable[[int], Exception]


#: A check and the user's file and line of its op.
Placed = tuple[Check, tuple[str, int]]
#: What a check found in a program that is traced: whether something is wrong, what, and whose check it is.
Found = tuple[tuple[Any, Any], Placed]
#: Runs whose checks nobody has looked at; beyond these, a flush looks at the oldest, which has surely finished.
_LIMIT = 16


def combined(found: Sequence[tuple[Any, Any]]) -> Any:
    """Return the one array that says what the checks of a program found."""
    number, what = jnp.zeros((), jnp.int64), jnp.zeros((), jnp.int64)
    for i in range(len(found), 0, -1):
        wrong, detail = found[i - 1]
        number = jnp.where(wrong, i, number)
        what = jnp.where(wrong, jnp.asarray(detail).astype(jnp.int64), what)
    return jnp.stack([number, what])


class _Waiting(threading.local):
    """What each thread has run and not looked at, the oldest first: the arrays with their checks."""

    def __init__(self) -> None:
        self.runs: deque[tuple[Any, Sequence[Placed]]] = deque()


waiting = _Waiting()


def note(flag: Any, placed: Sequence[Placed]) -> None:
    """Keep what a run's checks found until somebody reads a value."""
    waiting.runs.append((flag, placed))


def bound() -> None:
    """Look at the oldest runs where more wait than the bound; raise what was wrong."""
    runs = waiting.runs
    while len(runs) > _LIMIT:
        _look(*runs.popleft())


def look(until: Any = None) -> None:
    """Raise the first error of the runs that made the array ``until`` and those before; of all where it is None.

    An error is raised once. Runs that have not finished when that array is there came after it.
    """
    runs = waiting.runs
    while runs:
        if until is not None and not runs[0][0].is_ready():
            until.block_until_ready()
            if not runs[0][0].is_ready():
                return
        _look(*runs.popleft())


def _look(flag: Any, placed: Sequence[Placed]) -> None:
    number, what = np.asarray(flag).tolist()
    if number:
        check, (file, line) = placed[number - 1]
        error = check.error(what)
        error.add_note(f"The operation was recorded at {file}, line {line}; its elements were looked at when it ran.")
        raise error
