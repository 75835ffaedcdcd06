"""The optimizer: groups of parameters, the state of each, and a step that is one recorded node per group."""

from __future__ import annotations

import functools
import warnings
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from operator import is_
from typing import Any

import numpy as np

from tracegrad._dtype import type_name
from tracegrad._engine import trace
from tracegrad._engine.flush import flush, flush_current
from tracegrad._engine.op import Rule
from tracegrad._engine.recording import recording
from tracegrad._engine.renewing import renew
from tracegrad._engine.value import Input, concrete
from tracegrad._errors import UnsupportedError
from tracegrad._grad_mode import enable_grad, no_grad
from tracegrad._handle import Handle, constant, is_alone, tensor_of, write
from tracegrad._ops._declare import cast_rule
from tracegrad._tensor import Tensor
from tracegrad.autograd._hooks import RemovableHandle
from tracegrad.autograd._hooks import put as put_hook
from tracegrad.autograd._leaves import fill_with_zeros
from tracegrad.optim._packing import Pack, announce, avals, pack, unpack

Group = dict[str, Any]


class Optimizer:
    """The base of optimizers: one of your own overrides ``step`` and uses ``param_groups`` and ``state``.

    Args:
        params: parameters, named parameters, or dicts of some under ``"params"`` and of options.
        defaults: the options of groups that do not name them.

    Raises:
        ValueError: where there are no parameters, or one is in two groups or made by an op.
        TypeError: where something else than tensors is given.

    See https://docs.pytorch.org/docs/stable/optim.html
    """

    _stepping = False  # whether a step with hooks is under way

    def __init__(self, params: Iterable[Any], defaults: Group):
        if isinstance(params, Tensor):
            raise TypeError(
                "params argument given to the optimizer should be an iterable of Tensors or dicts, but got "
                f"torch.{type_name(params.dtype)}Tensor"
            )
        self.defaults = defaults
        self._states: defaultdict[Any, dict[str, Any]] = defaultdict(dict)
        self._packs: list[Pack] = []
        self.param_groups: list[Group] = []
        self._stepped = False  # for the schedulers' warning
        self._hooks: tuple[OrderedDict[int, Any], OrderedDict[int, Any]] | None = None  # before and after each step
        groups = list(params)
        if not groups:
            raise ValueError("optimizer got an empty parameter list")
        if not isinstance(groups[0], dict):
            groups = [{"params": groups}]
        for group in groups:
            self.add_param_group(group)
        if any(_of_all):
            _have_hooks(type(self))

    def add_param_group(self, param_group: Group) -> None:
        """Add parameters with options of their own; what is left out comes from ``defaults``."""
        if not isinstance(param_group, dict):
            raise TypeError(f"param_group must be a dict, but got {type(param_group)}")
        given = param_group["params"]
        if isinstance(given, set):
            raise TypeError(
                "optimizer parameters need to be organized in ordered collections, but the ordering of "
                "tensors in sets will change between runs. Please use a list instead."
            )
        given = [given] if isinstance(given, Tensor) else list(given)
        names = [x[0] for x in given if isinstance(x, tuple)]
        params = [x[1] if isinstance(x, tuple) else x for x in given]
        if names and len(names) != len(params):
            raise ValueError(
                "all optimizer params should be with/without names. Some param names are missing"
            )
        for p in params:
            if not isinstance(p, Tensor):
                raise TypeError(
                    f"optimizer can only optimize Tensors, but one of the params is {type(p).__name__}"
                )
            if not (p.is_leaf or p._retains):
                raise ValueError("can't optimize a non-leaf Tensor")
        if len({id(p) for p in params}) != len(params):
            warnings.warn(
                "optimizer contains a parameter group with duplicate parameters; in future, this will cause "
                "an error; see github.com/pytorch/pytorch/issues/40967 for more information",
                stacklevel=3,
            )
        known = {id(p) for group in self.param_groups for p in group["params"]}
        if any(id(p) in known for p in params):
            raise ValueError("some parameters appear in more than one parameter group")
        param_group["params"] = params
        if names:
            param_group["param_names"] = names
        for name, default in self.defaults.items():
            param_group.setdefault(name, default)
        self.param_groups.append(param_group)
        for p in params:  # what initialises a model is a program of its own
            if p._value.array is None and p._value.trace is not None:
                flush(p._value.trace, "parameters were handed to an optimizer")
        announce(params)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all parameters, or fill them with zeros."""
        for group in self.param_groups:
            for p in group["params"]:
                if set_to_none:
                    p._grad = None
                elif p._grad is not None:
                    fill_with_zeros(p._grad)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient; call ``closure`` first and return its result."""
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        compiled = recording()
        if compiled is not None:
            compiled.lenient = "an optimizer makes its states"
        for group in self.param_groups:
            params = [p for p in group["params"] if p._grad is not None]
            for together in _apart(params):
                self._update(group, together)
        if compiled is not None:
            compiled.lenient = ""
            if self._has_hooks():
                compiled.doubt("the step of an optimizer has hooks")
        self._stepped = True
        if trace.state.trace.has_backward:
            flush_current("an optimizer step ended")
        return loss

    def register_step_pre_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Have ``hook(optimizer, args, kwargs)`` called before each step; it may return new ``(args, kwargs)``.

        ``args`` begins with the optimizer itself. An override of ``step`` has the hooks too.

        Returns:
            A handle whose ``remove()`` takes the hook away.
        """
        return self._register(0, hook)

    def register_step_post_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Have ``hook(optimizer, args, kwargs)`` called after each step.

        Returns:
            A handle whose ``remove()`` takes the hook away.
        """
        return self._register(1, hook)

    def _register(self, when: int, hook: Callable[..., Any]) -> RemovableHandle:
        if self._hooks is None:
            self._hooks = (OrderedDict(), OrderedDict())
        _have_hooks(type(self))
        return put_hook(self._hooks[when], hook)

    def _has_hooks(self) -> bool:
        return self._hooks is not None or any(_of_all)

    def _update(self, group: Group, params: list[Tensor]) -> None:
        """Record the update of ``params``, which all have gradients, as an op that is not differentiable."""
        raise NotImplementedError

    # -- state -----------------------------------------------------------------------------------------------

    @property
    def state(self) -> defaultdict[Any, dict[str, Any]]:
        """The states of each parameter, by name; see NOTE [Packed states]."""
        if self._packs:
            self._unpack(self._packs)
        return self._states

    @state.setter
    def state(self, states: defaultdict[Any, dict[str, Any]]) -> None:
        self._states, self._packs = states, []

    def _packed(self, params: list[Tensor], names: tuple[str, ...]) -> Pack | None:
        """Return the states ``names`` of ``params`` if they are one value; else every state of them is a tensor now.

        Parameters that have another shape or dtype than when it was made (``p.data = ...``) need tensors.
        """
        ids = list(map(id, params))
        for known in self._packs:
            if known.ids == ids and known.names == names and known.of == avals(params):
                return known
        chosen = set(ids)
        self._unpack([known for known in self._packs if not chosen.isdisjoint(known.ids)])
        return None

    def _pack(self, params: list[Tensor], names: tuple[str, ...]) -> Pack | None:
        """Make the states ``names`` of ``params`` one value; None where they must stay tensors (see `pack`)."""
        made = pack(params, [self._states[p] for p in params], names)
        if made is not None:
            self._packs.append(made)
        return made

    def _unpack(self, packs: list[Pack]) -> None:
        """Give the states of ``packs`` back as tensors."""
        for packed in list(packs):
            for p, state in zip(packed.params, unpack(packed)):
                self._states[p].update(state)
            self._packs.remove(packed)

    def _taken(self, state: dict[str, Any]) -> dict[str, Any]:
        """Return one parameter's state from what a state dict has of it."""
        return state

    def state_dict(self) -> dict[str, Any]:
        """Return ``{"state", "param_groups"}`` in PyTorch's layout: parameters are numbered in order."""
        number: dict[int, int] = {}
        groups = []
        for group in self.param_groups:
            packed = {key: value for key, value in group.items() if key != "params"}
            packed["params"] = [number.setdefault(id(p), len(number)) for p in group["params"]]
            groups.append(packed)
        state: dict[Any, Any] = {number.get(id(p), p): s for p, s in self.state.items()}
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what `state_dict` returned, from this optimizer or another for the same parameters.

        Raises:
            ValueError: where the groups do not match in number or size.
        """
        groups = [{**g} for g in state_dict["param_groups"]]
        if len(groups) != len(self.param_groups):
            raise ValueError("loaded state dict has a different number of parameter groups")
        params: dict[Any, Tensor] = {}
        for own, group in zip(self.param_groups, groups):
            if len(own["params"]) != len(group["params"]):
                raise ValueError(
                    "loaded state dict contains a parameter group that doesn't match the size of "
                    "optimizer's group"
                )
            params.update(zip(group["params"], own["params"]))
        state: defaultdict[Any, dict[str, Any]] = defaultdict(dict)
        for key, held in state_dict["state"].items():
            if key in params:
                p = params[key]
                taken = self._taken(dict(held))
                state[p] = {
                    k: _like(p, v, k) if isinstance(v, Tensor) else deepcopy(v) for k, v in taken.items()
                }
            else:
                state[key] = held
        for own, group in zip(self.param_groups, groups):
            group.pop("params")
            own.update(deepcopy(group))
        self.state = state

    def __getstate__(self) -> dict[str, Any]:
        kept = {key: value for key, value in self.__dict__.items() if key not in ("_states", "_packs")}
        return {**kept, "state": self.state}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update({key: value for key, value in state.items() if key != "state"})
        self.state = state["state"]

    def __repr__(self) -> str:
        lines = []
        for i, group in enumerate(self.param_groups):
            lines += ["", f"Parameter Group {i}"]
            lines += [f"    {key}: {group[key]}" for key in sorted(group) if key != "params"]
        return f"{type(self).__name__} (" + "\n".join(lines) + "\n)"


Optimizer.__module__ = "tracegrad.optim"

#: The hooks of all optimizers, called before and after each step.
_of_all: tuple[OrderedDict[int, Any], OrderedDict[int, Any]] = (OrderedDict(), OrderedDict())


def register_optimizer_step_pre_hook(hook: Callable[..., Any]) -> RemovableHandle:
    """Have ``hook(optimizer, args, kwargs)`` called before each step of every optimizer.

    It may return new ``(args, kwargs)``; ``args`` begins with the optimizer itself.

    Returns:
        A handle whose ``remove()`` takes the hook away.

    Example:
        >>> import tracegrad as torch
        >>> from tracegrad.optim.optimizer import register_optimizer_step_pre_hook
        >>> optimizer = torch.optim.SGD([torch.ones(2, requires_grad=True)], lr=0.1)
        >>> with register_optimizer_step_pre_hook(lambda optimizer, args, kwargs: print("a step")):
        ...     optimizer.step()
        a step
    """
    _have_hooks(Optimizer)
    return put_hook(_of_all[0], hook)


def register_optimizer_step_post_hook(hook: Callable[..., Any]) -> RemovableHandle:
    """Have ``hook(optimizer, args, kwargs)`` called after each step of every optimizer.

    Returns:
        A handle whose ``remove()`` takes the hook away.
    """
    _have_hooks(Optimizer)
    return put_hook(_of_all[1], hook)


def _have_hooks(of: type[Optimizer]) -> None:
    """See to it that the ``step`` of a class, and of those derived from it, calls hooks: nothing else pays for them."""
    step = of.__dict__.get("step")
    if step is not None and not hasattr(step, "hooked"):
        of.step = _hooked(step)  # type: ignore[method-assign]
    for base in of.__mro__[1:] if step is None else ():
        if "step" in base.__dict__:
            _have_hooks(base)
            break
    for derived in of.__subclasses__():
        if "step" in derived.__dict__:
            _have_hooks(derived)


def _hooked(step: Any) -> Any:
    """Return ``step`` with the hooks around it; one that another step of the same optimizer calls has none."""

    @functools.wraps(step)
    def with_hooks(*args: Any, **kwargs: Any) -> Any:
        self = args[0]
        if self._stepping or not self._has_hooks():
            return step(*args, **kwargs)
        before, after = self._hooks or ({}, {})
        for hook in [*_of_all[0].values(), *before.values()]:
            changed = hook(self, args, kwargs)
            if changed is not None:
                if not (isinstance(changed, tuple) and len(changed) == 2):
                    raise RuntimeError(f"{step} must return None or a tuple of (new_args, new_kwargs), but got "
                                       f"{changed}.")
                args, kwargs = changed
        self._stepping = True
        try:
            result = step(*args, **kwargs)
        finally:
            self._stepping = False
        for hook in [*after.values(), *_of_all[1].values()]:
            hook(self, args, kwargs)
        return result

    with_hooks.hooked = True  # type: ignore[attr-defined]
    return with_hooks


def _like(p: Tensor, state: Tensor, key: str) -> Tensor:
    """Return a copy of a state tensor, on the device and in the floating-point dtype of ``p``."""
    with no_grad():
        if key != "step" and p.dtype.is_floating_point and state.dtype is not p.dtype:
            return trace.record(cast_rule, (p.dtype,), state)  # type: ignore[no-any-return]
        if key != "step" and state.device is not p.device:
            return state.to(p.device)
        return tensor_of(constant(state._value))


def zeros_like(p: Tensor) -> Tensor:
    """Return zeros, concrete so that the first step is the same program as the later ones."""
    of = p._value.spec.aval
    return tensor_of(concrete(np.zeros(of.shape, of.dtype.np), of))


def note_update(optimizer: Optimizer, group: Group, held: Sequence[Any], numbers: Callable[[], tuple[Any, ...]],
                flags: Callable[[], tuple[Any, ...]]) -> None:  # fmt: skip
    """Tell the recording of a compiled function, where there is one, what the update that follows takes from Python.

    Args:
        optimizer: whose update it is.
        group: which group.
        held: their states: one `Pack`, or nothing.
        numbers: gives the hyperparameters among the operands.
        flags: gives what of the group decides which operation is recorded.
    """
    compiled = recording()
    if compiled is None:
        return
    packed = held[0] if held else None
    if packed is not None and not isinstance(packed, Pack):
        compiled.doubt("somebody holds states of an optimizer, or its parameters have seen different numbers of steps",
                       passing=True)  # fmt: skip
        return
    recorded, count, chosen, size = flags(), len(optimizer.param_groups), group["params"], len(group["params"])
    seen: list[Any] = []  # the options that `known` was made of
    known: tuple[float, ...] = ()

    def same() -> bool:
        return (len(group) == len(seen) and all(map(is_, group.values(), seen)) and len(chosen) == size
                and optimizer._hooks is None and len(optimizer.param_groups) == count
                and (packed is None or packed in optimizer._packs))  # fmt: skip

    def holds() -> bool:
        return same() or (flags() == recorded and group["params"] is chosen and len(chosen) == size
                          and optimizer._hooks is None and len(optimizer.param_groups) == count
                          and (packed is None or packed in optimizer._packs))  # fmt: skip

    def again() -> tuple[float, ...]:
        nonlocal known, seen
        if not (len(group) == len(seen) and all(map(is_, group.values(), seen))):
            known, seen = tuple([float(x) for x in numbers() if not isinstance(x, Handle)]), list(group.values())
        return known

    compiled.effect(("update", id(optimizer), id(group), id(packed), recorded), again, holds, same=same)


def update(rule: Rule, flags: tuple[Any, ...], params: list[Tensor], states: Sequence[Any],
           numbers: Sequence[Any]) -> None:  # fmt: skip
    """Record an update, and point the parameters, then their states, at their new values.

    Args:
        rule: that of the operation; its params are their number, ``flags``, and whether it renews them.
        flags: what of the group decides which operation it is.
        params: what is updated; all have gradients.
        states: those of the parameters, one by one, or a `Pack`.
        numbers: the hyperparameters, each an input of the program from the start where it is no tensor.
    """
    renews = all([p._value.spec.wants and p._variable is not None and (p._storage is None or is_alone(p))
                  for p in params])  # fmt: skip
    how = len(params), *flags, renews
    numbers = [x if type(x) is float or isinstance(x, Handle) else float(x) for x in numbers]
    operands = [*params, *[p._grad for p in params], *states]
    new = renew(rule, how, operands, numbers) if renews else None
    if new is None:
        inputs = [Input(x) if type(x) is float else x for x in numbers]
        new = [t._value for t in trace.record(rule, how, *operands, *inputs)]
    for p, value in zip(params, new):
        if value.source is None:
            write(p, tensor_of(value))
        else:  # `Lowering.renews`
            p._value = value
            if p._storage is None:
                p._writes += 1
            else:
                p._storage.count()
    for s, value in zip(states, new[len(params) :]):
        s._value = value


def _apart(params: list[Tensor]) -> list[list[Tensor]]:
    """Return the parameters in groups that are updated at once: of those that share elements each comes in its turn."""
    shared = [p._storage.group or p._storage for p in params if p._storage is not None]
    if len({*map(id, shared)}) < len(shared):
        return [[p] for p in params]
    return [params] if params else []


def check_options(lr: Any, weight_decay: Any, differentiable: bool) -> None:
    """Raise in PyTorch's words for options out of range."""
    if isinstance(lr, Tensor) and lr.numel() != 1:
        raise ValueError("Tensor lr must be 1-element")
    if not isinstance(lr, Tensor) and not lr >= 0.0:
        raise ValueError(f"Invalid learning rate: {lr}")
    if not weight_decay >= 0.0:
        raise ValueError(f"Invalid weight_decay value: {weight_decay}")
    if differentiable:
        raise UnsupportedError(
            "differentiable=True is not supported: write the update with tensor operations instead"
        )
