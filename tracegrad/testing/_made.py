"""Tensors of random elements to try things on."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tracegrad._dtype import BOOL, INTEGRAL, DType, to_real, uint8
from tracegrad._errors import UnsupportedError
from tracegrad._grad_mode import no_grad
from tracegrad._ops.blending import where
from tracegrad._ops.creation import DeviceLike, sizes
from tracegrad._ops.creation import complex as complex_of
from tracegrad._ops.random import rand, randint
from tracegrad._tensor import Tensor


def make_tensor(*shape: Any, dtype: DType, device: DeviceLike, low: float | None = None, high: float | None = None,
                requires_grad: bool = False, noncontiguous: bool = False, exclude_zero: bool = False,
                memory_format: Any = None) -> Tensor:  # fmt: skip
    """Return a tensor of uniform random elements from ``low`` up to but without ``high``.

    Args:
        shape: sizes, or one sequence of them.
        dtype: decides the bounds: -9 to 9 for floating-point and complex types, -9 to 10 for integers, 0 to 10 for
            ``uint8``, both values of ``bool``.
        device: where it is to be.
        low: another lower bound.
        high: another upper bound.
        requires_grad: whether gradients are wanted.
        noncontiguous: take every other element of a larger tensor.
        exclude_zero: put a number close to zero, 1 for integers, in the place of zeros.
        memory_format: not supported.

    Raises:
        ValueError: where ``low`` is not less than ``high``, or gradients are wanted of integers.

    See https://docs.pytorch.org/docs/stable/testing.html

    Example:
        >>> import tracegrad as torch
        >>> torch.testing.make_tensor((2, 3), dtype=torch.float32, device="cpu", low=0, high=1).shape
        torch.Size([2, 3])
    """
    size = sizes(shape)
    if memory_format is not None:
        raise UnsupportedError("make_tensor: memory_format is not supported: XLA lays tensors out as it likes")
    if requires_grad and not dtype.is_inexact:
        raise ValueError("`requires_grad=True` is not supported for boolean and integral dtypes, but got "
                         f"dtype={dtype!r}")  # fmt: skip
    low, high = _bounds(dtype, low, high)
    double = noncontiguous and math.prod(size) > 1
    drawn = (*size[:-1], 2 * size[-1]) if double else size
    with no_grad():
        if dtype.category <= INTEGRAL:
            made = randint(math.ceil(low), math.ceil(high), drawn, device=device).to(dtype)
        elif dtype.is_complex:
            parts = [_uniform(drawn, to_real(dtype), device, low, high) for _ in range(2)]
            made = complex_of(*parts)
        else:
            made = _uniform(drawn, dtype, device, low, high)
        if exclude_zero:
            least = np.finfo(to_real(dtype).np).tiny if dtype.is_inexact else 1
            made = where(made == 0, float(least) if dtype.is_inexact else 1, made).to(dtype)
        if double:
            made = made[..., ::2]
    return made.detach().requires_grad_(requires_grad)


def _uniform(size: tuple[int, ...], dtype: DType, device: DeviceLike, low: float, high: float) -> Tensor:
    made: Tensor = rand(size, dtype=dtype, device=device) * (high - low) + low
    return made


def _bounds(dtype: DType, low: float | None, high: float | None) -> tuple[float, float]:
    default: tuple[float, float] = (-9, 9)
    if dtype.category == BOOL:
        default = (0, 2)
    elif dtype.category == INTEGRAL:
        default = (0 if dtype is uint8 or not dtype.is_signed else -9, 10)
    low, high = default[0] if low is None else low, default[1] if high is None else high
    if math.isnan(low) or math.isnan(high):
        raise ValueError(f"`low` and `high` cannot be NaN, but got low={low!r} and high={high!r}")
    if low >= high:
        raise ValueError(f"`low` must be less than `high`, but got {low} >= {high}")
    if dtype.is_inexact:
        limits: Any = np.finfo(to_real(dtype).np) if dtype.name != "bfloat16" else np.finfo(np.float32)
        bound = float(limits.max) / 2
        return max(float(low), -bound), min(float(high), bound)
    if dtype.category == BOOL:
        return low, high
    whole = np.iinfo(dtype.np)
    return max(low, int(whole.min)), min(high, int(whole.max) + 1)
