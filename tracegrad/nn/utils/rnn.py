"""Sequences of several lengths in one batch: padded, or packed without the padding, time step by time step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from tracegrad import _dtype
from tracegrad._functions import arange, empty_like, stack, tensor
from tracegrad._tensor import Tensor
from tracegrad.nn.functional import pad

_SORTED = (
    "`lengths` array must be sorted in decreasing order when `enforce_sorted` is True. You can pass "
    "`enforce_sorted=False` to pack_padded_sequence and/or pack_sequence to sidestep this requirement if you do not "
    "need ONNX exportability."
)


class _Fields(NamedTuple):
    data: Tensor
    batch_sizes: Tensor
    sorted_indices: Tensor | None
    unsorted_indices: Tensor | None


class PackedSequence(_Fields):
    """Sequences of several lengths without padding; `pack_padded_sequence` and `pack_sequence` make them.

    Args:
        data: the elements of all sequences: of the first time step, of the second, and so on.
        batch_sizes: how many sequences have an element at each time step.
        sorted_indices: the order by length in which ``data`` has the sequences; None where they came in that order.
        unsorted_indices: the inverse of that.

    See https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.rnn.PackedSequence.html
    """

    def __new__(
        cls,
        data: Any,
        batch_sizes: Tensor | None = None,
        sorted_indices: Tensor | None = None,
        unsorted_indices: Tensor | None = None,
    ) -> PackedSequence:
        """Return the packed sequence; ``data`` may be a pair of data and batch sizes."""
        if unsorted_indices is None:
            unsorted_indices = invert_permutation(sorted_indices)
        if batch_sizes is None:
            if not isinstance(data, (list, tuple)) or len(data) != 2:
                raise AssertionError("Expected data to be a list or tuple of length 2")
            data, batch_sizes = data
        return super().__new__(cls, data, batch_sizes, sorted_indices, unsorted_indices)

    def to(self, *args: Any, **kwargs: Any) -> PackedSequence:
        """Return it with other data, as `Tensor.to` has it; itself where that changes nothing."""
        data = self.data.to(*args, **kwargs)
        if data is self.data:
            return self
        moved = [i if i is None else i.to(data.device) for i in (self.sorted_indices, self.unsorted_indices)]
        return type(self)(data, self.batch_sizes, *moved)

    def cpu(self) -> PackedSequence:
        """Return it on the CPU."""
        return self.to("cpu")

    def cuda(self, device: Any = "cuda") -> PackedSequence:
        """Return it on a GPU."""
        return self.to(device)

    def double(self) -> PackedSequence:
        """Return it as float64."""
        return self.to(_dtype.float64)

    def float(self) -> PackedSequence:
        """Return it as float32."""
        return self.to(_dtype.float32)

    def half(self) -> PackedSequence:
        """Return it as float16."""
        return self.to(_dtype.float16)

    def long(self) -> PackedSequence:
        """Return it as int64."""
        return self.to(_dtype.int64)

    def int(self) -> PackedSequence:
        """Return it as int32."""
        return self.to(_dtype.int32)

    def short(self) -> PackedSequence:
        """Return it as int16."""
        return self.to(_dtype.int16)

    def char(self) -> PackedSequence:
        """Return it as int8."""
        return self.to(_dtype.int8)

    def byte(self) -> PackedSequence:
        """Return it as uint8."""
        return self.to(_dtype.uint8)

    @property
    def is_cuda(self) -> bool:
        """Whether it is on a GPU."""
        return bool(self.data.is_cuda)


PackedSequence.__module__ = "tracegrad.nn.utils.rnn"


def invert_permutation(permutation: Tensor | None) -> Tensor | None:
    """Return the permutation that undoes ``permutation``; None for None.

    Example:
        >>> import tracegrad as torch
        >>> torch.nn.utils.rnn.invert_permutation(torch.tensor([2, 0, 1]))
        tensor([1, 2, 0])
    """
    if permutation is None:
        return None
    return empty_like(permutation).scatter(0, permutation, arange(permutation.numel(), device=permutation.device))


def pack_padded_sequence(
    input: Tensor, lengths: Tensor | Sequence[int], batch_first: bool = False, enforce_sorted: bool = True
) -> PackedSequence:
    """Return padded sequences without their padding.

    Args:
        input: ``(time, batch, *)``, or ``(batch, time, *)`` where ``batch_first``.
        lengths: how long each sequence is; a tensor is read.
        batch_first: whether the batch is the first dim.
        enforce_sorted: raise where the longest sequence is not first; otherwise they are sorted.

    Raises:
        RuntimeError: for lengths that do not fit the input, or are not sorted.

    See https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.rnn.pack_padded_sequence.html

    Example:
        >>> import tracegrad as torch
        >>> x = torch.tensor([[1, 2, 0], [3, 0, 0], [4, 5, 6]])
        >>> torch.nn.utils.rnn.pack_padded_sequence(x, [2, 1, 3], batch_first=True, enforce_sorted=False).data
        tensor([4, 1, 3, 5, 2, 6])
    """
    long = np.asarray(lengths.tolist() if isinstance(lengths, Tensor) else lengths).astype(np.int64)
    if long.ndim != 1:
        raise RuntimeError(f"'lengths' argument should be a 1D CPU int64 tensor, but got {long.ndim}D cpu Long tensor")
    steps, batch = (input.size(1), input.size(0)) if batch_first else (input.size(0), input.size(1))
    if input.numel() == 0:
        raise RuntimeError("Cannot pack empty tensors.")
    if len(long) != batch:
        raise RuntimeError(
            f"Expected `len(lengths)` to be equal to batch_size, but got {len(long)} (batch_size={batch})")
    order = np.arange(batch)
    if not enforce_sorted:
        order = np.argsort(-long, kind="stable")
        long = long[order]
    if (np.diff(long) > 0).any():
        raise RuntimeError(_SORTED)
    if long[-1] <= 0:
        raise RuntimeError("Length of all samples has to be greater than 0, but found an element in 'lengths' that is "
                           "<= 0")
    if long[0] > steps:
        raise RuntimeError(f"Expected all lengths to be at most the {steps} time steps of the input, but got {long[0]}")
    times, places = np.nonzero(np.arange(long[0])[:, None] < long)
    rows = order[places] * steps + times if batch_first else times * batch + order[places]
    data = _flat(input).index_select(0, tensor(rows, device=input.device))
    batch_sizes = tensor(np.bincount(times))
    if enforce_sorted:
        return PackedSequence(data, batch_sizes)
    there, back = (tensor(i, device=input.device) for i in (order, np.argsort(order)))
    return PackedSequence(data, batch_sizes, there, back)


def pad_packed_sequence(
    sequence: PackedSequence, batch_first: bool = False, padding_value: float = 0.0, total_length: int | None = None
) -> tuple[Tensor, Tensor]:
    """Return packed sequences with padding, in the order in which they were before they were packed, and their lengths.

    Args:
        sequence: what `pack_padded_sequence` or a recurrent layer returned.
        batch_first: whether the batch is to be the first dim.
        padding_value: what stands after the end of a sequence.
        total_length: how many time steps the result has; those of the longest sequence when None.

    Raises:
        ValueError: where ``total_length`` is less than that.

    See https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.rnn.pad_packed_sequence.html

    Example:
        >>> import tracegrad as torch
        >>> from tracegrad.nn.utils.rnn import pack_sequence, pad_packed_sequence
        >>> pad_packed_sequence(pack_sequence([torch.tensor([1, 2, 3]), torch.tensor([4])]), batch_first=True)
        (tensor([[1, 2, 3],
                [4, 0, 0]]), tensor([3, 1]))
    """
    sizes = _sizes(sequence.batch_sizes)
    steps = len(sizes)
    if total_length is not None:
        if total_length < steps:
            raise ValueError("Expected total_length to be at least the length of the longest sequence in input, but "
                             f"got total_length={total_length} and max sequence length being {steps}")
        steps = total_length
    rows, lengths = _rows(sizes, steps)
    if sequence.unsorted_indices is not None:
        order = sequence.unsorted_indices.tolist()
        rows, lengths = rows[:, order], lengths[order]
    if batch_first:
        rows = rows.T
    data = sequence.data
    if not data.dtype.is_inexact:
        padding_value = int(padding_value)
    padded = _unpacked(data, rows)
    over = tensor((rows < 0).reshape(*rows.shape, *(1,) * (data.dim() - 1)), device=data.device)
    return padded.masked_fill(over, padding_value), tensor(lengths)


def pad_sequence(
    sequences: Iterable[Tensor], batch_first: bool = False, padding_value: float = 0.0, padding_side: str = "right"
) -> Tensor:
    """Return tensors of several lengths as one, padded to the longest.

    Args:
        sequences: ``(length, *)`` each.
        batch_first: return ``(batch, time, *)`` rather than ``(time, batch, *)``.
        padding_value: what is put beside a sequence.
        padding_side: ``right`` or ``left``.

    Raises:
        RuntimeError: where there are none, or they do not fit.

    See https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.rnn.pad_sequence.html

    Example:
        >>> import tracegrad as torch
        >>> torch.nn.utils.rnn.pad_sequence([torch.tensor([1, 2, 3]), torch.tensor([4])], batch_first=True)
        tensor([[1, 2, 3],
                [4, 0, 0]])
    """
    if not isinstance(sequences, Iterable):
        raise RuntimeError(
            f"pad_sequence: Expected iterable for input sequences, but got arg of type: {type(sequences)}")
    given = tuple(sequences)
    if not given:
        raise RuntimeError("received an empty list of sequences")
    if padding_side not in ("left", "right"):
        raise RuntimeError(f"Expected padding_side to be one of left or right, but got {padding_side}.")
    first = given[0]
    if not first.dtype.is_inexact:
        padding_value = int(padding_value)
    longest = max(s.size(0) for s in given)
    padded = []
    for s in given:
        missing = longest - s.size(0)
        if missing:
            ends = (0, missing) if padding_side == "right" else (missing, 0)
            s = pad(s, (0, 0) * (s.dim() - 1) + ends, value=padding_value)
        padded.append(s.to(first.dtype))
    return stack(padded, 0 if batch_first else 1)


def unpad_sequence(padded_sequences: Tensor, lengths: Tensor, batch_first: bool = False) -> list[Tensor]:
    """Return the sequences that were padded, as a list.

    PyTorch transposes its argument in place where the batch is not the first dim; here it stays as it is.

    Args:
        padded_sequences: ``(time, batch, *)``, or ``(batch, time, *)`` where ``batch_first``.
        lengths: how long each is; a tensor is read.
        batch_first: whether the batch is the first dim.

    See https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.rnn.unpad_sequence.html
    """
    each = padded_sequences.unbind(0 if batch_first else 1)
    return [s[:length] for s, length in zip(each, lengths.tolist(), strict=True)]


def pack_sequence(sequences: Sequence[Tensor], enforce_sorted: bool = True) -> PackedSequence:
    """Return tensors of several lengths as one packed sequence.

    Args:
        sequences: ``(length, *)`` each.
        enforce_sorted: raise where the longest is not first; otherwise they are sorted.

    See https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.rnn.pack_sequence.html

    Example:
        >>> import tracegrad as torch
        >>> torch.nn.utils.rnn.pack_sequence([torch.tensor([1, 2, 3]), torch.tensor([4, 5])])[:2]
        (tensor([1, 4, 2, 5, 3]), tensor([2, 2, 1]))
    """
    return pack_padded_sequence(pad_sequence(sequences), [s.size(0) for s in sequences], enforce_sorted=enforce_sorted)


def unpack_sequence(packed_sequences: PackedSequence) -> list[Tensor]:
    """Return the sequences that were packed, as a list.

    See https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.rnn.unpack_sequence.html
    """
    return unpad_sequence(*pad_packed_sequence(packed_sequences, batch_first=True), batch_first=True)


# -- for the layers ----------------------------------------------------------------------------------------------------


def filled(data: Tensor, batch_sizes: Tensor) -> tuple[Tensor, Tensor, np.ndarray[Any, Any]]:
    """Return packed data as ``(time, batch, *)``, anything after the ends; the lengths; and what `packed` wants."""
    sizes = _sizes(batch_sizes)
    rows, lengths = _rows(sizes, len(sizes))
    return _unpacked(data, rows), tensor(lengths, device=data.device), rows


def packed(padded: Tensor, rows: np.ndarray[Any, Any]) -> Tensor:
    """Return ``(time, batch, *)`` packed, as what `filled` gave ``rows`` for was."""
    return _flat(padded).index_select(0, tensor(np.flatnonzero(rows >= 0), device=padded.device))


def _sizes(batch_sizes: Tensor) -> np.ndarray[Any, Any]:
    return np.asarray(batch_sizes.tolist(), np.int64)


def _rows(sizes: np.ndarray[Any, Any], steps: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return where packed data has each time step of each sequence, -1 after its end; and the lengths."""
    lengths = (sizes[:, None] > np.arange(sizes[0])).sum(0)
    rows = np.full((steps, sizes[0]), -1)
    live = np.arange(steps)[:, None] < lengths
    rows[live] = np.arange(sizes.sum())
    return rows, lengths


def _unpacked(data: Tensor, rows: np.ndarray[Any, Any]) -> Tensor:
    places = tensor(np.maximum(rows, 0).reshape(-1), device=data.device)
    return data.index_select(0, places).reshape(*rows.shape, *data.shape[1:])


def _flat(x: Tensor) -> Tensor:
    return x.reshape(x.size(0) * x.size(1), *x.shape[2:])
