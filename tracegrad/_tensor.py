"""The tensor: the handle with every op as a method, its reading, and its part of autograd."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np

from tracegrad._engine import flush, trace
from tracegrad._engine.value import aval, concrete
from tracegrad._handle import Size, constant, detach, tensor_of, want_grad
from tracegrad._methods import Methods
from tracegrad.autograd import _api


class Tensor(Methods):
    """An n-dimensional array that remembers how it was made.

    Made by ``tracegrad.tensor`` and the other creation functions. Its elements are computed when somebody reads them.
    """

    @property
    def requires_grad(self) -> bool:
        """Whether gradients of what is computed from this tensor are wanted."""
        return self._value.spec.wants

    @requires_grad.setter
    def requires_grad(self, wants: bool) -> None:
        want_grad(self, bool(wants))

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Set ``requires_grad`` in place and return this tensor."""
        want_grad(self, requires_grad)
        return self

    def backward(self, gradient: Tensor | None = None, retain_graph: bool | None = None, create_graph: bool = False,
                 inputs: Tensor | Sequence[Tensor] | None = None) -> None:  # fmt: skip
        """Accumulate the gradients of this tensor into the ``.grad`` of the leaves."""
        _api.backward(self, gradient, retain_graph, create_graph, inputs=inputs)

    @property
    def grad(self) -> Tensor | None:
        """The gradient that backwards accumulated, None before the first."""
        return self._grad

    @grad.setter
    def grad(self, value: Tensor | None) -> None:
        self._grad = value

    def detach(self) -> Tensor:
        """Return a tensor with the same elements through which no gradient flows."""
        return detach(self)

    def jax(self) -> jax.Array:
        """Return the elements as a ``jax.Array``."""
        array = trace.force(self._value)
        if type(array) is np.ndarray:
            array = self._value.array = trace._to_device(array, self._value.spec.aval)
        return array  # type: ignore[no-any-return]

    def numpy(self) -> np.ndarray[Any, Any]:
        """Return the elements as a NumPy array."""
        return np.asarray(trace.force(self._value))

    def item(self) -> Any:
        """Return the one element as a Python number."""
        return np.asarray(trace.force(self._value)).item()

    def tolist(self) -> Any:
        """Return the elements as nested lists of Python numbers."""
        return np.asarray(trace.force(self._value)).tolist()


trace.bind(Tensor, flush.flush)

# temporary, until every family is there: the lead's real file replaces this one
import importlib  # noqa: E402

for _family, _names in {
    "pointwise": "add sub mul truediv=div floordiv=floor_divide mod=remainder pow and=bitwise_and or=bitwise_or xor=bitwise_xor lshift=bitwise_left_shift "
    "rshift=bitwise_right_shift radd=add rsub rmul=mul rtruediv rpow rfloordiv rmod eq ne lt le gt ge neg pos=positive invert=bitwise_not",
    "linalg": "matmul", "indexing": "getitem", "math": "abs",
}.items():
    try:
        _module = importlib.import_module(f"tracegrad._ops.{_family}")
    except ImportError:
        continue
    for _name in _names.split():
        _dunder, _, _of = _name.partition("=")
        if hasattr(_module, _of or _dunder):
            setattr(Tensor, f"__{_dunder}__", getattr(_module, _of or _dunder))
Tensor.__hash__ = object.__hash__
