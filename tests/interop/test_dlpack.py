"""DLPack both ways: without a copy where nobody can write, and never a later write seen."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import tracegrad as tg

DTYPES = ["float64", "float32", "float16", "bfloat16", "complex64", "complex128", "int64", "int32", "int16", "int8",
          "uint8", "uint16", "uint32", "uint64", "bool"]  # fmt: skip


@pytest.fixture
def torch() -> Any:
    return pytest.importorskip("torch", reason="PyTorch is the oracle: pip install -e .[oracle]")


def pointer(t):
    return t.jax().unsafe_buffer_pointer()


@pytest.mark.parametrize("dtype", [d for d in DTYPES if d != "bfloat16"])
def test_numpy(dtype):
    a = np.array([[0, 1], [1, 0]], dtype)
    t = tg.from_dlpack(a)
    assert t.dtype.name == dtype and t.tolist() == a.tolist()
    a[:] = 1
    assert t[0, 0].item() == 0
    assert np.from_dlpack(t).dtype == a.dtype and np.from_dlpack(t).tolist() == t.tolist()


def test_numpy_layouts():
    a = np.arange(6.0).reshape(2, 3)
    assert tg.from_dlpack(a.T).tolist() == a.T.tolist()
    assert tg.from_dlpack(np.broadcast_to(a[0], (2, 3))).tolist() == [a[0].tolist()] * 2
    assert tg.from_dlpack(np.zeros((0, 3), np.float32)).shape == (0, 3)
    assert tg.from_dlpack(np.array(2.5)).item() == 2.5


def test_pending_ops_do_not_see_later_writes():
    a = np.ones(1000, np.float32)
    t = tg.from_dlpack(a)
    y = t * 2
    a[:] = 7
    assert y[0].item() == 2 and t[0].item() == 1


def test_sharing():
    x = jnp.arange(1000.0)
    t = tg.from_dlpack(x)
    assert pointer(t) == x.unsafe_buffer_pointer()
    assert pointer(tg.from_dlpack(t)) == pointer(t) != pointer(tg.from_dlpack(t, copy=True))
    a = np.ones(4096, np.float32)
    a = a[(-a.ctypes.data % 64) // 4 :][:1000]
    assert pointer(tg.from_dlpack(a, copy=False)) == a.ctypes.data
    a.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        tg.from_dlpack(a, copy=False)


def test_what_was_handed_out_stays():
    for _ in range(3):
        t = tg.ones(1000) * 2
        a = np.from_dlpack(t)
        assert a.ctypes.data == pointer(t)
        t.add_(1)
        t.mul_(2)
        assert t.tolist() == [6.0] * 1000 and (a == 2).all()


def test_donated_parameters_are_not_what_was_handed_out():
    w = tg.nn.Parameter(tg.ones(64))
    optimizer = tg.optim.SGD([w], lr=1.0)
    kept = []
    for _ in range(4):
        kept.append((np.from_dlpack(w.detach()), w.tolist()))
        optimizer.zero_grad()
        w.sum().backward()
        optimizer.step()
    assert all(a.tolist() == before for a, before in kept)


def test_errors():
    w = tg.ones(2, requires_grad=True)
    for export in (np.from_dlpack, tg.from_dlpack, tg.utils.dlpack.to_dlpack):
        with pytest.raises(BufferError, match="Can't export tensors that require gradient"):
            export(w)
    with pytest.raises(TypeError, match="expected an object with __dlpack__, got int"):
        tg.from_dlpack(5)
    with pytest.raises(TypeError, match="capsules are not supported"):
        tg.from_dlpack(tg.ones(1).__dlpack__())
    assert tg.utils.dlpack.from_dlpack is tg.from_dlpack
    assert tg.from_dlpack(np.ones(1), device="cpu").device.type == "cpu"


@pytest.mark.oracle
@pytest.mark.parametrize("dtype", DTYPES)
def test_pytorch(torch, dtype):
    theirs = torch.tensor([[0, 1, 1], [1, 0, 1]]).to(getattr(torch, dtype))
    for x in (theirs, theirs.t(), theirs[:, 1:]):
        t = tg.from_dlpack(x)
        assert t.dtype.name == dtype and t.tolist() == x.tolist()
    back = torch.from_dlpack(t)
    assert str(back.dtype) == f"torch.{dtype}" and back.tolist() == t.tolist()
    assert torch.utils.dlpack.from_dlpack(tg.utils.dlpack.to_dlpack(t)).tolist() == t.tolist()


@pytest.mark.oracle
def test_pytorchs_writes_are_not_seen(torch):
    x = torch.ones(1000)
    t = tg.from_dlpack(x)
    y = t * 2
    x.zero_()
    assert t[0].item() == 1 and y[0].item() == 2
    shared = tg.from_dlpack(x, copy=False)
    assert pointer(shared) == x.data_ptr()
    z = tg.ones(1000) * 2
    assert torch.from_dlpack(z).data_ptr() == pointer(z)
    with pytest.raises(BufferError, match="require gradient"):
        tg.from_dlpack(torch.ones(1, requires_grad=True))
