"""Initialisations: each fills a tensor in place, outside autograd, and returns it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from tracegrad._engine.op import Lowering
from tracegrad._engine.trace import record
from tracegrad._engine.value import Aval, concrete
from tracegrad._grad_mode import no_grad
from tracegrad._handle import tensor_of, write

if TYPE_CHECKING:
    from tracegrad._tensor import Tensor

_GAINS = {
    "sigmoid": 1.0,
    "tanh": 5.0 / 3,
    "relu": math.sqrt(2.0),
    "selu": 3.0 / 4,
    **dict.fromkeys(
        ["linear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"],
        1.0,
    ),
}


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """Return by how much a layer's weights are scaled to make up for the nonlinearity that follows.

    Example:
        >>> import tracegrad as torch
        >>> torch.nn.init.calculate_gain("leaky_relu", 0.2)
        1.3867504905630728
    """
    if nonlinearity == "leaky_relu":
        slope = 0.01 if param is None else param
        if isinstance(slope, bool) or not isinstance(slope, (int, float)):
            raise ValueError(f"negative_slope {param} not a valid number")
        return math.sqrt(2.0 / (1 + slope**2))
    if nonlinearity not in _GAINS:
        raise ValueError(f"Unsupported nonlinearity {nonlinearity}")
    return _GAINS[nonlinearity]


def _calculate_fan_in_and_fan_out(tensor: Tensor) -> tuple[int, int]:
    """Return how many inputs each output of a weight sees, and how many outputs each input reaches."""
    if tensor.ndim < 2:
        raise ValueError("Fan in and fan out can not be computed for tensor with fewer than 2 dimensions")
    out, into, *window = tensor.shape
    field = math.prod(window)
    return into * field, out * field


def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: Any = None) -> Tensor:
    """Fill ``tensor`` from the uniform distribution over ``[a, b)``."""
    with no_grad():
        return tensor.uniform_(a, b, generator=generator)


def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator: Any = None) -> Tensor:
    """Fill ``tensor`` from the normal distribution."""
    with no_grad():
        return tensor.normal_(mean, std, generator=generator)


def trunc_normal_(
    tensor: Tensor,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    generator: Any = None,
) -> Tensor:
    """Fill ``tensor`` from the normal distribution cut to ``[a, b]``."""
    low, high = (0.5 + math.erf((x - mean) / std / math.sqrt(2.0)) / 2 for x in (a, b))
    with no_grad():
        tensor.uniform_(2 * low - 1, 2 * high - 1, generator=generator)
        return write(tensor, record(_normal_quantile, (float(mean), float(std), float(a), float(b)), tensor))


def _normal_quantile(x: Aval, mean: float, std: float, a: float, b: float) -> Lowering:
    def fn(y: Any) -> Any:
        drawn = jax.scipy.special.erfinv(y) * (std * math.sqrt(2.0)) + mean
        return drawn.clip(a, b).astype(x.dtype.np)

    return Lowering(fn, differentiable=False)


def constant_(tensor: Tensor, val: float) -> Tensor:
    """Fill ``tensor`` with ``val``."""
    of = tensor._value.spec.aval
    with no_grad():
        return write(tensor, tensor_of(concrete(np.full(of.shape, val, of.dtype.np), of)))


def ones_(tensor: Tensor) -> Tensor:
    """Fill ``tensor`` with ones."""
    return constant_(tensor, 1.0)


def zeros_(tensor: Tensor) -> Tensor:
    """Fill ``tensor`` with zeros."""
    return constant_(tensor, 0.0)


def eye_(tensor: Tensor) -> Tensor:
    """Make a matrix the identity."""
    if tensor.ndim != 2:
        raise ValueError("Only tensors with 2 dimensions are supported")
    of = tensor._value.spec.aval
    with no_grad():
        return write(tensor, tensor_of(concrete(np.eye(*of.shape, dtype=of.dtype.np), of)))


def xavier_uniform_(tensor: Tensor, gain: float = 1.0, generator: Any = None) -> Tensor:
    """Fill ``tensor`` uniformly so that signals keep their variance forwards and backwards (Glorot)."""
    bound = math.sqrt(3.0) * _xavier_std(tensor, gain)
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(tensor: Tensor, gain: float = 1.0, generator: Any = None) -> Tensor:
    """Fill ``tensor`` normally so that signals keep their variance forwards and backwards (Glorot)."""
    return normal_(tensor, 0.0, _xavier_std(tensor, gain), generator)


def _xavier_std(tensor: Tensor, gain: float) -> float:
    return gain * math.sqrt(2.0 / sum(_calculate_fan_in_and_fan_out(tensor)))


def kaiming_uniform_(
    tensor: Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Any = None,
) -> Tensor:
    """Fill ``tensor`` uniformly so that signals keep their variance through the nonlinearity (He).

    Args:
        tensor: the weight.
        a: the negative slope of a leaky ReLU that follows.
        mode: whether the variance is kept forwards, ``fan_in``, or backwards, ``fan_out``.
        nonlinearity: what follows, as `calculate_gain` names it.
        generator: where random numbers come from.
    """
    bound = math.sqrt(3.0) * _kaiming_std(tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound, generator) if tensor.numel() else tensor


def kaiming_normal_(
    tensor: Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Any = None,
) -> Tensor:
    """Fill ``tensor`` normally so that signals keep their variance through the nonlinearity (He).

    Arguments are those of `kaiming_uniform_`.
    """
    std = _kaiming_std(tensor, a, mode, nonlinearity)
    return normal_(tensor, 0.0, std, generator) if tensor.numel() else tensor


def _kaiming_std(tensor: Tensor, a: float, mode: str, nonlinearity: str) -> float:
    mode = mode.lower()
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"Mode {mode} not supported, please use one of ['fan_in', 'fan_out']")
    if 0 in tensor.shape:
        return 0.0
    fan = _calculate_fan_in_and_fan_out(tensor)[mode == "fan_out"]
    return calculate_gain(nonlinearity, a) / math.sqrt(fan)


def _zero_row(tensor: Tensor, index: int) -> Tensor:
    """Make one row of a table zero."""
    with no_grad():
        return write(tensor, record(_zeroed, (index,), tensor))


def _zeroed(x: Aval, index: int) -> Lowering:
    return Lowering(lambda a: a.at[index].set(0), differentiable=False)
