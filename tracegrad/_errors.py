"""Errors that PyTorch has no type for."""

from __future__ import annotations


class UnsupportedError(NotImplementedError):
    """Something that PyTorch does and tracegrad does not do yet; the message names the way round."""


UnsupportedError.__module__ = "tracegrad"
