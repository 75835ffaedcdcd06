"""Result types and values of the promoting ops, against PyTorch, for every pair of dtypes and kinds of operands."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import tracegrad
from tracegrad._engine.flush import flush_current

pytestmark = [pytest.mark.oracle, pytest.mark.filterwarnings("ignore")]

DTYPES = "bool uint8 int8 int16 int32 int64 float16 bfloat16 float32 float64 complex64 complex128".split()
SOME = "bool uint8 int64 bfloat16 float32 complex64".split()
NUMBERS = (True, 2, 2.5, 2 + 1j)

#: Ops that take numbers too, by the function of two operands that is compared.
OPS = {
    **{n: n for n in (
        "add sub mul div true_divide floor_divide remainder fmod pow float_power eq ne lt le gt ge bitwise_and "
        "bitwise_or bitwise_xor bitwise_left_shift bitwise_right_shift xlogy copysign logical_and logical_or "
        "logical_xor atan2 hypot logaddexp logaddexp2 maximum minimum fmax fmin heaviside isclose").split()},
    "floor": lambda torch, a, b: torch.div(a, b, rounding_mode="floor"),
    "trunc": lambda torch, a, b: torch.div(a, b, rounding_mode="trunc"),
    "add alpha": lambda torch, a, b: torch.add(a, b, alpha=2),
    "sub alpha": lambda torch, a, b: torch.sub(a, b, alpha=2),
    "where": lambda torch, a, b: torch.where(torch.tensor([True, False]), a, b),
    "cat": lambda torch, a, b: torch.cat([a.reshape(-1), b.reshape(-1)]),
    "stack": lambda torch, a, b: torch.stack([a.reshape(-1)[:1], b.reshape(-1)[:1]]),
    "lerp": lambda torch, a, b: torch.lerp(a, b, 0.5),
    "addcmul": lambda torch, a, b: torch.addcmul(a, a, b),
    "addcdiv": lambda torch, a, b: torch.addcdiv(a, a, b),
    "clamp": lambda torch, a, b: torch.clamp(a, min=b),
    "masked_fill": lambda torch, a, b: torch.masked_fill(a, torch.tensor([True, False]), b),
    "result_type": lambda torch, a, b: torch.result_type(a, b),
    "radd": lambda torch, a, b: b + a,
    "rsub": lambda torch, a, b: b - a,
    "rdiv": lambda torch, a, b: b / a,
    "rfloordiv": lambda torch, a, b: b // a,
    "rmod": lambda torch, a, b: b % a,
    "rpow": lambda torch, a, b: b**a,
    **{f"{n}_": lambda torch, a, b, n=n: getattr(a.clone(), f"{n}_")(b)
       for n in "add sub mul div floor_divide pow eq bitwise_and copy".split()},
}  # fmt: skip


def operands(torch, dtypes):
    tensors = [torch.ones(shape, dtype=getattr(torch, d)) for d in dtypes for shape in ((), (2,))]
    return [*tensors, *NUMBERS]


def outcome(torch, op, a, b):
    try:
        found = getattr(torch, op)(a, b) if isinstance(op, str) else op(torch, a, b)
    except Exception as error:
        return error
    return (str(found.dtype), tuple(found.shape)) if hasattr(found, "shape") else str(found)


@pytest.mark.parametrize("name", OPS)
def test_result_types(name):
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle: pip install -e .[oracle]")
    wrong = []
    inplace = name.endswith("_")
    both = [itertools.product(operands(lib, SOME if inplace else DTYPES), repeat=2) for lib in (tracegrad, torch)]
    for (a, b), (x, y) in zip(*both):
        if not hasattr(a, "dtype"):  # PyTorch's functions refuse a number in the first place, its operators do not
            continue
        if name in ("clamp", "masked_fill") and ("j" in repr(y) or y is True):
            continue  # whether such a number fits depends on its imaginary part
        mine, theirs = outcome(tracegrad, OPS[name], a, b), outcome(torch, OPS[name], x, y)
        flush_current("nothing is live: nothing runs")
        if "complex32" in str(theirs) or "ComplexHalf" in str(theirs):
            continue  # tracegrad has no complex numbers of 16-bit parts: complex64 takes their place
        if isinstance(mine, Exception) or isinstance(theirs, Exception):
            raised = isinstance(mine, Exception) and isinstance(theirs, Exception)
            if type(mine) is not type(theirs) and not (inplace and raised):  # of two reasons, either may be named
                wrong.append(f"{x!r}, {y!r}: {mine!r} and {theirs!r}")
        elif mine != theirs:
            wrong.append(f"{x!r}, {y!r}: {mine} and {theirs}")
    assert not wrong, f"{len(wrong)}:\n" + "\n".join(wrong[:20])


@pytest.mark.parametrize(
    ("to", "of"), [("int64", "float32"), ("float32", "complex64"), ("bool", "int32"), ("uint8", "float64")]
)
def test_in_place_results_that_do_not_fit(to, of):
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle: pip install -e .[oracle]")
    texts = []
    for lib in (tracegrad, torch):
        x = lib.ones(2, dtype=getattr(lib, to))
        with pytest.raises(RuntimeError) as caught:
            x += lib.ones(2, dtype=getattr(lib, of))
        texts.append(str(caught.value))
        assert x.tolist() == [1, 1]
    assert texts[0] == texts[1]


def edges(dtype):
    """Numbers at the ends of ``dtype``."""
    if dtype == "bool":
        return [False, True, True, False, True, False]
    if "int" in dtype:
        limits = np.iinfo(dtype)
        return [0, 3, -1 if limits.min else 1, int(limits.max), int(limits.min), 2]
    if dtype.startswith("complex"):
        return [0, 1, -1, 2 + 3j, -2j, 0.5 - 0.5j]
    return [0.0, -2.5, 1.5, float("inf"), float("-inf"), float("nan")]


VALUES = {
    **{n: n for n in ("add mul div floor_divide remainder fmod pow eq lt bitwise_xor bitwise_left_shift "
                      "bitwise_right_shift atan2 xlogy copysign maximum fmin").split()},
    "trunc": OPS["trunc"],
    "where": lambda torch, a, b: torch.where(a != 0, a, b),
    "addcmul": OPS["addcmul"],
    "clamp": OPS["clamp"],
}  # fmt: skip
PAIRS = [("bool", "float32"), ("uint8", "int8"), ("int32", "int32"), ("int64", "int16"), ("int8", "int8"),
         ("float16", "int32"), ("bfloat16", "float16"), ("float64", "float32"), ("complex64", "int64")]  # fmt: skip


@pytest.mark.parametrize("name", VALUES)
def test_values_at_the_ends(name):
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle: pip install -e .[oracle]")
    results = []
    for da, db in PAIRS:
        a, b = zip(*itertools.product(edges(da), edges(db)))
        if name in ("floor_divide", "remainder", "fmod", "trunc") and "int" in da and "int" in db:
            b = [3 if y in (0, -1) else y for y in b]  # 0 raises, and PyTorch dies of min / -1
        both = []
        for lib in (tracegrad, torch):
            op = VALUES[name]
            x, y = (lib.tensor(v, dtype=getattr(lib, d)) for v, d in ((a, da), (b, db)))
            try:
                both.append(getattr(lib, op)(x, y) if isinstance(op, str) else op(lib, x, y))
            except (NotImplementedError, RuntimeError) as error:
                both.append(error)
        results.append((da, db, a, b, *both))
    wrong = []
    for da, db, a, b, mine, theirs in results:
        if isinstance(theirs, Exception):
            assert type(mine) is type(theirs), (da, db, mine, theirs)
            continue
        assert str(mine.dtype) == str(theirs.dtype)
        tolerance = {"torch.float16": 2e-3, "torch.bfloat16": 1e-2}.get(str(theirs.dtype), 2e-6)
        with np.errstate(all="ignore"):
            for x, y, p, q in zip(a, b, mine.tolist(), theirs.tolist()):
                if not np.isclose(p, q, tolerance, tolerance, equal_nan=True) and not known(name, x, y):
                    wrong.append(f"{da} {x}, {db} {y}: {p} and {q}")
    assert not wrong, "\n".join(wrong[:20])


def known(name, x, y):
    """Where PyTorch's complex kernels make nan of nothing: ``0 ** y``."""
    return name == "pow" and x == 0 and y == 0


@pytest.mark.parametrize(("a", "b"), [(a, b) for a in DTYPES for b in DTYPES if a <= b])
def test_promote_types_and_can_cast(a, b):
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle: pip install -e .[oracle]")
    mine, theirs = [[getattr(lib, d) for d in (a, b)] for lib in (tracegrad, torch)]
    expected = str(torch.promote_types(*theirs))
    if expected != "torch.complex32":
        assert str(tracegrad.promote_types(*mine)) == str(tracegrad.promote_types(*mine[::-1])) == expected
    assert tracegrad.can_cast(*mine) == torch.can_cast(*theirs)
    assert tracegrad.can_cast(*mine[::-1]) == torch.can_cast(*theirs[::-1])
