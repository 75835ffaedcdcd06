"""The memory that programs work in is kept between runs."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from tracegrad import _working_memory
from tracegrad._config import config


def compiled(megabytes: int) -> Any:
    return SimpleNamespace(memory_analysis=lambda: SimpleNamespace(temp_size_in_bytes=megabytes << 20))


def test_what_glibc_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[int, int]] = []
    monkeypatch.setattr(_working_memory, "_mallopt", lambda *args: told.append(args))
    monkeypatch.setattr(_working_memory, "_kept", 32 << 20)
    monkeypatch.setattr(config, "keep", 1024)
    _working_memory.make_room(compiled(32))
    _working_memory.make_room(SimpleNamespace(memory_analysis=lambda: None))
    assert not told, "blocks of up to 32 MiB are kept anyway"
    _working_memory.make_room(compiled(60))
    assert told == [(-3, (60 << 20) + (1 << 16)), (-1, 2**31 - 1), (-2, 64 << 20)]
    _working_memory.make_room(compiled(50))
    assert len(told) == 3
    monkeypatch.setattr(config, "keep", 100)
    _working_memory.make_room(compiled(5000))
    assert told[3] == (-3, (100 << 20) + (1 << 16))


_PAGES = """
import resource
import tracegrad
x, found = tracegrad.ones(3000, 1700), []
for _ in range(5):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    assert x.cumsum(0).cumsum(1).sum().item() > 0
    found.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(min(found))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="another C library")
def test_runs_do_not_ask_the_system_for_memory() -> None:
    done = subprocess.run([sys.executable, "-c", _PAGES], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 3000, "41 MB are 10,000 pages"
