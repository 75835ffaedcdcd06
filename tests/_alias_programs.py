"""Random programs of views and writes, as lines of source that run in tracegrad and in PyTorch."""

from __future__ import annotations

import contextlib
import itertools
import re
import warnings
from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

VIEWS = ["{a}[0]", "{a}[-1]", "{a}[..., 1:]", "{a}[::2]", "{a}[:, 0]", "{a}[None]", "{a}[..., None, 0]", "{a}[1, 1:]",
         "{a}.view(-1)", "{a}.reshape(-1)", "{a}.reshape(1, -1)", "{a}.flatten()", "{a}.t()", "{a}.transpose(0, -1)",
         "{a}.permute(1, 0)", "{a}.unsqueeze(1)", "{a}.squeeze()", "{a}.narrow(0, 1, 1)", "{a}.select(-1, 1)",
         "{a}.diagonal()", "{a}.expand(2, -1)", "{a}.movedim(0, -1)", "{a}.unflatten(0, (1, -1))", "{a}.view_as({b})",
         "{a}.unfold(0, 2, 2)", "{a}.tensor_split(2)[1]", "{a}[torch.tensor(1)]", "{a}.mT", "{a}[...]",
         "{a}.contiguous()"]  # fmt: skip
PARTS = ["{a}.unbind()[1]", "{a}.split(1)[0]", "{a}.chunk(2)[-1]", "{a}.split([1, 1])[1]"]
ALIASES = ["{a}.detach()", "{a}.data", "{a}.detach()[0]", "{a}[0].detach()", "{a}.view(-1).detach()"]
WRITES = ["{a}.mul_({n})", "{a}.add_({b})", "{a}.mul_({b})", "{a}.copy_({b})", "{a}.zero_()", "{a}.fill_({n})",
          "{a} += {n}", "{a}.neg_()", "{a}.sub_({b}, alpha=2)"]  # fmt: skip
INDEXED = ["{a}[0] = {n}", "{a}[..., 0] = {n}", "{a}[-1] = {b}", "{a}[{a} > 1] = {n}", "{a}[0] += {n}",
           "{a}[torch.tensor([0, -1])] = {n}", "{a}[:, 1] = {b}", "{a}[1:] *= {n}", "{a}[..., ::2] = {b}",
           "{a}[torch.tensor(1)] = {n}", "{a}[[1, 0]] += {n}"]  # fmt: skip
VALUES = ["({a} * {n}).contiguous()", "({a} + {b}).contiguous()", "{a}.sin().contiguous()", "{a}.sum()",
          "({a} * {b}).contiguous()"]  # fmt: skip
STATES = ["{a}.detach_()", "{a}.requires_grad_()", "{a}.requires_grad_(False)", "{a}.data = {b}",
          "{a}.data = {b}.detach() * 2"]  # fmt: skip
SHAPES = [(2, 3), (2, 2), (3,), (2, 1, 2)]
NUMBERS = ["2", "0.5", "-1", "3.0"]

#: What PyTorch refuses and we do not, since what the write means is clear; and a message that makes no sense.
LENIENT = ("has been modified by an inplace operation", "its base or another view of its base has been modified",
           "some elements of the input tensor and the written-to tensor refer", "integer multiplication overflow",
           "unflatten got an unexpected error")


@dataclass(frozen=True)
class AliasProgram:
    """Lines of source, and after which of them every tensor is read in the runs that read."""

    lines: tuple[str, ...]
    reads: tuple[bool, ...]

    def _repr_pretty_(self, printer, cycle):
        printer.text(repr(self))

    def __repr__(self) -> str:
        return "\n".join(["", *(f"    {line}" + "  # then read" * r for line, r in zip(self.lines, self.reads))])


@st.composite
def alias_programs(draw, longest=9):
    """Draw a program; what its lines raise is part of what is compared."""
    pick = lambda options: draw(st.sampled_from(options))  # noqa: E731
    lines, names = [], []
    for i in range(draw(st.integers(1, 2))):
        shape = pick(SHAPES)
        data = (np.arange(np.prod(shape)) * (i + 1) - 1.5).reshape(shape)
        kind = pick(["", ", requires_grad=True", ", requires_grad=True) * (1"])
        lines.append(f"t{i} = torch.tensor({data.tolist()}, dtype=torch.float64{kind})")
        names.append(f"t{i}")
    for _ in range(draw(st.integers(2, longest))):
        kind = pick([VIEWS, VIEWS, VIEWS, PARTS, ALIASES, WRITES, WRITES, INDEXED, INDEXED, VALUES, STATES])
        new = f"t{len(names)}"
        line = pick(kind).format(a=pick(names), b=pick(names), n=pick(NUMBERS))
        if kind in (WRITES, INDEXED):
            line = f"with torch.no_grad(): {line}" if draw(st.integers(0, 3)) == 3 else line
        elif kind is not STATES:
            line = f"{new} = {line}"
            names.append(new)
        lines.append(line)
    return AliasProgram(tuple(lines), tuple(draw(st.booleans()) for _ in lines))


@dataclass
class Left:
    """What a program left behind."""

    tensors: dict  # name -> what is seen of it
    relations: set  # pairs of names, by what they share
    errors: dict  # line number -> (exception type, message)
    grads: dict | None  # name -> gradient, of the leaves; None where PyTorch refuses the backward
    stop: int | None = None  # the line that PyTorch alone refuses


def run(program, torch, read=False, stop=None):
    """Run the lines; one that raises is noted and the next one runs."""
    space = {"torch": torch}
    errors = {}
    theirs = torch.__name__ == "torch"
    for number, line in enumerate(program.lines[:stop]):
        if theirs and line.endswith(".requires_grad_()"):
            base = space[line.split(".")[0]]
            if any(t._base is base for t in tensors_of(space).values()):  # they want gradients then, without history
                return run(program, torch, stop=number)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                exec(compile(line, f"<line {number}>", "exec"), space)
                if theirs and any(map(is_odd, tensors_of(space).values())):
                    return run(program, torch, stop=number)
            except Exception as error:
                if theirs and any(text in str(error) for text in LENIENT):
                    return run(program, torch, stop=number)
                errors[number] = (type(error).__name__, re.sub(r"Output \d of \w+", "Output", str(error)))
        if read and program.reads[number]:
            for t in tensors_of(space).values():
                t.detach().tolist()
    tensors = tensors_of(space)
    seen = {}
    renewed = any(".data =" in line for line in program.lines)  # PyTorch's views still say what they were
    for name, t in tensors.items():
        seen[name] = [t.detach().tolist(), tuple(t.shape), t.requires_grad, t.is_leaf, t._version]
        if not renewed:
            seen[name] += [t._is_view(), t._base is None]
    relations = set()
    for (a, x), (b, y) in itertools.permutations(tensors.items(), 2):
        if not renewed and x._base is y:
            relations.add(f"{a} is a view of {b}")
        if not renewed and x._base is not None and x._base is y._base:
            relations.add(f"{a} and {b} are views of one base")
        if x.data_ptr() == y.data_ptr() and x.numel():
            relations.add(f"{a} and {b} begin at one address")
    grads = gradients(tensors, torch)
    if any(".data" in line for line in program.lines):
        grads = None  # PyTorch does not see that writes through `.data` change what it saved
    return Left(seen, relations, errors, grads, stop)


def is_odd(t):
    """Return whether PyTorch says that a view wants gradients, because its base does, and has no history for it.

    Its ``grad_fn`` also raises for views that it takes for unusable once their base was written to.
    """
    return t._is_view() and t.requires_grad and t.grad_fn is None and t._base.requires_grad


def tensors_of(space):
    """Return the program's tensors by name."""
    return {n: t for n, t in space.items() if n[0] == "t" and n[1:].isdigit()}


def gradients(tensors, torch):
    """Return the leaves' gradients of a sum of all tensors, with weights."""
    losses = []
    for i, t in enumerate(tensors.values()):
        if t.requires_grad:
            weights = torch.arange(1.0, 1.0 + t.numel(), dtype=torch.float64).reshape(t.shape)
            losses.append((t * weights).sum() * (i + 1))
    with contextlib.suppress(RuntimeError, TypeError, ValueError):  # as where `x.data = y` gave a leaf another shape
        if losses:
            sum(losses).backward()
        return {n: t.grad.tolist() for n, t in tensors.items() if t.is_leaf and t.grad is not None}
    return None


def compare(ours, theirs, what):
    """Raise AssertionError where two runs differ."""
    if any(kind == "UnsupportedError" for kind, _ in ours.errors.values()):
        return  # `x.data = y` of another shape, where x has a history
    assert ours.errors == theirs.errors, f"{what}: errors\n{ours.errors}\n{theirs.errors}"
    assert ours.tensors.keys() == theirs.tensors.keys(), what
    for name, x in ours.tensors.items():
        y = theirs.tensors[name]
        assert x[1:] == y[1:], f"{what}: {name} (shape, requires_grad, is_leaf, version, is view, has base): {x} {y}"
        np.testing.assert_allclose(x[0], y[0], rtol=1e-9, atol=1e-12, err_msg=f"{what}: {name}")
    assert ours.relations == theirs.relations, f"{what}: {ours.relations ^ theirs.relations}"
    if theirs.grads is None:
        return
    assert ours.grads.keys() == theirs.grads.keys(), f"{what}: {ours.grads} {theirs.grads}"
    for name, x in ours.grads.items():
        np.testing.assert_allclose(x, theirs.grads[name], rtol=1e-9, atol=1e-12, err_msg=f"{what}: gradient of {name}")
