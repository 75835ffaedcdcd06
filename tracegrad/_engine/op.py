"""What an op is to the engine: a rule, called at a trie miss, that returns a lowering; and the cache of both."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax

from tracegrad import _device, _dtype
from tracegrad._device import Device
from tracegrad._engine import jax_state
from tracegrad._engine.checks import Check
from tracegrad._engine.value import Aval, Number, aval, bundle

#: ``rule(params..., ) -> Lowering``: checks arguments, promotes dtypes, raises PyTorch's errors.
Rule = Callable[..., "Lowering"]


@dataclass(frozen=True, eq=False)
class Viewing:
    """How the result of a view op lies in its operand."""

    #: ``put(array, new, *numbers) -> array`` with ``new`` where the view is; ``array`` is None if the op covers it.
    put: Callable[..., Any]
    #: ``lay(strides, offset, *numbers) -> (strides, offset)``, in elements, from those of the operand; the offset is
    #: None where it is not known in Python.
    lay: Callable[..., tuple[tuple[int, ...], int | None]]


@dataclass(frozen=True, eq=False)
class Lowering:
    """How one op runs and differentiates, with every decision about dtypes and dims already taken."""

    #: ``fn(*operands)`` in jax.numpy; one array or a tuple of arrays. A Python number stands for a static one.
    fn: Callable[..., Any]
    #: ``forward(*operands) -> (outputs, residuals)``, given with ``backward`` where our own VJP beats JAX's.
    forward: Callable[..., tuple[Any, Any]] | None = None
    #: ``backward(residuals, cotangent) -> cotangents``, one per operand, None where there is none.
    backward: Callable[[Any, Any], tuple[Any, ...]] | None = None
    #: PyTorch's name of the backward node, such as ``MulBackward0``.
    name: str = ""
    #: Whether PyTorch's derivative saves tensors, so that a second backward raises.
    saves: bool = True
    #: Whether gradients pass through.
    differentiable: bool = True
    #: PyTorch's name of an op whose derivative it does not have: gradients are wanted, and refused at the backward.
    underived: str = ""
    #: Of what stands in the place of a tensor of another shape: its own and that shape, to which no gradient can go.
    misfit: tuple[Any, ...] = ()
    #: Operands that no gradient goes to.
    constant: tuple[int, ...] = ()
    #: Outputs that no gradient comes from.
    unwanted: tuple[int, ...] = ()
    #: Where outputs live, for ops without tensor operands.
    device: Device | None = None
    #: What may be wrong with its elements, looked for when it runs (`checks.py`).
    checks: tuple[Check, ...] = ()
    #: How many of its first outputs are new values of the variables that the first operands are.
    renews: int = 0
    #: Whether JAX's own derivative of ``fn`` is as good, where the op is one of many that run at once.
    plain: bool = False
    #: ``(i, j, gradient)``: ``gradient(stacked operands j, stacked cotangents)`` is the sum of the gradients for
    #: operand ``i`` of many runs, faster than one by one: a loop leaves the gradients of its weights until its end.
    joint: tuple[tuple[int, int, Callable[[Any, Any], Any]], ...] = ()
    #: ``of_rows(stacked) -> output``, of an op of many operands of one aval: how it runs on them as rows of one array.
    of_rows: Callable[[Any], Any] | None = None
    #: ``rows(operand) -> stacked``, of an op of many outputs of one aval: they as rows of one array.
    rows: Callable[[Any], Any] | None = None
    #: How many recorded operations it stands for, against the bound on a pending trace.
    weight: int = 1
    #: Whether its result stands where its first operand does on the tape, so that nobody sees a step between them.
    stands_in: bool = False
    #: Whether its backward is the user's, which keeps what it needs by itself.
    own: bool = False
    #: Whether its result is another tensor on the very elements of its operand; so is that of a view op.
    alias: bool = False
    #: Of a view op: where its result lies.
    view: Viewing | None = None
    #: Whether its operands are input numbers of one kind, and its result is the array of these.
    packs: bool = False
    #: Of a scope: what it recorded (`plan.py`).
    scope: Any = None


@dataclass(frozen=True, eq=False)
class Prepared:
    """A lowering with the avals of its outputs."""

    lowering: Lowering
    outs: tuple[Aval, ...]
    single: bool  # whether the op returns one tensor rather than a tuple


_cache: dict[Any, Prepared] = {}


def _token(operand: Aval | Number) -> Any:
    if isinstance(operand, Number):
        return operand.kind if operand.value is None else number_token(operand.value)
    return operand


def number_token(x: Any) -> tuple[type, Any]:
    """Return a dictionary key that tells apart ``2``, ``2.0`` and ``True``, and ``0.0`` and ``-0.0``; one nan."""
    if x and x == x:
        return (type(x), x)
    return (type(x), repr(x))


def prepare(rule: Rule, params: tuple[Any, ...], operands: list[Aval | Number]) -> Prepared:
    """Return how ``rule`` runs on ``operands``, from the process-wide cache where it was asked before."""
    key = (rule, params, _dtype.get_default_dtype(), *map(_token, operands))
    found = _cache.get(key)
    if found is not None:
        return found
    _refuse_numbers(rule, operands)
    lowering = rule(*operands, *params)
    device = lowering.device or _common_device(operands)
    structs = [o.struct if isinstance(o, Aval) else _number_struct(o) for o in operands]
    static = [i for i, o in enumerate(operands) if isinstance(o, Number) and o.value is not None]
    dynamic = [i for i in range(len(operands)) if i not in static]

    def run(*arrays: Any) -> Any:
        args: list[Any] = [getattr(o, "value", None) for o in operands]
        for i, array in zip(dynamic, arrays):
            args[i] = array
        return lowering.fn(*args)

    with jax_state.tracing():
        result = jax.eval_shape(run, *[structs[i] for i in dynamic])
    single = not isinstance(result, (tuple, list))
    outs = (result,) if single else tuple(result)
    prepared = Prepared(lowering, tuple(_aval(o, device) for o in outs), single)
    if len(_cache) > 50_000:
        _cache.clear()
    return _cache.setdefault(key, prepared)


def _refuse_numbers(rule: Rule, operands: list[Aval | Number]) -> None:
    """Raise TypeError where a number stands and ``rule`` says ``Aval``: a tensor."""
    for i, (operand, what) in enumerate(zip(operands, getattr(rule, "__annotations__", {}).values())):
        if what == "Aval" and isinstance(operand, Number):
            frame = sys._getframe()
            while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("tracegrad._engine."):
                frame = frame.f_back
            op = frame.f_code  # the op's own function
            raise TypeError(f"{op.co_name}(): argument '{op.co_varnames[i]}' (position {i + 1}) must be Tensor, not "
                            f"{operand.kind.__name__}")


def _aval(out: Any, device: Device) -> Aval:
    if isinstance(out, tuple):
        return bundle(tuple(_aval(part, device) for part in out))
    return aval(out.shape, _dtype.from_np(out.dtype), device)


def _number_struct(number: Number) -> jax.ShapeDtypeStruct:
    dtype = _dtype.int64.np if number.kind is int else _dtype.float64.np
    return jax.ShapeDtypeStruct((), dtype)  # type: ignore[no-untyped-call]


def _common_device(operands: list[Aval | Number]) -> Device:
    device: Device | None = None
    for operand in operands:
        if isinstance(operand, Aval):
            if device is None or (device.type == "cpu" and operand.device is not device):
                scalar_or_first = device is None or all(
                    o.ndim == 0 for o in operands if isinstance(o, Aval) and o.device is device)
            else:
                scalar_or_first = operand.device is device or operand.ndim == 0
                if scalar_or_first:
                    continue
            if not scalar_or_first:
                raise RuntimeError("Expected all tensors to be on the same device, but found at least two devices, "
                                   f"{device} and {operand.device}!")
            device = operand.device
    return device or _device.default()
