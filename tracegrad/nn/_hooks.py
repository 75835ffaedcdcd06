"""Hooks of modules: before and after the forward, around the backward, at state dicts; of one module or of all.

A module without hooks has none of the dictionaries below: they are made at the first look, and until a first hook of
any module is registered, ``Module.__call__`` asks one flag and nothing else.
"""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

from tracegrad._engine.trace import state
from tracegrad._tensor import Tensor
from tracegrad.autograd._function import Function
from tracegrad.autograd._hooks import Hooks, RemovableHandle

Hook = Callable[..., Any]


class _Flags:
    used = False  # whether any module ever had a hook
    special = False  # whether that, or any module was compiled
    full: bool | None = None  # whether the backward hooks of all modules are full ones


flags = _Flags()
_forward_pre: Hooks = OrderedDict()  # of all modules
_forward: Hooks = OrderedDict()
_forward_with_kwargs: Hooks = OrderedDict()
_forward_always: Hooks = OrderedDict()
_backward_pre: Hooks = OrderedDict()
_backward: Hooks = OrderedDict()


def _add(hooks: Hooks, hook: Hook, marks: dict[str, tuple[Hooks, bool]] | None = None,
         prepend: bool = False) -> RemovableHandle:  # fmt: skip
    flags.used = flags.special = True
    extra = [marked for marked, _ in (marks or {}).values()]
    handle = RemovableHandle(hooks, extra_dict=extra)
    hooks[handle.id] = hook
    for marked, is_marked in (marks or {}).values():
        if is_marked:
            marked[handle.id] = hook
    if prepend:
        hooks.move_to_end(handle.id, last=False)
    return handle


class _Dict:
    """An attribute that is a dictionary of hooks, made at the first look."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, module: Any, owner: type) -> Any:
        if module is None:
            return self
        return module.__dict__.setdefault(self.name, OrderedDict())


class Hooked:
    """What a module has of hooks."""

    _forward_pre_hooks = _Dict()
    _forward_pre_hooks_with_kwargs = _Dict()
    _forward_hooks = _Dict()
    _forward_hooks_with_kwargs = _Dict()
    _forward_hooks_always_called = _Dict()
    _backward_pre_hooks = _Dict()
    _backward_hooks = _Dict()
    _state_dict_pre_hooks = _Dict()
    _state_dict_hooks = _Dict()
    _load_state_dict_pre_hooks = _Dict()
    _load_state_dict_post_hooks = _Dict()
    _is_full_backward_hook: bool | None = None

    def register_forward_pre_hook(self, hook: Hook, *, prepend: bool = False,
                                  with_kwargs: bool = False) -> RemovableHandle:  # fmt: skip
        """Call ``hook(module, args)`` before the forward; it may return other arguments.

        Args:
            hook: the hook.
            prepend: put it before the others.
            with_kwargs: call ``hook(module, args, kwargs)`` instead; it may return both.

        Returns:
            A handle whose ``remove()`` removes the hook.
        """
        marks = {"kwargs": (self._forward_pre_hooks_with_kwargs, with_kwargs)}
        return _add(self._forward_pre_hooks, hook, marks, prepend)

    def register_forward_hook(self, hook: Hook, *, prepend: bool = False, with_kwargs: bool = False,
                              always_call: bool = False) -> RemovableHandle:  # fmt: skip
        """Call ``hook(module, args, output)`` after the forward; it may return another output.

        Args:
            hook: the hook.
            prepend: put it before the others.
            with_kwargs: call ``hook(module, args, kwargs, output)`` instead.
            always_call: call it also where the forward raises.

        Returns:
            A handle whose ``remove()`` removes the hook.

        Example:
            >>> import tracegrad as torch
            >>> layer = torch.nn.ReLU()
            >>> handle = layer.register_forward_hook(lambda module, args, output: output + 1)
            >>> layer(torch.ones(2))
            tensor([2., 2.])
        """
        marks = {"kwargs": (self._forward_hooks_with_kwargs, with_kwargs),
                 "always": (self._forward_hooks_always_called, always_call)}  # fmt: skip
        return _add(self._forward_hooks, hook, marks, prepend)

    def register_full_backward_pre_hook(self, hook: Hook, prepend: bool = False) -> RemovableHandle:
        """Call ``hook(module, grad_output)`` before the backward of this module; it may return other gradients."""
        return _add(self._backward_pre_hooks, hook, prepend=prepend)

    def register_full_backward_hook(self, hook: Hook, prepend: bool = False) -> RemovableHandle:
        """Call ``hook(module, grad_input, grad_output)`` after the backward of this module.

        Both are tuples, with None for what is no tensor; the hook may return another ``grad_input``.

        Raises:
            RuntimeError: where the module has a hook of the old kind.
        """
        self._one_kind(True)
        return _add(self._backward_hooks, hook, prepend=prepend)

    def register_backward_hook(self, hook: Hook) -> RemovableHandle:
        """Call ``hook(module, grad_input, grad_output)`` after the last step of the forward was pulled through.

        This is the old kind; `register_full_backward_hook` sees the gradients of the whole module.
        """
        self._one_kind(False)
        return _add(self._backward_hooks, hook)

    def _one_kind(self, full: bool) -> None:
        if self._is_full_backward_hook is (not full):
            raise RuntimeError("Cannot use both regular backward hooks and full backward hooks on a single Module. "
                               "Please use only one of them.")
        self.__dict__["_is_full_backward_hook"] = full

    def register_state_dict_pre_hook(self, hook: Hook) -> RemovableHandle:
        """Call ``hook(module, prefix, keep_vars)`` before this module's part of a state dict is made."""
        return _add(self._state_dict_pre_hooks, hook)

    def register_state_dict_post_hook(self, hook: Hook) -> RemovableHandle:
        """Call ``hook(module, state_dict, prefix, local_metadata)`` after it was made; the hook may change it."""
        return _add(self._state_dict_hooks, _Strict(hook))

    def _register_state_dict_hook(self, hook: Hook) -> RemovableHandle:
        return _add(self._state_dict_hooks, hook)

    def register_load_state_dict_pre_hook(self, hook: Hook) -> RemovableHandle:
        """Call ``hook`` before this module's part of a state dict is loaded.

        Its arguments are the module, the state dict, which it may change, the prefix, the metadata, True, and the lists
        of missing keys, unexpected keys and messages.
        """
        return _add(self._load_state_dict_pre_hooks, _WithModule(hook, self))

    def _register_load_state_dict_pre_hook(self, hook: Hook, with_module: bool = False) -> RemovableHandle:
        return _add(self._load_state_dict_pre_hooks, _WithModule(hook, self) if with_module else hook)

    def register_load_state_dict_post_hook(self, hook: Hook) -> RemovableHandle:
        """Call ``hook(module, incompatible_keys)`` after loading; the hook may change the two lists."""
        return _add(self._load_state_dict_post_hooks, hook)


class _WithModule:
    """A hook that gets its module first."""

    def __init__(self, hook: Hook, module: Any):
        self.hook, self.module = hook, module

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.hook(self.module, *args, **kwargs)


class _Strict:
    """A state dict hook that must return None."""

    def __init__(self, hook: Hook):
        self.hook = hook

    def __call__(self, *args: Any) -> None:
        if self.hook(*args) is not None:
            raise RuntimeError("state_dict post-hook must return None")


# -- hooks of all modules ----------------------------------------------------------------------------------------------


def register_module_forward_pre_hook(hook: Hook) -> RemovableHandle:
    """Call ``hook(module, args)`` before the forward of every module."""
    return _add(_forward_pre, hook)


def register_module_forward_hook(hook: Hook, *, with_kwargs: bool = False,
                                 always_call: bool = False) -> RemovableHandle:  # fmt: skip
    """Call ``hook(module, args, output)`` after the forward of every module."""
    marks = {"kwargs": (_forward_with_kwargs, with_kwargs), "always": (_forward_always, always_call)}
    return _add(_forward, hook, marks)


def register_module_full_backward_pre_hook(hook: Hook) -> RemovableHandle:
    """Call ``hook(module, grad_output)`` before the backward of every module."""
    return _add(_backward_pre, hook)


def register_module_full_backward_hook(hook: Hook) -> RemovableHandle:
    """Call ``hook(module, grad_input, grad_output)`` after the backward of every module."""
    return _add_global_backward(hook, True)


def register_module_backward_hook(hook: Hook) -> RemovableHandle:
    """Call ``hook(module, grad_input, grad_output)`` after the last step of every module's forward; the old kind."""
    return _add_global_backward(hook, False)


def _add_global_backward(hook: Hook, full: bool) -> RemovableHandle:
    if flags.full is (not full):
        raise RuntimeError("Cannot use both regular backward hooks and full backward hooks as a global Module hook. "
                           "Please use only one of them.")
    flags.full = full
    return _add(_backward, hook)


# -- calling -----------------------------------------------------------------------------------------------------------


def call(module: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Return a module's forward of the arguments, with all its hooks around it."""
    call = _Call(module, args, kwargs)
    try:
        return call.run()
    except Exception:
        call.after_error()
        raise


class _Call:
    """One call of a module that has hooks, or may have."""

    def __init__(self, module: Any, args: Any, kwargs: dict[str, Any]):
        self.module, self.args, self.kwargs = module, args, kwargs
        self.result: Any = None
        self.called: set[int] = set()

    def run(self) -> Any:
        """Return the result."""
        module, own = self.module, self.module.__dict__
        if _forward_pre or own.get("_forward_pre_hooks"):
            self.before()
        full: list[Hook] = []
        old: list[Hook] = []
        if _backward or own.get("_backward_hooks"):
            (full if flags.full else old).extend(_backward.values())
            (full if module._is_full_backward_hook else old).extend(module._backward_hooks.values())
        pre = [*_backward_pre.values(), *own.get("_backward_pre_hooks", {}).values()]
        around = _Around(module, full, pre) if full or pre else None
        if around is not None:
            self.args = around.inputs(self.args)
        self.result = module.forward(*self.args, **self.kwargs)
        for key, hook in self.forward_hooks():
            self.called.add(key)
            returned = self.hook(key, hook)
            if returned is not None:
                self.result = returned
        if around is not None:
            if not isinstance(self.result, (Tensor, tuple)):
                warnings.warn("For backward hooks to be called, module output should be a Tensor or a tuple of Tensors "
                              f"but received {type(self.result)}", stacklevel=4)
            self.result = around.outputs(self.result)
        if old:
            _hook_last_step(module, self.args, self.result, old)
        return self.result

    def before(self) -> None:
        """Call the hooks before the forward."""
        with_kwargs = self.module._forward_pre_hooks_with_kwargs
        for key, hook in (*_forward_pre.items(), *self.module._forward_pre_hooks.items()):
            if key in with_kwargs:
                returned = hook(self.module, self.args, self.kwargs)
                if returned is not None:
                    if not (isinstance(returned, tuple) and len(returned) == 2):
                        raise RuntimeError("forward pre-hook must return None or a tuple of (new_args, new_kwargs), "
                                           f"but got {returned}.")
                    self.args, self.kwargs = returned
            else:
                returned = hook(self.module, self.args)
                if returned is not None:
                    self.args = returned if isinstance(returned, tuple) else (returned,)

    def forward_hooks(self) -> Iterator[tuple[int, Hook]]:
        """Yield the hooks after the forward."""
        yield from list(_forward.items())
        yield from list(self.module.__dict__.get("_forward_hooks", {}).items())

    def hook(self, key: int, hook: Hook) -> Any:
        """Call one of them."""
        if key in _forward_with_kwargs or key in self.module._forward_hooks_with_kwargs:
            return hook(self.module, self.args, self.kwargs, self.result)
        return hook(self.module, self.args, self.result)

    def after_error(self) -> None:
        """Call the hooks that are called in any case, and were not yet."""
        for key, hook in self.forward_hooks():
            everywhere = key in _forward_always
            if key in self.called or not (everywhere or key in self.module._forward_hooks_always_called):
                continue
            try:
                returned = self.hook(key, hook)
                if returned is not None:
                    self.result = returned
            except Exception as error:
                which = "global module" if everywhere else "module"
                warnings.warn(f"{which} forward hook with ``always_call=True`` raised an exception that was silenced "
                              f"as another error was raised in forward: {error}", stacklevel=4)


# -- around the backward -----------------------------------------------------------------------------------------------


class BackwardHookFunction(Function):
    """An identity that stands where gradients enter a module or leave it."""

    @staticmethod
    def forward(ctx: Any, *args: Any) -> Any:
        """Return the arguments."""
        ctx.mark_non_differentiable(*[x for x in args if not x.requires_grad])
        return args

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        """Return the gradients."""
        return grad_outputs


class _Around:
    """The full backward hooks of one call: what arrived at the outputs, until the gradients of the inputs are there."""

    def __init__(self, module: Any, hooks: list[Hook], pre: list[Hook]):
        self.module, self.hooks, self.pre = module, hooks, pre
        self.grad_outputs: tuple[Any, ...] | None = None
        self.has_inputs = False
        self.count = 0

    def _pass(self, values: Any, hook: Callable[[list[int]], Hook]) -> tuple[Any, bool]:
        """Return ``values`` with the tensors through an identity that has a hook, and whether gradients go there."""
        places = [i for i, x in enumerate(values) if isinstance(x, Tensor)]
        tensors = [values[i] for i in places]
        if not (state.mode.grad and any(t.requires_grad for t in tensors)):
            return values, False
        made = BackwardHookFunction.apply(*tensors)
        next(t for t in made if t.requires_grad).grad_fn.register_hook(hook(places))
        changed = list(values)
        for i, t in zip(places, made):
            changed[i] = t
        return (tuple(changed) if type(values) is tuple else type(values)(*changed)), True

    def inputs(self, args: Any) -> Any:
        """Return the arguments, through the identity."""
        self.count = len(args)
        args, self.has_inputs = self._pass(args, self._at_inputs)
        return args

    def outputs(self, result: Any) -> Any:
        """Return the result, through the identity."""
        several = isinstance(result, tuple)
        values = result if several else (result,)
        passed, _ = self._pass(values, lambda places: self._at_outputs(places, len(values)))
        return passed if several else passed[0]

    def _at_inputs(self, places: list[int]) -> Hook:
        def hook(grad_inputs: tuple[Any, ...], _: Any) -> Any:
            if self.grad_outputs is None:
                return None  # gradients that did not come through the outputs, as in a second derivative
            found = _spread(places, grad_inputs, self.count)
            for user in self.hooks:
                returned = user(self.module, found, self.grad_outputs)
                if returned is None:
                    continue
                if len(returned) != len(found):
                    raise RuntimeError("Backward hook returned an invalid number of grad_input, got "
                                       f"{len(returned)}, but expected {len(found)}")
                found = returned
            self.grad_outputs = None
            return tuple(found[i] for i in places)

        return hook

    def _at_outputs(self, places: list[int], count: int) -> Hook:
        def hook(_: Any, grad_outputs: tuple[Any, ...]) -> Any:
            found: Any = _spread(places, grad_outputs, count)
            for user in self.pre:
                returned = user(self.module, found)
                if returned is None:
                    continue
                returned = returned if isinstance(returned, tuple) else (returned,)
                if len(returned) != len(found):
                    raise RuntimeError("Backward pre hook returned an invalid number of grad_output, got "
                                       f"{len(returned)}, but expected {len(found)}")
                found = returned
            self.grad_outputs = found
            if not self.has_inputs:
                self._without_inputs(found)
            return tuple(found[i] for i in places)

        return hook

    def _without_inputs(self, grad_outputs: Any) -> None:
        warnings.warn("Full backward hook is firing when gradients are computed with respect to module outputs since "
                      "no inputs require gradients. See https://docs.pytorch.org/docs/main/generated/torch.nn.Module.html"
                      "#torch.nn.Module.register_full_backward_hook for more details.", stacklevel=5)
        for user in self.hooks:
            returned = user(self.module, (None,) * self.count, grad_outputs)
            if returned is not None and not (isinstance(returned, tuple) and all(x is None for x in returned)):
                raise RuntimeError("Backward hook for Modules where no input requires gradient should always return "
                                   "None or None for all gradients.")
        self.grad_outputs = None


def _spread(places: list[int], values: tuple[Any, ...], count: int) -> tuple[Any, ...]:
    found = [None] * count
    for i, value in zip(places, values):
        found[i] = value
    return tuple(found)


def _hook_last_step(module: Any, args: Any, result: Any, hooks: list[Hook]) -> None:
    """Register hooks of the old kind at the step that made the result."""
    first = result
    while not isinstance(first, Tensor):
        first = next(v for v in first.values() if isinstance(v, Tensor)) if isinstance(first, dict) else first[0]
    step = first.grad_fn
    if step is None:
        return
    for hook in hooks:
        step.register_hook(_WithModule(hook, module))
    message = _shortcoming(args, result, step)
    if message:
        warnings.warn(f"Using {message}", FutureWarning, stacklevel=5)


def _shortcoming(args: Any, result: Any, step: Any) -> str:
    """Return what hooks of the old kind will not see, in PyTorch's words."""
    documented = "Please use register_full_backward_hook to get the documented behavior."
    results = (result,) if isinstance(result, Tensor) else result
    inputs = (args,) if isinstance(args, Tensor) else args
    for values, verb, what in ((results, "return", "output"), (inputs, "take as input", "input")):
        if not (isinstance(values, tuple) and all(isinstance(v, Tensor) for v in values)):
            return (f"non-full backward hooks on a Module that does not {verb} a single Tensor or a tuple of Tensors "
                    f"is deprecated and will be removed in future versions. This hook will be missing some of the "
                    f"grad_{what}. {documented}")
    steps = {v.grad_fn for v in results if v.grad_fn is not None}
    if not steps or (len(steps) == 1 and step not in steps):
        return ("a non-full backward hook when outputs are nested in python data structure is deprecated and will be "
                "removed in future versions. This hook will be missing some grad_output.")
    if len(steps) > 1:
        return ("a non-full backward hook when outputs are generated by different autograd Nodes is deprecated and "
                f"will be removed in future versions. This hook will be missing some grad_output. {documented}")
    if {v.grad_fn for v in inputs if v.grad_fn is not None} != {node for node, _ in step.next_functions}:
        return ("a non-full backward hook when the forward contains multiple autograd Nodes is deprecated and will be "
                f"removed in future versions. This hook will be missing some grad_input. {documented}")
    return ""
