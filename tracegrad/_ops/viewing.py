"""Views that see elements in another way: overlapping windows, complex numbers as pairs of real ones and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
from jax import lax

from tracegrad._dtype import complex64, complex128, float32, float64, type_name
from tracegrad._engine.op import Lowering
from tracegrad._engine.value import Aval
from tracegrad._layout import Layout
from tracegrad._ops import _rules as rules
from tracegrad._ops._declare import op
from tracegrad._ops._views import view_of, viewed

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
