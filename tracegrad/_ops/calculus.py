"""Differences and integrals along a dim, from samples of a function."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
from jax import lax

from tracegrad._engine.op import Lowering
from tracegrad._engine.trace import record
from tracegrad._engine.value import Aval
from tracegrad._ops import _rules as rules
from tracegrad._ops._declare import op
from tracegrad._ops._out import into, renamed
from tracegrad._ops.pointwise import also
from tracegrad._ops.shape import cat

if TYPE_CHECKING:
    from tracegrad._tensor import Tensor


@op()
def diff(input: Tensor, n: int = 1, dim: int = -1, prepend: Tensor | None = None, append: Tensor | None = None, *,
         out: Tensor | None = None, **numpy: Any) -> Tensor:  # fmt: skip
    """Return each element along ``dim`` less the one before it, ``n`` times over.

    ``prepend`` and ``append`` are joined to ``input`` first.

    Example:
        >>> import tracegrad as torch
        >>> torch.tensor([1, 4, 9]).diff()
        tensor([3, 5])
    """
    if out is not None or numpy:
        return into(out, diff, input, n, dim, prepend, append, **numpy)
    if input.ndim == 0:
        raise RuntimeError("diff expects input to be at least one-dimensional")
    parts = [x for x in (prepend, input, append) if x is not None]
    for x in parts:
        if x.ndim != input.ndim:
            raise RuntimeError("diff expects prepend or append to be the same dimension as input")
    joined = input if len(parts) == 1 or n == 0 else cat(parts, dim)
    return record(_diff, (n, dim), joined)  # type: ignore[no-any-return]


def _diff(x: Aval, n: int, d: int) -> Lowering:
    axis = rules.dim(d, x.ndim)
    if n < 0:
        raise RuntimeError(f"order must be non-negative but got {n}")

    def fn(a: Any) -> Any:
        for _ in range(min(n, x.shape[axis])):
            size = a.shape[axis]
            if size == 0:
                break
            high, low = lax.slice_in_dim(a, 1, size, axis=axis), lax.slice_in_dim(a, 0, size - 1, axis=axis)
            a = high ^ low if a.dtype == jnp.bool_ else high - low
        return a

    return Lowering(fn, name="SubBackward0" if n else "AliasBackward0", saves=False)


# -- integrals --------------------------------------------------------------------------------------------------------


@op(method=False)
def trapezoid(y: Tensor, x: Tensor | None = None, *, dx: float | None = None, dim: int = -1, **numpy: Any) -> Tensor:
    """Return the integral of ``y`` along ``dim`` by the trapezoidal rule.

    Args:
        y: the samples.
        x: where they were taken: one number each, or the shape of ``y``.
        dx: how far apart they are, 1 where neither is given.
        dim: the dim to integrate over.
        **numpy: ``axis`` for ``dim``, as NumPy has it.

    Example:
        >>> import tracegrad as torch
        >>> torch.trapezoid(torch.tensor([1., 2., 3.]))
        tensor(4.)
    """
    if numpy:
        return renamed(trapezoid, numpy, y, x, dx=dx, dim=dim)
    return _integral("trapezoid", y, x, dx, dim)


@op(method=False)
def cumulative_trapezoid(y: Tensor, x: Tensor | None = None, *, dx: float | None = None, dim: int = -1,
                         **numpy: Any) -> Tensor:  # fmt: skip
    """Return the integrals of ``y`` from the first sample to each later one; arguments as `trapezoid`."""
    if numpy:
        return renamed(cumulative_trapezoid, numpy, y, x, dx=dx, dim=dim)
    return _integral("cumulative_trapezoid", y, x, dx, dim)


also("trapz", trapezoid, method=False)


def _integral(name: str, y: Tensor, x: Tensor | None, dx: float | None, dim: int) -> Tensor:
    if x is not None and dx is not None:
        raise TypeError(f"{name}(): expected only one of 'x' and 'dx'")
    spacing: Any = x if x is not None else 1 if dx is None else dx
    return record(_trapezoid, (name, dim), y, spacing)  # type: ignore[no-any-return]


def _trapezoid(y: Aval, x: Any, name: str, d: int) -> Lowering:
    axis = rules.dim(d, y.ndim)
    given = isinstance(x, Aval)
    for what, of in (("y", y), ("x", x)):
        if of.__class__ is Aval and of.dtype.name == "bool":
            raise RuntimeError(f"{name}: received a bool input for `{what}`, but bool is not supported")
    dtype = rules.to_float(rules.result_type((y, x)))
    if given and not x.ndim and y.shape[axis] > 1:
        raise RuntimeError(f"The size of tensor a ({y.shape[axis] - 1}) must match the size of tensor b (0) at "
                           f"non-singleton dimension {axis}")
    if given and x.ndim == 1 and x.shape[0] != y.shape[axis]:
        raise RuntimeError(f"{name}: There must be one `x` value for each sample point")

    def fn(a: Any, at: Any) -> Any:
        a = jnp.moveaxis(a.astype(dtype.np), axis, -1)
        step = rules.cast(at, dtype)
        if given:
            if step.ndim > 1:
                step = jnp.moveaxis(step.reshape((1,) * (a.ndim - step.ndim) + step.shape), axis, -1)
            step = jnp.diff(step) if step.ndim else step
        area = step * (a[..., 1:] + a[..., :-1]) / 2
        if name == "trapezoid":
            return jnp.sum(area, -1)
        return jnp.moveaxis(jnp.cumsum(area, -1), -1, axis)

    return Lowering(fn, name="DivBackward0")


# -- derivatives ------------------------------------------------------------------------------------------------------


@op(method=False)
def gradient(input: Tensor, *, spacing: Any = 1, dim: int | Sequence[int] | None = None,
             edge_order: int = 1, **numpy: Any) -> tuple[Tensor, ...]:  # fmt: skip
    """Return estimates of the derivatives of a sampled function along each of ``dim``, by central differences.

    Args:
        input: the samples.
        spacing: how far apart they are: one number, one per dim, or per dim a vector of where they were taken.
        dim: every dim where it is None.
        edge_order: 1 or 2, how exact the estimates at both ends are.
        **numpy: ``axis`` for ``dim``, as NumPy has it.

    Example:
        >>> import tracegrad as torch
        >>> torch.gradient(torch.tensor([1., 2., 4., 7.]))
        (tensor([1.0000, 1.5000, 2.5000, 3.0000]),)
    """
    if numpy:
        return renamed(gradient, numpy, input, spacing=spacing, dim=dim, edge_order=edge_order)
    dims = rules.dims(dim, input.ndim)
    spacing = 1 if spacing is None else spacing
    steps = list(spacing) if isinstance(spacing, (list, tuple)) else [spacing] * len(dims)
    if len(steps) != len(dims):
        raise RuntimeError("torch.gradient expected spacing to be unspecified, a scalar, or a list of length equal to "
                           f"'self.dim() = {len(dims)}', but got a list of length {len(steps)}")
    if edge_order not in (1, 2):
        raise RuntimeError("torch.gradient only supports edge_order=1 and edge_order=2.")
    return tuple(record(_gradient, (axis, edge_order), input, step) for axis, step in zip(dims, steps))


def _gradient(x: Aval, step: Any, axis: int, edge_order: int) -> Lowering:
    if x.shape[axis] < edge_order + 1:
        raise RuntimeError("torch.gradient expected each dimension size to be at least edge_order+1")
    if isinstance(step, Aval) and step.ndim and step.shape != (x.shape[axis],):
        raise RuntimeError("torch.gradient expected each element of `coordinates` to have the same size as the "
                           "corresponding dimension of input")
    dtype = rules.to_float(x.dtype)

    def fn(a: Any, h: Any) -> Any:
        a = jnp.moveaxis(a.astype(dtype.np), axis, -1)
        h = rules.cast(h, dtype)
        gaps = jnp.diff(h) if h.ndim else jnp.broadcast_to(h, (a.shape[-1] - 1,))
        slopes = (a[..., 1:] - a[..., :-1]) / gaps
        left, right = gaps[:-1], gaps[1:]
        inner = (slopes[..., :-1] * right + slopes[..., 1:] * left) / (left + right)
        if edge_order == 1:
            first, last = slopes[..., :1], slopes[..., -1:]
        else:
            bend = (slopes[..., 1:] - slopes[..., :-1]) / (left + right)
            first = slopes[..., :1] - bend[..., :1] * gaps[:1]
            last = slopes[..., -1:] + bend[..., -1:] * gaps[-1:]
        return jnp.moveaxis(jnp.concatenate([first, inner, last], -1), -1, axis)

    return Lowering(fn, name="CatBackward0")


@op(method=False)
def vander(x: Tensor, N: int | None = None, increasing: bool = False) -> Tensor:  # noqa: N803 (PyTorch's name)
    """Return the powers of each element, ``N`` of them (as many as there are elements), as rows, falling by default."""
    return record(_vander, (N, increasing), x)  # type: ignore[no-any-return]


def _vander(x: Aval, count: int | None, increasing: bool) -> Lowering:
    if x.ndim != 1:
        raise RuntimeError("x must be a one-dimensional tensor.")
    if count is not None and count < 0:
        raise RuntimeError("N must be non-negative.")
    n = x.shape[0] if count is None else count
    integral = not x.dtype.is_inexact

    def fn(a: Any) -> Any:
        a = a.astype(jnp.int64) if integral else a
        columns = [jnp.ones_like(a)]
        for _ in range(1, n):
            columns.append(columns[-1] * a)
        columns = columns[:n] if increasing else columns[:n][::-1]
        return jnp.stack(columns, -1) if columns else jnp.zeros((a.shape[0], 0), a.dtype)

    return Lowering(fn, name="FlipBackward0", differentiable=n > 0)
