"""tracegrad: PyTorch's imperative face on JAX. ``import tracegrad as torch``."""

from tracegrad._tensor import Tensor as Tensor
from tracegrad._functions import *  # noqa: F403
