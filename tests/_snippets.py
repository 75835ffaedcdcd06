"""Short programs as text, run in tracegrad and in PyTorch; what they leave in ``r``, or raise, must be the same."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pytest

import tracegrad

PRELUDE = """
w = torch.arange(1.0, 7.0).reshape(2, 3).clone().requires_grad_()
y = w * 2
x = torch.arange(6.0).reshape(2, 3).clone()
i = torch.arange(6).reshape(2, 3).clone()
c = torch.tensor([[1 + 2j, 3 - 1j], [0.5j, 2]])
"""


def outcome(text, torch):
    """Return what ``text`` leaves in ``r``, or raises."""
    space = {"torch": torch, "np": np}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(PRELUDE, space)
        try:
            exec(text, space)
        except Exception as error:
            return type(error).__name__, re.sub(r"0x[0-9a-f]+", "0x", str(error))
    return plain(space.get("r"))


def plain(r):
    """Return tensors as lists with what is to be compared of them."""
    if isinstance(r, (tuple, list)):
        return [plain(x) for x in r]
    if hasattr(r, "detach"):
        return [str(r.dtype), r.detach().tolist(), r.requires_grad]
    if type(r).__name__.endswith("Backward0") or type(r).__name__ in ("CopySlices", "AccumulateGrad"):
        return type(r).__name__
    return r


def same(text, eager=False):
    """Raise AssertionError where tracegrad and PyTorch differ; ``eager``: run it op by op, too."""
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle: pip install -e .[oracle]")
    expected = outcome(text, torch)
    assert outcome(text, tracegrad) == expected, text
    if eager:
        with tracegrad.eager():
            assert outcome(text, tracegrad) == expected, f"{text} in eager()"
    return expected
