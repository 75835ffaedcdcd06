"""Normalisation: over the last dims, over the batch, over groups of channels; each with a VJP of its own.

All share `_moments` and one backward: with ``h`` the normalised input and ``d = gradient * weight``, the gradient of
the input is ``(d - mean(d) - h * mean(d * h)) / deviation``, in one pass over the input after one reduction.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from tracegrad._dtype import type_name
from tracegrad._engine.op import Lowering
from tracegrad._engine.trace import record
from tracegrad._engine.value import Aval
from tracegrad._handle import write
from tracegrad._ops import _rules as rules
from tracegrad._ops._declare import op
from tracegrad._ops._opmath import opmath, require_floating
from tracegrad._ops._out import renamed

if TYPE_CHECKING:
    from tracegrad._tensor import Tensor


def _moments(x: Any, axes: tuple[int, ...]) -> tuple[Any, Any]:
    """Return the mean and the (biased) variance over ``axes``, dims kept."""
    count = np.asarray(max(1, int(np.prod([x.shape[i] for i in axes]))), x.dtype)
    mean = jnp.sum(x, axes, keepdims=True) / count
    centred = x - mean
    return mean, jnp.sum(centred * centred, axes, keepdims=True) / count


def _scaled(y: Any, weight: Any, bias: Any) -> Any:
    if weight is not None:
        y = y * weight
    return y if bias is None else y + bias


def _affine(operands: Any, weighted: bool, biased: bool, shape: tuple[int, ...], dtype: Any) -> tuple[Any, Any]:
    """Return weight and bias, each None where it is not among the operands, in ``dtype`` and ``shape``."""
    weight = operands[0].astype(dtype).reshape(shape) if weighted else None
    bias = operands[-1].astype(dtype).reshape(shape) if biased else None
    return weight, bias


def _input_gradient(h: Any, d: Any, rstd: Any, axes: tuple[int, ...]) -> Any:
    count = np.asarray(max(1, int(np.prod([h.shape[i] for i in axes]))), h.dtype)
    mean_d = jnp.sum(d, axes, keepdims=True) / count
    mean_dh = jnp.sum(d * h, axes, keepdims=True) / count
    return (d - mean_d - h * mean_dh) * rstd


def _lowering(
    x: Aval,
    weighted: bool,
    biased: bool,
    axes: tuple[int, ...],
    view: tuple[int, ...] | None,
    affine: tuple[int, ...],
    eps: float,
    name: str,
) -> Lowering:
    """Normalise over ``axes`` of the input seen as ``view``, then scale and shift by weights seen as ``affine``."""
    wide = opmath(x.dtype)
    shape = view or x.shape

    def split(operands: Any) -> tuple[Any, Any]:
        return _affine(operands, weighted, biased, affine, wide)

    def run(a: Any, *operands: Any) -> tuple[Any, Any]:
        weight, bias = split(operands)
        b = a.astype(wide)
        mean, variance = _moments(b.reshape(shape), axes)
        rstd = lax.rsqrt(variance + np.asarray(eps, wide))
        if view is None:
            y = (b - mean) * rstd
        else:
            y = ((b.reshape(shape) - mean) * rstd).reshape(x.shape)
        return _scaled(y, weight, bias).astype(a.dtype), (mean, rstd)

    def forward(a: Any, *operands: Any) -> tuple[Any, Any]:
        outs, (mean, rstd) = run(a, *operands)
        return outs, (a, mean, rstd, operands)

    def backward(saved: Any, g: Any) -> tuple[Any, ...]:
        a, mean, rstd, operands = saved
        g = g.astype(wide)
        weight, _ = split(operands)
        h = ((a.astype(wide).reshape(shape) - mean) * rstd).reshape(x.shape)
        d = g if weight is None else g * weight
        da = _input_gradient(h.reshape(shape), d.reshape(shape), rstd, axes).reshape(x.shape).astype(a.dtype)
        lead = tuple(
            i
            for i in range(x.ndim)
            if i >= x.ndim - len(affine)
            and affine[i - x.ndim + len(affine)] == 1
            and x.shape[i] != 1
            or i < x.ndim - len(affine)
        )
        grads = [da]
        if weighted:
            grads.append(jnp.sum(g * h, lead).reshape(operands[0].shape).astype(operands[0].dtype))
        if biased:
            grads.append(jnp.sum(g, lead).reshape(operands[-1].shape).astype(operands[-1].dtype))
        return tuple(grads)

    return Lowering(lambda a, *operands: run(a, *operands)[0], forward, backward, name)


# -- over the last dims ------------------------------------------------------------------------------------------------


@op(method=False)
def layer_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-05,
    cudnn_enable: bool = True,
) -> Tensor:
    """Return ``input`` normalised over its last dims, which are ``normalized_shape``, scaled and shifted.

    See https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.layer_norm.html

    Example:
        >>> import tracegrad as torch
        >>> torch.layer_norm(torch.tensor([1.0, 3.0]), (2,), eps=0.0).tolist()
        [-1.0, 1.0]
    """
    params = (tuple(normalized_shape), weight is not None, bias is not None, float(eps))
    given = [t for t in (weight, bias) if t is not None]
    return record(_layer_norm, params, input, *given)  # type: ignore[no-any-return]


def _layer_norm(x: Aval, *rest: Any) -> Lowering:
    *given, shape, weighted, biased, eps = rest
    _check_last_dims(x, shape, given, ["weight"] * weighted + ["bias"] * biased, ", ")
    require_floating(x, "LayerNormKernelImpl")
    axes = tuple(range(x.ndim - len(shape), x.ndim))
    return _lowering(x, weighted, biased, axes, None, shape, eps, "NativeLayerNormBackward0")


def _check_last_dims(x: Aval, shape: tuple[int, ...], given: list[Aval], names: list[str], after: str) -> None:
    if not shape:
        raise RuntimeError(
            "Expected normalized_shape to be at least 1-dimensional, i.e., containing at least one "
            f"element, but got normalized_shape = {list(shape)}"
        )
    for w, name in zip(given, names):
        if w.shape != shape:
            raise RuntimeError(
                f"Expected {name} to be of same shape as normalized_shape, but got {name} of shape "
                f"{list(w.shape)} and normalized_shape = {list(shape)}"
            )
    if x.ndim < len(shape) or x.shape[x.ndim - len(shape) :] != shape:
        raise RuntimeError(
            f"Given normalized_shape={list(shape)}, expected input with shape "
            f"[*{after}{', '.join(map(str, shape))}], but got input of size{list(x.shape)}"
        )


@op(method=False)
def rms_norm(
    input: Tensor, normalized_shape: Sequence[int], weight: Tensor | None = None, eps: float | None = None
) -> Tensor:
    """Return ``input`` divided by the root of its mean square over the last dims, scaled.

    ``eps`` is the dtype's epsilon when None.

    See https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.rms_norm.html
    """
    params = (tuple(normalized_shape), eps if eps is None else float(eps))
    if weight is None:
        return record(_rms_norm, params, input)  # type: ignore[no-any-return]
    return record(_rms_norm_weighted, params, input, weight)  # type: ignore[no-any-return]


#: What ``eps=None`` stands for, by the type computed in.
_EPSILON = {np.dtype(t): float(np.finfo(t).eps) for t in (np.float32, np.float64)}


def _rms_norm(x: Aval, shape: tuple[int, ...], eps: float | None) -> Lowering:
    return _rms_norm_weighted(x, None, shape, eps)


def _rms_norm_weighted(x: Aval, weight: Aval | None, shape: tuple[int, ...], eps: float | None) -> Lowering:
    _check_last_dims(x, shape, [] if weight is None else [weight], ["weight"], "")
    require_floating(x, "rms_norm")
    wide = opmath(x.dtype)
    axes = tuple(range(x.ndim - len(shape), x.ndim))
    count = np.asarray(max(1, int(np.prod(shape))), wide)
    small = np.asarray(_EPSILON[np.dtype(wide)] if eps is None else eps, wide)

    def forward(a: Any, w: Any = None) -> tuple[Any, Any]:
        b = a.astype(wide)
        scale = lax.rsqrt(jnp.sum(b * b, axes, keepdims=True) / count + small)
        y = b * scale
        return (y if w is None else y * w.astype(wide)).astype(a.dtype), (a, w, scale)

    def backward(saved: Any, g: Any) -> tuple[Any, ...]:
        a, w, scale = saved
        g = g.astype(wide)
        h = a.astype(wide) * scale
        d = g if w is None else g * w.astype(wide)
        da = ((d - h * (jnp.sum(d * h, axes, keepdims=True) / count)) * scale).astype(a.dtype)
        if w is None:
            return (da,)
        return da, jnp.sum(g * h, tuple(range(x.ndim - len(shape)))).astype(w.dtype)

    return Lowering(lambda a, w=None: forward(a, w)[0], forward, backward, "MulBackward0")


# -- over the batch ----------------------------------------------------------------------------------------------------


@op(method=False, function=False)
def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-05,
) -> Tensor:
    """Return ``input`` normalised over every dim but the second, scaled and shifted.

    Args:
        input: ``(batch, channels, *)``.
        running_mean: what stands for the mean in evaluation; updated in place in training.
        running_var: the same for the variance.
        weight: a factor for each channel.
        bias: a summand for each channel.
        training: normalise by the batch's own mean and variance.
        momentum: how much of the batch's statistics goes into the running ones.
        eps: added to the variance.

    Raises:
        ValueError: in training, with a single element a channel.

    See https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.batch_norm.html
    """
    given = [t for t in (weight, bias) if t is not None]
    if not training:
        if running_mean is None or running_var is None:
            missing = "running_mean" if running_mean is None else "running_var"
            raise RuntimeError(f"{missing} must be defined in evaluation mode")
        params = (weight is not None, bias is not None, float(eps))
        return record(_batch_norm_eval, params, input, running_mean, running_var, *given)  # type: ignore[no-any-return]
    params = (weight is not None, bias is not None, float(eps))
    result, mean, variance = record(_batch_norm, params, input, *given)
    for running, fresh in ((running_mean, mean), (running_var, variance)):
        if running is not None:
            write(running, record(_running, (), running, fresh, float(momentum)))
    return result  # type: ignore[no-any-return]


def _batch_norm(x: Aval, *rest: Any) -> Lowering:
    *given, weighted, biased, eps = rest
    _check_channels(x, given, ["weight"] * weighted + ["bias"] * biased)
    if x.numel // max(x.shape[1], 1) == 1:
        raise ValueError(
            f"Expected more than 1 value per channel when training, got input size torch.Size({list(x.shape)})"
        )
    wide = opmath(x.dtype)
    axes, affine = (0, *range(2, x.ndim)), (x.shape[1], *(1,) * (x.ndim - 2))
    size = max(x.numel // max(x.shape[1], 1), 1)
    count = np.asarray(size, wide)

    def forward(a: Any, *operands: Any) -> tuple[Any, Any]:
        weight, bias = _affine(operands, weighted, biased, affine, wide)
        b = a.astype(wide)
        mean = jnp.sum(b, axes, keepdims=True) / count
        centred = b - mean
        variance = jnp.sum(centred * centred, axes, keepdims=True) / count
        rstd = lax.rsqrt(variance + np.asarray(eps, wide))
        y = _scaled(centred * rstd, weight, bias).astype(a.dtype)
        unbiased = variance * np.asarray(size / max(size - 1, 1), wide)
        return (y, mean.reshape(-1), unbiased.reshape(-1)), (a, mean, rstd, operands)

    def backward(saved: Any, g: Any) -> tuple[Any, ...]:
        a, mean, rstd, operands = saved
        weight, _ = _affine(operands, weighted, biased, affine, wide)
        # Not ``(a - mean) * rstd``: the difference is there from the forward, and is what is summed.
        d, centred = g[0].astype(wide), a.astype(wide) - mean
        of_d, of_dc = jnp.sum(d, axes, keepdims=True), jnp.sum(d * centred, axes, keepdims=True)
        scale = rstd if weight is None else rstd * weight
        da = ((d - of_d / count - centred * (of_dc / count * rstd * rstd)) * scale).astype(a.dtype)
        grads = [da]
        if weighted:
            grads.append((of_dc * rstd).reshape(operands[0].shape).astype(operands[0].dtype))
        if biased:
            grads.append(of_d.reshape(operands[-1].shape).astype(operands[-1].dtype))
        return tuple(grads)

    return Lowering(lambda a, *operands: forward(a, *operands)[0], forward, backward, "NativeBatchNormBackward0")


def _batch_norm_eval(x: Aval, mean: Aval, variance: Aval, *rest: Any) -> Lowering:
    *given, weighted, biased, eps = rest
    names = ["running_mean", "running_var"] + ["weight"] * weighted + ["bias"] * biased
    _check_channels(x, [mean, variance, *given], names)
    wide = opmath(x.dtype)
    affine = (x.shape[1], *(1,) * (x.ndim - 2))

    def fn(a: Any, m: Any, v: Any, *operands: Any) -> Any:
        weight = operands[0].astype(wide).reshape(affine) if weighted else None
        bias = operands[-1].astype(wide).reshape(affine) if biased else None
        m, v = lax.stop_gradient((m.astype(wide).reshape(affine), v.astype(wide).reshape(affine)))
        rstd = lax.rsqrt(v + np.asarray(eps, wide))
        return _scaled((a.astype(wide) - m) * rstd, weight, bias).astype(a.dtype)

    return Lowering(fn, name="NativeBatchNormBackward0")


def _check_channels(x: Aval, given: list[Aval], names: list[str]) -> None:
    if x.ndim < 2:
        raise RuntimeError(f"batch_norm: expected input of at least 2 dims, got {list(x.shape)}")
    for w, name in zip(given, names):
        if w.numel != x.shape[1]:
            raise RuntimeError(f"{name} should contain {x.shape[1]} elements not {w.numel}")
    require_floating(x, "batch_norm")


def _running(old: Aval, new: Aval, momentum: Any) -> Lowering:
    """The running statistic after a batch. No gradient: it comes out as a constant."""

    def fn(a: Any, b: Any, m: Any) -> Any:
        m = rules.cast(m, old.dtype)
        return ((1 - m) * a + m * b.astype(a.dtype)).astype(a.dtype)

    return Lowering(fn, differentiable=False)


# -- over groups -------------------------------------------------------------------------------------------------------


@op(method=False)
def group_norm(
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-05,
    cudnn_enabled: bool = True,
) -> Tensor:
    """Return ``input`` normalised over each of ``num_groups`` groups of its channels, scaled and shifted.

    See https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.group_norm.html
    """
    params = (int(num_groups), weight is not None, bias is not None, float(eps))
    given = [t for t in (weight, bias) if t is not None]
    return record(_group_norm, params, input, *given)  # type: ignore[no-any-return]


def _group_norm(x: Aval, *rest: Any) -> Lowering:
    *given, groups, weighted, biased, eps = rest
    if x.ndim < 2:
        raise RuntimeError(f"Expected at least 2 dimensions for input tensor but received {x.ndim}")
    if x.shape[0] * x.shape[1] // groups * (x.numel // max(1, x.shape[0] * x.shape[1])) == 1:
        raise ValueError(f"Expected more than 1 value per channel when training, got input size {list(x.shape)}")
    if x.shape[1] % groups:
        raise RuntimeError(
            "Expected number of channels in input to be divisible by num_groups, but got input of shape "
            f"{list(x.shape)} and num_groups={groups}"
        )
    for w, name in zip(given, ["weight"] * weighted + ["bias"] * biased):
        if w.shape != (x.shape[1],):
            raise RuntimeError(
                f"Expected {name} to be a vector of size equal to the number of channels in input, but "
                f"got {name} of shape {list(w.shape)} and input of shape {list(x.shape)}"
            )
    if not x.dtype.is_inexact:
        raise NotImplementedError(f"\"GroupNormKernelImpl\" not implemented for '{type_name(x.dtype)}'")
    view = (x.shape[0], groups, x.numel // max(1, x.shape[0] * groups))
    affine = (x.shape[1], *(1,) * (x.ndim - 2))
    return _lowering(x, weighted, biased, (2,), view, affine, eps, "NativeGroupNormBackward0")


# -- vectors -----------------------------------------------------------------------------------------------------------


@op(method=False, function=False)
def normalize(input: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12, out: None = None) -> Tensor:
    """Return ``input`` divided by its ``p``-norm along ``dim``, which counts as at least ``eps``.

    See https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.normalize.html
    """
    if out is not None:
        raise TypeError("normalize: out= is not supported; assign the result")
    return record(_normalize, (float(p), rules.frozen(dim), float(eps)), input)  # type: ignore[no-any-return]


def _normalize(x: Aval, p: float, dim: Any, eps: float) -> Lowering:
    axes = rules.dims(dim, x.ndim)
    if not x.dtype.is_inexact:
        raise RuntimeError(
            f"linalg.vector_norm: Expected a floating point or complex tensor as input. Got {type_name(x.dtype)}"
        )
    wide = opmath(x.dtype)

    def norm(a: Any) -> Any:
        size = jnp.where(a < 0, -a, a) if not jnp.iscomplexobj(a) else jnp.abs(a)
        if p == float("inf"):
            return jnp.max(size, axes, keepdims=True)
        if p == 1:
            return jnp.sum(size * (a != 0), axes, keepdims=True)
        total = jnp.sum(size * size if p == 2 else jnp.where(size > 0, size, 1) ** p * (size > 0), axes, keepdims=True)
        safe = jnp.where(total > 0, total, 1)
        return jnp.where(total > 0, jnp.sqrt(safe) if p == 2 else safe ** (1 / p), total)

    def fn(a: Any) -> Any:
        b = a.astype(wide)
        n = norm(b)
        return (b / jnp.where(n < eps, jnp.asarray(eps, n.dtype), n)).astype(a.dtype)

    return Lowering(fn, name="DivBackward0")


@op(method=False)
def cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8, **numpy: Any) -> Tensor:
    """Return the cosine of the angle between ``x1`` and ``x2`` along ``dim``; norms count as at least ``eps``.

    See https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.cosine_similarity.html
    """
    if numpy:
        return renamed(cosine_similarity, numpy, x1, x2, dim, eps)
    return record(_cosine, (dim, float(eps)), x1, x2)  # type: ignore[no-any-return]


def _cosine(x: Aval, y: Aval, dim: int, eps: float) -> Lowering:
    dtype = rules.result_type((x, y))
    if not dtype.is_inexact:
        raise RuntimeError(f"expected common dtype to be floating point, yet common dtype is {type_name(dtype)}")
    shape = rules.broadcast(x, y)
    axis = rules.dim(dim, len(shape))
    wide = opmath(dtype)

    def unit(a: Any) -> Any:
        # The clamp counts as a constant, as in PyTorch: a vector of zeros is divided by ``eps``.
        square = jnp.sum(a * a, axis, keepdims=True)
        inside = square > eps * eps
        norm = jnp.sqrt(jnp.where(inside, square, 1))
        return a / jnp.where(inside, norm, eps)

    def fn(a: Any, b: Any) -> Any:
        a, b = (jnp.broadcast_to(v.astype(wide), shape) for v in (a, b))
        return jnp.sum(unit(a) * unit(b), axis).astype(dtype.np)

    return Lowering(fn, name="SumBackward1")
