"""One source of each training step for PyTorch and for tracegrad: the functions take the module ``torch``."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

from problems import (
    BLOCKS,
    CHANNELS,
    CROP,
    FEATURES,
    HEADS,
    HIDDEN,
    IMAGE,
    LAYERS,
    MICRO_STEPS,
    NARROW,
    TOKENS,
    VOCABULARY,
    WIDTH,
    Batch,
    Problem,
    Weights,
)  # fmt: skip

#: Takes the next batch's tensors, updates the parameters and returns the loss as a float.
Step = Callable[..., float]


def classifier(torch: Any, model: Any, optimizer: Any) -> Step:
    """Return the step that everybody writes."""

    def step(x: Any, y: Any) -> float:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def mlp(torch: Any, width: int) -> tuple[Any, Any, Step]:
    nn = torch.nn
    model = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    return model, optimizer, classifier(torch, model, optimizer)


def cnn(torch: Any) -> tuple[Any, Any, Step]:
    nn = torch.nn
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(32 * 7 * 7, 10),
    )  # fmt: skip
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    return model, optimizer, classifier(torch, model, optimizer)


def gpt(torch: Any) -> tuple[Any, Any, Step]:
    nn, F = torch.nn, torch.nn.functional

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.c_attn = nn.Linear(WIDTH, 3 * WIDTH)
            self.c_proj = nn.Linear(WIDTH, WIDTH)
            mask = torch.tril(torch.ones(TOKENS, TOKENS)).view(1, 1, TOKENS, TOKENS)
            self.register_buffer("mask", mask, persistent=False)

        def forward(self, x: Any) -> Any:
            B, T, C = x.size()
            q, k, v = self.c_attn(x).split(C, dim=2)
            q = q.view(B, T, HEADS, C // HEADS).transpose(1, 2)
            k = k.view(B, T, HEADS, C // HEADS).transpose(1, 2)
            v = v.view(B, T, HEADS, C // HEADS).transpose(1, 2)
            att = (q @ k.transpose(-2, -1)) * (1.0 / math.sqrt(k.size(-1)))
            att = att.masked_fill(self.mask[:, :, :T, :T] == 0, float("-inf"))
            att = F.softmax(att, dim=-1)
            y = (att @ v).transpose(1, 2).contiguous().view(B, T, C)
            return self.c_proj(y)

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.ln_1 = nn.LayerNorm(WIDTH)
            self.attn = Attention()
            self.ln_2 = nn.LayerNorm(WIDTH)
            self.c_fc = nn.Linear(WIDTH, 4 * WIDTH)
            self.c_proj = nn.Linear(4 * WIDTH, WIDTH)

        def forward(self, x: Any) -> Any:
            x = x + self.attn(self.ln_1(x))
            return x + self.c_proj(F.gelu(self.c_fc(self.ln_2(x)), approximate="tanh"))

    class GPT(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.wte = nn.Embedding(VOCABULARY, WIDTH)
            self.wpe = nn.Embedding(TOKENS, WIDTH)
            self.h = nn.ModuleList([Block() for _ in range(LAYERS)])
            self.ln_f = nn.LayerNorm(WIDTH)
            self.lm_head = nn.Linear(WIDTH, VOCABULARY)

        def forward(self, tokens: Any) -> Any:
            x = self.wte(tokens) + self.wpe(torch.arange(tokens.size(1)))
            for block in self.h:
                x = block(x)
            return self.lm_head(self.ln_f(x)).view(-1, VOCABULARY)

    model = GPT()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1)
    take = classifier(torch, model, optimizer)
    return model, optimizer, lambda x, y: take(x, y.view(-1))


def bag(torch: Any) -> tuple[Any, Any, Step]:
    nn = torch.nn

    class Bag(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(10_000, 64)
            self.out = nn.Linear(64, 20)

        def forward(self, ids: Any) -> Any:
            return self.out(self.embedding(ids).mean(1))

    model = Bag()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    return model, optimizer, classifier(torch, model, optimizer)


def many(torch: Any) -> tuple[Any, Any, Step]:
    nn = torch.nn

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(NARROW, NARROW), nn.Linear(NARROW, NARROW)

        def forward(self, x: Any) -> Any:
            return x + self.b(torch.tanh(self.a(x)))

    model = nn.Sequential(*(Block() for _ in range(BLOCKS)))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    return model, optimizer, classifier(torch, model, optimizer)


def resnet(torch: Any) -> tuple[Any, Any, Step]:
    nn, F = torch.nn, torch.nn.functional

    class Block(nn.Module):
        def __init__(self, inputs: int, channels: int) -> None:
            super().__init__()
            stride = 1 if inputs == channels else 2
            self.conv1 = nn.Conv2d(inputs, channels, 3, stride=stride, padding=1, bias=False)
            self.norm1 = nn.BatchNorm2d(channels)
            self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
            self.norm2 = nn.BatchNorm2d(channels)
            self.short = nn.Conv2d(inputs, channels, 1, stride=stride, bias=False) if stride > 1 else nn.Identity()

        def forward(self, x: Any) -> Any:
            y = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
            return F.relu(y + self.short(x))

    class ResNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.norm = nn.Conv2d(3, CHANNELS[0], 3, padding=1, bias=False), nn.BatchNorm2d(CHANNELS[0])
            before = (CHANNELS[0], *CHANNELS)
            self.stages = nn.Sequential(*(nn.Sequential(Block(before[i], c), Block(c, c))
                                          for i, c in enumerate(CHANNELS)))  # fmt: skip
            self.head = nn.Linear(CHANNELS[-1], 10)

        def forward(self, x: Any) -> Any:
            return self.head(self.stages(F.relu(self.norm(self.stem(x)))).mean((2, 3)))

    model = ResNet()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2, momentum=0.9)
    return model, optimizer, classifier(torch, model, optimizer)


def penalty(torch: Any) -> tuple[Any, Any, Step]:
    nn = torch.nn
    critic = nn.Sequential(nn.Linear(128, 512), nn.Tanh(), nn.Linear(512, 256), nn.Tanh(), nn.Linear(256, 1))
    optimizer = torch.optim.Adam(critic.parameters(), lr=1e-3, betas=(0.5, 0.9))

    def step(real: Any, fake: Any, alpha: Any) -> float:
        optimizer.zero_grad()
        between = (alpha * real + (1 - alpha) * fake).requires_grad_(True)
        scores = critic(between)
        (slope,) = torch.autograd.grad(scores, between, torch.ones_like(scores), create_graph=True)
        gradient_penalty = ((slope.norm(2, dim=1) - 1) ** 2).mean()
        loss = critic(fake).mean() - critic(real).mean() + 10 * gradient_penalty
        loss.backward()
        optimizer.step()
        return loss.item()

    return critic, optimizer, step


def perceptron(torch: Any, inputs: int, width: int) -> Any:
    nn = torch.nn
    return nn.Sequential(nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10))


def evaluation(torch: Any) -> tuple[Any, Any, Step]:
    model = perceptron(torch, 256, 256)

    def step(*batches: Any) -> float:
        correct = 0
        with torch.no_grad():
            for x, y in zip(batches[::2], batches[1::2]):
                correct += (model(x).argmax(1) == y).sum()
        return float(correct.item())

    return model, None, step


def augmentation(torch: Any) -> tuple[Any, Any, Step]:
    model = perceptron(torch, CROP * CROP, 256)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    take = classifier(torch, model, optimizer)
    rng = random.Random(0)

    def step(x: Any, y: Any) -> float:
        i, j = rng.randint(0, IMAGE - CROP), rng.randint(0, IMAGE - CROP)
        x = x[:, i : i + CROP, j : j + CROP]
        if rng.random() < 0.5:
            x = x.flip(2)
        x = x * (0.8 + 0.4 * rng.random())
        return take(x.flatten(1), y)

    return model, optimizer, step


def ten(n: int) -> list[float]:
    """Return the ten numbers of step ``n``: each changes at every step, and passes through 0 and 1."""
    return [((n * (k + 3)) % 32) / 31 for k in range(10)]


def schedules(torch: Any) -> tuple[Any, Any, Step]:
    F = torch.nn.functional
    model = perceptron(torch, 256, 256)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0, momentum=0.9, weight_decay=0.1)
    n, average = 0, torch.zeros(())

    def step(x: Any, y: Any) -> float:
        nonlocal n, average
        rate, momentum, decay, warmth, a, b, c, mix, scale, memory = ten(n)
        n += 1
        group = optimizer.param_groups[0]
        group["lr"], group["momentum"], group["weight_decay"] = 0.02 * rate, 0.9 * momentum, 0.001 * decay
        optimizer.zero_grad()
        x = x * mix + x.flip(0) * (1 - mix)
        out = model(x) * scale
        loss = a * F.cross_entropy(out / (warmth + 0.5), y) + b * (out * out).mean() + c * out.abs().mean()
        loss.backward()
        optimizer.step()
        average = memory * average + (1 - memory) * loss.detach()
        return average.item()

    return model, optimizer, step


def bilstm(torch: Any, by_hand: bool = False) -> tuple[Any, Any, Step]:
    nn = torch.nn

    class Loop(nn.Module):
        """What PyTorch's `nn.LSTM` computes, as a Python loop over time."""

        def __init__(self) -> None:
            super().__init__()
            for layer, inputs in enumerate((FEATURES, 2 * HIDDEN)):
                for suffix in (f"l{layer}", f"l{layer}_reverse"):
                    for name, shape in (("weight_ih", (4 * HIDDEN, inputs)), ("weight_hh", (4 * HIDDEN, HIDDEN)),
                                        ("bias_ih", (4 * HIDDEN,)), ("bias_hh", (4 * HIDDEN,))):  # fmt: skip
                        setattr(self, f"{name}_{suffix}", nn.Parameter(torch.zeros(shape)))

        def direction(self, x: Any, suffix: str) -> list[Any]:
            w, u, b, c = (getattr(self, f"{n}_{suffix}") for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
            h = memory = torch.zeros(x.size(0), HIDDEN)
            found = []
            steps = range(x.size(1))
            for t in reversed(steps) if suffix.endswith("reverse") else steps:
                i, f, g, o = (x[:, t] @ w.T + b + h @ u.T + c).chunk(4, 1)
                memory = torch.sigmoid(f) * memory + torch.sigmoid(i) * torch.tanh(g)
                h = torch.sigmoid(o) * torch.tanh(memory)
                found.append(h)
            return found[::-1] if suffix.endswith("reverse") else found

        def forward(self, x: Any) -> Any:
            for layer in range(2):
                ahead, back = self.direction(x, f"l{layer}"), self.direction(x, f"l{layer}_reverse")
                x = torch.cat([torch.stack(ahead, 1), torch.stack(back, 1)], 2)
            return x, None

    class Tagger(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            given = FEATURES, HIDDEN, 2
            self.rnn = Loop() if by_hand else nn.LSTM(*given, batch_first=True, bidirectional=True)
            self.head = nn.Linear(2 * HIDDEN, 10)

        def forward(self, x: Any) -> Any:
            return self.head(self.rnn(x)[0].mean(1))

    model = Tagger()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    return model, optimizer, classifier(torch, model, optimizer)


def simulation(torch: Any) -> tuple[Any, Any, Step]:
    class Chain(torch.nn.Module):
        """Masses on a ring of springs that stiffen, with friction."""

        def forward(self, x: Any, v: Any) -> tuple[Any, Any]:
            pull = torch.roll(x, 1, 0) + torch.roll(x, -1, 0) - 2 * x
            v = v + 0.01 * (pull - 0.1 * x * x * x - 0.2 * v)
            return x + 0.01 * v, v

    model = Chain()

    def step(x: Any, v: Any) -> float:
        with torch.no_grad():
            for _ in range(MICRO_STEPS):
                x, v = model(x, v)
        return float((x * x).sum().item())

    return model, None, step


def accumulation(torch: Any) -> tuple[Any, Any, Step]:
    model = perceptron(torch, 256, 256)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

    def step(*batches: Any) -> float:
        optimizer.zero_grad()
        total = 0.0
        for x, y in zip(batches[::2], batches[1::2]):
            loss = torch.nn.functional.cross_entropy(model(x), y) / (len(batches) // 2)
            loss.backward()
            total += loss.detach()
        optimizer.step()
        return total.item()

    return model, optimizer, step


MAKERS: dict[str, Callable[[Any], tuple[Any, Any, Step]]] = {
    "mlp64": lambda torch: mlp(torch, 64),
    "mlp1024": lambda torch: mlp(torch, 1024),
    "cnn": cnn,
    "gpt": gpt,
    "bag": bag,
    "many": many,
    "resnet": resnet,
    "penalty": penalty,
    "evaluation": evaluation,
    "augmentation": augmentation,
    "schedules": schedules,
    "bilstm": bilstm,
    "lstmloop": lambda torch: bilstm(torch, by_hand=True),
    "simulation": simulation,
    "accumulation": accumulation,
}


class Contender:
    """A model in training under PyTorch or tracegrad; ``compiled`` by PyTorch's compiler, where asked for."""

    def __init__(self, torch: Any, problem: Problem, weights: Weights, batches: list[Batch], compiled: bool = False):
        self.model, self.optimizer, self._step = MAKERS[problem.name](torch)
        if compiled:
            self.model.compile()
        # Not strict: the buffers of batch norm begin as every framework has them.
        self.model.load_state_dict({name: torch.tensor(w) for name, w in weights.items()}, strict=False)
        self.set_lr(problem.lr)
        self.batches = [tuple(torch.tensor(a) for a in batch) for batch in batches]

    def set_lr(self, lr: float) -> None:
        for group in self.optimizer.param_groups if self.optimizer else ():
            group["lr"] = lr

    def step(self, n: int) -> float:
        """Take step ``n`` and return its loss."""
        return self._step(*self.batches[n % len(self.batches)])
