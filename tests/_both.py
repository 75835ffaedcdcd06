"""Programs that are run by PyTorch and by tracegrad, in every way of recording, and must log the same."""

from __future__ import annotations

import contextlib
import types
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tracegrad

Program = Callable[[Any, Callable[..., Any]], Any]
WAYS = ("lazy", "again", "read", "eager")


def plain(x: Any) -> Any:
    """Return what a program returned, with tensors as lists."""
    if hasattr(x, "requires_grad") and hasattr(x, "detach"):
        return [x.detach().tolist(), bool(x.requires_grad)]
    if isinstance(x, (tuple, list)):
        return [plain(y) for y in x]
    if isinstance(x, dict):
        return {k: plain(v) for k, v in x.items()}
    if x is None or isinstance(x, (bool, int, float, str)):
        return x
    raise TypeError(type(x))


def same(a: Any, b: Any) -> bool:
    """Whether two logs agree, numbers up to rounding."""
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float) and isinstance(b, float):
        return bool(np.isclose(a, b, 1e-4, 1e-6, equal_nan=True))
    return type(a) is type(b) and a == b


def logged(program: Program, module: types.ModuleType, read: bool) -> list[Any]:
    """Run a program; return what it logged and returned, or raised, and warned of."""
    log: list[Any] = []

    def note(*things: Any) -> None:
        if read:  # a value is read, so everything is flushed
            for x in things:
                if hasattr(x, "tolist"):
                    x.tolist()
        log.append(things)

    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        try:
            log.append(program(module, note))
        except Exception as error:
            log.append((type(error).__name__, str(error)))
    texts = {str(w.message).split("Traceback")[0] for w in seen}
    log += sorted(t for t in texts if not t.startswith("Using backward() with create_graph"))
    return plain(log)


def check(program: Program, way: str) -> None:
    """Compare tracegrad's log with PyTorch's."""
    torch = pytest.importorskip("torch")
    expected = logged(program, torch, False)
    with tracegrad.eager() if way == "eager" else contextlib.nullcontext():
        if way == "again":
            logged(program, tracegrad, False)
        found = logged(program, tracegrad, way == "read")
    assert same(found, expected), f"\nfound:    {found}\nexpected: {expected}"
