"""Views that see elements in another way: overlapping windows, parts and conjugates of complex numbers, other dtypes.

NOTE [Bits] In PyTorch a conjugate, and the imaginary part of one, are views with a bit that stands for the change of
sign. Here they are views like others, and which bit a tensor has is told by the steps that lead to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from tracegrad._dtype import DType, bool_, complex64, complex128, float32, float64, type_name
from tracegrad._engine.op import Lowering
from tracegrad._engine.trace import record
from tracegrad._engine.value import Aval
from tracegrad._grad_mode import no_grad
from tracegrad._handle import alias
from tracegrad._layout import Layout, layout, path
from tracegrad._ops import _rules as rules
from tracegrad._ops._declare import op
from tracegrad._ops._out import into
from tracegrad._ops._views import view_of, viewed
from tracegrad._ops.rearranging import clone

if TYPE_CHECKING:
    from tracegrad._tensor import Tensor


@op(function=False, method=True)
def unfold(input: Tensor, dimension: int, size: int, step: int) -> Tensor:
    """Return a view of the windows of ``size`` elements along a dim, one every ``step``; the window is a new last dim.

    Where windows overlap, what is written to an element that several have is what the last of them says.

    See https://docs.pytorch.org/docs/stable/generated/torch.Tensor.unfold.html

    Example:
        >>> import tracegrad as torch
        >>> torch.arange(5).unfold(0, 3, 2).tolist()
        [[0, 1, 2], [2, 3, 4]]
    """
    return viewed(_unfold, (dimension, size, step), input, True, False)


def _unfold(x: Aval, dimension: int, size: int, step: int) -> Lowering:
    d = rules.dim(dimension, x.ndim)
    length = x.shape[d] if x.ndim else 1
    if size > length:
        raise RuntimeError(f"maximum size for tensor at dimension {d} is {length} but size is {size}")
    if size < 0:
        raise RuntimeError(f"size is {size} but must be >= 0")
    if step <= 0:
        raise RuntimeError(f"step is {step} but must be > 0")
    count = (length - size) // step + 1
    here = (slice(None),) * d

    def of(k: int) -> Any:
        """Return where the elements number ``k`` of all windows are."""
        return (*here, slice(k, k + (count - 1) * step + 1, step))

    def fn(a: Any) -> Any:
        if not x.ndim:
            return a.reshape(1)[:size]
        windows = jnp.arange(count)[:, None] * step + jnp.arange(size)
        return jnp.moveaxis(jnp.take(a, windows.reshape(-1), d).reshape(
            *x.shape[:d], count, size, *x.shape[d + 1 :]), d + 1, -1)  # fmt: skip

    def put(a: Any, new: Any) -> Any:
        if not x.ndim:
            return new.reshape(()) if size else a
        for k in range(size - 1, -1, -1):
            a = a.at[of(k)].set(new[..., k])
        return a

    def lay(strides: tuple[int, ...], offset: int | None) -> Layout:
        if not x.ndim:
            return (1,), offset
        return (*strides[:d], strides[d] * step, *strides[d + 1 :], strides[d]), offset

    return view_of(fn, "UnfoldBackward0", put, lay)


@op()
def conj(input: Tensor) -> Tensor:
    """Return a view of the conjugates; ``input`` itself where it is real.

    See https://docs.pytorch.org/docs/stable/generated/torch.conj.html

    Example:
        >>> import tracegrad as torch
        >>> x = torch.tensor([1 + 2j])
        >>> x.conj().mul_(2)
        tensor([2.-4.j])
        >>> x
        tensor([2.+4.j])
    """
    return viewed(_conj, (), input) if input.dtype.is_complex else input


def _conj(x: Aval) -> Lowering:
    return view_of(jnp.conj, "ConjBackward0", lambda a, new: jnp.conj(new), lambda strides, offset: (strides, offset))


@op(inplace=True)
def conj_physical(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Return the conjugates, in a tensor of its own; ``input`` itself where it is real."""
    if out is not None:
        return into(out, conj_physical, input)
    return record(_conj_physical, (), input) if input.dtype.is_complex else input


def _conj_physical(x: Aval) -> Lowering:
    return Lowering(jnp.conj, name="ConjPhysicalBackward0", saves=False)


def bits(input: Tensor) -> tuple[bool, bool]:
    """Return whether the conjugate bit is set, and the negative bit; see NOTE [Bits]."""
    conjugate = negative = False
    for rule, params, _, _ in path(input)[1] if input._storage is not None else ():
        if rule is _conj:
            conjugate = not conjugate
        elif rule is _half:
            conjugate, negative = False, conjugate and params == (1,)
        elif rule is _negated:
            negative = not negative
    return conjugate, negative


def negated(input: Tensor) -> Tensor:
    """Return a view of the numbers with the other sign."""
    return viewed(_negated, (), input)


def _negated(x: Aval) -> Lowering:
    return view_of(jnp.negative, "NegViewBackward0", lambda a, new: -new, lambda strides, offset: (strides, offset))


@op()
def is_conj(input: Tensor) -> bool:
    """Return whether ``input`` is a view of numbers that are conjugates of its own."""
    return bits(input)[0]


@op()
def is_neg(input: Tensor) -> bool:
    """Return whether ``input`` is a view of numbers that are its own with the other sign: ``x.conj().imag``."""
    return bits(input)[1]


@op()
def resolve_conj(input: Tensor) -> Tensor:
    """Return a copy of a view of conjugates; everything else as it is."""
    return clone(input) if bits(input)[0] else input


@op()
def resolve_neg(input: Tensor) -> Tensor:
    """Return a copy of a view of numbers with the other sign, see `is_neg`; everything else as it is."""
    return clone(input) if bits(input)[1] else input


def check_bits(input: Tensor) -> None:
    """Raise where PyTorch's ``numpy()`` does because of how elements lie."""
    for bit, on, name in zip(("conjugate", "negative"), bits(input), ("conj", "neg")):
        if on:
            raise RuntimeError(f"Can't call numpy() on Tensor that has {bit} bit set. Use "
                               f"tensor.resolve_{name}().numpy() instead.")


@op(method=False)
def real(input: Tensor) -> Tensor:
    """Return a view of the real parts; ``input`` itself where it is real."""
    return viewed(_half, (0,), input, True, False) if input.dtype.is_complex else input


@op(method=False)
def imag(input: Tensor) -> Tensor:
    """Return a view of the imaginary parts. RuntimeError where ``input`` is real."""
    return viewed(_half, (1,), input, True, False)


def _half(x: Aval, which: int) -> Lowering:
    if not x.dtype.is_complex:
        raise RuntimeError("imag is not implemented for tensors with non-complex dtypes.")

    def put(a: Any, new: Any) -> Any:
        return lax.complex(jnp.real(a), new) if which else lax.complex(new, jnp.imag(a))

    return view_of(jnp.imag if which else jnp.real, "SelectBackward0", put,
                   lambda strides, offset: (tuple(2 * s for s in strides), _doubled(offset, which)))  # fmt: skip


def _doubled(offset: int | None, more: int = 0) -> int | None:
    return None if offset is None else 2 * offset + more


@op(method=False)
def view_as_real(input: Tensor) -> Tensor:
    """Return a view of complex numbers as pairs of real ones, along a new last dim."""
    if input._storage is not None and bits(input)[0]:
        raise RuntimeError(
            "view_as_real doesn't work on unresolved conjugated tensors.  To resolve the conjugate tensor so you can "
            "view it as real, use self.resolve_conj(); however, be warned that the resulting tensor will NOT alias the "
            "original.")
    return viewed(_as_real, (), input, True)


def _as_real(x: Aval) -> Lowering:
    if not x.dtype.is_complex:
        raise RuntimeError("view_as_real is only supported for complex tensors")
    return view_of(lambda a: jnp.stack([jnp.real(a), jnp.imag(a)], -1), "ViewAsRealBackward0",
                   lambda a, new: lax.complex(new[..., 0], new[..., 1]),
                   lambda strides, offset: ((*(2 * s for s in strides), 1), _doubled(offset)))  # fmt: skip


@op(method=False)
def view_as_complex(input: Tensor) -> Tensor:
    """Return a view of pairs of real numbers, along the last dim, as complex ones."""
    return viewed(_as_complex, (), input, True)


def _as_complex(x: Aval) -> Lowering:
    if x.dtype not in (float32, float64):
        raise RuntimeError("view_as_complex is only supported for half, float and double tensors, but got a tensor of "
                           f"scalar type: {type_name(x.dtype)}")
    if not x.ndim:
        raise RuntimeError("Input tensor must have one or more dimensions")
    if x.shape[-1] != 2:
        raise RuntimeError("Tensor must have a last dimension of size 2")
    to = complex64 if x.dtype is float32 else complex128
    return view_of(lambda a: lax.complex(a[..., 0], a[..., 1]).astype(to.np), "ViewAsComplexBackward0",
                   lambda a, new: jnp.stack([jnp.real(new), jnp.imag(new)], -1),
                   lambda strides, offset: (tuple(s // 2 for s in strides[:-1]), _halved(offset)))


def _halved(offset: int | None) -> int | None:
    return None if offset is None else offset // 2


# -- other dtypes --------------------------------------------------------------------------------------------


def retyped(input: Tensor, dtype: DType) -> Tensor:
    """Return a tensor without a history that reads the bytes of ``input`` as numbers of another dtype."""
    of = input._value.spec.aval
    for name, on in zip(("conjugate view tensors", "tensors with negative bit set"), bits(input)):
        if on:
            raise RuntimeError(f"torch.Tensor.view is not supported for {name} when converting to a different dtype.")
    if dtype is of.dtype:
        return alias(input)
    if dtype.itemsize != of.dtype.itemsize:
        _check_size(input, of, dtype)
    with no_grad():
        return alias(viewed(_retyped, (dtype,), input))


def reread(base: Tensor, dtype: DType) -> Tensor:
    """Return a view of a tensor whose elements lie in order as numbers of ``dtype``, in any shape."""
    of = base._value.spec.aval.dtype
    if dtype is of:
        return base
    if of.is_complex and dtype is (float32 if of is complex64 else float64):
        return viewed(_as_real, (), base, True)
    return viewed(_retyped, (dtype,), base)


def _check_size(input: Tensor, of: Aval, dtype: DType) -> None:
    """Raise where elements cannot be taken together, or apart, into such of another size."""
    to = f"to view {type_name(of.dtype)} as {type_name(dtype)} (different element sizes)"
    if not of.ndim:
        raise RuntimeError(f"self.dim() cannot be 0 {to}")
    strides, offset = layout(input, read=True)
    assert offset is not None
    if strides[-1] != 1:
        raise RuntimeError(f"self.stride(-1) must be 1 {to}, but got {strides[-1]}")
    k = dtype.itemsize // of.dtype.itemsize
    if k:
        named = {"size(-1)": of.shape[-1], "storage_offset()": offset}
        named |= {f"stride({d})": s for d, s in enumerate(strides[:-1])}
        for what, n in named.items():
            if n % k:
                raise RuntimeError(f"self.{what} must be divisible by {k} {to}, but got {n}")


def _retyped(x: Aval, dtype: DType) -> Lowering:
    old, new = x.dtype.itemsize, dtype.itemsize
    shape = x.shape if old == new else (*x.shape[:-1], x.shape[-1] * old // new)

    def lay(strides: tuple[int, ...], offset: int | None) -> Layout:
        if old == new:
            return strides, offset
        return (*(s * old // new for s in strides[:-1]), 1), None if offset is None else offset * old // new

    return view_of(lambda a: _bitcast(a, x.dtype, dtype).reshape(shape), "",
                   lambda a, new: _bitcast(new, dtype, x.dtype).reshape(x.shape), lay)  # fmt: skip


def _bitcast(a: Any, of: DType, to: DType) -> Any:
    """Return the elements of ``a`` as numbers of the dtype ``to``, all that were in the last dim in the last dim."""
    a = a if a.ndim else a.reshape(1)
    if of.is_complex:
        a = jnp.stack([a.real, a.imag], -1).reshape(*a.shape[:-1], 2 * a.shape[-1])
    elif of is bool_:
        a = a.astype(np.uint8)
    part = to.np if to is not bool_ else np.dtype(np.uint8)
    if to.is_complex:
        part = np.dtype(np.float32 if to is complex64 else np.float64)
    k = part.itemsize // a.dtype.itemsize
    if k > 1:
        a = a.reshape(*a.shape[:-1], a.shape[-1] // k, k)
    a = lax.bitcast_convert_type(a, part)
    if not k:
        a = a.reshape(*a.shape[:-2], a.shape[-2] * a.shape[-1])
    if to.is_complex:
        a = lax.complex(a[..., ::2], a[..., 1::2])
    return a.astype(to.np)
