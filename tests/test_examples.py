"""Every example runs as its own process, and what it checks holds."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


def run(name: str) -> str:
    """Run an example from another directory, as users do; return what it prints."""
    environment = {**os.environ, "PYTHONPATH": str(EXAMPLES.parent), "PYTHONWARNINGS": "default"}
    done = subprocess.run([sys.executable, str(EXAMPLES / name)], capture_output=True, text=True, timeout=300,
                          env=environment)  # fmt: skip
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "Warning" not in done.stderr, done.stderr
    return done.stdout


def test_train_digits():
    pytest.importorskip("sklearn", reason="the digits come with scikit-learn, which is not installed")
    out = run("train_digits.py")
    mlp, cnn = re.findall(r"([\d.]+)% in [\d.]+ s: the \d+% expected", out)
    assert float(mlp) >= 97 and float(cnn) >= 98
    assert len(re.findall(r"^  epoch .* loss .* test accuracy .* s$", out, re.MULTILINE)) >= 20
    assert "programs compiled" in out


def test_autograd_tour():
    out = run("autograd_tour.py")
    assert "[2.0, 4.0, 6.0]" in out
    assert "a third one comes too late: Trying to backward through the graph a second time" in out


def test_compare_with_jax():
    out = run("compare_with_jax.py")
    assert out.count("the same values and gradients") == 7
    assert "the gradient of argument 0 (weight) differs from JAX's in 3 of 3 elements" in out


def test_control_flow():
    out = run("control_flow.py")
    paths, programs, runs = map(int, re.findall(r"\d+", out.splitlines()[-1]))
    assert paths > 1
    assert programs < runs / 5, "paths that were taken before must run compiled programs"


def test_every_example_is_tested():
    tested = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    assert {path.stem for path in EXAMPLES.glob("*.py")} <= tested
