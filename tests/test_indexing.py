"""``x[index]`` in every form: values, shapes, views and gradients against PyTorch."""

from __future__ import annotations

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
@given(index_programs())
def test_random_reads_match_pytorch(program):
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle: pip install -e .[oracle]")
    assert outcome(program, tracegrad) == outcome(program, torch)


@oracle
@several("text", [
    "z = torch.arange(24.).reshape(2, 3, 4); r = [z[0, :, [1, 2]], z[:, 0, [1, 2]], z[[0, 1], :, [1, 2]], z[0, [1],"
    " [2]]]",
    "z = torch.arange(24.).reshape(2, 3, 4); r = [z[[0], None, [1]], z[..., [0, 1], None], z[None, [1], ..., [2, 3]]]",
    "z = torch.arange(24.).reshape(2, 3, 4); m = z[0] > 5; r = [z[:, m], z[1, m], z[:, m, ], z[[0], m[:1].expand(3,"
    " 4)]]",
    "z = torch.arange(24.).reshape(2, 3, 4); r = [z[torch.tensor(1), 1:], z[:, torch.tensor(-1)],"
    " z[torch.tensor([True, False])]]",
    "r = [x[True], x[False], x[None, True], x[torch.tensor(True)], x[torch.tensor(False), 0]]",
    "r = [x[[0, 1]], x[[[0, 1], [1, 0]]], x[[0, 1], [0, 2]], x[(0, 1)], x[[True, False]], x[np.array([1, 0])]]",
    "r = [x[:], x[...], x[()], x[0:1], x[-1:], x[:, -2:], x[::2], x[1::3], x[5:], x[2:1]]",
    "r = [x[i > 2], x[i[0] > 0], x[torch.tensor([1, 0], dtype=torch.uint8)], x[range(1)]]",
    "r = [x.select(0, -1), x.narrow(1, -2, 2), x.unfold(1, 2, 1), x.unfold(-1, 3, 2), x[0].unfold(0, 1, 1)]",
    "r = [torch.view_as_real(c), torch.view_as_complex(torch.view_as_real(c)), c.real, c.imag, torch.real(x) is x]",
])  # fmt: skip
def test_forms(text):
    same(text)


@oracle
@several("text", [
    "r = x[2]", "r = x[0, 3]", "r = x[0, 0, 0]", "r = x[-3]", "r = x[1.0]", "r = x[[0, 5]]", "r = x[::-1]", "r = x[x]",
    "r = torch.tensor(1.)[0]", "r = torch.tensor(1.)[-1]", "r = torch.tensor(1.)[:]", "r = x[[0, 1], [0, 1, 2]]",
    "r = x[torch.tensor([True])]", "r = x[:, torch.tensor([True, False])]", "r = x[..., 7]", "r = x.select(0, 2)",
    "r = x.narrow(0, 1, 2)", "r = x.unfold(1, 4, 1)", "r = x.unfold(1, 2, 0)", "r = x.unfold(2, 1, 1)",
    "r = torch.view_as_real(x)", "r = torch.view_as_complex(x)", "r = x.imag",
])  # fmt: skip
def test_errors(text):
    kind, _ = same(text)
    assert kind.endswith("Error")


def test_starts_are_numbers_of_one_program(compiled):
    x = tracegrad.arange(12.0).reshape(4, 3)
    seen = []
    for t in range(4):
        assert x[t].sum().item() == 9 * t + 3
        assert x[t:, 1].tolist() == [3 * k + 1 for k in range(t, 4)]
        seen.append(compiled())
    for t in range(4):
        assert x[t].sum().item() == 9 * t + 3
    assert compiled() == 0
