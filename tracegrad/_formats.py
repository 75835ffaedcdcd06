"""PyTorch's names of memory layouts: taken where PyTorch takes them, and of no effect, as XLA lays tensors out."""

from __future__ import annotations


class Format:
    """The name of a memory layout, such as ``torch.contiguous_format``."""

    __slots__ = ("name",)
    __module__ = "tracegrad"

    def __init__(self, name: str):
        self.name = name

    def __repr__(self) -> str:
        return f"torch.{self.name}"

    def __reduce__(self) -> str:
        return self.name


strided = Format("strided")
preserve_format = Format("preserve_format")
contiguous_format = Format("contiguous_format")
channels_last = Format("channels_last")
