"""Clipping gradients, each call one recorded node over all of them."""

from __future__ import annotations

from collections.abc import Iterable
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
        return tensor_of(concrete(np.array(0, get_default_dtype().np), aval((), get_default_dtype())))
    with no_grad():
        norm, *clipped = record(_clip_norm, (float(norm_type),), *grads, float(max_norm))
        if error_if_nonfinite and not np.isfinite(norm.item()):
            raise RuntimeError(
                f"The total norm of order {float(norm_type)} for gradients from `parameters` is "
                "non-finite, so it cannot be clipped. To disable this error and scale the gradients by "
                "the non-finite norm anyway, set `error_if_nonfinite=False`"
            )
        for g, new in zip(grads, clipped):
            write(g, new)
    return norm  # type: ignore[no-any-return]


def _clip_norm(*args: Any) -> Lowering:
    order = args[-1]

    def fn(*operands: Any) -> Any:
        *grads, limit = operands
        norms = jnp.stack([jnp.linalg.norm(g.ravel(), order) for g in grads])
        norm = jnp.linalg.norm(norms, order)
        factor = jnp.minimum(jnp.asarray(limit, norm.dtype) / (norm + 1e-6), 1)
        return norm, *[g * factor.astype(g.dtype) for g in grads]

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
