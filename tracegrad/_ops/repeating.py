"""The same elements several times: whole tensors side by side, or each element in a row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from tracegrad._engine.op import Lowering
from tracegrad._engine.trace import force, record
from tracegrad._engine.value import Aval
from tracegrad._handle import Handle
from tracegrad._ops import _rules as rules
from tracegrad._ops._declare import op
from tracegrad._ops._out import renamed
from tracegrad._ops.creation import check_sizes, sizes

if TYPE_CHECKING:
    from tracegrad._tensor import Tensor


@op()
def repeat(input: Tensor, *repeats: Any, **keyword: Any) -> Tensor:
    """Return copies of ``input`` side by side, this many times along each dim; new dims come first."""
    if keyword:
        return renamed(repeat, keyword, input, *repeats)
    made: Tensor = record(_repeat, (sizes(repeats, name="repeats"), True), input)
    return made


@op()
def tile(input: Tensor, *dims: Any, **keyword: Any) -> Tensor:
    """Return copies of ``input`` side by side; with fewer counts than dims, the last dims are meant."""
    if keyword:
        return renamed(tile, keyword, input, *dims)
    made: Tensor = record(_repeat, (sizes(dims, name="dims"), False), input)
    return made


def _repeat(x: Aval, counts: tuple[int, ...], strict: bool) -> Lowering:
    if len(counts) < x.ndim:
        if strict:
            raise RuntimeError("Number of dimensions of repeat dims can not be smaller than number of dimensions of "
                               "tensor")
        counts = (1,) * (x.ndim - len(counts)) + counts
    shape = (1,) * (len(counts) - x.ndim) + x.shape
    check_sizes(tuple(a * b for a, b in zip(shape, counts)))
    return Lowering(lambda a: jnp.tile(a, counts), name="RepeatBackward0", saves=False)


@op()
def repeat_interleave(input: Tensor, repeats: Any, dim: int | None = None, *, output_size: int | None = None,
                      **numpy: Any) -> Tensor:  # fmt: skip
    """Return each element, or each slice along ``dim``, ``repeats`` times in a row.

    ``repeats`` is an int, or a tensor with one count per slice, which is read when this is called.
    """
    if numpy:
        return renamed(repeat_interleave, numpy, input, repeats, dim, output_size=output_size)
    if isinstance(repeats, Handle):
        counts = np.asarray(force(repeats._value))
        repeats = tuple(counts.tolist()) if counts.ndim else int(counts)
    made: Tensor = record(_repeat_interleave, (rules.frozen(repeats), dim), input)
    return made


def _repeat_interleave(x: Aval, repeats: Any, d: int | None) -> Lowering:
    axis = 0 if d is None else rules.dim(d, x.ndim)
    counts = repeats if isinstance(repeats, tuple) else (repeats,)
    if any(c < 0 for c in counts):
        raise RuntimeError("Repeats must be non-negative")
    length = x.numel if d is None else x.shape[axis] if x.ndim else 1
    if len(counts) not in (1, length):
        raise RuntimeError("repeats must have the same size as input along dim, but got repeats.size(0) = "
                           f"{len(counts)} and input.size({axis}) = {length}")
    of = counts[0] if len(counts) == 1 else np.array(counts)
    total = counts[0] * length if len(counts) == 1 else sum(counts)
    return Lowering(lambda a: jnp.repeat(a.reshape(-1) if d is None or a.ndim == 0 else a, of, axis,
                                         total_repeat_length=total), name="ViewBackward0", saves=False)  # fmt: skip
