"""Dense layers as functions: affine maps and table look-ups.

NOTE [Flat] `linear` works on its input flattened to two dims, forward and backward: XLA's CPU matmul of a batch of
matrices with one shared matrix, and above all its weight gradient, are slower than one large product.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
from jax import lax

from tracegrad import _dtype
from tracegrad._dtype import type_name
from tracegrad._engine.op import Lowering
from tracegrad._engine.trace import record
from tracegrad._engine.value import Aval
from tracegrad._errors import UnsupportedError
from tracegrad._ops._checks import indices, never
from tracegrad._ops._declare import op
from tracegrad._ops._opmath import c_name

if TYPE_CHECKING:
    from tracegrad._tensor import Tensor


@op(method=False, function=False)
def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return ``input @ weight.T + bias``.

    Args:
        input: ``(*, in_features)``.
        weight: ``(out_features, in_features)``, or ``(in_features,)`` for one output without a dim.
        bias: ``(out_features,)`` or ``()``.

    Raises:
        RuntimeError: where shapes or dtypes do not go together.

    See https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.linear.html

    Example:
        >>> import tracegrad as torch
        >>> torch.nn.functional.linear(torch.ones(2, 3), torch.ones(4, 3)).shape
        torch.Size([2, 4])
    """
    if bias is None:
        return record(_linear, (), input, weight)  # type: ignore[no-any-return]
    return record(_linear, (), input, weight, bias)  # type: ignore[no-any-return]


def _linear(x: Aval, weight: Aval, bias: Aval | None = None) -> Lowering:
    check_linear(x, weight, bias)
    rows, vector = x.numel // max(x.shape[-1], 1), weight.ndim == 1
    if x.shape[-1] == 0:
        rows = 1
        for size in x.shape[:-1]:
            rows *= size
    shape = x.shape[:-1] if vector else (*x.shape[:-1], weight.shape[0])

    def matrices(a: Any, w: Any) -> tuple[Any, Any]:
        return a.reshape(rows, a.shape[-1]), w.reshape(-1, w.shape[-1])

    def fn(a: Any, w: Any, b: Any = None) -> Any:
        flat, w2 = matrices(a, w)
        y = lax.dot_general(flat, w2, (((1,), (1,)), ((), ())))
        return (y if b is None else y + b).reshape(shape)

    def forward(a: Any, w: Any, b: Any = None) -> tuple[Any, Any]:
        return fn(a, w, b), (a, w, b)

    def backward(saved: Any, g: Any) -> tuple[Any, ...]:
        a, w, b = saved
        flat, w2 = matrices(a, w)
        g2 = g.reshape(rows, w2.shape[0])
        da = lax.dot_general(g2, w2, (((1,), (0,)), ((), ()))).reshape(a.shape)
        dw = lax.dot_general(g2, flat, (((0,), (0,)), ((), ()))).reshape(w.shape)
        if b is None:
            return da, dw
        db = jnp.sum(g2, 0) if b.ndim and b.shape[0] == g2.shape[1] else jnp.sum(g2).reshape(b.shape)
        return da, dw, db

    def of_many(a: Any, g: Any) -> Any:
        g2 = g.reshape(-1, 1 if vector else shape[-1])
        return lax.dot_general(g2, a.reshape(-1, a.shape[-1]), (((0,), (0,)), ((), ()))).reshape(weight.shape)

    return Lowering(fn, forward, backward, _linear_name(x, weight, bias), plain=True, joint=((1, 0, of_many),))


def _linear_name(x: Aval, weight: Aval, bias: Aval | None) -> str:
    if weight.ndim == 1:
        return (
            "AddBackward0"
            if bias is not None
            else "DotBackward0"
            if x.ndim == 1
            else ("MvBackward0" if x.ndim == 2 else "UnsafeViewBackward0")
        )
    if x.ndim == 2:
        return "MmBackward0" if bias is None else "AddmmBackward0"
    if bias is not None:
        return "ViewBackward0"
    return "SqueezeBackward4" if x.ndim == 1 else "UnsafeViewBackward0"


def check_linear(x: Aval, weight: Aval, bias: Aval | None) -> None:
    """Raise, in PyTorch's words, where `linear` could not multiply these."""
    if x.ndim == 0 or weight.ndim == 0:
        raise RuntimeError(
            f"both arguments to linear need to be at least 1D, but they are {x.ndim}D and {weight.ndim}D"
        )
    if weight.ndim > 2:
        raise RuntimeError(f"t() expects a tensor with <= 2 dimensions, but self is {weight.ndim}D")
    inner, outer = x.shape[-1], 1 if weight.ndim == 1 else weight.shape[0]
    rows = 1
    for size in x.shape[:-1]:
        rows *= size
    if inner != weight.shape[-1]:
        if weight.ndim == 1:
            raise RuntimeError(f"size mismatch, got input ({rows}), mat ({rows}x{inner}), vec ({weight.shape[0]})")
        raise RuntimeError(f"mat1 and mat2 shapes cannot be multiplied ({rows}x{inner} and {weight.shape[1]}x{outer})")
    for other in (weight,) if bias is None else (weight, bias):
        if other.dtype is not x.dtype:
            if bias is not None:
                raise RuntimeError(
                    f"mat1 and mat2 must have the same dtype, but got {type_name(x.dtype)} and {type_name(other.dtype)}"
                )
            raise RuntimeError(
                f"expected m1 and m2 to have the same dtype, but got: {c_name(x.dtype)} != {c_name(other.dtype)}"
            )
    if bias is not None and (bias.ndim > 1 or (bias.ndim == 1 and bias.shape[0] not in (1, outer))):
        raise RuntimeError(
            f"The expanded size of the tensor ({outer}) must match the existing size "
            f"({bias.shape[-1]}) at non-singleton dimension 1.  Target sizes: {[rows, outer]}.  "
            f"Tensor sizes: {list(bias.shape)}"
        )


@op(method=False, function=False)
def bilinear(input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return ``x1 @ weight[k] @ x2 + bias[k]`` for every output feature ``k``.

    See https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.bilinear.html
    """
    if bias is None:
        return record(_bilinear, (), input1, input2, weight)  # type: ignore[no-any-return]
    return record(_bilinear, (), input1, input2, weight, bias)  # type: ignore[no-any-return]


def _bilinear(x: Aval, y: Aval, weight: Aval, bias: Aval | None = None) -> Lowering:
    if x.shape[:-1] != y.shape[:-1]:
        raise RuntimeError(f"bilinear(): input batch dimensions do not match, got {list(x.shape)} and {list(y.shape)}")
    if weight.ndim != 3 or (x.shape[-1], y.shape[-1]) != weight.shape[1:]:
        raise RuntimeError(
            f"bilinear(): input sizes {x.shape[-1]} and {y.shape[-1]} do not match weight size {list(weight.shape)}"
        )

    def fn(a: Any, b: Any, w: Any, c: Any = None) -> Any:
        result = jnp.einsum("...i,kij,...j->...k", a, w, b)
        return result if c is None else result + c

    return Lowering(fn, name="AddBackward0" if bias is not None else "UnsafeViewBackward0")


@op(method=False, function=False)
def embedding(
    input: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    """Return the rows of ``weight`` that ``input`` names.

    Args:
        input: row numbers, int64 or int32, of any shape.
        weight: ``(num_embeddings, embedding_dim)``.
        padding_idx: this row gets no gradient.
        max_norm: not supported.
        norm_type: goes with ``max_norm``.
        scale_grad_by_freq: divide each row's gradient by how often the row is named.
        sparse: taken, and of no effect: gradients are dense.

    See https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.embedding.html
    """
    if padding_idx is not None:
        rows = weight.shape[0]
        assert -rows <= padding_idx < rows, "Padding_idx must be within num_embeddings"
        padding_idx %= rows
    if max_norm is not None:
        raise UnsupportedError(
            "embedding: max_norm, which renormalises the weight in place, is not supported yet. "
            "Renormalise the weight under no_grad() before the call."
        )
    return record(_embedding, (padding_idx, bool(scale_grad_by_freq)), input, weight)  # type: ignore[no-any-return]


def _embedding(index: Aval, weight: Aval, padding_idx: int | None, by_frequency: bool) -> Lowering:
    if index.dtype not in (_dtype.int64, _dtype.int32):
        kind = type_name(index.dtype)
        raise RuntimeError(
            "Expected tensor for argument #1 'indices' to have one of the following scalar types: Long, "
            f"Int; but got torch.{kind}Tensor instead (while checking arguments for embedding)"
        )
    if weight.ndim != 2:
        raise RuntimeError("'weight' must be 2-D")
    rows, width = weight.shape

    def fn(i: Any, w: Any) -> Any:
        return jnp.take(w, i.astype(jnp.int32), 0, mode="clip")

    def forward(i: Any, w: Any) -> tuple[Any, Any]:
        return fn(i, w), (i,)

    def backward(saved: Any, g: Any) -> tuple[Any, ...]:
        flat = saved[0].reshape(-1).astype(jnp.int32)
        g2 = g.reshape(-1, width)
        if padding_idx is not None:
            g2 = jnp.where((flat == padding_idx)[:, None], jnp.zeros((), g.dtype), g2)
        if by_frequency:
            counts = jnp.zeros(rows, g.dtype).at[flat].add(1)
            g2 = g2 / counts[flat][:, None]
        return None, jnp.zeros((rows, width), g.dtype).at[flat].add(g2)

    found = indices(0, rows, lambda _: IndexError("index out of range in self"))
    return Lowering(fn, forward, backward, "EmbeddingBackward0", checks=(found,),
                    plain=padding_idx is None and not by_frequency)  # fmt: skip


@op(method=False, function=False)
def one_hot(input: Tensor, num_classes: int = -1) -> Tensor:
    """Return int64 zeros with a one at each element of ``input``, along a new last dim of ``num_classes``.

    With ``num_classes=-1`` the largest element is read to find how many there are, which flushes.

    See https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.one_hot.html
    """
    if input.dtype is not _dtype.int64:
        raise RuntimeError("one_hot is only applicable to index input of type LongTensor.")
    if num_classes == -1:
        if 0 in input.shape:
            raise RuntimeError("Can not infer total number of classes from empty input.")
        elements = input.numpy()
        if elements.min() < 0:
            raise RuntimeError("Class values must be non-negative.")
        num_classes = int(elements.max()) + 1
    return record(_one_hot, (num_classes,), input)  # type: ignore[no-any-return]


def _one_hot(x: Aval, classes: int) -> Lowering:
    if classes < 1:
        raise RuntimeError("Class values must be smaller than num_classes.")

    def fn(a: Any) -> Any:
        return (a[..., None] == jnp.arange(classes)).astype(jnp.int64)

    low = never(0, lambda a: a < 0, lambda _: RuntimeError("Class values must be non-negative."))
    high = never(0, lambda a: a >= classes, lambda _: RuntimeError("Class values must be smaller than num_classes."))
    return Lowering(fn, differentiable=False, checks=(low, high))
