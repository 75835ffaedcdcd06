"""Random training programs of deep models, against PyTorch: layers of equal and other shapes, tied, frozen, views.

What stands between the steps reads, writes, shares, converts, saves and loads parameters, gradients and states.
"""

# ruff: noqa: E501 (tables of statements)
from __future__ import annotations

import contextlib
import copy
import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

import tracegrad
from tracegrad._config import config

MODEL = """
def param(seed, *shape):
    return torch.nn.Parameter(torch.tensor(np.random.default_rng(seed).standard_normal(shape) * 0.5))

class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = torch.nn.Linear(2, 3).double(), torch.nn.Linear(3, 1).double()
        self.lin = torch.nn.ModuleList(torch.nn.Linear(3, 3).double() for _ in range(4))
        self.wide = torch.nn.ParameterList(param(i, 3, 1 + i % {inner}) for i in range(4))
        self.back = torch.nn.ParameterList(param(9 + i, 1 + i % {inner}, 3) for i in range(4))
        self.scale = torch.nn.ParameterList(param(20 + i, 3) for i in range(4))
        self.tied = torch.nn.ParameterList(self.scale[i % 2] for i in range(4))
        self.base = torch.tensor(np.random.default_rng(5).standard_normal(12))
        self.parts = torch.nn.ParameterList(torch.nn.Parameter(self.base[3 * i : 3 * i + 3]) for i in range(4))
        self.rows = param(40, 4, 3, 3)
        for k, p in enumerate(self.parameters()):
            p.data.copy_(torch.tensor(np.random.default_rng(k).standard_normal(tuple(p.shape)) * 0.5))
            p.requires_grad_(k not in {frozen})

    def forward(self, x):
        x, hs = self.first(x), []
        for i in {order}:
            hs.append(x)
            {layer}
        return self.last({out})

m = Model()
ps = lambda: list(m.parameters())
make = lambda m: {optimizer}
o, h = make(m), {{}}
sd, od = copy.deepcopy(m.state_dict()), copy.deepcopy(o.state_dict())
x = torch.tensor(np.random.default_rng(1).standard_normal((4, 2)))
states = lambda: [v for s in o.state.values() for v in s.values() if v.dim()]
"""
LAYERS = ["x = x + torch.tanh(self.lin[i](x))", "x = x + torch.tanh(x @ self.wide[i]) @ self.back[i]",
          "x = torch.addcmul(self.parts[i] * 0.1, x, self.scale[i])", "x = x + self.tied[i] * self.scale[i]",
          "x = x + torch.sin(x @ self.rows[i])", "x = x + self.rows.unbind(0)[i].mean(0)"]
ORDERS = ["range(4)", "reversed(range(4))", "[0, 1, 2, 3, 1]", "range(1, 4)", "[i for i in range(4) if i != step]"]
OUTS = ["x", "x + hs[1]", "torch.stack(hs).mean(0)"]
OPTIMIZERS = ["torch.optim.SGD(m.parameters(), lr=0.05)", "torch.optim.SGD(m.parameters(), lr=0.05, momentum=0.9)",
              "torch.optim.Adam(m.parameters(), lr=0.02, eps=1e-3)", "torch.optim.AdamW([p for p in m.parameters() if p.requires_grad], lr=0.02, eps=1e-3, amsgrad=True)",
              "torch.optim.Adam([{'params': ps()[::2]}, {'params': ps()[1::2], 'lr': 0.003}], lr=0.02, eps=1e-3)"]
BEFORE = ["o.zero_grad()", "o.zero_grad(set_to_none=False)", "m.zero_grad()", "pass", "for p in ps()[::2]: p.grad = None"]
LOSSES = ["(m(x) ** 2).sum().backward()", "loss = m(x).tanh().sum(); see(loss); loss.backward()",
          "loss = (m(x) ** 2).sum(); loss.backward(retain_graph=True); (loss * 0.5).backward()",
          "(m(x) + m(x * 0.5)).sum().backward(inputs=[p for p in ps() if p.requires_grad][::2])"]
AFTER = ["pass", "torch.nn.utils.clip_grad_norm_(m.parameters(), 0.7)", "see(*[p.grad for p in ps()][::3])",
         "h['grads'] = [p.grad for p in ps()]", "ps()[K].grad = torch.ones_like(ps()[K])", "ps()[K].grad is None or ps()[K].grad[0].zero_()"]
BETWEEN = ["pass", "with torch.no_grad(): ps()[K].mul_(0.9)", "ps()[K].data[0] = 0.3", "ps()[K].data = ps()[K].data * 0.9",
           "sd = m.state_dict()", "m.load_state_dict(sd)", "od = o.state_dict()", "o.load_state_dict(od)", "see(*ps()[::4])", "see(*states()[:3])",
           "m = copy.deepcopy(m); o = make(m)", "h['alias'] = [p.detach() for p in ps()]", "h['later'] = ps()[K] * 2", "o.param_groups[-1]['lr'] *= 0.5",
           "torch.nn.utils.vector_to_parameters(torch.nn.utils.parameters_to_vector(ps()) * 0.9, ps())", "ps()[K].requires_grad_(False)", "o.state.pop(ps()[K], None)",
           "a, b = ps()[K], ps()[K + 1]; a.data, b.data = (b.data, a.data) if a.shape == b.shape else (a.data, b.data)",
           "[s.mul_(0.5) for s in states()[1::4]]", "m.scale[K % 4] = m.scale[K % 3]", "m.float().double()"]  # fmt: skip


@st.composite
def programs(draw):
    """Return the lines that make a model, and those of a step, some with the step in which alone they run."""
    pick = lambda *pools: [draw(st.sampled_from(pool)).replace("K", str(draw(st.integers(0, 9)))) for pool in pools]  # noqa: E731
    layers = draw(st.lists(st.sampled_from(LAYERS), min_size=1, max_size=2, unique=True))
    order, out, optimizer = pick(ORDERS, OUTS, OPTIMIZERS)
    frozen = draw(st.lists(st.integers(0, 20), max_size=4))
    made = MODEL.format(inner=draw(st.integers(1, 2)), frozen=frozen, order=order, layer="\n            ".join(layers),
                        out=out, optimizer=optimizer)  # fmt: skip
    lines = [(None, line) for line in pick(BEFORE, LOSSES, AFTER)] + [(None, "o.step()")]
    lines += [(draw(st.integers(0, 2)), line) for line in pick(BETWEEN, BETWEEN, BETWEEN)]
    return made, lines


def trained(torch, program, roll="auto"):
    """Return what a program showed, and what it left behind."""
    seen, (made, lines) = [], program
    space = {"torch": torch, "np": np, "copy": copy, "step": 0, "see": lambda *xs: seen.extend(map(plain, xs))}
    before, config.roll = config.roll, roll
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exec(made, space)
            for space["step"] in range(4):
                for only, line in lines:
                    if only in (None, space["step"]):
                        try:
                            exec(line, space)
                        except (RuntimeError, ValueError) as error:
                            return [*seen, (type(error).__name__, line, np.zeros(()))]
        m, held = space["m"], space["h"]
        left = [*m.parameters(), *(p.grad for p in m.parameters()), m.base, *space["states"](), *space["sd"].values()]
        return seen + [plain(x) for x in (*left, *held.get("grads", ()), *held.get("alias", ()), held.get("later"))]
    finally:
        config.roll = before


def plain(x):
    return None if x is None else (str(x.dtype), x.requires_grad, np.array(x.detach().tolist()))


def alike(a, b):
    assert len(a) == len(b)
    for i, (x, y) in enumerate(zip(a, b)):
        assert (x and x[:2]) == (y and y[:2]), i
        if x is not None:
            np.testing.assert_allclose(x[2], y[2], rtol=1e-6, atol=1e-7, err_msg=str(i))


def check(program, way):
    expected = trained(pytest.importorskip("torch", reason="PyTorch is the oracle: pip install -e .[oracle]"), program)
    assume(all(x is None or np.abs(x[2]).max() < 100 for x in expected))  # what grows without bounds is rounding
    alike(trained(tracegrad, program, "always"), expected)
    with tracegrad.eager() if way == "eager" else contextlib.nullcontext():
        alike(trained(tracegrad, program, "always" if way == "eager" else way), expected)


def at_random(examples):
    return settings(max_examples=examples, deadline=None, derandomize=True, database=None, print_blob=False,
                    suppress_health_check=list(HealthCheck), phases=(Phase.explicit, Phase.generate))  # fmt: skip


WAYS = st.sampled_from(["always", "always", "never", "eager"])


@pytest.mark.oracle
@at_random(3)
@given(programs(), WAYS)
def test_training_is_pytorchs(program, way):
    check(program, way)


@pytest.mark.slow
@pytest.mark.oracle
@at_random(60)
@given(programs(), WAYS)
def test_much_training_is_pytorchs(program, way):
    check(program, way)
