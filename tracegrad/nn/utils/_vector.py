"""Parameters as one vector, and back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import jax.numpy as jnp

from tracegrad._engine.op import Lowering
from tracegrad._engine.trace import record
from tracegrad._engine.value import Aval
from tracegrad._grad_mode import no_grad
from tracegrad._ops.sharing import give
from tracegrad._tensor import Tensor


def parameters_to_vector(parameters: Iterable[Tensor]) -> Tensor:
    """Return the elements of all parameters in one vector, through which gradients flow.

    Example:
        >>> import tracegrad as torch
        >>> torch.nn.utils.parameters_to_vector([torch.ones(2, 2), torch.zeros(1)])
        tensor([1., 1., 1., 1., 0.])
    """
    return record(_joined, (), *parameters)  # type: ignore[no-any-return]


def _joined(*of: Aval) -> Lowering:
    return Lowering(
        lambda *arrays: jnp.concatenate([a.ravel() for a in arrays]), name="CatBackward0", saves=False
    )


def vector_to_parameters(vec: Tensor, parameters: Iterable[Tensor]) -> None:
    """Give the parameters the elements of a vector, in order, as ``parameter.data = ...`` does.

    What shared elements with a parameter keeps the old ones. PyTorch's parameters share those of the vector from then
    on; here they have elements of their own.
    """
    if not isinstance(vec, Tensor):
        raise TypeError(f"expected torch.Tensor, but got: {type(vec).__name__}")
    chosen = list(parameters)
    with no_grad():
        for p, new in zip(chosen, record(_split, tuple(p._value.spec.aval for p in chosen), vec)):
            give(p, new)


def _split(vector: Aval, *parts: Aval) -> Lowering:
    if sum(part.numel for part in parts) > vector.numel:
        raise RuntimeError(
            f"vector_to_parameters: expected at least {sum(part.numel for part in parts)} elements, "
            f"got {vector.numel}"
        )

    def fn(a: Any) -> Any:
        found, start = [], 0
        for part in parts:
            found.append(a[start : start + part.numel].reshape(part.shape).astype(part.dtype.np))
            start += part.numel
        return tuple(found)

    return Lowering(fn, differentiable=False)
