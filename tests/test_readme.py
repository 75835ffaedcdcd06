"""The README's programs run as they stand and print what stands below them; its commands and tables are true."""

from __future__ import annotations

import contextlib
import io
import re
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest

import tracegrad as torch
from tracegrad._config import Config

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text()
#: A python block, and the text block that follows it where it prints.
PROGRAMS = re.findall(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", TEXT, re.MULTILINE | re.DOTALL)
#: What no two runs have alike.
VARIES = re.compile(r"0x[0-9a-f]+")


@pytest.mark.parametrize("number", range(len(PROGRAMS)))
def test_program_prints_what_the_readme_shows(number: int) -> None:
    """Each starts afresh: a reader copies one."""
    program, expected = PROGRAMS[number]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(program, f"README.md, program {number}", "exec"), {"__name__": "__main__"})
    assert VARIES.sub("...", printed.getvalue()) == VARIES.sub("...", expected)


def test_every_program_shows_its_output() -> None:
    assert len(PROGRAMS) == TEXT.count("```python") >= 3
    assert all(expected for _, expected in PROGRAMS)


def test_what_explain_is_said_to_print(capsys: pytest.CaptureFixture[str]) -> None:
    """The figures vary, the words do not."""
    shown = TEXT[TEXT.index("it says something like") :]
    _, shown, _ = shown.split("```", 2)
    torch.clear_caches()
    exec(compile(PROGRAMS[0][0] + "print(torch.explain())", "train.py", "exec"), {"__name__": "__main__"})
    printed = capsys.readouterr().out
    for line in shown.splitlines()[1:]:
        words = r"[\d.]+".join(map(re.escape, re.split(r"(?<![\w.])[\d.]+(?= )", line)))
        assert re.search(f"^{words}$", printed, re.MULTILINE), f"{line}\nis not in\n{printed}"


def test_first_program_is_short() -> None:
    assert len([line for line in PROGRAMS[0][0].splitlines() if line.strip()]) <= 12


def test_commands_name_extras_that_exist() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = set(re.findall(r'pip install -e "\.\[(\w+)\]"', TEXT))
    assert {"examples", "test", "oracle"} <= named <= set(project["optional-dependencies"])
    assert project["optional-dependencies"]["oracle"] == ["torch==2.13.0"] and "torch==2.13.0" in TEXT
    for command in ('python -m pip install -e ".[examples]" && python examples/train_digits.py',
                    'python -m pip install -e ".[test]" && python -m pytest\n'):  # fmt: skip
        assert command in TEXT
    for path in re.findall(r"python ((?:examples|benchmarks)/\S+\.py)", TEXT):
        assert (ROOT / path).exists(), path


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", TEXT):
        assert (ROOT / target).exists(), target


def test_every_variable_is_in_the_table() -> None:
    known = {f"TRACEGRAD_{field.name.upper()}" for field in fields(Config)}
    rows = dict(re.findall(r"^\| `(TRACEGRAD_\w+)` \| `?(.*?)`? \|", TEXT, re.MULTILINE))
    assert set(rows) == known
    for field in fields(Config):
        if isinstance(field.default, (int, float)):
            shown = rows[f"TRACEGRAD_{field.name.upper()}"]
            assert float(shown.replace(",", "")) == field.default, f"{field.name}: the README says {shown}"
