"""Generators of random numbers: a seed and a count of draws, which is all that the numbers depend on.

Both are inputs of the program, so that one program serves every draw of a loop.
"""

from __future__ import annotations

import os
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from tracegrad import _dtype
from tracegrad._device import Device
from tracegrad._engine import scope
from tracegrad._engine.op import Lowering
from tracegrad._engine.recording import recording
from tracegrad._engine.trace import force, record, state
from tracegrad._engine.value import Aval, Input
from tracegrad._handle import Handle
from tracegrad._ops._bits import bits64, scramble
from tracegrad._ops.creation import DeviceLike, from_host

if TYPE_CHECKING:
    from tracegrad._tensor import Tensor

_FIRST_SEED = 67280421310721  # what PyTorch's generators start from


class Generator:
    """A stream of random draws, given by a seed and by how many draws were made.

    Args:
        device: what `device` says; the numbers are the same on every device.

    See https://docs.pytorch.org/docs/stable/generated/torch.Generator.html

    Example:
        >>> import tracegrad as torch
        >>> g = torch.Generator().manual_seed(7)
        >>> a, state = torch.rand(2, generator=g), g.get_state()
        >>> b = torch.rand(2, generator=g)
        >>> g.set_state(state) is g and torch.rand(2, generator=g).tolist() == b.tolist()
        True
    """

    __module__ = "tracegrad"

    def __init__(self, device: DeviceLike = "cpu"):
        self._place = Device(device if device is not None else "cpu")
        self._start(_FIRST_SEED, 0)

    def _start(self, seed: int, count: int) -> None:
        compiled = recording()
        if compiled is not None:
            compiled.effect(("start", id(self), seed, count), partial(self._start, seed, count))
        self._seed, self._count = seed, count
        self._scrambled = scramble(seed)  # what draws get: seeds that differ by little give keys that differ by much

    @property
    def device(self) -> Device:
        """The device that this generator was made for; it draws the same numbers on every device."""
        return self._place

    def manual_seed(self, seed: int) -> Generator:
        """Start again from ``seed``, an int from ``-2**63`` up to but without ``2**64``."""
        if not hasattr(seed, "__index__"):
            raise RuntimeError(f"manual_seed expected a long, but got {type(seed).__name__}")
        seed = int(seed)
        if not -(2**63) <= seed < 2**64:
            raise ValueError("Overflow when unpacking long long")
        self._start(seed % 2**64, 0)
        return self

    def seed(self) -> int:
        """Start again from a seed that the system chooses, and return it."""
        chosen = int.from_bytes(os.urandom(8), "little") >> 11  # 53 bits, as PyTorch's, so that a float holds it
        self.manual_seed(chosen)
        return chosen

    def initial_seed(self) -> int:
        """Return the seed from which this generator started."""
        return self._seed

    def get_state(self) -> Tensor:
        """Return the seed and the number of draws, as a tensor of bytes."""
        words = np.array([self._seed, self._count], np.uint64)
        return from_host(words.view(np.uint8).copy(), "cpu")

    def set_state(self, new_state: Tensor) -> Generator:
        """Go to a state that `get_state` returned."""
        if not isinstance(new_state, Handle):
            raise TypeError(f"expected a torch.ByteTensor, but got {type(new_state).__name__}")
        if new_state.dtype is not _dtype.uint8:
            raise TypeError("RNG state must be a torch.ByteTensor")
        data = np.array(force(new_state._value)).reshape(-1)
        if data.size != 16:
            raise RuntimeError(f"Expected a Generator state of size 16 but found the input RNG state size to be "
                               f"{data.size}")
        self._start(*map(int, data.view(np.uint64)))
        return self

    def clone_state(self) -> Generator:
        """Return a new generator in the same state."""
        made = Generator(self._place)
        made._start(self._seed, self._count)
        return made

    def __reduce__(self) -> Any:
        return (_restored, (str(self._place), self._seed, self._count))

    def draw(self) -> tuple[Input, Input]:
        """Return the scrambled seed and the number of the next draw, as operands of a recorded op."""
        count = self._count
        self._count = count + 1
        return Input(self._scrambled), Input(count)


def _restored(device: str, seed: int, count: int) -> Generator:
    made = Generator(device)
    made._start(seed, count)
    return made


default_generator = Generator()


def draw(generator: Generator | None) -> tuple[Any, Input]:
    """Return the operands of the next draw of ``generator``, the default one where it is None."""
    if generator is None:
        generator = default_generator
    elif not isinstance(generator, Generator):
        raise TypeError(f"{_op_name()}(): argument 'generator' must be torch.Generator, not "
                        f"{type(generator).__name__}")
    if state.trace.whole:
        return _draw_mapped(generator) if state.trace.scoped else _draw_again(generator)
    return generator.draw()


def _draw_again(generator: Generator) -> tuple[Input, Input]:
    """Return the operands of a draw that each replay of a compiled function does again."""
    operands = generator.draw()
    compiled = recording()
    if compiled is not None:
        compiled.effect(("draw", id(generator)), lambda: [x.value for x in generator.draw()], inputs=operands)
    return operands


def _op_name() -> str:
    """Return the name of the op that draws."""
    frame = sys._getframe()
    while frame.f_back is not None and frame.f_back.f_globals.get("__name__", "").startswith("tracegrad._ops."):
        frame = frame.f_back
    return frame.f_code.co_name


def _draw_mapped(generator: Generator) -> tuple[Any, Input]:
    """Return the operands of a draw inside ``vmap``: the lanes share them, or each has a seed of its own."""
    mapped = [s for s in scope.scopes() if s.size is not None]
    if any(s.randomness == "error" for s in mapped):
        raise RuntimeError("vmap: called random operation while in randomness error mode. Please either use the 'same' "
                           "or 'different' randomness flags on vmap or perform the randomness operation out of vmap")
    seed, count = generator.draw()
    own: Any = seed
    for one in mapped:
        if one.randomness == "different":
            own = record(_seed_of_lane, (), own, one.index())
    return own, count


def _seed_of_lane(seed: Any, lane: Aval) -> Lowering:
    def fn(s: Any, i: Any) -> Any:
        return bits64((s, i), (), part=4).astype(np.int64)  # parts below are those of draws

    return Lowering(fn, differentiable=False)


# -- the default generator -------------------------------------------------------------------------------------------


def manual_seed(seed: int) -> Generator:
    """Seed the default generator, and return it.

    See https://docs.pytorch.org/docs/stable/generated/torch.manual_seed.html

    Example:
        >>> import tracegrad as torch
        >>> _ = torch.manual_seed(0)
        >>> a = torch.rand(3)
        >>> _ = torch.manual_seed(0)
        >>> a.tolist() == torch.rand(3).tolist()
        True
    """
    return default_generator.manual_seed(int(seed))


def seed() -> int:
    """Seed the default generator with a number that the system chooses, and return that."""
    return default_generator.seed()


def initial_seed() -> int:
    """Return the seed from which the default generator started."""
    return default_generator.initial_seed()


def get_rng_state() -> Tensor:
    """Return the state of the default generator, as a tensor of bytes."""
    return default_generator.get_state()


def set_rng_state(new_state: Tensor) -> None:
    """Set the state of the default generator."""
    default_generator.set_state(new_state)
