"""Singular values and eigenvalues.

NOTE [Gauges] Vectors are determined up to signs or phases, and up to any rotation where values repeat. Gradients are
PyTorch's: right for functions that do not depend on that choice, infinite or nan for vectors of repeated values. Values
alone have gradients everywhere. JAX has no derivative for some of these, and nan for others, so their backwards are
written here, with PyTorch's gradients (see NOTE [Conjugates] in `tape.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax

from tracegrad._dtype import type_name
from tracegrad._engine.op import Lowering
from tracegrad._engine.trace import record
from tracegrad._engine.value import Aval
from tracegrad._errors import LinAlgError
from tracegrad._ops import _matrices as m
from tracegrad._ops._declare import op
from tracegrad._ops._matrices import adjoint, conjugated, diagonals, products
from tracegrad._ops._out import into
from tracegrad._ops.creation import zeros

if TYPE_CHECKING:
    from tracegrad._tensor import Tensor


@m.printed("linalg_svd")
class SVD(NamedTuple):
    """What ``linalg.svd`` returns."""

    U: Tensor
    S: Tensor
    Vh: Tensor


@m.printed("svd")
class Svd(NamedTuple):
    """What ``svd`` returns."""

    U: Tensor
    S: Tensor
    V: Tensor


@m.printed("linalg_eigh")
class Eigh(NamedTuple):
    """What ``eigh`` returns."""

    eigenvalues: Tensor
    eigenvectors: Tensor


@m.printed("linalg_eig")
class Eig(NamedTuple):
    """What ``eig`` returns."""

    eigenvalues: Tensor
    eigenvectors: Tensor


# -- singular values -----------------------------------------------------------------------------------------


def singular(A: Tensor, full_matrices: bool = True, *, driver: str | None = None, out: Any = None) -> SVD:
    """Return ``U``, ``S`` and ``Vh`` of ``A = U @ diag(S) @ Vh``; ``S`` descends.

    Args:
        A: ``(*, m, n)``.
        full_matrices: whether ``U`` and ``Vh`` are square, rather than of ``min(m, n)`` columns and rows.
        driver: of no meaning here.
        out: where to write the results.

    Raises:
        LinAlgError: where a matrix has nan or infinities.

    See https://docs.pytorch.org/docs/stable/generated/torch.linalg.svd.html
    """
    if out is not None:
        return into(out, singular, A, full_matrices)
    if driver is not None:
        raise RuntimeError("torch.linalg.svd: keyword argument `driver=` is only supported on CUDA inputs with "
                           "cuSOLVER backend.")
    return SVD._make(record(_svd, (full_matrices,), A))


@op()
def svd(input: Tensor, some: bool = True, compute_uv: bool = True, *, out: Any = None) -> Svd:
    """Return ``U``, ``S`` and ``V`` of ``A = U @ diag(S) @ V.mH``; zeros for ``U`` and ``V`` unless ``compute_uv``."""
    if out is not None:
        return into(out, svd, input, some, compute_uv)
    if input.ndim < 2:
        raise RuntimeError(f"linalg.svd: input should have at least 2 dimensions, but has {input.ndim} dimensions "
                           "instead")
    if not compute_uv:
        rows, columns = input.shape[-2:]
        shape = tuple(input.shape[:-2])
        made = [zeros(*shape, n, n, dtype=input.dtype, device=input.device) for n in (rows, columns)]
        return Svd(made[0], svdvals(input), made[1])
    u, s, vh = singular(input, not some)
    return Svd(u, s, vh.mH)


def svdvals(A: Tensor, *, driver: str | None = None, out: Tensor | None = None) -> Tensor:
    """Return the singular values, descending."""
    if out is not None:
        return into(out, svdvals, A)
    return record(_svdvals, (), A)  # type: ignore[no-any-return]


def not_finite() -> Exception:
    """Return the error of a matrix with nan or infinities."""
    return LinAlgError("linalg.svd: The algorithm failed to converge because the input matrix contained non-finite "
                       "values.")


def _svd_taken(x: Aval) -> None:
    m.matrices("linalg.svd", x)
    m.inexact("linalg.svd", x)
    m.kernel("linalg_svd_cpu", x)


def _svd(x: Aval, full: bool) -> Lowering:
    _svd_taken(x)
    rows, columns = x.shape[-2:]
    k = min(rows, columns)

    def fn(a: Any) -> Any:
        return tuple(jnp.linalg.svd(a, full_matrices=full))

    def forward(a: Any) -> tuple[Any, Any]:
        if not full or rows == columns:
            outs = fn(a)
            return outs, outs
        # JAX cannot differentiate the full matrices, which the backward of a backward would need.
        return fn(lax.stop_gradient(a)), tuple(jnp.linalg.svd(a, full_matrices=False))

    def backward(saved: Any, cts: Any) -> Any:
        u, s, vh = saved
        gu, gs, gvh = cts[0][..., :k], cts[1], cts[2][..., :k, :]
        left, right = products(adjoint(u), gu), products(vh, adjoint(gvh))
        left, right = left - adjoint(left), right - adjoint(right)
        between = s[..., None, :] ** 2 - s[..., :, None] ** 2
        numerator = left * s[..., None, :] + s[..., :, None] * right
        off = ~np.eye(k, dtype=bool)
        # Where nothing flows to the vectors, repeated values do no harm.
        inner = jnp.where(off & (numerator != 0), numerator / jnp.where(off & (numerator != 0), between, 1), 0)
        inner = inner + diagonals(gs.astype(u.dtype))
        if jnp.iscomplexobj(u):
            inner = inner + diagonals(1j * jnp.diagonal(left, axis1=-2, axis2=-1).imag / (2 * s))
        if rows > k:
            scaled = gu / s[..., None, :]
            found = products(u, inner) + scaled - products(u, products(adjoint(u), scaled))
            return products(found, vh)
        found = products(u, inner, vh)
        if columns > k:
            scaled = gvh / s[..., :, None]
            found = found + products(u, scaled - products(products(scaled, adjoint(vh)), vh))
        return found

    return Lowering(fn, forward, conjugated(backward), "LinalgSvdBackward0", checks=(m.finite(0, not_finite),))


def _svdvals(x: Aval) -> Lowering:
    _svd_taken(x)

    def fn(a: Any) -> Any:
        return jnp.linalg.svd(a, compute_uv=False)

    def forward(a: Any) -> tuple[Any, Any]:
        u, s, vh = jnp.linalg.svd(a, full_matrices=False)
        return s, (u, vh)

    def backward(saved: Any, g: Any) -> Any:
        u, vh = saved
        return products(u * g[..., None, :], vh)

    return Lowering(fn, forward, conjugated(backward), "LinalgSvdBackward0", checks=(m.finite(0, not_finite),))


# -- eigenvalues ---------------------------------------------------------------------------------------------


def eigh(A: Tensor, UPLO: str = "L", *, out: Any = None) -> Eigh:
    """Return the eigenvalues, ascending, and eigenvectors of Hermitian matrices, of which one triangle is read.

    Args:
        A: ``(*, n, n)``.
        UPLO: ``"L"`` to read the lower triangle, ``"U"`` the upper one.
        out: where to write the results.

    See https://docs.pytorch.org/docs/stable/generated/torch.linalg.eigh.html
    """
    if out is not None:
        return into(out, eigh, A, UPLO)
    return Eigh._make(record(_eigh, (UPLO,), A))


def eigvalsh(A: Tensor, UPLO: str = "L", *, out: Tensor | None = None) -> Tensor:
    """Return the eigenvalues of Hermitian matrices, ascending."""
    if out is not None:
        return into(out, eigvalsh, A, UPLO)
    return record(_eigvalsh, (UPLO,), A)  # type: ignore[no-any-return]


def _hermitian(x: Aval, uplo: str) -> Callable[[Any], Any]:
    """Check the operand of `eigh` and return what makes it Hermitian from one triangle."""
    m.square("linalg.eigh", x)
    if not isinstance(uplo, str) or uplo.upper() not in ("L", "U"):
        raise RuntimeError(f"Expected UPLO argument to be 'L' or 'U', but got {uplo}")
    m.kernel("linalg_eigh_cpu", x)

    def whole(a: Any) -> Any:
        strict = jnp.tril(a, -1) if uplo.upper() == "L" else adjoint(jnp.triu(a, 1))
        made = strict + adjoint(strict) + diagonals(jnp.diagonal(a, axis1=-2, axis2=-1).real.astype(a.dtype))
        return a + lax.stop_gradient(made - a)  # gradients are those of Hermitian matrices, and go to both triangles

    return whole


def _eigh(x: Aval, uplo: str) -> Lowering:
    whole = _hermitian(x, uplo)

    def fn(a: Any) -> Any:
        vectors, values = lax.linalg.eigh(whole(a), symmetrize_input=False)
        return values, vectors

    def forward(a: Any) -> tuple[Any, Any]:
        outs = fn(a)
        return outs, outs

    def backward(saved: Any, cts: Any) -> Any:
        values, vectors = saved
        flow = products(adjoint(vectors), cts[1])
        numerator = 0.5 * (flow - adjoint(flow))
        off = ~np.eye(x.shape[-1], dtype=bool) & (numerator != 0)
        between = values[..., None, :] - values[..., :, None]
        inner = jnp.where(off, numerator / jnp.where(off, between, 1), 0) + diagonals(cts[0].astype(vectors.dtype))
        return products(vectors, inner, adjoint(vectors))

    return Lowering(fn, forward, conjugated(backward), "LinalgEighBackward0")


def _eigvalsh(x: Aval, uplo: str) -> Lowering:
    whole = _hermitian(x, uplo)

    def fn(a: Any) -> Any:
        return jnp.linalg.eigvalsh(whole(a), symmetrize_input=False)

    def forward(a: Any) -> tuple[Any, Any]:
        vectors, values = lax.linalg.eigh(whole(a), symmetrize_input=False)
        return values, vectors

    def backward(vectors: Any, g: Any) -> Any:
        return products(vectors * g[..., None, :], adjoint(vectors))

    return Lowering(fn, forward, conjugated(backward), "LinalgEighBackward0")


def eig(A: Tensor, *, out: Any = None) -> Eig:
    """Return the eigenvalues and eigenvectors of square matrices, complex, in no order.

    Raises:
        RuntimeError: where a matrix has nan or infinities.

    See https://docs.pytorch.org/docs/stable/generated/torch.linalg.eig.html
    """
    if out is not None:
        return into(out, eig, A)
    return Eig._make(record(_eig, ("linalg.eig",), A))


def eigvals(A: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return the eigenvalues of square matrices, complex, in no order."""
    if out is not None:
        return into(out, eigvals, A)
    return record(_eig, ("linalg.eigvals",), A)[0]  # type: ignore[no-any-return]


def _eig(x: Aval, name: str) -> Lowering:
    m.square(name, x)
    if not x.dtype.is_inexact:
        raise RuntimeError(f"Unknown Complex ScalarType for {type_name(x.dtype)}")
    m.kernel("linalg_eig_out_cpu", x)

    def fn(a: Any) -> Any:
        return tuple(jnp.linalg.eig(a))

    def forward(a: Any) -> tuple[Any, Any]:
        outs = fn(a)
        return outs, outs

    def backward(saved: Any, cts: Any) -> Any:
        values, vectors = saved
        own = adjoint(vectors)
        flow = products(own, cts[1])
        lengths = jnp.diagonal(flow, axis1=-2, axis2=-1).real[..., None, :]
        numerator = flow - products(own, vectors * lengths)
        off = ~np.eye(x.shape[-1], dtype=bool) & (numerator != 0)
        between = jnp.conj(values[..., None, :] - values[..., :, None])
        inner = jnp.where(off, numerator / jnp.where(off, between, 1), 0) + diagonals(cts[0])
        found = m.solved(own, products(inner, own))[0]
        return found if x.dtype.is_complex else found.real

    def error() -> Exception:
        return RuntimeError("torch.linalg.eig: input tensor should not contain infs or NaNs.")

    return Lowering(fn, forward, conjugated(backward), "LinalgEigBackward0", checks=(m.finite(0, error),))
