"""Which programs are compiled whole and which with cheap options: a place that keeps missing has no more credit.

NOTE [Credit] A program whose trace never comes again is not worth what XLA spends on it. So each place where traces are
flushed has credit for a few whole compiles, and gets it back for every program that was run some times. Where it has
none, programs are compiled with the options that JAX's own tests have (``jax_disable_most_optimizations``): on a CPU
they are compiled in about half the time, and run at up to 1.5 times the time. One that turns out to be run often is
compiled once more, whole. On other platforms nothing was measured, and all are compiled whole.
"""

from __future__ import annotations

from typing import Any

from tracegrad._engine.report import Record

#: XLA's options for a program that will hardly be run again.
OPTIONS: dict[str, Any] = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
#: Programs that a place may have compiled whole before they were run again.
_WHOLE = 8
#: Runs after which a program has paid for its compile.
_PAID = 4
#: Runs after which a cheap program is compiled whole.
_OFTEN = 16

#: Where traces end -> the programs compiled whole there that have not paid yet.
_owing: dict[Any, list[Record]] = {}


def grant(record: Record) -> bool:
    """Return whether the program of ``record`` may be compiled whole, and note that it is."""
    place = record.where, record.reason
    owing = _owing[place] = [r for r in _owing.get(place, ()) if r.runs < _PAID]
    if len(_owing) > 1000:
        _owing.clear()
    if len(owing) >= _WHOLE:
        return False
    owing.append(record)
    return True


def outgrown(record: Record) -> bool:
    """Whether the program of ``record`` was compiled with cheap options, and has been run often since."""
    return record.cheap and record.runs >= _OFTEN


def clear() -> None:
    """Give every place its credit back."""
    _owing.clear()
