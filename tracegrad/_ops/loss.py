"""Losses of differences and of probabilities, and their reductions."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from tracegrad._dtype import type_name
from tracegrad._engine.op import Lowering
from tracegrad._engine.trace import record
from tracegrad._engine.value import Aval, aval
from tracegrad._ops import _rules as rules
from tracegrad._ops._checks import never
from tracegrad._ops._declare import op
from tracegrad._ops._opmath import opmath, reduced, reduction_name, require_floating

if TYPE_CHECKING:
    from tracegrad._tensor import Tensor

# -- elementwise -------------------------------------------------------------------------------------------------------


@op(method=False, function=False)
def mse_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    weight: Tensor | None = None,
) -> Tensor:
    """Return ``(input - target) ** 2``, reduced.

    Args:
        input: any shape, floating point.
        target: the same shape; another one that broadcasts warns.
        size_average: the old way to name the reduction.
        reduce: the old way to name the reduction.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.
        weight: a factor for each element; the mean then divides by the sum of the weights.

    Raises:
        ValueError: for another reduction.

    See https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.mse_loss.html

    Example:
        >>> import tracegrad as torch
        >>> torch.nn.functional.mse_loss(torch.ones(2), torch.zeros(2)).item()
        1.0
    """
    _warn_of_sizes(input, target)
    return _pointwise(_square, "", input, target, weight, reduction_name(reduction, size_average, reduce))


@op(method=False, function=False)
def l1_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    weight: Tensor | None = None,
) -> Tensor:
    """Return ``|input - target|``, reduced; the gradient where they are equal is 0.

    See https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.l1_loss.html
    """
    _warn_of_sizes(input, target)
    return _pointwise(_absolute, "", input, target, weight, reduction_name(reduction, size_average, reduce))


@op(method=False, function=False)
def smooth_l1_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    beta: float = 1.0,
) -> Tensor:
    """Return ``d ** 2 / (2 * beta)`` where ``d = |input - target|`` is below ``beta``, ``d - beta / 2`` elsewhere.

    See https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.smooth_l1_loss.html
    """
    _warn_of_sizes(input, target)
    reduction = reduction_name(reduction, size_average, reduce)
    if beta == 0:
        return _pointwise(_absolute, "", input, target, None, reduction)
    return _pointwise(_smooth, float(beta), input, target, None, reduction)


@op(method=False, function=False)
def huber_loss(
    input: Tensor, target: Tensor, reduction: str = "mean", delta: float = 1.0, weight: Tensor | None = None
) -> Tensor:
    """Return ``d ** 2 / 2`` where ``d = |input - target|`` is below ``delta``, ``delta * (d - delta / 2)`` elsewhere.

    See https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.huber_loss.html
    """
    _warn_of_sizes(input, target)
    return _pointwise(_huber, float(delta), input, target, weight, reduction_name(reduction))


def _warn_of_sizes(input: Tensor, target: Tensor) -> None:
    if target._value.spec.aval.shape != input._value.spec.aval.shape:
        warnings.warn(
            f"Using a target size ({target.shape}) that is different to the input size ({input.shape}). "
            "This will likely lead to incorrect results due to broadcasting. "
            "Please ensure they have the same size.",
            stacklevel=3,
        )


def _pointwise(
    fn: Callable[..., Any], knob: float | str, input: Tensor, target: Tensor, weight: Tensor | None, reduction: str
) -> Tensor:
    if weight is None:
        return record(_of_difference, (fn, knob, reduction), input, target)  # type: ignore[no-any-return]
    if weight.shape != input.shape:
        raise ValueError("Weights and input must have the same size.")
    return record(_of_weighted, (fn, knob, reduction), input, target, weight)  # type: ignore[no-any-return]


def _square(d: Any, knob: Any) -> Any:
    return d * d


def _absolute(d: Any, knob: Any) -> Any:
    return d * jax.lax.stop_gradient(jnp.sign(d))


def _smooth(d: Any, beta: float) -> Any:
    if beta < 0:
        raise RuntimeError("smooth_l1_loss does not support negative values for beta.")
    near = d * jax.lax.stop_gradient(jnp.sign(d))
    return jnp.where(near < beta, d * d * (0.5 / beta), near - 0.5 * beta)


def _huber(d: Any, delta: float) -> Any:
    if delta <= 0:
        raise RuntimeError("huber_loss does not support non-positive values for delta.")
    near = d * jax.lax.stop_gradient(jnp.sign(d))
    return jnp.where(near < delta, 0.5 * d * d, delta * (near - 0.5 * delta))


_LOSSES: dict[Callable[..., Any], tuple[str, str]] = {
    _square: ("mse_cpu", "MseLossBackward0"),
    _absolute: ("", ""),
    _smooth: ("smooth_l1_cpu", "SmoothL1LossBackward0"),
    _huber: ("huber_cpu", "HuberLossBackward0"),
}


def _of_difference(x: Aval, y: Aval, fn: Callable[..., Any], knob: Any, reduction: str) -> Lowering:
    dtype = rules.result_type((x, y))
    shape = rules.broadcast(x, y)
    kernel, name = _LOSSES[fn]
    if kernel:
        require_floating(aval(shape, dtype, x.device), kernel)
    elif not dtype.is_inexact and reduction == "mean":
        raise RuntimeError(
            "mean(): could not infer output dtype. Input dtype must be either a floating point or "
            f"complex dtype. Got: {type_name(dtype)}"
        )
    wide = opmath(dtype)

    def run(a: Any, b: Any) -> Any:
        losses = fn(a.astype(wide) - b.astype(wide), knob)
        return reduced(losses, reduction).astype(dtype.np)

    plain = {"mean": "MeanBackward0", "sum": "SumBackward0", "none": "AbsBackward0"}[reduction]
    return Lowering(run, name=name or plain)


def _of_weighted(x: Aval, y: Aval, weight: Aval, fn: Callable[..., Any], knob: Any, reduction: str) -> Lowering:
    dtype = rules.result_type((x, y, weight))
    rules.broadcast(x, y)
    wide = opmath(dtype)

    def run(a: Any, b: Any, w: Any) -> Any:
        losses = fn(a.astype(wide) - b.astype(wide), knob) * w
        if reduction == "mean" and fn is not _huber:
            return (jnp.sum(losses) / jnp.sum(w.astype(wide))).astype(dtype.np)
        return reduced(losses, reduction).astype(dtype.np)

    mean = "MeanBackward0" if fn is _huber else "DivBackward0"
    return Lowering(run, name={"mean": mean, "sum": "SumBackward0", "none": "MulBackward0"}[reduction])


# -- probabilities -----------------------------------------------------------------------------------------------------


@op(method=False, function=False)
def binary_cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Return the cross entropy between probabilities; logarithms are clamped to at least -100.

    See https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.binary_cross_entropy.html
    """
    reduction = reduction_name(reduction, size_average, reduce)
    if target.shape != input.shape:
        raise ValueError(
            f"Using a target size ({target.shape}) that is different to the input size ({input.shape}) is "
            "deprecated. Please ensure they have the same size."
        )
    if weight is None:
        return record(_bce, (reduction,), input, target)  # type: ignore[no-any-return]
    return record(_bce_weighted, (reduction,), input, target, weight)  # type: ignore[no-any-return]


_BETWEEN = "all elements of {} should be between 0 and 1"


def _bce(x: Aval, target: Aval, reduction: str) -> Lowering:
    return _bce_weighted(x, target, None, reduction)


def _bce_weighted(x: Aval, target: Aval, weight: Aval | None, reduction: str) -> Lowering:
    require_floating(x, "binary_cross_entropy")
    if target.dtype is not x.dtype:
        raise RuntimeError(f"Found dtype {type_name(target.dtype)} but expected {type_name(x.dtype)}")
    if weight is not None:
        rules.broadcast(x, weight)
    wide = opmath(x.dtype)

    def factor(a: Any, w: Any) -> Any:
        scale = 1.0 if reduction != "mean" else 1.0 / max(x.numel, 1)
        return scale if w is None else w.astype(wide) * scale

    def fn(a: Any, t: Any, w: Any = None) -> Any:
        a, t = a.astype(wide), t.astype(wide)
        each = (t - 1) * jnp.maximum(jnp.log1p(-a), -100) - t * jnp.maximum(jnp.log(a), -100)
        return reduced(each if w is None else each * w, reduction).astype(x.dtype.np)

    def backward(saved: Any, g: Any) -> tuple[Any, ...]:
        a, t, w = saved
        p, u = a.astype(wide), t.astype(wide)
        scale = g.astype(wide) * factor(p, w)
        dp = scale * (p - u) / jnp.maximum((1 - p) * p, 1e-12)
        du = scale * (jnp.maximum(jnp.log1p(-p), -100) - jnp.maximum(jnp.log(p), -100))
        found = dp.astype(x.dtype.np), jnp.broadcast_to(du, t.shape).astype(x.dtype.np)
        return found if w is None else (*found, None)

    checks = tuple(
        never(i, lambda p: ~((p >= 0) & (p <= 1)), lambda _, n=name: RuntimeError(_BETWEEN.format(n)))  # type: ignore[misc]
        for i, name in enumerate(("input", "target"))
    )
    return Lowering(fn, lambda a, t, w=None: (fn(a, t, w), (a, t, w)), backward, "BinaryCrossEntropyBackward0",
                    checks=checks)  # fmt: skip


@op(method=False, function=False)
def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    pos_weight: Tensor | None = None,
) -> Tensor:
    """Return the cross entropy between the sigmoid of logits and probabilities, without overflow.

    Args:
        input: logits of any shape.
        target: probabilities of the same shape.
        weight: a factor for each element, broadcast.
        size_average: the old way to name the reduction.
        reduce: the old way to name the reduction.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.
        pos_weight: a factor for the positive part, broadcast.

    See https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.binary_cross_entropy_with_logits.html
    """
    reduction = reduction_name(reduction, size_average, reduce)
    if target.shape != input.shape:
        raise ValueError(f"Target size ({target.shape}) must be the same as input size ({input.shape})")
    given = [w for w in (weight, pos_weight) if w is not None]
    return record(_bce_logits, (reduction, weight is not None), input, target, *given)  # type: ignore[no-any-return]


def _bce_logits(x: Aval, target: Aval, *given: Any) -> Lowering:
    *weights, reduction, weighted = given
    dtype = rules.result_type((x, target, *weights))
    require_floating(x, "log_sigmoid_cpu")
    if not target.dtype.is_inexact:
        kinds = type_name(x.dtype), type_name(target.dtype)
        raise RuntimeError(f"result type {kinds[0]} can't be cast to the desired output type {kinds[1]}")
    for w in weights:
        rules.broadcast(x, w)
    wide = opmath(dtype)

    def fn(a: Any, t: Any, *factors: Any) -> Any:
        a, t = a.astype(wide), t.astype(wide)
        weight = factors[0] if weighted else None
        positive = factors[weighted] if len(factors) > weighted else None
        log_p = jax.nn.log_sigmoid(a)
        each = (1 - t) * a - (log_p if positive is None else ((positive - 1) * t + 1) * log_p)
        return reduced(each if weight is None else each * weight, reduction).astype(dtype.np)

    return Lowering(fn, name="BinaryCrossEntropyWithLogitsBackward0")


@op(method=False, function=False)
def kl_div(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    log_target: bool = False,
) -> Tensor:
    """Return ``target * (log(target) - input)``, reduced: the divergence from log-probabilities to a target.

    Args:
        input: log-probabilities.
        target: probabilities, or their logarithms.
        size_average: the old way to name the reduction.
        reduce: the old way to name the reduction.
        reduction: ``"batchmean"`` is the mathematical mean, ``"mean"`` (which warns) divides by every element,
            ``"sum"``, ``"none"``.
        log_target: ``target`` holds logarithms.

    See https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.kl_div.html
    """
    if size_average is not None or reduce is not None:
        reduction = reduction_name(reduction, size_average, reduce)
    elif reduction == "mean":
        warnings.warn(
            "reduction: 'mean' divides the total loss by both the batch size and the support size."
            "'batchmean' divides only by the batch size, and aligns with the KL div math definition."
            "'mean' will be changed to behave the same as 'batchmean' in the next major release.",
            stacklevel=2,
        )
    elif reduction != "batchmean":
        reduction = reduction_name(reduction)
    return record(_kl_div, (reduction, bool(log_target)), input, target)  # type: ignore[no-any-return]


def _kl_div(x: Aval, target: Aval, reduction: str, log_target: bool) -> Lowering:
    for each in (x, target):
        if not each.dtype.is_inexact:
            raise RuntimeError("kl_div: Integral inputs not supported.")
    dtype = rules.result_type((x, target))
    rules.broadcast(x, target)
    wide = opmath(dtype)

    def fn(a: Any, t: Any) -> Any:
        a, t = a.astype(wide), t.astype(wide)
        if log_target:
            each = jnp.exp(t) * (t - a)
        else:
            each = jax.scipy.special.xlogy(t, t) - t * a
        if reduction == "batchmean":
            return (jnp.sum(each) / np.asarray(x.shape[0] if x.ndim else 1, wide)).astype(dtype.np)
        return reduced(each, reduction).astype(dtype.np)

    names = {"batchmean": "DivBackward0", "mean": "MeanBackward0", "sum": "SumBackward0"}
    return Lowering(fn, name=names.get(reduction, "MulBackward0" if log_target else "SubBackward0"))
