"""``tracegrad.testing``: `assert_close` in PyTorch's words, and `make_tensor`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tracegrad as tg
from tracegrad.testing import assert_close, make_tensor


@pytest.fixture
def torch() -> Any:
    return pytest.importorskip("torch", reason="PyTorch is the oracle: pip install -e .[oracle]")


#: Functions from the API to the arguments of `assert_close`, and options.
CASES = [
    (lambda t: (t.ones(3), t.ones(3)), {}),
    (lambda t: (t.ones(3), t.ones(3) + 1e-3), {}),
    (lambda t: (t.ones(3), t.ones(2)), {}),
    (lambda t: (t.ones(3), t.ones(3).double()), {}),
    (lambda t: (t.ones(3), t.ones(3).double()), {"check_dtype": False}),
    (lambda t: (t.tensor(1.0), t.tensor(2.0)), {}),
    (lambda t: (t.tensor([1, 2, 3]), t.tensor([1, 2, 4])), {}),
    (lambda t: (t.tensor([True, False]), t.tensor([True, True])), {}),
    (lambda t: (t.tensor([[1.0], [2.0]]), t.tensor([[1.0], [4.0]])), {}),
    (lambda t: (t.tensor([float("nan")]), t.tensor([float("nan")])), {}),
    (lambda t: (t.tensor([float("nan")]), t.tensor([float("nan")])), {"equal_nan": True}),
    (lambda t: (t.tensor([float("inf")]), t.tensor([1.0])), {}),
    (lambda t: (t.tensor([1 + 2j]), t.tensor([1 + 3j])), {}),
    (lambda t: (t.ones(3).bfloat16(), t.ones(3).bfloat16() + 1), {}),
    (lambda t: (t.ones(2, 3).t(), t.ones(3, 2)), {"check_stride": True}),
    (lambda t: (t.zeros(0), t.zeros(0)), {}),
    (lambda t: ([t.ones(1), {"a": t.ones(1)}], [t.ones(1), {"a": t.zeros(1)}]), {}),
    (lambda t: ([t.ones(1)], [t.ones(1)] * 2), {}),
    (lambda t: ({"a": 1}, {"b": 1}), {}),
    (lambda t: (1.0, 2.0), {}),
    (lambda t: (1, 2), {}),
    (lambda t: (1, 1.0), {}),
    (lambda t: (1j, 2j), {}),
    (lambda t: (True, False), {}),
    (lambda t: (None, None), {}),
    (lambda t: (None, 1), {}),
    (lambda t: ("a", "a"), {}),
    (lambda t: (np.ones(2), np.zeros(2)), {}),
    (lambda t: (t.ones(2), t.zeros(2)), {"rtol": 1}),
    (lambda t: (t.ones(2), t.zeros(2)), {"rtol": 0, "atol": 0.5}),
    (lambda t: (t.ones(2), t.zeros(2)), {"rtol": 0, "atol": 2}),
    (lambda t: (t.ones(2), t.zeros(2)), {"msg": "mine"}),
    (lambda t: (t.ones(2), t.zeros(2)), {"msg": lambda m: "before " + m}),
]


def outcome(api: Any, make: Any, options: Any) -> Any:
    try:
        return api.testing.assert_close(*make(api), **options)
    except (AssertionError, TypeError, ValueError) as error:
        return type(error), str(error)


@pytest.mark.oracle
@pytest.mark.parametrize("case", range(len(CASES)))
def test_messages_are_pytorchs(torch, case):
    make, options = CASES[case]
    assert outcome(tg, make, options) == outcome(torch, make, options)


def test_pending_and_eager():
    assert_close(tg.ones(2) * 2, tg.tensor([2.0, 2.0]))
    with tg.eager(), pytest.raises(AssertionError, match="Mismatched elements: 2 / 2"):
        assert_close(tg.ones(2) * 2, tg.ones(2))
    with pytest.raises(TypeError, match="No comparison pair was able to handle"):
        assert_close(tg.ones(2), [1.0, 1.0])
    assert_close(tg.nn.Parameter(tg.ones(2)), tg.ones(2))
    with pytest.raises(TypeError):
        assert_close(tg.nn.Parameter(tg.ones(2)), tg.ones(2), allow_subclasses=False)


@pytest.mark.parametrize("dtype, low, high", [
    ("float32", -9, 9), ("bfloat16", -9, 9), ("int64", -9, 9), ("int8", -9, 9), ("uint8", 0, 9), ("bool", 0, 1),
])  # fmt: skip
def test_made_tensors(dtype, low, high):
    t = make_tensor(1000, dtype=getattr(tg, dtype), device="cpu")
    values = [float(x) for x in t.tolist()]
    assert t.dtype.name == dtype and low <= min(values) < low + 1 and high - 1 < max(values) <= high
    assert not t.requires_grad and t.is_leaf


def test_options_of_made_tensors():
    t = make_tensor((2, 3), dtype=tg.float32, device="cpu", low=0, high=1, requires_grad=True)
    assert t.requires_grad and 0 <= t.min().item() and t.max().item() < 1
    assert make_tensor(4, 4, dtype=tg.float32, device="cpu", noncontiguous=True).stride() == (8, 2)
    assert make_tensor(500, dtype=tg.int8, device="cpu", exclude_zero=True).all()
    assert make_tensor(3, dtype=tg.complex64, device="cpu").imag.any()
    for options, words in (({"low": 5, "high": 5}, "`low` must be less than `high`, but got 5 >= 5"),
                           ({"low": float("nan")}, "`low` and `high` cannot be NaN"),
                           ({"requires_grad": True}, "not supported for boolean and integral")):  # fmt: skip
        with pytest.raises(ValueError, match=words):
            make_tensor(3, dtype=tg.int64, device="cpu", **options)
