"""Checkpoints: parts of a model whose intermediate values are computed again in the backward rather than kept."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from tracegrad import _pytree
from tracegrad._engine.scope import Checkpointed, Scope
from tracegrad._errors import UnsupportedError
from tracegrad._grad_mode import is_grad_enabled, no_grad
from tracegrad._handle import Handle
from tracegrad.autograd._scopes import finish
from tracegrad.nn import Sequential

_NOT_SAID = (
    "torch.utils.checkpoint: the use_reentrant parameter should be passed explicitly. Starting in PyTorch 2.9, calling "
    "checkpoint without use_reentrant will raise an exception. use_reentrant=False is recommended, but if you need to "
    "preserve the current default behavior, you can pass use_reentrant=True. Refer to docs for more details on the "
    "differences between the two variants."
)


def noop_context_fn() -> tuple[Any, Any]:
    """Return two contexts that do nothing: the default of ``context_fn``."""
    return contextlib.nullcontext(), contextlib.nullcontext()


def checkpoint(
    function: Callable[..., Any],
    *args: Any,
    use_reentrant: bool | None = None,
    context_fn: Callable[[], tuple[Any, Any]] = noop_context_fn,
    determinism_check: str = "default",
    debug: bool = False,
    early_stop: bool = True,
    **kwargs: Any,
) -> Any:
    """Return ``function(*args)``, of which a backward keeps the inputs alone and computes the rest again.

    ``function`` is called once. What it records is one operation, which the backward's program runs a second time, with
    the same random numbers; tensors from outside that it writes to, such as the statistics of a batch norm, are written
    to once. Where it reads a value (``print``, ``item``), what that needs runs at once, as an operation of its own.

    Args:
        function: takes anything, and returns tensors, or tuples, lists and dicts of tensors and other objects. A tensor
            that it keeps elsewhere cannot be used after its end.
        *args: passed on.
        use_reentrant: with True, gradients are computed only where one of the arguments wants some, as in PyTorch.
        context_fn: not supported.
        determinism_check: ``"default"`` or ``"none"``: nothing to check here, as the second run is the first one's.
        debug: likewise.
        early_stop: likewise.
        **kwargs: passed on, unless ``use_reentrant``; ``preserve_rng_state`` is not, and changes nothing.

    Raises:
        ValueError: for keyword arguments under ``use_reentrant``.

    See https://docs.pytorch.org/docs/stable/checkpoint.html

    Example:
        >>> import tracegrad as torch
        >>> from tracegrad.utils.checkpoint import checkpoint
        >>> x = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> checkpoint(lambda a: (a.exp() * a).sum(), x, use_reentrant=False).backward()
        >>> x.grad
        tensor([ 5.4366, 22.1672])
    """
    if use_reentrant is None:
        warnings.warn(_NOT_SAID, stacklevel=2)
        use_reentrant = True
    kwargs.pop("preserve_rng_state", None)
    if use_reentrant:
        if kwargs:
            raise ValueError("Unexpected keyword arguments: " + ",".join(kwargs))
        if context_fn is not noop_context_fn or debug is not False:
            raise ValueError("Passing `context_fn` or `debug` is only supported when use_reentrant=False.")
        if not any(isinstance(x, Handle) and x._value.spec.wants for x in args):
            warnings.warn("None of the inputs have requires_grad=True. Gradients will be None", stacklevel=2)
            with no_grad():
                return function(*args)
    elif determinism_check not in ("default", "none"):
        raise ValueError("determinism_check should be one of ['default', 'none'], "
                         f"but got {determinism_check}")  # fmt: skip
    if context_fn is not noop_context_fn:
        raise UnsupportedError("checkpoint: expected the default context_fn. The second run is a part of the program, "
                               "in which no context is entered; leave context_fn out.")  # fmt: skip
    if not is_grad_enabled():
        return function(*args, **kwargs)
    with Scope("checkpoint") as scope:
        found, structure = _pytree.flatten(function(*args, **kwargs))
        inside = [isinstance(x, Handle) and x._value.trace is scope and id(x) not in scope.written for x in found]
        slots = tuple(x._value.slot for x, own in zip(found, inside) if own)
        changed, changed_slots = scope.changed()
        made = finish(scope, (*slots, *changed_slots), lambda axes: Checkpointed())
        scope.hand_out(changed, made[len(slots) :])
        results = iter(made)
        return _pytree.unflatten([next(results) if own else x for x, own in zip(found, inside)], structure)


def checkpoint_sequential(functions: Sequential | Sequence[Callable[..., Any]], segments: int, input: Any,
                          use_reentrant: bool | None = None, **kwargs: Any) -> Any:  # fmt: skip
    """Return ``functions`` applied in a row to ``input``, as ``segments`` checkpoints of which the last is none.

    Args:
        functions: a ``Sequential`` or a list of functions of one tensor.
        segments: in how many parts.
        input: what the first function gets.
        use_reentrant: see `checkpoint`.
        **kwargs: ``preserve_rng_state`` alone.

    See https://docs.pytorch.org/docs/stable/checkpoint.html

    Example:
        >>> import tracegrad as torch
        >>> from tracegrad.utils.checkpoint import checkpoint_sequential
        >>> checkpoint_sequential([torch.sin, torch.exp, torch.neg], 2, torch.zeros(2), use_reentrant=False)
        tensor([-1., -1.])
    """
    if use_reentrant is None:
        warnings.warn(
            "torch.utils.checkpoint.checkpoint_sequential: the use_reentrant parameter should be passed explicitly. In "
            "version 2.9 we will raise an exception if use_reentrant is not passed. use_reentrant=False is "
            "recommended, but if you need to preserve the current default behavior, you can pass use_reentrant=True. "
            "Refer to docs for more details on the differences between the two variants.", stacklevel=2)
        use_reentrant = True
    kwargs.pop("preserve_rng_state", None)
    if kwargs:
        raise ValueError("Unexpected keyword arguments: " + ",".join(kwargs))
    steps = list(functions)

    def run(start: int, end: int) -> Callable[[Any], Any]:
        def forward(x: Any) -> Any:
            for step in steps[start:end]:
                x = step(x)
            return x

        return forward

    size = len(steps) // segments
    starts = range(0, size * (segments - 1), size) if size else range(0)
    for start in starts:
        input = checkpoint(run(start, start + size), input, use_reentrant=use_reentrant)
    return run(len(starts) * size, len(steps))(input)
