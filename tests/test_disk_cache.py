"""The compilation cache on disk: found again by later processes, moved, switched off, pruned, never in the way."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from tracegrad import _disk

PROGRAM = """
import jax
import tracegrad as torch
from tracegrad import _disk
_disk.SHORTEST = 0.0
before = jax.config.jax_compilation_cache_dir
x = torch.arange(6.0, requires_grad=True)
(x.sin() * x.exp()).sum().backward()
print(x.grad[0].item() == 1.0, before, jax.config.jax_compilation_cache_dir)
"""


def run(tmp_path, **variables):
    env = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "TRACEGRAD_", "XDG_"))}
    env |= {"XDG_CACHE_HOME": str(tmp_path / "home"), "TRACEGRAD_CACHE": "1"} | variables
    done = subprocess.run([sys.executable, "-W", "error", "-c", PROGRAM], env=env, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("True"), done.stderr
    return done.stdout.split()[1:]


def files(folder):
    return {p: p.stat().st_mtime_ns for p in folder.rglob("*-cache")}


def test_a_second_process_finds_what_the_first_compiled(tmp_path):
    before, after = run(tmp_path)
    assert before == "None" and after.startswith(str(tmp_path / "home" / "tracegrad"))
    first = files(tmp_path)
    assert first
    run(tmp_path)
    assert files(tmp_path) == first
    assert Path(after).stat().st_mode & 0o077 == 0


def test_moved_and_switched_off(tmp_path):
    run(tmp_path, TRACEGRAD_CACHE=str(tmp_path / "elsewhere"))
    assert files(tmp_path / "elsewhere") and not (tmp_path / "home").exists()
    assert run(tmp_path, TRACEGRAD_CACHE="0") == ["None", "None"]
    if jax.default_backend() == "cpu":
        assert run(tmp_path, TRACEGRAD_CACHE="") == ["None", "None"]
    assert not (tmp_path / "home").exists()


def test_the_users_own_cache_is_left_alone(tmp_path):
    own = str(tmp_path / "own")
    assert run(tmp_path, JAX_COMPILATION_CACHE_DIR=own) == [own, own]
    assert not (tmp_path / "home").exists()


def test_a_folder_that_cannot_be_made_is_no_reason_not_to_run(tmp_path):
    (tmp_path / "file").write_text("")
    assert run(tmp_path, TRACEGRAD_CACHE=str(tmp_path / "file")) == ["None", "None"]


def test_corrupt_files_are_no_reason_not_to_run(tmp_path):
    run(tmp_path)
    for path in files(tmp_path):
        path.write_bytes(b"corrupt")
    run(tmp_path)


@pytest.mark.parametrize("limit, kept", [(1000, 5), (450, 2), (499, 2)])
def test_the_oldest_files_go(tmp_path, monkeypatch, limit, kept):
    monkeypatch.setattr(_disk, "LIMIT", limit)
    monkeypatch.setattr(_disk, "LEFT", 250)
    for i in range(5):
        path = tmp_path / f"{i}-cache"
        path.write_bytes(bytes(100))
        os.utime(path, (i, i))
    _disk.prune(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"{i}-cache" for i in range(5 - kept, 5)]
