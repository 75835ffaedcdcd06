"""The methods of tensors that are ops. Written by ``python -m tracegrad._ops._generate``."""

from tracegrad._handle import Handle
from tracegrad._ops import pointwise
from tracegrad._ops._declare import inplace


class Methods(Handle):
    """Every op as a method, by family."""

    # pointwise
    add = pointwise.add
    add_ = inplace(pointwise.add)
    exp = pointwise.exp
    exp_ = inplace(pointwise.exp)
    mul = pointwise.mul
    mul_ = inplace(pointwise.mul)
