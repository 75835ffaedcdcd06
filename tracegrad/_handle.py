"""The handle: what a user holds. A tensor's state without its ops; in-place ops point it at another value.

NOTE [Aliases] Tensors that share elements in PyTorch share a `_Storage` here: weak references to the root and to its
views, each of which knows how to be made from the root. A write to the root, or to a full alias of it (``detach()``,
``.data``), makes the live views anew, so reading a view costs nothing. Nothing keeps a dead tensor alive.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp

from tracegrad._device import Device
from tracegrad._dtype import DType
from tracegrad._engine import trace
from tracegrad._engine.op import Lowering
from tracegrad._engine.value import Aval, Value, Variable, concrete
from tracegrad._errors import UnsupportedError
from tracegrad._grad_mode import enable_grad

if TYPE_CHECKING:
    from tracegrad._tensor import Tensor


class Handle:
    """The state of a tensor."""

    _value: Value
    _grad: Tensor | None = None
    _variable: Variable | None = None  # a leaf's identity to the tape, once it wanted gradients
    _retains: bool = False  # `retain_grad` was called on this non-leaf
    _storage: _Storage | None = None  # shared with views, or with the tensor that this is a view of
    _remake: Callable[[Tensor], Tensor] | None = None  # of a view: makes it anew from the root of its storage
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


class _Storage:
    """Weak references to a root tensor and its live views; the dead are dropped when the list has doubled."""

    __slots__ = ("root", "refs", "limit")

    def __init__(self, root: Tensor) -> None:
        self.root = weakref.ref(root)
        self.refs: list[weakref.ref[Tensor]] = []
        self.limit = 8

    def add(self, view: Tensor) -> None:
        """Enter a view."""
        if len(self.refs) >= self.limit:
            self.refs = [r for r in self.refs if r() is not None]
            self.limit = 2 * len(self.refs) + 8
        self.refs.append(weakref.ref(view))

    def others(self, tensor: Tensor) -> list[Tensor]:
        """Return the live views but ``tensor``."""
        return [view for r in self.refs if (view := r()) is not None and view is not tensor]


def tensor_of(value: Value) -> Tensor:
    """Return a new handle on ``value``."""
    tensor = object.__new__(trace._Tensor)
    tensor._value = value
    return tensor


def as_view(view: Tensor, base: Tensor, remake: Callable[[Tensor], Tensor]) -> Tensor:
    """Mark ``view`` as made from ``base`` by ``remake``."""
    storage = base._storage
    if storage is None:
        storage = base._storage = _Storage(base)
    first = base._remake
    if first is None or first is detach:
        view._remake = remake
    else:
        view._remake = lambda root: remake(first(root))
    view._storage = storage
    storage.add(view)
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


def _overwrite(x: Aval, new: Aval, passes: bool) -> Lowering:
    def forward(a: Any, b: Any) -> tuple[Any, Any]:
        return b, ()

    def backward(saved: Any, ct: Any) -> tuple[Any, None]:
        return (ct if passes else jnp.zeros_like(ct)), None

    return Lowering(lambda a, b: b, forward, backward, "CopyBackwards", saves=False)


def write(tensor: Tensor, result: Tensor) -> Tensor:
    """Point ``tensor`` at the value of ``result``, as an in-place op does, and make its aliases follow."""
    storage, remake = tensor._storage, tensor._remake
    if storage is not None and remake is not None and remake is not detach:
        if storage.root() is not None or storage.others(tensor):
            raise UnsupportedError(
                "an in-place operation on a view (a slice, reshape or transpose) of a tensor that is still in use is "
                "not supported yet. Write to that tensor, or use the out-of-place form.")
        tensor._storage = tensor._remake = storage = None
    _replace(tensor, result._value)
    if storage is not None:
        root = storage.root()
        if root is not None and root is not tensor:
            _write_under(root, tensor)
        for view in storage.others(tensor):
            _remake(view, root if root is not None else tensor)
    return tensor


def _remake(view: Tensor, root: Tensor) -> None:
    """Make ``view`` anew; a view with a history keeps one, also where the write was made in ``no_grad``."""
    assert view._remake is not None
    with enable_grad() if view._value.spec.wants else nullcontext():
        view._value = view._remake(root)._value
    view._version += 1


def _replace(tensor: Tensor, value: Value) -> None:
    """Point ``tensor`` at ``value``; a leaf that wants gradients stays the same variable."""
    source = tensor._value.source
    if tensor._value.spec.wants and isinstance(source, Variable):
        value = trace.mark_variable(value if not value.spec.wants else constant(value), source, again=True)
    elif tensor._value.spec.wants and not value.spec.wants:
        # Written without a history: under `no_grad` the old one stays, else gradients end here.
        value = _overwritten(tensor, value, passes=not trace.state.mode.grad)
    tensor._value = value
    tensor._version += 1


def _write_under(root: Tensor, alias: Tensor) -> None:
    """Give ``root`` the elements of ``alias`` and leave it its place on the tape."""
    value = constant(alias._value)
    if root._value.spec.wants and not isinstance(root._value.source, Variable):
        value = _overwritten(root, value, passes=True)
    _replace(root, value)


def _overwritten(tensor: Tensor, value: Value, passes: bool) -> Value:
    """Return ``value`` in the place of ``tensor`` on the tape; ``passes``: gradients flow on to what was there."""
    with enable_grad():
        return trace.record(_overwrite, (passes,), tensor, tensor_of(value))._value  # type: ignore[no-any-return]


def check_inplace(tensor: Tensor) -> None:
    """Raise where an in-place op on ``tensor`` would change a leaf that wants gradients."""
    value = tensor._value
    if value.spec.wants and trace.state.mode.grad and isinstance(value.source, Variable):
        raise RuntimeError("a leaf Variable that requires grad is being used in an in-place operation.")


def detach(tensor: Tensor) -> Tensor:
    """Return a tensor with the same elements through which no gradient flows."""
    return tensor_of(constant(tensor._value))
