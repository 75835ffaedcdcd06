"""Recurrent networks as functions: stacked layers over time, and single time steps.

A layer, in one direction or both, is one recorded op (`_recurrences.py`). A step of a cell is two products, as
`linear` records them, and one op for what comes after; so a rolled loop over time leaves the gradients of its weights
until its end.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp

from tracegrad._engine.op import Lowering
from tracegrad._engine.trace import record
from tracegrad._engine.value import Aval
from tracegrad._ops._declare import op
from tracegrad._ops._opmath import opmath, require_floating
from tracegrad._ops._recurrences import KINDS, layer
from tracegrad._ops.activation import relu
from tracegrad._ops.dropout import dropout as drop
from tracegrad._ops.linear import linear
from tracegrad._ops.math import tanh
from tracegrad._ops.pointwise import add
from tracegrad._ops.shape import stack, transpose
from tracegrad._ops.splitting import unbind

if TYPE_CHECKING:
    from tracegrad._tensor import Tensor


@op(method=False)
def lstm(
    input: Tensor,
    hx: Sequence[Tensor],
    params: Sequence[Tensor],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return what `nn.LSTM` does: the outputs of all time steps, and the last hidden states and cells.

    Args:
        input: ``(time, batch, inputs)``, or ``(batch, time, inputs)`` where ``batch_first``.
        hx: the first hidden states and cells, ``(layers * directions, batch, hidden)`` each; the hidden states have the
            size of the projection where there is one.
        params: for each layer and direction ``w_ih``, ``w_hh``, ``b_ih`` and ``b_hh`` where there are biases, and
            ``w_hr`` where there are projections.
        has_biases: whether there are biases.
        num_layers: how many layers there are, one upon the other.
        dropout: the probability with which outputs of all layers but the last are dropped in training.
        train: whether this is training.
        bidirectional: whether each layer goes through time both ways, and concatenates what it finds.
        batch_first: whether the batch is the first dim of inputs and outputs.

    Raises:
        RuntimeError: where shapes, dtypes or numbers of tensors do not go together.

    See https://docs.pytorch.org/docs/stable/generated/torch.nn.LSTM.html

    Example:
        >>> import tracegrad as torch
        >>> weights = [torch.ones(8, 3), torch.ones(8, 2), torch.ones(8), torch.ones(8)]
        >>> state = [torch.zeros(1, 4, 2), torch.zeros(1, 4, 2)]
        >>> y, h, c = torch.lstm(torch.ones(5, 4, 3), state, weights, True, 1, 0.0, False, False, False)
        >>> y.shape, h.shape, c.shape
        (torch.Size([5, 4, 2]), torch.Size([1, 4, 2]), torch.Size([1, 4, 2]))
    """
    found = stacked("lstm", input, hx, params, has_biases, num_layers, dropout, train, bidirectional, batch_first)
    return found  # type: ignore[return-value]


@op(method=False)
def gru(
    input: Tensor,
    hx: Tensor,
    params: Sequence[Tensor],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[Tensor, Tensor]:
    """Return what `nn.GRU` does: the outputs of all time steps, and the last hidden states.

    The arguments are those of `lstm`, with one tensor of hidden states.

    See https://docs.pytorch.org/docs/stable/generated/torch.nn.GRU.html
    """
    found = stacked("gru", input, (hx,), params, has_biases, num_layers, dropout, train, bidirectional, batch_first)
    return found  # type: ignore[return-value]


@op(method=False)
def rnn_tanh(
    input: Tensor,
    hx: Tensor,
    params: Sequence[Tensor],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[Tensor, Tensor]:
    """Return what `nn.RNN` does: the outputs of all time steps, and the last hidden states.

    The arguments are those of `lstm`, with one tensor of hidden states.

    See https://docs.pytorch.org/docs/stable/generated/torch.nn.RNN.html
    """
    found = stacked("rnn_tanh", input, (hx,), params, has_biases, num_layers, dropout, train, bidirectional,
                    batch_first)  # fmt: skip
    return found  # type: ignore[return-value]


@op(method=False)
def rnn_relu(
    input: Tensor,
    hx: Tensor,
    params: Sequence[Tensor],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[Tensor, Tensor]:
    """Return what `nn.RNN` does with relu in the place of tanh.

    See https://docs.pytorch.org/docs/stable/generated/torch.nn.RNN.html
    """
    found = stacked("rnn_relu", input, (hx,), params, has_biases, num_layers, dropout, train, bidirectional,
                    batch_first)  # fmt: skip
    return found  # type: ignore[return-value]


def stacked(
    kind: str,
    input: Tensor,
    hx: Sequence[Tensor],
    params: Sequence[Tensor],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
    lengths: Tensor | None = None,
) -> tuple[Tensor, ...]:
    """Return outputs and last states of layers of one kind; see `lstm`.

    Where ``lengths`` has how long each sequence of the batch is, the last states are those at its end, and the outputs
    after it are not defined.
    """
    if kind == "lstm" and len(hx) != 2:
        raise RuntimeError("lstm expects two hidden states")
    directions = 2 if bidirectional else 1
    each = 4 if has_biases else 2
    projected = kind == "lstm" and hx[0].shape[-1] != hx[1].shape[-1]
    size = each + projected
    if len(params) % size:
        raise RuntimeError("got an incorrect number of RNN parameters")
    states = [unbind(h) for h in hx]
    if any(len(h) != num_layers * directions for h in states):
        few = any(len(h) < num_layers * directions for h in states)
        raise RuntimeError(f"Expected {'more' if few else 'no more'} hidden states in stacked_rnn")
    if len(params) != size * num_layers * directions:
        few = len(params) < size * num_layers * directions
        raise RuntimeError(f"Expected {'more' if few else 'no more'} weights in stacked_rnn")
    x = transpose(input, 0, 1) if batch_first else input
    last: list[list[Tensor]] = [[] for _ in hx]
    static = (kind, directions, bool(has_biases), projected, lengths is not None)
    for k in range(num_layers):
        operands = [x]
        for n in range(k * directions, (k + 1) * directions):
            operands += [*(h[n] for h in states), *params[n * size : (n + 1) * size]]
        x, *final = record(layer, static, *operands, *(() if lengths is None else (lengths,)))
        for i, found in enumerate(last):
            found += final[i :: len(last)]
        if dropout and train and k < num_layers - 1:
            x = drop(x, dropout)
    return (transpose(x, 0, 1) if batch_first else x, *map(stack, last))


# -- single time steps -------------------------------------------------------------------------------------------------


@op(method=False)
def lstm_cell(
    input: Tensor,
    hx: Sequence[Tensor],
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None = None,
    b_hh: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return hidden state and cell after one time step of an LSTM.

    Args:
        input: ``(batch, inputs)``.
        hx: hidden state and cell before, ``(batch, hidden)`` each.
        w_ih: ``(4 * hidden, inputs)``; the gates are input, forget, cell, output.
        w_hh: ``(4 * hidden, hidden)``.
        b_ih: ``(4 * hidden,)``.
        b_hh: ``(4 * hidden,)``.

    Raises:
        RuntimeError: where shapes or dtypes do not go together.

    See https://docs.pytorch.org/docs/stable/generated/torch.nn.LSTMCell.html
    """
    if len(hx) != 2:
        raise RuntimeError("lstm_cell expects two hidden states")
    _check_cell(input, hx, w_ih, w_hh, 4)
    return record(_cell, ("lstm",), linear(input, w_ih, b_ih), linear(hx[0], w_hh, b_hh), *hx)  # type: ignore[no-any-return]


@op(method=False)
def gru_cell(
    input: Tensor,
    hx: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None = None,
    b_hh: Tensor | None = None,
) -> Tensor:
    """Return the hidden state after one time step of a GRU, whose gates are reset, update, new.

    See https://docs.pytorch.org/docs/stable/generated/torch.nn.GRUCell.html
    """
    _check_cell(input, (hx,), w_ih, w_hh, 3)
    return record(_cell, ("gru",), linear(input, w_ih, b_ih), linear(hx, w_hh, b_hh), hx)  # type: ignore[no-any-return]


@op(method=False)
def rnn_tanh_cell(
    input: Tensor,
    hx: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None = None,
    b_hh: Tensor | None = None,
) -> Tensor:
    """Return ``tanh(input @ w_ih.T + b_ih + hx @ w_hh.T + b_hh)``.

    See https://docs.pytorch.org/docs/stable/generated/torch.nn.RNNCell.html
    """
    _check_cell(input, (hx,), w_ih, w_hh, 1)
    return tanh(add(linear(hx, w_hh, b_hh), linear(input, w_ih, b_ih)))


@op(method=False)
def rnn_relu_cell(
    input: Tensor,
    hx: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None = None,
    b_hh: Tensor | None = None,
) -> Tensor:
    """Return ``relu(input @ w_ih.T + b_ih + hx @ w_hh.T + b_hh)``.

    See https://docs.pytorch.org/docs/stable/generated/torch.nn.RNNCell.html
    """
    _check_cell(input, (hx,), w_ih, w_hh, 1)
    return relu(add(linear(hx, w_hh, b_hh), linear(input, w_ih, b_ih)))


def _check_cell(x: Tensor, states: Sequence[Tensor], w_ih: Tensor, w_hh: Tensor, gates: int) -> None:
    inputs, hidden = w_ih.shape[1], w_hh.shape[1]
    if x.shape[1] != inputs:
        raise RuntimeError(f"input has inconsistent input_size: got {x.shape[1]} expected {inputs}")
    if w_ih.shape[0] != gates * hidden:
        raise RuntimeError(f"weight_ih first dim must be {gates} * hidden_size = {gates * hidden}, "
                           f"but got {w_ih.shape[0]}")
    for i, h in enumerate(states):
        if h.shape[0] != x.shape[0]:
            raise RuntimeError(f"Input batch size {x.shape[0]} doesn't match hidden{i} batch size {h.shape[0]}")
        if h.shape[1] != hidden:
            raise RuntimeError(f"hidden{i} has inconsistent hidden_size: got {h.shape[1]}, expected {hidden}")


def _cell(given: Aval, hidden: Aval, *rest: Any) -> Lowering:
    *states, name = rest
    kind, wide = KINDS[name], opmath(given.dtype)
    require_floating(given, name)

    def fn(a: Any, b: Any, *state: Any) -> Any:
        new, _ = kind.step(a.astype(wide), b.astype(wide), tuple(jnp.asarray(s, wide) for s in state))
        found = tuple(s.astype(given.dtype.np) for s in new)
        return found if len(found) > 1 else found[0]

    return Lowering(fn, name="MulBackward0" if len(states) > 1 else "AddBackward0")
