"""The same training steps as a JAX user writes them: plain jax.numpy, one ``jax.jit``, optax, donation."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from problems import (
    BLOCKS,
    CHANNELS,
    CROP,
    HEADS,
    HIDDEN,
    IMAGE,
    LAYERS,
    MICRO_STEPS,
    TOKENS,
    WIDTH,
    Batch,
    Problem,
    Weights,
)  # fmt: skip
from torch_steps import ten

Params = dict[str, Any]
Loss = Callable[..., jax.Array]


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def linear(p: Params, name: str, x: jax.Array) -> jax.Array:
    return x @ p[f"{name}.weight"] + p[f"{name}.bias"]


def perceptron(p: Params, x: jax.Array) -> jax.Array:
    x = jax.nn.relu(linear(p, "0", x))
    x = jax.nn.relu(linear(p, "2", x))
    return linear(p, "4", x)


def mlp(p: Params, x: jax.Array, y: jax.Array) -> jax.Array:
    return cross_entropy(perceptron(p, x), y)


def cnn(p: Params, x: jax.Array, y: jax.Array) -> jax.Array:
    for name in ("0", "3"):
        x = jax.lax.conv_general_dilated(
            x, p[f"{name}.weight"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))  # fmt: skip
        x = jax.nn.relu(x + p[f"{name}.bias"])
        x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    return cross_entropy(linear(p, "7", x.reshape(x.shape[0], -1)), y)


def layer_norm(p: Params, name: str, x: jax.Array) -> jax.Array:
    mean = x.mean(-1, keepdims=True)
    variance = x.var(-1, keepdims=True)
    return (x - mean) * jax.lax.rsqrt(variance + 1e-5) * p[f"{name}.weight"] + p[f"{name}.bias"]


def attention(p: Params, name: str, x: jax.Array) -> jax.Array:
    B, T, C = x.shape
    q, k, v = jnp.split(linear(p, f"{name}.c_attn", x), 3, axis=-1)
    q, k, v = (t.reshape(B, T, HEADS, C // HEADS).transpose(0, 2, 1, 3) for t in (q, k, v))
    att = q @ k.swapaxes(-2, -1) * (C // HEADS) ** -0.5
    att = jnp.where(jnp.tril(jnp.ones((T, T), bool)), att, -jnp.inf)
    y = jax.nn.softmax(att, axis=-1) @ v
    return linear(p, f"{name}.c_proj", y.transpose(0, 2, 1, 3).reshape(B, T, C))


def gpt(p: Params, tokens: jax.Array, y: jax.Array) -> jax.Array:
    x = p["wte.weight"][tokens] + p["wpe.weight"][: tokens.shape[1]]
    for i in range(LAYERS):
        x = x + attention(p, f"h.{i}.attn", layer_norm(p, f"h.{i}.ln_1", x))
        hidden = jax.nn.gelu(linear(p, f"h.{i}.c_fc", layer_norm(p, f"h.{i}.ln_2", x)), approximate=True)
        x = x + linear(p, f"h.{i}.c_proj", hidden)
    return cross_entropy(linear(p, "lm_head", layer_norm(p, "ln_f", x)), y)


def bag(p: Params, ids: jax.Array, y: jax.Array) -> jax.Array:
    return cross_entropy(linear(p, "out", p["embedding.weight"][ids].mean(1)), y)


def critic(p: Params, x: jax.Array) -> jax.Array:
    x = jnp.tanh(linear(p, "0", x))
    x = jnp.tanh(linear(p, "2", x))
    return linear(p, "4", x)[..., 0]


def penalty(p: Params, real: jax.Array, fake: jax.Array, alpha: jax.Array) -> jax.Array:
    between = alpha * real + (1 - alpha) * fake
    slope = jax.vmap(jax.grad(critic, argnums=1), (None, 0))(p, between)
    gradient_penalty = ((jnp.linalg.norm(slope, axis=1) - 1) ** 2).mean()
    return critic(p, fake).mean() - critic(p, real).mean() + 10 * gradient_penalty


def many(p: Params, x: jax.Array, y: jax.Array) -> jax.Array:
    for i in range(BLOCKS):
        x = x + linear(p, f"{i}.b", jnp.tanh(linear(p, f"{i}.a", x)))
    return cross_entropy(x, y)


def resnet(p: Params, x: jax.Array, y: jax.Array) -> jax.Array:
    """Batch statistics only: a training step does not use the running ones, which this one leaves out."""

    def conv(name: str, x: jax.Array, stride: int = 1) -> jax.Array:
        w = p[f"{name}.weight"]
        return jax.lax.conv_general_dilated(x, w, (stride, stride), [(w.shape[0] // 2,) * 2] * 2,
                                            dimension_numbers=("NHWC", "HWIO", "NHWC"))  # fmt: skip

    def norm(name: str, x: jax.Array) -> jax.Array:
        mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
        return (x - mean) * jax.lax.rsqrt(variance + 1e-5) * p[f"{name}.weight"] + p[f"{name}.bias"]

    x = jax.nn.relu(norm("norm", conv("stem", x)))
    for s in range(len(CHANNELS)):
        for b in range(2):
            name = f"stages.{s}.{b}"
            down = f"{name}.short.weight" in p
            h = jax.nn.relu(norm(f"{name}.norm1", conv(f"{name}.conv1", x, 2 if down else 1)))
            h = norm(f"{name}.norm2", conv(f"{name}.conv2", h))
            x = jax.nn.relu(h + (conv(f"{name}.short", x, 2) if down else x))
    return cross_entropy(linear(p, "head", x.mean((1, 2))), y)


def augmented(p: Params, x: jax.Array, y: jax.Array, i: int, j: int, flipped: bool, brightness: float) -> jax.Array:
    x = jax.lax.dynamic_slice(x, (0, i, j), (x.shape[0], CROP, CROP))
    x = jax.lax.cond(flipped, lambda x: x[:, :, ::-1], lambda x: x, x)
    return mlp(p, (x * brightness).reshape(x.shape[0], -1), y)


def bilstm(p: Params, x: jax.Array, y: jax.Array) -> jax.Array:
    def direction(x: jax.Array, suffix: str) -> jax.Array:
        w, u, b, c = (p[f"rnn.{name}_{suffix}"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
        zero = jnp.zeros((x.shape[0], HIDDEN))

        def cell(carry: tuple[jax.Array, jax.Array], given: jax.Array) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
            h, memory = carry
            i, f, g, o = jnp.split(given + h @ u, 4, axis=1)
            memory = jax.nn.sigmoid(f) * memory + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(memory)
            return (h, memory), h

        _, found = jax.lax.scan(cell, (zero, zero), (x @ w + b + c).swapaxes(0, 1), reverse=suffix.endswith("reverse"))
        return found.swapaxes(0, 1)

    for layer in range(2):
        x = jnp.concatenate([direction(x, f"l{layer}"), direction(x, f"l{layer}_reverse")], 2)
    return cross_entropy(linear(p, "head", x.mean(1)), y)


LOSSES: dict[str, Loss] = {
    "mlp64": mlp, "mlp1024": mlp, "cnn": cnn, "gpt": gpt, "bag": bag, "many": many,
    "resnet": resnet, "penalty": penalty, "augmentation": augmented, "bilstm": bilstm, "lstmloop": bilstm,
    "accumulation": mlp,
}  # fmt: skip


def optimizer_of(name: str, lr: float) -> optax.GradientTransformation:
    if name == "gpt":
        return optax.adamw(lr, b1=0.9, b2=0.95, weight_decay=0.1)
    if name == "resnet":
        return optax.sgd(lr, momentum=0.9)
    return optax.adam(lr, b1=0.5, b2=0.9) if name == "penalty" else optax.adam(lr)


def from_torch(name: str, weights: Weights) -> Params:
    """Return PyTorch's weights in the layouts that JAX code has: (inputs, outputs), and channels last."""
    params: Params = {}
    for key, w in weights.items():
        if name == "cnn" and key == "7.weight":  # what it reads is flattened from (H, W, C), not (C, H, W)
            w = w.reshape(10, 32, 7, 7).transpose(2, 3, 1, 0).reshape(-1, 10)
        elif w.ndim == 4:
            w = w.transpose(2, 3, 1, 0)
        elif w.ndim == 2 and not key.startswith(("wte", "wpe", "embedding")):
            w = w.T
        params[key] = jnp.array(np.ascontiguousarray(w))
    return params


class Contender:
    """A model in training under ``jax.jit``."""

    def __init__(self, problem: Problem, weights: Weights, batches: list[Batch]):
        if problem.name in ("cnn", "resnet"):
            batches = [(np.ascontiguousarray(x.transpose(0, 2, 3, 1)), y) for x, y in batches]
        if problem.name == "gpt":
            assert batches[0][0].shape[1] == TOKENS and weights["wte.weight"].shape[1] == WIDTH
        self.batches = [tuple(jnp.asarray(a) for a in batch) for batch in batches]
        self.params = from_torch(problem.name, weights)
        optimizer = optimizer_of(problem.name, problem.lr)
        self.state = optimizer.init(self.params)
        loss_of = LOSSES[problem.name]

        @partial(jax.jit, donate_argnums=(0, 1))
        def step(params: Params, state: Any, *batch: jax.Array) -> tuple[Params, Any, jax.Array]:
            loss, gradients = jax.value_and_grad(loss_of)(params, *batch)
            updates, state = optimizer.update(gradients, state, params)
            return optax.apply_updates(params, updates), state, loss

        self._step = step

    def step(self, n: int) -> float:
        """Take step ``n`` and return its loss."""
        batch = self.batches[n % len(self.batches)]
        self.params, self.state, loss = self._step(self.params, self.state, *batch)
        return float(loss)


class Augmentation(Contender):
    """The random numbers are Python's, and arguments of the compiled step."""

    def __init__(self, *args: Any):
        super().__init__(*args)
        self.rng = random.Random(0)

    def step(self, n: int) -> float:
        batch = self.batches[n % len(self.batches)]
        i, j = self.rng.randint(0, IMAGE - CROP), self.rng.randint(0, IMAGE - CROP)
        flipped = self.rng.random() < 0.5
        brightness = 0.8 + 0.4 * self.rng.random()
        self.params, self.state, loss = self._step(self.params, self.state, *batch, i, j, flipped, brightness)
        return float(loss)


class Accumulation(Contender):
    """One compiled function adds the gradients of a batch, another takes the step."""

    def __init__(self, problem: Problem, weights: Weights, batches: list[Batch]):
        super().__init__(problem, weights, batches)
        optimizer = optimizer_of(problem.name, problem.lr)

        @partial(jax.jit, donate_argnums=(1, 2))
        def add(params: Params, total: Params, loss: jax.Array, x: jax.Array, y: jax.Array, share: float) -> Any:
            one, gradients = jax.value_and_grad(lambda p: mlp(p, x, y) * share)(params)
            return jax.tree.map(jnp.add, total, gradients), loss + one

        @partial(jax.jit, donate_argnums=(0, 1, 2))
        def update(params: Params, state: Any, total: Params) -> Any:
            updates, state = optimizer.update(total, state, params)
            return optax.apply_updates(params, updates), state

        self.zeros = jax.jit(lambda: (jax.tree.map(jnp.zeros_like, self.params), jnp.zeros(())))
        self.add, self.update = add, update

    def step(self, n: int) -> float:
        batch = self.batches[n % len(self.batches)]
        total, loss = self.zeros()
        for x, y in zip(batch[::2], batch[1::2]):
            total, loss = self.add(self.params, total, loss, x, y, 2 / len(batch))
        self.params, self.state = self.update(self.params, self.state, total)
        return float(loss)


class Evaluation:
    """A compiled function counts what is right in a batch."""

    def __init__(self, problem: Problem, weights: Weights, batches: list[Batch]):
        self.params = from_torch(problem.name, weights)
        self.batch = [jnp.asarray(a) for a in batches[0]]
        self.count = jax.jit(lambda p, right, x, y: right + (perceptron(p, x).argmax(1) == y).sum())

    def step(self, n: int) -> float:
        right = jnp.zeros((), jnp.int32)
        for x, y in zip(self.batch[::2], self.batch[1::2]):
            right = self.count(self.params, right, x, y)
        return float(right)


class Schedules:
    """SGD written out, since all of its numbers change too."""

    def __init__(self, problem: Problem, weights: Weights, batches: list[Batch]):
        self.params = from_torch(problem.name, weights)
        self.buffers = jax.tree.map(jnp.zeros_like, self.params)
        self.average = jnp.zeros(())
        self.batches = [tuple(jnp.asarray(a) for a in batch) for batch in batches]

        @partial(jax.jit, donate_argnums=(0, 1, 2))
        def step(params: Params, buffers: Params, average: jax.Array, x: jax.Array, y: jax.Array, first: bool,
                 numbers: list[float]) -> Any:  # fmt: skip
            rate, momentum, decay, warmth, a, b, c, mix, scale, memory = numbers

            def loss_of(p: Params) -> jax.Array:
                out = perceptron(p, x * mix + x[::-1] * (1 - mix)) * scale
                return a * cross_entropy(out / (warmth + 0.5), y) + b * (out * out).mean() + c * jnp.abs(out).mean()

            loss, gradients = jax.value_and_grad(loss_of)(params)
            kept = jnp.where(first, 0.0, 0.9 * momentum)
            gradients = jax.tree.map(lambda g, p: g + 0.001 * decay * p, gradients, params)
            buffers = jax.tree.map(lambda m, g: kept * m + g, buffers, gradients)
            params = jax.tree.map(lambda p, m: p - 0.02 * rate * m, params, buffers)
            return params, buffers, memory * average + (1 - memory) * loss

        self._step = step

    def step(self, n: int) -> float:
        batch = self.batches[n % len(self.batches)]
        found = self._step(self.params, self.buffers, self.average, *batch, n == 0, ten(n))
        self.params, self.buffers, self.average = found
        return float(self.average)


class Simulation:
    """All steps are one compiled `fori_loop`."""

    def __init__(self, problem: Problem, weights: Weights, batches: list[Batch]):
        self.start = [jnp.asarray(a) for a in batches[0]]

        def micro(_: Any, state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            x, v = state
            pull = jnp.roll(x, 1, 0) + jnp.roll(x, -1, 0) - 2 * x
            v = v + 0.01 * (pull - 0.1 * x * x * x - 0.2 * v)
            return x + 0.01 * v, v

        @jax.jit
        def run(x: jax.Array, v: jax.Array) -> jax.Array:
            x, v = jax.lax.fori_loop(0, MICRO_STEPS, micro, (x, v))
            return (x * x).sum()

        self.run = run

    def step(self, n: int) -> float:
        return float(self.run(*self.start))


OTHERS: dict[str, Any] = {
    "evaluation": Evaluation, "augmentation": Augmentation, "schedules": Schedules, "simulation": Simulation,
    "accumulation": Accumulation,
}  # fmt: skip


def contender(problem: Problem, weights: Weights, batches: list[Batch]) -> Any:
    """Return what takes the steps of ``problem``."""
    return OTHERS.get(problem.name, Contender)(problem, weights, batches)
