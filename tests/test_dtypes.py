"""Promotion: every pair of dtypes, as tensors with dims, 0-dim tensors and Python numbers, against PyTorch."""

from __future__ import annotations

import copy
import itertools
import pickle
import warnings

import pytest

import tracegrad

NAMES = ["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64", "complex64",
         "complex128"]  # fmt: skip
UNSIGNED = ["uint16", "uint32", "uint64"]
NUMBERS = [True, 2, 1.5, 1 + 2j]
OPS = {
    "add": lambda torch, a, b: a + b,
    "mul": lambda torch, a, b: a * b,
    "div": lambda torch, a, b: a / b,
    "pow": lambda torch, a, b: a**b,
    "eq": lambda torch, a, b: a == b,
    "where": lambda torch, a, b: torch.where(torch.tensor([True, False]), a, b),
}


def oracle():
    return pytest.importorskip("torch", reason="PyTorch is the oracle: pip install -e .[oracle]")


def made(torch, name, dims):
    return torch.ones((2,) * dims, dtype=getattr(torch, name))


def outcome(torch, fn, a, b):
    """Return the dtype and shape of a result, or the type of what it raises."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            result = fn(torch, *(made(torch, *x) if isinstance(x, tuple) else x for x in (a, b)))
        except Exception as error:
            return type(error).__name__
    return str(result.dtype), tuple(result.shape)


def pairs(names):
    kinds = [(name, dims) for name in names for dims in (0, 1)]
    yield from itertools.product(kinds, kinds)
    yield from itertools.product(kinds, NUMBERS)
    yield from itertools.product(NUMBERS, kinds)


def half_and_complex(a, b):
    names = [x[0] if isinstance(x, tuple) else type(x).__name__ for x in (a, b)]
    other = [n for n in names if n != "float16"]
    return len(other) == 1 and other[0].startswith("complex")


@pytest.mark.oracle
@pytest.mark.parametrize("name", OPS)
def test_promotion_of_every_pair(name):
    torch = oracle()
    wrong = []
    for a, b in pairs(NAMES):
        ours, theirs = outcome(tracegrad, OPS[name], a, b), outcome(torch, OPS[name], a, b)
        if half_and_complex(a, b) and (theirs == "NotImplementedError" or "torch.complex32" in theirs):
            theirs = ("torch.complex64", theirs[1] if isinstance(theirs, tuple) else ours[1])  # XLA has no complex32
        if ours != theirs:
            wrong.append(f"{name} of {a} and {b}: {ours} and {theirs}")
    tracegrad.synchronize()
    assert not wrong, f"{len(wrong)} pairs differ from PyTorch\n" + "\n".join(wrong[:40])


@pytest.mark.oracle
@pytest.mark.parametrize("name", ["add", "eq"])
def test_wide_unsigned_types(name):
    """Where PyTorch has an answer, it is ours; it refuses most operations on these types."""
    torch = oracle()
    wrong = []
    others = [*UNSIGNED, "bool", "uint8", "int32", "float32"]
    for a, b in itertools.product([(n, 1) for n in UNSIGNED], [(n, 1) for n in others]):
        ours, theirs = outcome(tracegrad, OPS[name], a, b), outcome(torch, OPS[name], a, b)
        if isinstance(theirs, tuple) and ours != theirs:
            wrong.append(f"{name} of {a} and {b}: {ours} and {theirs}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.oracle
@pytest.mark.parametrize("default", ["float32", "float64", "float16", "bfloat16"])
def test_default_dtype(default):
    torch = oracle()
    found = []
    for lib in (tracegrad, torch):
        before = lib.get_default_dtype()
        lib.set_default_dtype(getattr(lib, default))
        try:
            ints = lib.tensor([1, 2])
            results = [lib.tensor(1.5), ints / 2, ints * 1.5, ints + 1, lib.ones(2), ints.sin(), lib.arange(3.0),
                       lib.arange(3), lib.tensor([True]) * 1.5, ints.float(), lib.linspace(0, 1, 3)]  # fmt: skip
            if default in ("float32", "float64"):  # XLA has no complex type of two halves
                results += [lib.tensor(1 + 2j), ints * 1j]
            found.append([str(t.dtype) for t in results])
        finally:
            lib.set_default_dtype(before)
    assert found[0] == found[1]


@pytest.mark.oracle
def test_promote_types():
    torch = oracle()
    for a, b in itertools.product(NAMES, NAMES):
        ours = tracegrad.promote_types(getattr(tracegrad, a), getattr(tracegrad, b))
        assert str(ours) == str(torch.promote_types(getattr(torch, a), getattr(torch, b))), (a, b)


@pytest.mark.oracle
@pytest.mark.parametrize("to", NAMES)
def test_conversions(to):
    torch = oracle()
    values = {"bool": [True, False], "uint8": [0, 255], "int8": [-128, 127], "int16": [-300, 5], "int32": [-70000, 3],
              "int64": [-(2**40), 7], "float16": [-1.5, 2.75], "bfloat16": [-1.5, 2.75], "float32": [-0.5, 100.25],
              "float64": [1e-3, -100.9], "complex64": [1 + 2j, 0j], "complex128": [1 + 2j, -3j]}  # fmt: skip
    wrong = []
    for name, data in values.items():
        got = []
        for lib in (tracegrad, torch):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                result = lib.tensor(data, dtype=getattr(lib, name)).to(getattr(lib, to))
                got.append((str(result.dtype), result.tolist()))
        undefined = name.startswith(("float", "bfloat")) and to == "uint8"  # of negative numbers, by platform
        if got[0] != got[1] and not undefined:
            wrong.append(f"{name} to {to}: {got[0]} and {got[1]}")
    assert not wrong, "\n".join(wrong)


def test_a_number_of_another_type_is_another_operation():
    x = tracegrad.tensor([1, 2])
    for _ in range(3):
        assert [str((x * n).dtype) for n in (2, 2.0, True)] == ["torch.int64", "torch.float32", "torch.int64"]


def test_results_do_not_depend_on_the_users_jax_configuration():
    import jax

    for on in (False, True):
        with jax.enable_x64(on):
            x = tracegrad.tensor([1.0, 2.0], dtype=tracegrad.float64, requires_grad=True)
            y = (x * 3).sum()
            y.backward()
            assert x.grad.dtype is tracegrad.float64 and x.grad.tolist() == [3.0, 3.0]
            assert tracegrad.arange(3).sum().dtype is tracegrad.int64


# -- limits, names, devices ------------------------------------------------------------------------------------


@pytest.mark.oracle
@pytest.mark.parametrize("name", [n for n in NAMES if n != "bool"])
def test_limits_are_pytorchs(name):
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle: pip install -e .[oracle]")
    kind, fields = "finfo", "bits min max eps tiny smallest_normal resolution"
    if "int" in name:
        kind, fields = "iinfo", "bits min max"
    mine, theirs = (getattr(lib, kind)(getattr(lib, name)) for lib in (tracegrad, torch))
    assert repr(mine) == repr(theirs) and mine.dtype == theirs.dtype
    assert [getattr(mine, f) for f in fields.split()] == [getattr(theirs, f) for f in fields.split()]


#: Expressions that PyTorch and tracegrad answer in the same text, or with the same exception.
SAME = """
torch.iinfo(torch.float32) | torch.finfo(torch.int32) | torch.iinfo(torch.bool) | torch.finfo("float32") | torch.finfo()
torch.int32.to_complex() | torch.complex64.to_real() | torch.bfloat16.to_complex() | torch.int8.to_real()
torch.float32.itemsize | torch.float32.is_signed | torch.uint8.is_signed | torch.complex64.is_complex | torch.float
torch.half | torch.double | torch.cfloat | torch.cdouble | torch.short | torch.int | torch.long | torch.bfloat16
pickle.loads(pickle.dumps(torch.float32)) is torch.float32 | copy.deepcopy(torch.int8) is torch.int8
torch.device("cpu") == torch.device("cpu", 0) | torch.device("cpu:0").index | torch.device("cpu").index
str(torch.device("cpu", 0)) | repr(torch.device("cuda", 1)) | torch.device("cpu:x") | torch.device("cuda", -1)
torch.device("cpu:-1") | torch.device(type="cpu") | torch.device(type="cpu", index=0) | torch.device("cpu:0", 1)
torch.device("cuda") == torch.device("cuda:0") | torch.device("cpu") == "cpu"
pickle.loads(pickle.dumps(torch.device("cpu", 0)))
hash(torch.device("cpu")) == hash(torch.device("cpu")) | torch.get_default_device() | torch.set_default_device("cpu")
torch.set_default_device(None) | torch.set_default_dtype(torch.int32) | torch.set_default_dtype("float32")
torch.ones(2).type() | torch.ones(2).type("torch.DoubleTensor") | torch.ones(2).type(torch.IntTensor)
torch.ones(2).type("double") | torch.FloatTensor([1, 2]) | torch.LongTensor([2**53 + 1]) | torch.FloatTensor(2, 3).shape
torch.DoubleTensor | torch.FloatTensor.dtype | isinstance(torch.ones(2), torch.FloatTensor) | torch.BoolTensor([1, 0])
isinstance(torch.ones(2), torch.LongTensor) | torch.Tensor([1, 2]).dtype | torch.IntTensor(torch.Size([2])).shape
torch.ones(2).to("cpu", torch.int32) | torch.ones(2).to(device="cpu", dtype=torch.float64, copy=True)
torch.ones(2).to(torch.float64, non_blocking=True) | torch.ones(2).to("float32") | torch.ones(2).to()
torch.ones(2).to(torch.ones(1, dtype=torch.int8)) | torch.ones(2).to(torch.float32, True, True)
torch.ones(2).to("cpu", torch.int8, False, True) | torch.ones(2).to(None) | torch.ones(2).to(float)
torch.ones(2).to(dtype=None) | torch.ones(2).to(device=None) | torch.ones(2).to("cpu:0").device
torch.ones(2, device="cpu:0").device | torch.ones(2, dtype=float).dtype | torch.zeros(2, dtype=int).dtype
torch.full((2,), 1, dtype=bool).dtype | torch.ones(2, dtype=complex).dtype | torch.tensor([1], dtype=float).dtype
torch.result_type(1, 2.0) | torch.result_type(torch.tensor(1), True) | torch.can_cast(torch.int8, torch.uint8)
torch.promote_types(torch.uint16, torch.int8) | torch.promote_types(torch.uint16, torch.float32)
torch.promote_types(torch.uint16, torch.uint8) | torch.promote_types(torch.uint16, torch.bool)
torch.is_floating_point(torch.ones(1)) | torch.is_complex(torch.ones(1)) | torch.is_tensor(1) | torch.ones(2).is_cpu
torch.ones(2).cfloat().dtype | torch.ones(2).cdouble().dtype | torch.ones(2).is_cuda | torch.ones(2).get_device()
torch.atan2(torch.ones(1), 1.0) | torch.maximum(torch.ones(1), 2) | torch.logical_and(torch.ones(1), True)
"""
SAME = [s.strip() for line in SAME.strip().splitlines() for s in line.split(" | ")]


@pytest.mark.oracle
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("source", SAME)
def test_answers_are_pytorchs(source):
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle: pip install -e .[oracle]")
    answers = []
    for lib in (tracegrad, torch):
        try:
            answers.append(str(eval(source, {"torch": lib, "pickle": pickle, "copy": copy})))  # noqa: S307
        except Exception as error:
            answers.append(f"{type(error).__name__}: {error}")
    assert answers[0] == answers[1]


def test_a_device_as_context():
    with tracegrad.device("cpu") as device:
        assert tracegrad.get_default_device() is device and tracegrad.ones(2).device == device
        with tracegrad.device("cpu", 0):
            assert tracegrad.get_default_device().index == 0
    assert tracegrad.get_default_device() == tracegrad.ones(1).device
