"""Gradients: ``backward``, ``grad`` and the modes that switch recording."""

from tracegrad._grad_mode import enable_grad as enable_grad
from tracegrad._grad_mode import inference_mode as inference_mode
from tracegrad._grad_mode import no_grad as no_grad
from tracegrad._grad_mode import set_grad_enabled as set_grad_enabled
from tracegrad.autograd._api import backward as backward
from tracegrad.autograd._api import grad as grad
