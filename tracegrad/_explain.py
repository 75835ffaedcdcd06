"""``tracegrad.explain()``: what was compiled, where in the user's code, and why."""

from __future__ import annotations

from tracegrad._compile import functions
from tracegrad._config import config
from tracegrad._engine import program, report, trie


class Explanation(str):
    """A text that shows itself as it is at the prompt."""

    def __repr__(self) -> str:
        return str(self)


def explain(limit: int | None = None) -> Explanation:
    """Describe the programs of this process, the latest first, and the functions that `compile` made.

    Each has its number of recorded operations, where in the user's code it was flushed and why, how often it was hit,
    the time to trace, compile and dispatch it, and how many inputs it donates. A program that left a trace which used
    to hit names the first operation that differs, old and new, with both source lines. A compiled function has its
    specialisations, how often it was called, and why each recording was made.

    Args:
        limit: show this many programs at most.

    Example:
        >>> import tracegrad as torch
        >>> print(torch.ones(2) + 1)
        tensor([2., 2.])
        >>> "programs" in torch.explain(limit=1)
        True
    """
    records = list(reversed(report.totals.records))
    shown = records if limit is None else records[:limit]
    lines = [f"{report.totals.compiled} programs compiled, {program.count()} of at most {config.max_programs} kept, "
             f"{report.totals.runs} runs; trie: {trie.size()} of at most {config.max_trie} nodes"]  # fmt: skip
    for function in sorted(functions, key=lambda f: f.__name__):
        lines += [f"  {line}" for line in function.lines()]
    lines += [f"  {report.line(record)}" for record in shown]
    if len(shown) < len(records):
        lines.append(f"  ... and {len(records) - len(shown)} more")
    return Explanation("\n".join(lines))
