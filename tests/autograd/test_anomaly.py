"""Anomaly mode: the op whose gradient has the first nan is named, with the user's line of its forward."""

from __future__ import annotations

import contextlib
import inspect
import warnings

import pytest
from _both import WAYS, check

import tracegrad

PROGRAMS = []


def program(function):
    PROGRAMS.append(function)
    return function


def leaf(torch, *values):
    return torch.tensor(values or (1.0, 0.0), requires_grad=True)


@contextlib.contextmanager
def detecting(torch, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with torch.autograd.detect_anomaly(**options):
            yield


@program
def a_nan_of_sqrt(torch, note):
    x = leaf(torch)
    with detecting(torch):
        y = (x * 1).sqrt() * 0
        note(y)
        y.sum().backward()


@program
def a_nan_of_the_second_operand(torch, note):
    x, w = leaf(torch), leaf(torch)
    with detecting(torch):
        (x.detach() / w).sum().backward()


@program
def no_nan(torch, note):
    x = leaf(torch)
    with detecting(torch):
        ((x * 2).exp() * x).sum().backward()
    return x.grad


@program
def not_looked_for(torch, note):
    x = leaf(torch)
    with detecting(torch, check_nan=False):
        ((x * 1).sqrt() * 0).sum().backward()
    return x.grad


@program
def nans_that_go_nowhere(torch, note):
    x = leaf(torch)
    with detecting(torch):
        y = x.sqrt() * 0
        y.register_hook(lambda g: g * 0 + 1)
        y.sum().backward()


@program
def of_a_function(torch, note):
    names = {"forward": staticmethod(lambda ctx, x: x * 2), "backward": staticmethod(lambda ctx, g: g * float("nan"))}
    function = type("Mine", (torch.autograd.Function,), names)
    with detecting(torch):
        function.apply(leaf(torch)).sum().backward()


@program
def of_a_second_derivative(torch, note):
    x = leaf(torch)
    with detecting(torch):
        (g,) = torch.autograd.grad((x * x).sum(), x, create_graph=True)
        note(g)
        (torch.sqrt(g) * 0).sum().backward()


@program
def the_switch(torch, note):
    with torch.autograd.set_detect_anomaly(True):
        with torch.autograd.set_detect_anomaly(False):
            x = leaf(torch)
            (x.sqrt() * 0).sum().backward()
        note(x.grad)
        (x.sqrt() * 0).sum().backward()


@pytest.mark.oracle
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("run", PROGRAMS, ids=lambda p: p.__name__)
def test_anomalies_as_in_pytorch(run, way):
    def without_places(torch, note):
        try:
            return run(torch, note)
        except RuntimeError as error:
            note(type(error).__name__, str(error))

    with warnings.catch_warnings():
        check(without_places, way)


def test_the_users_line_is_named():
    torch = tracegrad
    x = leaf(torch)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        with torch.autograd.detect_anomaly(), pytest.raises(RuntimeError, match="SqrtBackward0"):
            line = inspect.currentframe().f_lineno + 1
            y = (x * 1).sqrt()
            (y * 0).sum().backward()
    first, second = (str(w.message) for w in seen)
    assert first.startswith("Anomaly Detection has been enabled.")
    assert second.startswith("Error detected in SqrtBackward0. Traceback of forward call that caused the error:")
    assert f'test_anomaly.py", line {line}' in second and "y = (x * 1).sqrt()" in second
