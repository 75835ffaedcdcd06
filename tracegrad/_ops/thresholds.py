"""Activations that change at a threshold: shrinkage, and rectifiers whose slope is learned or drawn at random."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
from jax import lax

from tracegrad import _dtype
from tracegrad._dtype import type_name
from tracegrad._engine.op import Lowering
from tracegrad._engine.trace import record
from tracegrad._engine.value import Aval
from tracegrad._handle import check_inplace, write
from tracegrad._limits import finfo
from tracegrad._ops import _distributions as dist
from tracegrad._ops._declare import op
from tracegrad._ops._generator import draw
from tracegrad._ops._opmath import in_opmath, require_floating
from tracegrad._ops._out import into
from tracegrad._ops.math import tanh

if TYPE_CHECKING:
    from tracegrad._tensor import Tensor


@op()
def hardshrink(input: Tensor, lambd: float = 0.5, *, out: Tensor | None = None) -> Tensor:
    """Return every element of a magnitude greater than ``lambd``, and 0 for the others.

    See https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.hardshrink.html

    Example:
        >>> import tracegrad as torch
        >>> torch.tensor([-1.0, 0.25, 2.0]).hardshrink()
        tensor([-1.,  0.,  2.])
    """
    if out is not None:
        return into(out, hardshrink, input, lambd)
    return record(_hardshrink, (float(lambd),), input)  # type: ignore[no-any-return]


def _hardshrink(x: Aval, bound: float) -> Lowering:
    require_floating(x, "hardshrink_cpu")
    return Lowering(lambda a: jnp.where((a >= -bound) & (a <= bound), jnp.zeros((), a.dtype), a),
                    name="HardshrinkBackward0")  # fmt: skip


@op(method=False, function=False)
def softshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """Return every element moved towards 0 by ``lambd``, and 0 for those that would pass it.

    Raises:
        RuntimeError: for a negative ``lambd``.

    See https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.softshrink.html
    """
    return record(_softshrink, (float(lambd),), input)  # type: ignore[no-any-return]


def _softshrink(x: Aval, bound: float) -> Lowering:
    require_floating(x, "softshrink_check")
    if not bound >= 0:
        most = f"{finfo(x.dtype).max:g}"
        raise RuntimeError(f"lambda must be in range [0, {most}] for input dtype {type_name(x.dtype)}, but found "
                           f"{bound:g}")

    def fn(a: Any) -> Any:
        inside = (a >= -bound) & (a <= bound)
        return jnp.where(inside, lax.stop_gradient(a * 0), jnp.where(a > 0, a - bound, a + bound))

    return Lowering(in_opmath(fn), name="SoftshrinkBackward0")


@op(method=False, function=False)
def tanhshrink(input: Tensor) -> Tensor:
    """Return ``input - tanh(input)``.

    See https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.tanhshrink.html
    """
    made: Tensor = input - tanh(input)
    return made


@op(method=False)
def threshold(input: Tensor, threshold: float, value: float, inplace: bool = False) -> Tensor:
    """Return every element that is greater than ``threshold``, and ``value`` for the others.

    See https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.threshold.html

    Example:
        >>> import tracegrad as torch
        >>> torch.threshold(torch.tensor([1.0, 2.0, 3.0]), 2.0, -1.0)
        tensor([-1., -1.,  3.])
    """
    return _written(input, record(_threshold, (threshold, value), input), inplace)


def _threshold(x: Aval, bound: float, value: float) -> Lowering:
    if x.dtype is _dtype.bool_:
        raise NotImplementedError("\"threshold_cpu\" not implemented for 'Bool'")
    kind: Any = float if x.dtype.is_inexact else int
    low, instead = kind(bound), kind(value)
    return Lowering(lambda a: jnp.where(a <= low, jnp.asarray(instead, a.dtype), a), name="ThresholdBackward0")


@op()
def prelu(input: Tensor, weight: Tensor) -> Tensor:
    """Return ``x`` where it is positive, ``weight * x`` elsewhere.

    Args:
        input: any shape; the second dim is that of channels.
        weight: one number, or one per channel.

    Raises:
        RuntimeError: where there is another number of weights, or ``weight`` has another dtype.

    See https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.prelu.html
    """
    return record(_prelu, (), input, weight)  # type: ignore[no-any-return]


def _prelu(x: Aval, weight: Aval) -> Lowering:
    if x.dtype is not weight.dtype:
        raise RuntimeError(f"prelu: Type promoting not supported. Got {type_name(x.dtype)} and "
                           f"{type_name(weight.dtype)}")
    if weight.ndim > 1:
        raise RuntimeError(f"prelu: Expected `weight` to be a scalar or 1D tensor, but got: ndim = {weight.ndim}")
    channels = x.shape[1] if x.ndim > 1 else 1
    if weight.numel != 1 and weight.numel != channels:
        raise RuntimeError(f"Mismatch of parameter numbers and input channel size. Found parameter numbers = "
                           f"{weight.numel} and channel size = {channels}.")
    require_floating(x, "prelu_cpu")
    shape = (1, weight.numel) + (1,) * (x.ndim - 2) if weight.numel != 1 else ()
    return Lowering(in_opmath(lambda a, w: jnp.where(a > 0, a, a * w.reshape(shape))), name="PreluKernelBackward0")


@op(method=False)
def rrelu(input: Tensor, lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False,
          inplace: bool = False) -> Tensor:  # fmt: skip
    """Return ``x`` where it is positive, elsewhere ``x`` times a number between ``lower`` and ``upper``.

    The number is drawn for each element while ``training``, and is halfway between the two otherwise.

    Raises:
        RuntimeError: where ``lower`` is greater than ``upper``.

    See https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.rrelu.html
    """
    bounds = float(lower), float(upper)
    result = record(_rrelu, bounds, input, *draw(None)) if training else record(_leaky, bounds, input)
    return _written(input, result, inplace)


def _checked_bounds(x: Aval, low: float, high: float) -> None:
    if low > high:
        raise RuntimeError("Lower bound should be less than or equal to the upper bound")
    require_floating(x, "leaky_relu_cpu")


def _leaky(x: Aval, low: float, high: float) -> Lowering:
    _checked_bounds(x, low, high)
    return Lowering(in_opmath(lambda a: jnp.where(a > 0, a, a * ((low + high) / 2))), name="RreluWithNoiseBackward0")


def _rrelu(x: Aval, seed: Any, count: Any, low: float, high: float) -> Lowering:
    _checked_bounds(x, low, high)

    def forward(a: Any, seed: Any, count: Any) -> tuple[Any, Any]:
        slope = jnp.where(a <= 0, dist.uniform((seed, count), x.shape, x.dtype.np, low, high), 1).astype(a.dtype)
        return a * slope, (slope,)

    def backward(saved: Any, g: Any) -> tuple[Any, ...]:
        return g * saved[0], None, None

    return Lowering(lambda *args: forward(*args)[0], forward, backward, "RreluWithNoiseBackward0")


def _written(input: Tensor, result: Tensor, inplace: bool) -> Tensor:
    """Return ``result``, or ``input`` pointed at it."""
    if not inplace:
        return result
    check_inplace(input)
    return write(input, result)
