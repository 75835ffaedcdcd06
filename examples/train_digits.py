"""Train two networks on real handwritten digits, the way a PyTorch user writes it.

Run it with ``python examples/train_digits.py``. The data are scikit-learn's 1,797 images of 8x8 pixels; a
fifth of them is kept for testing. Exits with an error where a network stays below what it should reach.
"""

from __future__ import annotations

import sys
import time

from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import tracegrad as torch
import tracegrad.nn.functional as F
from tracegrad import nn

BATCH = 64


class MLP(nn.Module):
    """Two hidden layers over the 64 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(),
            nn.Linear(64, 256),
            nn.ReLU(),
            nn.Dropout(0.4),
            nn.Linear(256, 128),
            nn.ReLU(),
            nn.Dropout(0.4),
            nn.Linear(128, 10),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits of the ten digits for each image."""
        return self.layers(images)


class CNN(nn.Module):
    """Two convolutions, each normalised and pooled, and two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
        self.norm1 = nn.BatchNorm2d(16)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.norm2 = nn.BatchNorm2d(32)
        self.hidden = nn.Linear(32 * 2 * 2, 64)
        self.out = nn.Linear(64, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits of the ten digits for each image."""
        x = F.max_pool2d(F.relu(self.norm1(self.conv1(images))), 2)
        x = F.max_pool2d(F.relu(self.norm2(self.conv2(x))), 2)
        x = F.relu(self.hidden(x.flatten(1)))
        return self.out(x)


def load() -> tuple[torch.Tensor, ...]:
    """Return the training images, test images, training labels and test labels."""
    digits = load_digits()
    labels = digits.target
    parts = train_test_split(digits.images, labels, test_size=0.2, random_state=1, stratify=labels)
    train_x, test_x, train_y, test_y = map(torch.tensor, parts)
    train_x, test_x = train_x.float().unsqueeze(1), test_x.float().unsqueeze(1)
    mean, std = train_x.mean(), train_x.std()
    return (train_x - mean) / std, (test_x - mean) / std, train_y, test_y


def accuracy(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
    """Return the share of images that the model gets right."""
    model.eval()
    with torch.no_grad():
        return (model(images).argmax(dim=1) == labels).float().mean().item()


def train(model: nn.Module, data: tuple[torch.Tensor, ...], epochs: int, lr: float) -> float:
    """Train the model, telling how it goes, and return its accuracy on the test images."""
    train_x, test_x, train_y, test_y = data
    size = sum(p.numel() for p in model.parameters())
    print(f"{type(model).__name__}: {size:,} parameters, {epochs} epochs")
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    right = 0.0
    for epoch in range(1, epochs + 1):
        start = time.perf_counter()
        model.train()
        total = 0.0
        for batch in torch.randperm(len(train_x)).split(BATCH):
            optimizer.zero_grad()
            loss = criterion(model(train_x[batch]), train_y[batch])
            loss.backward()
            optimizer.step()
            total += loss.item() * len(batch)
        right = accuracy(model, test_x, test_y)
        seconds = time.perf_counter() - start
        loss = total / len(train_x)
        print(f"  epoch {epoch:2}  loss {loss:.4f}  test accuracy {right:7.2%}  {seconds:6.2f} s")
        for group in optimizer.param_groups:
            group["lr"] *= 0.93
    return right


def main() -> int:
    """Train both networks; return 0 where both are good enough."""
    torch.manual_seed(0)
    data = load()
    missed = 0
    for make, epochs, lr, enough in ((MLP, 30, 3e-3, 0.97), (CNN, 12, 3e-3, 0.98)):
        start = time.perf_counter()
        right = train(make(), data, epochs, lr)
        missed += right < enough
        seconds = time.perf_counter() - start
        verdict = "reached" if right >= enough else "MISSED"
        print(f"  {right:.2%} in {seconds:.1f} s: the {enough:.0%} expected are {verdict}\n")
    print(torch.explain(limit=4))
    return min(missed, 1)


if __name__ == "__main__":
    sys.exit(main())
