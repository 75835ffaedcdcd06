"""Garbage collection, paused while JAX traces."""

from __future__ import annotations

import gc


class _CollectionPaused:
    """Keeps the garbage collector off: a finalizer that records inside JAX's tracing would dead-lock.

    Counted, since threads overlap; the steps between two calls are atomic, see NOTE [One commit].
    """

    def __init__(self) -> None:
        self.depth = 0
        self.was_enabled = False

    def __enter__(self) -> None:
        self.depth += 1
        try:
            if gc.isenabled():
                self.was_enabled = True
                gc.disable()
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *error: object) -> None:
        self.depth -= 1
        if self.depth == 0 and self.was_enabled:
            self.was_enabled = False
            gc.enable()


collection_paused = _CollectionPaused()
