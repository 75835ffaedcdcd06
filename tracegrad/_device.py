"""PyTorch's device names over JAX's devices: ``cpu``, ``cuda`` (a GPU), ``tpu``."""

from __future__ import annotations

from functools import cache
from typing import Any

import jax

_PLATFORM = {"cpu": "cpu", "cuda": "gpu", "gpu": "gpu", "tpu": "tpu"}


class Device:
    """A place where tensors live, such as ``device('cpu')`` or ``device('cuda', 0)``.

    Example:
        >>> import tracegrad as torch
        >>> torch.device("cpu")
        device(type='cpu')
    """

    __slots__ = ("type", "index")
    type: str
    index: int | None

    def __new__(cls, type: str | Device, index: int | None = None) -> Device:
        """Return the one object for this name and index; RuntimeError for a name that no platform has."""
        if isinstance(type, Device):
            return type
        name, _, number = str(type).partition(":")
        if name not in _PLATFORM:
            raise RuntimeError("Expected one of cpu, cuda, tpu device type at start of device string: "
                               f"{name}")
        if number:
            index = int(number)
        return _device("cuda" if name == "gpu" else name, index)

    def __repr__(self) -> str:
        index = "" if self.index is None else f", index={self.index}"
        return f"device(type='{self.type}'{index})"

    def __str__(self) -> str:
        return self.type if self.index is None else f"{self.type}:{self.index}"

    def __reduce__(self) -> Any:
        return (Device, (self.type, self.index))


@cache
def _device(name: str, index: int | None) -> Device:
    made = object.__new__(Device)
    made.type, made.index = name, index
    return made


@cache
def default() -> Device:
    """Return the device of JAX's default backend, where new tensors are made."""
    platform = jax.default_backend()
    return _device("cuda", 0) if platform == "gpu" else _device(platform, None if platform == "cpu" else 0)


@cache
def to_jax(device: Device) -> Any:
    """Return JAX's device for ``device``; RuntimeError where this machine has none."""
    try:
        found = jax.devices(_PLATFORM[device.type])
    except RuntimeError as error:
        raise RuntimeError(f"device {device}: JAX finds no such platform on this machine ({error})") from None
    index = device.index or 0
    if index >= len(found):
        raise RuntimeError(f"device {device}: invalid device ordinal, this machine has {len(found)}")
    return found[index]


@cache
def from_jax(device: Any) -> Device:
    """Return the name of a JAX device."""
    if device.platform == "cpu":
        return _device("cpu", None)
    index = jax.devices(device.platform).index(device)
    return _device("cuda" if device.platform in ("gpu", "cuda", "rocm") else device.platform, index)
