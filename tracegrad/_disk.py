"""The compilation cache on disk: JAX's own, switched on where the user has not set it up, and kept within bounds.

What JAX has compiled once it then loads, in this process or a later one. JAX has this off by default, and bounded only
with a further package; here it is on, in the user's cache folder, and pruned as a process begins to compile.
``TRACEGRAD_CACHE`` moves it or switches it, see `Config.cache`. A folder that JAX was told of, by its configuration or
by ``JAX_COMPILATION_CACHE_DIR``, is left alone.

NOTE [Not by itself on CPUs] Programs for CPUs are not always loaded safely: a process that loaded thousands of them
died in XLA's loader once in our tests, others report the same (https://github.com/jax-ml/jax/issues/28908), and some
processors refuse what they compiled themselves, with a line of log each
(https://github.com/jax-ml/jax/issues/38445). So there the cache is for those who ask for it.

JAX's cache trusts its files, so the folder is the user's only. Programs for CPUs are compiled for one kind of machine,
so each kind has a folder of its own: home directories are shared.
"""

from __future__ import annotations

import hashlib
import os
import platform
from contextlib import suppress
from pathlib import Path
from typing import Any

import jax

from tracegrad._config import config

#: Bytes that the files may have before the oldest are removed, and what is left of them then.
LIMIT, LEFT = 2 << 30, 1 << 30
#: A compile shorter than this many seconds is not worth a file.
SHORTEST = 0.05

_opened = False


def open_once() -> None:
    """Switch the cache on, before this process compiles its first program."""
    global _opened
    if _opened:
        return
    _opened = True
    chosen = config.cache or ("0" if jax.default_backend() == "cpu" else "1")
    if chosen == "0" or jax.config.jax_compilation_cache_dir is not None:  # type: ignore[attr-defined]
        return
    folder = (_users() if chosen == "1" else Path(chosen)) / _machine()
    with suppress(OSError):  # a home that cannot be written to is no reason not to run
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not os.access(folder, os.W_OK | os.X_OK) or (hasattr(os, "getuid") and folder.stat().st_uid != os.getuid()):
            return
        prune(folder)
        update: Any = jax.config.update
        update("jax_persistent_cache_min_compile_time_secs", SHORTEST)
        update("jax_compilation_cache_dir", str(folder))


def prune(folder: Path) -> None:
    """Remove the files of ``folder`` that were used longest ago, if all have more bytes than the limit."""
    files = []
    for entry in os.scandir(folder):
        with suppress(OSError):  # another process prunes too
            found = entry.stat()
            files.append((max(found.st_atime, found.st_mtime), found.st_size, entry.path))
    total = sum(size for _, size, _ in files)
    if total <= LIMIT:
        return
    for _, size, path in sorted(files):
        if total <= LEFT:
            break
        with suppress(OSError):
            os.remove(path)
        total -= size


def _users() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tracegrad"


def _machine() -> str:
    """Return a name for this kind of machine: its processor, and what that can do."""
    able = platform.processor()
    with suppress(OSError):
        able = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags")), able)
    return f"{platform.machine()}-{hashlib.sha256(able.encode()).hexdigest()[:12]}"
