"""The second gradients of every differentiable op of the table, against PyTorch's and against central differences.

What ``gradgradcheck`` does in float64, along one direction and for all samples of an op in two programs; the first
gradients are compared so in `test_op_table`.
"""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from calls import FUNCTIONS, arguments, arrays_of, cotangent, differences, flat, name_of, theirs, to_numpy, usable
from samples import REGISTRY, UNCERTAIN, Const

import tracegrad

NAMES = sorted(n for n in FUNCTIONS if n in REGISTRY and n not in UNCERTAIN)
EPS = 1e-6


def wants(a):
    return not isinstance(a, Const) and a.dtype in (np.float64, np.complex128)


def samples_of(name):
    """Return samples with a tensor to differentiate by, away from kinks where there are such, of few shapes."""
    found = [s for s in usable(name) if any(map(wants, arrays_of(s)))
             and not any(a.dtype in (np.float32, np.complex64, np.float16) or not a.size for a in arrays_of(s))]  # fmt: skip
    return ([s for s in found if s.smooth] or found)[:3]


def first(lib, fn, sample, arrays, create_graph=True):
    """Return the tensors to differentiate by, and the gradients of the op's results there."""
    leaves = [lib.tensor(np.asarray(a)) for a in arrays]
    wanting = [t.requires_grad_() for t, a in zip(leaves, arrays_of(sample)) if wants(a)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        args, kwargs = arguments(lib, sample, leaves)
        roots = [t for t in flat(fn(*args, **kwargs)) if hasattr(t, "detach") and t.requires_grad]
        if not roots:
            return wanting, []
        cts = [lib.tensor(cotangent(t.shape, name_of(t.dtype), n)).requires_grad_() for n, t in enumerate(roots)]
        gradients = lib.autograd.grad(roots, wanting, cts, create_graph=create_graph, allow_unused=True)
    return [*wanting, *cts], list(gradients)


def second(lib, fn, sample):
    """Return the gradients of the first gradients with respect to operands and cotangents, or the error."""
    wanting, gradients = first(lib, fn, sample, arrays_of(sample))
    roots = [g for g in gradients if g is not None and g.requires_grad]
    if not roots:
        return gradients, [None] * len(wanting)
    cts = [lib.tensor(cotangent(g.shape, name_of(g.dtype), 20 + n)) for n, g in enumerate(roots)]
    return gradients, list(lib.autograd.grad(roots, wanting, cts, allow_unused=True))


def outcome(lib, fn, sample):
    try:
        return second(lib, fn, sample)
    except (RuntimeError, NotImplementedError) as error:
        return error


def slopes(name, found):
    """Return, by central differences, how the first gradients change along one direction, times the cotangents."""
    rng = np.random.default_rng(1)
    steps = [[rng.normal(size=a.shape) * wants(a) for a in arrays_of(s)] for s, _ in found]
    sums = []
    for sign in (1, -1):
        at = []
        for (sample, _), step in zip(found, steps):
            moved = [np.asarray(a + sign * EPS * d) if wants(a) else a for a, d in zip(arrays_of(sample), step)]
            _, gradients = first(tracegrad, FUNCTIONS[name], sample, moved, create_graph=False)
            at.append(gradients)
        sums.append([[to_numpy(g) for g in gradients] for gradients in at])
    return steps, [[None if u is None else (u - d) / (2 * EPS) for u, d in zip(*pair)] for pair in zip(*sums)]


@pytest.mark.parametrize("name", NAMES)
def test_second_gradient(name):
    found = [(s, outcome(tracegrad, FUNCTIONS[name], s)) for s in samples_of(name)]
    found = [(s, r) for s, r in found if isinstance(r, Exception) or any(g is not None for g in r[0])]
    if not found:
        pytest.skip("not differentiable")
    problems = against_pytorch(name, found)
    real = [(s, r) for s, r in found if not isinstance(r, Exception) and s.smooth
            and all(a.dtype.kind != "c" for a in arrays_of(s)) and any(g is not None and g.requires_grad for g in r[0])]  # fmt: skip
    steps, changes = slopes(name, real)
    for (sample, (gradients, twice)), step, change in zip(real, steps, changes):
        directions = [d for d, a in zip(step, arrays_of(sample)) if wants(a)]
        slope = sum(np.sum(to_numpy(g) * d) for g, d in zip(twice, directions) if g is not None)
        expected, n = 0.0, 0
        for g, c in zip(gradients, change):
            if g is not None and g.requires_grad:
                expected, n = expected + np.sum(cotangent(g.shape, name_of(g.dtype), 20 + n) * c), n + 1
        if np.isfinite(expected) and not np.isclose(slope, expected, 1e-4, 1e-5):
            problems.append(f"{name}{sample!r}: {slope}, by central differences {expected}")
    assert not problems, "second gradients differ\n" + "\n".join(problems)


def against_pytorch(name, found):
    try:
        import torch
    except ImportError:
        return []
    problems = []
    for sample, ours in found:
        what = f"{name}{sample!r}"
        other = outcome(torch, theirs(torch, name), sample)
        if isinstance(ours, Exception) or isinstance(other, Exception):
            if type(ours) is not type(other):
                problems.append(f"{what}: {ours!r:.300} and {other!r:.300}")
            continue
        for kind, a, b in [("first", *p) for p in zip(ours[0], other[0])] + [("second", *p) for p in zip(ours[1], other[1])]:
            if a is None or b is None:
                shape = a if b is None else b
                zero = np.zeros(0 if shape is None else tuple(shape.shape), "float64" if shape is None else name_of(shape.dtype))
                a, b = (zero if g is None else to_numpy(g) for g in (a, b))
            problems += differences(a, b, f"{what}: {kind} gradient", 100)
    return problems
