"""Comparing results with what was expected: tensors, numbers, and containers of them, in PyTorch's words."""

from __future__ import annotations

import cmath
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tracegrad._dtype import INTEGRAL, DType, bfloat16, complex64, complex128, float16, float32, float64, promote_types
from tracegrad._engine.trace import force
from tracegrad._handle import Handle
from tracegrad._ops.creation import as_tensor
from tracegrad._tensor import Tensor

Message = str | Callable[[str], str] | None

#: How far a result may be off, relative and absolute; exact for the dtypes that are not here.
_TOLERANCES = {
    float16: (1e-3, 1e-5), bfloat16: (1.6e-2, 1e-5), float32: (1.3e-6, 1e-5), float64: (1e-7, 1e-7),
    complex64: (1.3e-6, 1e-5), complex128: (1e-7, 1e-7),
}  # fmt: skip


@dataclass(frozen=True)
class _Options:
    rtol: float | None
    atol: float | None
    equal_nan: bool
    check_device: bool
    check_dtype: bool
    check_stride: bool
    subclasses: bool
    msg: Message


def assert_close(actual: Any, expected: Any, *, allow_subclasses: bool = True, rtol: float | None = None,
                 atol: float | None = None, equal_nan: bool = False, check_device: bool = True,
                 check_dtype: bool = True, check_layout: bool = True, check_stride: bool = False,
                 msg: Message = None) -> None:  # fmt: skip
    """Raise where ``actual`` and ``expected`` are not close: ``|actual - expected| <= atol + rtol * |expected|``.

    Args:
        actual: a tensor, an array, a number, None, or sequences and mappings of them.
        expected: the same.
        allow_subclasses: whether one may be a subclass of the other's class.
        rtol: the relative tolerance; by dtype when None, 0 for integers and bools. Give both or none.
        atol: the absolute tolerance.
        equal_nan: whether two nans are equal.
        check_device: whether devices must be the same.
        check_dtype: whether dtypes must be the same.
        check_layout: accepted for PyTorch's signature: tensors are always strided.
        check_stride: whether strides must be the same.
        msg: another message, or a function from the message to another.

    Raises:
        AssertionError: says what differs, by how much and where.
        TypeError: for what cannot be compared.

    See https://docs.pytorch.org/docs/stable/testing.html

    Example:
        >>> import tracegrad as torch
        >>> torch.testing.assert_close(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.0]))
    """
    if (rtol is None) is not (atol is None):
        missing = "rtol" if rtol is None else "atol"
        raise ValueError(f"Both 'rtol' and 'atol' must be either specified or omitted, but got no {missing}.")
    options = _Options(rtol, atol, equal_nan, check_device, check_dtype, check_stride, allow_subclasses, msg)
    _compare(actual, expected, options, "")


def _fail(message: str, options: _Options, path: str) -> AssertionError:
    if path:
        message += f"\n\nThe failure occurred for item {path}"
    if options.msg is not None:
        message = options.msg(message) if callable(options.msg) else options.msg
    return AssertionError(message)


def _compare(actual: Any, expected: Any, options: _Options, path: str) -> None:
    if _are(Sequence, actual, expected) and not isinstance(actual, str) and not isinstance(expected, str):
        if len(actual) != len(expected):
            raise _fail(f"The length of the sequences mismatch: {len(actual)} != {len(expected)}", options, path)
        for i, (a, b) in enumerate(zip(actual, expected)):
            _compare(a, b, options, f"{path}[{i}]")
    elif _are(Mapping, actual, expected):
        missing, additional = [k for k in expected if k not in actual], [k for k in actual if k not in expected]
        if missing or additional:
            raise _fail("The keys of the mappings do not match:\n"
                        f"Missing keys in the actual mapping: {sorted(missing)}\n"
                        f"Additional keys in the actual mapping: {sorted(additional)}", options, path)  # fmt: skip
        for k in actual:
            _compare(actual[k], expected[k], options, f"{path}[{k!r}]")
    elif actual is None or expected is None:
        if actual is not expected:
            raise _fail(f"None mismatch: {actual} is not {expected}", options, path)
    elif _are((bool, np.bool_), actual, expected):
        if actual is not expected and bool(actual) is not bool(expected):
            raise _fail(f"Booleans mismatch: {actual} is not {expected}", options, path)
    elif _are((int, float, complex, np.number), actual, expected):
        _compare_numbers(actual, expected, options, path)
    elif _are((Handle, np.ndarray, np.generic), actual, expected) and _related(actual, expected, options):
        _compare_tensors(as_tensor(actual), as_tensor(expected), options, path)
    else:
        raise TypeError(f"No comparison pair was able to handle inputs of type {type(actual)} and {type(expected)}.")


def _are(kind: Any, *given: Any) -> bool:
    return all(isinstance(x, kind) for x in given)


def _related(a: Any, b: Any, options: _Options) -> bool:
    if options.subclasses:
        return isinstance(a, type(b)) or isinstance(b, type(a)) or _are(Tensor, a, b)
    return type(a) is type(b)


def _tolerances(options: _Options, *dtypes: DType) -> tuple[float, float]:
    if options.rtol is not None and options.atol is not None:
        return options.rtol, options.atol
    found = [_TOLERANCES.get(d, (0.0, 0.0)) for d in dtypes]
    return max(r for r, _ in found), max(a for _, a in found)


def _compare_numbers(actual: Any, expected: Any, options: _Options, path: str) -> None:
    a, b = (x.item() if isinstance(x, np.generic) else x for x in (actual, expected))
    if options.check_dtype and type(a) is not type(b):
        raise _fail(f"The (d)types do not match: {type(a)} != {type(b)}.", options, path)
    kind = complex128 if isinstance(a, complex) else float64
    inexact = isinstance(a, (float, complex))
    rtol, atol = _tolerances(options, kind) if inexact else (options.rtol or 0, options.atol or 0)
    if a == b or (options.equal_nan and cmath.isnan(a) and cmath.isnan(b)):
        return
    off = abs(a - b)
    if off <= atol + rtol * abs(b) and cmath.isfinite(b):
        return
    raise _fail(_scalars(a, b, off, off / abs(b) if b else float("inf"), rtol, atol), options, path)


def _scalars(a: Any, b: Any, off: Any, relative: Any, rtol: float, atol: float) -> str:
    exact = rtol == 0 and atol == 0
    upto = ("", "") if exact else (f" (up to {atol} allowed)", f" (up to {rtol} allowed)")
    return (f"Scalars are not {'equal' if exact else 'close'}!\n\nExpected {b} but got {a}.\n"
            f"Absolute difference: {off}{upto[0]}\nRelative difference: {relative}{upto[1]}")  # fmt: skip


def _compare_tensors(actual: Tensor, expected: Tensor, options: _Options, path: str) -> None:
    def differ(what: str, a: Any, b: Any) -> AssertionError:
        return _fail(f"The values for attribute '{what}' do not match: {a} != {b}.", options, path)

    if actual.shape != expected.shape:
        raise differ("shape", actual.shape, expected.shape)
    if options.check_device and actual.device is not expected.device:
        raise differ("device", actual.device, expected.device)
    if options.check_dtype and actual.dtype is not expected.dtype:
        raise differ("dtype", actual.dtype, expected.dtype)
    if options.check_stride and actual.stride() != expected.stride():
        raise differ("stride()", actual.stride(), expected.stride())
    rtol, atol = _tolerances(options, actual.dtype, expected.dtype)
    to = promote_types(actual.dtype, expected.dtype)
    dtype = np.dtype(np.int64) if to.category <= INTEGRAL else to.np
    a, b = (np.asarray(force(t._value)).astype(dtype) for t in (actual, expected))
    with np.errstate(all="ignore"):
        off = np.abs(a - b)
        real = off.dtype.type
        close = (a == b) | ((off <= real(atol) + np.abs(b * real(rtol))) & np.isfinite(b)) if dtype.kind != "i" else (
            (a == b) if not (rtol or atol) else off <= atol + rtol * np.abs(b))  # fmt: skip
        if options.equal_nan:
            close = close | (np.isnan(a) & np.isnan(b))
        if close.all():
            return
        relative = off / np.abs(b)
    if not a.ndim:
        raise _fail(_scalars(a.item(), b.item(), off.item(), relative.item(), rtol, atol), options, path)
    exact = rtol == 0 and atol == 0
    wrong = int((~close).sum())
    lines = [f"Tensor-likes are not {'equal' if exact else 'close'}!", "",
             f"Mismatched elements: {wrong} / {close.size} ({wrong / close.size:.1%})"]  # fmt: skip
    for what, errors, upto in (("absolute", off, atol), ("relative", relative, rtol)):
        errors = np.where(close, np.zeros_like(errors), errors)
        at = np.unravel_index(int(errors.argmax()), errors.shape)
        allowed = "" if exact else f" (up to {upto} allowed)"
        lines.append(f"Greatest {what} difference: {errors[at].item()} at index {tuple(map(int, at))}{allowed}")
    raise _fail("\n".join(lines), options, path)
