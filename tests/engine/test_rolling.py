"""Rolled loops compute what unrolled ones do, whatever the loop looks like and whenever it is read."""

from __future__ import annotations

import itertools

import _more_loops  # noqa: F401
import numpy as np
import pytest
from _loops import CASES, DIVIDED, B, F, H, T, check, numbers, parameters, rnn, run
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import tracegrad as torch
from tracegrad import _config
from tracegrad._config import config
from tracegrad._engine import loop, report, rolling
from tracegrad._engine.value import Piece


@pytest.fixture(autouse=True)
def roll():
    before = config.roll
    torch.clear_caches()
    torch.set_default_dtype(torch.float64)
    yield
    config.roll = before
    torch.set_default_dtype(torch.float32)
    torch.clear_caches()


@pytest.mark.parametrize("name", CASES)
def test_case(name):
    check(CASES[name], rolled=name not in DIVIDED)


# -- what is rolled, and said ------------------------------------------------------------------------------------------


def record_of(program):
    torch.clear_caches()
    config.roll = "auto"
    for _ in range(2):
        numbers(program())
    return max(report.totals.records[-3:], key=lambda r: r.ops)


def test_a_long_loop_is_said_to_be_rolled():
    h0 = torch.ones(B, H)

    def program():
        h = h0
        for _ in range(20):
            h = torch.tanh(h + 0.5)
        return h

    assert [loop.split(" at ")[0] for loop in record_of(program).loops] == ["20 trips of 2 operations"]
    assert "rolled: 20 trips of 2 operations at " in torch.explain()


def test_a_short_loop_is_not_rolled_and_says_why():
    h0 = torch.ones(B, H)

    def program():
        h = h0
        for _ in range(10):
            h = torch.tanh(h)
        for i in range(25):
            h = h * h.sum(0) if i % 3 == 1 else torch.cos(h) @ torch.ones(H, H) if i % 5 else h.exp()
        return h

    found = record_of(program)
    assert not found.loops
    assert "10 trips of 1 operations" in found.unrolled[0] and found.unrolled[0].endswith("too few to pay")
    assert "not rolled: 10 trips" in torch.explain()


@pytest.mark.parametrize("size, wants", [(32, True), (256, False)])
def test_layers_with_weights_of_their_own_are_not_rolled(size, wants):
    layers = [torch.ones(size, size).requires_grad_(wants) for _ in range(20)]
    x = torch.ones(B, size, requires_grad=True)

    def program():
        h = x
        for w in layers:
            h = torch.tanh(h @ w)
        h.sum().backward()
        return h

    found = record_of(program)
    assert not found.loops
    assert any(why.endswith("each trip has weights of its own") for why in found.unrolled)


def test_never_and_numbers_of_trips():
    def loops(roll):
        torch.clear_caches()
        config.roll = roll
        h = torch.ones(B, H)
        for _ in range(6):
            h = torch.tanh(h)
        h.numpy()
        return [loop for record in report.totals.records for loop in record.loops]

    assert not loops("never") and not loops("7") and not loops("auto")
    assert loops("6") and loops("always")


@pytest.mark.parametrize("text", ["sometimes", "1", "-3", ""])
def test_the_variable_is_checked(monkeypatch, text):
    monkeypatch.setenv("TRACEGRAD_ROLL", text)
    with pytest.raises(ValueError, match="TRACEGRAD_ROLL: expected auto, never, always or an integer"):
        _config._read()


def test_rows_are_cut_when_they_are_asked_for():
    config.roll = "always"
    hs = rnn(parameters())
    assert hs[-1].sum().item() is not None
    assert all(type(h._value.array) is Piece for h in hs[:-1])
    again = torch.tensor(0.0)
    for h in hs:
        again = again + h.sum()
    assert torch.allclose(again, sum(h.detach().sum() for h in hs))
    assert not any(type(h._value.array) is Piece for h in hs)


def test_a_long_loop_that_gradients_go_through_stays_in_one_program(compiled, monkeypatch):
    monkeypatch.setattr(config, "max_pending", 60)
    config.roll = "auto"
    p = parameters()

    def step():
        h = p["h0"].detach()
        for _ in range(100):
            h = torch.tanh(h @ p["U"])
        h.sum().backward()
        return p["U"].grad.sum().item()

    step()
    p["U"].grad = None
    compiled()
    step()
    assert compiled() == 0
    assert max(record.ops for record in report.totals.records) >= 200


def test_a_model_with_dropout_that_is_read_before_its_backward_is_rolled(compiled):
    config.roll = "auto"
    torch.manual_seed(0)
    emb, ih, hh, out = (torch.nn.Embedding(5, 3), torch.nn.Linear(3, 4 * H), torch.nn.Linear(H, 4 * H),
                        torch.nn.Linear(H, 5))  # fmt: skip
    params = [p for m in (emb, ih, hh, out) for p in m.parameters()]
    optimizer = torch.optim.Adam(params, 0.01)
    tokens = torch.randint(0, 5, (B, 13))
    kept = []

    def step():
        h = c = torch.zeros(B, H)
        logits = []
        for t in range(12):
            i, f, g, o = (ih(F.dropout(emb(tokens[:, t]), 0.1)) + hh(h)).chunk(4, 1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
            logits.append(out(h))
        loss = F.cross_entropy(torch.stack(logits, 1).reshape(-1, 5), tokens[:, 1:].reshape(-1))
        kept.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    for _ in range(3):
        step()
    compiled()
    step()
    assert compiled() == 0
    assert sum(bool(record.loops) for record in report.totals.records) >= 1
    assert not any("next iteration" in r.reason or "varies" in r.reason for r in report.totals.records)


def test_a_wrong_index_within_is_found():
    config.roll = "always"
    tokens, table = torch.tensor([[0, 1, 9, 0]]), torch.ones(3, 2)
    h = torch.zeros(1, 2)
    for t in range(4):
        h = torch.tanh(h + F.embedding(tokens[:, t] + 0, table))
    with pytest.raises(IndexError, match="index out of range in self"):
        h.numpy()


def test_the_place_of_a_number_stays_when_a_loop_becomes_hot():
    config.roll = "always"
    x = torch.ones(B, 40, H)
    h = torch.zeros(B, H)
    for t in range(40):
        h = torch.tanh(h + x[:, t])
    h.numpy()
    (loop,) = report.totals.records[-1].loops
    assert loop.startswith("39 trips")


def test_a_hook_within_ends_a_loop_and_says_so():
    config.roll = "always"
    run(CASES["hooked"])
    assert any(why.endswith("a hook, a custom Function or a gradient that is asked for ends the loop")
               for record in report.totals.records for why in record.unrolled)


@pytest.mark.parametrize("where, what", [(loop._Loop, "_scan"), (rolling._Search, "_grow")])
def test_what_cannot_be_emitted_runs_unrolled_and_says_so(monkeypatch, where, what):
    def broken(*args):
        raise AssertionError("no such loop")

    monkeypatch.setattr(where, what, broken)
    check(CASES["stacked_states"], rolled=False)
    assert "not rolled: all loops: AssertionError" in torch.explain()


# -- random loops ------------------------------------------------------------------------------------------------------

STEPS = ["{a} @ p['U']", "torch.tanh({a} @ p['V'] + {b})", "torch.sin({a}) * {b}", "{a} + {b}", "{a} * {b}",
         "{a} - p['h0']", "{a} @ p['V'].t()", "{a} * torch.sigmoid(p['b'])", "{a} * {n}", "torch.softmax({a}, 1)",
         "{a}.detach() * {b}", "F.dropout({a}, 0.5)", "{a} * (t + 0.5)", "{a} + p['x'][:, t]", "xs[t] * {a}",
         "{a} * p['x'][:, T - 1 - t]", "torch.where({a} > 0, {a}, {b})", "torch.cat([{a}, {b}], 1)[:, 1:4]",
         "{a}.cos().sum(0) + {b}", "torch.stack([{a}, {b}]).mean(0)"]  # fmt: skip


@st.composite
def loops(draw):
    """Draw the source of a function with one or two loops in it."""
    pick = lambda options: draw(st.sampled_from(options))  # noqa: E731
    chance = lambda n: draw(st.integers(1, n)) == n  # noqa: E731
    lines = ["def program(p):", "    xs, ys, zs = list(p['x'].unbind(1)), [], []", "    total = 0.0"]
    for second in range(draw(st.integers(1, 2))):
        states = [f"s{i}" for i in range(draw(st.integers(1, 3)))]
        starts = ["p['h0']", "p['x'][:, 0]", "torch.zeros(B, H)", "p['h0'] * 2"] if not second else ["total + p['h0']"]
        lines += [f"    {s} = {pick(starts)}" for s in states]
        over = "range(T)"
        if second and chance(2):
            over = pick(["range(len(ys))", "reversed(range(len(ys)))"])
        lines += [f"    for t in {over}:"]
        values = list(states) + (["ys[t]"] if over != "range(T)" else [])
        for i in range(draw(st.integers(1, 5))):
            text = pick(STEPS).format(a=pick(values), b=pick(values), n=pick(["0.5", "2.0", "-1.0"]))
            how = draw(st.integers(0, 9))
            if how == 0:
                lines += ["        with torch.no_grad():", f"            v{i} = {text}"]
            elif how == 1:
                lines += [f"        v{i} = {text} if t != {pick([0, 2, 'T - 1'])} else {pick(states)} * 1.5"]
            elif how == 2:
                lines += [f"        v{i} = {pick(states)}", "        for _ in range(3):",
                          f"            v{i} = torch.tanh(v{i} @ p['U'] + {pick(values)})"]  # fmt: skip
            else:
                lines += [f"        v{i} = {text}"]
            values.append(f"v{i}")
        new = [v for v in values if v.startswith("v")]
        if chance(2) and not second:
            lines += [f"        ys.append({pick(new)})"]
        if chance(2):
            lines += [f"        zs.append({pick(new)}.sum())"]
        if chance(2):
            lines += [f"        total = total + {pick(new)}.mean()"]
        old = f", {states[-1]}" if chance(4) and len(states) > 1 else ""
        news = [pick(values) if chance(4) else pick(new) for _ in states]
        lines += [f"        {', '.join(states)} = {', '.join(news)}"]
        lines += [f"        {states[0]} = torch.tanh({states[0]} + {states[-1]}{'' if not old else ' * 0.5'})"]
        lines += [f"    total = total + ({states[0]} * {states[-1]}).sum()"]
    lines += ["    if ys: total = total + (torch.stack(ys, 1) ** 2).mean()"] * chance(2)
    lines += [f"    if ys: total = total + ys[{pick([0, 2, -1])}].sum()"] * chance(2)
    lines += ["    if zs: total = total + sum(zs)"] * chance(2)
    lines += ["    total.item()"] * chance(2)
    lines += ["    total = total + p['b'].sum()"]
    how = draw(st.integers(0, 4))
    if how == 0:
        lines += ["    if zs and zs[2].requires_grad: zs[2].backward(retain_graph=True)"]
    if how == 1:
        lines += ["    found = torch.autograd.grad(total, [p['U'], p['h0']], retain_graph=True, allow_unused=True)"]
        lines += ["    zs += [g for g in found if g is not None]"]
    if how == 2:
        lines += ["    wanted = [y for y in ys if y.requires_grad][:3]",
                  "    if wanted: zs += [g for g in torch.autograd.grad(total, wanted, retain_graph=True, "
                  "allow_unused=True) if g is not None]"]  # fmt: skip
    if how == 3:
        lines += ["    total.backward(retain_graph=True)"]
    return "\n".join([*lines, "    total.backward()", "    return total, ys, zs"])


def check_source(source):
    space = {"torch": torch, "F": F, "T": T, "B": B, "H": H}
    exec(source, space)
    with torch.eager():
        expected = run(space["program"])
    config.roll = "always"
    for which in ("cold", "warm"):
        got = run(space["program"])
        for i, (a, b) in enumerate(itertools.zip_longest(got, expected)):
            assert (a is None) == (b is None), (which, i)
            if a is not None:
                np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11, err_msg=f"{which}, {i} of {source}")


def random_loops(examples):
    return settings(max_examples=examples, deadline=None, derandomize=True, database=None, print_blob=False,
                    suppress_health_check=list(HealthCheck),
                    phases=(Phase.explicit, Phase.generate, Phase.shrink))  # fmt: skip


@random_loops(12)
@given(loops())
def test_random_loops(source):
    check_source(source)


@pytest.mark.slow
@random_loops(60)
@given(loops())
def test_many_random_loops(source):
    check_source(source)
