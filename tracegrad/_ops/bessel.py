"""Bessel functions of orders 0 and 1, as the library Cephes computes them (`_cephes.py`).

As in PyTorch, their results want no gradients.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
from jax.scipy import special

from tracegrad._dtype import COMPLEX
from tracegrad._engine.op import Lowering
from tracegrad._engine.trace import record
from tracegrad._engine.value import Aval
from tracegrad._ops import _cephes as c
from tracegrad._ops import _rules as rules
from tracegrad._ops._declare import op
from tracegrad._ops._opmath import in_opmath
from tracegrad._ops._out import into
from tracegrad._ops.pointwise import refuse

if TYPE_CHECKING:
    from tracegrad._tensor import Tensor


def _bessel(x: Aval, name: str) -> Lowering:
    refuse(name, x.dtype, COMPLEX)
    dtype = rules.to_float(x.dtype)
    fn = in_opmath(_FUNCTIONS[name])
    return Lowering(lambda a: fn(a.astype(dtype.np)), differentiable=False)


@op(method=False, function=False)
def bessel_j0(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return the Bessel function of the first kind, of order 0."""
    if out is not None:
        return into(out, bessel_j0, input)
    return record(_bessel, ("bessel_j0",), input)  # type: ignore[no-any-return]


@op(method=False, function=False)
def bessel_j1(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return the Bessel function of the first kind, of order 1."""
    if out is not None:
        return into(out, bessel_j1, input)
    return record(_bessel, ("bessel_j1",), input)  # type: ignore[no-any-return]


@op(method=False, function=False)
def bessel_y0(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return the Bessel function of the second kind, of order 0; nan below 0."""
    if out is not None:
        return into(out, bessel_y0, input)
    return record(_bessel, ("bessel_y0",), input)  # type: ignore[no-any-return]


@op(method=False, function=False)
def bessel_y1(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return the Bessel function of the second kind, of order 1; nan below 0."""
    if out is not None:
        return into(out, bessel_y1, input)
    return record(_bessel, ("bessel_y1",), input)  # type: ignore[no-any-return]


@op(method=False, function=False)
def modified_bessel_i0(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return the modified Bessel function of the first kind, of order 0; `special.i0` has a derivative."""
    if out is not None:
        return into(out, modified_bessel_i0, input)
    return record(_bessel, ("modified_bessel_i0",), input)  # type: ignore[no-any-return]


@op(method=False, function=False)
def modified_bessel_i1(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return the modified Bessel function of the first kind, of order 1; `special.i1` has a derivative."""
    if out is not None:
        return into(out, modified_bessel_i1, input)
    return record(_bessel, ("modified_bessel_i1",), input)  # type: ignore[no-any-return]


@op(method=False, function=False)
def modified_bessel_k0(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return the modified Bessel function of the second kind, of order 0; nan below 0."""
    if out is not None:
        return into(out, modified_bessel_k0, input)
    return record(_bessel, ("modified_bessel_k0",), input)  # type: ignore[no-any-return]


@op(method=False, function=False)
def modified_bessel_k1(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return the modified Bessel function of the second kind, of order 1; nan below 0."""
    if out is not None:
        return into(out, modified_bessel_k1, input)
    return record(_bessel, ("modified_bessel_k1",), input)  # type: ignore[no-any-return]


@op(method=False, function=False)
def scaled_modified_bessel_k0(x: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return ``exp(x) * modified_bessel_k0(x)``."""
    if out is not None:
        return into(out, scaled_modified_bessel_k0, x)
    return record(_bessel, ("scaled_modified_bessel_k0",), x)  # type: ignore[no-any-return]


@op(method=False, function=False)
def scaled_modified_bessel_k1(x: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return ``exp(x) * modified_bessel_k1(x)``."""
    if out is not None:
        return into(out, scaled_modified_bessel_k1, x)
    return record(_bessel, ("scaled_modified_bessel_k1",), x)  # type: ignore[no-any-return]


@op(method=False, function=False)
def spherical_bessel_j0(x: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return ``sin(x) / x``, and 1 at 0."""
    if out is not None:
        return into(out, spherical_bessel_j0, x)
    return record(_bessel, ("spherical_bessel_j0",), x)  # type: ignore[no-any-return]


# -- how they are computed -----------------------------------------------------------------------------------


def _horner(x: Any, coefficients: Sequence[float]) -> Any:
    total = jnp.full_like(x, coefficients[0])
    for one in coefficients[1:]:
        total = total * x + jnp.asarray(one, x.dtype)
    return total


def _chebyshev(x: Any, coefficients: Sequence[float]) -> Any:
    a, p, q = jnp.full_like(x, coefficients[0]), jnp.zeros_like(x), jnp.zeros_like(x)
    for one in coefficients[1:]:
        p, q = q, a
        a = x * q - p + jnp.asarray(one, x.dtype)
    return (a - p) / 2


def _far(x: Any, order: int, second: bool) -> Any:
    """The functions of the first and the second kind beyond 5."""
    pp, pq, qp, qq = (c.J0_PP, c.J0_PQ, c.J0_QP, c.J0_QQ) if order == 0 else (c.J1_PP, c.J1_PQ, c.J1_QP, c.J1_QQ)
    z = 25 / (x * x)
    p, q = _horner(z, pp) / _horner(z, pq), 5 / x * _horner(z, qp) / _horner(z, qq)
    angle = x - (2 * order + 1) * math.pi / 4
    sin, cos = jnp.sin(angle), jnp.cos(angle)
    return (p * sin + q * cos if second else p * cos - q * sin) * math.sqrt(2 / math.pi) / jnp.sqrt(x)


def _j0(x: Any) -> Any:
    x = jnp.abs(x)
    z = jnp.where(x <= 5, x * x, 0)
    near = (z - 5.78318596294678452118) * (z - 30.4712623436620863991) * _horner(z, c.J0_RP) / _horner(z, c.J0_RQ)
    return jnp.where(x <= 5, near, _far(jnp.where(x <= 5, 6, x), 0, False))


def _j1(x: Any) -> Any:
    a = jnp.abs(x)
    z = jnp.where(a <= 5, a * a, 0)
    near = a * (z - 14.6819706421238932572) * (z - 49.2184563216946036703) * _horner(z, c.J1_RP) / _horner(z, c.J1_RQ)
    return jnp.where(x < 0, -1, 1) * jnp.where(a <= 5, near, _far(jnp.where(a <= 5, 6, a), 1, False))


def _second(x: Any, order: int) -> Any:
    a = jnp.where((x > 0) & (x <= 5), x, 1)
    z = a * a
    if order == 0:
        near = _horner(z, c.Y0_YP) / _horner(z, c.Y0_YQ) + 2 / math.pi * jnp.log(a) * _j0(a)
    else:
        near = a * (_horner(z, c.Y1_YP) / _horner(z, c.Y1_YQ)) + 2 / math.pi * (_j1(a) * jnp.log(a) - 1 / a)
    found = jnp.where(x <= 5, near, _far(jnp.where(x <= 5, 6, x), order, True))
    return jnp.where(x == 0, -jnp.inf, jnp.where(x < 0, jnp.nan, found))


def _k(x: Any, order: int, scaled: bool) -> Any:
    a = jnp.where((x > 0) & (x <= 2), x, 1)
    if order == 0:
        near = _chebyshev(a * a - 2, c.K0_A) - jnp.log(a / 2) * special.i0(a)
    else:
        near = jnp.log(a / 2) * special.i1(a) + _chebyshev(a * a - 2, c.K1_A) / a
    b = jnp.where(x > 2, x, 3)
    far = _chebyshev(8 / b - 2, c.K0_B if order == 0 else c.K1_B) / jnp.sqrt(b)
    found = jnp.where(x <= 2, near * jnp.exp(a) if scaled else near, far if scaled else far * jnp.exp(-b))
    return jnp.where(x == 0, jnp.inf, jnp.where(x < 0, jnp.nan, jnp.where(x != x, x, found)))


def _spherical(x: Any) -> Any:
    return jnp.where(jnp.isinf(x), 0, jnp.where(x == 0, 1, jnp.sin(x) / jnp.where(x == 0, 1, x)))


_FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "bessel_j0": _j0, "bessel_j1": _j1,
    "bessel_y0": lambda x: _second(x, 0), "bessel_y1": lambda x: _second(x, 1),
    "modified_bessel_i0": special.i0, "modified_bessel_i1": special.i1,
    "modified_bessel_k0": lambda x: _k(x, 0, False), "modified_bessel_k1": lambda x: _k(x, 1, False),
    "scaled_modified_bessel_k0": lambda x: _k(x, 0, True), "scaled_modified_bessel_k1": lambda x: _k(x, 1, True),
    "spherical_bessel_j0": _spherical,
}  # fmt: skip
