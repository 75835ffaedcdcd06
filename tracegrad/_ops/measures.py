"""Norms of vectors and matrices, and other functions of matrices as wholes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jax import lax

from tracegrad import _dtype
from tracegrad._dtype import DType, type_name
from tracegrad._engine.op import Lowering
from tracegrad._engine.trace import record
from tracegrad._engine.value import Aval
from tracegrad._ops import _matrices as m
from tracegrad._ops import _rules as rules
from tracegrad._ops import linalg, rearranging
from tracegrad._ops._declare import op
from tracegrad._ops._out import into
from tracegrad._ops._rules import Dims
from tracegrad._ops.blending import where
from tracegrad._ops.reduction import amax, amin, sum
from tracegrad._ops.reduction import norm as record_norm
from tracegrad._ops.solving import inv_ex
from tracegrad._ops.spectra import svdvals

if TYPE_CHECKING:
    from tracegrad._tensor import Tensor

# -- norms ---------------------------------------------------------------------------------------------------


def vector_norm(x: Tensor, ord: float = 2, dim: Dims = None, keepdim: bool = False, *, dtype: DType | None = None,
                out: Tensor | None = None) -> Tensor:  # fmt: skip
    """Return the ``ord``-norm of vectors: over ``dim``, of all elements where it is None. Its gradient at 0 is 0.

    See https://docs.pytorch.org/docs/stable/generated/torch.linalg.vector_norm.html
    """
    if out is not None:
        return into(out, vector_norm, x, ord, dim, keepdim, dtype=dtype)
    if isinstance(ord, str):
        raise TypeError("linalg_vector_norm(): argument 'ord' (position 2) must be Number, not str")
    if dtype is not None and dtype.is_complex and not x.dtype.is_complex:
        raise RuntimeError(f"linalg.vector_norm: dtype should be real for real inputs, but got {type_name(dtype)}")
    return record_norm(x, ord, dim, keepdim, dtype)


def matrix_norm(A: Tensor, ord: float | str = "fro", dim: Any = (-2, -1), keepdim: bool = False, *,
                dtype: DType | None = None, out: Tensor | None = None) -> Tensor:  # fmt: skip
    """Return a norm of matrices.

    Args:
        A: any shape with two dims at least.
        ord: ``"fro"`` (of all elements), ``"nuc"`` (the sum of the singular values), 2 and -2 (the largest and the
            smallest of them), 1 and -1 (of the columns' sums), inf and -inf (of the rows' sums).
        dim: the dims of the matrices.
        keepdim: whether these stay, with size 1.
        dtype: the type to convert to first.
        out: where to write the result.

    See https://docs.pytorch.org/docs/stable/generated/torch.linalg.matrix_norm.html
    """
    if out is not None:
        return into(out, matrix_norm, A, ord, dim, keepdim, dtype=dtype)
    name = "linalg.matrix_norm"
    aval = A._value.spec.aval
    m.matrices(name, aval)
    m.inexact(name, aval)
    if isinstance(dim, int) or len(dim) != 2:
        raise RuntimeError(f"{name}: dim must be a 2-tuple. Got {dim if isinstance(dim, int) else list(dim)}")
    rows, columns = (rules.dim(d, A.ndim) for d in dim)
    if rows == columns:
        raise RuntimeError(f"{name}: dims must be different. Got {tuple(dim)}")
    if isinstance(ord, str) and ord not in ("fro", "nuc"):
        raise RuntimeError(f"{name}: Order {ord} not supported.")
    if not isinstance(ord, str) and abs(ord) not in (1, 2, math.inf):
        raise RuntimeError(f"{name}: Order {ord:g} not supported.")
    if ord == "fro":
        return vector_norm(A, 2, (rows, columns), keepdim, dtype=dtype)
    A = A if dtype is None else A.to(dtype)
    if not isinstance(ord, str) and abs(ord) != 2:
        added, left = (rows, columns) if abs(ord) == 1 else (columns, rows)
        sums = vector_norm(A, 1, added, True)
        found = amax(sums, left, True) if ord > 0 else amin(sums, left, True)
        return found if keepdim else _squeezed(found, rows, columns)
    sizes = svdvals(A.movedim((rows, columns), (-2, -1)))
    found = sum(sizes, -1) if ord == "nuc" else amax(sizes, -1) if ord == 2 else amin(sizes, -1)
    if keepdim:
        for d in sorted((rows, columns)):
            found = found.unsqueeze(d)
    return found


def _squeezed(x: Tensor, *dims: int) -> Tensor:
    for d in sorted(dims, reverse=True):
        x = x.squeeze(d)
    return x


def norm(A: Tensor, ord: float | str | None = None, dim: Dims = None, keepdim: bool = False, *,
         dtype: DType | None = None, out: Tensor | None = None) -> Tensor:  # fmt: skip
    """Return the norm of vectors or, where ``dim`` has two dims or ``ord`` says so, of matrices.

    Without ``ord`` it is the 2-norm of all elements, or over ``dim``. See `vector_norm` and `matrix_norm`.

    Example:
        >>> import tracegrad as torch
        >>> torch.linalg.norm(torch.tensor([[3.0, 0.0], [0.0, 4.0]])), torch.linalg.norm(torch.eye(2), 1)
        (tensor(5.), tensor(1.))
    """
    if out is not None:
        return into(out, norm, A, ord, dim, keepdim, dtype=dtype)
    dims = None if dim is None else (dim,) if isinstance(dim, int) else tuple(dim)
    if ord is None:
        return vector_norm(A, 2, dims, keepdim, dtype=dtype)
    if isinstance(ord, str):
        return matrix_norm(A, ord, (-2, -1) if dims is None else dim if isinstance(dim, int) else dims, keepdim,
                           dtype=dtype) if dims is not None or A.ndim == 2 else _refuse_dims(A)  # fmt: skip
    if dims is None:
        if A.ndim not in (1, 2):
            return _refuse_dims(A)
        dims = tuple(range(-A.ndim, 0))
    if len(dims) not in (1, 2):
        raise RuntimeError(f"linalg.norm: If dim is specified, it must be of length 1 or 2. Got {list(dims)}")
    if len(dims) == 1:
        return vector_norm(A, ord, dims, keepdim, dtype=dtype)
    return matrix_norm(A, ord, dims, keepdim, dtype=dtype)


def _refuse_dims(A: Tensor) -> Tensor:
    raise RuntimeError("linalg.norm: If dim is not specified but ord is, the input must be 1D or 2D. Got "
                       f"{A.ndim}D.")


def cond(A: Tensor, p: float | str | None = None, *, out: Tensor | None = None) -> Tensor:
    """Return the condition numbers in the norm ``p``, 2 when None: infinite for singular matrices."""
    if out is not None:
        return into(out, cond, A, p)
    if A.ndim < 2:
        raise RuntimeError("linalg.cond: The input tensor must have at least 2 dimensions.")
    if p is None or (not isinstance(p, str) and abs(p) == 2):
        sizes = svdvals(A)
        ratio: Tensor = sizes[..., -1] / sizes[..., 0] if p == -2 else sizes[..., 0] / sizes[..., -1]
        return ratio
    if (isinstance(p, str) and p not in ("fro", "nuc")) or (not isinstance(p, str) and abs(p) not in (1, math.inf)):
        raise RuntimeError(f"linalg.cond got an invalid norm type: {p}")
    inverse, info = inv_ex(A)
    found: Tensor = where(info == 0, matrix_norm(A, p) * matrix_norm(inverse, p), math.inf)
    return found


# -- functions of matrices -----------------------------------------------------------------------------------


@op()
def matrix_exp(input: Tensor) -> Tensor:
    """Return the exponentials of square matrices.

    Example:
        >>> import tracegrad as torch
        >>> torch.matrix_exp(torch.zeros(2, 2)).tolist()
        [[1.0, 0.0], [0.0, 1.0]]
    """
    return record(_matrix_exp, (), input)  # type: ignore[no-any-return]


def _matrix_exp(x: Aval) -> Lowering:
    m.square("linalg.matrix_exp", x)
    m.inexact("linalg.matrix_exp", x)
    wide = _dtype.float32.np if x.dtype.itemsize == 2 else x.dtype.np

    def fn(a: Any) -> Any:
        return jax.scipy.linalg.expm(a.astype(wide), max_squarings=64).astype(a.dtype)

    return Lowering(fn, name="LinalgMatrixExpBackward0")


def multi_dot(tensors: Any, *, out: Tensor | None = None) -> Tensor:
    """Return the product of matrices, multiplied in the order that takes the fewest multiplications.

    The first may be a row vector and the last a column vector.
    """
    if out is not None:
        return into(out, multi_dot, tensors)
    tensors = tuple(tensors)
    if len(tensors) < 2:
        raise RuntimeError(f"multi_dot(): expected at least 2 tensors but got {len(tensors)}")
    return record(_multi_dot, (), *tensors)  # type: ignore[no-any-return]


def _multi_dot(*xs: Any) -> Lowering:
    for i, x in enumerate(xs):
        if x.ndim not in ((1, 2) if i in (0, len(xs) - 1) else (2,)):
            which = {0: "the first tensor", len(xs) - 1: "the last tensor"}.get(i, f"tensor {i}")
            raise RuntimeError(f"multi_dot(): {which} must be {'2D' if 0 < i < len(xs) - 1 else '1D or 2D'} but got "
                               f"{x.ndim}D")
        if x.dtype is not xs[0].dtype:
            raise RuntimeError(f"multi_dot(): all tensors must have be the same dtype but tensor 0 is "
                               f"{type_name(xs[0].dtype)} and tensor {i} {type_name(x.dtype)}")
    shapes = [list(x.shape) for x in xs]
    for i, (a, b) in enumerate(zip(xs, xs[1:])):
        if a.shape[-1] != b.shape[0]:
            left = [1, *shapes[i]] if a.ndim == 1 else shapes[i]
            right = [*shapes[i + 1], 1] if b.ndim == 1 else shapes[i + 1]
            raise RuntimeError(f"multi_dot(): tensors {i} and {i + 1} with shapes {left} and {right} cannot be "
                               "multiplied")
    name = "ViewBackward0" if xs[0].ndim == 1 or xs[-1].ndim == 1 else "MmBackward0"
    return Lowering(lambda *arrays: jnp.linalg.multi_dot(arrays, precision=lax.Precision.HIGHEST), name=name)


def vecdot(x: Tensor, y: Tensor, *, dim: int = -1, out: Tensor | None = None) -> Tensor:
    """Return the sums of ``conj(x) * y`` along ``dim``, broadcast."""
    if out is not None:
        return into(out, vecdot, x, y, dim=dim)
    m.inexact("linalg.vecdot", x._value.spec.aval)
    return sum(x.conj() * y, dim)


def vander(x: Tensor, N: int | None = None) -> Tensor:
    """Return the matrices of the powers 0 to ``N - 1`` of vectors; ``N`` is their length when None."""
    return record(_vander, (N,), x)  # type: ignore[no-any-return]


def _vander(x: Aval, n: int | None) -> Lowering:
    if x.dtype.itemsize == 2 and x.dtype.is_inexact:
        raise RuntimeError("linalg.vander supports floating point, complex, and integer tensors, but got "
                           f"{type_name(x.dtype)}")
    if not x.ndim:
        raise RuntimeError("Expected dim >= 1, but got 0")
    count = x.shape[-1] if n is None else n
    if count < 1:
        raise RuntimeError(f"N must be greater than 1, but got {count}")
    to = x.dtype.np if x.dtype.is_inexact else jnp.int64

    def fn(a: Any) -> Any:
        a = a.astype(to)[..., None]
        factors = [jnp.ones_like(a), jnp.broadcast_to(a, (*x.shape, count - 1))]
        return jnp.cumprod(jnp.concatenate(factors, -1), -1)

    return Lowering(fn, name="CumprodBackward0" if count > 1 else "ViewBackward0")


def cross(input: Tensor, other: Tensor, *, dim: int = -1, out: Tensor | None = None) -> Tensor:
    """Return the cross products of vectors of three elements along ``dim``, broadcast."""
    d = rules.dim(dim, input.ndim)
    if input.ndim == other.ndim and (input.shape[d] != 3 or other.shape[d] != 3):
        raise RuntimeError(f"linalg.cross: inputs dimension {dim} must have length 3. Got {input.shape[d]} and "
                           f"{other.shape[d]}")
    return linalg.cross(input, other, dim, out=out)


def diagonal(A: Tensor, *, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
    """Return a view of the diagonals in the plane of two dims, the last two unless told, along a new last dim."""
    return rearranging.diagonal(A, offset, dim1, dim2)
