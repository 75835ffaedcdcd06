"""Random programs as lines of source: the same text runs in tracegrad, in PyTorch and in the reference."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from _reference import Cell, Reference
from hypothesis import strategies as st

NUMBERS = ["0", "1", "2", "-1", "0.5", "1.5", "2.0", "0.0", "True", "3"]
UNARY = ["{a}.sin()", "{a}.cos()", "{a}.tanh()", "{a}.sigmoid()", "{a}.abs()", "{a}.relu()", "-{a}", "{a} ** 2",
         "{a}.abs().log1p()", "{a}.float()", "{a}.double()", "{a}.clone()"]  # fmt: skip
BINARY = ["{a} + {b}", "{a} - {b}", "{a} * {b}", "{a} / {b}", "{a} @ {b}", "torch.maximum({a}, {b})", "{a} > {b}",
          "torch.where({a} > 0, {a}, {b})", "torch.cat([{a}, {b}], 0)", "torch.stack([{a}, {b}])",
          "{a} == {b}"]  # fmt: skip
SCALAR = ["{a} * {n}", "{a} + {n}", "{n} - {a}", "{a} / {n}", "{n} / {a}", "{n} * {a}", "{a} > {n}"]
REDUCE = ["{a}.sum()", "{a}.mean()", "{a}.sum({d})", "{a}.sum({d}, keepdim=True)", "{a}.mean({d})", "{a}.cumsum({d})",
          "{a}.logsumexp({d})", "{a}.softmax({d})", "{a}.argmax({d})", "{a}.var({d}, correction=0)"]  # fmt: skip
VIEWS = ["{a}.reshape(-1)", "{a}.unsqueeze({d})", "{a}.transpose(0, {d})", "{a}.squeeze()", "{a}.expand(2, -1)",
         "{a}[0]", "{a}[-1]", "{a}[..., 1:]", "{a}[None]", "{a}[:, 0]", "{a}[1:, None]", "{a}[::2]"]  # fmt: skip
READS = ["{a}.flip({d})", "{a}[torch.tensor([0, 0])]", "{a}[torch.tensor([1, -1])]"]
INPLACE = ["{a}.add_({b})", "{a}.mul_({b})", "{a}.copy_({b})", "{a}.mul_({n})", "{a}.add_({n})", "{a} += {b}",
           "{a} *= {n}", "{a}.zero_()", "{a}.sub_({b})"]  # fmt: skip
TAPE = ["{a}.sum().backward()", "{a}.sum().backward(retain_graph=True)", "{a}.sum().backward()",
        "{g}, = torch.autograd.grad({a}.sum(), {b}, retain_graph=True, allow_unused=True)",
        "{g}, = torch.autograd.grad({a}.sum(), {b}, create_graph=True, allow_unused=True)",
        "{g}, = torch.autograd.grad({a}.sum(), {b}, create_graph=True); ({g} * {g}).sum().backward()",
        "{a}.requires_grad_()", "{a}.requires_grad_(False)", "{a}.retain_grad()"]  # fmt: skip
CHANGING = ["for i in range({k}): {a} = {a} * (i + 0.5)", "for i in range({k}): {a} = {a} + i",
            "for i in range({k}): {a} = {a} * 0.5 - (i / 4)"]  # fmt: skip
SHAPES = [(), (3,), (2, 3), (2, 1), (3, 2), (2,), (1, 3)]


@dataclass(frozen=True)
class Program:
    """Lines of source, and after which of them the newest tensor is read in the runs that read."""

    lines: tuple[str, ...]
    reads: tuple[bool, ...]
    wanted: tuple[str, ...]  # the leaves that want gradients

    def _repr_pretty_(self, printer, cycle):  # how hypothesis prints a failure
        printer.text(repr(self))

    def __repr__(self) -> str:
        return "\n".join(["", *(f"    {line}" + "  # then read" * r for line, r in zip(self.lines, self.reads))])


@st.composite
def programs(draw, functional=False, errors=True, longest=9):
    """Draw a program. ``functional``: one backward, at its end, so that `jax.grad` says the same."""
    torch = Reference(np)
    space = {"torch": torch}
    lines, names, frozen, wanted = [], [], set(), []
    pick = lambda options: draw(st.sampled_from(options))  # noqa: E731
    for i in range(draw(st.integers(1, 3))):
        shape, dtype = pick(SHAPES), pick(["float32", "float64", "float64", "int64"])
        rng = np.random.default_rng(draw(st.integers(0, 3)) * 10 + i)
        data = rng.integers(-2, 4, shape) if dtype == "int64" else np.round(rng.normal(size=shape), 2)
        wants = dtype != "int64" and draw(st.integers(0, 3)) < 3
        line = f"t{i} = torch.tensor({data.tolist()}, dtype=torch.{dtype}" + ", requires_grad=True" * wants + ")"
        if wants:
            wanted.append(f"t{i}")
        exec(line, space)
        lines.append(line)
        names.append(f"t{i}")
    views = set()
    for i in range(draw(st.integers(2, longest))):
        kinds = [UNARY, BINARY, BINARY, SCALAR, REDUCE, VIEWS, READS, INPLACE, CHANGING, ["{a}.detach()"]]
        kind = pick(kinds if functional else [*kinds, TAPE, TAPE, TAPE])
        text = pick(kind)
        a, b, new = pick(names), pick(names), f"t{len(names)}"
        fill = dict(a=a, b=b, n=pick(NUMBERS), d=pick([0, -1, 1]), k=pick([2, 3]), g=f"g{i}")
        line = text.format(**fill)
        quiet = draw(st.integers(0, 7)) == 7 and kind is not TAPE and kind is not VIEWS  # (PyTorch's are odd there)
        if kind is INPLACE or kind is CHANGING:
            if kind is INPLACE and (a in views or a in frozen or "{b}" in text and a == b):
                continue
            if functional and a in wanted:
                if kind is CHANGING:
                    continue  # the leaf would be lost
                quiet = True  # the only way to write to a leaf
        elif kind is not TAPE:
            line = f"{new} = {line}"
        if quiet:
            line = f"with torch.no_grad():\n        {line}"
        if kind is TAPE:
            lines.append(line)
            continue
        before = {n: (space[n], space[n].a) for n in names}
        try:
            with np.errstate(all="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                exec(line, space)
        except (RuntimeError, IndexError, ValueError, TypeError):
            for n, (cell, array) in before.items():
                space[n], cell.a = cell, array
            if errors and draw(st.integers(0, 3)) == 3:
                lines.append(line)
            continue
        lines.append(line)
        made = space.get(new) if new not in names else None
        if kind is CHANGING:
            views.discard(a)
        if isinstance(made, Cell):
            names.append(new)
            if kind is VIEWS or made is space[a] or ".detach()" in line and a in views:
                views.add(new)
            if kind is VIEWS and (quiet or "reshape" in line) or quiet and ".detach()" in line or made is space[a]:
                frozen.add(a)  # what a write to the base means to such a view depends on strides, or on modes
            if a in frozen and (kind is VIEWS or ".detach()" in line):
                frozen.add(new)
    if functional:
        parts = [f"{n}.double().sum()" for n in names if space[n].a.dtype.kind == "f"]
        lines.append(f"loss = {' + '.join(parts)}" if parts else "loss = torch.tensor(0.)")
        lines.append("loss.backward()")
    reads = tuple(draw(st.booleans()) for _ in lines)
    return Program(tuple(lines), reads, tuple(wanted))


@dataclass(frozen=True)
class Seen:
    """What a program left behind."""

    tensors: dict  # name -> (value, dtype, shape, requires_grad, is_leaf, grad or None)
    errors: dict  # line number -> (exception type, message)


def run(program, torch, read=False, stop_at=None):
    """Run ``program`` line by line in ``torch``; a line that raises is noted, and the next one runs."""
    space = {"torch": torch}
    errors = {}
    newest = None
    for number, line in enumerate(program.lines[:stop_at]):
        try:
            exec(compile(line, f"<line {number}>", "exec"), space)
        except Exception as error:
            errors[number] = (type(error), str(error))
        target = line.split("=")[0].strip()
        if target in space:
            newest = target
        if read and program.reads[number] and newest is not None and space[newest] is not None:
            space[newest].detach().tolist()
    tensors = {}
    for name, t in space.items():
        if name[0] in "tg" and name[1:].isdigit() or name == "loss":
            tensors[name] = None if t is None else _seen(t)
    return Seen(tensors, errors)


def _seen(t):
    grad = t.grad if t.is_leaf or t.retains_grad else None
    return (_array(t), str(t.dtype), tuple(t.shape), t.requires_grad, t.is_leaf, None if grad is None else _array(grad))


def _array(t):
    return np.asarray(t.detach().tolist(), str(t.dtype).removeprefix("torch.")).reshape(tuple(t.shape))


def compare(a, b, what, exact=False, leaves=True):
    """Assert that two runs left the same behind."""
    kinds = lambda seen: {n: kind for n, (kind, _) in seen.errors.items()}  # noqa: E731
    assert kinds(a) == kinds(b), f"{what}: errors differ: {a.errors} and {b.errors}"
    assert a.tensors.keys() == b.tensors.keys(), what
    size = max([1.0, *(_largest(x) for x in [*a.tensors.values(), *b.tensors.values()])])
    for name, x in a.tensors.items():
        y = b.tensors[name]
        if x is None or y is None:
            assert x is y, f"{what}: {name} is {x} and {y}"
            continue
        assert x[1:4] == y[1:4], f"{what}: {name}: (dtype, shape, requires_grad) is {x[1:4]} and {y[1:4]}"
        if leaves:
            assert x[4] == y[4], f"{what}: {name}.is_leaf is {x[4]} and {y[4]}"
        _close(x[0], y[0], size, f"{what}: {name}")
        if x[5] is None or y[5] is None:
            assert x[5] is y[5], f"{what}: {name}.grad is {x[5]} and {y[5]}"
        else:
            assert x[5].shape == y[5].shape and x[5].dtype == y[5].dtype, f"{what}: {name}.grad"
            _close(x[5], y[5], size, f"{what}: {name}.grad")


def _largest(x):
    if x is None:
        return 0.0
    arrays = [v for v in (x[0], x[5]) if v is not None and v.size and v.dtype.kind == "f"]
    return max([float(np.max(np.abs(v[np.isfinite(v)]), initial=0)) for v in arrays], default=0.0)


def _close(x, y, size, what):
    if size > 1e5:  # rounding errors have grown with the values
        return
    if x.dtype.kind != "f":
        np.testing.assert_array_equal(x, y, what)
        return
    np.testing.assert_allclose(x, y, rtol=1e-3, atol=2e-4 * size, err_msg=what)
