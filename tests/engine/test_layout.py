"""What was cut out of arrays in a program is put together from where it lies, with the same elements."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tracegrad as torch
from tracegrad import nn
from tracegrad._config import config
from tracegrad._engine import layout, report


def operations(fn, *args):
    """Return what ``fn`` computes, and how many operations its program has before XLA sees it."""
    with layout.recognised():
        traced = jax.make_jaxpr(fn)(*args)
    (out,) = jax.core.eval_jaxpr(traced.jaxpr, traced.consts, *args)
    used = jax.jit(lambda *args: jax.core.eval_jaxpr(traced.jaxpr, traced.consts, *args)).trace(*args).lower()
    return np.asarray(out), used.as_text().count("stablehlo.slice")


@pytest.mark.parametrize(("sizes", "which"), [((4, 2), 0), ((4, 2), 1), ((6,), 0), ((1, 5, 3), 2)])
def test_pieces_at_equal_distances_are_rows_of_their_array(sizes, which):
    count = 5
    shapes = [(n // 2, 2) if n % 2 == 0 else (n,) for n in sizes] * count
    flat = jnp.arange(float(sum(sizes) * count))
    got, slices = operations(lambda a: layout.stacked(layout.cut(a, shapes)[which :: len(sizes)]), flat)
    expected = np.stack(layout.cut(np.asarray(flat), shapes)[which :: len(sizes)])
    np.testing.assert_array_equal(got, expected)
    assert slices < count + len(shapes)  # those that nobody uses, and not one of each row


@pytest.mark.parametrize("order", [[0, 2, 1], [2, 1, 0], [0, 0, 0], [0, 1, 3], [1]])
def test_pieces_elsewhere_are_not(order):
    def fn(flat):
        pieces = layout.cut(flat, [(2,)] * 4)
        assert layout.stacked([pieces[i] for i in order]) is None
        assert layout.stacked([*pieces[:2], flat[:2]]) is None
        return flat

    operations(fn, jnp.arange(8.0))


def test_outside_of_programs_nothing_is_remembered():
    pieces = layout.cut(jnp.arange(8.0), [(2,)] * 4)
    assert layout.stacked(pieces) is None
    assert layout.joined(pieces).tolist() == list(range(8))


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_what_is_joined_has_the_elements_in_order(data):
    stacks = [jnp.arange(100.0 * k, 100.0 * k + n * m).reshape(n, m) for k, (n, m) in enumerate(
        data.draw(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 3)), min_size=1, max_size=3)))]  # fmt: skip
    places = [(k, i) for k, s in enumerate(stacks) for i in range(len(s))]
    turns = [(k, i) for i in range(max(map(len, stacks))) for k, s in enumerate(stacks) if i < len(s)]
    some = st.lists(st.sampled_from(places), min_size=1)
    chosen = data.draw(st.one_of(st.just(turns), st.permutations(places), some))
    other = data.draw(st.sets(st.integers(0, len(chosen) - 1)))

    def fn(*stacks):
        arrays = [layout.row(stacks[k], i) for k, i in chosen]
        return layout.joined([a * 1 if n in other else a for n, a in enumerate(arrays)])

    got, _ = operations(fn, *stacks)
    np.testing.assert_array_equal(got, np.concatenate([np.asarray(stacks[k])[i] for k, i in chosen]))


def test_rows_that_take_turns_are_joined_without_a_copy_of_each():
    stacks = jnp.arange(120.0).reshape(40, 3), jnp.arange(40.0).reshape(40, 1)

    def fn(a, b):
        rows = [layout.row(stack, i) for i in range(40) for stack in (a, b)]
        return layout.joined([jnp.zeros(2), *rows, jnp.ones(1)])

    with layout.recognised():
        text = str(jax.make_jaxpr(fn)(*stacks))
    assert "concatenate[dimension=1]" in text
    got, _ = operations(fn, *stacks)
    rows = itertools.chain.from_iterable((*np.asarray(stacks[0])[i], float(i)) for i in range(40))
    assert got.tolist() == [0, 0, *rows, 1]


class Deep(nn.Module):
    """Layers with weights of their own, between others; some shared, some frozen."""

    def __init__(self, how):
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(6))
        self.scales = nn.ParameterList(torch.ones(4) * (1 + i / 10) for i in range(6))
        self.last = nn.Linear(4, 2)
        self.how = how
        if how == "frozen":
            for layer in self.layers[2:3]:
                layer.weight.requires_grad_(False)

    def forward(self, x):
        x, layers = self.first(x), list(self.layers)
        if self.how == "backwards":
            layers.reverse()
        if self.how == "one twice":
            layers[5] = layers[2]
        if self.how == "some":
            layers = layers[1:]
        for i, layer in enumerate(layers):
            x = x + torch.tanh(layer(x)) * self.scales[i]
            if self.how == "also elsewhere" and i == 5:
                x = x + layers[3].bias
        return self.last(x)


@pytest.mark.parametrize(("how", "optimizer", "read"), [
    ("plain", "SGD", False), ("plain", "Adam", True), ("frozen", "Adam", False), ("backwards", "SGD", True),
    ("one twice", "Adam", False), ("some", "Adam", True), ("also elsewhere", "SGD", False),
])  # fmt: skip
def test_deep_models_train_as_unrolled_ones_do(how, optimizer, read):
    def trained(roll):
        config.roll = roll
        torch.clear_caches()
        torch.manual_seed(0)
        model = Deep(how).double()
        optimize = getattr(torch.optim, optimizer)(model.parameters(), lr=0.05)
        x = torch.linspace(-1, 1, 15, dtype=torch.float64).view(5, 3)
        seen = []
        for step in range(3):
            optimize.zero_grad(set_to_none=step != 1)
            loss = (model(x) ** 2).sum()
            if read:
                seen.append(loss.item())
            loss.backward()
            if read:
                seen.extend(p.grad.tolist() for p in model.layers[2].parameters() if p.grad is not None)
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimize.step()
        rolled = any(record.loops for record in report.totals.records)
        return rolled, [np.array(a) for a in seen] + [p.detach().numpy() for p in model.parameters()]

    before = config.roll
    try:
        rolled, got = trained("always")
        unrolled, expected = trained("never")
    finally:
        config.roll = before
    assert (rolled, unrolled) == (True, False)
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)
