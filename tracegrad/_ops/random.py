"""Random tensors: draw number n of a generator depends on its seed and on n alone, whatever is flushed when."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from tracegrad import _dtype
from tracegrad._device import Device
from tracegrad._dtype import BOOL, COMPLEX, FLOATING, INTEGRAL, DType, type_name
from tracegrad._engine.checks import Check
from tracegrad._engine.op import Lowering
from tracegrad._engine.trace import record
from tracegrad._engine.value import Aval
from tracegrad._ops import _distributions as dist
from tracegrad._ops import _rules as rules
from tracegrad._ops._checks import never
from tracegrad._ops._declare import op
from tracegrad._ops._generator import Generator, draw
from tracegrad._ops._opmath import c_name
from tracegrad._ops._out import into
from tracegrad._ops.creation import DeviceLike, creation_sizes, finish, place

if TYPE_CHECKING:
    from tracegrad._tensor import Tensor

#: By distribution: PyTorch's name of what computes it, and the categories of dtypes that it is there for.
_KERNELS: dict[Callable[..., Any], tuple[str, tuple[int, ...]]] = {
    dist.uniform: ("check_uniform_bounds", (FLOATING, COMPLEX)),
    dist.normal: ("normal_kernel_cpu", (FLOATING, COMPLEX)),
    dist.standard_normal: ("normal_kernel_cpu", (FLOATING, COMPLEX)),
    dist.log_normal: ("log_normal_cpu", (FLOATING,)),
    dist.geometric: ("geometric_cpu", (INTEGRAL, FLOATING)),
    dist.coin: ("bernoulli_scalar_cpu_", (BOOL, INTEGRAL, FLOATING)),
    dist.integers: ("random_kernel_cpu", (BOOL, INTEGRAL, FLOATING)),
    dist.permutation: ("randperm", (INTEGRAL, FLOATING)),
}  # fmt: skip


def drawn(*operands: Any) -> Lowering:
    """The rule of every draw of a given shape: operands are the seed, the number of the draw, the parameters."""
    of, shape, dtype, device, name = operands[-5:]
    kernel, categories = _KERNELS.get(of, ("", None))
    if categories is not None and dtype.category not in categories:
        raise NotImplementedError(f'"{kernel}" not implemented for \'{type_name(dtype)}\'')

    def fn(s: Any, n: Any, *params: Any) -> Any:
        return of((s, n), shape, dtype.np, *params)

    return Lowering(fn, differentiable=False, device=device, name=name)


def _new(of: Callable[..., Any], shape: tuple[int, ...], dtype: DType | None, device: Device,
         generator: Generator | None, requires_grad: bool, *params: Any) -> Tensor:  # fmt: skip
    s, n = draw(generator)
    made = record(drawn, (of, shape, dtype or _dtype.get_default_dtype(), device, ""), s, n, *params)
    return finish(made, requires_grad)


def without_gradient(fn: Callable[..., Any], name: str, **more: Any) -> Lowering:
    """Return the lowering of a draw whose parameters are tensors: their gradients are zeros, as in PyTorch."""

    def forward(*operands: Any) -> tuple[Any, Any]:
        return fn(*operands), tuple(jnp.asarray(x) for x in operands[:-2])

    def backward(saved: Any, g: Any) -> tuple[Any, ...]:
        return (*(jnp.zeros_like(x) for x in saved), None, None)

    return Lowering(fn, forward, backward, name, saves=False, **more)


# -- new tensors ---------------------------------------------------------------------------------------------


@op(method=False)
def rand(*args: Any, size: Any = None, generator: Generator | None = None, dtype: DType | None = None,
         device: DeviceLike = None, requires_grad: bool = False, out: Tensor | None = None) -> Tensor:  # fmt: skip
    """Return numbers drawn uniformly from 0 (included) to 1 (excluded); sizes as varargs or one sequence."""
    if out is not None:
        return into(out, rand, *args, size=size, generator=generator, dtype=dtype, device=device,
                    requires_grad=requires_grad)  # fmt: skip
    shape = creation_sizes("rand", args, size)
    return _new(dist.uniform, shape, dtype, place(device), generator, requires_grad, 0.0, 1.0)


@op(method=False)
def randn(*args: Any, size: Any = None, generator: Generator | None = None, dtype: DType | None = None,
          device: DeviceLike = None, requires_grad: bool = False, out: Tensor | None = None) -> Tensor:  # fmt: skip
    """Return numbers drawn from the standard normal distribution; sizes as varargs or one sequence."""
    if out is not None:
        return into(out, randn, *args, size=size, generator=generator, dtype=dtype, device=device,
                    requires_grad=requires_grad)  # fmt: skip
    shape = creation_sizes("randn", args, size)
    return _new(dist.standard_normal, shape, dtype, place(device), generator, requires_grad)


@op(method=False)
def rand_like(input: Tensor, *, dtype: DType | None = None, device: DeviceLike = None, requires_grad: bool = False,
              memory_format: Any = None, generator: Generator | None = None,
              out: Tensor | None = None) -> Tensor:  # fmt: skip
    """Return `rand` of the shape, dtype and device of ``input``."""
    if out is not None:
        return into(out, rand_like, input, dtype=dtype, device=device, requires_grad=requires_grad, generator=generator)
    of = input._value.spec.aval
    where = of.device if device is None else Device(device)
    return _new(dist.uniform, of.shape, dtype or of.dtype, where, generator, requires_grad, 0.0, 1.0)


@op(method=False)
def randn_like(input: Tensor, *, dtype: DType | None = None, device: DeviceLike = None, requires_grad: bool = False,
               memory_format: Any = None, generator: Generator | None = None,
               out: Tensor | None = None) -> Tensor:  # fmt: skip
    """Return `randn` of the shape, dtype and device of ``input``."""
    if out is not None:
        return into(out, randn_like, input, dtype=dtype, device=device, requires_grad=requires_grad,
                    generator=generator)  # fmt: skip
    of = input._value.spec.aval
    where = of.device if device is None else Device(device)
    return _new(dist.standard_normal, of.shape, dtype or of.dtype, where, generator, requires_grad)


@op(method=False)
def randint(low: int = 0, high: Any = None, size: Any = None, *, generator: Generator | None = None,
            dtype: DType | None = None, device: DeviceLike = None, requires_grad: bool = False,
            out: Tensor | None = None) -> Tensor:  # fmt: skip
    """Return ints drawn uniformly from ``low`` (included) to ``high`` (excluded); ``randint(high, size)`` starts at 0.

    Raises:
        RuntimeError: where ``low >= high`` or ``dtype`` cannot hold ``high - 1``.
    """
    if out is not None:
        return into(out, randint, low, high, size, generator=generator, dtype=dtype, device=device,
                    requires_grad=requires_grad)  # fmt: skip
    one = size is None and isinstance(high, (tuple, list))
    if one:
        low, high, size = 0, low, high
    elif high is None:
        low, high = 0, low
    if size is None:
        raise TypeError("randint(): argument 'size' (position 2) must be tuple of ints, not "
                        f"{type(high).__name__}")
    dtype = dtype or _dtype.int64
    low, span = _integer_range(low, high, dtype, 1 if one else 2)
    return _new(dist.integers, creation_sizes("randint", (size,), None), dtype, place(device), generator, requires_grad,
                low, span)  # fmt: skip


@op(method=False)
def randint_like(input: Tensor, low: int = 0, high: int | None = None, *, dtype: DType | None = None,
                 device: DeviceLike = None, requires_grad: bool = False, memory_format: Any = None,
                 generator: Generator | None = None) -> Tensor:  # fmt: skip
    """Return `randint` of the shape, dtype and device of ``input``; ``randint_like(input, high)`` starts at 0."""
    if high is None:
        low, high = 0, low
    of = input._value.spec.aval
    low, span = _integer_range(low, high, dtype or of.dtype, 2)
    where = of.device if device is None else Device(device)
    return _new(dist.integers, of.shape, dtype or of.dtype, where, generator, requires_grad, low, span)


def _integer_range(low: Any, high: Any, dtype: DType, last: int) -> tuple[int, int]:
    """Return what `bounds` does, of arguments of which that at position ``last`` is ``high``."""
    for name, x, position in (("low", low, last - 1), ("high", high, last)):
        if isinstance(x, float) or not hasattr(x, "__index__"):
            raise TypeError(f"randint(): argument '{name}' (position {position}) must be int, not {type(x).__name__}")
    return bounds(int(low.__index__()), int(high.__index__()), dtype)


def bounds(low: int, high: int, dtype: DType) -> tuple[int, int]:
    """Return ``low`` and the width of the range up to ``high``, which is excluded, as words of 64 bits.

    Raises:
        RuntimeError: as PyTorch does, for an empty range, or one that ``dtype`` does not hold.
    """
    for x in (low, high):
        if not -(2**63) <= x < 2**63:
            raise ValueError("Overflow when unpacking long long")
    if low >= high:
        raise RuntimeError(f"random_ expects 'from' to be less than 'to', but got from={low} >= to={high}")
    check_held(low, "from", dtype)
    check_held(high - 1, "to - 1", dtype)
    return low, as_word(high - low)


def as_word(span: int) -> int:
    """Return the int64 of the same low 64 bits."""
    return (span + 2**63) % 2**64 - 2**63


def check_held(x: int, name: str, dtype: DType) -> None:
    """Raise RuntimeError where ``dtype`` does not hold ``x``; warn where it holds some numbers up to it only."""
    if dtype.category == COMPLEX:
        raise RuntimeError("check_random_bounds handles only integral, floating-point and boolean types")
    if dtype.category == FLOATING:
        limit = float(jnp.finfo(dtype.np).max)  # type: ignore[no-untyped-call]
        digits = dist.DIGITS[dtype.name]
        held, exact = -limit <= x <= limit, -(2**digits) <= x <= 2**digits
        if held and not exact:
            warnings.warn(
                f"{name} is out of bounds [-(2^{digits}), 2^{digits}]. Due to precision limitations {c_name(dtype)} "
                "can support discrete uniform distribution only within this range. This warning will become an error "
                "in version 1.7 release, please fix the code in advance", UserWarning, stacklevel=5)  # fmt: skip
    elif dtype.category == BOOL:
        held = 0 <= x <= 1
    else:
        held = int(np.iinfo(dtype.np).min) <= x <= int(np.iinfo(dtype.np).max)
    if not held:
        raise RuntimeError(f"{name} is out of bounds for {c_name(dtype)}")


@op(method=False)
def randperm(n: int, *, generator: Generator | None = None, dtype: DType | None = None, device: DeviceLike = None,
             requires_grad: bool = False, out: Tensor | None = None) -> Tensor:  # fmt: skip
    """Return the ints from 0 up to but without ``n`` in random order."""
    if out is not None:
        return into(out, randperm, n, generator=generator, dtype=dtype, device=device, requires_grad=requires_grad)
    shape = creation_sizes("randperm", (n,), None)
    return _new(dist.permutation, shape, dtype or _dtype.int64, place(device), generator, requires_grad)


@op(method=False)
def normal(mean: Any = 0.0, std: Any = 1.0, size: Any = None, *, generator: Generator | None = None,
           dtype: DType | None = None, device: DeviceLike = None, requires_grad: bool = False,
           out: Tensor | None = None) -> Tensor:  # fmt: skip
    """Return numbers drawn from normal distributions.

    ``mean`` and ``std`` are tensors that broadcast, or numbers; of two numbers, ``size`` gives the shape.
    """
    if out is not None:
        return into(out, normal, mean, std, size, generator=generator, dtype=dtype, device=device,
                    requires_grad=requires_grad)  # fmt: skip
    if not hasattr(std, "_value") and std < 0:
        raise RuntimeError(f"normal expects std >= 0.0, but found std {std:g}")
    if size is not None:
        shape = creation_sizes("normal", (size,), None)
        return _new(dist.normal, shape, dtype, place(device), generator, requires_grad, mean, std)
    return record(_normal, (), mean, std, *draw(generator))  # type: ignore[no-any-return]


def _normal(mean: Any, std: Any, s: Any, n: Any) -> Lowering:
    tensors = [isinstance(x, Aval) for x in (mean, std)]
    if not any(tensors):
        raise TypeError("normal(): expected size where mean and std are both numbers")
    if tensors[1] and std.dtype.is_complex:
        raise RuntimeError("normal expects standard deviation to be non-complex")
    of = mean.dtype if tensors[0] else std.dtype
    if not of.is_inexact:
        raise NotImplementedError(f'"normal_kernel_cpu" not implemented for \'{type_name(of)}\'')
    shape = rules.broadcast(mean, std)
    found = never(1, lambda a: a < 0, lambda _: RuntimeError("normal expects all elements of std >= 0.0"))
    return without_gradient(lambda m, d, s, n: dist.normal((s, n), shape, of.np, m, d),
                             f"NormalBackward{2 * tensors[1] + tensors[0]}", checks=(found,) if tensors[1] else ())


@op()
def bernoulli(input: Tensor, p: float | None = None, *, generator: Generator | None = None,
              out: Tensor | None = None) -> Tensor:  # fmt: skip
    """Return ones, each with the probability in ``input`` (or ``p`` for all), and zeros, in the dtype of ``input``."""
    if out is not None:
        return into(out, bernoulli, input, p, generator=generator)
    if p is not None:
        check_probability(p)
        return record(_bernoulli_of, (), input, float(p), *draw(generator))  # type: ignore[no-any-return]
    return record(_bernoulli, (), input, *draw(generator))  # type: ignore[no-any-return]


def _bernoulli(p: Aval, s: Any, n: Any) -> Lowering:
    if not p.dtype.is_floating_point:
        raise NotImplementedError(f'"bernoulli_tensor_cpu_p_" not implemented for \'{type_name(p.dtype)}\'')
    return without_gradient(lambda a, s, n: dist.coin((s, n), p.shape, p.dtype.np, a), "BernoulliBackward0",
                             checks=(probability(0),))  # fmt: skip


def _bernoulli_of(x: Aval, p: Any, s: Any, n: Any) -> Lowering:
    return Lowering(lambda a, q, s, n: dist.coin((s, n), x.shape, x.dtype.np, q), underived="bernoulli")


def probability(operand: int) -> Check:
    """Return the check that an operand's elements are probabilities."""
    return never(operand, lambda a: ~((a >= 0) & (a <= 1)), lambda _: RuntimeError(_NO_PROBABILITY))


_NO_PROBABILITY = ("Expected p_in >= 0 && p_in <= 1 to be true, but got false.  (Could this error message be "
                   "improved?  If so, please report an enhancement request to PyTorch.)")  # fmt: skip


def check_probability(p: Any) -> None:
    """Raise RuntimeError where the number ``p`` is no probability; tensors are checked when they are there."""
    if not hasattr(p, "_value") and not 0 <= p <= 1:
        raise RuntimeError(f"bernoulli_ expects p to be in [0, 1], but got p={p:g}")


@op()
def multinomial(input: Tensor, num_samples: int, replacement: bool = False, *,
                generator: Generator | None = None, out: Tensor | None = None) -> Tensor:  # fmt: skip
    """Return the indices of ``num_samples`` draws from each row of the weights ``input``, as ``int64``."""
    if out is not None:
        return into(out, multinomial, input, num_samples, replacement, generator=generator)
    if isinstance(num_samples, float) or not hasattr(num_samples, "__index__"):
        raise TypeError("multinomial(): argument 'num_samples' (position 2) must be int, not "
                        f"{type(num_samples).__name__}")
    params = (num_samples.__index__(), bool(replacement))
    return record(_multinomial, params, input, *draw(generator))  # type: ignore[no-any-return]


def _multinomial(p: Aval, s: Any, n: Any, count: int, replacement: bool) -> Lowering:
    if not p.dtype.is_floating_point:
        raise RuntimeError("multinomial only supports floating-point dtypes for input, got: " + type_name(p.dtype))
    if p.ndim not in (1, 2):
        raise RuntimeError("prob_dist must be 1 or 2 dim")
    if count <= 0:
        raise RuntimeError("cannot sample n_sample <= 0 samples")
    if not replacement and count > p.shape[-1]:
        raise RuntimeError("cannot sample n_sample > prob_dist.size(-1) samples without replacement")

    def fn(weights: Any, s: Any, n: Any) -> Any:
        of = dist.categorical_replaced if replacement and count > 1 else dist.categorical
        return of((s, n), weights, count)

    empty = never(0, lambda w: w.sum(-1) <= 0, lambda _: RuntimeError(_NO_DISTRIBUTION + "(sum of probabilities <= 0)"))
    checks: tuple[Check, ...]
    if replacement and count > 1:
        checks = (never(0, lambda w: ~(w >= 0), lambda _: RuntimeError(_NO_DISTRIBUTION + _NEGATIVE)),
                  never(0, lambda w: w == np.inf, lambda _: RuntimeError(_NO_DISTRIBUTION + _ENDLESS)), empty)
    else:
        checks = (never(0, lambda w: ~((w >= 0) & (w < np.inf)), lambda _: RuntimeError(_NO_WEIGHT)), empty)
    return Lowering(fn, differentiable=False, checks=checks)


_NO_WEIGHT = "probability tensor contains either `inf`, `nan` or element < 0"
_NO_DISTRIBUTION = "invalid multinomial distribution "
_NEGATIVE = "(encountering probability entry < 0)"
_ENDLESS = "(encountering probability entry = infinity or NaN)"


@op()
def poisson(input: Tensor, generator: Generator | None = None) -> Tensor:
    """Return counts drawn from Poisson distributions, whose rates are the elements of ``input``.

    Args:
        input: rates, floating point, not negative; the result is of its shape and dtype.
        generator: where random numbers come from; the default generator when None.

    See https://docs.pytorch.org/docs/stable/generated/torch.poisson.html
    """
    return record(_poisson, (), input, *draw(generator))  # type: ignore[no-any-return]


def _poisson(rate: Aval, s: Any, n: Any) -> Lowering:
    if not rate.dtype.is_floating_point:
        raise NotImplementedError(f'"poisson_cpu" not implemented for \'{type_name(rate.dtype)}\'')
    found = never(0, lambda a: ~(a >= 0), lambda _: RuntimeError(_NO_RATE))
    return without_gradient(lambda a, s, n: dist.poisson((s, n), rate.shape, rate.dtype.np, a), "PoissonBackward0",
                             checks=(found,))  # fmt: skip


_NO_RATE = "invalid Poisson rate, expected rate to be non-negative"


@op()
def binomial(count: Tensor, prob: Tensor, generator: Generator | None = None) -> Tensor:
    """Return counts of successes among ``count`` trials of probability ``prob``.

    Args:
        count: numbers of trials, floating point.
        prob: probabilities of the same dtype; they broadcast with ``count``.
        generator: where random numbers come from; the default generator when None.

    See https://docs.pytorch.org/docs/stable/generated/torch.binomial.html
    """
    return record(_binomial, (), count, prob, *draw(generator))  # type: ignore[no-any-return]


def _binomial(count: Aval, prob: Aval, s: Any, n: Any) -> Lowering:
    for name, x in (("count", count), ("prob", prob)):
        if not x.dtype.is_floating_point:
            raise ValueError(f"binomial only supports floating-point dtypes for {name}, got: {type_name(x.dtype)}")
    if prob.dtype is not count.dtype:
        raise RuntimeError(f"Found dtype {type_name(prob.dtype)} but expected {type_name(count.dtype)}")
    shape = rules.broadcast(count, prob)
    return Lowering(lambda a, p, s, n: dist.binomial((s, n), shape, count.dtype.np, a, p), underived="binomial",
                    name="NotImplemented")  # fmt: skip
