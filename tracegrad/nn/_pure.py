"""A module as a pure function of JAX: parameters and buffers go in as a pytree, and nothing is left behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from tracegrad._errors import UnsupportedError
from tracegrad._handle import Handle, tensor_of
from tracegrad._interop import from_jax
from tracegrad._jaxtree import value_of
from tracegrad._ops._generator import default_generator
from tracegrad._ops.creation import from_host
from tracegrad.nn._calling import call

if TYPE_CHECKING:
    from tracegrad.nn._module import Module


def to_jax(module: Module, buffers: bool) -> tuple[Any, ...]:
    """Return what `Module.to_jax` does."""
    params = {name: p.detach().jax() for name, p in module.named_parameters()}
    held = {name: b.detach().jax() for name, b in module.named_buffers()}
    names = {name: p._value.spec.aval.dtype for name, p in (*module.named_parameters(), *module.named_buffers())}

    def run(params: Any, state: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        unknown = set(params) - names.keys() | set(state) - names.keys()
        missing = names.keys() - set(params) - set(state)
        if unknown or missing:
            raise KeyError(f"{module._get_name()}: unknown names {sorted(unknown)}, missing names {sorted(missing)} in "
                           "the parameters")
        given = {name: tensor_of(value_of(x, names[name])) for name, x in {**params, **state}.items()}
        before = {name: given[name]._value for name in state}
        draws = default_generator._count
        result = call(module, given, _tensors(args), _tensors(kwargs), True, False)
        out = _arrays(result)
        if default_generator._count != draws and _traced((params, state, args, kwargs)):
            raise UnsupportedError(
                f"{module._get_name()}: its forward draws random numbers, which JAX would trace once and then "
                "repeat at every call. Call eval() before to_jax(), or pass what is drawn as an argument")
        changed = [name for name in state if given[name]._value is not before[name]]
        if changed and not buffers:
            raise RuntimeError(f"{module._get_name()}: its forward writes to the buffers {', '.join(changed)}, which a "
                               "pure function cannot keep. Use to_jax(buffers=True), or eval() first")
        return out, {name: given[name].jax() for name in state}

    if buffers:

        def with_state(params: Any, state: Any, *args: Any, **kwargs: Any) -> Any:
            return run(params, state, args, kwargs)

        return _named(with_state, module), params, held

    def without(params: Any, *args: Any, **kwargs: Any) -> Any:
        return run(params, held, args, kwargs)[0]

    return _named(without, module), params


def _named(function: Callable[..., Any], module: Module) -> Callable[..., Any]:
    function.__name__ = function.__qualname__ = module._get_name()
    return function


def _is_tensor(x: Any) -> bool:
    return isinstance(x, Handle)


def _tensors(tree: Any) -> Any:
    """Return ``tree`` with tensors in the place of its arrays."""

    def convert(x: Any) -> Any:
        if isinstance(x, (jax.Array, jax.core.Tracer)):
            return from_jax(x)
        return from_host(np.array(x)) if isinstance(x, np.ndarray) else x

    return jax.tree_util.tree_map(convert, tree, is_leaf=_is_tensor)


def _arrays(tree: Any) -> Any:
    """Return ``tree`` with arrays in the place of its tensors."""

    def convert(x: Any) -> Any:
        return x.jax() if _is_tensor(x) else x

    return jax.tree_util.tree_map(convert, tree, is_leaf=_is_tensor)


def _traced(tree: Any) -> bool:
    leaves = jax.tree_util.tree_leaves(tree)
    return any(isinstance(x, jax.core.Tracer) for x in leaves)
