"""What compiled functions are recorded anew for: shapes, modes, flags, gradients, aliases."""

from __future__ import annotations

import gc
import weakref

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
