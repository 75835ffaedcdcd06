"""The ops as functions. Written by ``python -m tracegrad._ops._generate``."""

from tracegrad._ops.creation import tensor as tensor
from tracegrad._ops.pointwise import add as add
from tracegrad._ops.pointwise import exp as exp
from tracegrad._ops.pointwise import mul as mul
