"""Nested containers of tensors, flattened and built again in the order in which they stand, as PyTorch does.

Tuples, named tuples, lists and dicts are containers; everything else, None too, is a leaf.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable
from typing import Any


class Structure:
    """The shape of a nested container: what it is made of, without its leaves."""

    __slots__ = ("kind", "keys", "parts", "count")

    def __init__(self, kind: Any, keys: Any, parts: tuple[Structure, ...]):
        self.kind = kind  # the container's type, None for a leaf
        self.keys = keys  # of a dict its keys, of a default dict with its factory
        self.parts = parts
        self.count: int = sum(part.count for part in parts) if kind is not None else 1

    def __eq__(self, other: object) -> bool:
        return (isinstance(other, Structure) and self.kind is other.kind and self.keys == other.keys
                and self.parts == other.parts)  # fmt: skip

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        if self.kind is None:
            return "*"
        names = self.keys[1] if self.kind is defaultdict else self.keys
        parts = [f"{k!r}: {p}" for k, p in zip(names, self.parts)] if names else map(repr, self.parts)
        return f"{self.kind.__name__}({', '.join(parts)})"


_LEAF = Structure(None, None, ())


def _parts(tree: Any) -> tuple[Any, Any, list[Any]]:
    kind = type(tree)
    if kind is dict or kind is OrderedDict:
        return kind, list(tree), list(tree.values())
    if kind is defaultdict:
        return kind, (tree.default_factory, list(tree)), list(tree.values())
    if kind is tuple or kind is list or kind is deque or (isinstance(tree, tuple) and hasattr(tree, "_fields")):
        return kind, None, list(tree)
    return None, None, []


def flatten(tree: Any) -> tuple[list[Any], Structure]:
    """Return the leaves of ``tree`` in order, and its structure."""
    kind, keys, parts = _parts(tree)
    if kind is None:
        return [tree], _LEAF
    leaves: list[Any] = []
    structures = []
    for part in parts:
        inner, structure = flatten(part)
        leaves += inner
        structures.append(structure)
    return leaves, Structure(kind, keys, tuple(structures))


def leaves(tree: Any) -> list[Any]:
    """Return the leaves of ``tree`` in order."""
    return flatten(tree)[0]


def unflatten(given: list[Any] | tuple[Any, ...], structure: Structure) -> Any:
    """Return a container of ``structure`` with these leaves."""
    return _build(iter(given), structure)


def _build(given: Any, structure: Structure) -> Any:
    kind = structure.kind
    if kind is None:
        return next(given)
    parts = [_build(given, part) for part in structure.parts]
    if kind is dict or kind is OrderedDict:
        return kind(zip(structure.keys, parts))
    if kind is defaultdict:
        factory, keys = structure.keys
        return defaultdict(factory, zip(keys, parts))
    return kind(*parts) if hasattr(kind, "_fields") else kind(parts)


def transform(function: Callable[[Any], Any], tree: Any) -> Any:
    """Return ``tree`` with ``function`` of each leaf in its place."""
    found, structure = flatten(tree)
    return unflatten([function(x) for x in found], structure)


def spread(prefix: Any, structure: Structure) -> list[Any] | None:
    """Return one leaf of ``prefix`` for each of ``structure``, where a leaf may stand for a whole container.

    None where ``prefix`` is something else than the upper part of ``structure``.
    """
    kind, keys, parts = _parts(prefix)
    if kind is None:
        return [prefix] * structure.count
    if kind is not structure.kind or keys != structure.keys or len(parts) != len(structure.parts):
        return None
    found: list[Any] = []
    for part, inner in zip(parts, structure.parts):
        one = spread(part, inner)
        if one is None:
            return None
        found += one
    return found
