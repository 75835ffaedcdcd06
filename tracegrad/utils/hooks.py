"""The handle that removes a hook."""

from tracegrad.autograd._hooks import RemovableHandle as RemovableHandle
