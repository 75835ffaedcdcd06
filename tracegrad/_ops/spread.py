"""How elements vary: variances, standard deviations, covariances, correlations."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
from jax import lax

from tracegrad import _dtype
from tracegrad._engine.op import Lowering
from tracegrad._engine.trace import record
from tracegrad._engine.value import Aval
from tracegrad._ops import _rules as rules
from tracegrad._ops._declare import op
from tracegrad._ops._out import into
from tracegrad._ops._rules import Dims, frozen
from tracegrad._ops.reduction import safe_sqrt

if TYPE_CHECKING:
    from tracegrad._tensor import Tensor


def _spread_params(dim: Any, unbiased: bool | None, keepdim: bool, correction: float | None) -> tuple[Any, ...]:
    """Sort out the forms ``var(unbiased)``, ``var(dim, unbiased, keepdim)`` and ``var(dim, correction=...)``."""
    if dim is True or dim is False:
        dim, unbiased = None, dim
    if correction is None:
        correction = 0 if unbiased is False else 1
    return (frozen(dim), correction, keepdim)


@op()
def var(input: Tensor, dim: Dims | bool = None, unbiased: bool | None = None, keepdim: bool = False, *,
        correction: float | None = None, out: Tensor | None = None, **numpy: Any) -> Tensor:  # fmt: skip
    """Return the variance over ``dim``: squared distances from the mean, divided by ``n - correction``.

    Example:
        >>> import tracegrad as torch
        >>> torch.tensor([1., 2., 3.]).var(), torch.tensor([1., 2., 3.]).var(correction=0)
        (tensor(1.), tensor(0.6667))
    """
    if out is not None or numpy:
        return into(out, var, input, dim, unbiased, keepdim, correction=correction, **numpy)
    params = _spread_params(dim, unbiased, keepdim, correction)
    return record(_spread, ("var", *params), input)  # type: ignore[no-any-return]


@op()
def std(input: Tensor, dim: Dims | bool = None, unbiased: bool | None = None, keepdim: bool = False, *,
        correction: float | None = None, out: Tensor | None = None, **numpy: Any) -> Tensor:  # fmt: skip
    """Return the square root of ``var``; its gradient is 0 where it is 0."""
    if out is not None or numpy:
        return into(out, std, input, dim, unbiased, keepdim, correction=correction, **numpy)
    params = _spread_params(dim, unbiased, keepdim, correction)
    return record(_spread, ("std", *params), input)  # type: ignore[no-any-return]


@op(method=False)
def var_mean(input: Tensor, dim: Dims | bool = None, unbiased: bool | None = None, keepdim: bool = False, *,
             correction: float | None = None, out: Any = None, **numpy: Any) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Return the variance and the mean over ``dim``."""
    if out is not None or numpy:
        return into(out, var_mean, input, dim, unbiased, keepdim, correction=correction, **numpy)
    params = _spread_params(dim, unbiased, keepdim, correction)
    return record(_spread, ("var_mean", *params), input)  # type: ignore[no-any-return]


@op(method=False)
def std_mean(input: Tensor, dim: Dims | bool = None, unbiased: bool | None = None, keepdim: bool = False, *,
             correction: float | None = None, out: Any = None, **numpy: Any) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Return the standard deviation and the mean over ``dim``."""
    if out is not None or numpy:
        return into(out, std_mean, input, dim, unbiased, keepdim, correction=correction, **numpy)
    params = _spread_params(dim, unbiased, keepdim, correction)
    return record(_spread, ("std_mean", *params), input)  # type: ignore[no-any-return]


def _spread(x: Aval, name: str, dim: Dims, correction: float, keepdim: bool) -> Lowering:
    if not x.dtype.is_inexact:
        what = name if name.endswith("_mean") else "std and var"
        raise RuntimeError(f"{what} only support floating point and complex dtypes")
    axes = rules.dims(dim, x.ndim)
    count = math.prod(x.shape[i] for i in axes)
    freedom = count - correction if count > correction else 0.0
    wide = x.dtype.np if x.dtype.itemsize > 2 else jnp.float32  # 16-bit types are rounded once, at the end
    std, means = name.startswith("std"), name.endswith("_mean")

    def shaped(a: Any) -> Any:
        return a if keepdim else lax.squeeze(a, axes)

    def run(a: Any) -> tuple[Any, Any]:
        a = a.astype(wide)
        center = jnp.mean(a, axes, keepdims=True)
        off = a - center
        squares = off.real**2 + off.imag**2 if x.dtype.is_complex else off * off
        total = jnp.sum(squares, axes, keepdims=True)
        spread = total / jnp.asarray(freedom, total.dtype)
        return safe_sqrt(spread) if std else spread, center

    def outputs(spread: Any, center: Any) -> Any:
        spread = shaped(spread).astype(_dtype.to_real(x.dtype).np)
        return (spread, shaped(center).astype(x.dtype.np)) if means else spread

    node = "".join(part.capitalize() for part in name.split("_")) + "Backward0"
    if means or x.dtype.is_complex:
        return Lowering(lambda a: outputs(*run(a)), name=node)

    def forward(a: Any) -> tuple[Any, Any]:
        spread, center = run(a)
        return outputs(spread, center), (a, spread)

    def backward(saved: Any, ct: Any) -> tuple[Any, ...]:
        a, spread = saved
        a = a.astype(wide)
        ct = (ct if keepdim else jnp.expand_dims(ct, axes)).astype(wide)
        scale = _over(ct, spread) if std else 2 * ct
        off = a - jnp.mean(a, axes, keepdims=True)
        return ((scale / jnp.asarray(freedom, wide) * off).astype(x.dtype.np),)

    return Lowering(lambda a: outputs(*run(a)), forward, backward, node)


def _over(ct: Any, x: Any) -> Any:
    """Return ``ct / x``, 0 where ``x`` is 0."""
    return jnp.where(x == 0, 0, ct / jnp.where(x == 0, 1, x))


# -- of several variables ---------------------------------------------------------------------------------------------


@op()
def cov(input: Tensor, *, correction: int = 1, fweights: Tensor | None = None,
        aweights: Tensor | None = None) -> Tensor:  # fmt: skip
    """Return the covariances of the rows of ``input``, each a variable, its columns the observations.

    Args:
        input: ``(variables, observations)``, or one variable.
        correction: what is taken from the number of observations before dividing by it.
        fweights: how often each observation occurs, integers.
        aweights: how much each observation counts.

    Example:
        >>> import tracegrad as torch
        >>> torch.cov(torch.tensor([[0., 1., 2.], [2., 1., 0.]]))
        tensor([[ 1., -1.],
                [-1.,  1.]])
    """
    weights = [w for w in (fweights, aweights) if w is not None]
    given = (fweights is not None, aweights is not None)
    return record(_cov, (correction, *given), input, *weights)  # type: ignore[no-any-return]


def _cov(x: Aval, *rest: Any) -> Lowering:
    *weights, correction, has_counts, has_weights = rest
    if x.ndim > 2:
        raise RuntimeError("cov(): expected input to have two or fewer dimensions but got an input with "
                           f"{x.ndim} dimensions")
    if x.dtype is _dtype.bool_:
        raise RuntimeError("cov(): bool dtype is not supported for input")
    observations = x.shape[-1] if x.ndim else 1
    for name, w, counts in zip(["fweights"] * has_counts + ["aweights"], weights, [True] * has_counts + [False]):
        if w.ndim > 1:
            raise RuntimeError(f"cov(): expected {name} to have one or fewer dimensions but got {name} with {w.ndim} "
                               "dimensions")
        kind = "integral" if counts else "floating point"
        if (w.dtype.category == _dtype.INTEGRAL) is not counts:
            raise RuntimeError(f"cov(): expected {name} to have {kind} dtype but got {name} with "
                               f"{_dtype.type_name(w.dtype)} dtype")
        if w.numel != observations:
            raise RuntimeError(f"cov(): expected {name} to have the same numel as there are observations in the input "
                               f"but got {w.numel} != {observations}")
    if not weights and observations - correction <= 0:
        warnings.warn("cov(): degrees of freedom is <= 0. Correction should be strictly less than the number of "
                      "observations.", stacklevel=2)  # fmt: skip
    dtype = rules.to_float(x.dtype)

    def fn(a: Any, *given: Any) -> Any:
        a = jnp.reshape(a, (1, -1) if a.ndim < 2 else a.shape).astype(dtype.np)
        real = _dtype.to_real(dtype).np
        w, norm = None, jnp.asarray(a.shape[1] - correction, real)
        if given:
            w = math.prod(g.reshape(-1).astype(real) for g in given)
            total = jnp.sum(w)
            shrink = jnp.sum(w * given[-1].astype(real)) / total if has_weights else 1
            norm = total - correction * shrink
            center = jnp.sum(a * w, 1, keepdims=True) / total
        else:
            center = jnp.mean(a, 1, keepdims=True)
        off = a - center
        made = off @ jnp.conj((off if w is None else off * w).T) / jnp.maximum(norm, 0)
        return made.reshape(()) if made.size == 1 else made

    return Lowering(fn, name="SqueezeBackward0")


@op()
def corrcoef(input: Tensor) -> Tensor:
    """Return the correlation coefficients of the rows of ``input``, each a variable, its columns the observations."""
    return record(_corrcoef, (), input)  # type: ignore[no-any-return]


def _corrcoef(x: Aval) -> Lowering:
    if x.ndim > 2:
        raise RuntimeError("corrcoef(): expected input to have two or fewer dimensions but got an input with "
                           f"{x.ndim} dimensions")
    inner = _cov(x, 1, False, False).fn

    def fn(a: Any) -> Any:
        made = inner(a)
        if not made.ndim:
            return made / made
        deviation = jnp.sqrt(jnp.diagonal(made).real)
        made = made / deviation[:, None] / deviation[None, :]
        if x.dtype.is_complex:
            return lax.complex(jnp.clip(made.real, -1, 1), jnp.clip(made.imag, -1, 1))
        # Beyond 1 is only rounding: PyTorch's clip passes the gradient at its bounds.
        return made + lax.stop_gradient(jnp.clip(made, -1, 1) - made)

    return Lowering(fn, name="ClampBackward1")
