"""What singular values tell: pseudoinverses, ranks, least squares."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax

from tracegrad import _dtype
from tracegrad._dtype import type_name
from tracegrad._engine.op import Lowering
from tracegrad._engine.trace import record
from tracegrad._engine.value import Aval
from tracegrad._ops import _matrices as m
from tracegrad._ops._declare import op
from tracegrad._ops._matrices import adjoint, diagonals, products
from tracegrad._ops._out import into
from tracegrad._ops.creation import zeros
from tracegrad._ops.spectra import not_finite

if TYPE_CHECKING:
    from tracegrad._tensor import Tensor


@m.printed("linalg_lstsq")
class Lstsq(NamedTuple):
    """What ``lstsq`` returns."""

    solution: Tensor
    residuals: Tensor
    rank: Tensor
    singular_values: Tensor


def pinv(A: Tensor, rcond: Any = None, hermitian: bool = False, *, atol: Any = None, rtol: Any = None,
         out: Tensor | None = None) -> Tensor:  # fmt: skip
    """Return the Moore-Penrose inverses: singular values up to ``max(atol, rtol * largest)`` count as zeros.

    Args:
        A: ``(*, m, n)``.
        rcond: the old name of ``rtol``.
        hermitian: whether the matrices are Hermitian, of which the lower triangle is read.
        atol: 0 when None.
        rtol: the dtype's epsilon times the larger of ``m`` and ``n`` when None and ``atol`` is None or 0.
        out: where to write the result.

    See https://docs.pytorch.org/docs/stable/generated/torch.linalg.pinv.html
    """
    if out is not None:
        return into(out, pinv, A, rcond, hermitian, atol=atol, rtol=rtol)
    params, bounds = _tolerances(atol, rcond if rtol is None else rtol)
    return record(_pinv, (hermitian, *params), A, *bounds)  # type: ignore[no-any-return]


@op()
def pinverse(input: Tensor, rcond: float = 1e-15) -> Tensor:
    """Return the Moore-Penrose inverses: `linalg.pinv` with a relative bound of 1e-15."""
    return pinv(input, rcond)


def _tolerances(atol: Any, rtol: Any) -> tuple[tuple[bool, bool], list[Any]]:
    """Return which of both bounds are given, and those."""
    return (atol is not None, rtol is not None), [t for t in (atol, rtol) if t is not None]


def _cutoff(x: Aval, largest: Any, absolute: bool, relative: bool, given: tuple[Any, ...]) -> Any:
    """Return the singular value up to which one counts as zero."""
    rest = list(given)
    atol = jnp.asarray(rest.pop(0)) if absolute else jnp.zeros(())
    default = max(x.shape[-2:]) * float(np.finfo(_dtype.to_real(x.dtype).np).eps)
    rtol = jnp.asarray(rest.pop(0)) if relative else jnp.where(atol > 0, 0.0, default)
    return jnp.maximum(atol[..., None], rtol[..., None] * largest).astype(largest.dtype)


def _pinv(x: Aval, *rest: Any) -> Lowering:
    *_, hermitian, absolute, relative = rest
    if x.ndim < 2 or not x.dtype.is_inexact or x.dtype.itemsize == 2:
        raise RuntimeError(f"linalg.pinv({type_name(x.dtype)}{{{list(x.shape)}}}): expected a tensor with 2 or more "
                           "dimensions of float, double, cfloat or cdouble types")
    if hermitian:
        m.square("linalg.pinv", x)

    def fn(a: Any, *bounds: Any) -> Any:
        if hermitian:
            lower = jnp.tril(a, -1)
            whole = lower + adjoint(lower) + diagonals(jnp.diagonal(a, axis1=-2, axis2=-1))
            a = a + lax.stop_gradient(whole - a)
        if 0 in a.shape[-2:]:
            return jnp.swapaxes(a, -1, -2)
        if absolute:
            sizes = jnp.linalg.svd(lax.stop_gradient(a), compute_uv=False)
            largest = jnp.max(sizes, -1, keepdims=True)
            relative_to = _cutoff(x, largest, absolute, relative, bounds) / jnp.where(largest == 0, 1, largest)
            return jnp.linalg.pinv(a, rtol=relative_to[..., 0], hermitian=hermitian)
        bound = _cutoff(x, jnp.ones((1,), _dtype.to_real(x.dtype).np), False, relative, bounds)[..., 0]
        return jnp.linalg.pinv(a, rtol=bound, hermitian=hermitian)

    return Lowering(fn, name="LinalgPinvBackward0", checks=(m.finite(0, not_finite),))


def matrix_rank(A: Tensor, tol: Any = None, hermitian: bool = False, *, atol: Any = None, rtol: Any = None,
                out: Tensor | None = None) -> Tensor:  # fmt: skip
    """Return how many singular values are larger than ``max(atol, rtol * largest)``, as int64.

    The bounds are those of `pinv`; ``tol`` is the old name of ``atol``.
    """
    if out is not None:
        return into(out, matrix_rank, A, tol, hermitian, atol=atol, rtol=rtol)
    params, bounds = _tolerances(tol if atol is None else atol, 0.0 if rtol is None and tol is not None else rtol)
    return record(_matrix_rank, (hermitian, *params), A, *bounds)  # type: ignore[no-any-return]


def _matrix_rank(x: Aval, *rest: Any) -> Lowering:
    *_, hermitian, absolute, relative = rest
    m.matrices("torch.linalg.matrix_rank", x, "input")
    if not x.dtype.is_inexact or x.dtype.itemsize == 2:
        raise RuntimeError("This function doesn't handle types other than float and double")

    def fn(a: Any, *bounds: Any) -> Any:
        if 0 in a.shape[-2:]:
            return jnp.zeros(a.shape[:-2], jnp.int64)
        sizes = abs(jnp.linalg.eigvalsh(a)) if hermitian else jnp.linalg.svd(a, compute_uv=False)
        bound = _cutoff(x, jnp.max(sizes, -1, keepdims=True), absolute, relative, bounds)
        return jnp.sum(sizes > bound, -1).astype(jnp.int64)

    return Lowering(fn, differentiable=False)


def lstsq(A: Tensor, B: Tensor, rcond: float | None = None, *, driver: str | None = None) -> Lstsq:
    """Return the ``X`` of least ``norm(A @ X - B)``, and among these of least norm.

    Args:
        A: ``(*, m, n)``.
        B: ``(*, m, k)``, or ``(*, m)`` where ``A`` has one dim more.
        rcond: singular values up to this part of the largest count as zeros; the dtype's epsilon times the larger of
            ``m`` and ``n`` when None.
        driver: LAPACK's way, ``"gelsy"``, ``"gels"``, ``"gelsd"`` or ``"gelss"``: it says which of the other results
            are filled. All give one solution here.

    Returns:
        The solution; the squared residuals where ``m > n`` (not by ``"gelsy"``); the ranks of ``A`` (not by
        ``"gels"``); the singular values (by ``"gelsd"`` and ``"gelss"``). What is not filled is empty.

    See https://docs.pytorch.org/docs/stable/generated/torch.linalg.lstsq.html
    """
    driver = "gelsy" if driver is None else driver
    if driver not in ("gelsy", "gels", "gelsd", "gelss"):
        raise RuntimeError("torch.linalg.lstsq: parameter `driver` should be one of (gels, gelsy, gelsd, gelss)")
    solution, residuals, rank, sizes = record(_lstsq, () if rcond is None else (float(rcond),), A, B)
    rows, columns = A.shape[-2:]
    empty = zeros(0, dtype=sizes.dtype, device=A.device)
    return Lstsq(
        solution,
        residuals if rows > columns and driver != "gelsy" else empty,
        zeros(0, dtype=_dtype.int64, device=A.device) if driver == "gels" else rank,
        sizes if driver in ("gelsd", "gelss") else empty,
    )


def _lstsq(a: Aval, b: Aval, rcond: float | None = None) -> Lowering:
    if a.ndim < 2:
        raise RuntimeError("torch.linalg.lstsq: input must have at least 2 dimensions.")
    if b.ndim < 1:
        raise RuntimeError("torch.linalg.lstsq: other must have at least 1 dimension.")
    vector = a.ndim - 1 == b.ndim and b.shape == a.shape[:-1]
    if a.shape[-2] != b.shape[-1 if vector else -2]:
        raise RuntimeError(f"torch.linalg.lstsq: input.size(-2) should match other.size({-1 if vector else -2})")
    if not a.dtype.is_inexact or a.dtype.itemsize == 2:
        raise RuntimeError("This function doesn't handle types other than float and double")
    if a.dtype is not b.dtype:
        raise RuntimeError("torch.linalg.lstsq: Expected input and other to have the same dtype, but got input's dtype "
                           f"{type_name(a.dtype)} and other's dtype {type_name(b.dtype)}")
    eps = float(np.finfo(_dtype.to_real(a.dtype).np).eps)
    bound = eps * max(a.shape[-2:]) if rcond is None else rcond

    def fn(x: Any, y: Any) -> Any:
        y = y[..., None] if vector else y
        found = products(jnp.linalg.pinv(x, rtol=bound), y)
        off = lax.stop_gradient(products(x, found) - y)
        sizes = jnp.linalg.svd(lax.stop_gradient(x), compute_uv=False)
        rank = jnp.sum(sizes > bound * jnp.max(sizes, -1, keepdims=True), -1).astype(jnp.int64)
        return found[..., 0] if vector else found, jnp.sum(abs(off) ** 2, -2), rank, sizes

    return Lowering(fn, name="LinalgLstsqBackward0")
