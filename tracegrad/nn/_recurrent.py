"""Recurrent layers over whole sequences: plain, LSTM and GRU."""

from __future__ import annotations

import math
import numbers
import warnings
from typing import Any

from tracegrad._functions import zeros
from tracegrad._ops.recurrent import stacked
from tracegrad._tensor import Tensor
from tracegrad.nn import init
from tracegrad.nn._module import Module
from tracegrad.nn._parameter import Parameter, parameter
from tracegrad.nn.utils.rnn import PackedSequence, filled, packed

_GATES = {"RNN_TANH": 1, "RNN_RELU": 1, "LSTM": 4, "GRU": 3}
_DROPOUT = "dropout should be a number in range [0, 1] representing the probability of an element being zeroed"


class RNNBase(Module):
    """What recurrent layers share: checks, parameters, their initialisation, and how they run.

    Args:
        mode: ``RNN_TANH``, ``RNN_RELU``, ``LSTM`` or ``GRU``.
        input_size: the size of the last dim of the input.
        hidden_size: the size of the hidden state.
        num_layers: how many layers there are, one upon the other.
        bias: whether biases are added.
        batch_first: whether inputs and outputs are ``(batch, time, size)`` rather than ``(time, batch, size)``.
        dropout: the probability with which outputs of all layers but the last are dropped in training.
        bidirectional: whether each layer goes through time both ways.
        proj_size: the size that hidden states of an LSTM are projected to; 0 for none.
        device: where the parameters live.
        dtype: the parameters' element type.

    See https://docs.pytorch.org/docs/stable/generated/torch.nn.RNNBase.html
    """

    def __init__(
        self,
        mode: str,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.mode = mode
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bias = bias
        self.batch_first = batch_first
        self.dropout = float(dropout)
        self.bidirectional = bidirectional
        self.proj_size = proj_size
        if not isinstance(dropout, numbers.Number) or isinstance(dropout, bool) or not 0 <= dropout <= 1:
            raise ValueError(_DROPOUT)
        if dropout > 0 and num_layers == 1:
            warnings.warn(
                "dropout option adds dropout after all but last recurrent layer, so non-zero dropout expects "
                f"num_layers greater than 1, but got dropout={dropout} and num_layers={num_layers}", stacklevel=3)
        for name, value, kind in (("bias", bias, bool), ("batch_first", batch_first, bool),
                                  ("input_size", input_size, int), ("hidden_size", hidden_size, int)):  # fmt: skip
            if not isinstance(value, kind):
                raise TypeError(f"{name} should be of type {kind.__name__}, got: {type(value).__name__}")
            if kind is int and value <= 0:
                raise ValueError(f"{name} must be greater than zero")
        if num_layers <= 0:
            raise ValueError("num_layers must be greater than zero")
        if proj_size < 0:
            raise ValueError("proj_size should be a positive integer or zero to disable projections")
        if proj_size >= hidden_size:
            raise ValueError("proj_size has to be smaller than hidden_size")
        if mode not in _GATES:
            raise ValueError("Unrecognized RNN mode: " + mode)
        rows, directions = _GATES[mode] * hidden_size, 2 if bidirectional else 1
        self._all_weights: list[list[str]] = []
        for n in range(num_layers * directions):
            inputs = input_size if n < directions else self._state_size * directions
            shapes: dict[str, tuple[int, ...]] = {"weight_ih": (rows, inputs), "weight_hh": (rows, self._state_size)}
            if bias:
                shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)}
            if proj_size:
                shapes["weight_hr"] = (proj_size, hidden_size)
            suffix = f"_l{n // directions}{'_reverse' * (n % directions)}"
            for name, shape in shapes.items():
                setattr(self, name + suffix, parameter(*shape, device=device, dtype=dtype))
            self._all_weights.append([name + suffix for name in shapes])
        self._flat_weights_names = [name for names in self._all_weights for name in names]
        self.reset_parameters()

    @property
    def _state_size(self) -> int:
        """The size of hidden states and of what one direction puts out."""
        return self.proj_size or self.hidden_size

    @property
    def _flat_weights(self) -> list[Any]:
        own = self._parameters  # to ask for an attribute takes four times as long
        return [own[name] if name in own else getattr(self, name) for name in self._flat_weights_names]

    @property
    def all_weights(self) -> list[list[Parameter]]:
        """The parameters, a list for each layer and direction."""
        return [[getattr(self, name) for name in names] for names in self._all_weights]

    def flatten_parameters(self) -> None:
        """Do nothing: parameters of a program lie in memory as it wants them."""

    def reset_parameters(self) -> None:
        """Draw all parameters uniformly from ``1 / sqrt(hidden_size)`` to either side of zero."""
        bound = 1 / math.sqrt(self.hidden_size)
        for weight in self.parameters():
            init.uniform_(weight, -bound, bound)

    # -- checks ----------------------------------------------------------------------------------------------

    def check_input(self, input: Tensor, batch_sizes: Tensor | None) -> None:
        """Raise where the input has another dtype, number of dims or size than this layer wants."""
        dtype = getattr(self, self._flat_weights_names[0]).dtype
        if input.dtype != dtype:
            raise ValueError(f"RNN input dtype ({input.dtype}) does not match weight dtype ({dtype}). "
                             f"Convert input: input.to({dtype}), or convert model: model.to({input.dtype})")
        expected = 2 if batch_sizes is not None else 3
        if input.dim() != expected:
            raise RuntimeError(f"input must have {expected} dimensions, got {input.dim()}")
        if self.input_size != input.size(-1):
            raise RuntimeError(
                f"input.size(-1) must be equal to input_size. Expected {self.input_size}, got {input.size(-1)}")

    def _expected(self, input: Tensor, batch_sizes: Tensor | None, size: int) -> tuple[int, int, int]:
        batch = input.size(0 if self.batch_first else 1) if batch_sizes is None else batch_sizes.tolist()[0]
        return self.num_layers * (2 if self.bidirectional else 1), batch, size

    def get_expected_hidden_size(self, input: Tensor, batch_sizes: Tensor | None) -> tuple[int, int, int]:
        """Return the shape that hidden states must have."""
        return self._expected(input, batch_sizes, self._state_size)

    def check_hidden_size(self, hx: Tensor, expected_hidden_size: tuple[int, int, int],
                          msg: str = "Expected hidden size {}, got {}") -> None:  # fmt: skip
        """Raise ``msg`` where a state has another shape."""
        if hx.size() != expected_hidden_size:
            raise RuntimeError(msg.format(expected_hidden_size, list(hx.size())))

    def check_forward_args(self, input: Tensor, hidden: Any, batch_sizes: Tensor | None) -> None:
        """Raise where input or hidden states do not fit."""
        self.check_input(input, batch_sizes)
        self.check_hidden_size(hidden, self.get_expected_hidden_size(input, batch_sizes))

    def permute_hidden(self, hx: Any, permutation: Tensor | None) -> Any:
        """Return states with the batch in another order."""
        return hx if permutation is None else hx.index_select(1, permutation)

    # -- running ---------------------------------------------------------------------------------------------

    def _checked_state(self, hx: Any, is_batched: bool) -> Any:
        """Return given states with a batch dim."""
        kind, dims = ("batched", 3) if is_batched else ("unbatched", 2)
        if hx.dim() != dims:
            raise RuntimeError(f"For {kind} {dims}-D input, hx should also be {dims}-D but got {hx.dim()}-D tensor")
        return hx if is_batched else hx.unsqueeze(1)

    def _first_state(self, shape: tuple[int, int, int], input: Tensor) -> Any:
        return zeros(shape, dtype=input.dtype, device=input.device)

    def forward(self, input: Any, hx: Any = None) -> Any:
        """Return the outputs of all time steps, and the states after the last one.

        Args:
            input: ``(time, batch, input_size)``, ``(batch, time, input_size)`` where ``batch_first``, ``(time,
                input_size)`` for a single sequence, or a packed sequence.
            hx: the states before the first time step, ``(layers * directions, batch, size)``, without the second dim
                for a single sequence; zeros when None. For an LSTM hidden states and cells.

        Raises:
            ValueError: for an input with another number of dims or another dtype.
            RuntimeError: for an input or states of other sizes.
        """
        if isinstance(input, PackedSequence):
            return self._forward_packed(input, hx)
        if input.dim() not in (2, 3):
            called, noun = ("RNN", " tensor") if self.mode.startswith("RNN") else (self.mode, "")
            raise ValueError(f"{called}: Expected input to be 2D or 3D, got {input.dim()}D{noun} instead")
        is_batched, batch_dim = input.dim() == 3, 0 if self.batch_first else 1
        x = input if is_batched else input.unsqueeze(batch_dim)
        if hx is None:
            hx = self._first_state(self.get_expected_hidden_size(x, None), x)
        else:
            hx = self._checked_state(hx, is_batched)
        self.check_forward_args(x, hx, None)
        output, *last = self._run(x, hx, self.batch_first)
        if not is_batched:
            output, last = output.squeeze(batch_dim), [h.squeeze(1) for h in last]
        return output, self._returned(last)

    def _forward_packed(self, input: PackedSequence, hx: Any) -> tuple[PackedSequence, Any]:
        data, batch_sizes, sorted_indices, unsorted_indices = input
        if hx is None:
            hx = self._first_state(self.get_expected_hidden_size(data, batch_sizes), data)
        else:
            hx = self.permute_hidden(hx, sorted_indices)
        if self.mode != "LSTM":  # PyTorch leaves it to the products there
            self.check_forward_args(data, hx, batch_sizes)
        x, lengths, rows = filled(data, batch_sizes)
        output, *last = self._run(x, hx, False, lengths)
        result = PackedSequence(packed(output, rows), batch_sizes, sorted_indices, unsorted_indices)
        return result, self.permute_hidden(self._returned(last), unsorted_indices)

    def _run(self, x: Tensor, hx: Any, batch_first: bool, lengths: Tensor | None = None) -> tuple[Tensor, ...]:
        states = hx if self.mode == "LSTM" else (hx,)
        return stacked(self.mode.lower(), x, states, self._flat_weights, self.bias, self.num_layers, self.dropout,
                       self.training, self.bidirectional, batch_first, lengths)  # fmt: skip

    def _returned(self, last: list[Tensor]) -> Any:
        return last[0]

    def extra_repr(self) -> str:
        """Return the constructor's arguments that differ from the defaults."""
        parts = [f"{self.input_size}, {self.hidden_size}"]
        defaults = {"proj_size": 0, "num_layers": 1, "bias": True, "batch_first": False, "dropout": 0.0,
                    "bidirectional": False}  # fmt: skip
        for name, default in defaults.items():
            value = getattr(self, name)
            if value != default:
                parts.append(f"{name}={value}")
        return ", ".join(parts)


class RNN(RNNBase):
    """Computes ``h' = tanh(w_ih @ x + b_ih + w_hh @ h + b_hh)`` for every time step, in one or several layers.

    Arguments are those of PyTorch's page: ``RNN(input_size, hidden_size, num_layers=1, nonlinearity='tanh', bias=True,
    batch_first=False, dropout=0.0, bidirectional=False, device=None, dtype=None)``.

    See https://docs.pytorch.org/docs/stable/generated/torch.nn.RNN.html

    Example:
        >>> import tracegrad as torch
        >>> output, h = torch.nn.RNN(10, 20, 2)(torch.ones(5, 3, 10))
        >>> output.shape, h.shape
        (torch.Size([5, 3, 20]), torch.Size([2, 3, 20]))
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if "proj_size" in kwargs:
            raise ValueError("proj_size argument is only supported for LSTM, not RNN or GRU")
        if len(args) > 3:
            nonlinearity, args = args[3], args[:3] + args[4:]
        else:
            nonlinearity = kwargs.pop("nonlinearity", "tanh")
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"Unknown nonlinearity '{nonlinearity}'. Select from 'tanh' or 'relu'.")
        super().__init__(f"RNN_{nonlinearity.upper()}", *args, **kwargs)
        self.nonlinearity = nonlinearity


class LSTM(RNNBase):
    """Runs a long short-term memory over every time step, in one or several layers.

    Arguments are those of `RNNBase` after the first.

    See https://docs.pytorch.org/docs/stable/generated/torch.nn.LSTM.html

    Example:
        >>> import tracegrad as torch
        >>> lstm = torch.nn.LSTM(10, 20, num_layers=2, batch_first=True, bidirectional=True)
        >>> output, (h, c) = lstm(torch.ones(3, 5, 10))
        >>> output.shape, h.shape, c.shape
        (torch.Size([3, 5, 40]), torch.Size([4, 3, 20]), torch.Size([4, 3, 20]))
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__("LSTM", *args, **kwargs)

    def get_expected_cell_size(self, input: Tensor, batch_sizes: Tensor | None) -> tuple[int, int, int]:
        """Return the shape that cells must have."""
        return self._expected(input, batch_sizes, self.hidden_size)

    def check_forward_args(self, input: Tensor, hidden: Any, batch_sizes: Tensor | None) -> None:
        """Raise where input, hidden states or cells do not fit."""
        self.check_input(input, batch_sizes)
        shapes = self.get_expected_hidden_size(input, batch_sizes), self.get_expected_cell_size(input, batch_sizes)
        for i, shape in enumerate(shapes):
            self.check_hidden_size(hidden[i], shape, f"Expected hidden[{i}] size {{}}, got {{}}")

    def permute_hidden(self, hx: Any, permutation: Tensor | None) -> Any:
        """Return hidden states and cells with the batch in another order."""
        return hx if permutation is None else tuple(h.index_select(1, permutation) for h in hx[:2])

    def _checked_state(self, hx: Any, is_batched: bool) -> Any:
        kind, dims = ("batched", 3) if is_batched else ("unbatched", 2)
        if hx[0].dim() != dims or hx[1].dim() != dims:
            raise RuntimeError(f"For {kind} {dims}-D input, hx and cx should also be {dims}-D but got "
                               f"({hx[0].dim()}-D, {hx[1].dim()}-D) tensors")
        return hx if is_batched else (hx[0].unsqueeze(1), hx[1].unsqueeze(1))

    def _first_state(self, shape: tuple[int, int, int], input: Tensor) -> Any:
        return super()._first_state(shape, input), super()._first_state((*shape[:2], self.hidden_size), input)

    def _returned(self, last: list[Tensor]) -> Any:
        return tuple(last)


class GRU(RNNBase):
    """Runs a gated recurrent unit over every time step, in one or several layers.

    Arguments are those of `RNNBase` after the first, without ``proj_size``.

    See https://docs.pytorch.org/docs/stable/generated/torch.nn.GRU.html

    Example:
        >>> import tracegrad as torch
        >>> output, h = torch.nn.GRU(10, 20)(torch.ones(5, 10))  # one sequence
        >>> output.shape, h.shape
        (torch.Size([5, 20]), torch.Size([1, 20]))
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if "proj_size" in kwargs:
            raise ValueError("proj_size argument is only supported for LSTM, not RNN or GRU")
        super().__init__("GRU", *args, **kwargs)


for _class in (RNNBase, RNN, LSTM, GRU):
    _class.__module__ = "tracegrad.nn"
