"""``compile``: functions and modules that are recorded and then run without Python."""

from tracegrad._compile._api import CompiledModule as CompiledModule
from tracegrad._compile._api import compile as compile
from tracegrad._compile._function import functions as functions
