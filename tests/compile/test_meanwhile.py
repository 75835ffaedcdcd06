"""What happens between two replays: the next one finds what was left, or looks at everything again."""

from __future__ import annotations

import copy

import numpy as np
import pytest

import tracegrad as torch
from tracegrad import nn


def same(a, b):
    """Whether two trees of tensors and numbers are equal; another program may round in another way."""
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if a is None or b is None:
        return a is b
    a, b = (x.detach().numpy() if isinstance(x, torch.Tensor) else x for x in (a, b))
    return np.allclose(a, b, 1e-4, 1e-6)


class Training:
    """A model in training by one function, and by another one over the same parameters."""

    def __init__(self, compiled, flat=True):
        torch.manual_seed(0)
        sizes = (3, 4, 3) if flat else (3, 3)  # four parameters are one array, two are two
        layers = [nn.Linear(a, b) for a, b in zip(sizes, sizes[1:])]
        self.model = nn.Sequential(*layers, nn.Tanh())
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=0.05)
        self.scale = 1.0
        self.held = []
        self.step, self.other = self.one, self.two
        if compiled:
            self.step, self.other = torch.compile(self.one), torch.compile(self.two)

    def one(self, x):
        return self._train(self.model(x).square().mean() * self.scale)

    def two(self, x):
        return self._train(self.model(x).sum())

    def _train(self, loss):
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss

    @property
    def p(self):
        """A parameter."""
        return self.model[0].weight


def write(t):
    with torch.no_grad():
        t.p.mul_(0.5)


def set_data(t):
    t.p.data = torch.full((*t.p.shape,), 0.1)


def load(t):
    t.model.load_state_dict({k: v * 0.5 for k, v in t.model.state_dict().items()})


def hold(t):
    t.held.append((t.p.detach(), t.p.detach().clone()))


def hold_gradient(t):
    t.held.append((t.p.grad, t.p.grad.clone()))


def hold_arrays(t):
    t.held += [(torch.from_jax(p.detach().jax()), p.detach().clone()) for p in t.model.parameters()]


def hold_view(t):
    t.held.append((t.p.detach()[0], t.p.detach()[0].clone()))


def read(t):
    t.held.append((t.p.sum().detach(), t.p.detach().clone().sum()))


def write_gradient(t):
    t.p.grad.mul_(3)


def lr(t):
    t.optimizer.param_groups[0]["lr"] *= 0.5


def betas(t):
    t.optimizer.param_groups[0]["betas"] = (0.5, 0.9)


def amsgrad(t):
    t.optimizer.param_groups[0]["amsgrad"] = True


def states(t):
    t.held += [(s["exp_avg"], s["exp_avg"].clone()) for s in t.optimizer.state.values()]


def load_states(t):
    t.optimizer.load_state_dict(copy.deepcopy(t.optimizer.state_dict()))


def freeze(t):
    t.p.requires_grad_(False)


def hook(t):
    t.p.register_hook(lambda g: g * 2)


def replace(t):
    t.model[0].weight = nn.Parameter(t.p.detach() * 0.5)


def another_function(t):
    for _ in range(4):
        t.other(torch.ones(2, 3))
        t.step(torch.ones(2, 3))


def without_compiling(t):
    t.one(torch.ones(2, 3))


def attribute(t):
    t.scale = 2.0


def no_gradients(t):
    t.model.zero_grad()


def failing(t):
    with pytest.raises(RuntimeError):
        t.step(torch.ones(2, 5))


def another_shape(t):
    t.step(torch.ones(3, 3))


def a_parameter_is_passed(t):
    t.step(t.p if t.p.shape == (3, 3) else t.p[:3, :3])


def an_argument_that_wants_gradients(t):
    x = torch.ones(2, 3, requires_grad=True)
    t.step(x)
    t.held.append((x.grad, x.grad.clone()))


def an_argument_with_a_gradient(t):
    x = torch.ones(2, 3)
    x.grad = torch.ones(2, 3)
    t.step(x)


def a_pending_argument(t):
    t.step(torch.ones(2, 3) * 2 + 1)


def host_data(t):
    t.step(torch.from_numpy(np.ones((2, 3), np.float32)))


EVENTS = [write, set_data, load, hold, hold_gradient, hold_arrays, hold_view, read, write_gradient, lr, betas, amsgrad,
          states, load_states, freeze, hook, replace, another_function, without_compiling, attribute, no_gradients,
          failing, another_shape, a_parameter_is_passed, an_argument_that_wants_gradients, an_argument_with_a_gradient,
          a_pending_argument, host_data]  # fmt: skip


@pytest.mark.parametrize("flat", [True, False])
@pytest.mark.parametrize("event", EVENTS)
def test_a_step_after(event, flat):
    plain, compiled = Training(False, flat), Training(True, flat)
    seen = []
    for t in (plain, compiled):
        losses = [t.step(torch.full((2, 3), 0.1 * k)).item() for k in range(6)]
        if t is compiled:
            assert t.step.replays >= 2
            assert any(plan.lean.ready for of in t.step._known.values() for c in of.values() for plan in c.plans)
        event(t)
        losses += [t.step(torch.full((2, 3), 0.1 * k)).item() for k in range(3)]
        lasting = event not in (hold, hold_view, hold_gradient, states)
        assert not lasting or same(*zip(*t.held)) if t.held else True, t.held
        seen.append([losses, [a for a, _ in t.held], [(p.detach(), p.grad) for p in t.model.parameters()]])
    assert same(*seen)


def test_two_functions_over_the_same_parameters_take_turns():
    plain, compiled = Training(False), Training(True)
    for k in range(8):
        x = torch.full((2, 3), 0.1 * k)
        assert same([plain.step(x), plain.other(x)], [compiled.step(x), compiled.other(x)])
    functions = (compiled.step, compiled.other)
    plans = [p for f in functions for of in f._known.values() for c in of.values() for p in c.plans]
    assert len(plans) == 2 and all(p.program.record.runs >= 5 for p in plans)


def test_a_random_function_goes_on():
    outs = []
    for wrap in (lambda f: f, torch.compile):
        drop = wrap(lambda x: nn.functional.dropout(x, 0.5))
        torch.manual_seed(0)
        outs.append([drop(torch.ones(8)).tolist() for _ in range(7)])
    assert outs[0] == outs[1] and len({str(o) for o in outs[0]}) == 7
