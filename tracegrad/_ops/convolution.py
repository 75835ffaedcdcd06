"""Convolutions and padding.

NOTE [Columns] On CPU a convolution of few inputs per output (one channel of an image) runs faster as a product with the
matrix of its windows than as XLA's convolution, which blocks over channels; its gradients do not. Measured in
``benchmarks/lowerings.md``. Elsewhere, and for more channels, XLA's convolution is used as it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jax import lax

from tracegrad._dtype import type_name
from tracegrad._engine.op import Lowering
from tracegrad._engine.trace import record
from tracegrad._engine.value import Aval
from tracegrad._ops import _rules as rules
from tracegrad._ops._declare import op
from tracegrad._ops._opmath import pair

if TYPE_CHECKING:
    from tracegrad._tensor import Tensor

#: On CPU, a window of at most so many elements (channels x kernel) becomes a column.
_COLUMN_SIZE = 32


@op(method=False)
def conv1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] | str = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Tensor:
    """Return the 1-D convolution (cross-correlation) of ``input`` with ``weight``.

    Args:
        input: ``(batch, in_channels, length)`` or without the batch.
        weight: ``(out_channels, in_channels / groups, kernel)``.
        bias: ``(out_channels,)``.
        stride: steps between windows.
        padding: zeros at both ends, or ``"valid"`` or ``"same"``.
        dilation: steps between a window's elements.
        groups: blocks of channels that do not see each other.

    See https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.conv1d.html
    """
    return _record(1, input, weight, bias, stride, padding, dilation, groups)


@op(method=False)
def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] | str = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Tensor:
    """Return the 2-D convolution (cross-correlation) of ``input`` with ``weight``.

    Args:
        input: ``(batch, in_channels, height, width)`` or without the batch.
        weight: ``(out_channels, in_channels / groups, kernel_height, kernel_width)``.
        bias: ``(out_channels,)``.
        stride: steps between windows, one or two ints.
        padding: zeros at both ends of each dim, or ``"valid"`` or ``"same"``.
        dilation: steps between a window's elements.
        groups: blocks of channels that do not see each other.

    Raises:
        RuntimeError: where shapes or dtypes do not go together.

    See https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.conv2d.html

    Example:
        >>> import tracegrad as torch
        >>> torch.conv2d(torch.ones(1, 1, 4, 4), torch.ones(2, 1, 3, 3), padding=1).shape
        torch.Size([1, 2, 4, 4])
    """
    return _record(2, input, weight, bias, stride, padding, dilation, groups)


def _record(n: int, input: Tensor, weight: Tensor, bias: Tensor | None, *window: Any) -> Tensor:
    params = (n, *map(rules.frozen, window))
    if bias is None:
        return record(_convolution, params, input, weight)  # type: ignore[no-any-return]
    return record(_with_bias, params, input, weight, bias)  # type: ignore[no-any-return]


def _with_bias(x: Aval, weight: Aval, bias: Aval, *params: Any) -> Lowering:
    return _lowering(x, weight, bias, *params)


def _convolution(x: Aval, weight: Aval, *params: Any) -> Lowering:
    return _lowering(x, weight, None, *params)


def _lowering(
    x: Aval, weight: Aval, bias: Aval | None, n: int, stride: Any, padding: Any, dilation: Any, groups: int
) -> Lowering:
    name = f"conv{n}d"
    if x.ndim not in (n + 1, n + 2):
        raise RuntimeError(
            f"Expected {n + 1}D (unbatched) or {n + 2}D (batched) input to {name}, but got input of "
            f"size: {list(x.shape)}"
        )
    strides, dilations = pair(stride, name, "stride", n), pair(dilation, name, "dilation", n)
    batched = x.ndim == n + 2
    shape = x.shape if batched else (1, *x.shape)
    kernel = weight.shape[2:]
    ends = _ends(padding, strides, dilations, kernel, n)
    _check(shape, x, weight, bias, strides, dilations, ends, groups)

    convolve = _plain(n, strides, ends, dilations, groups)
    forward_pass = convolve
    if x.device.type == "cpu" and groups == 1 and math.prod(weight.shape[1:]) <= _COLUMN_SIZE and x.dtype.is_inexact:
        forward_pass = _columns(n, strides, ends, dilations)

    def run(a: Any, w: Any, b: Any) -> Any:
        y = forward_pass(a if batched else a[None], w)
        if b is not None:
            y = y + b.reshape(-1, *(1,) * n)
        return y if batched else y[0]

    def forward(a: Any, w: Any, b: Any = None) -> tuple[Any, Any]:
        return run(a, w, b), (a, w)

    def backward(saved: Any, g: Any) -> tuple[Any, ...]:
        a, w = saved
        if not batched:
            a, g = a[None], g[None]
        _, pull = jax.vjp(convolve, a, w)
        da, dw = pull(g)
        db = jnp.sum(g, (0, *range(2, n + 2)))
        return (da if batched else da[0], dw) if bias is None else (da if batched else da[0], dw, db)

    return Lowering(
        lambda a, w, b=None: run(a, w, b), forward, backward, "ConvolutionBackward0" if batched else "SqueezeBackward1"
    )


def _plain(n: int, strides: Any, ends: Any, dilations: Any, groups: int) -> Callable[[Any, Any], Any]:
    spatial = "HW"[2 - n :]
    layout = ("NC" + spatial, "OI" + spatial, "NC" + spatial)

    def convolve(a: Any, w: Any) -> Any:
        return lax.conv_general_dilated(
            a, w, strides, ends, rhs_dilation=dilations, dimension_numbers=layout, feature_group_count=groups
        )

    return convolve


def _columns(n: int, strides: Any, ends: Any, dilations: Any) -> Callable[[Any, Any], Any]:
    """The forward convolution as ``weight @ windows``, the windows' matrix being (channels x kernel, batch x space)."""

    def convolve(a: Any, w: Any) -> Any:
        out_channels, kernel = w.shape[0], w.shape[2:]
        padded = jnp.pad(a, ((0, 0), (0, 0), *ends)).swapaxes(0, 1)
        sizes = [(padded.shape[2 + i] - dilations[i] * (kernel[i] - 1) - 1) // strides[i] + 1 for i in range(n)]
        taps = []
        for tap in range(math.prod(kernel)):
            at = [tap] if n == 1 else [tap // kernel[1], tap % kernel[1]]
            first = [0, 0, *(t * d for t, d in zip(at, dilations))]
            last = [*padded.shape[:2], *(f + s * (m - 1) + 1 for f, s, m in zip(first[2:], strides, sizes))]
            taps.append(lax.slice(padded, first, last, (1, 1, *strides)))
        matrix = jnp.stack(taps, 1).reshape(math.prod(w.shape[1:]), -1)
        y = w.reshape(out_channels, -1) @ matrix
        return y.reshape(out_channels, a.shape[0], *sizes).swapaxes(0, 1)

    return convolve


def _ends(padding: Any, strides: Any, dilations: Any, kernel: Any, n: int) -> tuple[tuple[int, int], ...]:
    if padding == "valid":
        return ((0, 0),) * n
    if padding == "same":
        if any(s != 1 for s in strides):
            raise RuntimeError("padding='same' is not supported for strided convolutions")
        totals = [d * (k - 1) for d, k in zip(dilations, kernel)]
        return tuple((t // 2, t - t // 2) for t in totals)
    if isinstance(padding, str):
        raise RuntimeError(f"Invalid padding string: '{padding}'")
    return tuple((p, p) for p in pair(padding, f"conv{n}d", "padding", n))


def _check(
    shape: tuple[int, ...],
    x: Aval,
    weight: Aval,
    bias: Aval | None,
    strides: Any,
    dilations: Any,
    ends: Any,
    groups: int,
) -> None:
    n = len(strides)
    size = list(weight.shape)
    if groups <= 0:
        raise RuntimeError("non-positive groups is not supported")
    if any(p < 0 for pads in ends for p in pads):
        raise RuntimeError("negative padding is not supported")
    if any(s <= 0 for s in strides):
        raise RuntimeError("non-positive stride is not supported")
    if any(d <= 0 for d in dilations):
        raise RuntimeError("dilation should be greater than zero")
    if weight.ndim != n + 2:
        raise RuntimeError(f"Expected {n + 2}-dimensional weight for conv{n}d, but got weight of size {size} instead")
    if weight.shape[0] < groups:
        raise RuntimeError(
            f"Given groups={groups}, expected weight to be at least {groups} at dimension 0, but got "
            f"weight of size {size} instead"
        )
    if weight.shape[0] % groups:
        raise RuntimeError(
            f"Given groups={groups}, expected weight to be divisible by {groups} at dimension 0, but "
            f"got weight of size [{size}] instead"
        )
    if shape[1] != weight.shape[1] * groups:
        raise RuntimeError(
            f"Given groups={groups}, weight of size {size}, expected input{list(shape)} to have "
            f"{weight.shape[1] * groups} channels, but got {shape[1]} channels instead"
        )
    if bias is not None and bias.shape != (weight.shape[0],):
        raise RuntimeError(
            f"Given weight of size {size}, expected bias to be 1-dimensional with {weight.shape[0]} "
            f"elements, but got bias of size {list(bias.shape)} instead"
        )
    padded = [s + low + high for s, (low, high) in zip(shape[2:], ends)]
    spread = [d * (k - 1) + 1 for d, k in zip(dilations, weight.shape[2:])]
    if any(s < k for s, k in zip(padded, spread)):
        words = " x ".join(map(str, padded)), " x ".join(map(str, spread))
        raise RuntimeError(
            f"Calculated padded input size per channel: ({words[0]}). Kernel size: ({words[1]}). "
            "Kernel size can't be greater than actual input size"
        )
    for other in (weight,) if bias is None else (weight, bias):
        if other.dtype is not x.dtype:
            raise RuntimeError(f"expected scalar type {type_name(x.dtype)} but found {type_name(other.dtype)}")


# -- padding -----------------------------------------------------------------------------------------------------------


@op(method=False, function=False)
def pad(input: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Tensor:
    """Return ``input`` with elements added around it, or taken away where a width is negative.

    Args:
        input: any shape.
        pad: widths before and after the last dim, then before and after the one before it, and so on.
        mode: ``"constant"``, ``"reflect"``, ``"replicate"`` or ``"circular"``.
        value: what a constant pad is filled with, 0 when None.

    See https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.pad.html

    Example:
        >>> import tracegrad as torch
        >>> torch.nn.functional.pad(torch.ones(2), (1, 0)).tolist()
        [0.0, 1.0, 1.0]
    """
    filling = 0 if value is None else value
    if mode != "constant":
        return record(_pad_mode, (tuple(pad), mode), input)  # type: ignore[no-any-return]
    return record(_pad, (tuple(pad), type(filling), filling), input)  # type: ignore[no-any-return]


_JNP_MODES = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def _widths(x: Aval, widths: tuple[int, ...]) -> list[tuple[int, int]]:
    if len(widths) % 2:
        raise RuntimeError("Padding length must be divisible by 2")
    if len(widths) > 2 * x.ndim:
        raise RuntimeError(
            "Padding length should be less than or equal to two times the input dimension but got "
            f"padding length {len(widths)} and input of dimension {x.ndim}"
        )
    pairs = [(widths[i], widths[i + 1]) for i in range(0, len(widths), 2)][::-1]
    return [(0, 0)] * (x.ndim - len(pairs)) + pairs


def _pad(x: Aval, widths: tuple[int, ...], kind: type, filling: Any) -> Lowering:
    config = [(low, high, 0) for low, high in _widths(x, widths)]
    for size, (low, high, _) in zip(x.shape, config):
        if size + low + high < 0 or size + min(low, 0) + min(high, 0) < 0:
            raise RuntimeError("narrow(): length must be non-negative.")
    return Lowering(
        lambda a: lax.pad(a, jnp.asarray(filling, a.dtype), config), name="ConstantPadNdBackward0", saves=False
    )


def _pad_mode(x: Aval, widths: tuple[int, ...], mode: str) -> Lowering:
    if mode not in _JNP_MODES:
        raise NotImplementedError(f"Unrecognised padding mode {mode}")
    pairs = _widths(x, widths)
    for axis, ((low, high), size) in enumerate(zip(pairs, x.shape)):
        if mode == "reflect" and max(low, high) >= size and (low or high):
            raise RuntimeError(
                "Padding size should be less than the corresponding input dimension, but got: padding "
                f"({low}, {high}) at dimension {axis} of input {list(x.shape)}"
            )
        if mode == "circular" and max(low, high) > size:
            raise RuntimeError("Padding value causes wrapping around more than once.")
        if min(low, high) < 0:
            raise NotImplementedError(f"pad: negative widths are for the constant mode, got {widths} with {mode!r}")
    spatial = sum(1 for p in pairs if p != (0, 0)) or 1
    kind = {"reflect": "Reflection", "replicate": "Replication"}.get(mode)
    name = f"{kind}Pad{spatial}DBackward0" if kind else "CopySlices"
    return Lowering(lambda a: jnp.pad(a, pairs, _JNP_MODES[mode]), name=name)
