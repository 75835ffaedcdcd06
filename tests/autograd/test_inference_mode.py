"""Inference mode: tensors made inside never take part in autograd, as PyTorch has it."""

from __future__ import annotations

import pytest
from _both import WAYS, check

import tracegrad

PROGRAMS = []


def program(function):
    PROGRAMS.append(function)
    return function


def attempt(note, what):
    """Note what ``what`` returns or raises."""
    try:
        note(what())
    except RuntimeError as error:
        note(str(error))


def facts(x):
    return [x.is_inference(), x.requires_grad, x.is_leaf, x.grad_fn is None]


@program
def modes(torch, note):
    def now():
        return torch.is_inference_mode_enabled(), torch.is_grad_enabled()

    note(now())
    with torch.inference_mode():
        note(now())
        with torch.enable_grad():
            note(now())
            with torch.no_grad():
                note(now())
        with torch.inference_mode(False):
            note(now())
            with torch.inference_mode():
                note(now())
        torch.set_grad_enabled(True)
        note(now())
    note(now())
    with torch.no_grad(), torch.inference_mode(False):
        note(now())
    with torch.no_grad():
        with torch.inference_mode():
            note(now())
        note(now())

    @torch.inference_mode()
    def decorated():
        return now()

    @torch.inference_mode
    def bare():
        return now()

    @torch.inference_mode(mode=False)
    def off():
        return now()

    @torch.inference_mode()
    def several():
        yield now()
        yield now()

    return decorated(), bare(), off(), list(several()), now()


@program
def what_is_an_inference_tensor(torch, note):
    w = torch.ones(2, requires_grad=True)
    n = torch.ones(2, 3)
    with torch.inference_mode():
        made = torch.tensor([1.0, 2.0])
        zeros, draws, numbers = torch.zeros(2), torch.rand(2), torch.arange(3)
        y = w * 2
        for x in (made, zeros, draws, numbers, y, n + 1, n.clone(), made[0], made.view(2, 1), made.detach(), y.float()):
            note(facts(x), facts(x + 1))
        for x in (w, n, n[0], n.t(), n.view(-1), n.detach(), w.detach(), n.contiguous(), w.data):
            note(facts(x))
        with torch.enable_grad():
            note(facts(w * 2))
        with torch.inference_mode(False):
            note(facts(torch.ones(2)), facts(w * 2), facts(n[0]))
        wanting = torch.ones(2, requires_grad=True)
        note(facts(wanting), facts(wanting * 2))
        note(torch.is_inference(made), torch.is_inference(n))
    for x in (made + 1, made.clone(), made[0], made.view(2, 1), made.detach(), made.t(), y * 1, made.data):
        note(facts(x))
    note(facts(wanting), facts(n), facts(w * 2), facts(n[0]))


@program
def tensors_of_inference_in_autograd(torch, note):
    w = torch.tensor([1.0, 2.0], requires_grad=True)
    with torch.inference_mode():
        i = torch.tensor([3.0, 4.0])
        index = torch.tensor([0])
        m = torch.ones(2, 2)
    attempt(note, lambda: w * i)
    attempt(note, lambda: w * i)
    attempt(note, lambda: i * w)
    attempt(note, lambda: w / i)
    attempt(note, lambda: i / w)
    attempt(note, lambda: w @ m)
    attempt(note, lambda: w[index])
    attempt(note, lambda: torch.where(i > 3, w, i))
    attempt(note, lambda: (w + i).detach())
    attempt(note, lambda: (i - w).detach())
    attempt(note, lambda: torch.cat([w, i]).detach())
    attempt(note, lambda: torch.stack([w, i])[:, 0].detach())
    attempt(note, lambda: torch.addmm(m, w.view(2, 1), w.view(1, 2)).detach())
    attempt(note, lambda: torch.nn.functional.linear(i.view(1, 2), w.view(1, 2)))
    attempt(note, lambda: (w * i.clone()).detach())
    with torch.no_grad():
        attempt(note, lambda: w * i)
    with torch.inference_mode():
        attempt(note, lambda: w * i)
    (w + i).exp().sum().backward()
    return w.grad


@program
def a_wanting_inference_tensor(torch, note):
    with torch.inference_mode():
        p = torch.ones(2, requires_grad=True)
        attempt(note, lambda: p * 2)
    attempt(note, lambda: facts(p * p))
    attempt(note, lambda: p.exp())
    attempt(note, lambda: (p + 1).detach())


@program
def writes_outside(torch, note):
    with torch.inference_mode():
        i = torch.tensor([3.0, 4.0])
        j = torch.tensor([3.0, 4.0])
        i.add_(1)
        i[0] = 7
    attempt(note, lambda: i.add_(1))
    attempt(note, lambda: i.mul_(j))
    attempt(note, lambda: i.copy_(j))
    attempt(note, lambda: i.copy_(torch.ones(2)))
    attempt(note, lambda: i.zero_())
    attempt(note, lambda: i.fill_(2))
    attempt(note, lambda: i.__setitem__(0, 1.0))
    attempt(note, lambda: i[0].add_(1))
    attempt(note, lambda: i.view(2, 1).mul_(2))
    attempt(note, lambda: i.requires_grad_())
    attempt(note, lambda: setattr(i, "requires_grad", True))
    attempt(note, lambda: i.requires_grad_(False).shape[0])
    attempt(note, lambda: i._version)
    with torch.no_grad():
        attempt(note, lambda: i.add_(1))
    c = j.clone()
    c.add_(1)
    return c, c.requires_grad_()  # some of what PyTorch refused changed ``i`` all the same


@program
def writes_inside(torch, note):
    n, w = torch.ones(2), torch.ones(2, requires_grad=True)
    m = torch.ones(2, 2)
    v = m[0]
    h = w * 1
    with torch.inference_mode():
        i = torch.ones(2)
        n.add_(1)
        n[0] = 5
        note(facts(n), n._version)
        n.copy_(i)
        note(facts(n), n._version, n)
        v.mul_(3)
        m[1].add_(i)
        note(m, v, facts(m), facts(v), m._version, v._version)
        attempt(note, lambda: w.add_(1))
        attempt(note, lambda: h.mul_(2))
        attempt(note, lambda: i._version)
        note(facts(w), facts(h), w, h)
    n.add_(1)
    v.add_(1)
    note(facts(n), facts(m), n, m)
    w2 = torch.ones(2, requires_grad=True)
    (w2 * n * m[0]).sum().backward()
    return w2.grad


@program
def views_of_normal_tensors(torch, note):
    n, w = torch.ones(2, 2), torch.ones(2, requires_grad=True)
    h = w * 1
    with torch.inference_mode():
        a, b, c = n[0], h.view(2, 1), h[:1]
    note(facts(a))
    attempt(note, lambda: a.add_(1))
    attempt(note, lambda: b.add_(1))
    with torch.no_grad():
        attempt(note, lambda: c.add_(1).tolist())
    return n


@program
def saved_by_functions(torch, note):
    class Times(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, y):
            ctx.save_for_backward(y)
            return x * y

        @staticmethod
        def backward(ctx, g):
            (y,) = ctx.saved_tensors
            return g * y, None

    w = torch.ones(2, requires_grad=True)
    with torch.inference_mode():
        i = torch.ones(2)
        note(facts(Times.apply(w, i)))
    attempt(note, lambda: Times.apply(w, i))
    note(facts(Times.apply(w.detach(), i)))
    Times.apply(w, i.clone()).sum().backward()
    return w.grad


@program
def modules(torch, note):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2), torch.nn.ReLU())
    with torch.no_grad():
        for p in model.parameters():
            p.fill_(0.5)
    x = torch.tensor([[1.0, 2.0], [3.0, 5.0]])
    with torch.inference_mode():
        out = model(x)
        note(facts(out), facts(model[1].running_mean), model[1].running_mean)
    model(x).sum().backward()
    note(model[0].weight.grad)
    attempt(note, lambda: model(out))
    return model(out.clone()).shape[0]


@program
def steps_of_optimizers(torch, note):
    w = torch.tensor([1.0, 2.0], requires_grad=True)
    for kind in (torch.optim.SGD, torch.optim.Adam):
        optimizer = kind([w], lr=0.1)
        for inside in (False, True, False):  # PyTorch cannot go on with states that were made inside
            optimizer.zero_grad()
            (w * w).sum().backward()
            with torch.inference_mode(inside):
                optimizer.step()
            note(facts(w), w.detach() * 1)
    (w * w).sum().backward()
    return w.grad


@pytest.mark.oracle
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("run", PROGRAMS, ids=lambda p: p.__name__)
def test_as_in_pytorch(run, way):
    check(run, way)


def test_errors_do_not_depend_on_what_was_recorded_before():
    torch = tracegrad

    def run(inside, write):
        w = torch.ones(3, requires_grad=True)
        with torch.inference_mode():
            if inside:
                x = torch.full((3,), 2.0)
            else:
                with torch.inference_mode(False):
                    x = torch.full((3,), 2.0)
            if write:
                x.mul_(3)
            else:
                x = x * 3
        return (x * w).tolist()

    for _ in range(2):
        assert run(False, True) == [6.0] * 3
        for arguments in ((True, True), (True, False), (False, False)):
            with pytest.raises(RuntimeError, match="Inference tensors cannot be saved"):
                run(*arguments)


def test_compiles_nothing_twice(compiled):
    torch = tracegrad
    model = torch.nn.Linear(2, 2)
    for i in range(6):
        with torch.inference_mode():
            x = torch.tensor([[float(i), 1.0]])
            total = torch.zeros(2)
            total += model(x)[0]
            total.tolist()
        if i == 2:
            compiled()
    assert compiled() == 0
