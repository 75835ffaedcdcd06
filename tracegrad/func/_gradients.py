"""``grad``, ``vjp``, ``jvp`` and ``linearize``: derivatives of functions as functions.

Each runs the user's function on fresh variables (`autograd._levels`) and pulls back to them, all of it recorded; so
they nest with each other, with ``vmap`` and with ``backward``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from tracegrad import _pytree
from tracegrad._handle import Handle
from tracegrad._tensor import Tensor
from tracegrad.autograd._levels import Levels, zeros_like
from tracegrad.autograd.forward_ad import check_dual

Argnums = int | tuple[int, ...]


def grad(func: Callable[..., Any], argnums: Argnums = 0, has_aux: bool = False) -> Callable[..., Any]:
    """Return a function that computes the gradient of ``func`` with respect to its arguments ``argnums``.

    Args:
        func: returns a 0-dim tensor; a tuple of that and anything else where ``has_aux``.
        argnums: the position of the argument, or a tuple of positions; arguments may be nested containers of tensors.
        has_aux: the function returned also gives what else ``func`` returned: ``(gradient, aux)``.

    Raises:
        RuntimeError: where ``func`` returns something else than a 0-dim tensor, or ``argnums`` is out of range.

    See https://docs.pytorch.org/docs/stable/generated/torch.func.grad.html

    Example:
        >>> import tracegrad as torch
        >>> from tracegrad.func import grad
        >>> grad(torch.sin)(torch.tensor(0.0)), grad(grad(lambda x: x**3))(torch.tensor(2.0))
        (tensor(1.), tensor(12.))
    """
    both = grad_and_value(func, argnums, has_aux)

    @functools.wraps(func)
    def gradient(*args: Any, **kwargs: Any) -> Any:
        found, value = both(*args, **kwargs)
        return (found, value[1]) if has_aux else found

    return gradient


def grad_and_value(func: Callable[..., Any], argnums: Argnums = 0, has_aux: bool = False) -> Callable[..., Any]:
    """Return a function that computes ``(gradient, value)`` of ``func``; see `grad`.

    Where ``has_aux``, it is ``(gradient, (value, aux))``.

    See https://docs.pytorch.org/docs/stable/generated/torch.func.grad_and_value.html

    Example:
        >>> import tracegrad as torch
        >>> torch.func.grad_and_value(lambda x: (x * x).sum())(torch.tensor([1.0, 2.0]))
        (tensor([2., 4.]), tensor(5.))
    """

    @functools.wraps(func)
    def gradient(*args: Any, **kwargs: Any) -> Any:
        with Levels() as levels:
            chosen = select(args, argnums, as_tuple=False)
            fresh = _pytree.transform(levels.fresh, chosen)
            output = func(*substitute(args, fresh if isinstance(argnums, tuple) else (fresh,), argnums), **kwargs)
            output, aux = split_aux(output, has_aux, "grad_and_value(f)(*args)")
            if not isinstance(output, Tensor):
                raise RuntimeError("grad_and_value(f)(*args): Expected f(*args) to return a Tensor, got "
                                   f"{type(output)}")
            if output.ndim != 0:
                raise RuntimeError("grad_and_value(f)(*args): Expected f(*args) to return a scalar Tensor, got tensor "
                                   f"with {output.ndim} dims. Maybe you wanted to use the vjp or jacrev APIs instead?")
            inputs, structure = _pytree.flatten(fresh)
            found = materialized(levels.pull([output], inputs, [None]), inputs)
            gradients = _pytree.unflatten([levels.close(g) for g in found], structure)
            value = levels.close(output)
            return gradients, (value, closed_aux(levels, aux)) if has_aux else value

    return gradient


def vjp(func: Callable[..., Any], *primals: Any, has_aux: bool = False) -> tuple[Any, ...]:
    """Return ``func(*primals)`` and the function that pulls cotangents back to ``primals``.

    That function takes cotangents of the structure of the output, and returns a tuple, one gradient a primal.

    Args:
        func: returns floating-point or complex tensors, or nested containers of them.
        primals: tensors, or nested containers of them.
        has_aux: ``func`` returns ``(output, aux)``, and ``aux`` is returned as third.

    Raises:
        RuntimeError: where the output is no tensor, or the cotangents do not fit it.

    See https://docs.pytorch.org/docs/stable/generated/torch.func.vjp.html

    Example:
        >>> import tracegrad as torch
        >>> y, pull = torch.func.vjp(torch.sin, torch.zeros(2))
        >>> pull(torch.tensor([1.0, 2.0]))
        (tensor([1., 2.]),)
    """
    return pullback(func, primals, None, has_aux)


def pullback(func: Callable[..., Any], args: tuple[Any, ...], argnums: Argnums | None,
             has_aux: bool) -> tuple[Any, ...]:  # fmt: skip
    """Return `vjp` of ``func`` for some of its arguments, all where ``argnums`` is None."""
    with Levels() as levels:
        chosen = args if argnums is None else select(args, argnums, as_tuple=False)
        fresh = _pytree.transform(levels.fresh, chosen)
        if argnums is None:
            given = fresh
        else:
            given = substitute(args, fresh if isinstance(argnums, tuple) else (fresh,), argnums)
        output, aux = split_aux(func(*given), has_aux, "vjp(f, *primals)")
        outs, out_structure = _pytree.flatten(output)
        check_outputs(outs, "vjp(f, *primals)")
        for out in outs:
            if not out.dtype.is_inexact:
                raise RuntimeError("vjp(f, ...): All outputs of f must be floating-point or complex Tensors, got "
                                   f"Tensor with dtype {out.dtype}")
        inputs, structure = _pytree.flatten(fresh)
        results = _pytree.unflatten([levels.close(o) for o in outs], out_structure)
        other = closed_aux(levels, aux) if has_aux else None

    def pull(cotangents: Any, retain_graph: bool = True, create_graph: bool | None = None) -> Any:
        flat, given_structure = _pytree.flatten(cotangents)
        if given_structure != out_structure:
            raise RuntimeError("Expected pytree structure of cotangents to be the same as pytree structure of outputs "
                               f"to the function. cotangents: {given_structure}, primal output: {out_structure}")
        found = materialized(levels.pull(outs, inputs, flat, create_graph), inputs)
        return _pytree.unflatten([levels.close(g) for g in found], structure)

    return (results, pull, other) if has_aux else (results, pull)


def jvp(func: Callable[..., Any], primals: Any, tangents: Any, *, strict: bool = False,
        has_aux: bool = False) -> tuple[Any, ...]:  # fmt: skip
    """Return ``func(*primals)`` and what it changes by where ``primals`` change by ``tangents``.

    It is the derivative of the pullback. So what ``func`` computes under ``no_grad`` is a constant here too, where
    PyTorch's forward mode goes through it.

    Args:
        func: returns tensors, or nested containers of them.
        primals: a tuple of tensors or nested containers of them.
        tangents: of the structure of ``primals``.
        strict: raise where an output does not depend on the primals, rather than return zeros.
        has_aux: ``func`` returns ``(output, aux)``, and ``aux`` is returned as third.

    Raises:
        RuntimeError: where structures or shapes differ.

    See https://docs.pytorch.org/docs/stable/generated/torch.func.jvp.html

    Example:
        >>> import tracegrad as torch
        >>> torch.func.jvp(lambda x: x * x, (torch.tensor(3.0),), (torch.tensor(1.0),))
        (tensor(9.), tensor(6.))
    """
    return pushforward(func, primals, tangents, None, strict, has_aux)


def pushforward(func: Callable[..., Any], args: Any, tangents: Any, argnums: Argnums | None, strict: bool,
                has_aux: bool) -> tuple[Any, ...]:  # fmt: skip
    """Return `jvp` of ``func`` for some of its arguments, all where ``argnums`` is None."""
    api = "jvp(f, primals, tangents)"
    if not isinstance(args, tuple):
        raise RuntimeError(f"{api}: Expected primals to be a tuple. E.g. it should be valid to call f(*primals).")
    chosen = args if argnums is None else select(args, argnums)
    flat, structure = _pytree.flatten(chosen)
    changes, given_structure = _pytree.flatten(tangents)
    if structure != given_structure:
        raise RuntimeError(f"{api}: Expected primals and tangents to have the same python structure. For example, if "
                           "primals is a tuple of 3 tensors, tangents also must be. Got primals with structure "
                           f"{structure} and tangents with structure {given_structure}")
    for name, found in (("primals", flat), ("tangents", changes)):
        if not found:
            raise RuntimeError(f"{api}: Expected {name} to contain at least one Tensor.")
        for x in found:
            if not isinstance(x, Handle):
                raise RuntimeError(f"{api}: Expected {name} to only contain Tensors, got {type(x)}")
    for x, change in zip(flat, changes):
        check_dual(x, change)
    with Levels() as levels:
        fresh = [levels.fresh(x) for x in flat]
        given = _pytree.unflatten(fresh, structure)
        output = func(*(given if argnums is None else substitute(args, given, argnums)))
        output, aux = split_aux(output, has_aux, api)
        outs, out_structure = _pytree.flatten(output)
        check_outputs(outs, api)
        moved = levels.push(outs, fresh, changes)
        if strict and any(m is None for m in moved):
            raise RuntimeError("jvp(f, primals, tangents, strict=True): The output of f is independent of the inputs. "
                               "This is not allowed with strict=True.")  # fmt: skip
        results = _pytree.unflatten([levels.close(o) for o in outs], out_structure)
        changed = _pytree.unflatten([levels.close(m) for m in materialized(moved, outs)], out_structure)
        return (results, changed, closed_aux(levels, aux)) if has_aux else (results, changed)


def linearize(func: Callable[..., Any], *primals: Any) -> tuple[Any, Callable[..., Any]]:
    """Return ``func(*primals)`` and the linear function that maps tangents of ``primals`` to those of the output.

    ``func`` runs once; use it where many tangents are pushed from one point.

    Raises:
        RuntimeError: where tangents do not fit the primals.

    See https://docs.pytorch.org/docs/stable/generated/torch.func.linearize.html

    Example:
        >>> import tracegrad as torch
        >>> y, push = torch.func.linearize(lambda x: x**2, torch.tensor([1.0, 2.0]))
        >>> push(torch.ones(2)), push(torch.tensor([0.0, 1.0]))
        (tensor([2., 4.]), tensor([0., 4.]))
    """
    flat, structure = _pytree.flatten(primals)
    with Levels() as levels:
        fresh = [levels.fresh(x) for x in flat]
        outs, out_structure = _pytree.flatten(func(*_pytree.unflatten(fresh, structure)))
        check_outputs(outs, "linearize(f, *primals)")
        transposed = levels.transposed(outs, fresh)
        results = [levels.close(o) for o in outs]

    def push(*tangents: Any) -> Any:
        changes, given_structure = _pytree.flatten(tangents)
        if given_structure != structure:
            raise RuntimeError(f"Expected the tangents {given_structure} to have the same argspec as the primals "
                               f"{structure}")  # fmt: skip
        for i, (x, change) in enumerate(zip(flat, changes)):
            for what, a, b in (("shape", change.shape, x.shape), ("device", change.device, x.device),
                               ("dtype", change.dtype, x.dtype)):  # fmt: skip
                if a != b:
                    raise RuntimeError(f"tangent:{i} with {what} {a} in flattened pytree doesn't match the {what} {b} "
                                       "of the corresponding primal.")  # fmt: skip
        moved = materialized(transposed.apply(changes), outs)
        return _pytree.unflatten([levels.close(m) for m in moved], out_structure)

    return _pytree.unflatten(results, out_structure), push


# -- what the transforms share -------------------------------------------------------------------------------


def materialized(found: Sequence[Any], like: Sequence[Any]) -> list[Any]:
    """Return ``found`` with zeros for what is None."""
    return [zeros_like(x) if g is None else g for g, x in zip(found, like)]


def closed_aux(levels: Levels, aux: Any) -> Any:
    """Return what a function returned besides, its tensors without this level."""

    def close(x: Any) -> Any:
        if not isinstance(x, Handle):
            raise RuntimeError(f"Expected tensors, got unsupported type {type(x)}")
        return levels.close(x)  # type: ignore[arg-type]

    return _pytree.transform(close, aux)


def split_aux(output: Any, has_aux: bool, api: str) -> tuple[Any, Any]:
    """Return a function's output, and what it returned besides where ``has_aux``."""
    if not has_aux:
        return output, None
    if not (isinstance(output, tuple) and len(output) == 2):
        raise RuntimeError(f"{api}: output of function f should be a tuple: (output, aux) if has_aux is True")
    return output[0], output[1]


def check_outputs(outs: list[Any], api: str) -> None:
    """Raise where an output is no tensor, or there is none."""
    if not outs or (len(outs) == 1 and outs[0] is None):
        raise RuntimeError(f"{api}: Expected f to be a function that has non-empty output (got output = {outs})")
    for out in outs:
        if not isinstance(out, Handle):
            raise RuntimeError(f"{api}: expected f(*primals) to return only tensors, got unsupported type {type(out)}")


def select(args: tuple[Any, ...], argnums: Argnums, as_tuple: bool = True) -> Any:
    """Return the arguments at ``argnums``; RuntimeError in PyTorch's words where there is none."""
    if isinstance(argnums, int):
        chosen = args[_position(argnums, len(args))]
        return (chosen,) if as_tuple else chosen
    if not isinstance(argnums, tuple):
        raise RuntimeError(f"argnums must be int or Tuple[int, ...], got: {type(argnums)}")
    places = tuple(_position(n, len(args)) for n in argnums)
    if not places:
        raise RuntimeError("argnums must be non-empty")
    if len(set(places)) != len(places):
        raise RuntimeError(f"argnums elements must be unique, got {places}")
    return tuple(args[n] for n in places)


def substitute(args: tuple[Any, ...], new: Sequence[Any], argnums: Argnums) -> tuple[Any, ...]:
    """Return ``args`` with ``new`` in the places ``argnums``."""
    given = list(args)
    for n, x in zip((argnums,) if isinstance(argnums, int) else argnums, new):
        given[_position(n, len(args))] = x
    return tuple(given)


def _position(n: Any, count: int) -> int:
    if not isinstance(n, int):
        raise RuntimeError(f"argnum must be int, got: {type(n)}")
    if -count <= n < count:
        return n % count
    raise RuntimeError(f"Got argnum={n}, but only {count} positional inputs")
