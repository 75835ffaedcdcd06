"""Tensors, and containers of them, from and to PyTorch, where it is installed."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np

from tracegrad import _dtype
from tracegrad._engine.trace import new_value
from tracegrad._engine.value import aval
from tracegrad._errors import UnsupportedError
from tracegrad._handle import Handle, tensor_of, want_grad
from tracegrad._interop import from_dlpack
from tracegrad._size import Size
from tracegrad._tensor import Tensor
from tracegrad.nn import Parameter


def from_torch(obj: Any) -> Any:
    """Return a PyTorch tensor as a tensor of ours, a parameter as a parameter; of a container, a container of them.

    Elements are copied, dtypes and ``requires_grad`` kept, graphs left behind. A tensor that is in a container twice is
    one tensor in the result. What is no tensor stays what it is, so optimizers' and modules' state dicts convert whole.

    Raises:
        UnsupportedError: for sparse and quantised tensors, and dtypes that are not supported.

    Example:
        >>> import tracegrad
        >>> import torch  # doctest: +SKIP
        >>> tracegrad.interop.from_torch({"w": torch.ones(2, requires_grad=True)})  # doctest: +SKIP
        {'w': tensor([1., 1.], requires_grad=True)}
    """
    import torch

    def convert(x: Any) -> Any:
        if isinstance(x, torch.Tensor):
            return _ours(x, torch)
        if isinstance(x, torch.Size):
            return Size(x)
        if isinstance(x, torch.dtype):
            return _dtype.by_name(str(x).removeprefix("torch."))
        return x

    return _mapped(convert, obj, {})


def to_torch(obj: Any) -> Any:
    """Return a tensor as a PyTorch tensor, a parameter as a parameter; of a container, a container of them.

    As `from_torch` the other way round: ``model.load_state_dict(to_torch(ours.state_dict()))``.

    Example:
        >>> import tracegrad
        >>> tracegrad.interop.to_torch([tracegrad.ones(2)])  # doctest: +SKIP
        [tensor([1., 1.])]
    """
    import torch

    def convert(x: Any) -> Any:
        if isinstance(x, Handle):
            return _theirs(x, torch)
        if isinstance(x, Size):
            return torch.Size(x)
        if isinstance(x, _dtype.DType):
            return getattr(torch, x.name)
        return x

    return _mapped(convert, obj, {})


def _ours(x: Any, torch: Any) -> Tensor:
    name = str(x.dtype).removeprefix("torch.")
    if x.layout is not torch.strided or x.is_quantized or name not in {d.name for d in _dtype.ALL}:
        raise UnsupportedError(f"from_torch: a tensor of {x.dtype} and layout {x.layout}; tensors here are dense, of "
                               f"the dtypes {', '.join(d.name for d in _dtype.ALL)}")
    plain = x.detach().resolve_conj().resolve_neg().clone(memory_format=torch.contiguous_format)
    if plain.device.type == "cpu":
        dtype = _dtype.by_name(name)
        array = plain.reshape(-1).view(torch.uint8).numpy() if plain.numel() else np.empty(0, np.uint8)
        array = array.view(dtype.np).reshape(tuple(x.shape))
        made = tensor_of(new_value(array, aval(array.shape, dtype)))
    else:
        made = from_dlpack(plain)
    if isinstance(x, torch.nn.Parameter):
        return Parameter(made, x.requires_grad)
    want_grad(made, x.requires_grad)
    return made


def _theirs(x: Any, torch: Any) -> Any:
    array = np.array(x.detach().jax())
    bytes_ = torch.from_numpy(array.reshape(-1).view(np.uint8))
    made = bytes_.view(getattr(torch, x.dtype.name)).reshape(array.shape)
    if isinstance(x, Parameter):
        return torch.nn.Parameter(made, x.requires_grad)
    return made.requires_grad_(x.requires_grad)


def _mapped(convert: Callable[[Any], Any], x: Any, seen: dict[int, Any]) -> Any:
    """Return ``x`` with ``convert`` of everything in its containers, each object once."""
    kind = type(x)
    if kind in (dict, OrderedDict):
        made = kind((key, _mapped(convert, value, seen)) for key, value in x.items())
        if kind is OrderedDict:
            made.__dict__.update(x.__dict__)
        return made
    if kind in (list, tuple, set):
        return kind(_mapped(convert, value, seen) for value in x)
    if isinstance(x, tuple) and hasattr(x, "_fields"):
        return kind(*(_mapped(convert, value, seen) for value in x))
    if id(x) not in seen:
        seen[id(x)] = convert(x)
    return seen[id(x)]
