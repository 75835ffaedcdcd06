"""The text of a tensor: its elements in PyTorch's layout, then what is not obvious from them.

Three steps: keep the elements that are shown (`_shown`), choose one format for all of them (`_column`), lay
them out in brackets (`_layout`). The elements are read once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from tracegrad import _dtype
from tracegrad._dtype import COMPLEX, FLOATING, DType
from tracegrad._engine import scope, trace
from tracegrad._jaxtree import Carried

if TYPE_CHECKING:
    from tracegrad._tensor import Tensor


@dataclass(frozen=True)
class Options:
    """How tensors are printed."""

    precision: int = 4  # digits after the point
    threshold: float = 1000  # a tensor of more elements is summarised
    edgeitems: int = 3  # what a summary keeps at each end of a dimension
    linewidth: int = 80  # characters a line
    sci_mode: bool | None = None  # scientific notation; chosen from the elements when None


_PROFILES = {
    "default": Options(),
    "short": Options(precision=2, edgeitems=2),
    "full": Options(threshold=math.inf),
}
_options = Options()


def set_printoptions(
    precision: int | None = None,
    threshold: float | None = None,
    edgeitems: int | None = None,
    linewidth: int | None = None,
    profile: str | None = None,
    sci_mode: bool | None = None,
) -> None:
    """Set how tensors are printed; what is left out stays as it is, but ``sci_mode``, which returns to None.

    Args:
        precision: digits after the point, 4 at first.
        threshold: tensors with more elements than this are summarised, 1000 at first.
        edgeitems: elements that a summary keeps at each end of a dimension, 3 at first.
        linewidth: characters a line, 80 at first.
        profile: ``"default"``, ``"short"`` or ``"full"``: sets all of these, before the other arguments do.
        sci_mode: whether numbers are in scientific notation; chosen for each tensor when None.

    See https://docs.pytorch.org/docs/stable/generated/torch.set_printoptions.html

    Example:
        >>> import tracegrad as torch
        >>> set_printoptions(precision=2)
        >>> print(tensor_repr(torch.tensor([1.23456])))
        tensor([1.23])
        >>> set_printoptions(profile="default")
    """
    global _options
    given = {"precision": precision, "threshold": threshold, "edgeitems": edgeitems, "linewidth": linewidth}
    start = _PROFILES.get(profile, _options) if profile is not None else _options
    _options = replace(start, **{k: v for k, v in given.items() if v is not None}, sci_mode=sci_mode)  # type: ignore[arg-type]


def get_printoptions() -> dict[str, Any]:
    """Return how tensors are printed, as keyword arguments of `set_printoptions`."""
    return asdict(_options)


@contextmanager
def printoptions(**changes: Any) -> Iterator[None]:
    """Print tensors by ``set_printoptions(**changes)`` inside a ``with`` block."""
    global _options
    before = _options
    set_printoptions(**changes)
    try:
        yield
    finally:
        _options = before


def parameter_repr(parameter: Tensor) -> str:
    """Return the text of ``repr(parameter)``."""
    return "Parameter containing:\n" + tensor_repr(parameter)


def tensor_repr(tensor: Tensor) -> str:
    """Return the text of ``repr(tensor)``: PyTorch's, to the letter.

    Example:
        >>> import tracegrad as torch
        >>> print(tensor_repr(torch.tensor([[1.0, -2.5], [3.0, 4.0]])))
        tensor([[ 1.0000, -2.5000],
                [ 3.0000,  4.0000]])
    """
    options = _options
    level = scope.mapped_level(tensor._value)
    if level:
        of = tensor._value.spec.aval
        return f"BatchedTensor(lvl={level}, size={of.shape}, dtype={of.dtype})"
    value = trace.force(tensor._value)
    if isinstance(value, jax.core.Tracer):
        return f"tensor({value})"
    if isinstance(value, Carried):
        return f"tensor(<{value.what!r}>)"
    array = np.asarray(value)
    head = "tensor("
    text = _elements(array, options, indent=len(head)) if array.size else "[]"
    aval = tensor._value.spec.aval
    notes = []
    if aval.device.type != "cpu":
        notes.append(f"device='{aval.device}'")
    if options.edgeitems == 0 if array.size else array.ndim != 1:
        notes.append(f"size={aval.shape}")
    if not _obvious(aval.dtype, array.size == 0):
        notes.append(f"dtype={aval.dtype}")
    made_by = getattr(tensor, "grad_fn", None)
    if made_by is not None:
        notes.append(f"grad_fn=<{type(made_by).__name__}>")
    elif tensor._value.spec.wants:
        notes.append("requires_grad=True")
    return _with_notes(head + text, notes, len(head), options.linewidth) + ")"


def _obvious(dtype: DType, empty: bool) -> bool:
    """Whether ``tensor(...)`` gives the elements as printed this dtype, so that it goes without saying."""
    default = _dtype.get_default_dtype()
    return dtype is default or not empty and dtype in (_dtype.default_complex(), _dtype.int64, _dtype.bool_)


def _with_notes(text: str, notes: list[str], indent: int, linewidth: int) -> str:
    """Return ``text`` with ``notes`` after commas, each on a new line where it does not fit."""
    column = len(text) - text.rfind("\n") + 1
    for note in notes:
        column += len(note) + 2
        if column <= linewidth:
            text += f", {note}"
        else:
            text += f",\n{' ' * indent}{note}"
            column = indent + len(note)
    return text


def _elements(array: np.ndarray[Any, Any], options: Options, indent: int) -> str:
    """Return the elements in brackets."""
    edge: int | None = None
    if array.size > options.threshold:
        edge = options.edgeitems
        if edge == 0 and array.ndim:
            return "[...]"
    cells, width = _cells(_shown(array, edge), options)
    cut = [edge is not None and size > 2 * edge for size in array.shape]
    return _layout(cells, cut, edge or 0, indent, width, options.linewidth)


def _shown(array: np.ndarray[Any, Any], edge: int | None) -> np.ndarray[Any, Any]:
    """Return the elements that are shown, without the middle of every dimension longer than two edges."""
    if edge is None:
        return array
    for axis, size in enumerate(array.shape):
        if size > 2 * edge:
            array = np.take(array, [*range(edge), *range(size - edge, size)], axis)
    return array


@dataclass(frozen=True)
class _Column:
    """One format for all numbers of a tensor."""

    spec: str = ""  # of Python's ``format``
    point: str = ""  # after whole numbers of a floating-point type
    width: int = 1

    def text(self, number: Any) -> str:
        """Return ``number`` flush right."""
        text = format(number, self.spec) if self.spec else str(number)
        if self.point and math.isfinite(number):
            text += self.point
        return text.rjust(self.width)


def _column(numbers: list[Any], floating: bool, options: Options) -> _Column:
    """Return the format that suits ``numbers``; as in PyTorch, zeros, infinities and nans have no say."""
    if not floating:
        return _Column(width=max(len(str(n)) for n in numbers))
    telling = [n for n in numbers if n and math.isfinite(n)]
    if not telling:
        return _Column(".0f", ".")
    small, large = min(map(abs, telling)), max(map(abs, telling))
    whole = all(n == math.floor(n) for n in telling)
    scientific = options.sci_mode
    if scientific is None:
        scientific = large > 1e8 or large / small > 1000 or small < 1e-4
    if scientific:
        plain = _Column(f".{options.precision}e")
    else:
        plain = _Column(".0f", ".") if whole else _Column(f".{options.precision}f")
    return replace(plain, width=max(len(plain.text(n)) for n in telling))


def _cells(array: np.ndarray[Any, Any], options: Options) -> tuple[Any, int]:
    """Return the texts of the elements as nested lists, and the width that they are given."""
    category = _dtype.from_np(array.dtype).category
    if category == COMPLEX:
        real = _column(array.real.ravel().tolist(), True, options)
        imag = _column(array.imag.ravel().tolist(), True, options)

        def pair(number: complex) -> str:
            second = imag.text(number.imag).lstrip()
            return f"{real.text(number.real)}{'' if second[0] == '-' else '+'}{second}j"

        return _each(pair, array.tolist()), real.width + imag.width + 1
    if category == FLOATING:
        array = array.astype(np.float64)
    column = _column(array.ravel().tolist(), category == FLOATING, options)
    return _each(column.text, array.tolist()), column.width


def _each(text: Any, numbers: Any) -> Any:
    return [_each(text, n) for n in numbers] if isinstance(numbers, list) else text(numbers)


def _layout(cells: Any, cut: list[bool], edge: int, indent: int, width: int, linewidth: int) -> str:
    """Return nested lists of texts in brackets that start at column ``indent``."""
    if not cut:
        return str(cells)
    if len(cut) == 1:
        row = [*cells[:edge], " ...", *cells[edge:]] if cut[0] else cells
        fit = max(1, (linewidth - indent) // (width + 2))
        parts = [", ".join(row[i : i + fit]) for i in range(0, len(row), fit)]
    else:
        parts = [_layout(c, cut[1:], edge, indent + 1, width, linewidth) for c in cells]
        if cut[0]:
            parts.insert(edge, "...")
    between = "," + "\n" * max(1, len(cut) - 1) + " " * (indent + 1)
    return f"[{between.join(parts)}]"
