"""The order of dims in memory: a program that convolves images runs with channels last, whatever order tensors have.

NOTE [Channels last] XLA's convolutions on CPUs read and write (batch, space, channels), and PyTorch's tensors are
(batch, channels, space). Transposed at every convolution, a network spends half its time on copies, since XLA does not
carry an order through what stands between convolutions. So the traced program is gone through once more before it is
compiled, and each array is held in some order of its dims, from the convolution that makes it to the operation that
cannot take it so. Transposing is then a matter of bookkeeping; element by element, what meets is brought into one
order; reductions, slices and padding work on the dims where they lie. Everything else gets its operands as they were.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax import lax
from jax.extend import core

#: Which dim of a value lies at each place in memory, from the outermost.
Order = tuple[int, ...]

#: Operations on one element at a time.
_ELEMENTWISE = frozenset(
    "abs acos acosh add add_any and asin asinh atan atan2 atanh cbrt ceil clamp convert_element_type copy cos cosh "
    "div eq erf erf_inv erfc exp exp2 expm1 floor ge gt integer_pow is_finite le lgamma log log1p logistic lt max "
    "min mul ne neg nextafter not or pow reduce_precision rem round rsqrt select_n sign sin sinh sqrt square sub "
    "tan tanh xor".split()
)
_REDUCTIONS = frozenset("reduce_and reduce_max reduce_min reduce_or reduce_prod reduce_sum".split())
#: Calls that may be written out in their place, with the name of the parameter that holds what is called.
_CALLS = {"jit": "jaxpr", "custom_jvp_call": "call_jaxpr", "custom_vjp_call": "call_jaxpr"}


class _Laid:
    """An array whose dim ``j`` is dim ``order[j]`` of the value that it stands for."""

    def __init__(self, array: Any, order: Order):
        self.array, self.order = array, order

    @property
    def plain(self) -> Order:
        """The order of the value itself."""
        return tuple(range(len(self.order)))

    def at(self, order: Order) -> Any:
        """Return the array with its dims in ``order``."""
        if order == self.order:
            return self.array
        return lax.transpose(self.array, [self.order.index(d) for d in order])


class _Spread:
    """A value along the dims ``dims`` of ``shape``, the same along all others: it comes in any order for nothing."""

    def __init__(self, source: _Laid, shape: tuple[int, ...], dims: Sequence[int]):
        self.source, self.shape, self.dims = source, shape, tuple(dims)

    @property
    def plain(self) -> Order:
        """The order of the value itself."""
        return tuple(range(len(self.shape)))

    def at(self, order: Order) -> Any:
        """Return the whole array with its dims in ``order``."""
        places = [order.index(d) for d in self.dims]
        array = self.source.at(tuple(sorted(range(len(places)), key=places.__getitem__)))
        return lax.broadcast_in_dim(array, [self.shape[d] for d in order], sorted(places))


_Held = _Laid | _Spread


def pays(traced: Any) -> bool:
    """Say whether the program convolves images more than once, not counting its loops."""
    return _convolutions(traced.jaxpr.jaxpr) > 1


def _convolutions(jaxpr: Any) -> int:
    count = 0
    for eqn in jaxpr.eqns:
        name = eqn.primitive.name
        if name == "conv_general_dilated":
            count += eqn.outvars[0].aval.ndim == 4
        elif name in _CALLS:
            count += _convolutions(eqn.params[_CALLS[name]].jaxpr)
    return count


def reordered(traced: Any) -> Callable[..., Any]:
    """Return the program that was traced as a function that holds images with their channels last."""
    out_tree = jax.tree.structure(traced.out_info)

    def tracegrad_program(*args: Any) -> Any:
        outs = _run(traced.jaxpr, [_laid(a) for a in jax.tree.leaves(args)])
        return jax.tree.unflatten(out_tree, [x.at(x.plain) for x in outs])

    return tracegrad_program


def _laid(array: Any) -> _Laid:
    return _Laid(array, tuple(range(getattr(array, "ndim", 0))))


def _run(closed: Any, args: Sequence[_Held]) -> list[_Held]:
    env: dict[Any, _Held] = dict(zip(closed.jaxpr.constvars, map(_laid, closed.consts)))
    env.update(zip(closed.jaxpr.invars, args))

    def read(atom: Any) -> _Held:
        return _laid(atom.val) if isinstance(atom, core.Literal) else env[atom]

    for eqn in closed.jaxpr.eqns:
        given, name = [read(a) for a in eqn.invars], eqn.primitive.name
        if name in _CALLS:
            outs = _run(eqn.params[_CALLS[name]], given)
        elif name in _ELEMENTWISE:
            outs = [_elementwise(eqn, given)]
        elif name in _REDUCTIONS:
            outs = [_reduce(eqn, *given)]
        elif name in _RULES:
            outs = [_RULES[name](eqn, *given)]
        else:
            outs = _as_it_was(eqn, given)
        env.update(zip(eqn.outvars, outs))
    return [read(a) for a in closed.jaxpr.outvars]


def _as_it_was(eqn: Any, given: Sequence[_Held]) -> list[_Held]:
    with eqn.ctx.manager:
        params = eqn.primitive.get_bind_params(eqn.params)
        result = eqn.primitive.bind(*(x.at(x.plain) for x in given), **params)
    return [_laid(r) for r in (result if eqn.primitive.multiple_results else [result])]


def _bind(eqn: Any, *arrays: Any, **params: Any) -> Any:
    return eqn.primitive.bind(*arrays, **{**eqn.params, **params})


def _meeting(*given: _Held) -> Order:
    """Return the order in which arrays of one shape meet: one that is not plain, which some convolution has made."""
    return next((x.order for x in given if isinstance(x, _Laid) and x.order != x.plain), given[0].plain)


# -- operations on arrays in any order ---------------------------------------------------------------------------------


def _elementwise(eqn: Any, given: Sequence[_Held]) -> _Laid:
    whole = [x for x in given if x.plain]  # others are numbers
    order = _meeting(*whole) if whole else ()
    return _Laid(_bind(eqn, *(x.at(order if x.plain else ()) for x in given)), order)


def _reduce(eqn: Any, x: _Held) -> _Held:
    order, axes = _meeting(x), eqn.params["axes"]
    array = _bind(eqn, x.at(order), axes=tuple(sorted(order.index(d) for d in axes)))
    return _Laid(array, _without(order, axes))


def _without(order: Order, gone: Sequence[int]) -> Order:
    return tuple(d - sum(g < d for g in gone) for d in order if d not in gone)


def _transpose(eqn: Any, x: _Held) -> _Held:
    return _transposed(x, eqn.params["permutation"])


def _transposed(x: _Held, dims: Sequence[int]) -> _Held:
    if isinstance(x, _Spread):
        return _Spread(x.source, tuple(x.shape[d] for d in dims), [dims.index(d) for d in x.dims])
    return _Laid(x.array, tuple(dims.index(d) for d in x.order))


def _broadcast(eqn: Any, x: _Held) -> _Held:
    dims, shape = eqn.params["broadcast_dimensions"], eqn.params["shape"]
    if isinstance(x, _Spread):
        return _Spread(x.source, shape, [dims[d] for d in x.dims])
    if math.prod(shape) == eqn.invars[0].aval.size:
        return _reshaped(x, eqn.invars[0].aval.shape, shape)
    return _Spread(x, shape, dims)


def _reshape(eqn: Any, x: _Held) -> _Held:
    dims, shape = eqn.params["dimensions"] or x.plain, eqn.invars[0].aval.shape
    return _reshaped(_transposed(x, dims), [shape[d] for d in dims], eqn.params["new_sizes"])


def _reshaped(x: _Held, old: Sequence[int], new: Sequence[int]) -> _Held:
    """Reshape ``x`` in the order that it has, where the dims that are joined or split lie together."""
    if isinstance(x, _Laid) and old and new and 0 not in old:
        groups = sorted(_groups(old, new), key=lambda group: x.order.index(group[0][0]))
        if tuple(d for olds, _ in groups for d in olds) == x.order:
            order = tuple(d for _, news in groups for d in news)
            return _Laid(lax.reshape(x.array, [new[d] for d in order]), order)
    return _laid(lax.reshape(x.at(x.plain), new))


def _groups(old: Sequence[int], new: Sequence[int]) -> list[tuple[range, range]]:
    """Return the runs of dims of ``old`` and of ``new`` that hold the same elements, each as short as can be."""
    groups = []
    i = j = 0
    while i < len(old) and j < len(new):
        first, other, a, b = i, j, old[i], new[j]
        i, j = i + 1, j + 1
        while a != b:
            if a < b:
                a, i = a * old[i], i + 1
            else:
                b, j = b * new[j], j + 1
        if i == len(old) or j == len(new):  # what is left has one element
            i, j = len(old), len(new)
        groups.append((range(first, i), range(other, j)))
    return groups


def _squeeze(eqn: Any, x: _Held) -> _Held:
    gone = eqn.params["dimensions"]
    if isinstance(x, _Spread) and not set(gone) & set(x.dims):
        return _Spread(x.source, eqn.outvars[0].aval.shape, [d - sum(g < d for g in gone) for d in x.dims])
    order = _meeting(x)
    return _Laid(lax.squeeze(x.at(order), [order.index(d) for d in gone]), _without(order, gone))


def _pad(eqn: Any, x: _Held, filling: _Held) -> _Held:
    order, config = _meeting(x), eqn.params["padding_config"]
    return _Laid(_bind(eqn, x.at(order), filling.at(()), padding_config=tuple(config[d] for d in order)), order)


def _slice(eqn: Any, x: _Held) -> _Held:
    order, names = _meeting(x), ("start_indices", "limit_indices", "strides")
    moved = {n: eqn.params[n] and tuple(eqn.params[n][d] for d in order) for n in names}
    return _Laid(_bind(eqn, x.at(order), **moved), order)


def _reverse(eqn: Any, x: _Held) -> _Held:
    order = _meeting(x)
    return _Laid(_bind(eqn, x.at(order), dimensions=tuple(order.index(d) for d in eqn.params["dimensions"])), order)


def _concatenate(eqn: Any, *given: _Held) -> _Held:
    order = _meeting(*given)
    return _Laid(_bind(eqn, *(x.at(order) for x in given), dimension=order.index(eqn.params["dimension"])), order)


def _convolution(eqn: Any, x: _Held, w: _Held) -> _Held:
    (batch, ins, *space), (filters, depth, *kernel), (rows, outs, *places) = eqn.params["dimension_numbers"]
    n = len(space)
    last, numbers = (0, n + 1, *range(1, n + 1)), (n + 1, n, *range(n))
    array = _bind(eqn, x.at((batch, *space, ins)), w.at((*kernel, depth, filters)),
                  dimension_numbers=lax.ConvDimensionNumbers(last, numbers, last))  # fmt: skip
    return _Laid(array, (rows, *places, outs))


_RULES: dict[str, Callable[..., _Held]] = {
    "broadcast_in_dim": _broadcast, "concatenate": _concatenate, "conv_general_dilated": _convolution, "pad": _pad,
    "reshape": _reshape, "rev": _reverse, "slice": _slice, "squeeze": _squeeze, "transpose": _transpose,
}  # fmt: skip
