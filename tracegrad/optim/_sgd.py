"""Stochastic gradient descent, with momentum."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tracegrad._engine.op import Lowering
from tracegrad._tensor import Tensor
from tracegrad.optim._optimizer import Group, Optimizer, check_options, note_update, update, zeros_like
from tracegrad.optim._packing import updated


class SGD(Optimizer):
    """Gradient descent; ``momentum`` adds a running sum of the gradients.

    Args:
        params: parameters or groups of them.
        lr: the learning rate.
        momentum: how much of the running sum is kept each step.
        dampening: how much of each gradient after the first is held back from the running sum.
        weight_decay: what multiple of the parameter is added to its gradient.
        nesterov: look one step ahead along the running sum.
        maximize: ascend rather than descend.
        foreach: accepted for PyTorch's signature; every step is one operation here.
        differentiable: not supported.
        fused: as ``foreach``.

    Raises:
        ValueError: for options out of range, in PyTorch's words.

    See https://docs.pytorch.org/docs/stable/generated/torch.optim.SGD.html

    Example:
        >>> import tracegrad as torch
        >>> w = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> optimizer = torch.optim.SGD([w], lr=0.5)
        >>> w.sum().backward()
        >>> optimizer.step()
        >>> w
        tensor([0.5000, 1.5000], requires_grad=True)
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        differentiable: bool = False,
        fused: bool | None = None,
    ):
        check_options(lr, weight_decay, differentiable)
        if momentum < 0.0:
            raise ValueError(f"Invalid momentum value: {momentum}")
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ValueError("Nesterov momentum requires a momentum and zero dampening")
        super().__init__(
            params,
            {
                "lr": lr,
                "momentum": momentum,
                "dampening": dampening,
                "weight_decay": weight_decay,
                "nesterov": nesterov,
                "maximize": maximize,
                "foreach": foreach,
                "differentiable": differentiable,
                "fused": fused,
            },
        )

    def _update(self, group: Group, params: list[Tensor]) -> None:
        if not group["momentum"]:
            self._record(group, params, [], 0.0)
            return
        pack = self._packed(params, ("momentum_buffer",))
        if pack is not None:
            self._record(group, params, [pack], group["dampening"])
            return
        state = self._states
        fresh = [p for p in params if state[p].get("momentum_buffer") is None]
        for p in fresh:  # the first gradient goes undampened into a running sum of zero
            state[p]["momentum_buffer"] = zeros_like(p)
        if len(fresh) in (0, len(params)):
            pack = self._pack(params, ("momentum_buffer",))
            if pack is not None:
                self._record(group, params, [pack], 0.0 if fresh else group["dampening"])
                return
        if fresh:
            self._record(group, fresh, [state[p]["momentum_buffer"] for p in fresh], 0.0)
            started = {id(p) for p in fresh}
            params = [p for p in params if id(p) not in started]
        if params:
            self._record(group, params, [state[p]["momentum_buffer"] for p in params], group["dampening"])

    def _record(self, group: Group, params: list[Tensor], buffers: list[Any], dampening: float) -> None:
        fixed = dampening != group["dampening"]

        def numbers() -> tuple[Any, ...]:
            rest = dampening if fixed else group["dampening"]
            return group["lr"], group["momentum"], rest, group["weight_decay"]

        note_update(self, group, buffers, numbers, lambda: (fixed, bool(group["momentum"]), *_flags(group)))
        update(_sgd, (bool(buffers), *_flags(group)), params, buffers, numbers())


def _flags(group: Group) -> tuple[Any, ...]:
    return bool(group["weight_decay"]), group["nesterov"], group["maximize"]


def _sgd(*args: Any) -> Lowering:
    count, momentum, decay, nesterov, maximize, renews = args[-6:]

    def fn(*operands: Any) -> Any:
        lr, mu, dampening, weight_decay = operands[-4:]

        def before(p: Any, g: Any) -> Any:
            g = -g if maximize else g
            return g + weight_decay.astype(p.dtype) * p if decay else g

        def change(g: Any, *buffers: Any) -> tuple[Any, ...]:
            rate, keep, rest = (x.astype(g.dtype) for x in (lr, mu, 1 - dampening))
            if not momentum:
                return (rate * g,)
            buffer = keep * buffers[0] + rest * g
            return rate * (g + keep * buffer if nesterov else buffer), buffer

        def after(p: Any, by: Any) -> Any:
            return p - by

        return updated(operands[:-4], count, before, change, after)

    return Lowering(fn, differentiable=False, saves=False, renews=count if renews else 0)
