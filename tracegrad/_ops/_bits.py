"""Random bits: each is a hash of the generator's seed, the number of the draw, and the place of the element.

So an element depends on nothing else: not on what was flushed when, on the program it is drawn in, or on the device.

NOTE [Our own hash] A model's weights are some fifty draws in one program, and what XLA needs to compile that is what a
user waits for. JAX's threefry of 20 rounds costs 140 ms of compile time a draw, and on a CPU it runs as a loop over
arrays. The hash here has a third of the operations, all on 32-bit words: 20 ms a draw and a tenth of the run time.
It is the mixer ``triple32`` (Chris Wellons, https://nullprogram.com/blog/2018/07/31/, in the public domain), with a
word of the key added before each of its multiplications and after the last, and the place added once more at the end,
so that the words of one draw are no permutation of each other and repeat as often as random words do. The key mixes
the seed and the number of the draw, for fixed seeds one to one. `tests/random/test_bits.py` has the statistical tests.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
import numpy as np
from jax import lax

#: The seed and the number of a draw, as an op gets them; the seed is scrambled already.
Draw = tuple[Any, Any]

_LOW = 2**32 - 1
_GOLDEN = 0x9E3779B9


def scramble(seed: int) -> int:
    """Return an int64 that looks random and is different for each ``seed`` of 64 bits (the finaliser of splitmix64)."""
    mask = 2**64 - 1
    z = (seed + 0x9E3779B97F4A7C15) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    z ^= z >> 31
    return z - 2**64 if z >= 2**63 else z


def bits32(draw: Draw, shape: tuple[int, ...], part: int = 0) -> Any:
    """Return random ``uint32`` of ``shape``; each ``part`` of a draw has numbers of its own."""
    return _hash(*_halves(draw[0]), *_halves(draw[1]), shape, part)


def bits64(draw: Draw, shape: tuple[int, ...], part: int = 0) -> Any:
    """Return random ``uint64`` of ``shape``, made of the parts ``part`` and ``part + 1``."""
    high, low = bits32(draw, shape, part), bits32(draw, shape, part + 1)
    return high.astype(np.uint64) << np.uint64(32) | low.astype(np.uint64)


def jax_key(draw: Draw) -> Any:
    """Return a key for JAX's own samplers."""
    return jax.random.wrap_key_data(bits32(draw, (2,)), impl="threefry2x32")


def wide() -> bool:
    """Whether JAX has 64-bit types here: not so where somebody else's trace is without them."""
    return bool(jax.dtypes.canonicalize_dtype(np.int64) == np.int64)


def _halves(x: Any) -> tuple[Any, Any]:
    """Return the low and the high 32 bits of an integer of 64."""
    if isinstance(x, (int, np.integer)):  # kept whole also where JAX has no integers of 64 bits
        return np.uint32(int(x) & _LOW), np.uint32(int(x) >> 32 & _LOW)
    if x.dtype.itemsize < 8:
        return x.astype(np.uint32), np.uint32(0)
    return x.astype(np.uint32), (x >> 32).astype(np.uint32)


# Within a jitted function, so that draws of one shape are traced once.
@functools.partial(jax.jit, static_argnums=(4, 5))
def _hash(seed_low: Any, seed_high: Any, count_low: Any, count_high: Any, shape: tuple[int, ...], part: int) -> Any:
    u = np.uint32
    size = math.prod(shape)
    place = lax.iota(u, size) if size <= 2**32 else _long_places(size)
    first = _mix(seed_low ^ count_low)
    if part:
        first = _mix(first ^ u(part * _GOLDEN & _LOW))
    second = _mix((first + seed_high) ^ count_high)
    x = place ^ first
    x = (x ^ (x >> u(17))) * u(0xED5AD4BB) + second
    x = (x ^ (x >> u(11))) * u(0xAC4C1B51) + (first ^ seed_high)
    x = (x ^ (x >> u(15))) * u(0x31848BAB) + (second ^ seed_low)
    return ((x ^ (x >> u(14))) + place).reshape(shape)


def _long_places(size: int) -> Any:
    """Return a word for each of more than 2**32 places."""
    place = lax.iota(np.uint64, size)
    return place.astype(np.uint32) + _mix((place >> np.uint64(32)).astype(np.uint32) ^ np.uint32(_GOLDEN))


def _mix(x: Any) -> Any:
    """Return 32 bits that look random, a different word for each word (the mixer ``lowbias32`` of the same source)."""
    u = np.uint32
    x = (x ^ (x >> u(16))) * u(0x21F0AAAD)
    x = (x ^ (x >> u(15))) * u(0x735A2D97)
    return x ^ (x >> u(15))
