"""Distributions, as functions of random bits: ``(draw, shape, dtype, parameters...) -> array``, in jax.numpy.

Parameters are Python numbers or arrays that broadcast. Numbers of 16 bits are computed as float32 and rounded, so that
their distribution is the rounded one; uniform ones are drawn in their own precision, so that none is rounded up to 1.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from tracegrad import _dtype
from tracegrad._ops._bits import Draw, bits32, bits64, jax_key, wide

#: Significant bits of floating-point types.
DIGITS = {"float16": 11, "bfloat16": 8, "float32": 24, "float64": 53}


def _real(dtype: Any) -> Any:
    """Return the type of the parts of complex numbers of ``dtype``, ``dtype`` itself where it is real."""
    return jax.dtypes.canonicalize_dtype(_dtype.to_real(_dtype.from_np(np.dtype(dtype))).np)


def _computed(dtype: Any) -> Any:
    """Return the type in which numbers of ``dtype`` are computed."""
    real = _real(dtype)
    return real if real.itemsize >= 4 else np.dtype(np.float32)


def _unit(draw: Draw, shape: tuple[int, ...], dtype: Any, part: int = 0) -> Any:
    """Return uniform numbers: all multiples of ``2**-digits`` from 0 up to but without 1."""
    digits = DIGITS[dtype.name]
    if digits > 32:
        return (bits64(draw, shape, part) >> np.uint64(64 - digits)).astype(dtype) * np.asarray(0.5**digits, dtype)
    # By way of int32, as processors convert from signed integers faster.
    whole = (bits32(draw, shape, part) >> np.uint32(32 - digits)).astype(np.int32)
    return whole.astype(dtype) * np.asarray(0.5**digits, dtype)


def _centred(draw: Draw, shape: tuple[int, ...], dtype: Any, part: int = 0) -> Any:
    """Return uniform numbers between -1 and 1, both excluded, and 0 too: odd multiples of ``2**-digits``."""
    digits = DIGITS[dtype.name]
    if digits > 32:
        odd = bits64(draw, shape, part).astype(np.int64) >> np.int64(63 - digits) | np.int64(1)
    else:
        odd = bits32(draw, shape, part).astype(np.int32) >> np.int32(31 - digits) | np.int32(1)
    return odd.astype(dtype) * np.asarray(0.5**digits, dtype)


def _open(draw: Draw, shape: tuple[int, ...], dtype: Any) -> Any:
    """Return uniform numbers between 0 and 1, both excluded."""
    digits = DIGITS[dtype.name]
    if digits > 32:
        odd = (bits64(draw, shape) >> np.uint64(64 - digits) | np.uint64(1)).astype(np.int64)
    else:
        odd = (bits32(draw, shape) >> np.uint32(32 - digits) | np.uint32(1)).astype(np.int32)
    return odd.astype(dtype) * np.asarray(0.5**digits, dtype)


def _complex(real: Any, imag: Any, dtype: Any) -> Any:
    return lax.complex(real, imag).astype(jax.dtypes.canonicalize_dtype(dtype))


def uniform(draw: Draw, shape: tuple[int, ...], dtype: Any, low: Any, high: Any) -> Any:
    """Numbers from ``low`` up to but without ``high``; of complex numbers, both parts."""
    part = _real(dtype)
    if dtype.kind == "c":
        return _complex(_scaled(_unit(draw, shape, part), low, high), _scaled(_unit(draw, shape, part, 2), low, high),
                        dtype)  # fmt: skip
    return _scaled(_unit(draw, shape, part), low, high)


def _scaled(unit: Any, low: Any, high: Any) -> Any:
    if isinstance(low, float) and isinstance(high, float) and (low, high) == (0.0, 1.0):
        return unit
    low, high = jnp.asarray(low, unit.dtype), jnp.asarray(high, unit.dtype)
    found = unit * (high - low) + low
    return jnp.where(found < high, found, low)  # rounding may reach `high`, which is outside of the interval


def standard_normal(draw: Draw, shape: tuple[int, ...], dtype: Any) -> Any:
    """Numbers of mean 0 and variance 1; of complex numbers, each part has half of it."""
    part = _computed(dtype)
    if dtype.kind == "c":
        both = [lax.erf_inv(_centred(draw, shape, part, p)) for p in (0, 2)]  # times sqrt(2), by 1/sqrt(2)
        return _complex(both[0], both[1], dtype)
    return (lax.erf_inv(_centred(draw, shape, part)) * np.asarray(math.sqrt(2), part)).astype(_real(dtype))


def normal(draw: Draw, shape: tuple[int, ...], dtype: Any, mean: Any, std: Any) -> Any:
    """Numbers of this mean and standard deviation."""
    of = np.dtype(dtype) if dtype.kind == "c" else _computed(dtype)
    std, mean = jnp.asarray(std), jnp.asarray(mean)
    drawn = standard_normal(draw, shape, of)
    return (drawn * std.astype(_real(of)) + mean.astype(drawn.dtype)).astype(jax.dtypes.canonicalize_dtype(dtype))


def log_normal(draw: Draw, shape: tuple[int, ...], dtype: Any, mean: Any, std: Any) -> Any:
    """Numbers whose logarithms are normal."""
    return jnp.exp(normal(draw, shape, _computed(dtype), mean, std)).astype(_real(dtype))


def exponential(draw: Draw, shape: tuple[int, ...], dtype: Any, rate: Any) -> Any:
    """Positive numbers of density ``rate * exp(-rate * x)``."""
    part = _computed(dtype)
    return (-jnp.log(_open(draw, shape, part)) / jnp.asarray(rate).astype(part)).astype(_real(dtype))


def cauchy(draw: Draw, shape: tuple[int, ...], dtype: Any, median: Any, scale: Any) -> Any:
    """Numbers of the Cauchy distribution."""
    part = _computed(dtype)
    drawn = jnp.tan(_centred(draw, shape, part) * np.asarray(math.pi / 2, part))
    return (drawn * jnp.asarray(scale).astype(part) + jnp.asarray(median).astype(part)).astype(_real(dtype))


def geometric(draw: Draw, shape: tuple[int, ...], dtype: Any, p: Any) -> Any:
    """Numbers of trials, each of probability ``p``, up to the first success."""
    part = np.dtype(np.float64) if wide() else np.dtype(np.float32)
    trials = jnp.ceil(jnp.log(_open(draw, shape, part)) / jnp.log1p(-jnp.asarray(p, part)))
    if dtype.kind in "iu":
        trials = jnp.minimum(trials, float(np.iinfo(dtype).max))
    return trials.astype(dtype)


def integers(draw: Draw, shape: tuple[int, ...], dtype: Any, low: Any, span: Any) -> Any:
    """Integers from ``low`` up to but without ``low + span``; a ``span`` of 0 means all of them.

    The random word is a binary fraction, which is multiplied by ``span``: a bias of ``span / 2**64`` at most.
    """
    if wide():
        half = 32
        word: Any = np.uint64
        signed: Any = np.int64
        high, low_half = (bits32(draw, shape, p).astype(word) for p in (0, 1))
    else:
        half, word, signed = 16, np.uint32, np.int32
        bits = bits32(draw, shape)
        high, low_half = bits >> word(half), bits & word(0xFFFF)
    shift, mask = word(half), word(2**half - 1)
    span = jnp.asarray(span, signed).astype(word)
    top, bottom = span >> shift, span & mask
    a, b = high * bottom, low_half * top
    carry = (a & mask) + (b & mask) + (low_half * bottom >> shift)
    scaled = high * top + (a >> shift) + (b >> shift) + (carry >> shift)
    found = jnp.where(span == 0, high << shift | low_half, scaled).astype(signed) + jnp.asarray(low, signed)
    return found.astype(dtype)


def coin(draw: Draw, shape: tuple[int, ...], dtype: Any, p: Any) -> Any:
    """Ones with probability ``p``, and zeros."""
    p = jnp.asarray(p)
    part = p.dtype if p.dtype.itemsize >= 4 else np.dtype(np.float32)
    return (_unit(draw, shape, part) < p.astype(part)).astype(dtype)


def permutation(draw: Draw, shape: tuple[int, ...], dtype: Any) -> Any:
    """The numbers from 0 up to but without the size, in random order: sorted by words of 64 bits."""
    size = shape[0]
    place = lax.iota(np.int32 if size < 2**31 else np.int64, size)
    return lax.sort((bits32(draw, shape, 0), bits32(draw, shape, 1), place), num_keys=2)[2].astype(dtype)


def poisson(draw: Draw, shape: tuple[int, ...], dtype: Any, rate: Any) -> Any:
    """Counts of events at these rates."""
    return jax.random.poisson(jax_key(draw), rate.astype(_computed(dtype)), shape).astype(dtype)


def binomial(draw: Draw, shape: tuple[int, ...], dtype: Any, count: Any, p: Any) -> Any:
    """Counts of successes among ``count`` trials of probability ``p``."""
    part = _computed(dtype)
    count = jnp.maximum(jnp.floor(count.astype(part)), 0)
    found = jax.random.binomial(jax_key(draw), count, jnp.clip(p.astype(part), 0, 1), shape, part)
    return found.astype(dtype)


def categorical(draw: Draw, weights: Any, count: int) -> Any:
    """Indices of ``count`` draws by the weights of each row, all different: the first to ring of exponential clocks."""
    part = _computed(weights.dtype)
    rings = jnp.log(weights.astype(part)) - jnp.log(-jnp.log(_open(draw, weights.shape, part)))
    if count == 1:
        return jnp.argmax(rings, -1, keepdims=True).astype(np.int64)
    return lax.top_k(rings, count)[1].astype(np.int64)


def categorical_replaced(draw: Draw, weights: Any, count: int) -> Any:
    """Indices of ``count`` draws by the weights of each row, where an index may come again."""
    part = np.dtype(np.float64) if wide() else np.dtype(np.float32)
    rows = weights.reshape(-1, weights.shape[-1]).astype(part)
    ends = jnp.cumsum(rows, -1)
    marks = _unit(draw, (rows.shape[0], count), part) * ends[:, -1:]
    found = jax.vmap(lambda a, v: jnp.searchsorted(a, v, side="right"))(ends, marks)
    last = weights.shape[-1] - 1 - jnp.argmax(rows[:, ::-1] > 0, -1, keepdims=True)  # where rounding reaches the end
    return jnp.minimum(found, last).reshape(*weights.shape[:-1], count).astype(np.int64)
