"""DLPack: elements from and to other libraries, without a copy where nobody can write to them."""

from tracegrad._interop import from_dlpack as from_dlpack
from tracegrad._interop import to_dlpack as to_dlpack
