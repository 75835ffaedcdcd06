"""Dropouts that keep a distribution, and samples of the relaxed categorical one."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest

import tracegrad as tg
from tracegrad.nn import functional as F

ways = pytest.mark.parametrize("eager", [False, True])


def way(eager):
    return tg.eager() if eager else contextlib.nullcontext()


@ways
def test_alpha_dropout_keeps_mean_and_variance(eager):
    with way(eager):
        tg.manual_seed(0)
        x = tg.randn(20_000, requires_grad=True)
        y = F.alpha_dropout(x, 0.3, True)
        y.sum().backward()
        assert abs(y.mean().item()) < 0.03 and abs(y.var().item() - 1) < 0.05
        slopes, counts = np.unique(x.grad.numpy(), return_counts=True)
        assert slopes[0] == 0 and len(slopes) == 2 and abs(counts[0] / 20_000 - 0.3) < 0.02
        # What torch gives for elements of 1 with p = 0.5.
        z = F.alpha_dropout(tg.ones(8), 0.5, True)
        assert all(np.isclose(v, -0.7792, atol=1e-4) or np.isclose(v, 1.6656, atol=1e-4) for v in z.tolist())


@ways
def test_whole_channels_are_dropped(eager):
    with way(eager):
        tg.manual_seed(1)
        for drop, shape, dims in ((F.feature_alpha_dropout, (4, 5, 3), (2,)), (F.dropout3d, (4, 5, 1, 2, 2), (2, 3, 4)),
                                  (F.dropout3d, (6, 1, 2, 2), (1, 2, 3))):  # fmt: skip
            y = drop(tg.ones(*shape), 0.5, True)
            assert (y.amax(dims) == y.amin(dims)).all() and y.unique().numel() == 2


def test_edges_of_dropouts():
    x = tg.ones(3)
    assert F.alpha_dropout(x, 1.0, True).tolist() == [0, 0, 0]
    assert F.alpha_dropout(x, 0.5) is x and F.alpha_dropout(x, 0.0, True) is x
    assert F.alpha_dropout(x, 0.5, True, inplace=True) is x and x._version == 1
    with pytest.raises(ValueError, match="has to be between 0 and 1, but got 1.5"):
        F.alpha_dropout(x, 1.5)
    with pytest.raises(RuntimeError, match="Feature dropout requires at least 2 dimensions"):
        F.feature_alpha_dropout(x, 0.5, True)
    with pytest.warns(UserWarning, match="Received a 2-D input to dropout3d"):
        F.dropout3d(tg.ones(2, 3), 0.5, True)


@ways
def test_gumbel_softmax(eager):
    with way(eager):
        tg.manual_seed(2)
        logits = tg.tensor([0.0, 1.0, 2.0]).log_softmax(0).repeat(3000, 1).requires_grad_()
        soft = F.gumbel_softmax(logits, 0.5)
        np.testing.assert_allclose(soft.sum(1).detach().numpy(), 1, rtol=1e-5)
        hard = F.gumbel_softmax(logits, hard=True)
        shares = hard.detach().mean(0).numpy()
        np.testing.assert_allclose(shares, np.exp([0, 1, 2]) / np.exp([0, 1, 2]).sum(), atol=0.04)
        (hard * tg.arange(3.0)).sum().backward()
        assert logits.grad.abs().sum() > 0 and ((hard == 0) | (hard == 1)).sum() > 8990


def test_rrelu_draws_its_slopes():
    tg.manual_seed(3)
    x = -tg.ones(2000, requires_grad=True)
    y = F.rrelu(x, 0.25, 0.5, training=True)
    (gradient,) = tg.autograd.grad(y.sum(), x)
    slopes = gradient.numpy()
    assert slopes.min() >= 0.25 and slopes.max() <= 0.5 and abs(slopes.mean() - 0.375) < 0.01
    np.testing.assert_allclose(y.detach().numpy(), -slopes)
