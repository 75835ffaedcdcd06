"""The memory that programs on CPUs work in, kept from one run to the next.

XLA asks ``malloc`` for a program's working memory at each run, and gives it back. A block of more than 32 MiB is one
that glibc takes from the system each time: it comes a page at a time, by a fault that finds 4 KiB and fills them with
zeros. A training step of a small ResNet works in 60 MB, so that was 15,000 faults, and a quarter of its time. So when a
program is compiled that needs such a block, glibc is told to hold on to blocks of this size, up to ``TRACEGRAD_KEEP``,
where that is set: these are settings of the whole process, and a GPT step, whose threads ask for many blocks, took 20 %
longer with one arena.

NOTE [One arena] Threads other than the first have arenas of their own in glibc, which cannot hold such a block at all,
and XLA runs programs in threads of its own. So there is to be one arena, from before these threads begin.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any

from tracegrad._config import config

#: glibc's numbers of the parameters, and the largest block that it holds on to by itself.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX, _BY_ITSELF = -1, -3, -8, 32 << 20
_LARGEST = 2**31 - 1  # of a C int

#: glibc's function that sets them, None where there is another C library, or nothing is to be kept.
_mallopt: Any = None
_kept = _BY_ITSELF
if sys.platform.startswith("linux") and config.keep << 20 > _BY_ITSELF:
    _mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if _mallopt is not None:
        _mallopt(_ARENA_MAX, 1)


def make_room(compiled: Any) -> None:
    """Have the working memory of a compiled program kept between its runs, where that is not so by itself."""
    global _kept
    if _mallopt is None:
        return
    stats = compiled.memory_analysis()
    size = min(stats.temp_size_in_bytes if stats is not None else 0, config.keep << 20, 1 << 30)
    if size > _kept:
        _kept = size
        _mallopt(_MMAP_THRESHOLD, size + (1 << 16))
        _mallopt(_TRIM_THRESHOLD, _LARGEST)
