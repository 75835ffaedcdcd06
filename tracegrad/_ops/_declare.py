"""Declaring operations: the table that documentation and tests read, and forms derived from the pure op."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import jax.numpy as jnp
import numpy as np

from tracegrad._dtype import BOOL, FLOATING, INTEGRAL, type_name
from tracegrad._engine import trace
from tracegrad._engine.op import Lowering
from tracegrad._engine.value import Aval
from tracegrad._handle import Handle, check_inplace, write

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Declared:
    """One row of the op table."""

    name: str
    function: Callable[..., Any]
    inplace: bool  # whether PyTorch has the in-place form ``name_``
    method: bool  # whether it is a method of tensors too
    toplevel: bool = True  # whether it is a function of the package itself, not of ``nn.functional`` alone


table: dict[str, Declared] = {}


def op(inplace: bool = False, method: bool = True, function: bool = True) -> Callable[[F], F]:
    """Enter a function into the op table and return that very function: a wrapper would cost 100 ns a call."""

    def declare(declared: F) -> F:
        in_place_only = method and not function  # such as ``normal_``, beside the op ``normal``
        name = declared.__name__ if in_place_only else declared.__name__.rstrip("_")
        known = table.get(name)
        if known is not None:
            raise TypeError(f"op {name} is declared in {known.function.__module__} and in {declared.__module__}")
        table[name] = Declared(name, declared, inplace, method, function)
        return declared

    return declare


def inplace(function: F) -> F:
    """Return the in-place form of a pure op: it points its first argument at the result.

    Raises:
        RuntimeError: as PyTorch does, where the result's shape or dtype does not fit, or on a leaf in grad mode.
    """

    @functools.wraps(function)
    def form(self: Any, *args: Any, **kwargs: Any) -> Any:
        check_inplace(self)
        result = function(self, *args, **kwargs)
        was, now = self._value.spec.aval, result._value.spec.aval
        if now.dtype is not was.dtype:
            if now.dtype.category > was.dtype.category:
                raise RuntimeError(f"result type {type_name(now.dtype)} can't be cast to the desired output type "
                                   f"{type_name(was.dtype)}")
            result = trace.record(cast_rule, (was.dtype,), result)
        if now.shape != was.shape:
            raise RuntimeError(f"output with shape {list(was.shape)} doesn't match the broadcast shape "
                               f"{list(now.shape)}")
        return write(self, result)

    form.__name__ = form.__qualname__ = function.__name__.rstrip("_") + "_"
    form.__doc__ = f"In-place form of ``{function.__name__.rstrip('_')}``.\n\n{function.__doc__}"
    return form  # type: ignore[return-value]


def cast_rule(x: Aval, dtype: Any) -> Lowering:
    """The rule of a conversion to another dtype; to integers, what does not fit becomes what x86 processors make of it.

    That is PyTorch's result on a CPU: the least number for nan and for what is out of range, and the low bits of that
    for narrower types.
    """
    if x.dtype.is_inexact and dtype.category == INTEGRAL:
        wide = np.int64 if dtype.itemsize == 8 else np.int32
        least = int(np.iinfo(wide).min)
        bound = -float(least)

        def fn(a: Any) -> Any:
            a = a.real
            fits = (a >= -bound) & (a < bound)
            return jnp.where(fits, a, 0).astype(wide, copy=False).astype(dtype.np) + jnp.where(
                fits, 0, least).astype(dtype.np)  # fmt: skip

        return Lowering(fn, differentiable=False)
    if x.dtype.category == BOOL and dtype.category >= FLOATING:
        return Lowering(lambda a: jnp.where(a, np.ones((), dtype.np), np.zeros((), dtype.np)))  # see `_rules.cast`
    return Lowering(lambda a: a.astype(dtype.np), name="ToCopyBackward0", saves=False)


def is_tensor(x: Any) -> bool:
    """Return whether ``x`` is a tensor.

    Example:
        >>> import tracegrad as torch
        >>> torch.is_tensor(torch.ones(2)), torch.is_tensor(2.0)
        (True, False)
    """
    return isinstance(x, Handle)
