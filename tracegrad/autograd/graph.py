"""The backward graph: its nodes, hooks over several tensors, and what is done with saved tensors."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from tracegrad._engine.trace import pack_saved
from tracegrad._handle import Handle, count_write
from tracegrad.autograd import _cuts, _hooks, _saved
from tracegrad.autograd._graph import GradientEdge as GradientEdge
from tracegrad.autograd._graph import Node as Node
from tracegrad.autograd._graph import edge_of, executed
from tracegrad.autograd._hooks import RemovableHandle
from tracegrad.autograd._packed import pack

if TYPE_CHECKING:
    from tracegrad._tensor import Tensor

__all__ = [
    "GradientEdge",
    "Node",
    "allow_mutation_on_saved_tensors",
    "disable_saved_tensors_hooks",
    "get_gradient_edge",
    "increment_version",
    "register_multi_grad_hook",
    "save_on_cpu",
    "saved_tensors_hooks",
]


def get_gradient_edge(tensor: Tensor) -> GradientEdge:
    """Return where gradients of ``tensor`` go: a step of the backward graph and the index of one of its outputs.

    ``autograd.grad`` and ``autograd.backward`` take it in the place of the tensor.

    Raises:
        RuntimeError: where the tensor does not want gradients.
    """
    return edge_of(tensor)


def increment_version(tensor: Tensor | Sequence[Tensor]) -> None:
    """Count a write to ``tensor`` that tracegrad did not see."""
    for t in [tensor] if isinstance(tensor, Handle) else tensor:
        count_write(t)


class saved_tensors_hooks:
    """A context in which tensors saved for the backward go through a pair of hooks.

    The hooks see what custom Functions give to ``save_for_backward``, and the operands and results of operations that
    their derivatives read; nothing of what happens inside of a checkpoint or a ``vmap``. Elsewhere operations save
    nothing: what gradients need never leaves XLA, which keeps it or computes it again. So a context costs time, and
    saves memory only as far as the hooks put things elsewhere; to trade memory for time, use ``utils.checkpoint``.

    Args:
        pack_hook: called with each tensor that is saved; what it returns is kept.
        unpack_hook: called with that when the backward needs it; returns a tensor.

    See https://docs.pytorch.org/docs/stable/autograd.html#torch.autograd.graph.saved_tensors_hooks

    Example:
        >>> import tracegrad as torch
        >>> x = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> with torch.autograd.graph.saved_tensors_hooks(lambda t: (print("saved"), t * 2)[1], lambda t: t / 2):
        ...     y = x.exp()
        saved
        >>> y.sum().backward()
        >>> x.grad
        tensor([2.7183, 7.3891])
    """

    def __init__(self, pack_hook: Callable[[Tensor], Any], unpack_hook: Callable[[Any], Tensor]):
        self.pack_hook = pack_hook
        self.unpack_hook = unpack_hook

    def __enter__(self) -> None:
        if _saved.hooks.disabled is not None:
            raise RuntimeError(_saved.hooks.disabled)
        _saved.hooks.stack.append((self.pack_hook, self.unpack_hook))
        pack_saved(pack)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:  # fmt: skip
        _saved.hooks.stack.pop()
        if not _saved.hooks.stack:
            pack_saved(None)


class save_on_cpu(saved_tensors_hooks):
    """A context in which tensors saved for the backward wait in the CPU's memory; see `saved_tensors_hooks`.

    Args:
        pin_memory: accepted for PyTorch's signature.
        device_type: accepted for PyTorch's signature.
    """

    def __init__(self, pin_memory: bool = False, device_type: str = "cuda"):
        super().__init__(lambda tensor: (tensor.device, tensor.cpu()), lambda packed: packed[1].to(packed[0]))


@contextmanager
def disable_saved_tensors_hooks(error_message: str) -> Iterator[None]:
    """Return a context in which `saved_tensors_hooks` raises a RuntimeError with this message."""
    if _saved.hooks.stack:
        raise RuntimeError(error_message)
    before = _saved.hooks.disabled
    _saved.hooks.disabled = error_message
    try:
        yield
    finally:
        _saved.hooks.disabled = before


class _AllowMutation:
    """What `allow_mutation_on_saved_tensors` gives: nothing needs to be kept."""

    def clear(self) -> None:
        """Do nothing."""


_allowing = threading.local()


@contextmanager
def allow_mutation_on_saved_tensors() -> Iterator[_AllowMutation]:
    """Return a context in which saved tensors may be written to. That is so everywhere: saved values are immutable."""
    if getattr(_allowing, "now", False):
        raise RuntimeError("allow_mutation_on_saved_tensors contexts cannot be nested")
    _allowing.now = True
    try:
        yield _AllowMutation()
    finally:
        _allowing.now = False


class _MultiHandle(RemovableHandle):
    """Removes the hooks of several tensors."""

    def __init__(self, handles: tuple[RemovableHandle, ...]):
        self.handles = handles

    def remove(self) -> None:
        """Remove all."""
        for handle in self.handles:
            handle.remove()

    def __getstate__(self) -> Any:
        return self.handles

    def __setstate__(self, state: Any) -> None:
        self.handles = state


def register_multi_grad_hook(tensors: Sequence[Tensor], fn: Callable[[Any], None], *,
                             mode: str = "all") -> RemovableHandle:  # fmt: skip
    """Call ``fn`` when gradients of several tensors are there.

    Args:
        tensors: the tensors; those that a backward does not come to are not waited for.
        fn: with "all", called with the list of all gradients, None for a tensor that has none in this backward; with
            "any", called with the first gradient.
        mode: "all" or "any".

    Returns:
        A handle whose ``remove()`` removes the hook.

    See https://docs.pytorch.org/docs/stable/autograd.html#torch.autograd.graph.register_multi_grad_hook

    Example:
        >>> import tracegrad as torch
        >>> a = torch.ones(2, requires_grad=True)
        >>> b = torch.ones(2, requires_grad=True)
        >>> handle = torch.autograd.graph.register_multi_grad_hook([a, b], lambda grads: print(grads))
        >>> (a * b * 2).sum().backward()
        [tensor([2., 2.]), tensor([2., 2.])]
    """
    if mode not in ("all", "any"):
        raise ValueError(f"Expects mode to be one of ('all', 'any') but got {mode}")
    if mode == "any":
        return _any_hook(tensors, fn)
    waiting: WeakKeyDictionary[Any, tuple[list[Tensor | None], list[int]]] = WeakKeyDictionary()
    nodes = [edge_of(t).node for t in tensors]

    def at(index: int) -> Callable[[Tensor], None]:
        def hook(gradient: Tensor) -> None:
            sweep = _cuts.running()
            assert sweep is not None
            if sweep not in waiting:
                reached = executed(sweep.roots, sweep.targets)
                waiting[sweep] = [None] * len(nodes), [sum(node in reached for node in nodes)]
            gradients, missing = waiting[sweep]
            gradients[index] = gradient
            missing[0] -= 1
            if missing[0] == 0:
                del waiting[sweep]
                fn(gradients)

        return hook

    return _MultiHandle(tuple(_hooks.register_hook(t, at(i)) for i, t in enumerate(tensors)))


def _any_hook(tensors: Sequence[Tensor], fn: Callable[[Any], None]) -> RemovableHandle:
    called: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()

    @functools.wraps(fn)
    def hook(gradient: Tensor) -> None:
        sweep = _cuts.running()
        assert sweep is not None
        if sweep not in called:
            called[sweep] = True
            fn(gradient)

    return _MultiHandle(tuple(_hooks.register_hook(t, hook) for t in tensors if t._value.spec.wants))
