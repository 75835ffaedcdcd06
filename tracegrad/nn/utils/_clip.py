"""Clipping gradients, each call one recorded node over all of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from tracegrad._dtype import get_default_dtype
from tracegrad._engine.op import Lowering
from tracegrad._engine.trace import record
from tracegrad._engine.value import aval, concrete
from tracegrad._grad_mode import no_grad
from tracegrad._handle import tensor_of, write
from tracegrad._tensor import Tensor


def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """Scale the gradients down in place to a joint norm of at most ``max_norm``; return the norm before.

    Args:
        parameters: whose gradients are scaled.
        max_norm: the largest norm that stays.
        norm_type: the order of the norm; ``inf`` for the largest absolute element.
        error_if_nonfinite: raise where the norm is infinite or nan; this reads it.
        foreach: accepted for PyTorch's signature.

    Raises:
        RuntimeError: where the norm is not finite and ``error_if_nonfinite``.
    """
    grads = _gradients(parameters)
    if not grads:
        return _nothing()
    with no_grad():
        norm, *clipped = record(_clip_norm, (float(norm_type),), *grads, float(max_norm))
        if error_if_nonfinite:
            _check_finite(norm, norm_type)
        for g, new in zip(grads, clipped):
            write(g, new)
    return norm  # type: ignore[no-any-return]


def _joint(tensors: Sequence[Any], order: float) -> Any:
    return jnp.linalg.norm(jnp.stack([jnp.linalg.norm(t.ravel(), order) for t in tensors]), order)


def _scaled(grads: Sequence[Any], norm: Any, limit: Any) -> tuple[Any, ...]:
    factor = jnp.minimum(jnp.asarray(limit, norm.dtype) / (norm + 1e-6), 1)
    return tuple(g * factor.astype(g.dtype) for g in grads)


def _nothing() -> Tensor:
    return tensor_of(concrete(np.array(0, get_default_dtype().np), aval((), get_default_dtype())))


def _check_finite(norm: Tensor, order: float) -> None:
    if not np.isfinite(norm.item()):
        raise RuntimeError(
            f"The total norm of order {float(order)} for gradients from `parameters` is "
            "non-finite, so it cannot be clipped. To disable this error and scale the gradients by "
            "the non-finite norm anyway, set `error_if_nonfinite=False`"
        )


def _clip_norm(*args: Any) -> Lowering:
    order = args[-1]

    def fn(*operands: Any) -> Any:
        *grads, limit = operands
        norm = _joint(grads, order)
        return norm, *_scaled(grads, norm, limit)

    return Lowering(fn, differentiable=False)


def get_total_norm(
    tensors: Tensor | Iterable[Tensor],
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """Return the joint norm of several tensors, as if their elements were one vector; no gradient goes through it.

    Args:
        tensors: the tensors, mostly gradients.
        norm_type: the order of the norm; ``inf`` for the largest absolute element.
        error_if_nonfinite: raise where the norm is infinite or nan; this reads it.
        foreach: accepted for PyTorch's signature.

    Raises:
        RuntimeError: where the norm is not finite and ``error_if_nonfinite``.

    Example:
        >>> import tracegrad as torch
        >>> torch.nn.utils.get_total_norm([torch.tensor([3.0]), torch.tensor([4.0])])
        tensor(5.)
    """
    chosen = [tensors] if isinstance(tensors, Tensor) else list(tensors)
    if not chosen:
        return _nothing()
    norm = record(_total_norm, (float(norm_type),), *chosen)
    if error_if_nonfinite:
        _check_finite(norm, norm_type)
    return norm  # type: ignore[no-any-return]


def _total_norm(*args: Any) -> Lowering:
    order = args[-1]
    return Lowering(lambda *tensors: _joint(tensors, order), differentiable=False)


def clip_grads_with_norm_(
    parameters: Tensor | Iterable[Tensor], max_norm: float, total_norm: Tensor, foreach: bool | None = None
) -> None:
    """Scale the gradients down in place by what brings ``total_norm`` to at most ``max_norm``.

    Args:
        parameters: whose gradients are scaled.
        max_norm: the largest norm that stays.
        total_norm: the joint norm of the gradients, see `get_total_norm`.
        foreach: accepted for PyTorch's signature.
    """
    grads = _gradients(parameters)
    if grads:
        with no_grad():
            for g, new in zip(grads, record(_scale, (), *grads, total_norm, float(max_norm))):
                write(g, new)


def _scale(*args: Any) -> Lowering:
    def fn(*operands: Any) -> Any:
        *grads, norm, limit = operands
        return _scaled(grads, norm, limit)

    return Lowering(fn, differentiable=False)


def clip_grad_value_(
    parameters: Tensor | Iterable[Tensor], clip_value: float, foreach: bool | None = None
) -> None:
    """Cut every element of the gradients to ``[-clip_value, clip_value]``, in place."""
    grads = _gradients(parameters)
    if grads:
        with no_grad():
            for g, new in zip(grads, record(_clip_value, (), *grads, float(clip_value))):
                write(g, new)


def _clip_value(*args: Any) -> Lowering:
    def fn(*operands: Any) -> Any:
        *grads, limit = operands
        return tuple(jnp.clip(g, jnp.asarray(-limit, g.dtype), jnp.asarray(limit, g.dtype)) for g in grads)

    return Lowering(fn, differentiable=False)


def _gradients(parameters: Tensor | Iterable[Tensor]) -> list[Tensor]:
    chosen = [parameters] if isinstance(parameters, Tensor) else parameters
    return [p._grad for p in chosen if p._grad is not None]
