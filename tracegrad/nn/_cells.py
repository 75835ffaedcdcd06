"""Recurrent cells: single time steps, for loops that their user writes."""

from __future__ import annotations

import math
from typing import Any

from tracegrad._functions import gru_cell, lstm_cell, rnn_relu_cell, rnn_tanh_cell, zeros
from tracegrad._tensor import Tensor
from tracegrad.nn import init
from tracegrad.nn._module import Module
from tracegrad.nn._parameter import parameter


class RNNCellBase(Module):
    """What recurrent cells share.

    Args:
        input_size: the size of the last dim of the input.
        hidden_size: the size of the hidden state.
        bias: whether biases are added.
        num_chunks: how many gates there are.
        device: where the parameters live.
        dtype: the parameters' element type.
    """

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool, num_chunks: int, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__()
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.bias = bias
        rows = num_chunks * hidden_size
        self.weight_ih = parameter(rows, input_size, device=device, dtype=dtype)
        self.weight_hh = parameter(rows, hidden_size, device=device, dtype=dtype)
        for name in ("bias_ih", "bias_hh"):
            self.register_parameter(name, parameter(rows, device=device, dtype=dtype) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all parameters uniformly from ``1 / sqrt(hidden_size)`` to either side of zero."""
        bound = 1 / math.sqrt(self.hidden_size) if self.hidden_size > 0 else 0
        for weight in self.parameters():
            init.uniform_(weight, -bound, bound)

    def _weights(self) -> tuple[Any, ...]:
        return self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh

    def _check_dims(self, what: str, x: Tensor) -> None:
        if x.dim() not in (1, 2):
            raise ValueError(f"{type(self).__name__}: Expected {what} to be 1D or 2D, got {x.dim()}D instead")

    def _zeros(self, x: Tensor) -> Tensor:
        return zeros(x.size(0), self.hidden_size, dtype=x.dtype, device=x.device)

    def extra_repr(self) -> str:
        """Return the constructor's arguments that differ from the defaults."""
        text = f"{self.input_size}, {self.hidden_size}"
        if self.bias is not True:
            text += f", bias={self.bias}"
        if getattr(self, "nonlinearity", "tanh") != "tanh":
            text += f", nonlinearity={self.nonlinearity}"
        return text


class RNNCell(RNNCellBase):
    """Computes ``h' = tanh(w_ih @ x + b_ih + w_hh @ h + b_hh)``, or with relu in the place of tanh.

    Args:
        input_size: the size of the last dim of the input.
        hidden_size: the size of the hidden state.
        bias: whether biases are added.
        nonlinearity: ``tanh`` or ``relu``.
        device: where the parameters live.
        dtype: the parameters' element type.

    See https://docs.pytorch.org/docs/stable/generated/torch.nn.RNNCell.html

    Example:
        >>> import tracegrad as torch
        >>> cell, h = torch.nn.RNNCell(10, 20), None
        >>> for x in torch.ones(6, 3, 10):
        ...     h = cell(x, h)
        >>> h.shape
        torch.Size([3, 20])
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, 1, device, dtype)
        self.nonlinearity = nonlinearity

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """Return the hidden state after one time step.

        Args:
            input: ``(batch, input_size)`` or ``(input_size,)``.
            hx: the hidden state before, zeros when None.
        """
        if self.nonlinearity not in ("tanh", "relu"):
            raise RuntimeError(f"Unknown nonlinearity: {self.nonlinearity}")
        return _stepped(self, rnn_tanh_cell if self.nonlinearity == "tanh" else rnn_relu_cell, input, hx)


class LSTMCell(RNNCellBase):
    """A time step of a long short-term memory.

    Args:
        input_size: the size of the last dim of the input.
        hidden_size: the size of the hidden state and of the cell.
        bias: whether biases are added.
        device: where the parameters live.
        dtype: the parameters' element type.

    See https://docs.pytorch.org/docs/stable/generated/torch.nn.LSTMCell.html

    Example:
        >>> import tracegrad as torch
        >>> h, c = torch.nn.LSTMCell(10, 20)(torch.ones(3, 10))
        >>> h.shape, c.shape
        (torch.Size([3, 20]), torch.Size([3, 20]))
    """

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__(input_size, hidden_size, bias, 4, device, dtype)

    def forward(self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """Return hidden state and cell after one time step.

        Args:
            input: ``(batch, input_size)`` or ``(input_size,)``.
            hx: hidden state and cell before, zeros when None.
        """
        self._check_dims("input", input)
        for i, value in enumerate(hx or ()):
            self._check_dims(f"hx[{i}]", value)
        is_batched = input.dim() == 2
        if not is_batched:
            input = input.unsqueeze(0)
        if hx is None:
            zero = self._zeros(input)
            hx = zero, zero
        elif not is_batched:
            hx = hx[0].unsqueeze(0), hx[1].unsqueeze(0)
        h, c = lstm_cell(input, hx, *self._weights())
        return (h, c) if is_batched else (h.squeeze(0), c.squeeze(0))


class GRUCell(RNNCellBase):
    """A time step of a gated recurrent unit.

    Args:
        input_size: the size of the last dim of the input.
        hidden_size: the size of the hidden state.
        bias: whether biases are added.
        device: where the parameters live.
        dtype: the parameters' element type.

    See https://docs.pytorch.org/docs/stable/generated/torch.nn.GRUCell.html

    Example:
        >>> import tracegrad as torch
        >>> torch.nn.GRUCell(10, 20)(torch.ones(3, 10)).shape
        torch.Size([3, 20])
    """

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__(input_size, hidden_size, bias, 3, device, dtype)

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """Return the hidden state after one time step.

        Args:
            input: ``(batch, input_size)`` or ``(input_size,)``.
            hx: the hidden state before, zeros when None.
        """
        return _stepped(self, gru_cell, input, hx)


def _stepped(cell: RNNCellBase, step: Any, input: Tensor, hx: Tensor | None) -> Tensor:
    cell._check_dims("input", input)
    if hx is not None:
        cell._check_dims("hidden", hx)
    is_batched = input.dim() == 2
    x = input if is_batched else input.unsqueeze(0)
    if hx is None:
        hx = cell._zeros(x)
    elif not is_batched:
        hx = hx.unsqueeze(0)
    h = step(x, hx, *cell._weights())
    return h if is_batched else h.squeeze(0)  # type: ignore[no-any-return]


for _class in (RNNCellBase, RNNCell, LSTMCell, GRUCell):
    _class.__module__ = "tracegrad.nn"
