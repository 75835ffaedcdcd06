"""``x[index] = value`` in every form, and the other ways to write by index, against PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
from _indices import index_programs, outcome
from _snippets import same
from hypothesis import HealthCheck, Phase, given, settings

import tracegrad

oracle = pytest.mark.oracle
several = pytest.mark.parametrize


@oracle
@settings(max_examples=40, deadline=None, derandomize=True, database=None, print_blob=False,
          suppress_health_check=list(HealthCheck), phases=(Phase.generate, Phase.shrink))  # fmt: skip
@given(index_programs(writes=True))
def test_random_writes_match_pytorch(program):
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle: pip install -e .[oracle]")
    assert outcome(program, tracegrad) == outcome(program, torch)


@oracle
@several("text", [
    "x[0] = 1; r = x", "x[-1] = 2.5; r = x", "x[1, -1] = True; r = x", "x[:] = 3; r = x", "x[...] = 3; r = x",
    "x[()] = 3; r = x", "x[:, ::2] = -1; r = x", "x[1:, None] = 4; r = x", "x[True] = 3; r = x", "x[False] = 3; r = x",
    "x[None] = 3; r = x", "x[torch.tensor(True)] = 4; r = x", "x[torch.tensor(1)] = 4; r = x",
    "x[torch.tensor(-1), 1:] = 4; r = x", "x[0] = x[1]; r = x", "x[0] = torch.tensor([1, 2, 3]); r = x",
    "x[:, 1] = torch.tensor([True, False]); r = x", "x[0] = torch.tensor(7); r = x",
    "x[0] = torch.ones(1, 1, 3); r = x",
    "x[3:2] = 1; r = x", "x[3:2] = torch.ones(3); r = x", "x[np.int64(1)] = 5; r = x", "x[0] = torch.tensor(1j); r = x",
    "i[0] = 2.7; r = i", "i[0] = torch.tensor(2.7); r = i", "i[:, 1] = -1; r = i", "c[0] = 2; r = c",
    "c[1] = 1j; r = c",
    "b = torch.zeros(3, dtype=torch.bool); b[0] = 2.5; b[2] = torch.tensor(0.5); r = b",
    "u = torch.zeros(3, dtype=torch.uint8); u[0] = -1; r = u", "x[x > 2] = 0; r = x",
    "x[x > 2] = torch.tensor(9.); r = x",
    "x[x > 2] = torch.tensor(9); r = x", "x[x > 2] = torch.ones(3); r = x", "x[x > 2] = torch.ones(1, 3); r = x",
    "x[x > 2] = torch.ones(1); r = x", "x[x > 99] = torch.ones(0); r = x", "x[0, x[0] > 0] = 8; r = x",
    "x[torch.tensor([True, False])] = torch.tensor([7., 8., 9.]); r = x",
    "x[torch.tensor([True, False]), 1:] = torch.tensor([[7., 8.]]); r = x",
    "x[:, torch.tensor([True, False, True])] = torch.tensor([[1.], [2.]]); r = x",
    "x[torch.tensor([True, True]), torch.tensor([0, 2])] = 5; r = x",
    "x[[0, 1], [1, 2]] = torch.tensor([8., 9.]); r = x",
    "x[torch.tensor([1, 0])] = torch.arange(6.).reshape(2, 3); r = x", "x[[1]] = 4; r = x", "x[:, [0, -1]] = 4; r = x",
    "x[np.array([1, 0]), 2] = torch.tensor([5., 6.]); r = x",
    "x[torch.tensor([[0], [1]]), torch.tensor([0, 2])] = 5; r = x",
    "x[torch.tensor([], dtype=torch.long)] = 5; r = x", "x[range(1)] = 5; r = x",
    "z = torch.zeros(2, 3, 2); z[[0, 1], :, [1, 0]] = torch.arange(6.).reshape(2, 3); r = z",
    "z = torch.zeros(2, 3, 2); z[:, [0, 2], 1] = torch.arange(4.).reshape(2, 2); r = z",
    "z = torch.zeros(2, 3, 2); z[1, None, [0, 2]] = 3; r = z", "z = torch.zeros(()); z[()] = 3; z[...] = z + 1; r = z",
    "z = torch.tensor(1.); z[z > 0] = 4; r = z", "x.t()[0] = torch.tensor([8., 9.]); r = x", "x[0][1:] = 5; r = x",
    "x.view(-1)[x.view(-1) > 3] = 0; r = x", "x.t()[[0, 2], 1] = 9; r = x", "x[0] += 1; r = [x, x._version]",
    "x[x > 2] += 1; r = x", "x[[0, 0]] += 1; r = x", "x[:, 1] *= x[:, 2]; r = x", "x[0, 0] -= w[0, 0]; r = x",
    "v = x[0]; v += 1; x[1] = v; r = x", "v = x[0]; x[0] = v; r = [x, x._version]",
])  # fmt: skip
def test_forms(text):
    same(text)


@oracle
@several("text", [
    "y[0] = 1", "y[0] = w[1]", "x[0] = w[1]; y = x", "y[:, 1] = w[:, 0] * 2", "y[y > 3] = 1.",
    "y[y > 3] = w.sum()", "y[y > 6] = w.view(-1)[:3]", "y[torch.tensor([0])] = w[:1]", "x[[1, 0]] = w; y = x",
    "y[torch.tensor([0, 0])] = w", "y[1, [0, 2]] = w[0, 0]", "y[0] += w[1]", "y[0] = y[1] * 2", "y.t()[0] = w[:, 2]",
    "y[...] = w[0]", "y[:, [0, 1]] = w[:, :1]", "y[0, 0] = 0; y[1] = y[0] * 3", "y[None, 0] = w[0, 0]",
    "y[torch.tensor(1)] = w[0]", "y.view(-1)[1::2] = w.view(-1)[::2]",
    "for t in range(3): y[:, t] = y[:, t - 1] * 2",
])  # fmt: skip
def test_gradients(text):
    same(f"{text}\n(y * torch.arange(1.0, 7.0).reshape(2, 3)).sum().backward(); r = [y, w.grad]")


@oracle
@several("text", [
    "w[0] = 1", "w[...] = 1", "w[torch.tensor([0])] = 1", "w[w > 2] = 1", "x[0] = [1, 2, 3]", "x[0] = np.ones(3)",
    "x[0] = np.float32(3)", "x[0] = 'a'", "x[0] = None", "x[0] = 1j", "x[0] = torch.ones(4)",
    "x[0, 0] = torch.ones(2)", "x[0] = torch.ones(2, 1, 3)", "x[torch.tensor([0])] = torch.ones(2)",
    "x[x > 2] = torch.ones(2)", "x[3:2] = torch.ones(2, 3)", "x[5] = 1", "x[0, 5] = 1", "x[-3] = 1", "x[0, 0, 0] = 1",
    "x[torch.tensor([5])] = 1", "x[[0, -3]] = 1", "x[1.5] = 2", "del x[0]", "x[torch.tensor([True])] = 1",
    "x[torch.tensor([0, 1]), torch.tensor([0, 1, 2])] = 1", "x[torch.tensor([1.0])] = 1", "i[0] = float('nan')",
    "i[0] = float('inf')", "x.expand(2, 2, 3)[:, 0, 0] = 1", "i[[0]] = torch.ones(3)",
    "u = torch.zeros(3, dtype=torch.uint8); u[0] = 300", "x[0][:1, 0] = 3", "x[::-1] = 1", "torch.tensor(1.)[0] = 2",
    "x[torch.tensor([True, False, True])] = 1",
])  # fmt: skip
def test_errors(text):
    kind, _ = same(text)
    assert kind.endswith("Error")


@oracle
@several("text", [
    "x.index_put_((torch.tensor([0]),), torch.ones(3)); r = x",
    "r = x.index_put((torch.tensor([0, 1]),), torch.tensor(4.))",
    "x.index_put_((torch.tensor([0, 0]),), torch.tensor(1.), accumulate=True); r = x",
    "x.index_put_((torch.tensor([0, 0]), torch.tensor([1, 1])), torch.tensor([1., 2.]), True); r = x",
    "x.index_put_((x > 2,), torch.tensor(1.)); r = x", "x[0].index_put_((torch.tensor([1]),), torch.tensor(8.)); r = x",
    "x.index_put_((torch.tensor([0]),), torch.ones(2))", "x.index_put((torch.tensor([0]),), torch.tensor(1))",
    "z = y.index_put((torch.tensor([0, 0]),), w, accumulate=True); (z * y).sum().backward(); r = [z, w.grad]",
    "z = torch.index_put(x, (torch.tensor([1]), torch.tensor([2])), torch.tensor(5.)); r = [z, x]",
    "x.masked_scatter_(x > 2, torch.arange(5.)); r = x",
    "r = x.masked_scatter(torch.tensor([True, False, True]), x + 10)",
    "z = y.masked_scatter(y > 4, w * 3); (z * z).sum().backward(); r = [z, w.grad, z.grad_fn]",
    "x.masked_scatter_(x > 2, torch.ones(1))", "x.masked_scatter_(x > 2, torch.arange(5))",
    "x.masked_scatter_(torch.tensor([1, 0, 0]), torch.arange(5.))",
    "x.t().masked_scatter_(x.t() > 2, x * 0 - 1); r = x",
    "x[0].masked_fill_(x[0] > 0, 9); r = x", "x.t()[1].copy_(torch.tensor([3, 4])); r = x",
    "y[0] = 1; r = y.grad_fn", "y[0].mul_(2); r = y.grad_fn", "y[y > 2] = 1; r = y.grad_fn",
])  # fmt: skip
def test_other_writes_by_index(text):
    same(text)


def test_parts_of_an_expanded_tensor_are_refused():
    """PyTorch writes here; which elements are meant depends on which of the copies was written to."""
    x = tracegrad.zeros(2, 3)
    for write in (lambda e: e[1].add_(1), lambda e: e[:1].fill_(2), lambda e: e.__setitem__(0, 1)):
        with pytest.raises(RuntimeError, match="more than one element of the written-to tensor refers to a single"):
            write(x.expand(2, 2, 3))
    assert x.sum().item() == 0


def test_a_mask_is_not_read():
    x = tracegrad.arange(6.0) * 1
    before = tracegrad.cache_sizes()["runs"]
    x[x > 2] = 0.0
    x[x == 1] = tracegrad.tensor(7.0)
    x.view(2, 3)[:, x[:3] > 5] += 0
    x.masked_scatter_(x > 1, tracegrad.ones(6))
    assert tracegrad.cache_sizes()["runs"] <= before + 1  # reading by a mask reads it
    assert x.tolist() == [0, 1, 1, 0, 0, 0]


def test_the_first_values_of_a_number_do_not_stick():
    for k in (1, 2, 3, 2):
        x = tracegrad.zeros(4, 4)
        x[k, k - 1 :] = k / 2
        x[:k, 0] = k
        expected = np.zeros((4, 4))
        expected[k, k - 1 :] = k / 2
        expected[:k, 0] = k
        np.testing.assert_array_equal(x.numpy(), expected)


def test_an_index_that_changes_later():
    x, at = tracegrad.zeros(4), tracegrad.tensor(1)
    v = x[at]
    at += 2
    v += 5
    x[at] = 1
    assert x.tolist() == [0, 5, 0, 1] and v.item() == 5
