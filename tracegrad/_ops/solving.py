"""Linear systems: inverses, solutions, determinants, LU decompositions."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import jax.numpy as jnp
from jax import lax

from tracegrad import _dtype
from tracegrad._dtype import DType, type_name
from tracegrad._engine.op import Lowering
from tracegrad._engine.trace import record
from tracegrad._engine.value import Aval
from tracegrad._ops import _matrices as m
from tracegrad._ops._declare import op
from tracegrad._ops._out import into
from tracegrad._ops.linalg import product

if TYPE_CHECKING:
    from tracegrad._tensor import Tensor

_SINGULAR = ("{batch}The diagonal element {i} is zero, the inversion could not be completed because the input matrix "
             "is singular.")  # fmt: skip


@m.printed("linalg_inv_ex")
class InvEx(NamedTuple):
    """What ``inv_ex`` returns."""

    inverse: Tensor
    info: Tensor


@m.printed("linalg_solve_ex")
class SolveEx(NamedTuple):
    """What ``solve_ex`` returns."""

    result: Tensor
    info: Tensor


@m.printed("linalg_slogdet")
class SignLogdet(NamedTuple):
    """What ``linalg.slogdet`` returns."""

    sign: Tensor
    logabsdet: Tensor


@m.printed("slogdet")
class Slogdet(NamedTuple):
    """What ``slogdet`` returns."""

    sign: Tensor
    logabsdet: Tensor


@m.printed("linalg_lu")
class Lu(NamedTuple):
    """What ``lu`` returns."""

    P: Tensor
    L: Tensor
    U: Tensor


@m.printed("linalg_lu_factor")
class LuFactor(NamedTuple):
    """What ``lu_factor`` returns."""

    LU: Tensor
    pivots: Tensor


@m.printed("linalg_lu_factor_ex")
class LuFactorEx(NamedTuple):
    """What ``lu_factor_ex`` returns."""

    LU: Tensor
    pivots: Tensor
    info: Tensor


# -- inverses and solutions ----------------------------------------------------------------------------------


def inv(A: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return the inverses of square matrices.

    Args:
        A: ``(*, n, n)``, floating point or complex.
        out: where to write the result.

    Raises:
        LinAlgError: where a matrix is singular.

    See https://docs.pytorch.org/docs/stable/generated/torch.linalg.inv.html

    Example:
        >>> import tracegrad as torch
        >>> torch.linalg.inv(torch.tensor([[2.0, 0.0], [0.0, 4.0]])).tolist()
        [[0.5, 0.0], [0.0, 0.25]]
    """
    if out is not None:
        return into(out, inv, A)
    return record(_inv, ("linalg.inv", True), A)[0]  # type: ignore[no-any-return]


def inv_ex(A: Tensor, *, check_errors: bool = False, out: Any = None) -> InvEx:
    """Return the inverses, and for each matrix 0, or the place of the zero that makes it singular."""
    if out is not None:
        return into(out, inv_ex, A, check_errors=check_errors)
    return InvEx._make(record(_inv, ("linalg.inv_ex", bool(check_errors)), A))


def _inv(x: Aval, name: str, checked: bool) -> Lowering:
    m.square("linalg.inv", x)
    m.precise("linalg.inv", x)

    def fn(a: Any) -> Any:
        return m.solved(a, jnp.eye(a.shape[-1], dtype=a.dtype))

    checks = (m.failed(1, x, f"{name}: {_SINGULAR}"),) if checked else ()
    return Lowering(fn, name="LinalgInvExBackward0", checks=checks)


@op()
def inverse(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return the inverses of square matrices: `linalg.inv`."""
    return inv(input, out=out)


def solve(A: Tensor, B: Tensor, *, left: bool = True, out: Tensor | None = None) -> Tensor:
    """Return ``X`` of ``A @ X = B``, or of ``X @ A = B`` where not ``left``.

    Args:
        A: ``(*, n, n)``.
        B: matrices ``(*, n, k)``, or vectors: ``(n,)``, or of the shape of ``A`` without its last dim.
        left: which side ``A`` stands on.
        out: where to write the result.

    Raises:
        LinAlgError: where a matrix is singular.

    See https://docs.pytorch.org/docs/stable/generated/torch.linalg.solve.html
    """
    if out is not None:
        return into(out, solve, A, B, left=left)
    return record(_solve, (left, True), A, B)[0]  # type: ignore[no-any-return]


def solve_ex(A: Tensor, B: Tensor, *, left: bool = True, check_errors: bool = False, out: Any = None) -> SolveEx:
    """Return what `solve` does, and for each matrix 0, or the place of the zero that makes it singular."""
    if out is not None:
        return into(out, solve_ex, A, B, left=left, check_errors=check_errors)
    return SolveEx._make(record(_solve, (left, bool(check_errors)), A, B))


def _is_vector(a: Aval, b: Aval) -> bool:
    return b.ndim == 1 or (a.ndim - 1 == b.ndim and b.shape == a.shape[:-1])


def _solve(a: Aval, b: Aval, left: bool, checked: bool) -> Lowering:
    m.inexact("linalg.solve", a)
    m.square("linalg.solve", a)
    if a.dtype is not b.dtype:
        raise RuntimeError(f"linalg.solve: Expected A and B to have the same dtype, but found A of type "
                           f"{type_name(a.dtype)} and B of type {type_name(b.dtype)} instead")
    vector = _is_vector(a, b)
    if vector and not left:
        raise RuntimeError("linalg.solve: Vector broadcasting of the left hand side is not supported for left=False. "
                           "In this case linalg.solve is equivalent to B / A.squeeze(-1)")
    shape = (*b.shape, 1) if vector else b.shape
    if len(shape) < 2 or shape[-2 if left else -1] != a.shape[-1]:
        equation = "AX = B" if left else "XA = B"
        raise RuntimeError(f"linalg.solve: Incompatible shapes of A and B for the equation {equation} "
                           f"({a.shape[-2]}x{a.shape[-1]} and {shape[-2]}x{shape[-1]})")
    m.kernel("lu_cpu", a)

    def fn(x: Any, y: Any) -> Any:
        if vector:
            found, info = m.solved(x, y[..., None])
            return found[..., 0], info
        if left:
            return m.solved(x, y)
        found, info = m.solved(jnp.swapaxes(x, -1, -2), jnp.swapaxes(y, -1, -2))
        return jnp.swapaxes(found, -1, -2), info

    text = "torch.linalg.solve: {batch}The solver failed because the input matrix is singular."
    return Lowering(fn, name="LinalgSolveExBackward0", checks=(m.failed(1, a, text),) if checked else ())


def solve_triangular(A: Tensor, B: Tensor, *, upper: bool, left: bool = True, unitriangular: bool = False,
                     out: Tensor | None = None) -> Tensor:  # fmt: skip
    """Return ``X`` of ``A @ X = B`` (``X @ A = B`` where not ``left``) for triangular ``A``.

    Its other half is not read. Zeros on the diagonal give infinities and nan, no error.
    """
    if out is not None:
        return into(out, solve_triangular, A, B, upper=upper, left=left,
                    unitriangular=unitriangular)  # fmt: skip
    return record(_solve_triangular, (upper, left, unitriangular), A, B)  # type: ignore[no-any-return]


def _solve_triangular(a: Aval, b: Aval, upper: bool, left: bool, unit: bool) -> Lowering:
    name = "linalg.solve_triangular"
    if a.dtype is not b.dtype:
        raise RuntimeError(f"{name}: Expected A and B to have the same dtype, but found A of type "
                           f"{type_name(a.dtype)} and B of type {type_name(b.dtype)} instead")
    m.square(name, a)
    m.matrices(name, b, "B")
    if a.shape[-1] != b.shape[-2 if left else -1]:
        raise RuntimeError(f"{name}: Incompatible shapes of A and B for the equation {'AX = B' if left else 'XA = B'} "
                           f"({a.shape[-2]}x{a.shape[-1]} and {b.shape[-2]}x{b.shape[-1]})")
    m.kernel("triangular_solve_cpu", a)
    shape = m.batch(a, b)

    def fn(x: Any, y: Any) -> Any:
        x = jnp.broadcast_to(jnp.triu(x) if upper else jnp.tril(x), (*shape, *x.shape[-2:]))
        y = jnp.broadcast_to(y, (*shape, *y.shape[-2:]))
        return lax.linalg.triangular_solve(x, y, left_side=left, lower=not upper, unit_diagonal=unit)

    return Lowering(fn, name="LinalgSolveTriangularBackward0")


def tensorinv(A: Tensor, ind: int = 2, *, out: Tensor | None = None) -> Tensor:
    """Return the inverse of `tensordot` with ``A`` over its last dims; its first ``ind`` dims are the rows."""
    if out is not None:
        return into(out, tensorinv, A, ind)
    if ind <= 0:
        raise RuntimeError("Expected a strictly positive integer for 'ind'")
    shape = tuple(A.shape)
    rows, columns = math.prod(shape[:ind]), math.prod(shape[ind:])
    if rows != columns:
        raise RuntimeError("Expected self to satisfy the requirement prod(self.shape[ind:]) == "
                           f"prod(self.shape[:ind]), but got {columns} != {rows}")
    return inv(A.reshape(rows, columns)).reshape(shape[ind:] + shape[:ind])


def tensorsolve(A: Tensor, B: Tensor, dims: tuple[int, ...] | None = None, *, out: Tensor | None = None) -> Tensor:
    """Return ``X`` of ``tensordot(A, X, X.ndim) = B``; ``dims`` of ``A`` are moved to its end first."""
    if out is not None:
        return into(out, tensorsolve, A, B, dims)
    if dims is not None:
        A = A.movedim(tuple(dims), tuple(range(A.ndim - len(dims), A.ndim)))
    rest = tuple(A.shape[B.ndim :])
    columns, rows = math.prod(rest), B.numel()
    if columns != rows:
        raise RuntimeError("Expected self to satisfy the requirement prod(self.shape[other.ndim:]) == "
                           f"prod(self.shape[:other.ndim]), but got {columns} != {rows}")
    return solve(A.reshape(rows, columns), B.reshape(-1)).reshape(rest)


# -- determinants --------------------------------------------------------------------------------------------


@op()
def det(A: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return the determinants of square matrices.

    Example:
        >>> import tracegrad as torch
        >>> torch.det(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
        tensor(-2.)
    """
    if out is not None:
        return into(out, det, A)
    return record(_det, (), A)  # type: ignore[no-any-return]


def _det(x: Aval) -> Lowering:
    m.square("linalg.det", x)
    m.inexact("linalg.det", x)
    m.kernel("lu_cpu", x)

    def fn(a: Any) -> Any:
        return jnp.linalg.det(a)

    return Lowering(fn, name="LinalgDetBackward0")


def sign_and_logarithm(A: Tensor, *, out: Any = None) -> SignLogdet:
    """Return the sign of the determinants and the logarithm of their size: 0 and -inf of singular matrices."""
    if out is not None:
        return into(out, sign_and_logarithm, A)
    return SignLogdet._make(record(_slogdet, ("linalg.slogdet",), A))


@op()
def slogdet(input: Tensor, *, out: Any = None) -> Slogdet:
    """Return the sign of the determinants and the logarithm of their size: 0 and -inf of singular matrices."""
    if out is not None:
        return into(out, slogdet, input)
    return Slogdet._make(record(_slogdet, ("linalg.slogdet",), input))


def _slogdet(x: Aval, name: str) -> Lowering:
    m.square(name, x)
    m.precise(name, x)
    return Lowering(lambda a: tuple(jnp.linalg.slogdet(a)), name="LinalgSlogdetBackward0")


@op()
def logdet(input: Tensor) -> Tensor:
    """Return the logarithms of the determinants: nan of negative ones, -inf of 0."""
    return record(_logdet, (), input)  # type: ignore[no-any-return]


def _logdet(x: Aval) -> Lowering:
    _slogdet(x, "logdet")

    def fn(a: Any) -> Any:
        sign, logarithm = jnp.linalg.slogdet(a)
        return jnp.log(sign) + logarithm

    return Lowering(fn, name="AddBackward0")


# -- LU decompositions ---------------------------------------------------------------------------------------


def lu(A: Tensor, *, pivot: bool = True, out: Any = None) -> Lu:
    """Return ``P``, ``L`` and ``U`` of ``A = P @ L @ U``: a permutation, a lower and an upper triangular matrix."""
    if out is not None:
        return into(out, lu, A, pivot=pivot)
    order, lower, upper = record(_lu, (pivot,), A)
    return Lu(record(_permutation, (A.dtype,), order), lower, upper)


def _pivoted(where: str, x: Aval, pivot: bool) -> None:
    if x.ndim < 2:
        raise RuntimeError(f"{where}: Expected tensor with 2 or more dimensions. Got size: {list(x.shape)} instead")
    if not pivot:
        raise RuntimeError("linalg.lu_factor: LU without pivoting is not implemented on the CPU")
    m.kernel("lu_cpu", x)


def _lu(x: Aval, pivot: bool) -> Lowering:
    _pivoted("linalg.lu", x, pivot)
    rows, columns = x.shape[-2:]
    k = min(rows, columns)

    def fn(a: Any) -> Any:
        both, _, order = lax.linalg.lu(a)
        lower = jnp.tril(both[..., :, :k], -1) + jnp.eye(rows, k, dtype=a.dtype)
        return order, lower, jnp.triu(both[..., :k, :])

    return Lowering(fn, name="LinalgLuBackward0")


def _permutation(order: Aval, dtype: DType) -> Lowering:
    """The matrix that puts row ``i`` where ``order[i]`` says."""
    rows = jnp.arange(order.shape[-1])[:, None]
    return Lowering(lambda p: (rows == p[..., None, :]).astype(dtype.np), differentiable=False)


def lu_factor(A: Tensor, *, pivot: bool = True, out: Any = None) -> LuFactor:
    """Return both triangular matrices of the LU decomposition in one, and how rows were exchanged, for `lu_solve`."""
    if out is not None:
        return into(out, lu_factor, A, pivot=pivot)
    return LuFactor._make(record(_lu_factor, (pivot, True), A)[:2])


def lu_factor_ex(A: Tensor, *, pivot: bool = True, check_errors: bool = False, out: Any = None) -> LuFactorEx:
    """Return what `lu_factor` does, and for each matrix 0, or the place of the first zero on the diagonal of ``U``."""
    if out is not None:
        return into(out, lu_factor_ex, A, pivot=pivot, check_errors=check_errors)
    return LuFactorEx._make(record(_lu_factor, (pivot, bool(check_errors)), A))


def _lu_factor(x: Aval, pivot: bool, checked: bool) -> Lowering:
    _pivoted("torch.lu_factor", x, pivot)

    def fn(a: Any) -> Any:
        both, pivots, _ = lax.linalg.lu(a)
        return both, pivots + 1, m.first_zero(both)

    text = ("torch.linalg.lu_factor: {batch}U[{i},{i}] is zero and using it on lu_solve would result in a division by "
            "zero. If you still want to perform the factorization, consider calling linalg.lu(A, pivot) or "
            "linalg.lu_factor_ex(A, pivot)")  # fmt: skip
    checks = (m.failed(2, x, text, RuntimeError),) if checked else ()
    return Lowering(fn, name="LinalgLuFactorExBackward0", checks=checks)


def lu_solve(LU: Tensor, pivots: Tensor, B: Tensor, *, left: bool = True, adjoint: bool = False,
             out: Tensor | None = None) -> Tensor:  # fmt: skip
    """Return ``X`` of ``A @ X = B`` by the decomposition that `lu_factor` returned.

    Args:
        LU: ``(*, n, n)``.
        pivots: ``(*, n)``, int32.
        B: ``(*, n, k)``, or ``(*, k, n)`` where not ``left``.
        left: False for ``X @ A = B``.
        adjoint: with the conjugate transpose of ``A`` instead.
        out: where to write the result.
    """
    if out is not None:
        return into(out, lu_solve, LU, pivots, B, left=left, adjoint=adjoint)
    return record(_lu_solve, (left, adjoint), LU, pivots, B)  # type: ignore[no-any-return]


def _lu_solve(a: Aval, pivots: Aval, b: Aval, left: bool, adjoint: bool) -> Lowering:
    name = "linalg.lu_solve"
    if a.dtype is not b.dtype:
        raise RuntimeError(f"{name}: Expected LU and B to have the same dtype, but found LU of type "
                           f"{type_name(a.dtype)} and B of type {type_name(b.dtype)} instead")
    if pivots.dtype is not _dtype.int32:
        raise RuntimeError(f"{name}: pivots should be a Tensor of scalar type torch.int32")
    m.square(name, a)
    if b.ndim < 2 or a.shape[-1] != b.shape[-2 if left else -1]:
        raise RuntimeError(f"{name}: Incompatible shapes of A and B for the equation {'AX = B' if left else 'XA = B'} "
                           f"({a.shape[-2]}x{a.shape[-1]} and {'x'.join(map(str, b.shape[-2:]))})")

    def fn(x: Any, p: Any, y: Any) -> Any:
        order = lax.linalg.lu_pivots_to_permutation(p - 1, x.shape[-1])
        if left and adjoint:
            return jnp.conj(m.by_lu(x, order, jnp.conj(y), transposed=True))
        if left:
            return m.by_lu(x, order, y)
        turned = m.adjoint(y) if adjoint else jnp.swapaxes(y, -1, -2)
        found = m.by_lu(x, order, turned, transposed=not adjoint)
        return m.adjoint(found) if adjoint else jnp.swapaxes(found, -1, -2)

    return Lowering(fn, name="LinalgLuSolveBackward0", constant=(1,))


# -- powers --------------------------------------------------------------------------------------------------


@op()
def matrix_power(input: Tensor, n: int, *, out: Tensor | None = None) -> Tensor:
    """Return square matrices multiplied ``n`` times with themselves; of the inverses where ``n`` is negative."""
    if out is not None:
        return into(out, matrix_power, input, n)
    if n < 0:
        return matrix_power(inv(input), -n)
    return record(_matrix_power, (n,), input)  # type: ignore[no-any-return]


def _matrix_power(x: Aval, n: int) -> Lowering:
    m.square("linalg.matrix_power", x)

    def fn(a: Any) -> Any:
        result, square, left = None, a, n
        while left:
            if left & 1:
                result = square if result is None else product(result, square)
            left >>= 1
            square = product(square, square) if left else square
        return jnp.broadcast_to(jnp.eye(a.shape[-1], dtype=a.dtype), a.shape) if result is None else result

    # PyTorch multiplies op by op: what it returns was made by the last one.
    name = "MulBackward0" if n == 0 else "CloneBackward0" if n == 1 else "MmBackward0"
    return Lowering(fn, name=name if x.ndim == 2 or n < 2 else "UnsafeViewBackward0")
