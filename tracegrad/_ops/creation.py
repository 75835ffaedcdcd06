"""Making tensors from data and from nothing.

Data is copied on the host at once, so a later write to it is never seen; it goes to the device when an op
first uses it. Tensors from nothing (``zeros``, ``arange``) are recorded ops without operands.
"""

from __future__ import annotations

import builtins
import math
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from tracegrad import _device, _dtype
from tracegrad._device import Device
from tracegrad._dtype import DType, type_name
from tracegrad._engine.op import Lowering
from tracegrad._engine.trace import force, new_value, record
from tracegrad._engine.value import Aval, Number, aval
from tracegrad._handle import Handle, constant, tensor_of, want_grad
from tracegrad._ops import _rules as rules
from tracegrad._ops._declare import cast_rule, op
from tracegrad._ops._out import into

if TYPE_CHECKING:
    from tracegrad._tensor import Tensor

DeviceLike = Device | str | None


# -- arguments -----------------------------------------------------------------------------------------------


def place(device: DeviceLike) -> Device:
    """Return where a new tensor goes."""
    if device is None:
        return _device.get_default_device()
    found = Device(device)
    return Device(found.type) if found.type == "cpu" else found  # the CPU is one device


def sizes(given: tuple[Any, ...], keyword: Any = None, name: str = "size") -> tuple[int, ...]:
    """Return sizes given as varargs, as one sequence or by keyword; TypeError where they are no ints."""
    if keyword is not None:
        given = (keyword,)
    if len(given) == 1 and type(given[0]) is not int:
        first = given[0]
        if type(first) is tuple:
            given = first
        elif isinstance(first, (list, tuple)):
            given = tuple(first)
    for x in given:
        if type(x) is not int:
            return _checked_sizes(given, name)
    return given


def _checked_sizes(given: tuple[Any, ...], name: str) -> tuple[int, ...]:
    found = []
    for i, x in enumerate(given):
        if isinstance(x, float) or not hasattr(x, "__index__"):
            raise TypeError(f"{name}: expected sizes as ints or one tuple of ints, got {type(x).__name__} "
                            f"at position {i + 1}")
        found.append(int(x.__index__()))
    return tuple(found)


def creation_sizes(op_name: str, given: tuple[Any, ...], keyword: Any) -> tuple[int, ...]:
    """Return the sizes of a tensor that ``op_name`` makes."""
    if not given and keyword is None:
        raise TypeError(f'{op_name}() missing 1 required positional arguments: "size"')
    try:
        found = sizes(given, keyword)
    except TypeError:
        shown = given[0] if given else keyword
        raise TypeError(f"{op_name}(): argument 'size' (position 1) must be tuple of ints, not "
                        f"{type(shown).__name__}") from None
    return check_sizes(found)


def check_sizes(found: tuple[int, ...]) -> tuple[int, ...]:
    """Return ``found``; RuntimeError in PyTorch's words where one is negative."""
    for x in found:
        if x < 0:
            raise RuntimeError(f"Trying to create tensor with negative dimension {x}: {list(found)}")
    return found


def finish(made: Tensor, requires_grad: bool) -> Tensor:
    """Return ``made``, wanting gradients where ``requires_grad``."""
    if requires_grad:
        if not made._value.spec.aval.dtype.is_inexact:
            raise RuntimeError("Only Tensors of floating point and complex dtype can require gradients")
        want_grad(made)
    return made


def from_host(array: np.ndarray[Any, Any], device: DeviceLike = None) -> Tensor:
    """Return a tensor that owns ``array``, which nobody else may write to."""
    return tensor_of(new_value(array, aval(array.shape, _dtype.from_np(array.dtype), place(device))))


# -- from data -----------------------------------------------------------------------------------------------


@op(method=False)
def tensor(data: Any, *, dtype: DType | None = None, device: DeviceLike = None, requires_grad: bool = False,
           pin_memory: bool = False) -> Tensor:  # fmt: skip
    """Return a tensor that holds a copy of ``data``: a number, nested sequences of numbers, or an array.

    Python floats take the default dtype, ints ``int64``, bools ``bool``; NumPy arrays keep theirs.

    Raises:
        ValueError: where sequences of one dimension differ in length.
        RuntimeError: where ``data`` is of a type that no dtype carries.

    Example:
        >>> import tracegrad as torch
        >>> torch.tensor([[1, 2], [3, 4]]).tolist()
        [[1, 2], [3, 4]]
    """
    if isinstance(data, Handle):
        warnings.warn("To copy construct from a tensor, it is recommended to use sourceTensor.detach().clone() or "
                      "sourceTensor.detach().clone().requires_grad_(True), rather than "
                      "tensor.new_tensor(sourceTensor).",
                      stacklevel=2)
        made = tensor_of(constant(_moved(data, dtype, device)._value))
    else:
        made = from_host(_host(data, _dtype.given(dtype)), device)
    return finish(made, requires_grad)


@op(method=False)
def as_tensor(data: Any, dtype: DType | None = None, device: DeviceLike = None) -> Tensor:
    """Return ``data`` as a tensor: itself where it is one of this dtype and device, else a copy.

    Memory is never shared with NumPy arrays: a pending op must not see later writes to them.
    """
    if isinstance(data, Handle):
        return _moved(data, dtype, device)
    return from_host(_host(data, dtype), device)


@op(method=False)
def from_numpy(ndarray: np.ndarray[Any, Any]) -> Tensor:
    """Return a tensor with the elements of a NumPy array.

    Unlike PyTorch's, it always copies host memory: ops run later than they are called, and must not see later writes.
    """
    if not isinstance(ndarray, np.ndarray):
        kind = type(ndarray)
        name = f"numpy.{kind.__name__}" if isinstance(ndarray, np.generic) else kind.__name__
        raise TypeError(f"expected np.ndarray (got {name})")
    return from_host(_host(ndarray, None), "cpu" if _device.default().type == "cpu" else None)


@op(method=False)
def scalar_tensor(s: Any, *, dtype: DType | None = None, device: DeviceLike = None,
                  requires_grad: bool = False) -> Tensor:  # fmt: skip
    """Return the number ``s`` as a 0-dim tensor of the default dtype."""
    return finish(from_host(_host(s, dtype or _dtype.get_default_dtype()), device), requires_grad)


def _moved(data: Any, dtype: DType | None, device: DeviceLike) -> Tensor:
    found: Tensor = data
    if dtype is not None and dtype is not found.dtype:
        found = record(cast_rule, (dtype,), found)
    if device is not None and Device(device) is not found.device:
        found = from_host(np.array(force(found._value)), device)
    return found


def _host(data: Any, dtype: DType | None) -> np.ndarray[Any, Any]:
    """Return ``data`` as a NumPy array of our own, of the dtype that PyTorch gives it."""
    if isinstance(data, (np.ndarray, np.generic)):
        _check_array(data)
        return _cast(np.array(data), dtype)
    if isinstance(data, (list, tuple, range)):
        first: Any = data
        while isinstance(first, (list, tuple)) and first:
            first = first[0]
        mixed = isinstance(first, np.generic) and any(type(x) is not type(first) for x in data)
        if not isinstance(first, Handle) and not mixed:
            try:
                array = np.array(data)
            except (ValueError, TypeError, OverflowError):
                array = np.array(None)
            if array.dtype.kind in "bifc" or (array.dtype.kind == "u" and isinstance(first, (np.ndarray, np.generic))):
                if array.size == 0 or (array.dtype.kind in "fc" and not isinstance(first, (np.ndarray, np.generic))):
                    dtype = dtype or (_dtype.default_complex() if array.dtype.kind == "c"
                                      else _dtype.get_default_dtype())  # fmt: skip
                return _cast(array, dtype)
        return _slowly(data, dtype)
    if isinstance(data, (bool, int, float, builtins.complex)):
        return _number(data, dtype)
    if hasattr(data, "__array__") or hasattr(data, "__array_interface__"):
        return _host(np.asarray(data), dtype)
    if isinstance(data, str):
        raise TypeError(f"new(): invalid data type '{type(data).__name__}'")
    if isinstance(data, Sequence):
        return _host(list(data), dtype)
    raise RuntimeError(f"Could not infer dtype of {type(data).__name__}")


def _check_array(data: Any) -> None:
    """Raise in PyTorch's words where no tensor is made of ``data``, an array."""
    if not data.dtype.isnative:
        raise ValueError("given numpy array has byte order different from the native byte order. Conversion between "
                         "byte orders is currently not supported.")
    _dtype.from_np(data.dtype)
    if any(step < 0 for step in data.strides):
        raise ValueError(
            "At least one stride in the given numpy array is negative, and tensors with negative strides are not "
            "currently supported. (You can probably work around this by making a copy of your array  with "
            "array.copy().) ")


def _number(data: Any, dtype: DType | None) -> np.ndarray[Any, Any]:
    if isinstance(data, int) and not -(2**63) <= data < 2**63 and dtype is not _dtype.uint64:
        raise ValueError("Overflow when unpacking long long")
    to = dtype or _dtype.of_number(bool if isinstance(data, bool) else next(
        k for k in (int, float, builtins.complex) if isinstance(data, k)))
    if isinstance(data, int) and to.category == _dtype.INTEGRAL:
        bounds = np.iinfo(to.np)
        if not min(bounds.min, -bounds.max - 1 if to is _dtype.uint8 else 0) <= data <= bounds.max:
            raise RuntimeError(f"value cannot be converted to type {to.name}_t without overflow"
                               if to is not _dtype.uint8 else "value cannot be converted to type uint8 without "
                                                              "overflow")
    return _cast(np.array(data), to)


def _cast(array: np.ndarray[Any, Any], dtype: DType | None) -> np.ndarray[Any, Any]:
    if dtype is None or array.dtype == dtype.np:
        return array
    if array.dtype.kind == "c" and dtype.category < _dtype.COMPLEX:
        raise TypeError("must be real number, not complex")
    with np.errstate(all="ignore"):
        return array.astype(dtype.np)


def _slowly(data: Any, dtype: DType | None) -> np.ndarray[Any, Any]:
    """The same for sequences that hold tensors, and for those that NumPy refuses, to raise PyTorch's errors."""
    shape: list[int] = []
    item = data
    while isinstance(item, (list, tuple, range)):
        shape.append(len(item))
        if not item:
            break
        item = item[0]
    leaves: list[Any] = []

    def collect(part: Any, level: int) -> None:
        if level == len(shape):
            if isinstance(part, (list, tuple)):
                raise TypeError(f"'{type(part).__name__}' object cannot be interpreted as an integer")
            leaves.append(part)
            return
        if not isinstance(part, (list, tuple, range)):
            raise TypeError("not a sequence")
        if len(part) != shape[level]:
            raise ValueError(f"expected sequence of length {shape[level]} at dim {level} (got {len(part)})")
        for x in part:
            collect(x, level + 1)

    collect(data, 0)
    numbers: list[Any] = []
    result: DType | None = None
    for leaf in leaves:
        if isinstance(leaf, Handle):
            of = leaf._value.spec.aval
            if of.numel != 1:
                raise ValueError("only one element tensors can be converted to Python scalars")
            numbers.append(np.asarray(force(leaf._value)).item())
            kind = of.dtype
        elif isinstance(leaf, str):
            raise ValueError("too many dimensions 'str'")
        elif isinstance(leaf, (np.ndarray, np.generic)) and leaf.size == 1:
            numbers.append(leaf.item())
            kind = _dtype.from_np(leaf.dtype)
        elif isinstance(leaf, (bool, int, float, builtins.complex)):
            numbers.append(_number(leaf, None).item())
            kind = _dtype.of_number(next(k for k in (bool, int, float, builtins.complex) if isinstance(leaf, k)))
        else:
            raise RuntimeError(f"Could not infer dtype of {type(leaf).__name__}")
        result = kind if result is None else _dtype.promote_types(result, kind)
    return _cast(np.array(numbers).reshape(shape), dtype or result or _dtype.get_default_dtype())


# -- from nothing --------------------------------------------------------------------------------------------


def _full(value: Aval | Number, shape: tuple[int, ...], dtype: DType, device: Device) -> Lowering:
    if isinstance(value, Number) and value.kind is builtins.complex and not dtype.is_complex:
        raise RuntimeError(f"value cannot be converted to type {type_name(dtype).lower()} without overflow")
    return Lowering(lambda v: jnp.full(shape, jnp.asarray(v).astype(dtype.np)), differentiable=False, device=device)


def filled(value: Any, shape: tuple[int, ...], dtype: DType, device: Device, requires_grad: bool = False) -> Tensor:
    """Return a tensor with ``value`` in every element."""
    made: Tensor = record(_full, (shape, _dtype.given(dtype), device), value)
    return finish(made, requires_grad) if requires_grad else made


@op(method=False)
def zeros(*args: Any, size: Any = None, dtype: DType | None = None, device: DeviceLike = None,
          requires_grad: bool = False, out: Tensor | None = None) -> Tensor:  # fmt: skip
    """Return a tensor of zeros; sizes come as varargs or as one sequence.

    Example:
        >>> import tracegrad as torch
        >>> torch.zeros(2, 3).tolist()
        [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    """
    if out is not None:
        return into(out, zeros, *args, size=size, dtype=dtype, device=device, requires_grad=requires_grad)
    try:
        shape = creation_sizes("zeros", args, size)
    except RuntimeError:
        raise RuntimeError("zeros: Dimension size must be non-negative.") from None
    return filled(0, shape, dtype or _dtype.get_default_dtype(), place(device), requires_grad)


@op(method=False)
def ones(*args: Any, size: Any = None, dtype: DType | None = None, device: DeviceLike = None,
         requires_grad: bool = False, out: Tensor | None = None) -> Tensor:  # fmt: skip
    """Return a tensor of ones; sizes come as varargs or as one sequence."""
    if out is not None:
        return into(out, ones, *args, size=size, dtype=dtype, device=device, requires_grad=requires_grad)
    shape = creation_sizes("ones", args, size)
    return filled(1, shape, dtype or _dtype.get_default_dtype(), place(device), requires_grad)


@op(method=False)
def empty(*args: Any, size: Any = None, dtype: DType | None = None, device: DeviceLike = None,
          requires_grad: bool = False, out: Tensor | None = None) -> Tensor:  # fmt: skip
    """Return a tensor whose elements nobody should rely on; they are zeros, since XLA has no uninitialised memory."""
    if out is not None:
        return into(out, empty, *args, size=size, dtype=dtype, device=device, requires_grad=requires_grad)
    shape = creation_sizes("empty", args, size)
    return filled(0, shape, dtype or _dtype.get_default_dtype(), place(device), requires_grad)


@op(method=False)
def full(size: Any, fill_value: Any, *, dtype: DType | None = None, device: DeviceLike = None,
         requires_grad: bool = False, out: Tensor | None = None) -> Tensor:  # fmt: skip
    """Return a tensor with ``fill_value`` in every element; the dtype follows from the value where it is not given."""
    if out is not None:
        return into(out, full, size, fill_value, dtype=dtype, device=device, requires_grad=requires_grad)
    if isinstance(size, int):
        raise TypeError("full(): argument 'size' (position 1) must be tuple of ints, not int")
    shape = creation_sizes("full", (size,), None)
    if dtype is None:
        is_tensor = isinstance(fill_value, Handle)
        dtype = fill_value.dtype if is_tensor else _dtype.of_number(type(fill_value))
    return filled(fill_value, shape, dtype, place(device), requires_grad)


@op(method=False)
def zeros_like(input: Tensor, *, dtype: DType | None = None, device: DeviceLike = None, requires_grad: bool = False,
               memory_format: Any = None, out: Tensor | None = None) -> Tensor:  # fmt: skip
    """Return zeros of the shape, dtype and device of ``input``."""
    if out is not None:
        return into(out, zeros_like, input, dtype=dtype, device=device, requires_grad=requires_grad)
    return _like(input, 0, dtype, device, requires_grad)


@op(method=False)
def ones_like(input: Tensor, *, dtype: DType | None = None, device: DeviceLike = None, requires_grad: bool = False,
              memory_format: Any = None, out: Tensor | None = None) -> Tensor:  # fmt: skip
    """Return ones of the shape, dtype and device of ``input``."""
    if out is not None:
        return into(out, ones_like, input, dtype=dtype, device=device, requires_grad=requires_grad)
    return _like(input, 1, dtype, device, requires_grad)


@op(method=False)
def empty_like(input: Tensor, *, dtype: DType | None = None, device: DeviceLike = None, requires_grad: bool = False,
               memory_format: Any = None, out: Tensor | None = None) -> Tensor:  # fmt: skip
    """Return a tensor of the shape, dtype and device of ``input``; its elements, zeros, are not to be relied on."""
    if out is not None:
        return into(out, empty_like, input, dtype=dtype, device=device, requires_grad=requires_grad)
    return _like(input, 0, dtype, device, requires_grad)


@op(method=False)
def full_like(input: Tensor, fill_value: Any, *, dtype: DType | None = None, device: DeviceLike = None,
              requires_grad: bool = False, memory_format: Any = None) -> Tensor:  # fmt: skip
    """Return a tensor of the shape, dtype and device of ``input`` with ``fill_value`` in every element."""
    return _like(input, fill_value, dtype, device, requires_grad)


def _like(input: Tensor, value: Any, dtype: DType | None, device: DeviceLike, requires_grad: bool) -> Tensor:
    of = input._value.spec.aval
    return filled(value, of.shape, dtype or of.dtype, of.device if device is None else Device(device), requires_grad)


@op(method=False)
def arange(start: Any = None, end: Any = None, step: Any = 1, *, dtype: DType | None = None, device: DeviceLike = None,
           requires_grad: bool = False, out: Tensor | None = None) -> Tensor:  # fmt: skip
    """Return the numbers from ``start`` up to but without ``end``, ``step`` apart.

    All ints give ``int64``, any float gives the default dtype. ``arange(5)`` starts at 0.

    Example:
        >>> import tracegrad as torch
        >>> torch.arange(1, 6, 2).tolist()
        [1, 3, 5]
    """
    if out is not None:
        return into(out, arange, start, end, step, dtype=dtype, device=device, requires_grad=requires_grad)
    if end is None:
        start, end = None, start
    if end is None:
        raise TypeError("arange() received an invalid combination of arguments: it needs an end")
    start, end, step = (x.item() if hasattr(x, "item") else x for x in (0 if start is None else start, end, step))
    whole = all(isinstance(x, int) for x in (start, end, step))
    if not (math.isfinite(start) and math.isfinite(end)):
        raise RuntimeError(f"unsupported range: {start} -> {end}")
    if step == 0:
        raise RuntimeError("step must be nonzero")
    if (end - start) * (1 if step > 0 else -1) < 0:
        raise RuntimeError("upper bound and lower bound inconsistent with step sign")
    to = dtype or (_dtype.int64 if whole else _dtype.get_default_dtype())
    if whole:
        length = -((start - end) // step)
    elif to.category == _dtype.INTEGRAL:
        start, end, step = int(start), int(end), int(step)
        length = -((start - end) // step)
    else:
        length = math.ceil((end - start) / step)
    made = record(_arange, (length, to, place(device)), start, step)
    return finish(made, requires_grad)


def _arange(start: Number, step: Number, length: int, dtype: DType, device: Device) -> Lowering:
    wide = np.dtype(np.int64) if start.kind is int and step.kind is int else np.dtype(np.float64)

    def fn(a: Any, s: Any) -> Any:
        return (jnp.asarray(a, wide) + jnp.arange(length, dtype=wide) * jnp.asarray(s, wide)).astype(dtype.np)

    return Lowering(fn, differentiable=False, device=device)


@op(method=False)
def linspace(start: Any, end: Any, steps: int, *, dtype: DType | None = None, device: DeviceLike = None,
             requires_grad: bool = False, out: Tensor | None = None) -> Tensor:  # fmt: skip
    """Return ``steps`` numbers evenly spaced from ``start`` to ``end``, both included."""
    if out is not None:
        return into(out, linspace, start, end, steps, dtype=dtype, device=device, requires_grad=requires_grad)
    if steps < 0:
        raise RuntimeError("number of steps must be non-negative")
    to = dtype or (_dtype.default_complex() if isinstance(start, builtins.complex) or isinstance(end, builtins.complex)
                   else _dtype.get_default_dtype())  # fmt: skip
    return finish(record(_linspace, (steps, to, place(device), None), start, end), requires_grad)


@op(method=False)
def logspace(start: Any, end: Any, steps: int, base: float = 10.0, *, dtype: DType | None = None,
             device: DeviceLike = None, requires_grad: bool = False, out: Tensor | None = None) -> Tensor:  # fmt: skip
    """Return ``base`` to the power of ``steps`` numbers evenly spaced from ``start`` to ``end``."""
    if out is not None:
        return into(out, logspace, start, end, steps, base, dtype=dtype, device=device, requires_grad=requires_grad)
    if steps < 0:
        raise RuntimeError("number of steps must be non-negative")
    to = dtype or _dtype.get_default_dtype()
    return finish(record(_linspace, (steps, to, place(device), float(base)), start, end), requires_grad)


def _linspace(start: Any, end: Any, steps: int, dtype: DType, device: Device, base: float | None) -> Lowering:
    wide = dtype.np if dtype.is_inexact and base is None else np.dtype(np.float64)

    def fn(a: Any, b: Any) -> Any:
        a, b = jnp.asarray(a).astype(wide), jnp.asarray(b).astype(wide)
        if not dtype.is_inexact:  # PyTorch's ends are of the dtype of the result
            a, b = jnp.trunc(a), jnp.trunc(b)
        if steps < 2:
            line = jnp.full((steps,), a)
        else:
            step = (b - a) / (steps - 1)
            i = jnp.arange(steps)
            # From both ends towards the middle, so that the last element is `end` itself.
            line = jnp.where(i < steps // 2, a + step * i.astype(wide), b - step * (steps - 1 - i).astype(wide))
        if base is not None:
            line = jnp.power(base, line)
        return line.astype(dtype.np)

    return Lowering(fn, differentiable=False, device=device)


@op(method=False)
def eye(n: int, m: int | None = None, *, dtype: DType | None = None, device: DeviceLike = None,
        requires_grad: bool = False, out: Tensor | None = None) -> Tensor:  # fmt: skip
    """Return an ``n`` by ``m`` matrix with ones on the diagonal and zeros elsewhere."""
    if out is not None:
        return into(out, eye, n, m, dtype=dtype, device=device, requires_grad=requires_grad)
    for name, x in (("n", n), ("m", m)):
        if x is not None and x < 0:
            raise RuntimeError(f"{name} must be greater or equal to 0, got {x}")
    params = (n, n if m is None else m, dtype or _dtype.get_default_dtype(), place(device))
    return finish(record(_eye, params), requires_grad)


def _eye(n: int, m: int, dtype: DType, device: Device) -> Lowering:
    return Lowering(lambda: jnp.eye(n, m, dtype=dtype.np), differentiable=False, device=device)


@op(method=False)
def tril_indices(row: int, col: int, offset: int = 0, *, dtype: DType | None = None,
                 device: DeviceLike = None) -> Tensor:  # fmt: skip
    """Return the indices of the lower triangle of a ``row`` by ``col`` matrix, in two rows."""
    return from_host(np.stack(np.tril_indices(row, offset, col)).astype((dtype or _dtype.int64).np), device)


@op(method=False)
def triu_indices(row: int, col: int, offset: int = 0, *, dtype: DType | None = None,
                 device: DeviceLike = None) -> Tensor:  # fmt: skip
    """Return the indices of the upper triangle of a ``row`` by ``col`` matrix, in two rows."""
    return from_host(np.stack(np.triu_indices(row, offset, col)).astype((dtype or _dtype.int64).np), device)


@op(method=False)
def complex(real: Tensor, imag: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return a complex tensor of these real and imaginary parts.

    Raises:
        RuntimeError: where the parts are not floating-point tensors of one dtype.
    """
    if out is not None:
        return into(out, complex, real, imag)
    made: Tensor = record(_complex, (), real, imag)
    return made


def _complex(real: Aval, imag: Aval) -> Lowering:
    a, b = type_name(real.dtype), type_name(imag.dtype)
    if not (real.dtype.is_floating_point and imag.dtype.is_floating_point):
        raise RuntimeError(f"Expected both inputs to be Half, Float or Double tensors but got {a} and {b}")
    if real.dtype is not imag.dtype:
        raise RuntimeError(f"Expected object of scalar type {a} but got scalar type {b} for second argument")
    rules.broadcast(real, imag)
    to = _dtype.to_complex(real.dtype).np
    parts = _dtype.to_real(_dtype.from_np(to)).np

    def fn(x: Any, y: Any) -> Any:
        return lax.complex(*jnp.broadcast_arrays(x.astype(parts), y.astype(parts)))

    return Lowering(fn, name="ComplexBackward0")


# -- from a tensor's dtype and device ------------------------------------------------------------------------


@op(function=False)
def new_tensor(self: Tensor, data: Any, *, dtype: DType | None = None, device: DeviceLike = None,
               requires_grad: bool = False) -> Tensor:  # fmt: skip
    """Return ``data`` as a new tensor of this tensor's dtype and device."""
    place_ = self.device if device is None else device
    if isinstance(data, Handle):
        return tensor(data, dtype=dtype, device=place_, requires_grad=requires_grad)
    return finish(from_host(_host(data, dtype or self.dtype), place_), requires_grad)


@op(function=False)
def new_zeros(self: Tensor, *args: Any, size: Any = None, dtype: DType | None = None, device: DeviceLike = None,
              requires_grad: bool = False) -> Tensor:  # fmt: skip
    """Return zeros of this tensor's dtype and device."""
    return _new(self, 0, creation_sizes("new_zeros", args, size), dtype, device, requires_grad)


@op(function=False)
def new_ones(self: Tensor, *args: Any, size: Any = None, dtype: DType | None = None, device: DeviceLike = None,
             requires_grad: bool = False) -> Tensor:  # fmt: skip
    """Return ones of this tensor's dtype and device."""
    return _new(self, 1, creation_sizes("new_ones", args, size), dtype, device, requires_grad)


@op(function=False)
def new_empty(self: Tensor, *args: Any, size: Any = None, dtype: DType | None = None, device: DeviceLike = None,
              requires_grad: bool = False) -> Tensor:  # fmt: skip
    """Return a tensor of this tensor's dtype and device; its elements, zeros, are not to be relied on."""
    return _new(self, 0, creation_sizes("new_empty", args, size), dtype, device, requires_grad)


@op(function=False)
def new_full(self: Tensor, size: Any, fill_value: Any, *, dtype: DType | None = None, device: DeviceLike = None,
             requires_grad: bool = False) -> Tensor:  # fmt: skip
    """Return a tensor of this tensor's dtype and device with ``fill_value`` in every element."""
    return _new(self, fill_value, creation_sizes("new_full", (size,), None), dtype, device, requires_grad)


def _new(self: Tensor, value: Any, shape: tuple[int, ...], dtype: DType | None, device: DeviceLike,
         requires_grad: bool) -> Tensor:  # fmt: skip
    of = self._value.spec.aval
    return filled(value, shape, dtype or of.dtype, of.device if device is None else Device(device), requires_grad)
