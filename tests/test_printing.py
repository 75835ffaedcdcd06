"""The text of tensors: expected texts by hand, and a sweep against PyTorch's own."""

from __future__ import annotations

import math
from textwrap import dedent

import jax
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import tracegrad
from tracegrad import _device, _dtype
from tracegrad._engine.value import aval, concrete
from tracegrad._handle import tensor_of
from tracegrad._printing import get_printoptions, parameter_repr, printoptions, set_printoptions, tensor_repr

inf, nan = math.inf, math.nan


@pytest.fixture(autouse=True)
def default_options():
    yield
    set_printoptions(profile="default")


def text(data, dtype=None, **options):
    array = np.asarray(data, dtype)
    if array.dtype == np.float64 and dtype is None:
        array = array.astype(np.float32)
    with printoptions(**options):
        return tensor_repr(tracegrad.tensor(array))


@pytest.mark.parametrize(
    ("data", "dtype", "expected"),
    [
        (True, bool, "tensor(True)"),
        ([True, False], bool, "tensor([ True, False])"),
        ([1, -20, 3], np.int64, "tensor([  1, -20,   3])"),
        ([1, 20], np.uint8, "tensor([ 1, 20], dtype=torch.uint8)"),
        ([2**64 - 1], np.uint64, "tensor([18446744073709551615], dtype=torch.uint64)"),
        ([2**63 - 1, -(2**63)], np.int64, "tensor([ 9223372036854775807, -9223372036854775808])"),
        (3.0, None, "tensor(3.)"),
        (1.5, np.float16, "tensor(1.5000, dtype=torch.float16)"),
        ([0.1, 1], ml_dtypes.bfloat16, "tensor([0.1001, 1.0000], dtype=torch.bfloat16)"),
        ([1 / 3], np.float64, "tensor([0.3333], dtype=torch.float64)"),
        ([0, inf], None, "tensor([0., inf])"),
        ([0, nan, -0.0], None, "tensor([0., nan, -0.])"),
        ([1, inf, -inf], None, "tensor([1., inf, -inf])"),
        ([1.5, inf, -inf, nan], None, "tensor([1.5000,    inf,   -inf,    nan])"),
        ([1e9, 1], None, "tensor([1.0000e+09, 1.0000e+00])"),
        (1e8, None, "tensor(100000000.)"),
        (1e8 + 1, np.float64, "tensor(1.0000e+08, dtype=torch.float64)"),
        ([1e-4, 1.5e-5], None, "tensor([1.0000e-04, 1.5000e-05])"),
        ([0.5, 500], None, "tensor([  0.5000, 500.0000])"),
        ([0.5, 501], None, "tensor([5.0000e-01, 5.0100e+02])"),
        (1 + 2j, np.complex64, "tensor(1.+2.j)"),
        ([1 + 2j, -3.5, complex(nan, -inf)], "c8", "tensor([ 1.0000+2.j, -3.5000+0.j,     nan-infj])"),
        ([1.5 + 1e9j, 2 + 1j], np.complex64, "tensor([1.5000+1.0000e+09j, 2.0000+1.0000e+00j])"),
        ([0, 0], np.complex128, "tensor([0.+0.j, 0.+0.j], dtype=torch.complex128)"),
        ([], None, "tensor([])"),
        ([], np.int64, "tensor([], dtype=torch.int64)"),
        ([], np.complex64, "tensor([], dtype=torch.complex64)"),
        (np.zeros((0, 3)), None, "tensor([], size=(0, 3))"),
        (np.zeros((2, 0, 3)), bool, "tensor([], size=(2, 0, 3), dtype=torch.bool)"),
    ],
)
def test_text(data, dtype, expected):
    assert text(data, dtype) == expected


def test_nested_dimensions_are_apart_by_blank_lines():
    expected = """\
        tensor([[[0, 0, 0],
                 [0, 0, 0]],

                [[0, 0, 0],
                 [0, 0, 0]]], dtype=torch.int32)"""
    assert text(np.zeros((2, 2, 3)), np.int32) == dedent(expected)


def test_long_rows_wrap_and_long_tensors_are_summarised():
    assert text(np.arange(20) / 3) == dedent("""\
        tensor([0.0000, 0.3333, 0.6667, 1.0000, 1.3333, 1.6667, 2.0000, 2.3333, 2.6667,
                3.0000, 3.3333, 3.6667, 4.0000, 4.3333, 4.6667, 5.0000, 5.3333, 5.6667,
                6.0000, 6.3333])""")
    assert text(np.arange(1001)) == "tensor([   0,    1,    2,  ...,  998,  999, 1000])"
    assert text(np.arange(2000.0)) == dedent("""\
        tensor([0.0000e+00, 1.0000e+00, 2.0000e+00,  ..., 1.9970e+03, 1.9980e+03,
                1.9990e+03])""")
    assert text(np.ones((1001, 1))) == dedent("""\
        tensor([[1.],
                [1.],
                [1.],
                ...,
                [1.],
                [1.],
                [1.]])""")


def test_a_huge_tensor_is_summarised_by_its_edges_alone():
    big = tracegrad.tensor(np.zeros((3000, 1000), np.int8))
    assert len(tensor_repr(big)) < 400


def test_requires_grad_grad_fn_and_parameters():
    x = tracegrad.tensor([1.0, 2.0], requires_grad=True)
    assert tensor_repr(x) == "tensor([1., 2.], requires_grad=True)"
    assert parameter_repr(x) == "Parameter containing:\ntensor([1., 2.], requires_grad=True)"
    if hasattr(type(x), "grad_fn"):
        assert tensor_repr(x * 2) == "tensor([2., 4.], grad_fn=<MulBackward0>)"


def test_grad_fn_goes_to_a_new_line_where_it_does_not_fit(monkeypatch):
    maker = type("MulBackward0", (), {})()
    monkeypatch.setattr(tracegrad.Tensor, "grad_fn", maker, raising=False)
    assert text([2.0, 2.0]) == "tensor([2., 2.], grad_fn=<MulBackward0>)"
    assert text(np.zeros((0, 3))) == "tensor([], size=(0, 3), grad_fn=<MulBackward0>)"
    expected = """\
        tensor([[0.5000, 0.5000, 0.5000],
                [0.5000, 0.5000, 0.5000]], dtype=torch.float64,
               grad_fn=<MulBackward0>)"""
    assert text(np.full((2, 3), 0.5), np.float64, linewidth=70) == dedent(expected)


def test_notes_that_do_not_fit_go_to_a_line_of_their_own():
    x = tracegrad.tensor(np.full((3, 3), 0.5), requires_grad=True)
    assert "[0.5000, 0.5000, 0.5000]], dtype=torch.float64, requires_grad=True)" in tensor_repr(x)
    x = tracegrad.tensor(np.zeros(19), requires_grad=True)
    zeros = ", ".join(["0."] * 19)
    assert tensor_repr(x) == f"tensor([{zeros}],\n       dtype=torch.float64, requires_grad=True)"


def test_a_device_other_than_the_cpu_is_told():
    place = _device.Device("cuda", 0)
    of = aval((2,), _dtype.float32, place)
    assert tensor_repr(tensor_of(concrete(np.ones(2, np.float32), of))) == "tensor([1., 1.], device='cuda:0')"
    of = aval((0, 3), _dtype.int32, place)
    empty = tensor_of(concrete(np.ones((0, 3), np.int32), of))
    assert tensor_repr(empty) == "tensor([], device='cuda:0', size=(0, 3), dtype=torch.int32)"


def test_the_default_dtype_goes_without_saying():
    try:
        _dtype.set_default_dtype(_dtype.float64)
        assert text([1, 2], np.float64) == "tensor([1., 2.])"
        assert text([1, 2], np.float32) == "tensor([1., 2.], dtype=torch.float32)"
        assert text([1], np.complex128) == "tensor([1.+0.j])"
        assert text([1], np.complex64) == "tensor([1.+0.j], dtype=torch.complex64)"
    finally:
        _dtype.set_default_dtype(_dtype.float32)


def test_printoptions():
    assert get_printoptions() == {
        "precision": 4, "threshold": 1000, "edgeitems": 3, "linewidth": 80, "sci_mode": None}  # fmt: skip
    assert text(1.2345, precision=2) == "tensor(1.23)"
    assert text([0.5, 1.2], precision=0) == "tensor([0, 1])"
    assert text([1.0, 2.0], sci_mode=True) == "tensor([1.0000e+00, 2.0000e+00])"
    assert text([0.0], sci_mode=True) == "tensor([0.])"
    assert text([1e10, 1.0], sci_mode=False) == "tensor([10000000000.,           1.])"
    short = text(np.arange(2000.0) / 3, profile="short")
    assert short == "tensor([0.00e+00, 3.33e-01,  ..., 6.66e+02, 6.66e+02])"
    assert "..." not in text(np.arange(2000.0), profile="full")
    assert text([1, 2], np.int64, threshold=0, edgeitems=0) == "tensor([...], size=(2,))"
    assert text(3.0, edgeitems=0) == "tensor(3., size=())"
    assert text([0.5, 1.5], linewidth=10) == "tensor([0.5000,\n        1.5000])"
    set_printoptions(sci_mode=True, linewidth=100)
    set_printoptions(precision=3)
    assert get_printoptions()["sci_mode"] is None
    assert get_printoptions()["linewidth"] == 100


def test_options_return_after_an_error():
    with pytest.raises(KeyError), printoptions(precision=9):
        raise KeyError
    assert get_printoptions()["precision"] == 4


def test_a_tracer_says_what_it_is():
    def show(a):
        shown.append(tensor_repr(tensor_of(concrete(a, aval((3,), _dtype.float32)))))
        return a

    shown: list[str] = []
    jax.jit(show)(np.ones(3, np.float32))
    assert shown[0].startswith("tensor(") and "float32[3]" in shown[0]


# -- the sweep --------------------------------------------------------------------------------------------

DTYPES = {d.name: d.np for d in _dtype.ALL}
SHAPES = st.one_of(
    hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
    hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=9),
    st.sampled_from([(40,), (3, 30), (1001,), (7, 150), (11, 10, 10), (2, 3, 4, 50), (5, 1, 201)]),
)
SCALES = st.sampled_from([1.0, 1e-3, 1e-6, 30.0, 1e4, 1e9, 1e30])
OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "precision": st.integers(0, 9),
        "threshold": st.sampled_from([0, 5, 30, 1000, inf]),
        "edgeitems": st.integers(0, 4),
        "linewidth": st.sampled_from([10, 40, 80, 81, 120]),
        "sci_mode": st.sampled_from([None, True, False]),
        "profile": st.sampled_from(["default", "short", "full"]),
    },
)


def sample(seed, shape, dtype, scale, special, whole):
    """Random elements: normals around ``scale``, some of them whole numbers, zeros, infinities and nans."""
    rng = np.random.default_rng(seed)
    if dtype == np.bool_:
        return rng.random(shape) < 0.5
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        low, high = max(info.min, -int(scale)), min(info.max, int(scale) + 3)
        return rng.integers(low, high, shape, dtype=dtype, endpoint=True)

    def reals():
        a = np.asarray(rng.standard_normal(shape)) * scale
        if whole:
            a = np.round(a)
        if special:
            mask = np.asarray(rng.random(shape)) < 0.3
            a = np.where(mask, rng.choice([0.0, -0.0, inf, -inf, nan], shape), a)
        return a

    with np.errstate(over="ignore"):
        if dtype.kind == "c":
            real = np.float32 if dtype == np.complex64 else np.float64
            z = np.empty(shape, dtype)
            z.real, z.imag = reals().astype(real), reals().astype(real)
            return z
        return reals().astype(dtype)


def to_torch(torch, array):
    if array.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(array.view(np.int16).copy()).view(torch.bfloat16)
    return torch.from_numpy(array.copy())


@pytest.mark.oracle
@pytest.mark.parametrize("name", DTYPES)
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), shape=SHAPES, scale=SCALES, special=st.booleans(), whole=st.booleans(),
       options=OPTIONS, wants=st.booleans())  # fmt: skip
def test_text_is_pytorchs(name, seed, shape, scale, special, whole, options, wants):
    torch = pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")
    array = np.asarray(sample(seed, shape, DTYPES[name], scale, special, whole))
    mine, theirs = tracegrad.tensor(array), to_torch(torch, array)
    if wants and array.dtype.kind not in "biu":
        mine.requires_grad_()
        theirs.requires_grad_()
    try:
        torch.set_printoptions(**options)
        with printoptions(**options):
            assert tensor_repr(mine) == repr(theirs)
    finally:
        torch.set_printoptions(profile="default")


@pytest.mark.oracle
def test_option_sequences_are_pytorchs():
    torch = pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")
    calls = [
        {"precision": 7},
        {"linewidth": 50, "sci_mode": True},
        {"edgeitems": 1},
        {"profile": "short", "precision": 5},
        {"threshold": 10},
        {"profile": "full", "linewidth": 33},
        {"profile": "unknown"},
        {"sci_mode": False},
    ]
    try:
        for call in calls:
            torch.set_printoptions(**call)
            set_printoptions(**call)
            assert get_printoptions() == torch._tensor_str.get_printoptions()
    finally:
        torch.set_printoptions(profile="default")
