"""Clipping gradients as PyTorch does."""

from __future__ import annotations

import pytest
from _both import check


def clipped(torch, note):
    utils = torch.nn.utils
    parameters = [torch.tensor([3.0, 4.0], requires_grad=True), torch.tensor([[1.0]], requires_grad=True)]
    for p in parameters:
        (p * p).sum().backward()
    gradients = [p.grad for p in parameters]
    norm = utils.get_total_norm(gradients)
    note(norm, utils.get_total_norm(gradients, float("inf")), utils.get_total_norm([]))
    note(utils.get_total_norm(parameters).requires_grad)
    utils.clip_grads_with_norm_(parameters, 2.0, norm)
    note([p.grad.clone() for p in parameters], parameters[0].grad is gradients[0])
    note(utils.clip_grad_norm_(parameters, 0.5), [p.grad.clone() for p in parameters])
    utils.clip_grad_value_(parameters, 0.1)
    note([p.grad.clone() for p in parameters])
    utils.get_total_norm([torch.tensor([float("inf")])], error_if_nonfinite=True)


@pytest.mark.oracle
@pytest.mark.parametrize("way", ("lazy", "read", "eager"))
def test_clipping_as_in_pytorch(way):
    check(clipped, way)
