"""Dropout: zeroing elements, or whole channels, at random. The mask is drawn inside the recorded op."""

from __future__ import annotations

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
