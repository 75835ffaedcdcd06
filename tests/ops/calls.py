"""Running the samples of an op in any library, in phases that they share: an op costs a few programs, not hundreds."""

from __future__ import annotations

import operator
import warnings
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np
import samples_elements  # noqa: F401 (enters its samples)
import samples_functions  # noqa: F401
import samples_matrices  # noqa: F401
from samples import REGISTRY, Const, Dtype, Sample

from tracegrad._ops._declare import table

#: name -> the function, of every op of the table and of those that only have an operator.
FUNCTIONS: dict[str, Any] = {**{n: row.function for n, row in table.items()}, "getitem": operator.getitem}


@dataclass
class Call:
    """One sample in one library: its tensors, then what became of it."""

    sample: Sample
    arrays: list[np.ndarray]  # of the tensors among the arguments, in order
    leaves: list[Any] = field(default_factory=list)
    error: Exception | None = None
    outs: list[Any] = field(default_factory=list)
    grads: list[Any] | None = None


def arrays_of(sample: Sample) -> list[np.ndarray]:
    found: list[np.ndarray] = []
    _map(sample.args, sample.kwargs, found.append)
    return found


def _map(args: Any, kwargs: Any, of: Any, dtype: Any = None) -> tuple[tuple[Any, ...], dict[str, Any]]:
    def one(x: Any) -> Any:
        if isinstance(x, np.ndarray):
            return of(x)
        if isinstance(x, Dtype):
            return dtype(x) if dtype else x
        if isinstance(x, list):
            return [one(y) for y in x]
        if isinstance(x, tuple):
            return tuple(map(one, x))
        return x

    return tuple(map(one, args)), {k: one(v) for k, v in kwargs.items()}


def arguments(lib: Any, sample: Sample, tensors: list[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    feed = iter(tensors)
    return _map(sample.args, sample.kwargs, lambda _: next(feed), lambda name: getattr(lib, name))


def cotangent(shape: Any, dtype: str, n: int = 0) -> np.ndarray:
    rng = np.random.default_rng(7 + n)
    a = rng.normal(size=tuple(shape))
    return np.asarray(a + 1j * rng.normal(size=tuple(shape)) if "complex" in dtype else a, dtype)


def name_of(dtype: Any) -> str:
    return str(dtype).removeprefix("torch.")


def flat(out: Any) -> list[Any]:
    return [y for x in out for y in flat(x)] if isinstance(out, (tuple, list)) else [out]


def theirs(torch: Any, name: str) -> Any:
    """Return PyTorch's function of that name."""
    if name == "getitem":
        return operator.getitem
    if name in ("im2col", "col2im"):
        return torch.nn.functional.unfold if name == "im2col" else torch.nn.functional.fold
    for space in (torch.nn.functional, torch, torch.Tensor, torch.special, torch.fft):
        if callable(getattr(space, name, None)) and (name, space) not in ((("unfold", torch.nn.functional),)):
            return getattr(space, name)
    return None


def run(lib: Any, fn: Any, samples: list[Sample], read: bool = False, arrays: list[list[np.ndarray]] | None = None,
        gradients: bool = True) -> list[Call]:  # fmt: skip
    """Call ``fn`` on every sample. ``read``: every tensor is read as soon as there is one."""
    calls = [Call(s, a) for s, a in zip(samples, arrays or map(arrays_of, samples))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        operands = []
        for c in calls:
            c.leaves = [lib.tensor(np.asarray(a)) for a in c.arrays]
            for t, a in zip(c.leaves, c.arrays):
                if gradients and a.dtype.kind in "fc" and not isinstance(a, Const):
                    t.requires_grad_()
            operands.append([t * 1 if t.requires_grad and read else t for t in c.leaves])
        if read:
            _ = [t.detach().tolist() for ts in operands for t in ts]
        for c, tensors in zip(calls, operands):
            try:
                args, kwargs = arguments(lib, c.sample, tensors)
                c.outs = flat(fn(*args, **kwargs))
            except Exception as error:
                c.error = error
        if read:
            _ = [t.detach().tolist() for c in calls for t in c.outs if hasattr(t, "detach")]
        for c in calls if gradients else ():
            roots = [t for t in c.outs if hasattr(t, "detach") and t.requires_grad]
            leaves = [t for t in c.leaves if t.requires_grad]
            if roots:
                cts = [lib.tensor(cotangent(t.shape, name_of(t.dtype), n)) for n, t in enumerate(roots)]
                try:
                    c.grads = list(lib.autograd.grad(roots, leaves, cts, allow_unused=True))
                except Exception as error:
                    c.error = error
    return calls


def to_numpy(t: Any) -> Any:
    if t is None or not hasattr(t, "detach"):
        return t
    t = t.detach()
    if getattr(t, "_is_zerotensor", bool)():  # PyTorch's zeros without elements
        return np.zeros(tuple(t.shape), name_of(t.dtype))
    t = t.resolve_conj() if hasattr(t, "resolve_conj") else t
    return np.asarray(t.tolist(), name_of(t.dtype)).reshape(tuple(t.shape))


def loose(call: Call) -> float:
    """Return how much looser to compare: where any operand is float32, so is much of the arithmetic."""
    return 2e4 if any(a.dtype == np.float32 for a in call.arrays) else 1.0


def differences(a: Any, b: Any, what: str, loose: float = 1.0) -> list[str]:
    """Return how two results differ, in words."""
    a, b = to_numpy(a), to_numpy(b)
    if a is None or b is None or not isinstance(a, np.ndarray) or not isinstance(b, np.ndarray):
        same = a is b or (type(a) is type(b) and a == b)
        return [] if same else [f"{what}: {a} and {b}"]
    if a.dtype != b.dtype or a.shape != b.shape:
        return [f"{what}: {a.dtype}{list(a.shape)} and {b.dtype}{list(b.shape)}"]
    single = str(a.dtype) in ("float32", "complex64")
    tolerance = 2e-5 * min(loose, 2) if single else 1e-9 * loose
    if a.dtype.kind in "fc":
        same = np.allclose(a, b, tolerance, tolerance, equal_nan=True)
    else:
        same = np.array_equal(a, b)
    return [] if same else [f"{what}: {a.tolist()} and {b.tolist()}"]


def usable(name: str) -> list[Sample]:
    """Return the samples that the op takes, found by recording them all once."""
    import tracegrad

    if name not in _usable:
        calls = run(tracegrad, FUNCTIONS[name], REGISTRY[name], gradients=False)
        _usable[name] = [c.sample for c in calls if c.error is None]
    return _usable[name]


_usable: dict[str, list[Sample]] = {}


def of_tracer(tracegrad: Any, like: Any, tracer: Any) -> Any:
    """Return a tensor that holds a JAX tracer."""
    _, structure = jax.tree_util.tree_flatten(like)
    return jax.tree_util.tree_unflatten(structure, [tracer])
