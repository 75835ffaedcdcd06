"""Custom Functions, under PyTorch's names."""

from tracegrad.autograd._function import BackwardCFunction as BackwardCFunction
from tracegrad.autograd._function import Function as Function
from tracegrad.autograd._function import FunctionCtx as FunctionCtx
from tracegrad.autograd._function import once_differentiable as once_differentiable
