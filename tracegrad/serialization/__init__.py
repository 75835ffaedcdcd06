"""Tensors in files: PyTorch's ``.pt`` format, read and written without PyTorch and without running code."""

from tracegrad.serialization._load import load as load
from tracegrad.serialization._safe import add_safe_globals as add_safe_globals
from tracegrad.serialization._safe import clear_safe_globals as clear_safe_globals
from tracegrad.serialization._safe import get_safe_globals as get_safe_globals
from tracegrad.serialization._safe import safe_globals as safe_globals
from tracegrad.serialization._save import save as save
