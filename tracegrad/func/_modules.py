"""Modules as functions of their parameters, and ensembles of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tracegrad._grad_mode import no_grad
from tracegrad._ops.shape import stack
from tracegrad._tensor import Tensor
from tracegrad.nn import Module
from tracegrad.nn.utils.stateless import call


def functional_call(module: Module, parameter_and_buffer_dicts: dict[str, Tensor] | Sequence[dict[str, Tensor]],
                    args: Any = None, kwargs: dict[str, Any] | None = None, *, tie_weights: bool = True,
                    strict: bool = False) -> Any:  # fmt: skip
    """Return ``module(*args, **kwargs)`` with other parameters and buffers than the module's own.

    Args:
        module: called as it is, also where it writes to its buffers: the tensors given are written to.
        parameter_and_buffer_dicts: tensors by the names of ``named_parameters`` and ``named_buffers``, in one
            dictionary or several; what is missing stays the module's own.
        args: the arguments, a tuple; anything else is the only argument.
        kwargs: keyword arguments.
        tie_weights: a parameter with several names gets the tensor that is given for one of them.
        strict: raise where names are missing or unknown.

    Raises:
        ValueError: where a name is given twice, or tied names get different tensors.
        RuntimeError: as ``strict`` says.

    See https://docs.pytorch.org/docs/stable/generated/torch.func.functional_call.html

    Example:
        >>> import tracegrad as torch
        >>> layer = torch.nn.Linear(2, 1)
        >>> torch.func.functional_call(layer, {"weight": torch.ones(1, 2), "bias": torch.zeros(1)}, torch.ones(2))
        tensor([2.])
    """
    given = parameter_and_buffer_dicts
    if isinstance(given, dict):
        return call(module, given, args, kwargs, tie_weights, strict)
    if not isinstance(given, Sequence):
        raise ValueError("Expected parameter_and_buffer_dicts to be a dict, or a list/tuple of dicts, but got "
                         f"{type(given)}")  # fmt: skip
    if not all(isinstance(part, dict) for part in given):
        raise ValueError("Expected all elements of parameter_and_buffer_dicts to be dictionaries")
    names = [name for part in given for name in part]
    repeated = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if repeated:
        raise ValueError(f"{repeated} appeared in multiple dictionaries; behavior of functional call is ambiguous")
    return call(module, {k: v for part in given for k, v in part.items()}, args, kwargs, tie_weights, strict)


def stack_module_state(models: Sequence[Module]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the parameters and the buffers of several modules of one class, each stacked along a new first dimension.

    With ``vmap`` over `functional_call`, the modules run as one. The stacked parameters are new leaves.

    Raises:
        RuntimeError: where there is no module, or they differ in class, in mode or in what wants gradients.

    See https://docs.pytorch.org/docs/stable/generated/torch.func.stack_module_state.html

    Example:
        >>> import tracegrad as torch
        >>> models = [torch.nn.Linear(3, 2) for _ in range(4)]
        >>> params, buffers = torch.func.stack_module_state(models)
        >>> def run(params, x):
        ...     return torch.func.functional_call(models[0], params, x)
        >>> torch.vmap(run, in_dims=(0, None))(params, torch.ones(5, 3)).shape
        torch.Size([4, 5, 2])
    """
    if len(models) == 0:
        raise RuntimeError("stack_module_state: Expected at least one model, got 0.")
    models = list(models)
    if any(m.training is not models[0].training for m in models):
        raise RuntimeError("stack_module_state: Expected all models to have the same training/eval mode.")
    if any(type(m) is not type(models[0]) for m in models):
        raise RuntimeError("stack_module_state: Expected all models to be of the same class.")
    return (_stacked([dict(m.named_parameters()) for m in models]), _stacked([dict(m.named_buffers()) for m in models]))


def _stacked(states: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    found = {}
    for name in states[0]:
        tensors = [state[name] for state in states]
        wants = tensors[0].requires_grad
        if any(t.requires_grad is not wants for t in tensors):
            raise RuntimeError(f"Expected {name} from each model to have the same .requires_grad")
        with no_grad():
            found[name] = stack(tensors).requires_grad_(wants)
    return found


def functionalize(func: Callable[..., Any], *, remove: str = "mutations") -> Callable[..., Any]:
    """Return ``func``: what is recorded here is free of writes and views anyway.

    Args:
        func: any function.
        remove: ``"mutations"`` or ``"mutations_and_views"``.

    See https://docs.pytorch.org/docs/stable/generated/torch.func.functionalize.html
    """
    if remove not in ("mutations", "mutations_and_views"):
        raise RuntimeError(
            f"functionalize(f, remove='mutations'): received invalid argument for remove={remove}. Valid options are:\n"
            "     remove='mutations': all inplace and out= operators will be removed from the program, and replaced "
            "with their out-of-place equivalents.\n     remove='mutations_and_views': In addition to the above, all "
            "aliasing operators {view} will be replaced with their non-aliasing counterparts, {view}_copy.\n")
    return func
