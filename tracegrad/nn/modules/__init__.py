"""PyTorch's place for modules, as far as code imports from it."""

from tracegrad.nn._module import Module as Module
from tracegrad.nn.modules import module as module
from tracegrad.nn.modules import rnn as rnn
