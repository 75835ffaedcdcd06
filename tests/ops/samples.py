"""Samples: for every op of the table, arguments on which it is compared with PyTorch, with JAX and with itself.

NumPy arrays stand for tensors and `Dtype` for a dtype. Where PyTorch raises on a sample, tracegrad must raise the same type.
"""

# ruff: noqa: E501 (a table: one op a line)
from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

import numpy as np

_seeds = itertools.count()


class Dtype(str):
    """The name of a dtype."""


@dataclass(frozen=True)
class Sample:
    """The arguments of one call."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any] = field(default_factory=dict)
    smooth: bool = True  # not a point where PyTorch has a convention of its own: there others may disagree

    def __repr__(self) -> str:
        shown = [_show(a) for a in self.args] + [f"{k}={_show(v)}" for k, v in self.kwargs.items()]
        return f"({', '.join(shown)})"


def _show(a: Any) -> str:
    if isinstance(a, np.ndarray):
        return f"{a.dtype}{list(a.shape)}"
    if isinstance(a, (list, tuple)) and any(isinstance(x, np.ndarray) for x in a):
        return f"[{', '.join(map(_show, a))}]"
    return repr(a)


def s(*args: Any, **kwargs: Any) -> Sample:
    return Sample(args, kwargs)


def kink(*args: Any, **kwargs: Any) -> Sample:
    return Sample(args, kwargs, False)


def _made(shape: tuple[int, ...], make: Any) -> np.ndarray:
    return np.asarray(make(np.random.default_rng(next(_seeds)), shape))


def f(*shape: int) -> np.ndarray:
    """Distinct normal float64 numbers, none near 0 or an integer."""
    a = _made(shape, lambda rng, shape: rng.normal(size=shape))
    return np.asarray(np.where(np.abs(a - np.round(a)) < 0.06, a + 0.13, a))


def f32(*shape: int) -> np.ndarray:
    return f(*shape).astype(np.float32)


def pos(*shape: int) -> np.ndarray:
    return _made(shape, lambda rng, shape: rng.uniform(0.2, 2.0, shape))


def unit(*shape: int) -> np.ndarray:
    return _made(shape, lambda rng, shape: rng.uniform(0.1, 0.9, shape))


def i(*shape: int) -> np.ndarray:
    return _made(shape, lambda rng, shape: rng.integers(-4, 5, shape))


def i1(*shape: int) -> np.ndarray:
    return _made(shape, lambda rng, shape: rng.integers(1, 5, shape))


def below(n: int, *shape: int) -> np.ndarray:
    return _made(shape, lambda rng, shape: rng.integers(0, n, shape))


def b(*shape: int) -> np.ndarray:
    return _made(shape, lambda rng, shape: rng.integers(0, 2, shape).astype(bool))


def c(*shape: int) -> np.ndarray:
    return np.asarray(f(*shape) + 1j * f(*shape))


class Const(np.ndarray):
    """A tensor with respect to which the op has no derivative."""


def const(a: np.ndarray) -> Const:
    return a.view(Const)


REGISTRY: dict[str, list[Sample]] = {}


def register(names: str, make: Any) -> None:
    for name in names.split():
        REGISTRY.setdefault(name, []).extend(make())


# -- pointwise, one operand --

register("abs sign sgn exp exp2 expm1 sigmoid sin cos tan atan arctan sinh cosh tanh asinh arcsinh sinc deg2rad rad2deg erf erfc floor "
         "ceil trunc round frac isnan isinf isfinite isposinf isneginf isreal neg positive square signbit reciprocal relu "
         "relu6 selu elu celu silu mish softplus logsigmoid softsign hardswish hardsigmoid hardtanh leaky_relu gelu "
         "negative absolute fix logical_not bitwise_not angle conj real imag clone contiguous nan_to_num",
         lambda: [s(f(2, 3)), s(f()), s(f(0, 3)), s(f32(3)), s(i(3)), s(b(3))])  # fmt: skip
register("log log2 log10 log1p sqrt rsqrt lgamma digamma", lambda: [s(pos(2, 3)), s(pos()), s(pos(0)), s(i1(3)), s(b(2))])
register("asin acos atanh erfinv logit arcsin arccos arctanh", lambda: [s(unit(2, 3)), s(unit()), s(unit(0)), s(b(2))])
register("acosh arccosh", lambda: [s(pos(2, 3) + 1.5), s(pos() + 1.5), s(i1(3) + 1)])
register("abs neg exp sqrt sin cos tanh sgn angle conj real imag square reciprocal log positive isnan clone",
         lambda: [s(c(2, 3)), s(c())])  # fmt: skip
register("conj_physical is_conj is_neg resolve_conj resolve_neg", lambda: [s(c(2, 3)), s(f(2)), s(i(2))])
register("logit", lambda: [s(unit(4), eps=0.25)])
register("round", lambda: [s(f(3) * 10, decimals=1), s(f(3) * 100, decimals=-1), kink(np.array([0.5, 1.5, 2.5, -0.5]))])
register("elu celu", lambda: [s(f(2, 3), alpha=0.5)])
register("leaky_relu", lambda: [s(f(2, 3), 0.2)])
register("hardtanh", lambda: [s(f(2, 3), -0.5, 0.7)])
register("softplus", lambda: [s(f(2, 3), beta=2.0, threshold=1.0)])
register("gelu", lambda: [s(f(2, 3), approximate="tanh"), s(f32(2, 3), approximate="tanh")])
register("nan_to_num", lambda: [kink(np.array([1.0, np.nan, np.inf, -np.inf]), nan=2.0, posinf=3.0)])
register("glu", lambda: [s(f(2, 4)), s(f(4, 2), dim=0), s(f(3)), s(f())])
register("softmax log_softmax softmin", lambda: [s(f(2, 3), dim=1), s(f(2, 3), dim=0), s(f(2, 3, 2), dim=-2), s(f(), dim=0),
         s(f(0, 3), dim=1), s(f(2, 0), dim=1), s(f32(3), dim=0, dtype=Dtype("float64")), s(i(3), dim=0), s(f(2), dim=2),
         s(np.array([[1e4, 0.0], [-np.inf, 1.0]]), dim=1)])  # fmt: skip
register("hardshrink softshrink tanhshrink",
         lambda: [s(f(2, 3)), s(f32(3) * 2), s(f()), s(i(3)), s(b(2)), kink(np.array([-0.5, 0.0, 0.5, np.nan, np.inf]))])
register("hardshrink softshrink", lambda: [s(f(4), 0.25), s(f(4), lambd=0.0), s(f(4), -1.0)])
register("threshold", lambda: [s(f(2, 3), 0.1, 7.0), s(f32(3), 0, 1), s(i(4), 1.5, 7), s(b(2), 0, 1),
         kink(np.array([0.25, np.nan, 1.0]), 0.25, -1.0)])  # fmt: skip
register("prelu", lambda: [s(f(2, 3), f(3)), s(f(2, 3, 2), f(1)), s(f(3), f()), s(f(), f(1)), s(f(2, 3), f(2)), s(f(3), f(3)),
         s(f(2, 3), f(1, 3)), s(f(2, 3), f32(3)), s(i(2), i(1)), s(f32(2, 2), f32(2)), kink(np.array([0.0, np.nan]), f(1))])
register("rrelu", lambda: [s(f(2, 3)), s(f(4), 0.25, 0.5), s(f(4), 0.5, 0.25), s(i(2)), s(f(3), 0.5, 0.5, True), s(f32(3))])
register("dropout", lambda: [s(f(2, 3), p=0.0), s(f(2, 3), p=0.5, training=False), s(f(2), p=1.5)])

# -- pointwise, two operands --


def _pairs() -> list[Sample]:
    return [s(f(2, 3), f(2, 3)), s(f(2, 1), f(3)), s(f(2, 3), f()), s(f(), f()), s(f(0, 3), f(3)), s(f32(3), f()),
            s(f32(3), f(3)), s(i(3), i1(3)), s(i1(3), f32(3)), s(f(2, 3), f(4, 3)), s(b(3), i1(3))]  # fmt: skip


def _numbers() -> list[Sample]:
    return [s(f(2, 3), 2.5), s(f(2, 3), 2), s(f32(3), True), s(i(3), 2), s(i(3), 1.5), s(b(3), 2), s(f32(), 0.1)]


register("add sub mul div true_divide floor_divide remainder fmod rsub subtract multiply divide maximum minimum fmax fmin "
         "atan2 arctan2 hypot logaddexp logaddexp2 copysign heaviside", _pairs)  # fmt: skip
register("add sub mul div true_divide floor_divide remainder fmod rsub subtract multiply divide copysign", _numbers)
register("eq ne lt le gt ge not_equal less less_equal greater greater_equal logical_and logical_or logical_xor isclose "
         "allclose equal", _pairs)  # fmt: skip
register("eq ne lt le gt ge not_equal less less_equal greater greater_equal", _numbers)
register("add sub rsub subtract", lambda: [s(f(2, 3), f(3), alpha=2.5), s(i(3), i(3), alpha=2), s(b(3), b(3)), s(i(3), i(3), alpha=0.5)])
register("add sub mul div", lambda: [s(c(2), c(2)), s(c(2), f(2)), s(f(2), 1 + 2j)])
register("div divide", lambda: [s(f(2, 3), f(3), rounding_mode="floor"), s(i(4), i1(4), rounding_mode="trunc"),
                                s(i(4), i1(4), rounding_mode="floor"), s(f(3), 2, rounding_mode="trunc")])  # fmt: skip
register("remainder fmod floor_divide", lambda: [s(i(6), -3), s(f(3), -1.3), s(i(4), i1(4) * -1)])
register("pow float_power", lambda: [s(pos(2, 3), f(3)), s(f(2, 3), 2), s(f(2, 3), 3), s(pos(3), 0.5), s(pos(3), -1.5), s(f(3), 0),
                         s(i1(3), 2), s(i1(3), i1(3)), s(2.0, f(3)), s(2, i1(3)), s(f(3), 1), s(i(3), -2), s(i1(3), 0.5), s(b(3), 2)])  # fmt: skip
register("xlogy", lambda: [s(f(2, 3), pos(3)), s(np.array([0.0, 1.0]), np.array([0.5, 0.25])), s(f(3), 2.0), s(2.0, pos(3)), s(i(3), i1(3))])
register("bitwise_and bitwise_or bitwise_xor", lambda: [s(i(3), i(3)), s(b(3), b(3)), s(i(3), 3), s(b(3), i(3)), s(f(3), i(3)), s(i(2, 1), i(3))])
register("bitwise_left_shift bitwise_right_shift", lambda: [s(i(3), i1(3)), s(i(3), 2), s(f(3), 2)])
register("heaviside", lambda: [s(np.array([-1.0, 0.0, 2.0]), np.array([0.5]))])
register("lerp", lambda: [s(f(2, 3), f(2, 3), 0.3), s(f(2, 3), f(3), f(2, 1)), s(f(2), f(2), 0.8)])
register("addcmul addcdiv", lambda: [s(f(2, 3), f(3), pos(2, 1)), s(f(2), f(2), pos(2), value=0.5), s(i(2), i(2), i1(2))])
register("where", lambda: [s(b(2, 3), f(2, 3), f(3)), s(b(3), f(3), 1.5), s(b(3), 2, f(3)), s(b(3), f32(3), f(3)), s(b(2, 1), i(3), f32()), s(i(3), f(3), f(3)), s(b(2), 1.0, 2.0)])
register("clamp clip", lambda: [s(f(2, 3), -0.5, 0.5), s(f(2, 3), min=0.1), s(f(2, 3), max=0.1), s(i(4), -1, 2), s(i(4), 0.5), s(f(2, 3), f(3), f(3) + 1), s(f(3))])
register("clamp_min", lambda: [s(f(2, 3), 0.1), s(i(3), 1), s(f(2, 3), f(3))])
register("clamp_max", lambda: [s(f(2, 3), 0.1), s(i(3), 1), s(f(2, 3), f(3))])
register("complex", lambda: [s(f(2), f(2)), s(f32(2), f(2))])

# -- reductions --


def _dims() -> list[Sample]:
    return [s(f(2, 3)), s(f(2, 3), 1), s(f(2, 3), -2, keepdim=True), s(f(2, 3, 2), 2), s(f(2, 3), 5), s(f32(3))]


register("sum mean prod std nansum nanmean", lambda: [*_dims(), s(f()), s(i(2, 3), 1), s(b(3)), s(i(3))])
# The variance of one element and its gradient are nan, and the derivative of that gradient is 0 in PyTorch.
register("var", lambda: [*_dims(), kink(f()), s(i(2, 3), 1), s(b(3)), s(i(3))])
register("sum mean amax amin std var logsumexp", lambda: [s(f(2, 3, 2), (0, 2)), s(f(2, 3, 2), (0, -1), True), s(f(2, 3), (0, 0))])
register("sum mean prod cumsum cumprod", lambda: [s(i(2, 3), 1, dtype=Dtype("float64"))])
register("sum prod", lambda: [s(f(0, 3)), s(f(0, 3), 0), s(f(2, 0), 1)])
register("sum mean", lambda: [s(c(2, 3), 0)])
register("std var", lambda: [s(f(2, 3), 1, correction=0), s(f(2, 3), unbiased=False), s(f(4), 0, True)])
register("amax amin", lambda: [s(f(2, 3)), s(f(2, 3), 1), s(f(2, 3), -1, True), s(f()), s(i(3)), s(b(3), 0), s(f(0, 3), 0), s(f(0, 3), 1), kink(np.array([1.0, 3.0, 3.0]))])
register("max min", lambda: [s(f(2, 3)), s(f(2, 3), 1), s(f(2, 3), -1, True), s(f()), s(f(), 0), s(i(3), 0), s(b(3)), s(f(2, 3), f(3)), s(f(0)), s(f(0, 3), 0)])
register("argmax argmin", lambda: [s(f(2, 3)), s(f(2, 3), 1), s(f(2, 3), 0, True), s(f()), s(i(3)), s(f(0)), s(f(2, 3), 4)])
register("all any", lambda: [s(b(2, 3)), s(b(2, 3), 1), s(b(2, 3), 0, True), s(i(3)), s(f(3)), s(b(0)), s(b())])
register("median", lambda: [s(f(5)), s(f(4)), s(f(2, 3), 1), s(f(2, 4), 0, True), s(f())])
register("std_mean var_mean", lambda: [s(f(2, 3), 1), s(f(4))])
register("norm", lambda: [s(f(2, 3)), s(f(4), 1), s(f(4), float("inf")), s(f(4), 3), s(f(4), 0), s(f(2, 3), 2, 1), s(f(2, 3), 2, (0, 1)), s(f32(3)), s(f(2, 3), "fro"), s(f(2, 3), 1, 1), s(f(2, 3), 3, -1, True)])
register("count_nonzero", lambda: [s(i(2, 3)), s(i(2, 3), 1)])
register("logsumexp", lambda: [s(f(2, 3), 1), s(f(2, 3), 0, True), s(f(), 0), s(i(3), 0), s(np.array([-np.inf, 1.0]), 0)])
register("cumsum cumprod", lambda: [s(f(2, 3), 1), s(f(2, 3), 0), s(f(), 0), s(i(3), 0), s(b(3), 0), s(f(0), 0), s(f(2), 3)])
register("logcumsumexp", lambda: [s(f(2, 3), 1), s(f(4), 0)])


# -- shapes --

register("reshape view", lambda: [s(f(2, 3), (6,)), s(f(2, 3), (-1,)), s(f(2, 3), (-1, 2)), s(f(), (1,)), s(f(0, 3), (3, 0)), s(f(2, 3), (4, 2)), s(f(2, 3), (-1, 4)), s(f(2, 3), (-1, -1)), s(i(4), (2, 2))])
register("view", lambda: [s(f(2, 3), 3, 2), s(f(2, 3), -1)])
register("reshape_as view_as expand_as", lambda: [s(f(1, 3), f(1, 3))])
register("flatten", lambda: [s(f(2, 3, 2)), s(f(2, 3, 2), 1), s(f(2, 3, 2), 0, 1), s(f()), s(f(2, 3), 1, 0)])
register("ravel", lambda: [s(f(2, 3)), s(f())])
register("unflatten", lambda: [s(f(2, 6), 1, (2, 3)), s(f(6), 0, (-1, 2)), s(f(6), 0, (4, 2))])
register("squeeze", lambda: [s(f(1, 3, 1)), s(f(1, 3, 1), 0), s(f(1, 3, 1), 1), s(f(1, 3, 1), (0, 2)), s(f()), s(f(1), 3)])
register("unsqueeze", lambda: [s(f(2, 3), 0), s(f(2, 3), -1), s(f(), 0), s(f(2), 3)])
register("transpose swapaxes swapdims", lambda: [s(f(2, 3), 0, 1), s(f(2, 3, 4), -1, 0), s(f(2), 0, 2), s(f(), 0, 0)])
register("t", lambda: [s(f(2, 3)), s(f(3)), s(f()), s(f(2, 3, 4))])
register("adjoint", lambda: [s(f(2, 3)), s(f(2, 3, 2)), s(c(2, 3))])
register("permute", lambda: [s(f(2, 3, 4), (2, 0, 1)), s(f(2, 3), (1, 0)), s(f(2, 3), (0, 0)), s(f(2, 3), (0,)), s(f(2, 3, 2), (-1, 0, 1))])
register("movedim moveaxis", lambda: [s(f(2, 3, 4), 0, 2), s(f(2, 3, 4), (0, 1), (2, 0)), s(f(2, 3), 0, 3)])
register("expand", lambda: [s(f(1, 3), 2, 3), s(f(3), 2, -1), s(f(), 2, 2), s(f(2, 1), (2, 3)), s(f(2, 3), 2, 4), s(f(2, 3), 3)])
register("broadcast_to", lambda: [s(f(3), (2, 3)), s(f(1, 3), (2, 3)), s(f(2), (3,))])
register("broadcast_tensors", lambda: [s(f(2, 1), f(3)), s(f(2), f(3))])
register("repeat tile", lambda: [s(f(2, 3), (2, 1)), s(f(3), (2, 2)), s(f(), (2,)), s(f(2, 3), (1, 2))])
register("repeat", lambda: [s(f(2, 3), 2)])
register("repeat_interleave", lambda: [s(f(2, 3), 2), s(f(2, 3), 2, dim=1), s(f(3), np.array([1, 0, 2]), dim=0)])
register("cat concat concatenate", lambda: [s([f(2, 3), f(1, 3)]), s([f(2, 1), f(2, 2)], 1), s([f(2), i(2)]), s([f32(2, 1), f(2, 2)], -1), s([f(2, 3), f(2, 2)]), s([f(2), f()]), s([f(0), f(2, 3)], 0), s([i(2), b(2)])])
register("stack", lambda: [s([f(2, 3), f(2, 3)]), s([f(2), f(2)], 1), s([f(2), f(2)], -1), s([f(), f()]), s([f(2), f(3)]), s([f(2), i(2)])])
register("hstack vstack dstack", lambda: [s([f(2, 3), f(2, 3)]), s([f(3), f(3)]), s([f(), f()])])
register("split", lambda: [s(f(5, 2), 2), s(f(2, 5), [2, 3], 1), s(f(4), 4), s(f(5), [2, 2])])
register("chunk", lambda: [s(f(5, 2), 2), s(f(2, 5), 3, 1), s(f(2), 4), s(f(2), 0)])
register("tensor_split", lambda: [s(f(5), 2), s(f(5), (1, 3)), s(f(2, 5), 3, dim=1)])
register("unbind", lambda: [s(f(2, 3)), s(f(2, 3), 1), s(f())])
register("meshgrid", lambda: [s(f(2), f(3), indexing="ij"), s(f(2), f(3), indexing="xy")])
register("flip", lambda: [s(f(2, 3), (0,)), s(f(2, 3), (0, 1)), s(f(2, 3), (0, 0)), s(f(2, 3), (2,))])
register("fliplr flipud rot90", lambda: [s(f(2, 3)), s(f(3, 2))])
register("rot90", lambda: [s(f(2, 3), 3), s(f(2, 3, 2), 1, (1, 2))])
register("roll", lambda: [s(f(2, 3), 1), s(f(2, 3), 1, 1), s(f(2, 3), (1, -1), (0, 1)), s(f(2, 3), -4, 0)])
register("tril triu", lambda: [s(f(3, 3)), s(f(2, 4), 1), s(f(2, 3, 3), -1), s(f(3)), s(i(3, 3))])
register("diag", lambda: [s(f(3)), s(f(3, 3)), s(f(2, 3), 1), s(f(3), -1), s(f())])
register("diagonal", lambda: [s(f(3, 3)), s(f(2, 3), 1), s(f(2, 3, 3), -1, 1, 2)])
register("diag_embed", lambda: [s(f(2, 3)), s(f(3), 1)])
register("atleast_1d atleast_2d atleast_3d", lambda: [s(f()), s(f(3)), s(f(2, 3), f(2))])
register("narrow", lambda: [s(f(4, 2), 0, 1, 2), s(f(2, 4), 1, -2, 2), s(f(4), 0, 3, 2)])
register("select", lambda: [s(f(2, 3), 0, 1), s(f(2, 3), -1, -1), s(f(2, 3), 0, 5)])
register("getitem", lambda: [s(f(2, 3), x) for x in (0, -1, (0, 1), slice(1, None), (slice(None), 1), None, Ellipsis, (Ellipsis, 0),
         (slice(None, None, 2), None), [0, 1], np.array([1, 0, 1]), (np.array([0, 1]), np.array([2, 0])), (slice(None), np.array([0, 2])),
         np.array([True, False]), np.array([[True, False, True], [False, True, False]]), True, 5, (0, 0, 0), (np.array([0, 1]), 1),
         np.array([[0, 1], [1, -1]]), (None, np.array([0]), slice(0, 2)))] + [s(f(), ()), s(f(3), np.array(1)), s(f(0, 2), slice(0, 1)), s(i(4), slice(1, 3))])  # fmt: skip

# -- indexing --

register("unfold", lambda: [s(f(2, 5), 1, 3, 2), s(f(4), 0, 2, 1), s(f(), 0, 1, 1), s(f(3), 0, 4, 1), s(f(3), 0, 1, 0)])
register("view_as_real", lambda: [s(c(2, 3)), s(c()), s(f(2))])
register("view_as_complex", lambda: [s(f(3, 2)), s(f(2)), s(f(3)), s(i(2))])
register("index_put", lambda: [s(f(3, 2), (np.array([0, 2]),), f(2)), s(f(3, 2), (np.array([0, 0]), np.array([1, 1])), f(2), True),
         s(f(3), (np.array([True, False, True]),), f(2)), s(f(3), (np.array([0]),), i(1)), s(f(3), (np.array([0]),), f(2))])  # fmt: skip
register("masked_scatter", lambda: [s(f(2, 3), b(2, 3), f(2, 3)), s(f(2, 3), b(3), f(6)), s(f(3), b(3), i(3)), s(f(3), i(3), f(3))])
register("masked_fill", lambda: [s(f(2, 3), b(2, 3), 1.5), s(f(2, 3), b(3), np.asarray(2.0)), s(i(3), b(3), 2), s(i(3), b(3), 1.5), s(f(3), b(3), 2), s(f(3), i(3), 1.0)])
register("masked_select", lambda: [s(f(2, 3), b(2, 3)), s(f(3), np.zeros(3, bool))])
register("gather", lambda: [s(f(2, 3), 1, below(3, 2, 2)), s(f(2, 3), 0, below(2, 1, 3)), s(f(3), -1, below(3, 4)), s(f(2, 3), 1, f(2, 2)), s(f(2, 3), 1, below(3, 2))])
register("index_select", lambda: [s(f(2, 3), 1, np.array([0, 2, 0])), s(f(3), 0, np.array([1])), s(f(2, 3), -2, np.array([1, 0])), s(f(3), 0, np.array([[1]]))])
register("take_along_dim", lambda: [s(f(2, 3), below(3, 2, 1), 1), s(f(2, 3), below(6, 4)), s(f(2, 3), below(2, 1, 3), dim=0)])
register("take", lambda: [s(f(2, 3), np.array([0, 5, -1]))])
register("scatter_add", lambda: [s(f(2, 3), 1, below(3, 2, 3), f(2, 3)), s(f(3), 0, below(3, 5), f(5)), s(f(3), 0, below(3, 2), i(2))])
register("scatter", lambda: [s(f(2, 3), 1, np.array([[0, 2], [1, 0]]), f(2, 2)), s(f(3), 0, np.array([0, 2]), 1.5)])
register("index_add", lambda: [s(f(3, 2), 0, np.array([0, 2, 0]), f(3, 2))])
register("index_fill", lambda: [s(f(3, 2), 0, np.array([0, 2]), 1.5)])
register("sort", lambda: [s(f(5)), s(f(2, 3), 0), s(f(2, 3), 1, True), s(i(6), stable=True), s(f()), s(np.array([1.0, np.nan, 0.5]))])
register("argsort", lambda: [s(f(5)), s(f(2, 3), 0), s(f(2, 3), 1, True)])
register("msort", lambda: [s(f(5)), s(f(3, 2))])
register("topk", lambda: [s(f(5), 2), s(f(2, 4), 2, 0), s(f(2, 4), 3, -1, False), s(f(3), 4), s(f(3), 0), s(f(), 1), s(f(5), 3, sorted=True)])
register("kthvalue", lambda: [s(f(5), 2), s(f(2, 4), 3, 1)])
register("nonzero argwhere", lambda: [s(b(2, 3)), s(i(4)), s(b(0))])
register("one_hot", lambda: [s(below(3, 4), 3), s(below(3, 2, 2))])

# -- linear algebra --

register("matmul", lambda: [s(f(2, 3), f(3, 4)), s(f(3), f(3)), s(f(2, 3), f(3)), s(f(3), f(3, 2)), s(f(2, 2, 3), f(3, 2)), s(f(2, 1, 2, 3), f(3, 3, 2)), s(f(2, 3), f(2, 3)), s(f(2, 3), f32(3, 2)), s(i(2, 3), i(3, 2)), s(f(), f(3)), s(f(0, 3), f(3, 2)), s(c(2, 3), c(3, 2)), s(f(3), f(2, 3, 4))])
register("mm", lambda: [s(f(2, 3), f(3, 4)), s(f(2, 3), f(2, 3)), s(f(3), f(3)), s(i(2, 2), i(2, 2))])
register("bmm", lambda: [s(f(2, 2, 3), f(2, 3, 2)), s(f(2, 2, 3), f(3, 3, 2)), s(f(2, 3), f(3, 2))])
register("mv", lambda: [s(f(2, 3), f(3)), s(f(2, 3), f(2)), s(f(3), f(3))])
register("dot inner vdot", lambda: [s(f(3), f(3)), s(f(3), f(2)), s(i(3), i(3))])
register("dot", lambda: [s(f(2, 2), f(2))])
register("outer ger", lambda: [s(f(2), f(3)), s(f(2, 2), f(2)), s(i(2), f(2))])
register("einsum", lambda: [s("ij,jk->ik", f(2, 3), f(3, 2)), s("ii", f(3, 3)), s("bij,bj->bi", f(2, 2, 3), f(2, 3)), s("ij->ji", f(2, 3)), s("i,j", f(2), f(3)), s("...ij->...ji", f(2, 2, 3)), s("ij,jk", f(2, 3), f(2, 3))])
register("addmm", lambda: [s(f(2, 2), f(2, 3), f(3, 2)), s(f(2), f(2, 3), f(3, 2), beta=0.5, alpha=2.0)])
register("addmv", lambda: [s(f(2), f(2, 3), f(3))])
register("baddbmm", lambda: [s(f(2, 2, 2), f(2, 2, 3), f(2, 3, 2))] )
register("trace", lambda: [s(f(3, 3)), s(f(2, 3)), s(f(3))])
register("kron", lambda: [s(f(2, 2), f(2, 3))])
register("tensordot", lambda: [s(f(2, 3), f(3, 2), 1)])
register("cross", lambda: [s(f(2, 3), f(2, 3), 1)])
register("linear", lambda: [s(f(2, 3), f(4, 3), f(4)), s(f(2, 2, 3), f(4, 3)), s(f(3), f(4, 3), f(4)), s(f(2, 3), f(3)), s(f(2, 3), f(4, 2)), s(f(2, 3), f32(4, 3)), s(f(0, 3), f(4, 3), f(4))])
register("bilinear", lambda: [s(f(2, 3), f(2, 2), f(4, 3, 2), f(4)), s(f(2, 3), f(2, 2), f(4, 3, 2))])

# -- networks --

register("embedding", lambda: [s(below(4, 2, 3), f(4, 2)), kink(below(4, 3), f(4, 2), padding_idx=1), s(np.array([1, 1, 1]), f(4, 2)), s(f(2), f(4, 2))])
register("conv1d", lambda: [s(f(2, 2, 6), f(3, 2, 3), f(3)), s(f(2, 2, 7), f(4, 1, 3), stride=2, padding=1, groups=2), s(f(2, 6), f(3, 2, 2)), s(f(1, 2, 7), f(2, 2, 2), dilation=2, padding="same"), s(f(1, 3, 4), f(2, 2, 2))])
register("conv2d", lambda: [s(f(2, 2, 4, 5), f(3, 2, 2, 3), f(3)), s(f(1, 2, 5, 5), f(4, 1, 3, 3), None, 2, 1, 1, 2), s(f(2, 4, 4), f(2, 2, 2, 2)), s(f(1, 1, 5, 5), f(1, 1, 2, 2), dilation=(2, 1), padding=(1, 0)), s(f(1, 1, 4, 4), f(1, 1, 3, 3), padding="same"), s(f(1, 3, 4, 4), f(2, 2, 2, 2)), s(f(1, 1, 2, 2), f(1, 1, 3, 3))])
register("max_pool1d", lambda: [s(f(2, 2, 6), 2), s(f(2, 7), 3, 2, 1)])
register("max_pool2d", lambda: [s(f(1, 2, 4, 6), 2), s(f(2, 5, 5), 3, 2, 1), s(f(1, 1, 5, 5), (2, 3), stride=(1, 2)), s(f(1, 1, 5, 5), 2, ceil_mode=True), s(f(1, 1, 6, 6), 2, dilation=2), kink(np.ones((1, 1, 4, 4)), 2), s(f(1, 1, 4, 4), 2, padding=2)])
register("avg_pool1d", lambda: [s(f(2, 2, 6), 2), s(f(2, 7), 3, 2, 1)])
register("avg_pool2d", lambda: [s(f(1, 2, 4, 6), 2), s(f(2, 5, 5), 3, 2, 1), s(f(1, 1, 5, 5), 2, 2, 1, count_include_pad=False), s(f(1, 1, 5, 5), 2, ceil_mode=True), s(f(1, 1, 4, 4), 2, divisor_override=3)])
register("adaptive_avg_pool1d", lambda: [s(f(1, 2, 5), 2), s(f(1, 2, 6), 3)])
register("adaptive_avg_pool2d", lambda: [s(f(1, 2, 5, 6), (2, 3)), s(f(1, 2, 4, 4), 1), s(f(2, 4, 4), (None, 2))])
register("pad", lambda: [s(f(2, 3), (1, 2)), s(f(2, 3), (1, 1, 0, 1), value=2.0), s(f(1, 2, 4), (1, 2), mode="reflect"), s(f(1, 2, 4), (1, 2), mode="replicate"), s(f(1, 2, 4), (1, 2), mode="circular"), s(f(4), (-1, 1))])
register("layer_norm", lambda: [s(f(2, 3), (3,)), s(f(2, 3), (3,), f(3), f(3)), s(f(2, 2, 3), (2, 3), f(2, 3)), s(f32(2, 4), (4,), f32(4), f32(4), 1e-3), s(f(2, 3), (2,)), s(f(0, 3), (3,))])
register("batch_norm", lambda: [s(f(4, 3), None, None, f(3), f(3), True), s(f(2, 3, 2, 2), None, None, training=True), s(f(4, 3), const(f(3)), const(pos(3)), f(3), f(3), False), s(f(4, 3), const(f(3)), const(pos(3)), eps=1e-2), s(f(1, 3), None, None, training=True)])
register("group_norm", lambda: [s(f(2, 4, 3), 2), s(f(2, 4), 2, f(4), f(4))])
register("rms_norm", lambda: [s(f(2, 3), (3,)), s(f(2, 3), (3,), f(3))])
register("normalize", lambda: [s(f(2, 3)), s(f(2, 3), 1.0, 0)])
register("cosine_similarity", lambda: [s(f(2, 3), f(2, 3)), s(f(3), f(3), dim=0)])
register("scaled_dot_product_attention", lambda: [s(f(2, 3, 4), f(2, 5, 4), f(2, 5, 4)), s(f(1, 2, 3, 4), f(1, 2, 3, 4), f(1, 2, 3, 4), is_causal=True), s(f(2, 3, 4), f(2, 5, 4), f(2, 5, 4), attn_mask=f(3, 5))])


def _losses() -> list[Sample]:
    return [s(f(2, 3), f(2, 3)), s(f(2, 3), f(2, 3), reduction="sum"), s(f(2, 3), f(2, 3), reduction="none"), s(f(), f()), s(f(3), f(3), reduction="max")]


register("mse_loss l1_loss smooth_l1_loss huber_loss", _losses)
register("smooth_l1_loss", lambda: [s(f(4), f(4), beta=0.3), s(f(4), f(4), beta=0.0)])
register("kl_div", lambda: [s(f(2, 3), pos(2, 3), reduction="sum"), s(f(2, 3), f(2, 3), reduction="none", log_target=True), s(f(2, 3), pos(2, 3), reduction="batchmean")])
register("cross_entropy", lambda: [s(f(4, 3), below(3, 4)), s(f(4, 3), below(3, 4), const(pos(3))), s(f(4, 3), np.array([0, -100, 2, 1])), s(f(4, 3), below(3, 4), reduction="none"), s(f(4, 3), below(3, 4), reduction="sum", label_smoothing=0.2), s(f(2, 3, 4), below(3, 2, 4)), s(f(4, 3), unit(4, 3)), s(f(3), np.asarray(1)), s(f(4, 3), below(3, 5)), s(f(4, 3), np.array([0, 1, 0, 2]), const(pos(3)), ignore_index=1, label_smoothing=0.1), s(f(4, 3), f(4))])
register("nll_loss", lambda: [s(f(4, 3), below(3, 4)), s(f(4, 3), below(3, 4), const(pos(3))), s(f(4, 3), np.array([0, -100, 2, 1]), reduction="sum"), s(f(2, 3, 4), below(3, 2, 4)), s(f(3), np.asarray(1)), s(f(4, 3), below(3, 5))])
register("binary_cross_entropy", lambda: [s(unit(2, 3), unit(2, 3)), s(unit(2, 3), unit(2, 3), const(pos(3)), reduction="sum"), s(unit(4), unit(4), reduction="none"), s(unit(4), unit(2))])
register("binary_cross_entropy_with_logits", lambda: [s(f(2, 3), unit(2, 3)), s(f(2, 3), unit(2, 3), const(pos(3)), pos_weight=const(pos(3))), s(f(4), unit(4), reduction="sum"), s(f(4), unit(2))])

# -- creation --

F64 = Dtype("float64")
register("tensor as_tensor asarray scalar_tensor", lambda: [s(2.5), s(3), s(True), s(1.5, dtype=F64)])
register("tensor as_tensor asarray", lambda: [s([1, 2]), s([[1.0, 2.0], [3.0, 4.0]]), s([True, False]), s([1, 2.5]), s([]), s([1 + 2j]), s([[1], [2, 3]]), s([1, 2], dtype=Dtype("int8"))])
register("zeros ones empty", lambda: [s(2, 3), s((2, 3)), s(0), s(2, dtype=Dtype("int64")), s([2], dtype=F64), s(-1)])
register("full", lambda: [s((2, 3), 1.5), s((2,), 3), s((), True), s((2,), 1, dtype=F64)])
register("zeros_like ones_like empty_like", lambda: [s(f(2, 3)), s(i(2)), s(f(2), dtype=Dtype("int32")), s(b(2))])
register("full_like", lambda: [s(f(2, 3), 2), s(i(2), 3), s(f(2), 1, dtype=Dtype("int32"))])
register("arange", lambda: [s(5), s(1, 5), s(0, 1, 0.25), s(5, 0, -2), s(3.0), s(3, dtype=F64), s(0), s(1, 0), s(0, 1, 0)])
register("linspace", lambda: [s(0, 1, 5), s(0.0, 1.0, 1), s(0, 1, 0), s(-1, 1, 4, dtype=F64), s(0, 1, -1)])
register("logspace", lambda: [s(0, 2, 3), s(0, 2, 3, base=2.0, dtype=F64)])
register("eye", lambda: [s(3), s(2, 3), s(2, dtype=Dtype("int64")), s(0), s(-1)])
register("tril_indices triu_indices", lambda: [s(3, 3), s(2, 4, 1)])
register("new_zeros new_ones new_empty", lambda: [s(f(2), 2, 3), s(f(2), (2,)), s(i(2), 2)])
register("new_full", lambda: [s(f(2), (2,), 3), s(i(2), (2,), 3)])
register("new_tensor", lambda: [s(f(2), [1, 2]), s(i(2), [1, 2])])

#: Ops whose result is no function of the arguments: only shape and dtype are compared.
UNCERTAIN = {"empty", "empty_like", "new_empty"}
#: Compositions in PyTorch whose last step depends on shapes: the name of their backward node is not compared.
COMPOSED = {"einsum", "meshgrid", "bilinear", "repeat_interleave", "atleast_3d", "tensordot", "kron", "tensor_split",
            *("alias_copy as_strided_copy diagonal_copy expand_copy narrow_copy permute_copy select_copy squeeze_copy "
              "t_copy transpose_copy unfold_copy unsqueeze_copy view_copy view_as_real_copy view_as_complex_copy "
              "slice_copy split_copy split_with_sizes_copy unbind_copy").split()}  # named after the view there
#: Ops of the table without samples, and why.
WITHOUT = {
    "from_numpy": "its argument is an array; tests/interop/test_numpy.py",
    "frombuffer": "its argument is bytes; tests/interop/test_numpy.py",
    "from_file": "its argument is a path; tests/interop/test_numpy.py",
    **dict.fromkeys(("rand", "randn", "rand_like", "randn_like", "randint", "randint_like", "randperm", "normal", "bernoulli",
                     "multinomial", "poisson", "binomial", "uniform_", "normal_", "bernoulli_", "exponential_", "random_",
                     "log_normal_", "cauchy_", "geometric_", "dropout1d",
                     "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout", "gumbel_softmax"),
                    "random: tests of random numbers"),
}  # fmt: skip
