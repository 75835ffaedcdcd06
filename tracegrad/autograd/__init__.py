"""Gradients: ``backward``, ``grad`` and the modes that switch recording."""

from tracegrad._grad_mode import enable_grad as enable_grad
from tracegrad._grad_mode import inference_mode as inference_mode
from tracegrad._grad_mode import no_grad as no_grad
from tracegrad._grad_mode import set_grad_enabled as set_grad_enabled
from tracegrad.autograd import forward_ad as forward_ad
from tracegrad.autograd import function as function
from tracegrad.autograd import functional as functional
from tracegrad.autograd import graph as graph
from tracegrad.autograd._anomaly import detect_anomaly as detect_anomaly
from tracegrad.autograd._anomaly import set_detect_anomaly as set_detect_anomaly
from tracegrad.autograd._api import backward as backward
from tracegrad.autograd._api import grad as grad
from tracegrad.autograd._function import Function as Function
from tracegrad.autograd._legacy import Variable as Variable
from tracegrad.autograd._legacy import set_multithreading_enabled as set_multithreading_enabled
from tracegrad.autograd.gradcheck import gradcheck as gradcheck
from tracegrad.autograd.gradcheck import gradgradcheck as gradgradcheck
