"""The same code in tracegrad and in PyTorch, compared: results, or the type and text of the exception."""

from __future__ import annotations

import contextlib
import warnings

import numpy as np
import pytest

import tracegrad


def leaves(tree):
    if isinstance(tree, dict):
        return [x for key in sorted(tree) for x in leaves(tree[key])]
    if isinstance(tree, (tuple, list)):
        return [x for part in tree for x in leaves(part)]
    return [tree]


def shape_of(tree):
    if isinstance(tree, dict):
        return {key: shape_of(part) for key, part in tree.items()}
    if isinstance(tree, (tuple, list)):
        return type(tree).__name__, [shape_of(part) for part in tree]
    return "tensor" if hasattr(tree, "dtype") else type(tree).__name__


def seen(result):
    found = []
    for x in leaves(result):
        if hasattr(x, "dtype"):
            plain = x.detach()
            if getattr(plain, "_is_zerotensor", bool)():  # PyTorch's zeros without elements
                plain = plain.clone()
            found.append((np.asarray(plain.numpy()), str(x.dtype), tuple(x.shape), x.requires_grad))
        else:
            found.append(x)
    return found


def outcome(case, torch):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            result = case(torch)
        except Exception as error:
            return None, (type(error).__name__, str(error))
    return (shape_of(result), seen(result)), None


def same(case, rtol=1e-9, wants=True, text=True):
    """Check ``case(torch)`` in both libraries: lazily, again from warm caches, and under ``eager()``."""
    oracle = pytest.importorskip("torch", reason="PyTorch is the oracle")
    theirs, their_error = outcome(case, oracle)
    for way in (contextlib.nullcontext, contextlib.nullcontext, tracegrad.eager):
        with way():
            ours, our_error = outcome(case, tracegrad)
        if their_error is not None:
            assert our_error is not None, f"PyTorch raises {their_error}"
            assert our_error[0] == their_error[0]
            if text:
                assert our_error[1] == their_error[1]
            continue
        assert our_error is None, our_error
        assert ours[0] == theirs[0]
        for a, b in zip(ours[1], theirs[1]):
            if not isinstance(b, tuple):
                assert a == b
                continue
            assert a[1:3] == b[1:3]
            if wants:
                assert a[3] == b[3], f"requires_grad: {a[3]}, PyTorch {b[3]}"
            np.testing.assert_allclose(a[0], b[0], rtol=rtol, atol=1e-12)
