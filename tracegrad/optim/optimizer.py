"""The base of optimizers, and hooks on the steps of all of them."""

from tracegrad.optim._optimizer import Optimizer as Optimizer
from tracegrad.optim._optimizer import register_optimizer_step_post_hook as register_optimizer_step_post_hook
from tracegrad.optim._optimizer import register_optimizer_step_pre_hook as register_optimizer_step_pre_hook
