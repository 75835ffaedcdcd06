"""``vmap``: a function of one example, run for all examples of a batch at once."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from tracegrad import _pytree
from tracegrad._engine.scope import Mapped, Plain, Scope
from tracegrad._handle import Handle
from tracegrad._ops import shape
from tracegrad._ops._generator import get_rng_state, set_rng_state
from tracegrad._tensor import Tensor
from tracegrad.autograd._scopes import finish


def vmap(
    func: Callable[..., Any],
    in_dims: Any = 0,
    out_dims: Any = 0,
    randomness: str = "error",
    *,
    chunk_size: int | None = None,
) -> Callable[..., Any]:
    """Return a function that runs ``func`` for every index of a dimension of its inputs.

    ``func`` is called once, on tensors without that dimension, and what it records becomes one operation over the whole
    batch. So it must not look at elements: ``item``, ``bool`` and the like raise, as they do in PyTorch.

    Args:
        func: takes tensors, or nested containers of them, and returns tensors or containers of them.
        in_dims: the dimension of each input that is mapped over; None for an input that every call gets as it is. One
            int for all, or a nest of tuples, lists and dicts like the inputs.
        out_dims: where the mapped dimension is in each output; None for outputs that do not depend on it.
        randomness: ``"error"`` refuses random operations; ``"same"`` draws the same numbers for every example;
            ``"different"`` draws others for each.
        chunk_size: at most so many examples at once, to use less memory; all when None.

    Raises:
        ValueError: where dims do not fit the inputs, sizes differ, or an output is no tensor.
        RuntimeError: where ``func`` reads a mapped tensor, draws random numbers under ``"error"``, or writes a mapped
            tensor into one that is not.

    See https://docs.pytorch.org/docs/stable/generated/torch.func.vmap.html

    Example:
        >>> import tracegrad as torch
        >>> x = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
        >>> torch.vmap(lambda row: row * row.sum())(x)
        tensor([[ 3.,  6.],
                [21., 28.]])
        >>> torch.vmap(torch.dot, in_dims=(0, None))(x, torch.ones(2))
        tensor([3., 7.])
    """
    if randomness not in ("error", "different", "same"):
        raise RuntimeError(f"Only allowed values for randomness are 'error', 'different', or 'same'. Got {randomness}")
    if not (chunk_size is None or chunk_size > 0):
        raise ValueError(f"vmap: chunk_size should be None or greater than 0. (got {chunk_size})")

    @functools.wraps(func)
    def mapped(*args: Any, **kwargs: Any) -> Any:
        _check_out_dims(out_dims, func)
        size, dims, flat, structure = _inputs(in_dims, args, func)
        if chunk_size is None:
            return _map(func, size, dims, flat, structure, out_dims, randomness, kwargs)
        return _in_chunks(func, size, dims, flat, structure, out_dims, randomness, kwargs, chunk_size)

    return mapped


def _map(func: Callable[..., Any], size: int, dims: Sequence[int | None], flat: Sequence[Any],
         structure: _pytree.Structure, out_dims: Any, randomness: str, kwargs: dict[str, Any]) -> Any:  # fmt: skip
    with Scope("vmap", size, randomness) as scope:
        lanes = [x if d is None else scope.input(x, d) for x, d in zip(flat, dims)]
        given = [None if d is None else x._value for x, d in zip(lanes, dims)]
        result = func(*_pytree.unflatten(lanes, structure), **kwargs)
        found, out_structure = _pytree.flatten(result)
        axes = _output_dims(func, result, out_dims, out_structure)
        slots = [None if d is None and not isinstance(x, Handle) else _slot(scope, func, x, d)
                 for x, d in zip(found, axes)]  # fmt: skip
        written = [(x, scope.slot_of(lane), d) for x, lane, value, d in zip(flat, lanes, given, dims)
                   if d is not None and lane._value is not value]  # fmt: skip
        changed, changed_slots = scope.changed()
        alike = [s for s, d in zip(slots, axes) if s is not None and d is None]
        many = [(s, d) for s, d in zip(slots, axes) if s is not None and d is not None]
        many += [(s, d) for _, s, d in written]
        outs = tuple(d % (scope.ndim(s) + 1) for s, d in many)
        of_one = iter(finish(scope, (*alike, *changed_slots), lambda axes: Plain()))
        of_all = iter(finish(scope, tuple(s for s, _ in many), lambda axes: Mapped(size, axes, outs)))
        results = [x if s is None else next(of_one) if d is None else next(of_all)
                   for x, s, d in zip(found, slots, axes)]  # fmt: skip
        scope.hand_out(changed, list(of_one))
    for (outer, _, _), new in zip(written, of_all):
        outer.copy_(new)
    return _pytree.unflatten(results, out_structure)


def _in_chunks(func: Callable[..., Any], size: int, dims: Sequence[int | None], flat: Sequence[Any],
               structure: _pytree.Structure, out_dims: Any, randomness: str, kwargs: dict[str, Any],
               chunk_size: int) -> Any:  # fmt: skip
    starts = range(0, size, chunk_size)
    state = get_rng_state() if randomness == "same" else None
    results = []
    for start in starts:
        if state is not None:
            set_rng_state(state)
        count = min(chunk_size, size - start)
        part = [x if d is None else x.narrow(d, start, count) for x, d in zip(flat, dims)]
        results.append(_map(func, count, dims, part, structure, out_dims, randomness, kwargs))
    flattened = [_pytree.flatten(r) for r in results]
    out_structure = flattened[0][1]
    axes = _pytree.spread(out_dims, out_structure)
    assert axes is not None
    joined = [parts[0] if d is None else shape.cat(list(parts), d)
              for parts, d in zip(zip(*(leaves for leaves, _ in flattened)), axes)]  # fmt: skip
    return _pytree.unflatten(joined, out_structure)


# -- checks, in PyTorch's words ------------------------------------------------------------------------------


def name_of(func: Any) -> str:
    """Return the name of a function for a message."""
    if hasattr(func, "__name__"):
        return str(func.__name__)
    if isinstance(func, functools.partial):
        return f"functools.partial({name_of(func.func)}, ...)"
    return repr(func)


def _check_out_dims(out_dims: Any, func: Any) -> None:
    for d in _pytree.leaves(out_dims):
        if not isinstance(d, int) and d is not None:
            raise ValueError(f"vmap({name_of(func)}, ..., out_dims={out_dims}): `out_dims` must be an int, None or a "
                             "python collection of ints representing where in the outputs the vmapped dimension "
                             "should appear.")  # fmt: skip


def _inputs(in_dims: Any, args: tuple[Any, ...],
            func: Any) -> tuple[int, list[int | None], list[Any], _pytree.Structure]:  # fmt: skip
    call = f"vmap({name_of(func)}, in_dims={in_dims}, ...)(<inputs>): "
    if not isinstance(in_dims, (int, tuple)):
        raise ValueError(f"{call}expected `in_dims` to be int or a (potentially nested) tuple matching the structure "
                         f"of inputs, got: {type(in_dims)}.")  # fmt: skip
    if not args:
        raise ValueError(f"vmap({name_of(func)})(<inputs>): got no inputs. Maybe you forgot to add inputs, or you are "
                         "trying to vmap over a function with no inputs. The latter is unsupported.")  # fmt: skip
    flat, structure = _pytree.flatten(args)
    dims = _pytree.spread(in_dims, structure)
    if dims is None:
        raise ValueError(f"{call}in_dims is not compatible with the structure of `inputs`. in_dims has structure "
                         f"{_pytree.flatten(in_dims)[1]} but inputs has structure {structure}.")  # fmt: skip
    sizes = []
    for i, (x, d) in enumerate(zip(flat, dims)):
        if d is None:
            continue
        if not isinstance(d, int):
            raise ValueError(f"{call}Got in_dim={d} for an input but in_dim must be either an integer dimension or "
                             "None.")  # fmt: skip
        if not isinstance(x, Handle):
            raise ValueError(f"{call}Got in_dim={d} for an input but the input is of type {type(x)}. We cannot vmap "
                             "over non-Tensor arguments, please use None as the respective in_dim")  # fmt: skip
        if not -x.ndim <= d < x.ndim:
            raise ValueError(f"{call}Got in_dim={d} for some input, but that input is a Tensor of dimensionality "
                             f"{x.ndim} so expected in_dim to satisfy -{x.ndim} <= in_dim < {x.ndim}.")  # fmt: skip
        dims[i] = d % x.ndim
        sizes.append(x.shape[d])
    if not sizes:
        raise ValueError("vmap: Expected at least one Tensor to vmap over")
    if any(n != sizes[0] for n in sizes):
        raise ValueError("vmap: Expected all tensors to have the same size in the mapped dimension, got sizes "
                         f"{sizes} for the mapped dimension")  # fmt: skip
    return sizes[0], dims, flat, structure


def _output_dims(func: Any, result: Any, out_dims: Any, structure: _pytree.Structure) -> list[int | None]:
    if isinstance(result, Handle) and isinstance(out_dims, tuple) and len(out_dims) == 1:
        return list(out_dims)
    found = _pytree.spread(out_dims, structure)
    if found is None:
        raise ValueError(f"vmap({name_of(func)}, ..., out_dims={out_dims})(<inputs>): out_dims is not compatible with "
                         f"the structure of `outputs`. out_dims has structure {_pytree.flatten(out_dims)[1]} but "
                         f"outputs has structure {structure}.")  # fmt: skip
    return found


def _slot(scope: Scope, func: Any, x: Any, d: int | None) -> int:
    name = name_of(func)
    if not isinstance(x, Tensor):
        raise ValueError(f"vmap({name}, ...): `{name}` must only return Tensors, got type {type(x)}. Did you mean to "
                         "set out_dims= to None for output?")  # fmt: skip
    slot = scope.slot_of(x)
    if d is None:
        if scope.is_mapped(slot):
            raise ValueError(f"vmap({name}, ...): `{name}` can not return a BatchedTensor when out_dim is None")
    elif not -x.ndim - 1 <= d <= x.ndim:
        raise IndexError(f"Dimension out of range (expected to be in range of [{-x.ndim - 1}, {x.ndim}], but got {d})")
    return slot
