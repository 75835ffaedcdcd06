"""Convolutions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from tracegrad._tensor import Tensor
from tracegrad.nn import functional as F
from tracegrad.nn import init
from tracegrad.nn._module import Module
from tracegrad.nn._parameter import parameter


class _Conv(Module):
    """What convolutions of any number of dimensions share: checks, parameters, their initialisation."""

    _ndim: int
    _convolve: Any

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ):
        super().__init__()
        if groups <= 0:
            raise ValueError("groups must be a positive integer")
        if in_channels % groups != 0:
            raise ValueError("in_channels must be divisible by groups")
        if out_channels % groups != 0:
            raise ValueError("out_channels must be divisible by groups")
        if isinstance(padding, str):
            if padding not in ("same", "valid"):
                raise ValueError(f"Invalid padding string {padding!r}, should be one of {{'same', 'valid'}}")
            if padding == "same" and any(s != 1 for s in _each(stride, self._ndim)):
                raise ValueError("padding='same' is not supported for strided convolutions")
        if padding_mode not in ("zeros", "reflect", "replicate", "circular"):
            raise ValueError(
                "padding_mode must be one of {'zeros', 'reflect', 'replicate', 'circular'}, but got "
                f"padding_mode='{padding_mode}'"
            )
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = _each(kernel_size, self._ndim)
        self.stride = _each(stride, self._ndim)
        self.padding = padding if isinstance(padding, str) else _each(padding, self._ndim)
        self.dilation = _each(dilation, self._ndim)
        self.transposed = False
        self.output_padding = (0,) * self._ndim
        self.groups = groups
        self.padding_mode = padding_mode
        self.weight = parameter(
            out_channels, in_channels // groups, *self.kernel_size, device=device, dtype=dtype
        )
        if bias:
            self.bias = parameter(out_channels, device=device, dtype=dtype)
        else:
            self.register_parameter("bias", None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weight and bias uniformly from ``1 / sqrt(fan_in)`` to either side of zero."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            fan_in, _ = init._calculate_fan_in_and_fan_out(self.weight)
            if fan_in != 0:
                bound = 1 / math.sqrt(fan_in)
                init.uniform_(self.bias, -bound, bound)

    def forward(self, input: Tensor) -> Tensor:
        """Return the convolution of ``input`` with the weight, plus the bias."""
        padding = self.padding
        if self.padding_mode != "zeros":
            input = F.pad(input, self._padding_pairs(), mode=self.padding_mode)
            padding = (0,) * self._ndim
        convolve: Callable[..., Tensor] = self._convolve
        return convolve(input, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)

    def _padding_pairs(self) -> list[int]:
        """Return what `F.pad` takes: before and after, the last dimension first."""
        pairs: list[int] = []
        for i in reversed(range(self._ndim)):
            if self.padding == "same":
                total = self.dilation[i] * (self.kernel_size[i] - 1)
                pairs += [total // 2, total - total // 2]
            elif not isinstance(self.padding, str):
                pairs += [self.padding[i]] * 2
            else:
                pairs += [0, 0]
        return pairs

    def extra_repr(self) -> str:
        """Return the constructor's arguments that differ from the defaults."""
        parts = [
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        ]
        if self.padding != (0,) * self._ndim:
            parts.append(f"padding={self.padding}")
        if self.dilation != (1,) * self._ndim:
            parts.append(f"dilation={self.dilation}")
        if self.groups != 1:
            parts.append(f"groups={self.groups}")
        if self.bias is None:
            parts.append("bias=False")
        if self.padding_mode != "zeros":
            parts.append(f"padding_mode={self.padding_mode}")
        return ", ".join(parts)


class Conv1d(_Conv):
    """Convolves ``(N, C, L)`` or ``(C, L)`` with ``out_channels`` learned filters.

    Arguments are those of PyTorch's page.

    See https://docs.pytorch.org/docs/stable/generated/torch.nn.Conv1d.html

    Example:
        >>> import tracegrad as torch
        >>> torch.nn.Conv1d(3, 8, kernel_size=5)(torch.ones(2, 3, 20)).shape
        torch.Size([2, 8, 16])
    """

    _ndim = 1
    _convolve = staticmethod(F.conv1d)


class Conv2d(_Conv):
    """Convolves ``(N, C, H, W)`` or ``(C, H, W)`` with ``out_channels`` learned filters.

    Arguments are those of PyTorch's page.

    See https://docs.pytorch.org/docs/stable/generated/torch.nn.Conv2d.html

    Example:
        >>> import tracegrad as torch
        >>> torch.nn.Conv2d(1, 8, kernel_size=3, padding=1)(torch.ones(2, 1, 8, 8)).shape
        torch.Size([2, 8, 8, 8])
    """

    _ndim = 2
    _convolve = staticmethod(F.conv2d)


for _class in (Conv1d, Conv2d):
    _class.__module__ = "tracegrad.nn"


def _each(x: Any, ndim: int) -> tuple[int, ...]:
    """Return one number per dimension from one number or a sequence."""
    return (x,) * ndim if isinstance(x, int) else tuple(x)
