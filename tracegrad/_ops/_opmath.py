"""What the neural-network ops share: the type they compute in, their refusals, reductions of losses."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from tracegrad._dtype import DType, float32, type_name
from tracegrad._engine.value import Aval


def opmath(dtype: DType) -> Any:
    """Return the type to compute in: 16-bit types compute in float32 and round once, at the end."""
    return float32.np if dtype.is_floating_point and dtype.itemsize == 2 else dtype.np


def in_opmath(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``fn`` with its 16-bit operands as float32 and its result as theirs: rounded once, not at every step."""

    def run(*args: Any) -> Any:
        dtype = args[0].dtype
        if dtype.itemsize != 2 or not jnp.issubdtype(dtype, jnp.floating):
            return fn(*args)
        return fn(*[a.astype(jnp.float32) for a in args]).astype(dtype)

    return run


def require_floating(x: Aval, kernel: str) -> None:
    """Raise NotImplementedError, naming PyTorch's ``kernel``, where ``x`` holds integers or bools."""
    if not x.dtype.is_inexact:
        raise NotImplementedError(f"\"{kernel}\" not implemented for '{type_name(x.dtype)}'")


def pair(x: Any, op: str, name: str, n: int) -> tuple[int, ...]:
    """Return one int or a sequence of ints as ``n`` ints, as window sizes and strides are given."""
    if isinstance(x, int):
        return (x,) * n
    sizes = tuple(int(v) for v in x)
    if len(sizes) == 1:
        return sizes * n
    if len(sizes) != n:
        words = "a single int" if n == 1 else "a single int, or a tuple of two ints"
        raise RuntimeError(f"{op}: {name} must either be {words}" if n > 1 else f"{op}: {name} must be {words}")
    return sizes


def reduction_name(reduction: str, size_average: bool | None = None, reduce: bool | None = None) -> str:
    """Return the reduction asked for, by its name or by the two flags that PyTorch had before names.

    Raises:
        ValueError: where the name is none of ``none``, ``mean`` and ``sum``.
    """
    if size_average is not None or reduce is not None:
        found = "none" if reduce is False else "sum" if size_average is False else "mean"
        warnings.warn(
            f"size_average and reduce args will be deprecated, please use reduction='{found}' instead.", stacklevel=3
        )
        return found
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(f"{reduction} is not a valid value for reduction")
    return reduction


def reduced(losses: Any, reduction: str) -> Any:
    """Return ``losses`` reduced."""
    if reduction == "mean":
        return jnp.sum(losses) / np.asarray(losses.size, losses.dtype)
    return jnp.sum(losses) if reduction == "sum" else losses


_C_NAMES = {
    "int64": "long int",
    "int32": "int",
    "int16": "short int",
    "int8": "signed char",
    "uint8": "unsigned char",
    "uint16": "unsigned short",
    "uint32": "unsigned int",
    "uint64": "unsigned long",
    "bool": "bool",
    "float16": "c10::Half",
    "bfloat16": "c10::BFloat16",
    "float32": "float",
    "float64": "double",
    "complex64": "c10::complex<float>",
    "complex128": "c10::complex<double>",
}


def c_name(dtype: DType) -> str:
    """Return the name that a few of PyTorch's messages give a dtype, such as ``long int``."""
    return _C_NAMES[dtype.name]
