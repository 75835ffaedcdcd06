"""Loading a state dict into a tree of modules."""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tracegrad._dtype import DType
from tracegrad._engine.trace import record
from tracegrad._grad_mode import no_grad
from tracegrad._handle import constant, tensor_of, write
from tracegrad._ops._declare import cast_rule
from tracegrad._tensor import Tensor
from tracegrad.nn._parameter import Parameter

if TYPE_CHECKING:
    from tracegrad.nn._module import Module


class _IncompatibleKeys(namedtuple("IncompatibleKeys", ["missing_keys", "unexpected_keys"])):
    """What `load` did not find, and what it found no place for."""

    __slots__ = ()

    def __repr__(self) -> str:
        return (
            super().__repr__()
            if self.missing_keys or self.unexpected_keys
            else "<All keys matched successfully>"
        )

    __str__ = __repr__


def load(root: Module, given: Mapping[str, Any], strict: bool, assign: bool) -> _IncompatibleKeys:
    """Do what ``Module.load_state_dict`` says."""
    if not isinstance(given, Mapping):
        raise TypeError(f"Expected state_dict to be dict-like, got {type(given)}.")
    loading = _Loading(given, assign)
    with no_grad():
        loading.load(root, "")
    errors = loading.errors
    if strict:
        for keys, what in ((loading.unexpected, "Unexpected"), (loading.missing, "Missing")):
            if keys:
                names = ", ".join(f'"{k}"' for k in keys)
                errors.insert(0, f"{what} key(s) in state_dict: {names}. ")
    if errors:
        raise RuntimeError(f"Error(s) in loading state_dict for {type(root).__name__}:\n\t" + "\n\t".join(errors))
    return _IncompatibleKeys(loading.missing, loading.unexpected)


class _Loading:
    """One state dict on its way into the modules."""

    def __init__(self, given: Mapping[str, Any], assign: bool):
        self.metadata = getattr(given, "_metadata", None) or {}
        self.state = OrderedDict(given)  # hooks may change it
        self.assign = assign
        self.known: set[str] = set()  # keys that there is a place for
        self.missing: list[str] = []
        self.unexpected: list[str] = []
        self.errors: list[str] = []

    def load(self, module: Module, prefix: str) -> None:
        """Load the part of a module and of those below it, with their hooks before and after."""
        metadata = self.metadata.get(prefix[:-1], {})
        for hook in module._load_state_dict_pre_hooks.values():
            hook(self.state, prefix, metadata, True, self.missing, self.unexpected, self.errors)
        self.own(module, prefix)
        for name, child in module._modules.items():
            if child is not None:
                self.load(child, f"{prefix}{name}.")
        further = self.known.union(self.unexpected)
        self.unexpected += [key for key in self.state if key.startswith(prefix) and key not in further]
        for hook in module._load_state_dict_post_hooks.values():
            if hook(module, _IncompatibleKeys(self.missing, self.unexpected)) is not None:
                raise AssertionError(
                    "Hooks registered with ``register_load_state_dict_post_hook`` are not expected to return new "
                    "values, if incompatible_keys need to be modified, it should be done inplace.")

    def own(self, module: Module, prefix: str) -> None:
        """Load a module's own parameters and buffers."""
        for held in (module._parameters, module._buffers):
            for name, own in held.items():
                if own is None or name in module._non_persistent_buffers_set:
                    continue
                key = prefix + name
                self.known.add(key)
                if key not in self.state:
                    self.missing.append(key)
                    continue
                given = self.state[key]
                if not isinstance(given, Tensor):
                    self.errors.append(f'While copying the parameter named "{key}", expected torch.Tensor or '
                                       f"Tensor-like object from checkpoint but received {type(given)}")
                elif given.shape != own.shape:
                    self.errors.append(f"size mismatch for {key}: copying a param with shape {given.shape} from "
                                       f"checkpoint, the shape in current model is {own.shape}.")
                elif not self.assign:
                    _copy(own, given)
                elif held is module._parameters and not isinstance(given, Parameter):
                    module._parameters[name] = Parameter(given, own.requires_grad)
                else:
                    held[name] = given  # type: ignore[assignment]


def cast(t: Tensor, dtype: DType) -> Tensor:
    """Return ``t`` in another dtype; itself where it has that."""
    return t if t.dtype is dtype else record(cast_rule, (dtype,), t)


def _copy(target: Tensor, source: Tensor) -> None:
    """Give ``target`` the elements of ``source``, in its own dtype and on its own device."""
    if source.device is not target.device:
        source = source.to(target.device)
    source = cast(source, target.dtype)
    write(target, tensor_of(constant(source._value)))
