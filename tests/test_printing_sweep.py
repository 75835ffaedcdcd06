"""Texts of tensors against PyTorch's: views, results of ops, containers, options, and every place to print in."""

from __future__ import annotations

import math
from typing import Any

import jax
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tracegrad as tg
from tracegrad import _dtype
from tracegrad._printing import printoptions, set_printoptions

#: Around every threshold at which a format changes.
NUMBERS = [
    0.0, -0.0, 1.0, -1.0, 0.5, -2.5, 999.9, 1000.0, 1001.0, 99999.0, 1e8, 1e8 + 1, -1e8, 0.0001, 0.00009999, 1e-5,
    123456.789, 1e20, 1e38, -1e-38, 5e-324, 65504.0, math.inf, -math.inf, math.nan, 0.1, 1 / 3,
]  # fmt: skip
SHAPES = [(), (1,), (7,), (2, 3), (3, 1, 2), (2, 1, 1, 2), (0,), (0, 3), (2, 0), (30,), (4, 60), (1100,), (40, 30)]
VIEWS = {"itself": lambda x: x, "transposed": lambda x: x.transpose(0, -1) if x.ndim else x,
         "row": lambda x: x[0] if x.ndim and x.shape[0] else x, "end": lambda x: x[1:] if x.ndim else x,
         "detached": lambda x: x.detach(), "flipped": lambda x: x.flip(0) if x.ndim else x}  # fmt: skip


def elements(draw: Any, dtype: np.dtype, size: int) -> np.ndarray:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    if dtype.kind == "b":
        return rng.random(size) < 0.5
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        top = draw(st.sampled_from([2, 10, 1000, 2**63]))
        return rng.integers(max(info.min, -top), min(info.max, top - 1), size, dtype, endpoint=True)

    def reals() -> np.ndarray:
        some = rng.choice(NUMBERS, draw(st.integers(1, 3)))
        chosen = rng.choice(some, size)
        if draw(st.booleans()):
            chosen = chosen * rng.standard_normal(size)
        return np.round(chosen, draw(st.sampled_from([0, 1, 3, 20])))

    with np.errstate(all="ignore"):
        if dtype.kind == "c":
            made = np.empty(size, dtype)
            made.real, made.imag = reals(), reals()
            return made
        return reals().astype(dtype)


def to_torch(torch: Any, array: np.ndarray) -> Any:
    if array.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(array.view(np.int16).copy()).view(torch.bfloat16)
    return torch.from_numpy(array.copy())


@pytest.mark.oracle
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_text_is_pytorchs(data: Any) -> None:
    torch = pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")
    draw = data.draw
    dtype = draw(st.sampled_from([d.np for d in _dtype.ALL]))
    shape = draw(st.sampled_from(SHAPES))
    array = elements(draw, dtype, math.prod(shape)).reshape(shape)
    look = VIEWS[draw(st.sampled_from(list(VIEWS)))]
    options = draw(st.fixed_dictionaries({}, optional={
        "precision": st.integers(0, 8), "threshold": st.sampled_from([0, 3, 50, math.inf]),
        "edgeitems": st.integers(0, 4), "linewidth": st.sampled_from([1, 20, 79, 80, 200]),
        "sci_mode": st.sampled_from([None, True, False]), "profile": st.sampled_from(["default", "short", "full"]),
    }))  # fmt: skip
    if look is VIEWS["flipped"] and array.dtype.kind == "u" and array.dtype.itemsize > 1:
        look = VIEWS["itself"]  # PyTorch flips no wide unsigned integers
    mine, theirs = look(tg.tensor(array)), look(to_torch(torch, array))
    try:
        torch.set_printoptions(**options)
        with printoptions(**options):
            assert repr(mine) == repr(theirs)
            assert str([mine, {"a": mine}]) == str([theirs, {"a": theirs}])
    finally:
        torch.set_printoptions(profile="default")


SUFFIXES = """
x * 2
x.sum()
x.reshape(2, 1, 3) @ T.ones(3, 1)
x.exp()[0]
T.ones(2, 40, requires_grad=True) * 3
T.ones(1, 18, dtype=T.float64, requires_grad=True) + 0
T.ones(1, 15, dtype=T.complex128, requires_grad=True)
(x * 2).detach()
x.view(-1)
x.t()
T.nn.Parameter(x.detach())
T.nn.Parameter(T.ones(0, 2))
T.nn.Parameter(T.ones(1), requires_grad=False)
[T.nn.Parameter(T.ones(1)), (x[0],)]
x.softmax(0)
T.nn.functional.relu(x)
x.to(T.float64)
x.mean().sqrt()
T.stack([x, x])
x.unbind(0)
x.max(1)
""".split("\n")[1:-1]


@pytest.mark.oracle
@pytest.mark.parametrize("text", SUFFIXES)
def test_suffixes_are_pytorchs(text: str) -> None:
    torch = pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")

    def shown(library: Any) -> str:
        x = library.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], requires_grad=True)
        return repr(eval(text, {"T": library, "x": x}))

    assert shown(tg) == shown(torch)


@pytest.mark.oracle
def test_default_dtypes_are_left_out_as_in_pytorch() -> None:
    torch = pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")
    for name in ("float64", "float16", "bfloat16", "float32"):
        shown = []
        for library in (tg, torch):
            try:
                library.set_default_dtype(getattr(library, name))
                kinds = [getattr(library, d) for d in ("float32", "float64", "float16", "complex64")]
                made = [library.ones(2, dtype=d) for d in kinds]
                shown.append(repr([*made, library.ones(0), library.ones(0, dtype=library.float32), library.ones(1)]))
            finally:
                library.set_default_dtype(library.float32)
        assert shown[0] == shown[1]


def test_printing_in_every_place_disturbs_nothing() -> None:
    texts: list[str] = []
    x = tg.tensor([1.0, 2.0], requires_grad=True)
    x.register_hook(lambda g: texts.append(repr(g)))
    with tg.no_grad():
        y = x * 2
        assert repr(y) == "tensor([2., 4.])" and repr(x) == "tensor([1., 2.], requires_grad=True)"
    with tg.inference_mode():
        assert repr(x * 2) == "tensor([2., 4.])"
    with tg.eager():
        assert repr(x * 2) == "tensor([2., 4.], grad_fn=<MulBackward0>)"
    z = x * x
    version = x._version
    assert repr(z) == repr(z) == "tensor([1., 4.], grad_fn=<MulBackward0>)"
    z.sum().backward()
    assert texts == ["tensor([2., 4.])"] and x.grad.tolist() == [2, 4]
    assert x._version == version and x.is_leaf and tg.is_grad_enabled()


def test_printing_inside_vmap_and_jax() -> None:
    texts: list[str] = []

    def square(a: tg.Tensor) -> tg.Tensor:
        texts.append(repr(a))
        texts.append(repr(a * a))
        return a * a

    found = tg.vmap(square)(tg.arange(6.0).reshape(2, 3))
    assert texts == ["BatchedTensor(lvl=1, size=(3,), dtype=torch.float32)"] * 2
    assert found.tolist() == [[0, 1, 4], [9, 16, 25]]

    def shown(a: Any) -> Any:
        texts.append(repr(tg.from_jax(a) * 2))
        return a

    jax.jit(shown)(np.ones(3, np.float32))
    assert "float32[3]" in texts[-1]


def test_in_place_writes_are_printed() -> None:
    x = tg.zeros(2, 2)
    row = x[0]
    x[0, 1] = 5
    assert repr(row) == "tensor([0., 5.])"
    row.mul_(2)
    assert repr(x) == "tensor([[ 0., 10.],\n        [ 0.,  0.]])"


@pytest.fixture(autouse=True)
def default_options() -> Any:
    yield
    set_printoptions(profile="default")
