"""``torch._VF``: the functions under the name by which PyTorch's own layers call them, for code copied from there.

All are those of `tracegrad`; the recurrent ones take packed sequences here as well, as PyTorch's do.
"""

from __future__ import annotations

from typing import Any

from tracegrad import _functions
from tracegrad._ops.recurrent import stacked
from tracegrad.nn.utils.rnn import filled, packed


def __getattr__(name: str) -> Any:
    """Return the function of that name."""
    return getattr(_functions, name)


def lstm(*args: Any) -> Any:
    """Return what ``tracegrad.lstm`` does; for packed sequences with their sizes of batches as the second argument.

    See https://docs.pytorch.org/docs/stable/generated/torch.nn.LSTM.html
    """
    return _recurrent("lstm", args)


def gru(*args: Any) -> Any:
    """Return what ``tracegrad.gru`` does; for packed sequences with their sizes of batches as the second argument.

    See https://docs.pytorch.org/docs/stable/generated/torch.nn.GRU.html
    """
    return _recurrent("gru", args)


def rnn_tanh(*args: Any) -> Any:
    """Return what ``tracegrad.rnn_tanh`` does; for packed sequences with their sizes of batches as the second argument.

    See https://docs.pytorch.org/docs/stable/generated/torch.nn.RNN.html
    """
    return _recurrent("rnn_tanh", args)


def rnn_relu(*args: Any) -> Any:
    """Return what ``tracegrad.rnn_relu`` does; for packed sequences with their sizes of batches as the second argument.

    See https://docs.pytorch.org/docs/stable/generated/torch.nn.RNN.html
    """
    return _recurrent("rnn_relu", args)


def _recurrent(kind: str, args: tuple[Any, ...]) -> Any:
    if len(args) < 4 or not isinstance(args[3], (list, tuple)):  # there are the parameters of packed ones
        return getattr(_functions, kind)(*args)
    data, batch_sizes, hx, params, has_biases, num_layers, dropout, train, bidirectional = args
    x, lengths, rows = filled(data, batch_sizes)
    output, *last = stacked(kind, x, hx if kind == "lstm" else (hx,), params, has_biases, num_layers, dropout, train,
                            bidirectional, False, lengths)  # fmt: skip
    return packed(output, rows), *last
