"""``from_torch`` and ``to_torch``."""

from __future__ import annotations

import collections
from typing import Any

import pytest

import tracegrad as tg
from tracegrad.interop import from_torch, to_torch

pytestmark = pytest.mark.oracle
torch: Any = pytest.importorskip("torch", reason="PyTorch is the oracle: pip install -e .[oracle]")
DTYPES = ["float64", "float32", "float16", "bfloat16", "complex64", "complex128", "int64", "int32", "int16", "int8",
          "uint8", "uint16", "uint32", "uint64", "bool"]  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
def test_dtypes(dtype):
    x = torch.tensor([[0, 1, 1], [1, 0, 1]]).to(getattr(torch, dtype))
    for a in (x, x.t(), x[1], x[0, 0], x[:0], x.expand(2, 2, 3)):
        t = from_torch(a)
        assert t.dtype.name == dtype and t.shape == tuple(a.shape) and t.tolist() == a.tolist()
        b = to_torch(t)
        assert b.dtype is a.dtype and b.shape == a.shape and b.tolist() == a.tolist()


def test_nothing_is_shared():
    x = torch.ones(3)
    t = from_torch(x)
    y = t * 2
    x.zero_()
    assert y.tolist() == [2.0] * 3
    z = to_torch(t)
    z.zero_()
    assert t.tolist() == [1.0] * 3


def test_gradients_and_parameters():
    assert from_torch(torch.ones(2, requires_grad=True)).requires_grad and from_torch(torch.ones(2) * 2).is_leaf
    p = from_torch(torch.nn.Parameter(torch.ones(2), requires_grad=False))
    assert type(p) is tg.nn.Parameter and not p.requires_grad
    w = from_torch(torch.ones(2, requires_grad=True) * 3)
    assert w.requires_grad and w.is_leaf and w.tolist() == [3.0, 3.0]
    q = to_torch(tg.nn.Parameter(tg.ones(2)))
    assert isinstance(q, torch.nn.Parameter) and q.requires_grad
    assert to_torch(tg.ones(2, requires_grad=True) * 2).is_leaf


def test_conjugates():
    z = torch.tensor([1 + 2j])
    assert from_torch(z.conj()).tolist() == [1 - 2j] and from_torch(z.conj().imag).tolist() == [-2.0]


def test_containers():
    Pair = collections.namedtuple("Pair", "a b")
    x = torch.ones(2)
    found = from_torch({"p": Pair(x, 1), "l": [x, None], "t": (torch.float16, torch.Size([1])), "s": "text"})
    assert type(found["p"]) is Pair and found["l"][0] is found["p"].a and found["t"] == (tg.float16, tg.Size([1]))
    back = to_torch(found)
    assert back["t"] == (torch.float16, torch.Size([1])) and back["p"].a is back["l"][0] and back["s"] == "text"


def test_state_dicts():
    def build(api):
        model = api.nn.Sequential(api.nn.Linear(2, 3), api.nn.BatchNorm1d(3))
        return model, api.optim.Adam(model.parameters(), lr=0.1)

    (ours, adam), (theirs, their_adam) = build(tg), build(torch)
    ours.load_state_dict(from_torch(theirs.state_dict()))

    def step(api, model, optimizer):
        optimizer.zero_grad()
        (model[0](api.arange(8.0).reshape(4, 2)) ** 2 * 0.1).sum().backward()
        optimizer.step()

    step(tg, ours, adam)
    step(torch, theirs, their_adam)
    state = to_torch(ours.state_dict())
    assert state._metadata == theirs.state_dict()._metadata
    theirs.load_state_dict(state)
    their_adam.load_state_dict(to_torch(adam.state_dict()))
    step(tg, ours, adam)
    step(torch, theirs, their_adam)
    for a, b in zip(ours.state_dict().values(), theirs.state_dict().values()):
        tg.testing.assert_close(a, from_torch(b), rtol=1e-4, atol=1e-5)


def test_refused():
    for x in (torch.ones(2, 2).to_sparse(), torch.ones(2, dtype=torch.float8_e4m3fn)):
        with pytest.raises(tg.UnsupportedError, match="tensors here are dense, of the dtypes"):
            from_torch(x)
