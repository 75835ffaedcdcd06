"""Initialisations: their distributions, bounds and errors; the defaults of layers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import tracegrad as tg
from tracegrad import nn
from tracegrad.nn import init


def drawn(fill: Any, *args: Any, shape: tuple[int, ...] = (200, 300), **kwargs: Any) -> np.ndarray:
    t = tg.empty(*shape)
    assert fill(t, *args, **kwargs) is t
    return t.numpy()


def is_uniform(a: np.ndarray, bound: float) -> None:
    assert np.abs(a).max() <= bound
    assert np.abs(a).max() > 0.95 * bound
    assert abs(a.std() / (bound / math.sqrt(3)) - 1) < 0.1


def test_simple_fills() -> None:
    a = drawn(init.uniform_, 2.0, 5.0)
    assert 2 <= a.min() < 2.01 and 4.99 < a.max() <= 5
    a = drawn(init.normal_, 1.0, 3.0)
    assert abs(a.mean() - 1) < 0.1 and abs(a.std() - 3) < 0.1
    assert (drawn(init.constant_, 2.5) == 2.5).all()
    assert (drawn(init.ones_) == 1).all() and (drawn(init.zeros_) == 0).all()
    np.testing.assert_array_equal(drawn(init.eye_, shape=(3, 4)), np.eye(3, 4))


def test_scaled_fills() -> None:
    is_uniform(drawn(init.xavier_uniform_, gain=2.0), 2 * math.sqrt(6 / 500))
    assert abs(drawn(init.xavier_normal_).std() / math.sqrt(2 / 500) - 1) < 0.05
    is_uniform(drawn(init.kaiming_uniform_, nonlinearity="relu"), math.sqrt(6 / 300))
    is_uniform(drawn(init.kaiming_uniform_, mode="fan_out", nonlinearity="relu"), math.sqrt(6 / 200))
    assert abs(drawn(init.kaiming_normal_, a=1.0).std() / math.sqrt(1 / 300) - 1) < 0.05


def test_truncated_normal() -> None:
    a = drawn(init.trunc_normal_, mean=1.0, std=2.0, a=0.0, b=2.0)
    assert 0 <= a.min() < 0.01 and 1.99 < a.max() <= 2
    assert abs(a.mean() - 1) < 0.02 and abs(a.std() - 0.566) < 0.02  # the variance of the cut distribution


def test_gradients_do_not_see_a_fill() -> None:
    w = tg.zeros(3, requires_grad=True)
    init.constant_(w, 2.0)
    assert w.is_leaf and w.requires_grad
    (w * w).sum().backward()
    assert w.grad.tolist() == [4.0, 4.0, 4.0]


def test_defaults_of_layers() -> None:
    tg.manual_seed(0)
    layer = nn.Linear(100, 400)
    is_uniform(layer.weight.detach().numpy(), 0.1)
    is_uniform(layer.bias.detach().numpy(), 0.1)
    conv = nn.Conv2d(16, 32, 5, groups=2)
    is_uniform(conv.weight.detach().numpy(), 1 / math.sqrt(8 * 25))
    assert np.abs(conv.bias.detach().numpy()).max() <= 1 / math.sqrt(8 * 25)
    table = nn.Embedding(500, 20, padding_idx=3).weight.detach().numpy()
    assert abs(table.std() - 1) < 0.05 and (table[3] == 0).all()
    norm = nn.BatchNorm2d(4)
    assert norm.weight.tolist() == [1.0] * 4 and norm.bias.tolist() == [0.0] * 4
    assert norm.running_var.tolist() == [1.0] * 4 and norm.num_batches_tracked.item() == 0


def test_layers_differ_and_seeds_repeat() -> None:
    tg.manual_seed(3)
    a, b = nn.Linear(4, 4), nn.Linear(4, 4)
    tg.manual_seed(3)
    c = nn.Linear(4, 4)
    assert a.weight.tolist() == c.weight.tolist() != b.weight.tolist()


BAD = [
    (lambda: init.calculate_gain("x"), "Unsupported nonlinearity x"),
    (lambda: init.xavier_uniform_(tg.ones(3)),
     "Fan in and fan out can not be computed for tensor with fewer than 2 dimensions"),
    (lambda: init.eye_(tg.ones(3)), "Only tensors with 2 dimensions are supported"),
    (lambda: init.kaiming_uniform_(tg.ones(3, 3), mode="x"),
     "Mode x not supported, please use one of ['fan_in', 'fan_out']"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "message"), BAD, ids=[b[1][:20] for b in BAD])
def test_errors_are_torchs(call: Any, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        call()
    assert str(caught.value) == message


@pytest.mark.oracle
def test_gains_match_torch() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle: pip install -e .[oracle]")
    for name in ("linear", "conv2d", "sigmoid", "tanh", "relu", "selu", "leaky_relu"):
        assert init.calculate_gain(name) == torch.nn.init.calculate_gain(name)
    assert init.calculate_gain("leaky_relu", 0.3) == torch.nn.init.calculate_gain("leaky_relu", 0.3)
