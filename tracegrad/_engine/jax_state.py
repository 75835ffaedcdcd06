"""JAX's own state in this thread: what the engine needs of it, and how it is given back whatever interrupts us.

Programs are traced under 64-bit types and outside of any trace of the user's. JAX keeps both in thread-local variables
that its context managers, written in Python, put back: an interrupt that arrives while one is left would leave 64-bit
types on, or a trace that was given up in charge of everything that follows. `tracing` therefore puts both back itself;
who calls ``jax.enable_x64`` where every microsecond counts asks `restore` in a ``finally``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
from jax.core import eval_context


def setting() -> Any:
    """Return this thread's setting of 64-bit types."""
    return jax.enable_x64.get_local()


def restore(before: Any) -> None:
    """Give this thread the setting that it had."""
    if jax.enable_x64.get_local() is not before:
        jax.enable_x64.set_local(before)


@contextmanager
def tracing() -> Iterator[None]:
    """Let JAX trace, or run ops one by one, with 64-bit types and outside of any trace that is in progress."""
    before = setting()
    try:
        with eval_context(), jax.enable_x64(True):
            yield
    finally:
        restore(before)
