"""Seeds and states of the default generator, as PyTorch's ``torch.random`` has them.

See https://docs.pytorch.org/docs/stable/random.html
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from tracegrad._ops._generator import Generator as Generator
from tracegrad._ops._generator import default_generator as default_generator
from tracegrad._ops._generator import get_rng_state as get_rng_state
from tracegrad._ops._generator import initial_seed as initial_seed
from tracegrad._ops._generator import manual_seed as manual_seed
from tracegrad._ops._generator import seed as seed
from tracegrad._ops._generator import set_rng_state as set_rng_state

__all__ = ["fork_rng", "get_rng_state", "initial_seed", "manual_seed", "seed", "set_rng_state"]


@contextlib.contextmanager
def fork_rng(devices: Any = None, enabled: bool = True, device_type: str = "cuda") -> Iterator[None]:
    """Give the default generator the state back that it had before the ``with`` block.

    Args:
        devices: accepted as PyTorch does; there is one default generator for all devices.
        enabled: do nothing when False.
        device_type: accepted as PyTorch does.

    Example:
        >>> import tracegrad as torch
        >>> _ = torch.manual_seed(3)
        >>> with torch.random.fork_rng():
        ...     a = torch.rand(2)
        >>> torch.rand(2).tolist() == a.tolist()
        True
    """
    if not enabled:
        yield
        return
    before = get_rng_state()
    try:
        yield
    finally:
        set_rng_state(before)
