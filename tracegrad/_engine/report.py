"""What is known of each compiled program, for ``tracegrad.explain()`` and ``TRACEGRAD_LOG=programs``."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tracegrad._config import config

if TYPE_CHECKING:
    from tracegrad._engine.trie import Node


@dataclass
class Record:
    """One program's story."""

    ops: int  # recorded operations in it
    where: tuple[str, int]  # the user's file and line of the flush
    reason: str  # why it was flushed
    donated: int = 0  # inputs donated
    cheap: bool = False  # whether it was compiled with cheap options, see `credit.py`
    runs: int = 0
    trace_seconds: float = 0.0
    compile_seconds: float = 0.0  # lowering and compiling
    run_seconds: float = 0.0  # dispatching all runs; a device may still be working
    difference: str = ""  # where it left a trace that used to hit
    loops: list[str] = field(default_factory=list)  # its rolled loops: trips, operations, where
    unrolled: list[str] = field(default_factory=list)  # what repeats and was not rolled, and why

    @property
    def hits(self) -> int:
        """Runs after the first."""
        return max(self.runs - 1, 0)


@dataclass
class _Totals:
    compiled: int = 0
    runs: int = 0
    records: list[Record] = field(default_factory=list)


totals = _Totals()


def compiled(record: Record) -> None:
    """Note a new program."""
    totals.compiled += 1
    totals.records.append(record)
    if len(totals.records) > 4 * config.max_programs:
        del totals.records[: config.max_programs]
    if "programs" in config.log:
        print("tracegrad:", line(record), file=sys.stderr, flush=True)


def line(record: Record) -> str:
    """Return one program's story in a line or two."""
    file, number = record.where
    text = (f"{record.ops} ops, flushed at {file}:{number} ({record.reason}), {record.hits} hits, "
            f"trace {record.trace_seconds * 1e3:.0f} ms, compile {record.compile_seconds * 1e3:.0f} ms, "
            f"run {record.run_seconds / max(record.runs, 1) * 1e3:.3f} ms, {record.donated} inputs donated")
    more = [record.difference] if record.difference else []
    if record.cheap:
        more.append("compiled with cheap options: what is flushed here hardly ever comes again")
    more += [f"rolled: {loop}" for loop in record.loops] + [f"not rolled: {loop}" for loop in record.unrolled]
    return "".join([text, *(f"\n    {note}" for note in more)])


def difference(path: list[Node]) -> str:
    """Describe the first step at which a new path leaves those that were flushed before, or return ''."""
    for node in path:
        if node.stamp:
            continue
        assert node.parent is not None
        if node.parent.parent is None:  # they share nothing but the beginning
            return ""
        known = [kid for kid in node.parent.kids.values() if kid.stamp and kid is not node]
        if not known:
            return ""
        old = max(known, key=lambda kid: kid.stamp)
        return f"differs from an earlier trace: was {describe(old)}, now {describe(node)}"
    return ""


def describe(node: Node) -> str:
    """Return a node's op, operands and source line."""
    file, number = node.where
    what = re.sub(r"Backward\d*$", "", node.lowering.name) if node.lowering else ""
    if not what and node.rule is not None:
        what = getattr(node.rule, "__name__", "").strip("_")
    kind = ("root", "mode", "leaf", "variable", what or "op", "backward")[node.kind]
    specs = ", ".join(map(repr, node.specs))
    numbers = [str(x[1]) for x in node.inputs if type(x) is tuple and x[0] == "c"]
    text = f" with {', '.join(numbers)}" if numbers else ""
    return f"{kind}{text} -> {specs} at {file}:{number}"


def clear() -> None:
    """Forget every record."""
    totals.compiled = totals.runs = 0
    totals.records.clear()
