"""Products of matrices and vectors.

Every product asks XLA for full precision, as PyTorch's default is: on a GPU or TPU it would else round its operands.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
from jax import lax

from tracegrad._dtype import BOOL, DType, type_name
from tracegrad._engine.op import Lowering
from tracegrad._engine.trace import binary, record
from tracegrad._engine.value import Aval, Number, aval
from tracegrad._ops import _rules as rules
from tracegrad._ops._declare import op
from tracegrad._ops._out import into
from tracegrad._ops.shape import expanded

if TYPE_CHECKING:
    from tracegrad._tensor import Tensor

_FULL = lax.Precision.HIGHEST
_C_NAMES = {"float16": "c10::Half", "bfloat16": "c10::BFloat16", "float32": "float", "float64": "double",
            "bool": "bool", "int64": "long int", "int32": "int", "int16": "short int", "int8": "signed char",
            "uint8": "unsigned char",
            "complex64": "c10::complex<float>", "complex128": "c10::complex<double>"}  # fmt: skip


def product(a: Any, b: Any) -> Any:
    """Return the matrix product of arrays, in full precision; a batch times one matrix as a single product."""
    if a.ndim > 2 and b.ndim <= 2:
        flat = jnp.matmul(a.reshape(math.prod(a.shape[:-1]), a.shape[-1]), b, precision=_FULL)
        return flat.reshape(*a.shape[:-1], *b.shape[1:])
    return jnp.matmul(a, b, precision=_FULL)


def _same_dtype(a: Aval, b: Aval) -> None:
    if a.dtype is not b.dtype:
        raise RuntimeError("expected m1 and m2 to have the same dtype, but got: "
                           f"{_C_NAMES.get(a.dtype.name, a.dtype.name)} != {_C_NAMES.get(b.dtype.name, b.dtype.name)}")


def _no_bool(x: Aval, kernel: str) -> None:
    if x.dtype.category == BOOL:
        raise NotImplementedError(f"\"{kernel}\" not implemented for 'Bool'")


def _tensors(name: str, *operands: Any) -> None:
    for x in operands:
        if isinstance(x, Number):
            raise TypeError(f"{name}(): argument 'other' (position 2) must be Tensor, not {x.kind.__name__}")


# -- matmul --------------------------------------------------------------------------------------------------


@op()
def matmul(input: Tensor, other: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return the matrix product; a vector is a row on the left and a column on the right, further dims broadcast.

    Raises:
        RuntimeError: where shapes or dtypes do not fit.

    Example:
        >>> import tracegrad as torch
        >>> (torch.eye(2) @ torch.tensor([1.0, 2.0])).tolist()
        [1.0, 2.0]
    """
    if out is not None:
        return into(out, matmul, input, other)
    made: Tensor = binary(_matmul, product, input, other)
    return made


def _matmul(a: Any, b: Any, fn: Any) -> Lowering:
    _tensors("matmul", a, b)
    if a.ndim == 0 or b.ndim == 0:
        raise RuntimeError(f"both arguments to matmul need to be at least 1D, but they are {a.ndim}D and {b.ndim}D")
    if a.ndim == 1 and b.ndim == 1:
        return _dot(a, b)
    if a.ndim <= 2 and b.ndim == 2:
        rows = a.shape[0] if a.ndim == 2 else 1
        _mm_fits((rows, a.shape[-1]), b.shape)
        name = "MmBackward0" if a.ndim == 2 else "SqueezeBackward4"
    elif b.ndim == 1:
        rows = math.prod(a.shape[:-1])
        if a.shape[-1] != b.shape[0]:
            raise RuntimeError(f"size mismatch, got input ({rows}), mat ({rows}x{a.shape[-1]}), vec ({b.shape[0]})")
        name = "MvBackward0" if a.ndim == 2 else "UnsafeViewBackward0"
    elif b.ndim == 2:
        _mm_fits((math.prod(a.shape[:-1]), a.shape[-1]), b.shape)
        name = "UnsafeViewBackward0"
    else:
        batch = rules.broadcast(_batch(a), _batch(b))
        if a.shape[-1] != b.shape[-2]:
            n = math.prod(batch)
            raise RuntimeError("Expected size for first two dimensions of batch2 tensor to be: "
                               f"[{n}, {a.shape[-1]}] but got: [{n}, {b.shape[-2]}].")
        name = "UnsafeViewBackward0"
    _same_dtype(a, b)
    _no_bool(a, "addmm_impl_cpu_")
    return Lowering(product, name=name, joint=_of_many(a, b))


def _of_many(a: Aval, b: Aval) -> Any:
    """Return how the gradients of many products with one matrix are summed (`Lowering.joint`)."""

    def of_right(lefts: Any, g: Any) -> Any:
        flat = lefts.reshape(-1, b.shape[0]), g.reshape(-1, b.shape[1])
        return lax.dot_general(*flat, (((0,), (0,)), ((), ())), precision=_FULL)

    def of_left(rights: Any, g: Any) -> Any:
        dims = (0, 2) if b.ndim == 2 else (0,)
        return lax.dot_general(g, rights, ((dims, dims), ((), ())), precision=_FULL)

    return (*([(1, 0, of_right)] if b.ndim == 2 else []), *([(0, 1, of_left)] if a.ndim == 2 and b.ndim <= 2 else []))


def _batch(x: Aval) -> Aval:
    return aval(x.shape[:-2], x.dtype, x.device)


def _mm_fits(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    if a[1] != b[0]:
        raise RuntimeError(f"mat1 and mat2 shapes cannot be multiplied ({a[0]}x{a[1]} and {b[0]}x{b[1]})")


@op()
def mm(input: Tensor, mat2: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return the product of two matrices."""
    if out is not None:
        return into(out, mm, input, mat2)
    made: Tensor = record(_mm, (), input, mat2)
    return made


def _mm(a: Aval, b: Aval) -> Lowering:
    _tensors("mm", a, b)
    for name, x in (("self", a), ("mat2", b)):
        if x.ndim != 2:
            raise RuntimeError(f"{name} must be a matrix")
    _mm_fits(a.shape, b.shape)
    _same_dtype(a, b)
    _no_bool(a, "addmm_impl_cpu_")
    return Lowering(product, name="MmBackward0")


@op()
def bmm(input: Tensor, mat2: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return the products of two batches of matrices, pair by pair."""
    if out is not None:
        return into(out, bmm, input, mat2)
    made: Tensor = record(_bmm, (), input, mat2)
    return made


def _bmm(a: Aval, b: Aval) -> Lowering:
    _tensors("bmm", a, b)
    for i, x in enumerate((a, b), 1):
        if x.ndim != 3:
            raise RuntimeError(f"batch{i} must be a 3D tensor")
    if a.shape[0] != b.shape[0] or a.shape[2] != b.shape[1]:
        raise RuntimeError(f"Expected size for first two dimensions of batch2 tensor to be: [{a.shape[0]}, "
                           f"{a.shape[2]}] "
                           f"but got: [{b.shape[0]}, {b.shape[1]}].")
    if a.dtype is not b.dtype:
        raise RuntimeError(f"expected scalar type {type_name(a.dtype)} but found {type_name(b.dtype)}")
    _no_bool(a, "bmm")
    return Lowering(product, name="BmmBackward0")


@op()
def mv(input: Tensor, vec: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return the product of a matrix and a vector."""
    if out is not None:
        return into(out, mv, input, vec)
    made: Tensor = record(_mv, (), input, vec)
    return made


def _mv(a: Aval, b: Aval) -> Lowering:
    _tensors("mv", a, b)
    if a.ndim != 2 or b.ndim != 1:
        raise RuntimeError(f"vector + matrix @ vector expected, got 1, {a.ndim}, {b.ndim}")
    if a.shape[1] != b.shape[0]:
        raise RuntimeError(f"size mismatch, got input ({a.shape[0]}), mat ({a.shape[0]}x{a.shape[1]}), vec "
                           f"({b.shape[0]})")
    if a.dtype is not b.dtype:
        raise RuntimeError("addmv input tensors must have the same dtype, but got "
                           f"{type_name(b.dtype)}, {type_name(a.dtype)}, and {type_name(b.dtype)}")
    _no_bool(a, "addmv_impl_cpu")
    return Lowering(product, name="MvBackward0")


@op()
def dot(input: Tensor, tensor: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return the sum of the products of two vectors' elements, without conjugation."""
    if out is not None:
        return into(out, dot, input, tensor)
    made: Tensor = record(_dot, (), input, tensor)
    return made


def _dot(a: Aval, b: Aval) -> Lowering:
    _check_dot("dot", a, b)
    return Lowering(product, name="DotBackward0")


@op()
def vdot(input: Tensor, other: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return the sum of the products of two vectors' elements, those of the first conjugated."""
    if out is not None:
        return into(out, vdot, input, other)
    made: Tensor = record(_vdot, (), input, other)
    return made


def _vdot(a: Aval, b: Aval) -> Lowering:
    _check_dot("vdot", a, b)
    return Lowering(lambda x, y: product(jnp.conj(x), y), name="VdotBackward0")


def _check_dot(name: str, a: Aval, b: Aval) -> None:
    _tensors(name, a, b)
    if a.ndim != 1 or b.ndim != 1:
        raise RuntimeError(f"1D tensors expected, but got {a.ndim}D and {b.ndim}D tensors")
    if a.dtype is not b.dtype:
        raise RuntimeError(f"dot : expected both vectors to have same dtype, but found {type_name(a.dtype)} and "
                           f"{type_name(b.dtype)}")
    if a.shape != b.shape:
        n, m = a.shape[0], b.shape[0]
        raise RuntimeError(f"inconsistent tensor size, expected tensor [{n}] and src [{m}] to have the same number of "
                           f"elements, but got {n} and {m} elements respectively")
    _no_bool(a, "dot")


# -- other products ------------------------------------------------------------------------------------------


@op()
def inner(input: Tensor, other: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return the sums of products over the last dims of both; with a 0-dim tensor, the product."""
    if out is not None:
        return into(out, inner, input, other)
    made: Tensor = record(_inner, (), input, other)
    return made


def _inner(a: Aval, b: Aval) -> Lowering:
    _tensors("inner", a, b)
    if a.ndim == 0 or b.ndim == 0:
        dtype = rules.result_type((a, b)).np
        return Lowering(lambda x, y: x.astype(dtype) * y.astype(dtype), name="MulBackward0")
    if a.dtype is not b.dtype:
        raise RuntimeError("both inputs should have same dtype")
    if a.shape[-1] != b.shape[-1]:
        raise RuntimeError("inner() the last dimension must match on both input tensors but got shapes "
                           f"{list(a.shape)} and {list(b.shape)}")
    return Lowering(lambda x, y: jnp.inner(x, y, precision=_FULL), name="ViewBackward0")


@op()
def outer(input: Tensor, vec2: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return the matrix of the products of two vectors' elements."""
    if out is not None:
        return into(out, outer, input, vec2)
    made: Tensor = record(_outer, (), input, vec2)
    return made


@op()
def ger(input: Tensor, vec2: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return the matrix of the products of two vectors' elements: another name of `outer`."""
    if out is not None:
        return into(out, ger, input, vec2)
    return outer(input, vec2)


def _outer(a: Aval, b: Aval) -> Lowering:
    _tensors("outer", a, b)
    for name, x in (("self", a), ("vec2", b)):
        if x.ndim != 1:
            raise RuntimeError(f"outer: Expected 1-D argument {name}, but got {x.ndim}-D")
    dtype = rules.result_type((a, b)).np
    return Lowering(lambda x, y: x.astype(dtype)[:, None] * y.astype(dtype), name="MulBackward0")


@op()
def kron(input: Tensor, other: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return the Kronecker product: a block ``x * other`` for every element ``x`` of ``input``."""
    if out is not None:
        return into(out, kron, input, other)
    made: Tensor = record(_kron, (), input, other)
    return made


def _kron(a: Aval, b: Aval) -> Lowering:
    dtype = rules.result_type((a, b)).np
    inner = jnp.int8 if dtype.kind == "b" else dtype
    return Lowering(lambda x, y: jnp.kron(x.astype(inner), y.astype(inner)).astype(dtype), name="UnsafeViewBackward0")


@op()
def trace(input: Tensor) -> Tensor:
    """Return the sum of a matrix's diagonal."""
    made: Tensor = record(_trace, (), input)
    return made


def _trace(x: Aval) -> Lowering:
    if x.ndim != 2:
        raise RuntimeError(f"trace: expected a matrix, but got tensor with dim {x.ndim}")
    to = x.dtype.np if x.dtype.is_inexact else jnp.int64
    return Lowering(lambda a: jnp.trace(a.astype(to)), name="TraceBackward0", saves=False)


@op()
def cross(input: Tensor, other: Tensor, dim: int | None = None, *, out: Tensor | None = None, **numpy: Any) -> Tensor:
    """Return the cross products of vectors of three elements along ``dim``.

    Where ``dim`` is None, the first dim of size 3 is meant.
    """
    if out is not None or numpy:
        return into(out, cross, input, other, dim, **numpy)
    made: Tensor = record(_cross, (dim,), input, other)
    return made


def _cross(a: Aval, b: Aval, d: int | None) -> Lowering:
    if a.ndim != b.ndim:
        raise RuntimeError("linalg.cross: inputs must have the same number of dimensions.")
    shape = rules.broadcast(a, b)
    if d is None:
        if 3 not in shape:
            raise RuntimeError("no dimension of size 3 in input")
        axis = shape.index(3)
    else:
        axis = rules.dim(d, a.ndim)
    if a.shape[axis] != 3 or b.shape[axis] != 3:
        raise RuntimeError(f"linalg.cross: inputs dimension {axis} must have length 3. Got {a.shape[axis]} and "
                           f"{b.shape[axis]}")
    dtype = rules.result_type((a, b)).np

    def fn(x: Any, y: Any) -> Any:
        x, y = jnp.broadcast_arrays(x.astype(dtype), y.astype(dtype))
        return jnp.cross(x, y, axis=axis)

    return Lowering(fn, name="LinalgCrossBackward0")


@op(method=False)
def tensordot(a: Tensor, b: Tensor, dims: Any = 2, *, out: Tensor | None = None) -> Tensor:
    """Return the sums of products over ``dims``: the last of ``a`` with the first of ``b``.

    Instead of a number of dims, it can be a pair of lists of dims.
    """
    if out is not None:
        return into(out, tensordot, a, b, dims)
    pairs = dims if isinstance(dims, int) else tuple((d,) if isinstance(d, int) else tuple(d) for d in dims)
    made: Tensor = record(_tensordot, (pairs,), a, b)
    return made


def _tensordot(a: Aval, b: Aval, pairs: Any) -> Lowering:
    if isinstance(pairs, int):
        if pairs < 0:
            raise RuntimeError(f"tensordot expects dims >= 0, but got dims={pairs}")
        pairs = (tuple(range(-pairs, 0)), tuple(range(pairs)))
    if len(pairs[0]) != len(pairs[1]):
        raise RuntimeError("both dimension lists should have same length")
    if a.dtype is not b.dtype:
        raise RuntimeError("both inputs should have same dtype")
    left, right = (tuple(rules.dim(d, x.ndim) for d in ds) for x, ds in zip((a, b), pairs))
    for given, other, i, k in zip(*pairs, left, right):
        if a.shape[i] != b.shape[k] and 1 not in (a.shape[i], b.shape[k]):
            raise RuntimeError(f"contracted dimensions need to match, but first has size {a.shape[i]} in dim {given} "
                               "and "
                               f"second has size {b.shape[k]} in dim {other}")
    pairs = list(zip(left, right))

    def fn(x: Any, y: Any) -> Any:
        # A contracted dim of size 1 is broadcast: the other tensor's is summed up.
        x = jnp.sum(x, [i for i, k in pairs if b.shape[k] == 1 != x.shape[i]], keepdims=True).astype(x.dtype)
        y = jnp.sum(y, [k for i, k in pairs if a.shape[i] == 1 != y.shape[k]], keepdims=True).astype(y.dtype)
        return jnp.tensordot(x, y, (left, right), precision=_FULL)

    return Lowering(fn, name="ViewBackward0")


# -- a product added to something ----------------------------------------------------------------------------


@op(inplace=True)
def addmm(input: Tensor, mat1: Tensor, mat2: Tensor, *, beta: Any = 1, alpha: Any = 1,
          out: Tensor | None = None) -> Tensor:  # fmt: skip
    """Return ``beta * input + alpha * (mat1 @ mat2)``; ``input`` is broadcast, and ignored where ``beta`` is 0."""
    if out is not None:
        return into(out, addmm, input, mat1, mat2, beta=beta, alpha=alpha)
    made: Tensor = record(_addmm, (), input, mat1, mat2, beta, alpha)
    return made


def _addmm(x: Aval, a: Aval, b: Aval, beta: Number, alpha: Number) -> Lowering:
    for i, m in enumerate((a, b), 1):
        if m.ndim != 2:
            raise RuntimeError(f"mat{i} must be a matrix, got {m.ndim}-D tensor")
    _mm_fits(a.shape, b.shape)
    if x.dtype is not b.dtype or a.dtype is not b.dtype:
        raise RuntimeError(f"self and mat2 must have the same dtype, but got {type_name(x.dtype)} and "
                           f"{type_name(b.dtype)}")
    expanded(x, (a.shape[0], b.shape[1]))
    return _added("AddmmBackward0", x.dtype)


@op(inplace=True)
def addmv(input: Tensor, mat: Tensor, vec: Tensor, *, beta: Any = 1, alpha: Any = 1,
          out: Tensor | None = None) -> Tensor:  # fmt: skip
    """Return ``beta * input + alpha * (mat @ vec)``; ``input`` is broadcast, and ignored where ``beta`` is 0."""
    if out is not None:
        return into(out, addmv, input, mat, vec, beta=beta, alpha=alpha)
    made: Tensor = record(_addmv, (), input, mat, vec, beta, alpha)
    return made


def _addmv(x: Aval, a: Aval, b: Aval, beta: Number, alpha: Number) -> Lowering:
    if a.ndim != 2 or b.ndim != 1 or x.ndim > 1:
        raise RuntimeError(f"vector + matrix @ vector expected, got {x.ndim}, {a.ndim}, {b.ndim}")
    rows = x.shape[0] if x.ndim and x.shape[0] != 1 else a.shape[0]
    if a.shape[1] != b.shape[0] or rows != a.shape[0]:
        raise RuntimeError(f"size mismatch, got input ({rows}), mat ({a.shape[0]}x{a.shape[1]}), vec ({b.shape[0]})")
    if not x.dtype is a.dtype is b.dtype:
        raise RuntimeError("addmv input tensors must have the same dtype, but got "
                           f"{type_name(x.dtype)}, {type_name(a.dtype)}, and {type_name(b.dtype)}")
    return _added("AddmvBackward0", x.dtype)


@op(inplace=True)
def baddbmm(input: Tensor, batch1: Tensor, batch2: Tensor, *, beta: Any = 1, alpha: Any = 1,
            out: Tensor | None = None) -> Tensor:  # fmt: skip
    """Return ``beta * input + alpha * bmm(batch1, batch2)``; ``input`` is broadcast.

    It is ignored where ``beta`` is 0.
    """
    if out is not None:
        return into(out, baddbmm, input, batch1, batch2, beta=beta, alpha=alpha)
    made: Tensor = record(_baddbmm, (), input, batch1, batch2, beta, alpha)
    return made


def _baddbmm(x: Aval, a: Aval, b: Aval, beta: Number, alpha: Number) -> Lowering:
    _bmm(a, b)
    if x.dtype is not a.dtype:
        raise RuntimeError(f"Input dtypes must be the same, got: input {_C_NAMES[x.dtype.name]}, batch1: "
                           f"{_C_NAMES[a.dtype.name]}, batch2: {_C_NAMES[b.dtype.name]}")
    expanded(x, (a.shape[0], a.shape[1], b.shape[2]))
    return _added("BaddbmmBackward0", x.dtype)


def _added(name: str, dtype: DType) -> Lowering:
    def fn(x: Any, a: Any, b: Any, beta: Any, alpha: Any) -> Any:
        found = product(a, b)
        if not (isinstance(alpha, int) and alpha == 1):
            found = found * jnp.asarray(alpha).astype(dtype.np)
        if isinstance(beta, (int, float)):
            if beta == 0:
                return found
            return found + (x if beta == 1 else x * jnp.asarray(beta).astype(dtype.np))
        return found + jnp.where(beta == 0, jnp.zeros_like(x), x * jnp.asarray(beta).astype(dtype.np))

    return Lowering(fn, name=name)


# -- einsum --------------------------------------------------------------------------------------------------


@op(method=False)
def einsum(equation: Any, *operands: Any) -> Tensor:
    """Return the sums of products that ``equation`` says, such as ``"bij,bjk->bik"``.

    Operands come as varargs or one list; without an equation, a list of subscripts follows each operand.

    Example:
        >>> import tracegrad as torch
        >>> torch.einsum("ij,ij->", torch.ones(2, 2), torch.ones(2, 2)).item()
        4.0
    """
    if type(equation) is not str:
        equation, operands = _from_lists((equation, *operands))
    elif len(operands) == 1 and isinstance(operands[0], (list, tuple)):
        operands = tuple(operands[0])
    if not operands:
        raise ValueError("einsum(): must specify the equation string and at least one operand, or at least one operand "
                         "and its subscripts list")
    made: Tensor = record(_einsum, (equation,), *operands)
    return made


def _from_lists(given: tuple[Any, ...]) -> tuple[str, tuple[Any, ...]]:
    def text(subscripts: Any) -> str:
        return "".join("..." if s is Ellipsis else _LETTERS[s] for s in subscripts)

    pairs = len(given) // 2
    terms = ",".join(text(given[2 * i + 1]) for i in range(pairs))
    if len(given) % 2:
        terms += "->" + text(given[-1])
    return terms, given[: 2 * pairs : 2]


_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def _einsum(*given: Any) -> Lowering:
    *operands, equation = given
    _tensors("einsum", *operands)
    _check_equation(equation, operands)
    dtype = operands[0].dtype
    for x in operands[1:]:
        if x.dtype is not dtype:
            raise RuntimeError(f"expected scalar type {type_name(dtype)} but found {type_name(x.dtype)}")
    text = equation.replace(" ", "")
    return Lowering(lambda *arrays: jnp.einsum(text, *arrays, precision=_FULL), name="ViewBackward0")


def _check_equation(equation: str, operands: list[Aval]) -> None:
    """Raise in PyTorch's words where ``equation`` does not fit the operands."""
    left, arrow, right = equation.partition("->")
    for i, c in enumerate(left):
        if c not in _LETTERS and c not in " ,.":
            raise RuntimeError(f"einsum(): invalid subscript given at index {i} in the equation string, subscripts "
                               "must be "
                               "in [a-zA-Z]")
    terms = [t.replace(" ", "") for t in left.split(",")]
    if len(terms) > len(operands):
        raise RuntimeError("einsum(): fewer operands were provided than specified in the equation")
    if len(terms) < len(operands):
        raise RuntimeError("einsum(): more operands were provided than specified in the equation")
    sizes: dict[str, int] = {}
    for n, (term, x) in enumerate(zip(terms, operands)):
        head, dots, tail = term.partition("...")
        count = len(head) + len(tail)
        if count > x.ndim or (not dots and count != x.ndim):
            remark = "but no dimensions are left for the ellipsis" if dots else "and no ellipsis was given"
            raise RuntimeError(f"einsum(): the number of subscripts in the equation ({count}) does not match the "
                               "number of "
                               f"dimensions ({x.ndim}) for operand {n} {remark}")
        own: dict[str, int] = {}
        for c, size in [*zip(head, x.shape), *zip(tail, x.shape[x.ndim - len(tail) :])]:
            if own.setdefault(c, size) != size:
                raise RuntimeError(f"einsum(): subscript {c} is repeated for operand {n} but the sizes don't match, "
                                   f"{size} != {own[c]}")
            seen = sizes.get(c, 1)
            if size != 1 and seen != 1 and size != seen:
                raise RuntimeError(f"einsum(): subscript {c} has size {size} for operand {n} which does not "
                                   "broadcast with "
                                   f"previously seen size {seen}")
            sizes[c] = max(size, seen)
    for c in right.replace(" ", "").replace("...", "") if arrow else "":
        if c not in sizes:
            raise RuntimeError(f"einsum(): output subscript {c} does not appear in the equation for any input operand")
