"""``tracegrad.safetensors``: the functions of ``safetensors.torch``."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from typing import Any

import pytest

import tracegrad as tg
from tracegrad.safetensors import load, load_file, load_model, safe_open, save, save_file, save_model

library = pytest.importorskip("safetensors", reason="pip install -e .[safetensors]")
DTYPES = ["float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "uint16", "uint32",
          "uint64", "bool", "complex64"]  # fmt: skip


@pytest.fixture
def theirs() -> Any:
    pytest.importorskip("torch", reason="PyTorch is the oracle: pip install -e .[oracle]")
    return pytest.importorskip("safetensors.torch")


def tensors(api: Any) -> dict[str, Any]:
    made = {name: api.tensor([[0, 1], [1, 0]]).to(getattr(api, name)) for name in DTYPES}
    return {**made, "none": api.zeros(0, 3), "scalar": api.tensor(2.5)}


def same(a: dict[str, Any], b: dict[str, Any]) -> None:
    assert set(a) == set(b)
    for name in a:
        assert a[name].tolist() == b[name].tolist() and tuple(a[name].shape) == tuple(b[name].shape)
        assert str(a[name].dtype) == str(b[name].dtype)


def test_round_trip(tmp_path):
    given = tensors(tg)
    same(load(save(given, {"a": "b"})), given)
    save_file(given, tmp_path / "a.safetensors", {"a": "b"})
    same(load_file(str(tmp_path / "a.safetensors")), given)
    with safe_open(tmp_path / "a.safetensors", framework="pt", device="cpu") as file:
        assert file.metadata() == {"a": "b"} and set(file.keys()) == set(given)
        same({"x": file.get_tensor("bfloat16")}, {"x": given["bfloat16"]})
        part = file.get_slice("float32")
        assert part.get_shape() == [2, 2] and part[1:, 0].tolist() == [1.0] and part.get_dtype() == "F32"


@pytest.mark.oracle
def test_both_ways_with_the_library(theirs, tmp_path):
    import torch

    same(load(theirs.save(tensors(torch), {"k": "v"})), tensors(torch))
    same(theirs.load(save(tensors(tg))), tensors(tg))
    theirs.save_file(tensors(torch), tmp_path / "t.safetensors")
    same(load_file(tmp_path / "t.safetensors"), tensors(torch))
    save_file(tensors(tg), tmp_path / "o.safetensors")
    same(theirs.load_file(tmp_path / "o.safetensors"), tensors(tg))


class Tied(tg.nn.Module):
    def __init__(self):
        super().__init__()
        self.a = tg.nn.Linear(2, 2, bias=False)
        self.b = tg.nn.Linear(2, 2, bias=False)
        self.b.weight = self.a.weight


def test_models(tmp_path):
    path = tmp_path / "m.safetensors"
    model, other = Tied(), Tied()
    with pytest.raises(RuntimeError, match="Some tensors share memory.*'a.weight'"):
        save_file(dict(model.state_dict()), path)
    assert not path.exists()
    save_model(model, path)
    with safe_open(path) as file:
        assert file.keys() == ["a.weight"] and file.metadata() == {"b.weight": "a.weight"}
    assert load_model(other, path) == (set(), [])
    assert other.b.weight.tolist() == model.a.weight.tolist()
    with pytest.raises(RuntimeError, match=r'Missing key\(s\) in state_dict: "weight"\n.*Unexpected.*"a.weight"'):
        load_model(tg.nn.Linear(2, 2, bias=False), path)


def test_errors(tmp_path):
    with pytest.raises(ValueError, match=r"Expected a dict of \[str, torch.Tensor\]"):
        save([tg.ones(1)])
    with pytest.raises(ValueError, match="Key `a` is invalid"):
        save({"a": 1})
    with pytest.raises(ValueError, match="non contiguous tensor: `a`"):
        save({"a": tg.ones(2, 3).t()})
    with pytest.raises(tg.UnsupportedError, match="complex128"):
        save({"a": tg.ones(1, dtype=tg.complex128)})
    with pytest.raises(FileNotFoundError):
        load_file(tmp_path / "nix")
    x = tg.arange(6)
    same(load(save({"a": x[:3], "b": x[3:]})), {"a": x[:3], "b": x[3:]})  # apart, though of one storage
    with pytest.raises(RuntimeError, match="share memory"):
        save({"a": x[:4], "b": x[3:]})


@pytest.mark.parametrize("part", range(4))
def test_malformed(part):
    good = save({"a": tg.ones(2), "b": tg.zeros(3)})
    size = struct.unpack("<Q", good[:8])[0]
    bad = [
        *[good[:n] for n in range(0, len(good), 9)],
        struct.pack("<Q", 2**60) + good[8:], good[:8] + b"x" * size + good[8 + size :],
        good.replace(b"[2]", b"[9]"), good.replace(b"F32", b"F99"), good.replace(b"F32", b"F8_E4M3"), good + b"more",
    ]  # fmt: skip
    for data in bad[part::4]:
        with pytest.raises((library.SafetensorError, tg.UnsupportedError, ValueError)):
            load(data)


def test_a_failed_save_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.safetensors"
    save_file({"a": tg.ones(1)}, path)
    with pytest.raises(Exception, match="metadata|str"):
        save_file({"a": tg.zeros(1)}, path, {"a": 5})
    assert load_file(path)["a"].tolist() == [1.0] and os.listdir(tmp_path) == ["a.safetensors"]


def test_without_the_library():
    program = ("import sys; sys.modules['safetensors'] = None\nimport tracegrad as tg, tracegrad.safetensors as s\n"
               "try: s.save({'a': tg.ones(1)})\nexcept ImportError as e: print(e)")  # fmt: skip
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "pip install 'tracegrad[safetensors]'" in out.stdout, out.stderr
