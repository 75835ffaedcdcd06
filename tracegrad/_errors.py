"""Errors that PyTorch has no type for."""

from __future__ import annotations


class UnsupportedError(NotImplementedError):
    """Something that PyTorch does and tracegrad does not do yet; the message names the way round."""


UnsupportedError.__module__ = "tracegrad"


class LinAlgError(RuntimeError):
    """A matrix that an op of linear algebra cannot take: singular, or not positive-definite."""


LinAlgError.__module__ = "tracegrad.linalg"
