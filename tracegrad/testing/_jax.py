"""Gradients of imperative code against those that JAX finds.

Example:
    >>> import tracegrad as torch
    >>> from tracegrad.testing import assert_matches_jax
    >>> assert_matches_jax(lambda x, y: (x * y).sum(), torch.ones(3), torch.arange(3.0))
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tracegrad._ops.creation import tensor
from tracegrad._tensor import Tensor
from tracegrad.autograd import backward

#: How far a result may be from JAX's, relative and absolute, by the coarsest dtype involved.
TOLERANCES = {"bfloat16": 5e-2, "float16": 1e-2, "float32": 1e-5, "float64": 1e-9}


def assert_matches_jax(
    function: Callable[..., Any],
    *args: Any,
    jax_function: Callable[..., Any] | None = None,
    rtol: float | None = None,
    atol: float | None = None,
) -> None:
    """Check the values and gradients of ``function`` against those of the same function in JAX.

    ``function`` runs imperatively, on fresh tensors with the elements of ``args``, and is differentiated by
    ``backward``; ``jax_function`` runs on arrays and is differentiated by JAX. An output that is no scalar is
    differentiated along a fixed random cotangent. Complex gradients are compared in PyTorch's convention, the
    conjugate of JAX's. An argument that no gradient reaches counts as one with a gradient of zeros.

    Args:
        function: takes tensors, returns a tensor or a tuple of them.
        args: tensors or NumPy arrays; the floating-point and complex ones are differentiated. Anything else is
            handed to both functions as it is.
        jax_function: the same in ``jax.numpy``. When None, ``function`` itself is called with arrays, for
            functions written in operators and in methods that tensors and arrays share.
        rtol: the relative tolerance; by dtype when None.
        atol: the absolute tolerance; by dtype when None.

    Raises:
        AssertionError: names the output, or the argument whose gradient differs, and where it differs most.

    Example:
        >>> import jax.numpy as jnp
        >>> import tracegrad as torch
        >>> from tracegrad.testing import assert_matches_jax
        >>> x = torch.linspace(0.0, 1.0, 5)
        >>> assert_matches_jax(lambda x: torch.exp(x).sum(), x, jax_function=lambda x: jnp.exp(x).sum())
    """
    places = [i for i, x in enumerate(args) if isinstance(x, (Tensor, np.ndarray, jax.Array))]
    given = {i: _to_numpy(args[i]) for i in places}
    wanted = [i for i in places if _is_inexact(given[i])]

    tensors = {i: tensor(a).requires_grad_(i in wanted) for i, a in given.items()}
    outs = _as_tuple(function(*(tensors.get(i, x) for i, x in enumerate(args))))

    with jax.enable_x64(True):
        arrays = {i: jnp.asarray(a) for i, a in given.items()}

        def of_wanted(*inputs: Any) -> tuple[Any, ...]:
            full = {**arrays, **dict(zip(wanted, inputs))}
            found = (jax_function or function)(*(full.get(i, x) for i, x in enumerate(args)))
            return tuple(jnp.asarray(a) for a in _as_tuple(found))

        expected, pullback = jax.vjp(of_wanted, *(arrays[i] for i in wanted))

    dtypes = [a.dtype for a in (*given.values(), *expected) if _is_inexact(a)]
    default = max((TOLERANCES[np.empty(0, d).real.dtype.name] for d in dtypes), default=0.0)
    tolerance = (default if rtol is None else rtol, default if atol is None else atol)

    if len(outs) != len(expected):
        raise AssertionError(
            f"assert_matches_jax: got {len(outs)} outputs, JAX's function returns {len(expected)}")
    for i, (out, value) in enumerate(zip(outs, expected)):
        where = "the value" if len(outs) == 1 else f"output {i}"
        if not isinstance(out, Tensor):
            raise AssertionError(f"assert_matches_jax: {where} is no tensor but {type(out).__name__}")
        _compare(where, _to_numpy(out), np.asarray(value), tolerance)

    cotangents = [_cotangent(a, i) for i, a in enumerate(expected)]
    pulled = [(out, tensor(c)) for out, c in zip(outs, cotangents) if out.requires_grad]
    if pulled:
        backward([out for out, _ in pulled], [c for _, c in pulled])
    with jax.enable_x64(True):
        gradients = pullback(tuple(jnp.conj(c) if _is_inexact(c) else c for c in cotangents))
    names = _names(function, len(args))
    for i, gradient in zip(wanted, gradients):
        found = tensors[i].grad
        got = np.zeros_like(given[i]) if found is None else _to_numpy(found)
        _compare(f"the gradient of argument {i} ({names[i]})", got, np.conj(np.asarray(gradient)), tolerance)


def _compare(where: str, got: np.ndarray[Any, Any], expected: np.ndarray[Any, Any],
             tolerance: tuple[float, float]) -> None:  # fmt: skip
    if got.shape != expected.shape:
        raise AssertionError(f"assert_matches_jax: {where} has shape {got.shape}, JAX's has {expected.shape}")
    wide = np.complex128 if np.iscomplexobj(got) or np.iscomplexobj(expected) else np.float64
    ours, theirs = got.astype(wide), expected.astype(wide)
    rtol, atol = tolerance
    close = np.isclose(ours, theirs, rtol, atol, equal_nan=True)
    if close.all():
        return
    with np.errstate(invalid="ignore"):
        error = np.where(close, -1.0, np.nan_to_num(abs(ours - theirs), nan=np.inf))
    worst = np.unravel_index(int(error.argmax()), error.shape)
    index = f" at index {tuple(map(int, worst))}" if worst else ""
    raise AssertionError(
        f"assert_matches_jax: {where} differs from JAX's in {int((~close).sum())} of {close.size} elements, "
        f"most{index}: got {ours[worst]}, expected {theirs[worst]} (rtol={rtol:g}, atol={atol:g})")


def _to_numpy(x: Any) -> np.ndarray[Any, Any]:
    return np.array(x.detach().jax() if isinstance(x, Tensor) else x)


def _is_inexact(a: Any) -> bool:
    return bool(jnp.issubdtype(a.dtype, jnp.inexact))


def _as_tuple(x: Any) -> tuple[Any, ...]:
    return tuple(x) if isinstance(x, (tuple, list)) else (x,)


def _cotangent(of: Any, index: int) -> np.ndarray[Any, Any]:
    """Return ones for a real scalar, as ``backward()`` takes them, and fixed random numbers otherwise."""
    if not _is_inexact(of):
        return np.zeros(of.shape, jax.dtypes.float0)
    if of.shape == () and not np.iscomplexobj(of):
        return np.ones((), of.dtype)
    random = np.random.default_rng(index)
    drawn = random.standard_normal(of.shape)
    if np.iscomplexobj(of):
        drawn = drawn + 1j * random.standard_normal(of.shape)
    return np.asarray(drawn).astype(of.dtype)


def _names(function: Callable[..., Any], count: int) -> list[str]:
    """Return how ``function`` calls its first arguments."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    names = []
    for i in range(count):
        if i < len(parameters) and parameters[i].kind is not inspect.Parameter.VAR_POSITIONAL:
            names.append(parameters[i].name)
        else:
            names.append(f"{parameters[-1].name}[{i - len(parameters) + 1}]" if parameters else f"args[{i}]")
    return names
