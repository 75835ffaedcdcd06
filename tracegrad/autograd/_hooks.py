"""Cuts: what the user put between two steps of a backward, tensor hooks, node hooks and custom Functions.

A `Cut` stands at one node of the tape, in ``Trace.cuts`` and, once that was flushed, in ``Segment.cuts``. A backward
that comes there calls the user's code with pending gradients and goes on with what it returns; see `_backward.py`.
"""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from tracegrad._dtype import type_name
from tracegrad._engine import tape
from tracegrad._engine.segment import Segment
from tracegrad._engine.value import Value, Variable, concrete
from tracegrad._handle import Handle

if TYPE_CHECKING:
    from tracegrad._engine.trie import Node
    from tracegrad._tensor import Tensor

Hooks = OrderedDict[int, Callable[..., Any]]

#: How far a backward has come at a cut.
TENSOR_HOOKS, PREHOOKS, NODE, DONE = range(4)


class RemovableHandle:
    """Removes a hook: by ``remove()``, or at the end of a ``with`` block.

    Args:
        hooks_dict: where the hook is, under the handle's ``id``.
        extra_dict: other dictionaries from which the same key is removed.

    Example:
        >>> import tracegrad as torch
        >>> x = torch.ones(2, requires_grad=True)
        >>> with x.register_hook(lambda grad: grad * 10):
        ...     x.sum().backward()
        >>> x.sum().backward()
        >>> x.grad
        tensor([11., 11.])
    """

    next_id = 0

    def __init__(self, hooks_dict: Any, *, extra_dict: Any = None):
        self.id = RemovableHandle.next_id
        RemovableHandle.next_id += 1
        extra = [] if extra_dict is None else extra_dict if isinstance(extra_dict, list) else [extra_dict]
        self._refs = [weakref.ref(d) for d in (hooks_dict, *extra)]

    def remove(self) -> None:
        """Remove the hook; nothing happens where it was removed before."""
        for ref in self._refs:
            hooks = ref()
            if hooks is not None:
                hooks.pop(self.id, None)

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *error: object) -> None:
        self.remove()

    def __getstate__(self) -> Any:
        return self.id, [ref() for ref in self._refs]

    def __setstate__(self, state: Any) -> None:
        self.id, kept = state
        self._refs = [weakref.ref(OrderedDict() if d is None else d) for d in kept]
        RemovableHandle.next_id = max(RemovableHandle.next_id, self.id + 1)


RemovableHandle.__module__ = "tracegrad.utils.hooks"


def put(hooks: Hooks, hook: Callable[..., Any]) -> RemovableHandle:
    """Add ``hook`` after the others."""
    handle = RemovableHandle(hooks)
    hooks[handle.id] = hook
    return handle


class Cut:
    """The hooks and the custom Function of one node."""

    __slots__ = ("tensors", "pre", "post", "function", "metadata")

    def __init__(self) -> None:
        self.tensors: dict[int, Hooks] = {}  # index of an output -> its hooks
        self.pre: Hooks = OrderedDict()
        self.post: Hooks = OrderedDict()
        self.function: Any = None  # the context of a custom Function, whose backward stands for the node's own
        self.metadata: dict[Any, Any] = {}

    def of_output(self, index: int) -> Hooks:
        """Return the hooks of an output."""
        return self.tensors.setdefault(index, OrderedDict())

    def stage(self, reached: int) -> int:
        """Return the next stage at or after ``reached`` at which there is something to call."""
        if reached == TENSOR_HOOKS:
            if any(self.tensors.values()):
                return TENSOR_HOOKS
            reached = PREHOOKS
        if reached == PREHOOKS:
            if self.pre:
                return PREHOOKS
            return NODE if self.post or self.function is not None else DONE
        return reached

    def hook_tensors(self, gradients: Sequence[Tensor | None]) -> list[Tensor | None]:
        """Return the outputs' gradients as the tensor hooks leave them."""
        result = list(gradients)
        for index, hooks in list(self.tensors.items()):
            result[index] = run(hooks, result[index])
        return result


class LeafHooks:
    """The hooks of a leaf and of its AccumulateGrad node."""

    __slots__ = ("tensor", "pre", "post", "accumulated", "metadata")

    def __init__(self) -> None:
        self.tensor: Hooks = OrderedDict()
        self.pre: Hooks = OrderedDict()
        self.post: Hooks = OrderedDict()
        self.accumulated: Hooks = OrderedDict()  # called with the leaf once its gradient is there
        self.metadata: dict[Any, Any] = {}


def leaf_hooks(variable: Variable) -> LeafHooks:
    """Return the hooks of a leaf."""
    if variable.hooks is None:
        variable.hooks = LeafHooks()
    return variable.hooks  # type: ignore[no-any-return]


def node_of(value: Value) -> tuple[Any, Node, int]:
    """Return what holds the tape of a value that no leaf is, the node that made it, and which output it is."""
    while True:
        source = value.source
        if source is None:
            owner: Any = value.trace
            slot = value.slot
            node = tape.maker(owner.final or owner.node.real, slot)
        else:
            assert not isinstance(source, Variable)
            owner, slot = source.segment, source.slot
            node = owner.program.producers[slot]
        if node.lowering is None or not node.lowering.stands_in:
            return owner, node, slot - node.slot
        value = below(owner, node.inputs[0])


def below(owner: Any, slot: int) -> Value:
    """Return a value for a slot of a trace or a segment that stands for its place on the tape."""
    if isinstance(owner, Segment):
        source = owner.sources.get(slot) or owner.output(slot)
        return concrete(NOTHING, owner.program.spec(slot).aval, source)
    return owner.values[slot]  # type: ignore[no-any-return]


#: The array of a value that stands for its place on the tape alone.
NOTHING = object()


def cut_of(value: Value) -> tuple[Cut, int]:
    """Return the cut at the node that made ``value``, and which of its outputs that is."""
    owner, node, index = node_of(value)
    cut: Cut | None = owner.cuts.get(node.slot)
    if cut is None:
        cut = owner.cuts[node.slot] = Cut()
    return cut, index


def attach(value: Value, cut: Cut) -> None:
    """Put ``cut`` at the node that made ``value``."""
    owner, node, _ = node_of(value)
    owner.cuts[node.slot] = cut


def register_hook(tensor: Tensor, hook: Callable[..., Any]) -> RemovableHandle:
    """Call ``hook`` with each gradient of ``tensor``."""
    value = tensor._value
    if not value.spec.wants:
        raise RuntimeError("cannot register a hook on a tensor that doesn't require gradient")
    if isinstance(value.source, Variable):
        return put(leaf_hooks(value.source).tensor, hook)
    cut, index = cut_of(value)
    return put(cut.of_output(index), hook)


def register_post_accumulate_grad_hook(tensor: Tensor, hook: Callable[..., Any]) -> RemovableHandle:
    """Call ``hook`` with the leaf ``tensor`` whenever its ``.grad`` was added to."""
    value = tensor._value
    if not value.spec.wants:
        raise RuntimeError("cannot register a hook on a tensor that doesn't require gradient")
    if not isinstance(value.source, Variable):
        raise RuntimeError("post accumulate grad hooks cannot be registered on non-leaf tensors")
    return put(leaf_hooks(value.source).accumulated, hook)


# -- calling hooks -----------------------------------------------------------------------------------------------------


def run(hooks: Hooks, gradient: Tensor | None) -> Tensor | None:
    """Return what the hooks of a tensor make of its gradient.

    As in PyTorch, it is None where only other outputs of the step that made the tensor have gradients.
    """
    for hook in list(hooks.values()):
        returned = hook(gradient)
        if returned is not None:
            gradient = _replacement(hook, returned, gradient)
    return gradient


def run_all(hooks: Hooks, gradients: tuple[Tensor | None, ...], *more: Any) -> tuple[Tensor | None, ...]:
    """Return what the hooks of a node make of a tuple of gradients."""
    for hook in list(hooks.values()):
        gradients = _checked(hook, hook(gradients, *more), gradients)
    return gradients


def _checked(hook: Any, returned: Any, given: tuple[Tensor | None, ...]) -> tuple[Tensor | None, ...]:
    if returned is None:
        return given
    if not isinstance(returned, tuple):
        raise TypeError(f"expected tuple, but hook returned '{type(returned).__name__}'")
    if len(returned) != len(given):
        raise RuntimeError(f"hook '{_name(hook)}' has returned an incorrect number of values (got {len(returned)}, "
                           f"but expected {len(given)})")
    return tuple(None if new is None else _replacement(hook, new, old) for new, old in zip(returned, given))


def _replacement(hook: Any, new: Any, old: Tensor | None) -> Tensor:
    if not isinstance(new, Handle):
        raise TypeError(f"expected Variable, but hook returned '{type(new).__name__}'")
    if old is None:
        raise RuntimeError("can't replace a None gradient with a non-None value")
    is_, was = new._value.spec.aval, old._value.spec.aval
    if is_.dtype is not was.dtype:
        raise RuntimeError(f"hook '{_name(hook)}' has changed the type of value (was "
                           f"torch.{type_name(was.dtype)}Tensor got torch.{type_name(is_.dtype)}Tensor)")
    if is_.shape != was.shape:
        raise RuntimeError(f"hook '{_name(hook)}' has changed the size of value")
    return new  # type: ignore[return-value]


def _name(hook: Any) -> str:
    return getattr(hook, "__name__", "<unknown>")
