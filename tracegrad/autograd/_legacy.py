"""What older code uses: ``Variable``, and a switch for threads that there are none of."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any

from tracegrad._engine import trace
from tracegrad._handle import Handle, alias, want_grad

if TYPE_CHECKING:
    from tracegrad._tensor import Tensor


class _VariableMeta(type):
    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, Handle)


class Variable(metaclass=_VariableMeta):
    """The old name of tensors: ``Variable(x, requires_grad=True)`` is a tensor with the elements of ``x``.

    Example:
        >>> import tracegrad as torch
        >>> torch.autograd.Variable(torch.ones(2), requires_grad=True)
        tensor([1., 1.], requires_grad=True)
    """

    def __new__(cls, data: Tensor | None = None, requires_grad: bool = False,
                volatile: bool | None = None) -> Any:  # fmt: skip
        """Return an alias of ``data`` that is a leaf."""
        if data is not None and not isinstance(data, Handle):
            raise TypeError(f"Variable data has to be a tensor, but got {type(data).__name__}")
        made = trace._Tensor() if data is None else alias(data)
        if requires_grad:
            want_grad(made)
        return made


class set_multithreading_enabled:
    """Accepted for PyTorch's signature: a backward is one step of a program, whose threads are XLA's.

    Args:
        mode: whether PyTorch's backward would use threads per device.
    """

    def __init__(self, mode: bool):
        self.mode = mode

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:  # fmt: skip
        pass
