"""What flows through a trace: abstract values, SSA values, variables, and the records tying them to gradients."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from tracegrad import _device
from tracegrad._device import Device
from tracegrad._dtype import DType
from tracegrad._engine import jax_state

if TYPE_CHECKING:
    from tracegrad._engine.segment import SegmentOutput
    from tracegrad._engine.trace import Trace


class Spec:
    """An aval and what autograd does with it: all that a trace knows of a slot. Interned, so a dict key."""

    __slots__ = ("aval", "wants", "inference")
    aval: Aval
    wants: bool  # whether gradients are wanted
    inference: bool  # whether it was made in inference mode, and must not be saved for a backward

    def __init__(self, aval: Aval, wants: bool, inference: bool):
        self.aval, self.wants, self.inference = aval, wants, inference

    def __repr__(self) -> str:
        return f"{self.aval}{' wants grad' if self.wants else ''}"


class Aval:
    """An abstract value: shape, dtype and device. Interned: equal avals are one object."""

    __slots__ = ("shape", "dtype", "device", "plain", "wanting", "inferred", "struct", "parts")
    shape: tuple[int, ...]
    dtype: DType
    device: Device
    parts: tuple[Aval, ...]  # of a bundle: several arrays that go through traces as one value, a tuple
    plain: Spec  # this aval where no gradient is wanted
    wanting: Spec  # this aval where gradients are wanted
    inferred: tuple[Spec, Spec]  # both, made in inference mode
    struct: Any  # jax.ShapeDtypeStruct, a tuple of them for a bundle

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return len(self.shape)

    @property
    def numel(self) -> int:
        """The number of elements."""
        count = 1
        for size in self.shape:
            count *= size
        return count

    @property
    def nbytes(self) -> int:
        """The number of bytes."""
        return sum(part.nbytes for part in self.parts) or self.numel * self.dtype.itemsize

    def __repr__(self) -> str:
        if self.parts:
            return f"({', '.join(map(repr, self.parts))})"
        return f"{self.dtype.name}[{','.join(map(str, self.shape))}]"


_avals: dict[Any, Aval] = {}


def aval(shape: tuple[int, ...], dtype: DType, device: Device | None = None) -> Aval:
    """Return the interned aval of ``shape``, ``dtype`` and ``device`` (the default device when None)."""
    device = device or _device.default()
    key = (shape, dtype, device)
    found = _avals.get(key)
    if found is not None:
        return found
    struct = jax.ShapeDtypeStruct(shape, dtype.np)  # type: ignore[no-untyped-call]
    return _avals.setdefault(key, _make(shape, dtype, device, struct))


def bundle(parts: tuple[Aval, ...]) -> Aval:
    """Return the interned aval of a value that is a tuple of arrays, such as the states of an optimizer."""
    found = _avals.get(parts)
    if found is not None:
        return found
    of = parts[0]
    return _avals.setdefault(parts, _make((), of.dtype, of.device, tuple(a.struct for a in parts), parts))


def _make(shape: tuple[int, ...], dtype: DType, device: Device, struct: Any, parts: tuple[Aval, ...] = ()) -> Aval:
    made = Aval()
    made.shape, made.dtype, made.device, made.struct, made.parts = shape, dtype, device, struct, parts
    made.plain, made.wanting = Spec(made, False, False), Spec(made, True, False)
    made.inferred = Spec(made, False, True), Spec(made, True, True)
    return made


class Number:
    """A Python number among an op's operands: ``value`` is None once the number is an input of the program."""

    __slots__ = ("kind", "value")

    def __init__(self, kind: type, value: Any = None):
        self.kind = kind
        self.value = value

    @property
    def category(self) -> int:
        """The dtype category that the number takes part in promotion with."""
        return (bool, int, float, complex).index(self.kind)


class Input:
    """Wraps a Python number that is an input of the program from its first use on, such as a learning rate."""

    __slots__ = ("value",)

    def __init__(self, value: float | int):
        self.value = value


class Piece:
    """Successive elements of an array that a program returned, cut out when somebody asks for them."""

    __slots__ = ("flat", "start", "shape")

    def __init__(self, flat: Any, start: int, shape: tuple[int, ...]):
        self.flat = flat
        self.start = start
        self.shape = shape

    def cut(self) -> Any:
        """Return the elements as an array of their own."""
        return cut(self.flat, self.start, self.shape)


class Flat:
    """The array that the parts of a block lie in, one after another; see `blocks.py`."""

    __slots__ = ("array", "aval", "cuts")

    def __init__(self, array: Any, of: Aval):
        self.array = array
        self.aval = of
        self.cuts: tuple[Any, dict[int, Any]] | None = None  # a reference to an array, and what was cut out, by start

    def known(self, array: Any) -> dict[int, Any]:
        """Return what was cut out of ``array``, which is today's, by its start."""
        cuts = self.cuts
        if cuts is None or cuts[0]() is not array:
            cuts = self.cuts = weakref.ref(array), {}
        return cuts[1]


class Part(Piece):
    """A piece of a block, which programs take whole: so it stays what it is until somebody reads it."""

    __slots__ = ()
    flat: Flat

    def cut(self) -> Any:
        """Return the elements as an array of their own."""
        array = self.flat.array
        known = self.flat.known(array)
        found = known.get(self.start)
        if found is None:
            found = known[self.start] = cut(array, self.start, self.shape)
        return found


def cut(flat: Any, start: int, shape: tuple[int, ...]) -> Any:
    """Return successive elements of an array as an array of their own."""
    with jax_state.tracing():
        return _cut(flat, np.int64(start), shape)


@partial(jax.jit, static_argnums=2)
def _cut(flat: Any, start: Any, shape: tuple[int, ...]) -> Any:
    return jax.lax.dynamic_slice_in_dim(flat.reshape(-1), start, math.prod(shape)).reshape(shape)


class Variable:
    """The identity to which gradients go (PyTorch's AccumulateGrad); shared by a leaf handle's successive values."""

    __slots__ = ("handle", "hooks", "pool", "__weakref__")
    handle: Callable[[], Any]  # a weak reference
    hooks: Any  # what a backward calls with its gradient, None where nothing was registered
    pool: tuple[Any, int] | None  # with whom its elements will be laid in one array, and as the how-manieth

    def __init__(self, handle: Any):
        self.handle = weakref.ref(handle)
        self.hooks = self.pool = None


class Level(Variable):
    """The variable of one functional transform, while that is ``active``. No handle has its gradient."""

    __slots__ = ("active",)

    def __init__(self) -> None:
        self.handle = _nobody
        self.active = True
        self.hooks = self.pool = None


def _nobody() -> None:
    return None


class Value:
    """An immutable SSA value: pending (a slot of a trace) or concrete (one array). See ``docs/architecture.md``.

    ``slot`` is valid in ``trace`` alone. A concrete value keeps the slot under which it last entered a trace.
    """

    __slots__ = ("trace", "slot", "spec", "array", "source", "__weakref__")
    trace: Trace | None
    slot: int
    spec: Spec
    array: Any  # jax.Array, tracer, `Piece`, private NumPy copy not yet on the device, tuple of a bundle; None: pending
    source: Variable | SegmentOutput | None  # where gradients of this value go; None while pending in a trace


def concrete(array: Any, of: Aval, source: Variable | SegmentOutput | None = None) -> Value:
    """Return a value that holds ``array``."""
    value = Value()
    value.trace = None
    value.slot = -1
    value.spec = of.plain if source is None else of.wanting
    value.array = array
    value.source = source
    return value
