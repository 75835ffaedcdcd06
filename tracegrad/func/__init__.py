"""Functional transforms: derivatives and maps of functions, which nest freely; PyTorch's ``torch.func``."""

from tracegrad.func._gradients import grad as grad
from tracegrad.func._gradients import grad_and_value as grad_and_value
from tracegrad.func._gradients import jvp as jvp
from tracegrad.func._gradients import linearize as linearize
from tracegrad.func._gradients import vjp as vjp
from tracegrad.func._jacobians import hessian as hessian
from tracegrad.func._jacobians import jacfwd as jacfwd
from tracegrad.func._jacobians import jacrev as jacrev
from tracegrad.func._modules import functional_call as functional_call
from tracegrad.func._modules import functionalize as functionalize
from tracegrad.func._modules import stack_module_state as stack_module_state
from tracegrad.func._vmap import vmap as vmap
