"""An op as a function whose derivative, where JAX takes it, is the op's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax import lax

from tracegrad._engine.op import Lowering


def derived(lowering: Lowering, operands: Sequence[Any]) -> Callable[..., Any]:
    """Return how ``lowering`` runs on operands like these: arrays where there are arrays, else these very numbers."""
    forward, backward = lowering.forward, lowering.backward
    if forward is None or backward is None:
        return lowering.fn
    moving = [i for i, x in enumerate(operands) if isinstance(x, (jax.Array, np.ndarray))]
    dtypes = [operands[i].dtype for i in moving]
    kept: list[Any] = []  # how what the forward saved is put together, and what of it is no array

    def full(arrays: Sequence[Any]) -> list[Any]:
        args = list(operands)
        for i, array in zip(moving, arrays):
            args[i] = array
        return args

    def run_forward(*arrays: Any) -> tuple[Any, list[Any]]:
        outs, saved = forward(*full(arrays))
        found, tree = jax.tree_util.tree_flatten(saved)
        kept[:] = tree, [None if isinstance(x, jax.Array) else x for x in found]
        return outs, [x for x in found if isinstance(x, jax.Array)]

    def run_backward(arrays: Sequence[Any], cotangent: Any) -> tuple[Any, ...]:
        tree, static = kept
        rest = iter(arrays)
        saved = jax.tree_util.tree_unflatten(tree, [next(rest) if x is None else x for x in static])
        result = backward(saved, cotangent)
        return tuple(None if result[i] is None else lax.convert_element_type(result[i], dtype)
                     for i, dtype in zip(moving, dtypes))  # fmt: skip

    fn = jax.custom_vjp(lambda *arrays: lowering.fn(*full(arrays)))
    fn.defvjp(run_forward, run_backward)
    return lambda *args: fn(*[args[i] for i in moving])
