"""Programs with convolutions hold images with channels last: what they compute is the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

import tracegrad
from tracegrad import nn
from tracegrad._engine import orders

#: What may stand between convolutions: functions of an array of any shape and a number that says how.
STEPS: dict[str, Callable[[Any, int], Any]] = {
    "transpose": lambda x, n: jnp.transpose(x, np.random.default_rng(n).permutation(x.ndim)),
    "join": lambda x, n: x.reshape(*x.shape[: n % x.ndim], -1, *x.shape[n % x.ndim + 2 :]),
    "split": lambda x, n: x.reshape(*x.shape[: n % x.ndim], *_halves(x.shape[n % x.ndim]), *x.shape[n % x.ndim + 1 :]),
    "flatten out of order": lambda x, n: lax.reshape(x, (x.size,), tuple(np.random.default_rng(n).permutation(x.ndim))),
    "expand": lambda x, n: jnp.expand_dims(x, n % (x.ndim + 1)),
    "squeeze": lambda x, n: jnp.squeeze(x),
    "pad": lambda x, n: jnp.pad(x, [(n % 3, i % 2) for i in range(x.ndim)], constant_values=0.5),
    "slice": lambda x, n: x[tuple(slice(i % 2 if s > 1 else 0, None, 1 + n % 2) for i, s in enumerate(x.shape))],
    "reverse": lambda x, n: jnp.flip(x, n % x.ndim),
    "stack": lambda x, n: jnp.stack([x, x * 2], n % (x.ndim + 1)),
    "concatenate": lambda x, n: jnp.concatenate([x, jnp.ones_like(x)], n % x.ndim),
    "mean, kept": lambda x, n: x - x.mean(n % x.ndim, keepdims=True),
    "sum": lambda x, n: x.sum(n % x.ndim),
    "channels": lambda x, n: x * jnp.arange(x.shape[n % x.ndim]).reshape(-1, *(1,) * (x.ndim - 1 - n % x.ndim)),
    "select": lambda x, n: jnp.where(x > 0.1 * n, x, jnp.zeros((), x.dtype)),
    "of a transpose": lambda x, n: x + x.T if x.shape == x.T.shape else x,
    "custom": lambda x, n: jax.nn.relu(x),
    "cumulate": lambda x, n: jnp.cumsum(x, n % x.ndim),
    "product": lambda x, n: jnp.tensordot(x, x, axes=([n % x.ndim], [n % x.ndim])) if x.size < 200 else x,
    "loop": lambda x, n: lax.fori_loop(0, 2, lambda _, y: y * 0.5, x),
}  # fmt: skip


def _halves(size: int) -> tuple[int, ...]:
    return (size // 2, 2) if size % 2 == 0 else (size,)


def convolve(x: Any, w: Any, groups: int = 1) -> Any:
    return lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=("NCHW", "OIHW", "NCHW"),
                                    feature_group_count=groups)  # fmt: skip


def network(steps: list[tuple[str, int]]) -> Callable[..., Any]:
    def run(x: Any, w: Any, grouped: Any) -> Any:
        y = convolve(jnp.sin(convolve(x, w)), grouped, 2)
        kept = [y]
        for name, n in steps:
            if y.ndim:
                y = STEPS[name](y, n)
        kept.append(y)
        if y.ndim == 4:
            kept.append(convolve(y, jnp.ones((2, y.shape[1], 1, 3), y.dtype)))
        return kept

    return run


RNG = np.random.default_rng(0)
OPERANDS = [RNG.standard_normal(s) for s in ((2, 3, 4, 4), (4, 3, 3, 3), (4, 2, 3, 3))]


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(sorted(STEPS)), st.integers(0, 11)), max_size=5), st.booleans())
def test_any_steps_between_convolutions(steps: list[tuple[str, int]], backward: bool) -> None:
    run = network(steps)

    def whole(*operands: Any) -> Any:
        if not backward:
            return run(*operands)
        outs, pull = jax.vjp(run, *operands)
        return outs, pull([jnp.cos(y) for y in outs])

    with jax.enable_x64(True):
        operands = [jnp.asarray(a) for a in OPERANDS]
        traced = jax.jit(whole).trace(*operands)
        assert orders.pays(traced)
        program = jax.jit(lambda *args: (whole(*args), orders.reordered(traced)(*args)))
        expected, found = program.lower(*operands).compile({"xla_backend_optimization_level": 0})(*operands)
    assert jax.tree.structure(expected) == jax.tree.structure(found)
    for e, f in zip(jax.tree.leaves(expected), jax.tree.leaves(found)):
        assert e.shape == f.shape and e.dtype == f.dtype
        np.testing.assert_allclose(f, e, rtol=1e-9, atol=1e-9)


def test_transposes_between_convolutions_are_gone() -> None:
    def run(x: Any, w: Any, s: Any) -> Any:
        y = convolve(x, w)
        y = jax.nn.relu((y - y.mean((0, 2, 3), keepdims=True)) * s[:, None, None])
        return convolve(y, w).sum((2, 3))

    args = jnp.ones((2, 3, 4, 4)), jnp.ones((3, 3, 3, 3)), jnp.ones(3)
    text = str(jax.jit(orders.reordered(jax.jit(run).trace(*args))).trace(*args).jaxpr)
    assert text.count("f32[2,4,4,3] = transpose") == 1 and "f32[2,3,4,4] = transpose" not in text


class Block(nn.Module):
    """A residual block with everything that images go through."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.short, self.norm1, self.norm2 = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.BatchNorm2d(4)
        self.head = nn.Linear(4 * 2 * 2, 3)

    def forward(self, x: Any) -> Any:
        y = nn.functional.relu(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y)) + self.short(x)
        y = tracegrad.cat([y[:, :2].flip(3), nn.functional.max_pool2d(y, 3, 1, 1)[:, 2:]], 1)
        return self.head(nn.functional.avg_pool2d(y, 2).flatten(1))


def steps(monkeypatch: pytest.MonkeyPatch, reordering: bool, read: bool) -> list[Any]:
    """Train for three steps; return the losses, weights and statistics."""
    if not reordering:
        monkeypatch.setattr(orders, "pays", lambda traced: False)
    tracegrad.clear_caches()
    tracegrad.manual_seed(0)
    model = Block().double()
    optimizer = tracegrad.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    x, y = tracegrad.tensor(OPERANDS[0]), tracegrad.tensor([0, 2])
    found = []
    for _ in range(3):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        if read:
            found.append(loss.item())
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    monkeypatch.undo()
    return [*found, *(t.tolist() for t in model.state_dict().values())]


@pytest.mark.parametrize("read", [False, True])
def test_training_is_the_same(monkeypatch: pytest.MonkeyPatch, read: bool) -> None:
    for a, b in zip(steps(monkeypatch, True, read), steps(monkeypatch, False, read), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)
