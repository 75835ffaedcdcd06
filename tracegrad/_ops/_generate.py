"""Writes ``tracegrad/_methods.py`` and ``tracegrad/_functions.py`` from the op table.

``python -m tracegrad._ops._generate`` writes them, ``--check`` fails where they are not up to date. They are plain
aliases in plain Python, so editors and type checkers see every signature and every docstring.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from pathlib import Path

from tracegrad import _ops
from tracegrad._ops._declare import Declared, table

#: Ops whose in-place form is a function of the package too, as PyTorch happens to have it.
_INPLACE = frozenset("""
    abs acos acosh addmv arccos arccosh arcsin arcsinh arctan arctanh asin asinh atan atanh ceil celu clamp clamp_max
    clamp_min clip conj_physical cos cosh deg2rad erf erfc exp exp2 expm1 fix floor frac gcd i0 index_put lcm ldexp log
    log10 log1p log2 logit nan_to_num neg negative rad2deg reciprocal relu round rsqrt selu sigmoid sin sinc sinh sqrt
    square tan tanh trunc xlogy
    """.split())

_ROOT = Path(__file__).resolve().parent.parent


def _load() -> dict[str, list[Declared]]:
    """Import every family and return its rows, by module name."""
    for module in sorted(m.name for m in pkgutil.iter_modules(_ops.__path__)):
        if not module.startswith("_"):
            importlib.import_module(f"tracegrad._ops.{module}")
    families: dict[str, list[Declared]] = {}
    for row in table.values():
        families.setdefault(row.function.__module__.rpartition(".")[2], []).append(row)
    return {name: sorted(rows, key=lambda r: r.name) for name, rows in sorted(families.items())}


def methods(families: dict[str, list[Declared]]) -> str:
    """Return the text of ``_methods.py``."""
    used = {f: rows for f, rows in families.items() if any(r.method for r in rows)}
    lines = ['"""The methods of tensors that are ops. Written by ``python -m tracegrad._ops._generate``."""', "",
             "from tracegrad._handle import Handle", f"from tracegrad._ops import {', '.join(used)}",
             "from tracegrad._ops._declare import inplace", "", "",
             "class Methods(Handle):", '    """Every op as a method, by family."""']  # fmt: skip
    for family, rows in used.items():
        lines += ["", f"    # {family}"]
        for row in rows:
            if row.method:
                lines.append(f"    {row.name} = {family}.{row.function.__name__}")
                if row.inplace:
                    lines.append(f"    {row.name}_ = inplace({family}.{row.function.__name__})")
    return "\n".join(lines) + "\n"


def functions(families: dict[str, list[Declared]]) -> str:
    """Return the text of ``_functions.py``."""
    lines = ['"""The ops as functions. Written by ``python -m tracegrad._ops._generate``."""', "",
             "from tracegrad._ops._declare import inplace as _inplace"]  # fmt: skip
    for family, rows in families.items():
        for row in sorted(rows, key=lambda r: r.function.__name__):
            if row.toplevel:
                lines.append(f"from tracegrad._ops.{family} import {row.function.__name__} as {row.name}")
    lines.append("")
    for name in sorted(row.name for rows in families.values() for row in rows if row.inplace and row.name in _INPLACE):
        lines.append(f"{name}_ = _inplace({name})")
    return "\n".join(lines) + "\n"


def main(check: bool) -> int:
    """Write or check both files; return the exit status."""
    families = _load()
    status = 0
    for name, text in (("_methods.py", methods(families)), ("_functions.py", functions(families))):
        path = _ROOT / name
        if path.exists() and path.read_text() == text:
            continue
        if check:
            print(f"{path} is not up to date: run python -m tracegrad._ops._generate", file=sys.stderr)
            status = 1
        else:
            path.write_text(text)
    return status


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
