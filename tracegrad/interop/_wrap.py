"""Any function of JAX as an operation of the tape.

NOTE [Width] Our programs run with 64-bit types. A function that was written for JAX's default has its constants in 32
bits: ``x + jnp.zeros(3)`` would become float64 in one of them, and a ``scan`` that carries it would fail. So the
function is traced once for its operands, under the user's own setting, and the jaxpr that results is what runs. Going
from 64 to 32 bits inside a trace is safe; the other way is not, and never done in somebody else's trace.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import eval_jaxpr

from tracegrad import _dtype
from tracegrad._engine.op import Lowering, number_token
from tracegrad._engine.trace import record
from tracegrad._engine.value import Aval, Input
from tracegrad._handle import Handle
from tracegrad._interop import from_jax
from tracegrad._ops.creation import from_host

_NARROW = {"int64": np.int32, "uint64": np.uint32, "float64": np.float32, "complex128": np.complex64}
_OPERAND = object()  # stands for a tensor among the leaves of the arguments
_MAX_TRACED = 10_000
_traced: dict[Any, _Traced] = {}


def wrap(fn: Callable[..., Any], *, static_argnums: int | Sequence[int] = (),
         static_argnames: str | Sequence[str] = (),
         nondiff: int | str | Sequence[int | str] = ()) -> Callable[..., Any]:  # fmt: skip
    """Return ``fn``, a function of JAX, as a function of tensors: an operation that is recorded and differentiated.

    Whatever JAX can trace will do: ``jax.numpy`` code, jitted functions, ``custom_vjp`` and ``custom_jvp`` functions,
    ``lax.scan`` and solvers made of it, Pallas kernels. It is traced once for every new combination of shapes, dtypes
    and static arguments, as by ``jax.jit``, and becomes part of the program around it. JAX differentiates it, to any
    order, by the function's own rules where it has some.

    Args and results may be nested containers. Tensors and arrays are operands. Floats are operands too, so that a
    new one costs nothing; other numbers, strings and None are static: they are what they are while ``fn`` is traced.
    Functions are told apart by identity: wrap a function once, or the same function again, not a new lambda each time.

    64-bit types: ``fn`` sees them where your JAX has them switched on, or where an operand is float64 or complex128.
    Otherwise it sees int32 for int64, and returns what it would return in your JAX: float32 stays float32.

    Args:
        fn: the function; hashable, free of side effects.
        static_argnums: positions of arguments that are static, floats among them; they must be hashable.
        static_argnames: the same for keyword arguments.
        nondiff: positions and names of arguments that no gradient goes to.

    Raises:
        TypeError: where ``fn`` or a static argument is not hashable, or a result is no array.

    Example:
        >>> import jax
        >>> import tracegrad as torch
        >>> logsumexp = torch.wrap(jax.nn.logsumexp)
        >>> x = torch.zeros(2, 3, requires_grad=True)
        >>> y = logsumexp(x, axis=1)
        >>> y.sum().backward()
        >>> x.grad
        tensor([[0.3333, 0.3333, 0.3333],
                [0.3333, 0.3333, 0.3333]])
    """
    if not callable(fn):
        raise TypeError(f"wrap: expected a function, got {type(fn).__name__}")
    try:
        hash(fn)
    except TypeError:
        raise TypeError(f"wrap: {type(fn).__name__} is not hashable, so calls of it cannot be told apart. Wrap a "
                        "function that closes over it") from None
    numbers = (static_argnums,) if isinstance(static_argnums, int) else tuple(static_argnums)
    names = (static_argnames,) if isinstance(static_argnames, str) else tuple(static_argnames)
    constant = (nondiff,) if isinstance(nondiff, (int, str)) else tuple(nondiff)

    @functools.wraps(fn, updated=())
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        fixed: dict[Any, Any] = {i % len(args): args[i] for i in numbers if -len(args) <= i < len(args)}
        fixed.update({name: kwargs[name] for name in names if name in kwargs})
        apart = {i % len(args) if isinstance(i, int) and args else i for i in constant}
        given = {i: x for i, x in enumerate(args) if i not in fixed}
        given.update({name: x for name, x in kwargs.items() if name not in fixed})  # type: ignore[misc]
        leaves: list[Any] = []
        trees = []
        spans = []
        for place, x in given.items():
            found, tree = jax.tree_util.tree_flatten(x, is_leaf=_is_tensor)
            trees.append((place, tree))
            spans.append((place in apart, len(found)))
            leaves += found
        operands, kept = [], []
        for x in leaves:
            operand = _operand(x)
            if operand is None:
                kept.append(x)
            else:
                operands.append(operand)
                kept.append(_OPERAND)
        wide = bool(jax.config.jax_enable_x64)  # type: ignore[attr-defined]
        if not wide:
            wide = any(isinstance(x, Handle) and x.dtype in (_dtype.float64, _dtype.complex128) for x in operands
                       ) and not any(isinstance(x._value.array, jax.core.Tracer) for x in operands
                                     if isinstance(x, Handle))  # fmt: skip
        described = tuple(x._value.spec.aval if isinstance(x, Handle) else float for x in operands)
        try:
            key = (fn, wide, tuple(trees), tuple(spans), tuple(map(_token, kept)),
                   tuple((place, _token(x)) for place, x in fixed.items()), described)  # fmt: skip
            traced = _traced.get(key)
        except TypeError as error:
            raise TypeError(f"wrap: {_name(fn)} was given an argument that is neither a tensor nor hashable "
                            f"({error})") from None
        if traced is None:
            traced = _Traced(fn, wide, trees, spans, kept, fixed, described)
            if len(_traced) >= _MAX_TRACED:
                _traced.clear()
            traced = _traced.setdefault(key, traced)
        if not traced.dtypes:
            return jax.tree_util.tree_unflatten(traced.tree, ())
        return jax.tree_util.tree_unflatten(traced.tree, record(_rule, (traced,), *operands))

    return wrapped


class _Traced:
    """A function traced for operands of given avals: a rule's only parameter, told apart by identity."""

    def __init__(self, fn: Callable[..., Any], wide: bool, trees: list[Any], spans: list[tuple[bool, int]],
                 kept: list[Any], fixed: dict[Any, Any], operands: tuple[Any, ...]):  # fmt: skip
        self.name, self.wide = _name(fn), wide

        def flat(*arrays: Any) -> list[Any]:
            feed = iter(arrays)
            leaves = [next(feed) if x is _OPERAND else x for x in kept]
            given, start = dict(fixed), 0
            for (place, tree), (_, count) in zip(trees, spans):
                given[place] = jax.tree_util.tree_unflatten(tree, leaves[start : start + count])
                start += count
            args = [given[i] for i in sorted(i for i in given if isinstance(i, int))]
            result = fn(*args, **{name: x for name, x in given.items() if isinstance(name, str)})
            found, self.tree = jax.tree_util.tree_flatten(result, is_leaf=_is_tensor)
            return [self._array(x) for x in found]

        structs = [_struct(x, wide) for x in operands]
        try:
            with self.width():
                closed = jax.make_jaxpr(flat)(*structs)
        except Exception as error:
            shown = ", ".join("float" if x is float else str(x) for x in operands)
            error.add_note(f"In {self.name}, wrapped by tracegrad.wrap and called with operands ({shown}).")
            raise
        self.run_jaxpr = functools.partial(eval_jaxpr, closed.jaxpr, closed.consts)
        self.inputs = [v.aval.dtype for v in closed.jaxpr.invars]
        self.dtypes = [v.aval.dtype for v in closed.jaxpr.outvars]
        apart = [is_apart for is_apart, count in spans for _ in range(count)]
        self.constant = tuple(i for i, is_apart in enumerate(
            is_apart for is_apart, x in zip(apart, kept) if x is _OPERAND) if is_apart)  # fmt: skip
        self.differentiable = tuple(i for i, x in enumerate(operands) if x is not float and x.dtype.is_inexact
                                    and i not in self.constant)  # fmt: skip

    def _array(self, x: Any) -> Any:
        if isinstance(x, Handle):
            return x.jax()  # type: ignore[attr-defined]
        try:
            array = jnp.asarray(x)
            _dtype.from_np(array.dtype)
        except TypeError:
            shown = f"an array of {x.dtype}" if hasattr(x, "dtype") else type(x).__name__
            raise TypeError(f"wrap: {self.name} returned {shown}, which no tensor can hold") from None
        return array

    def width(self) -> Any:
        """Return the context that the function is traced and differentiated in; see NOTE [Width]."""
        on = bool(jax.config.jax_enable_x64)  # type: ignore[attr-defined]
        return nullcontext() if on is self.wide else jax.enable_x64(self.wide)

    def run(self, *operands: Any) -> tuple[Any, ...]:
        """Return the results for arrays or tracers; numbers stand for themselves."""
        with self._inner_width():
            outs = self.run_jaxpr(*[lax.convert_element_type(x, to) for x, to in zip(operands, self.inputs)])
            return tuple(lax.convert_element_type(x, x.dtype) for x in outs)  # strong types

    def _inner_width(self) -> Any:
        return nullcontext() if self.wide else jax.enable_x64(False)

    def forward(self, *operands: Any) -> tuple[Any, Any]:
        """Return the results and the pullback to the differentiable operands."""

        def of(*inputs: Any) -> Any:
            full = list(operands)
            for i, x in zip(self.differentiable, inputs):
                full[i] = x
            return self.run(*full)

        with self._inner_width():
            return jax.vjp(of, *[operands[i] for i in self.differentiable])

    def backward(self, pullback: Any, cotangents: Any) -> tuple[Any, ...]:
        """Return the cotangents of all operands, None of those that have none."""
        with self._inner_width():
            found = dict(zip(self.differentiable, pullback(tuple(cotangents))))
        return tuple(found.get(i) for i in range(len(self.inputs)))


def _rule(*given: Any) -> Lowering:
    traced: _Traced = given[-1]
    return Lowering(traced.run, traced.forward, traced.backward, f"{traced.name}Backward", constant=traced.constant)


def _is_tensor(x: Any) -> bool:
    return isinstance(x, Handle)


def _operand(x: Any) -> Any:
    """Return ``x`` as an operand of a recorded op, None where it is static."""
    if isinstance(x, Handle):
        return x
    kind = type(x)
    if kind is float:
        return Input(x)
    if isinstance(x, (jax.Array, jax.core.Tracer)):
        return from_jax(x)
    if isinstance(x, (np.ndarray, np.generic)):
        return from_host(np.array(x))
    return None


def _token(x: Any) -> Any:
    if type(x) in (bool, int, float, complex):
        return number_token(x)
    hash(x)
    return x


def _struct(operand: Any, wide: bool) -> Any:
    if operand is float:  # weak, as Python's numbers are in JAX
        kind = np.float64 if wide else np.float32
        return jax.ShapeDtypeStruct((), kind, weak_type=True)  # type: ignore[no-untyped-call]
    of: Aval = operand
    dtype = of.dtype.np if wide else _NARROW.get(of.dtype.name, of.dtype.np)
    return jax.ShapeDtypeStruct(of.shape, dtype)  # type: ignore[no-untyped-call]


def _name(fn: Any) -> str:
    while isinstance(fn, functools.partial):
        fn = fn.func
    return getattr(fn, "__name__", type(fn).__name__)
