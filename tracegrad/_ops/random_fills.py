"""Filling a tensor with random numbers, in place."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from tracegrad import _dtype
from tracegrad._dtype import BOOL, FLOATING, DType, type_name
from tracegrad._engine.op import Lowering
from tracegrad._engine.trace import record, state
from tracegrad._engine.value import Aval
from tracegrad._handle import check_inplace, write
from tracegrad._ops import _distributions as dist
from tracegrad._ops._declare import op
from tracegrad._ops._generator import Generator, draw
from tracegrad._ops._opmath import c_name
from tracegrad._ops.random import as_word, bounds, check_held, check_probability, drawn, probability, without_gradient

if TYPE_CHECKING:
    from tracegrad._tensor import Tensor

_MISSING: Any = object()


def _fill(self: Tensor, of: Callable[..., Any], name: str, generator: Generator | None, *params: Any) -> Tensor:
    check_inplace(self)
    s, n = draw(generator)
    aval = self._value.spec.aval
    if self._value.spec.wants and state.mode.grad:
        return write(self, record(_redrawn, (of, name), self, *params, s, n))
    return write(self, record(drawn, (of, aval.shape, aval.dtype, aval.device, name), s, n, *params))


def _redrawn(x: Aval, *rest: Any) -> Lowering:
    """The rule of a fill of a tensor with a history, which gets zeros for its gradient."""
    *_, of, name = rest
    return without_gradient(lambda a, *p: of(p[-2:], x.shape, x.dtype.np, *p[:-2]), name)


@op(function=False)
def uniform_(self: Tensor, from_: float = 0.0, to: float = 1.0, *, generator: Generator | None = None,
             **old: float) -> Tensor:  # fmt: skip
    """Fill with numbers drawn uniformly from ``from`` (included) to ``to`` (excluded).

    The first argument is called ``from`` in PyTorch, which can be given by keyword through ``**{"from": ...}``.

    See https://docs.pytorch.org/docs/stable/generated/torch.Tensor.uniform_.html
    """
    from_ = old.pop("from", from_)
    if old:
        raise TypeError(f"uniform_() got an unexpected keyword argument '{next(iter(old))}'")
    dtype = self._value.spec.aval.dtype
    if dtype.is_inexact:
        part = _dtype.to_real(dtype)
        limit = float(jnp.finfo(part.np).max)  # type: ignore[no-untyped-call]
        for name, x in (("from", from_), ("to", to)):
            if not -limit <= x <= limit:
                raise RuntimeError(f"{name} is out of bounds for {c_name(part)}")
        if from_ > to:
            raise RuntimeError(f"uniform_ expects to return a [from, to) range, but found from={from_:g} > to={to:g}")
        if to - from_ > limit:
            raise RuntimeError("uniform_ expects to-from <= std::numeric_limits<Float>::max(), but found "
                               f"to={to:g} and from={from_:g} which result in to-from to exceed the limit")
    return _fill(self, dist.uniform, "UniformBackward0", generator, float(from_), float(to))


@op(function=False)
def normal_(self: Tensor, mean: float = 0.0, std: float = 1.0, *, generator: Generator | None = None) -> Tensor:
    """Fill with numbers drawn from the normal distribution of this mean and standard deviation.

    See https://docs.pytorch.org/docs/stable/generated/torch.Tensor.normal_.html
    """
    if std < 0:
        raise RuntimeError(f"normal expects std >= 0.0, but found std {std:g}")
    return _fill(self, dist.normal, "NormalBackward0", generator, float(mean), float(std))


@op(function=False)
def log_normal_(self: Tensor, mean: float = 1.0, std: float = 2.0, *, generator: Generator | None = None) -> Tensor:
    """Fill with numbers whose logarithms are normal, of this mean and standard deviation.

    See https://docs.pytorch.org/docs/stable/generated/torch.Tensor.log_normal_.html
    """
    if not std > 0:
        raise RuntimeError(f"log_normal_ expects std > 0.0, but found std={std:g}")
    return _fill(self, dist.log_normal, "LogNormalBackward0", generator, float(mean), float(std))


@op(function=False)
def bernoulli_(self: Tensor, p: Any = 0.5, *, generator: Generator | None = None) -> Tensor:
    """Fill with ones, each with probability ``p`` (a number, or a tensor that expands to the shape), and zeros.

    See https://docs.pytorch.org/docs/stable/generated/torch.Tensor.bernoulli_.html
    """
    check_probability(p)
    if not hasattr(p, "_value"):
        return _fill(self, dist.coin, "BernoulliBackward2", generator, float(p))
    check_inplace(self)
    aval = self._value.spec.aval
    old = (self,) if self._value.spec.wants and state.mode.grad else ()
    return write(self, record(_bernoulli_by, (aval.shape, aval.dtype), p.detach(), *old, *draw(generator)))


def _bernoulli_by(p: Aval, *rest: Any) -> Lowering:
    *old, shape, dtype = rest
    if dtype.is_complex:
        raise NotImplementedError(f'"bernoulli_tensor_cpu_self_" not implemented for \'{type_name(dtype)}\'')
    if not p.dtype.is_floating_point:
        raise NotImplementedError(f'"bernoulli_tensor_cpu_p_" not implemented for \'{type_name(p.dtype)}\'')
    lead = len(shape) - p.ndim
    for i, size in enumerate(p.shape):
        if lead >= 0 and size not in (1, shape[lead + i]):
            raise RuntimeError(
                f"The expanded size of the tensor ({shape[lead + i]}) must match the existing size ({size}) at "
                f"non-singleton dimension {lead + i}.  Target sizes: {list(shape)}.  Tensor sizes: {list(p.shape)}")
    if lead < 0:
        raise RuntimeError(
            f"expand({type_name(p.dtype)}Tensor{{{list(p.shape)}}}, size={list(shape)}): the number of sizes provided "
            f"({len(shape)}) must be greater or equal to the number of dimensions in the tensor ({p.ndim})")
    checks = (probability(0),)
    if len(old) > 2:
        return without_gradient(lambda a, x, s, n: dist.coin((s, n), shape, dtype.np, a), "BernoulliBackward1",
                                checks=checks)  # fmt: skip
    return Lowering(lambda a, s, n: dist.coin((s, n), shape, dtype.np, a), differentiable=False, checks=checks)


@op(function=False)
def exponential_(self: Tensor, lambd: float = 1.0, *, generator: Generator | None = None) -> Tensor:
    """Fill with positive numbers drawn from the exponential distribution of rate ``lambd``.

    See https://docs.pytorch.org/docs/stable/generated/torch.Tensor.exponential_.html
    """
    if not lambd > 0:
        raise RuntimeError(f"exponential_ expects lambda > 0.0, but found lambda={lambd:g}")
    _check_continuous("Exponential", self._value.spec.aval.dtype, type_name)
    return _fill(self, dist.exponential, "ExponentialBackward0", generator, float(lambd))


@op(function=False)
def cauchy_(self: Tensor, median: float = 0.0, sigma: float = 1.0, *, generator: Generator | None = None) -> Tensor:
    """Fill with numbers drawn from the Cauchy distribution of this median and scale.

    See https://docs.pytorch.org/docs/stable/generated/torch.Tensor.cauchy_.html
    """
    if not sigma > 0:
        raise RuntimeError(f"cauchy_ expects sigma > 0.0, but found sigma={sigma:g}")
    _check_continuous("Cauchy", self._value.spec.aval.dtype, c_name)
    return _fill(self, dist.cauchy, "CauchyBackward0", generator, float(median), float(sigma))


def _check_continuous(of: str, dtype: DType, name: Callable[[DType], str]) -> None:
    if not dtype.is_floating_point:
        raise RuntimeError(f"{of} distribution is a continuous probability distribution. dtype must be a floating "
                           f"point but you specified {name(dtype)}")


@op(function=False)
def geometric_(self: Tensor, p: float, *, generator: Generator | None = None) -> Tensor:
    """Fill with numbers of trials of probability ``p`` up to the first success: 1, 2 and so on.

    See https://docs.pytorch.org/docs/stable/generated/torch.Tensor.geometric_.html
    """
    if not 0 < p < 1:
        raise RuntimeError(f"geometric_ expects p to be in (0, 1), but got p={p:g}")
    return _fill(self, dist.geometric, "GeometricBackward0", generator, float(p))


@op(function=False)
def random_(self: Tensor, from_: int = _MISSING, to: int | None = _MISSING, *,
            generator: Generator | None = None, **old: int) -> Tensor:  # fmt: skip
    """Fill with ints drawn uniformly from ``from`` (included) to ``to`` (excluded); ``random_(to)`` starts at 0.

    Without bounds, from 0 up to the largest number that the dtype counts to, included; with None for ``to``, up to
    that as well.

    See https://docs.pytorch.org/docs/stable/generated/torch.Tensor.random_.html
    """
    from_ = old.pop("from", from_)
    if old:
        raise TypeError(f"random_() got an unexpected keyword argument '{next(iter(old))}'")
    dtype = self._value.spec.aval.dtype
    name = f"RandomBackward{2 if from_ is _MISSING and to is _MISSING else 1 if to is _MISSING else 0}"
    if to is _MISSING:
        from_, to = 0, None if from_ is _MISSING else from_
    elif from_ is _MISSING:
        from_ = 0
    for x in (from_, to):
        if x is not None and (isinstance(x, float) or not hasattr(x, "__index__")):
            raise TypeError(f"random_() received an invalid combination of arguments - got ({type(x).__name__})")
    if to is not None:
        low, span = bounds(from_.__index__(), to.__index__(), dtype)
    else:
        low = from_.__index__()
        last = _last(dtype)
        if low > last:
            raise RuntimeError(f"random_ expects 'from' to be less than or equal to 'to', but got from={low} > "
                               f"to={last}")
        if low:
            check_held(low, "from", dtype)
        span = as_word(last - low + 1)
    return _fill(self, dist.integers, name, generator, low, span)


def _last(dtype: DType) -> int:
    """Return the largest integer up to which ``dtype`` has all, of 64 bits and a sign."""
    if dtype.category == BOOL:
        return 1
    if dtype.category == FLOATING:
        return int(2 ** dist.DIGITS[dtype.name])
    if dtype.is_complex:
        return 0
    top: int = np.iinfo(dtype.np).max
    return min(int(top), 2**63 - 1)
