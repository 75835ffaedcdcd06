"""A notebook for the founding programs: cells share names, and a last expression is shown as at a prompt."""

from __future__ import annotations

import ast
import contextlib
import io
import re
from collections.abc import Iterator
from typing import Any

import pytest

import tracegrad

_ADDRESS = re.compile(r"0x[0-9a-f]+")


class Notebook:
    """Runs cells one after another, over tracegrad or over the PyTorch that stands in for it."""

    def __init__(self, library: Any):
        self.names: dict[str, Any] = {}
        self.library = library

    def __call__(self, cell: str) -> str:
        """Run one cell and return what it prints, with object addresses replaced by ``0x...``."""
        if self.library is not tracegrad:
            cell = cell.replace("import tracegrad as torch", "import torch")
        tree = ast.parse(cell)
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(tree, "<cell>", "exec"), self.names)
            if last is not None:
                shown = eval(compile(ast.Expression(last.value), "<cell>", "eval"), self.names)
                if shown is not None:
                    print(repr(shown))
        return _ADDRESS.sub("0x...", printed.getvalue())


@pytest.fixture(params=["recorded", "eager", pytest.param("torch", marks=pytest.mark.oracle)])
def notebook(request: pytest.FixtureRequest) -> Iterator[Notebook]:
    """Give a notebook over tracegrad, over tracegrad in eager mode, and over PyTorch, which decides."""
    if request.param == "torch":
        yield Notebook(pytest.importorskip("torch", reason="compares with PyTorch, which is not installed"))
    elif request.param == "eager":
        with tracegrad.eager():
            yield Notebook(tracegrad)
    else:
        yield Notebook(tracegrad)
