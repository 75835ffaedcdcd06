"""Which programs are compiled whole and which with cheap options: a place that keeps missing has no more credit.

NOTE [Credit] A program whose trace never comes again is not worth what XLA spends on it. So each place where traces are
flushed has credit for a few whole compiles, and gets it back for every program that was run some times. Where it has
none, programs are compiled with the options that JAX's own tests have (``jax_disable_most_optimizations``): on a CPU
they are compiled in about half the time, and run at up to 1.5 times the time. They also round differently in the last
bit. So a program stays what it is, and so does every other program of its trace (for other live values, or for leaves
that lie elsewhere): compiled whole when it turns out to be run often, it would train another model with the same seed.
Therefore the credit is large, and whoever compares bits (`gradcheck`) has all programs compiled whole (`unlimited`). On
other platforms nothing was measured, and all are compiled whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tracegrad._engine.report import Record

#: XLA's options for a program that will hardly be run again.
OPTIONS: dict[str, Any] = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
#: Programs that a place may have compiled whole before they were run again.
_WHOLE = 32
#: Runs after which a program has paid for its compile.
_PAID = 4

#: Where traces end -> the programs compiled whole there that have not paid yet.
_owing: dict[Any, list[Record]] = {}


#: How many want every program compiled whole.
_unlimited = 0


@contextmanager
def unlimited() -> Iterator[None]:
    """Have every program compiled whole, wherever it is."""
    global _unlimited
    _unlimited += 1
    try:
        yield
    finally:
        _unlimited -= 1


def grant(record: Record) -> bool:
    """Return whether the program of ``record`` may be compiled whole, and note that it is."""
    if _unlimited:
        return True
    place = record.where, record.reason
    owing = _owing[place] = [r for r in _owing.get(place, ()) if r.runs < _PAID]
    if len(_owing) > 1000:
        _owing.clear()
    if len(owing) >= _WHOLE:
        return False
    owing.append(record)
    return True


def clear() -> None:
    """Give every place its credit back."""
    _owing.clear()
