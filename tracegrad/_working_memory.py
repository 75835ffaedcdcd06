"""The memory that programs on CPUs work in, kept from one run to the next.

XLA asks ``malloc`` for a program's working memory at each run, and gives it back. A block of more than 32 MiB is one
that glibc takes from the system each time: it comes a page at a time, by a fault that finds 4 KiB and fills them with
zeros. A training step of a small ResNet works in 60 MB, so that was 15,000 faults, and nearly half of its time. So when
a program is compiled that needs such a block, glibc is told to hold on to blocks of this size, up to
``TRACEGRAD_KEEP``, and to what a thread's arena has grown by for one, even when it is empty (``M_TOP_PAD``): these are
settings of the whole process.

NOTE [One arena] XLA runs programs in threads of its own. Threads other than the first have arenas in glibc that cannot
hold a block of more than 64 MiB at all. So where larger ones are to be kept, there is to be one arena, from before
these threads begin. It is not so by itself: a GPT step, whose threads ask for many blocks at once, takes a quarter
longer with one.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any

from tracegrad._config import config

#: glibc's numbers of the parameters, the largest block that it holds on to by itself, and that any arena can hold.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -2, -3, -8
_BY_ITSELF, _IN_ANY_ARENA = 32 << 20, 64 << 20
_LARGEST = 2**31 - 1  # of a C int

#: glibc's function that sets them, None where there is another C library, or nothing is to be kept.
_mallopt: Any = None
_kept = _BY_ITSELF
if sys.platform.startswith("linux") and config.keep << 20 > _BY_ITSELF:
    _mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if _mallopt is not None and config.keep << 20 > _IN_ANY_ARENA:
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
        _mallopt(_TOP_PAD, _IN_ANY_ARENA)
