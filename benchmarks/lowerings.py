"""Times each lowering that has a VJP of its own against what a JAX user writes first.

Run ``python benchmarks/lowerings.py [op ...]``. Each row is the median of 40 jitted runs of forward and backward, in
milliseconds.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from tracegrad import _dtype
from tracegrad._engine.value import aval
from tracegrad._ops import activation, attention, convolution, linear, loss, normalization, pooling

RNG = np.random.default_rng(0)


def array(*shape: int) -> jax.Array:
    return jnp.asarray(RNG.standard_normal(shape), jnp.float32)


def chosen(rule: Callable[..., Any], params: tuple[Any, ...], *operands: Any) -> Callable[..., Any]:
    """Return the lowering that the rule picks for these operands, as a JAX function with its VJP."""
    lowering = rule(*[aval(x.shape, _dtype.from_np(x.dtype)) for x in operands], *params)
    if lowering.forward is None:
        return lowering.fn  # type: ignore[no-any-return]
    function = jax.custom_vjp(lambda *args: lowering.fn(*args))

    def backward(saved: Any, g: Any) -> tuple[Any, ...]:
        found = lowering.backward(saved, g)
        return tuple(np.zeros(x.shape, jax.dtypes.float0) if c is None else c for c, x in zip(found, operands))

    function.defvjp(lowering.forward, backward)
    return function


def step(f: Callable[..., Any], *operands: Any) -> Callable[..., Any]:
    """Return forward and backward with respect to every floating-point operand, as one jitted function."""
    wanted = tuple(i for i, x in enumerate(operands) if jnp.issubdtype(x.dtype, jnp.floating))

    def run(g: Any, *args: Any) -> Any:
        def of_wanted(*floats: Any) -> Any:
            full = list(args)
            for i, x in zip(wanted, floats):
                full[i] = x
            return f(*full)

        y, pull = jax.vjp(of_wanted, *[args[i] for i in wanted])
        return y, pull(g)

    return jax.jit(run)


def medians(functions: list[Callable[..., Any]], *args: Any, runs: int = 40) -> list[float]:
    """Return the median time of each function in milliseconds, run in turns, so that what else runs hits all alike."""
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(runs):
        for f, found in zip(functions, times):
            jax.block_until_ready(f(*args))
            start = time.perf_counter()
            jax.block_until_ready(f(*args))
            found.append(time.perf_counter() - start)
    return [float(np.median(found)) * 1e3 for found in times]


# -- what a JAX user writes first ------------------------------------------------------------------------------------


def plain_conv(x: Any, w: Any) -> Any:
    return lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=("NCHW", "OIHW", "NCHW"))


def plain_max_pool(x: Any) -> Any:
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")


def plain_avg_pool(x: Any) -> Any:
    return lax.reduce_window(x, 0.0, lax.add, (1, 1, 2, 2), (1, 1, 2, 2), "VALID") / 4


def plain_layer_norm(x: Any, w: Any, b: Any) -> Any:
    return (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True) + 1e-5) * w + b


def plain_batch_norm(x: Any, w: Any, b: Any) -> Any:
    mean, var = x.mean((0, 2, 3), keepdims=True), x.var((0, 2, 3), keepdims=True)
    return (x - mean) / jnp.sqrt(var + 1e-5) * w[:, None, None] + b[:, None, None]


def plain_cross_entropy(x: Any, t: Any) -> Any:
    return -jnp.take_along_axis(jax.nn.log_softmax(x), t[:, None], 1).mean()


def plain_attention(q: Any, k: Any, v: Any) -> Any:
    scores = q @ k.swapaxes(-1, -2) / q.shape[-1] ** 0.5
    seen = jnp.tril(jnp.ones(scores.shape[-2:], bool))
    return jax.nn.softmax(jnp.where(seen, scores, -jnp.inf)) @ v


def plain_linear(x: Any, w: Any, b: Any) -> Any:
    return x @ w.T + b


def plain_embedding(i: Any, w: Any) -> Any:
    return w[i]


def cases() -> dict[str, tuple[Callable[..., Any], Callable[..., Any], tuple[Any, ...], tuple[Any, ...]]]:
    """Return the plain function, the rule, its params and its operands, by the name of the row."""
    rows: dict[str, Any] = {}
    scores, hidden = array(4, 4, 128, 128), array(4, 128, 512)
    rows["softmax 4x4x128x128"] = jax.nn.softmax, activation._softmax, (-1, None), (scores,)
    rows["log_softmax 512x65"] = jax.nn.log_softmax, activation._log_softmax, (-1, None), (array(512, 65),)
    rows["gelu tanh 4x128x512"] = jax.nn.gelu, activation._gelu, ("tanh",), (hidden,)
    rows["gelu erf 4x128x512"] = lambda x: jax.nn.gelu(x, False), activation._gelu, ("none",), (hidden,)
    for classes in (10, 65, 5000):
        operands = array(512, classes), RNG.integers(0, classes, 512)
        rows[f"cross_entropy 512x{classes}"] = plain_cross_entropy, loss._cross_entropy, (-100, "mean", 0.0), operands
    operands = array(4, 128, 128), array(128), array(128)
    rows["layer_norm 4x128x128"] = plain_layer_norm, normalization._layer_norm, ((128,), True, True, 1e-5), operands
    for shape in ((64, 16, 28, 28), (32, 64, 16, 16)):
        operands = array(*shape), array(shape[1]), array(shape[1])

        def batch_norm(*given: Any) -> Any:
            return normalization._batch_norm(*given)

        rows["batch_norm " + "x".join(map(str, shape))] = plain_batch_norm, batch_norm, (True, True, 1e-5), operands
    operands = array(4, 128, 128), array(512, 128), array(512)
    rows["linear 4x128x128 to 512"] = plain_linear, linear._linear, (), operands
    for count, width in ((65, 128), (1000, 64), (20000, 64)):
        operands = RNG.integers(0, count, (4, 128)), array(count, width)
        rows[f"embedding {count}x{width}, 512 rows"] = plain_embedding, linear._embedding, (None, False), operands
    q = array(4, 4, 128, 32)
    rows["attention causal 4x4x128x32"] = (
        plain_attention,
        attention._attention,
        (False, 0.0, True, None, False),
        (q, q, q),
    )
    for batch, channels, size in ((64, 16, 28), (64, 32, 14), (64, 16, 8)):
        name, x = f"{batch}x{channels}x{size}x{size}", array(batch, channels, size, size)
        rows[f"max_pool2d 2, {name}"] = plain_max_pool, pooling._max_pool, (2, 2, None, 0, 1, False, False), (x,)
        rows[f"avg_pool2d 2, {name}"] = plain_avg_pool, pooling._avg_pool, (2, 2, None, 0, False, True, None), (x,)
    for batch, ins, outs, size in ((64, 1, 16, 28), (64, 16, 32, 14), (64, 1, 16, 8), (64, 16, 32, 4), (32, 3, 32, 32)):
        operands = array(batch, ins, size, size), array(outs, ins, 3, 3)
        name = f"conv2d 3, {ins} to {outs}, {batch}x{size}x{size}"
        rows[name] = plain_conv, convolution._convolution, (2, 1, 1, 1, 1), operands
    return rows


def first_output(f: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args: f(*args)[0]


def main(wanted: list[str]) -> None:
    """Print a table of the ops named, or of all."""
    print("| op | plain JAX, ms | chosen, ms | ratio |\n|---|---|---|---|")
    for name, (plain, rule, params, operands) in cases().items():
        if wanted and not any(name.startswith(w) for w in wanted):
            continue
        with jax.enable_x64(True):
            ours: Callable[..., Any] = chosen(rule, params, *operands)
            if name.startswith("batch_norm"):
                ours = first_output(ours)
            g = jnp.ones_like(plain(*operands))
            first, second = medians([step(plain, *operands), step(ours, *operands)], g, *operands)
        print(f"| {name} | {first:.3f} | {second:.3f} | {second / first:.2f} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
