"""Cholesky and QR decompositions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax.numpy as jnp
from jax import lax

from tracegrad._engine.op import Lowering
from tracegrad._engine.trace import record
from tracegrad._engine.value import Aval
from tracegrad._ops import _matrices as m
from tracegrad._ops import _rules as rules
from tracegrad._ops._declare import op
from tracegrad._ops._matrices import adjoint, conjugated, diagonals, products
from tracegrad._ops._out import into
from tracegrad._ops.creation import zeros

if TYPE_CHECKING:
    from tracegrad._tensor import Tensor

_NOT_POSITIVE = ("{batch}The factorization could not be completed because the input is not positive-definite (the "
                 "leading minor of order {i} is not positive-definite).")  # fmt: skip


@m.printed("linalg_cholesky_ex")
class CholeskyEx(NamedTuple):
    """What ``cholesky_ex`` returns."""

    L: Tensor
    info: Tensor


@m.printed("linalg_qr")
class QR(NamedTuple):
    """What ``linalg.qr`` returns."""

    Q: Tensor
    R: Tensor


@m.printed("qr")
class Qr(NamedTuple):
    """What ``qr`` returns."""

    Q: Tensor
    R: Tensor


# -- Cholesky ------------------------------------------------------------------------------------------------


def factor(A: Tensor, *, upper: bool = False, out: Tensor | None = None) -> Tensor:
    """Return the lower triangular ``L`` of ``A = L @ L.mH``, or its adjoint where ``upper``.

    Args:
        A: ``(*, n, n)``, positive-definite; its upper triangle is not read, its lower one where ``upper``.
        upper: whether to return an upper triangular matrix.
        out: where to write the result.

    Raises:
        LinAlgError: where a matrix is not positive-definite.

    See https://docs.pytorch.org/docs/stable/generated/torch.linalg.cholesky.html
    """
    if out is not None:
        return into(out, factor, A, upper=upper)
    return record(_cholesky, ("linalg.cholesky", upper, True), A)[0]  # type: ignore[no-any-return]


@op()
def cholesky(input: Tensor, upper: bool = False, *, out: Tensor | None = None) -> Tensor:
    """Return the lower triangular ``L`` of ``A = L @ L.mH``, or its adjoint where ``upper``: `linalg.cholesky`."""
    if out is not None:
        return into(out, cholesky, input, upper)
    return record(_cholesky, ("cholesky", upper, True), input)[0]  # type: ignore[no-any-return]


def cholesky_ex(A: Tensor, *, upper: bool = False, check_errors: bool = False, out: Any = None) -> CholeskyEx:
    """Return the factor, and for each matrix 0, or the order of the leading minor that is not positive-definite."""
    if out is not None:
        return into(out, cholesky_ex, A, upper=upper, check_errors=check_errors)
    return CholeskyEx._make(record(_cholesky, ("linalg.cholesky_ex", upper, bool(check_errors)), A))


def _cholesky(x: Aval, name: str, upper: bool, checked: bool) -> Lowering:
    old = name == "cholesky"
    m.square("cholesky" if old else "linalg.cholesky", x)
    if not old:
        m.inexact("linalg.cholesky", x)
    m.kernel("cholesky_cpu", x)

    def hermitian(a: Any) -> Any:
        lower = adjoint(a) if upper else a
        strict = jnp.tril(lower, -1)
        diagonal = jnp.diagonal(lower, axis1=-2, axis2=-1)
        made = strict + adjoint(strict) + diagonals(diagonal.real.astype(a.dtype))
        half = 0.5 * (a + adjoint(a))
        return half + lax.stop_gradient(made - half)  # gradients go to both triangles

    def run(a: Any) -> Any:
        return lax.linalg.cholesky(hermitian(a), symmetrize_input=False)

    def outputs(a: Any, lower: Any) -> Any:
        return adjoint(lower) if upper else lower, _failed_minor(lax.stop_gradient(hermitian(a)), lower)

    def fn(a: Any) -> Any:
        return outputs(a, run(a))

    def forward(a: Any) -> tuple[Any, Any]:
        lower = run(a)
        return outputs(a, lower), lower

    def backward(lower: Any, cts: Any) -> Any:
        g = jnp.tril(adjoint(cts[0]) if upper else cts[0])
        phi = jnp.tril(products(adjoint(lower), g))
        phi = 0.5 * (phi + adjoint(jnp.tril(phi, -1)))
        solve = lax.linalg.triangular_solve
        left = solve(lower, phi, left_side=True, lower=True, transpose_a=True, conjugate_a=True)
        return solve(lower, left, left_side=False, lower=True)

    checks = (m.failed(1, x, f"{name}: {_NOT_POSITIVE}"),) if checked else ()
    node = "CholeskyBackward0" if old else "LinalgCholeskyExBackward0"
    return Lowering(fn, forward, conjugated(backward), node, checks=checks)


def _failed_minor(a: Any, lower: Any) -> Any:
    """Return LAPACK's ``info``: the order of the first leading minor that is not positive-definite, or 0.

    It is looked for, by bisection, only where a factorization failed, which JAX says by nan.
    """
    n = a.shape[-1]
    if not n:
        return jnp.zeros(a.shape[:-2], jnp.int32)
    bad = jnp.isnan(lax.stop_gradient(lower)).any((-2, -1))

    def halve(_: Any, bounds: Any) -> Any:
        good, wrong = bounds
        middle = (good + wrong) // 2
        inside = jnp.arange(n) < middle[..., None]
        minor = jnp.where(inside[..., :, None] & inside[..., None, :], a, jnp.eye(n, dtype=a.dtype))
        fails = jnp.isnan(lax.linalg.cholesky(minor, symmetrize_input=False)).any((-2, -1))
        return jnp.where(fails, good, middle), jnp.where(fails, middle, wrong)

    def search() -> Any:
        start = jnp.zeros(bad.shape, jnp.int32), jnp.full(bad.shape, n, jnp.int32)
        return jnp.where(bad, lax.fori_loop(0, max(n - 1, 1).bit_length(), halve, start)[1], 0)

    return lax.cond(bad.any(), search, lambda: jnp.zeros(bad.shape, jnp.int32))


@op()
def cholesky_solve(input: Tensor, input2: Tensor, upper: bool = False, *, out: Tensor | None = None) -> Tensor:
    """Return ``X`` of ``A @ X = input`` by the Cholesky factor ``input2`` of ``A``."""
    if out is not None:
        return into(out, cholesky_solve, input, input2, upper)
    return record(_cholesky_solve, (upper,), input, input2)  # type: ignore[no-any-return]


def _cholesky_solve(b: Aval, a: Aval, upper: bool) -> Lowering:
    if b.ndim < 2:
        raise RuntimeError(f"b should have at least 2 dimensions, but has {b.ndim} dimensions instead")
    if a.ndim < 2:
        raise RuntimeError(f"u should have at least 2 dimensions, but has {a.ndim} dimensions instead")
    if a.shape[-1] != a.shape[-2]:
        raise RuntimeError(f"cholesky_solve: A must be batches of square matrices, but they are {a.shape[-2]} by "
                           f"{a.shape[-1]} matrices")
    if a.shape[-1] != b.shape[-2]:
        raise RuntimeError(f"Incompatible matrix sizes for cholesky_solve: each A matrix is {a.shape[-1]} by "
                           f"{a.shape[-1]} but each b matrix is {b.shape[-2]} by {b.shape[-1]}")
    shape = m.batch(a, b)

    def fn(y: Any, x: Any) -> Any:
        x = jnp.broadcast_to(x, (*shape, *x.shape[-2:]))
        return _by_factor(x, jnp.broadcast_to(y, (*shape, *y.shape[-2:])), upper)

    def forward(y: Any, x: Any) -> tuple[Any, Any]:
        out = fn(y, x)
        return out, (x, out)

    def backward(saved: Any, g: Any) -> Any:
        x, out = saved
        gy = fn(g, x)
        common = products(gy, adjoint(out))
        common = common + adjoint(common)
        gx = -products(x, common) if upper else -products(common, x)
        return rules.unbroadcast(gy, b), rules.unbroadcast(gx, a)

    return Lowering(fn, forward, conjugated(backward), "CholeskySolveBackward0")


def _by_factor(factor: Any, b: Any, upper: bool) -> Any:
    solve = lax.linalg.triangular_solve
    lower = adjoint(jnp.triu(factor)) if upper else jnp.tril(factor)
    half = solve(lower, b, left_side=True, lower=True)
    return solve(lower, half, left_side=True, lower=True, transpose_a=True, conjugate_a=True)


@op()
def cholesky_inverse(input: Tensor, upper: bool = False, *, out: Tensor | None = None) -> Tensor:
    """Return the inverse of the matrix whose Cholesky factor is ``input``."""
    if out is not None:
        return into(out, cholesky_inverse, input, upper)
    return record(_cholesky_inverse, (upper,), input)[0]  # type: ignore[no-any-return]


def _cholesky_inverse(x: Aval, upper: bool) -> Lowering:
    m.square("cholesky_inverse", x)
    m.kernel("cholesky_inverse_out_cpu", x)

    def fn(a: Any) -> Any:
        eye = jnp.broadcast_to(jnp.eye(a.shape[-1], dtype=a.dtype), a.shape)
        return _by_factor(a, eye, upper), m.first_zero(lax.stop_gradient(a))

    def forward(a: Any) -> tuple[Any, Any]:
        outs = fn(a)
        return outs, (a, outs[0])

    def backward(saved: Any, cts: Any) -> Any:
        a, inverse = saved
        common = products(inverse, cts[0] + adjoint(cts[0]), inverse)
        return -products(a, common) if upper else -products(common, a)

    text = ("cholesky_inverse: {batch}The diagonal element {i} is zero, the inversion could not be completed because "
            "the input matrix is singular.")  # fmt: skip
    return Lowering(fn, forward, conjugated(backward), "CholeskyInverseBackward0", checks=(m.failed(1, x, text),))


# -- QR ------------------------------------------------------------------------------------------------------


def orthogonal(A: Tensor, mode: str = "reduced", *, out: Any = None) -> QR:
    """Return ``Q``, whose columns are orthonormal, and the upper triangular ``R`` of ``A = Q @ R``.

    Args:
        A: ``(*, m, n)``.
        mode: ``"reduced"`` for ``Q`` of ``(*, m, min(m, n))``, ``"complete"`` for ``(*, m, m)``, ``"r"`` for an empty
            ``Q``.
        out: where to write the results.

    See https://docs.pytorch.org/docs/stable/generated/torch.linalg.qr.html
    """
    if out is not None:
        return into(out, orthogonal, A, mode)
    q, r = record(_qr, (mode,), A)
    return QR(zeros(0, dtype=A.dtype, device=A.device) if mode == "r" else q, r)


@op()
def qr(input: Tensor, some: bool = True, *, out: Any = None) -> Qr:
    """Return ``Q`` and ``R`` as `linalg.qr` does, complete where not ``some``."""
    if out is not None:
        return into(out, qr, input, some)
    return Qr._make(record(_qr, ("reduced" if some else "complete",), input))


def _qr(x: Aval, mode: str) -> Lowering:
    if mode not in ("reduced", "complete", "r"):
        raise RuntimeError(f"qr received unrecognized mode '{mode}' but expected one of 'reduced' (default), 'r', or "
                           "'complete'")
    m.matrices("linalg.qr", x)
    m.inexact("linalg.qr", x)
    m.kernel("geqrf_cpu", x)
    rows, columns = x.shape[-2:]

    def fn(a: Any) -> Any:
        if rows >= columns:
            return tuple(jnp.linalg.qr(a, "complete" if mode == "complete" else "reduced"))
        q, r = jnp.linalg.qr(a[..., :rows])
        return q, jnp.concatenate([r, products(adjoint(q), a[..., rows:])], -1)

    if mode == "r" or (mode == "complete" and rows > columns):
        return Lowering(fn, lambda a: (fn(lax.stop_gradient(a)), None), lambda saved, cts: (None,),
                        "LinalgQrBackward0", underived="linalg_qr")  # fmt: skip
    return Lowering(fn, name="LinalgQrBackward0")


def householder_product(A: Tensor, tau: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return the first columns of the product of Householder reflections, as LAPACK's ``geqrf`` writes them.

    Args:
        A: ``(*, m, n)``, ``n <= m``: below the diagonal, the vectors of the reflections.
        tau: ``(*, k)``, ``k <= n``: their factors.
        out: where to write the result.
    """
    if out is not None:
        return into(out, householder_product, A, tau)
    return record(_householder_product, (), A, tau)  # type: ignore[no-any-return]


def _householder_product(x: Aval, tau: Aval) -> Lowering:
    name = "torch.linalg.householder_product"
    if x.ndim < 2:
        raise RuntimeError(f"{name}: input must have at least 2 dimensions.")
    if x.shape[-2] < x.shape[-1]:
        raise RuntimeError(f"{name}: input.shape[-2] must be greater than or equal to input.shape[-1]")
    if tau.ndim < 1 or x.shape[-1] < tau.shape[-1]:
        raise RuntimeError(f"{name}: input.shape[-1] must be greater than or equal to tau.shape[-1]")
    m.kernel("orgqr_cpu", x)

    def fn(a: Any, t: Any) -> Any:
        rows, columns = a.shape[-2:]
        q = jnp.broadcast_to(jnp.eye(rows, columns, dtype=a.dtype), a.shape)
        for i in reversed(range(t.shape[-1])):
            v = jnp.concatenate([jnp.zeros((*a.shape[:-2], i), a.dtype), jnp.ones((*a.shape[:-2], 1), a.dtype),
                                 a[..., i + 1 :, i]], -1)[..., None]  # fmt: skip
            q = q - t[..., i, None, None] * v * products(adjoint(v), q)
        return q

    return Lowering(fn, name="HouseholderProductBackward0")
