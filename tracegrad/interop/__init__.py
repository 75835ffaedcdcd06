"""The ways to other libraries: functions of JAX as operations, tensors and state dicts from and to PyTorch."""

from tracegrad._interop import from_dlpack as from_dlpack
from tracegrad._interop import from_jax as from_jax
from tracegrad.interop._torch import from_torch as from_torch
from tracegrad.interop._torch import to_torch as to_torch
from tracegrad.interop._wrap import wrap as wrap
