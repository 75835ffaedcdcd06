"""The rules of writes that replace every element."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from tracegrad._dtype import DType
from tracegrad._engine.op import Lowering
from tracegrad._engine.value import Aval
from tracegrad._ops import _rules as rules


def copy_rule(source: Aval, shape: tuple[int, ...], dtype: DType) -> Lowering:
    """The rule of ``copy_``: broadcast and convert."""
    size = len(shape) - len(source.shape)
    if size < 0 or any(s not in (1, t) for s, t in zip(source.shape, shape[size:])):
        raise RuntimeError(f"output with shape {list(shape)} doesn't match the broadcast shape "
                           f"{list(rules.broadcast(_Shape(shape), source))}")

    def fn(a: Any) -> Any:
        real = jnp.real(a) if a.dtype.kind == "c" and not dtype.is_complex else a
        return jnp.broadcast_to(real.astype(dtype.np), shape)

    return Lowering(fn, name="CopyBackwards", saves=False)


def fill_rule(value: rules.Operand, of: Aval) -> Lowering:
    """The rule of ``fill_``."""
    return Lowering(lambda x: jnp.full(of.shape, rules.cast(x, of.dtype)), saves=False, device=of.device)


def replace_rule(x: Aval, new: rules.Operand, rule: Any, params: tuple[Any, ...], name: str) -> Lowering:
    """The rule of a write with a history: ``x`` is replaced by what ``rule`` makes of ``new``, and gets no gradient."""
    fn = rule(new, *params).fn
    return Lowering(lambda a, b: fn(b), name=name, saves=False, device=x.device)


class _Shape(Aval):
    __slots__ = ()

    def __init__(self, shape: tuple[int, ...]):
        self.shape = shape
