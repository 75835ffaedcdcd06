"""Broken and hostile files: a clear error that names what is wrong, in bounded time and memory; nothing is ever run."""

from __future__ import annotations

import io
import os
import pickle
import struct
import time
import tracemalloc
import zipfile
from typing import Any

import numpy as np
import pytest

import tracegrad as tg
from tracegrad.serialization import _archive
from tracegrad.serialization._pickler import Pickler

#: What `load` may raise for a bad file.
CLEAR = (pickle.UnpicklingError, RuntimeError, EOFError)

GOOD = {"w": [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]], "row": [3.0, 4.0, 5.0], "i": [7, 8], "n": 3, "s": "text",
        "z": (1, None)}  # fmt: skip


def good_object() -> dict[str, Any]:
    w = tg.arange(6.0).view(2, 3)
    return {**GOOD, "w": w, "row": w[1], "i": tg.tensor(GOOD["i"])}


def good_zip() -> bytes:
    file = io.BytesIO()
    tg.save(good_object(), file)
    return file.getvalue()


def old(body: bytes | None = None) -> bytes:
    """A file of the format before 1.6, with another pickle in it where ``body`` is given."""
    file, stream = io.BytesIO(), io.BytesIO()
    pickler = Pickler(stream, 2)
    pickler.dump(good_object())
    for x in (0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True}):
        file.write(pickle.dumps(x, 2))
    file.write(stream.getvalue() if body is None else body)
    file.write(pickle.dumps([kept.key for kept in pickler.storages.values()], 2))
    for kept in pickler.storages.values():
        file.write(struct.pack("<q", kept.count) + bytes(kept.data()))
    return file.getvalue()


ZIP, OLD = good_zip(), old()


def plain(x: Any) -> Any:
    return {k: v.tolist() if isinstance(v, tg.Tensor) else v for k, v in x.items()} if isinstance(x, dict) else x


def read(data: bytes) -> Any:
    """Load ``data``, or return the error; fail where it takes much time or memory, or another kind of error comes."""
    tracemalloc.start()
    start = time.perf_counter()
    try:
        found = tg.load(io.BytesIO(data))
    except CLEAR as error:
        assert str(error), repr(error)
        assert not isinstance(error, RecursionError)
        if not isinstance(error, tg.UnsupportedError):
            words = ("load: ", "data location", "Attempting to deserialize", "Invalid device string")
            assert any(word in str(error) for word in words), error
        found = error
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert time.perf_counter() - start < 20
    assert peak < 16 * 2**20 + 300 * len(data), f"{peak} bytes for a file of {len(data)}"
    return found


def test_good_files():
    assert plain(read(ZIP)) == GOOD and plain(read(OLD)) == GOOD


def test_truncated_archives():
    for length in [*range(0, len(ZIP), 29), *range(len(ZIP) - 30, len(ZIP))]:
        assert isinstance(read(ZIP[:length]), CLEAR), length


def test_truncated_old_files():
    for length in [*range(0, len(OLD), 7), *range(len(OLD) - 40, len(OLD))]:
        assert isinstance(read(OLD[:length]), CLEAR), length


@pytest.mark.parametrize("mask", [0xFF, 0x01, 0x80])
def test_flipped_bytes_in_archives(mask):
    harmless = 0
    for at in range(mask % 17, len(ZIP), 17):
        data = bytearray(ZIP)
        data[at] ^= mask
        found = read(bytes(data))
        if not isinstance(found, CLEAR):
            assert plain(found) == GOOD, at
            harmless += 1
    assert harmless < len(ZIP) / 17  # dates and padding, which nobody reads


@pytest.mark.parametrize("mask", [0xFF, 0x01, 0x80])
def test_flipped_bytes_in_old_files(mask):
    # There is no checksum: other numbers may come out, but nothing else may happen.
    for at in range(mask % 7, len(OLD), 7):
        data = bytearray(OLD)
        data[at] ^= mask
        read(bytes(data))


def test_random_bytes():
    random = np.random.default_rng(0)
    for head in (b"", b"PK\x03\x04", b"\x80\x02", b"PK\x05\x06", OLD[:60], ZIP[:300]):
        for size in (1, 5, 100, 3000):
            assert isinstance(read(head + random.bytes(size)), CLEAR)


# -- archives ----------------------------------------------------------------------------------------------------------


def archive(records: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    writer = _archive.Writer(file, "archive")
    for name, data in records.items():
        writer.write(name, data)
    writer.finish()
    return file.getvalue()


def records() -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(ZIP)) as old:
        return {name.partition("/")[2]: old.read(name) for name in old.namelist()}


def without(*names: str) -> bytes:
    return archive({k: v for k, v in records().items() if k not in names})


def changed(**new: bytes) -> bytes:
    return archive({**records(), **{k.replace("__", "/").replace("_", "."): v for k, v in new.items()}})


def packed(compression: int, top: str = "archive", more: Any = ()) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as made:
        for name, data in [*records().items(), *more]:
            made.writestr(f"{top}/{name}" if top else name, data)
    return file.getvalue()


def bomb() -> bytes:
    return packed(zipfile.ZIP_DEFLATED, more=[("more", b"\0" * 2**24)])


def patched(field: int, size: int, value: int) -> bytes:
    """Overwrite a field of the first entry in the list of records."""
    data = bytearray(ZIP)
    at = data.rindex(b"archive/data.pkl") - 46 + field
    data[at : at + size] = value.to_bytes(size, "little")
    return bytes(data)


def twice() -> bytes:
    file = io.BytesIO()
    writer = _archive.Writer(file, "archive")
    for name, data in [*records().items(), ("data/0", records()["data/0"])]:
        writer.write(name, data)
    writer.finish()
    return file.getvalue()


ARCHIVES = {
    "empty": b"", "one byte": b"P", "text": b"hello world", "only the magic": b"PK\x03\x04", "html": b"<!DOCTYPE html>",
    "an empty archive": archive({}), "no pickle": without("data.pkl"), "no storage": without("data/0"),
    "an empty pickle": changed(data_pkl=b""), "a short storage": changed(data__0=b"1234"),
    "a long storage": changed(data__0=bytes(1000)), "an unknown byte order": changed(byteorder=b"middle"),
    "an empty byte order": changed(byteorder=b""), "compressed": packed(zipfile.ZIP_DEFLATED), "a bomb": bomb(),
    "a record twice": twice(), "two folders": packed(0, more=[("../x", b"")]).replace(b"archive/../x", b"brchive/../x"),
    "a huge record": patched(20, 4, 0xFFFFFFF0), "two sizes": patched(24, 4, 5),
    "an offset beyond": patched(42, 4, 2**31),
    "an offset of another": patched(42, 4, 1), "encrypted": patched(8, 2, 0x801),
    "unknown compression": patched(10, 2, 99),
    "another checksum": patched(16, 4, 12345), "a long name": patched(28, 2, 60000),
    "a long comment": patched(32, 2, 60000),
    "a zip64 mark without its field": patched(24, 4, 0xFFFFFFFF),
    "TorchScript": archive({**records(), "constants.pkl": b""}),
    "a directory of 4 GB": ZIP[:-10] + b"\xff" * 4 + ZIP[-6:],
    "a directory elsewhere": ZIP[:-6] + b"\xff" * 4 + ZIP[-2:],
    "an overlap": ZIP.replace(b"archive/data/1", b"archive/data/0"),
    "rubbish behind": ZIP + os.urandom(7) * 0 + b"x" * 70000,
}  # fmt: skip


@pytest.mark.parametrize("name", ARCHIVES)
def test_archives(name):
    found = read(ARCHIVES[name])
    assert isinstance(found, CLEAR), found


def test_paths_in_archives_lead_nowhere(tmp_path):
    for top in ("../../tmp", "/etc", "..", "C:\\x"):
        path = tmp_path / "a.pt"
        path.write_bytes(packed(0, top))
        found = read(path.read_bytes())
        assert isinstance(found, CLEAR) or plain(found) == GOOD
        assert os.listdir(tmp_path) == ["a.pt"]


def test_errors_name_the_file(tmp_path):
    for data in (ZIP[:500], archive({"data.pkl": b"rubbish"}), b"hello world"):
        (tmp_path / "broken.pt").write_bytes(data)
        with pytest.raises(CLEAR, match="broken.pt"):
            tg.load(tmp_path / "broken.pt")
        with open(tmp_path / "broken.pt", "rb") as file, pytest.raises(CLEAR, match="broken.pt"):
            tg.load(file)


# -- pickles -----------------------------------------------------------------------------------------------------------


def name(full: str) -> bytes:
    module, _, last = full.rpartition(".")
    return b"c" + module.encode() + b"\n" + last.encode() + b"\n"


def call(full: str, *arguments: bytes) -> bytes:
    return name(full) + b"(" + b"".join(arguments) + b"tR"


def text(x: str) -> bytes:
    return b"X" + struct.pack("<I", len(x.encode())) + x.encode()


def integer(n: int) -> bytes:
    data = n.to_bytes(n.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def ints(*numbers: int) -> bytes:
    return b"(" + b"".join(map(integer, numbers)) + b"t"


def storage(key: str = "0", count: bytes = integer(6), kind: bytes = name("torch.FloatStorage"),
            place: bytes = text("cpu"), word: str = "storage") -> bytes:  # fmt: skip
    return b"(" + text(word) + kind + text(key) + place + count + b"tQ"


def tensor(size: bytes = ints(2, 3), stride: bytes = ints(3, 1), offset: bytes = integer(0),
           stored: bytes | None = None, wants: bytes = b"\x89", more: bytes = b"") -> bytes:  # fmt: skip
    stored = storage() if stored is None else stored
    return call("torch._utils._rebuild_tensor_v2", stored, offset, size, stride, wants,
                call("collections.OrderedDict"), more)  # fmt: skip


MARKER = "/tmp/tracegrad-was-hacked"
RUN = text(f"touch {MARKER}")
DEEP = 50_000

CODE = {
    "os.system": call("os.system", RUN),
    "posix.system": call("posix.system", RUN),
    "builtins.eval": call("builtins.eval", text(f"open('{MARKER}', 'w')")),
    "__builtin__.eval": call("__builtin__.eval", text(f"open('{MARKER}', 'w')")),
    "builtins.exec": call("builtins.exec", text(f"open('{MARKER}', 'w')")),
    "getattr": call("builtins.getattr", name("torch.Tensor"), text("__init__")),
    "__import__": call("builtins.__import__", text("os")),
    "subprocess": call("subprocess.Popen", RUN),
    "importlib": call("importlib.import_module", text("os")),
    "a nested pickle": call("pickle.loads", b"C\x01."),
    "torch.load": call("torch.load", text("x")),
    "a dotted name": call("torch._utils._rebuild_tensor_v2.__globals__"),
    "a dotted module": call("torch.serialization.os.system", RUN),
    "tracegrad's own": call("tracegrad.serialization._save.os.unlink", text("x")),
    "operator.attrgetter": call("operator.attrgetter", text("system")),
    "functools.partial": call("functools.partial", name("os.system")),
    "numpy": call("numpy.core.multiarray._reconstruct", name("numpy.ndarray"), ints(0), b"C\x01b"),
    "codecs": call("_codecs.decode", text("x"), text("unicode_escape")),
    "another encoding": call("_codecs.encode", text("x"), text("zip")),
    "a stack global": text("os") + text("system") + b"\x93" + b"(" + RUN + b"tR",
    "a global of numbers": integer(1) + integer(2) + b"\x93",
    "inst": b"(" + RUN + b"ios\nsystem\n",
    "obj": b"(" + name("os.system") + RUN + b"o",
    "newobj": name("os.system") + b"(" + RUN + b"t\x81",
    "newobj_ex": name("os.system") + b"(" + RUN + b"t}\x92",
    "an extension": b"\x82\x01",
    "a build": tensor() + b"}" + text("_value") + integer(1) + b"sb",
    "a setstate": call("collections.OrderedDict") + b"}" + text("items") + integer(1) + b"sb",
    "a state of no dictionary": call("collections.OrderedDict") + b"]b",
    "attributes of a tensor": call("torch._tensor._rebuild_from_type_v2", name("torch._utils._rebuild_tensor_v2"),
                                   name("torch.Tensor"), b"(" + storage() + integer(0) + ints(6) + ints(1) + b"\x89}t",
                                   b"}" + text("_value") + integer(1) + b"s"),
    "a method of a tensor": call("torch._tensor._rebuild_from_type_v2", name("torch._utils._rebuild_tensor_v2"),
                                 name("torch.Tensor"), b"(" + storage() + integer(0) + ints(6) + ints(1) + b"\x89}t",
                                 b"}" + text("backward") + integer(1) + b"s"),
    "a tensor of a class": call("torch._tensor._rebuild_from_type_v2", name("torch._utils._rebuild_tensor_v2"),
                                name("torch.Size"), b"(" + storage() + integer(0) + ints(6) + ints(1) + b"\x89}t",
                                b"}"),
    "a class called": call("torch.Tensor", integer(10**12)),
    "a tensor called": tensor() + b")R",
    "a list called": b"])R",
    "arguments in a list": name("torch.Size") + b"]R",
    "a module": b"(" + text("module") + name("torch.Size") + text("f") + text("source") + text("x") + b"tQ",
}  # fmt: skip

SIZES = {
    "a huge size": tensor(ints(2**62), ints(1)),
    "a huge size of nothing": tensor(ints(2**62), ints(0)),
    "sizes that overflow": tensor(ints(2**40, 2**40), ints(0, 0)),
    "beyond 64 bits": tensor(ints(2**70), ints(0)),
    "a negative size": tensor(ints(-1), ints(1)),
    "a negative stride": tensor(ints(3), ints(-1), integer(3)),
    "a huge stride": tensor(ints(2), ints(2**60)),
    "a negative offset": tensor(ints(2), ints(1), integer(-1)),
    "an offset at the end": tensor(ints(1), ints(1), integer(6)),
    "one too many": tensor(ints(7), ints(1)),
    "one row too many": tensor(ints(3, 3), ints(3, 1)),
    "fewer strides": tensor(ints(2, 3), ints(3)),
    "a thousand dims": tensor(ints(*[1] * 1000), ints(*[1] * 1000)),
    "sizes of text": tensor(text("ab"), text("cd")),
    "sizes of floats": tensor(b"(G" + struct.pack(">d", 2.0) + b"t", ints(1)),
    "sizes of bools": tensor(b"(\x88t", ints(1)),
    "an offset of None": tensor(offset=b"N"),
    "no storage": tensor(stored=b"N"),
    "a storage of a tensor": tensor(stored=tensor()),
    "another count": tensor(stored=storage(count=integer(7))),
    "a huge count": tensor(stored=storage(count=integer(2**61))),
    "a negative count": tensor(stored=storage(count=integer(-6))),
    "a count of text": tensor(stored=storage(count=text("6"))),
    "a count of a bool": tensor(stored=storage(count=b"\x88")),
    "another dtype": tensor(stored=storage(kind=name("torch.DoubleStorage"))),
    "one storage of two dtypes": b"(" + tensor() + tensor(
        stored=storage(kind=name("torch.IntStorage"))) + b"t",
    "one storage of two sizes": b"(" + tensor() + tensor(
        stored=storage(kind=name("torch.storage.UntypedStorage"), count=integer(999))) + b"t",
    "no such storage": tensor(stored=storage("99")),
    "a key that climbs": tensor(stored=storage("../data.pkl")),
    "a key of bytes": tensor(stored=storage().replace(text("0"), b"C\x010")),
    "no storage class": tensor(stored=storage(kind=text("FloatStorage"))),
    "a quantised storage": tensor(stored=storage(kind=name("torch.QInt8Storage"))),
    "an unknown place": tensor(stored=storage(place=text("mars"))),
    "a place that is none": tensor(stored=storage(place=b"N")),
    "another GPU": tensor(stored=storage(place=text("cuda:77"))),
    "no number of a GPU": tensor(stored=storage(place=text("cuda:x"))),
    "another word": tensor(stored=storage(word="storages")),
    "an empty id": b")Q",
    "an id of text": text("x") + b"Q",
    "an id in the old way": b"Pstorage\n",
    "bare storages": storage(),
    "integers that want gradients": tensor(ints(2), ints(1), stored=storage(
        "1", integer(2), name("torch.LongStorage")), wants=b"\x88"),
    "a wish of text": tensor(wants=text("yes")),
    "unknown metadata": tensor(more=b"}" + text("x") + b"\x88s"),
    "too few arguments": call("torch._utils._rebuild_tensor_v2", storage()),
    "too many arguments": tensor(more=b"}NNNN"),
    "a parameter of nothing": call("torch._utils._rebuild_parameter", b"N", b"\x88", b"N"),
    "a parameter of a parameter": call("torch._utils._rebuild_parameter", call(
        "torch._utils._rebuild_parameter", tensor(), b"\x88", b"N"), b"\x88", b"N"),
    "expanded a million times": b"]" + b"(" + 20 * tensor(ints(2**26), ints(0)) + b"e",
    "a size of text": call("torch.Size", text("ab")),
    "a device of Mars": call("torch.device", text("mars")),
    "a bytearray of a size": call("builtins.bytearray", integer(10**13)),
    "bytes of a size": call("builtins.bytes", integer(10**13)),
    "a set of a number": call("builtins.set", integer(1)),
    "a sparse layout": call("torch.serialization._get_layout", text("torch.sparse_coo")),
}  # fmt: skip

MACHINE = {
    "an unknown instruction": b"\xff",
    "nothing": b"",
    "two objects": b"NN",
    "a pop too many": b"0",
    "a tuple of nothing": b"t",
    "a tuple of two of one": b"N\x86",
    "a mark left": b"N(",
    "an append to a number": b"K\x01Na",
    "an append to a tensor": tensor() + b"Na",
    "a key of a list": b"}]Ns",
    "a key without a value": b"}(Nu",
    "an item of a tuple": b")NNs",
    "an element of a list": b"](N\x90",
    "an unknown memo": b"h\x05",
    "a memo of nothing": b"q\x00",
    "a frozen list": b"(]\x91",
    "a string beyond the end": b"X\xff\xff\xff\x7fab",
    "bytes beyond the end": b"\x8e" + struct.pack("<Q", 2**62) + b"ab",
    "more bytes than there are": b"\x8e" + b"\xff" * 8,
    "a negative length": b"\x8b" + struct.pack("<i", -5) + b"ab",
    "a text that is none": b"X\x02\x00\x00\x00\xff\xff",
    "a number that is none": b"Iabc\n",
    "a number of many digits": b"L" + b"9" * 100_000 + b"L\n",
    "a global without a line": b"cos",
    "a number with no end": b"I5",
    "a set in a set": call("builtins.set", b"](" + call("builtins.set") + b"e"),
    "pairs that are none": call("collections.OrderedDict", b"]K\x01a"),
    "a counter of text": call("collections.Counter", text("abc")),
    "keys of one hash": b"}(" + b"".join(integer(i * (2**61 - 1)) + b"N" for i in range(11_000)) + b"u",
    "a deep key": b"}" + b")" + b"\x85" * DEEP + b"Ns",
    "a key that doubles": b"})" + b"2\x86" * 64 + b"Ns",
    "an out-of-band buffer": b"\x97",
    "a persistent id of a list": b"]Q",
    "a protocol of the future": b"\x80\xff\x81",
}  # fmt: skip


@pytest.mark.parametrize("case", [*CODE, *SIZES, *MACHINE])
def test_pickles(case):
    body = {**CODE, **SIZES, **MACHINE}[case]
    body = b"\x80\x02" + body + b"."
    found = read(archive({**records(), "data.pkl": body}))
    assert isinstance(found, CLEAR), found
    assert isinstance(read(old(body)), CLEAR)
    assert not os.path.exists(MARKER)


def test_harmless_pickles():
    for body in (
        b"]" + b"]" * DEEP + b"a" * DEEP,  # deep, but nothing walks through it
        b"}(" + b"".join(integer(i) + b"N" for i in range(12_000)) + b"u",
        b"Nr\xff\xff\xff\xff",  # a memo with a huge number
        tensor(ints(2**20, 6), ints(0, 1)),  # PyTorch too writes expanded tensors
    ):
        found = read(archive({**records(), "data.pkl": b"\x80\x02" + body + b"."}))
        assert not isinstance(found, Exception), found


def test_the_corpus_is_large():
    assert len(ARCHIVES) + len(CODE) + len(SIZES) + len(MACHINE) > 130


def test_state_after_errors():
    x = tg.ones(2)
    y = x * 2
    for data in (ZIP[:100], archive({**records(), "data.pkl": SIZES["a huge size"] + b"."})):
        assert isinstance(read(data), CLEAR)
    assert y.tolist() == [2.0, 2.0] and plain(read(ZIP)) == GOOD
