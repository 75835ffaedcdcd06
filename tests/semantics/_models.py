"""Models and data with fixed numbers, the same in both libraries."""

from __future__ import annotations


def fill(torch, model):
    """Give every parameter numbers that depend on its place alone, and return the model."""
    with torch.no_grad():
        for i, p in enumerate(model.parameters()):
            p.copy_((torch.arange(float(p.numel())) * 0.7 + i).sin().reshape(p.shape) * 0.5)
    return model


def line(torch):
    """Return the smallest model: a linear layer from 2 to 1."""
    return fill(torch, torch.nn.Linear(2, 1))


def mlp(torch):
    """Return a model of two layers, from 2 to 1."""
    return fill(torch, torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Tanh(), torch.nn.Linear(3, 1)))


def data(torch):
    """Return four points and their targets."""
    x = torch.tensor([[1.0, 2.0], [0.5, -1.0], [-1.0, 0.3], [0.0, 1.5]])
    return x, x.sum(1, keepdim=True).sin()


def fit(torch, model, optimizer, steps=2):
    """Run a few steps, and return the losses."""
    x, y = data(torch)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return losses
