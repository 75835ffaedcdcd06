"""Ops that write, pick and count elements: in place, on views, second derivatives, errors, elements that are read."""

# ruff: noqa: E501 (a table of errors)
from __future__ import annotations

import numpy as np
import pytest

import tracegrad
from tracegrad import tensor

f64 = tracegrad.float64
rng = np.random.default_rng(0)


def leaf(*shape):
    return tensor(rng.normal(size=shape), requires_grad=True)


#: Written to a row of a matrix in place, and what the row becomes.
WRITES = {
    "index_copy_": (lambda x: x.index_copy_(0, tensor([2, 0]), tensor([7.0, 8.0])), [8.0, 1.0, 7.0]),
    "index_reduce_": (lambda x: x.index_reduce_(0, tensor([1, 1]), tensor([5.0, 9.0]), "amax"), [0.0, 9.0, 2.0]),
    "scatter_reduce_": (lambda x: x.scatter_reduce_(0, tensor([2, 2]), tensor([3.0, 4.0]), "prod"), [0.0, 1.0, 24.0]),
    "scatter_add_": (lambda x: x.scatter_add_(0, tensor([0, 0]), tensor([3.0, 4.0])), [7.0, 1.0, 2.0]),
    "put_": (lambda x: x.put_(tensor([-1]), tensor([5.0]), accumulate=True), [0.0, 1.0, 7.0]),
    "index_fill_": (lambda x: x.index_fill_(0, tensor([0, 1]), 4.0), [4.0, 4.0, 2.0]),
    "masked_fill_": (lambda x: x.masked_fill_(x > 0.5, -1.0), [0.0, -1.0, -1.0]),
}


@pytest.mark.parametrize("name", WRITES)
@pytest.mark.parametrize("eager", [False, True])
def test_in_place_on_a_view(name, eager):
    write, expected = WRITES[name]
    with tracegrad.eager() if eager else tracegrad.enable_grad():
        base = tensor([[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]])
        row = base[0]
        assert write(row) is row
        assert base.tolist() == [expected, [3.0, 4.0, 5.0]]


@pytest.mark.parametrize("reduce", ["sum", "prod", "mean", "amax", "amin"])
def test_second_derivatives_of_scatter_reduce(reduce):
    index = tensor([0, 2, 0, 0])
    assert tracegrad.autograd.gradcheck(lambda x, s: x.scatter_reduce(0, index, s, reduce), (leaf(3), leaf(4)))
    assert tracegrad.autograd.gradgradcheck(lambda x, s: x.scatter_reduce(0, index, s, reduce), (leaf(3), leaf(4)))


SMOOTH = {
    "index_copy": lambda x: x.index_copy(0, tensor([1, 0]), x[1:] * 2),
    "put": lambda x: x.put(tensor([0, 4]), x[0, :2] ** 2, True),
    "cummax": lambda x: x.cummax(1).values * x,
    "cdist": lambda x: tracegrad.cdist(x, x[:2] * 2 + 1),
    "quantile": lambda x: x.quantile(tensor([0.3, 0.7], dtype=f64), 1),
    "renorm": lambda x: x.renorm(2, 0, 0.5),
    "trapezoid": lambda x: tracegrad.trapezoid(x, x[0] * x[1]),
    "gradient": lambda x: tracegrad.gradient(x * x, dim=1)[0],
    "cov": lambda x: x.cov() ** 2,
    "as_strided": lambda x: (x * 1).as_strided((2, 3), (2, 1), 1) ** 2,
    "logcumsumexp": lambda x: x.logcumsumexp(0),
    "fold": lambda x: tracegrad.nn.functional.fold(x.reshape(1, 3, 3)[:, :1].expand(1, 4, 3)[..., :1] ** 2, 2, 2),
}


@pytest.mark.parametrize("name", SMOOTH)
def test_second_derivatives(name):
    assert tracegrad.autograd.gradgradcheck(SMOOTH[name], (leaf(3, 3),))


#: expression -> what it raises
ERRORS = {
    "torch.zeros(3).index_copy(0, torch.tensor([3]), torch.ones(1)).tolist()": (
        IndexError, "index_copy_(): index 3 is out of bounds for dimension 0 with size 3"),
    "torch.zeros(3).put(torch.tensor([-4]), torch.ones(1)).tolist()": (IndexError, "out of range: tried to access index"),
    "torch.zeros(3).scatter_reduce(0, torch.tensor([5]), torch.ones(1), 'sum').tolist()": (
        RuntimeError, "index 5 is out of bounds for dimension 0 with size 3"),
    "torch.quantile(torch.ones(3), 2.0)": (RuntimeError, "quantile() q must be in the range [0, 1] but got 2"),
    "torch.histc(torch.ones(3), 0)": (RuntimeError, "bins must be > 0"),
    "torch.cdist(torch.ones(3), torch.ones(3, 2))": (RuntimeError, "cdist only supports at least 2D tensors, X1 got: 1D"),
    "torch.combinations(torch.ones(2, 2))": (RuntimeError, "Expect a 1D vector, but got shape [2, 2]"),
    "torch.bincount(torch.tensor([-1]))": (RuntimeError, "bincount only supports 1-d non-negative integral inputs."),
    "torch.ones(3).as_strided((2, 2), (2, 2))": (RuntimeError, "are out of bounds for storage of"),
    "torch.trapezoid(torch.ones(3), torch.ones(2))": (RuntimeError, "There must be one `x` value for each sample point"),
    "torch.gcd(torch.ones(2), torch.ones(2))": (NotImplementedError, "\"gcd_cpu\" not implemented for 'Float'"),
    "torch.searchsorted(torch.ones(2), torch.ones(2), side='up')": (RuntimeError, "side can only be 'left' or 'right'"),
}  # fmt: skip


@pytest.mark.parametrize("source", ERRORS)
def test_errors(source):
    kind, words = ERRORS[source]
    with pytest.raises(kind) as caught:
        eval(source, {"torch": tracegrad})  # noqa: S307
    assert words in str(caught.value)


@pytest.mark.oracle
@pytest.mark.parametrize("source", ERRORS)
def test_errors_are_pytorchs(source):
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle: pip install -e .[oracle]")
    kind, words = ERRORS[source]
    with pytest.raises(kind) as caught:
        eval(source, {"torch": torch})  # noqa: S307
    assert words in str(caught.value)


def test_what_reads_elements_can_be_differentiated_after():
    x = tensor([3.0, 1.0, 3.0], requires_grad=True)
    y = x * 2
    positions = (y > 4).nonzero().flatten()
    assert positions.tolist() == [0, 2]
    y[positions].sum().backward()
    assert x.grad.tolist() == [2.0, 0.0, 2.0]


def test_unique_refuses_gradients_at_the_backward():
    x = tensor([3.0, 1.0, 3.0], requires_grad=True)
    values, inverse = tracegrad.unique(x, return_inverse=True)
    assert values.tolist() == [1.0, 3.0] and inverse.tolist() == [1, 0, 1]
    with pytest.raises(RuntimeError, match="_unique2 is not implemented"):
        values.sum().backward()


def test_index_copy_to_one_element_uses_it():
    x, source = leaf(), leaf(1)
    gradients = tracegrad.autograd.grad(x.index_copy(0, tensor([0]), source), [x, source], create_graph=True)
    assert [g.tolist() for g in gradients] == [0.0, [1.0]]


def test_as_strided_of_a_view_counts_from_its_storage():
    x = tracegrad.arange(12.0)
    part = x[2:10].reshape(2, 4).t()
    assert part.as_strided((3,), (2,)).tolist() == [2.0, 4.0, 6.0]
    assert part.as_strided((3,), (2,), 0).tolist() == [0.0, 2.0, 4.0]
    part.as_strided((2,), (1,)).fill_(-1)
    assert x[:5].tolist() == [0.0, 1.0, -1.0, -1.0, 4.0]


def test_named_results():
    assert repr(tensor([1, 2]).aminmax()) == "torch.return_types.aminmax(\nmin=tensor(1),\nmax=tensor(2))"
    assert tensor([1, 2]).cummax(0)._fields == ("values", "indices")
    assert repr(tracegrad.frexp(tensor([8.0]))).startswith("torch.return_types.frexp(\nmantissa=tensor([0.5000])")


def test_top_level_in_place_functions():
    x = tensor([-1.0, 2.0])
    assert tracegrad.abs_(x) is x and x.tolist() == [1.0, 2.0]
    assert tracegrad.clamp_(x, max=1.5) is x and x.tolist() == [1.0, 1.5]
