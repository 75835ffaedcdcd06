"""Errors of indexing come in PyTorch's order and words, whether an index is still host data or not."""

from __future__ import annotations

import pytest
from _snippets import same

pytestmark = pytest.mark.oracle

PROGRAMS = [
    "i[T([0, 9])] = torch.tensor([2.5])", "i[T([0, 1])] = torch.ones(5)", "i[T([0, 9])] = torch.ones(5)",
    "i[T([0, 9]), T([1, 2, 3])] = torch.ones(3)", "i[T([0, 9])] = 2.5; i.tolist()", "x[T([0, 9]), T([1, 2, 3])]",
    "torch.zeros(0)[T([0])].tolist()", "torch.zeros(0)[[0]]", "torch.zeros(0)[T(0)].tolist()",
    "torch.zeros(3, 0)[T([9]), T([0])].tolist()",
    "r = torch.zeros(3, 0)[T([9])].shape", "r = torch.zeros(0, 2)[:, T([5])].shape",
    "r = torch.zeros(3, 0)[T([0]), T([])].shape", "r = torch.zeros(0)[T([])]",
    "z = torch.zeros(0, 3); z[T([0])] = 1.0; r = z", "z = torch.zeros(0, 3); z[T([0])] = torch.ones(2); r = z",
    "z = torch.zeros(0, 3).long(); z[T([0])] = torch.ones(3); r = z", "z = torch.zeros(3, 0); z[T([9])] = 1.0; r = z",
    "r = torch.zeros(0).take(T([0]))", "r = torch.zeros(0).take(T([]))",
    "x[:, T([9])].tolist()", "torch.zeros(2, 3, 4)[:, T([0]), T([9])].tolist()",
    "torch.zeros(2, 3, 4)[0, :, T([9])].tolist()",
    "x[:, T([9])] = 1.0; x.tolist()", "z = torch.zeros(2, 3, 4); z[T([0]), :, T([9])] = 1.0; z.tolist()",
    "x[T(9)].tolist()", "x[:, T(-4)].tolist()",
]  # fmt: skip


@pytest.mark.parametrize("text", PROGRAMS)
def test_errors_of_indexing(text):
    same("T = lambda a: torch.tensor(a, dtype=torch.int64)\n" + text, eager=True)
    # No longer host data: the elements are looked at when the op has run.
    same("T = lambda a: torch.tensor(a, dtype=torch.int64) + 0\n" + text, eager=True)
