"""``out=``: every op that has it in PyTorch, and what it does to the tensor given."""

from __future__ import annotations

import warnings

import pytest
from calls import FUNCTIONS, arguments, arrays_of, differences, flat, theirs, usable
from samples import REGISTRY, UNCERTAIN

import tracegrad
from tracegrad._ops._declare import table

NAMES = sorted(n for n, row in table.items() if "out" in (row.function.__kwdefaults__ or ()))

#: Both libraries agree on all of these: the result, the warning, the error and its text.
CASES = """
torch.add(F, F, out=E)
torch.add(F, F, out=D)
torch.add(D, D, out=F)
torch.add(F, 1, alpha=2, out=E)
torch.add(F, F, out=torch.ones(3))
torch.add(F, F, out=L)
torch.add(F, F, out=torch.ones(3, dtype=torch.long))
torch.add(R, F, out=E)
torch.add(F, F, out=R)
torch.mul(F, F, out=None)
torch.eq(R, F, out=B)
torch.eq(F, F, out=L)
torch.sin(L, out=L)
torch.sin(L, out=D)
torch.argmax(F, out=F)
torch.argmax(R, out=E.long())
torch.sum(F, 0, out=D)
torch.sum(L, 0, out=F)
torch.sum(F, 0, dtype=torch.double, out=D[0])
torch.cumsum(F, 0, out=D)
torch.prod(F, 0, out=D)
torch.mean(M, 1, out=F)
torch.std(F, 0, out=D[0])
torch.mm(M, M, out=M.double())
torch.matmul(M, F, out=E)
torch.cat([F, D], out=torch.empty(4))
torch.stack([F, F], out=E)
torch.sort(F, out=(E, E.long()))
torch.sort(F, out=(D, L))
torch.max(M, 0, out=(torch.ones(3), L))
torch.max(M, 0, out=[E, L])
torch.topk(F, 1, out=(E, L))
torch.where(B, F, F, out=F)
torch.clamp(F, 0, 1, out=L)
torch.gather(F, 0, I, out=E)
torch.index_select(F, 0, I, out=E)
torch.take(F, I, out=E)
torch.masked_select(F, F > 0, out=E)
torch.nonzero(F, out=E.long())
torch.zeros(2, out=D)
torch.zeros(3, out=F)
torch.ones(2, dtype=torch.int, out=D)
torch.full((2,), 7, out=L)
torch.arange(3, out=E)
torch.arange(2, out=E.int())
torch.linspace(0, 1, 2, out=D)
torch.eye(2, out=M)
torch.float_power(F, 2, out=D)
torch.scatter_add(F, 0, I, F, out=D)
torch.tril(M, out=E)
torch.diag(F, out=E)
torch.bitwise_and(L, L, out=F)
torch.logical_not(F, out=F)
torch.outer(F, F, out=M)
torch.fft.fft(F, out=torch.empty(0, dtype=torch.complex64))
torch.special.entr(F - F, out=E)
torch.quantile(F, 0.5, out=E)
torch.searchsorted(F, F, out=L)
""".strip().splitlines()


def outcome(torch, source):
    """Return what ``source`` gives: values, dtypes, whether it is the tensor given, warnings; or the error."""
    given = dict(
        F=torch.tensor([1.0, 2.0]), D=torch.zeros(2, dtype=torch.double), L=torch.tensor([3, 4]), E=torch.empty(0),
        R=torch.ones(2, requires_grad=True), B=torch.zeros(2, dtype=torch.bool), M=torch.eye(2) + 1,
        I=torch.tensor([1, 0]))  # fmt: skip
    seen = []

    def spy(x):
        seen.append(x)
        return x

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            expression = source.replace("out=", "out=spy(", 1)[:-1] + "))"
            result = eval(expression, {"torch": torch, "spy": spy, **given})  # noqa: S307
        except (RuntimeError, TypeError, IndexError) as error:
            return type(error), str(error).split("\n")[0]
    outs, targets = flat(result), flat(seen[0])
    return ([(x.tolist(), str(x.dtype)) for x in outs], [x is t for x, t in zip(outs, targets)],
            [str(w.message).partition(" (Triggered")[0] for w in caught if "resized" in str(w.message)])  # fmt: skip


@pytest.mark.oracle
def test_behaves_as_in_pytorch():
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle: pip install -e .[oracle]")
    wrong = [(source, mine, yours) for source in CASES
             if (mine := outcome(tracegrad, source)) != (yours := outcome(torch, source))]  # fmt: skip
    assert not wrong, "\n".join(f"{s}:\n  {a}\n  {b}" for s, a, b in wrong)


@pytest.mark.oracle
def test_every_op_that_has_it_in_pytorch_has_it_here():
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle: pip install -e .[oracle]")
    documented = [n for n in table if "out=None" in (theirs(torch, n).__doc__ or "")]
    mistaken = {"from_file", "hamming_window"}  # documented so, but it is refused
    assert sorted(set(documented) - set(NAMES) - mistaken) == []


def test_writes_what_the_op_returns():
    """Every op, on its first sample, and again with the outputs that are now full."""
    calls, problems = [], []
    for name in NAMES:
        if name in UNCERTAIN or name not in REGISTRY:
            continue
        for sample in usable(name)[:1]:
            tensors = [tracegrad.tensor(a) for a in arrays_of(sample)]
            args, kwargs = arguments(tracegrad, sample, tensors)
            if name in ("sum", "prod", "nansum", "mean") and len(args) == 1:
                continue
            plain = FUNCTIONS[name](*args, **kwargs)
            if not isinstance(plain, (tracegrad.Tensor, tuple)):
                continue
            targets = [tracegrad.empty(0, dtype=x.dtype) for x in flat(plain)]
            for _ in range(2):
                result = FUNCTIONS[name](*args, **kwargs, out=targets if isinstance(plain, tuple) else targets[0])
                calls.append((f"{name}{sample!r}", flat(plain), flat(result)))
                if not all(x is t for x, t in zip(flat(result), targets)):
                    problems.append(f"{name}: other tensors came back")
    for what, plain, results in calls:
        for a, b in zip(plain, results):
            problems += differences(a, b, what)
    assert not problems, "\n".join(problems)


def test_out_may_be_an_operand_and_a_view():
    x = tracegrad.arange(6.0).reshape(2, 3)
    row = x[0]
    assert tracegrad.mul(row, 10, out=row) is row
    tracegrad.add(x[1], x[0], out=x[1])
    assert x.tolist() == [[0.0, 10.0, 20.0], [3.0, 14.0, 25.0]]
    y = tracegrad.ones(2, 2)
    tracegrad.mm(y, y, out=y)
    assert y.tolist() == [[2.0, 2.0], [2.0, 2.0]]


def test_out_under_no_grad_keeps_a_leaf():
    w = tracegrad.ones(2, requires_grad=True)
    with tracegrad.no_grad():
        tracegrad.add(w, 1, out=w)
    (w * w).sum().backward()
    assert w.grad.tolist() == [4.0, 4.0]


def test_warning_points_at_the_user():
    with pytest.warns(UserWarning, match="was resized") as caught:
        tracegrad.add(tracegrad.ones(2), 1, out=tracegrad.ones(3))
    assert caught[0].filename == __file__


def test_eager_is_the_same():
    with tracegrad.eager():
        out = tracegrad.empty(0)
        tracegrad.add(tracegrad.ones(2), 1, out=out)
        assert out.tolist() == [2.0, 2.0]
