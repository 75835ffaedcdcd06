"""The short ways through a backward: the same gradients as the long one, whatever the user has set up around them."""

import numpy as np
import pytest

import tracegrad as torch


def step(x, w, inside=lambda y: None, **options):
    y = (x * w).sin()
    inside(y)
    loss = (y * y).sum()
    return torch.autograd.grad(loss, [x, w, y] if options.pop("inner", False) else [x, w], **options)


def leaves():
    return (torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64, requires_grad=True),
            torch.tensor([1.5, 0.3, -0.7], dtype=torch.float64, requires_grad=True))  # fmt: skip


@pytest.mark.parametrize("options", [{}, {"inner": True}, {"create_graph": True}, {"create_graph": True, "inner": True},
                                     {"retain_graph": True}])  # fmt: skip
def test_first_and_later_times_agree(options):
    x, w = leaves()
    first = [g.tolist() for g in step(x, w, **options)]
    for _ in range(4):
        x, w = leaves()
        assert [g.tolist() for g in step(x, w, **options)] == first


def test_second_derivatives_of_what_was_repeated():
    found = []
    for _ in range(4):
        x, w = leaves()
        gx, gw = step(x, w, create_graph=True)
        ((gx * gx).sum() + gw.sum()).backward()
        found.append((x.grad.tolist(), w.grad.tolist()))
    assert all(f == found[0] for f in found)
    with torch.eager():
        x, w = leaves()
        gx, gw = step(x, w, create_graph=True)
        ((gx * gx).sum() + gw.sum()).backward()
        np.testing.assert_allclose(found[0], (x.grad.tolist(), w.grad.tolist()), rtol=1e-12)


@pytest.mark.parametrize("create_graph", [False, True])
def test_hooks_that_come_between(create_graph):
    for _ in range(3):
        x, w = leaves()
        plain = [g.tolist() for g in step(x, w, create_graph=create_graph)]
    for _ in range(2):
        x, w = leaves()
        x.register_hook(lambda c: c * 10)
        gx, gw = step(x, w, create_graph=create_graph)
        np.testing.assert_allclose(gx.tolist(), np.multiply(plain[0], 10))
        x, w = leaves()
        gx, gw = step(x, w, lambda y: y.register_hook(lambda c: c * 3), create_graph=create_graph)
        np.testing.assert_allclose([gx.tolist(), gw.tolist()], np.multiply(plain, 3))
        x, w = leaves()
        kept = []
        step(x, w, lambda y, kept=kept: (y.retain_grad(), kept.append(y)), create_graph=create_graph)
        np.testing.assert_allclose(kept[0].grad.tolist(), 2 * kept[0].detach().numpy())
        assert [g.tolist() for g in step(*leaves(), create_graph=create_graph)] == plain


def test_values_that_were_read_on_the_way():
    x, w = leaves()
    plain = [g.tolist() for g in step(x, w)]
    for _ in range(3):
        x, w = leaves()
        read = [g.tolist() for g in step(x, w, lambda y: y.tolist())]
        np.testing.assert_allclose(read, plain, rtol=1e-12)
        assert [g.tolist() for g in step(*leaves())] == plain


def test_backward_accumulates_replaces_and_frees():
    for _ in range(4):
        x, w = leaves()
        loss = (x * w).exp().sum()
        loss.backward(retain_graph=True)
        once = x.grad.tolist()
        held = x.grad
        loss.backward()
        assert x.grad is held
        np.testing.assert_allclose(x.grad.tolist(), np.multiply(once, 2))
        with pytest.raises(RuntimeError, match="second time"):
            loss.backward()


def test_one_leaf_in_two_roles_and_leaves_that_left():
    for _ in range(4):
        x, w = leaves()
        (x * x + w).sum().backward()
        np.testing.assert_allclose(x.grad.tolist(), 2 * x.detach().numpy())
        y = (torch.tensor([2.0, 1.0, 0.5], dtype=torch.float64, requires_grad=True) * x).sum()
        x.grad = None
        y.backward()
        assert x.grad.tolist() == [2.0, 1.0, 0.5]


def test_unused_and_asked_twice():
    for _ in range(3):
        x, w = leaves()
        z = torch.tensor([1.0], dtype=torch.float64, requires_grad=True)
        loss = (x * w).sum()
        assert torch.autograd.grad(loss, [x, z], retain_graph=True, allow_unused=True)[1] is None
        with pytest.raises(RuntimeError, match="appears to not have been used"):
            torch.autograd.grad(loss, [x, z], retain_graph=True)
        a, b = torch.autograd.grad(loss, [x, x])
        assert a.tolist() == b.tolist() == w.tolist()


def test_under_no_grad_and_inside_a_hook():
    for _ in range(3):
        x, w = leaves()
        loss = (x * w).sum()
        with torch.no_grad():
            (g,) = torch.autograd.grad(loss, x, create_graph=True)
        assert g.tolist() == w.tolist() and g.requires_grad
        seen = []
        y = x * 2
        y.register_hook(lambda g, w=w, seen=seen: seen.append(torch.autograd.grad((w * w).sum(), w)[0].tolist())
                        if torch.is_grad_enabled() else None)  # fmt: skip
        y.sum().backward(create_graph=True)
        np.testing.assert_allclose(seen, [2 * w.detach().numpy()])
