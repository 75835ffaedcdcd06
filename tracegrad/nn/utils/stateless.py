"""Calling a module with other parameters and buffers than its own."""

from __future__ import annotations

import warnings
from typing import Any

from tracegrad._tensor import Tensor
from tracegrad.nn._calling import call as call
from tracegrad.nn._module import Module


def functional_call(module: Module, parameters_and_buffers: dict[str, Tensor], args: Any = None,
                    kwargs: dict[str, Any] | None = None, *, tie_weights: bool = True,
                    strict: bool = False) -> Any:  # fmt: skip
    """Return ``module(*args, **kwargs)`` with other parameters; the old name of ``func.functional_call``.

    See https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.stateless.functional_call.html
    """
    warnings.warn(
        "`torch.nn.utils.stateless.functional_call` is deprecated as of PyTorch 2.0 and will be removed in a future "
        "version of PyTorch. Please use `torch.func.functional_call` instead which is a drop-in replacement.",
        FutureWarning, stacklevel=2)
    return call(module, parameters_and_buffers, args, kwargs, tie_weights, strict)
