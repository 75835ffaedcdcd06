"""Shared fixtures: every test starts with its own thread of random numbers and default dtype."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import tracegrad


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
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
