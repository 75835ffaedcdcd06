"""Adam and AdamW: steps scaled by running means of the gradient and of its square."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import jax.numpy as jnp

from tracegrad._engine.op import Lowering
from tracegrad._tensor import Tensor
from tracegrad.optim._optimizer import Group, Optimizer, check_options, note_update, update, zeros_like
from tracegrad.optim._packing import scalar, updated

_NAMES = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")


class Adam(Optimizer):
    """Adam: the step is the running mean of the gradient over the root of that of its square.

    Args:
        params: parameters or groups of them.
        lr: the learning rate.
        betas: how much of either running mean is kept each step.
        eps: added to the root.
        weight_decay: what multiple of the parameter is added to its gradient, or taken from the parameter.
        amsgrad: divide by the root of the largest running mean so far.
        foreach: accepted for PyTorch's signature; every step is one operation here.
        maximize: ascend rather than descend.
        capturable: as ``foreach``.
        differentiable: not supported.
        fused: as ``foreach``.
        decoupled_weight_decay: take the weight decay from the parameter itself, as `AdamW` does.

    Raises:
        ValueError: for options out of range, in PyTorch's words.

    See https://docs.pytorch.org/docs/stable/generated/torch.optim.Adam.html

    Example:
        >>> import tracegrad as torch
        >>> w = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> optimizer = torch.optim.Adam([w], lr=0.5)
        >>> w.sum().backward()
        >>> optimizer.step()
        >>> w
        tensor([0.5000, 1.5000], requires_grad=True)
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = False,
    ):
        check_options(lr, weight_decay, differentiable)
        if not eps >= 0.0:
            raise ValueError(f"Invalid epsilon value: {eps}")
        for i, beta in enumerate(betas):
            if not 0.0 <= beta < 1.0:
                raise ValueError(f"Invalid beta parameter at index {i}: {beta}")
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": betas,
                "eps": eps,
                "weight_decay": weight_decay,
                "amsgrad": amsgrad,
                "maximize": maximize,
                "foreach": foreach,
                "capturable": capturable,
                "differentiable": differentiable,
                "fused": fused,
                "decoupled_weight_decay": decoupled_weight_decay,
            },
        )

    def _update(self, group: Group, params: list[Tensor]) -> None:
        names = _NAMES if group["amsgrad"] else _NAMES[:2]
        pack = self._packed(params, names)
        if pack is None:
            states = [self._states[p] for p in params]
            for p, s in zip(params, states):
                if len(s) <= len(names):
                    s.setdefault("step", scalar(0.0))
                    for name in names:
                        s.setdefault(name, zeros_like(p))
            pack = self._pack(params, names)
        if pack is not None:
            self._record(group, params, [pack])
            return
        steps = [float(s["step"]) for s in states]
        for step in sorted(set(steps)):  # some may have started late, or had no gradient once
            chosen = [i for i, own in enumerate(steps) if own == step]
            held = [states[i][name] for name in names for i in chosen]
            self._record(group, [params[i] for i in chosen], held, step + 1.0)
            for i in chosen:
                counter = states[i]["step"]
                if isinstance(counter, Tensor):  # somebody may hold it
                    counter._value = scalar(step + 1.0)._value
                else:
                    states[i]["step"] = scalar(step + 1.0)

    def _record(self, group: Group, params: list[Tensor], held: list[Any], *step: float) -> None:
        """Record one update; the number of the step is among packed states, else it is given."""
        note_update(self, group, held, lambda: _numbers(group), lambda: _flags(group))
        update(_adam, _flags(group), params, held, (*step, *_numbers(group)))

    def _taken(self, state: dict[str, Any]) -> dict[str, Any]:
        return {key: scalar(float(value)) if key == "step" else value for key, value in state.items()}


class AdamW(Adam):
    """Adam that takes the weight decay from the parameter itself rather than through its gradient.

    Args:
        params: parameters or groups of them.
        lr: the learning rate.
        betas: how much of either running mean is kept each step.
        eps: added to the root.
        weight_decay: what fraction of the parameter, times ``lr``, is taken from it each step.
        amsgrad: divide by the root of the largest running mean so far.
        maximize: ascend rather than descend.
        foreach: accepted for PyTorch's signature; every step is one operation here.
        capturable: as ``foreach``.
        differentiable: not supported.
        fused: as ``foreach``.

    See https://docs.pytorch.org/docs/stable/generated/torch.optim.AdamW.html

    Example:
        >>> import tracegrad as torch
        >>> torch.optim.AdamW([torch.ones(2, requires_grad=True)]).param_groups[0]["weight_decay"]
        0.01
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ):
        super().__init__(
            params,
            lr,
            betas,
            eps,
            weight_decay,
            amsgrad,
            foreach=foreach,
            maximize=maximize,
            capturable=capturable,
            differentiable=differentiable,
            fused=fused,
            decoupled_weight_decay=True,
        )


def _flags(group: Group) -> tuple[Any, ...]:
    decay = "" if not group["weight_decay"] else "decoupled" if group["decoupled_weight_decay"] else "added"
    return group["amsgrad"], group["maximize"], decay


def _numbers(group: Group) -> tuple[Any, ...]:
    return group["lr"], *group["betas"], group["eps"], group["weight_decay"]


def _adam(*args: Any) -> Lowering:
    count, amsgrad, maximize, decay, renews = args[-5:]

    def fn(*operands: Any) -> Any:
        *given, lr, beta1, beta2, eps, weight_decay = operands
        last = given.pop()
        packed = isinstance(last, tuple)
        step = last[-1] + 1 if packed else last
        if packed:
            given.append(last[:-1])
        size, root = lr / (1 - beta1**step), jnp.sqrt(1 - beta2**step)
        keep, rest1, rest2 = 1 - lr * weight_decay, 1 - beta1, 1 - beta2

        def before(p: Any, g: Any) -> Any:
            g = -g if maximize else g
            return g + weight_decay.astype(p.dtype) * p if decay == "added" else g

        def change(g: Any, mean: Any, square: Any, *largest: Any) -> tuple[Any, ...]:
            a, b, c, d, e, f = (x.astype(g.dtype) for x in (size, root, beta2, eps, rest1, rest2))
            mean = mean + e * (g - mean)
            square = c * square + f * g * g
            if amsgrad:
                largest = (jnp.maximum(largest[0], square),)
            return a * (mean / (jnp.sqrt((*largest, square)[0]) / b + d)), mean, square, *largest

        def after(p: Any, by: Any) -> Any:
            return (p * keep.astype(p.dtype) if decay == "decoupled" else p) - by

        new = updated(given, count, before, change, after)
        return (*new[:-1], (*new[-1], step)) if packed else new

    return Lowering(fn, differentiable=False, saves=False, renews=count if renews else 0)


for _class in (Adam, AdamW):
    _class.__module__ = "tracegrad.optim"
