"""Products added to a tensor, chains of products, and block matrices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax.numpy as jnp

from tracegrad._dtype import BOOL, COMPLEX, INTEGRAL, type_name
from tracegrad._engine.op import Lowering
from tracegrad._engine.trace import record
from tracegrad._engine.value import Aval, Number
from tracegrad._ops import _rules as rules
from tracegrad._ops._declare import op
from tracegrad._ops._out import into
from tracegrad._ops.linalg import mm

if TYPE_CHECKING:
    from tracegrad._tensor import Tensor


@op(inplace=True)
def addr(input: Tensor, vec1: Tensor, vec2: Tensor, *, beta: complex = 1, alpha: complex = 1,
         out: Tensor | None = None) -> Tensor:  # fmt: skip
    """Return ``beta * input + alpha * outer(vec1, vec2)``; ``input`` counts as 0 where ``beta`` is 0.

    Example:
        >>> import tracegrad as torch
        >>> torch.addr(torch.zeros(2, 2), torch.tensor([1., 2.]), torch.tensor([3., 4.]))
        tensor([[3., 4.],
                [6., 8.]])
    """
    if out is not None:
        return into(out, addr, input, vec1, vec2, beta=beta, alpha=alpha)
    return record(_addr, (), input, vec1, vec2, beta, alpha)  # type: ignore[no-any-return]


def _addr(x: Aval, a: Aval, b: Aval, beta: Number, alpha: Number) -> Lowering:
    for name, v in (("vec1", a), ("vec2", b)):
        if v.ndim != 1:
            raise RuntimeError(f"addr: Expected 1-D argument {name}, but got {v.ndim}-D")
    _expands("addr", x, (a.shape[0], b.shape[0]))
    dtype = rules.result_type((x, a, b))
    _factors(dtype, beta, alpha)

    def product(u: Any, v: Any) -> Any:
        return rules.cast(u, dtype)[:, None] * rules.cast(v, dtype)[None, :]

    return Lowering(_accumulated(dtype, beta, product), name="AddrBackward0")


@op(inplace=True)
def addbmm(input: Tensor, batch1: Tensor, batch2: Tensor, *, beta: complex = 1, alpha: complex = 1,
           out: Tensor | None = None) -> Tensor:  # fmt: skip
    """Return ``beta * input + alpha * sum(batch1[i] @ batch2[i])``; ``input`` counts as 0 where ``beta`` is 0."""
    if out is not None:
        return into(out, addbmm, input, batch1, batch2, beta=beta, alpha=alpha)
    return record(_addbmm, (), input, batch1, batch2, beta, alpha)  # type: ignore[no-any-return]


def _addbmm(x: Aval, a: Aval, b: Aval, beta: Number, alpha: Number) -> Lowering:
    for name, v in (("batch1", a), ("batch2", b)):
        if v.ndim != 3:
            raise RuntimeError(f"{name} must be a 3D tensor")
    if a.shape[0] != b.shape[0]:
        raise RuntimeError("batch1 and batch2 must have same number of batches, got "
                           f"{a.shape[0]} and {b.shape[0]}")
    if a.shape[2] != b.shape[1]:
        raise RuntimeError(f"Incompatible matrix sizes for bmm ({a.shape[1]}x{a.shape[2]} and {b.shape[1]}x"
                           f"{b.shape[2]})")
    _expands("addbmm", x, (a.shape[1], b.shape[2]))
    for v in (a, b):
        if v.dtype is not x.dtype:
            raise RuntimeError(f"expected scalar type {type_name(x.dtype)} but found {type_name(v.dtype)}")
    return Lowering(_accumulated(x.dtype, beta, lambda u, v: jnp.einsum("bij,bjk->ik", u, v)),
                    name="AddbmmBackward0")  # fmt: skip


def _expands(name: str, x: Aval, shape: tuple[int, ...]) -> None:
    """Raise where ``x`` does not expand to ``shape``."""
    if x.ndim > len(shape):
        raise RuntimeError(f"expand(torch.{type_name(x.dtype)}Tensor{{{list(x.shape)}}}, size={list(shape)}): the "
                           f"number of sizes provided ({len(shape)}) must be greater or equal to the number of "
                           f"dimensions in the tensor ({x.ndim})")
    for k, size in enumerate(x.shape, len(shape) - x.ndim):
        if size not in (1, shape[k]):
            raise RuntimeError(f"The expanded size of the tensor ({shape[k]}) must match the existing size ({size}) at "
                               f"non-singleton dimension {k}.  Target sizes: {list(shape)}.  Tensor sizes: "
                               f"{list(x.shape)}")


def _factors(dtype: Any, *numbers: Number) -> None:
    """Raise where a factor is of a kind that the result's dtype cannot take."""
    for name, n in zip(("beta", "alpha"), numbers):
        if n.kind is bool and dtype.category != BOOL:
            raise RuntimeError(f"Boolean {name} only supported for Boolean results.")
        if n.kind in (float, complex) and dtype.category in (BOOL, INTEGRAL):
            raise RuntimeError(f"For integral input tensors, argument {name} must not be a floating point number.")
        if n.kind is complex and dtype.category != COMPLEX:
            raise RuntimeError(f"For non-complex input tensors, argument {name} must not be a complex number.")


def _accumulated(dtype: Any, beta: Number, product: Any) -> Any:
    """Return ``beta * x + alpha * product(u, v)`` as a function; nan in ``x`` does not spread where ``beta`` is 0."""

    def fn(x: Any, u: Any, v: Any, b: Any, a: Any) -> Any:
        made = product(u, v)
        b, a = rules.cast(b, dtype), rules.cast(a, dtype)
        if dtype.category == BOOL:
            return (b & rules.cast(x, dtype)) | (a & made)
        return jnp.where(b == 0, 0, b * rules.cast(x, dtype)) + a * made

    return fn


@op(method=False)
def chain_matmul(*matrices: Tensor, out: Tensor | None = None) -> Tensor:
    """Return the product of matrices, multiplied in the order that takes the fewest multiplications."""
    if out is not None:
        return into(out, chain_matmul, *matrices)
    if not matrices:
        raise RuntimeError("chain_matmul(): Expected one or more matrices")
    for x in matrices:
        if x.ndim != 2:
            raise RuntimeError(f"Tensor dimension is {x.ndim}, expected 2 instead.")
    if len(matrices) == 1:
        return matrices[0]
    sizes = [x.shape[0] for x in matrices] + [matrices[-1].shape[1]]

    def product(first: int, last: int) -> Tensor:
        if first == last:
            return matrices[first]
        at = best[first, last][1]
        return mm(product(first, at), product(at + 1, last))

    best: dict[tuple[int, int], tuple[int, int]] = {(i, i): (0, i) for i in range(len(matrices))}
    for length in range(1, len(matrices)):
        for i in range(len(matrices) - length):
            j = i + length
            best[i, j] = min((best[i, k][0] + best[k + 1, j][0] + sizes[i] * sizes[k + 1] * sizes[j + 1], k)
                             for k in range(i, j))  # fmt: skip
    return product(0, len(matrices) - 1)


@op(method=False)
def block_diag(*tensors: Tensor) -> Tensor:
    """Return a matrix with the given matrices, rows or numbers along its diagonal, and zeros elsewhere.

    Example:
        >>> import tracegrad as torch
        >>> torch.block_diag(torch.tensor([[1, 2]]), torch.tensor([3]))
        tensor([[1, 2, 0],
                [0, 0, 3]])
    """
    if len(tensors) == 1 and isinstance(tensors[0], (list, tuple)):
        raise TypeError("block_diag(): expected Tensors as positional arguments, not a sequence of them")
    return record(_block_diag, (), *tensors)  # type: ignore[no-any-return]


def _block_diag(*xs: Any) -> Lowering:
    for i, x in enumerate(xs):
        if x.ndim > 2:
            raise RuntimeError("torch.block_diag: Input tensors must have 2 or fewer dimensions. Input "
                               f"{i} has {x.ndim} dimensions")
    dtype = rules.result_type(xs).np

    def fn(*arrays: Any) -> Any:
        blocks = [a.astype(dtype).reshape((1, -1) if a.ndim < 2 else a.shape) for a in arrays]
        out = jnp.zeros((sum(b.shape[0] for b in blocks), sum(b.shape[1] for b in blocks)), dtype)
        row = column = 0
        for b in blocks:
            out = out.at[row : row + b.shape[0], column : column + b.shape[1]].set(b)
            row, column = row + b.shape[0], column + b.shape[1]
        return out

    return Lowering(fn, name="BlockDiagBackward0", saves=False)
