"""The handle: what a user holds. A tensor's state without its ops; in-place ops point it at another value.

NOTE [Aliases] A view (or ``detach()``, or ``.data``) remembers its base and how it was made from it. A write to the base makes
the live views anew, so reading a view costs nothing. A write through a full alias (``detach()``, ``.data``) writes the base.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tracegrad._device import Device
from tracegrad._dtype import DType
from tracegrad._engine import trace
from tracegrad._engine.op import Lowering
from tracegrad._engine.value import Aval, Value, Variable, concrete
from tracegrad._errors import UnsupportedError

if TYPE_CHECKING:
    from tracegrad._tensor import Tensor


class Handle:
    """The state of a tensor."""

    _value: Value
    _grad: Tensor | None = None
    _variable: Variable | None = None  # a leaf's identity to the tape, once it wanted gradients
    _retains: bool = False  # `retain_grad` was called on this non-leaf
    _base: Tensor | None = None  # of a view
    _remake: Callable[[Tensor], Tensor] | None = None  # of a view: makes it anew from its base
    _views: _Views | None = None  # the live views of this tensor
    _version: int = 0

    @property
    def shape(self) -> Any:
        """The sizes of the dimensions."""
        return Size(self._value.spec.aval.shape)

    @property
    def dtype(self) -> DType:
        """The element type."""
        return self._value.spec.aval.dtype

    @property
    def device(self) -> Device:
        """Where the elements live."""
        return self._value.spec.aval.device

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return len(self._value.spec.aval.shape)

    @property
    def is_leaf(self) -> bool:
        """Whether no recorded op made this tensor, as far as gradients go."""
        value = self._value
        return not value.spec.wants or isinstance(value.source, Variable)


class Size(tuple[int, ...]):
    """A shape: a tuple of sizes that prints as ``torch.Size([2, 3])``."""

    __slots__ = ()

    def numel(self) -> int:
        """Return the number of elements of a tensor of this shape."""
        count = 1
        for size in self:
            count *= size
        return count

    def __repr__(self) -> str:
        return f"torch.Size([{', '.join(map(str, self))}])"

    def __getitem__(self, index: Any) -> Any:
        item = tuple.__getitem__(self, index)
        return Size(item) if isinstance(index, slice) else item

    def __add__(self, other: Any) -> Any:
        return Size(tuple.__add__(self, tuple(other)))


class _Views:
    """Weak references to the live views of a base; the dead are dropped when the list has doubled."""

    __slots__ = ("refs", "limit")

    def __init__(self) -> None:
        self.refs: list[weakref.ref[Tensor]] = []
        self.limit = 8

    def add(self, view: Tensor) -> None:
        if len(self.refs) >= self.limit:
            self.refs = [r for r in self.refs if r() is not None]
            self.limit = 2 * len(self.refs) + 8
        self.refs.append(weakref.ref(view))

    def live(self) -> list[Tensor]:
        return [view for r in self.refs if (view := r()) is not None]


def tensor_of(value: Value) -> Tensor:
    """Return a new handle on ``value``."""
    tensor = object.__new__(trace._Tensor)
    tensor._value = value
    return tensor


def as_view(view: Tensor, base: Tensor, remake: Callable[[Tensor], Tensor]) -> Tensor:
    """Mark ``view`` as made from ``base`` by ``remake``."""
    root, parent = base._base, base._remake
    if root is None:
        view._base, view._remake = base, remake
        root = base
    else:
        assert parent is not None
        first = parent
        view._base, view._remake = root, lambda b: remake(first(b))
    if root._views is None:
        root._views = _Views()
    root._views.add(view)
    return view


def want_grad(tensor: Tensor, wants: bool = True) -> None:
    """Make the leaf ``tensor`` want gradients, or no longer: either way it is pointed at a fresh value."""
    value = tensor._value
    if value.spec.wants is wants:
        return
    if wants:
        if not value.spec.aval.dtype.is_inexact:
            raise RuntimeError("only Tensors of floating point dtype can require gradients")
        if tensor._variable is None:
            tensor._variable = Variable(tensor)
        tensor._value = trace.mark_variable(value, tensor._variable)
        return
    if not tensor.is_leaf:
        raise RuntimeError(
            "you can only change requires_grad flags of leaf variables. If you want to use a computed variable in a "
            "subgraph that doesn't require differentiation use var_no_grad = var.detach().")
    tensor._value = constant(value)


def constant(value: Value) -> Value:
    """Return ``value`` as a constant to every gradient, in a value of its own."""
    if value.array is not None:
        return concrete(value.array, value.spec.aval)
    return trace.record(_detach, (), tensor_of(value))._value  # type: ignore[no-any-return]


def _detach(x: Aval) -> Lowering:
    return Lowering(lambda a: a, differentiable=False, saves=False)


def _overwrite(x: Aval, new: Aval) -> Lowering:
    def forward(a: Any, b: Any) -> tuple[Any, Any]:
        return b, ()

    return Lowering(lambda a, b: b, forward, lambda saved, ct: (ct, None), "AliasBackward0", saves=False)


def write(tensor: Tensor, result: Tensor) -> Tensor:
    """Point ``tensor`` at the value of ``result``, as an in-place op does, and make its aliases follow.

    Raises:
        RuntimeError: where ``tensor`` is a leaf that wants gradients, in grad mode.
    """
    base = tensor._base
    if base is not None and tensor._remake is not detach:
        raise UnsupportedError(
            "an in-place operation on a view (a slice, reshape or transpose) is not supported yet. "
            "Write to the tensor that it is a view of, or use the out-of-place form.")
    value = result._value
    if tensor._variable is not None and tensor._value.spec.wants and isinstance(tensor._value.source, Variable):
        tensor._value = trace.mark_variable(value if not value.spec.wants else constant(value), tensor._variable)
    else:
        tensor._value = value
    tensor._version += 1
    root = tensor
    if base is not None:
        root = base
        _write_under(base, tensor)
    if root._views is not None:
        for view in root._views.live():
            if view is not tensor:
                assert view._remake is not None
                with_history = view._value.spec.wants or root._value.spec.wants
                view._value = view._remake(root)._value if with_history else view._remake(root)._value
                view._version += 1
    return tensor


def _write_under(base: Tensor, alias: Tensor) -> None:
    """Give ``base`` the elements of ``alias`` and leave its place on the tape."""
    value = alias._value
    if base._value.spec.wants and isinstance(base._value.source, Variable):
        base._value = trace.mark_variable(constant(value), base._value.source)
    elif base._value.spec.wants:
        base._value = trace.record(_overwrite, (), base, tensor_of(constant(value)))._value
    else:
        base._value = constant(value)
    base._version += 1


def check_inplace(tensor: Tensor) -> None:
    """Raise where an in-place op on ``tensor`` would change a leaf that wants gradients."""
    value = tensor._value
    if value.spec.wants and trace.state.mode.grad and isinstance(value.source, Variable):
        raise RuntimeError("a leaf Variable that requires grad is being used in an in-place operation.")


def detach(tensor: Tensor) -> Tensor:
    """Return a tensor with the same elements through which no gradient flows."""
    return tensor_of(constant(tensor._value))
