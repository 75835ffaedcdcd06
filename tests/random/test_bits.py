"""The random words: a fixed function of seed, draw and place, and statistically without a pattern."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

import tracegrad as tg
from tracegrad._ops._bits import bits32, scramble

FIRST = [262767704, 859053478, 2129442778, 2301965278]  # of seed 0, draw 0


def words(seed: int, count: int, size: int, part: int = 0) -> np.ndarray:
    return np.asarray(bits32((scramble(seed), count), (size,), part))


def test_the_words_are_these_on_every_machine() -> None:
    assert words(0, 0, 4).tolist() == FIRST
    assert tg.rand(2, generator=tg.Generator().manual_seed(0)).tolist() == [(w >> 8) / 2**24 for w in FIRST[:2]]


def test_shape_is_no_part_of_it() -> None:
    assert np.array_equal(np.asarray(bits32((5, 6), (4, 3))).reshape(-1), np.asarray(bits32((5, 6), (12,))))
    assert np.array_equal(words(1, 2, 5), words(1, 2, 9)[:5])


def test_scrambled_seeds_differ_in_half_of_their_bits() -> None:
    seeds = [scramble(s) for s in range(64)]
    assert len(set(seeds)) == 64 and all(-(2**63) <= s < 2**63 for s in seeds)
    apart = [((a ^ b) % 2**64).bit_count() for a, b in zip(seeds, seeds[1:])]
    assert 28 < sum(apart) / len(apart) < 36


SIZE = 1 << 18
STREAMS = {
    "one draw": lambda: words(0, 0, SIZE),
    "high part": lambda: words(3, 7, SIZE, part=1),
    "a late draw": lambda: words(3, 2**40 + 1, SIZE),
    "first words of many draws": lambda: np.concatenate([words(9, n, 64) for n in range(SIZE // 64)]),
    "first words of many seeds": lambda: np.concatenate([words(s, 0, 64) for s in range(SIZE // 64)]),
    "two draws, crossed": lambda: words(11, 0, SIZE) ^ words(11, 1, SIZE),
    "two parts, crossed": lambda: words(11, 0, SIZE, part=0) ^ words(11, 0, SIZE, part=1),
    "words and their places": lambda: words(12, 5, SIZE) - np.arange(SIZE, dtype=np.uint32),
}


@pytest.mark.parametrize("name", STREAMS)
def test_no_pattern(name: str) -> None:
    w = STREAMS[name]()
    found = {}
    for shift in (0, 12, 24):
        found[f"byte at {shift}"] = stats.chisquare(np.bincount(w >> shift & 255, minlength=256)).pvalue
    for lag in (1, 2, 16):
        pairs = (w[:-lag] >> 26) * 64 + (w[lag:] >> 26)
        found[f"pairs {lag}"] = stats.chisquare(np.bincount(pairs, minlength=4096)).pvalue
        low = (w[:-lag] & 63) * 64 + (w[lag:] & 63)
        found[f"low pairs {lag}"] = stats.chisquare(np.bincount(low, minlength=4096)).pvalue
    bits = np.unpackbits(w.view(np.uint8)).reshape(-1, 32).sum(0, dtype=np.int64)
    found["balance"] = stats.chi2.sf(((bits - w.size / 2) ** 2 / (w.size / 4)).sum(), 32)
    again = w.size - np.unique(w).size  # how many words come twice: as many as among random ones, so no permutation
    expected = w.size**2 / 2**33
    found["repeats"] = 2 * min(stats.poisson.cdf(again, expected), stats.poisson.sf(again - 1, expected))
    found["uniform"] = stats.kstest(w / 2**32, "uniform").pvalue
    spectrum = np.abs(np.fft.rfft(w / 2**32 - 0.5))[1:-1] ** 2 / w.size * 12
    found["spectrum"] = stats.kstest(spectrum, "expon").pvalue
    assert min(found.values()) > 1e-4, found


def test_each_bit_of_seed_draw_and_place_changes_half_of_the_bits() -> None:
    def distance(a: np.ndarray, b: np.ndarray) -> float:
        return np.unpackbits((a ^ b).view(np.uint8)).mean()

    base = words(77, 1000, 4096)
    for bit in range(0, 60, 5):
        assert abs(distance(base, words(77 ^ 1 << bit, 1000, 4096)) - 0.5) < 0.01
        assert abs(distance(base, words(77, 1000 ^ 1 << bit, 4096)) - 0.5) < 0.01
    for bit in range(12):
        other = base[np.arange(4096) ^ 1 << bit]
        assert abs(distance(base, other) - 0.5) < 0.02
