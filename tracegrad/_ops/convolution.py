"""Convolutions and padding.

NOTE [Windows] On CPUs, XLA's convolution is not the fastest way to some of what is asked of it, and very slow at two:
the gradient of a weight where the output is larger than the input, and groups of one channel each. A product with the
matrix of all windows is better for the former, for gradients of kernels of one element, and for few inputs per output
(XLA blocks over channels); a sum over the elements of the kernel, each times its slice of the input, is better for the
latter. Measured in ``benchmarks/lowerings.md``; elsewhere XLA's convolution is used.
Both are written in PyTorch's order of dims; what the arrays have in memory is decided in ``_engine/orders.py``.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
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

#: On CPUs, convolutions with windows of at most so many elements (channels x kernel) run as products.
_SMALL_WINDOW = 32
#: On CPUs, a convolution of each channel by itself is a sum over at most so many elements of the kernel: sums of more
#: take long to compile.
_FEW_TAPS = 9


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
    forward_pass, weight_gradient = convolve, None
    windows = _Windows(shape[2:], kernel, strides, ends, dilations)
    fast = x.device.type == "cpu" and x.dtype.is_inexact
    if fast and groups == shape[1] > 1 and x.dtype.itemsize >= 4 and math.prod(kernel) <= _FEW_TAPS:
        convolve = forward_pass = windows.convolve_each
    elif fast and groups == 1:
        if math.prod(kernel) == 1 and not any(map(any, ends)):
            convolve = windows.convolve
        elif math.prod(weight.shape[1:]) <= _SMALL_WINDOW:
            forward_pass = windows.convolve
        if windows.grow:
            weight_gradient = windows.weight_gradient

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
        if weight_gradient is not None:
            dw = weight_gradient(a, g)
        db = jnp.sum(g, (0, *range(2, n + 2)))
        return (da if batched else da[0], dw) if bias is None else (da if batched else da[0], dw, db)

    return Lowering(
        lambda a, w, b=None: run(a, w, b), forward, backward, "ConvolutionBackward0" if batched else "SqueezeBackward1"
    )


class _Windows:
    """A convolution as a product with the matrix of its windows, (batch x space, kernel x channels)."""

    def __init__(self, sizes: Any, kernel: Any, strides: Any, ends: Any, dilations: Any):
        self.kernel, self.strides, self.ends, self.dilations = kernel, strides, ends, dilations
        self.counts = tuple((size + sum(pads) - d * (k - 1) - 1) // s + 1
                            for size, k, s, pads, d in zip(sizes, kernel, strides, ends, dilations))  # fmt: skip
        #: whether there are more windows along some dim than the input has elements
        self.grow = any(count > size for count, size in zip(self.counts, sizes))

    def slices(self, a: Any) -> list[Any]:
        """Return what each element of the kernel meets, (batch, space, channels)."""
        batch, channels = a.shape[:2]
        padded = jnp.pad(jnp.moveaxis(a, 1, -1), ((0, 0), *self.ends, (0, 0)))
        taps = []
        for tap in np.ndindex(*self.kernel):
            first = [t * d for t, d in zip(tap, self.dilations)]
            last = [f + s * (m - 1) + 1 for f, s, m in zip(first, self.strides, self.counts)]
            taps.append(lax.slice(padded, (0, *first, 0), (batch, *last, channels), (1, *self.strides, 1)))
        return taps

    def matrix(self, a: Any) -> Any:
        """Return all windows of ``a``."""
        taps = self.slices(a)
        return jnp.concatenate(taps, -1).reshape(a.shape[0] * math.prod(self.counts), a.shape[1] * len(taps))

    def convolve(self, a: Any, w: Any) -> Any:
        y = self.matrix(a) @ jnp.moveaxis(w, (0, 1), (-1, -2)).reshape(math.prod(w.shape[1:]), w.shape[0])
        return jnp.moveaxis(y.reshape(a.shape[0], *self.counts, w.shape[0]), -1, 1)

    def convolve_each(self, a: Any, w: Any) -> Any:
        """Convolve each channel by itself."""
        taps = self.slices(jnp.repeat(a, w.shape[0] // a.shape[1], 1))
        parts = [tap * w[(slice(None), 0, *at)] for tap, at in zip(taps, np.ndindex(*self.kernel))]
        return jnp.moveaxis(functools.reduce(jnp.add, parts), -1, 1)

    def weight_gradient(self, a: Any, g: Any) -> Any:
        outs = g.shape[1]
        dw = jnp.moveaxis(g, 1, 0).reshape(outs, g.shape[0] * math.prod(self.counts)) @ self.matrix(a)
        return jnp.moveaxis(dw.reshape(outs, *self.kernel, a.shape[1]), -1, 1)


def _plain(n: int, strides: Any, ends: Any, dilations: Any, groups: int) -> Callable[[Any, Any], Any]:
    spatial = "HW"[2 - n :]
    layout = ("NC" + spatial, "OI" + spatial, "NC" + spatial)

    def convolve(a: Any, w: Any) -> Any:
        return lax.conv_general_dilated(
            a, w, strides, ends, rhs_dilation=dilations, dimension_numbers=layout, feature_group_count=groups
        )

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
