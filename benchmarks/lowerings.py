"""Times lowerings against what a JAX user writes first.

Run ``python benchmarks/lowerings.py [op ...]``. Each row is the median of 40 jitted runs of forward and backward, in
milliseconds. Programs with several convolutions are reordered as tracegrad does it (``_engine/orders.py``).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from tracegrad import _dtype
from tracegrad._engine import orders
from tracegrad._engine.value import aval
from tracegrad._ops import (
    _recurrences,
    activation,
    attention,
    classification,
    convolution,
    gathering,
    indexing,
    linear,
    normalization,
    pooling,
    reduction,
)
from tracegrad._ops import shape as joining

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


def step(f: Callable[..., Any], ours: bool, g: Any, *operands: Any) -> Callable[..., Any]:
    """Return forward and backward with respect to every floating-point operand, compiled."""
    wanted = tuple(i for i, x in enumerate(operands) if jnp.issubdtype(x.dtype, jnp.floating))

    def run(g: Any, *args: Any) -> Any:
        def of_wanted(*floats: Any) -> Any:
            full = list(args)
            for i, x in zip(wanted, floats):
                full[i] = x
            return f(*full)

        y, pull = jax.vjp(of_wanted, *[args[i] for i in wanted])
        return y, pull(g)

    traced = jax.jit(run).trace(g, *operands)
    if ours and orders.pays(traced):
        traced = jax.jit(orders.reordered(traced)).trace(g, *operands)
    return traced.lower().compile()


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


def strided_conv(x: Any, w: Any) -> Any:
    ends = [(w.shape[-1] // 2,) * 2] * 2
    return lax.conv_general_dilated(x, w, (2, 2), ends, dimension_numbers=("NCHW", "OIHW", "NCHW"))


def wide_conv(x: Any, w: Any) -> Any:
    return lax.conv_general_dilated(x, w, (1, 1), [(2, 2)] * 2, dimension_numbers=("NCHW", "OIHW", "NCHW"))


def plain_block(x: Any, v: Any, w: Any, scale: Any, shift: Any) -> Any:
    y = jax.nn.relu(plain_batch_norm(plain_conv(x, v), scale, shift))
    return jax.nn.relu(plain_batch_norm(plain_conv(y, w), scale, shift) + x)


def block(x: Any, v: Any, w: Any, scale: Any, shift: Any) -> Any:
    """The same of our lowerings."""
    convolve = chosen(convolution._convolution, (2, 1, 1, 1, 1), x, v)
    norm = first_output(chosen(normalization._batch_norm, (True, True, 1e-5), x, scale, shift))
    relu = activation._relu
    return relu(norm(convolve(relu(norm(convolve(x, v), scale, shift)), w), scale, shift) + x)


def plain_largest(dim: int) -> Callable[..., Any]:
    return lambda x: jnp.max(x, dim) + jnp.argmax(x, dim).astype(x.dtype)


def largest(dim: int) -> Callable[..., Any]:
    def run(x: Any) -> Any:
        values, found = chosen(reduction._extreme_along, ("max", dim, False), x)(x)
        return values + found.astype(x.dtype)

    return run


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


def plain_lstm(x: Any, *operands: Any) -> Any:
    def direction(h: Any, c: Any, w: Any, u: Any, b: Any, d: Any, reverse: bool) -> Any:
        def cell(carry: Any, given: Any) -> Any:
            h, c = carry
            i, f, g, o = jnp.split(given + h @ u.T, 4, -1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            return (h, c), h

        return lax.scan(cell, (h, c), x @ w.T + b + d, reverse=reverse)[1]

    ways = [direction(*operands[k : k + 6], reverse=k > 0) for k in range(0, len(operands), 6)]
    return jnp.concatenate(ways, -1)


def plain_gru(x: Any, h: Any, w: Any, u: Any, b: Any, d: Any) -> Any:
    def cell(h: Any, given: Any) -> Any:
        (r, z, n), (s, y, m) = jnp.split(given, 3, -1), jnp.split(h @ u.T + d, 3, -1)
        z = jax.nn.sigmoid(z + y)
        h = (1 - z) * jnp.tanh(n + jax.nn.sigmoid(r + s) * m) + z * h
        return h, h

    return lax.scan(cell, h, x @ w.T + b)[1]


def recurrent(kind: str, directions: int) -> Callable[..., Any]:
    params = (kind, directions, True, False, False)
    return lambda *operands: chosen(_recurrences.layer, params, *operands)(*operands)[0]


def cases() -> dict[str, tuple[Callable[..., Any], Callable[..., Any], tuple[Any, ...] | None, tuple[Any, ...]]]:
    """Return the plain function, the rule, its params and its operands, by the name of the row.

    Where there are no params, what stands for the rule is a function of several of our lowerings.
    """
    rows: dict[str, Any] = {}
    scores, hidden = array(4, 4, 128, 128), array(4, 128, 512)
    rows["softmax 4x4x128x128"] = jax.nn.softmax, activation._softmax, (-1, None), (scores,)
    rows["log_softmax 512x65"] = jax.nn.log_softmax, activation._log_softmax, (-1, None), (array(512, 65),)
    rows["gelu tanh 4x128x512"] = jax.nn.gelu, activation._gelu, ("tanh",), (hidden,)
    rows["gelu erf 4x128x512"] = lambda x: jax.nn.gelu(x, False), activation._gelu, ("none",), (hidden,)
    for classes in (10, 65, 5000):
        operands = array(512, classes), RNG.integers(0, classes, 512)
        rule, params = classification._cross_entropy, (-100, "mean", 0.0)
        rows[f"cross_entropy 512x{classes}"] = plain_cross_entropy, rule, params, operands
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
    for batch, ins, outs, size in (
        (64, 1, 16, 28),
        (64, 16, 32, 14),
        (64, 1, 16, 8),
        (64, 16, 32, 4),
        (32, 3, 32, 32),
        (32, 3, 16, 32),
        (32, 16, 16, 32),
        (32, 32, 32, 16),
        (32, 64, 64, 8),
    ):
        operands = array(batch, ins, size, size), array(outs, ins, 3, 3)
        name = f"conv2d 3, {ins} to {outs}, {batch}x{size}x{size}"
        rows[name] = plain_conv, convolution._convolution, (2, 1, 1, 1, 1), operands
    for kernel in (3, 1):
        operands = array(32, 16, 32, 32), array(32, 16, kernel, kernel)
        name, params = f"conv2d {kernel}, stride 2, 16 to 32, 32x32x32", (2, 2, kernel // 2, 1, 1)
        rows[name] = strided_conv, convolution._convolution, params, operands
    operands = array(16, 32, 24, 24), array(32, 32, 3, 3)
    rows["conv2d 3, padding 2, 32 to 32, 16x24x24"] = wide_conv, convolution._convolution, (2, 1, 2, 1, 1), operands
    for batch, channels, size in ((32, 16, 32), (32, 32, 16), (32, 64, 8)):
        filters = [array(channels, channels, 3, 3) / 10 for _ in range(2)]
        operands = array(batch, channels, size, size), *filters, array(channels), array(channels)
        rows[f"residual block {batch}x{channels}x{size}x{size}"] = plain_block, block, None, operands
    x = array(256, 128, 64)
    for dim in range(3):
        rows[f"sum dim {dim}, 256x128x64"] = partial(jnp.sum, axis=dim), reduction._sum, (dim, False, None), (x,)
        rows[f"max dim {dim}, 256x128x64"] = plain_largest(dim), largest(dim), None, (x,)
    for classes in (10, 1000):
        logits = array(512, classes)
        rows[f"max dim 1, 512x{classes}"] = plain_largest(1), largest(1), None, (logits,)
    parts = tuple(array(128, 256) for _ in range(8))
    for dim in range(2):
        rows[f"cat dim {dim}, 8 of 128x256"] = lambda *xs, d=dim: jnp.concatenate(xs, d), joining._cat, (dim,), parts
    rows["index_select, 512 rows of 20000x64"] = (
        plain_embedding,
        lambda i, w: chosen(gathering._index_select, (0,), w, i)(w, i),
        None,
        (RNG.integers(0, 20000, 512), array(20000, 64)),
    )
    rows["gather 512x10 of 512x1000"] = (
        lambda x, i: jnp.take_along_axis(x, i, 1),
        gathering._gather,
        (1,),
        (array(512, 1000), RNG.integers(0, 1000, (512, 10))),
    )
    rows["x[i, j], 300 of 512x64"] = (
        lambda x, i, j: x[i, j],
        indexing._gather,
        ((0, 1),),
        (array(512, 64), RNG.integers(0, 512, 300), RNG.integers(0, 64, 300)),
    )
    layers = ("lstm", plain_lstm, 4, 1), ("lstm", plain_lstm, 4, 2), ("gru", plain_gru, 3, 1)
    for steps, batch, width, hidden in ((32, 16, 32, 64), (128, 32, 256, 256)):
        name = f"{steps}x{batch}x{width} to {hidden}"
        for kind, plain, gates, count in layers:
            shapes = [(batch, hidden)] * (2 if kind == "lstm" else 1)
            shapes += [(gates * hidden, width), (gates * hidden, hidden), (gates * hidden,), (gates * hidden,)]
            operands = array(steps, batch, width), *(array(*shape) / 8 for _ in range(count) for shape in shapes)
            both = ", both ways" if count == 2 else ""
            rows[f"{kind} {name}{both}"] = plain, recurrent(kind, count), None, operands
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
            ours = rule if params is None else chosen(rule, params, *operands)
            if name.startswith("batch_norm"):
                ours = first_output(ours)
            g = jnp.ones_like(plain(*operands))
            steps = [step(plain, False, g, *operands), step(ours, True, g, *operands)]
            first, second = medians(steps, g, *operands)
        print(f"| {name} | {first:.3f} | {second:.3f} | {second / first:.2f} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
