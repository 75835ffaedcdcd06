"""Small parameters are one array of the programs that update them, whatever anybody does with one of them."""

import copy
import pickle

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import tracegrad as torch
from tracegrad import nn
from tracegrad._engine import program as programs
from tracegrad._engine.value import Part

F = nn.functional


def model_of(*sizes):
    torch.manual_seed(0)
    layers = []
    for a, b in zip(sizes, sizes[1:]):
        layers += [nn.Linear(a, b), nn.Tanh()]
    return nn.Sequential(*layers[:-1])


def flats(model):
    return {id(p._value.array.flat) if type(p._value.array) is Part else None for p in model.parameters()}


def stepping(model, optimizer):
    x, y = torch.linspace(-1, 1, 20).view(5, 4), torch.tensor([0, 1, 2, 0, 1])

    def step(between=lambda: None):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        between()
        optimizer.step()
        return loss.item()

    return step


@pytest.mark.parametrize("optimizer", [
    lambda p: torch.optim.Adam(p, lr=0.05, weight_decay=0.01),
    lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=0.01, maximize=True),
    lambda p: torch.optim.AdamW([{"params": p[:4]}, {"params": p[4:], "lr": 0.1}], lr=0.05, amsgrad=True),
])  # fmt: skip
def test_one_array_and_the_same_numbers(optimizer):
    def run():
        model = model_of(4, 8, 6, 5, 3)
        step = stepping(model, optimizer(list(model.parameters())))
        return model, [step() for _ in range(5)]

    model, losses = run()
    with torch.eager():
        other, expected = run()
    assert None not in flats(model) and len(flats(model)) <= 2
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    for p, q in zip(model.parameters(), other.parameters()):
        np.testing.assert_allclose(p.detach().numpy(), q.detach().numpy(), rtol=1e-4, atol=1e-6)


def test_reading_disturbs_nothing(compiled):
    model = model_of(4, 8, 3)
    step = stepping(model, torch.optim.Adam(model.parameters()))
    for _ in range(3):
        step()
    program = programs.all_programs()[-1]
    compiled()
    for k in range(6):
        read = [p.detach().numpy() for p in list(model.parameters())[: k % 3]]
        step()
        assert len(flats(model)) == 1 and program.misfits == 0
        assert all(not np.array_equal(r, p.detach().numpy()) for r, p in zip(read, model.parameters()))
    assert compiled() == 0 and programs.all_programs()[-1] is program


def test_what_was_handed_out_stays():
    model = model_of(4, 8, 3)
    step = stepping(model, torch.optim.SGD(model.parameters(), lr=0.5))
    kept = []
    for _ in range(6):
        step()
        p = model[0].weight
        copied = copy.deepcopy(model)
        now = p.detach().numpy().copy()
        kept.append(([p.detach().jax(), p.detach().numpy(), copied[0].weight, p.data], now))
    for held, now in kept[:-1]:
        assert all(np.array_equal(np.asarray(h.detach() if isinstance(h, torch.Tensor) else h), now) for h in held[:3])
        assert np.array_equal(held[3].numpy(), model[0].weight.detach().numpy())  # shares its elements
    assert pickle.loads(pickle.dumps(model[0].bias)).tolist() == model[0].bias.tolist()


def test_a_detached_twin_that_nobody_reads_keeps_its_elements():
    model = model_of(4, 8, 3)
    step = stepping(model, torch.optim.SGD(model.parameters(), lr=0.5))
    for _ in range(3):
        step()
    value = copy.copy(model[0].weight._value)  # shares the part
    expected = model[0].weight.tolist()
    step()
    twin = torch.zeros(8, 4)
    twin._value = value
    assert twin.tolist() == expected != model[0].weight.tolist()


def test_programs_that_only_read_take_the_block(compiled):
    """A generator and a discriminator: each step uses the other's parameters."""
    g, d = model_of(4, 6, 4), model_of(4, 6, 1)
    of_g, of_d = torch.optim.Adam(g.parameters()), torch.optim.Adam(d.parameters())
    z = torch.linspace(-1, 1, 12).view(3, 4)

    def step():
        of_d.zero_grad()
        (d(g(z).detach()).mean() - d(z).mean()).backward()
        of_d.step()
        of_g.zero_grad()
        (-d(g(z)).mean()).backward()
        of_g.step()

    step()
    step()
    compiled()
    for _ in range(6):
        step()
        assert len(flats(g)) == len(flats(d)) == 1 and None not in flats(g) | flats(d)
    assert compiled() == 0 and all(p.misfits == 0 for p in programs.all_programs()[-2:])


def test_a_read_between_backward_and_step(compiled):
    model = model_of(4, 8, 3)
    step = stepping(model, torch.optim.Adam(model.parameters()))
    read = lambda: sum(p.grad.sum().item() for p in list(model.parameters())[:1])  # noqa: E731
    step(read)
    step(read)
    compiled()
    for _ in range(6):
        step(read)
    assert compiled() == 0 and None not in flats(model)


def test_parameters_that_always_lie_elsewhere(compiled):
    """Clipped after each step: the program is compiled once more, for where they lie."""
    model = model_of(4, 8, 3)
    step = stepping(model, torch.optim.SGD(model.parameters(), lr=0.5))

    def clip():
        for p in model.parameters():
            p.data.clamp_(-0.1, 0.1)
        step()

    for _ in range(8):
        clip()
    compiled()
    for _ in range(4):
        clip()
    assert compiled() == 0
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.ones_like(p))
    step()
    assert all(np.isfinite(p.tolist()).all() for p in model.parameters())


def test_twins_that_lie_in_one_place_at_first():
    """A copy of a model, which is taken where the model lies, and later is another one."""
    def run():
        model = model_of(4, 8, 3)
        step, seen = stepping(model, torch.optim.SGD(model.parameters(), lr=0.5)), []
        for k in range(6):
            step()
            if k in (1, 3):
                mean = copy.deepcopy(model)
            if k > 0:
                with torch.no_grad():
                    for a, b in zip(mean.parameters(), model.parameters()):
                        a.mul_(0.5).add_(b, alpha=0.5)
                seen.append([p.tolist() for p in mean.parameters()])
        return seen

    seen = run()
    with torch.eager():
        expected = run()
    for a, b in zip(sum(seen, []), sum(expected, [])):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_training_and_evaluation_in_turns(compiled):
    model = model_of(4, 8, 3)
    x = torch.linspace(0, 1, 8).view(2, 4)
    with torch.no_grad():
        model(x).sum().item()
    step = stepping(model, torch.optim.Adam(model.parameters()))
    for k in range(8):
        step()
        with torch.no_grad():
            a, b = model(x).sum().item(), model(x).sum().item()
        assert a == b
        if k == 3:
            compiled()
    assert compiled() == 0


EVENTS = ["step", "step", "step", "read", "hold", "hold jax", "write", "load", "copy", "evaluate", "mean", "freeze",
          "half", "other", "state", "data", "view", "half precision", "checkpoint"]  # fmt: skip


class Training:
    """A model in training, and what else happens."""

    def __init__(self):
        self.model = model_of(4, 5, 5, 3).double()
        self.optimizers = [torch.optim.Adam(self.model.parameters(), lr=0.05),
                           torch.optim.SGD(self.model.parameters(), lr=0.05, momentum=0.9)]  # fmt: skip
        self.mean = copy.deepcopy(self.model)
        self.x, self.y = torch.linspace(-1, 1, 20).double().view(5, 4), torch.tensor([0, 1, 2, 0, 1])
        self.held, self.seen, self.half = [], [], False

    def happen(self, event, k):
        """Let something happen."""
        params = list(self.model.parameters())
        p = params[k % len(params)]
        if event in ("step", "other"):
            optimizer = self.optimizers[event == "other"]
            optimizer.zero_grad()
            out = self.model[:3](self.x) if self.half else self.model(self.x)
            loss = out.square().mean() if self.half else F.cross_entropy(out, self.y)
            loss.backward()
            optimizer.step()
            self.seen.append(loss.item() if k % 3 else loss.detach())
        elif event == "read":
            self.seen.append(p.detach().numpy().copy())
        elif event == "hold":
            self.held.append(p.detach() if k % 2 else p.detach().clone())
        elif event == "hold jax":
            self.held.append(p.detach().jax())
        elif event in ("write", "data"):
            with torch.no_grad():
                (p.data if event == "data" else p).mul_(0.9)
        elif event == "load":
            self.model.load_state_dict(self.mean.state_dict())
        elif event == "copy":
            self.mean = copy.deepcopy(self.model)
        elif event == "evaluate":
            with torch.no_grad():
                self.seen.append(self.model(self.x).sum().item() if k % 2 else self.model(self.x).sum())
        elif event == "mean":
            with torch.no_grad():
                for a, b in zip(self.mean.parameters(), params):
                    a.mul_(0.5).add_(b, alpha=0.5)
        elif event == "freeze":
            p.requires_grad_(not p.requires_grad)
        elif event == "half":
            self.half = not self.half
        elif event == "state":
            self.held.append([t for s in self.optimizers[0].state.values() for t in s.values()][:2])
        elif event == "view":
            self.held.append(p.detach()[0] if k % 2 else p[0])
        elif event == "half precision":
            self.model.float()
            self.model.double()
        elif event == "checkpoint":
            self.held = []
            self.optimizers[0].load_state_dict(copy.deepcopy(self.optimizers[0].state_dict()))

    def state(self):
        """Return all numbers that there are."""
        held = [*self.model.parameters(), *self.mean.parameters(), *self.held, *self.seen]
        held += [p.grad for p in self.model.parameters() if p.grad is not None]
        flat = [t for h in held for t in (h if isinstance(h, list) else [h])]
        return [np.asarray(t.detach().numpy() if isinstance(t, torch.Tensor) else t) for t in flat]


@settings(max_examples=6, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(events=st.lists(st.sampled_from(EVENTS), min_size=4, max_size=14))
def test_whatever_happens_between(events):
    lazy, eager = Training(), Training()
    for k, event in enumerate(["step", *events, "step", "other", "step"]):
        lazy.happen(event, k)
        with torch.eager():
            eager.happen(event, k)
    with torch.eager():
        expected = eager.state()
    found = lazy.state()
    assert len(found) == len(expected)
    for a, b in zip(found, expected):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
