"""In-place changes of a tensor's shape: the tensor becomes what would be a view of it."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tracegrad._engine.value import Variable
from tracegrad._handle import Storage, check_inplace, count_write, share, tensor_of
from tracegrad._ops import creation, shape
from tracegrad._ops.writing import setitem

if TYPE_CHECKING:
    from tracegrad._tensor import Tensor


def _turning(view: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return the in-place form of a view op."""
    name = view.__name__ + "_"

    def form(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        check_inplace(self, elements=False)
        _turn(self, view, args, kwargs)
        return self

    form.__name__ = form.__qualname__ = name
    form.__doc__ = f"In-place form of ``{view.__name__}``: who shares elements with this tensor keeps the old shape."
    return form


def _turn(self: Tensor, view: Callable[..., Tensor], args: Any, kwargs: Any) -> None:
    """Make of ``self`` what ``view`` makes of it; it goes on sharing its elements with whom it did."""
    value = self._value
    if value.spec.wants and isinstance(value.source, Variable):
        share(self, view(self, *args, **kwargs))
        count_write(self)
        return
    base = self
    if not self._steps:  # it becomes a view of what stands in for it, which nobody sees
        if self._storage is None:
            self._storage = Storage(self)
        base = tensor_of(value)
        base._storage, base._strided = self._storage, self._strided
    made = view(base, *args, **kwargs)
    if base is not self:
        storage = base._storage
        assert storage is not None
        for other in storage.live():
            if other._keeps is self:
                other._keeps = base
        storage.base, storage.turned = weakref.ref(base), weakref.ref(self)
        storage.views.add(self)
    self._value, self._steps, self._strided = made._value, made._steps, made._strided
    count_write(self)


squeeze_ = _turning(shape.squeeze)
unsqueeze_ = _turning(shape.unsqueeze)
t_ = _turning(shape.t)
transpose_ = _turning(shape.transpose)
swapaxes_ = _turning(shape.swapaxes)
swapdims_ = _turning(shape.swapdims)


def fill_diagonal_(self: Tensor, fill_value: Any, wrap: bool = False) -> Tensor:
    """Set the elements of the main diagonal to ``fill_value``; with ``wrap``, go on in the rows of a tall matrix.

    Raises:
        RuntimeError: for fewer than 2 dims, or more where their sizes differ.
    """
    sizes = self._value.spec.aval.shape
    if len(sizes) < 2:
        raise RuntimeError("dimensions must larger than 1")
    if len(sizes) > 2 and len(set(sizes)) > 1:
        raise RuntimeError("all dimensions of input must be of equal length")
    rows = creation.arange(min(sizes))
    if wrap and len(sizes) == 2 and sizes[0] > sizes[1]:
        rows = creation.arange(0, sizes[0] * sizes[1], sizes[1] + 1)
        setitem(self, (rows // sizes[1], rows % sizes[1]), fill_value)
    else:
        setitem(self, (rows,) * len(sizes), fill_value)
    return self
