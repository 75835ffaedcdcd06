"""Adam and AdamW: steps scaled by running means of the gradient and of its square."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp

from tracegrad._engine.op import Lowering
from tracegrad._engine.trace import record
from tracegrad._engine.value import Input
from tracegrad._tensor import Tensor
from tracegrad.optim._optimizer import Group, Optimizer, check_options, hyper, put, scalar, zeros_like

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
        state = self.state
        states = [state[p] for p in params]
        names = _NAMES if group["amsgrad"] else _NAMES[:2]
        for p, s in zip(params, states):
            if len(s) <= len(names):
                s.setdefault("step", 0.0)
                for name in names:
                    s.setdefault(name, zeros_like(p))
        steps = [s["step"] for s in states]
        if steps.count(steps[0]) == len(steps):
            self._record(group, names, params, states, steps[0])
            return
        for step in sorted(set(steps)):  # parameters that started late or had no gradient once
            chosen = [i for i, own in enumerate(steps) if own == step]
            self._record(group, names, [params[i] for i in chosen], [states[i] for i in chosen], step)

    def _record(
        self,
        group: Group,
        names: tuple[str, ...],
        params: list[Tensor],
        states: list[dict[str, Any]],
        step: float,
    ) -> None:
        step += 1.0
        decay = group["weight_decay"]
        flags = (
            len(params),
            group["amsgrad"],
            group["maximize"],
            "" if not decay else "decoupled" if group["decoupled_weight_decay"] else "added",
        )
        held = [s[name] for name in names for s in states]
        numbers = (group["lr"], *group["betas"], group["eps"], decay)
        put(
            params,
            held,
            record(
                _adam, flags, *params, *[p._grad for p in params], *held, *map(hyper, numbers), Input(step)
            ),
        )
        for s in states:
            s["step"] = step

    def _shown(self, state: dict[str, Any]) -> dict[str, Any]:
        return {key: scalar(value) if key == "step" else value for key, value in state.items()}

    def _taken(self, state: dict[str, Any]) -> dict[str, Any]:
        return {
            key: float(value.item() if isinstance(value, Tensor) else value) if key == "step" else value
            for key, value in state.items()
        }


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


def _adam(*args: Any) -> Lowering:
    count, amsgrad, maximize, decay = args[-4:]
    width = 5 if amsgrad else 4  # parameter, gradient and states of each

    def update(
        numbers: tuple[Any, ...], p: Any, g: Any, mean: Any, square: Any, *largest: Any
    ) -> tuple[Any, ...]:
        if jnp.iscomplexobj(p):  # real and imaginary parts are parameters of their own
            parts = (p, g.astype(p.dtype), mean, square, *largest)
            return tuple(
                map(
                    jax.lax.complex,
                    update(numbers, *map(jnp.real, parts)),
                    update(numbers, *map(jnp.imag, parts)),
                )
            )
        lr, beta1, beta2, eps, weight_decay, step = numbers
        size, root = lr / (1 - beta1**step), jnp.sqrt(1 - beta2**step)
        keep, rest1, rest2, shrink = 1 - lr * weight_decay, 1 - beta1, 1 - beta2, weight_decay
        size, root, beta2, eps, keep, rest1, rest2, shrink = (
            x.astype(p.dtype) for x in (size, root, beta2, eps, keep, rest1, rest2, shrink)
        )
        g = -g.astype(p.dtype) if maximize else g.astype(p.dtype)
        if decay == "added":
            g = g + shrink * p
        elif decay:
            p = p * keep
        mean = mean + rest1 * (g - mean)
        square = beta2 * square + rest2 * g * g
        if amsgrad:
            largest = (jnp.maximum(largest[0], square),)
        return p - size * (mean / (jnp.sqrt((*largest, square)[0]) / root + eps)), mean, square, *largest

    def fn(*operands: Any) -> Any:
        columns = [operands[i * count : (i + 1) * count] for i in range(width)]
        results = [update(operands[-6:], *each) for each in zip(*columns)]
        return tuple(x for column in zip(*results) for x in column)

    return Lowering(fn, differentiable=False, saves=False)


for _class in (Adam, AdamW):
    _class.__module__ = "tracegrad.optim"
