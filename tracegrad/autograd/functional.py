"""Jacobians, Hessians and their products with vectors, of functions of tensors; see also `tracegrad.func`.

The results do not want gradients unless ``create_graph``. Derivatives in forward mode are derivatives of pullbacks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp

from tracegrad._engine import marking, trace
from tracegrad._engine.op import Lowering
from tracegrad._engine.value import Level
from tracegrad._grad_mode import enable_grad, set_grad_enabled
from tracegrad._handle import Handle, constant, tensor_of
from tracegrad.autograd._api import grad
from tracegrad.autograd._levels import alias, unit_vectors, zeros_like

if TYPE_CHECKING:
    from tracegrad._tensor import Tensor

Function = Callable[..., Any]


def vjp(func: Function, inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False) -> Any:
    """Return ``func(*inputs)`` and the product of ``v`` with its Jacobian: one tensor for each input.

    Args:
        func: takes tensors and returns a tensor or a tuple of tensors.
        inputs: a tensor or a tuple of tensors.
        v: of the shapes of the outputs; may be left out for one output of one element.
        create_graph: make the results differentiable.
        strict: raise where an output does not depend on an input, rather than return zeros.

    Raises:
        RuntimeError: where ``v`` does not fit the outputs, and as ``strict`` says.

    See https://docs.pytorch.org/docs/stable/generated/torch.autograd.functional.vjp.html

    Example:
        >>> import tracegrad as torch
        >>> torch.autograd.functional.vjp(lambda x: x * x, torch.tensor([1.0, 2.0]), torch.ones(2))
        (tensor([1., 4.]), tensor([2., 4.]))
    """
    with enable_grad():
        several, given = _tuple(inputs, "inputs", "vjp")
        xs = _variables(given, create_graph)
        several_out, outs = _tuple(func(*xs), "outputs of the user-provided function", "vjp")
        _need_grad(outs, "outputs", strict)
        vs: Sequence[Any] | None = None
        if v is not None:
            vs = _vectors(v, outs, several_out, "vjp", create_graph)
        elif len(outs) != 1 or outs[0].numel() != 1:
            raise RuntimeError("The vector v can only be None if the user-provided function returns a single Tensor "
                               "with a single element.")  # fmt: skip
    with set_grad_enabled(create_graph or trace.state.mode.grad):
        found = _filled(_grad(outs, xs, vs, create_graph), xs, strict, create_graph, "back")
    return _result(outs, several_out, create_graph), _result(found, several, create_graph)


def jvp(func: Function, inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False) -> Any:
    """Return ``func(*inputs)`` and the product of its Jacobian with ``v``: one tensor for each output.

    Args:
        func: takes tensors and returns a tensor or a tuple of tensors.
        inputs: a tensor or a tuple of tensors.
        v: of the shapes of the inputs; may be left out for one input of one element.
        create_graph: make the results differentiable.
        strict: raise where an output does not depend on an input, rather than return zeros.

    See https://docs.pytorch.org/docs/stable/generated/torch.autograd.functional.jvp.html

    Example:
        >>> import tracegrad as torch
        >>> torch.autograd.functional.jvp(lambda x: x * x, torch.tensor([1.0, 2.0]), torch.ones(2))
        (tensor([1., 4.]), tensor([2., 4.]))
    """
    with enable_grad():
        several, given = _tuple(inputs, "inputs", "jvp")
        xs = _variables(given, create_graph)
        vs = _vectors_of_inputs(v, xs, several, "jvp", "The vector v can only be None if the input to the "
                                "user-provided function is a single Tensor with a single element.",
                                create_graph)  # fmt: skip
        several_out, outs = _tuple(func(*xs), "outputs of the user-provided function", "jvp")
        _need_grad(outs, "outputs", strict)
        open_ = [_variable(zeros_like(o)) for o in outs]
        pulled = _grad(outs, xs, open_, True)
        _need_grad(pulled, "grad_inputs", strict)
    with set_grad_enabled(create_graph or trace.state.mode.grad):
        found = _filled(_grad(pulled, open_, vs, create_graph), outs, strict, create_graph, "back_trick")
    return _result(outs, several_out, create_graph), _result(found, several_out, create_graph)


def vhp(func: Function, inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False) -> Any:
    """Return ``func(*inputs)``, a single number, and the product of ``v`` with its Hessian.

    Args:
        func: takes tensors and returns a tensor of one element.
        inputs: a tensor or a tuple of tensors.
        v: of the shapes of the inputs; may be left out for one input of one element.
        create_graph: make the results differentiable.
        strict: raise where the Jacobian does not depend on an input, rather than return zeros.

    See https://docs.pytorch.org/docs/stable/generated/torch.autograd.functional.vhp.html

    Example:
        >>> import tracegrad as torch
        >>> torch.autograd.functional.vhp(lambda x: (x**3).sum(), torch.tensor([1.0, 2.0]), torch.ones(2))
        (tensor(9.), tensor([ 6., 12.]))
    """
    several, xs, vs, out, jacobians = _once(func, inputs, v, create_graph, strict, "vhp")
    with set_grad_enabled(create_graph or trace.state.mode.grad):
        found = _filled(_grad(jacobians, xs, vs, create_graph), xs, strict, create_graph, "double_back")
    return _result(out, False, create_graph), _result(found, several, create_graph)


def hvp(func: Function, inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False) -> Any:
    """Return ``func(*inputs)``, a single number, and the product of its Hessian with ``v``; see `vhp`, which is faster.

    See https://docs.pytorch.org/docs/stable/generated/torch.autograd.functional.hvp.html
    """
    several, xs, vs, out, jacobians = _once(func, inputs, v, create_graph, strict, "hvp")
    with enable_grad():
        open_ = [_variable(zeros_like(x)) for x in xs]
        double = _grad(jacobians, xs, open_, True)
    with set_grad_enabled(create_graph or trace.state.mode.grad):
        found = _filled(_grad(double, open_, vs, create_graph), xs, strict, create_graph, "double_back_trick")
    return _result(out, False, create_graph), _result(found, several, create_graph)


def jacobian(func: Function, inputs: Any, create_graph: bool = False, strict: bool = False, vectorize: bool = False,
             strategy: str = "reverse-mode") -> Any:  # fmt: skip
    """Return the Jacobian of ``func``: for each output, for each input, a tensor of both shapes joined.

    Args:
        func: takes tensors and returns a tensor or a tuple of tensors.
        inputs: a tensor or a tuple of tensors.
        create_graph: make the results differentiable.
        strict: raise where an output does not depend on an input, rather than return zeros.
        vectorize: pull back all elements of the outputs at once rather than in a loop.
        strategy: ``"reverse-mode"``, or ``"forward-mode"``, which is better for more outputs than inputs.

    Raises:
        RuntimeError: where options exclude each other, and as ``strict`` says.

    See https://docs.pytorch.org/docs/stable/generated/torch.autograd.functional.jacobian.html

    Example:
        >>> import tracegrad as torch
        >>> torch.autograd.functional.jacobian(lambda x: x * x, torch.tensor([1.0, 2.0]))
        tensor([[2., 0.],
                [0., 4.]])
    """
    if strategy not in ("forward-mode", "reverse-mode"):
        raise AssertionError('Expected strategy to be either "forward-mode" or "reverse-mode". Hint: If your function '
                             'has more outputs than inputs, "forward-mode" tends to be more performant. Otherwise, '
                             'prefer to use "reverse-mode".')  # fmt: skip
    if strategy == "forward-mode":
        return _forward_jacobian(func, inputs, create_graph, strict, vectorize)
    with enable_grad():
        several, given = _tuple(inputs, "inputs", "jacobian")
        xs = _variables(given, create_graph)
        several_out, outs = _tuple(func(*xs), "outputs of the user-provided function", "jacobian")
        _need_grad(outs, "outputs", strict)
        if vectorize:
            if strict:
                raise RuntimeError("torch.autograd.functional.jacobian: `strict=True` and `vectorized=True` are not "
                                   "supported together. Please either set `strict=False` or "
                                   "`vectorize=False`.")  # fmt: skip
            count = sum(o.numel() for o in outs)
            rows = _grad(outs, xs, unit_vectors(outs), create_graph, batched=True)
            filled = [zeros_like(x).expand(count, *x.shape) if g is None else g for g, x in zip(rows, xs)]
        else:
            filled = _by_element(outs, xs, create_graph, strict)
        return _split(filled, outs, xs, several_out, several, create_graph)


def hessian(func: Function, inputs: Any, create_graph: bool = False, strict: bool = False, vectorize: bool = False,
            outer_jacobian_strategy: str = "reverse-mode") -> Any:  # fmt: skip
    """Return the Hessian of ``func``: for each input, for each input, a tensor of both shapes joined.

    Args:
        func: takes tensors and returns a tensor of one element.
        inputs: a tensor or a tuple of tensors.
        create_graph: make the results differentiable.
        strict: raise where the Jacobian does not depend on an input, rather than return zeros.
        vectorize: pull back all elements of the Jacobian at once rather than in a loop.
        outer_jacobian_strategy: ``"reverse-mode"`` or ``"forward-mode"``, of the second derivative.

    See https://docs.pytorch.org/docs/stable/generated/torch.autograd.functional.hessian.html

    Example:
        >>> import tracegrad as torch
        >>> torch.autograd.functional.hessian(lambda x: (x**3).sum(), torch.tensor([1.0, 2.0]))
        tensor([[ 6.,  0.],
                [ 0., 12.]])
    """
    several, xs = _tuple(inputs, "inputs", "hessian")
    if outer_jacobian_strategy not in ("forward-mode", "reverse-mode"):
        raise AssertionError('Expected strategy to be either "forward-mode" or "reverse-mode".')

    def single(*given: Any) -> Any:
        out = func(*given)
        several_out, outs = _tuple(out, "outputs of the user-provided function", "hessian")
        _need_grad(outs, "outputs", strict)
        if several_out or not isinstance(out, Handle):
            raise RuntimeError("The function given to hessian should return a single Tensor")
        if outs[0].numel() != 1:
            raise RuntimeError("The Tensor returned by the function given to hessian should contain a single element")
        return outs[0].squeeze()

    def first(*given: Any) -> Any:
        found = jacobian(single, given, create_graph=True)
        _need_grad(found, "jacobian", strict)
        return found

    result = jacobian(first, xs, create_graph, strict, vectorize, outer_jacobian_strategy)
    if not several:
        return result[0][0]
    return result


# -- the parts ---------------------------------------------------------------------------------------------------------


def _forward_jacobian(func: Function, inputs: Any, create_graph: bool, strict: bool, vectorize: bool) -> Any:
    name = "torch.autograd.functional.jacobian"
    if create_graph:
        raise NotImplementedError(f'{name}: `create_graph=True` and `strategy="forward-mode"` are not supported '
                                  "together (yet). Please either set `create_graph=False` or "
                                  '`strategy="reverse-mode"`.')  # fmt: skip
    if strict:
        raise RuntimeError(f'{name}: `strict=True` and `strategy="forward-mode"` are not supported together (yet). '
                           'Please either set `strict=False` or `strategy="reverse-mode"`.')  # fmt: skip
    several, given = _tuple(inputs, "inputs", "jacobian")
    if not vectorize:
        raise NotImplementedError("Computing Jacobian using forward-AD or forward-over-reverse Hessian isonly "
                                  "implemented for `vectorize=True`.")  # fmt: skip
    with enable_grad():
        xs = _variables(given, True)
        several_out, outs = _tuple(func(*xs), "outputs", "jacobian")
        open_ = [_variable(zeros_like(o)) for o in outs]
        pulled = _grad(outs, xs, open_, True)
        moved = _grad(pulled, open_, unit_vectors(xs), False, batched=True)
    count = sum(x.numel() for x in xs)
    parts = []
    for m, out in zip(moved, outs):
        last = (zeros_like(out).expand(count, *out.shape) if m is None else m).movedim(0, -1)
        row, start = [], 0
        for x in xs:
            row.append(last.narrow(-1, start, x.numel()).reshape(*out.shape, *x.shape))
            start += x.numel()
        parts.append(_result(row, several, False))
    return tuple(parts) if several_out else parts[0]


def _by_element(outs: Sequence[Any], xs: Sequence[Any], create_graph: bool, strict: bool) -> list[Any]:
    """Return, for each input, the gradients of all elements of the outputs, pulled back one after the other."""
    rows: list[list[Any]] = [[] for _ in xs]
    for i, out in enumerate(outs):
        for j in range(out.numel()):
            found = _grad([out.reshape(-1)[j]], xs, None, create_graph, retain=True)
            for n, (row, g, x) in enumerate(zip(rows, found, xs)):
                if strict and g is None:
                    raise RuntimeError(f"Output {i} of the user-provided function is independent of input {n}. This is "
                                       "not allowed in strict mode.")  # fmt: skip
                if strict and create_graph and not g.requires_grad:
                    raise RuntimeError(f"The jacobian of the user-provided function is independent of input {i}. This "
                                       "is not allowed in strict mode when create_graph=True.")  # fmt: skip
                row.append((zeros_like(x) if g is None else g).reshape(1, *x.shape))
    return [trace.record(_stacked, (), *row) if row else unit_vectors([x], 0, 0)[0] for row, x in zip(rows, xs)]


def _split(rows: Sequence[Any], outs: Sequence[Any], xs: Sequence[Any], several_out: bool, several: bool,
           create_graph: bool) -> Any:  # fmt: skip
    parts, start = [], 0
    for out in outs:
        found = [g.narrow(0, start, out.numel()).reshape(*out.shape, *x.shape) for g, x in zip(rows, xs)]
        parts.append(_result(found, several, create_graph))
        start += out.numel()
    return tuple(parts) if several_out else parts[0]


def _once(func: Function, inputs: Any, v: Any, create_graph: bool, strict: bool,
          name: str) -> tuple[bool, Sequence[Tensor], Sequence[Any] | None, Sequence[Any], list[Any]]:  # fmt: skip
    """Return whether the inputs are several, the inputs, ``v``, the output and its gradients with their graph."""
    with enable_grad():
        several, given = _tuple(inputs, "inputs", name)
        xs = _variables(given, create_graph)
        vs = _vectors_of_inputs(v, xs, several, name, "The vector v can only be None if the input to the user-provided "
                                "function is a single Tensor with a single element.", create_graph)  # fmt: skip
        several_out, outs = _tuple(func(*xs), "outputs of the user-provided function", name)
        _need_grad(outs, "outputs", strict)
        if several_out:
            raise RuntimeError(f"The function given to {name} should return a single Tensor")
        if outs[0].numel() != 1:
            raise RuntimeError(f"The Tensor returned by the function given to {name} should contain a single element")
        found = _grad(outs, xs, None, True)
        _need_grad(found, "jacobian", strict)
    return several, xs, vs, outs, found


def _tuple(given: Any, what: str, name: str) -> tuple[bool, tuple[Any, ...]]:
    several = isinstance(given, tuple)
    found = given if several else (given,)
    for i, x in enumerate(found):
        if not isinstance(x, Handle):
            which = f"value at index {i}" if several else f"given {what}"
            raise TypeError(f"The {what} given to {name} must be either a Tensor or a tuple of Tensors but the {which} "
                            f"has type {type(x)}.")  # fmt: skip
    return several, found


def _variable(tensor: Any) -> Tensor:
    return tensor_of(marking.mark_variable(constant(tensor._value), Level()))


def _variables(tensors: Sequence[Any], create_graph: bool) -> list[Tensor]:
    """Return what gradients go to in place of ``tensors``; linked to these where a graph is asked for."""
    return [alias(x) if create_graph and x.requires_grad else _variable(x) for x in tensors]


def _vectors(v: Any, like: Sequence[Any], several: bool, name: str, create_graph: bool) -> list[Tensor]:
    _, vs = _tuple(v, "v", name)
    if len(vs) != len(like):
        raise RuntimeError(f"v is a tuple of invalid length: should be {len(like)} but got {len(vs)}." if several else
                           "The given v should contain a single Tensor.")  # fmt: skip
    for i, (x, of) in enumerate(zip(vs, like)):
        if x.shape != of.shape:
            entry = f"Entry {i} in " if several else ""
            raise RuntimeError(f"{entry}v has invalid size: should be {of.shape} but got {x.shape}.")
    return [alias(x) if create_graph and x.requires_grad else tensor_of(constant(x._value)) for x in vs]


def _vectors_of_inputs(v: Any, xs: Sequence[Any], several: bool, name: str, missing: str,
                       create_graph: bool) -> list[Tensor] | None:  # fmt: skip
    if v is not None:
        return _vectors(v, xs, several, name, create_graph)
    if len(xs) != 1 or xs[0].numel() != 1:
        raise RuntimeError(missing)
    return None


def _grad(outs: Sequence[Any], xs: Sequence[Any], vs: Sequence[Any] | None, create_graph: bool,
          batched: bool = False, retain: bool | None = None) -> list[Any]:  # fmt: skip
    """Return gradients, None where there is none; outputs that want none are left out."""
    pairs = [(o, v) for o, v in zip(outs, vs or [None] * len(outs)) if o is not None and o.requires_grad]
    if not pairs:
        return [None] * len(xs)
    return list(grad([o for o, _ in pairs], xs, [v for _, v in pairs], retain_graph=retain, create_graph=create_graph,
                     allow_unused=True, is_grads_batched=batched))  # fmt: skip


def _result(tensors: Sequence[Any], several: bool, create_graph: bool) -> Any:
    found = tuple(tensors if create_graph else [tensor_of(constant(x._value)) for x in tensors])
    return found if several else found[0]


def _stacked(*rows: Any) -> Lowering:
    return Lowering(lambda *arrays: jnp.concatenate(arrays), name="StackBackward0", saves=False)


# -- strict mode, in PyTorch's words -----------------------------------------------------------------------------------


def _need_grad(tensors: Sequence[Any], what: str, strict: bool) -> None:
    for i, x in enumerate(tensors if strict else ()):
        if x is None:
            raise RuntimeError(f"The output of the user-provided function is independent of input {i}. This is not "
                               "allowed in strict mode.")  # fmt: skip
        if not x.requires_grad:
            raise RuntimeError(_INDEPENDENT[what].format(i))


_INDEPENDENT = {
    "outputs": "Output {} of the user-provided function does not require gradients. The outputs must be computed in a "
               "differentiable manner from the input when running in strict mode.",
    "grad_inputs": "The gradient with respect to input {} is independent of the inputs of the user-provided function. "
                   "This is not allowed in strict mode.",
    "jacobian": "While computing the hessian, found that the jacobian of the user-provided function with respect to "
                "input {} is independent of the input. This is not allowed in strict mode. You should ensure that your "
                "function is twice differentiable and that the jacobian depends on the inputs (this would be violated "
                "by a linear function for example).",
    "back": "The output of the user-provided function is independent of input {}. This is not allowed in strict mode.",
    "back_trick": "The gradient with respect to the input is independent of entry {} in the grad_outputs when using "
                  "the double backward trick to compute forward mode gradients. This is not allowed in strict mode.",
    "double_back": "The jacobian of the user-provided function is independent of input {}. This is not allowed in "
                   "strict mode.",
    "double_back_trick": "The hessian of the user-provided function is independent of entry {} in the grad_jacobian. "
                         "This is not allowed in strict mode as it prevents from using the double backward trick to "
                         "replace forward mode AD.",
}  # fmt: skip


def _filled(found: Sequence[Any], like: Sequence[Any], strict: bool, create_graph: bool, stage: str) -> list[Any]:
    """Return ``found`` with zeros for what is None; in strict mode, raise instead."""
    filled = []
    for i, (g, x) in enumerate(zip(found, like)):
        if strict and g is None:
            raise RuntimeError(_INDEPENDENT[stage].format(i))
        if strict and create_graph and not g.requires_grad:
            what = "hessian" if "double" in stage else "jacobian"
            raise RuntimeError(f"The {what} of the user-provided function is independent of input {i}. This is not "
                               "allowed in strict mode when create_graph=True.")  # fmt: skip
        filled.append(zeros_like(x) if g is None else g)
    return filled
