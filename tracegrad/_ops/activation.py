"""Activations: elementwise functions with PyTorch's values at the kinks, and softmax with its own VJP.

Each is written so that JAX's derivative of it *is* PyTorch's convention: a `where` on the branch that PyTorch takes at
the kink. Gelu, softmax and log-softmax have a VJP of their own because it runs faster (``benchmarks/lowerings.md``).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from tracegrad import _dtype
from tracegrad._dtype import COMPLEX, DType
from tracegrad._engine.op import Lowering
from tracegrad._engine.trace import record, unary
from tracegrad._engine.value import Aval, aval
from tracegrad._handle import check_inplace, write
from tracegrad._ops import _rules as rules
from tracegrad._ops._declare import op
from tracegrad._ops._opmath import opmath, require_floating
from tracegrad._ops._out import into
from tracegrad._ops.pointwise import refuse

if TYPE_CHECKING:
    from tracegrad._tensor import Tensor

#: function -> (PyTorch's kernel, named where integers are refused, or "" where they are taken; its backward node)
_NAMES: dict[Callable[..., Any], tuple[str, str]] = {}


def _named(kernel: str, backward: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def note(fn: Callable[..., Any]) -> Callable[..., Any]:
        _NAMES[fn] = kernel, backward
        return fn

    return note


def _elementwise(x: Aval, fn: Callable[..., Any], *params: float) -> Lowering:
    """One operand, the same dtype out; 16-bit types compute in float32."""
    kernel, name = _NAMES[fn]
    if kernel:
        require_floating(x, kernel)
    if x.dtype is _dtype.bool_:
        raise RuntimeError(f"{fn.__name__.strip('_')}: expected a tensor of numbers, got torch.bool")
    wide = opmath(x.dtype)
    return Lowering(lambda a: fn(a.astype(wide), *params).astype(a.dtype), name=name)


def _written(input: Tensor, result: Tensor, inplace: bool) -> Tensor:
    """Return ``result``, or ``input`` pointed at it."""
    if not inplace:
        return result
    check_inplace(input)
    return write(input, result)


# -- rectifiers --------------------------------------------------------------------------------------------------------


@op(inplace=True)
def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """Return ``max(x, 0)`` for every element, with gradient 0 at 0.

    See https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.relu.html

    Example:
        >>> import tracegrad as torch
        >>> torch.relu(torch.tensor([-1.0, 2.0])).tolist()
        [0.0, 2.0]
    """
    return _written(input, unary(_elementwise, _relu, input), inplace)


@_named("", "ReluBackward0")
def _relu(x: Any) -> Any:
    return jnp.where(x <= 0, jnp.zeros((), x.dtype), x)


@op(method=False, function=False)
def relu6(input: Tensor, inplace: bool = False) -> Tensor:
    """Return every element clamped to [0, 6].

    See https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.relu6.html
    """
    return hardtanh(input, 0.0, 6.0, inplace)


@op(method=False, function=False)
def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """Return ``x`` where it is positive, ``negative_slope * x`` elsewhere.

    See https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.leaky_relu.html
    """
    return _written(input, record(_elementwise, (_leaky_relu, float(negative_slope)), input), inplace)


@_named("leaky_relu_cpu", "LeakyReluBackward0")
def _leaky_relu(x: Any, slope: float) -> Any:
    return jnp.where(x > 0, x, x * slope)


@op(method=False, function=False)
def hardtanh(input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Tensor:
    """Return every element clamped to [``min_val``, ``max_val``], with gradient 0 at both bounds.

    Raises:
        ValueError: where ``min_val`` is greater than ``max_val``.

    See https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.hardtanh.html
    """
    return _written(input, record(_elementwise, (_hardtanh, float(min_val), float(max_val)), input), inplace)


@_named("", "HardtanhBackward0")
def _hardtanh(x: Any, low: float, high: float) -> Any:
    if low > high:
        raise ValueError("min_val cannot be greater than max_val")
    bottom, top = jnp.asarray(low, x.dtype), jnp.asarray(high, x.dtype)
    return jnp.where(x <= bottom, bottom, jnp.where(x >= top, top, x))


# -- exponential kinds -------------------------------------------------------------------------------------------------


@op(method=False, function=False)
def elu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """Return ``x`` where it is positive, ``alpha * (exp(x) - 1)`` elsewhere.

    See https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.elu.html
    """
    return _written(input, record(_elementwise, (_elu, float(alpha), 1.0, 1.0), input), inplace)


@_named("elu_cpu", "EluBackward0")
def _elu(x: Any, alpha: float, scale: float, inner: float) -> Any:
    below = jnp.where(x > 0, jnp.zeros((), x.dtype), x)  # no overflow on the branch that is not taken
    return jnp.where(x > 0, x * scale, jnp.expm1(below * inner) * (alpha * scale))


@op(inplace=True, method=False)
def selu(input: Tensor, inplace: bool = False) -> Tensor:
    """Return the self-normalising ``elu``: a fixed ``alpha`` of about 1.673, scaled by about 1.051.

    See https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.selu.html
    """
    params = (_elu, 1.6732632423543772848170429916717, 1.0507009873554804934193349852946, 1.0)
    return _written(input, record(_elementwise, params, input), inplace)


@op(inplace=True, method=False)
def celu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """Return ``x`` where it is positive, ``alpha * (exp(x / alpha) - 1)`` elsewhere.

    Raises:
        RuntimeError: where ``alpha`` is 0.

    See https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.celu.html
    """
    return _written(input, record(_elementwise, (_celu, float(alpha)), input), inplace)


@_named("elu_cpu", "CeluBackward0")
def _celu(x: Any, alpha: float) -> Any:
    if alpha == 0:
        raise RuntimeError("ZeroDivisionError: alpha cannot be 0 for CELU")
    return _elu(x, alpha, 1.0, 1.0 / alpha)


@op(method=False, function=False)
def silu(input: Tensor, inplace: bool = False) -> Tensor:
    """Return ``x * sigmoid(x)`` for every element.

    See https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.silu.html
    """
    return _written(input, unary(_elementwise, _silu, input), inplace)


@_named("silu_cpu", "SiluBackward0")
def _silu(x: Any) -> Any:
    return x * jax.nn.sigmoid(x)


@op(method=False, function=False)
def mish(input: Tensor, inplace: bool = False) -> Tensor:
    """Return ``x * tanh(softplus(x))`` for every element.

    See https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.mish.html
    """
    return _written(input, unary(_elementwise, _mish, input), inplace)


@_named("mish_cpu", "MishBackward0")
def _mish(x: Any) -> Any:
    return x * jnp.tanh(jnp.logaddexp(x, 0.0).astype(x.dtype))


@op(method=False, function=False)
def softplus(input: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """Return ``log(1 + exp(beta * x)) / beta``, and ``x`` itself where ``beta * x`` is above ``threshold``.

    See https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.softplus.html
    """
    return record(_elementwise, (_softplus, float(beta), float(threshold)), input)  # type: ignore[no-any-return]


@_named("softplus_cpu", "SoftplusBackward0")
def _softplus(x: Any, beta: float, threshold: float) -> Any:
    linear = x * beta > threshold
    inner = jnp.where(linear, jnp.zeros((), x.dtype), x * beta)
    return jnp.where(linear, x, jnp.log1p(jnp.exp(inner)) / beta)


@op(method=False, function=False)
def logsigmoid(input: Tensor) -> Tensor:
    """Return ``log(sigmoid(x))`` for every element, without underflow.

    See https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.logsigmoid.html
    """
    return unary(_elementwise, _logsigmoid, input)  # type: ignore[no-any-return]


@_named("log_sigmoid_cpu", "LogSigmoidBackward0")
def _logsigmoid(x: Any) -> Any:
    return jax.nn.log_sigmoid(x)


@op(method=False, function=False)
def softsign(input: Tensor) -> Tensor:
    """Return ``x / (1 + |x|)`` for every element; integers become the default floating-point type.

    See https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.softsign.html
    """
    return record(_softsign, (_dtype.get_default_dtype(),), input)  # type: ignore[no-any-return]


def _softsign(x: Aval, default: DType) -> Lowering:
    if x.dtype.category == _dtype.BOOL:
        raise NotImplementedError("\"abs_cpu\" not implemented for 'Bool'")
    dtype = (x.dtype if x.dtype.is_inexact else default).np

    def fn(a: Any) -> Any:
        a = a.astype(dtype)
        return a / (1 + jnp.where(a >= 0, a, -a))

    return Lowering(fn, name="DivBackward0")


# -- piecewise linear approximations -----------------------------------------------------------------------------------


@op(method=False, function=False)
def hardswish(input: Tensor, inplace: bool = False) -> Tensor:
    """Return ``x * hardsigmoid(x)`` for every element.

    See https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.hardswish.html
    """
    return _written(input, unary(_elementwise, _hardswish, input), inplace)


@_named("hardswish_cpu", "HardswishBackward0")
def _hardswish(x: Any) -> Any:
    inner = jnp.where((x > -3) & (x < 3), x, jnp.zeros((), x.dtype))  # no infinity on the branch that is not taken
    return jnp.where(x <= -3, x * 0, jnp.where(x >= 3, x, inner * (inner + 3) / 6))


@op(method=False, function=False)
def hardsigmoid(input: Tensor, inplace: bool = False) -> Tensor:
    """Return ``x / 6 + 1 / 2`` clamped to [0, 1].

    See https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.hardsigmoid.html
    """
    return _written(input, unary(_elementwise, _hardsigmoid, input), inplace)


@_named("hardsigmoid_cpu", "HardsigmoidBackward0")
def _hardsigmoid(x: Any) -> Any:
    return jnp.where(x <= -3, jnp.zeros((), x.dtype), jnp.where(x >= 3, jnp.ones((), x.dtype), (x + 3) / 6))


# -- gelu --------------------------------------------------------------------------------------------------------------


@op(method=False, function=False)
def gelu(input: Tensor, *, approximate: str = "none") -> Tensor:
    """Return ``x`` times the normal distribution's cumulative function at ``x``.

    Args:
        input: any shape, floating point.
        approximate: ``"none"`` for the error function, ``"tanh"`` for the usual approximation by a tanh.

    See https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.gelu.html
    """
    return record(_gelu, (approximate,), input)  # type: ignore[no-any-return]


def _gelu(x: Aval, approximate: str) -> Lowering:
    require_floating(x, "GeluKernelImpl")
    if approximate not in ("none", "tanh"):
        raise RuntimeError("approximate argument must be either none or tanh.")
    cumulative, slope = (_tanh_cdf, _tanh_slope) if approximate == "tanh" else (_normal_cdf, _normal_slope)
    wide = opmath(x.dtype)

    def fn(a: Any) -> Any:
        b = a.astype(wide)
        return (b * cumulative(b)).astype(a.dtype)

    def forward(a: Any) -> tuple[Any, Any]:
        b = a.astype(wide)
        c = cumulative(b)
        return (b * c).astype(a.dtype), (a, c)

    def backward(saved: Any, g: Any) -> tuple[Any, ...]:
        a, c = saved
        b = a.astype(wide)
        return ((g.astype(wide) * (c + b * slope(b, c))).astype(a.dtype),)

    return Lowering(fn, forward, backward, "GeluBackward0")


def _normal_cdf(x: Any) -> Any:
    return 0.5 * (1 + jax.lax.erf(x * math.sqrt(0.5)))


def _normal_slope(x: Any, c: Any) -> Any:
    return jnp.exp(-0.5 * x * x) * (1 / math.sqrt(2 * math.pi))


def _tanh_cdf(x: Any) -> Any:
    return 0.5 * (1 + jnp.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))


def _tanh_slope(x: Any, c: Any) -> Any:
    return 2 * c * (1 - c) * (math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * x * x))


# -- along a dim -------------------------------------------------------------------------------------------------------


@op(method=False, function=False)
def glu(input: Tensor, dim: int = -1) -> Tensor:
    """Return the first half of ``input`` along ``dim`` times the sigmoid of the second half.

    See https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.glu.html
    """
    return record(_glu, (dim,), input)  # type: ignore[no-any-return]


def _glu(x: Aval, dim: int) -> Lowering:
    if x.ndim == 0:
        raise RuntimeError("glu does not support 0-dimensional tensors")
    axis = rules.dim(dim, x.ndim)
    if x.shape[axis] % 2:
        raise RuntimeError(f"Halving dimension must be even, but dimension {axis} is size {x.shape[axis]}")
    require_floating(x, "glu_cpu")
    wide = opmath(x.dtype)

    def fn(a: Any) -> Any:
        first, second = jnp.split(a.astype(wide), 2, axis)
        return (first * jax.nn.sigmoid(second)).astype(a.dtype)

    return Lowering(fn, name="GluBackward0")


@op()
def softmax(input: Tensor, dim: int | None = None, _stacklevel: Any = 3, dtype: DType | None = None,
            *, out: Tensor | None = None, **numpy: Any) -> Tensor:  # fmt: skip
    """Return ``exp(x) / sum(exp(x))`` along ``dim``.

    Args:
        input: any shape, floating point.
        dim: the dim that sums to one. Leaving it out is deprecated.
        _stacklevel: kept for PyTorch's signature.
        dtype: the type to convert ``input`` to first.
        out: where to write the result.
        **numpy: ``axis`` for ``dim``, as NumPy has it.

    See https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.softmax.html

    Example:
        >>> import tracegrad as torch
        >>> torch.softmax(torch.zeros(2), 0).tolist()
        [0.5, 0.5]
    """
    if out is not None or numpy:
        return into(out, softmax, input, dim, _stacklevel, dtype, **numpy)
    if dim is None:
        dim = _implicit_dim("softmax", input)
    elif type(_stacklevel) is not int:  # ``torch.softmax(x, dim, dtype)``
        _stacklevel, dtype = 3, _stacklevel
    return record(_softmax, (dim, dtype), input)  # type: ignore[no-any-return]


def _softmax(x: Aval, dim: int, dtype: DType | None) -> Lowering:
    def pull(y: Any, g: Any, axis: int) -> Any:
        return y * (g - jnp.sum(g * y, axis, keepdims=True))

    return _normalised(x, dim, dtype, "softmax", probabilities, pull, 1)


def _normalised(x: Aval, dim: int, dtype: DType | None, name: str, run: Callable[[Any, int], Any],
                pull: Callable[[Any, Any, int], Any], lone: int) -> Lowering:  # fmt: skip
    """The rule of softmax and its logarithm: ``pull(y, g, axis)`` needs the output alone, ``lone`` is one of a kind."""
    axis = rules.dim(dim, x.ndim)
    to = dtype or x.dtype
    last = "lastdim_" if axis == x.ndim - 1 or x.ndim == 0 else ""
    kernel = f"{name}_{last}kernel_impl"
    require_floating(aval(x.shape, to, x.device), kernel)
    refuse(kernel, to, COMPLEX)
    node = "".join(map(str.capitalize, name.split("_"))) + "Backward0"
    if x.ndim == 0 or x.shape[axis] == 0:
        return Lowering(lambda a: jnp.where(jnp.isfinite(a), lone, jnp.nan).astype(to.np), name=node)
    wide = opmath(to)

    def exact(a: Any) -> Any:
        return run(a.astype(to.np).astype(wide), axis)

    def forward(a: Any) -> tuple[Any, Any]:
        y = exact(a)
        return y.astype(to.np), (y,)

    def backward(saved: Any, g: Any) -> tuple[Any, ...]:
        return (pull(saved[0], g.astype(wide), axis).astype(x.dtype.np),)

    return Lowering(lambda a: exact(a).astype(to.np), forward, backward, node)


def probabilities(x: Any, axis: int) -> Any:
    """Return the softmax of an array along ``axis``."""
    e = jnp.exp(x - jax.lax.stop_gradient(jnp.max(x, axis, keepdims=True)))
    return e / jnp.sum(e, axis, keepdims=True)


@op()
def log_softmax(input: Tensor, dim: int | None = None, _stacklevel: Any = 3, dtype: DType | None = None,
                *, out: Tensor | None = None, **numpy: Any) -> Tensor:  # fmt: skip
    """Return the logarithm of `softmax` along ``dim``, computed without underflow.

    See https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.log_softmax.html
    """
    if out is not None or numpy:
        return into(out, log_softmax, input, dim, _stacklevel, dtype, **numpy)
    if dim is None:
        dim = _implicit_dim("log_softmax", input)
    elif type(_stacklevel) is not int:
        _stacklevel, dtype = 3, _stacklevel
    return record(_log_softmax, (dim, dtype), input)  # type: ignore[no-any-return]


def _log_softmax(x: Aval, dim: int, dtype: DType | None) -> Lowering:
    def pull(y: Any, g: Any, axis: int) -> Any:
        return g - jnp.exp(y) * jnp.sum(g, axis, keepdims=True)

    return _normalised(x, dim, dtype, "log_softmax", log_probabilities, pull, 0)


def log_probabilities(x: Any, axis: int) -> Any:
    """Return the log-softmax of an array along ``axis``."""
    shifted = x - jax.lax.stop_gradient(jnp.max(x, axis, keepdims=True))
    return shifted - jnp.log(jnp.sum(jnp.exp(shifted), axis, keepdims=True))


@op(method=False, function=False)
def softmin(input: Tensor, dim: int | None = None, _stacklevel: Any = 3, dtype: DType | None = None) -> Tensor:
    """Return the `softmax` of ``-input`` along ``dim``.

    See https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.softmin.html
    """
    if dim is None:
        dim = _implicit_dim("softmin", input)
    return softmax(unary(_elementwise, _negative, input), dim, _stacklevel, dtype)


@_named("", "NegBackward0")
def _negative(x: Any) -> Any:
    return -x


def _implicit_dim(name: str, input: Tensor) -> int:
    warnings.warn(
        f"Implicit dimension choice for {name} has been deprecated. Change the call to include dim=X as an argument.",
        stacklevel=3,
    )
    return 0 if input.ndim in (0, 1, 3) else 1
