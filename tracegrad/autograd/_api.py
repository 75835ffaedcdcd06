"""``backward`` and ``grad``: PyTorch's arguments, checks and wording over one `Sweep`."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp

from tracegrad._engine import trace
from tracegrad._engine.op import Lowering
from tracegrad._engine.scope import Mapped, Scope
from tracegrad._engine.value import Aval, Variable
from tracegrad._grad_mode import enable_grad
from tracegrad._handle import Handle, constant, tensor_of
from tracegrad.autograd._backward import Sweep, finish
from tracegrad.autograd._graph import GradientEdge
from tracegrad.autograd._hooks import run
from tracegrad.autograd._leaves import arrive
from tracegrad.autograd._straight import straight, straight_to

if TYPE_CHECKING:
    from tracegrad._tensor import Tensor


def backward(
    tensors: Tensor | Sequence[Tensor],
    grad_tensors: Tensor | Sequence[Tensor | None] | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    grad_variables: Any = None,
    inputs: Tensor | Sequence[Tensor] | None = None,
) -> None:
    """Accumulate the gradients of ``tensors`` into the ``.grad`` of the leaves.

    Args:
        tensors: what is differentiated, of any shape.
        grad_tensors: the cotangent of each, of the same shape; may be left out for one-element tensors.
        retain_graph: keep what was saved for a further backward; ``create_graph`` when None.
        create_graph: record the backward so that it can be differentiated itself.
        grad_variables: the old name of ``grad_tensors``.
        inputs: accumulate into these leaves only.

    Raises:
        RuntimeError: as PyTorch does, for a tensor without a graph, a wrong shape, or a graph freed before.

    See https://docs.pytorch.org/docs/stable/generated/torch.autograd.backward.html

    Example:
        >>> import tracegrad as torch
        >>> x = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> torch.autograd.backward((x * x).sum())
        >>> x.grad
        tensor([2., 4.])
    """
    if grad_variables is not None:
        warnings.warn("`grad_variables` is deprecated. Use `grad_tensors` instead.", FutureWarning, stacklevel=2)
        grad_tensors = grad_variables
    targets: list[Any] | None = None
    if inputs is not None:
        given = [inputs] if isinstance(inputs, (Handle, GradientEdge)) else list(inputs)
        targets = _tensors(given)
        if not targets:
            raise RuntimeError("`inputs` argument to `backward` cannot be empty.")
        for t, x in zip(targets, given):
            if not t._value.spec.wants:
                raise RuntimeError("can't retain_grad on Tensor that has requires_grad=False")
            if x is t:
                t.retain_grad()  # which fills its ``.grad``
    roots, cotangents = _starts(tensors, grad_tensors, create_graph)
    retain = create_graph if retain_graph is None else retain_graph
    if len(roots) == 1 and targets is None and not create_graph and straight(roots[0], cotangents[0], retain):
        return
    sweep = _swept(roots, cotangents, retain, create_graph, targets)
    if targets is None:
        finish(sweep)
        return
    for t, gradient in zip(targets, _found(sweep, targets)):
        source = t._value.source
        if gradient is not None and isinstance(source, Variable):
            with sweep.user_mode():
                arrive(source, gradient, create_graph)


def grad(
    outputs: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    grad_outputs: Tensor | Sequence[Tensor | None] | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    only_inputs: bool = True,
    allow_unused: bool | None = None,
    is_grads_batched: bool = False,
    materialize_grads: bool = False,
) -> tuple[Any, ...]:
    """Return the gradients of ``outputs`` with respect to ``inputs``, which may be intermediate tensors.

    Args:
        outputs: what is differentiated, of any shape.
        inputs: with respect to what; the gradients have these shapes and dtypes.
        grad_outputs: the cotangent of each output; may be left out for one-element tensors.
        retain_graph: keep what was saved for a further backward; ``create_graph`` when None.
        create_graph: record the gradients so that they can be differentiated themselves.
        only_inputs: kept for PyTorch's signature; True.
        allow_unused: return None for an input that the outputs do not depend on, rather than raise.
        is_grads_batched: each of ``grad_outputs`` is a batch of cotangents along its first dimension, and so is each
            gradient; they are pulled back at once, as under ``vmap``.
        materialize_grads: return zeros rather than None.

    Raises:
        RuntimeError: as PyTorch does.

    See https://docs.pytorch.org/docs/stable/generated/torch.autograd.grad.html

    Example:
        >>> import tracegrad as torch
        >>> x = torch.tensor(3.0, requires_grad=True)
        >>> (g,) = torch.autograd.grad(x**2, x, create_graph=True)
        >>> torch.autograd.grad(g, x)
        (tensor(2.),)
    """
    if is_grads_batched:
        return _batched(outputs, inputs, grad_outputs, retain_graph, create_graph, allow_unused, materialize_grads)
    targets = _tensors(inputs)
    if not targets:
        raise ValueError("grad requires non-empty inputs.")
    for t in targets:
        if not t._value.spec.wants:
            for i, root in enumerate(_tensors(outputs)):
                if not root._value.spec.wants:
                    raise RuntimeError(f"element {i} of tensors does not require grad and does not have a grad_fn")
            raise RuntimeError("One of the differentiated Tensors does not require grad")
    if materialize_grads and allow_unused is False:
        raise ValueError("Expected allow_unused to be True or not passed when materialize_grads=True, "
                         "but got: allow_unused=False.")
    roots, cotangents = _starts(outputs, grad_outputs, create_graph)
    retain = create_graph if retain_graph is None else retain_graph
    found = straight_to(targets, roots[0], cotangents[0], retain, create_graph) if len(roots) == 1 else None
    if found is None:
        sweep = _swept(roots, cotangents, retain, create_graph, targets)
        found = _found(sweep, targets)
        for i, t in enumerate(targets):
            source, gradient = t._value.source, found[i]
            if gradient is not None and isinstance(source, Variable) and source.hooks is not None:
                with sweep.user_mode():
                    found[i] = run(source.hooks.tensor, gradient)
    if materialize_grads:
        return tuple(trace.record(_zeros_like, (), t) if g is None else g for g, t in zip(found, targets))
    unused = [i for i, g in enumerate(found) if g is None]
    if unused and not allow_unused:
        raise RuntimeError(f"The differentiated Tensor at index {unused[0]} appears to not have been used in the "
                           "graph. Set allow_unused=True if this is the desired behavior.")
    return tuple(found)


def _batched(outputs: Any, inputs: Any, cotangents: Any, *options: bool | None) -> tuple[Any, ...]:
    """Return the gradients for a batch of cotangents."""
    roots: list[Any] = [outputs] if isinstance(outputs, Handle) else list(outputs)
    given: list[Any] = [cotangents] if cotangents is None or isinstance(cotangents, Handle) else list(cotangents)
    for i, (root, c) in enumerate(zip(roots, given)):
        if c is not None and c.shape[1:] != root.shape:
            raise RuntimeError(
                "If `is_grads_batched=True`, we interpret the first dimension of each grad_output as the batch "
                "dimension. The sizes of the remaining dimensions are expected to match the shape of corresponding "
                f"output, but a mismatch was detected: grad_output[{i}] has a shape of {c.shape} and output[{i}] has a "
                f"shape of {root.shape}. If you only want some tensors in `grad_output` to be considered batched, "
                "consider using vmap.")
    sizes = {c.shape[0] for c in given if c is not None}
    if len(sizes) != 1:
        raise ValueError("vmap: Expected at least one Tensor to vmap over" if not sizes else
                         "vmap: Expected all tensors to have the same size in the mapped dimension, got sizes "
                         f"{[c.shape[0] for c in given if c is not None]} for the mapped dimension")
    (size,) = sizes
    retain, create, allow_unused, materialize = options
    with Scope("autograd.grad", size) as scope:
        lanes = [None if c is None else scope.input(c, 0) for c in given]
        found = grad(outputs, inputs, lanes, retain, bool(create), allow_unused=allow_unused,
                     materialize_grads=bool(materialize))  # fmt: skip
        slots = tuple(scope.slot_of(g) for g in found if g is not None)
        results = iter(scope.record(slots, lambda axes: Mapped(size, axes, (0,) * len(slots))))
        return tuple(None if g is None else next(results) for g in found)


def _tensors(given: Any) -> list[Any]:
    """Return a list of tensors, of one or several tensors or gradient edges."""
    several = [given] if isinstance(given, (Handle, GradientEdge)) else list(given)
    return [x.tensor() if isinstance(x, GradientEdge) else x for x in several]


def _zeros_like(x: Aval) -> Lowering:
    return Lowering(lambda a: jnp.zeros(x.shape, x.dtype.np), differentiable=False)


def _found(sweep: Sweep, targets: Sequence[Tensor]) -> list[Tensor | None]:
    found = []
    for t in targets:
        source = t._value.source
        g = sweep.gradients.get(id(t))
        if g is None and source is not None:
            g = sweep.gradients.get(id(source))
        found.append(g)
    return found


def _starts(tensors: Any, cotangents: Any, create_graph: bool) -> tuple[list[Any], list[Any]]:
    """Return what is differentiated, and the cotangent of each."""
    roots = _tensors(tensors)
    if cotangents is None or isinstance(cotangents, Handle):
        cotangents = [cotangents] * len(roots) if cotangents is None else [cotangents]
    given = list(cotangents)
    if len(given) != len(roots):
        raise RuntimeError(f"got {len(roots)} tensors and {len(given)} gradients")
    full = [_cotangent(root, c, i, create_graph) for i, (root, c) in enumerate(zip(roots, given))]
    for i, root in enumerate(roots):
        if not root._value.spec.wants:
            raise RuntimeError(f"element {i} of tensors does not require grad and does not have a grad_fn")
    return roots, full


def _swept(roots: list[Any], cotangents: list[Any], retain: bool, create_graph: bool,
           targets: list[Tensor] | None) -> Sweep:  # fmt: skip
    sweep = Sweep(retain, create_graph, targets)
    sweep.roots = roots
    if create_graph:
        with enable_grad():
            sweep.start(roots, cotangents)
            sweep.segments_left()
    else:
        sweep.start(roots, cotangents)
        sweep.segments_left()
    return sweep


def _cotangent(root: Tensor, c: Tensor | None, index: int, create_graph: bool) -> Tensor:
    of = root._value.spec.aval
    if c is None:
        if not root._value.spec.wants:
            raise RuntimeError(f"element {index} of tensors does not require grad and does not have a grad_fn")
        if of.numel != 1:
            raise RuntimeError("grad can be implicitly created only for scalar outputs")
        if not of.dtype.is_floating_point:
            raise RuntimeError("grad can be implicitly created only for real scalar outputs but got "
                               f"{of.dtype}")
        return trace.record(_ones, (of,))  # type: ignore[no-any-return]
    if not isinstance(c, Handle):
        raise TypeError(f"gradients can be either Tensors or None, but got {type(c).__name__}")
    if c._value.spec.aval.shape != of.shape:
        raise RuntimeError(f"Mismatch in shape: grad_output[{index}] has a shape of {c.shape} and output[{index}] has "
                           f"a shape of {root.shape}.")
    if of.dtype.is_complex != c.dtype.is_complex:
        raise RuntimeError("For complex Tensors, both grad_output and output are required to have the same dtype. "
                           f"Mismatch in dtype: grad_output[{index}] has a dtype of {c.dtype} and output[{index}] "
                           f"has a dtype of {of.dtype}.")
    if c._value.spec.wants and not create_graph:
        c = tensor_of(constant(c._value))
    if c.dtype is not of.dtype:
        c = trace.record(_cast, (of.dtype,), c)
    return c


def _ones(of: Aval) -> Lowering:
    return Lowering(lambda: jnp.ones(of.shape, of.dtype.np), device=of.device)


def _cast(x: Aval, dtype: Any) -> Lowering:
    return Lowering(lambda a: a.astype(dtype.np), name="ToCopyBackward0", saves=False)
