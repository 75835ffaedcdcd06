"""What `explain()` and the `TRACEGRAD_*` variables say."""

import os
import subprocess
import sys

import pytest

import tracegrad as torch
from tracegrad._config import config

PROGRAM = """
import tracegrad as torch
x = torch.ones(3)
for _ in range(3):
    x = x * 2
    x.tolist()
"""


def run(**variables):
    environment = {**os.environ, **variables}
    return subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=False)


def test_log_prints_programs_as_they_are_compiled():
    done = run(TRACEGRAD_LOG="programs")
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("tracegrad: ")]
    assert lines and "flushed at <string>:6 (a value was read)" in lines[0]
    assert not run().stderr


def test_unknown_settings_are_refused():
    done = run(TRACEGRAD_LOG="everything")
    assert done.returncode != 0 and "TRACEGRAD_LOG: expected topics among ['programs']" in done.stderr
    done = run(TRACEGRAD_MAX_PENDING="none")
    assert done.returncode != 0 and "TRACEGRAD_MAX_PENDING: expected a positive integer, got 'none'" in done.stderr


def test_a_slow_compile_says_so_while_it_runs(monkeypatch, capfd):
    monkeypatch.setattr(config, "slow_compile", 0.0)
    x = torch.ones(5, 7)
    (x.exp() @ x.sin().t()).tolist()
    assert "tracegrad: compiling a program of" in capfd.readouterr().err


def test_explain_tells_reasons_hits_and_donations():
    torch.clear_caches()
    w = torch.nn.Parameter(torch.ones(4))
    optimizer = torch.optim.SGD([w], lr=0.1)
    for _ in range(5):
        optimizer.zero_grad()
        (w * w).sum().backward()
        optimizer.step()
    text = str(torch.explain())
    assert "parameters were handed to an optimizer" in text
    step = next(line for line in text.splitlines() if "an optimizer step ended" in line)
    assert "test_explain.py" in step and "4 hits" in step and "1 inputs donated" in step
    assert repr(torch.explain(limit=1)).count("flushed at") == 1


@pytest.mark.parametrize("lost", ["programs", "trie"])
def test_results_survive_forgetting(lost):
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    y = x * 3
    y.detach().tolist()
    z = (y * y).sum()
    torch.clear_caches()
    z.backward()
    assert x.grad.tolist() == [18.0, 36.0]
