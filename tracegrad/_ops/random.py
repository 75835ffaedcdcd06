"""Random numbers: draw number n of a generator depends on (seed, n) alone, whatever is flushed when.

The seed and the number of the draw are inputs of the program, so that one program serves every draw of a loop.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from tracegrad import _dtype
from tracegrad._device import Device
from tracegrad._dtype import DType, type_name
from tracegrad._engine.op import Lowering
from tracegrad._engine.trace import force, record
from tracegrad._engine.value import Aval, Input
from tracegrad._handle import Handle, check_inplace, write
from tracegrad._ops import _rules as rules
from tracegrad._ops._declare import op
from tracegrad._ops.creation import DeviceLike, creation_sizes, finish, from_host, place

if TYPE_CHECKING:
    from tracegrad._tensor import Tensor

_FIRST_SEED = 67280421310721  # what PyTorch's generators start from


# -- generators ----------------------------------------------------------------------------------------------


class Generator:
    """A stream of random draws, given by a seed and by how many draws were made.

    Example:
        >>> import tracegrad as torch
        >>> g = torch.Generator().manual_seed(7)
        >>> a, state = torch.rand(2, generator=g), g.get_state()
        >>> b = torch.rand(2, generator=g)
        >>> g.set_state(state) is g and torch.rand(2, generator=g).tolist() == b.tolist()
        True
    """

    def __init__(self, device: DeviceLike = "cpu"):
        self._place = Device(device if device is not None else "cpu")
        self._seed = _FIRST_SEED
        self._count = 0

    @property
    def device(self) -> Device:
        """The device that this generator was made for; it draws the same numbers on every device."""
        return self._place

    def manual_seed(self, seed: int) -> Generator:
        """Start again from ``seed``, an int from ``-2**63`` up to ``2**64 - 1``."""
        seed = int(seed)
        if not -(2**63) <= seed < 2**64:
            raise ValueError("Overflow when unpacking long long")
        self._seed = seed - 2**64 if seed >= 2**63 else seed
        self._count = 0
        return self

    def seed(self) -> int:
        """Start again from a seed that the system chooses, and return it."""
        chosen = int.from_bytes(os.urandom(8), "little") >> 11  # 53 bits, as PyTorch's, so that a float holds it
        self.manual_seed(chosen)
        return chosen

    def initial_seed(self) -> int:
        """Return the seed from which this generator started."""
        return self._seed % 2**64

    def get_state(self) -> Tensor:
        """Return the seed and the number of draws, as a tensor of bytes."""
        words = np.array([self._seed, self._count], np.int64)
        return from_host(words.view(np.uint8).copy(), "cpu")

    def set_state(self, new_state: Tensor) -> Generator:
        """Go to a state that `get_state` returned."""
        if not isinstance(new_state, Handle) or new_state.dtype is not _dtype.uint8:
            raise TypeError("RNG state must be a torch.ByteTensor")
        data = np.asarray(force(new_state._value))
        if data.size != 16:
            raise RuntimeError(f"Expected a generator state of size 16 but found the input RNG state size to be "
                               f"{data.size}")
        self._seed, self._count = map(int, np.array(data).view(np.int64))
        return self

    def clone_state(self) -> Generator:
        """Return a new generator in the same state."""
        made = Generator(self._place)
        made._seed, made._count = self._seed, self._count
        return made

    def draw(self) -> tuple[Input, Input]:
        """Return the seed and the number of the next draw, as operands of a recorded op; see `key`."""
        count = self._count
        self._count = count + 1
        return Input(self._seed), Input(count)


default_generator = Generator()


def key(seed: Any, count: Any) -> Any:
    """Return JAX's key of draw number ``count``: for lowerings of ops that took `Generator.draw` as operands."""
    count = jnp.asarray(count)
    first = jax.random.key(seed, impl="threefry2x32")
    high = (count >> 32).astype(np.uint32) if count.dtype.itemsize == 8 else jnp.uint32(0)
    return jax.random.fold_in(jax.random.fold_in(first, high), count.astype(np.uint32))


def draw(generator: Generator | None) -> tuple[Input, Input]:
    """Return the operands of the next draw of ``generator``, the default one where it is None."""
    if generator is None:
        return default_generator.draw()
    return generator.draw()


def manual_seed(seed: int) -> Generator:
    """Seed the default generator, and return it.

    Example:
        >>> import tracegrad as torch
        >>> _ = torch.manual_seed(0)
        >>> a = torch.rand(3)
        >>> _ = torch.manual_seed(0)
        >>> a.tolist() == torch.rand(3).tolist()
        True
    """
    return default_generator.manual_seed(seed)


def seed() -> int:
    """Seed the default generator with a number that the system chooses, and return that."""
    return default_generator.seed()


def initial_seed() -> int:
    """Return the seed from which the default generator started."""
    return default_generator.initial_seed()


def get_rng_state() -> Tensor:
    """Return the state of the default generator, as a tensor of bytes."""
    return default_generator.get_state()


def set_rng_state(new_state: Tensor) -> None:
    """Set the state of the default generator."""
    default_generator.set_state(new_state)


# -- distributions: (key, shape, dtype, parameters...) -> array ----------------------------------------------


def _uniform(k: Any, shape: tuple[int, ...], dtype: Any, low: Any, high: Any) -> Any:
    part = _real(dtype)
    unit = jax.random.uniform(k, shape, part)
    if isinstance(low, float) and isinstance(high, float) and (low, high) == (0.0, 1.0):
        return unit
    low, high = jnp.asarray(low, part), jnp.asarray(high, part)
    # Rounding may reach `high`, which is outside of the interval.
    found = unit * (high - low) + low
    return jnp.where(found < high, found, low)


def _gaussian(k: Any, shape: tuple[int, ...], dtype: Any, mean: Any, std: Any) -> Any:
    return jax.random.normal(k, shape, dtype) * jnp.asarray(std).astype(_real(dtype)) + jnp.asarray(mean).astype(dtype)


def _standard(k: Any, shape: tuple[int, ...], dtype: Any) -> Any:
    return jax.random.normal(k, shape, dtype)


def _exponential(k: Any, shape: tuple[int, ...], dtype: Any, rate: Any) -> Any:
    return jax.random.exponential(k, shape, dtype) / jnp.asarray(rate).astype(dtype)


def _integers(k: Any, shape: tuple[int, ...], dtype: Any, low: Any, high: Any) -> Any:
    return jax.random.randint(k, shape, low, high, np.int64).astype(dtype)


def _coin(k: Any, shape: tuple[int, ...], dtype: Any, p: Any) -> Any:
    p = jnp.asarray(p)
    unit = jax.random.uniform(k, shape, p.dtype if p.dtype.itemsize >= 4 else np.float32)
    return (unit < p.astype(unit.dtype)).astype(dtype)


def _permutation(k: Any, shape: tuple[int, ...], dtype: Any) -> Any:
    return jax.random.permutation(k, jnp.arange(shape[0])).astype(dtype)


def _real(dtype: Any) -> Any:
    return _dtype.to_real(_dtype.from_np(dtype)).np


_KERNELS: dict[Callable[..., Any], str] = {
    _uniform: "check_uniform_bounds", _gaussian: "normal_kernel_cpu", _standard: "normal_kernel_cpu"}


def _drawn(*operands: Any) -> Lowering:
    """The rule of every draw of a given shape: operands are the seed, the number of the draw, the parameters."""
    of, shape, dtype, device, name = operands[-5:]
    if of in _KERNELS and not (dtype.is_floating_point or (dtype.is_complex and of is not _uniform)):
        raise NotImplementedError(f'"{_KERNELS[of]}" not implemented for \'{type_name(dtype)}\'')

    def fn(s: Any, n: Any, *params: Any) -> Any:
        return of(key(s, n), shape, dtype.np, *params)

    return Lowering(fn, differentiable=False, device=device, name=name)


def _new(of: Callable[..., Any], shape: tuple[int, ...], dtype: DType | None, device: Device,
         generator: Generator | None, requires_grad: bool, *params: Any) -> Tensor:  # fmt: skip
    s, n = draw(generator)
    made = record(_drawn, (of, shape, dtype or _dtype.get_default_dtype(), device, ""), s, n, *params)
    return finish(made, requires_grad)


# -- new tensors ---------------------------------------------------------------------------------------------


@op(method=False)
def rand(*args: Any, size: Any = None, generator: Generator | None = None, dtype: DType | None = None,
         device: DeviceLike = None, requires_grad: bool = False) -> Tensor:  # fmt: skip
    """Return numbers drawn uniformly from 0 (included) to 1 (excluded); sizes as varargs or one sequence."""
    shape = creation_sizes("rand", args, size)
    return _new(_uniform, shape, dtype, place(device), generator, requires_grad, 0.0, 1.0)


@op(method=False)
def randn(*args: Any, size: Any = None, generator: Generator | None = None, dtype: DType | None = None,
          device: DeviceLike = None, requires_grad: bool = False) -> Tensor:  # fmt: skip
    """Return numbers drawn from the standard normal distribution; sizes as varargs or one sequence."""
    shape = creation_sizes("randn", args, size)
    return _new(_standard, shape, dtype, place(device), generator, requires_grad)


@op(method=False)
def rand_like(input: Tensor, *, dtype: DType | None = None, device: DeviceLike = None, requires_grad: bool = False,
              memory_format: Any = None, generator: Generator | None = None) -> Tensor:  # fmt: skip
    """Return `rand` of the shape, dtype and device of ``input``."""
    of = input._value.spec.aval
    where = of.device if device is None else Device(device)
    return _new(_uniform, of.shape, dtype or of.dtype, where, generator, requires_grad, 0.0, 1.0)


@op(method=False)
def randn_like(input: Tensor, *, dtype: DType | None = None, device: DeviceLike = None, requires_grad: bool = False,
               memory_format: Any = None, generator: Generator | None = None) -> Tensor:  # fmt: skip
    """Return `randn` of the shape, dtype and device of ``input``."""
    of = input._value.spec.aval
    where = of.device if device is None else Device(device)
    return _new(_standard, of.shape, dtype or of.dtype, where, generator, requires_grad)


@op(method=False)
def randint(low: int = 0, high: Any = None, size: Any = None, *, generator: Generator | None = None,
            dtype: DType | None = None, device: DeviceLike = None, requires_grad: bool = False) -> Tensor:  # fmt: skip
    """Return ints drawn uniformly from ``low`` (included) to ``high`` (excluded); ``randint(high, size)`` starts at 0.

    Raises:
        RuntimeError: where ``low >= high`` or ``dtype`` cannot hold ``high - 1``.
    """
    if size is None and isinstance(high, (tuple, list)):
        low, high, size = 0, low, high
    elif high is None:
        low, high = 0, low
    if size is None:
        raise TypeError("randint(): argument 'size' (position 2) must be tuple of ints, not "
                        f"{type(high).__name__}")
    dtype = dtype or _dtype.int64
    low, high = _bounds(low, high, dtype)
    return _new(_integers, creation_sizes("randint", (size,), None), dtype, place(device), generator, requires_grad,
                low, high)  # fmt: skip


@op(method=False)
def randint_like(input: Tensor, low: int = 0, high: int | None = None, *, dtype: DType | None = None,
                 device: DeviceLike = None, requires_grad: bool = False, memory_format: Any = None,
                 generator: Generator | None = None) -> Tensor:  # fmt: skip
    """Return `randint` of the shape, dtype and device of ``input``; ``randint_like(input, high)`` starts at 0."""
    if high is None:
        low, high = 0, low
    of = input._value.spec.aval
    low, high = _bounds(low, high, dtype or of.dtype)
    where = of.device if device is None else Device(device)
    return _new(_integers, of.shape, dtype or of.dtype, where, generator, requires_grad, low, high)


def _bounds(low: Any, high: Any, dtype: DType) -> tuple[int, int]:
    for name, x in (("low", low), ("high", high)):
        if isinstance(x, float) or not hasattr(x, "__index__"):
            raise TypeError(f"randint(): argument '{name}' must be int, not {type(x).__name__}")
    low, high = int(low.__index__()), int(high.__index__())
    if low >= high:
        raise RuntimeError(f"random_ expects 'from' to be less than 'to', but got from={low} >= to={high}")
    if dtype.category == _dtype.INTEGRAL:
        held = np.iinfo(dtype.np)
        for name, x in (("from", low), ("to - 1", high - 1)):
            if not held.min <= x <= held.max:
                raise RuntimeError(f"{name} is out of bounds for {dtype.name}")
    return low, high


@op(method=False)
def randperm(n: int, *, generator: Generator | None = None, dtype: DType | None = None, device: DeviceLike = None,
             requires_grad: bool = False) -> Tensor:  # fmt: skip
    """Return the ints from 0 up to but without ``n`` in random order."""
    shape = creation_sizes("randperm", (n,), None)
    return _new(_permutation, shape, dtype or _dtype.int64, place(device), generator, requires_grad)


@op(method=False)
def normal(mean: Any = 0.0, std: Any = 1.0, size: Any = None, *, generator: Generator | None = None,
           dtype: DType | None = None, device: DeviceLike = None, requires_grad: bool = False) -> Tensor:  # fmt: skip
    """Return numbers drawn from normal distributions.

    ``mean`` and ``std`` are tensors that broadcast, or numbers; of two numbers, ``size`` gives the shape.
    """
    if not hasattr(std, "_value") and std < 0:
        raise RuntimeError(f"normal expects std >= 0.0, but found std {std:g}")
    if size is not None:
        shape = creation_sizes("normal", (size,), None)
        return _new(_gaussian, shape, dtype, place(device), generator, requires_grad, mean, std)
    s, n = draw(generator)
    made: Tensor = record(_normal, (), mean, std, s, n)
    return made


def _normal(mean: Any, std: Any, s: Any, n: Any) -> Lowering:
    tensors = [x for x in (mean, std) if isinstance(x, Aval)]
    if not tensors:
        raise TypeError("normal(): expected size where mean and std are both numbers")
    for x in tensors:
        if not x.dtype.is_inexact:
            raise NotImplementedError(f'"normal_kernel_cpu" not implemented for \'{type_name(x.dtype)}\'')
    shape, dtype = rules.broadcast(mean, std), rules.result_type(tensors).np
    return Lowering(lambda m, d, s, n: _gaussian(key(s, n), shape, dtype, m, d), differentiable=False)


@op()
def bernoulli(input: Tensor, p: float | None = None, *, generator: Generator | None = None) -> Tensor:
    """Return ones, each with the probability in ``input`` (or ``p`` for all), and zeros, in the dtype of ``input``."""
    if p is not None:
        of = input._value.spec.aval
        _check_probability(p)
        return _new(_coin, of.shape, of.dtype, of.device, generator, False, float(p))
    s, n = draw(generator)
    made: Tensor = record(_bernoulli, (), input, s, n)
    return made


def _bernoulli(p: Aval, s: Any, n: Any) -> Lowering:
    if not p.dtype.is_floating_point:
        raise NotImplementedError(f'"bernoulli_tensor_cpu_p_" not implemented for \'{type_name(p.dtype)}\'')
    return Lowering(lambda a, s, n: _coin(key(s, n), p.shape, p.dtype.np, a), differentiable=False,
                    name="BernoulliBackward0")  # fmt: skip


def _check_probability(p: Any) -> None:
    if not hasattr(p, "_value") and not 0 <= p <= 1:
        raise RuntimeError(f"bernoulli_ expects p to be in [0, 1], but got p={p:g}")


@op()
def multinomial(input: Tensor, num_samples: int, replacement: bool = False, *,
                generator: Generator | None = None) -> Tensor:  # fmt: skip
    """Return the indices of ``num_samples`` draws from each row of the weights ``input``, as ``int64``.

    The weights themselves are not looked at when it is called: where all of a row are zero, the draw has no meaning.
    """
    s, n = draw(generator)
    made: Tensor = record(_multinomial, (num_samples, replacement), input, s, n)
    return made


def _multinomial(p: Aval, s: Any, n: Any, count: int, replacement: bool) -> Lowering:
    if not p.dtype.is_floating_point:
        raise RuntimeError("multinomial only supports floating-point dtypes for input, got: " + type_name(p.dtype))
    if p.ndim not in (1, 2):
        raise RuntimeError("prob_dist must be 1 or 2 dim")
    if count <= 0:
        raise RuntimeError("cannot sample n_sample <= 0 samples")
    if not replacement and count > p.shape[-1]:
        raise RuntimeError("cannot sample n_sample > prob_dist.size(-1) samples without replacement")
    rows = p.shape[:-1]

    def fn(weights: Any, s: Any, n: Any) -> Any:
        logs = jnp.log(weights)
        if replacement:
            found = jax.random.categorical(key(s, n), logs[..., None, :], shape=(*rows, count))
        else:
            found = lax.top_k(logs + jax.random.gumbel(key(s, n), logs.shape, logs.dtype), count)[1]
        return found.astype(np.int64)

    return Lowering(fn, differentiable=False)


# -- fills ---------------------------------------------------------------------------------------------------


def _fill(self: Tensor, of: Callable[..., Any], name: str, generator: Generator | None, *params: Any) -> Tensor:
    check_inplace(self)
    s, n = draw(generator)
    aval = self._value.spec.aval
    return write(self, record(_drawn, (of, aval.shape, aval.dtype, aval.device, name), s, n, *params))


@op(function=False)
def uniform_(self: Tensor, from_: float = 0.0, to: float = 1.0, *, generator: Generator | None = None,
             **old: float) -> Tensor:  # fmt: skip
    """Fill with numbers drawn uniformly from ``from`` (included) to ``to`` (excluded).

    The first argument is called ``from`` in PyTorch, which can be given by keyword through ``**{"from": ...}``.
    """
    from_ = old.pop("from", from_)
    if old:
        raise TypeError(f"uniform_() got an unexpected keyword argument '{next(iter(old))}'")
    if from_ > to:
        raise RuntimeError(f"uniform_ expects to return a [from, to) range, but found from={from_:g} > to={to:g}")
    return _fill(self, _uniform, "UniformBackward0", generator, float(from_), float(to))


@op(function=False)
def normal_(self: Tensor, mean: float = 0.0, std: float = 1.0, *, generator: Generator | None = None) -> Tensor:
    """Fill with numbers drawn from the normal distribution of this mean and standard deviation."""
    if std < 0:
        raise RuntimeError(f"normal expects std >= 0.0, but found std {std:g}")
    return _fill(self, _gaussian, "NormalBackward0", generator, float(mean), float(std))


@op(function=False)
def bernoulli_(self: Tensor, p: Any = 0.5, *, generator: Generator | None = None) -> Tensor:
    """Fill with ones, each with probability ``p`` (a number, or a tensor that broadcasts), and zeros."""
    _check_probability(p)
    return _fill(self, _coin, "BernoulliBackward2", generator, p if hasattr(p, "_value") else float(p))


@op(function=False)
def exponential_(self: Tensor, lambd: float = 1.0, *, generator: Generator | None = None) -> Tensor:
    """Fill with numbers drawn from the exponential distribution of rate ``lambd``."""
    if lambd <= 0:
        raise RuntimeError(f"exponential_ expects lambda > 0.0, but found lambda={lambd:g}")
    dtype = self._value.spec.aval.dtype
    if not dtype.is_floating_point:
        raise RuntimeError("Exponential distribution is a continuous probability distribution. dtype must be a "
                           "floating "
                           f"point but you specified {type_name(dtype)}")
    return _fill(self, _exponential, "ExponentialBackward0", generator, float(lambd))


@op(function=False)
def random_(self: Tensor, from_: int = 0, to: int | None = None, *, generator: Generator | None = None) -> Tensor:
    """Fill with ints drawn uniformly from ``from`` (included) to ``to`` (excluded); ``random_(to)`` starts at 0.

    Without bounds, from 0 up to the largest number that the dtype counts to.
    """
    dtype = self._value.spec.aval.dtype
    if to is None and from_ != 0:
        from_, to = 0, from_
    elif to is None:
        if dtype.category == _dtype.INTEGRAL:
            to = min(int(np.iinfo(dtype.np).max), 2**63 - 2) + 1
        else:
            bits = {"bool": 1, "float64": 53, "float32": 24, "float16": 11}
            to = 2 ** bits.get(dtype.name, 8)
    from_, to = _bounds(from_, to, dtype)
    return _fill(self, _integers, "RandomBackward0", generator, from_, to)
