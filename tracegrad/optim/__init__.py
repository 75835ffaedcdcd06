"""Optimizers and learning-rate schedules."""

from tracegrad.optim import lr_scheduler as lr_scheduler
from tracegrad.optim import optimizer as optimizer
from tracegrad.optim._adam import Adam as Adam
from tracegrad.optim._adam import AdamW as AdamW
from tracegrad.optim._optimizer import Optimizer as Optimizer
from tracegrad.optim._sgd import SGD as SGD
