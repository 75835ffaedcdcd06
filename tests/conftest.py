"""Shared fixtures: every test starts with its own thread of random numbers and default dtype."""

from __future__ import annotations

import gc
import itertools
from collections.abc import Iterator

import jax
import pytest

import tracegrad
from tracegrad import _mappings

#: A process may have 65,530 mappings on Linux; each program of XLA's has some, and one too many ends the process.
MAPPINGS = 25_000
_tests = itertools.count(1)


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    if next(_tests) % 20 == 0 and _mappings.count() > MAPPINGS:
        tracegrad.clear_caches()
        jax.clear_caches()
        gc.collect()
    tracegrad.manual_seed(0)
    yield
    tracegrad.set_default_dtype(tracegrad.float32)
    assert tracegrad.is_grad_enabled()


@pytest.fixture
def compiled() -> Iterator[object]:
    """Return a function that says how many programs were compiled since it was last asked."""
    last = tracegrad.cache_sizes()["compiled"]

    def since() -> int:
        nonlocal last
        tracegrad.synchronize()
        now = tracegrad.cache_sizes()["compiled"]
        delta, last = now - last, now
        return delta

    yield since
