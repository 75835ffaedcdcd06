"""The module class, and hooks of all modules."""

from tracegrad.nn._hooks import register_module_backward_hook as register_module_backward_hook
from tracegrad.nn._hooks import register_module_forward_hook as register_module_forward_hook
from tracegrad.nn._hooks import register_module_forward_pre_hook as register_module_forward_pre_hook
from tracegrad.nn._hooks import register_module_full_backward_hook as register_module_full_backward_hook
from tracegrad.nn._hooks import register_module_full_backward_pre_hook as register_module_full_backward_pre_hook
from tracegrad.nn._module import Module as Module
