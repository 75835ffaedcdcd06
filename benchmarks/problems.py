"""The data of each benchmark, from NumPy: initial weights with PyTorch's names and layouts, and batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

Array = np.ndarray
Weights = dict[str, Array]
Batch = tuple[Array, ...]


@dataclass(frozen=True)
class Problem:
    """One benchmark: what every contender starts from, and how it is measured."""

    name: str
    title: str
    make: Callable[[np.random.Generator], tuple[Weights, list[Batch]]]
    steps: int  # steps of one round
    lr: float
    tolerance: float  # of the losses of the first steps, relative
    warm: int = 3  # steps after which nothing may be compiled any more

    def data(self) -> tuple[Weights, list[Batch]]:
        """Return the weights and the batches, the same in every process."""
        return self.make(np.random.default_rng(0))


BATCHES = 8  # distinct batches that the steps take turns with


def _linear(rng: np.random.Generator, name: str, inputs: int, outputs: int) -> Iterator[tuple[str, Array]]:
    bound = inputs**-0.5
    yield f"{name}.weight", rng.uniform(-bound, bound, (outputs, inputs)).astype(np.float32)
    yield f"{name}.bias", rng.uniform(-bound, bound, outputs).astype(np.float32)


def _mlp(width: int) -> Callable[[np.random.Generator], tuple[Weights, list[Batch]]]:
    def make(rng: np.random.Generator) -> tuple[Weights, list[Batch]]:
        weights: Weights = {}
        for name, inputs, outputs in (("0", width, width), ("2", width, width), ("4", width, 10)):
            weights.update(_linear(rng, name, inputs, outputs))
        batches: list[Batch] = [
            (rng.standard_normal((64, width), np.float32), rng.integers(0, 10, 64)) for _ in range(BATCHES)
        ]
        return weights, batches

    return make


def _cnn(rng: np.random.Generator) -> tuple[Weights, list[Batch]]:
    weights: Weights = {}
    for name, inputs, outputs in (("0", 1, 16), ("3", 16, 32)):
        bound = (inputs * 9) ** -0.5
        weights[f"{name}.weight"] = rng.uniform(-bound, bound, (outputs, inputs, 3, 3)).astype(np.float32)
        weights[f"{name}.bias"] = rng.uniform(-bound, bound, outputs).astype(np.float32)
    weights.update(_linear(rng, "7", 32 * 7 * 7, 10))
    batches: list[Batch] = [
        (rng.standard_normal((64, 1, 28, 28), np.float32), rng.integers(0, 10, 64)) for _ in range(BATCHES)
    ]
    return weights, batches


LAYERS, WIDTH, HEADS, TOKENS, VOCABULARY = 4, 128, 4, 128, 65


def _gpt(rng: np.random.Generator) -> tuple[Weights, list[Batch]]:
    def normal(*shape: int) -> Array:
        return 0.02 * rng.standard_normal(shape, np.float32)

    weights: Weights = {"wte.weight": normal(VOCABULARY, WIDTH), "wpe.weight": normal(TOKENS, WIDTH)}

    def norm(name: str) -> None:
        weights[f"{name}.weight"] = np.ones(WIDTH, np.float32)
        weights[f"{name}.bias"] = np.zeros(WIDTH, np.float32)

    def linear(name: str, inputs: int, outputs: int) -> None:
        weights[f"{name}.weight"] = normal(outputs, inputs)
        weights[f"{name}.bias"] = np.zeros(outputs, np.float32)

    for i in range(LAYERS):
        norm(f"h.{i}.ln_1")
        linear(f"h.{i}.attn.c_attn", WIDTH, 3 * WIDTH)
        linear(f"h.{i}.attn.c_proj", WIDTH, WIDTH)
        norm(f"h.{i}.ln_2")
        linear(f"h.{i}.c_fc", WIDTH, 4 * WIDTH)
        linear(f"h.{i}.c_proj", 4 * WIDTH, WIDTH)
    norm("ln_f")
    linear("lm_head", WIDTH, VOCABULARY)
    tokens = rng.integers(0, VOCABULARY, (BATCHES, 4, TOKENS + 1))
    batches: list[Batch] = [(np.ascontiguousarray(t[:, :-1]), np.ascontiguousarray(t[:, 1:])) for t in tokens]
    return weights, batches


def _bag(rng: np.random.Generator) -> tuple[Weights, list[Batch]]:
    weights: Weights = {"embedding.weight": rng.standard_normal((10_000, 64), np.float32)}
    weights.update(_linear(rng, "out", 64, 20))
    batches: list[Batch] = [(rng.integers(0, 10_000, (256, 20)), rng.integers(0, 20, 256)) for _ in range(BATCHES)]
    return weights, batches


def _penalty(rng: np.random.Generator) -> tuple[Weights, list[Batch]]:
    weights: Weights = {}
    for name, inputs, outputs in (("0", 128, 512), ("2", 512, 256), ("4", 256, 1)):
        weights.update(_linear(rng, name, inputs, outputs))
    batches: list[Batch] = []
    for _ in range(BATCHES):
        real, fake = rng.standard_normal((2, 64, 128), np.float32)
        batches.append((real + 1, fake, rng.random((64, 1), np.float32)))
    return weights, batches


BLOCKS, NARROW = 250, 8


def _many(rng: np.random.Generator) -> tuple[Weights, list[Batch]]:
    """Make a model of 1,000 parameter tensors that compute next to nothing: what is left is their handling."""
    weights: Weights = {}
    for i in range(BLOCKS):
        weights.update(_linear(rng, f"{i}.a", NARROW, NARROW))
        weights.update((name, 0.1 * w) for name, w in _linear(rng, f"{i}.b", NARROW, NARROW))
    batches: list[Batch] = [(rng.standard_normal((16, NARROW), np.float32), rng.integers(0, NARROW, 16))
                            for _ in range(BATCHES)]  # fmt: skip
    return weights, batches


CHANNELS = (16, 32, 64)


def _resnet(rng: np.random.Generator) -> tuple[Weights, list[Batch]]:
    """Make a ResNet-14 for 32 x 32 images, of two blocks a stage."""
    weights: Weights = {}

    def conv(name: str, inputs: int, outputs: int, size: int) -> None:
        scale = (2 / (inputs * size * size)) ** 0.5
        weights[f"{name}.weight"] = scale * rng.standard_normal((outputs, inputs, size, size), np.float32)

    def norm(name: str, channels: int) -> None:
        weights[f"{name}.weight"] = np.ones(channels, np.float32)
        weights[f"{name}.bias"] = np.zeros(channels, np.float32)

    conv("stem", 3, CHANNELS[0], 3)
    norm("norm", CHANNELS[0])
    inputs = CHANNELS[0]
    for s, channels in enumerate(CHANNELS):
        for b in range(2):
            name = f"stages.{s}.{b}"
            conv(f"{name}.conv1", inputs, channels, 3)
            norm(f"{name}.norm1", channels)
            conv(f"{name}.conv2", channels, channels, 3)
            norm(f"{name}.norm2", channels)
            if inputs != channels:
                conv(f"{name}.short", inputs, channels, 1)
            inputs = channels
    weights.update(_linear(rng, "head", inputs, 10))
    batches: list[Batch] = [(rng.standard_normal((32, 3, 32, 32), np.float32), rng.integers(0, 10, 32))
                            for _ in range(BATCHES)]  # fmt: skip
    return weights, batches


EVALUATED = 64


def _evaluation(rng: np.random.Generator) -> tuple[Weights, list[Batch]]:
    """Make what is evaluated as one step: many batches, as ``x, y, x, y, ...``."""
    weights, batches = _mlp(256)(rng)
    for _ in range(EVALUATED - len(batches)):
        batches.append((rng.standard_normal((64, 256), np.float32), rng.integers(0, 10, 64)))
    return weights, [sum(batches, ())]


IMAGE, CROP = 32, 28


def _augmentation(rng: np.random.Generator) -> tuple[Weights, list[Batch]]:
    weights: Weights = {}
    for name, inputs, outputs in (("0", CROP * CROP, 256), ("2", 256, 256), ("4", 256, 10)):
        weights.update(_linear(rng, name, inputs, outputs))
    batches: list[Batch] = [(rng.standard_normal((64, IMAGE, IMAGE), np.float32), rng.integers(0, 10, 64))
                            for _ in range(BATCHES)]  # fmt: skip
    return weights, batches


TIME, FEATURES, HIDDEN = 32, 32, 64


def _bilstm(rng: np.random.Generator) -> tuple[Weights, list[Batch]]:
    """Make two bidirectional layers, with the names that PyTorch's `nn.LSTM` has."""
    weights: Weights = {}
    bound = HIDDEN**-0.5
    for layer, inputs in enumerate((FEATURES, 2 * HIDDEN)):
        for suffix in (f"l{layer}", f"l{layer}_reverse"):
            for name, shape in (("weight_ih", (4 * HIDDEN, inputs)), ("weight_hh", (4 * HIDDEN, HIDDEN)),
                                ("bias_ih", (4 * HIDDEN,)), ("bias_hh", (4 * HIDDEN,))):  # fmt: skip
                weights[f"rnn.{name}_{suffix}"] = rng.uniform(-bound, bound, shape).astype(np.float32)
    weights.update(_linear(rng, "head", 2 * HIDDEN, 10))
    batches: list[Batch] = [(rng.standard_normal((16, TIME, FEATURES), np.float32), rng.integers(0, 10, 16))
                            for _ in range(BATCHES)]  # fmt: skip
    return weights, batches


MICRO_STEPS, PARTICLES = 2000, 256


def _simulation(rng: np.random.Generator) -> tuple[Weights, list[Batch]]:
    return {}, [(rng.standard_normal(PARTICLES, np.float32), rng.standard_normal(PARTICLES, np.float32))]


ACCUMULATED = 16


def _accumulation(rng: np.random.Generator) -> tuple[Weights, list[Batch]]:
    weights, batches = _mlp(256)(rng)
    return weights, [sum((batches[i % BATCHES] for i in range(k, k + ACCUMULATED)), ()) for k in range(2)]


PROBLEMS = {
    p.name: p
    for p in (
        Problem("mlp64", "MLP, 64 wide, Adam", _mlp(64), 1000, 1e-3, 1e-4),
        Problem("mlp1024", "MLP, 1024 wide, Adam", _mlp(1024), 40, 1e-4, 1e-4),
        Problem("cnn", "CNN with pooling, Adam", _cnn, 40, 1e-3, 1e-4),
        Problem("gpt", "GPT, 4 x 128, AdamW", _gpt, 20, 1e-3, 1e-4),
        Problem("bag", "embedding-bag, 10,000 x 64, Adam", _bag, 200, 1e-3, 1e-4),
        Problem("many", "1,000 parameter tensors, Adam", _many, 20, 1e-3, 1e-4),
        Problem("resnet", "ResNet-14 for 32 x 32, batch norm, SGD", _resnet, 10, 1e-2, 1e-3),
        Problem("evaluation", f"evaluation of {EVALUATED} batches, one read", _evaluation, 10, 0.0, 1e-6),
        Problem("augmentation", "MLP, crop, brightness and flip by random, Adam", _augmentation, 200, 1e-3, 1e-4, 24),
        Problem("schedules", "MLP, ten schedules, SGD", _mlp(256), 200, 1e-2, 1e-4),
        Problem("bilstm", "bidirectional LSTM, 2 layers, 32 steps, Adam", _bilstm, 10, 1e-3, 1e-4),
        Problem("lstmloop", "the same LSTM as Python loops over time", _bilstm, 10, 1e-3, 1e-4),
        Problem("simulation", f"simulation of {MICRO_STEPS:,} steps, one read", _simulation, 4, 0.0, 1e-3),
        Problem("accumulation", f"gradients of {ACCUMULATED} batches, then Adam", _accumulation, 20, 1e-3, 1e-4),
        Problem("penalty", "gradient penalty (double backward), Adam", _penalty, 100, 1e-4, 1e-4),
    )
}
