"""The second gradients of every differentiable op of the table, against PyTorch's and against central differences.

What ``gradgradcheck`` does in float64, along one direction, in one program an op that runs three times; for one sample
of each op, and by the slow command for all. The first gradients are compared so in `test_op_table`.
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
#: PyTorch says that the derivative of their backward is not implemented; here there is one.
ONCE_IN_PYTORCH = {"cdist", "pdist", "hardsigmoid", "scaled_dot_product_attention"}
#: They read one triangle. PyTorch's first gradients are full matrices all the same, so by the other triangle the second
#: ones depend on how the formula of the first is written.
TRIANGLES = {"cholesky_inverse", "cholesky_solve"}
#: Their programs take seconds to compile, so they are left to the slow command.
LARGE = {"matrix_exp", "zeta"}


def wants(a):
    return not isinstance(a, Const) and a.dtype in (np.float64, np.complex128)


def samples_of(name):
    """Return samples in double precision with a tensor to differentiate by, smooth ones where there are such."""
    found = [s for s in usable(name) if any(map(wants, arrays_of(s)))
             and all(wants(a) or a.dtype.kind not in "fc" or isinstance(a, Const) for a in arrays_of(s))
             and all(a.size for a in arrays_of(s))]  # fmt: skip
    return [s for s in found if s.smooth] or found


def second(lib, fn, sample, arrays):
    """Return the first gradients, and theirs with respect to operands and cotangents; or the error."""
    leaves = [lib.tensor(np.asarray(a)) for a in arrays]
    wanting = [t.requires_grad_() for t, a in zip(leaves, arrays_of(sample)) if wants(a)]
    args, kwargs = arguments(lib, sample, leaves)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            roots = [t for t in flat(fn(*args, **kwargs)) if hasattr(t, "detach") and t.requires_grad]
            cts = [lib.tensor(cotangent(t.shape, name_of(t.dtype), n)).requires_grad_() for n, t in enumerate(roots)]
            if not roots:
                return [], []
            gradients = list(lib.autograd.grad(roots, wanting, cts, create_graph=True, allow_unused=True))
            again = [g for g in gradients if g is not None and g.requires_grad]
            if not again:
                return gradients, []
            weights = [lib.tensor(weight(g, n)) for n, g in enumerate(again)]
            return gradients, list(lib.autograd.grad(again, [*wanting, *cts], weights, allow_unused=True))
    except (RuntimeError, NotImplementedError) as error:
        return error


def weight(g, n):
    """Return the cotangent of the first gradient ``g``, the ``n``-th that can be differentiated again."""
    return cotangent(g.shape, name_of(g.dtype), 20 + n)


def results(name, samples, arrays):
    return [second(tracegrad, FUNCTIONS[name], *pair) for pair in zip(samples, arrays)]


@pytest.mark.parametrize("name", [n for n in NAMES if n not in LARGE])
def test_second_gradient(name):
    check(name, samples_of(name)[:1])


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_second_gradient_of_all_samples(name):
    check(name, samples_of(name))


def check(name, samples):
    ours = results(name, samples, map(arrays_of, samples))
    if not any(isinstance(r, Exception) or r[0] for r in ours):
        pytest.skip("not differentiable")
    refused = [r for r in ours if isinstance(r, Exception)]
    problems = against_differences(name, samples, ours)
    try:
        import torch
    except ImportError:
        # What PyTorch refuses too shows where it is installed; without it, only the words are known.
        assert all("derivative for aten::" in str(r) or "is not implemented" in str(r) for r in refused), refused
    else:
        problems += against_pytorch(name, samples, ours, torch)
    assert not problems, "second gradients differ\n" + "\n".join(problems)


def against_differences(name, samples, ours):
    """Compare the second gradients with how the first ones change along one direction."""
    rng = np.random.default_rng(1)
    steps = [[rng.normal(size=a.shape) if wants(a) else None for a in arrays_of(s)] for s in samples]
    moved = lambda sign: [[a if d is None else a + sign * EPS * d for a, d in zip(arrays_of(s), step)]  # noqa: E731
                          for s, step in zip(samples, steps)]  # fmt: skip
    up, down = results(name, samples, moved(1)), results(name, samples, moved(-1))
    problems = []
    for sample, at, *ends, step in zip(samples, ours, up, down, steps):
        real = sample.smooth and all(a.dtype.kind != "c" for a in arrays_of(sample))
        if not real or any(isinstance(r, Exception) for r in (at, *ends)) or not at[1]:
            continue
        again = [i for i, g in enumerate(at[0]) if g is not None and g.requires_grad]
        change = [(to_numpy(ends[0][0][i]) - to_numpy(ends[1][0][i])) / (2 * EPS) for i in again]
        expected = sum(np.sum(weight(at[0][i], n) * c) for n, (i, c) in enumerate(zip(again, change)))
        directions = [d for d in step if d is not None]
        slope = sum(np.sum(to_numpy(g) * d) for g, d in zip(at[1], directions) if g is not None)
        if np.isfinite(expected) and not np.isclose(slope, expected, 1e-4, 1e-5):
            problems.append(f"{name}{sample!r}: {slope}, by central differences {expected}")
    return problems


def against_pytorch(name, samples, ours, torch):
    problems = []
    for sample, mine in zip(samples, ours):
        what = f"{name}{sample!r}"
        other = second(torch, theirs(torch, name), sample, arrays_of(sample))
        if isinstance(mine, Exception) or isinstance(other, Exception):
            known = name in ONCE_IN_PYTORCH and "is not implemented" in str(other)
            if type(mine) is not type(other) and not known:
                problems.append(f"{what}: {mine!r:.300} and {other!r:.300}")
            continue
        for kind, (xs, ys) in zip(("first", "second"), zip(mine, other)):
            for x, y in zip(xs or [None] * len(ys), ys or [None] * len(xs)):
                if (x is None) != (y is None):  # one of them says zero so
                    zero = np.zeros_like(to_numpy(y if x is None else x))
                    x, y = (zero if g is None else to_numpy(g) for g in (x, y))
                elif x is not None and name in TRIANGLES and kind == "second":
                    half = np.triu if sample.args[-1] is True else np.tril
                    x, y = (half(to_numpy(g)) for g in (x, y))
                problems += differences(x, y, f"{what}: {kind} gradient", 100)
    return problems
