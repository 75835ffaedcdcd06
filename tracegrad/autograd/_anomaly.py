"""Anomaly mode: a backward walks op by op, and stops at the first whose gradient has a nan."""

from __future__ import annotations

import linecache
import warnings
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from tracegrad._engine import trace
from tracegrad._engine.segment import Segment

if TYPE_CHECKING:
    from tracegrad._engine.trie import Node
    from tracegrad._tensor import Tensor


class _State:
    enabled = False
    check_nan = True


_now = _State()


def _switch(enabled: bool, check_nan: bool) -> None:
    _now.enabled, _now.check_nan = enabled, check_nan
    trace.watch_lines(enabled)


def is_anomaly_enabled() -> bool:
    """Return whether anomaly mode is on."""
    return _now.enabled


def is_anomaly_check_nan_enabled() -> bool:
    """Return whether anomaly mode looks for nans."""
    return _now.check_nan


def checks() -> bool:
    """Whether a backward that begins now looks for nans."""
    return _now.enabled and _now.check_nan


class set_detect_anomaly:
    """Switches anomaly mode at once; as a context, until its body ends.

    Args:
        mode: whether it is on.
        check_nan: whether a nan raises.

    See https://docs.pytorch.org/docs/stable/autograd.html#anomaly-detection
    """

    def __init__(self, mode: bool, check_nan: bool = True):
        self._before = _now.enabled, _now.check_nan
        _switch(bool(mode), bool(check_nan))

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:  # fmt: skip
        _switch(*self._before)


class detect_anomaly:
    """A context in which a backward stops at the first op whose gradient has a nan, and names it.

    The message names the op, and a warning the line of its forward, if that was recorded in anomaly mode too. Then the
    backward runs op by op and reads every gradient, which is slow.

    Args:
        check_nan: whether a nan raises.

    See https://docs.pytorch.org/docs/stable/autograd.html#anomaly-detection

    Example:
        >>> import tracegrad as torch
        >>> import warnings
        >>> x = torch.zeros(1, requires_grad=True)
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("ignore")
        ...     with torch.autograd.detect_anomaly():
        ...         y = x.sqrt() * 0
        ...         y.sum().backward()
        Traceback (most recent call last):
        ...
        RuntimeError: Function 'SqrtBackward0' returned nan values in its 0th output.
    """

    def __init__(self, check_nan: bool = True):
        self._before = _now.enabled, _now.check_nan
        self._check_nan = check_nan
        warnings.warn("Anomaly Detection has been enabled. This mode will increase the runtime and should only be "
                      "enabled for debugging.", stacklevel=2)

    def __enter__(self) -> None:
        self._before = _now.enabled, _now.check_nan
        _switch(True, bool(self._check_nan))

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:  # fmt: skip
        _switch(*self._before)


for _public in (detect_anomaly, set_detect_anomaly):
    _public.__module__ = "tracegrad.autograd"


def check(node: Node, inputs: Sequence[int], gradients: Sequence[Tensor | None], owner: Any) -> None:
    """Raise where a gradient of a node's wanted operands has a nan.

    Args:
        node: the node.
        inputs: the operands that count as its inputs.
        gradients: the gradient of each wanted operand.
        owner: the trace that recorded it, or the segment that it became.
    """
    for i, gradient in zip(node.wanted, gradients):
        if gradient is None:
            continue
        array: Any = np.asarray(trace.force(gradient._value))
        if array.dtype.kind not in "fc":
            array = array.astype(np.float32)
        if np.isnan(array).any():
            lines = (owner.trace if isinstance(owner, Segment) else owner).lines
            where = (lines or {}).get(node.slot)
            if where is None:
                known = ("No forward pass information available. Enable detect anomaly during forward pass for more "
                         "information.")
            else:
                text = linecache.getline(*where).strip()
                known = ("Traceback of forward call that caused the error:\n"
                         f'  File "{where[0]}", line {where[1]}\n    {text}')
            warnings.warn(f"Error detected in {node.name}. {known}", stacklevel=2)
            raise RuntimeError(f"Function '{node.name}' returned nan values in its {inputs.index(i)}th output.")
