"""``jacrev``, ``jacfwd`` and ``hessian``: pullbacks and pushforwards mapped over a basis."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tracegrad import _pytree
from tracegrad._handle import Handle
from tracegrad._ops import shape
from tracegrad.autograd._levels import unit_vectors
from tracegrad.func._gradients import Argnums, pullback, pushforward, select
from tracegrad.func._vmap import vmap


def jacrev(func: Callable[..., Any], argnums: Argnums = 0, *, has_aux: bool = False, chunk_size: int | None = None,
           _preallocate_and_copy: bool = False) -> Callable[..., Any]:  # fmt: skip
    """Return a function that computes the Jacobian of ``func`` by pulling back each element of its output.

    Its result has the structure of the output, of tensors of shape ``output.shape + input.shape``; where ``argnums`` is
    a tuple, of tuples of these. Best where there are more inputs than outputs; see `jacfwd` otherwise.

    Args:
        func: takes and returns real tensors, or nested containers of them.
        argnums: the position of the argument, or a tuple of positions.
        has_aux: ``func`` returns ``(output, aux)``; then the function returned gives ``(jacobian, aux)``.
        chunk_size: at most so many elements of the output at once, to use less memory; all when None.

    Raises:
        RuntimeError: for complex tensors, or outputs that are no floating-point tensors.

    See https://docs.pytorch.org/docs/stable/generated/torch.func.jacrev.html

    Example:
        >>> import tracegrad as torch
        >>> torch.func.jacrev(lambda x: x * x)(torch.tensor([1.0, 2.0]))
        tensor([[2., 0.],
                [0., 4.]])
    """
    if not (chunk_size is None or chunk_size > 0):
        raise ValueError("jacrev: `chunk_size` should be greater than 0.")

    @functools.wraps(func)
    def jacobian(*args: Any) -> Any:
        _refuse_complex("jacrev", args, "inputs")
        output, pull, *aux = pullback(func, args, argnums, has_aux)
        outs, structure = _pytree.flatten(output)
        _refuse_complex("jacrev", outs, "outputs")
        chosen, in_structure = _pytree.flatten(select(args, argnums, as_tuple=False))
        rows: list[list[Any]] = [[] for _ in chosen]
        for basis in _basis(outs, chunk_size):
            if chunk_size == 1:  # as a loop would do it, free of what `vmap` cannot do
                alone = [x.squeeze(0) for x in basis]
                found = [g.unsqueeze(0) for g in _pytree.leaves(pull(_pytree.unflatten(alone, structure)))]
            else:
                found = _pytree.leaves(vmap(pull)(_pytree.unflatten(basis, structure)))
            for row, g in zip(rows, found):
                row.append(g)
        stacked = [row[0] if len(row) == 1 else shape.cat(row, 0) for row in rows]
        parts = []  # per output, its Jacobian with respect to every input
        start = 0
        for out in outs:
            inner = [g.narrow(0, start, out.numel()).reshape(*out.shape, *x.shape) for g, x in zip(stacked, chosen)]
            parts.append(_pytree.unflatten(inner, in_structure))
            start += out.numel()
        result = _pytree.unflatten(parts, structure)
        return (result, aux[0]) if has_aux else result

    return jacobian


def jacfwd(func: Callable[..., Any], argnums: Argnums = 0, has_aux: bool = False, *,
           randomness: str = "error") -> Callable[..., Any]:  # fmt: skip
    """Return a function that computes the Jacobian of ``func`` by pushing forward each element of its input.

    See `jacrev` for the result. Best where there are more outputs than inputs.

    Args:
        func: takes and returns real tensors, or nested containers of them.
        argnums: the position of the argument, or a tuple of positions.
        has_aux: ``func`` returns ``(output, aux)``; then the function returned gives ``(jacobian, aux)``.
        randomness: see `vmap`.

    See https://docs.pytorch.org/docs/stable/generated/torch.func.jacfwd.html

    Example:
        >>> import tracegrad as torch
        >>> torch.func.jacfwd(torch.sin)(torch.zeros(2))
        tensor([[1., 0.],
                [0., 1.]])
    """

    @functools.wraps(func)
    def jacobian(*args: Any) -> Any:
        _refuse_complex("jacfwd", args, "inputs")
        chosen = args if argnums is None else select(args, argnums)
        flat, structure = _pytree.flatten(chosen)

        def push(basis: Any) -> Any:
            output, moved, *aux = pushforward(func, args, basis, argnums, False, has_aux)
            _refuse_complex("jacfwd", output, "outputs")
            return (moved, aux[0]) if has_aux else moved

        (basis,) = _basis(flat, None)
        found = vmap(push, randomness=randomness)(_pytree.unflatten(basis, structure))
        aux = None
        if has_aux:
            found, aux = found
            aux = _pytree.transform(lambda x: x[0], aux)  # it is the same for each element
        moved, out_structure = _pytree.flatten(found)
        parts = []
        for m in moved:
            start, inner = 0, []
            last = m.movedim(0, -1)
            for x in flat:
                inner.append(last.narrow(-1, start, x.numel()).reshape(*m.shape[1:], *x.shape))
                start += x.numel()
            tree = _pytree.unflatten(inner, structure)
            parts.append(tree[0] if isinstance(argnums, int) else tree)
        result = _pytree.unflatten(parts, out_structure)
        return (result, aux) if has_aux else result

    return jacobian


def hessian(func: Callable[..., Any], argnums: Argnums = 0) -> Callable[..., Any]:
    """Return a function that computes the Hessian of ``func``: ``jacfwd(jacrev(func))``.

    See https://docs.pytorch.org/docs/stable/generated/torch.func.hessian.html

    Example:
        >>> import tracegrad as torch
        >>> torch.func.hessian(lambda x: (x**3).sum())(torch.tensor([1.0, 2.0]))
        tensor([[ 6.,  0.],
                [ 0., 12.]])
    """
    return jacfwd(jacrev(func, argnums), argnums)


def _refuse_complex(api: str, tree: Any, what: str) -> None:
    for i, x in enumerate(_pytree.leaves(tree)):
        if isinstance(x, Handle) and x.dtype.is_complex:
            raise RuntimeError(f"{api}: Expected all {what} to be real but received complex tensor at flattened input "
                               f"idx: {i}")  # fmt: skip


def _basis(tensors: Sequence[Any], chunk_size: int | None) -> Iterator[list[Any]]:
    """Yield the unit vectors of all elements of ``tensors``, a chunk at a time, shaped like the tensors."""
    total = sum(x.numel() for x in tensors)
    step = max(total if chunk_size is None else chunk_size, 1)
    for begin in range(0, max(total, 1), step):
        yield unit_vectors(tensors, begin, min(step, total - begin))
