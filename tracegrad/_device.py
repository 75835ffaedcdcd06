"""PyTorch's device names over JAX's devices: ``cpu``, ``cuda`` (a GPU), ``tpu``."""

from __future__ import annotations

import threading
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

    def __new__(cls, type: str | Device | int, index: int | None = None) -> Device:
        """Return the one object for this name and index; RuntimeError for a name that no platform has."""
        if isinstance(type, Device):
            return type
        if isinstance(type, int) and not isinstance(type, bool):
            index, type = type, default().type  # noqa: A001
        elif not isinstance(type, str):
            raise TypeError(f"device() received an invalid combination of arguments - got ({_kind(type)}), but "
                            "expected one of:\n * (torch.device device)\n * (str type, int index = -1)\n")
        name, colon, number = type.partition(":")
        if name not in _PLATFORM:
            if name.isalpha() and not colon and name.isascii() and name.islower():
                raise RuntimeError("Expected one of cpu, cuda, tpu device type at start of device string: "
                                   f"{name}")
            raise RuntimeError(f"Invalid device string: '{type}'")
        if colon:
            if index is not None:
                raise RuntimeError("type (string) must not include an index because index was passed explicitly: "
                                   f"{type}")
            if not number.isdecimal():
                raise RuntimeError(f"Invalid device string: '{type}'")
            index = int(number)
        if index is not None and index < 0:
            raise RuntimeError("Device index must not be negative")
        return _device("cuda" if name == "gpu" else name, index)

    def __repr__(self) -> str:
        index = "" if self.index is None else f", index={self.index}"
        return f"device(type='{self.type}'{index})"

    def __str__(self) -> str:
        return self.type if self.index is None else f"{self.type}:{self.index}"

    def __reduce__(self) -> Any:
        return (Device, (self.type, self.index))

    def __enter__(self) -> Device:
        _chosen.stack.append(self)
        return self

    def __exit__(self, *error: object) -> None:
        _chosen.stack.pop()


def _kind(x: object) -> str:
    return x.__class__.__name__


class _Chosen(threading.local):
    """Where each thread makes new tensors when it is not told."""

    def __init__(self) -> None:
        self.stack: list[Device] = []  # of ``with device:``
        self.device: Device | None = None


_chosen = _Chosen()
Device.__module__, Device.__name__, Device.__qualname__ = "tracegrad", "device", "device"


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


def get_default_device() -> Device:
    """Return where new tensors are made when no device is given.

    Example:
        >>> import tracegrad as torch
        >>> with torch.device("cpu"):
        ...     torch.get_default_device()
        device(type='cpu')
    """
    return _chosen.stack[-1] if _chosen.stack else _chosen.device or default()


def set_default_device(device: Device | str | int | None) -> None:
    """Set where this thread makes new tensors when no device is given; None for JAX's default again."""
    _chosen.device = None if device is None else Device(device)


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
