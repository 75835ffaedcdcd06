"""How the package is put together: who imports whom, lengths, generated files, documentation."""

from __future__ import annotations

import ast
import functools
import graphlib
import importlib
import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import tracegrad
from tracegrad._ops import _declare

ROOT = Path(tracegrad.__file__).parent

#: From the bottom up. A module imports its own layer and those below; a package stands for all its modules.
LAYERS = {
    "facts": "_pytree _errors _formats _config _disk _working_memory _mappings _size _dtype _limits _device",
    "engine": "_engine",
    "handle": "_grad_mode _layout _rewriting _handle",
    "autograd": "autograd",
    "ops": "_ops",
    "tensor": "_methods _functions _conversions _copying _printing _jaxtree _tensor _interop",
    "libraries": "nn _VF optim func utils serialization distributed _compile linalg fft special random _execution",
    "edges": "interop safetensors testing explain _explain __main__",
    "face": "tracegrad",
}

#: Modules with imports inside functions, each with the reason.
LAZY = {
    "tracegrad.interop": "other libraries are optional",
    "tracegrad.__main__": "the script's arguments are set first",
}

#: What may be imported without being installed by hand; ml_dtypes comes with JAX.
INSTALLED = {"jax", "jaxlib", "numpy", "ml_dtypes"}
LONGEST_FILE = 600


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {name_of(path): path for path in sorted(ROOT.rglob("*.py"))}
each_module = pytest.mark.parametrize("module", FILES)


def is_or_is_in(module: str, packages: dict[str, str]) -> bool:
    return any(module == p or module.startswith(p + ".") for p in packages)


def layer(module: str) -> int:
    top = module.split(".")[1] if "." in module else module
    for height, names in enumerate(LAYERS.values()):
        if top in names.split():
            return height
    raise AssertionError(f"{module} has no layer: enter it in LAYERS of tests/test_layers.py")


def at_run_time(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those under ``if TYPE_CHECKING``."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            for branch in node.orelse:
                yield branch
                yield from at_run_time(branch)
            continue
        yield node
        yield from at_run_time(node)


@functools.cache
def parsed(module: str) -> ast.Module:
    return ast.parse(FILES[module].read_text())


def targets(node: ast.AST) -> list[str]:
    """The modules that an import statement names, also as ``from package import module``."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0 and node.module is not None, f"line {node.lineno}: write the import in full"
        inside = [f"{node.module}.{alias.name}" for alias in node.names]
        return [name if name in FILES else node.module for name in inside]
    return []


def imports(module: str) -> set[str]:
    return {target for node in at_run_time(parsed(module)) for target in targets(node)}


def ours(module: str) -> set[str]:
    return {t for t in imports(module) if t.partition(".")[0] == "tracegrad"}


@each_module
def test_imports_go_down(module):
    up = sorted(t for t in ours(module) if layer(t) > layer(module))
    assert not up, f"{module} imports {', '.join(up)} from a higher layer"


def test_imports_make_no_circle():
    try:
        graphlib.TopologicalSorter({module: ours(module) - {module} for module in FILES}).prepare()
    except graphlib.CycleError as error:
        pytest.fail(f"a circle of imports: {' <- '.join(error.args[1])}")


@each_module
def test_imports_stand_at_the_top(module):
    if is_or_is_in(module, LAZY):
        return
    for function in at_run_time(parsed(module)):
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            local = sorted({n.lineno for n in ast.walk(function) if targets(n)})
            assert not local, f"{module}: imports inside a function, lines {local}"


@each_module
def test_only_jax_and_numpy_are_needed(module):
    if is_or_is_in(module, LAZY):
        return
    known = INSTALLED | sys.stdlib_module_names | {"tracegrad"}
    foreign = {t.partition(".")[0] for t in imports(module)} - known
    assert not foreign, f"{module} imports {sorted(foreign)}, which no installation brings"


@each_module
def test_files_are_short_and_say_what_they_are(module):
    lines = FILES[module].read_text().count("\n")
    assert lines <= LONGEST_FILE, f"{module} has {lines} lines, {LONGEST_FILE} are allowed: split it by idea"
    assert ast.get_docstring(parsed(module)), f"{module} has no docstring"


def test_test_files_are_short():
    long = {path.name: n for path in Path(__file__).parent.rglob("*.py")
            if (n := path.read_text().count("\n")) > LONGEST_FILE}  # fmt: skip
    assert not long


def test_generated_files_are_up_to_date():
    command = [sys.executable, "-m", "tracegrad._ops._generate", "--check"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT.parent)
    assert done.returncode == 0, done.stderr


def test_every_op_is_documented():
    for family in sorted((ROOT / "_ops").glob("[!_]*.py")):
        importlib.import_module(f"tracegrad._ops.{family.stem}")
    missing = [f"{row.function.__module__}.{name}" for name, row in _declare.table.items()
               if not inspect.getdoc(row.function)]  # fmt: skip
    assert _declare.table and not missing


@each_module
def test_public_names_are_documented(module):
    bare = []
    for owner in [parsed(module), *(n for n in parsed(module).body if isinstance(n, ast.ClassDef))]:
        if isinstance(owner, ast.ClassDef) and owner.name.startswith("_"):
            continue
        for node in owner.body:
            if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                continue
            decorators = {ast.unparse(d).rpartition(".")[2] for d in node.decorator_list}
            if node.name.startswith("_") or decorators & {"setter", "deleter", "overload"}:
                continue
            if not ast.get_docstring(node):
                bare.append(f"{node.name}, line {node.lineno}")
    assert not bare, f"{module}: no docstring: {'; '.join(bare)}"
