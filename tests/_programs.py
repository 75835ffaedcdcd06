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
CHANGING = ["for i in range({k}): {a} = {a} * (i + 0.5)", "for i in range({k}): {a} = {a} + i",
            "for i in range({k}): {a} = {a} * 0.5 - (i / 4)"]  # fmt: skip

# What the reference does not know.
MORE_VIEWS = ["{a}[..., None, 0]", "{a}[1, 1:]", "{a}.view(-1)", "{a}.reshape(1, -1)", "{a}.flatten()", "{a}.t()",
              "{a}.permute(1, 0)", "{a}.narrow(0, 1, 1)", "{a}.select(-1, 1)", "{a}.diagonal()", "{a}.movedim(0, -1)",
              "{a}.unflatten(0, (1, -1))", "{a}.view_as({b})", "{a}.unfold(0, 2, 2)", "{a}.tensor_split(2)[1]",
              "{a}[torch.tensor(1)]", "{a}.mT", "{a}[...]", "{a}.contiguous()", "{a}.unbind()[1]", "{a}.split(1)[0]",
              "{a}.chunk(2)[-1]", "{a}.split([1, 1])[1]"]  # fmt: skip
ALIASES = ["{a}.detach()", "{a}.detach()[0]", "{a}[0].detach()", "{a}.view(-1).detach()"]
DATA = ["{new} = {a}.data", "{a}.data = {b}", "{a}.data = {b}.detach() * 2", "{a}.data[0] = {n}"]
WRITES = ["{a}.fill_({n})", "{a} += {n}", "{a}.neg_()", "{a}.sub_({b}, alpha=2)", "{a}[0].mul_({n})",
          "{a}.t().add_({b})", "{a}.view(-1)[1:].mul_({b}.sum())"]  # fmt: skip
INDEXED = ["{a}[0] = {n}", "{a}[..., 0] = {n}", "{a}[-1] = {b}", "{a}[{a} > 1] = {n}", "{a}[0] += {n}",
           "{a}[torch.tensor([0, -1])] = {n}", "{a}[:, 1] = {b}", "{a}[1:] *= {n}", "{a}[..., ::2] = {b}",
           "{a}[torch.tensor(1)] = {n}", "{a}[[1, 0]] += {n}", "{a}[torch.tensor([0, 1])] = {b}",
           "{a}[{b} > 0] = {a}[{b} > 0] * {n}"]  # fmt: skip
PICKED = ["{a}[{a} > 0]", "{a}[[0, 1, 0]]", "{a}[torch.tensor([[0], [1]]), torch.tensor([0, 1])]", "{a}[..., [1]]",
          "{a}[{b}[0] > 0]"]  # fmt: skip
STATES = ["{a}.detach_()", "{a}.requires_grad_()", "{a}.requires_grad_(False)", "{a}.retain_grad()",
          "{a}.retain_grad()"]  # fmt: skip
HOOKS = ["{h} = {a}.register_hook(lambda g: log('{h}', g))",
         "{h} = {a}.register_hook(lambda g: g * {n})",
         "{h} = {a}.register_hook(lambda g: log('{h}', g) or g + {b}.detach().sum())",
         "{h} = {a}.register_hook(lambda g: g * 2 if g.sum() > 0 else None)",
         "{h} = {a}.register_hook(lambda g: log('{h}', g)); {h}.remove()",
         "{h} = {a}.register_post_accumulate_grad_hook(lambda p: log('{h}', p.grad))",
         "{h} = {a}.grad_fn.register_hook(lambda gi, go: log('{h}', gi[0], *go))",
         "{h} = {a}.grad_fn.register_prehook(lambda go: tuple(g * {n} for g in go))"]  # fmt: skip
FUNCTIONS = ["Cube.apply({a})", "Times.apply({a}, {n})", "Product.apply({a}, {b})", "Parts.apply({a})[0]",
             "Parts.apply({a})[1]", "Twice.apply({a})"]  # fmt: skip
BRANCHES = ["{new} = {a} * {n} if {a}.sum() > 0 else {b} * 1", "if {a}.sum() > {n}: {b}.mul_(0.5)",
            "{new} = {a} * {b}.sum().item()", "{new} = {a}\nwhile {new}.abs().sum() > 1: {new} = {new} * 0.25",
            "for x in {a}: {new} = x * 2", "{new} = {a} + len([x for x in {a}.tolist() if x])"]  # fmt: skip
# (What `grad` returns is a view in PyTorch, at times; a product is none.)
TAPE = ["{a}.sum().backward()", "{a}.sum().backward(retain_graph=True)",
        "({a} * {a}).sum().backward(retain_graph=True)", "({a} * {a}).sum().backward(create_graph=True)",
        "{a}.backward(torch.ones_like({a}), retain_graph=True)",
        "{new} = torch.autograd.grad({a}.sum(), {b}, retain_graph=True)[0] * 1",
        "{new} = torch.autograd.grad(({a} * {a}).sum(), {b}, create_graph=True)[0] * 1",
        "{new} = torch.autograd.grad(({a} ** 2).sum(), {b}, create_graph=True)[0] ** 2; {new}.sum().backward()",
        "{new} = {a}.grad", "{a}.grad = None", "{a}.grad.zero_()", "{a}.grad = {b}.detach()"]  # fmt: skip
SHAPES = [(), (3,), (2, 3), (2, 1), (3, 2), (2,), (1, 3)]
#: Kinds of lines and how often they are drawn.
EVERYTHING = [UNARY, BINARY, SCALAR, REDUCE, CHANGING, READS, PICKED, ALIASES, STATES, INPLACE, WRITES,
              *[VIEWS, MORE_VIEWS] * 2, *[INDEXED, FUNCTIONS, BRANCHES] * 2, *[HOOKS] * 4, *[TAPE] * 5]  # fmt: skip
KNOWN = [UNARY, BINARY, BINARY, SCALAR, REDUCE, VIEWS, READS, INPLACE, CHANGING, ["{a}.detach()"]]
#: Where `.data` is written, PyTorch's later gradients are of values that it did not save; so they are not asked for.
UNSEEN = [VIEWS, MORE_VIEWS, ALIASES, DATA, DATA, INPLACE, WRITES, INDEXED, STATES, SCALAR]


@dataclass(frozen=True)
class Program:
    """Lines of source, and after which of them every tensor is read in the runs that read."""

    lines: tuple[str, ...]
    reads: tuple[bool, ...]
    wanted: tuple[str, ...]  # the leaves that want gradients

    def _repr_pretty_(self, printer, cycle):  # how hypothesis prints a failure
        printer.text(repr(self))

    def __repr__(self) -> str:
        return "\n".join(["", *(f"    {line}" + "  # then read" * r for line, r in zip(self.lines, self.reads))])


@st.composite
def programs(draw, functional=False, longest=11):
    """Draw a program; what its lines raise is part of what is compared.

    ``functional``: of lines that the reference can run, and one backward at its end, so that `jax.grad` says the same.
    """
    pick = lambda options: draw(st.sampled_from(options))  # noqa: E731
    lines, names, wanted = [], [], []
    mixed = functional or draw(st.booleans())
    for i in range(draw(st.integers(1, 3 if mixed else 2))):
        shape = pick(SHAPES if mixed else [(2, 3), (2, 2), (3,), (2, 1, 2)])
        dtype = pick(["float32", "float64", "float64", "int64"]) if mixed else "float64"
        rng = np.random.default_rng(draw(st.integers(0, 3)) * 10 + i)
        data = rng.integers(-2, 4, shape) if dtype == "int64" else np.round(rng.normal(size=shape), 2)
        wants = dtype != "int64" and draw(st.integers(0, 3)) < 3
        lines.append(f"t{i} = torch.tensor({data.tolist()}, dtype=torch.{dtype}" + ", requires_grad=True" * wants + ")")
        names.append(f"t{i}")
        if wants:
            wanted.append(f"t{i}")
    trial = Trial(lines, wanted) if functional else None
    for name in () if functional else wanted:  # most writes are to tensors with a history
        if draw(st.integers(0, 3)):
            names.append(f"t{len(names)}")
            lines.append(f"{names[-1]} = {name} * 1")
    kinds = KNOWN if functional else UNSEEN if draw(st.integers(0, 5)) == 5 else EVERYTHING
    for number in range(draw(st.integers(4, longest))):
        kind = pick(kinds)
        text, new = pick(kind), f"t{len(names)}"
        a, b = pick([*names, *names[-3:]]), pick([*names, *names[:2]])
        line = text.format(a=a, b=b, n=pick(NUMBERS), d=pick([0, -1, 1]), k=pick([2, 3]), new=new, h=f"h{number}")
        if kind not in (INPLACE, WRITES, INDEXED, CHANGING, STATES, HOOKS, BRANCHES, TAPE, DATA):
            line = f"{new} = {line}"
        # (PyTorch's views made in no_grad are odd, and so are leaves that a Function writes to there.)
        quiet = draw(st.integers(0, 7)) == 7 and kind not in (TAPE, VIEWS, MORE_VIEWS, HOOKS, FUNCTIONS)
        if functional and kind is INPLACE and a in wanted:
            quiet = True  # the only way to write to a leaf
        if quiet:
            line = "with torch.no_grad():\n" + "\n".join(f"        {part}" for part in line.split("\n"))
        if trial is not None and not trial.takes(line, kind, a, new, a == b and "{b}" in text):
            continue
        lines.append(line)
        if "{new}" in text or f"{new} = " in line:
            names.append(new)
    if functional:
        parts = [f"{n}.double().sum()" for n in names if trial.space[n].a.dtype.kind == "f"]
        lines.append(f"loss = {' + '.join(parts)}" if parts else "loss = torch.tensor(0.)")
        lines.append("loss.backward()")
    return Program(tuple(lines), tuple(draw(st.booleans()) for _ in lines), tuple(wanted))


class Trial:
    """A run in the reference while a program is drawn: it takes the lines that have one meaning there."""

    def __init__(self, lines, wanted):
        self.space = {"torch": Reference(np)}
        self.wanted = wanted
        self.views, self.frozen = set(), set()
        exec("\n".join(lines), self.space)

    def takes(self, line, kind, a, new, twice):
        """Run ``line`` and return True, or leave everything as it was."""
        space = self.space
        if kind is INPLACE and (a in self.views or a in self.frozen or twice):
            return False
        if kind is CHANGING and a in self.wanted:
            return False  # the leaf would be lost
        before = {n: (c, c.a) for n, c in space.items() if isinstance(c, Cell)}
        try:
            with np.errstate(all="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                exec(line, space)
        except (RuntimeError, IndexError, ValueError, TypeError):
            for n, (cell, array) in before.items():
                space[n], cell.a = cell, array
            return False
        quiet, made = "no_grad" in line, space.get(new)
        if kind is CHANGING:
            self.views.discard(a)
        if isinstance(made, Cell):
            if kind is VIEWS or made is space[a] or ".detach()" in line and a in self.views:
                self.views.add(new)
            if kind is VIEWS and "reshape" in line or quiet and ".detach()" in line or made is space[a]:
                self.frozen.add(a)  # what a write to the base means to such a view depends on strides, or on modes
            if a in self.frozen and (kind is VIEWS or ".detach()" in line):
                self.frozen.add(new)
        return True
