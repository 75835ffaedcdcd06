"""Pooling: windows as strided slices, one for each place in the window.

NOTE [First maximum] JAX differentiates ``reduce_window`` max by a select-and-scatter that is many times slower on CPU
than what is done here: the backward compares each place with its window's maximum, gives the gradient to the first that
is equal (PyTorch's rule for ties), and lays the places side by side again. Recomputing the comparison is cheaper than
keeping the number of the place (``benchmarks/lowerings.md``).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from tracegrad._engine.op import Lowering
from tracegrad._engine.trace import record
from tracegrad._engine.value import Aval
from tracegrad._ops import _rules as rules
from tracegrad._ops._declare import op
from tracegrad._ops._opmath import opmath, pair

if TYPE_CHECKING:
    from tracegrad._tensor import Tensor

Sizes = int | Sequence[int]


class _Windows:
    """The geometry of a pooling: where windows lie over the last ``n`` dims."""

    def __init__(self, x: Aval, op: str, n: int, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil: bool):
        self.kernel = pair(kernel, op, "kernel_size", n)
        self.stride = self.kernel if stride is None or stride == () else pair(stride, op, "stride", n)
        self.padding, self.dilation = pair(padding, op, "padding", n), pair(dilation, op, "dilation", n)
        _check(x, op, n, self)
        self.input = x.shape[-n:]
        self.output = tuple(map(self._count, range(n), (ceil,) * n))
        if any(size < 1 for size in self.output):
            whole = x.shape[-n - 1 :] if n == 2 else (x.shape[-2], 1, x.shape[-1])
            sizes = (whole[0], *self.output) if n == 2 else (whole[0], 1, *self.output)
            raise RuntimeError(
                f"Given input size: ({'x'.join(map(str, whole))}). Calculated output size: "
                f"({'x'.join(map(str, sizes))}). Output size is too small"
            )
        self.taps = list(np.ndindex(*self.kernel))
        #: padding after each dim that makes the last window whole
        self.after = tuple(
            max(0, (o - 1) * s + d * (k - 1) + 1 - size - p)
            for o, s, d, k, size, p in zip(
                self.output, self.stride, self.dilation, self.kernel, self.input, self.padding
            )
        )
        #: windows tile the dims: no place lies in two
        self.tiles = (
            self.stride == self.kernel
            and not any(self.padding)
            and not any(self.after)
            and all(d == 1 or k == 1 for d, k in zip(self.dilation, self.kernel))
        )

    def _count(self, i: int, ceil: bool) -> int:
        size, p, k, s, d = self.input[i], self.padding[i], self.kernel[i], self.stride[i], self.dilation[i]
        room = size + 2 * p - d * (k - 1) - 1
        count = (-(-room // s) if ceil else room // s) + 1
        return count - 1 if ceil and (count - 1) * s >= size + p else count

    def padded(self, a: Any, filling: Any) -> Any:
        config = [(0, 0, 0)] * (a.ndim - len(self.kernel)) + [(p, q, 0) for p, q in zip(self.padding, self.after)]
        return lax.pad(a, filling, config) if any(self.padding) or any(self.after) else a

    def slice(self, padded: Any, tap: tuple[int, ...]) -> Any:
        """Return what lies at place ``tap`` of every window."""
        lead = padded.ndim - len(self.kernel)
        first = [t * d for t, d in zip(tap, self.dilation)]
        last = [f + s * (o - 1) + 1 for f, s, o in zip(first, self.stride, self.output)]
        return lax.slice(padded, [0] * lead + first, [*padded.shape[:lead], *last], [1] * lead + list(self.stride))

    def unslice(self, part: Any, tap: tuple[int, ...]) -> Any:
        """The transpose of `slice`, cut to the input."""
        config = [(0, 0, 0)] * (part.ndim - len(self.kernel))
        for t, d, s, o, size, p in zip(tap, self.dilation, self.stride, self.output, self.input, self.padding):
            low = t * d - p
            config.append((low, size - low - (o - 1) * s - 1, s - 1))
        return lax.pad(part, jnp.zeros((), part.dtype), config)

    def interleave(self, parts: list[Any]) -> Any:
        """The transpose of all slices, where windows tile: lay each window's places side by side."""
        if len(self.kernel) == 1:
            whole = jnp.stack(parts, -1)
        else:
            width = self.kernel[1]
            rows = [jnp.stack(parts[i : i + width], -1) for i in range(0, len(parts), width)]
            whole = jnp.stack(rows, -3)
        lead = parts[0].shape[: parts[0].ndim - len(self.kernel)]
        covered = [o * k for o, k in zip(self.output, self.kernel)]
        whole = whole.reshape(*lead, *covered)
        if tuple(covered) == self.input:
            return whole
        rest = [(0, size - c, 0) for size, c in zip(self.input, covered)]
        return lax.pad(whole, jnp.zeros((), whole.dtype), [(0, 0, 0)] * len(lead) + rest)


def _check(x: Aval, op: str, n: int, w: _Windows) -> None:
    if op.startswith("max_pool1d") and x.ndim not in (2, 3):
        raise RuntimeError(
            f"max_pool1d: Expected 2D or 3D (batch mode) tensor with optional 0 dim batch size for "
            f"input, but got:{list(x.shape)}"
        )
    if x.ndim not in (n + 1, n + 2) or 0 in x.shape[-n - 1 :]:
        if op.startswith("max"):
            raise RuntimeError(f"non-empty {n + 1}D or {n + 2}D (batch mode) tensor expected for input")
        raise RuntimeError(
            f"{op}: Expected {n + 1}D or {n + 2}D (batch mode) tensor with optional 0 dim batch size "
            f"for input, but got:{list(x.shape)}"
        )
    if min(w.kernel) < 1:
        raise RuntimeError(f"{op}: kernel_size must be greater than zero, but got {w.kernel}")
    if min(w.stride) < 1:
        raise RuntimeError("stride should not be zero" if 0 in w.stride else "stride must be greater than zero")
    if min(w.dilation) < 1:
        raise RuntimeError(f"dilation should be greater than zero, but got {w.dilation}")
    for k, p, d in zip(w.kernel, w.padding, w.dilation):
        if p < 0:
            raise RuntimeError("pad must be non-negative, but got pad=" + str(p))
        if p > ((k - 1) * d + 1) // 2:
            raise RuntimeError(
                f"pad should be at most half of effective kernel size, but got pad={p}, kernel_size={k} "
                f"and dilation={d}"
            )


# -- maximum -----------------------------------------------------------------------------------------------------------


@op(method=False)
def max_pool1d(
    input: Tensor,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    dilation: Sizes = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """Return the maximum of every window of the last dim; gradients go to the first maximum.

    See https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.max_pool1d.html
    """
    sizes = map(rules.frozen, (kernel_size, stride, padding, dilation))
    return record(_max_pool, (1, *sizes, ceil_mode, return_indices), input)


@op(method=False)
def max_pool2d(
    input: Tensor,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    dilation: Sizes = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """Return the maximum of every window of the last two dims; gradients go to the first maximum.

    Args:
        input: ``(batch, channels, height, width)`` or without the batch.
        kernel_size: the size of a window, one or two ints.
        stride: steps between windows, ``kernel_size`` when None.
        padding: how many places that are never the maximum to add around.
        dilation: steps between a window's elements.
        ceil_mode: also take windows that reach over the end.
        return_indices: also return where each maximum lies in its ``height x width`` plane.

    See https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.max_pool2d.html

    Example:
        >>> import tracegrad as torch
        >>> torch.max_pool2d(torch.tensor([[[1.0, 2.0], [3.0, 0.0]]]), 2).tolist()
        [[[3.0]]]
    """
    sizes = map(rules.frozen, (kernel_size, stride, padding, dilation))
    return record(_max_pool, (2, *sizes, ceil_mode, return_indices), input)


def _max_pool(
    x: Aval, n: int, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil: bool, indices: bool
) -> Lowering:
    w = _Windows(x, f"max_pool{n}d", n, kernel, stride, padding, dilation, ceil)
    lowest = x.dtype.np.type(-np.inf) if x.dtype.is_floating_point else np.iinfo(x.dtype.np).min

    def slices(a: Any) -> list[Any]:
        padded = w.padded(a, jnp.asarray(lowest, a.dtype))
        return [w.slice(padded, tap) for tap in w.taps]

    def firsts(parts: list[Any], best: Any) -> list[Any]:
        """Say for each place of the window where it holds the first maximum."""
        seen, found = jnp.zeros(best.shape, bool), []
        for part in parts:
            is_best = (part == best) | (part != part)
            found.append(is_best & ~seen)
            seen = seen | is_best
        return found

    def forward(a: Any) -> tuple[Any, Any]:
        parts = slices(a)
        best = functools.reduce(jnp.maximum, parts)
        return (best, flat(firsts(parts, best))) if indices else best, (a, best)

    def flat(found: list[Any]) -> Any:
        """The index in the plane of each window's first maximum."""
        place = sum((jnp.where(f, i, 0) for i, f in enumerate(found)), jnp.zeros((), jnp.int32))
        taps = jnp.asarray(np.array(w.taps, np.int64) * w.dilation)[place]
        index = jnp.zeros((), jnp.int64)
        for axis in range(n):
            start = np.arange(w.output[axis]) * w.stride[axis] - w.padding[axis]
            index = index * w.input[axis] + taps[..., axis] + start.reshape(-1, *(1,) * (n - axis - 1))
        return index

    def backward(saved: Any, g: Any) -> tuple[Any, ...]:
        a, best = saved
        g = g[0] if indices else g
        shares = [jnp.where(f, g, jnp.zeros((), g.dtype)) for f in firsts(slices(a), best)]
        if w.tiles:
            return (w.interleave(shares),)
        return (functools.reduce(jnp.add, [w.unslice(part, tap) for part, tap in zip(shares, w.taps)]),)

    return Lowering(
        lambda a: forward(a)[0], forward, backward, "SqueezeBackward1" if n == 1 else "MaxPool2DWithIndicesBackward0"
    )


# -- mean --------------------------------------------------------------------------------------------------------------


@op(method=False)
def avg_pool1d(
    input: Tensor,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """Return the mean of every window of the last dim.

    See https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.avg_pool1d.html
    """
    sizes = map(rules.frozen, (kernel_size, stride, padding))
    return record(_avg_pool, (1, *sizes, ceil_mode, count_include_pad, None), input)  # type: ignore[no-any-return]


@op(method=False, function=False)
def avg_pool2d(
    input: Tensor,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """Return the mean of every window of the last two dims.

    Args:
        input: ``(batch, channels, height, width)`` or without the batch.
        kernel_size: the size of a window, one or two ints.
        stride: steps between windows, ``kernel_size`` when None.
        padding: zeros to add around.
        ceil_mode: also take windows that reach over the end.
        count_include_pad: divide by the window's size with its padding.
        divisor_override: divide by this instead.

    See https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.avg_pool2d.html
    """
    sizes = map(rules.frozen, (kernel_size, stride, padding))
    params = (2, *sizes, ceil_mode, count_include_pad, divisor_override)
    return record(_avg_pool, params, input)  # type: ignore[no-any-return]


def _avg_pool(
    x: Aval, n: int, kernel: Any, stride: Any, padding: Any, ceil: bool, with_padding: bool, divisor: int | None
) -> Lowering:
    w = _Windows(x, f"avg_pool{n}d", n, kernel, stride, padding, 1, ceil)
    if divisor == 0:
        raise RuntimeError("divisor must be not zero")
    counts = _counts(w, with_padding, divisor)
    wide = opmath(x.dtype)

    def divide(a: Any) -> Any:
        if not x.dtype.is_inexact:
            return lax.div(a, jnp.broadcast_to(jnp.asarray(counts, a.dtype), a.shape))
        return a / jnp.asarray(counts, a.dtype)

    def fn(a: Any) -> Any:
        padded = w.padded(a.astype(wide), jnp.zeros((), wide))
        total = w.slice(padded, w.taps[0])
        for tap in w.taps[1:]:
            total = total + w.slice(padded, tap)
        return divide(total).astype(a.dtype)

    def backward(saved: Any, g: Any) -> tuple[Any, ...]:
        share = divide(g.astype(wide))
        if w.tiles:
            return (w.interleave([share] * len(w.taps)).astype(g.dtype),)
        parts = [w.unslice(share, tap) for tap in w.taps]
        return (sum(parts[1:], parts[0]).astype(g.dtype),)

    return Lowering(fn, lambda a: (fn(a), ()), backward, "SqueezeBackward1" if n == 1 else "AvgPool2DBackward0")


def _counts(w: _Windows, with_padding: bool, divisor: int | None) -> Any:
    """Return what the sum of each window is divided by."""
    if divisor is not None:
        return np.asarray(divisor)
    counts: Any = np.ones((1,) * len(w.kernel), np.int64)
    for axis, (o, k, s, p, size) in enumerate(zip(w.output, w.kernel, w.stride, w.padding, w.input)):
        start = np.arange(o) * s - p
        end = np.minimum(start + k, size + p)
        if not with_padding:
            start, end = np.maximum(start, 0), np.minimum(end, size)
        counts = counts * (end - start).reshape(-1, *(1,) * (len(w.kernel) - axis - 1))
    return np.asarray(counts.flat[0]) if (counts == counts.flat[0]).all() else counts


@op(method=False, function=False)
def adaptive_avg_pool2d(input: Tensor, output_size: int | Sequence[int | None] | None) -> Tensor:
    """Return the means of windows laid so that the last two dims become ``output_size``; None keeps a dim's size.

    See https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.adaptive_avg_pool2d.html
    """
    return record(_adaptive, (2, rules.frozen(output_size)), input)  # type: ignore[no-any-return]


@op(method=False)
def adaptive_avg_pool1d(input: Tensor, output_size: int | Sequence[int]) -> Tensor:
    """Return the means of windows laid so that the last dim becomes ``output_size``.

    See https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.adaptive_avg_pool1d.html
    """
    return record(_adaptive, (1, rules.frozen(output_size)), input)  # type: ignore[no-any-return]


def _adaptive(x: Aval, n: int, output_size: Any) -> Lowering:
    wanted = output_size if isinstance(output_size, tuple) else (output_size,) * n
    if len(wanted) != n:
        raise RuntimeError(f"adaptive_avg_pool{n}d: output_size must be {n}")
    if x.ndim < n:
        raise RuntimeError(f"adaptive_avg_pool{n}d: expected input with at least {n} dims, got {list(x.shape)}")
    sizes = [have if want is None else want for have, want in zip(x.shape[-n:], wanted)]
    wide = opmath(x.dtype)
    axes = tuple(range(x.ndim - n, x.ndim))
    if all(size == 1 for size in sizes):
        name = "SqueezeBackward1" if n == 1 else "MeanBackward1"
        return Lowering(lambda a: jnp.mean(a.astype(wide), axes, keepdims=True).astype(a.dtype), name=name, saves=False)
    matrices = [_averages(have, size).astype(wide) for have, size in zip(x.shape[-n:], sizes)]

    def fn(a: Any) -> Any:
        y = a.astype(wide)
        for axis, matrix in zip(axes, matrices):
            y = jnp.moveaxis(jnp.moveaxis(y, axis, -1) @ matrix.T, -1, axis)
        return y.astype(a.dtype)

    return Lowering(fn, name="SqueezeBackward1" if n == 1 else "AdaptiveAvgPool2DBackward0")


def _averages(size: int, out: int) -> Any:
    """Return the matrix that takes ``size`` elements to the means of ``out`` windows."""
    matrix = np.zeros((out, size))
    for i in range(out):
        start, end = i * size // out, math.ceil((i + 1) * size / out)
        matrix[i, start:end] = 1 / (end - start)
    return matrix
