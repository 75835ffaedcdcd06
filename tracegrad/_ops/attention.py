"""Scaled dot-product attention as one op, with a VJP of its own.

The backward keeps the attention weights, as softmax's VJP does: ``ds = p * (dp - sum(dp * p))``.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from tracegrad import _dtype
from tracegrad._engine.op import Lowering
from tracegrad._engine.trace import record
from tracegrad._engine.value import Aval
from tracegrad._ops._declare import op
from tracegrad._ops._generator import draw
from tracegrad._ops._opmath import c_name, opmath
from tracegrad._ops.activation import probabilities
from tracegrad._ops.dropout import keep

if TYPE_CHECKING:
    from tracegrad._tensor import Tensor


@op(method=False, function=False)
def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Return ``softmax(query @ key.mT * scale + mask) @ value``.

    Args:
        query: ``(*, heads, targets, width)``.
        key: ``(*, heads, sources, width)``.
        value: ``(*, heads, sources, value_width)``.
        attn_mask: broadcasts to ``(*, heads, targets, sources)``; bools say where to look, floats are added.
        dropout_p: the probability with which weights are dropped.
        is_causal: let target ``i`` look at the sources up to ``i`` alone.
        scale: ``1 / sqrt(width)`` when None.
        enable_gqa: ``key`` and ``value`` may have fewer heads, each shared by as many query heads.

    Raises:
        RuntimeError: where shapes or dtypes do not go together.

    See https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.scaled_dot_product_attention.html
    """
    params = (attn_mask is not None, float(dropout_p), bool(is_causal), scale, bool(enable_gqa))
    operands = (query, key, value) if attn_mask is None else (query, key, value, attn_mask)
    if dropout_p > 0.0:
        return record(_attention, params, *operands, *draw(None))  # type: ignore[no-any-return]
    return record(_attention, params, *operands)  # type: ignore[no-any-return]


def _attention(q: Aval, k: Aval, v: Aval, *rest: Any) -> Lowering:
    *extra, masked, p, causal, scale, grouped = rest
    mask = extra[0] if masked else None
    _check(q, k, v, mask, causal, grouped)
    targets, sources = q.shape[-2], k.shape[-2]
    wide = opmath(q.dtype)
    factor = np.asarray(1 / math.sqrt(q.shape[-1]) if scale is None else scale, wide)
    shared = q.shape[-3] // k.shape[-3] if grouped and q.ndim > 2 else 1
    visible = np.tril(np.ones((targets, sources), bool)) if causal else None

    def whole(a: Any) -> Any:
        return jnp.repeat(a, shared, -3) if shared > 1 else a

    def weights(a: Any, b: Any, *extra: Any) -> tuple[Any, Any]:
        scores = (jnp.matmul(a, jnp.swapaxes(whole(b), -1, -2)).astype(wide)) * factor
        lowest = jnp.asarray(-jnp.inf, wide)
        if masked:
            given = extra[0]
            is_bool = given.dtype == jnp.bool_
            scores = jnp.where(given, scores, lowest) if is_bool else scores + given.astype(wide)
        if visible is not None:
            scores = jnp.where(visible, scores, lowest)
        share = probabilities(scores, -1)
        if masked:  # a target that may look nowhere gets zeros
            share = jnp.where(jnp.max(scores, -1, keepdims=True) == lowest, 0, share)
        if p == 0:
            return share, None
        kept = keep((extra[-2], extra[-1]), p, scores.shape)
        return share, jnp.where(kept, np.asarray(1 / (1 - p) if p < 1 else 0, wide), jnp.zeros((), wide))

    def forward(a: Any, b: Any, c: Any, *extra: Any) -> tuple[Any, Any]:
        share, kept = weights(a, b, *extra)
        used = (share if kept is None else share * kept).astype(q.dtype.np)
        return jnp.matmul(used, whole(c)), (a, b, c, extra[0] if masked else None, share, kept)

    def backward(saved: Any, g: Any) -> tuple[Any, ...]:
        a, b, c, given, share, kept = saved
        used = share if kept is None else share * kept
        dc = jnp.matmul(jnp.swapaxes(used.astype(g.dtype), -1, -2), g)
        dused = jnp.matmul(g, jnp.swapaxes(whole(c), -1, -2)).astype(wide)
        dshare = dused if kept is None else dused * kept
        dscores = share * (dshare - jnp.sum(dshare * share, -1, keepdims=True))
        ds = (dscores * factor).astype(g.dtype)
        da = jnp.matmul(ds, whole(b))
        db = jnp.matmul(jnp.swapaxes(ds, -1, -2), a)
        grads = [_fit(da, a.shape), _fit(_gather(db, shared), b.shape), _fit(_gather(dc, shared), c.shape)]
        if masked:
            grads.append(None if given.dtype == jnp.bool_ else _fit(dscores, given.shape).astype(given.dtype))
        return (*grads, None, None) if p > 0 else tuple(grads)

    fast = q.ndim == 4 and k.ndim == 4 and q.shape[:2] == k.shape[:2]
    name = "ScaledDotProductFlashAttentionForCpuBackward0" if fast or grouped else "UnsafeViewBackward0"
    return Lowering(lambda *args: forward(*args)[0], forward, backward, name)


def _gather(d: Any, shared: int) -> Any:
    """Sum the gradients of the query heads that shared one head."""
    if shared == 1:
        return d
    return jnp.sum(d.reshape(*d.shape[:-3], d.shape[-3] // shared, shared, *d.shape[-2:]), -3)


def _fit(d: Any, shape: tuple[int, ...]) -> Any:
    """Sum a gradient over the dims that were broadcast."""
    lead = d.ndim - len(shape)
    axes = tuple(i for i in range(d.ndim) if i < lead or (shape[i - lead] == 1 and d.shape[i] != 1))
    return jnp.sum(d, axes, keepdims=True).reshape(shape) if axes else d


def _check(q: Aval, k: Aval, v: Aval, mask: Aval | None, causal: bool, grouped: bool) -> None:
    if min(q.ndim, k.ndim, v.ndim) < 2:
        raise RuntimeError(
            "Expected query, key, and value to all be  at least 2 dimensional, but got query.dim: "
            f"{q.ndim} key.dim: {k.ndim} and value.dim: {v.ndim} instead."
        )
    if not (q.dtype is k.dtype is v.dtype):
        raise RuntimeError(
            "Expected query, key, and value to have the same dtype, but got query.dtype: "
            f"{c_name(q.dtype)} key.dtype: {c_name(k.dtype)} and value.dtype: {c_name(v.dtype)} instead."
        )
    if mask is not None:
        if mask.dtype not in (_dtype.bool_, _dtype.float32, q.dtype):
            raise RuntimeError(
                "Expected attn_mask dtype to be bool or float or to match query dtype, but got "
                f"attn_mask.dtype: {c_name(mask.dtype)} and  query.dtype: {c_name(q.dtype)} instead."
            )
    if grouped and q.ndim > 2 and (q.shape[-3] % k.shape[-3] or q.shape[-3] % v.shape[-3]):
        raise RuntimeError(
            "Expected number of heads in key and value to divide the number of heads in query, but "
            f"got {q.shape[-3]}, {k.shape[-3]} and {v.shape[-3]}"
        )
    if q.shape[-1] != k.shape[-1]:
        rows = math.prod(k.shape[:-2])
        raise RuntimeError(
            f"Expected size for first two dimensions of batch2 tensor to be: [{rows}, {q.shape[-1]}] "
            f"but got: [{rows}, {k.shape[-1]}]."
        )
    if k.shape[-2] != v.shape[-2]:
        rows = math.prod(v.shape[:-2])
        raise RuntimeError(
            f"Expected size for first two dimensions of batch2 tensor to be: [{rows}, {k.shape[-2]}] "
            f"but got: [{rows}, {v.shape[-2]}]."
        )
