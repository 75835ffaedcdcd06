"""The memory mappings of this process: Linux allows so many, and one more than that ends the process inside of XLA.

Each program that XLA compiles for a CPU has some, from 3 to about 350 as it is small or large, and 65,530 are allowed
unless the system's owner says otherwise. A few hundred sequence lengths of a transformer come to that.
"""

from __future__ import annotations

from pathlib import Path

_MAPS, _ALLOWED = Path("/proc/self/maps"), Path("/proc/sys/vm/max_map_count")


def _limit() -> float:
    try:
        return int(_ALLOWED.read_text()) / 2
    except (OSError, ValueError):  # no Linux
        return float("inf")


_most = _limit()


def count() -> int:
    """Return how many mappings this process has, 0 where Linux does not say it. It takes 1 ms for 1,000 of them."""
    try:
        return _MAPS.read_bytes().count(b"\n")
    except OSError:
        return 0


def crowded() -> bool:
    """Whether this process has more than half of the mappings that it may have."""
    return count() > _most
