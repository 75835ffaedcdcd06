"""Ops that make one element of many: sums, truth, extremes, norms. `statistics` and `running` have their kin."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax.numpy as jnp
from jax import lax
from jax.scipy.special import logsumexp as _jax_logsumexp

from tracegrad import _dtype
from tracegrad._dtype import BOOL, COMPLEX, DType
from tracegrad._engine.op import Lowering
from tracegrad._engine.trace import record, unary
from tracegrad._engine.value import Aval, aval
from tracegrad._ops import _rules as rules
from tracegrad._ops._declare import op
from tracegrad._ops._out import into, renamed
from tracegrad._ops._rules import REQUIRED, Dims, frozen
from tracegrad._ops.blending import maximum, minimum
from tracegrad._ops.pointwise import refuse

if TYPE_CHECKING:
    from tracegrad._tensor import Tensor

#: On CPUs, the first largest of fewer elements than this is found by XLA's own reduction.
_SHORT = 16


class ValuesIndices(NamedTuple):
    """Elements and where they stood, as several ops return them; prints as PyTorch's ``torch.return_types`` do."""

    values: Tensor
    indices: Tensor

    def __repr__(self) -> str:
        name = type(self).__name__.lower()
        return f"torch.return_types.{name}(\nvalues={self.values!r},\nindices={self.indices!r})"


class Max(ValuesIndices):
    """What ``max`` along a dim returns."""


class Min(ValuesIndices):
    """What ``min`` along a dim returns."""


# -- sums and products ---------------------------------------------------------------------------------------


@op()
def sum(input: Tensor, dim: Dims = None, keepdim: bool = False, *, dtype: DType | None = None,
        out: Tensor | None = None, **numpy: Any) -> Tensor:  # fmt: skip
    """Return the sum over ``dim``, over every dim where it is None. Integers and bools sum up as int64.

    Example:
        >>> import tracegrad as torch
        >>> torch.tensor([[1, 2], [3, 4]]).sum(0)
        tensor([4, 6])
    """
    if out is not None or numpy:
        return into(out, sum, input, dim, keepdim, dtype=dtype, **numpy)
    if dim is None and dtype is None and not keepdim:
        return unary(_full_sum, jnp.sum, input)  # type: ignore[no-any-return]
    return record(_sum, (frozen(dim), keepdim, dtype), input)  # type: ignore[no-any-return]


def _full_sum(x: Aval, fn: Callable[..., Any]) -> Lowering:
    return _sum(x, None, False, None)


def widened(x: Aval, dtype: DType | None) -> DType:
    """Return the dtype of a sum or product."""
    return dtype or (x.dtype if x.dtype.is_inexact else _dtype.int64)


def _sum(x: Aval, dim: Dims, keepdim: bool, dtype: DType | None) -> Lowering:
    axes, out = rules.dims(dim, x.ndim), widened(x, dtype)
    name = "SumBackward0" if dim is None else "SumBackward1"
    return Lowering(lambda a: jnp.sum(a.astype(out.np), axes, keepdims=keepdim).astype(out.np), name=name,
                    saves=False)  # fmt: skip


@op(function=False)
def sum_to_size(input: Tensor, *size: Any, **keyword: Any) -> Tensor:
    """Return ``input`` summed over the dims in which ``size``, which broadcasts to its shape, is 1 or missing."""
    if keyword:
        return renamed(sum_to_size, keyword, input, *size)
    to = tuple(size[0]) if len(size) == 1 and not isinstance(size[0], int) else size
    return record(_sum_to_size, (to,), input)  # type: ignore[no-any-return]


def _sum_to_size(x: Aval, to: tuple[int, ...]) -> Lowering:
    lead = x.ndim - len(to)
    if lead < 0 or [n for n, m in zip(to, x.shape[lead:]) if n not in (1, m)]:
        raise RuntimeError(f"size {{{list(to)}}} is not expandable to size {{{list(x.shape)}}}.")
    axes = (*range(lead), *(k + lead for k, n in enumerate(to) if n == 1 and x.shape[k + lead] != 1))
    if to and not axes:
        return Lowering(lambda a: a, name="AliasBackward0", saves=False)
    out = widened(x, None).np
    return Lowering(lambda a: jnp.sum(a.astype(out), axes).reshape(to), name="SumBackward1", saves=False)


@op()
def nansum(input: Tensor, dim: Dims = None, keepdim: bool = False, *, dtype: DType | None = None,
           out: Tensor | None = None, **numpy: Any) -> Tensor:  # fmt: skip
    """Return the sum over ``dim`` with nan taken as 0."""
    if out is not None or numpy:
        return into(out, nansum, input, dim, keepdim, dtype=dtype, **numpy)
    return record(_nansum, (frozen(dim), keepdim, dtype), input)  # type: ignore[no-any-return]


def _nansum(x: Aval, dim: Dims, keepdim: bool, dtype: DType | None) -> Lowering:
    if x.dtype.is_complex:
        raise RuntimeError("nansum on CPU does not support complex inputs")
    total = _sum(x, dim, keepdim, dtype).fn
    return Lowering(lambda a: total(jnp.where(a != a, 0, a).astype(a.dtype)), name="NansumBackward0")


@op()
def mean(input: Tensor, dim: Dims = None, keepdim: bool = False, *, dtype: DType | None = None,
         out: Tensor | None = None, **numpy: Any) -> Tensor:  # fmt: skip
    """Return the mean over ``dim``, over every dim where it is None. RuntimeError for integers and bools.

    Example:
        >>> import tracegrad as torch
        >>> torch.tensor([1., 2.]).mean()
        tensor(1.5000)
    """
    if out is not None or numpy:
        return into(out, mean, input, dim, keepdim, dtype=dtype, **numpy)
    if dim is None and dtype is None and not keepdim:
        return unary(_full_mean, jnp.mean, input)  # type: ignore[no-any-return]
    return record(_mean, (frozen(dim), keepdim, dtype), input)  # type: ignore[no-any-return]


def _full_mean(x: Aval, fn: Callable[..., Any]) -> Lowering:
    return _mean(x, None, False, None)


def _mean(x: Aval, dim: Dims, keepdim: bool, dtype: DType | None) -> Lowering:
    axes, out = rules.dims(dim, x.ndim), dtype or x.dtype
    if not out.is_inexact:
        raise RuntimeError(f"mean(): could not infer output dtype. {'Input' if dtype is None else 'Optional'} dtype "
                           "must be either a floating point or complex dtype. "
                           f"Got: {_dtype.type_name(out)}")
    name = "MeanBackward0" if dim is None else "MeanBackward1"
    return Lowering(lambda a: jnp.mean(a.astype(out.np), axes, keepdims=keepdim), name=name, saves=False)


@op()
def nanmean(input: Tensor, dim: Dims = None, keepdim: bool = False, *, dtype: DType | None = None,
            out: Tensor | None = None, **numpy: Any) -> Tensor:  # fmt: skip
    """Return the mean over ``dim`` of what is not nan."""
    if out is not None or numpy:
        return into(out, nanmean, input, dim, keepdim, dtype=dtype, **numpy)
    return record(_nanmean, (frozen(dim), keepdim, dtype), input)  # type: ignore[no-any-return]


def _nanmean(x: Aval, dim: Dims, keepdim: bool, dtype: DType | None) -> Lowering:
    _mean(x, dim, keepdim, dtype)
    axes, total = rules.dims(dim, x.ndim), _nansum(x, dim, keepdim, dtype).fn
    return Lowering(lambda a: total(a) / jnp.sum(a == a, axes, keepdims=keepdim).astype(total(a).dtype),
                    name="DivBackward0")  # fmt: skip


@op()
def prod(input: Tensor, dim: int | None = None, keepdim: bool = False, *, dtype: DType | None = None,
         out: Tensor | None = None, **numpy: Any) -> Tensor:  # fmt: skip
    """Return the product along ``dim``, of all elements where it is None."""
    if out is not None or numpy:
        return into(out, prod, input, dim, keepdim, dtype=dtype, **numpy)
    return record(_prod, (dim, keepdim, dtype), input)  # type: ignore[no-any-return]


def _prod(x: Aval, dim: int | None, keepdim: bool, dtype: DType | None) -> Lowering:
    axes, out = _one(dim, x.ndim), widened(x, dtype)
    name = "ProdBackward0" if dim is None else "ProdBackward1"
    return Lowering(lambda a: jnp.prod(a.astype(out.np), axes, keepdims=keepdim).astype(out.np), name=name)


def _one(dim: int | None, ndim: int) -> tuple[int, ...]:
    """Return the axes of a reduction along one dim, or all."""
    return tuple(range(ndim)) if dim is None else (rules.dim(dim, ndim),) if ndim else ()


@op()
def count_nonzero(input: Tensor, dim: Dims = None, **numpy: Any) -> Tensor:
    """Return how many elements are not 0."""
    if numpy:
        return renamed(count_nonzero, numpy, input, dim)
    return record(_count_nonzero, (frozen(dim),), input)  # type: ignore[no-any-return]


def _count_nonzero(x: Aval, dim: Dims) -> Lowering:
    axes = rules.dims(dim, x.ndim)
    return Lowering(lambda a: jnp.sum(a != 0, axes, dtype=jnp.int64), differentiable=False)


@op()
def logsumexp(input: Tensor, dim: Dims = REQUIRED, keepdim: bool = False, *, out: Tensor | None = None,
              **numpy: Any) -> Tensor:  # fmt: skip
    """Return ``log(sum(exp(input)))`` over ``dim`` without overflow between."""
    if out is not None or numpy:
        return into(out, logsumexp, input, dim, keepdim, **numpy)
    return record(_logsumexp, (frozen(dim), keepdim), input)  # type: ignore[no-any-return]


def _logsumexp(x: Aval, dim: Dims, keepdim: bool) -> Lowering:
    axes, dtype = rules.dims(dim, x.ndim), rules.to_float(x.dtype)

    def fn(a: Any) -> Any:
        return _jax_logsumexp(a.astype(dtype.np), axes, keepdims=keepdim)

    return Lowering(fn, name="LogsumexpBackward0")


# -- truth ---------------------------------------------------------------------------------------------------


@op()
def any(input: Tensor, dim: Dims = None, keepdim: bool = False, *, out: Tensor | None = None, **numpy: Any) -> Tensor:
    """Return whether some element is true, that is not 0."""
    if out is not None or numpy:
        return into(out, any, input, dim, keepdim, **numpy)
    return record(_truth, (jnp.any, frozen(dim), keepdim), input)  # type: ignore[no-any-return]


@op()
def all(input: Tensor, dim: Dims = None, keepdim: bool = False, *, out: Tensor | None = None, **numpy: Any) -> Tensor:
    """Return whether every element is true, that is not 0."""
    if out is not None or numpy:
        return into(out, all, input, dim, keepdim, **numpy)
    return record(_truth, (jnp.all, frozen(dim), keepdim), input)  # type: ignore[no-any-return]


def _truth(x: Aval, fn: Callable[..., Any], dim: Dims, keepdim: bool) -> Lowering:
    axes = () if dim == () else rules.dims(dim, x.ndim)
    dtype = _dtype.uint8 if x.dtype is _dtype.uint8 else _dtype.bool_
    return Lowering(lambda a: fn(a != 0, axes, keepdims=keepdim).astype(dtype.np), differentiable=False)


# -- extremes ------------------------------------------------------------------------------------------------


@op()
def max(input: Tensor, dim: Any = None, keepdim: bool = False, *, other: Tensor | None = None, out: Any = None,
        **numpy: Any) -> Any:  # fmt: skip
    """Return the largest element, or a pair ``(values, indices)`` along ``dim``, or ``maximum`` with a tensor.

    Among equal elements the gradient is shared; along a dim the first gets it.

    Example:
        >>> import tracegrad as torch
        >>> torch.tensor([[1, 5], [7, 2]]).max(1).indices
        tensor([1, 0])
    """
    if out is not None or numpy:
        return into(out, max, input, dim, keepdim, other=other, **numpy)
    if dim is None and other is None:
        return unary(_largest, jnp.max, input)
    if type(dim) is int:
        return Max._make(record(_extreme_along, ("max", dim, keepdim), input))
    return maximum(input, dim if other is None else other)


@op()
def min(input: Tensor, dim: Any = None, keepdim: bool = False, *, other: Tensor | None = None, out: Any = None,
        **numpy: Any) -> Any:  # fmt: skip
    """Return the smallest element, or a pair ``(values, indices)`` along ``dim``, or ``minimum`` with a tensor.

    Among equal elements the gradient is shared; along a dim the first gets it.
    """
    if out is not None or numpy:
        return into(out, min, input, dim, keepdim, other=other, **numpy)
    if dim is None and other is None:
        return unary(_smallest, jnp.min, input)
    if type(dim) is int:
        return Min._make(record(_extreme_along, ("min", dim, keepdim), input))
    return minimum(input, dim if other is None else other)


def _largest(x: Aval, fn: Callable[..., Any]) -> Lowering:
    return _extreme(x, "max", None, False, "MaxBackward1")


def _smallest(x: Aval, fn: Callable[..., Any]) -> Lowering:
    return _extreme(x, "min", None, False, "MinBackward1")


@op()
def amax(input: Tensor, dim: Dims = (), keepdim: bool = False, *, out: Tensor | None = None, **numpy: Any) -> Tensor:
    """Return the largest element over ``dim``; equal ones share the gradient."""
    if out is not None or numpy:
        return into(out, amax, input, dim, keepdim, **numpy)
    return record(_extreme, ("amax", frozen(dim), keepdim, "AmaxBackward0"), input)  # type: ignore[no-any-return]


@op()
def amin(input: Tensor, dim: Dims = (), keepdim: bool = False, *, out: Tensor | None = None, **numpy: Any) -> Tensor:
    """Return the smallest element over ``dim``; equal ones share the gradient."""
    if out is not None or numpy:
        return into(out, amin, input, dim, keepdim, **numpy)
    return record(_extreme, ("amin", frozen(dim), keepdim, "AminBackward0"), input)  # type: ignore[no-any-return]


class Aminmax(NamedTuple):
    """What ``aminmax`` returns; prints as PyTorch's ``torch.return_types.aminmax`` does."""

    min: Tensor
    max: Tensor

    def __repr__(self) -> str:
        return f"torch.return_types.aminmax(\nmin={self.min!r},\nmax={self.max!r})"


@op()
def aminmax(input: Tensor, *, dim: int | None = None, keepdim: bool = False, out: Any = None, **numpy: Any) -> Aminmax:
    """Return the smallest and the largest element along ``dim``, of all where it is None.

    Example:
        >>> import tracegrad as torch
        >>> torch.tensor([1, 5, 3]).aminmax().max
        tensor(5)
    """
    if out is not None or numpy:
        return into(out, aminmax, input, dim=dim, keepdim=keepdim, **numpy)
    return Aminmax._make(record(_aminmax, (dim, keepdim), input))


def _aminmax(x: Aval, dim: int | None, keepdim: bool) -> Lowering:
    if x.numel == 0 and dim is None:
        raise RuntimeError("aminmax(): cannot compute aminmax over an empty dimension as the operation has no "
                           "identity.")
    refuse("aminmax_cpu", x.dtype, COMPLEX)
    least, most = (_extreme(x, name, dim, keepdim, "").fn for name in ("amin", "amax"))
    return Lowering(lambda a: (least(a), most(a)), name="AminmaxBackward0")


def not_empty(x: Aval, dim: Dims, name: str, remedy: bool = True) -> tuple[int, ...]:
    """Return the axes; raise where there is no element to choose among."""
    axes = rules.dims(dim, x.ndim)
    if x.numel == 0:
        if dim is None or dim == ():
            text = f"{name}(): Expected reduction dim to be specified for input.numel() == 0."
            if not remedy:
                raise IndexError(text)
            raise RuntimeError(text + " Specify the reduction dim with the 'dim' argument.")
        for axis in axes:
            if x.shape[axis] == 0:
                raise IndexError(f"{name}(): Expected reduction dim {axis} to have non-zero size.")
    return axes


def _extreme(x: Aval, name: str, dim: Dims, keepdim: bool, node: str) -> Lowering:
    axes = not_empty(x, dim, name)
    refuse(f"{name}_all" if dim is None else f"{name[1:]}_values_cpu", x.dtype, COMPLEX)
    fn = jnp.max if name.endswith("max") else jnp.min
    return Lowering(lambda a: fn(a, axes, keepdims=keepdim), name=node)


def _extreme_along(x: Aval, name: str, dim: int, keepdim: bool) -> Lowering:
    if x.dtype.is_complex:
        raise RuntimeError(f"{name}(): does not support complex input")
    not_empty(x, dim, name)
    reduce = jnp.max if name == "max" else jnp.min
    return pick(x, rules.dim(dim, x.ndim), keepdim, lambda a, d: _first(x, a, d, name),
                f"{name.capitalize()}Backward0", lambda a, d: reduce(a, d, keepdims=True))  # fmt: skip


def _first(x: Aval, a: Any, dim: int, name: str) -> Any:
    """Return the index of the first largest or smallest element along ``dim``, which is kept; the first nan if any.

    XLA's own way is a loop on CPUs that carries values and indices, several times slower than two plain reductions.
    """
    size = x.shape[dim]
    if x.device.type != "cpu" or size < _SHORT:
        return (jnp.argmax if name == "max" else jnp.argmin)(a, dim, keepdims=True)
    best = (jnp.max if name == "max" else jnp.min)(a, dim, keepdims=True)
    places = lax.broadcasted_iota(jnp.int32 if size < 2**31 else jnp.int64, x.shape, dim)
    return jnp.min(jnp.where((a == best) | (a != a), places, size - 1), dim, keepdims=True)


def pick(x: Aval, dim: int, keepdim: bool, find: Callable[[Any, int], Any], name: str,
         value: Callable[[Any, int], Any] | None = None) -> Lowering:  # fmt: skip
    """Return the lowering of an op that picks one element along ``dim``, to which alone its gradient goes.

    ``find`` gives its index with the dim kept; ``value`` the element, where that is cheaper than to look it up.
    """
    if not x.ndim:
        return Lowering(lambda a: (a, jnp.zeros((), jnp.int64)), name=name)

    def shaped(a: Any) -> Any:
        return a if keepdim else lax.squeeze(a, (dim,))

    def fn(a: Any) -> Any:
        index = find(a, dim)
        return shaped(jnp.take_along_axis(a, index, dim)), shaped(index.astype(jnp.int64))

    def forward(a: Any) -> tuple[Any, Any]:
        index = find(a, dim)
        found = value(a, dim) if value else jnp.take_along_axis(a, index, dim)
        return (shaped(found), shaped(index.astype(jnp.int64))), index

    def backward(index: Any, cts: Any) -> tuple[Any, ...]:
        ct = cts[0] if keepdim else jnp.expand_dims(cts[0], dim)
        here = lax.broadcasted_iota(index.dtype, x.shape, dim) == index
        return (jnp.where(here, ct, jnp.zeros((), ct.dtype)),)

    return Lowering(fn, forward, backward, name)


@op()
def argmax(input: Tensor, dim: int | None = None, keepdim: bool = False, *, out: Tensor | None = None,
           **numpy: Any) -> Tensor:  # fmt: skip
    """Return the index of the first largest element, in the flattened tensor where ``dim`` is None."""
    if out is not None or numpy:
        return into(out, argmax, input, dim, keepdim, **numpy)
    return record(_argument, ("argmax", dim, keepdim), input)  # type: ignore[no-any-return]


@op()
def argmin(input: Tensor, dim: int | None = None, keepdim: bool = False, *, out: Tensor | None = None,
           **numpy: Any) -> Tensor:  # fmt: skip
    """Return the index of the first smallest element, in the flattened tensor where ``dim`` is None."""
    if out is not None or numpy:
        return into(out, argmin, input, dim, keepdim, **numpy)
    return record(_argument, ("argmin", dim, keepdim), input)  # type: ignore[no-any-return]


def _argument(x: Aval, name: str, dim: int | None, keepdim: bool) -> Lowering:
    if x.dtype.category in (BOOL, COMPLEX):
        raise RuntimeError(f"{name}(): does not support {'complex' if x.dtype.is_complex else 'bool'} input")
    not_empty(x, dim, name, remedy=False)
    if not x.ndim:
        return Lowering(lambda a: jnp.zeros((), jnp.int64), differentiable=False)
    flat = aval((x.numel,), x.dtype, x.device) if dim is None else x
    axis = 0 if dim is None else rules.dim(dim, x.ndim)

    def fn(a: Any) -> Any:
        index = _first(flat, a.reshape(flat.shape), axis, name[3:]).astype(jnp.int64)
        if dim is None:
            return index.reshape((1,) * x.ndim if keepdim else ())
        return index if keepdim else lax.squeeze(index, (axis,))

    return Lowering(fn, differentiable=False)


def safe_sqrt(x: Any) -> Any:
    """Return the square root, with a gradient of 0 at 0."""
    return jnp.where(x == 0, 0, jnp.sqrt(jnp.where(x == 0, 1, x)))


# -- norms ---------------------------------------------------------------------------------------------------


@op()
def norm(input: Tensor, p: float | str | None = "fro", dim: Dims = None, keepdim: bool = False,
         dtype: DType | None = None, *, out: Tensor | None = None) -> Tensor:  # fmt: skip
    """Return the ``p``-norm over ``dim``, of all elements where it is None; its gradient is 0 where it is 0.

    Example:
        >>> import tracegrad as torch
        >>> torch.tensor([3., -4.]).norm(), torch.tensor([3., -4.]).norm(1)
        (tensor(5.), tensor(7.))
    """
    if out is not None:
        return into(out, norm, input, p, dim, keepdim, dtype)
    return record(_norm, (p, frozen(dim), keepdim, dtype), input)  # type: ignore[no-any-return]


def _norm(x: Aval, p: Any, dim: Dims, keepdim: bool, dtype: DType | None) -> Lowering:
    if p == "nuc":
        return _nuclear(x, dim, keepdim, dtype)
    if isinstance(p, str) and p != "fro":
        raise RuntimeError(f"linalg.matrix_norm: Order {p} not supported.")
    if not x.dtype.is_inexact:
        raise RuntimeError("linalg.vector_norm: Expected a floating point or complex tensor as input. "
                           f"Got {_dtype.type_name(x.dtype)}")
    axes, power = rules.dims(dim, x.ndim), 2.0 if p is None or p == "fro" else float(p)
    if power in (math.inf, -math.inf) and math.prod(x.shape[i] for i in axes) == 0:
        raise RuntimeError(f"linalg.vector_norm cannot compute the {p} norm on an empty tensor because the "
                           "operation does not have an identity")
    to = dtype or x.dtype
    if _dtype.promote_types(x.dtype, to) is not to:
        raise RuntimeError(f"linalg.vector_norm: the dtype of the input ({_dtype.type_name(x.dtype)}) should be "
                           f"convertible without narrowing to the specified dtype ({_dtype.type_name(to)})")

    def fn(a: Any) -> Any:
        return vector_norm(a.astype(to.np), power, axes, keepdim)

    return Lowering(fn, name="LinalgVectorNormBackward0")


def _nuclear(x: Aval, dim: Dims, keepdim: bool, dtype: DType | None) -> Lowering:
    """The rule of the sum of singular values."""
    if not x.dtype.is_inexact:
        raise RuntimeError("linalg.matrix_norm: Expected a floating point or complex tensor as input. "
                           f"Got {_dtype.type_name(x.dtype)}")
    if x.ndim < 2:
        raise RuntimeError("linalg.matrix_norm: The input tensor A must have at least 2 dimensions.")
    if dim is None and x.ndim > 2 or dim is not None and (isinstance(dim, int) or len(dim) != 2):
        raise RuntimeError("linalg.matrix_norm: dim must be a 2-tuple of ints. Got " + str(dim))
    axes, to = rules.dims(dim, x.ndim), dtype or x.dtype

    def fn(a: Any) -> Any:
        values = jnp.linalg.svd(jnp.moveaxis(a.astype(to.np), axes, (-2, -1)), compute_uv=False)
        total = jnp.sum(values, -1)
        return jnp.expand_dims(total, tuple(sorted(axes))) if keepdim else total

    return Lowering(fn, name="SumBackward1")


def vector_norm(a: Any, p: float, axes: tuple[int, ...], keepdim: bool) -> Any:
    """Return the ``p``-norm of an array over ``axes``; its gradient is 0 where it is 0."""
    zero = a == 0
    if p == 2:
        squares = a.real**2 + a.imag**2 if jnp.iscomplexobj(a) else a * a
        return safe_sqrt(jnp.sum(squares, axes, keepdims=keepdim))
    size = jnp.where(zero, 0, jnp.abs(jnp.where(zero, 1, a)))  # its gradient at 0 is 0
    if p == math.inf:
        return jnp.max(size, axes, keepdims=keepdim)
    if p == -math.inf:
        return jnp.min(size, axes, keepdims=keepdim)
    if p == 0:
        return jnp.sum(lax.stop_gradient(size) != 0, axes, keepdims=keepdim).astype(size.dtype)
    if p == 1:
        return jnp.sum(size, axes, keepdims=keepdim)
    inner = jnp.where(zero, 0 if p > 0 else math.inf, jnp.where(zero, 1, size) ** p)
    total = jnp.sum(inner, axes, keepdims=keepdim)
    return jnp.where(total == 0, 0, jnp.where(total == 0, 1, total) ** (1 / p))
