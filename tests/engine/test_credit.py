"""Places that keep missing get programs with cheap options."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import tracegrad as torch
from tracegrad._engine import credit, report


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Give little credit, so that there are few programs."""
    monkeypatch.setattr(credit, "_WHOLE", 2)
    monkeypatch.setattr(credit, "_PAID", 2)
    torch.clear_caches()
    yield
    torch.clear_caches()


def summed(rows: int) -> float:
    return (torch.ones(rows, 2) * 3).sum().item()  # type: ignore[no-any-return]


def cheap() -> list[bool]:
    return [r.cheap for r in report.totals.records]


def test_a_place_without_credit_gets_cheap_programs_and_says_so() -> None:
    assert [summed(n) for n in range(1, 5)] == [6.0, 12.0, 18.0, 24.0]
    assert cheap() == [False, False, True, True]
    assert str(torch.explain()).count("compiled with cheap options") == 2
    assert (torch.ones(9) + 1).sum().item() == 18  # another place has its own
    assert cheap()[-1] is False


def test_programs_that_are_run_again_give_the_credit_back() -> None:
    for n in range(1, 5):
        for _ in range(2):
            assert summed(n) == 6 * n
    assert not any(cheap())


def test_a_cheap_program_stays_what_it_is_as_another_would_round_differently() -> None:
    for n in range(1, 4):
        summed(n)
    assert cheap() == [False, False, True]
    assert [summed(3) for _ in range(100)] == [18.0] * 100
    assert cheap() == [False, False, True]


def test_where_bits_are_compared_all_are_compiled_whole() -> None:
    with credit.unlimited():
        for n in range(1, 5):
            summed(n)
    assert not any(cheap())


def test_what_compile_records_is_compiled_whole() -> None:
    def double(x: Any) -> Any:
        return x * 2

    for n in range(1, 5):
        function = torch.compile(double)
        x = torch.ones(n)
        for _ in range(3):
            assert function(x).sum().item() == 2 * n
    assert not any(r.cheap for r in report.totals.records if "compiled function ended" in r.reason)


def test_another_program_of_a_cheap_trace_is_cheap_even_with_credit_again() -> None:
    def kept(rows: int, keep: bool) -> list[Any]:
        y = torch.ones(rows, 2) * 3
        z = y.sum()
        if not keep:
            del y
        torch.synchronize()
        return [z] if not keep else [z, y]

    for n in range(1, 4):
        kept(n, False)
    for n in (1, 2):
        kept(n, False)  # which gives the credit back
    before = report.totals.compiled
    kept(3, True)
    kept(1, True)
    assert report.totals.compiled == before + 2
    assert cheap() == [False, False, True, True, False]
