"""Where the largest and smallest elements stand, along dims short and long: the first of several, the first nan."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tracegrad
from tracegrad import func

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.oracle


def elements(kind: str, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(0)
    a = np.round(rng.standard_normal(shape) * 2)
    if kind == "nan":
        a[rng.random(shape) < 0.2] = np.nan
    if kind == "inf":
        a[rng.random(shape) < 0.6] = -np.inf
    if kind == "zeros":
        return np.where(rng.random(shape) < 0.5, -0.0, 0.0).astype(np.float32)
    return a.astype({"half": np.float16, "int": np.int64, "bool": bool}.get(kind, np.float32))


@pytest.mark.parametrize("kind", ["ties", "nan", "inf", "zeros", "half", "int", "bool"])
def test_as_pytorch(kind: str) -> None:
    a = elements(kind, (18, 3))
    x, y = torch.tensor(a), tracegrad.tensor(a)
    for name in ("max", "min"):
        for dim in (0, 1):
            expected, found = getattr(x, name)(dim), getattr(y, name)(dim)
            assert found.indices.tolist() == expected.indices.tolist()
            np.testing.assert_array_equal(found.values.numpy(), expected.values.numpy())
        if kind != "bool":
            expected, found = (getattr(t, f"arg{name}")(0, True) for t in (x, y))
            assert found.tolist() == expected.tolist()
            expected, found = (getattr(t, f"arg{name}")(keepdim=True) for t in (x, y))
            assert found.tolist() == expected.tolist()


def test_the_gradient_goes_to_the_first() -> None:
    x = tracegrad.tensor(np.tile([1.0, 3.0, 3.0], 7), requires_grad=True)
    x.max(0).values.backward()
    assert x.grad is not None and x.grad.nonzero().tolist() == [[1]]


def test_mapped() -> None:
    a = elements("ties", (4, 20))
    assert func.vmap(lambda t: t.argmax())(tracegrad.tensor(a)).tolist() == np.argmax(a, 1).tolist()
