"""When things run: the eager mode, a flush on request, and what the caches hold."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tracegrad._engine import checks, credit, flush, program, recurrence, report, sites, trie
from tracegrad._engine.trace import state


@contextmanager
def eager() -> Iterator[None]:
    """Run every operation as soon as it is called, for debugging. The results are the same.

    Example:
        >>> import tracegrad as torch
        >>> with torch.eager():
        ...     y = torch.ones(2) * 3
        >>> y
        tensor([3., 3.])
    """
    state.eager += 1  # first: the flush opens the trace that follows
    try:
        flush.flush_current("eager()")
        yield
    finally:
        state.eager -= 1
        flush.flush_current("the end of eager()")


def synchronize() -> None:
    """Run what this thread has recorded, wait for its checks, and raise what its checks found.

    Never needed for results: reading a value does it.
    """
    flush.flush_current("synchronize()")
    checks.look()


def clear_caches() -> None:
    """Forget every recorded trace and compiled program; tensors stay usable."""
    flush.flush_current("clear_caches()")
    program.clear()
    sites.clear()
    recurrence.clear()
    credit.clear()
    report.clear()


def cache_sizes() -> dict[str, int]:
    """Return how many trie nodes and compiled programs there are, and how many programs were ever compiled.

    Example:
        >>> import tracegrad as torch
        >>> sorted(torch.cache_sizes())
        ['compiled', 'nodes', 'programs', 'runs']
    """
    return {"nodes": trie.size(), "programs": program.count(), "compiled": report.totals.compiled,
            "runs": report.totals.runs}  # fmt: skip
