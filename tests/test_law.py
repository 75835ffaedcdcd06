"""The law: results never depend on whether, where or how a flush happened, nor on the state of a cache.

Random programs run lazily, with reads at random points, op by op in ``eager()``, from cold and from warm caches, in
jax.numpy with ``jax.grad``, and in PyTorch.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _programs import Seen, compare, programs, run
from _reference import Reference
from hypothesis import HealthCheck, Phase, given, settings

import tracegrad


def law(examples):
    """Settings of one test; the phase that explains failures is left out, as it only compiles more programs."""
    return settings(max_examples=examples, deadline=None, derandomize=True, database=None, print_blob=False,
                    suppress_health_check=list(HealthCheck),
                    phases=(Phase.explicit, Phase.generate, Phase.shrink))  # fmt: skip


def oracle():
    return pytest.importorskip("torch", reason="PyTorch is the oracle: pip install -e .[oracle]")


def check_reads(program):
    lazy = run(program, tracegrad)
    compare(lazy, run(program, tracegrad, read=True), "lazy and with reads")
    compare(lazy, run(program, tracegrad), "first and second run")


def check_eager(program):
    with tracegrad.eager():
        eager = run(program, tracegrad)
    compare(run(program, tracegrad), eager, "lazy and eager()")


def check_caches(program):
    warm = run(program, tracegrad, read=True)
    tracegrad.clear_caches()
    compare(warm, run(program, tracegrad, read=True), "warm and cold")
    compare(warm, run(program, tracegrad, read=True), "warm and warm again")


def check_jax(program):
    lazy = run(program, tracegrad)
    expected = Seen({n: (v, f"torch.{v.dtype}", v.shape, *lazy.tensors[n][3:5], g)
                     for n, (v, g) in reference(program).items()}, {})  # fmt: skip
    only = Seen({n: (*x[:5], x[5] if n in program.wanted else None) for n, x in lazy.tensors.items()}, lazy.errors)
    compare(only, expected, "tracegrad and jax.grad")


def reference(program):
    """Run ``program`` in jax.numpy: each tensor's value, and the gradient of those that want one."""
    with jax.enable_x64(True):
        torch = Reference(jnp)
        space = {"torch": torch}
        exec("\n".join(line for line in program.lines[:-1]), space)
        values = {n: np.asarray(c.a) for n, c in space.items() if hasattr(c, "a")}
        leaves = torch.leaves

        def loss(arrays):
            torch = Reference(jnp)
            torch.given = arrays
            inner = {"torch": torch}
            exec("\n".join(line for line in program.lines[:-1]), inner)
            return inner["loss"].a.astype("float64").sum()

        gradients = jax.grad(loss)(leaves) if leaves else []
    found = dict(zip(program.wanted, map(np.asarray, gradients)))
    return {n: (v, found.get(n)) for n, v in values.items()}


def check_pytorch(program):
    torch = oracle()
    theirs = run(program, torch)
    stop = None
    for number, (_, message) in sorted(theirs.errors.items()):
        if "modified by an inplace operation" in message or "a second time" in message:
            stop = number  # there tracegrad is right instead; here PyTorch has run half of its backward
            ours = run(program, tracegrad, stop_at=number + 1)
            if "a second time" in message:
                assert number in ours.errors, f"tracegrad does not raise on line {number}: {message}"
            break
    if stop is not None:
        theirs = run(program, torch, stop_at=stop)
    compare(run(program, tracegrad, stop_at=stop), theirs, "tracegrad and PyTorch")


@law(60)
@given(programs())
def test_reads_change_nothing(program):
    check_reads(program)


@law(60)
@given(programs())
def test_eager_is_the_same(program):
    check_eager(program)


@law(20)
@given(programs())
def test_caches_change_nothing(program):
    check_caches(program)


@law(60)
@given(programs(functional=True, errors=False))
def test_jax_says_the_same(program):
    if program.wanted:
        check_jax(program)


@pytest.mark.oracle
@law(120)
@given(programs())
def test_pytorch_says_the_same(program):
    check_pytorch(program)


CHECKS = {"reads": check_reads, "eager": check_eager, "caches": check_caches, "pytorch": check_pytorch}


@pytest.mark.slow
@pytest.mark.parametrize("name", [*CHECKS, "jax"])
def test_ten_times_more(name):
    if name == "pytorch":
        oracle()

    @law(200 if name == "caches" else 600)
    @given(programs(functional=name == "jax", errors=name != "jax", longest=12))
    def more(program):
        if name == "jax":
            test_jax_says_the_same.hypothesis.inner_test(program)
        else:
            CHECKS[name](program)

    more()
