"""The rules of what writes record beneath the ops' own: elements that take the place of others under a tensor."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from tracegrad._engine.op import Lowering
from tracegrad._engine.value import Aval


def detach_rule(x: Aval) -> Lowering:
    """The rule of an identity that no gradient goes through."""
    return Lowering(lambda a: a, differentiable=False, saves=False, alias=True)


def overwrite_rule(x: Aval, new: Aval, passes: bool) -> Lowering:
    """The rule of new elements in the place of ``x`` on the tape; ``passes``: gradients flow on to what was there.

    They do so in the shape and dtype of ``x``, where those of ``new`` are others (``x.data = new``).
    """
    lacking = len(new.shape) - len(x.shape)
    inner = new.shape[max(lacking, 0) :]
    fits = lacking >= 0 and all(m in (1, n) for m, n in zip(x.shape, inner))
    summed = tuple(range(lacking)) + tuple(lacking + d for d, (m, n) in enumerate(zip(x.shape, inner)) if m != n)

    def forward(a: Any, b: Any) -> tuple[Any, Any]:
        return b, ()

    def backward(saved: Any, ct: Any) -> tuple[Any, None]:
        if not passes:
            return jnp.zeros(x.shape, x.dtype.np), None
        ct = jnp.sum(ct, summed).reshape(x.shape) if summed else ct
        return (ct if x.dtype.is_complex else jnp.real(ct)).astype(x.dtype.np), None

    return Lowering(lambda a, b: b, forward, backward, "CopyBackwards", saves=False, stands_in=passes,
                    misfit=() if fits else (list(new.shape), list(x.shape)))  # fmt: skip


def put_rule(x: Aval, new: Aval, *rest: Any) -> Lowering:
    """The rule of a write to a view of ``x``, made by the op whose rule, params and starts follow: the new ``x``."""
    *starts, rule, params = rest
    view = rule(x, *starts, *params).view
    return Lowering(view.put, name="CopySlices", saves=False, device=x.device)


def whole_rule(new: Aval, rule: Any, params: Any, of: Aval) -> Lowering:
    """The rule of what a view with all elements is a view of."""
    view = rule(of, *params).view
    return Lowering(lambda a: view.put(None, a), name="CopySlices", saves=False)
