"""What a file may name: the few types of checkpoints, and what the user adds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

_added: dict[str, Any] = {}


def _names(given: Sequence[Any]) -> dict[str, Any]:
    found = {}
    for item in given:
        if isinstance(item, tuple):
            if len(item) != 2 or not isinstance(item[1], str):
                raise ValueError(f"add_safe_globals: expected a callable or (callable, full name), got {item!r}")
            found[item[1]] = item[0]
        elif callable(item):
            found[f"{item.__module__}.{item.__qualname__}"] = item
        else:
            raise TypeError(f"add_safe_globals: expected classes and functions, got {type(item).__name__}")
    return found


def add_safe_globals(safe_globals: Sequence[Any]) -> None:
    """Allow files to name these classes and functions: `load` then makes objects of them, and calls them.

    Args:
        safe_globals: classes and functions, each alone or as a pair with the full name under which files have it.

    See https://docs.pytorch.org/docs/stable/notes/serialization.html
    """
    _added.update(_names(safe_globals))


def get_safe_globals() -> list[Any]:
    """Return the classes and functions that were added."""
    return list(_added.values())


def clear_safe_globals() -> None:
    """Forget the classes and functions that were added."""
    _added.clear()


@contextmanager
def safe_globals(safe_globals: Sequence[Any]) -> Iterator[None]:
    """Allow files to name these classes and functions inside a ``with`` block.

    Example:
        >>> import io
        >>> from collections import deque
        >>> import tracegrad as torch
        >>> file = io.BytesIO()
        >>> torch.save(deque([1, 2]), file)
        >>> with torch.serialization.safe_globals([deque]):
        ...     torch.load(io.BytesIO(file.getvalue()))
        deque([1, 2])
    """
    before = dict(_added)
    add_safe_globals(safe_globals)
    try:
        yield
    finally:
        _added.clear()
        _added.update(before)


def added(name: str) -> Any:
    """Return what was added under ``name``, None where nothing was."""
    return _added.get(name)
