"""Tensors put together of others: columns, rows, combinations of elements."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from tracegrad._engine.op import Lowering
from tracegrad._engine.trace import record
from tracegrad._engine.value import Aval
from tracegrad._ops._declare import op
from tracegrad._ops._out import into
from tracegrad._ops.pointwise import also
from tracegrad._ops.shape import cat, reshape, vstack

if TYPE_CHECKING:
    from tracegrad._tensor import Tensor


@op(method=False)
def column_stack(tensors: Sequence[Tensor], *, out: Tensor | None = None) -> Tensor:
    """Return matrices, and vectors as columns, joined along their second dim."""
    if out is not None:
        return into(out, column_stack, tensors)
    return cat([reshape(x, (x.shape.numel(), 1)) if x.ndim <= 1 else x for x in tensors], 1)


also("row_stack", vstack, method=False)


@op(method=False)
def cartesian_prod(*tensors: Any) -> Tensor:
    """Return one row for every way to take one element of each vector.

    Example:
        >>> import tracegrad as torch
        >>> torch.cartesian_prod(torch.tensor([1, 2]), torch.tensor([3, 4]))
        tensor([[1, 3],
                [1, 4],
                [2, 3],
                [2, 4]])
    """
    if len(tensors) == 1 and isinstance(tensors[0], (list, tuple)):
        tensors = tuple(tensors[0])
    return tensors[0] if len(tensors) == 1 else record(_cartesian_prod, (), *tensors)  # type: ignore[no-any-return]


def _cartesian_prod(*xs: Aval) -> Lowering:
    for x in xs:
        if x.ndim != 1:
            raise RuntimeError(f"Expect a 1D vector, but got shape {list(x.shape)}")
        if x.dtype is not xs[0].dtype:
            raise RuntimeError("torch.meshgrid expects all tensors to have the same dtype")

    def fn(*arrays: Any) -> Any:
        return jnp.stack([g.reshape(-1) for g in jnp.meshgrid(*arrays, indexing="ij")], 1)

    return Lowering(fn, name="StackBackward0", saves=False)


@op(method=False)
def combinations(input: Tensor, r: int = 2, with_replacement: bool = False) -> Tensor:
    """Return one row for every way to take ``r`` elements of a vector, in order, each once or more often.

    Example:
        >>> import tracegrad as torch
        >>> torch.combinations(torch.tensor([1, 2, 3]))
        tensor([[1, 2],
                [1, 3],
                [2, 3]])
    """
    return record(_combinations, (r, with_replacement), input)  # type: ignore[no-any-return]


def _combinations(x: Aval, r: int, with_replacement: bool) -> Lowering:
    if x.ndim != 1:
        raise RuntimeError(f"Expect a 1D vector, but got shape {list(x.shape)}")
    if r < 0:
        raise RuntimeError(f"Expect a non-negative number, but got {r}")
    of = itertools.combinations_with_replacement if with_replacement else itertools.combinations
    rows = np.array(list(of(range(x.shape[0]), r)), np.int64).reshape(-1, r) if r else np.zeros(0, np.int64)
    return Lowering(lambda a: a[rows], name="StackBackward0", differentiable=r > 0)
