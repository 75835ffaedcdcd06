"""What compiled functions are recorded anew for: shapes, modes, flags, gradients, aliases."""

from __future__ import annotations

import argparse
import functools
import gc
import types
import weakref
from typing import NamedTuple

import pytest
from _compiled import replayed, same

import tracegrad as torch
from tracegrad._compile import _function


def test_shapes_dtypes_numbers_and_modes():
    f = torch.compile(lambda x, k=1: (x * k, x.requires_grad, torch.is_grad_enabled()))
    calls = [((2, 3), torch.float32, 1), ((3,), torch.float32, 1), ((3,), torch.float64, 1), ((3,), torch.float32, 2.0)]
    for _ in range(4):
        for shape, dtype, k in calls:
            y, wants, grad = f(torch.ones(shape, dtype=dtype), k)
            assert y.shape == shape and y.dtype is dtype and y.sum().item() == y.numel() * k and not wants and grad
        with torch.no_grad():
            assert f(torch.ones(3))[2] is False
    assert replayed(f, 6)
    assert "float32[3]" in str(torch.explain()) and "specialisations" in str(torch.explain())


def test_training_flags():
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Dropout(1.0))
    f = torch.compile(lambda x: model(x))
    for k in range(12):
        model.train(k % 2 == 0)
        assert bool(f(torch.ones(2, 3)).eq(0).all()) is (k % 2 == 0)
    assert replayed(f, 6)
    model[0] = torch.nn.Linear(3, 3, bias=False)
    model.eval()
    assert same(f(torch.ones(1, 3)), model(torch.ones(1, 3)))


def test_requires_grad_and_gradients_that_appear():
    model = torch.nn.Linear(2, 2)

    def backward(x):
        model(x).sum().backward()

    f = torch.compile(backward)
    for k in range(14):
        model.bias.requires_grad_(k % 3 != 0)
        model.bias.grad = None
        if k % 2:
            model.weight.grad = None
        before = model.weight.grad
        old = 0 if before is None else before.clone()
        f(torch.ones(1, 2))
        assert bool((model.weight.grad - old == 1).all()) and (model.bias.grad is None) is (k % 3 == 0)
        assert before is None or model.weight.grad is before
    assert replayed(f, 3)


def test_only_so_many_specialisations(monkeypatch):
    assert _function.MOST == 8
    monkeypatch.setattr(_function, "MOST", 2)
    f = torch.compile(lambda x: x + 1)
    with pytest.warns(UserWarning, match="2 specialisations"):
        for n in range(4):
            for _ in range(3):
                assert f(torch.zeros(n + 1)).tolist() == [1.0] * (n + 1)
    assert len(f._known[()]) == 2 and replayed(f, 2)


def test_tensors_that_stand_for_each_other():
    w = torch.ones(2)

    def f(x, y):
        x.add_(1)
        return x + y + w

    g = torch.compile(f)
    for _ in range(3):
        assert g(torch.zeros(2), torch.zeros(2)).tolist() == [2.0, 2.0]
        a = torch.zeros(2)
        assert g(a, a).tolist() == [3.0, 3.0]
    for k in range(3):
        assert g(w, torch.zeros(2)).tolist() == [2.0 * (k + 2)] * 2
        assert g(torch.zeros(2), w).tolist() == [1.0 + 2 * (k + 2)] * 2


def test_nothing_of_an_unread_argument_is_kept():
    f = torch.compile(lambda x: x + 1)
    big = torch.ones(3)
    for _ in range(4):
        f(big)
    gone = []
    weakref.finalize(big, gone.append, 1)
    del big
    gc.collect()
    assert gone


def test_aliases_of_gradients_follow_what_is_added():
    w = torch.ones(2, requires_grad=True)
    f = torch.compile(lambda x: (w * x).sum().backward())
    for k in range(9):
        if k == 5:
            alias = w.grad.detach()
        f(torch.ones(2))
        assert w.grad.tolist() == [k + 1.0] * 2
    assert alias.tolist() == [9.0, 9.0] and replayed(f, 1)


class Defaults:
    scale = 2.0


class Derived(Defaults):
    pass


class Computed:
    _scale = 2.0

    @property
    def scale(self):
        return self._scale


class Scaling(torch.nn.Module):
    scale = 2.0

    def forward(self, x):
        return x * self.scale


def multiplied(x):
    return x * multiplied.scale


multiplied.scale = 2.0


@pytest.mark.parametrize("make", [Defaults, Derived, Computed, Scaling, lambda: types.SimpleNamespace(scale=2.0),
                                  lambda: argparse.Namespace(scale=2.0), lambda: multiplied])  # fmt: skip
def test_attributes_that_hide_those_of_a_class_and_of_plain_objects(make):
    own = make()
    f = torch.compile(lambda x: own(x) if callable(own) else x * own.scale)
    x = torch.ones(1)
    for expected in (2.0, 3.0, 4.0):
        if expected > 2.0:
            setattr(own, "_scale" if make is Computed else "scale", expected)
        before = f.replays
        assert [f(x).item() for _ in range(4)] == [expected] * 4
        assert f.replays > before
    if make in (Derived, Scaling):
        del own.scale
        assert f(x).item() == 2.0
        make.scale, before = 5.0, make.__dict__.get("scale")
        try:
            assert f(x).item() == 5.0
        finally:
            if before is None:
                del make.scale
            else:
                make.scale = before


class Box:
    """Something whose special methods read what it has."""

    def __init__(self):
        self.parts = {"scale": 2.0}

    def __getitem__(self, name):
        return self.parts[name]

    def __mul__(self, x):
        return x * self.parts["scale"]

    def __iter__(self):
        return iter(self.parts.values())

    def __enter__(self):
        return self.parts["scale"]

    def __exit__(self, *error):
        pass


def scaled_inside(box, x):
    with box as scale:
        return x * scale


class Pair(NamedTuple):
    box: Box


class Scales(list):
    pass


#: what it reads, how it reads, how that changes
READS = {
    "getattr": (lambda: types.SimpleNamespace(scale=2.0), lambda own, x: x * getattr(own, "scale", 1.0),
                lambda own: setattr(own, "scale", 3.0)),
    "an attribute that comes to be": (Box, lambda own, x: x * getattr(own, "scale", 2.0),
                                      lambda own: setattr(own, "scale", 3.0)),
    "hasattr": (Box, lambda own, x: x * (3 if hasattr(own, "scale") else 2), lambda own: setattr(own, "scale", 1)),
    "of a module": (lambda: torch.nn.Linear(1, 1), lambda own, x: x * getattr(own, "scale", 2.0),
                    lambda own: setattr(own, "scale", 3.0)),
    "keys": (lambda: {"two": 1.0}, lambda own, x: x * (2 if "two" in own else 3),
             lambda own: own.update(three=own.pop("two"))),
    "getitem": (Box, lambda own, x: x * own["scale"], lambda own: own.parts.update(scale=3.0)),
    "mul": (Box, lambda own, x: own * x, lambda own: own.parts.update(scale=3.0)),
    "iter": (Box, lambda own, x: x * sum(own), lambda own: own.parts.update(other=1.0)),
    "with": (Box, scaled_inside, lambda own: own.parts.update(scale=3.0)),
    "a named tuple": (lambda: Pair(Box()), lambda own, x: x * own.box["scale"],
                      lambda own: own.box.parts.update(scale=3.0)),
    "a kind of list": (lambda: Scales([2.0]), lambda own, x: x * sum(own), lambda own: own.append(1.0)),
}  # fmt: skip


@pytest.mark.parametrize("name", READS)
def test_what_is_read_in_other_ways(name):
    make, read, change = READS[name]
    own, x = make(), torch.ones(1)
    f = torch.compile(lambda x: read(own, x))
    assert [f(x).item() for _ in range(4)] == [2.0] * 4
    change(own)
    assert [f(x).item() for _ in range(4)] == [3.0] * 4
    assert replayed(f, 4)


def test_attributes_that_a_class_inherits(monkeypatch):
    f = torch.compile(lambda x: x * Derived.scale)
    for expected, where in ((2.0, None), (3.0, Defaults), (4.0, Derived), (4.0, None)):
        if where is not None:
            monkeypatch.setattr(where, "scale", expected, raising=False)
        assert [f(torch.ones(1)).item() for _ in range(3)] == [expected] * 3
    assert replayed(f, 3)


def test_functions_and_classes_that_look_like_a_librarys():
    space = {"torch": torch, "scale": 2.0, "functools": functools}
    exec("""
@functools.wraps(torch.relu)
def wrapped(x):
    return torch.relu(x) * scale

def plain(x):
    return x * scale

class Scaled:
    power = 1.0

    def __call__(self, x):
        return x * scale**self.power

scaled = Scaled()
""", space)  # without a __name__, so that functions have no module, and classes that of builtins
    for name in ("wrapped", "plain", "scaled"):
        space["scale"] = 2.0
        inner = space[name]
        f = torch.compile(lambda x, inner=inner: inner(x) + 1)
        for k in range(8):
            assert f(torch.ones(2)).tolist() == [space["scale"] + 1] * 2, name
            if k == 4:
                space["scale"] = 5.0
        assert replayed(f, 2)
    space["scaled"].power = 0.0
    assert f(torch.ones(2)).tolist() == [2.0, 2.0]
