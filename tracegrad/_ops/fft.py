"""Discrete Fourier transforms and what goes with them. See `tracegrad.fft`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from tracegrad import _dtype
from tracegrad._dtype import DType, type_name
from tracegrad._engine.op import Lowering
from tracegrad._engine.trace import record
from tracegrad._engine.value import Aval
from tracegrad._ops import _rules as rules
from tracegrad._ops._declare import op
from tracegrad._ops._out import into, renamed
from tracegrad._ops.creation import DeviceLike, finish, from_host

if TYPE_CHECKING:
    from tracegrad._tensor import Tensor

_Sizes = Sequence[int] | None


# -- one dim ----------------------------------------------------------------------------------------------------------


@op(method=False, function=False)
def fft(input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None, *,
        out: Tensor | None = None, **numpy: Any) -> Tensor:  # fmt: skip
    """Return the Fourier transform along ``dim``.

    Args:
        input: real or complex.
        n: how many elements to transform: ``input`` is cut, or filled up with zeros.
        dim: the dim.
        norm: ``backward`` (no scaling, as None), ``forward`` (by ``1 / n``) or ``ortho`` (by ``1 / sqrt(n)``).
        out: where to write the result.
        **numpy: ``axis`` for ``dim``, as NumPy has it.

    Example:
        >>> import tracegrad as torch
        >>> torch.fft.fft(torch.tensor([1., 2.]))
        tensor([ 3.+0.j, -1.+0.j])
    """
    if out is not None or numpy:
        return into(out, fft, input, n, dim, norm, **numpy)
    return record(_along, ("fft", n, dim, norm), input)  # type: ignore[no-any-return]


@op(method=False, function=False)
def ifft(input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None, *,
         out: Tensor | None = None, **numpy: Any) -> Tensor:  # fmt: skip
    """Return the inverse of ``fft``; arguments as there."""
    if out is not None or numpy:
        return into(out, ifft, input, n, dim, norm, **numpy)
    return record(_along, ("ifft", n, dim, norm), input)  # type: ignore[no-any-return]


@op(method=False, function=False)
def rfft(input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None, *,
         out: Tensor | None = None, **numpy: Any) -> Tensor:  # fmt: skip
    """Return the first ``n // 2 + 1`` elements of the Fourier transform of real numbers; the rest mirrors them.

    Example:
        >>> import tracegrad as torch
        >>> torch.fft.rfft(torch.tensor([1., 2., 3., 4.]))
        tensor([10.+0.j, -2.+2.j, -2.+0.j])
    """
    if out is not None or numpy:
        return into(out, rfft, input, n, dim, norm, **numpy)
    return record(_along, ("rfft", n, dim, norm), input)  # type: ignore[no-any-return]


@op(method=False, function=False)
def irfft(input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None, *,
          out: Tensor | None = None, **numpy: Any) -> Tensor:  # fmt: skip
    """Return the inverse of ``rfft``, ``n`` real numbers: an even number where ``n`` is None."""
    if out is not None or numpy:
        return into(out, irfft, input, n, dim, norm, **numpy)
    return record(_along, ("irfft", n, dim, norm), input)  # type: ignore[no-any-return]


@op(method=False, function=False)
def hfft(input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None, *,
         out: Tensor | None = None, **numpy: Any) -> Tensor:  # fmt: skip
    """Return the Fourier transform, ``n`` real numbers, of a signal of which half is given: the rest mirrors it."""
    if out is not None or numpy:
        return into(out, hfft, input, n, dim, norm, **numpy)
    return record(_along, ("hfft", n, dim, norm), input)  # type: ignore[no-any-return]


@op(method=False, function=False)
def ihfft(input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None, *,
          out: Tensor | None = None, **numpy: Any) -> Tensor:  # fmt: skip
    """Return the inverse of ``hfft``: of ``n`` real numbers, the first ``n // 2 + 1``."""
    if out is not None or numpy:
        return into(out, ihfft, input, n, dim, norm, **numpy)
    return record(_along, ("ihfft", n, dim, norm), input)  # type: ignore[no-any-return]


# -- several dims -----------------------------------------------------------------------------------------------------


@op(method=False, function=False)
def fft2(input: Tensor, s: _Sizes = None, dim: _Sizes = (-2, -1), norm: str | None = None, *,
         out: Tensor | None = None, **numpy: Any) -> Tensor:  # fmt: skip
    """Return the Fourier transform over two dims; ``s`` as ``n`` of ``fft``, one per dim."""
    if out is not None or numpy:
        return into(out, fft2, input, s, dim, norm, **numpy)
    return _record_several("fftn", input, s, dim, norm)


@op(method=False, function=False)
def ifft2(input: Tensor, s: _Sizes = None, dim: _Sizes = (-2, -1), norm: str | None = None, *,
          out: Tensor | None = None, **numpy: Any) -> Tensor:  # fmt: skip
    """Return the inverse of ``fft2``."""
    if out is not None or numpy:
        return into(out, ifft2, input, s, dim, norm, **numpy)
    return _record_several("ifftn", input, s, dim, norm)


@op(method=False, function=False)
def rfft2(input: Tensor, s: _Sizes = None, dim: _Sizes = (-2, -1), norm: str | None = None, *,
          out: Tensor | None = None, **numpy: Any) -> Tensor:  # fmt: skip
    """Return ``rfft`` over the last of two dims, then ``fft`` over the other."""
    if out is not None or numpy:
        return into(out, rfft2, input, s, dim, norm, **numpy)
    return _record_several("rfftn", input, s, dim, norm)


@op(method=False, function=False)
def irfft2(input: Tensor, s: _Sizes = None, dim: _Sizes = (-2, -1), norm: str | None = None, *,
           out: Tensor | None = None, **numpy: Any) -> Tensor:  # fmt: skip
    """Return the inverse of ``rfft2``."""
    if out is not None or numpy:
        return into(out, irfft2, input, s, dim, norm, **numpy)
    return _record_several("irfftn", input, s, dim, norm)


@op(method=False, function=False)
def hfft2(input: Tensor, s: _Sizes = None, dim: _Sizes = (-2, -1), norm: str | None = None, *,
          out: Tensor | None = None, **numpy: Any) -> Tensor:  # fmt: skip
    """Return ``fft`` over the first of two dims, then ``hfft`` over the last."""
    if out is not None or numpy:
        return into(out, hfft2, input, s, dim, norm, **numpy)
    return _record_several("hfftn", input, s, dim, norm)


@op(method=False, function=False)
def ihfft2(input: Tensor, s: _Sizes = None, dim: _Sizes = (-2, -1), norm: str | None = None, *,
           out: Tensor | None = None, **numpy: Any) -> Tensor:  # fmt: skip
    """Return the inverse of ``hfft2``."""
    if out is not None or numpy:
        return into(out, ihfft2, input, s, dim, norm, **numpy)
    return _record_several("ihfftn", input, s, dim, norm)


@op(method=False, function=False)
def fftn(input: Tensor, s: _Sizes = None, dim: _Sizes = None, norm: str | None = None, *,
         out: Tensor | None = None, **numpy: Any) -> Tensor:  # fmt: skip
    """Return the Fourier transform over ``dim``, every dim where it is None."""
    if out is not None or numpy:
        return into(out, fftn, input, s, dim, norm, **numpy)
    return _record_several("fftn", input, s, dim, norm)


@op(method=False, function=False)
def ifftn(input: Tensor, s: _Sizes = None, dim: _Sizes = None, norm: str | None = None, *,
          out: Tensor | None = None, **numpy: Any) -> Tensor:  # fmt: skip
    """Return the inverse of ``fftn``."""
    if out is not None or numpy:
        return into(out, ifftn, input, s, dim, norm, **numpy)
    return _record_several("ifftn", input, s, dim, norm)


@op(method=False, function=False)
def rfftn(input: Tensor, s: _Sizes = None, dim: _Sizes = None, norm: str | None = None, *,
          out: Tensor | None = None, **numpy: Any) -> Tensor:  # fmt: skip
    """Return ``rfft`` over the last of ``dim``, then ``fft`` over the others."""
    if out is not None or numpy:
        return into(out, rfftn, input, s, dim, norm, **numpy)
    return _record_several("rfftn", input, s, dim, norm)


@op(method=False, function=False)
def irfftn(input: Tensor, s: _Sizes = None, dim: _Sizes = None, norm: str | None = None, *,
           out: Tensor | None = None, **numpy: Any) -> Tensor:  # fmt: skip
    """Return the inverse of ``rfftn``."""
    if out is not None or numpy:
        return into(out, irfftn, input, s, dim, norm, **numpy)
    return _record_several("irfftn", input, s, dim, norm)


@op(method=False, function=False)
def hfftn(input: Tensor, s: _Sizes = None, dim: _Sizes = None, norm: str | None = None, *,
          out: Tensor | None = None, **numpy: Any) -> Tensor:  # fmt: skip
    """Return ``fft`` over all of ``dim`` but the last, then ``hfft`` over that."""
    if out is not None or numpy:
        return into(out, hfftn, input, s, dim, norm, **numpy)
    return _record_several("hfftn", input, s, dim, norm)


@op(method=False, function=False)
def ihfftn(input: Tensor, s: _Sizes = None, dim: _Sizes = None, norm: str | None = None, *,
           out: Tensor | None = None, **numpy: Any) -> Tensor:  # fmt: skip
    """Return the inverse of ``hfftn``."""
    if out is not None or numpy:
        return into(out, ihfftn, input, s, dim, norm, **numpy)
    return _record_several("ihfftn", input, s, dim, norm)


# -- their rules ------------------------------------------------------------------------------------------------------


_REAL_INPUT = ("rfft", "ihfft")
_REAL_OUTPUT = ("irfft", "hfft")
_NODES = {"rfft": "FftR2CBackward0", "irfft": "FftC2RBackward0", "hfft": "FftC2RBackward0",
          "ihfft": "ConjPhysicalBackward0"}  # fmt: skip
_RUN: dict[str, Callable[..., Any]] = {
    "fft": jnp.fft.fft, "ifft": jnp.fft.ifft, "rfft": jnp.fft.rfft, "irfft": jnp.fft.irfft, "hfft": jnp.fft.hfft,
    "ihfft": jnp.fft.ihfft,
}  # fmt: skip


def _prepared(x: Aval, name: str, norm: str | None) -> DType:
    """Check what all transforms check; return the dtype to compute in."""
    kind = name.rstrip("n")
    if kind in _REAL_INPUT and x.dtype.is_complex:
        raise RuntimeError(f"{name} expects a real input tensor, but got {type_name(x.dtype)}")
    if norm not in (None, "forward", "backward", "ortho"):
        raise RuntimeError(f'Invalid normalization mode: "{norm}"')
    if x.dtype.itemsize == 2 and x.dtype.is_floating_point:
        raise RuntimeError(f"Unsupported dtype {type_name(x.dtype)}")
    dtype = rules.to_float(x.dtype)
    return dtype if kind in _REAL_INPUT else _dtype.to_complex(dtype)


def _along(x: Aval, name: str, n: int | None, dim: int, norm: str | None) -> Lowering:
    dtype = _prepared(x, name, norm)
    axis = rules.dim(dim, x.ndim)
    if not x.ndim:
        raise IndexError(f"Dimension specified as {dim} but tensor has no dimensions")
    points = n if n is not None else (x.shape[axis] - 1) * 2 if name in _REAL_OUTPUT else x.shape[axis]
    if points < 1:
        raise RuntimeError(f"Invalid number of data points ({points}) specified")
    node = _NODES.get(name, "FftC2CBackward0" if x.dtype.is_complex else "FftR2CBackward0")
    return Lowering(lambda a: _RUN[name](a.astype(dtype.np), n, axis, norm), name=node, saves=False)


def _record_several(name: str, input: Tensor, s: Any, dim: Any, norm: str | None) -> Tensor:
    s = (s,) if isinstance(s, int) else rules.frozen(s)
    dim = (dim,) if isinstance(dim, int) else rules.frozen(dim)
    return record(_over, (name, s, dim, norm), input)  # type: ignore[no-any-return]


def _over(x: Aval, name: str, s: Any, dim: Any, norm: str | None) -> Lowering:
    dtype = _prepared(x, name, norm)
    kind = name[:-1]
    if dim is None:
        count = x.ndim if s is None else len(s)
        if count > x.ndim:
            raise RuntimeError("Got shape with " + f"{count} values but input tensor only has {x.ndim} dimensions.")
        dim = tuple(range(x.ndim - count, x.ndim))
    axes = tuple(rules.dim(d, x.ndim) for d in dim)
    if len(set(axes)) != len(axes):
        raise RuntimeError("FFT dims must be unique")
    if s is not None and len(s) != len(axes):
        raise RuntimeError("When given, dim and shape arguments must have the same length")
    if not axes and (kind in _REAL_INPUT or kind in _REAL_OUTPUT):
        raise RuntimeError(f"{name} must transform at least one axis")
    sizes = [x.shape[a] if s is None or s[i] == -1 else s[i] for i, a in enumerate(axes)]
    if kind in _REAL_OUTPUT and (s is None or s[-1] == -1):
        sizes[-1] = (x.shape[axes[-1]] - 1) * 2
    for n in sizes:
        if n < 1:
            raise RuntimeError(f"Invalid number of data points ({n}) specified")
    full = {"rfft": "fft", "irfft": "ifft", "hfft": "fft", "ihfft": "ifft"}.get(kind, kind)

    def fn(a: Any) -> Any:
        a = a.astype(dtype.np)
        steps = list(zip(axes, sizes, [full] * (len(axes) - 1) + [kind]))
        for axis, n, how in reversed(steps) if kind in _REAL_INPUT else steps:
            a = _RUN[how](a, n, axis, norm)
        return a

    node = _NODES.get(kind, "FftC2CBackward0")
    return Lowering(fn, name=node, saves=False)


# -- frequencies and shifts -------------------------------------------------------------------------------------------


@op(method=False, function=False)
def fftfreq(n: int, d: float = 1.0, *, dtype: DType | None = None, device: DeviceLike = None,
            requires_grad: bool = False, out: Tensor | None = None) -> Tensor:  # fmt: skip
    """Return the frequencies that ``fft`` of ``n`` samples, ``d`` apart, gives the amplitudes of.

    Example:
        >>> import tracegrad as torch
        >>> torch.fft.fftfreq(4)
        tensor([ 0.0000,  0.2500, -0.5000, -0.2500])
    """
    if out is not None:
        return into(out, fftfreq, n, d, dtype=dtype, device=device, requires_grad=requires_grad)
    return _frequencies(np.fft.fftfreq(n), d, dtype, device, requires_grad)


@op(method=False, function=False)
def rfftfreq(n: int, d: float = 1.0, *, dtype: DType | None = None, device: DeviceLike = None,
             requires_grad: bool = False, out: Tensor | None = None) -> Tensor:  # fmt: skip
    """Return the frequencies that ``rfft`` of ``n`` samples, ``d`` apart, gives the amplitudes of."""
    if out is not None:
        return into(out, rfftfreq, n, d, dtype=dtype, device=device, requires_grad=requires_grad)
    return _frequencies(np.fft.rfftfreq(n), d, dtype, device, requires_grad)


def _frequencies(of: Any, d: float, dtype: DType | None, device: DeviceLike, requires_grad: bool) -> Tensor:
    return finish(from_host((of / d).astype((dtype or _dtype.get_default_dtype()).np), device), requires_grad)


@op(method=False, function=False)
def fftshift(input: Tensor, dim: int | Sequence[int] | None = None, **numpy: Any) -> Tensor:
    """Return the result of ``fftn`` with the frequency 0 in the middle."""
    if numpy:
        return renamed(fftshift, numpy, input, dim)
    return record(_shift, (rules.frozen(dim), False), input)  # type: ignore[no-any-return]


@op(method=False, function=False)
def ifftshift(input: Tensor, dim: int | Sequence[int] | None = None, **numpy: Any) -> Tensor:
    """Return the inverse of ``fftshift``."""
    if numpy:
        return renamed(ifftshift, numpy, input, dim)
    return record(_shift, (rules.frozen(dim), True), input)  # type: ignore[no-any-return]


def _shift(x: Aval, dim: Any, back: bool) -> Lowering:
    axes = rules.dims(dim, x.ndim)
    run = jnp.fft.ifftshift if back else jnp.fft.fftshift
    return Lowering(lambda a: run(a, axes), name="RollBackward0", saves=False)
