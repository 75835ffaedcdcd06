"""Activations as layers, each over the function of the same meaning."""

from __future__ import annotations

from tracegrad._tensor import Tensor
from tracegrad.nn import functional as F
from tracegrad.nn._module import Module


class _Inplace(Module):
    """An activation that may write to its input; ``_shown`` names what else ``repr`` shows."""

    inplace: bool = False
    _shown: tuple[str, ...] = ()

    def extra_repr(self) -> str:
        """Return the constructor's arguments."""
        parts = [f"{name}={getattr(self, name)}" for name in self._shown]
        return ", ".join(parts + ["inplace=True"] * self.inplace)


class ReLU(_Inplace):
    """``max(x, 0)`` of every element.

    Example:
        >>> import tracegrad as torch
        >>> torch.nn.ReLU()(torch.tensor([-1.0, 2.0]))
        tensor([0., 2.])
    """

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        """Return ``max(input, 0)``."""
        return F.relu(input, self.inplace)


class Hardtanh(_Inplace):
    """Every element cut to ``[min_val, max_val]``."""

    _shown = ("min_val", "max_val")

    def __init__(self, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False):
        super().__init__()
        if not max_val > min_val:
            raise AssertionError("max_val must be larger than min_val")
        self.min_val = min_val
        self.max_val = max_val
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        """Return ``input`` cut to the range."""
        return F.hardtanh(input, self.min_val, self.max_val, self.inplace)


class ReLU6(_Inplace):
    """``min(max(x, 0), 6)`` of every element."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.min_val = 0.0
        self.max_val = 6.0
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        """Return ``input`` cut to ``[0, 6]``."""
        return F.relu6(input, self.inplace)


class SiLU(_Inplace):
    """``x * sigmoid(x)`` of every element."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        """Return ``input * sigmoid(input)``."""
        return F.silu(input, self.inplace)


class ELU(_Inplace):
    """``x`` where it is positive, ``alpha * (e ** x - 1)`` elsewhere."""

    _shown = ("alpha",)

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        super().__init__()
        self.alpha = alpha
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        """Return the exponential linear unit of ``input``."""
        return F.elu(input, self.alpha, self.inplace)


class LeakyReLU(_Inplace):
    """``x`` where it is positive, ``negative_slope * x`` elsewhere."""

    _shown = ("negative_slope",)

    def __init__(self, negative_slope: float = 1e-2, inplace: bool = False) -> None:
        super().__init__()
        self.negative_slope = negative_slope
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        """Return the leaky rectified ``input``."""
        return F.leaky_relu(input, self.negative_slope, self.inplace)


class GELU(Module):
    """``x`` times the normal distribution function at ``x``, exactly or by ``tanh``."""

    def __init__(self, approximate: str = "none") -> None:
        super().__init__()
        self.approximate = approximate

    def forward(self, input: Tensor) -> Tensor:
        """Return the Gaussian error linear unit of ``input``."""
        return F.gelu(input, approximate=self.approximate)

    def extra_repr(self) -> str:
        """Return the constructor's arguments."""
        return f"approximate={self.approximate!r}"


class Softplus(Module):
    """``log(1 + e ** (beta * x)) / beta`` of every element, ``x`` itself beyond ``threshold``."""

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        super().__init__()
        self.beta = beta
        self.threshold = threshold

    def forward(self, input: Tensor) -> Tensor:
        """Return the softplus of ``input``."""
        return F.softplus(input, self.beta, self.threshold)

    def extra_repr(self) -> str:
        """Return the constructor's arguments."""
        return f"beta={self.beta}, threshold={self.threshold}"


class Tanh(Module):
    """The hyperbolic tangent of every element."""

    def forward(self, input: Tensor) -> Tensor:
        """Return ``tanh(input)``."""
        return F.tanh(input)


class Sigmoid(Module):
    """``1 / (1 + e ** -x)`` of every element."""

    def forward(self, input: Tensor) -> Tensor:
        """Return ``sigmoid(input)``."""
        return F.sigmoid(input)


class Softmax(Module):
    """Exponentials scaled to sum to one along ``dim``.

    Example:
        >>> import tracegrad as torch
        >>> torch.nn.Softmax(dim=0)(torch.zeros(4))
        tensor([0.2500, 0.2500, 0.2500, 0.2500])
    """

    def __init__(self, dim: int | None = None) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, input: Tensor) -> Tensor:
        """Return the softmax of ``input`` along ``dim``."""
        return F.softmax(input, self.dim)

    def extra_repr(self) -> str:
        """Return the constructor's arguments."""
        return f"dim={self.dim}"


class LogSoftmax(Module):
    """The logarithm of the softmax along ``dim``."""

    def __init__(self, dim: int | None = None) -> None:
        super().__init__()
        self.dim = dim

    def extra_repr(self) -> str:
        """Return the constructor's arguments."""
        return f"dim={self.dim}"

    def forward(self, input: Tensor) -> Tensor:
        """Return the logarithm of the softmax of ``input`` along ``dim``."""
        return F.log_softmax(input, self.dim)


for _class in (
    ReLU,
    Hardtanh,
    ReLU6,
    SiLU,
    ELU,
    LeakyReLU,
    GELU,
    Softplus,
    Tanh,
    Sigmoid,
    Softmax,
    LogSoftmax,
):
    _class.__module__ = "tracegrad.nn"
