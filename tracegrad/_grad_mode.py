"""Ambient modes: contexts and decorators that switch whether ops are recorded for gradients; the default dtype."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from types import TracebackType
from typing import Any, TypeVar

from tracegrad import _dtype
from tracegrad._dtype import DType
from tracegrad._engine.trace import set_mode, state
from tracegrad._engine.trie import Mode
from tracegrad._engine.trie import mode as mode_of

F = TypeVar("F", bound=Callable[..., Any])


def is_grad_enabled() -> bool:
    """Return whether ops on tensors that want gradients are recorded for them in this thread."""
    return state.mode.enabled


def is_inference_mode_enabled() -> bool:
    """Return whether this thread is inside ``inference_mode``."""
    return state.mode.inference


class _ModeContext:
    """A context manager, and a decorator, that runs its body in one mode."""

    _grad: bool = True
    _inference: bool | None = None  # None: as it is
    _before: Mode

    def __enter__(self) -> None:
        before = self._before = state.mode
        inference = before.inference if self._inference is None else self._inference
        if before.enabled is not self._grad or before.inference is not inference:
            set_mode(mode_of(self._grad, inference))

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:  # fmt: skip
        if state.mode is not self._before:
            set_mode(self._before)

    def _clone(self) -> _ModeContext:
        clone = object.__new__(type(self))
        clone._grad, clone._inference = self._grad, self._inference
        return clone

    def __call__(self, function: F) -> F:
        """Return ``function`` run in this mode; of a generator function, each resumption is."""
        if inspect.isgeneratorfunction(function):

            @functools.wraps(function)
            def generate(*args: Any, **kwargs: Any) -> Any:
                generator = function(*args, **kwargs)
                sent = None
                while True:
                    with self._clone():
                        try:
                            item = generator.send(sent)
                        except StopIteration as stop:
                            return stop.value
                    sent = yield item

            return generate  # type: ignore[return-value]

        @functools.wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            with self._clone():
                return function(*args, **kwargs)

        return run  # type: ignore[return-value]


class no_grad(_ModeContext):
    """Runs its body without recording for gradients. Works as a decorator too.

    Example:
        >>> import tracegrad as torch
        >>> x = torch.ones(2, requires_grad=True)
        >>> with torch.no_grad():
        ...     y = x * 2
        >>> y.requires_grad
        False
    """

    def __new__(cls, function: Any = None) -> Any:
        """Return the context, or ``function`` decorated where it is used as a bare ``@no_grad``."""
        self = object.__new__(cls)
        self._grad = False
        return self if function is None else self(function)


class enable_grad(_ModeContext):
    """Runs its body with recording for gradients, inside ``no_grad``. Works as a decorator too."""

    def __new__(cls, function: Any = None) -> Any:
        """Return the context, or ``function`` decorated where it is used as a bare ``@enable_grad``."""
        self = object.__new__(cls)
        return self if function is None else self(function)


class set_grad_enabled(_ModeContext):
    """Switches grad mode at once; as a context, until its body ends. Works as a decorator too."""

    def __init__(self, mode: bool):
        self._before = state.mode
        self._grad = bool(mode)
        set_mode(mode_of(self._grad, self._before.inference))

    def __enter__(self) -> None:
        pass

    def __call__(self, function: F) -> F:
        """Return ``function`` run in this mode."""
        set_mode(self._before)
        return super().__call__(function)

    def _clone(self) -> _ModeContext:
        return enable_grad() if self._grad else no_grad()  # type: ignore[no-any-return]


class inference_mode(_ModeContext):
    """Runs its body apart from autograd. Works as a decorator too.

    Nothing is recorded for gradients, whatever ``enable_grad`` says, and tensors made inside, except views of others,
    are *inference tensors* for ever: they have no ``_version``, cannot be saved for a backward, and outside they cannot
    be written to or want gradients. Their ``clone()`` outside is a normal tensor.

    Args:
        mode: with False, the body is normal code inside of an inference mode.

    See https://docs.pytorch.org/docs/stable/generated/torch.autograd.grad_mode.inference_mode.html

    Example:
        >>> import tracegrad as torch
        >>> with torch.inference_mode():
        ...     x = torch.ones(2)
        >>> x.is_inference(), (x + 1).is_inference()
        (True, False)
    """

    def __new__(cls, mode: Any = True) -> Any:
        """Return the context, or the function ``mode`` decorated."""
        self = object.__new__(cls)
        self._inference = mode is not False
        self._grad = not self._inference
        return self(mode) if callable(mode) else self


def set_default_dtype(d: DType) -> None:
    """Set the type of new floating-point tensors.

    Raises:
        TypeError: when ``d`` is not a floating-point type.

    Example:
        >>> import tracegrad as torch
        >>> torch.set_default_dtype(torch.float64)
        >>> torch.ones(1).dtype
        torch.float64
        >>> torch.set_default_dtype(torch.float32)
    """
    _dtype.set_default_dtype(d)
    before = state.mode
    set_mode(mode_of(before.enabled, before.inference))
