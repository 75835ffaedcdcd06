"""In-place changes of shape, and an optimizer's step hooks, as in PyTorch."""

from __future__ import annotations

from typing import Any

import pytest

import tracegrad as tg

torch = pytest.importorskip("torch", reason="PyTorch is the oracle: pip install -e .[oracle]")
pytestmark = pytest.mark.oracle


@pytest.mark.parametrize("change", [
    lambda x: x.unsqueeze_(1), lambda x: x.t_(), lambda x: x.transpose_(0, 1), lambda x: x.unsqueeze_(0).squeeze_(),
    lambda x: x.swapaxes_(0, 1).mul_(2), lambda x: x.swapdims_(1, 0),
    lambda x: x.fill_diagonal_(7), lambda x: x.t_().clone().fill_diagonal_(7, wrap=True),
    lambda x: x.fill_diagonal_(7, wrap=True),
])  # fmt: skip
def test_the_tensor_itself_changes(change: Any) -> None:
    for wants in (False, True):
        results = []
        for api in (tg, torch):
            leaf = api.arange(6.0).reshape(2, 3).clone().requires_grad_(wants)
            x = leaf * 2
            y = change(x)
            if wants:
                (y * y).sum().backward()
            results.append((x.tolist(), y.tolist(), list(x.shape), leaf.grad.tolist() if wants else None))
        assert results[0] == results[1]


def test_refusals() -> None:
    leaf = tg.ones(2, 3, requires_grad=True)
    with pytest.raises(RuntimeError, match="a leaf Variable that requires grad is being used in an in-place"):
        leaf.unsqueeze_(0)
    base = tg.ones(2, 3)
    view = base[0]
    with pytest.raises(IndexError, match="Dimension out of range"):
        base.transpose_(0, 7)
    assert view.shape == (3,) and base.shape == (2, 3) and base._version == 0
    with pytest.raises(RuntimeError, match="dimensions must larger than 1"):
        tg.ones(3).fill_diagonal_(0)


def test_step_hooks() -> None:
    seen: list[Any] = []
    for api in (tg, torch):
        w = api.ones(2, requires_grad=True)
        optimizer = api.optim.SGD([w], lr=0.5)
        calls: list[Any] = []
        first = optimizer.register_step_pre_hook(lambda o, args, kwargs, c=calls: c.append(("pre", len(args))))
        optimizer.register_step_post_hook(lambda o, args, kwargs, c=calls, w=w: c.append(("post", w.tolist())))
        w.sum().backward()
        optimizer.step()
        first.remove()
        optimizer.step()
        seen.append([calls[0][0], *calls[1:]])
    assert seen[0] == seen[1]
