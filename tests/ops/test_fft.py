"""The namespace ``fft``: identities, how gradients flow through pairs, and short-time transforms."""

from __future__ import annotations

import numpy as np
import pytest

import tracegrad

fft = tracegrad.fft
rng = np.random.default_rng(0)


@pytest.mark.oracle
def test_names():
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle: pip install -e .[oracle]")
    names = {n for n in dir(torch.fft) if "fft" in n and not n.startswith("_")}
    assert {n for n in names if not hasattr(fft, n)} == set()


@pytest.mark.parametrize("norm", [None, "ortho", "forward"])
def test_inverses(norm):
    real, z = rng.normal(size=(3, 6)), rng.normal(size=(3, 5)) + 1j * rng.normal(size=(3, 5))
    x, c = tracegrad.tensor(real), tracegrad.tensor(z)
    assert np.allclose(fft.ifft(fft.fft(c, norm=norm), norm=norm).tolist(), z)
    assert np.allclose(fft.irfft(fft.rfft(x, norm=norm), norm=norm).tolist(), real)
    assert np.allclose(fft.hfft(fft.ihfft(x, norm=norm), norm=norm).tolist(), real)
    assert np.allclose(fft.ifftn(fft.fftn(c, norm=norm), norm=norm).tolist(), z)
    assert np.allclose(fft.irfft2(fft.rfft2(x, norm=norm), norm=norm).tolist(), real)
    assert np.allclose(fft.hfftn(fft.ihfftn(x, norm=norm), norm=norm).tolist(), real)


def test_gradient_of_a_convolution_by_spectra():
    a, b = (tracegrad.tensor(rng.normal(size=5), requires_grad=True) for _ in "ab")
    circular = fft.irfft(fft.rfft(a) * fft.rfft(b), 5)
    weights = tracegrad.tensor(rng.normal(size=5))
    got = tracegrad.autograd.grad((circular * weights).sum(), [a, b], create_graph=True)
    direct = sum(tracegrad.roll(a, k) * b[k] for k in range(5))
    expected = tracegrad.autograd.grad((direct * weights).sum(), [a, b])
    for g, e in zip(got, expected):
        assert np.allclose(g.tolist(), e.tolist())
    (second,) = tracegrad.autograd.grad(got[0].sum(), b)
    assert np.allclose(second.tolist(), [weights.sum().item()] * 5)


def test_parseval_in_one_program(compiled):
    x = tracegrad.tensor(rng.normal(size=8), requires_grad=True)
    compiled()
    (fft.fft(x, norm="ortho").abs() ** 2).sum().backward()
    assert np.allclose(x.grad.tolist(), (2 * x).tolist())
    assert compiled() <= 2


def test_stft_and_back():
    x = tracegrad.tensor(rng.normal(size=(2, 32)), requires_grad=True)
    window = tracegrad.hann_window(8, dtype=tracegrad.float64)
    there = tracegrad.stft(x, 8, 2, window=window, return_complex=True)
    back = tracegrad.istft(there, 8, 2, window=window, length=32)
    assert np.allclose(back.tolist(), x.tolist())
    back.sum().backward()
    assert np.allclose(x.grad.tolist(), np.ones((2, 32)))


def test_istft_refuses_windows_that_leave_gaps():
    z = tracegrad.ones(3, 4, dtype=tracegrad.complex64)
    with pytest.raises(RuntimeError, match="window overlap add min"):
        tracegrad.istft(z, 4, 4, 2, window=tracegrad.ones(2)).tolist()


def test_gradients_do_not_depend_on_when_values_are_read():
    def run(read):
        x = tracegrad.tensor([1.0, 2.0, 3.0], requires_grad=True)
        y = fft.rfft(x)
        if read:
            y.tolist()
        z = fft.irfft(y * y, 3)
        if read:
            z.tolist()
        z.sum().backward()
        return x.grad.tolist()

    with tracegrad.eager():
        expected = run(False)
    for read in (False, True, False):
        assert np.allclose(run(read), expected)
