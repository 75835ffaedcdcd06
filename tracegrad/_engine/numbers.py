"""Python numbers among operands: the keys that they are looked up by."""

from __future__ import annotations

from typing import Any

import numpy as np

from tracegrad._engine.op import number_token
from tracegrad._engine.value import Input


def number_key(x: Any) -> Any:
    """Return what tells a number apart from others, the type alone of one that is an input of the program."""
    kind = type(x)
    if kind is Input:
        return type(x.value)
    if kind is float or kind is int or kind is bool or kind is complex:
        if kind is int and not -(2**63) <= x < 2**64:
            raise OverflowError("int too big to convert")
        return (kind, x) if x and x == x else number_token(x)
    return number_key(plain(x))


def plain(x: Any) -> Any:
    """Return a NumPy scalar as the Python number that it stands for."""
    if isinstance(x, np.generic) and isinstance(x.item(), (bool, int, float, complex)):
        return x.item()
    if isinstance(x, (bool, int, float, complex)):  # a subclass, such as an IntEnum
        kinds: tuple[Any, ...] = (bool, int, float, complex)
        return next(kind for kind in kinds if isinstance(x, kind))(x)
    raise not_a_tensor(x)


def changing_key(key: list[Any]) -> tuple[Any, ...]:
    """Return the key of an op whose numbers are inputs, from that with the numbers' own keys."""
    return tuple([k[0] if type(k) is tuple and len(k) == 2 and (k[0] is int or k[0] is float) else k for k in key])


def not_a_tensor(x: Any) -> TypeError:
    """Return the error for what cannot be an operand."""
    return TypeError(f"expected Tensor as element, but got {type(x).__name__}")
