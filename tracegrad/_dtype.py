"""PyTorch's element types: their names, categories, promotion, and the NumPy types that carry them."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

#: Categories in PyTorch's promotion order; a Python scalar or 0-dim tensor only lifts the category.
BOOL, INTEGRAL, FLOATING, COMPLEX = range(4)


class DType:
    """An element type such as ``tracegrad.float32``; one object per type, compared by identity."""

    __slots__ = ("name", "np", "category", "itemsize", "is_signed", "_hash")
    name: str
    np: np.dtype[Any]
    category: int
    itemsize: int
    is_signed: bool

    def __init__(self, name: str, np_dtype: Any, category: int):
        self.name = name
        self.np = np.dtype(np_dtype)
        self.category = category
        self.itemsize = self.np.itemsize
        self.is_signed = name not in ("bool", "uint8", "uint16", "uint32", "uint64")

    @property
    def is_floating_point(self) -> bool:
        """Whether this is a real floating-point type."""
        return self.category == FLOATING

    @property
    def is_complex(self) -> bool:
        """Whether this is a complex type."""
        return self.category == COMPLEX

    @property
    def is_inexact(self) -> bool:
        """Whether values of this type can carry gradients."""
        return self.category >= FLOATING

    def to_real(self) -> DType:
        """Return the type of the real part."""
        return _TO_REAL.get(self, self)

    def to_complex(self) -> DType:
        """Return the complex type whose parts are of this type; complex64 of 16-bit types.

        Raises:
            RuntimeError: for integers and bools.
        """
        if not self.is_inexact:
            raise RuntimeError(f"Unknown Complex ScalarType for {type_name(self)}")
        return _TO_COMPLEX.get(self, self)

    def __repr__(self) -> str:
        return f"torch.{self.name}"

    def __reduce__(self) -> str | tuple[Any, ...]:
        return (by_name, (self.name,))


DType.__module__, DType.__name__, DType.__qualname__ = "tracegrad", "dtype", "dtype"

bool_ = DType("bool", np.bool_, BOOL)
uint8 = DType("uint8", np.uint8, INTEGRAL)
uint16 = DType("uint16", np.uint16, INTEGRAL)
uint32 = DType("uint32", np.uint32, INTEGRAL)
uint64 = DType("uint64", np.uint64, INTEGRAL)
int8 = DType("int8", np.int8, INTEGRAL)
int16 = DType("int16", np.int16, INTEGRAL)
int32 = DType("int32", np.int32, INTEGRAL)
int64 = DType("int64", np.int64, INTEGRAL)
float16 = DType("float16", np.float16, FLOATING)
bfloat16 = DType("bfloat16", ml_dtypes.bfloat16, FLOATING)
float32 = DType("float32", np.float32, FLOATING)
float64 = DType("float64", np.float64, FLOATING)
complex64 = DType("complex64", np.complex64, COMPLEX)
complex128 = DType("complex128", np.complex128, COMPLEX)

ALL: tuple[DType, ...] = (
    bool_, uint8, uint16, uint32, uint64, int8, int16, int32, int64,
    float16, bfloat16, float32, float64, complex64, complex128,
)  # fmt: skip
_BY_NP: dict[np.dtype[Any], DType] = {d.np: d for d in ALL}
_BY_NAME: dict[str, DType] = {d.name: d for d in ALL}
_TO_COMPLEX = {float16: complex64, bfloat16: complex64, float32: complex64, float64: complex128}
_TO_REAL = {complex64: float32, complex128: float64}

_WIDE_UNSIGNED = frozenset((uint16, uint32, uint64))
_OF_PYTHON: dict[Any, DType] = {bool: bool_, int: int64, float: float64, complex: complex128}

_default = float32


def by_name(name: str) -> DType:
    """Return the type called ``name``, such as ``"float32"``."""
    return _BY_NAME[name]


def from_np(dtype: Any) -> DType:
    """Return the type that a NumPy or JAX ``dtype`` carries; TypeError where PyTorch has none."""
    found = _BY_NP.get(np.dtype(dtype))
    if found is None:
        kind = np.dtype(dtype).type
        raise TypeError(f"can't convert np.ndarray of type {kind.__module__}.{kind.__name__}. "
                        "The only supported types are: "
                        "float64, float32, float16, complex64, complex128, int64, int32, int16, int8, uint64, "
                        "uint32, uint16, uint8, and bool.")
    return found


def given(d: Any) -> Any:
    """Return the type that Python's ``bool``, ``int``, ``float`` or ``complex`` stands for; other arguments unchanged.

    Unlike numbers, whose type is the default one, ``float`` means float64 here.
    """
    return _OF_PYTHON.get(d, d) if isinstance(d, type) else d


def get_default_dtype() -> DType:
    """Return the type of new floating-point tensors, ``float32`` unless it was set."""
    return _default


def set_default_dtype(d: DType) -> None:
    """Set the type of new floating-point tensors.

    Raises:
        TypeError: when ``d`` is not a floating-point type.
    """
    global _default
    if not isinstance(d, DType) or not d.is_floating_point:
        what = "" if isinstance(d, DType) else "invalid dtype object: "
        raise TypeError(f"{what}only floating-point types are supported as the default type")
    _default = d


def default_complex() -> DType:
    """Return the complex type that goes with the default floating-point type."""
    return _TO_COMPLEX[_default]


def to_real(d: DType) -> DType:
    """Return the type of the real part of ``d``."""
    return _TO_REAL.get(d, d)


def to_complex(d: DType) -> DType:
    """Return the complex type whose parts are ``d``."""
    return _TO_COMPLEX.get(d, d)


def of_number(kind: type) -> DType:
    """Return the type that PyTorch gives a Python number of type ``kind``."""
    if kind is bool:
        return bool_
    if kind is int:
        return int64
    if kind is float:
        return _default
    return default_complex()


_TYPE_NAMES = {"bool": "Bool", "uint8": "Byte", "uint16": "UInt16", "uint32": "UInt32", "uint64": "UInt64",
               "int8": "Char", "int16": "Short", "int32": "Int", "int64": "Long",
               "float16": "Half", "bfloat16": "BFloat16", "float32": "Float", "float64": "Double",
               "complex64": "ComplexFloat", "complex128": "ComplexDouble"}  # fmt: skip


def type_name(d: DType) -> str:
    """Return the name that PyTorch's messages give ``d``, such as ``Long``."""
    return _TYPE_NAMES.get(d.name, d.name)


def promote_types(a: DType, b: DType) -> DType:
    """Return the smallest type to which both ``a`` and ``b`` convert, by PyTorch's table.

    Example:
        >>> import tracegrad as torch
        >>> torch.promote_types(torch.uint8, torch.int8)
        torch.int16
    """
    if a is b:
        return a
    if a.category <= INTEGRAL and b.category <= INTEGRAL and (a in _WIDE_UNSIGNED or b in _WIDE_UNSIGNED):
        raise RuntimeError("Promotion for uint16, uint32, uint64 types is not supported, attempted to promote "
                           f"{type_name(a)} and {type_name(b)}")
    if a.category < b.category:
        a, b = b, a
    if a.category == COMPLEX:
        other = to_real(b) if b.category == COMPLEX else b
        wide = a is complex128 or (b.category >= FLOATING and other is float64)
        return complex128 if wide else complex64
    if a.category == FLOATING:
        if b.category != FLOATING:
            return a
        if a.itemsize == b.itemsize:
            return float32
        return a if a.itemsize > b.itemsize else b
    if b.category == BOOL:
        return a
    if a.is_signed == b.is_signed:
        return a if a.itemsize >= b.itemsize else b
    signed = a if a.is_signed else b
    return int16 if signed is int8 else signed
