"""Every op of the table under ``vmap``: each lane is what the op gives alone, and so are the gradients from outside."""

from __future__ import annotations

import warnings

import pytest
from calls import FUNCTIONS, arguments, cotangent, differences, flat, loose, name_of, run, usable
from samples import REGISTRY, UNCERTAIN

import tracegrad

#: What a mapped tensor cannot be asked: ops that look at elements for the shape of their result, or return no tensors.
_LOOKS = ("vmap: It looks like you're", "must only return Tensors")
NAMES = sorted(n for n in FUNCTIONS if n in REGISTRY and n not in UNCERTAIN)


def mapped(fn, call):
    """Return the results and gradients of ``fn`` over two equal lanes of what can be mapped."""
    leaves = [tracegrad.stack([t.detach()] * 2).requires_grad_(t.requires_grad) for t in call.leaves]
    found = []

    def lane(*tensors):
        args, kwargs = arguments(tracegrad, call.sample, list(tensors))
        outs = fn(*args, **kwargs)
        found[:] = [x for x in flat(outs) if not hasattr(x, "detach")]
        return tuple(x for x in flat(outs) if hasattr(x, "detach"))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        outs = tracegrad.vmap(lane, randomness="same")(*leaves)
    roots = [t for t in outs if t.requires_grad]
    wanting = [t for t in leaves if t.requires_grad]
    if not roots:
        return outs, None
    cts = [tracegrad.stack([tracegrad.tensor(cotangent(t.shape[1:], name_of(t.dtype), n))] * 2)
           for n, t in enumerate(roots)]  # fmt: skip
    return outs, tracegrad.autograd.grad(roots, wanting, cts, allow_unused=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_each_lane_is_the_op_alone(name):
    problems = []
    for call in run(tracegrad, FUNCTIONS[name], usable(name)):
        if call.error is not None or not call.arrays or not any(hasattr(x, "detach") for x in call.outs):
            continue
        what = f"{name}{call.sample!r}"
        try:
            outs, gradients = mapped(FUNCTIONS[name], call)
        except RuntimeError as error:
            if not any(text in str(error) for text in _LOOKS):
                problems.append(f"{what}: {error!r}")
            continue
        except Exception as error:
            problems.append(f"{what}: {type(error).__name__} {str(error)[:200]}")
            continue
        alone = [x for x in call.outs if hasattr(x, "detach")]
        for a, b in zip(outs, alone):
            problems += differences(a[1], b, what, loose(call))
            if a.requires_grad != b.requires_grad:
                problems.append(f"{what}: requires_grad is {a.requires_grad}, alone {b.requires_grad}")
        for a, b in zip(gradients or (), call.grads or ()):
            if (a is None) != (b is None):
                problems.append(f"{what}: gradient {a}, alone {b}")
            elif a is not None:
                problems += differences(a[1], b, f"{what}: gradient", 10 * loose(call))
    assert not problems, "\n".join(problems)
