"""Compare gradients of imperative code with JAX's of the same mathematics, and run one inside the other.

Run it with ``python examples/compare_with_jax.py``.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

import tracegrad as torch
import tracegrad.nn.functional as F
from tracegrad.testing import assert_matches_jax


def network(x, w1, b1, w2, target):
    """A small network, written for tensors ..."""
    hidden = torch.tanh(x @ w1 + b1)
    return F.cross_entropy(hidden @ w2, target)


def network_jax(x, w1, b1, w2, target):
    """... and for arrays."""
    log_probabilities = jax.nn.log_softmax(jnp.tanh(x @ w1 + b1) @ w2)
    return -log_probabilities[jnp.arange(len(target)), target].mean()


def attention(q, k, v):
    """Causal attention, written for tensors ..."""
    scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5
    hidden = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
    return scores.masked_fill(hidden, float("-inf")).softmax(-1) @ v


def attention_jax(q, k, v):
    """... and for arrays."""
    scores = q @ jnp.swapaxes(k, -2, -1) / q.shape[-1] ** 0.5
    hidden = jnp.triu(jnp.ones(scores.shape[-2:], bool), 1)
    return jax.nn.softmax(jnp.where(hidden, -jnp.inf, scores), -1) @ v


def until_large(x):
    """A loop that looks at the values: JAX cannot trace it, and every run of it can be differentiated."""
    y = x
    while y.detach().norm() < 100:
        y = y * y + x
    return y


def count_turns(start):
    """Return how many turns that loop takes: JAX has to be told."""
    y, turns = start, 0
    while np.linalg.norm(y) < 100:
        y, turns = y * y + start, turns + 1
    return turns


def show(what: str) -> None:
    print(f"  the same values and gradients: {what}")


def main() -> None:
    random = np.random.default_rng(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.tensor(random.standard_normal(shape))

    print("In float64, which agrees to nine digits:")
    assert_matches_jax(lambda x, y: (x * y / (x + 3)).sum(), draw(4, 5).abs(), draw(5))
    show("one function for both, in operators alone")
    parameters = (draw(8, 6), draw(6, 7), draw(7), draw(7, 3), torch.tensor(random.integers(0, 3, 8)))
    assert_matches_jax(network, *parameters, jax_function=network_jax)
    show("a network and its cross entropy")
    assert_matches_jax(attention, draw(2, 6, 4), draw(2, 6, 4), draw(2, 6, 4), jax_function=attention_jax)
    show("causal attention, along a random direction")
    assert_matches_jax(lambda z: (z.exp() * z).abs().sum(), draw(4) + 1j * draw(4),
                       jax_function=lambda z: jnp.abs(jnp.exp(z) * z).sum())  # fmt: skip
    show("complex numbers")

    x = torch.tensor([1.1, 0.7], dtype=torch.float64)
    turns = count_turns(x.numpy())

    def unrolled(x):
        y = x
        for _ in range(turns):
            y = y * y + x
        return y

    assert_matches_jax(until_large, x, jax_function=unrolled)
    show(f"a loop that went round {turns} times, because of the values")

    print("In float32 and bfloat16, with tolerances to match:")
    for dtype in (torch.float32, torch.bfloat16):
        x, y = draw(4, 5).to(dtype), draw(5).to(dtype)
        assert_matches_jax(lambda x, y: (x * y).sum(), x, y)
        show(f"a product in {dtype}")

    print("A difference is reported with the argument's name:")
    try:
        assert_matches_jax(lambda weight, x: (weight.detach() * weight * x).sum(), draw(3), draw(3),
                           jax_function=lambda weight, x: (weight * weight * x).sum())  # fmt: skip
    except AssertionError as error:
        print(f"  {error}")
    else:
        raise AssertionError("a forgotten factor must be noticed")

    print("And the imperative code itself runs under JAX's transformations:")

    def on_arrays(array):
        t = torch.from_jax(array)
        return torch.sin(t * t).sum().jax()

    point = jnp.linspace(0.0, 1.0, 4)
    expected = 2 * point * jnp.cos(point * point)
    np.testing.assert_allclose(jax.grad(on_arrays)(point), expected, rtol=1e-5)
    np.testing.assert_allclose(jax.jit(jax.grad(on_arrays))(point), expected, rtol=1e-5)
    print("  jax.grad and jax.jit(jax.grad) of a function that uses tensors")


if __name__ == "__main__":
    main()
