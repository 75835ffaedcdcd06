"""NumPy: arrays out of tensors and into them, NumPy's functions and operators on tensors."""

from __future__ import annotations

import array
from typing import Any

import numpy as np
import pytest

import tracegrad as tg

DTYPES = ["float64", "float32", "float16", "complex64", "complex128", "int64", "int32", "int16", "int8", "uint8",
          "uint16", "uint32", "uint64", "bool"]  # fmt: skip


@pytest.fixture
def torch() -> Any:
    return pytest.importorskip("torch", reason="PyTorch is the oracle: pip install -e .[oracle]")


@pytest.mark.parametrize("dtype", DTYPES)
def test_round_trip(dtype):
    a = np.array([[0, 1, 1], [1, 0, 1]], dtype)
    for x in (a, a.T, a[:, 1:], a[0, 0, None].reshape(()), a[:0]):
        t = tg.from_numpy(x)
        assert t.dtype.name == dtype and t.shape == x.shape
        for back in (t.numpy(), np.asarray(t), np.array(t), t.__array__(copy=True)):
            assert back.dtype == x.dtype and np.array_equal(back, x) and back.flags.writeable
    assert np.asarray(tg.from_numpy(a), dtype=np.complex128).dtype == np.complex128


def test_copies():
    a = np.ones(3)
    t = tg.from_numpy(a)
    y = t * 2
    a[:] = 0
    assert y.tolist() == [2.0] * 3 and t.tolist() == [1.0] * 3
    b = t.numpy()
    b[:] = 5
    assert t.tolist() == [1.0] * 3
    view = np.array(t, copy=False)
    t.add_(1)
    assert not view.flags.writeable and view.tolist() == [1.0] * 3 and t.tolist() == [2.0] * 3
    with pytest.raises(ValueError, match="Unable to avoid copy"):
        np.array(t, dtype=np.float32, copy=False)
    assert np.array(t, dtype=np.float64, copy=False).tolist() == [2.0] * 3


def test_errors():
    w = tg.ones(2, requires_grad=True)
    for read in (w.numpy, lambda: np.asarray(w), lambda: np.sin(w), lambda: np.array(w, copy=False)):
        with pytest.raises(RuntimeError, match=r"Can't call numpy\(\) on Tensor that requires grad. Use tensor.detach"):
            read()
    assert w.numpy(force=True).tolist() == [1.0, 1.0]
    half = tg.ones(2, dtype=tg.bfloat16)
    for read in (half.numpy, lambda: np.asarray(half)):
        with pytest.raises(TypeError, match="Got unsupported ScalarType BFloat16"):
            read()
    a = np.arange(3.0)
    for make in (tg.from_numpy, tg.tensor, tg.as_tensor):
        with pytest.raises(ValueError, match="At least one stride in the given numpy array is negative"):
            make(a[::-1])
        with pytest.raises(ValueError, match="byte order different from the native byte order"):
            make(np.array([1], ">f4"))
        with pytest.raises(TypeError, match="can't convert np.ndarray of type numpy.str_. The only supported"):
            make(np.array(["a"]))
    with pytest.raises(TypeError, match=r"expected np.ndarray \(got list\)"):
        tg.from_numpy([1])


def test_functions_of_numpy():
    x = tg.tensor([1.0, 4.0, 9.0])
    for f in (np.sqrt, np.negative, lambda x: np.maximum(x, 2), lambda x: np.add(x, np.ones(3))):
        found, want = f(x), f(x.numpy())
        assert isinstance(found, tg.Tensor) and found.dtype.np == want.dtype and found.tolist() == want.tolist()
    assert np.isnan(x).dtype is tg.uint8  # as PyTorch has it
    assert np.add.reduce(x).item() == 14 and np.modf(x)[1].tolist() == [1.0, 4.0, 9.0]
    assert np.concatenate([x, x]).shape == (6,) and np.stack([x, x]).dtype == np.float32
    np.testing.assert_allclose(x, [1, 4, 9])
    np.testing.assert_array_equal(x, np.array([1, 4, 9]))
    with pytest.raises(AssertionError, match="Mismatched elements: 1 / 3"):
        np.testing.assert_allclose(x, [1, 4, 8])
    assert np.allclose(x, x) and np.isclose(x, 4).tolist() == [False, True, False]
    out = np.zeros(3)
    np.multiply(x, 2, out=out)
    assert out.tolist() == [2, 8, 18]
    assert np.arange(3)[tg.tensor([0, 2])].tolist() == [0, 2] and np.zeros(tg.tensor(2)).shape == (2,)


OPERATORS = ["+", "-", "*", "/", "//", "%", "**", "<", "<=", ">", ">=", "==", "!="]


@pytest.mark.parametrize("op", OPERATORS)
def test_operators_with_arrays(op):
    names = {"np": np}
    a, b = np.array([1.0, 2.0, 5.0]), np.array([3.0, 2.0, 2.0])
    want = eval(f"a {op} b", names, {"a": a, "b": b})
    t = tg.tensor(a)
    for found in (eval(f"a {op} b", names, {"a": t, "b": b}), eval(f"a {op} b", names, {"a": a, "b": tg.tensor(b)})):
        assert isinstance(found, tg.Tensor)
        np.testing.assert_allclose(found, want.astype(found.dtype.np))
    for number in (np.float64(2), np.float32(2), np.int64(2)):
        found = eval(f"n {op} t", {"n": number, "t": tg.tensor([1.0, 2.0])})
        assert isinstance(found, tg.Tensor) and found.dtype in (tg.float32, tg.bool)


def test_gradients_pass_operators_with_arrays():
    w = tg.tensor([1.0, 2.0], requires_grad=True)
    (np.array([3.0, 4.0], np.float32) * w - w * np.array([1.0, 1.0], np.float32)).sum().backward()
    assert w.grad.tolist() == [2.0, 3.0]
    with tg.eager():
        assert (w.detach() @ np.array([1.0, 1.0], np.float32)).item() == 3.0
    assert (np.ones((2, 2), np.float32) @ w.detach()).tolist() == [3.0, 3.0]


class Interface:
    def __init__(self, a):
        self.a = a
        self.__array_interface__ = a.__array_interface__


class Array:
    def __array__(self, dtype=None, copy=None):
        return np.arange(4.0)


@pytest.mark.parametrize("make", ["tensor", "as_tensor", "asarray"])
def test_other_data(make):
    f = getattr(tg, make)
    pixels = np.arange(6, dtype=np.uint8).reshape(2, 3)
    for given in (Interface(pixels), Array()):
        a = np.asarray(given)
        t = f(given)
        assert t.dtype.np == a.dtype and t.tolist() == a.tolist()
    cases = [
        [np.ones(2), np.zeros(2)], [tg.tensor(1.0), 2], [[1, 2.5], (3, 4)], [np.array([1, 2]), [3, 4]],
        [np.float64(1), 2], [np.float32(1), 2], [np.int8(1)], range(3), [tg.tensor(1), tg.tensor(2.5)], [True, 2],
    ]  # fmt: skip
    for case in cases:
        t = f(case)
        want = [[float(y) for y in x] if np.ndim(x) else float(x) for x in case]
        assert t.tolist() == want, case
    assert f([np.float64(1), 2]).dtype is tg.float64 and f([np.float32(1), 2]).dtype is tg.float32
    a = np.ones(2)
    t = f(a)
    a[:] = 0
    assert t.tolist() == [1.0, 1.0]
    a.flags.writeable = False
    assert f(a).tolist() == [0.0, 0.0]


def test_asarray():
    t = tg.ones(2)
    assert tg.asarray(t) is t and tg.asarray(t, copy=True) is not t and tg.asarray(t, copy=False) is t
    assert tg.asarray(bytearray(b"ab\0\0"), dtype=tg.int16).tolist() == [25185, 0]
    w = tg.ones(2, requires_grad=True)
    assert not tg.asarray(w).requires_grad and tg.asarray(w, requires_grad=True).requires_grad
    with pytest.raises(ValueError, match="can't alias arbitrary sequence"):
        tg.asarray([1], copy=False)
    with pytest.raises(ValueError, match="cannot share the memory of ndarray"):
        tg.asarray(np.ones(1), copy=False)


def test_buffers(tmp_path):
    data = bytearray(b"abcdefgh")
    assert tg.frombuffer(data, dtype=tg.int32, offset=4).tolist() == [int.from_bytes(b"efgh", "little")]
    t = tg.frombuffer(data, dtype=tg.uint8, count=2)
    data[0] = 0
    assert t.tolist() == [97, 98]
    assert tg.frombuffer(array.array("d", [1, 2]), dtype=tg.float64, requires_grad=True).requires_grad
    assert tg.frombuffer(b"\2\0", dtype=tg.bool).tolist() == [True, False]
    np.arange(4.0, dtype=np.float32).tofile(tmp_path / "a.bin")
    assert tg.from_file(tmp_path / "a.bin", size=3).tolist() == [0.0, 1.0, 2.0]
    with pytest.raises(RuntimeError, match="unable to mmap 20 bytes"):
        tg.from_file(str(tmp_path / "a.bin"), size=5)
    with pytest.raises(tg.UnsupportedError, match="shared=True"):
        tg.from_file(str(tmp_path / "a.bin"), shared=True, size=1)


@pytest.mark.oracle
@pytest.mark.filterwarnings("ignore")
def test_errors_of_frombuffer_are_pytorchs(torch):
    cases = [
        (b"", {"dtype": "int32"}), (b"abcd", {"dtype": "int32", "offset": 2}),
        (b"abcd", {"dtype": "int32", "count": 5}), (b"abcd", {"dtype": "int32", "offset": 4}),
        (b"abcd", {"dtype": "int32", "offset": -1}),
        (b"abcd", {"dtype": "int32", "count": 0}), (b"abcde", {"dtype": "int16"}), ([1], {"dtype": "int16"}),
    ]  # fmt: skip
    for data, options in cases:
        texts = []
        for api in (torch, tg):
            with pytest.raises(ValueError) as caught:
                api.frombuffer(bytearray(data) if isinstance(data, bytes) else data,
                               **{**options, "dtype": getattr(api, options["dtype"])})  # fmt: skip
            texts.append(str(caught.value))
        assert texts[0] == texts[1], (data, options)
