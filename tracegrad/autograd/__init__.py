"""Gradients: ``backward``, ``grad`` and the modes that switch recording."""

from tracegrad.autograd._api import backward as backward
from tracegrad.autograd._api import grad as grad
