"""Small gradients that an optimizer has read come out of a program as one array, and are cut when somebody looks."""

import copy
import pickle

import numpy as np
import pytest

import tracegrad as torch
from tracegrad import nn
from tracegrad._engine import program as programs
from tracegrad._engine.value import Piece


def trained(steps, look=lambda model: None, optimizer=torch.optim.Adam):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
    opt = optimizer(model.parameters(), lr=0.05)
    x, y = torch.linspace(-1, 1, 20).view(5, 4), torch.tensor([0, 1, 2, 0, 1])
    seen = []
    for _ in range(steps):
        opt.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        opt.step()
        seen.append(look(model))
    return model, loss.item(), seen


def gradients(model):
    return [p.grad.tolist() for p in model.parameters()]


@pytest.mark.parametrize("optimizer", [torch.optim.Adam, torch.optim.SGD, torch.optim.AdamW])
def test_gradients_read_after_the_step(optimizer):
    lazy, loss, seen = trained(4, gradients, optimizer)
    with torch.eager():
        eager, expected, wanted = trained(4, gradients, optimizer)
    for a, b in zip(seen, wanted):
        for g, h in zip(a, b):
            np.testing.assert_allclose(g, h, rtol=1e-5, atol=1e-7)
    assert loss == pytest.approx(expected, rel=1e-5)


def test_one_output_for_all_and_cut_once():
    model, _, _ = trained(4)
    values = [p.grad._value for p in model.parameters()]
    assert all(type(v.array) is Piece for v in values)
    assert len({id(v.array.flat) for v in values}) == 1
    before = programs.all_programs()[-1]
    read = [p.grad.numpy() for p in model.parameters()]
    assert not any(type(v.array) is Piece for v in values)
    assert programs.all_programs()[-1] is before, "cutting is no program"
    for p, g in zip(model.parameters(), read):
        assert g.shape == tuple(p.shape) and np.array_equal(p.grad.numpy(), g)


def test_whatever_takes_a_tensor_takes_such_a_gradient():
    model, _, _ = trained(3)
    grads = [p.grad for p in model.parameters()]
    flat = np.concatenate([copy.deepcopy(g).numpy().ravel() for g in grads])
    assert np.array_equal(np.concatenate([pickle.loads(pickle.dumps(g)).numpy().ravel() for g in grads]), flat)
    model, _, _ = trained(3)
    total = torch.nn.utils.clip_grad_norm_(model.parameters(), 1e9)
    np.testing.assert_allclose(total.item(), np.linalg.norm(flat), rtol=1e-5)
    model, _, _ = trained(3)
    assert np.array_equal(np.concatenate([np.asarray(p.grad.jax()).ravel() for p in model.parameters()]), flat)
    model, _, _ = trained(3)
    for p in model.parameters():
        p.grad.mul_(2)
    np.testing.assert_allclose(np.concatenate([p.grad.numpy().ravel() for p in model.parameters()]), 2 * flat)
    model, _, _ = trained(3)
    with torch.eager():
        np.testing.assert_allclose(np.concatenate([(p.grad * 1).numpy().ravel() for p in model.parameters()]), flat)


def test_gradients_that_go_on_accumulating():
    def run():
        torch.manual_seed(0)
        model = nn.Linear(3, 2)
        opt = torch.optim.SGD(model.parameters(), lr=0.1)
        x = torch.linspace(0, 1, 12).view(4, 3)
        for _ in range(4):  # nobody calls zero_grad
            model(x).square().sum().backward()
            opt.step()
        return [p.grad.numpy() for p in model.parameters()], [p.detach().numpy() for p in model.parameters()]

    lazy = run()
    with torch.eager():
        eager = run()
    for a, b in zip(lazy[0] + lazy[1], eager[0] + eager[1]):
        np.testing.assert_allclose(a, b, rtol=1e-5)


def test_numbers_that_stay_and_numbers_that_change(compiled):
    w = torch.tensor([1.0, 2.0], requires_grad=True)
    opt = torch.optim.SGD([w], lr=0.5)
    expected = np.array([1.0, 2.0])
    for k, lr in enumerate([0.5, 0.5, 0.5, 0.25, 0.25, 0.0, -0.0, 0.5, 0.5, 1.0]):
        opt.param_groups[0]["lr"] = abs(lr)
        opt.zero_grad()
        (w * w).sum().backward()
        opt.step()
        expected = expected - abs(lr) * 2 * expected
        np.testing.assert_allclose(w.tolist(), expected, rtol=1e-6)
        if k == 2:
            compiled()
    assert compiled() == 0
    x = torch.tensor([3.0])
    for value in (0.0, -0.0, 0.0, -0.0, float("nan"), float("nan"), 1.0, 1.0, 0.0):
        assert str((x * value).item()) == str(3.0 * value)


def test_adams_step_is_counted_in_the_program_and_shown_outside():
    model, _, _ = trained(3)
    opt = torch.optim.Adam(model.parameters())
    for k in range(1, 4):
        for p in model.parameters():
            p.grad = torch.ones_like(p)
        opt.step()
        if k == 2:
            state = opt.state_dict()["state"]
            assert [s["step"].item() for s in state.values()] == [2.0] * 4
            other = torch.optim.Adam(model.parameters())
            other.load_state_dict(opt.state_dict())
            opt = other
    assert {s["step"].item() for s in opt.state.values()} == {3.0}
