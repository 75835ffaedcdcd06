"""Questions about tensors, shapes and types."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tracegrad._dtype import BOOL, DType
from tracegrad._engine.trace import force
from tracegrad._engine.value import Number
from tracegrad._handle import Handle
from tracegrad._ops import _rules as rules
from tracegrad._size import Size

if TYPE_CHECKING:
    from tracegrad._tensor import Tensor


def numel(input: Tensor) -> int:
    """Return the number of elements.

    Example:
        >>> import tracegrad as torch
        >>> torch.numel(torch.ones(2, 3))
        6
    """
    return input._value.spec.aval.numel


def is_floating_point(input: Tensor) -> bool:
    """Return whether the dtype is a real floating-point type.

    Example:
        >>> import tracegrad as torch
        >>> torch.is_floating_point(torch.ones(2)), torch.is_floating_point(torch.tensor(1))
        (True, False)
    """
    return input.dtype.is_floating_point


def is_complex(input: Tensor) -> bool:
    """Return whether the dtype is complex.

    Example:
        >>> import tracegrad as torch
        >>> torch.is_complex(torch.tensor(1j))
        True
    """
    return input.dtype.is_complex


def result_type(tensor1: Any, tensor2: Any) -> DType:
    """Return the dtype of arithmetic on two operands, each a tensor or a Python number.

    See https://docs.pytorch.org/docs/stable/generated/torch.result_type.html

    Example:
        >>> import tracegrad as torch
        >>> torch.result_type(torch.tensor([1, 2]), 1.0)
        torch.float32
    """
    return rules.result_type([x._value.spec.aval if isinstance(x, Handle) else Number(type(x), x)
                              for x in (tensor1, tensor2)])  # fmt: skip


def can_cast(from_: DType, to: DType) -> bool:
    """Return whether PyTorch's in-place ops convert ``from_`` to ``to``: never to a lower category.

    Example:
        >>> import tracegrad as torch
        >>> torch.can_cast(torch.double, torch.float), torch.can_cast(torch.float, torch.int)
        (True, False)
    """
    return from_.category <= to.category and not (to.category == BOOL and from_.category != BOOL)


def is_nonzero(input: Tensor) -> bool:
    """Return whether the one element is not 0: it is read.

    Raises:
        RuntimeError: where there is not exactly one element.
    """
    count = input._value.spec.aval.numel
    if count != 1:
        raise RuntimeError("Boolean value of Tensor with " + (
            "no values is ambiguous" if count == 0 else "more than one value is ambiguous"))  # fmt: skip
    return bool(np.asarray(force(input._value)).item() != 0)


def is_signed(input: Tensor) -> bool:
    """Return whether the dtype has negative numbers."""
    return input.dtype.is_signed


def is_inference(input: Tensor) -> bool:
    """Return whether this is an inference tensor: one that was made in ``inference_mode``.

    Example:
        >>> import tracegrad as torch
        >>> with torch.inference_mode():
        ...     x = torch.ones(2)
        >>> torch.is_inference(x)
        True
    """
    return input._value.spec.inference


def is_same_size(input: Tensor, other: Tensor) -> bool:
    """Return whether both have the same shape."""
    return input._value.spec.aval.shape == other._value.spec.aval.shape


def broadcast_shapes(*shapes: Any) -> Size:
    """Return the shape that tensors of these shapes broadcast to.

    Example:
        >>> import tracegrad as torch
        >>> torch.broadcast_shapes((2, 1), (3,), 1)
        torch.Size([2, 3])
    """
    sizes = [(s,) if isinstance(s, int) else tuple(s) for s in shapes]
    ndim = max((len(s) for s in sizes), default=0)
    result = [1] * ndim
    for shape in sizes:
        for k, n in enumerate(shape, ndim - len(shape)):
            if n < 0:
                raise RuntimeError(f"Trying to create tensor with negative dimension ({n}): ({n})")
            if n != 1 and result[k] not in (1, n):
                raise RuntimeError("Shape mismatch: objects cannot be broadcast to a single shape")
            result[k] = n if n != 1 else result[k]
    return Size(result)
