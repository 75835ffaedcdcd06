"""Running a random program in any library, and comparing what two runs left behind.

Seen of each tensor: its value, dtype, shape, ``requires_grad``, ``is_leaf``, ``_version`` and gradient; who is a view
of whom; what each hook was given, in order; what each line raised; and at last the leaves' gradients of all tensors'
sum.
"""

from __future__ import annotations

import itertools
import re
import warnings
from dataclasses import dataclass

import numpy as np

#: What PyTorch refuses and we do not, since what the write means is clear; and messages that make no sense.
LENIENT = ("has been modified by an inplace operation", "its base or another view of its base has been modified",
           "some elements of the input tensor and the written-to tensor refer", "integer multiplication overflow",
           "unflatten got an unexpected error")
#: What PyTorch words by how it works inside.
VAGUE = re.compile(r"(?<=Output )\d of \w+|(?<=out of bounds for dimension )\d")


@dataclass
class Seen:
    """What a program left behind."""

    tensors: dict  # name -> None or (value, dtype, shape, requires_grad, is_leaf, gradient, (version, view, no base))
    errors: dict  # line number -> (exception type, message)
    relations: set = frozenset()  # of tensors, in words, by what they share
    log: list = ()  # (hook, gradient) in the order of the calls
    total: dict | None = None  # name -> gradient of the sum of all tensors, of leaves; None where that means nothing
    stop: int | None = None  # the line at which PyTorch alone goes another way
    raises: bool = False  # whether we must raise on that line too


def functions(torch):
    """Return the custom Functions of the programs."""

    class Cube(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x * x

        @staticmethod
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            return 3 * g * x * x

    class Times(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, n):
            ctx.n = n
            return x * n

        @staticmethod
        def backward(ctx, g):
            return g * ctx.n, None

    class Product(torch.autograd.Function):
        @staticmethod
        def forward(x, y):
            return x * y

        @staticmethod
        def setup_context(ctx, inputs, output):
            ctx.save_for_backward(*inputs)

        @staticmethod
        def backward(ctx, g):
            x, y = ctx.saved_tensors
            return g * y if ctx.needs_input_grad[0] else None, g * x if ctx.needs_input_grad[1] else None

    class Parts(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            whole = x > 0
            ctx.mark_non_differentiable(whole)
            return x * 0.5, whole

        @staticmethod
        def backward(ctx, g, _):
            return g * 0.5

    class Twice(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.mark_dirty(x)
            return x.mul_(2)

        @staticmethod
        def backward(ctx, g):
            return g * 2

    return {f.__name__: f for f in (Cube, Times, Product, Parts, Twice)}


def run(program, torch, read=False, stop=None):
    """Run the lines; one that raises is noted and the next one runs."""
    errors, log = {}, []
    theirs = torch.__name__ == "torch"
    note = lambda name, *gs: log.extend((name, None if g is None else g.detach().clone()) for g in gs)  # noqa: E731
    space = {"torch": torch, "log": note, **functions(torch)}
    hooked = False
    for number, line in enumerate(program.lines[:stop]):
        wants = re.search(r"(t\d+)\.requires_grad_\(\)$", line)
        if theirs and wants and any(t._base is space.get(wants[1]) for t in tensors_of(space).values()):
            return run(program, torch, stop=number)  # the views want gradients then, without history
        hooked = hooked or "register_" in line
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                exec(compile(line, f"<line {number}>", "exec"), space)
                if theirs and any(map(is_odd, tensors_of(space).values())):
                    return run(program, torch, stop=number)
            except Exception as error:
                text = str(error)
                halfway = "a second time" in text or hooked and ("backward(" in line or "autograd.grad(" in line)
                if theirs and (halfway or any(odd in text for odd in LENIENT)):
                    seen = run(program, torch, stop=number)
                    seen.raises = halfway and not any(odd in text for odd in LENIENT)
                    return seen
                errors[number] = (type(error).__name__, VAGUE.sub("", text))
        if read and program.reads[number]:
            for t in tensors_of(space).values():
                t.detach().tolist()
    tensors = tensors_of(space)
    renewed = any(".data" in line for line in program.lines)  # PyTorch's views still say what they were
    seen = {n: look(t, renewed) for n, t in tensors.items()}
    seen |= {n: None for n, t in space.items() if re.fullmatch(r"t\d+|loss", n) and t is None}
    before = list(log)
    total = None if renewed else gradients(tensors, torch)
    log = before if total is None else log
    notes = [(name, None if g is None else array(g)) for name, g in log]
    return Seen(seen, errors, set() if renewed else relations(tensors), notes, total, stop)


def tensors_of(space):
    """Return the program's tensors by name."""
    return {n: t for n, t in space.items() if re.fullmatch(r"t\d+|loss", n) and t is not None}


def look(t, renewed):
    grad = t.grad if t.is_leaf or t.retains_grad else None
    identity = None if renewed else (t._version, t._is_view(), t._base is None)
    return (array(t), str(t.dtype), tuple(t.shape), t.requires_grad, t.is_leaf,
            None if grad is None else array(grad), identity)  # fmt: skip


def relations(tensors):
    found = set()
    for (a, x), (b, y) in itertools.permutations(tensors.items(), 2):
        if x is y:
            found.add(f"{a} is {b}")
        if x._base is y:
            found.add(f"{a} is a view of {b}")
        if x._base is not None and x._base is y._base:
            found.add(f"{a} and {b} are views of one base")
        if x.numel() and y.numel() and x.data_ptr() == y.data_ptr():
            found.add(f"{a} and {b} begin at one address")
    return found


def is_odd(t):
    """Return whether PyTorch says that a view wants gradients, because its base does, and has no history for it.

    Its ``grad_fn`` also raises for views that it takes for unusable once their base was written to.
    """
    return t._is_view() and t.requires_grad and t.grad_fn is None and t._base.requires_grad


def gradients(tensors, torch):
    """Return the leaves' gradients of a sum of all tensors, with weights."""
    losses = []
    for i, t in enumerate(tensors.values()):
        if t.requires_grad:
            weights = torch.arange(1.0, 1.0 + t.numel(), dtype=torch.float64).reshape(t.shape)
            losses.append((t * weights).sum() * (i + 1))
    try:
        if losses:
            sum(losses).backward()
    except Exception:
        return None
    return {n: array(t.grad) for n, t in tensors.items() if t.is_leaf and t.grad is not None}


def array(t):
    return np.asarray(t.detach().tolist(), str(t.dtype).removeprefix("torch.")).reshape(tuple(t.shape))


def told(errors):
    """Return errors without the step that a gradient of the wrong shape came from: across a flush it is not known."""
    return {n: (kind, re.sub(r"^Function .* returned an invalid gradient at index \d+", "", text))
            for n, (kind, text) in errors.items()}  # fmt: skip


def compare(a, b, what):
    """Raise AssertionError where two runs differ."""
    assert told(a.errors) == told(b.errors), f"{what}: errors\n{a.errors}\n{b.errors}"
    assert a.tensors.keys() == b.tensors.keys(), what
    arrays = [v for seen in (a, b) for x in seen.tensors.values() if x for v in (x[0], x[5]) if v is not None]
    size = max([1.0, *map(largest, arrays)])
    single = any(x and x[1] != "torch.float64" for x in a.tensors.values())
    close = lambda x, y, name: assert_close(x, y, size, single, f"{what}: {name}")  # noqa: E731
    for name, x in a.tensors.items():
        y = b.tensors[name]
        if x is None or y is None:
            assert x is y, f"{what}: {name} is {x} and {y}"
            continue
        assert x[1:5] == y[1:5], f"{what}: {name} (dtype, shape, requires_grad, is_leaf): {x[1:5]} and {y[1:5]}"
        assert x[6] == y[6], f"{what}: {name} (version, is view, has no base): {x[6]} and {y[6]}"
        close(x[0], y[0], name)
        close(x[5], y[5], f"{name}.grad")
    assert a.relations == b.relations, f"{what}: {a.relations ^ b.relations}"
    if a.total is None or b.total is None:
        return
    assert [n for n, _ in a.log] == [n for n, _ in b.log], f"{what}: hooks {a.log} and {b.log}"
    for (name, x), (_, y) in zip(a.log, b.log):
        close(x, y, name)
    assert a.total.keys() == b.total.keys(), f"{what}: gradients {a.total} and {b.total}"
    for name, x in a.total.items():
        close(x, b.total[name], f"the gradient of {name}")


def largest(x):
    return float(np.max(np.abs(x[np.isfinite(x)]), initial=0)) if x.dtype.kind == "f" else 0.0


def assert_close(x, y, size, single, what):
    if x is None or y is None:
        assert x is y, f"{what} is {x} and {y}"
        return
    assert (x.shape, x.dtype) == (y.shape, y.dtype), f"{what}: {x.dtype}{x.shape} and {y.dtype}{y.shape}"
    if size > 1e5:  # rounding errors have grown with the values
        return
    if x.dtype.kind != "f":
        np.testing.assert_array_equal(x, y, what)
    elif single:
        np.testing.assert_allclose(x, y, rtol=1e-3, atol=2e-4 * size, err_msg=what)
    else:
        np.testing.assert_allclose(x, y, rtol=1e-9, atol=1e-10 * size, err_msg=what)
