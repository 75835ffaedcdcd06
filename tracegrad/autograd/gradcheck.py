"""Gradients against finite differences.

Every perturbed evaluation is the same trace with another leaf, and every row of the analytical Jacobian the same
backward with another cotangent; so a check runs two programs, many times.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tracegrad import _dtype
from tracegrad._engine import credit, trace
from tracegrad._engine.value import aval, concrete
from tracegrad._handle import Handle, tensor_of, want_grad
from tracegrad.autograd._api import grad
from tracegrad.autograd.forward_ad import dual_level, make_dual, unpack_dual

if TYPE_CHECKING:
    from tracegrad._tensor import Tensor

_NONDETERMINISM = (
    "\n\nNOTE: If your op relies on non-deterministic operations i.e., it is listed here:\n"
    "https://pytorch.org/docs/stable/generated/torch.use_deterministic_algorithms.html\n"
    "this failure might be expected.\n\nIf you are adding a new operator, please file an issue and then use one of "
    "the\nworkarounds. The workaround depends on how your test invokes gradcheck/gradgradcheck.\n"
)


class GradcheckError(RuntimeError):
    """Raised by `gradcheck` and `gradgradcheck` where a gradient is wrong."""


def gradcheck(
    func: Callable[..., Any],
    inputs: Any,
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
    nondet_tol: float = 0.0,
    check_undefined_grad: bool = True,
    check_grad_dtypes: bool = False,
    check_batched_grad: bool = False,
    check_batched_forward_grad: bool = False,
    check_forward_ad: bool = False,
    check_backward_ad: bool = True,
    fast_mode: bool = False,
    masked: bool | None = None,
) -> bool:
    """Compare the gradients of ``func`` with finite differences.

    Args:
        func: takes the inputs and returns a tensor or a tuple of tensors.
        inputs: a tensor or a tuple; those that want gradients should be float64 or complex128.
        eps: how far elements are moved.
        atol: by how much a derivative may be wrong at least.
        rtol: by how much it may be wrong as a part of itself.
        raise_exception: raise, rather than return False.
        nondet_tol: by how much two backwards of the same may differ.
        check_undefined_grad: accepted for PyTorch's signature.
        check_grad_dtypes: raise where a gradient has not its input's dtype.
        check_batched_grad: compare with the gradients of a batch of cotangents.
        check_batched_forward_grad: accepted for PyTorch's signature.
        check_forward_ad: compare forward-mode derivatives too.
        check_backward_ad: compare gradients.
        fast_mode: accepted for PyTorch's signature; all elements are compared.
        masked: accepted for PyTorch's signature.

    Raises:
        GradcheckError: where a gradient is wrong.
        ValueError: where no input wants gradients.

    See https://docs.pytorch.org/docs/stable/generated/torch.autograd.gradcheck.gradcheck.html

    Example:
        >>> import tracegrad as torch
        >>> x = torch.tensor([0.5, 2.0], dtype=torch.float64, requires_grad=True)
        >>> torch.autograd.gradcheck(torch.sin, x)
        True
    """
    if not (check_forward_ad or check_backward_ad):
        raise AssertionError("Expected at least one of check_forward_ad or check_backward_ad to be True")
    if check_batched_grad and not check_backward_ad:
        raise AssertionError("Setting check_batched_grad=True requires check_backward_ad to be True")
    try:
        given = _tuple(inputs)
        moved = _differentiable_inputs(given)
        with credit.unlimited():
            numerical = _numerical(func, given, moved, eps)
            if check_backward_ad:
                _check_backward(func, given, moved, numerical, atol, rtol, nondet_tol, check_grad_dtypes,
                                check_batched_grad)  # fmt: skip
            if check_forward_ad:
                _check_forward(func, given, moved, numerical, atol, rtol)
    except GradcheckError:
        if raise_exception:
            raise
        return False
    return True


def gradgradcheck(
    func: Callable[..., Any],
    inputs: Any,
    grad_outputs: Any = None,
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    gen_non_contig_grad_outputs: bool = False,
    raise_exception: bool = True,
    nondet_tol: float = 0.0,
    check_undefined_grad: bool = True,
    check_grad_dtypes: bool = False,
    check_batched_grad: bool = False,
    check_fwd_over_rev: bool = False,
    check_rev_over_rev: bool = True,
    fast_mode: bool = False,
    masked: bool = False,
) -> bool:
    """Compare the gradients of the gradients of ``func`` with finite differences.

    Args:
        func: takes the inputs and returns a tensor or a tuple of tensors.
        inputs: a tensor or a tuple; those that want gradients should be float64 or complex128.
        grad_outputs: the cotangents; random ones when None.
        eps: how far elements are moved.
        atol: by how much a derivative may be wrong at least.
        rtol: by how much it may be wrong as a part of itself.
        gen_non_contig_grad_outputs: accepted for PyTorch's signature.
        raise_exception: raise, rather than return False.
        nondet_tol: by how much two backwards of the same may differ.
        check_undefined_grad: accepted for PyTorch's signature.
        check_grad_dtypes: raise where a gradient has not its input's dtype.
        check_batched_grad: compare with the gradients of a batch of cotangents.
        check_fwd_over_rev: compare forward-mode derivatives of the gradients.
        check_rev_over_rev: compare gradients of the gradients.
        fast_mode: accepted for PyTorch's signature; all elements are compared.
        masked: accepted for PyTorch's signature.

    Raises:
        GradcheckError: where a derivative is wrong.

    See https://docs.pytorch.org/docs/stable/generated/torch.autograd.gradcheck.gradgradcheck.html
    """
    if not (check_fwd_over_rev or check_rev_over_rev):
        raise AssertionError("Expected at least one of check_fwd_over_rev or check_rev_over_rev to be True")
    given = _tuple(inputs)
    count = len(given)
    if grad_outputs is None:
        random = np.random.default_rng(0)
        cotangents = [_random(o, random) for o in _tuple(func(*given)) if _wants(o)]
    else:
        cotangents = list(_tuple(grad_outputs))

    def gradients(*args: Any) -> tuple[Any, ...]:
        xs, cts = args[:count], args[count:]
        outs = [o for o in _tuple(func(*xs)) if _wants(o)]
        wanted = [x for x in xs if _wants(x)]
        found = grad(outs, wanted, cts, create_graph=True, allow_unused=True)
        return tuple(g for g in found if g is not None)

    return gradcheck(gradients, (*given, *cotangents), eps=eps, atol=atol, rtol=rtol, raise_exception=raise_exception,
                     nondet_tol=nondet_tol, check_undefined_grad=check_undefined_grad,
                     check_grad_dtypes=check_grad_dtypes, check_batched_grad=check_batched_grad,
                     check_forward_ad=check_fwd_over_rev, check_backward_ad=check_rev_over_rev,
                     fast_mode=fast_mode, masked=masked)  # fmt: skip


def _tuple(x: Any) -> tuple[Any, ...]:
    return tuple(x) if isinstance(x, (tuple, list)) else (x,)


def _wants(x: Any) -> bool:
    return isinstance(x, Handle) and x._value.spec.wants


def _random(like: Any, random: np.random.Generator) -> Tensor:
    of = like._value.spec.aval
    array = random.standard_normal(of.shape)
    if of.dtype.is_complex:
        array = array + 1j * random.standard_normal(of.shape)
    made = tensor_of(concrete(np.asarray(array, of.dtype.np), of))
    want_grad(made)
    return made


def _differentiable_inputs(inputs: Sequence[Any]) -> list[int]:
    moved = [i for i, x in enumerate(inputs) if _wants(x)]
    if not moved:
        raise ValueError("gradcheck expects at least one input tensor to require gradient, but none of them have "
                         "requires_grad=True.")
    for i in moved:
        if inputs[i].dtype not in (_dtype.float64, _dtype.complex128):
            warnings.warn(
                f"Input #{i} requires gradient and is not a double precision floating point or complex. This check "
                "will likely fail if all the inputs are not of double precision floating point or complex. ",
                stacklevel=3)
    return moved


def _array(x: Any) -> np.ndarray[Any, Any]:
    return np.array(trace.force(x._value))


def _outputs(func: Callable[..., Any], inputs: Sequence[Any]) -> list[Any]:
    return [o for o in _tuple(func(*inputs)) if isinstance(o, Handle) and o.dtype.is_inexact]


def _parts(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the elements as one real vector: the real parts, then the imaginary ones."""
    flat = array.ravel()
    return np.concatenate([flat.real, flat.imag]) if np.iscomplexobj(flat) else flat.astype(np.float64)


def _numerical(func: Callable[..., Any], inputs: Sequence[Any], moved: Sequence[int],
               eps: float) -> list[list[np.ndarray[Any, Any]]]:  # fmt: skip
    """Return by moved input and output a matrix of derivatives: a row per part of the input, a column per output's."""
    found = []
    for i in moved:
        x = inputs[i]
        before = x._value
        start = _array(x)
        rows: list[list[np.ndarray[Any, Any]]] = []
        try:
            for step in (eps, 1j * eps) if np.iscomplexobj(start) else (eps,):
                for element in np.ndindex(start.shape):
                    ends = []
                    for sign in (1, -1):
                        array = start.copy()
                        array[element] += sign * step
                        x._value = concrete(array, before.spec.aval, before.source)
                        ends.append([_parts(_array(o)) for o in _outputs(func, inputs)])
                    rows.append([(a - b) / (2 * eps) for a, b in zip(*ends)])
        finally:
            x._value = before
        found.append([np.array(column) for column in zip(*rows)])
    return found


def _units(of: Any) -> list[Any]:
    """Return the cotangents that pick one part of an output each."""
    units = []
    for unit in (1, 1j) if of.dtype.is_complex else (1,):
        for element in np.ndindex(*of.shape):
            array = np.zeros(of.shape, of.dtype.np)
            array[element] = unit
            units.append(tensor_of(concrete(array, of)))
    return units


def _check_backward(func: Callable[..., Any], inputs: Sequence[Any], moved: Sequence[int],
                    numerical: list[list[np.ndarray[Any, Any]]], atol: float, rtol: float, nondet_tol: float,
                    check_dtypes: bool, check_batched: bool) -> None:  # fmt: skip
    wanted = [inputs[i] for i in moved]
    outputs = _outputs(func, inputs)
    for o, output in enumerate(outputs):
        if not output._value.spec.wants:
            if any((numerical[k][o] != 0).any() for k in range(len(moved))):
                raise GradcheckError("Numerical gradient for function expected to be zero")
            continue
        units = _units(output._value.spec.aval)
        runs = [[_gradients(output, wanted, unit, check_dtypes) for unit in units] for _ in range(2)]
        for k, x in enumerate(wanted):
            analytical, again = (
                np.stack([_parts(g[k]) for g in run], 1) if run else np.zeros_like(numerical[k][o]) for run in runs)
            if analytical.size and np.abs(analytical - again).max() > nondet_tol:
                raise GradcheckError(
                    "Backward is not reentrant, i.e., running backward with same input and grad_output multiple times "
                    "gives different values, although analytical gradient matches numerical gradient."
                    f"The tolerance for nondeterminism was {nondet_tol}." + _NONDETERMINISM)
            _compare(analytical, numerical[k][o], output, x, o, k, atol, rtol, "")
        if check_batched and units:
            _check_batch(output, wanted, units, runs[0], o)


def _gradients(output: Any, wanted: Sequence[Any], unit: Any, check_dtypes: bool) -> list[np.ndarray[Any, Any]]:
    found = grad(output, wanted, unit, retain_graph=True, allow_unused=True)
    arrays = []
    for x, g in zip(wanted, found):
        if g is None:
            arrays.append(np.zeros(x.shape, x.dtype.np))
            continue
        if check_dtypes and g.dtype is not x.dtype:
            raise GradcheckError("Gradient has dtype mismatch")
        arrays.append(_array(g))
    return arrays


def _check_batch(output: Any, wanted: Sequence[Any], units: Sequence[Any], single: Sequence[Sequence[Any]],
                 index: int) -> None:  # fmt: skip
    of = output._value.spec.aval
    array = np.stack([_array(u) for u in units])
    batch = tensor_of(concrete(array, _aval(array, of)))
    try:
        found = grad(output, wanted, batch, retain_graph=True, allow_unused=True, is_grads_batched=True)
    except RuntimeError as error:
        raise GradcheckError(f"While computing batched gradients, got: {error}") from error
    for k, g in enumerate(found):
        expected = np.stack([s[k] for s in single])
        if g is not None and not np.allclose(_array(g), expected, 1e-5, 1e-8):
            raise GradcheckError(f"For output {index} and input {k}, the batched gradients differ from those of single "
                                 f"cotangents:\n{_array(g)}\n{expected}")


def _aval(array: np.ndarray[Any, Any], like: Any) -> Any:
    return aval(array.shape, like.dtype, like.device)


def _check_forward(func: Callable[..., Any], inputs: Sequence[Any], moved: Sequence[int],
                   numerical: list[list[np.ndarray[Any, Any]]], atol: float, rtol: float) -> None:  # fmt: skip
    for k, i in enumerate(moved):
        x = inputs[i]
        rows: list[list[np.ndarray[Any, Any]]] = []
        outputs: list[Any] = []
        for unit in _units(x._value.spec.aval):
            with dual_level():
                args = list(inputs)
                args[i] = make_dual(tensor_of(concrete(_array(x), x._value.spec.aval)), unit)
                outputs = _outputs(func, args)
                tangents = [unpack_dual(o).tangent for o in outputs]
                rows.append([_parts(np.zeros(o.shape, o.dtype.np) if t is None else _array(t))
                             for o, t in zip(outputs, tangents)])  # fmt: skip
        for o, (output, column) in enumerate(zip(outputs, zip(*rows))):
            analytical = np.array(column)
            _compare(analytical, numerical[k][o], output, x, o, k, atol, rtol, " computed with forward mode AD")


def _compare(analytical: np.ndarray[Any, Any], numerical: np.ndarray[Any, Any], output: Any, x: Any, o: int, k: int,
             atol: float, rtol: float, how: str) -> None:  # fmt: skip
    parts = ("real", "imaginary") if output.dtype.is_complex else ("",)
    columns = analytical.shape[1] // len(parts)
    for p, part in enumerate(parts):
        a, n = (_complex(m[:, p * columns : (p + 1) * columns], x) for m in (analytical, numerical))
        if np.allclose(a, n, rtol, atol, equal_nan=False):
            continue
        only = f"While considering the {part} part of complex outputs only, " if part else ""
        raise GradcheckError(f"{only}Jacobian{how} mismatch for output {o} with respect to input {k},\n"
                             f"numerical:{_text(n)}\nanalytical:{_text(a)}\n")


def _complex(matrix: np.ndarray[Any, Any], x: Any) -> np.ndarray[Any, Any]:
    """Return PyTorch's gradients: of complex inputs, complex numbers of the derivatives by both parts."""
    if not x.dtype.is_complex:
        return matrix
    half = len(matrix) // 2
    return matrix[:half] + 1j * matrix[half:]


def _text(array: np.ndarray[Any, Any]) -> str:
    dtype = _dtype.complex128 if np.iscomplexobj(array) else _dtype.float64
    array = np.asarray(array, dtype.np)
    return repr(tensor_of(concrete(array, aval(array.shape, dtype))))
