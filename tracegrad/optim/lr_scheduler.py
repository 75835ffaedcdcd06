"""Learning-rate schedules: each sets the ``lr`` of an optimizer's groups from the number of its steps.

A schedule computes the next rate from the present one, so several can act on one optimizer. The learning rate
is an input of the optimizer's program: no schedule compiles anything anew.
"""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from tracegrad._engine.recording import recording
from tracegrad._grad_mode import no_grad
from tracegrad._tensor import Tensor
from tracegrad.optim._optimizer import Optimizer


class LRScheduler:
    """The base of schedules: a subclass defines ``get_lr``.

    Args:
        optimizer: whose learning rates are set.
        last_epoch: the number of steps done before, -1 to start.

    Raises:
        TypeError: where ``optimizer`` is none.
        KeyError: where steps were done before but the groups have no ``initial_lr``.
    """

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1):
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"{type(optimizer).__name__} is not an Optimizer")
        self.optimizer = optimizer
        for i, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                lr = group["lr"]
                group.setdefault("initial_lr", lr.detach().clone() if isinstance(lr, Tensor) else lr)
            elif "initial_lr" not in group:
                raise KeyError(
                    f"param 'initial_lr' is not specified in param_groups[{i}] when resuming scheduler with "
                    "last_epoch >= 0. Load the optimizer's state first, or start at last_epoch=-1."
                )
        self.base_lrs: list[Any] = [group["initial_lr"] for group in optimizer.param_groups]
        self.last_epoch = last_epoch
        self._step_count = 0
        self._is_initial = True
        self.step()
        self._is_initial = False

    def get_lr(self) -> Sequence[Any]:
        """Return the rates at ``last_epoch``, one per group."""
        raise NotImplementedError

    def get_last_lr(self) -> list[Any]:
        """Return the rates that the last step set."""
        return self._last_lr

    def step(self, epoch: int | None = None) -> None:
        """Count one step, or go to ``epoch``, and set the rates."""
        compiled = recording()
        if compiled is not None:
            if any(isinstance(group["lr"], Tensor) for group in self.optimizer.param_groups):
                compiled.doubt("it steps a schedule of a learning rate that is a tensor")
            compiled.effect(("schedule", id(self), epoch), partial(LRScheduler.step, self, epoch))
        late = self._step_count == 1 and not self.optimizer._stepped
        if late and type(self.optimizer).step is Optimizer.step:
            warnings.warn(
                "Detected call of `lr_scheduler.step()` before `optimizer.step()`: the first value of the "
                "schedule is skipped. Call `optimizer.step()` first.",
                UserWarning,
                stacklevel=2,
            )
        self._step_count += 1
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        closed = getattr(self, "_get_closed_form_lr", None)
        rates = self.get_lr() if epoch is None or closed is None else closed()
        for group, lr in zip(self.optimizer.param_groups, rates):
            if isinstance(group["lr"], Tensor):
                with no_grad():
                    group["lr"].fill_(lr)
            else:
                group["lr"] = lr
        self._last_lr = [group["lr"] for group in self.optimizer.param_groups]

    def _present(self) -> list[Any]:
        return [group["lr"] for group in self.optimizer.param_groups]

    def _times(self, factor: float) -> list[Any]:
        return [lr * factor for lr in self._present()]

    def _scaled(self, factor: float) -> list[Any]:
        return [lr * factor for lr in self.base_lrs]

    def state_dict(self) -> dict[str, Any]:
        """Return everything of this schedule but the optimizer."""
        return {key: value for key, value in self.__dict__.items() if key != "optimizer"}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        self.__dict__.update(state_dict)


class LambdaLR(LRScheduler):
    """The initial rate times a function of the number of steps, one function or one per group.

    Example:
        >>> import tracegrad as torch
        >>> optimizer = torch.optim.SGD([torch.ones(1, requires_grad=True)], lr=1.0)
        >>> torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step).get_last_lr()
        [1.0]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        lr_lambda: Callable[[int], float] | Sequence[Callable[[int], float]],
        last_epoch: int = -1,
    ):
        count = len(optimizer.param_groups)
        functions = [lr_lambda] * count if callable(lr_lambda) else list(lr_lambda)
        if len(functions) != count:
            raise ValueError(f"Expected {count} lr_lambdas, but got {len(functions)}")
        self.lr_lambdas = functions
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[Any]:
        """Return the rates at ``last_epoch``, one per group."""
        return [base * function(self.last_epoch) for base, function in zip(self.base_lrs, self.lr_lambdas)]

    def state_dict(self) -> dict[str, Any]:
        """Return everything but the optimizer and the functions; of callable objects, their attributes."""
        plain = type(_cosine)
        state = {key: value for key, value in super().state_dict().items() if key != "lr_lambdas"}
        state["lr_lambdas"] = [None if isinstance(f, plain) else f.__dict__.copy() for f in self.lr_lambdas]
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what `state_dict` returned; functions stay the ones given to the constructor."""
        self.__dict__.update({key: value for key, value in state_dict.items() if key != "lr_lambdas"})
        for function, attributes in zip(self.lr_lambdas, state_dict["lr_lambdas"]):
            if attributes is not None:
                function.__dict__.update(attributes)


class StepLR(LRScheduler):
    """The rate times ``gamma`` after every ``step_size`` steps."""

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1):
        self.step_size = step_size
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[Any]:
        """Return the rates at ``last_epoch``, one per group."""
        due = self.last_epoch != 0 and self.last_epoch % self.step_size == 0
        return self._times(self.gamma) if due else self._present()

    def _get_closed_form_lr(self) -> list[Any]:
        return self._scaled(self.gamma ** (self.last_epoch // self.step_size))


class MultiStepLR(LRScheduler):
    """The rate times ``gamma`` at each of ``milestones``; one that is named twice counts twice."""

    def __init__(
        self, optimizer: Optimizer, milestones: Iterable[int], gamma: float = 0.1, last_epoch: int = -1
    ):
        self.milestones = Counter(milestones)
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[Any]:
        """Return the rates at ``last_epoch``, one per group."""
        times = self.milestones.get(self.last_epoch, 0)
        return self._times(self.gamma**times) if times else self._present()

    def _get_closed_form_lr(self) -> list[Any]:
        passed = sum(times for milestone, times in self.milestones.items() if milestone <= self.last_epoch)
        return self._scaled(self.gamma**passed)


class ExponentialLR(LRScheduler):
    """The rate times ``gamma`` after every step."""

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1):
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[Any]:
        """Return the rates at ``last_epoch``, one per group."""
        return self._present() if self._is_initial else self._times(self.gamma)

    def _get_closed_form_lr(self) -> list[Any]:
        return self._scaled(self.gamma**self.last_epoch)


class CosineAnnealingLR(LRScheduler):
    """From the initial rate to ``eta_min`` in ``T_max`` steps along half a cosine, and back again."""

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1):
        self.T_max = T_max
        self.eta_min = eta_min
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[Any]:
        """Return the rates at ``last_epoch``, one per group."""
        if self._is_initial:
            return self._present()
        before, after = (_cosine(step, self.T_max) for step in (self.last_epoch - 1, self.last_epoch))
        if before < 1e-12:  # at the bottom the present rate says nothing of the initial one
            return [self.eta_min + (base - self.eta_min) * after for base in self.base_lrs]
        return [self.eta_min + (lr - self.eta_min) * after / before for lr in self._present()]

    def _get_closed_form_lr(self) -> list[Any]:
        factor = _cosine(self.last_epoch, self.T_max)
        return [self.eta_min + (base - self.eta_min) * factor for base in self.base_lrs]


def _cosine(step: int, period: int) -> float:
    return (1 + math.cos(math.pi * step / period)) / 2


for _class in (LRScheduler, LambdaLR, StepLR, MultiStepLR, ExponentialLR, CosineAnnealingLR):
    _class.__module__ = "tracegrad.optim.lr_scheduler"
