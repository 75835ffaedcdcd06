"""Dropout."""

from __future__ import annotations

from tracegrad._tensor import Tensor
from tracegrad.nn import functional as F
from tracegrad.nn._module import Module


class Dropout(Module):
    """Zeroes elements with probability ``p`` in training and scales the others up; does nothing otherwise.

    See https://docs.pytorch.org/docs/stable/generated/torch.nn.Dropout.html

    Example:
        >>> import tracegrad as torch
        >>> torch.nn.Dropout(0.5).eval()(torch.ones(3))
        tensor([1., 1., 1.])
    """

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__()
        if p < 0 or p > 1:
            raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")
        self.p = p
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        """Return ``input`` with elements dropped, in training."""
        return F.dropout(input, self.p, self.training, self.inplace)

    def extra_repr(self) -> str:
        """Return the constructor's arguments."""
        return f"p={self.p}, inplace={self.inplace}"


Dropout.__module__ = "tracegrad.nn"
