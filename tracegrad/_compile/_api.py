"""``compile`` with PyTorch's arguments, and what it makes of a module."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

from tracegrad._compile._function import Compiled
from tracegrad._errors import UnsupportedError
from tracegrad.nn import Module, _module

_MODES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")
_BACKENDS = ("inductor", "xla")


def compile(
    model: Any = None,
    *,
    fullgraph: bool = True,
    dynamic: bool | None = None,
    backend: Any = None,
    mode: str | None = None,
    options: dict[str, Any] | None = None,
    name: str | None = None,
    disable: bool = False,
) -> Any:
    """Return a function, or a module, that does what ``model`` does in one program, without running its Python.

    The first calls run the function and record what it does; when two of them did the same, later calls run the
    compiled program alone: it reads parameters, buffers, optimizer states, learning rates and the state of random
    generators as they are then, and writes back what the function writes. A whole training step may be compiled:
    ``zero_grad``, forward, ``backward``, clipping, ``step`` of the optimizer and of a schedule. Calls with other
    shapes, dtypes, numbers, modes (``train``, ``eval``, ``no_grad``) or objects are recorded anew, up to 8
    specialisations; beyond, the function runs as it is, with a warning. `explain` tells what was recorded and why.

    Without Python, `print`, counters, lists that are appended to and the like do nothing at a replay. What such code
    reads is looked at before each: globals and closures that the code names, attributes of objects that it names, items
    of lists and dicts, everything of modules. If it changes, the function is recorded again; if the function changes it
    itself, that is an error. Not seen are changes elsewhere: files, clocks, the elements of NumPy arrays, attributes
    reached by ``getattr`` with a computed name, attributes of tensors, and globals and objects of installed packages.

    Args:
        model: a function, a method, a module or None, to be used as a decorator.
        fullgraph: raise where a value is read inside (``if loss > 1``, ``.item()``), or where the calls do not repeat.
            With False, such functions run without being compiled. PyTorch's default is False.
        dynamic: None or False: each shape is a specialisation.
        backend: None, ``"inductor"`` or ``"xla"``; XLA in all cases.
        mode: one of PyTorch's; there is one way to compile here.
        options: None.
        name: the name that messages have.
        disable: return ``model`` as it is.

    Raises:
        UnsupportedError: for options that cannot be honoured; by the compiled function, where its Python cannot be
            skipped.

    See https://docs.pytorch.org/docs/stable/generated/torch.compile.html

    Example:
        >>> import tracegrad as torch
        >>> w = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> optimizer = torch.optim.SGD([w], lr=0.5)
        >>> @torch.compile
        ... def step(x):
        ...     optimizer.zero_grad()
        ...     loss = (w * x).sum()
        ...     loss.backward()
        ...     optimizer.step()
        ...     return loss.detach()
        >>> [step(torch.ones(2)).item() for _ in range(4)]
        [3.0, 2.0, 1.0, 0.0]
    """
    if mode is not None and mode not in _MODES:
        raise RuntimeError(f"Unrecognized mode={mode}, should be one of: {', '.join(_MODES)}")
    if backend is not None and backend not in _BACKENDS:
        raise UnsupportedError(f"compile: expected a backend among {_BACKENDS}, got {backend!r}. Programs are compiled "
                               "by XLA; leave the backend out.")  # fmt: skip
    if dynamic:
        raise UnsupportedError("compile: dynamic=True is not supported: XLA's programs have fixed shapes. Leave it "
                               "out; each shape is compiled at its first calls.")  # fmt: skip
    if options:
        raise UnsupportedError(f"compile: expected no options, got {sorted(options)}. They are PyTorch's compiler's.")

    def compiled(function: Any) -> Any:
        if disable:
            return function
        if isinstance(function, Module):
            return CompiledModule(function, fullgraph, name)
        if not callable(function):
            raise RuntimeError("torch._dynamo.optimize called on a non function")
        if inspect.isclass(function):
            raise UnsupportedError(f"compile: expected a function or a module, got the class {function.__name__}. "
                                   "Compile one of its methods, or an instance that is a module.")  # fmt: skip
        if inspect.isgeneratorfunction(function) or inspect.iscoroutinefunction(function):
            raise UnsupportedError(f"compile: {function.__name__} is a generator or a coroutine, whose Python must "
                                   "run. Compile what it calls between two results.")  # fmt: skip
        made = Compiled(function, fullgraph)
        if name is not None:
            made.__name__ = name
        return made

    return compiled if model is None else compiled(model)


class CompiledModule(Module):
    """A module whose calls are compiled; everything else is the module that it was made of, ``_orig_mod``.

    See https://docs.pytorch.org/docs/stable/generated/torch.compile.html
    """

    def __init__(self, module: Module, strict: bool = True, name: str | None = None):
        super().__init__()
        self._orig_mod = module
        compiled = Compiled(module.__call__, strict)
        compiled.__name__ = name or type(module).__name__
        object.__setattr__(self, "_compiled", compiled)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the module returns."""
        return self._compiled(*args, **kwargs)

    forward: Callable[..., Any] = __call__

    @property
    def training(self) -> bool:
        """Whether the module is in training mode."""
        return self._orig_mod.training

    @training.setter
    def training(self, mode: bool) -> None:
        if "_orig_mod" in self.__dict__.get("_modules", ()):
            self._orig_mod.training = mode

    def __getattr__(self, name: str) -> Any:
        if name == "_orig_mod":
            return self.__dict__["_modules"][name]
        return getattr(self._orig_mod, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("_orig_mod", "training"):
            super().__setattr__(name, value)
        else:
            setattr(self._orig_mod, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._orig_mod, name)

    def __len__(self) -> int:
        return len(self._orig_mod)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._orig_mod)

    def __getitem__(self, index: Any) -> Any:
        inner: Any = self._orig_mod
        return inner[index]

    def __reduce__(self) -> Any:
        return CompiledModule, (self._orig_mod, self._compiled._strict, self._compiled.__name__)


CompiledModule.__module__ = "tracegrad"
_module.bind(compile)
