"""Helpers around models and training."""

from tracegrad._ops.sharing import swap_tensors as swap_tensors
from tracegrad.utils import checkpoint as checkpoint
from tracegrad.utils import dlpack as dlpack
from tracegrad.utils import hooks as hooks
