"""The limits of element types: ``finfo`` and ``iinfo``."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from tracegrad import _dtype
from tracegrad._dtype import BOOL, INTEGRAL, DType


def _checked(name: str, of: Any) -> DType:
    if not isinstance(of, DType):
        raise TypeError(f"{name}(): argument 'type' (position 1) must be torch.dtype, not {type(of).__name__}")
    return of


class finfo:  # noqa: N801
    """The limits of a floating-point type, of the parts of a complex one; the default dtype's when none is given.

    See https://docs.pytorch.org/docs/stable/type_info.html

    Example:
        >>> import tracegrad as torch
        >>> torch.finfo(torch.float32).eps, torch.finfo(torch.float16).max
        (1.1920928955078125e-07, 65504.0)
    """

    __slots__ = ("bits", "dtype", "eps", "max", "min", "resolution", "smallest_normal", "tiny")

    def __init__(self, type: DType | None = None):
        of = _checked("finfo", _dtype.get_default_dtype() if type is None else type)
        if not of.is_inexact:
            raise TypeError("torch.finfo() requires a floating point input type. Use torch.iinfo to handle "
                            "'torch.finfo'")
        real = _dtype.to_real(of)
        found: Any = ml_dtypes.finfo(real.np) if real is _dtype.bfloat16 else np.finfo(real.np)  # type: ignore[no-untyped-call]
        self.bits = real.itemsize * 8
        self.dtype = real.name
        self.eps, self.max, self.min = float(found.eps), float(found.max), float(found.min)
        self.smallest_normal = self.tiny = float(found.smallest_normal)
        self.resolution = float(f"1e-{found.precision}")

    def __repr__(self) -> str:
        names = ("resolution", "min", "max", "eps", "smallest_normal", "tiny")
        return f"finfo({', '.join(f'{n}={getattr(self, n):g}' for n in names)}, dtype={self.dtype})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, finfo) and other.dtype == self.dtype

    def __hash__(self) -> int:
        return hash(self.dtype)


class iinfo:  # noqa: N801
    """The limits of an integer type.

    See https://docs.pytorch.org/docs/stable/type_info.html

    Example:
        >>> import tracegrad as torch
        >>> torch.iinfo(torch.int8).min, torch.iinfo(torch.uint8).max
        (-128, 255)
    """

    __slots__ = ("bits", "dtype", "max", "min")

    def __init__(self, type: DType):
        of = _checked("iinfo", type)
        if of.category == BOOL:
            raise TypeError("torch.bool is not supported by torch.iinfo")
        if of.category != INTEGRAL:
            raise TypeError("torch.iinfo() requires an integer input type. Use torch.finfo to handle 'torch.iinfo'")
        found = np.iinfo(of.np)
        self.bits, self.dtype = of.itemsize * 8, of.name
        self.max, self.min = int(found.max), int(found.min)

    def __repr__(self) -> str:
        return f"iinfo(min={self.min:g}, max={self.max:g}, dtype={self.dtype})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, iinfo) and other.dtype == self.dtype

    def __hash__(self) -> int:
        return hash(self.dtype)


finfo.__module__ = iinfo.__module__ = "tracegrad"
