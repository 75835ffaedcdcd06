"""Windows and pixels of images moved to other dims: the functions behind ``unfold``, ``fold`` and ``PixelShuffle``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from tracegrad._engine.op import Lowering
from tracegrad._engine.trace import record
from tracegrad._engine.value import Aval
from tracegrad._ops._declare import op

if TYPE_CHECKING:
    from tracegrad._tensor import Tensor


@op(method=False, function=False)
def pixel_shuffle(input: Tensor, upscale_factor: int) -> Tensor:
    """Return ``(*, c * r * r, h, w)`` as ``(*, c, h * r, w * r)``."""
    return record(_pixel_shuffle, (upscale_factor,), input)  # type: ignore[no-any-return]


def _pixel_shuffle(x: Aval, r: int) -> Lowering:
    if x.ndim < 3:
        raise RuntimeError(f"pixel_shuffle expects input to have at least 3 dimensions, but got input with {x.ndim} "
                           "dimension(s)")
    *lead, c, h, w = x.shape
    if r <= 0 or c % (r * r):
        raise RuntimeError("pixel_shuffle expects its input's 'channel' dimension to be divisible by the square of "
                           f"upscale_factor, but input.size(-3)={c} is not divisible by {r * r}")

    def fn(a: Any) -> Any:
        a = jnp.moveaxis(a.reshape(*lead, c // (r * r), r, r, h, w), (-4, -3), (-3, -1))
        return a.reshape(*lead, c // (r * r), h * r, w * r)

    return Lowering(fn, name="PixelShuffleBackward0", saves=False)


@op(method=False, function=False)
def pixel_unshuffle(input: Tensor, downscale_factor: int) -> Tensor:
    """Return ``(*, c, h * r, w * r)`` as ``(*, c * r * r, h, w)``: the inverse of ``pixel_shuffle``."""
    return record(_pixel_unshuffle, (downscale_factor,), input)  # type: ignore[no-any-return]


def _pixel_unshuffle(x: Aval, r: int) -> Lowering:
    if x.ndim < 3:
        raise RuntimeError(f"pixel_unshuffle expects input to have at least 3 dimensions, but got input with {x.ndim} "
                           "dimension(s)")
    *lead, c, h, w = x.shape
    for name, size in (("height", h), ("width", w)):
        if r <= 0 or size % r:
            raise RuntimeError(f"pixel_unshuffle expects {name} to be divisible by downscale_factor, but "
                               f"input.size({-2 if name == 'height' else -1})={size} is not divisible by {r}")

    def fn(a: Any) -> Any:
        a = jnp.moveaxis(a.reshape(*lead, c, h // r, r, w // r, r), (-3, -1), (-4, -3))
        return a.reshape(*lead, c * r * r, h // r, w // r)

    return Lowering(fn, name="PixelUnshuffleBackward0", saves=False)


@op(method=False, function=False)
def im2col(input: Tensor, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> Tensor:
    """Return every window of images as a column, ``(*, c * kernel, windows)``: ``nn.functional.unfold``."""
    params = tuple(_pair(v) for v in (kernel_size, dilation, padding, stride))
    return record(_im2col, params, input)  # type: ignore[no-any-return]


@op(method=False, function=False)
def col2im(input: Tensor, output_size: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0,
         stride: Any = 1) -> Tensor:  # fmt: skip
    """Return images of ``output_size`` to which every column of ``input`` is added: ``nn.functional.fold``."""
    params = tuple(_pair(v) for v in (output_size, kernel_size, dilation, padding, stride))
    return record(_col2im, params, input)  # type: ignore[no-any-return]


def _pair(v: Any) -> tuple[int, int]:
    return (v, v) if isinstance(v, int) else (int(v[0]), int(v[1]))


_Pair = tuple[int, int]


def _windows(size: _Pair, kernel: _Pair, dilation: _Pair, padding: _Pair, stride: _Pair) -> list[Any]:
    """Return, per dim, which padded row every (place in the window, window) is."""
    found = []
    for n, k, d, p, s in zip(size, kernel, dilation, padding, stride):
        count = (n + 2 * p - d * (k - 1) - 1) // s + 1
        found.append(np.arange(k)[:, None] * d + np.arange(max(count, 0))[None, :] * s)
    return found


def _im2col(x: Aval, kernel: _Pair, dilation: _Pair, padding: _Pair, stride: _Pair) -> Lowering:
    if x.ndim not in (3, 4):
        raise RuntimeError("Expected 3D or 4D (batch mode) tensor with possibly 0 batch size and other non-zero "
                           f"dimensions for input, but got: {list(x.shape)}")
    lead, c = x.shape[:-3], x.shape[-3]
    rows, columns = _windows(x.shape[-2:], kernel, dilation, padding, stride)  # type: ignore[arg-type]
    if not rows.shape[1] or not columns.shape[1]:
        raise RuntimeError(
            f"Given input with spatial size ({x.shape[-2]}, {x.shape[-1]}), kernel_size=({kernel[0]}, {kernel[1]}), "
            f"dilation=({dilation[0]}, {dilation[1]}), padding=({padding[0]}, {padding[1]}), stride=({stride[0]}, "
            f"{stride[1]}), calculated shape of the array of sliding blocks as ({rows.shape[1]}, {columns.shape[1]}), "
            "but its components must be at least one.")

    def fn(a: Any) -> Any:
        a = jnp.pad(a, [(0, 0)] * (a.ndim - 2) + [(p, p) for p in padding])
        found = a[..., rows[:, None, :, None], columns[None, :, None, :]]
        return found.reshape(*lead, c * kernel[0] * kernel[1], rows.shape[1] * columns.shape[1])

    return Lowering(fn, name="Im2ColBackward0", saves=False)


def _col2im(x: Aval, size: _Pair, kernel: _Pair, dilation: _Pair, padding: _Pair, stride: _Pair) -> Lowering:
    if x.ndim not in (2, 3):
        raise RuntimeError("Expected 2D or 3D (batch mode) tensor for input with possibly 0 batch size and non-zero "
                           f"dimensions for input, but got: {list(x.shape)}")
    if x.shape[-2] % (kernel[0] * kernel[1]):
        raise RuntimeError("Expected size of input's dimension 1 to be divisible by the product of kernel_size, but "
                           f"got input.size(1)={x.shape[-2]} and kernel_size=({kernel[0]}, {kernel[1]}).")
    rows, columns = _windows(size, kernel, dilation, padding, stride)
    windows = rows.shape[1] * columns.shape[1]
    if windows != x.shape[-1]:
        raise RuntimeError(
            f"Given output_size=({size[0]}, {size[1]}), kernel_size=({kernel[0]}, {kernel[1]}), dilation=("
            f"{dilation[0]}, {dilation[1]}), padding=({padding[0]}, {padding[1]}), stride=({stride[0]}, {stride[1]}), "
            f"expected size of input's dimension 2 to match the calculated number of sliding blocks {rows.shape[1]} * "
            f"{columns.shape[1]} = {windows}, but got input.size(2)={x.shape[-1]}.")
    lead, c = x.shape[:-2], x.shape[-2] // (kernel[0] * kernel[1])
    padded = tuple(n + 2 * p for n, p in zip(size, padding))

    def fn(a: Any) -> Any:
        a = a.reshape(*lead, c, *kernel, rows.shape[1], columns.shape[1])
        out = jnp.zeros((*lead, c, *padded), a.dtype)
        out = out.at[..., rows[:, None, :, None], columns[None, :, None, :]].add(a)
        return out[..., padding[0] : padded[0] - padding[0], padding[1] : padded[1] - padding[1]]

    return Lowering(fn, name="Col2ImBackward0", saves=False)
