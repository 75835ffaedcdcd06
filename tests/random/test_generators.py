"""Generators: numbers depend on the seed and the count of draws alone, in every way of running."""

from __future__ import annotations

import copy
import itertools
import pickle
from typing import Any

import numpy as np
import pytest

import tracegrad as tg
from tracegrad.nn import functional as F

DRAWS = {
    "rand": lambda g: tg.rand(3, generator=g),
    "rand64": lambda g: tg.rand(3, dtype=tg.float64, generator=g),
    "randn": lambda g: tg.randn(2, 2, generator=g),
    "randint": lambda g: tg.randint(-5, 100, (4,), generator=g),
    "randperm": lambda g: tg.randperm(6, generator=g),
    "rand_like": lambda g: tg.rand_like(tg.zeros(3), generator=g),
    "randn_like": lambda g: tg.randn_like(tg.zeros(3), generator=g),
    "randint_like": lambda g: tg.randint_like(tg.zeros(3), 0, 9, generator=g),
    "normal": lambda g: tg.normal(tg.zeros(2, 1), tg.ones(3), generator=g),
    "normal of numbers": lambda g: tg.normal(1.0, 2.0, (3,), generator=g),
    "bernoulli": lambda g: tg.bernoulli(tg.full((4,), 0.5), generator=g),
    "multinomial": lambda g: tg.multinomial(tg.tensor([0.2, 0.3, 0.5]), 2, generator=g),
    "multinomial, replaced": lambda g: tg.multinomial(tg.tensor([0.2, 0.3, 0.5]), 4, True, generator=g),
    "poisson": lambda g: tg.poisson(tg.full((4,), 3.0), generator=g),
    "binomial": lambda g: tg.binomial(tg.full((4,), 9.0), tg.tensor(0.4), generator=g),
    "uniform_": lambda g: tg.zeros(3).uniform_(-1, 2, generator=g),
    "normal_": lambda g: tg.zeros(3).normal_(1, 2, generator=g),
    "log_normal_": lambda g: tg.zeros(3).log_normal_(0, 1, generator=g),
    "exponential_": lambda g: tg.zeros(3).exponential_(2.0, generator=g),
    "cauchy_": lambda g: tg.zeros(3).cauchy_(0, 1, generator=g),
    "geometric_": lambda g: tg.zeros(3).geometric_(0.3, generator=g),
    "bernoulli_": lambda g: tg.zeros(4).bernoulli_(0.5, generator=g),
    "bernoulli_ by a tensor": lambda g: tg.zeros(4).bernoulli_(tg.full((4,), 0.5), generator=g),
    "random_": lambda g: tg.zeros(4, dtype=tg.int64).random_(generator=g),
}


@pytest.mark.parametrize("name", DRAWS)
def test_every_op_draws_from_the_generator_it_is_given(name: str) -> None:
    draw = DRAWS[name]
    g = tg.Generator().manual_seed(3)
    before = tg.get_rng_state().tolist()
    first, second = draw(g).tolist(), draw(g).tolist()
    assert tg.get_rng_state().tolist() == before
    g.manual_seed(3)
    if name not in ("poisson", "binomial"):  # which take long to compile
        tg.clear_caches()
    with tg.eager():
        assert [draw(g).tolist(), draw(g).tolist()] == [first, second]
    g.manual_seed(3)
    both = draw(g), draw(g)  # in one program
    assert [x.tolist() for x in both] == [first, second]
    assert first != second or name in ("bernoulli", "bernoulli_", "bernoulli_ by a tensor", "multinomial")
    tg.manual_seed(3)
    assert draw(None).tolist() == first
    with pytest.raises(TypeError, match=r"\(\): argument 'generator' must be torch.Generator, not int"):
        draw(3)


def program(read: bool, generators: tuple[Any, Any]) -> list[Any]:
    a, b = generators
    found: list[Any] = []

    def keep(x: Any) -> None:
        found.append(x)
        if read:
            x.tolist()

    tg.manual_seed(11)
    keep(tg.rand(3))
    keep(F.dropout(tg.ones(6), 0.5))
    keep(tg.randn(2, generator=a))
    tg.manual_seed(12)  # in the middle of a trace
    keep(tg.rand(3))
    keep(tg.randn(2, generator=b))
    keep(tg.randn(2, generator=a))
    x = tg.zeros(3)
    x.uniform_()
    keep(x * 1)
    x.normal_(generator=b)
    keep(x)
    state = tg.get_rng_state()
    keep(tg.rand(2))
    tg.set_rng_state(state)
    keep(tg.rand(2))
    return [t.tolist() for t in found]


def test_flushes_caches_and_eager_execution_change_nothing() -> None:
    def run(read: bool) -> list[Any]:
        return program(read, (tg.Generator().manual_seed(1), tg.Generator().manual_seed(1)))

    expected = run(False)
    assert expected == run(False) == run(True)
    with tg.eager():
        assert run(False) == expected
    tg.clear_caches()
    assert run(True) == expected
    assert expected[-1] == expected[-2]


def test_two_generators_of_one_seed_agree_and_do_not_disturb_each_other() -> None:
    a, b = tg.Generator().manual_seed(5), tg.Generator().manual_seed(5)
    first = [tg.rand(2, generator=g).tolist() for g in (a, a, b, a, b, b)]
    assert first[0] == first[2] and first[1] == first[4] and first[3] == first[5]


def test_a_loop_draws_anew_each_time_and_compiles_no_more() -> None:
    seen, programs = [], []
    w = tg.ones(5, requires_grad=True)
    for _ in range(6):
        noise = tg.randn(5)
        loss = (F.dropout(w, 0.3) * noise).sum() + tg.rand(5).sum()
        loss.backward()
        w.grad = None
        seen.append(noise.tolist())
        programs.append(tg.cache_sizes()["programs"])
    assert len({tuple(x) for x in seen}) == 6
    assert programs[2:] == [programs[2]] * 4


def test_states() -> None:
    g = tg.Generator()
    state = g.get_state()
    assert state.dtype is tg.uint8 and g.initial_seed() == 67280421310721 and g.device == tg.device("cpu")
    a = tg.rand(3, generator=g).tolist()
    twin = g.clone_state()
    assert tg.rand(3, generator=g).tolist() == tg.rand(3, generator=twin).tolist()
    assert tg.rand(3, generator=g.set_state(state)).tolist() == a
    for copied in (copy.copy(g), copy.deepcopy(g), pickle.loads(pickle.dumps(g))):
        assert copied is not g and copied.initial_seed() == g.initial_seed()
        assert tg.rand(3, generator=copied).tolist() == tg.rand(3, generator=g.clone_state()).tolist()
    with pytest.raises(TypeError, match="expected a torch.ByteTensor, but got int"):
        g.set_state(3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="RNG state must be a torch.ByteTensor"):
        g.set_state(tg.zeros(16))
    with pytest.raises(RuntimeError, match="state of size 16 but found the input RNG state size to be 3"):
        g.set_state(tg.zeros(3, dtype=tg.uint8))


def test_seeds() -> None:
    assert tg.manual_seed(-1) is tg.default_generator and tg.initial_seed() == 2**64 - 1
    assert tg.manual_seed(2**63).initial_seed() == 2**63
    assert tg.manual_seed(1.7).initial_seed() == 1  # type: ignore[arg-type]
    assert tg.manual_seed(tg.tensor(5)).initial_seed() == 5  # type: ignore[arg-type]
    for wrong in (2**64, -(2**63) - 1):
        with pytest.raises(ValueError, match="Overflow when unpacking long long"):
            tg.manual_seed(wrong)
    with pytest.raises(RuntimeError, match="manual_seed expected a long, but got float"):
        tg.Generator().manual_seed(1.5)  # type: ignore[arg-type]
    chosen = tg.seed()
    assert tg.initial_seed() == chosen != tg.seed()
    numbers = {tuple(tg.manual_seed(s) and tg.rand(2).tolist()) for s in (0, 1, -1, 2**32, 2**63, 2**40)}
    assert len(numbers) == 6


def test_fork() -> None:
    tg.random.manual_seed(1)
    with tg.random.fork_rng():
        tg.manual_seed(99)
        tg.rand(2)
    assert tg.initial_seed() == 1
    first = tg.rand(2).tolist()
    tg.random.manual_seed(1)
    with pytest.raises(KeyError), tg.random.fork_rng(devices=[]):
        tg.rand(2)
        raise KeyError
    assert tg.rand(2).tolist() == first
    with tg.random.fork_rng(enabled=False):
        tg.manual_seed(7)
    assert tg.random.initial_seed() == 7
    state = tg.random.get_rng_state()
    a = tg.rand(2).tolist()
    tg.random.set_rng_state(state)
    assert tg.rand(2).tolist() == a


def test_consecutive_draws_are_independent() -> None:
    g = tg.Generator().manual_seed(0)
    rows = np.stack([tg.randn(4096, generator=g).numpy() for _ in range(6)])
    for a, b in itertools.combinations(rows, 2):
        assert abs(np.corrcoef(a, b)[0, 1]) < 0.06 and abs(np.corrcoef(a[1:], b[:-1])[0, 1]) < 0.06
    firsts = np.array([tg.rand(1, generator=g).item() for _ in range(200)])
    assert abs(np.corrcoef(firsts[1:], firsts[:-1])[0, 1]) < 0.2


def test_a_prefix_of_a_longer_draw_is_the_shorter_draw() -> None:
    a = tg.rand(4, generator=tg.Generator().manual_seed(2)).tolist()
    assert tg.rand(3, 3, generator=tg.Generator().manual_seed(2)).reshape(-1)[:4].tolist() == a


def test_failed_draws_leave_generators_usable() -> None:
    g = tg.Generator().manual_seed(0)
    with pytest.raises(NotImplementedError):
        tg.rand(3, dtype=tg.int64, generator=g)
    x = tg.zeros(3, requires_grad=True)
    with pytest.raises(RuntimeError, match="a leaf Variable that requires grad"):
        x.uniform_(generator=g)
    assert len(tg.rand(3, generator=g).tolist()) == 3
