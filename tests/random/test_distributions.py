"""Distributions: moments, ranges and quantiles with fixed seeds; dtypes, errors and gradients as PyTorch's."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from scipy import stats

import tracegrad as tg
from tracegrad.nn import functional as F

N = 50_000


@pytest.fixture(autouse=True)
def seeded() -> None:
    tg.manual_seed(20240607)


def empty(dtype: Any = None) -> tg.Tensor:
    return tg.empty(N, dtype=dtype)


CONTINUOUS = {
    "rand": (lambda t: tg.rand(N, dtype=t), stats.uniform()),
    "uniform_": (lambda t: empty(t).uniform_(-2, 3), stats.uniform(-2, 5)),
    "randn": (lambda t: tg.randn(N, dtype=t), stats.norm()),
    "normal_": (lambda t: empty(t).normal_(1, 2), stats.norm(1, 2)),
    "normal": (lambda t: tg.normal(tg.full((N,), 3.0, dtype=t), tg.full((N,), 0.5, dtype=t)), stats.norm(3, 0.5)),
    "log_normal_": (lambda t: empty(t).log_normal_(0.5, 0.7), stats.lognorm(0.7, scale=np.exp(0.5))),
    "exponential_": (lambda t: empty(t).exponential_(1.5), stats.expon(scale=1 / 1.5)),
    "cauchy_": (lambda t: empty(t).cauchy_(1, 2), stats.cauchy(1, 2)),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", CONTINUOUS)
def test_continuous(name: str, dtype: str) -> None:
    draw, law = CONTINUOUS[name]
    x = draw(getattr(tg, dtype))
    assert x.dtype is getattr(tg, dtype)
    a = x.numpy().astype(np.float64)
    assert np.isfinite(a).all()
    assert stats.kstest(a, law.cdf).pvalue > 1e-3
    if np.isfinite(law.std()):
        assert abs(a.mean() - law.mean()) < 5 * law.std() / np.sqrt(N)
    tails = [(a < law.ppf(q)).mean() for q in (0.001, 0.01, 0.99, 0.999)]
    assert np.allclose(tails, (0.001, 0.01, 0.99, 0.999), atol=0.002)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", ["uniform_", "randn", "exponential_"])
def test_narrow_types_are_rounded_draws(name: str, dtype: str) -> None:
    draw, law = CONTINUOUS[name]
    x = draw(getattr(tg, dtype))
    assert x.dtype is getattr(tg, dtype)
    a = x.double().numpy()
    assert abs(a.mean() - law.mean()) < 0.05 and abs(a.std() - law.std()) < 0.05


@pytest.mark.parametrize(("dtype", "digits"), [("float16", 11), ("bfloat16", 8), ("float32", 24), ("float64", 53)])
def test_uniform_numbers_never_reach_one(dtype: str, digits: int) -> None:
    a = tg.rand(200_000 if digits < 20 else N, dtype=getattr(tg, dtype)).double().numpy()
    assert a.min() >= 0 and a.max() <= 1 - 0.5**digits
    assert np.array_equal(a * 2**digits, np.floor(a * 2**digits))
    if digits < 20:
        assert a.max() == 1 - 0.5**digits and a.min() == 0 and np.unique(a).size == 2**digits
    b = empty(getattr(tg, dtype)).uniform_(1, 1 + 2.0 ** (1 - digits)).double().numpy()
    assert (b == 1).all()  # the end of the interval, which rounding would reach, is outside
    assert (tg.empty(5).uniform_(2, 2) == 2).all()


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
def test_complex(dtype: str) -> None:
    z = tg.randn(N, dtype=getattr(tg, dtype)).numpy()
    for part in (z.real, z.imag):
        assert stats.kstest(part, stats.norm(0, np.sqrt(0.5)).cdf).pvalue > 1e-3
    assert abs(np.corrcoef(z.real, z.imag)[0, 1]) < 0.02
    z = tg.rand(N, dtype=getattr(tg, dtype)).numpy()
    for part in (z.real, z.imag):
        assert stats.kstest(part, "uniform").pvalue > 1e-3
    assert abs(np.corrcoef(z.real, z.imag)[0, 1]) < 0.02


def fits(a: np.ndarray, law: Any, values: Any) -> None:
    """Counts of ``values`` and of all others are as ``law`` has them."""
    observed = np.array([(a == v).sum() for v in values])
    expected = law.pmf(np.array(values)) * a.size
    rest, rest_expected = a.size - observed.sum(), a.size - expected.sum()
    if rest_expected > 5:
        observed, expected = np.append(observed, rest), np.append(expected, rest_expected)
    assert stats.chisquare(observed, expected * (observed.sum() / expected.sum())).pvalue > 1e-3


def test_discrete() -> None:
    fits(tg.randint(-3, 4, (N,)).numpy(), stats.randint(-3, 4), range(-3, 4))
    fits(empty().geometric_(0.3).numpy(), stats.geom(0.3), range(1, 15))
    fits(empty(tg.int8).geometric_(0.3).numpy(), stats.geom(0.3), range(1, 15))
    fits(empty().bernoulli_(0.2).numpy(), stats.bernoulli(0.2), (0, 1))
    fits(tg.bernoulli(tg.full((N,), 0.7, dtype=tg.float64)).numpy(), stats.bernoulli(0.7), (0, 1))
    fits(tg.poisson(tg.full((N,), 3.0)).numpy(), stats.poisson(3), range(12))
    fits(tg.poisson(tg.full((N,), 40.0)).numpy(), stats.poisson(40), range(20, 60))
    fits(tg.binomial(tg.full((N,), 12.0), tg.tensor(0.3)).numpy(), stats.binom(12, 0.3), range(10))
    fits(tg.binomial(tg.full((N,), 200.0), tg.tensor(0.5)).numpy(), stats.binom(200, 0.5), range(80, 120))
    assert tg.empty(9, dtype=tg.int8).geometric_(1e-9).tolist() == [127] * 9
    assert set(empty(tg.bool).bernoulli_(0.5).tolist()) == {True, False}
    assert (tg.poisson(tg.zeros(9)) == 0).all()


def test_bernoulli_of_certainties() -> None:
    p = tg.tensor([0.0, 1.0]).expand(1000, 2)
    assert tg.bernoulli(p).sum(0).tolist() == [0, 1000]
    assert empty().bernoulli_(1.0).sum().item() == N and empty().bernoulli_(0.0).sum().item() == 0


def test_integers_over_all_of_their_types() -> None:
    for name in ("int8", "uint8", "int16", "int32", "int64"):
        dtype = getattr(tg, name)
        info = np.iinfo(name)
        a = tg.randint(int(info.min), int(info.max), (N,), dtype=dtype).numpy().astype(np.float64)
        span = float(info.max) - float(info.min)
        assert stats.kstest((a - info.min) / (span + 1) + np.random.default_rng(0).random(N) / (span + 1),
                            "uniform").pvalue > 1e-3  # fmt: skip
        a = empty(dtype).random_(int(info.min), None).numpy()
        quarter = int(info.max) // 4 - int(info.min) // 4
        assert int(a.min()) < info.min + quarter and int(a.max()) > info.max - quarter
        assert (empty(dtype).random_() >= 0).all()
    a = tg.randint(2**62, 2**62 + 2**61 + 3, (N,)).numpy()
    assert a.min() >= 2**62 and a.max() < 2**62 + 2**61 + 3
    assert stats.kstest((a - 2**62) / (2**61 + 3), "uniform").pvalue > 1e-3
    assert set(tg.randint(7, 8, (100,)).tolist()) == {7}
    assert set(empty(tg.bool).random_().tolist()) == {True, False}
    a = empty().random_().numpy()
    assert a.max() <= 2**24 and a.max() > 0.99 * 2**24 and (a == np.floor(a)).all()
    assert set(empty(tg.uint8).random_(3).tolist()) == {0, 1, 2}
    assert set(empty().random_(-1, 2).tolist()) == {-1.0, 0.0, 1.0}


def test_permutations() -> None:
    for n in (0, 1, 2, 5, 1000):
        assert sorted(tg.randperm(n).tolist()) == list(range(n))
    counts: dict[Any, int] = {}
    for _ in range(50):
        for row in tg.stack([tg.randperm(3) for _ in range(24)]).tolist():
            counts[tuple(row)] = counts.get(tuple(row), 0) + 1
    assert len(counts) == 6 and stats.chisquare(list(counts.values())).pvalue > 1e-3
    assert tg.randperm(5, dtype=tg.float16).dtype is tg.float16
    assert abs(np.corrcoef(tg.randperm(5000).numpy(), np.arange(5000))[0, 1]) < 0.06


def test_multinomial() -> None:
    weights = np.array([1.0, 0.0, 3.0, 6.0, 0.0])
    w = tg.tensor(weights, dtype=tg.float32)
    drawn = tg.multinomial(w, N, replacement=True).numpy()
    assert drawn.dtype == np.int64
    observed = np.bincount(drawn, minlength=5)
    assert observed[1] == observed[4] == 0
    assert stats.chisquare(observed[[0, 2, 3]], np.array([0.1, 0.3, 0.6]) * N).pvalue > 1e-3
    pairs = tg.multinomial(w.expand(N, 5), 2).numpy()
    assert (pairs[:, 0] != pairs[:, 1]).all()
    some = (0, 2, 3)
    expected = {(a, b): weights[a] / 10 * weights[b] / (10 - weights[a]) for a in some for b in some if a != b}
    observed = [((pairs == p).all(1)).sum() for p in expected]
    assert stats.chisquare(observed, np.array(list(expected.values())) * N).pvalue > 1e-3
    one = tg.multinomial(w.expand(N, 5), 1).numpy()[:, 0]
    assert stats.chisquare(np.bincount(one)[[0, 2, 3]], np.array([0.1, 0.3, 0.6]) * N).pvalue > 1e-3
    rows = tg.multinomial(tg.tensor([[0.0, 1.0], [2.0, 0.0]]), 7, True)
    assert rows.tolist() == [[1] * 7, [0] * 7]
    assert sorted(tg.multinomial(tg.ones(6, dtype=tg.float16), 6).tolist()) == list(range(6))


def test_dropout_keeps_its_share() -> None:
    for p in (0.1, 0.5, 0.9):
        y = F.dropout(tg.ones(N), p).numpy()
        kept = y > 0
        assert abs(kept.mean() - (1 - p)) < 5 * np.sqrt(p * (1 - p) / N)
        assert np.allclose(y[kept], 1 / (1 - p))
    y = F.dropout2d(tg.ones(200, 50, 2, 2), 0.3).numpy().reshape(10_000, 4)
    assert ((y == 0).all(1) | (y != 0).all(1)).all() and abs((y[:, 0] == 0).mean() - 0.3) < 0.03


# -- against PyTorch -----------------------------------------------------------------------------------------

ERRORS = """
T.rand(2, dtype=T.int64)
T.rand(2, dtype=T.bool)
T.randn(2, dtype=T.int64)
T.rand(-1)
T.rand_like(T.zeros(2, dtype=T.int64))
T.randint(5, 5, (2,))
T.randint(0, 300, (2,), dtype=T.uint8)
T.randint(0, 2**63, (2,))
T.randint(0, 10, (2,), dtype=T.bool)
T.randint(0, 10, (2,), dtype=T.complex64)
T.randint(1.5, (2,))
T.randint(0, 10)
T.randint(10, (2,), requires_grad=True)
T.randperm(-1)
T.randperm(5, dtype=T.bool)
T.randperm(3, dtype=T.complex64)
T.normal(T.zeros(2), -1.0)
T.normal(T.zeros(2), T.tensor([-1.0, 1])).tolist()
T.normal(T.zeros(2), T.ones(3))
T.normal(T.zeros(2, dtype=T.int64), 1.0)
T.normal(0.0, T.ones(2, dtype=T.complex64))
T.bernoulli(T.tensor([1, 0]))
T.bernoulli(T.tensor([1.5])).tolist()
T.bernoulli(T.tensor([0.5]), 1.5)
T.multinomial(T.tensor([0.0, 0, 0]), 1).tolist()
T.multinomial(T.tensor([1.0, -1, 0]), 1).tolist()
T.multinomial(T.tensor([1.0, float('nan'), 0]), 1).tolist()
T.multinomial(T.tensor([1.0, float('inf'), 0]), 2, True).tolist()
T.multinomial(T.tensor([1.0, -1, 0]), 2, True).tolist()
T.multinomial(T.tensor([1.0, 1]), 0)
T.multinomial(T.tensor([1.0, 1]), 3)
T.multinomial(T.tensor([1, 1]), 1)
T.multinomial(T.ones(2, 2, 2), 1)
T.multinomial(T.tensor(1.0), 1)
T.multinomial(T.ones(3), 2.5)
T.multinomial(T.ones(3), 1, generator=3)
T.multinomial(T.tensor([[1.0, 1], [0, 0]]), 1, True).tolist()
T.poisson(T.tensor([1.0, -1.0])).tolist()
T.poisson(T.tensor([1, 2]))
T.binomial(T.tensor([10]), T.tensor([0.5]))
T.binomial(T.tensor([10.0], dtype=T.float64), T.tensor([0.5]))
T.empty(3).geometric_(1.5)
T.empty(3).geometric_(0.0)
T.empty(3, dtype=T.bool).geometric_(0.5)
T.empty(3, dtype=T.complex64).geometric_(0.5)
T.empty(3, dtype=T.int64).cauchy_()
T.empty(3).cauchy_(0, -1)
T.empty(3, dtype=T.int64).log_normal_()
T.empty(3).log_normal_(0, -1)
T.empty(3).log_normal_(0, 0)
T.empty(3, dtype=T.int64).exponential_()
T.empty(3).exponential_(-1)
T.empty(3).exponential_(0)
T.empty(3, dtype=T.complex64).exponential_()
T.empty(3).bernoulli_(1.5)
T.empty(3).bernoulli_(float('nan'))
T.empty(3).bernoulli_(T.tensor(1.5)).tolist()
T.empty(3).bernoulli_(T.tensor([0.5, 0.2]))
T.empty(3, dtype=T.complex64).bernoulli_()
T.empty(3).uniform_(1, 0)
T.empty(3).uniform_(float('nan'), 1)
T.empty(3).uniform_(-3e38, 3e38)
T.empty(3, dtype=T.float16).uniform_(0, 1e6)
T.empty(3, dtype=T.int64).uniform_()
T.empty(3).normal_(0, -1)
T.empty(3, dtype=T.int64).normal_()
T.empty(3).normal_(generator=3)
T.empty(3, dtype=T.complex64).random_()
T.empty(3, dtype=T.uint8).random_(0, 300)
T.empty(3, dtype=T.uint8).random_(-1, 3)
T.empty(3).random_(5, 5)
T.empty(3).random_(0)
T.empty(3, dtype=T.float16).random_(0, 100000)
T.empty(3, requires_grad=True).normal_()
""".split("\n")[1:-1]


@pytest.mark.oracle
@pytest.mark.parametrize("text", ERRORS)
def test_errors_are_pytorchs(text: str) -> None:
    torch = pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")

    def outcome(library: Any) -> tuple[str, str]:
        with pytest.raises(Exception) as caught:  # noqa: B017, PT011
            eval(text, {"T": library})
        return caught.type.__name__, str(caught.value).partition("\n")[0]

    assert outcome(tg) == outcome(torch)


RESULTS = """
T.rand(2, 3)
T.rand((2,), dtype=T.complex64)
T.randn(2, requires_grad=True)
T.randint(10, (2,))
T.randint(high=3, size=(2,))
T.randint(T.tensor(3), (2,))
T.randint(0, 10, (2,), dtype=T.float16)
T.randint(0, 2, (2,), dtype=T.bool)
T.randint_like(T.zeros(2), 0, 10)
T.randint_like(T.zeros(2), 10)
T.randperm(5, dtype=T.float32)
T.normal(T.zeros(2, 1), T.ones(3))
T.normal(0, 1, (2,))
T.normal(T.zeros(2, dtype=T.float64), T.ones(2))
T.normal(T.zeros(2), T.ones(2, dtype=T.float64))
T.normal(T.zeros(2, dtype=T.complex64), T.ones(2))
T.normal(2.0, T.ones(2))
T.bernoulli(T.zeros(2, dtype=T.int64), 0.5)
T.multinomial(T.ones(0, 2), 1)
T.multinomial(T.ones(3, requires_grad=True), 1)
T.poisson(T.ones(2, dtype=T.float16))
T.binomial(T.tensor([10.0, 5]), T.tensor(0.5))
T.empty(3, dtype=T.int64).geometric_(0.5)
T.empty(3, dtype=T.int32).random_(5)
T.empty(0).normal_()
T.rand(0, 3)
""".split("\n")[1:-1]


@pytest.mark.oracle
@pytest.mark.parametrize("text", RESULTS)
def test_shapes_and_dtypes_are_pytorchs(text: str) -> None:
    torch = pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")
    mine, theirs = eval(text, {"T": tg}), eval(text, {"T": torch})
    assert (tuple(mine.shape), str(mine.dtype), mine.requires_grad) == (
        tuple(theirs.shape), str(theirs.dtype), theirs.requires_grad)  # fmt: skip


GRADIENTS = """
T.bernoulli(x)
T.normal(x, 1.0)
T.normal(x, x)
T.normal(0.0, x)
T.normal(x[:1], x)
T.poisson(x)
(x * 1).uniform_()
(x * 1).normal_()
(x * 1).bernoulli_(0.3)
(x * 1).bernoulli_(x)
(x * 1).exponential_()
(x * 1).random_()
(x * 1).random_(3)
(x * 1).random_(1, 3)
(x * 1).geometric_(0.3)
(x * 1).cauchy_()
(x * 1).log_normal_()
""".split("\n")[1:-1]


@pytest.mark.oracle
@pytest.mark.parametrize("text", GRADIENTS)
def test_gradients_are_zeros_as_pytorchs(text: str) -> None:
    torch = pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")

    def outcome(library: Any) -> Any:
        x = library.tensor([0.25, 0.5, 0.75], requires_grad=True)
        y = eval(text, {"T": library, "x": x})
        y.sum().backward()
        return type(y.grad_fn).__name__, x.grad.tolist()

    assert outcome(tg) == outcome(torch)


@pytest.mark.parametrize(("draw", "name"), [(lambda x: tg.bernoulli(x, 0.5), "bernoulli"),
                                            (lambda x: tg.binomial(x, x), "binomial")])  # fmt: skip
def test_draws_without_a_derivative_refuse_backward(draw: Any, name: str) -> None:
    x = tg.full((3,), 0.5, requires_grad=True)
    with pytest.raises(RuntimeError, match=f"derivative for aten::{name} is not implemented"):
        draw(x).sum().backward()


def test_ranges_that_a_type_holds_in_part_are_warned_about() -> None:
    with pytest.warns(UserWarning, match=r"to - 1 is out of bounds \[-\(2\^11\), 2\^11\]"):
        tg.empty(3, dtype=tg.float16).random_(0, 5000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tg.empty(3).random_(0, 2**24)
