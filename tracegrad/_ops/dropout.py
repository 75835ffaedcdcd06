"""Dropout: zeroing elements, or whole channels, at random. The mask is drawn inside the recorded op."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from tracegrad._dtype import type_name
from tracegrad._engine.op import Lowering
from tracegrad._engine.trace import record
from tracegrad._engine.value import Aval
from tracegrad._handle import check_inplace, write
from tracegrad._ops._bits import Draw, bits32
from tracegrad._ops._declare import op
from tracegrad._ops._generator import draw
from tracegrad._ops.activation import softmax
from tracegrad._ops.creation import empty_like, zeros_like
from tracegrad._ops.gathering import scatter
from tracegrad._ops.math import log
from tracegrad._ops.random_fills import exponential_
from tracegrad._ops.reduction import argmax
from tracegrad._ops.sharing import detach

if TYPE_CHECKING:
    from tracegrad._tensor import Tensor


@op(method=False)
def dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Return ``input`` with every element zeroed with probability ``p``, the others divided by ``1 - p``.

    Args:
        input: any shape, floating point.
        p: between 0 and 1.
        training: return ``input`` itself when False.
        inplace: write the result into ``input``.

    Raises:
        ValueError: for a ``p`` out of range.

    See https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.dropout.html

    Example:
        >>> import tracegrad as torch
        >>> x = torch.ones(3)
        >>> torch.dropout(x, 0.5, False) is x, torch.dropout(x, 1.0, True).tolist()
        (True, [0.0, 0.0, 0.0])
    """
    return _drop(input, p, training, inplace, 0)


@op(method=False, function=False)
def dropout1d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Return ``input``, ``(batch, channels, length)``, with whole channels dropped as `dropout` drops elements.

    See https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.dropout1d.html
    """
    if input.ndim not in (2, 3):
        raise RuntimeError(
            f"dropout1d: Expected 2D or 3D input, but received a {input.ndim}D input. Note that dropout1d exists to "
            "provide channel-wise dropout on inputs with 1 spatial dimension, a channel dimension, and an optional "
            "batch dimension (i.e. 2D or 3D inputs)."
        )
    return _drop(input, p, training, inplace, 1)


@op(method=False, function=False)
def dropout2d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Return ``input``, ``(batch, channels, height, width)``, with whole channels dropped.

    See https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.dropout2d.html
    """
    return _drop(input, p, training, inplace, 2)


@op(method=False, function=False)
def dropout3d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Return ``input``, ``(batch, channels, depth, height, width)``, with whole channels dropped.

    See https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.dropout3d.html
    """
    ndim = input.ndim
    if ndim not in (4, 5):
        warnings.warn(
            f"dropout3d: Received a {ndim}-D input to dropout3d, which is deprecated and will result in an error in a "
            "future release. To retain the behavior and silence this warning, please use dropout instead. Note that "
            "dropout3d exists to provide channel-wise dropout on inputs with 3 spatial dimensions, a channel "
            "dimension, and an optional batch dimension (i.e. 4D or 5D inputs).", stacklevel=2)
    return _drop(input, p, training, inplace, 3 if ndim == 5 else max(ndim - 1, 0))


@op(method=False)
def alpha_dropout(input: Tensor, p: float = 0.5, training: bool = False, inplace: bool = False) -> Tensor:
    """Return ``input`` with every element set to the lower bound of selu with probability ``p``.

    The rest is scaled and shifted so that mean 0 and variance 1 stay what they are.

    See https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.alpha_dropout.html
    """
    return _alpha(input, p, training, inplace, False)


@op(method=False)
def feature_alpha_dropout(input: Tensor, p: float = 0.5, training: bool = False, inplace: bool = False) -> Tensor:
    """Return ``input`` with whole channels dropped as `alpha_dropout` drops elements.

    Raises:
        RuntimeError: for fewer than 2 dims.

    See https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.feature_alpha_dropout.html
    """
    return _alpha(input, p, training, inplace, True)


def _alpha(input: Tensor, p: float, training: bool, inplace: bool, features: bool) -> Tensor:
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")
    if not training or p == 0.0:
        return input
    result = record(_alpha_dropout, (float(p), features), input, *draw(None))
    if not inplace:
        return result  # type: ignore[no-any-return]
    check_inplace(input)
    return write(input, result)


def _alpha_dropout(x: Aval, seed: Any, count: Any, p: float, features: bool) -> Lowering:
    if not x.dtype.is_inexact:
        raise RuntimeError(f"result type Float can't be cast to the desired output type {type_name(x.dtype)}")
    if features and x.ndim < 2:
        raise RuntimeError("Feature dropout requires at least 2 dimensions in the input")
    shape = (*x.shape[:2], *(1,) * (x.ndim - 2)) if features else x.shape
    scale = 0.0 if p == 1 else 1 / math.sqrt((_ALPHA**2 * p + 1) * (1 - p))
    shift = _ALPHA * scale * p

    def forward(a: Any, seed: Any, count: Any) -> tuple[Any, Any]:
        kept = keep((seed, count), p, shape)
        slope = jnp.where(kept, np.asarray(scale, a.dtype), np.zeros((), a.dtype))
        return a * slope + jnp.where(kept, shift, shift - _ALPHA * scale).astype(a.dtype), (slope,)

    def backward(saved: Any, g: Any) -> tuple[Any, ...]:
        return g * saved[0], None, None

    return Lowering(lambda *args: forward(*args)[0], forward, backward, "AddBackward0")


#: How far selu goes below 0.
_ALPHA = 1.7580993408473766


@op(method=False, function=False)
def gumbel_softmax(logits: Tensor, tau: float = 1, hard: bool = False, eps: float = 1e-10, dim: int = -1) -> Tensor:
    """Return samples of the relaxed categorical distribution of these ``logits``.

    Args:
        logits: log-probabilities along ``dim``, unnormalised.
        tau: the temperature: the smaller, the nearer to one-hot.
        hard: whether to return one-hot samples, whose gradient is that of the relaxed ones.
        eps: taken, and of no effect.
        dim: the dim of the classes.

    See https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.gumbel_softmax.html
    """
    noise = log(exponential_(empty_like(logits)))
    soft = softmax((logits - noise) / tau, dim)
    if not hard:
        return soft
    chosen = scatter(zeros_like(logits), dim, argmax(soft, dim, keepdim=True), 1.0)
    made: Tensor = chosen - detach(soft) + soft
    return made


def _drop(input: Tensor, p: float, training: bool, inplace: bool, spatial: int) -> Tensor:
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")
    if not training or p == 0.0:
        return input
    result = record(_dropout, (float(p), spatial), input, *draw(None))
    if not inplace:
        return result  # type: ignore[no-any-return]
    check_inplace(input)
    return write(input, result)


def _dropout(x: Aval, seed: Any, count: Any, p: float, spatial: int) -> Lowering:
    if not x.dtype.is_inexact:
        raise RuntimeError(f"result type Float can't be cast to the desired output type {type_name(x.dtype)}")
    channels = (*x.shape[: x.ndim - spatial], *(1,) * spatial) if spatial else x.shape

    def scaled(a: Any, kept: Any) -> Any:
        if p == 1:
            return a * jnp.zeros((), a.dtype)
        return jnp.where(kept, a * np.asarray(1 / (1 - p), a.dtype), jnp.zeros((), a.dtype))

    def forward(a: Any, seed: Any, count: Any) -> tuple[Any, Any]:
        kept = keep((seed, count), p, channels)
        return scaled(a, kept), (kept,)

    def backward(saved: Any, g: Any) -> tuple[Any, ...]:
        return scaled(g, saved[0]), None, None

    return Lowering(lambda *args: forward(*args)[0], forward, backward, "MulBackward0")


def keep(draw: Draw, p: float, shape: tuple[int, ...]) -> Any:
    """Return bools that are False with probability ``p``, from 32 random bits each."""
    return bits32(draw, shape) >= np.uint32(min(round(p * 2**32), 2**32 - 1))
