"""Window functions, and short-time Fourier transforms that use them."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from tracegrad import _dtype
from tracegrad._dtype import DType, type_name
from tracegrad._engine.checks import Check
from tracegrad._engine.op import Lowering
from tracegrad._engine.trace import record
from tracegrad._engine.value import Aval
from tracegrad._errors import UnsupportedError
from tracegrad._ops._declare import op
from tracegrad._ops.creation import DeviceLike, finish, from_host

if TYPE_CHECKING:
    from tracegrad._tensor import Tensor


# -- windows ----------------------------------------------------------------------------------------------------------


@op(method=False)
def hann_window(window_length: int, periodic: bool = True, *, dtype: DType | None = None, device: DeviceLike = None,
                requires_grad: bool = False) -> Tensor:  # fmt: skip
    """Return a Hann window: ``sin(pi * n / N) ** 2``; ``periodic`` ones are for spectra, others are symmetric.

    Example:
        >>> import tracegrad as torch
        >>> torch.hann_window(4)
        tensor([0.0000, 0.5000, 1.0000, 0.5000])
    """
    return hamming_window(window_length, periodic, 0.5, 0.5, dtype=dtype, device=device, requires_grad=requires_grad)


@op(method=False)
def hamming_window(window_length: int, periodic: bool = True, alpha: float = 0.54, beta: float = 0.46, *,
                   dtype: DType | None = None, device: DeviceLike = None,
                   requires_grad: bool = False) -> Tensor:  # fmt: skip
    """Return a Hamming window: ``alpha - beta * cos(2 * pi * n / N)``."""
    return _window("hamming_window", window_length, periodic, lambda n, last: alpha - beta * np.cos(
        2 * math.pi * n / last), dtype, device, requires_grad)  # fmt: skip


@op(method=False)
def blackman_window(window_length: int, periodic: bool = True, *, dtype: DType | None = None,
                    device: DeviceLike = None, requires_grad: bool = False) -> Tensor:  # fmt: skip
    """Return a Blackman window: ``0.42 - 0.5 * cos(2 * pi * n / N) + 0.08 * cos(4 * pi * n / N)``."""

    def of(n: Any, last: int) -> Any:
        made = 0.42 - 0.5 * np.cos(2 * math.pi * n / last) + 0.08 * np.cos(4 * math.pi * n / last)
        return np.maximum(made, 0)

    return _window("blackman_window", window_length, periodic, of, dtype, device, requires_grad)


@op(method=False)
def bartlett_window(window_length: int, periodic: bool = True, *, dtype: DType | None = None,
                    device: DeviceLike = None, requires_grad: bool = False) -> Tensor:  # fmt: skip
    """Return a Bartlett window, a triangle."""
    return _window("bartlett_window", window_length, periodic, lambda n, last: 1 - np.abs(2 * n / last - 1), dtype,
                   device, requires_grad)  # fmt: skip


@op(method=False)
def kaiser_window(window_length: int, periodic: bool = True, beta: float = 12.0, *, dtype: DType | None = None,
                  device: DeviceLike = None, requires_grad: bool = False) -> Tensor:  # fmt: skip
    """Return a Kaiser window, whose shape is ``beta``."""

    def of(n: Any, last: int) -> Any:
        return np.i0(beta * np.sqrt(np.maximum(1 - (2 * n / last - 1) ** 2, 0))) / np.i0(beta)

    return _window("kaiser_window", window_length, periodic, of, dtype, device, requires_grad)


def _window(name: str, length: int, periodic: bool, of: Callable[[Any, int], Any], dtype: DType | None,
            device: DeviceLike, requires_grad: bool) -> Tensor:  # fmt: skip
    to = dtype or _dtype.get_default_dtype()
    if not to.is_floating_point:
        raise RuntimeError(f"{name} expects floating point dtypes, got: torch.{type_name(to)}Tensor")
    if length < 0:
        raise RuntimeError(f"{name} requires non-negative window_length, got window_length={length}")
    if length <= 1:
        return finish(from_host(np.ones(length, to.np), device), requires_grad)
    made = of(np.arange(length), length if periodic else length - 1)
    return finish(from_host(made.astype(to.np), device), requires_grad)


# -- short-time Fourier transforms ------------------------------------------------------------------------------------


@op()
def stft(input: Tensor, n_fft: int, hop_length: int | None = None, win_length: int | None = None,
         window: Tensor | None = None, center: bool = True, pad_mode: str = "reflect", normalized: bool = False,
         onesided: bool | None = None, return_complex: bool | None = None,
         align_to_window: bool | None = None) -> Tensor:  # fmt: skip
    """Return the Fourier transforms of windows of a signal, ``(*, frequencies, windows)``.

    Args:
        input: ``(time,)`` or ``(batch, time)``.
        n_fft: the size of each transform.
        hop_length: how far apart windows are, a quarter of ``n_fft`` where it is None.
        win_length: the size of ``window``, ``n_fft`` where it is None; shorter ones are filled up with zeros.
        window: weights, ones where it is None.
        center: whether the signal is padded at both ends, so that window ``t`` is centred at ``t * hop_length``.
        pad_mode: how: ``reflect``, ``constant``, ``replicate`` or ``circular``.
        normalized: whether to divide by ``sqrt(n_fft)``.
        onesided: whether to leave out the frequencies that mirror others; where ``input`` is real, when None.
        return_complex: must be True, or pairs of real numbers are returned, as in old versions.
        align_to_window: where the first window starts, without ``center``: must be None or False.

    See https://docs.pytorch.org/docs/stable/generated/torch.stft.html
    """
    hop, size = n_fft // 4 if hop_length is None else hop_length, n_fft if win_length is None else win_length
    is_complex = input.dtype.is_complex or (window is not None and window.dtype.is_complex)
    if return_complex is None:
        if not is_complex:
            raise RuntimeError("stft requires the return_complex parameter be given for real inputs, and will further "
                               "require that return_complex=True in a future PyTorch release.")
        return_complex = True
    if align_to_window is not None and center:
        raise RuntimeError("stft align_to_window should only be set when center = false.")
    if align_to_window:
        raise UnsupportedError("stft(align_to_window=True) is not supported: leave it out")
    if window is None:
        warnings.warn("A window was not provided. A rectangular window will be applied,which is known to cause "
                      "spectral leakage. Other windows such as torch.hann_window or torch.hamming_window are "
                      "recommended to reduce spectral leakage.To suppress this warning and use a rectangular window, "
                      "explicitly set `window=torch.ones(n_fft, device=<device>)`.", stacklevel=2)  # fmt: skip
    params = (n_fft, hop, size, center, pad_mode, normalized, not is_complex if onesided is None else onesided,
              return_complex)  # fmt: skip
    return record(_stft, params, input, *(() if window is None else (window,)))  # type: ignore[no-any-return]


_PADDING = {"reflect": "reflect", "constant": "constant", "replicate": "edge", "circular": "wrap"}


def _stft(x: Aval, *rest: Any) -> Lowering:
    *window, n_fft, hop, size, center, pad_mode, normalized, onesided, return_complex = rest
    if not x.dtype.is_inexact:
        raise RuntimeError(f"stft(torch.{type_name(x.dtype)}Tensor{list(x.shape)}, n_fft={n_fft}, hop_length={hop}, "
                           f"win_length={size}): expected a tensor of floating point or complex values")
    if x.ndim not in (1, 2):
        raise RuntimeError("stft: expected a 1D or 2D tensor")
    length = x.shape[-1] + 2 * (n_fft // 2) * center
    if not 0 < n_fft <= length:
        raise RuntimeError(f"stft: expected 0 < n_fft <= {length}, but got n_fft={n_fft}")
    _check_window("stft", n_fft, hop, size, window)
    if onesided and (x.dtype.is_complex or (window and window[0].dtype.is_complex)):
        raise RuntimeError("Cannot have onesided output if window or input is complex")
    if pad_mode not in _PADDING:
        raise RuntimeError(f"Unrecognised padding mode {pad_mode}")
    at = np.arange(0, length - n_fft + 1, hop)[:, None] + np.arange(n_fft)

    def fn(a: Any, *w: Any) -> Any:
        if center:
            a = jnp.pad(a, [(0, 0)] * (a.ndim - 1) + [(n_fft // 2,) * 2], mode=_PADDING[pad_mode])
        parts = a[..., at] * _filled(w, n_fft, size, a.dtype)
        norm = "ortho" if normalized else None
        made = jnp.fft.rfft(parts, norm=norm) if onesided else jnp.fft.fft(parts, norm=norm)
        made = jnp.swapaxes(made, -1, -2)
        return made if return_complex else jnp.stack([made.real, made.imag], -1)

    return Lowering(fn, name="TransposeBackward0" if return_complex else "ViewAsRealBackward0")


def _check_window(name: str, n_fft: int, hop: int, size: int, window: list[Aval]) -> None:
    if hop <= 0:
        raise RuntimeError(f"{name}: expected hop_length > 0, but got hop_length={hop}")
    if not 0 < size <= n_fft:
        raise RuntimeError(f"{name}: expected 0 < win_length <= n_fft, but got win_length={size}")
    if window and window[0].shape != (size,):
        raise RuntimeError(f"{name}: expected a 1D window tensor of size equal to win_length={size}, but got window "
                           f"with size {list(window[0].shape)}")


def _filled(window: tuple[Any, ...], n_fft: int, size: int, dtype: Any) -> Any:
    """Return the window with zeros on both sides, ``n_fft`` numbers."""
    left = (n_fft - size) // 2
    return jnp.pad(window[0] if window else jnp.ones(size, dtype), (left, n_fft - size - left))


@op()
def istft(input: Tensor, n_fft: int, hop_length: int | None = None, win_length: int | None = None,
          window: Tensor | None = None, center: bool = True, normalized: bool = False, onesided: bool | None = None,
          length: int | None = None, return_complex: bool = False) -> Tensor:  # fmt: skip
    """Return the signal of which ``stft`` with the same arguments gives ``input``, by least squares.

    ``length`` cuts the signal, or fills it up with zeros. RuntimeError where the windows leave out some of it.

    See https://docs.pytorch.org/docs/stable/generated/torch.istft.html
    """
    hop, size = n_fft // 4 if hop_length is None else hop_length, n_fft if win_length is None else win_length
    if onesided is None and input.ndim >= 2:
        onesided = input.shape[-2] != n_fft
    params = (n_fft, hop, size, center, normalized, onesided, length, return_complex)
    return record(_istft, params, input, *(() if window is None else (window,)))  # type: ignore[no-any-return]


def _istft(x: Aval, *rest: Any) -> Lowering:
    *window, n_fft, hop, size, center, normalized, onesided, length, return_complex = rest
    if not x.dtype.is_complex:
        raise RuntimeError("istft requires a complex-valued input tensor matching the output from stft with "
                           "return_complex=True.")
    if x.ndim not in (2, 3):
        raise RuntimeError(f"istft: expected a tensor with 2 or 3 dimensions, but got {x.ndim}")
    _check_window("istft", n_fft, hop, size, window)
    if x.shape[-2] != (n_fft // 2 + 1 if onesided else n_fft):
        raise RuntimeError("istft: expected the frequency dimension (3rd to the last) of the input tensor to match "
                           f"n_fft / 2 + 1 when onesided=True, but got {x.shape[-2]}" if onesided else
                           "istft: expected the frequency dimension (3rd to the last) of the input tensor to match "
                           f"n_fft when onesided=False, but got {x.shape[-2]}")
    if return_complex and onesided:
        raise RuntimeError("cannot have onesided output if window or input is complex")
    count = x.shape[-1]
    at = np.arange(count)[:, None] * hop + np.arange(n_fft)
    total = n_fft + hop * (count - 1)
    start = n_fft // 2 if center else 0
    end = total - (n_fft // 2 if center else 0) if length is None else start + length
    real = _dtype.to_real(x.dtype).np

    def overlap(w: tuple[Any, ...]) -> Any:
        weights = _filled(w, n_fft, size, real)
        return jnp.zeros(total, weights.dtype).at[at].add(jnp.broadcast_to(weights * weights, at.shape))

    def gap(operands: Any, outputs: Any) -> tuple[Any, Any]:
        return jnp.min(abs(overlap(operands[1:])[start : min(end, total)])) <= 1e-11, 0

    def fn(a: Any, *w: Any) -> Any:
        a = jnp.swapaxes(a, -1, -2)
        norm = "ortho" if normalized else None
        half = a[..., : n_fft // 2 + 1]  # PyTorch takes the other half for its mirror image, without a look
        parts = jnp.fft.ifft(a, norm=norm) if return_complex else jnp.fft.irfft(half, n_fft, norm=norm)
        weights = _filled(w, n_fft, size, real)
        made = jnp.zeros((*x.shape[:-2], total), parts.dtype).at[..., at].add(parts * weights)
        shares = overlap(w)
        made = (made / jnp.where(shares == 0, 1, shares))[..., start : min(end, total)]
        missing = end - min(end, total)
        return jnp.pad(made, [(0, 0)] * (made.ndim - 1) + [(0, missing)])

    error = RuntimeError("istft: the windows leave out some of the signal: window overlap add min: 0")
    return Lowering(fn, name="SliceBackward0", checks=(Check(gap, lambda _: error),))
