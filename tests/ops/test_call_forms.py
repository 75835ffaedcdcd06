"""Every way in which PyTorch lets an op be called is one here: keywords, NumPy's names, varargs, functions, methods."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from calls import FUNCTIONS, flat, name_of, theirs
from forms import forms
from samples import REGISTRY, Dtype

import tracegrad

pytestmark = pytest.mark.oracle

#: What PyTorch takes and we do not: the op, and the form or a keyword.
REFUSED = {
    # Their dim must be given, or nobody calls them so.
    **dict.fromkeys(("gather", "index_add", "index_copy", "index_fill", "index_reduce", "index_select", "narrow",
                     "renorm", "scatter", "scatter_add", "scatter_reduce", "select", "select_scatter", "slice_scatter",
                     "unflatten", "pairwise_distance", "narrow_copy", "select_copy", "slice_copy", "split_copy",
                     "split_with_sizes_copy", "unbind_copy", "unsqueeze_copy"), "NumPy's names"),
    # Varargs that nobody documents.
    **dict.fromkeys(("broadcast_to", "count_nonzero", "hsplit"), "argument 1 otherwise"),
    **dict.fromkeys(("block_diag", "broadcast_tensors"), "nothing"),
    "det": "keywords",  # `linalg.det` has another name for its argument, and is the same function here
}  # fmt: skip


def outcome(lib: Any, function: Any, args: Any, kwargs: Any) -> Any:
    """Return the dtypes and shapes of the results, or the type of the error."""
    def tensors(x: Any) -> Any:
        if isinstance(x, np.ndarray):
            return lib.tensor(np.asarray(x))
        if isinstance(x, (tuple, list)):
            return type(x)(map(tensors, x))
        return getattr(lib, x) if isinstance(x, Dtype) else x

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            outs = flat(function(*tensors(args), **{k: tensors(v) for k, v in kwargs.items()}))
        except Exception as error:
            return type(error)
    return [(name_of(t.dtype), tuple(t.shape)) if hasattr(t, "detach") else type(t).__name__ for t in outs]


@pytest.mark.parametrize("name", sorted(n for n in FUNCTIONS if n in REGISTRY and n != "getitem"))
def test_call_forms(name):
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle: pip install -e .[oracle]")
    function = theirs(torch, name)
    good = [s for s in REGISTRY[name] if isinstance(outcome(torch, function, s.args, s.kwargs), list)][:3]
    problems, seen = [], set()
    for sample in good:
        for form, args, kwargs in forms(torch, name, function, sample.args, sample.kwargs):
            for method in (False, True):
                if method and not (args and isinstance(args[0], np.ndarray) and hasattr(torch.Tensor, name)):
                    continue
                f, g = (getattr(torch.Tensor, name), getattr(tracegrad.Tensor, name)) if method else (
                    function, FUNCTIONS[name])  # fmt: skip
                key = (form, method, len(args), tuple(kwargs), tuple(type(a).__name__ for a in args))
                if key in seen or REFUSED.get(name) == form:
                    continue
                seen.add(key)
                expected, found = outcome(torch, f, args, kwargs), outcome(tracegrad, g, args, kwargs)
                strict = isinstance(expected, list) or form == "a wrong keyword" or (
                    form == "nothing" and expected is TypeError and not isinstance(found, list))  # fmt: skip
                if strict and expected != found:
                    problems.append(f"{name} with {form} {list(kwargs)}: {expected} and {found}")
    assert not problems, "PyTorch and tracegrad differ\n" + "\n".join(problems)


def test_errors_of_names():
    x = tracegrad.ones(2, 3)
    with pytest.raises(TypeError, match="sum.. got an unexpected keyword argument 'bogus'"):
        x.sum(bogus=1)
    with pytest.raises(TypeError, match="got both 'dim' and 'axis'"):
        x.sum(1, axis=0)
    with pytest.raises(TypeError, match='missing 1 required positional arguments: "dim"'):
        x.cumsum()
    with pytest.raises(TypeError, match="reshape.. got an unexpected keyword argument 'bogus'"):
        x.reshape(bogus=(3, 2))
    out = tracegrad.empty(2)
    assert tracegrad.sum(x, axis=1, out=out) is out and out.tolist() == [3, 3]
    assert x.cumsum_(axis=0).tolist() == [[1, 1, 1], [2, 2, 2]]
