"""Every ``TRACEGRAD_*`` environment variable, read once and validated, in one table."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass
class Config:
    """The settings of this process; each field names the variable that sets it."""

    #: ``TRACEGRAD_CACHE``: the folder of compiled programs; 1: ``tracegrad`` in the user's cache folder; 0: none;
    #: empty: 1 on accelerators, 0 on CPUs.
    cache: str = ""
    #: ``TRACEGRAD_CHECK``: whether elements are checked (indices, divisors, ...), 1, or errors go unnoticed, 0.
    check: bool = True
    #: ``TRACEGRAD_KEEP``: up to how many MiB of working memory a program on a CPU keeps between its runs.
    keep: int = 64
    #: ``TRACEGRAD_LOG``: comma-separated topics that are printed as they happen. Known: ``programs``.
    log: frozenset[str] = frozenset()
    #: ``TRACEGRAD_MAX_PENDING``: a pending trace is flushed when it has this many operations.
    max_pending: int = 2000
    #: ``TRACEGRAD_MAX_PROGRAMS``: compiled programs kept; the least recently run is dropped first.
    max_programs: int = 512
    #: ``TRACEGRAD_MAX_TRIE``: nodes kept in the trie of traces (about 700 bytes each).
    max_trie: int = 200_000
    #: ``TRACEGRAD_ROLL``: which loops are rolled: ``auto`` those where it pays, ``never``, ``always``, or those of at
    #: least this many trips.
    roll: str = "auto"
    #: ``TRACEGRAD_SLOW_COMPILE``: a compile longer than this many seconds says so on stderr.
    slow_compile: float = 2.0


_TOPICS = frozenset({"programs"})


def _read() -> Config:
    config = Config()
    topics = frozenset(t.strip() for t in os.environ.get("TRACEGRAD_LOG", "").split(",") if t.strip())
    if topics - _TOPICS:
        raise ValueError(f"TRACEGRAD_LOG: expected topics among {sorted(_TOPICS)}, got {sorted(topics - _TOPICS)}")
    config.log = topics
    config.cache = os.environ.get("TRACEGRAD_CACHE", "")
    check = os.environ.get("TRACEGRAD_CHECK", "1")
    if check not in ("0", "1"):
        raise ValueError(f"TRACEGRAD_CHECK: expected 0 or 1, got {check!r}")
    config.check = check == "1"
    for name in ("max_pending", "max_programs", "max_trie"):
        text = os.environ.get(f"TRACEGRAD_{name.upper()}")
        if text is not None:
            if not text.isdigit() or int(text) < 1:
                raise ValueError(f"TRACEGRAD_{name.upper()}: expected a positive integer, got {text!r}")
            setattr(config, name, int(text))
    config.roll = os.environ.get("TRACEGRAD_ROLL", config.roll)
    if config.roll not in ("auto", "never", "always") and not (config.roll.isdigit() and int(config.roll) > 1):
        raise ValueError("TRACEGRAD_ROLL: expected auto, never, always or an integer of at least 2, "
                         f"got {config.roll!r}")
    keep = os.environ.get("TRACEGRAD_KEEP", str(config.keep))
    if not keep.isdigit():
        raise ValueError(f"TRACEGRAD_KEEP: expected an integer of at least 0, got {keep!r}")
    config.keep = int(keep)
    seconds = os.environ.get("TRACEGRAD_SLOW_COMPILE")
    if seconds is not None:
        config.slow_compile = float(seconds)
    return config


config = _read()
