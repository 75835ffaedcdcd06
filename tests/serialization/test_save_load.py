"""Files: what PyTorch writes is read, what we write PyTorch reads, and a failed save leaves the old file."""

from __future__ import annotations

import collections
import io
import os
import pickle
import stat
import zipfile
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import tracegrad as tg
from tracegrad import optim
from tracegrad.optim import lr_scheduler
from tracegrad.serialization import _archive

DTYPES = ["float64", "float32", "float16", "bfloat16", "complex64", "complex128", "int64", "int32", "int16", "int8",
          "uint8", "uint16", "uint32", "uint64", "bool"]  # fmt: skip


@pytest.fixture
def torch() -> Any:
    return pytest.importorskip("torch", reason="PyTorch is the oracle: pip install -e .[oracle]")


def written(api: Any, obj: Any, **options: Any) -> io.BytesIO:
    file = io.BytesIO()
    api.save(obj, file, **options)
    file.seek(0)
    return file


def rebuilt(records: dict[str, bytes]) -> io.BytesIO:
    file = io.BytesIO()
    writer = _archive.Writer(file, "x")
    for name, record in records.items():
        writer.write(name, record)
    writer.finish()
    file.seek(0)
    return file


def records_of(file: io.BytesIO) -> dict[str, bytes]:
    with zipfile.ZipFile(file) as archive:
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


def again(obj: Any) -> Any:
    return tg.load(written(tg, obj))


def lay(t: Any) -> Any:
    return tuple(t.shape), tuple(t.stride()), t.storage_offset()


# -- without PyTorch ---------------------------------------------------------------------------------------------------


PLAIN = {
    "numbers": [1, -5, 2**40, 2**100, 1.5, float("inf"), True, None, 1 + 2j],
    "strings": ["a", "", "é€😀", b"", b"ab\xff", bytearray(b"q")],
    "sets": [{1, 2}, set(), frozenset({("a", 1)})],
    "nested": {"a": {"b": ({"c": []},), ("x", 1): 2}, 3: 4, None: 5, 2.5: 6},
    "ordered": collections.OrderedDict(a=1, b=2),
    "counter": collections.Counter("aab"),
    "size": tg.Size([2, 3]),
    "dtypes": [tg.float32, tg.int64, tg.bfloat16, tg.bool],
    "device": tg.device("cuda", 1),
    "slices": [slice(1, None, 2), range(0, 6, 2)],
}


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("name", PLAIN)
def test_plain_objects(name, protocol):
    found = tg.load(written(tg, PLAIN[name], pickle_protocol=protocol))
    assert found == PLAIN[name] and type(found) is type(PLAIN[name])


@pytest.mark.parametrize("dtype", DTYPES)
def test_dtypes(dtype):
    t = tg.tensor([[0, 1], [1, 0]]).to(getattr(tg, dtype))
    found = again(t)
    assert found.dtype is t.dtype and tg.equal(found, t)
    for shape in ((), (0,), (3, 0, 2)):
        empty = tg.zeros(shape, dtype=getattr(tg, dtype))
        assert again(empty).shape == shape and again(empty).dtype is empty.dtype


def test_pending_tensors_and_eager():
    x = tg.ones(3)
    y = x * 2
    assert again([x, y])[1].tolist() == [2.0, 2.0, 2.0]
    with tg.eager():
        found = again(x * 3)
        assert (found + 1).tolist() == [4.0, 4.0, 4.0]
    for _ in range(2):  # cold and warm
        z = x * 5
        w = again(z)
        assert (w * z).tolist() == [25.0, 25.0, 25.0]


def test_identity_and_sharing():
    base = tg.arange(12.0)
    parts = [base, base.view(3, 4), base[2:5], base.view(3, 4).t(), base, base.detach(), base[::3]]
    found = again(parts)
    assert found[0] is found[4] and found[0] is not found[5]
    for a, b in zip(found, parts):
        assert tg.equal(a, b) and lay(a) == lay(b)
        assert a.data_ptr() - found[0].data_ptr() == b.data_ptr() - base.data_ptr()
    found[1].zero_()
    assert all(not t.any() for t in found)
    found[3][0, 0] = 7
    assert found[0][0].item() == 7 and found[6].tolist() == [7, 0, 0, 0]


def test_expanded_and_window():
    x = tg.tensor([1.0, 2.0])
    found = again([x.expand(3, 2), x.unfold(0, 1, 1)])
    assert found[0].tolist() == [[1, 2]] * 3 and found[0].stride() == (0, 1)
    file = written(tg, tg.tensor(1.0).expand(1000, 1000))
    assert len(file.getvalue()) < 5000
    assert tg.load(file).shape == (1000, 1000)


def test_uncovered_elements_are_zeros():
    secret = tg.full((1000,), 7.0)
    file = written(tg, secret[10:12])
    with zipfile.ZipFile(file) as archive:
        data = np.frombuffer(archive.read("archive/data/0"), np.float32)
    assert data.size == 1000 and np.flatnonzero(data).tolist() == [10, 11]


def test_leaves_and_gradients():
    w = tg.ones(2, requires_grad=True)
    y = w * 2
    p = tg.nn.Parameter(tg.ones(2), requires_grad=False)
    found = again([w, y, p, tg.nn.Parameter(tg.zeros(1)), tg.nn.Buffer(tg.ones(1), persistent=False)])
    assert [t.requires_grad for t in found] == [True, True, False, True, False]
    assert all(t.is_leaf for t in found) and [type(t) for t in found[2:]] == [
        tg.nn.Parameter, tg.nn.Parameter, tg.nn.Buffer]  # fmt: skip
    assert found[4].persistent is False
    (found[1] * 3).sum().backward()
    assert found[1].grad.tolist() == [3.0, 3.0]


def test_parameters_that_share():
    w = tg.nn.Parameter(tg.arange(4.0))
    found = again({"w": w, "tied": w, "row": w.detach()[1:3]})
    assert found["w"] is found["tied"]
    with tg.no_grad():
        found["row"].fill_(9)
    assert found["w"].tolist() == [0, 9, 9, 3]
    (found["w"] ** 2).sum().backward()
    assert found["w"].grad.tolist() == [0, 18, 18, 6]


def test_attributes_of_tensors():
    t, p = tg.ones(1), tg.nn.Parameter(tg.ones(1))
    t.note, p.group = "mine", 3
    a, b = again([t, p])
    assert a.note == "mine" and b.group == 3


def test_training_goes_on_from_a_checkpoint(tmp_path):
    def build():
        tg.manual_seed(1)
        model = tg.nn.Sequential(tg.nn.Linear(3, 4), tg.nn.BatchNorm1d(4), tg.nn.Linear(4, 1))
        adam = optim.Adam(model.parameters(), lr=0.1)
        return model, adam, lr_scheduler.StepLR(adam, 2)

    def train(model, adam, schedule, steps):
        for i in range(steps):
            adam.zero_grad()
            (model(tg.ones(5, 3) * i) ** 2).mean().backward()
            adam.step()
            schedule.step()
        return [p.tolist() for p in model.state_dict().values()]

    straight = build()
    train(*straight, 3)
    tg.save({k: x.state_dict() for k, x in zip("mas", straight)}, tmp_path / "c.pt")
    want = train(*straight, 3)
    later = build()
    state = tg.load(tmp_path / "c.pt")
    for k, x in zip("mas", later):
        x.load_state_dict(state[k])
    assert train(*later, 3) == want
    assert state["m"]._metadata == collections.OrderedDict(
        [("", {"version": 1}), ("0", {"version": 1}), ("1", {"version": 2}), ("2", {"version": 1})])


def test_equal_objects_make_equal_files(tmp_path):
    tg.save([tg.ones(2)], tmp_path / "a.pt")
    tg.save([tg.ones(2)], tmp_path / "b.pt")
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "b.pt").read_bytes()


class Broken:
    def __reduce__(self):
        raise ValueError("no")


def test_a_failed_save_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.pt"
    tg.save({"a": 1}, path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="no"):
        tg.save({"a": tg.ones(100), "b": Broken()}, path)
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["a.pt"]


def test_modes_links_and_devices(tmp_path):
    path, link = tmp_path / "a.pt", tmp_path / "l.pt"
    tg.save(1, path)
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask
    path.chmod(0o600)
    link.symlink_to(path)
    tg.save(2, str(link))
    assert link.is_symlink() and tg.load(path) == 2 and stat.S_IMODE(path.stat().st_mode) == 0o600
    tg.save(3, os.devnull)
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)


def test_errors_of_save(tmp_path):
    with pytest.raises(RuntimeError, match="Parent directory .*nowhere does not exist"):
        tg.save(1, tmp_path / "nowhere" / "a.pt")
    with pytest.raises(AttributeError, match="expected 'f' to be string, path, or a file-like"):
        tg.save(1, 5)
    with pytest.raises(tg.UnsupportedError, match="old format"):
        tg.save(1, tmp_path / "a.pt", _use_new_zipfile_serialization=False)
    z = tg.ones(2, dtype=tg.complex64)
    with pytest.raises(RuntimeError, match="view the same data as different types"):
        tg.save([z, z.real], io.BytesIO())


def test_errors_of_load(tmp_path):
    with pytest.raises(FileNotFoundError):
        tg.load(tmp_path / "nix")
    with pytest.raises(AttributeError, match="has no attribute 'read'.*seekable"):
        tg.load(5)
    with pytest.raises(ValueError, match="must be a file path in order to use the mmap"):
        tg.load(written(tg, 1), mmap=True)
    with pytest.raises(TypeError, match="unexpected keyword argument 'foo'"):
        tg.load(written(tg, 1), foo=1)
    with pytest.raises(TypeError, match="mode 'rb'"):
        tg.load(io.StringIO("abcd"))
    tg.save(1, tmp_path / "a.pt")
    assert tg.load(tmp_path / "a.pt", mmap=True) == 1 and tg.load(str(tmp_path / "a.pt"), weights_only=False) == 1


def test_map_location():
    records = records_of(written(tg, [tg.ones(2), tg.zeros(3)]))
    records["data.pkl"] = records["data.pkl"].replace(b"X\x03\x00\x00\x00cpu", b"X\x03\x00\x00\x00tpu")
    fixed = rebuilt(records)
    with pytest.raises(RuntimeError, match="Attempting to deserialize object on a TPU device.*map_location"):
        tg.load(fixed)
    seen = []

    def chosen(storage, location):
        seen.append((location, storage.nbytes()))
        return storage.cpu()

    for place in ("cpu", tg.device("cpu"), {"tpu": "cpu"}, chosen, lambda storage, location: storage):
        fixed.seek(0)
        assert [t.device.type for t in tg.load(fixed, map_location=place)] == ["cpu", "cpu"]
    assert seen == [("tpu", 8), ("tpu", 12)]
    fixed.seek(0)
    with pytest.raises(RuntimeError, match="don't know how to restore data location .*tagged with foo"):
        tg.load(fixed, map_location="foo")


class Mine:
    def __init__(self, x):
        self.x = x


def test_safe_globals():
    file = written(tg, [Mine(tg.ones(2)), collections.deque([1])])
    with pytest.raises(pickle.UnpicklingError, match="Unsupported global: GLOBAL .*Mine was not an allowed global"):
        tg.load(io.BytesIO(file.getvalue()))
    with pytest.raises(pickle.UnpicklingError, match="never runs code from a file"):
        tg.load(io.BytesIO(file.getvalue()), weights_only=False)
    with tg.serialization.safe_globals([Mine, collections.deque]):
        assert tg.serialization.get_safe_globals() == [Mine, collections.deque]
        mine, queue = tg.load(file)
    assert type(mine) is Mine and mine.x.tolist() == [1.0, 1.0] and queue == collections.deque([1])
    tg.serialization.add_safe_globals([(Mine, f"{__name__}.Other")])
    tg.serialization.clear_safe_globals()
    assert tg.serialization.get_safe_globals() == []


def test_large_archives(monkeypatch):
    monkeypatch.setattr(_archive, "_WIDE", 100)  # as if 100 bytes were 4 GiB
    objects = [tg.arange(300.0) + i for i in range(3)]
    file = written(tg, objects)
    with zipfile.ZipFile(file) as archive:
        assert archive.testzip() is None
        for info in archive.infolist():
            start = info.header_offset + 30 + int.from_bytes(file.getvalue()[info.header_offset + 26 :][:2], "little")
            assert (start + int.from_bytes(file.getvalue()[info.header_offset + 28 :][:2], "little")) % 64 == 0
    file.seek(0)
    assert all(tg.equal(a, b) for a, b in zip(tg.load(file), objects))


# -- against PyTorch ---------------------------------------------------------------------------------------------------


@pytest.mark.oracle
@pytest.mark.parametrize("new", [True, False], ids=["zip", "old"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_reads_every_dtype(torch, dtype, new):
    t = torch.tensor([[0, 1, 1], [1, 0, 1]]).to(getattr(torch, dtype))
    found = tg.load(written(torch, [t, t.t(), t[1:]], _use_new_zipfile_serialization=new))
    for a, b in zip(found, [t, t.t(), t[1:]]):
        assert a.dtype.name == dtype and lay(a) == lay(b) and a.tolist() == b.tolist()


@pytest.mark.oracle
@pytest.mark.parametrize("dtype", DTYPES)
def test_writes_every_dtype(torch, dtype):
    t = tg.tensor([[0, 1, 1], [1, 0, 1]]).to(getattr(tg, dtype))
    found = torch.load(written(tg, [t, t.t(), t[1:]]), weights_only=True)
    for a, b in zip(found, [t, t.t(), t[1:]]):
        assert str(a.dtype) == f"torch.{dtype}" and lay(a) == lay(b) and a.tolist() == b.tolist()
    assert len({a.untyped_storage().data_ptr() for a in found}) == 1


@pytest.mark.oracle
@pytest.mark.parametrize("new", [True, False], ids=["zip", "old"])
def test_reads_what_pytorch_writes(torch, new):
    base = torch.arange(24.0).view(2, 3, 4)
    marked = torch.nn.Parameter(torch.ones(2))
    marked.note = 1
    obj = {
        "views": [base, base[1], base.permute(2, 0, 1), base[:, ::2], base.expand(2, 2, 3, 4), base.view(-1)[5:5]],
        "numbers": [base[0, 0, 0], torch.tensor(3), torch.empty(0), torch.empty(2, 0)],
        "grad": [torch.ones(2, requires_grad=True), torch.nn.Parameter(torch.ones(2), requires_grad=False), marked],
        "bits": [torch.tensor([1 + 2j]).conj(), torch.tensor([1 + 2j]).conj().imag],
        "plain": [torch.Size([1, 2]), torch.float16, torch.device("cuda:1"), torch.strided, {1}, b"x", 1j, 2**70],
        "buffer": torch.nn.Buffer(torch.ones(1)),
    }
    found = tg.load(written(torch, obj, _use_new_zipfile_serialization=new))
    for name in ("views", "numbers", "grad", "bits"):
        for a, b in zip(found[name], obj[name]):
            assert a.tolist() == b.tolist() and a.requires_grad == b.requires_grad and type(a).__name__ == type(
                b).__name__  # fmt: skip
    assert [lay(t) for t in found["views"][:5]] == [lay(t) for t in obj["views"][:5]]
    assert found["grad"][2].note == 1 and type(found["buffer"]) is tg.nn.Buffer
    assert found["plain"][:3] == [tg.Size([1, 2]), tg.float16, tg.device("cuda", 1)]
    assert found["plain"][4:] == [{1}, b"x", 1j, 2**70]
    obj["views"][1].zero_(), found["views"][1].zero_()
    assert [t.tolist() for t in found["views"]] == [t.tolist() for t in obj["views"]]


@pytest.mark.oracle
def test_big_endian(torch):
    for dtype in ("float32", "complex64", "bfloat16", "int16", "bool"):
        t = torch.tensor([1, 0, 1]).to(getattr(torch, dtype)) * 1
        records = records_of(written(torch, t))
        records["byteorder"] = b"big"
        size = t.element_size() // (2 if t.is_complex() else 1)
        records["data/0"] = np.frombuffer(records["data/0"], f"u{size}").byteswap().tobytes()
        assert tg.load(rebuilt(records)).tolist() == torch.load(rebuilt(records)).tolist() == t.tolist()


@pytest.mark.oracle
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
def test_refused_tensors(torch):
    cases = {
        "sparse": torch.ones(2, 2).to_sparse(),
        "quantised": torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8),
        "float8_e4m3fn": torch.ones(2, dtype=torch.float8_e4m3fn),
        "'meta'": torch.empty(2, device="meta"),
        "storages": torch.ones(2).untyped_storage(),
    }
    for word, t in cases.items():
        with pytest.raises(tg.UnsupportedError, match=word):
            tg.load(written(torch, [t]))
    program = io.BytesIO()
    torch.jit.save(torch.jit.trace(torch.nn.Linear(1, 1), torch.ones(1)), program)
    program.seek(0)
    with pytest.raises(tg.UnsupportedError, match="TorchScript"):
        tg.load(program)
    for new in (True, False):
        with pytest.raises(pickle.UnpicklingError, match="torch.nn.modules.linear.Linear was not an allowed"):
            tg.load(written(torch, torch.nn.Linear(1, 1), _use_new_zipfile_serialization=new), weights_only=False)


@pytest.mark.oracle
def test_state_dicts_with_pytorch(torch, tmp_path):
    def build(api):
        return api.nn.Sequential(api.nn.Linear(2, 3), api.nn.BatchNorm1d(3), api.nn.Embedding(3, 2))

    theirs, ours = build(torch), build(tg)
    torch.save(theirs.state_dict(), tmp_path / "t.pt")
    state = tg.load(tmp_path / "t.pt")
    assert state._metadata == theirs.state_dict()._metadata
    ours.load_state_dict(state)
    with tg.no_grad():
        ours[0].weight.mul_(2)
    tg.save(ours.state_dict(), tmp_path / "o.pt")
    back = torch.load(tmp_path / "o.pt", weights_only=True)
    theirs.load_state_dict(back)
    assert back._metadata == theirs.state_dict()._metadata
    assert all(a.tolist() == b.tolist() for a, b in zip(theirs.state_dict().values(), ours.state_dict().values()))
    assert all(a.data_ptr() % 64 == 0 for a in torch.load(tmp_path / "o.pt", weights_only=True, mmap=True).values())


OPTIMIZERS = {
    "Adam": ("Adam", {"amsgrad": True}), "AdamW": ("AdamW", {}), "SGD": ("SGD", {"momentum": 0.9, "nesterov": True}),
}  # fmt: skip
SCHEDULES = {"StepLR": {"step_size": 2}, "CosineAnnealingLR": {"T_max": 8}}


@pytest.mark.oracle
@pytest.mark.parametrize("first", ["theirs", "ours"])
@pytest.mark.parametrize("case", OPTIMIZERS)
def test_training_changes_over(torch, case, first):
    name, options = OPTIMIZERS[case]
    schedule_name = list(SCHEDULES)[case == "SGD"]

    def start(api):
        w = api.tensor([1.0, -2.0, 3.0], dtype=api.float64, requires_grad=True)
        optimizer = getattr(api.optim, name)([w], lr=0.1, **options)
        return w, optimizer, getattr(api.optim.lr_scheduler, schedule_name)(optimizer, **SCHEDULES[schedule_name])

    def train(w, optimizer, schedule):
        for _ in range(3):
            optimizer.zero_grad()
            (w**2).sum().backward()
            optimizer.step()
            schedule.step()

    one, other = (torch, tg) if first == "theirs" else (tg, torch)
    w, *parts = start(one)
    train(w, *parts)
    file = written(one, {"w": w.detach(), "o": parts[0].state_dict(), "s": parts[1].state_dict()})
    state = other.load(file, weights_only=True)
    v, *others = start(other)
    with other.no_grad():
        v.copy_(state["w"])
    others[0].load_state_dict(state["o"])
    others[1].load_state_dict(state["s"])
    train(w, *parts)
    train(v, *others)
    np.testing.assert_allclose(v.tolist(), w.tolist(), rtol=1e-12)


@pytest.mark.oracle
def test_bfloat16_bits(torch):
    bits = np.arange(0, 65536, 97, dtype=np.uint16)
    theirs = torch.from_numpy(bits.view(np.int16).copy()).view(torch.bfloat16)
    found = tg.load(written(torch, theirs))
    assert np.array_equal(np.asarray(found.jax()).view(np.uint16), bits)
    ours = tg.from_numpy(bits.view(ml_dtypes.bfloat16))
    assert torch.equal(torch.load(written(tg, ours)).view(torch.int16), theirs.view(torch.int16))
