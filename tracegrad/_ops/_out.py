"""``out=``: the result of an op, written into a tensor that is there already.

NOTE [out=] An op that has an ``out=`` form in PyTorch says so in its own signature, and begins with ::

    if out is not None:
        return into(out, exp, input)

which calls the op again without ``out`` and writes what it returned. So the form is that of the one declaration,
editors and type checkers see it, and a call without it pays for one comparison: 5 to 15 ns, where a function around the
op would cost 100 ns and a frame in every traceback. As an alias of the function, the method takes ``out`` too.

NOTE [NumPy's names] PyTorch's argument parser takes ``axis`` for ``dim`` and ``keepdims`` for ``keepdim``. An op with
these arguments takes further keywords, ``**numpy``; where there are some, it calls itself again with the right names.
So do ops that take varargs by a keyword too. That costs a call without them the making of an empty dictionary, 15 ns;
ops without a dim pay nothing.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

from tracegrad._dtype import DType, type_name
from tracegrad._engine import trace
from tracegrad._handle import Handle, resize, write
from tracegrad._ops._declare import cast_rule
from tracegrad._ops._opmath import c_name

R = TypeVar("R")

#: Names that arguments have besides those in the signatures: NumPy's, and those of other forms of the op.
_OTHER_NAMES = {
    "axis": ("dim",), "keepdims": ("keepdim",), "split_size": ("split_size_or_sections",),
    "sections": ("indices_or_sections",), "indices": ("indices_or_sections",),
}  # fmt: skip

#: Ops whose ``out`` must have the dtype of the result; into others it is converted, as by an in-place op.
_EXACT = frozenset("""
    addbmm addmm addmv addr all amax amin aminmax any argmax argmin baddbmm bmm chain_matmul cross cummax cummin
    diag dot gather gcd hardtanh histc index_add index_copy index_reduce index_select inner isin kthvalue lcm
    log_softmax masked_select matmul max median min mm mode mv nanmedian nonzero norm polar quantile nanquantile
    renorm scatter scatter_add scatter_reduce searchsorted softmax sort take take_along_dim tensordot topk tril
    triu vdot where
    """.split())


def renamed(function: Callable[..., R], numpy: dict[str, Any], *args: Any, **kwargs: Any) -> R:
    """Return ``function(*args, **kwargs)`` with what was given by NumPy's names: see NOTE [NumPy's names].

    Raises:
        TypeError: for a name that is none, or of an argument that was given by its own name too.
    """
    args, kwargs = _named(function, args, {**kwargs, **numpy})
    return function(*args, **kwargs)


def _named(function: Callable[..., Any], args: tuple[Any, ...],
           kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:  # fmt: skip
    code = function.__code__
    names = code.co_varnames[: code.co_argcount]
    count = code.co_argcount + code.co_kwonlyargcount
    optional = dict(zip(reversed(names), reversed(function.__defaults__ or ()))) | (function.__kwdefaults__ or {})
    for name in [k for k in kwargs if k not in code.co_varnames[:count]]:
        value = kwargs.pop(name)
        varargs = (code.co_varnames[count], "dtype") if code.co_flags & inspect.CO_VARARGS else ()
        if len(args) == len(names) and name in varargs:
            args = (*args, value)  # as in ``reshape(shape=(2, 3))``
            continue
        own = next((x for x in _OTHER_NAMES.get(name, ()) if x in code.co_varnames[:count]), None)
        if own is None:
            raise TypeError(f"{function.__name__}() got an unexpected keyword argument '{name}'")
        i = names.index(own) if own in names else len(args)
        if (args[i] if i < len(args) else kwargs.get(own, optional.get(own))) is not optional.get(own):
            raise TypeError(f"{function.__name__}() got both '{own}' and '{name}', which is another name of it")
        if i < len(args):
            args = (*args[:i], value, *args[i + 1 :])
        else:
            kwargs[own] = value
    return args, kwargs


def into(out: Any, function: Callable[..., R], *args: Any, **kwargs: Any) -> R:
    """Write the result of ``function(*args, **kwargs)`` into ``out``, a tensor or as many as there are results.

    Without ``out``, only arguments are renamed: see NOTE [NumPy's names].

    A tensor of another shape is resized, with a warning unless it is empty or the op makes one from nothing. An op
    with a ``dtype`` computes in that of ``out``.

    Raises:
        RuntimeError: as PyTorch does, where gradients are wanted or the dtypes do not fit.
    """
    args, kwargs = _named(function, args, kwargs)
    if out is None:
        return function(*args, **kwargs)
    name = function.__name__
    if "dtype" in (function.__kwdefaults__ or ()) and isinstance(out, Handle):
        asked = kwargs.get("dtype")
        if asked is not None and asked is not out.dtype:
            raise RuntimeError(f"dtype {type_name(asked)} does not match dtype of out parameter "
                               f"({type_name(out.dtype)})")
        kwargs["dtype"] = out.dtype
    result: Any = function(*args, **kwargs)
    several = isinstance(result, tuple)
    outs, results = (out, result) if several else ((out,), (result,))
    if several and (not isinstance(out, (tuple, list)) or len(out) != len(result)):
        raise TypeError(f"{name}(): argument 'out' must be tuple of {len(result)} Tensors, not {type(out).__name__}")
    for to, x in zip(outs, results):
        if not isinstance(to, Handle):
            raise TypeError(f"{name}(): argument 'out' must be Tensor, not {type(to).__name__}")
        if trace.state.mode.grad and (to._value.spec.wants or x._value.spec.wants):
            raise RuntimeError(f"{name}(): functions with out=... arguments don't support automatic differentiation, "
                               "but one of the arguments requires grad.")
        _check_dtype(name, x.dtype, to.dtype)
    creates = "dtype" in (function.__kwdefaults__ or ()) and not any(isinstance(a, Handle) for a in args)
    for to, x in zip(outs, results):
        _fill(to, x, warn=not creates)
    if not several:
        return out  # type: ignore[no-any-return]
    return type(result)(*out) if hasattr(result, "_fields") else tuple(out)  # type: ignore[return-value]


def _check_dtype(name: str, found: DType, wanted: DType) -> None:
    if found is wanted:
        return
    if name in ("clamp", "clamp_max", "clamp_min", "round"):
        raise RuntimeError(f"Found dtype {type_name(wanted)} but expected {type_name(found)}")
    if name in _EXACT:
        raise RuntimeError(f"Expected out tensor to have dtype {c_name(found)}, but got {c_name(wanted)} instead")
    if wanted.category < found.category:
        raise RuntimeError(f"result type {type_name(found)} can't be cast to the desired output type "
                           f"{type_name(wanted)}")


def _fill(out: Any, x: Any, warn: bool) -> None:
    if x.dtype is not out.dtype:
        x = trace.record(cast_rule, (out.dtype,), x)
    if x.shape == out.shape:
        write(out, x)
        return
    if warn and out.shape.numel():
        warnings.warn(
            f"An output with one or more elements was resized since it had shape {list(out.shape)}, which does not "
            f"match the required output shape {list(x.shape)}. This behavior is deprecated, and in a future PyTorch "
            "release outputs will not be resized unless they have zero elements. You can explicitly reuse an out "
            "tensor t by resizing it, inplace, to zero elements with t.resize_(0).", stacklevel=4)
    resize(out, x)
