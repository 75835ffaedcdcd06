"""Random loops inside of scopes, rolled, compute what they do op by op without a scope."""

from __future__ import annotations

import functools
import itertools

import numpy as np
import pytest
from _bodies import B, F, H, T, caches, lanes, roll, run, weights  # noqa: F401
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import tracegrad as torch
from tracegrad._config import config
from tracegrad.func import grad
from tracegrad.utils.checkpoint import checkpoint as _checkpoint

vmap = torch.vmap
checkpoint = functools.partial(_checkpoint, use_reentrant=False)


STEPS = ["{a} @ p['U']", "torch.tanh({a} @ p['V'] + {b})", "torch.sin({a}) * {b}", "{a} + {b}", "{a} * {b}",
         "{a} - p['h'][0]", "{a} @ p['V'].t()", "{a} * torch.sigmoid(p['b'])", "{a} * {n}", "torch.softmax({a}, -1)",
         "{a}.detach() * {b}", "{a} * (t + 0.5)", "{a} + x[t]", "xs[t] * {a}", "{a} * x[T - 1 - t]", "F.relu({a})",
         "torch.where({a} > 0, {a}, {b})", "torch.cat([{a}, {b}], -1)[..., 1:4]", "torch.stack([{a}, {b}]).mean(0)",
         "F.embedding(({a} > 0).long(), p['V']).sum(-2)"]  # fmt: skip


@st.composite
def loops(draw):
    """Draw the source of a function of one example with one or two loops in it."""
    pick = lambda options: draw(st.sampled_from(options))  # noqa: E731
    chance = lambda n: draw(st.integers(1, n)) == n  # noqa: E731
    lines = ["def f(p, x, h):", "    xs, ys, total = list(x.unbind(0)), [], 0.0"]
    for second in range(draw(st.integers(1, 2))):
        states = [f"s{i}" for i in range(draw(st.integers(1, 3)))]
        starts = ["h", "x[0]", "torch.zeros_like(h)", "h * 2"] if not second else ["total + h"]
        lines += [f"    {s} = {pick(starts)}" for s in states]
        over = "range(T)"
        if second and chance(2):
            over = pick(["range(len(ys))", "reversed(range(len(ys)))"])
        lines += [f"    for t in {over}:"]
        values = list(states) + (["ys[t]"] if over != "range(T)" else [])
        for i in range(draw(st.integers(1, 4))):
            text = pick(STEPS).format(a=pick(values), b=pick(values), n=pick(["0.5", "2.0", "-1.0"]))
            how = draw(st.integers(0, 9))
            if how == 0:
                lines += ["        with torch.no_grad():", f"            v{i} = {text}"]
            elif how == 1:
                lines += [f"        v{i} = {text} if t != {pick([0, 2, 'T - 1'])} else {pick(states)} * 1.5"]
            elif how == 2:
                lines += [f"        v{i} = {pick(states)}", "        for _ in range(3):",
                          f"            v{i} = torch.tanh(v{i} @ p['U'] + {pick(values)})"]  # fmt: skip
            elif how == 3:
                lines += [f"        v{i} = {text}", f"        v{i}.mul_({pick(values)})"]
            else:
                lines += [f"        v{i} = {text}"]
            values.append(f"v{i}")
        new = [v for v in values if v.startswith("v")]
        if chance(2) and not second:
            lines += [f"        ys.append({pick(new)})"]
        if chance(2):
            lines += [f"        total = total + {pick(new)}.mean()"]
        news = [f"torch.tanh({pick(values) if chance(4) else pick(new)})" for _ in states]  # else they grow
        lines += [f"        {', '.join(states)} = {', '.join(news)}"]
        lines += [f"        {states[0]} = torch.tanh({states[0]} + {states[-1]})"]
        lines += [f"    total = total + ({states[0]} * {states[-1]}).sum()"]
    lines += ["    if ys: total = total + (torch.stack(ys, -1) ** 2).mean()"] * chance(2)
    lines += [f"    if ys: total = total + ys[{pick([0, 2, -1])}].sum()"] * chance(2)
    how = draw(st.integers(0, 4))
    if how in (0, 1):
        asked = pick(["[p['U']]", "[p['W'], h]", "[p['b'], p['V']]"])
        lines += ["    total = total + p['U'].sum() + p['W'].sum() + p['b'].sum() + p['V'].sum() + h.sum()",
                  f"    asked = [q for q in {asked} if q.requires_grad]",
                  f"    found = torch.autograd.grad(total, asked, retain_graph=True, create_graph={how == 1})",
                  "    total = total + sum((g * g).sum() for g in found) * p['b'].sum()"]  # fmt: skip
    elif how == 2:
        lines += ["    wanted = [y for y in ys if y.requires_grad][:3]",
                  "    if wanted and total.requires_grad: total = total * sum(g.sum() for g in torch.autograd.grad(",
                  "        total, wanted, retain_graph=True, allow_unused=True) if g is not None)"]  # fmt: skip
    return "\n".join([*lines, "    return total + p['b'].sum(), torch.tanh(s0)"])


def checkpointed(f, p):
    return checkpoint(lambda: f({k: v * 1 for k, v in p.items()}, p["x"][:, 0] * 1, p["h"][0] * 1))


def mapped(f, p):
    return vmap(lambda x, h: f({k: v * 1 for k, v in p.items()}, x * 1, h * 1), (1, 0))(p["x"], p["h"])


def mapped_gradients(f, p):
    fixed = {k: v.detach() for k, v in p.items()}
    w = weights(fixed)
    one = grad(lambda w, x, h: f({**fixed, **{k: v * 1 for k, v in w.items()}}, x * 1, h * 1)[0])
    return tuple(vmap(one, (None, 1, 0))(w, fixed["x"], fixed["h"]).values())


def in_both(f, p):
    return vmap(lambda x, h: checkpoint(lambda: f({k: v * 1 for k, v in p.items()}, x * 1, h * 1)), (1, 0))(
        p["x"], p["h"])


SCOPES = [checkpointed, mapped, mapped_gradients, in_both]


def plainly(scope, f, p):
    """Return what ``scope`` does without a scope."""
    if scope is checkpointed:
        return f({k: v * 1 for k, v in p.items()}, p["x"][:, 0] * 1, p["h"][0] * 1)
    if scope is not mapped_gradients:
        return lanes(lambda x, h: f({k: v * 1 for k, v in p.items()}, x * 1, h * 1), p)
    fixed = {k: v.detach() for k, v in p.items()}
    one = grad(lambda w, x, h: f({**fixed, **{k: v * 1 for k, v in w.items()}}, x * 1, h * 1)[0])
    return tuple(lanes(lambda x, h: one(weights(fixed), x, h), fixed).values())


def check_source(source, scope):
    space = {"torch": torch, "F": F, "T": T, "B": B, "H": H}
    exec(source, space)
    f = space["f"]
    with torch.eager():
        expected = run(lambda p: plainly(scope, f, p))
    config.roll = "always"
    for which in ("cold", "warm"):
        got = run(lambda p: scope(f, p))
        for i, (a, b) in enumerate(itertools.zip_longest(got, expected)):
            assert (a is None) == (b is None), (which, i, source)
            if a is not None:
                np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-10, err_msg=f"{which}, {i} of {scope}: {source}")


def random_loops(examples):
    return settings(max_examples=examples, deadline=None, derandomize=True, database=None, print_blob=False,
                    suppress_health_check=list(HealthCheck),
                    phases=(Phase.explicit, Phase.generate, Phase.shrink))  # fmt: skip


@random_loops(5)
@given(loops(), st.sampled_from(SCOPES))
def test_random_loops(source, scope):
    check_source(source, scope)


@pytest.mark.slow
@random_loops(200)
@given(loops(), st.sampled_from(SCOPES))
def test_many_random_loops(source, scope):
    check_source(source, scope)
