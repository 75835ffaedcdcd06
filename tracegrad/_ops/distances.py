"""Distances between rows, and sub-tensors kept within a norm."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from tracegrad._dtype import type_name
from tracegrad._engine.op import Lowering
from tracegrad._engine.trace import record
from tracegrad._engine.value import Aval
from tracegrad._ops import _rules as rules
from tracegrad._ops._declare import op
from tracegrad._ops._out import into
from tracegrad._ops.reduction import vector_norm

if TYPE_CHECKING:
    from tracegrad._tensor import Tensor


@op(method=False)
def cdist(x1: Tensor, x2: Tensor, p: float = 2.0,
          compute_mode: str | None = "use_mm_for_euclid_dist_if_necessary") -> Tensor:  # fmt: skip
    """Return the ``p``-norm distances between every row of ``x1`` and every row of ``x2``.

    Args:
        x1: ``(*, rows, size)``.
        x2: ``(*, others, size)``; the leading dims broadcast.
        p: which norm.
        compute_mode: how PyTorch computes; the distances are taken directly here in any case, without loss.

    Example:
        >>> import tracegrad as torch
        >>> torch.cdist(torch.tensor([[0., 0.]]), torch.tensor([[3., 4.], [0., 1.]]))
        tensor([[5., 1.]])
    """
    return record(_cdist, (float(p),), x1, x2)  # type: ignore[no-any-return]


def _cdist(a: Aval, b: Aval, p: float) -> Lowering:
    for name, x in (("X1", a), ("X2", b)):
        if not x.dtype.is_inexact:
            raise RuntimeError(f"cdist only supports floating-point dtypes, {name} got: {type_name(x.dtype)}")
        if x.ndim < 2:
            raise RuntimeError(f"cdist only supports at least 2D tensors, {name} got: {x.ndim}D")
    if a.shape[-1] != b.shape[-1]:
        raise RuntimeError(f"X1 and X2 must have the same number of columns. X1: {a.shape[-1]} X2: {b.shape[-1]}")
    if p < 0:
        raise RuntimeError("cdist only supports non-negative p values")
    dtype = rules.result_type((a, b)).np

    def fn(x: Any, y: Any) -> Any:
        off = jnp.expand_dims(x.astype(dtype), -2) - jnp.expand_dims(y.astype(dtype), -3)
        return _norm_of(off, p)

    return Lowering(fn, name="CdistBackward0")


def _norm_of(off: Any, p: float) -> Any:
    if not off.shape[-1]:
        return jnp.zeros(off.shape[:-1], off.dtype)
    return vector_norm(off, p, (off.ndim - 1,), False)


@op(method=False)
def pdist(input: Tensor, p: float = 2) -> Tensor:
    """Return the ``p``-norm distances between every two rows of a matrix, as one vector."""
    return record(_pdist, (float(p),), input)  # type: ignore[no-any-return]


def _pdist(x: Aval, p: float) -> Lowering:
    if x.ndim != 2:
        raise RuntimeError(f"pdist only supports 2D tensors, got: {x.ndim}D")
    if not x.dtype.is_inexact:
        raise RuntimeError("pdist only supports floating-point dtypes")
    if p < 0:
        raise RuntimeError("pdist only supports non-negative p values")
    rows, others = np.triu_indices(x.shape[0], 1)
    return Lowering(lambda a: _norm_of(a[rows] - a[others], p), name="PdistBackward0")


@op()
def dist(input: Tensor, other: Tensor, p: float = 2) -> Tensor:
    """Return the ``p``-norm of ``input - other``.

    Example:
        >>> import tracegrad as torch
        >>> torch.dist(torch.tensor([0., 0.]), torch.tensor([3., 4.]))
        tensor(5.)
    """
    return record(_dist, (float(p),), input, other)  # type: ignore[no-any-return]


def _dist(a: Aval, b: Aval, p: float) -> Lowering:
    rules.broadcast(a, b)
    dtype = rules.result_type((a, b))
    if not dtype.is_inexact:
        raise RuntimeError("linalg.vector_norm: Expected a floating point or complex tensor as input. "
                           f"Got {type_name(dtype)}")

    def fn(x: Any, y: Any) -> Any:
        off = rules.cast(x, dtype) - rules.cast(y, dtype)
        return vector_norm(off, p, tuple(range(off.ndim)), False)

    return Lowering(fn, name="DistBackward0")


@op(inplace=True)
def renorm(input: Tensor, p: float, dim: int, maxnorm: float, *, out: Tensor | None = None) -> Tensor:
    """Return ``input`` with every slice along ``dim`` whose ``p``-norm is above ``maxnorm`` scaled down to it."""
    if out is not None:
        return into(out, renorm, input, p, dim, maxnorm)
    return record(_renorm, (float(p), dim, float(maxnorm)), input)  # type: ignore[no-any-return]


def _renorm(x: Aval, p: float, d: int, maxnorm: float) -> Lowering:
    if p <= 0:
        raise RuntimeError("renorm: non-positive norm not supported")
    if maxnorm < 0:
        raise RuntimeError("renorm: expected maxnorm to be >= 0 but got " + f"{maxnorm:g}")
    if x.ndim < 2:
        raise RuntimeError(f"renorm: input needs at least 2 dimensions, got {x.ndim} dimensions")
    if not x.dtype.is_inexact:
        raise RuntimeError("linalg.vector_norm: Expected a floating point or complex tensor as input. "
                           f"Got {type_name(x.dtype)}")
    axis = rules.dim(d, x.ndim)
    rest = tuple(k for k in range(x.ndim) if k != axis)

    def fn(a: Any) -> Any:
        norm = vector_norm(a, p, rest, True)
        above = norm > maxnorm
        return a * jnp.where(above, maxnorm / (jnp.where(above, norm, 1) + 1e-7), 1).astype(a.dtype)

    return Lowering(fn, name="RenormBackward0")


@op(method=False, function=False)
def pairwise_distance(x1: Tensor, x2: Tensor, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> Tensor:
    """Return the ``p``-norms of ``x1 - x2 + eps`` along the last dim."""
    return record(_pairwise_distance, (float(p), keepdim), x1, x2, eps)  # type: ignore[no-any-return]


def _pairwise_distance(a: Aval, b: Aval, eps: Any, p: float, keepdim: bool) -> Lowering:
    rules.broadcast(a, b)
    dtype = rules.to_float(rules.result_type((a, b)))

    def fn(x: Any, y: Any, e: Any) -> Any:
        off = rules.cast(x, dtype) - rules.cast(y, dtype) + jnp.asarray(e).astype(dtype.np)
        return vector_norm(off, p, (off.ndim - 1,), keepdim)

    return Lowering(fn, name="LinalgVectorNormBackward0")
