"""Layers that look up rows of a table."""

from __future__ import annotations

from typing import Any

from tracegrad._errors import UnsupportedError
from tracegrad._tensor import Tensor
from tracegrad.nn import functional as F
from tracegrad.nn import init
from tracegrad.nn._module import Module
from tracegrad.nn._parameter import Parameter, parameter


class _Table(Module):
    """A weight of ``num_embeddings`` rows, of which the one at ``padding_idx`` is zero and stays so."""

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None,
        max_norm: float | None,
        norm_type: float,
        scale_grad_by_freq: bool,
        sparse: bool,
        weight: Tensor | None,
        freeze: bool,
        device: Any,
        dtype: Any,
    ):
        super().__init__()
        if max_norm is not None or scale_grad_by_freq or sparse:
            raise UnsupportedError(
                f"{type(self).__name__}: max_norm, scale_grad_by_freq and sparse are not supported"
            )
        if padding_idx is not None and not -num_embeddings <= padding_idx < num_embeddings:
            raise AssertionError("Padding_idx must be within num_embeddings")
        self.num_embeddings = num_embeddings
        self.embedding_dim = embedding_dim
        self.padding_idx = padding_idx % num_embeddings if padding_idx is not None else None
        self.max_norm = max_norm
        self.norm_type = norm_type
        self.scale_grad_by_freq = scale_grad_by_freq
        self.sparse = sparse
        if weight is None:
            self.weight = parameter(num_embeddings, embedding_dim, device=device, dtype=dtype)
            self.weight.requires_grad_(not freeze)
            self.reset_parameters()
        else:
            if list(weight.shape) != [num_embeddings, embedding_dim]:
                raise AssertionError("Shape of weight does not match num_embeddings and embedding_dim")
            self.weight = Parameter(weight, requires_grad=not freeze)

    def reset_parameters(self) -> None:
        """Draw the rows from a normal distribution; the padding row is zero."""
        init.normal_(self.weight)
        if self.padding_idx is not None:
            init._zero_row(self.weight, self.padding_idx)

    @classmethod
    def from_pretrained(cls, embeddings: Tensor, freeze: bool = True, **options: Any) -> Any:
        """Return a layer whose table is ``embeddings``, which does not learn unless ``freeze`` is False."""
        if embeddings.ndim != 2:
            raise AssertionError("Embeddings parameter is expected to be 2-dimensional")
        rows, width = embeddings.shape
        made = cls(rows, width, _weight=embeddings, **options)  # type: ignore[call-arg]
        made.weight.requires_grad_(not freeze)
        return made

    def extra_repr(self) -> str:
        """Return the constructor's arguments that differ from the defaults."""
        extra = f"{self.num_embeddings}, {self.embedding_dim}"
        return extra if self.padding_idx is None else f"{extra}, padding_idx={self.padding_idx}"


class Embedding(_Table):
    """Returns the rows of a learned table at the given indices.

    See https://docs.pytorch.org/docs/stable/generated/torch.nn.Embedding.html

    Example:
        >>> import tracegrad as torch
        >>> torch.nn.Embedding(10, 3)(torch.tensor([[1, 2], [4, 5]])).shape
        torch.Size([2, 2, 3])
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
        _weight: Tensor | None = None,
        _freeze: bool = False,
        device: Any = None,
        dtype: Any = None,
    ):
        super().__init__(
            num_embeddings,
            embedding_dim,
            padding_idx,
            max_norm,
            norm_type,
            scale_grad_by_freq,
            sparse,
            _weight,
            _freeze,
            device,
            dtype,
        )

    def forward(self, input: Tensor) -> Tensor:
        """Return the rows at ``input``, in one more dimension."""
        return F.embedding(input, self.weight, self.padding_idx)


class EmbeddingBag(_Table):
    """Returns the mean or the sum of the rows at each row of indices.

    See https://docs.pytorch.org/docs/stable/generated/torch.nn.EmbeddingBag.html

    Example:
        >>> import tracegrad as torch
        >>> torch.nn.EmbeddingBag(10, 3, mode="sum")(torch.tensor([[1, 2], [4, 5]])).shape
        torch.Size([2, 3])
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        mode: str = "mean",
        sparse: bool = False,
        _weight: Tensor | None = None,
        include_last_offset: bool = False,
        padding_idx: int | None = None,
        device: Any = None,
        dtype: Any = None,
    ):
        if mode not in ("mean", "sum") or padding_idx is not None or include_last_offset:
            raise UnsupportedError(
                "EmbeddingBag: mode='max', padding_idx and include_last_offset are not supported"
            )
        super().__init__(
            num_embeddings,
            embedding_dim,
            padding_idx,
            max_norm,
            norm_type,
            scale_grad_by_freq,
            sparse,
            _weight,
            False,
            device,
            dtype,
        )
        self.mode = mode
        self.include_last_offset = include_last_offset

    def forward(
        self, input: Tensor, offsets: Tensor | None = None, per_sample_weights: Tensor | None = None
    ) -> Tensor:
        """Return one row per bag: per row of the two-dimensional ``input``."""
        if offsets is not None or input.ndim != 2:
            raise UnsupportedError(
                "EmbeddingBag takes bags of one size, as the rows of a two-dimensional input; offsets "
                "are not supported"
            )
        rows = F.embedding(input, self.weight)
        if per_sample_weights is not None:
            if self.mode != "sum":
                raise NotImplementedError(
                    "embedding_bag: per_sample_weights was not None. per_sample_weights is only "
                    f"supported for mode='sum' (got mode='{self.mode}')."
                )
            rows = rows * per_sample_weights.unsqueeze(-1)
        return rows.sum(1) if self.mode == "sum" else rows.mean(1)

    def extra_repr(self) -> str:
        """Return the constructor's arguments that differ from the defaults."""
        return f"{super().extra_repr()}, mode={self.mode!r}"


for _class in (Embedding, EmbeddingBag):
    _class.__module__ = "tracegrad.nn"
