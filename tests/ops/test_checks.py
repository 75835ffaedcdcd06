"""Errors that depend on elements: the program finds them, a read raises them, and everything stays usable."""

from __future__ import annotations

import operator
import threading
from functools import partial
from pathlib import Path

import pytest

import tracegrad as torch
from tracegrad._config import config
from tracegrad._engine import checks, program

F = torch.nn.functional


def device(data, **kwargs):
    """A tensor whose elements are no host data any more, so that no op can look at them at once."""
    made = torch.tensor(data, **kwargs)
    made.jax()
    return made


@pytest.fixture(autouse=True)
def nothing_left():
    yield
    assert not checks.waiting.runs, "a test leaves checks behind"


#: expression on tensors whose elements are computed -> PyTorch's exception
WRONG = {
    "torch.ones(3)[t([3])]": IndexError("index 3 is out of bounds for dimension 0 with size 3"),
    "torch.ones(3)[t([0, -4])]": IndexError("index -4 is out of bounds for dimension 0 with size 3"),
    "torch.ones(3, 4)[t([0]), t([7])]": IndexError("index 7 is out of bounds for dimension 1 with size 4"),
    "torch.ones(3, 4)[:, t([7, 9])]": IndexError("index 7 is out of bounds for dimension 0 with size 4"),
    "torch.ones(3)[t(5)]": IndexError("index 5 is out of bounds for dimension 0 with size 3"),
    "torch.ones(3, 4)[:, t(-5)]": IndexError("index -5 is out of bounds for dimension 1 with size 4"),
    "torch.ones(3).index_put((t([3]),), torch.tensor(1.0))":
        IndexError("index 3 is out of bounds for dimension 0 with size 3"),
    "torch.ones(3).gather(0, t([3]))": RuntimeError("index 3 is out of bounds for dimension 0 with size 3"),
    "torch.ones(3).gather(0, t([-1]))": RuntimeError("index -1 is out of bounds for dimension 0 with size 3"),
    "torch.ones(3).scatter(0, t([3]), 1.0)": RuntimeError("index 3 is out of bounds for dimension 0 with size 3"),
    "torch.ones(3).scatter_add(0, t([5]), torch.ones(1))":
        RuntimeError("index 5 is out of bounds for dimension 0 with size 3"),
    "torch.ones(3).index_select(0, t([3]))": IndexError("index out of range in self"),
    "torch.ones(2, 3).index_select(1, t([3]))": RuntimeError("INDICES element is out of DATA bounds, id=3 axis_dim=3"),
    "torch.ones(3).take(t([-4]))": IndexError("out of range: tried to access index -4 on a tensor of 3 elements."),
    "torch.take_along_dim(torch.ones(3), t([4]))": RuntimeError("index 4 is out of bounds for dimension 0 with size 3"),
    "torch.ones(3).index_add(0, t([3]), torch.ones(1))": IndexError("index out of range in self"),
    "torch.ones(3).index_fill(0, t([-4]), 5.0)": IndexError("index -4 is out of bounds for dimension 0 with size 3"),
    "torch.ones(3).index_copy(0, t([3]), torch.ones(1))":
        IndexError("index_copy_(): index 3 is out of bounds for dimension 0 with size 3"),
    "F.embedding(t([4]), torch.ones(4, 2))": IndexError("index out of range in self"),
    "F.embedding(t([-1]), torch.ones(4, 2))": IndexError("index out of range in self"),
    "F.one_hot(t([3]), 2)": RuntimeError("Class values must be smaller than num_classes."),
    "F.one_hot(t([-3]), 2)": RuntimeError("Class values must be non-negative."),
    "F.cross_entropy(torch.ones(2, 3), t([0, 5]))": IndexError("Target 5 is out of bounds."),
    "F.cross_entropy(torch.ones(1, 3, 2), t([[0, -7]]))": IndexError("Target -7 is out of bounds."),
    "F.nll_loss(torch.ones(1, 3), t([5]), reduction='none')": IndexError("Target 5 is out of bounds."),
    "t([1]) // t([0])": RuntimeError("ZeroDivisionError"),
    "t([1, 2]) % t([1, 0])": RuntimeError("ZeroDivisionError"),
    "torch.fmod(t([1]), t([0]))": RuntimeError("ZeroDivisionError"),
    "torch.div(t([1]), t([0]), rounding_mode='trunc')": RuntimeError("ZeroDivisionError"),
    "5 % t([0])": RuntimeError("ZeroDivisionError"),
    "torch.multinomial(t([-1.0, 2.0]), 1)":
        RuntimeError("probability tensor contains either `inf`, `nan` or element < 0"),
    "torch.multinomial(t([0.0, 0.0]), 1)":
        RuntimeError("invalid multinomial distribution (sum of probabilities <= 0)"),
    "torch.bernoulli(t([2.0]))": RuntimeError("Expected p_in >= 0 && p_in <= 1 to be true, but got false.  (Could this "
                                              "error message be improved?  If so, please report an enhancement request "
                                              "to PyTorch.)"),
    "F.binary_cross_entropy(t([2.0]), t([1.0]))": RuntimeError("all elements of input should be between 0 and 1"),
    "F.binary_cross_entropy(t([0.2]), t([2.0]))": RuntimeError("all elements of target should be between 0 and 1"),
    "torch.linalg.inv(t([[0.0]]))": torch.linalg.LinAlgError(
        "linalg.inv: The diagonal element 1 is zero, the inversion could not be completed because the input matrix is "
        "singular."),
}  # fmt: skip
#: What looks wrong and is right.
RIGHT = {
    "torch.ones(3)[t([-3, 2])]": [1.0, 1.0],
    "torch.ones(3)[t([], dtype=torch.int64)]": [],
    "F.cross_entropy(torch.zeros(2, 2), t([0, 5]), ignore_index=5, reduction='none')[1]": 0.0,
    "torch.take_along_dim(torch.arange(3), t([-1, 5]), 0)": [2, 2],
    "t([1.0]) // t([0.0])": [float("inf")],
    "torch.ones(3).index_fill(0, t([-1]), 5.0)": [1.0, 1.0, 5.0],
    "t([2, 0, 1, -1]) ** t([-1, -1, -1, -1])": [0, 0, 1, -1],
}


def run(source):
    return eval(source, {"torch": torch, "F": F, "t": device})  # noqa: S307


def assert_raises(error, call):
    with pytest.raises(type(error)) as caught:
        call()
    assert type(caught.value) is type(error) and str(caught.value) == str(error)
    return caught.value


@pytest.mark.parametrize("source", WRONG)
def test_a_read_raises_pytorchs_error(source):
    for _ in range(2):  # a program that is compiled, and one that is known
        result = run(source)
        error = assert_raises(WRONG[source], result.tolist)
        assert len(error.__notes__) == 1
        result.tolist()  # it is raised once


@pytest.mark.parametrize("source", [s for s in WRONG if "multinomial" not in s][::3])
def test_eager_raises_at_the_op(source):
    with torch.eager():
        assert_raises(WRONG[source], lambda: run(source))


@pytest.mark.parametrize("source", RIGHT)
def test_no_false_alarm(source):
    assert run(source).tolist() == RIGHT[source]


@pytest.mark.oracle
@pytest.mark.parametrize("source", WRONG)
def test_these_are_pytorchs(source):
    theirs = pytest.importorskip("torch", reason="PyTorch is the oracle: pip install -e .[oracle]")
    with pytest.raises(Exception) as caught:
        eval(source, {"torch": theirs, "F": theirs.nn.functional, "t": theirs.tensor})  # noqa: S307
    assert str(caught.value) == str(WRONG[source])


def test_eager_means_at_once_after_the_same_ops_were_recorded_too():
    for _ in range(3):
        x, i = torch.ones(3), device([3])
        x.jax()
        with torch.eager():
            assert_raises(WRONG["torch.ones(3)[t([3])]"], partial(operator.getitem, x, i))
        assert_raises(WRONG["torch.ones(3)[t([3])]"], x[i].tolist)


def test_host_data_is_checked_at_once():
    with pytest.raises(IndexError, match="out of bounds"):
        torch.ones(3)[[3]]
    assert not checks.waiting.runs


def test_writes_are_checked():
    x, i = torch.zeros(3), device([3])
    x[i] = 1.0
    assert_raises(IndexError("index 3 is out of bounds for dimension 0 with size 3"), x.tolist)


def test_the_error_names_the_line_of_the_op():
    torch.clear_caches()  # a step is known by the line that recorded it first
    x = torch.ones(3)
    wrong = x[device([5])]  # this line
    doubled = wrong * 2
    with pytest.raises(IndexError) as caught:
        print(doubled)
    line = Path(__file__).read_text().splitlines().index("    wrong = x[device([5])]  # this line") + 1
    assert f"test_checks.py, line {line};" in caught.value.__notes__[0]


def test_the_first_wrong_op_is_the_one():
    a = torch.ones(3)[device([4])]
    b = torch.ones(3)[device([5])]
    with pytest.raises(IndexError, match="index 4"):
        (a + b).tolist()


def test_any_later_read_raises_and_not_those_of_host_data():
    wrong = torch.ones(2)[device([2])]
    torch.clear_caches()  # flushes, and reads nothing
    assert torch.tensor([1]).tolist() == [1]
    with pytest.raises(IndexError):
        torch.ones(1).exp().tolist()
    del wrong


def test_synchronize_raises():
    wrong = torch.ones(2)[device([2])]
    with pytest.raises(IndexError):
        torch.synchronize()
    torch.synchronize()
    del wrong


def test_without_reads_a_flush_raises_a_few_runs_later():
    i = device([2])
    with pytest.raises(IndexError):
        for _ in range(40):
            wrong = torch.ones(2)[i]
            torch.clear_caches()
            i = device([0])
    checks.waiting.runs.clear()
    del wrong


def test_training_goes_on_after_an_error():
    table = torch.nn.Embedding(4, 2)
    optimizer = torch.optim.SGD(table.parameters(), lr=0.1)
    losses = []
    for step, row in enumerate([1, 9, 1, 2]):
        optimizer.zero_grad()
        loss = table(device([row])).sum()
        loss.backward()
        optimizer.step()
        if step == 1:
            with pytest.raises(IndexError, match="index out of range in self"):
                loss.item()
        losses.append(loss.item())
    assert len(losses) == 4 and table.weight.isfinite().all()


def test_backwards_and_segments():
    w = torch.ones(3, requires_grad=True)
    y = w[device([3])].sum()
    with pytest.raises(IndexError):
        y.item()
    y.backward()
    assert w.grad.shape == (3,)


def test_no_checked_op_no_output():
    torch.clear_caches()
    x = torch.ones(2) * 2
    x.tolist()
    assert [p.flag for p in program.all_programs()] == [-1] * program.count()


def test_what_nobody_needs_is_not_checked():
    wrong = torch.ones(2)[device([2])]
    del wrong
    assert (torch.ones(2) + 1).tolist() == [2.0, 2.0]


def test_each_thread_raises_its_own():
    found = []

    def work():
        try:
            torch.ones(2)[device([2])].tolist()
        except IndexError as error:
            found.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert len(found) == 1 and torch.ones(2).tolist() == [1.0, 1.0]


def test_inside_jax_nothing_is_checked():
    import jax

    result = jax.jit(lambda i: torch.ones(2)[torch.from_jax(i)].jax())(device([5]).jax())
    assert result.shape == (1,)


def test_switched_off():
    torch.clear_caches()
    config.check = False
    try:
        torch.ones(2)[device([2])].tolist()
    finally:
        config.check = True
        torch.clear_caches()
    with pytest.raises(IndexError):
        torch.ones(2)[device([2])].tolist()
