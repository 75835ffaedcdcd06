"""A variable is not a value: where gradients go when handles share arrays or are written between uses."""

import copy

import numpy as np

import tracegrad as torch
from tracegrad import nn


def test_copy_does_not_share_the_variable():
    p = torch.tensor([2.0], requires_grad=True)
    q = torch.tensor([0.0], requires_grad=True)
    with torch.no_grad():
        q.copy_(p)
    (p * q * 3).sum().backward()
    assert p.grad.tolist() == [6.0] and q.grad.tolist() == [6.0]


def test_deepcopy_and_parameter_make_new_variables():
    p = nn.Parameter(torch.tensor([2.0]))
    q = copy.deepcopy(p)
    r = nn.Parameter(p.data)
    (p * q * r).sum().backward()
    for t in (p, q, r):
        assert t.grad.tolist() == [4.0]


def test_write_between_two_uses_keeps_the_variable():
    for read in (False, True):
        w = torch.tensor([5.0], requires_grad=True)
        x = torch.tensor([3.0])
        y = w * x
        if read:
            assert y.item() == 15.0
        w.data.clamp_(max=1.0)
        y2 = w * x
        (y + y2).sum().backward()
        assert w.grad.tolist() == [6.0]
        assert w.tolist() == [1.0] and y.item() == 15.0 and y2.item() == 3.0


def test_two_parameters_on_one_array_survive_donation():
    base = torch.tensor([1.0, 2.0])
    p, q = nn.Parameter(base), nn.Parameter(base)
    opt = torch.optim.SGD([p, q], lr=0.5)
    for _ in range(4):
        opt.zero_grad()
        (p * 2 + q * 4).sum().backward()
        opt.step()
    for t in (p, q, base):  # one memory, as in PyTorch: both updates go there
        np.testing.assert_allclose(t.tolist(), [-11.0, -10.0])


def test_tied_parameter_sums_its_slots():
    w = torch.tensor([3.0], requires_grad=True)
    (w * w.detach() + w * 5).sum().backward()
    assert w.grad.tolist() == [8.0]


def test_requires_grad_turned_off_before_backward_gets_no_gradient():
    w = torch.tensor([3.0], requires_grad=True)
    v = torch.tensor([4.0], requires_grad=True)
    y = (w * v).sum()
    w.requires_grad_(False)
    y.backward()
    assert w.grad is None and v.grad.tolist() == [3.0]


def test_grad_keeps_its_handle():
    w = torch.tensor([3.0], requires_grad=True)
    (w * 2).sum().backward()
    g = w.grad
    (w * 5).sum().backward()
    assert w.grad is g and g.tolist() == [7.0]
    y = (w * w).sum()
    y.backward(create_graph=True)
    assert w.grad is not g


def test_detach_and_data_alias_their_base():
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    d = x.detach()
    d.mul_(10)
    assert x.tolist() == [10.0, 20.0] and d.tolist() == [10.0, 20.0]
    with torch.no_grad():
        x.add_(1)
    assert d.tolist() == [11.0, 21.0]
    y = x * 2
    y.data.zero_()
    assert y.tolist() == [0.0, 0.0]
    y.sum().backward()
    assert x.grad.tolist() == [2.0, 2.0]


def test_views_follow_writes_to_their_base():
    x = torch.arange(6).float()
    v = x.view(2, 3)
    row = v[1]
    x.add_(10)
    assert v.tolist() == [[10, 11, 12], [13, 14, 15]]
    assert row.tolist() == [13, 14, 15]
