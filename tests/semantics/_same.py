"""A small program as a test: it runs in PyTorch and, in every way of recording, in tracegrad, and all must agree.

``@same`` turns ``def test_name(torch)`` into a test. What the program returns is compared whole (see `seen`), and so is
what it prints and warns of, or the exception that it ends with.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import warnings

import numpy as np
import pytest

import tracegrad

WAYS = ("lazy", "again", "read", "eager")
HERE = os.path.dirname(os.path.abspath(__file__))


def same(program=None, *, instead=None):
    """Return a test of ``program``; ``instead`` is what we return where PyTorch refuses."""
    if program is None:
        return lambda program: same(program, instead=instead)

    @pytest.mark.oracle
    def test():
        oracle = pytest.importorskip("torch", reason="PyTorch is the oracle")
        expected = outcome(program, oracle)
        if instead is not None:
            assert expected[0][0] == "raised", expected
            expected = (plain_seen(instead), *expected[1:])
        for way in WAYS:
            with tracegrad.eager() if way == "eager" else contextlib.nullcontext():
                found = outcome(program, tracegrad, reads=way == "read", plain=instead is not None)
            difference = differ(found, expected, "result")
            assert difference is None, f"{way}: {difference}\nours:   {found}\ntheirs: {expected}"

    test.__name__ = test.__qualname__ = program.__name__
    test.__module__ = program.__module__
    test.__doc__ = program.__doc__
    return test


@contextlib.contextmanager
def failing():
    """Catch an exception, and yield the list that will have its type and text."""
    caught = []
    try:
        yield caught
    except Exception as error:
        caught += [type(error).__name__.lstrip("_"), str(error)]
    else:
        caught.append("nothing raised")


def outcome(program, torch, reads=False, plain=False):
    """Return what a program returned or raised, what it printed, and what it warned of."""
    out = io.StringIO()
    before = sys.gettrace()
    with warnings.catch_warnings(record=True) as warned, contextlib.redirect_stdout(out):
        warnings.simplefilter("always")
        try:
            if reads:
                sys.settrace(_reading)
            try:
                result = program(torch)
            finally:
                sys.settrace(before)
            result = plain_seen(result) if plain else seen(result)
        except Exception as error:
            result = ("raised", type(error).__name__, named(str(error)))
    warned = [w for w in warned if not issubclass(w.category, DeprecationWarning)]  # NumPy's, of PyTorch's protocol
    texts = sorted({(w.category.__name__, named(str(w.message)).split("(Triggered")[0].strip()) for w in warned})
    return result, out.getvalue(), texts


def _reading(frame, event, arg):
    """Read every tensor that a line of a program can see, before the next line runs."""
    if os.path.dirname(os.path.abspath(frame.f_code.co_filename)) != HERE or "_same" in frame.f_code.co_filename:
        return None
    if event in ("line", "return"):
        for x in list(frame.f_locals.values()):
            read(x)
    return _reading


def read(x):
    """Read a tensor, its gradient, or those inside."""
    if isinstance(x, tracegrad.Tensor):
        try:
            x.tolist()
        except RuntimeError as error:
            if not str(error).startswith("vmap: It looks like"):  # nobody can read there
                raise
            return
        if x.is_leaf and x.grad is not None:
            x.grad.tolist()
    elif isinstance(x, (list, tuple)):
        for y in x:
            read(y)
    elif isinstance(x, tracegrad.nn.Module) and "_parameters" in x.__dict__:
        for p in x.state_dict(keep_vars=True).values():
            read(p)


def named(text):
    return text.replace("tracegrad", "torch")


def is_tensor(x):
    return hasattr(x, "requires_grad") and hasattr(x, "is_leaf")


def seen(x):
    """Return all that a user can see of what a program returned."""
    if is_tensor(x):
        looks = {"value": value(x), "dtype": named(str(x.dtype)), "shape": tuple(x.shape), "kind": type(x).__name__,
                 "requires_grad": x.requires_grad, "is_leaf": x.is_leaf, "version": x._version,
                 "grad_fn": x.grad_fn and type(x.grad_fn).__name__, "view": x._is_view()}  # fmt: skip
        if x.is_leaf and x.grad is not None:
            looks["grad"] = value(x.grad)
        return looks
    if hasattr(x, "named_parameters"):
        return named(repr(x)), seen(dict(x.named_parameters())), seen(dict(x.named_buffers())), \
            [m.training for m in x.modules()]
    if isinstance(x, np.ndarray):
        return "ndarray", str(x.dtype), x.tolist()
    if isinstance(x, np.generic):
        return type(x).__name__, x.item()
    if isinstance(x, dict):
        return {"kind": type(x).__name__, "items": [(seen(k), seen(v)) for k, v in x.items()]}
    if isinstance(x, (tuple, list)):
        return [type(x).__name__.replace("structseq", ""), *map(seen, x)]
    if x is None or isinstance(x, (bool, int, float, complex, str, slice)):
        return named(x) if isinstance(x, str) else x
    if isinstance(x, BaseException):
        return type(x).__name__, named(str(x))
    if isinstance(x, set):
        return sorted(map(seen, x))
    return named(str(x))


def value(x):
    return x.detach().tolist()


def plain_seen(x):
    """Return the values alone."""
    if is_tensor(x):
        return x.tolist()
    return [plain_seen(y) for y in x] if isinstance(x, (tuple, list)) else x


def differ(a, b, where):
    """Return where two results differ first, None where nowhere; numbers up to rounding."""
    if isinstance(a, dict) and isinstance(b, dict):
        if a.keys() != b.keys():
            return f"{where}: {sorted(a)} is not {sorted(b)}"
        return next((d for d in (differ(a[k], b[k], f"{where}.{k}") for k in a) if d), None)
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        if len(a) != len(b):
            return f"{where}: {a} is not {b}"
        return next((d for d in (differ(x, y, f"{where}[{i}]") for i, (x, y) in enumerate(zip(a, b))) if d), None)
    if type(a) is type(b) and isinstance(a, (float, complex)):
        return None if np.isclose(a, b, 1e-4, 1e-6, equal_nan=True) else f"{where}: {a} is not {b}"
    if where.endswith("grad_fn") and b == "AsStridedBackward0":  # how PyTorch makes a view anew after a write
        return None
    return None if type(a) is type(b) and a == b else f"{where}: {a!r} is not {b!r}"
