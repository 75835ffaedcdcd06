"""The user's JAX setting of 64-bit types, given back whatever interrupts us.

Programs are traced and run under a local ``jax.enable_x64(True)``. An interrupt that arrives while that context is left
would leave it switched on, so whoever may run one also asks `restore` in a ``finally``.
"""

from __future__ import annotations

from typing import Any

import jax


def setting() -> Any:
    """Return this thread's setting."""
    return jax.enable_x64.get_local()


def restore(before: Any) -> None:
    """Give this thread the setting that it had."""
    if jax.enable_x64.get_local() is not before:
        jax.enable_x64.set_local(before)
