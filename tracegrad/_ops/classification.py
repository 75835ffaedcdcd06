"""What classifiers minimise: cross entropy and negative log likelihood.

NOTE [Fused cross entropy] With class numbers, cross entropy is one op: the forward keeps the logits and one logsumexp a
sample, the backward is ``(softmax - one_hot) * scale`` in one pass, and no log-softmax is ever stored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from tracegrad import _dtype
from tracegrad._dtype import type_name
from tracegrad._engine.checks import Check
from tracegrad._engine.op import Lowering
from tracegrad._engine.trace import record
from tracegrad._engine.value import Aval
from tracegrad._ops._checks import first
from tracegrad._ops._declare import op
from tracegrad._ops._opmath import opmath, reduction_name, require_floating
from tracegrad._ops.activation import log_probabilities

if TYPE_CHECKING:
    from tracegrad._tensor import Tensor

@op(method=False, function=False)
def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """Return the cross entropy between logits and class numbers, or class probabilities.

    Args:
        input: logits, ``(classes,)``, ``(batch, classes)`` or ``(batch, classes, *)``.
        target: class numbers, int64 or uint8, of the input's shape without ``classes``; or probabilities, floating
            point, of the input's shape.
        weight: a factor for each class, ``(classes,)``.
        size_average: the old way to name the reduction.
        ignore_index: samples with this class number count for nothing.
        reduce: the old way to name the reduction.
        reduction: ``"mean"`` (over the samples' weights), ``"sum"`` or ``"none"``.
        label_smoothing: how much of each target to spread over all classes, between 0 and 1.

    See https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.cross_entropy.html

    Example:
        >>> import tracegrad as torch
        >>> round(torch.nn.functional.cross_entropy(torch.zeros(1, 2), torch.tensor([1])).item(), 4)
        0.6931
    """
    reduction = reduction_name(reduction, size_average, reduce)
    params = (int(ignore_index), reduction, float(label_smoothing))
    if weight is None:
        return record(_cross_entropy, params, input, target)  # type: ignore[no-any-return]
    return record(_cross_entropy_weighted, params, input, target, weight)  # type: ignore[no-any-return]


def _cross_entropy(x: Aval, target: Aval, ignore: int, reduction: str, smoothing: float) -> Lowering:
    return _entropy(x, target, None, ignore, reduction, smoothing)


def _cross_entropy_weighted(
    x: Aval, target: Aval, weight: Aval, ignore: int, reduction: str, smoothing: float
) -> Lowering:
    return _entropy(x, target, weight, ignore, reduction, smoothing)


def _entropy(x: Aval, target: Aval, weight: Aval | None, ignore: int, reduction: str, smoothing: float) -> Lowering:
    if not 0.0 <= smoothing <= 1.0:
        raise RuntimeError(f"label_smoothing must be between 0.0 and 1.0. Got: {smoothing:g}")
    if x.shape == target.shape:
        return _entropy_of_probabilities(x, target, weight, ignore, reduction, smoothing)
    require_floating(x, "log_softmax_lastdim_kernel_impl" if x.ndim <= 2 else "log_softmax_kernel_impl")
    axis = _check_classes(x, target, weight)
    classes = x.shape[axis]
    wide = opmath(x.dtype)

    def parts(a: Any, t: Any, w: Any) -> tuple[Any, ...]:
        """Return what each sample's loss is made of."""
        a = a.astype(wide)
        numbers = jnp.arange(classes, dtype=jnp.int32).reshape(-1, *(1,) * (a.ndim - axis - 1))
        chosen = jnp.expand_dims(t.astype(jnp.int32), axis) == numbers
        top = jax.lax.stop_gradient(jnp.max(a, axis, keepdims=True))
        log_sum = jnp.log(jnp.sum(jnp.exp(a - top), axis, keepdims=True)) + top
        counts = (t != ignore).astype(wide)
        factors = None if w is None else w.astype(wide).reshape(numbers.shape)
        if factors is not None:
            counts = counts * jnp.sum(jnp.where(chosen, factors, jnp.zeros((), wide)), axis)
        return a, chosen, log_sum, counts, factors

    def losses(a: Any, chosen: Any, log_sum: Any, counts: Any, factors: Any, t: Any) -> Any:
        picked = jnp.sum(jnp.where(chosen, a, jnp.zeros((), wide)), axis)
        # Not ``counts * loss``: an infinite logit of an ignored sample must not become nan.
        each = jnp.where(t != ignore, (1 - smoothing) * counts * (jnp.squeeze(log_sum, axis) - picked), 0)
        if smoothing:
            spread = (log_sum - a) if factors is None else (log_sum - a) * factors
            each = each + jnp.where(t != ignore, jnp.sum(spread, axis) * (smoothing / classes), 0)
        return each.astype(wide)

    def run(a: Any, t: Any, w: Any = None) -> tuple[Any, Any]:
        a, chosen, log_sum, counts, factors = parts(a, t, w)
        each = losses(a, chosen, log_sum, counts, factors, t)
        if reduction == "none":
            return each, (log_sum, None)
        if reduction == "sum":
            return jnp.sum(each), (log_sum, None)
        total = jnp.sum(counts)
        return jnp.sum(each) / total, (log_sum, total)

    def forward(a: Any, t: Any, w: Any = None) -> tuple[Any, Any]:
        loss, (log_sum, total) = run(a, t, w)
        return loss.astype(x.dtype.np), (a, t, w, log_sum, total)

    def backward(saved: Any, g: Any) -> tuple[Any, ...]:
        a, t, w, log_sum, total = saved
        numbers = jnp.arange(classes, dtype=jnp.int32).reshape(-1, *(1,) * (a.ndim - axis - 1))
        chosen = jnp.expand_dims(t.astype(jnp.int32), axis) == numbers
        probability = jnp.exp(a.astype(wide) - log_sum)
        scale = g.astype(wide) if total is None else g.astype(wide) / total
        scale = jnp.expand_dims(jnp.where(t != ignore, scale, jnp.zeros((), wide)), axis)
        factors = None if w is None else w.astype(wide).reshape(numbers.shape)
        own = 1.0 if factors is None else jnp.sum(jnp.where(chosen, factors, jnp.zeros((), wide)), axis, keepdims=True)
        d = (probability - chosen.astype(wide)) * ((1 - smoothing) * own)
        if smoothing:
            each = smoothing / classes * (1.0 if factors is None else factors)
            d = d + probability * (smoothing if factors is None else jnp.sum(each)) - each
        # An ignored sample's gradient is 0 even where its probabilities are nan.
        d = jnp.where(jnp.expand_dims(t != ignore, axis), d * scale, jnp.zeros((), wide)).astype(x.dtype.np)
        return (d, None) if w is None else (d, None, None)

    name = "AddBackward0" if smoothing else _nll_name(x, reduction)
    return Lowering(lambda a, t, w=None: run(a, t, w)[0].astype(x.dtype.np), forward, backward, name,
                    checks=_in_range(classes, ignore))  # fmt: skip


def _in_range(classes: int, ignore: int) -> tuple[Check, ...]:
    """Return the check of class numbers, the second operand."""

    def find(operands: Any, outputs: Any) -> tuple[Any, Any]:
        t = operands[1].astype(jnp.int64)
        return first(((t < 0) | (t >= classes)) & (t != ignore), t)

    return (Check(find, lambda t: IndexError(f"Target {t} is out of bounds.")),)


def _nll_name(x: Aval, reduction: str) -> str:
    if x.ndim <= 2:
        return "NllLossBackward0"
    return "ViewBackward0" if x.ndim == 3 and reduction == "none" else "NllLoss2DBackward0"


def _check_classes(x: Aval, target: Aval, weight: Aval | None) -> int:
    """Check class numbers against what they choose from and return the dim of the classes."""
    if x.ndim == 0:
        raise RuntimeError("input tensor should be 1D or 2D")
    axis = 0 if x.ndim == 1 else 1
    if x.ndim <= 2 and target.ndim > 1:
        raise RuntimeError("0D or 1D target tensor expected, multi-target not supported")
    if target.dtype not in (_dtype.int64, _dtype.uint8):
        raise RuntimeError(f"expected target dtype to be Long or Byte, but got {type_name(target.dtype)}")
    expected = (*x.shape[:axis], *x.shape[axis + 1 :])
    if target.shape != expected:
        if x.ndim == 1:
            raise RuntimeError("0D or 1D target tensor expected, multi-target not supported")
        if target.ndim == 0 or x.shape[0] != target.shape[0]:
            got = target.shape[0] if target.ndim else 1
            raise ValueError(f"Expected input batch_size ({x.shape[0]}) to match target batch_size ({got}).")
        if target.ndim != x.ndim - 1:
            raise RuntimeError(
                f"only batches of spatial targets supported ({x.ndim - 1}D tensors) but got targets of "
                f"dimension: {target.ndim}"
            )
        raise RuntimeError(f"size mismatch (got input: {list(x.shape)} , target: {list(target.shape)}")
    if weight is not None and weight.shape != (x.shape[axis],):
        raise RuntimeError(
            f"weight tensor should be defined either for all {x.shape[axis]} classes or no classes but "
            f"got weight tensor of shape: {list(weight.shape)}"
        )
    return axis


def _entropy_of_probabilities(
    x: Aval, target: Aval, weight: Aval | None, ignore: int, reduction: str, smoothing: float
) -> Lowering:
    if not target.dtype.is_floating_point:
        raise RuntimeError(
            f"Expected floating point type for target with class probabilities, got {type_name(target.dtype)}"
        )
    if ignore >= 0:
        raise RuntimeError("ignore_index is not supported for floating point target")
    axis = 0 if x.ndim == 1 else 1
    classes = x.shape[axis]
    if weight is not None and weight.shape != (classes,):
        raise RuntimeError(
            "cross_entropy: weight tensor should be defined either for all "
            f"{classes} classes or no classes but got weight tensor of shape: {list(weight.shape)}"
        )
    wide = opmath(x.dtype)
    samples = x.numel // max(classes, 1)

    def fn(a: Any, t: Any, w: Any = None) -> Any:
        t = t.astype(wide)
        if smoothing:
            t = t * (1 - smoothing) + smoothing / classes
        each = log_probabilities(a.astype(wide), axis) * t
        if w is not None:
            each = each * w.astype(wide).reshape(-1, *(1,) * (a.ndim - axis - 1))
        if reduction == "none":
            return (-jnp.sum(each, axis)).astype(x.dtype.np)
        total = -jnp.sum(each)
        return (total / np.asarray(samples, wide) if reduction == "mean" else total).astype(x.dtype.np)

    return Lowering(fn, name="DivBackward1" if reduction == "mean" else "NegBackward0")


@op(method=False, function=False)
def nll_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Return ``-input`` at each sample's class: the loss of log-probabilities.

    The arguments are those of `cross_entropy` with class numbers.

    See https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.nll_loss.html
    """
    params = (int(ignore_index), reduction_name(reduction, size_average, reduce))
    if weight is None:
        return record(_nll, params, input, target)  # type: ignore[no-any-return]
    return record(_nll_weighted, params, input, target, weight)  # type: ignore[no-any-return]


def _nll(x: Aval, target: Aval, ignore: int, reduction: str) -> Lowering:
    return _nll_weighted(x, target, None, ignore, reduction)


def _nll_weighted(x: Aval, target: Aval, weight: Aval | None, ignore: int, reduction: str) -> Lowering:
    axis = _check_classes(x, target, weight)
    require_floating(x, "nll_loss_out_frame" if x.ndim <= 2 else "nll_loss2d_forward_out_frame")
    classes = x.shape[axis]
    wide = opmath(x.dtype)

    def fn(a: Any, t: Any, w: Any = None) -> Any:
        numbers = jnp.arange(classes, dtype=jnp.int32).reshape(-1, *(1,) * (a.ndim - axis - 1))
        chosen = jnp.expand_dims(t.astype(jnp.int32), axis) == numbers
        zero = jnp.zeros((), wide)
        each = -jnp.sum(jnp.where(chosen, a.astype(wide), zero), axis)
        counts = (t != ignore).astype(wide)
        if w is not None:
            counts = counts * jnp.sum(jnp.where(chosen, w.astype(wide).reshape(numbers.shape), zero), axis)
        each = jnp.where(t != ignore, each * counts, zero)
        if reduction == "none":
            return each.astype(a.dtype)
        total = jnp.sum(each)
        return (total / jnp.sum(counts) if reduction == "mean" else total).astype(a.dtype)

    return Lowering(fn, name=_nll_name(x, reduction), checks=_in_range(classes, ignore))
