"""The law: results never depend on whether, where or how a flush happened, nor on the state of a cache.

Random programs run lazily, with reads at random points, op by op in ``eager()``, from cold and from warm caches, in
PyTorch, and, those that are functions, in jax.numpy with ``jax.grad``. They write through views and by index, hook
gradients, call custom Functions, branch on values, and go backward several times.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _programs import programs
from _reference import Reference
from _runs import Seen, compare, run
from hypothesis import HealthCheck, Phase, given, settings

import tracegrad


def law(examples):
    """Settings of one test; the phase that explains failures is left out, as it only compiles more programs."""
    return settings(max_examples=examples, deadline=None, derandomize=True, database=None, print_blob=False,
                    suppress_health_check=list(HealthCheck),
                    phases=(Phase.explicit, Phase.generate, Phase.shrink))  # fmt: skip


def oracle():
    return pytest.importorskip("torch", reason="PyTorch is the oracle: pip install -e .[oracle]")


def check_ways(program):
    lazy = run(program, tracegrad)
    compare(lazy, run(program, tracegrad), "first and second run")
    compare(lazy, run(program, tracegrad, read=True), "lazy and with reads")
    with tracegrad.eager():
        eager = run(program, tracegrad)
    compare(lazy, eager, "lazy and eager()")


def check_caches(program):
    warm = run(program, tracegrad, read=True)
    tracegrad.clear_caches()
    compare(warm, run(program, tracegrad, read=True), "warm and cold")
    compare(warm, run(program, tracegrad, read=True), "warm and warm again")


def check_jax(program):
    lazy = run(program, tracegrad)
    assert not lazy.errors, lazy.errors
    tensors = {n: (*x[:5], x[5] if n in program.wanted else None, None) for n, x in lazy.tensors.items()}
    expected = {n: (v, f"torch.{v.dtype}", v.shape, *tensors[n][3:5], g, None)
                for n, (v, g) in reference(program).items()}  # fmt: skip
    compare(Seen(tensors, {}), Seen(expected, {}), "tracegrad and jax.grad")


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
    stop = theirs.stop
    if theirs.raises:  # PyTorch has run half of its backward then
        ours = run(program, tracegrad, stop=stop + 1)
        assert stop in ours.errors, f"tracegrad does not raise on line {stop}"
    compare(run(program, tracegrad, stop=stop), theirs, "lazy and PyTorch")
    compare(run(program, tracegrad, read=True, stop=stop), theirs, "with reads and PyTorch")


@law(25)
@given(programs())
def test_every_way_is_the_same(program):
    check_ways(program)


@law(10)
@given(programs())
def test_caches_change_nothing(program):
    check_caches(program)


@law(40)
@given(programs(functional=True))
def test_jax_says_the_same(program):
    if program.wanted:
        check_jax(program)


@pytest.mark.oracle
@law(40)
@given(programs())
def test_pytorch_says_the_same(program):
    check_pytorch(program)


CHECKS = {"ways": check_ways, "caches": check_caches, "pytorch": check_pytorch}


@pytest.mark.slow
@pytest.mark.parametrize("name", [*CHECKS, "jax"])
def test_ten_times_more(name):
    if name == "pytorch":
        oracle()

    @law({"caches": 100, "ways": 250}.get(name, 400))
    @given(programs(functional=name == "jax", longest=14))
    def more(program):
        if name == "jax":
            test_jax_says_the_same.hypothesis.inner_test(program)
        else:
            CHECKS[name](program)

    more()
