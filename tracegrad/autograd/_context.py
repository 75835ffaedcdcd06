"""What the forward of a custom Function leaves for its backward."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tracegrad._handle import Handle

if TYPE_CHECKING:
    from tracegrad._tensor import Tensor


class FunctionCtx:
    """What a custom Function's forward leaves for its backward."""

    needs_input_grad: tuple[bool, ...] = ()
    materialize_grads = True
    to_save: tuple[Any, ...] = ()
    dirty_tensors: tuple[Any, ...] = ()
    non_differentiable: tuple[Any, ...] = ()
    saved_for_forward: tuple[Any, ...] = ()

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Keep tensors, arguments, results or others, for ``saved_tensors`` in the backward."""
        self.to_save = tensors

    def save_for_forward(self, *tensors: Tensor | None) -> None:
        """Keep tensors for ``saved_tensors`` in ``jvp``."""
        for tensor in tensors:
            if not (tensor is None or isinstance(tensor, Handle)):
                raise AssertionError("save_for_forward expects all arguments to be tensors; you should "
                                     "save non-tensors as attributes on ctx.")
        self.saved_for_forward = tensors

    def mark_dirty(self, *args: Tensor) -> None:
        """Say which arguments the forward wrote to; they must be among its results."""
        self.dirty_tensors = args

    def mark_non_differentiable(self, *args: Tensor) -> None:
        """Say which results no gradient comes from."""
        self.non_differentiable = args

    def set_materialize_grads(self, value: bool) -> None:
        """Set whether the backward gets zeros, rather than None, for results that nothing was computed from."""
        self.materialize_grads = value


FunctionCtx.__module__ = "tracegrad.autograd.function"
