"""In-place changes of a tensor's shape: the tensor becomes what would be a view of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tracegrad._engine import trace
from tracegrad._engine.value import Variable
from tracegrad._errors import UnsupportedError
from tracegrad._handle import check_inplace, is_alone
from tracegrad._ops import creation, shape
from tracegrad._ops.writing import setitem

if TYPE_CHECKING:
    from tracegrad._tensor import Tensor


def _turning(view: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return the in-place form of a view op."""
    name = view.__name__ + "_"

    def form(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        check_inplace(self)
        if not is_alone(self):
            raise UnsupportedError(f"{name}: this tensor shares its elements with others, which would go on with the "
                                   f"old shape. Use {view.__name__}, and give its result the name.")
        version, source = self._version, self._value.source
        made = view(self, *args, **kwargs)
        value = made._value
        if self._value.spec.wants and isinstance(source, Variable):
            value = trace.mark_variable(value, source, again=True)
        self._value, self._strided = value, False  # its elements lie in their new order from now on
        self._storage, self._writes = None, version + 1
        return self

    form.__name__ = form.__qualname__ = name
    form.__doc__ = (f"In-place form of ``{view.__name__}``.\n\n    Raises:\n        UnsupportedError: where other "
                    "tensors share elements with this one.\n    ")  # fmt: skip
    return form


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
