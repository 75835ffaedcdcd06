"""What a flush between forward and backward may cost: a boundary, never a second forward, never a copied input."""

import numpy as np
import pytest

import tracegrad as torch
from tracegrad._engine import program as programs
from tracegrad._engine.program import LEAF_ARRAY


def latest():
    return programs.all_programs()[-1]


def network(read, seed=0):
    torch.manual_seed(seed)
    w = torch.randn(8, 8, requires_grad=True)
    x = torch.randn(4, 8)
    h = torch.tanh(x @ w)
    if read:
        h.detach().tolist()
    loss = (h * h).sum()
    if read:
        loss.item()
    return w, h, loss


def test_backward_after_a_read_runs_no_forward_again():
    for _ in range(2):
        w, h, loss = network(True)
        loss.backward()
        w.grad.tolist()
        text = latest()._compiled.as_text()
        assert " tanh(" not in text
    expected, _, loss = network(False)
    loss.backward()
    np.testing.assert_allclose(w.grad.tolist(), expected.grad.tolist(), rtol=1e-5)


def test_residuals_that_are_inputs_or_outputs_are_not_returned():
    torch.synchronize()
    w = torch.randn(16, 16, requires_grad=True)
    x = torch.randn(16, 16)
    torch.synchronize()
    y = x @ w
    y.detach().tolist()
    program = [p for p in programs.all_programs() if p.kept][-1]
    assert any(kind == LEAF_ARRAY for kind, _ in program.residual_places)
    returned = {i for kind, i in (*program.places.values(), *program.residual_places) if kind != LEAF_ARRAY}
    assert returned == {0}  # y alone


def test_second_backward_raises_unless_retained():
    for read in (False, True):
        x = torch.tensor([1.0, 2.0], requires_grad=True)
        y = (x * x).sum()
        if read:
            y.item()
        y.backward(retain_graph=True)
        y.backward()
        assert x.grad.tolist() == [4.0, 8.0]
        with pytest.raises(RuntimeError, match="backward through the graph a second time"):
            y.backward()
        assert x.grad.tolist() == [4.0, 8.0]


def test_freed_is_per_slot():
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    total = x + 1
    (total.sum()).backward()
    (total.sum()).backward()
    assert x.grad.tolist() == [2.0, 2.0]
    y = x * x
    a, b = y.sum(), (y + x).sum()
    a.backward()
    with pytest.raises(RuntimeError, match="second time"):
        b.backward()


def test_running_total_without_detach_holds_no_residuals():
    w = torch.tensor([1.0, 2.0], requires_grad=True)
    running = torch.tensor(0.0)
    for _ in range(4):
        loss = (w * w).sum()
        loss.backward()
        running = running + loss
        running.item()
    assert running.item() == 20.0
    assert all(a is None for a in running._value.source.segment.residuals)


def test_several_losses_share_one_linearisation():
    x = torch.tensor([0.5, 0.25], requires_grad=True)
    h = torch.tanh(x)
    a, b = (h * h).sum(), (h * 3).sum()
    a.backward(retain_graph=True)
    b.backward()
    x.grad.tolist()
    assert latest()._compiled.as_text().count(" tanh(") <= 1
    t = np.tanh([0.5, 0.25])
    np.testing.assert_allclose(x.grad.tolist(), (2 * t + 3) * (1 - t * t), rtol=1e-6)


def test_while_loop_on_a_value_is_a_chain_of_cached_segments(compiled):
    def run(start):
        x = torch.tensor([start, 2 * start], requires_grad=True)
        y = x * 2
        steps = 1
        while y.data.norm() < 1000:
            y = y * 2
            steps += 1
        y.backward(torch.tensor([1.0, 0.5]))
        return x.grad.tolist(), 2.0**steps

    run(1.0), run(1.0)
    compiled()
    for start in (1.0, 3.0, 0.1):
        grad, scale = run(start)
        assert grad == [scale, scale / 2]


def test_create_graph_across_flushes():
    for read in range(4):
        x = torch.tensor([0.3, 0.7], dtype=torch.float64, requires_grad=True)
        y = torch.sin(x) * x
        if read & 1:
            y.detach().tolist()
        (g,) = torch.autograd.grad(y.sum(), x, create_graph=True)
        if read & 2:
            g.detach().tolist()
        (h,) = torch.autograd.grad((g * g).sum(), x, create_graph=True)
        if read & 1:
            h.detach().tolist()
        (k,) = torch.autograd.grad(h.sum(), x)
        v = np.array([0.3, 0.7])
        d1 = np.cos(v) * v + np.sin(v)
        d2 = 2 * np.cos(v) - v * np.sin(v)
        d3 = -3 * np.sin(v) - v * np.cos(v)
        np.testing.assert_allclose(g.tolist(), d1, rtol=1e-12)
        np.testing.assert_allclose(h.tolist(), 2 * d1 * d2, rtol=1e-12)
        np.testing.assert_allclose(k.tolist(), 2 * d2 * d2 + 2 * d1 * d3, rtol=1e-12)


def test_retain_grad_and_gradients_of_intermediates():
    for read in (False, True):
        x = torch.tensor([1.0, 2.0], requires_grad=True)
        h = x * 3
        h.retain_grad()
        y = h * h
        if read:
            h.detach().tolist()
        (gy,) = torch.autograd.grad(y.sum(), h, retain_graph=True)
        assert gy.tolist() == [6.0, 12.0] and x.grad is None and h.grad.tolist() == [6.0, 12.0]
        y.sum().backward()
        assert h.grad.tolist() == [12.0, 24.0] and x.grad.tolist() == [18.0, 36.0]


def test_unused_inputs():
    x = torch.tensor([1.0], requires_grad=True)
    z = torch.tensor([1.0], requires_grad=True)
    y = x * 2
    with pytest.raises(RuntimeError, match="appears to not have been used in the graph"):
        torch.autograd.grad(y, z, retain_graph=True)
    assert torch.autograd.grad(y, (x, z), allow_unused=True)[1] is None
    assert torch.autograd.grad(x * 2, (x, z), materialize_grads=True)[1].tolist() == [0.0]


def test_backward_inputs():
    x = torch.tensor([1.0], requires_grad=True)
    z = torch.tensor([2.0], requires_grad=True)
    (x * z).backward(inputs=[x])
    assert x.grad.tolist() == [2.0] and z.grad is None


def test_accumulated_micro_batches():
    w = torch.tensor([1.0, 2.0], requires_grad=True)
    for i in range(8):
        (w * float(i)).sum().backward()
    assert w.grad.tolist() == [28.0, 28.0]


def test_backward_under_no_grad():
    w = torch.tensor([1.0], requires_grad=True)
    y = w * 4
    with torch.no_grad():
        y.backward()
    assert w.grad.tolist() == [4.0] and not w.grad.requires_grad


def test_detached_branch_is_a_constant():
    w = torch.tensor([2.0], requires_grad=True)
    a = w * w
    e = w * a.detach()
    c = a * e.detach()
    e.backward(retain_graph=True)
    c.backward()
    assert w.grad.tolist() == [4.0 + 4.0 * 8.0]
