"""The forms in which an op may be called: by PyTorch's names of its arguments, by NumPy's, with numbers for tuples."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import numpy as np

#: What PyTorch's argument parser takes for its own names.
NUMPY = {"dim": "axis", "keepdim": "keepdims"}

Form = tuple[str, tuple[Any, ...], dict[str, Any]]


def signatures(torch: Any, name: str, function: Any) -> list[list[str]]:
    """Return the names of the arguments of every form that PyTorch's ``function`` has, the tensor as ``input``."""
    found = []
    try:
        found.append(list(inspect.signature(function).parameters))
    except (ValueError, TypeError):  # written in C
        for full in (name, "special_" + name, "fft_" + name):
            for schema in torch._C._jit_get_schemas_for_operator("aten::" + full):
                names = ["input" if a.name == "self" else a.name for a in schema.arguments]
                if names not in found and names[:1] != ["a"]:  # of numbers, not of tensors
                    found.append(names)
    return found


def forms(torch: Any, name: str, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[Form]:
    """Yield how ``function(*args, **kwargs)`` may be written: the form, its arguments and its keywords."""
    on_tensor = bool(args) and isinstance(args[0], np.ndarray)
    for names in signatures(torch, name, function):
        if len(names) < len(args):
            continue
        named = {**dict(zip(names, args)), **kwargs}
        yield "keywords", (), named
        if on_tensor:
            rest = {k: v for k, v in named.items() if k != names[0]}
            yield "keywords", args[:1], rest
            yield "NumPy's names", args[:1], {NUMPY.get(k, k): v for k, v in rest.items()}
    yield "arguments", args, kwargs
    yield "nothing", (), {}
    yield "a wrong keyword", args, {**kwargs, "bogus": 1}
    for i, x in enumerate(args):
        others: list[tuple[Any, ...]] = []
        if type(x) is int:
            others = [((x,),), ([x],)]
        elif type(x) is tuple and x and all(type(n) is int for n in x):
            others = [(list(x),), *([x] if i == len(args) - 1 else []), *([(x[0],)] if len(x) == 1 else [])]
        for other in others:
            yield f"argument {i} otherwise", (*args[:i], *other, *args[i + 1 :]), kwargs
