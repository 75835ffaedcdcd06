"""Special functions, element by element: the error, gamma and Bessel families, entropies. See `tracegrad.special`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
from jax.scipy import special

from tracegrad._dtype import COMPLEX
from tracegrad._engine.op import Lowering
from tracegrad._engine.trace import record
from tracegrad._engine.value import Aval, Number
from tracegrad._ops import _rules as rules
from tracegrad._ops._declare import op
from tracegrad._ops._out import into
from tracegrad._ops.pointwise import Operand, joined, promoted, refuse

if TYPE_CHECKING:
    from tracegrad._tensor import Tensor

_Fn = Callable[..., Any]
_ROOT_PI = math.sqrt(math.pi)


def _smooth(x: Aval, name: str) -> Lowering:
    """The rule of a function of one real number; 16-bit types compute in float32."""
    fn, slope, kernel, node = _FUNCTIONS[name]
    refuse(kernel, x.dtype, COMPLEX)
    dtype = rules.to_float(x.dtype)
    inner = jnp.float32 if dtype.itemsize == 2 else dtype.np

    def run(a: Any) -> Any:
        return fn(a.astype(inner)).astype(dtype.np)

    if slope is None:
        return Lowering(run, name=node)

    def forward(a: Any) -> tuple[Any, Any]:
        out = run(a)
        return out, (a, out)

    def backward(saved: Any, ct: Any) -> tuple[Any, ...]:
        a, out = (v.astype(inner) for v in saved)
        return ((ct * slope(a, out)).astype(x.dtype.np),)

    return Lowering(run, forward, backward, node)


# -- the error function and the normal distribution -------------------------------------------------------------------


@op(inplace=True)
def erf(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return the error function."""
    if out is not None:
        return into(out, erf, input)
    return record(_smooth, ("erf",), input)  # type: ignore[no-any-return]


@op(inplace=True)
def erfc(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return ``1 - erf(x)``, exact where ``x`` is large."""
    if out is not None:
        return into(out, erfc, input)
    return record(_smooth, ("erfc",), input)  # type: ignore[no-any-return]


@op(inplace=True)
def erfinv(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return the inverse of ``erf``."""
    if out is not None:
        return into(out, erfinv, input)
    return record(_smooth, ("erfinv",), input)  # type: ignore[no-any-return]


@op(method=False, function=False)
def erfcx(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return ``exp(x ** 2) * erfc(x)``, which does not underflow where ``x`` is large.

    Example:
        >>> import tracegrad as torch
        >>> torch.special.erfcx(torch.tensor([0., 100.]))
        tensor([1.0000, 0.0056])
    """
    if out is not None:
        return into(out, erfcx, input)
    return record(_smooth, ("erfcx",), input)  # type: ignore[no-any-return]


def _erfcx(x: Any) -> Any:
    wide = x.astype(jnp.float64)
    near = jnp.minimum(wide, 25.0)
    far = jnp.maximum(wide, 25.0)
    s = 1 / (far * far)
    series = (1 - s / 2 * (1 - 3 * s / 2 * (1 - 5 * s / 2))) / (far * _ROOT_PI)
    return jnp.where(wide < 25, jnp.exp(near * near) * special.erfc(near), series).astype(x.dtype)


@op(method=False, function=False)
def ndtr(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return the cumulative distribution function of the standard normal distribution."""
    if out is not None:
        return into(out, ndtr, input)
    return record(_smooth, ("ndtr",), input)  # type: ignore[no-any-return]


@op(method=False, function=False)
def ndtri(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return the inverse of ``ndtr``."""
    if out is not None:
        return into(out, ndtri, input)
    return record(_smooth, ("ndtri",), input)  # type: ignore[no-any-return]


@op(method=False, function=False)
def log_ndtr(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return the logarithm of ``ndtr``, exact where ``x`` is very negative."""
    if out is not None:
        return into(out, log_ndtr, input)
    return record(_smooth, ("log_ndtr",), input)  # type: ignore[no-any-return]


# -- the gamma function -----------------------------------------------------------------------------------------------


@op(inplace=True)
def lgamma(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return the logarithm of the absolute gamma function."""
    if out is not None:
        return into(out, lgamma, input)
    return record(_smooth, ("lgamma",), input)  # type: ignore[no-any-return]


@op(inplace=True)
def digamma(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return the derivative of ``lgamma``."""
    if out is not None:
        return into(out, digamma, input)
    return record(_smooth, ("digamma",), input)  # type: ignore[no-any-return]


def _digamma(x: Any) -> Any:
    return jnp.where(x == 0, jnp.copysign(jnp.full_like(x, math.inf), -x), special.digamma(x))


@op(inplace=True)
def polygamma(n: int, input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return derivative number ``n`` of ``digamma``. As a method it is ``input.polygamma(n)``.

    To about 1e-15, for every ``n``; PyTorch's with ``n=1`` is off by up to 5e-10 in ``float64``.

    Example:
        >>> import tracegrad as torch
        >>> torch.polygamma(1, torch.tensor([1.]))
        tensor([1.6449])
    """
    if out is not None:
        return into(out, polygamma, n, input)
    order, x = (n, input) if isinstance(n, int) else (input, n)
    return record(_polygamma, (order,), x)  # type: ignore[no-any-return]


def _polygamma(x: Aval, n: int) -> Lowering:
    if n < 0:
        raise RuntimeError("polygamma(n, x) does not support negative n.")
    refuse("polygamma" if n else "digamma", x.dtype, COMPLEX)
    fn = _digamma if n == 0 else (lambda a: special.polygamma(n, a))
    return promoted(fn, rules.to_float(x.dtype), "PolygammaBackward0")


@op(inplace=True)
def mvlgamma(input: Tensor, p: int, *, out: Tensor | None = None) -> Tensor:
    """Return the logarithm of the multivariate gamma function of dimension ``p``, above ``(p - 1) / 2``."""
    if out is not None:
        return into(out, mvlgamma, input, p)
    return record(_mvlgamma, (p,), input)  # type: ignore[no-any-return]


def _mvlgamma(x: Aval, p: int) -> Lowering:
    if p < 1:
        raise RuntimeError("p has to be greater than or equal to 1")
    refuse("mvlgamma", x.dtype, COMPLEX)

    def fn(a: Any) -> Any:
        steps = jnp.arange(p, dtype=a.dtype) / 2
        total = jnp.sum(special.gammaln(a[..., None] - steps), -1)
        return total + p * (p - 1) / 4 * jnp.asarray(math.log(math.pi), a.dtype)

    return promoted(fn, rules.to_float(x.dtype), "MvlgammaBackward0")


@op(inplace=True)
def igamma(input: Tensor, other: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return the regularized lower incomplete gamma function of ``input`` up to ``other``, both at least 0.

    Differentiable with respect to both; PyTorch's is with respect to ``other`` alone.
    """
    if out is not None:
        return into(out, igamma, input, other)
    return record(_incomplete_gamma, ("igamma",), input, other)  # type: ignore[no-any-return]


@op(inplace=True)
def igammac(input: Tensor, other: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return ``1 - igamma(input, other)``, exact where ``other`` is large."""
    if out is not None:
        return into(out, igammac, input, other)
    return record(_incomplete_gamma, ("igammac",), input, other)  # type: ignore[no-any-return]


def _incomplete_gamma(a: Operand, x: Operand, name: str) -> Lowering:
    dtype = rules.to_float(joined(a, x))
    refuse(f"{name}_cpu", dtype, COMPLEX)
    fn = special.gammainc if name == "igamma" else special.gammaincc
    return promoted(fn, dtype, f"{name.capitalize()}Backward0")


@op(method=False, function=False)
def zeta(input: Tensor | complex, other: Tensor | complex, *, out: Tensor | None = None) -> Tensor:
    """Return the Hurwitz zeta function: the sum of ``(k + other) ** -input`` over all natural ``k``.

    Differentiable with respect to both; PyTorch's is with respect to ``other`` alone.
    """
    if out is not None:
        return into(out, zeta, input, other)
    return record(_zeta, (), input, other)  # type: ignore[no-any-return]


def _zeta(x: Operand, q: Operand) -> Lowering:
    dtype = rules.to_float(joined(x, q))
    refuse("zeta", dtype, COMPLEX)
    index = 1 if isinstance(x, Number) else 2 if isinstance(q, Number) else 0

    def fn(s: Any, q: Any) -> Any:
        pole = (s == 1) | ((s > 1) & (q <= 0) & (q == jnp.floor(q)))
        undefined = (s < 1) | ((q <= 0) & ~pole & (s != jnp.floor(s)))
        inside = ~pole & ~undefined
        value = special.zeta(jnp.where(inside, s, 2), jnp.where(inside, q, 1))
        return jnp.where(pole, math.inf, jnp.where(undefined | jnp.isnan(s) | jnp.isnan(q), math.nan, value))

    return promoted(fn, dtype, f"SpecialZetaBackward{index}")


# -- Bessel functions -------------------------------------------------------------------------------------------------


@op(inplace=True)
def i0(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return the modified Bessel function of the first kind, of order 0."""
    if out is not None:
        return into(out, i0, input)
    return record(_smooth, ("i0",), input)  # type: ignore[no-any-return]


@op(method=False, function=False)
def i0e(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return ``exp(-abs(x)) * i0(x)``."""
    if out is not None:
        return into(out, i0e, input)
    return record(_smooth, ("i0e",), input)  # type: ignore[no-any-return]


@op(method=False, function=False)
def i1(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return the modified Bessel function of the first kind, of order 1."""
    if out is not None:
        return into(out, i1, input)
    return record(_smooth, ("i1",), input)  # type: ignore[no-any-return]


@op(method=False, function=False)
def i1e(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return ``exp(-abs(x)) * i1(x)``."""
    if out is not None:
        return into(out, i1e, input)
    return record(_smooth, ("i1e",), input)  # type: ignore[no-any-return]


def _over(a: Any, b: Any, at_zero: float) -> Any:
    """Return ``a / b``, ``at_zero`` where ``b`` is 0."""
    return jnp.where(b == 0, at_zero, a / jnp.where(b == 0, 1, b))


# -- logarithms and entropy -------------------------------------------------------------------------------------------


@op(inplace=True)
def sinc(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return ``sin(pi * x) / (pi * x)``, 1 at 0."""
    if out is not None:
        return into(out, sinc, input)
    return record(_sinc, (), input)  # type: ignore[no-any-return]


def _sinc(x: Aval) -> Lowering:
    return promoted(jnp.sinc, rules.to_float(x.dtype), "SincBackward0")


@op(method=False, function=False)
def entr(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return ``-x * log(x)``, 0 at 0 and ``-inf`` below it.

    Example:
        >>> import tracegrad as torch
        >>> torch.special.entr(torch.tensor([-1., 0., 0.5]))
        tensor([  -inf, 0.0000, 0.3466])
    """
    if out is not None:
        return into(out, entr, input)
    return record(_smooth, ("entr",), input)  # type: ignore[no-any-return]


def _entr(x: Any) -> Any:
    inside = -x * jnp.log(jnp.where(x > 0, x, 1))
    return jnp.where(x != x, x, jnp.where(x > 0, inside, jnp.where(x == 0, 0.0, -math.inf)))


@op(inplace=True)
def logit(input: Tensor, eps: float | None = None, *, out: Tensor | None = None) -> Tensor:
    """Return ``log(x / (1 - x))``, of ``x`` moved into ``[eps, 1 - eps]`` where ``eps`` is given."""
    if out is not None:
        return into(out, logit, input, eps)
    if eps is None:
        return record(_smooth, ("logit",), input)  # type: ignore[no-any-return]
    return record(_bounded_logit, (), input, eps)  # type: ignore[no-any-return]


def _logit(x: Any) -> Any:
    return jnp.log(x) - jnp.log1p(-x)


def _bounded_logit(x: Aval, eps: Number) -> Lowering:
    refuse("logit_cpu", x.dtype, COMPLEX)

    def fn(a: Any, e: Any) -> Any:
        return _logit(jnp.where(a < e, e, jnp.where(a > 1 - e, 1 - e, a)))

    return promoted(fn, rules.to_float(x.dtype), "LogitBackward0")


@op(method=False, function=False)
def xlog1py(input: Tensor | complex, other: Tensor | complex, *, out: Tensor | None = None) -> Tensor:
    """Return ``input * log1p(other)``, 0 where ``input`` is 0 and ``other`` is no nan."""
    if out is not None:
        return into(out, xlog1py, input, other)
    return record(_xlog1py, (), input, other)  # type: ignore[no-any-return]


def _xlog1py(a: Operand, b: Operand) -> Lowering:
    dtype = rules.to_float(joined(a, b))
    refuse("xlog1py_cpu", dtype, COMPLEX)

    def fn(x: Any, y: Any) -> Any:
        safe = jnp.where((x == 0) & (y <= -1), 0, y)
        return jnp.where(jnp.isnan(y), y, x * jnp.log1p(safe))

    index = 2 if isinstance(b, Number) else 1 if isinstance(a, Number) else 0
    return promoted(fn, dtype, f"SpecialXlog1PyBackward{index}")


#: name -> the function, its slope given ``x`` and the result where JAX's is slower or less exact, PyTorch's kernel,
#: and its backward node.
_FUNCTIONS: dict[str, tuple[_Fn, _Fn | None, str, str]] = {
    "erf": (special.erf, None, "erf_vml_cpu", "ErfBackward0"),
    "erfc": (special.erfc, None, "erfc_vml_cpu", "ErfcBackward0"),
    "erfinv": (special.erfinv, None, "erfinv_vml_cpu", "ErfinvBackward0"),
    "erfcx": (_erfcx, lambda x, y: 2 * x * y - 2 / _ROOT_PI, "erfcx_cpu", "SpecialErfcxBackward0"),
    "ndtr": (special.ndtr, lambda x, y: jnp.exp(-x * x / 2) / math.sqrt(2 * math.pi), "ndtr", "MulBackward0"),
    "ndtri": (special.ndtri, lambda x, y: math.sqrt(2 * math.pi) * jnp.exp(y * y / 2), "ndtri",
              "SpecialNdtriBackward0"),
    "log_ndtr": (special.log_ndtr, None, "log_ndtr", "SpecialLogNdtrBackward0"),
    "lgamma": (special.gammaln, None, "lgamma_vml_cpu", "LgammaBackward0"),
    "digamma": (_digamma, None, "digamma", "DigammaBackward0"),
    "i0": (special.i0, lambda x, y: special.i1(x), "i0_cpu", "I0Backward0"),
    "i0e": (special.i0e, lambda x, y: special.i1e(x) - jnp.sign(x) * y, "i0e_cpu", "SpecialI0EBackward0"),
    "i1": (special.i1, lambda x, y: special.i0(x) - _over(y, x, 0.5), "i1_cpu", "SpecialI1Backward0"),
    "i1e": (special.i1e, lambda x, y: jnp.where(x == 0, 0.5, special.i0e(x) - y * (jnp.sign(x) + _over(1.0, x, 0.0))),
            "i1e_cpu", "SpecialI1EBackward0"),
    "entr": (_entr, lambda x, y: jnp.where(x > 0, -jnp.log(jnp.where(x > 0, x, 1)) - 1,
                                           jnp.where(x == 0, math.inf, math.nan)), "entr", "SpecialEntrBackward0"),
    "logit": (_logit, None, "logit_cpu", "LogitBackward0"),
}  # fmt: skip
