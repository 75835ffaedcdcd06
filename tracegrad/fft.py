"""Discrete Fourier transforms, under PyTorch's names.

See https://docs.pytorch.org/docs/stable/fft.html
"""

from tracegrad._ops.fft import fft as fft
from tracegrad._ops.fft import fft2 as fft2
from tracegrad._ops.fft import fftfreq as fftfreq
from tracegrad._ops.fft import fftn as fftn
from tracegrad._ops.fft import fftshift as fftshift
from tracegrad._ops.fft import hfft as hfft
from tracegrad._ops.fft import hfft2 as hfft2
from tracegrad._ops.fft import hfftn as hfftn
from tracegrad._ops.fft import ifft as ifft
from tracegrad._ops.fft import ifft2 as ifft2
from tracegrad._ops.fft import ifftn as ifftn
from tracegrad._ops.fft import ifftshift as ifftshift
from tracegrad._ops.fft import ihfft as ihfft
from tracegrad._ops.fft import ihfft2 as ihfft2
from tracegrad._ops.fft import ihfftn as ihfftn
from tracegrad._ops.fft import irfft as irfft
from tracegrad._ops.fft import irfft2 as irfft2
from tracegrad._ops.fft import irfftn as irfftn
from tracegrad._ops.fft import rfft as rfft
from tracegrad._ops.fft import rfft2 as rfft2
from tracegrad._ops.fft import rfftfreq as rfftfreq
from tracegrad._ops.fft import rfftn as rfftn
