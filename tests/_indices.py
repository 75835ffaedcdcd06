"""Random indices of every kind, and what reading and writing by them leaves behind."""

from __future__ import annotations

import warnings

import numpy as np
from hypothesis import strategies as st

SHAPES = [(3,), (2, 3), (3, 2, 4), (1, 3), (2, 1, 3), ()]


@st.composite
def index_programs(draw, writes=False):
    """Draw a shape, an index as source text, and for a write the value, as source text too."""
    pick = lambda options: draw(st.sampled_from(options))  # noqa: E731
    shape = pick(SHAPES)
    items, d, ellipsis = [], 0, False
    for _ in range(draw(st.integers(0, 4))):
        size = shape[d] if d < len(shape) else 2
        kind = pick(["int", "slice", "slice", "tensor", "tensor", "list", "mask", "mask", "None", "...", "bool"])
        if kind in ("int", "list", "tensor", "slice"):
            d += 1
        at = st.integers(-size, size - 1) if size else st.just(0)
        if kind == "int":
            items.append(str(draw(st.integers(-size - 1, size))))
        elif kind == "slice":
            bound = st.none() | st.integers(-size - 2, size + 2)
            items.append(":".join("" if x is None else str(x) for x in
                                  (draw(bound), draw(bound), draw(st.sampled_from([None, None, 1, 2])))))  # fmt: skip
        elif kind == "tensor":
            of = pick([(), (1,), (2,), (2,), (3,), (2, 2), (0,), (2, 1)])
            data = np.array([draw(at) for _ in range(int(np.prod(of)))], np.int64).reshape(of).tolist()
            items.append(f"torch.tensor({data}, dtype=torch.int64)")
        elif kind == "list":
            items.append(str([draw(at) for _ in range(draw(st.integers(0, 2)))]))
        elif kind == "mask":
            of = shape[d : d + pick([1, 1, 2])]
            data = np.array([draw(st.booleans()) for _ in range(int(np.prod(of)))], bool).reshape(of).tolist()
            items.append(f"torch.tensor({data}, dtype=torch.bool)")
            d += len(of)
        elif kind == "...":
            items.append("None" if ellipsis else "...")
            ellipsis = True
        else:
            items.append("None" if kind == "None" else str(draw(st.booleans())))
    index = ", ".join(items) + "," * (len(items) == 1 and draw(st.booleans())) if items else "()"
    if not writes:
        return shape, index, None
    taken = _shape_of(shape, index)
    if draw(st.integers(0, 3)) == 3:
        return shape, index, pick(["3", "2.5", "True"])
    to = tuple(n if draw(st.integers(0, 3)) else 1 for n in taken)
    to = pick([to, to, to, to[1:], (1, *to), (2, *to)])
    dtype = pick(["float64", "float64", "float32", "int64"])
    wants = ".requires_grad_()" if dtype != "int64" and draw(st.booleans()) else ""
    return shape, index, f"torch.arange(10, {10 + int(np.prod(to))}).reshape({to}).to(torch.{dtype}){wants}"


def _shape_of(shape, index):
    import tracegrad

    try:
        return tuple(eval(f"x[{index}]", {"torch": tracegrad, "x": tracegrad.zeros(shape)}).shape)
    except (IndexError, RuntimeError):
        return (2,)


def outcome(program, torch):
    """Return what reading, or writing and differentiating, gives: lists, or an error's type and words."""
    shape, index, value = program
    count = int(np.prod(shape))
    w = torch.arange(1.0, 1.0 + count, dtype=torch.float64).reshape(shape).requires_grad_()
    space = {"torch": torch, "y": w * 1}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if value is None:
                exec(f"r = y[{index}]", space)
            else:
                exec(f"v = {value}\ny[{index}] = v\nr = y", space)
        r, v = space["r"], space.get("v")
        (r * torch.arange(1.0, 1.0 + r.numel(), dtype=torch.float64).reshape(r.shape)).sum().backward()
    except (IndexError, RuntimeError, TypeError, ValueError) as error:
        return type(error).__name__, "" if "index" in str(error) else str(error)
    where = (r.stride(), r.storage_offset(), r._base is space["y"]) if value is None and r._is_view() else r._version
    return (r.detach().tolist(), tuple(r.shape), w.grad.tolist(), r._is_view() if value is None else None, where,
            v.grad.tolist() if getattr(v, "grad", None) is not None else None)  # fmt: skip
