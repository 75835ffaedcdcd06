"""Samples of special functions and of Fourier transforms; see `samples`."""

# ruff: noqa: E501 (a table: one op a line)
from __future__ import annotations

import numpy as np
from samples import COMPOSED, Dtype, b, c, const, f, f32, i, i1, kink, pos, register, s, unit

# -- special functions --

register("erfcx ndtr log_ndtr i0 i0e i1 i1e", lambda: [s(f(2, 3)), s(f()), s(f(0)), s(f32(3)), s(i(3)), s(b(2)), s(f(4) * 5), s(c(2))])
register("erfcx log_ndtr", lambda: [s(np.array([30.0, -4.0, 200.0, 8.0])), s(np.array([12.0, -3.0], np.float32))])
register("i1 i1e i0e", lambda: [kink(np.zeros(2))])
register("ndtri", lambda: [s(unit(2, 3)), s(unit()), s(f32(2) * 0 + 0.3), kink(np.array([0.0, 1.0, 2.0])), s(b(2))])
register("entr", lambda: [s(pos(2, 3)), s(i(3)), kink(np.array([-1.0, 0.0, np.nan])), s(f32(2))])
register("polygamma", lambda: [s(0, pos(3)), s(1, pos(2, 2)), s(2, pos(3)), s(3, f32(2) * 0 + 1.5), s(1, i1(3)), s(-1, pos(2))])
register("mvlgamma", lambda: [s(pos(2, 3) + 1, 2), s(pos(3) + 2, 3), s(pos(2), 1), s(i1(3) + 1, 2), s(pos(2), 0), s(f32(2) * 0 + 3, 2)])
register("igamma igammac", lambda: [s(const(pos(2, 3)), pos(3)), s(const(pos(2).astype(np.float32)), pos(2).astype(np.float32)), s(const(pos(2) * 20), pos(2) * 20), s(c(2), c(2))])
register("zeta", lambda: [s(const(pos(3) + 1.5), pos(3)), s(2.5, pos(3)), s(const(pos(2) + 2), 1.5), s(i1(2) + 1, i1(2))])
register("zeta", lambda: [s(np.array([1, 2, 0, 2, 3]), np.array([2, 0, 3, -1, -2])), s(const(np.array([1.0, 0.5, 2.5, 2.5, 2.0])), const(np.array([2.0, 1.0, -0.5, -1.0, -0.5])))])
register("xlog1py", lambda: [s(f(2, 3), pos(3)), s(np.array([0.0, 1.0]), np.array([-0.5, 0.25])), s(2.0, pos(3)), s(f(2), 0.5), s(i(2), i1(2))])

# -- Fourier transforms --

_ONE = "fft ifft rfft irfft hfft ihfft"
register(_ONE, lambda: [s(f(6)), s(f(2, 5)), s(f(4, 3), dim=0), s(f(6), 4), s(f(4), 7), s(f(5), norm="ortho"), s(f(5), norm="forward"), s(f32(4)), s(i(4)), s(b(4)), s(f(4), 0), s(f(4), norm="up"), s(f(4), dim=2), s(f(2, 0)), s(f())])
register("fft ifft irfft hfft rfft", lambda: [s(c(5)), s(c(2, 4), 3), s(c(4, 2), dim=0, norm="ortho")])
register("fft2 ifft2 rfft2 irfft2 hfft2 ihfft2 fftn ifftn rfftn irfftn hfftn ihfftn", lambda: [s(f(3, 4)), s(f(2, 3, 4)), s(f(3, 4), (2, 6)), s(f(3, 4), norm="ortho"), s(f(2, 3, 4), dim=(0, 1)), s(f(3, 4), dim=(0, 0)), s(f(3, 4), (2,), (0, 1)), s(f(4), (2, 2)), s(i(2, 3)), s(f(3, 4), (-1, 3))])
register("fft2 ifft2 irfft2 hfft2 fftn ifftn irfftn hfftn", lambda: [s(c(3, 4)), s(c(3, 4), (4, 3), norm="forward")])
register("fftn ifftn rfftn", lambda: [s(f(3, 4), (5,)), s(f(2, 3, 4), None, (2,))])
register("fftfreq rfftfreq", lambda: [s(5), s(4, 0.5), s(4, dtype=Dtype("float64")), s(1)])
register("fftshift ifftshift", lambda: [s(f(5)), s(f(3, 4)), s(f(3, 4), 1), s(f(3, 4), (0, 1)), s(f(3), 2)])

COMPOSED |= {"ndtr", "ihfft", "ihfft2", "ihfftn", "hfft2", "hfftn", "fftn", "ifftn", "fft2", "ifft2", "rfftn", "rfft2", "irfft2", "irfftn", "fftshift", "ifftshift", "hfft", "fft", "ifft", "rfft", "irfft"}  # fmt: skip

# -- windows --

register("hann_window hamming_window blackman_window bartlett_window kaiser_window", lambda: [s(5), s(6, False), s(1), s(0), s(4, dtype=Dtype("float64")), s(-1), s(4, dtype=Dtype("int64"))])
register("hamming_window", lambda: [s(5, True, 0.6, 0.4)])
register("kaiser_window", lambda: [s(5, False, 3.0)])
register("stft", lambda: [s(f(16), 4, return_complex=True), s(f(2, 12), 4, 2, window=pos(4), return_complex=True), s(f(12), 4, 2, 3, pos(3), return_complex=True), s(f(12), 4, window=pos(4), center=False, return_complex=True),
         s(f(12), 4, window=pos(4), normalized=True, onesided=False, return_complex=True, pad_mode="constant"), s(c(12), 4, window=pos(4)), s(f(12), 4), s(f(2), 9, return_complex=True, center=False), s(f(12), 4, window=pos(3), return_complex=True),
         s(f(12), 4, window=pos(4), return_complex=False), s(f(2, 2, 8), 4, return_complex=True), s(f(12), 4, 0, return_complex=True)])  # fmt: skip
register("istft", lambda: [s(c(3, 5), 4, window=pos(4)), s(c(2, 3, 5), 4, 2, window=pos(4)), s(c(3, 5), 4, 1, 3, pos(3), length=3), s(c(4, 5), 4, window=pos(4), onesided=False), s(c(3, 5), 4, normalized=True, window=pos(4)), s(c(3, 5), 4, window=pos(4), center=False), s(f(3, 5), 4), s(c(2, 5), 4), s(c(4, 5), 4, window=pos(4), return_complex=True, onesided=False)])
COMPOSED |= {"stft", "istft"}

# -- copies of views --

register("alias_copy t_copy squeeze_copy", lambda: [s(f(1, 3)), s(i(2, 2)), s(f(3))])
register("squeeze_copy", lambda: [s(f(1, 3), 0), s(f(1, 1, 2), (0, 1))])
register("as_strided_copy", lambda: [s(f(6), (2, 2), (2, 1)), s(f(2, 3), (3,), (1,), 2)])
register("diagonal_copy", lambda: [s(f(3, 3)), s(f(2, 3, 2), 1, 0, 2)])
register("expand_copy", lambda: [s(f(1, 3), (2, 3)), s(f(3), (2, -1)), s(f(2), (3,))])
register("narrow_copy", lambda: [s(f(3, 2), 0, 1, 2), s(f(3), 0, 2, 2)])
register("permute_copy", lambda: [s(f(2, 3), (1, 0)), s(f(2, 3), (0,))])
register("select_copy", lambda: [s(f(2, 3), 1, 0), s(f(2), 0, 5)])
register("transpose_copy", lambda: [s(f(2, 3), 0, 1), s(f(2, 3, 1), -1, 0)])
register("unfold_copy", lambda: [s(f(5), 0, 3, 1), s(f(2, 3), 1, 2, 1)])
register("unsqueeze_copy", lambda: [s(f(3), 0), s(f(2, 3), -1), s(f(2), 4)])
register("view_copy", lambda: [s(f(2, 3), (3, 2)), s(i(4), (2, -1)), s(f(3), (2,))])
register("view_as_real_copy", lambda: [s(c(2)), s(f(2))])
register("view_as_complex_copy", lambda: [s(const(f(3, 2))), s(f(3))])
register("slice_copy", lambda: [s(f(5), 0, 1, 4), s(f(2, 4), 1, 0, 4, 2), s(f(3))])
register("split_copy", lambda: [s(f(5, 2), 2), s(f(2, 4), 3, 1)])
register("split_with_sizes_copy", lambda: [s(f(5), (2, 3)), s(f(2, 4), (1, 3), 1), s(f(3), (1, 1))])
register("unbind_copy", lambda: [s(f(2, 3)), s(f(2, 3), 1), s(f())])

# -- Bessel functions --

register("bessel_j0 bessel_j1 bessel_y0 bessel_y1 modified_bessel_i0 modified_bessel_i1 modified_bessel_k0 modified_bessel_k1 "
         "scaled_modified_bessel_k0 scaled_modified_bessel_k1 spherical_bessel_j0",
         lambda: [s(const(np.array([0.0, -0.5, 1e-7, 0.3, 1.9, 2.0, 2.1, 4.9, 5.0, 5.1, 8.3, 30.0, np.nan]))), s(f(2)),
                  s(const(np.array([0.25, 3.0, 7.0], np.float32))), s(i1(3)), s(c(2))])  # fmt: skip

# -- recurrent networks --


def _layers(gates: int, count: int, inputs: int = 2, biased: bool = True, hr: int = 0) -> list[np.ndarray]:
    """The parameters of ``count`` layers and directions with hidden size 3, the first ones."""
    shapes = [(gates * 3, inputs), (gates * 3, hr or 3), *[(gates * 3,)] * 2 * biased, *[(hr, 3)] * (hr > 0)]
    return [f(*shape) for _ in range(count) for shape in shapes]


def _h(n: int, width: int = 3) -> np.ndarray:
    return f(n, 2, width)


for _name, _gates in (("rnn_tanh", 1), ("rnn_relu", 1), ("gru", 3)):
    register(_name, lambda g=_gates: [s(f(3, 2, 2), _h(1), _layers(g, 1), True, 1, 0.0, True, False, False),
                                      s(f(2, 3, 2), _h(2), _layers(g, 2, biased=False), False, 1, 0.0, False, True, True),
                                      s(f(3, 2, 2), _h(1), _layers(g, 1)[:3], True, 1, 0.0, True, False, False),
                                      s(f(3, 2, 2), _h(1), _layers(g, 1), True, 2, 0.0, True, False, False),
                                      s(f(0, 2, 2), _h(1), _layers(g, 1), True, 1, 0.0, True, False, False),
                                      s(f32(3, 2, 2), _h(1), _layers(g, 1), True, 1, 0.0, True, False, False)])  # fmt: skip
register("lstm", lambda: [s(f(3, 2, 2), [_h(1), _h(1)], _layers(4, 1), True, 1, 0.0, True, False, False),
                          s(f(2, 3, 2), [_h(2), _h(2)], _layers(4, 2, biased=False), False, 1, 0.0, False, True, True),
                          s(f(3, 2, 2), [_h(1, 1), _h(1)], _layers(4, 1, hr=1), True, 1, 0.0, True, False, False),
                          s(f(3, 2, 2), [_h(1)], _layers(4, 1), True, 1, 0.0, True, False, False),
                          s(f(0, 2, 2), [_h(1), _h(1)], _layers(4, 1), True, 1, 0.0, True, False, False)])  # fmt: skip
register("lstm_cell", lambda: [s(f(2, 2), [f(2, 3), f(2, 3)], *_layers(4, 1)), s(f(2, 2), [f(2, 3), f(2, 3)], *_layers(4, 1, biased=False)), s(f(2, 2), [f(2, 3)], *_layers(4, 1))])
register("gru_cell", lambda: [s(f(2, 2), f(2, 3), *_layers(3, 1)), s(f(2, 2), f(2, 3), *_layers(3, 1, biased=False)), s(f(2, 1), f(2, 3), *_layers(3, 1)), s(f(2, 2), f(3, 3), *_layers(3, 1)), s(f(2, 2), f(2, 2), *_layers(3, 1)), s(f(2, 2), f(2, 3), *_layers(4, 1))])
register("rnn_tanh_cell rnn_relu_cell", lambda: [s(f(2, 2), f(2, 3), *_layers(1, 1)), s(f(2, 2), f(2, 3), *_layers(1, 1, biased=False)), s(f(2, 1), f(2, 3), *_layers(1, 1))])
COMPOSED |= {"lstm", "lstm_cell", "gru", "rnn_tanh", "rnn_relu"}
