"""Packed states: what an optimizer keeps of several parameters as one value.

NOTE [Packed states] Users seldom look at an optimizer's states, and there are several for each parameter. Between
steps, those of the parameters that were updated together are one value, a bundle, which is recorded, entered, handed
out and donated as one. In it, the states of small parameters lie in one flat array: an array costs a program about a
microsecond in and one out, whatever its size. Whoever asks for ``optimizer.state`` gets tensors; the next step packs
those that nobody holds any more.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from tracegrad._device import Device
from tracegrad._dtype import float32, float64
from tracegrad._engine import trace
from tracegrad._engine.blocks import FEWEST, SMALL, Pool
from tracegrad._engine.layout import cut, joined, whole
from tracegrad._engine.value import Aval, Value, aval, bundle, concrete
from tracegrad._handle import tensor_of

if TYPE_CHECKING:
    from tracegrad._tensor import Tensor

Groups = tuple[tuple[int, ...], ...]


class Pack:
    """The states of parameters that are updated together, as one value: for each name, an array per group.

    Where they count their steps, which is the same number for all, that comes last.
    """

    __slots__ = ("_value", "params", "of", "ids", "names")

    def __init__(self, value: Value, params: list[Tensor], names: tuple[str, ...]):
        self._value = value
        self.params = params
        self.of = avals(params)  # as they were when their states were packed
        self.ids = list(map(id, params))
        self.names = names


def avals(params: Sequence[Tensor]) -> list[Aval]:
    """Return the avals of parameters."""
    return [p._value.spec.aval for p in params]


def groups(of: Sequence[tuple[int, Any]]) -> Groups:
    """Return which parameters, of these numbers of elements and dtypes, share arrays: the small ones of a dtype."""
    small: dict[Any, list[int]] = {}
    alone: list[tuple[int, ...]] = []
    for i, (numel, dtype) in enumerate(of):
        if numel <= SMALL:
            small.setdefault(dtype, []).append(i)
        else:
            alone.append((i,))
    return (*map(tuple, small.values()), *alone)


def _groups(of: Sequence[Aval]) -> Groups:
    return groups([(x.numel, x.dtype.np) for x in of])


def pack(params: list[Tensor], states: list[dict[str, Any]], names: tuple[str, ...]) -> Pack | None:
    """Take ``names`` out of ``states`` as one value; None, and nothing taken, where they must stay tensors.

    That is where one is missing, where the steps or devices differ, or where somebody holds one and would miss updates.
    """
    if any(name not in s or _references(s, name) > _LONE for s in states for name in names):
        return None
    if any("step" in s and _references(s, "step") > _LONE for s in states):
        return None
    of = avals(params)
    steps = {float(s["step"]) for s in states if "step" in s}
    if len(steps) > 1 or len({x.device for x in of}) > 1:
        return None
    for p, s in zip(params, states):
        if any(s[name]._value.spec.aval is not p._value.spec.aval for name in names):
            return None
    arrays: list[Any] = []
    parts: list[Aval] = []
    chosen = _groups(of)
    for name in names:
        columns = [np.asarray(trace.force(s[name]._value)) for s in states]
        for group in chosen:
            first = of[group[0]]
            array = np.concatenate([columns[i].reshape(-1) for i in group]) if len(group) > 1 else columns[group[0]]
            parts.append(aval(array.shape, first.dtype, first.device))
            arrays.append(trace.to_device(np.array(array), parts[-1]))
    for step in steps:
        parts.append(aval((), float64, of[0].device))
        arrays.append(trace.to_device(np.array(step), parts[-1]))
    for s in states:
        for name in names:
            del s[name]
    return Pack(concrete(tuple(arrays), bundle(tuple(parts))), params, names)


def unpack(packed: Pack) -> list[dict[str, Tensor]]:
    """Return the states of each parameter as tensors."""
    of = packed.of
    states: list[dict[str, Tensor]] = [{} for _ in of]
    held = trace.force(packed._value)
    arrays = iter(held)
    for name in packed.names:
        for group in _groups(of):
            flat = np.asarray(next(arrays))
            pieces = cut(flat.reshape(-1), [of[i].shape for i in group])
            for i, piece in zip(group, pieces):
                states[i][name] = tensor_of(concrete(np.array(piece), of[i]))
    for step in arrays:
        for state in states:
            state["step"] = scalar(float(step))
    return states


def scalar(x: float) -> Tensor:
    """Return a number as the 0-dim float32 tensor on the CPU that state dicts have of step counters."""
    return tensor_of(concrete(np.array(x, np.float32), aval((), float32, Device("cpu"))))


def announce(params: Sequence[Tensor]) -> None:
    """Have programs take the small ones among parameters as one array, see `_engine/blocks.py`."""
    variables = [p._variable for p in params]
    for group in _groups(avals(params)):
        chosen = [v for v in map(variables.__getitem__, group) if v is not None]
        if len(chosen) >= FEWEST and len(chosen) == len(group):
            Pool(chosen)


def updated(
    operands: Sequence[Any],
    count: int,
    before: Callable[[Any, Any], Any],
    step: Callable[..., tuple[Any, ...]],
    after: Callable[[Any, Any], Any],
) -> tuple[Any, ...]:
    """Return the new parameters, then their new states, packed where they were.

    Args:
        operands: ``count`` parameters, as many gradients, and their states: one bundle, or for each name an array each.
        count: how many parameters there are.
        before: ``(parameter, gradient) -> gradient``.
        step: ``(gradient, *states) -> (change, *new states)``, elementwise, for several parameters at once.
        after: ``(parameter, change) -> new parameter``.

    Raises:
        RuntimeError: for a gradient, or states, of another shape than their parameter has now.
    """
    params, grads, held = operands[:count], operands[count : 2 * count], operands[2 * count :]
    for p, g in zip(params, grads):
        _check(p, g, "a gradient", "set it to None")
    packed = len(held) == 1 and isinstance(held[0], tuple)
    arrays = held[0] if packed else held
    alone = tuple((i,) for i in range(count))
    chosen = groups([(p.size, p.dtype) for p in params]) if packed else alone
    new: list[Any] = [None] * count
    states: list[Any] = [None] * len(arrays)
    for k, group in enumerate(chosen):
        places = range(k, len(arrays), len(chosen))
        held = [arrays[j] for j in places]
        if len(group) == 1:
            (i,) = group
            for state in held:
                _check(params[i], state, "states", "delete them (del optimizer.state[parameter])")
            change, *after_it = _by_parts(step, before(params[i], _cast(grads[i], params[i])), *held)
            new[i] = after(params[i], change)
        else:
            own = [params[i] for i in group]
            g = [_cast(grads[i], params[i]) for i in group]
            together = whole(own)
            g = joined(list(map(before, own, g))) if together is None else before(together, joined(g))
            change, *after_it = _by_parts(step, g, *held)
            shapes = [p.shape for p in own]
            changed = map(after, own, cut(change, shapes)) if together is None else cut(after(together, change), shapes)
            for i, p in zip(group, changed):
                new[i] = p
        for j, state in zip(places, after_it):
            states[j] = _cast(state, arrays[j])
    return (*new, tuple(states)) if packed else (*new, *states)


def _check(p: Any, own: Any, what: str, remedy: str) -> None:
    if own.shape != p.shape:
        raise RuntimeError(f"optimizer.step: a parameter of shape {list(p.shape)} has {what} of shape "
                           f"{list(own.shape)}: {remedy}, or give it what has its shape")


def _cast(g: Any, p: Any) -> Any:
    """Return ``g`` in the dtype of ``p``."""
    return g if g.dtype == p.dtype else g.astype(p.dtype)


def _by_parts(step: Callable[..., tuple[Any, ...]], *arrays: Any) -> tuple[Any, ...]:
    """Call ``step``; the real and imaginary parts of complex numbers are parameters of their own."""
    if not jnp.iscomplexobj(arrays[0]):
        return step(*arrays)
    real, imag = step(*map(jnp.real, arrays)), step(*map(jnp.imag, arrays))
    return tuple(map(jax.lax.complex, real, imag))


def _references(state: dict[str, Any], name: str) -> int:
    return sys.getrefcount(state[name])


#: What `_references` says of a state that only its dict holds; it differs between Python versions.
_LONE = _references({"": object()}, "")
