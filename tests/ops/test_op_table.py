"""Every op of the table against PyTorch, `jax.grad` of itself, central differences, and its own other forms."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from calls import (
    FUNCTIONS,
    arguments,
    arrays_of,
    cotangent,
    differences,
    flat,
    loose,
    name_of,
    of_tracer,
    run,
    theirs,
    to_numpy,
    usable,
)
from samples import COMPOSED, REGISTRY, UNCERTAIN, WITHOUT, Const

import tracegrad
from tracegrad._ops._declare import table

NAMES = sorted(n for n in FUNCTIONS if n in REGISTRY)
every_op = pytest.mark.parametrize("name", NAMES)


def test_every_op_has_samples():
    assert sorted(set(table) - set(REGISTRY) - set(WITHOUT)) == []


@pytest.mark.oracle
@every_op
def test_matches_pytorch(name):
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle: pip install -e .[oracle]")
    fn = theirs(torch, name)
    assert fn is not None, f"PyTorch has no {name}"
    problems = []
    samples = REGISTRY[name]
    for a, b in zip(run(tracegrad, FUNCTIONS[name], samples), run(torch, fn, samples)):
        what = f"{name}{a.sample!r}"
        if a.error is not None or b.error is not None:
            if type(a.error) is not type(b.error):
                problems.append(f"{what}: raises {a.error!r} and {b.error!r}")
            continue
        if len(a.outs) != len(b.outs):
            problems.append(f"{what}: {len(a.outs)} and {len(b.outs)} results")
            continue
        for x, y in zip(a.outs, b.outs):
            if not hasattr(y, "detach"):
                problems += differences(x, y, what)
                continue
            if name not in UNCERTAIN:
                problems += differences(x, y, what)
            elif (name_of(x.dtype), tuple(x.shape)) != (name_of(y.dtype), tuple(y.shape)):
                problems.append(f"{what}: {x.dtype}{x.shape} and {y.dtype}{y.shape}")
            if x.requires_grad != y.requires_grad:
                problems.append(f"{what}: requires_grad is {x.requires_grad} and {y.requires_grad}")
            elif name not in COMPOSED and repr(x.grad_fn).split()[0] != repr(y.grad_fn).split()[0]:
                problems.append(f"{what}: grad_fn is {x.grad_fn} and {y.grad_fn}")
        leaves = [t for t in a.leaves if t.requires_grad]
        for i, (x, y, leaf) in enumerate(zip(a.grads or (), b.grads or (), leaves)):
            if (x is None) != (y is None):  # one of them says zero so
                zero = np.zeros_like(to_numpy(leaf))
                x, y = (zero if g is None else to_numpy(g) for g in (x, y))
            problems += differences(x, y, f"{what}: gradient {i}", 10 * loose(a))
    assert not problems, "tracegrad and PyTorch differ\n" + "\n".join(problems)


@every_op
def test_pending_is_materialised(name):
    if name in UNCERTAIN:
        pytest.skip("its values are undefined")
    problems = []
    samples = usable(name)[:5]
    lazy, read = (run(tracegrad, FUNCTIONS[name], samples, read=r) for r in (False, True))
    for a, b in zip(lazy, read):
        assert repr(a.error) == repr(b.error)
        assert a.error is None or "is not implemented" in str(a.error), a.error
        for x, y in [*zip(a.outs, b.outs), *zip(a.grads or (), b.grads or ())]:
            problems += differences(x, y, f"{name}{a.sample!r}", 10 * loose(a))
    assert not problems, "pending and materialised differ\n" + "\n".join(problems)


def differentiable(name):
    """Return the samples with a gradient, the calls that gave it, and the numbers of the float64 tensors of each."""
    found = []
    samples = [s for s in usable(name) if s.smooth and any(a.dtype == np.float64 for a in arrays_of(s))][:5]
    for call in run(tracegrad, FUNCTIONS[name], samples):
        real = all(not hasattr(t, "detach") or not t.requires_grad or t.dtype == tracegrad.float64 for t in call.outs)
        if call.grads is not None and real and all(a.dtype.kind != "c" for a in call.arrays):
            found.append((call, [i for i, a in enumerate(call.arrays)
                                 if a.dtype == np.float64 and not isinstance(a, Const)]))
    return found


def loss(name, sample, tensors):
    """Return the products of the results that want gradients with their cotangents, summed, and their shapes."""
    args, kwargs = arguments(tracegrad, sample, tensors)
    outs = [t for t in flat(FUNCTIONS[name](*args, **kwargs)) if t.dtype.is_floating_point]
    return outs, [tracegrad.tensor(cotangent(t.shape, name_of(t.dtype), n)) for n, t in enumerate(outs)]


@every_op
def test_gradient_is_that_of_jax(name):
    """The tape's gradient is what ``jax.grad`` says about the op run inside JAX."""
    found = differentiable(name)
    if not found:
        pytest.skip("not differentiable")
    with jax.enable_x64(True):

        def total(arrays):
            result = 0.0
            for (call, numbers), given in zip(found, arrays):
                tensors = [tracegrad.tensor(a) for a in call.arrays]
                for i, tracer in zip(numbers, given):
                    tensors[i] = of_tracer(tracegrad, tensors[i], tracer)
                outs, cts = loss(name, call.sample, tensors)
                for t, c in zip(outs, cts):
                    result = result + (t.jax() * c.jax()).sum()
            return result

        gradients = jax.jit(jax.grad(total))([[call.arrays[i] for i in numbers] for call, numbers in found])
    problems = []
    for (call, numbers), expected in zip(found, gradients):
        leaves = [i for i, t in enumerate(call.leaves) if t.requires_grad]
        for i, e in zip(numbers, expected):
            mine = call.grads[leaves.index(i)]
            mine = np.zeros(e.shape) if mine is None else to_numpy(mine)
            problems += differences(mine, np.asarray(e), f"{name}{call.sample!r}: gradient {i}", 10 * loose(call))
    assert not problems, "the tape and jax.grad differ\n" + "\n".join(problems)


@every_op
def test_gradient_is_that_of_central_differences(name):
    found = differentiable(name)
    if not found:
        pytest.skip("not differentiable")
    eps, rng = 1e-6, np.random.default_rng(0)
    steps = [[rng.normal(size=a.shape) * (a.dtype == np.float64) for a in call.arrays] for call, _ in found]

    def at(sign):
        sums = []
        with tracegrad.no_grad():
            for (call, numbers), step in zip(found, steps):
                moved = [a + sign * eps * d if i in numbers else a for i, (a, d) in enumerate(zip(call.arrays, step))]
                outs, cts = loss(name, call.sample, [tracegrad.tensor(np.asarray(a)) for a in moved])
                sums.append([(t * c).sum() for t, c in zip(outs, cts)])
        return [sum(t.item() for t in s) for s in sums]

    problems = []
    for (call, numbers), step, up, down in zip(found, steps, at(1), at(-1)):
        leaves = [i for i, t in enumerate(call.leaves) if t.requires_grad]
        slope = 0.0
        for i in numbers:
            g = call.grads[leaves.index(i)]
            slope += 0.0 if g is None else float(np.sum(to_numpy(g) * step[i]))
        expected = (up - down) / (2 * eps)
        if np.isfinite(expected) and not np.isclose(slope, expected, 1e-4, 1e-5):
            problems.append(f"{name}{call.sample!r}: {slope} and {expected}")
    assert not problems, "the gradient and central differences differ\n" + "\n".join(problems)


@every_op
def test_function_is_method_is_inplace(name):
    row = table.get(name)
    if name in UNCERTAIN or row is None:
        pytest.skip("its values are undefined" if row else "an operator alone")
    samples = [s for s in usable(name) if s.args and isinstance(s.args[0], np.ndarray)]
    problems = []
    plain = run(tracegrad, FUNCTIONS[name], samples, gradients=False)
    forms = {}
    if row.method:
        forms["method"] = lambda x, *args, **kwargs: getattr(x, name)(*args, **kwargs)
    if row.inplace and hasattr(tracegrad.Tensor, name + "_"):
        forms["in-place"] = lambda x, *args, **kwargs: check_written(x, getattr(x, name + "_")(*args, **kwargs))
    for form, fn in forms.items():
        for a, b in zip(plain, run(tracegrad, fn, samples, gradients=False)):
            what = f"{form} {name}{a.sample!r}"
            if form == "in-place":
                x, out = a.leaves[0], a.outs[0]
                fits = x.shape == out.shape and out.dtype.category <= x.dtype.category
                if fits != (b.error is None):
                    problems.append(f"{what}: fits is {fits}, raised {b.error!r}")
                if not fits or b.error is not None:
                    continue
                problems += differences(out.to(x.dtype), b.outs[0], what)
                continue
            if b.error is not None:
                problems.append(f"{what}: raised {b.error!r}")
                continue
            for x, y in zip(a.outs, b.outs):
                problems += differences(x, y, what)
    assert not problems, "forms differ\n" + "\n".join(problems)


def check_written(x, result):
    assert result is x, "an in-place op returns the tensor itself"
    return result
