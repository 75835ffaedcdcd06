"""What ops of one kind share: promotion, broadcasting, dims. Called at a trie miss only, through a rule."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from tracegrad import _dtype
from tracegrad._dtype import COMPLEX, FLOATING, DType
from tracegrad._engine.op import Lowering
from tracegrad._engine.value import Aval, Number

Operand = Aval | Number
#: One dim or several, as ops take them; None means all.
Dims = int | Sequence[int] | None

#: jax.numpy's ufuncs hash in Python, ten times slower than a function: `operator`'s are the keys of the commonest ops.
_NAMES = {"add": "Add", "truediv": "Div", "subtract": "Sub", "multiply": "Mul", "true_divide": "Div", "negative": "Neg",
          "arcsin": "Asin", "arccos": "Acos", "arctan": "Atan", "arctan2": "Atan2", "power": "Pow",
          "arcsinh": "Asinh", "arccosh": "Acosh", "arctanh": "Atanh"}  # fmt: skip
#: jax.numpy functions whose derivative saves no tensor in PyTorch.
_SAVES_NOTHING = {"add", "sub", "negative", "ceil", "floor", "round", "trunc", "sign", "real", "imag", "conj"}


def backward_name(fn: Callable[..., Any]) -> str:
    """Return PyTorch's name of the backward node of an op that runs ``fn``."""
    name = getattr(fn, "__name__", "op").strip("_")
    return _NAMES.get(name, "".join(part.capitalize() for part in name.split("_"))) + "Backward0"


def lowering(fn: Callable[..., Any], of: Callable[..., Any], **kwargs: Any) -> Lowering:
    """Return a lowering named after ``of``."""
    saves = getattr(of, "__name__", "") not in _SAVES_NOTHING
    return Lowering(fn, **{"name": backward_name(of), "saves": saves, **kwargs})


# -- promotion ---------------------------------------------------------------------------------------------------------


def result_type(operands: Sequence[Operand]) -> DType:
    """Return PyTorch's result type: tensors with dims, then 0-dim tensors, then numbers; a later one counts only
    where its category is higher.
    """  # noqa: D205
    ranks: list[DType | None] = [None, None, None]
    for x in operands:
        rank, dtype = (2, _dtype.of_number(x.kind)) if isinstance(x, Number) else (0 if x.shape else 1, x.dtype)
        known = ranks[rank]
        ranks[rank] = dtype if known is None else _dtype.promote_types(known, dtype)
    result: DType | None = None
    for found in ranks:
        if found is None:
            continue
        if result is None:
            result = found
        elif found.category > result.category:
            both_inexact = found.category == COMPLEX and result.category == FLOATING
            result = _dtype.to_complex(result) if both_inexact else found
    assert result is not None
    return result


def to_float(dtype: DType) -> DType:
    """Return ``dtype``, or the default floating-point type for integers and bools."""
    return dtype if dtype.is_inexact else _dtype.get_default_dtype()


def cast(x: Any, dtype: DType) -> Any:
    """Return an array or number as an array of ``dtype``.

    XLA makes a product with a converted bool a choice, so that False times infinity would be 0: hence our own choice.
    """
    if dtype.category >= FLOATING and getattr(x, "dtype", None) == np.bool_:
        return jnp.where(x, np.ones((), dtype.np), np.zeros((), dtype.np))
    return jnp.asarray(x, dtype.np)


def broadcast(*operands: Operand) -> tuple[int, ...]:
    """Return the broadcast shape; RuntimeError in PyTorch's words where there is none."""
    shapes = [x.shape if isinstance(x, Aval) else () for x in operands]
    ndim = max(map(len, shapes))
    result = [1] * ndim
    for shape in shapes:
        for i, size in reversed([*enumerate(shape, ndim - len(shape))]):
            if size != 1 and result[i] != 1 and result[i] != size:
                raise RuntimeError(f"The size of tensor a ({result[i]}) must match the size of tensor b ({size}) at "
                                   f"non-singleton dimension {i}")
            if size != 1:
                result[i] = size
    return tuple(result)


def unbroadcast(ct: Any, of: Operand) -> Any:
    """Return the cotangent of an operand that was broadcast, in its own dtype; None where it takes none."""
    if isinstance(of, Number) or not of.dtype.is_inexact:
        return None
    extra = ct.ndim - of.ndim
    axes = (*range(extra), *(i + extra for i, n in enumerate(of.shape) if n == 1 and ct.shape[i + extra] != 1))
    return ct.sum(axes).reshape(of.shape).astype(of.dtype.np)


# -- dims --------------------------------------------------------------------------------------------------------------


#: Stands for an argument that must be given, by its own name or by NumPy's, see `_out.renamed`.
REQUIRED: Any = object()


def check_given(x: Any, name: str) -> None:
    """Raise TypeError where an argument was left out."""
    if x is REQUIRED:
        raise TypeError(f'missing 1 required positional arguments: "{name}"')


def dim(d: int, ndim: int) -> int:
    """Return the non-negative form of ``d``; IndexError in PyTorch's words where it is out of range."""
    check_given(d, "dim")
    if isinstance(d, bool) or not hasattr(d, "__index__"):
        raise TypeError(f"dim must be int, not {type(d).__name__}")
    n = max(ndim, 1)
    if not -n <= d < n:
        raise IndexError(f"Dimension out of range (expected to be in range of [{-n}, {n - 1}], but got {d})")
    return d + n if d < 0 else d


def dims(d: Dims, ndim: int) -> tuple[int, ...]:
    """Return ``d`` as a tuple of non-negative dims, all of them where it is None or empty."""
    if d is None or d is not REQUIRED and not isinstance(d, int) and len(d) == 0:
        return tuple(range(ndim))
    found = tuple(dim(x, ndim) for x in ((d,) if d is REQUIRED or isinstance(d, int) else d))
    for x in found:
        if found.count(x) > 1:
            raise RuntimeError(f"dim {x} appears multiple times in the list of dims")
    return found if ndim else ()


def frozen(d: Any) -> Any:
    """Return ``d`` as part of a key: a list of dims or sizes becomes a tuple."""
    return tuple(d) if isinstance(d, list) else d


# -- rules of whole kinds ----------------------------------------------------------------------------------------------


def same(x: Aval, fn: Callable[..., Any]) -> Lowering:
    """One operand, same dtype out."""
    return lowering(fn, fn)


def floating(x: Aval, fn: Callable[..., Any]) -> Lowering:
    """One operand; integers and bools become the default floating-point type first."""
    dtype = to_float(x.dtype)
    if dtype is x.dtype:
        return lowering(fn, fn)
    return lowering(lambda a: fn(a.astype(dtype.np)), fn)


def predicate(x: Aval, fn: Callable[..., Any]) -> Lowering:
    """One operand, bools out."""
    return lowering(fn, fn, differentiable=False)


def arithmetic(a: Operand, b: Operand, fn: Callable[..., Any]) -> Lowering:
    """Two operands, promoted and broadcast."""
    dtype = result_type((a, b))
    broadcast(a, b)
    return lowering(lambda x, y: fn(cast(x, dtype), cast(y, dtype)), fn)


def division(a: Operand, b: Operand, fn: Callable[..., Any]) -> Lowering:
    """Two operands, promoted to a floating-point type at least."""
    dtype = to_float(result_type((a, b)))
    broadcast(a, b)
    return lowering(lambda x, y: fn(cast(x, dtype), cast(y, dtype)), fn)


def comparison(a: Operand, b: Operand, fn: Callable[..., Any]) -> Lowering:
    """Two operands, promoted; bools out."""
    dtype = result_type((a, b))
    broadcast(a, b)
    return lowering(lambda x, y: fn(cast(x, dtype), cast(y, dtype)), fn, differentiable=False)


def logic(a: Aval, b: Aval, fn: Callable[..., Any]) -> Lowering:
    """Two operands taken as truth values; bools out."""
    broadcast(a, b)
    return lowering(lambda x, y: fn(jnp.asarray(x) != 0, jnp.asarray(y) != 0), fn, differentiable=False)
