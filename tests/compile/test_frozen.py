"""The six ways in which what records and replays goes silently wrong: here it is right, or it raises."""

from __future__ import annotations

import gc
import random

import pytest
from _compiled import batches, check, replayed, same

import tracegrad as torch


def test_1_a_method_is_not_shared_across_instances():
    class Scale:
        def __init__(self, by):
            self.w = torch.tensor(by)

        @torch.compile
        def __call__(self, x):
            return x * self.w

    scales = [Scale(float(k)) for k in range(1, 4)]
    for _ in range(4):
        for k, s in enumerate(scales, 1):
            assert s(torch.ones(2)).tolist() == [k, k]
    compiled = Scale.__dict__["__call__"]
    assert replayed(compiled, 6) and len(compiled._known) == 3
    del scales, s
    gc.collect()
    assert not compiled._known


def test_1_modules_are_not_shared_across_instances():
    models = [torch.nn.Linear(2, 2) for _ in range(3)]

    @torch.compile
    def run(model, x):
        return model(x)

    for _ in range(4):
        for m in models:
            assert same(run(m, torch.ones(1, 2)), m(torch.ones(1, 2)))
    assert replayed(run, 6)


def test_2_writes_into_inputs():
    def f(x, y):
        x.mul_(2)
        x[0] = y
        return x.sum()

    compiled = torch.compile(f)
    for k in range(6):
        x, y = torch.ones(3), torch.tensor(float(k))
        version = x._version
        assert compiled(x, y).item() == 4.0 + k and x.tolist() == [k, 2.0, 2.0] and x._version == version + 2
    assert replayed(compiled, 3)
    x = torch.ones(2, 3)
    compiled(x[1], torch.tensor(5.0))
    assert x.tolist() == [[1.0, 1.0, 1.0], [5.0, 2.0, 2.0]]
    x = torch.ones(3)
    view = x[:2]
    compiled(x, torch.tensor(5.0))
    assert view.tolist() == [5.0, 2.0]


def test_3_results_are_tensors_of_their_own():
    table = torch.tensor([1.0, 2.0])
    f = torch.compile(lambda x: (x * 2, torch.tensor([7.0]), x, table))
    kept = []
    for k in range(6):
        x = torch.full((2,), float(k))
        a, constant, itself, held = f(x)
        assert itself is x and held is table and constant.tolist() == [7.0]
        constant.add_(1)
        kept.append((a, constant))
    assert [a.tolist() for a, _ in kept] == [[2.0 * k] * 2 for k in range(6)]
    assert len({id(c) for _, c in kept}) == 6 and replayed(f, 3)
    kept[-1][0].zero_()
    assert kept[-2][0].tolist() == [8.0, 8.0]


def test_4_views_are_not_frozen():
    base = torch.zeros(4)
    view = base[1:3]
    f = torch.compile(lambda x: view + x)
    for k in range(6):
        base.fill_(k)
        assert f(torch.ones(2)).tolist() == [k + 1.0] * 2
    assert replayed(f, 3)

    g = torch.compile(lambda k: base[k])
    assert [g(k).tolist() for k in (1, 1)] == [5.0, 5.0]
    with pytest.raises(torch.UnsupportedError, match="view of a tensor from outside"):
        for _ in range(5):
            g(1).add_(1)
    assert base[1].item() >= 6.0

    h = torch.compile(lambda x: (x * 2).t())
    for _ in range(5):
        y = h(torch.arange(6.0).reshape(2, 3))
        assert y.tolist() == [[0.0, 6.0], [2.0, 8.0], [4.0, 10.0]] and not y.is_contiguous() and y.stride() == (1, 3)
        y.mul_(2)
        assert y[0].tolist() == [0.0, 12.0]
    assert replayed(h, 2)

    def both(x):
        y = x * 2
        return y, y[0]

    pair = torch.compile(both)
    for _ in range(5):
        y, first = pair(torch.ones(2, 2))
        y.add_(1)
        assert first.tolist() == [3.0, 3.0] and first._base is y
        first.zero_()
        assert y.tolist() == [[0.0, 0.0], [3.0, 3.0]]
    assert replayed(pair, 2)


SCALE = 2.0


def helper(x):
    return x * SCALE


def test_5_python_constants_are_not_frozen():
    global SCALE
    factor = 1.0
    settings = {"shift": 1.0}

    class Config:
        power = 1

    config = Config()
    f = torch.compile(lambda x: helper(x) * factor + settings["shift"] + config.power)
    for k in range(8):
        if k == 2:
            factor = 3.0
        if k == 3:
            SCALE = 5.0
        if k == 4:
            settings["shift"] = 7.0
        if k == 5:
            config.power = 2
        if k == 6:
            Config.power, config = 9, Config()
        assert f(torch.ones(1)).item() == SCALE * factor + settings["shift"] + config.power
    SCALE = 2.0

    g = torch.compile(lambda x: x * 2.0 + random.random())
    with pytest.raises(torch.UnsupportedError, match="a Python number changes"):
        for _ in range(6):
            g(torch.ones(1))
    data = iter(range(100))
    h = torch.compile(lambda: torch.tensor([float(next(data))]) * 1.0)
    with pytest.raises(torch.UnsupportedError, match="data that it makes tensors of"):
        for k in range(9):
            assert h().item() == k


def test_5_counters_are_not_frozen():
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.calls = 0

        def forward(self, x):
            self.calls += 1
            return x + 1

    net = Net()
    f = torch.compile(net)
    with pytest.raises(torch.UnsupportedError, match="changes Net.calls"):
        for _ in range(5):
            f(torch.ones(1))
    g = torch.compile(net, fullgraph=False)
    before = net.calls
    for _ in range(6):
        g(torch.ones(1))
    assert net.calls == before + 6
    losses = []

    def keep(x):
        losses.append(x * 2)

    with pytest.raises(torch.UnsupportedError, match="losses"):
        for _ in range(5):
            torch.compile(keep)(torch.ones(1)) if not losses else kept(torch.ones(1))  # noqa: F821
            kept = torch.compile(keep)
            for _ in range(5):
                kept(torch.ones(1))
    assert all(x.item() == 2.0 for x in losses)


def test_1_a_gradient_that_is_also_known_otherwise():
    w = torch.ones(2, requires_grad=True)
    w.grad = g = torch.ones(2)
    f, h = torch.compile(lambda x: x * g), torch.compile(lambda x: x * w.grad)
    for k in range(8):
        if k >= 3:
            w.grad = torch.full((2,), float(k))
        assert f(torch.ones(2)).tolist() == [1.0, 1.0]
        assert h(torch.ones(2)).tolist() == w.grad.tolist()
    assert replayed(f, 1) and replayed(h, 2)


def test_5_containers_among_the_arguments_are_not_forgotten():
    def f(state, x):
        state["y"] = x * 2
        return state

    compiled = torch.compile(f)
    with pytest.raises(torch.UnsupportedError, match="a list or a dict among its arguments"):
        for k in range(5):
            state = {"y": None}
            compiled(state, torch.tensor(float(k)))
            assert state["y"].item() == 2.0 * k


def test_5_what_overridden_methods_read_is_guarded():
    class Base(torch.nn.Module):
        by = 1.0

        def forward(self, x):
            return x * SCALE * self.by

    class Net(Base):
        def forward(self, x):
            return super().forward(x) + 1

    global SCALE
    net = Net()
    f = torch.compile(net)
    for k in range(9):
        SCALE, Base.by = (2.0 if k < 3 else 3.0), (1.0 if k < 6 else 5.0)
        assert f(torch.ones(1)).item() == SCALE * Base.by + 1
    SCALE = 2.0


def test_requires_grad_of_an_argument_that_is_set_inside():
    def f(x):
        x.requires_grad_()
        (x * x).sum().backward()
        return x.grad

    compiled = torch.compile(f, fullgraph=False)
    for k in range(6):
        x = torch.tensor([float(k)])
        assert compiled(x).tolist() == [2.0 * k] and x.requires_grad and x.grad.tolist() == [2.0 * k]


def test_6_branches_are_not_frozen():
    def f(x):
        if x.sum() > 0:
            return x * 2
        return x - 1

    compiled = torch.compile(f)
    for _ in range(2):
        with pytest.raises(torch.UnsupportedError, match="a value was read at .*test_frozen.py, line") as error:
            compiled(torch.ones(2))
        assert "fullgraph=False" in str(error.value)
    x = torch.ones(2) * 3
    assert x.tolist() == [3.0, 3.0]

    allowed = torch.compile(f, fullgraph=False)
    for k in range(6):
        y = torch.full((2,), 1.0 if k % 2 else -1.0)
        assert same(allowed(y), f(y))
    assert not allowed.replays

    given = torch.compile(lambda x: x * 2 if x else x - 1)
    with pytest.raises(torch.UnsupportedError, match="a value was read"):
        given(torch.tensor(1.0))
    flag = torch.tensor(1.0)
    held = torch.compile(lambda x: x * flag.item())
    with pytest.raises(torch.UnsupportedError, match="a value was read"):
        held(torch.tensor(1.0))


def test_6_a_read_in_a_step_falls_back_in_the_middle():
    def make():
        w = torch.ones(2, requires_grad=True)
        o = torch.optim.SGD([w], lr=0.1)

        def step(x):
            o.zero_grad()
            loss = (w * x).sum()
            if loss > 1:
                loss = loss * 2
            loss.backward()
            o.step()
            return loss

        return step, lambda: [w]

    check(make, batches(6, 2), fullgraph=False)
