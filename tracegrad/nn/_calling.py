"""Calling a module with other parameters and buffers than its own: put in their places for the time of the call."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tracegrad._handle import Handle

if TYPE_CHECKING:
    from tracegrad._tensor import Tensor
    from tracegrad.nn._module import Module


def call(module: Module, given: dict[str, Tensor], args: Any, kwargs: dict[str, Any] | None, tie_weights: bool,
         strict: bool) -> Any:  # fmt: skip
    """Return ``module(*args, **kwargs)`` with the tensors ``given`` in the place of its own, by name."""
    places = _places(module)
    tensors = dict(given)
    if tie_weights:
        _tie(places, given, tensors)
    if strict:
        unexpected, missing = sorted(set(tensors) - set(places)), sorted(set(places) - set(tensors))
        lines = []
        if unexpected:
            lines.append(f"Unexpected key(s): {', '.join(map(repr, unexpected))}.")
        if missing:
            lines.append(f"Missing key(s): {', '.join(map(repr, missing))}.")
        if lines:
            text = "\n\t".join(lines)
            raise RuntimeError(f"Error(s) in reparametrizing for {type(module).__name__}:\n\t{text}")
    for tensor in tensors.values():
        if not isinstance(tensor, Handle):
            raise TypeError(f"{tensor} is not an instance of torch.Tensor")
    with _swapped({places[name]: tensor for name, tensor in tensors.items() if name in places}) as held:
        result = module(*(args if isinstance(args, tuple) else () if args is None else (args,)), **(kwargs or {}))
        for name in given:  # what the module put in the place of a tensor
            if name in places:
                given[name] = held(places[name])
    return result


def _places(module: Module) -> dict[str, _Slot]:
    """Return where the module holds each parameter and buffer, by name."""
    found: dict[str, _Slot] = {}
    for prefix, part in module.named_modules(remove_duplicate=False):
        for held in (part._parameters, part._buffers):
            for name, tensor in held.items():
                if tensor is not None:
                    found[f"{prefix}.{name}" if prefix else name] = _Slot(held, name)
    return found


class _Slot:
    """One entry of a dictionary of a module."""

    __slots__ = ("held", "name")

    def __init__(self, held: dict[str, Any], name: str):
        self.held, self.name = held, name


@contextmanager
def _swapped(tensors: dict[_Slot, Tensor]) -> Iterator[Callable[[_Slot], Tensor]]:
    """Put tensors in their places, and afterwards the old ones again."""
    old = [(slot, slot.held[slot.name]) for slot in tensors]
    try:
        for slot, tensor in tensors.items():
            slot.held[slot.name] = tensor
        yield lambda slot: slot.held[slot.name]
    finally:
        for slot, tensor in reversed(old):
            slot.held[slot.name] = tensor


def _tie(places: dict[str, _Slot], given: dict[str, Tensor], tensors: dict[str, Tensor]) -> None:
    """Give every name of a parameter that has several the tensor that one of them was given."""
    names: dict[int, list[str]] = {}
    for name, slot in places.items():
        names.setdefault(id(slot.held[slot.name]), []).append(name)
    for tied in names.values():
        found = [given[name] for name in tied if name in given]
        if len(tied) > 1 and found:
            if any(tensor is not found[0] for tensor in found):
                raise ValueError(f"functional_call got multiple values for keys {sorted(tied)}, which are tied. "
                                 "Consider using tie_weights=False")  # fmt: skip
            tensors.update(dict.fromkeys(tied, found[0]))
