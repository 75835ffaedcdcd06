"""The module: a tree of named parameters, buffers and submodules with a ``forward``."""

from __future__ import annotations

import builtins
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from tracegrad import _dtype
from tracegrad._device import Device
from tracegrad._dtype import DType, type_name
from tracegrad._grad_mode import no_grad
from tracegrad._ops.sharing import give
from tracegrad._tensor import Tensor
from tracegrad.autograd._leaves import fill_with_zeros
from tracegrad.nn import _hooks
from tracegrad.nn._loading import cast, load
from tracegrad.nn._parameter import Buffer, Parameter
from tracegrad.nn._pure import to_jax

T = TypeVar("T", bound="Module")


class _Changes:
    count = 0  # how often an attribute of any module was set: compiled functions look at modules again when it moved


changes = _Changes()
_compiler: Callable[..., Any]


def bind(compiler: Callable[..., Any]) -> None:
    """Set what `Module.compile` calls, which lives above modules."""
    global _compiler
    _compiler = compiler


class Module(_hooks.Hooked):
    """The base of all layers and models.

    Parameters, buffers and modules that are assigned to attributes are found by ``parameters()``,
    ``state_dict()``, ``to()`` and the like. A subclass calls ``super().__init__()`` first and defines ``forward``.

    See https://docs.pytorch.org/docs/stable/generated/torch.nn.Module.html

    Example:
        >>> import tracegrad as torch
        >>> class Scale(torch.nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.factor = torch.nn.Parameter(torch.tensor(2.0))
        ...     def forward(self, x):
        ...         return x * self.factor
        >>> [name for name, _ in Scale().named_parameters()]
        ['factor']
    """

    #: The version of this class's part of state dicts, which PyTorch raised where it changed it.
    _version: int = 1
    training: bool
    _parameters: dict[str, Parameter | None]
    _buffers: dict[str, Tensor | None]
    _modules: dict[str, Module | None]
    _non_persistent_buffers_set: set[str]

    def __init__(self) -> None:
        put = self.__dict__.__setitem__
        put("training", True)
        put("_parameters", {})
        put("_buffers", {})
        put("_non_persistent_buffers_set", set())
        put("_modules", {})

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return ``forward`` of the arguments, with the hooks around it."""
        if _hooks.flags.special:
            compiled = self.__dict__.get("_compiled_call_impl")
            return self._call_impl(*args, **kwargs) if compiled is None else compiled(*args, **kwargs)
        return self.forward(*args, **kwargs)

    def _call_impl(self, *args: Any, **kwargs: Any) -> Any:
        """Return what a call does where the module is not compiled."""
        if _hooks.flags.used:
            return _hooks.call(self, args, kwargs)
        return self.forward(*args, **kwargs)

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Have calls of this module run as one program, without their Python, from now on; see `tracegrad.compile`.

        ``forward`` itself, copies and pickles of the module are not compiled.

        Args:
            args: as `tracegrad.compile` has them, after the first.
            kwargs: likewise.

        See https://docs.pytorch.org/docs/stable/generated/torch.nn.Module.html#torch.nn.Module.compile

        Example:
            >>> import tracegrad as torch
            >>> model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU())
            >>> model.compile()
            >>> model(torch.ones(3, 2)).shape
            torch.Size([3, 2])
        """
        compiled = _compiler(self._call_impl, *args, **kwargs)
        self.__dict__["_compiled_call_impl"] = compiled
        _hooks.flags.special = True

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_compiled_call_impl"}

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Compute the module's result; every subclass defines it."""
        raise NotImplementedError(
            f'Module [{type(self).__name__}] is missing the required "forward" function'
        )

    # -- attributes ------------------------------------------------------------------------------------------

    def __getattr__(self, name: str) -> Any:
        own = self.__dict__
        try:
            return own["_parameters"][name]
        except KeyError:
            pass
        for kind in ("_modules", "_buffers"):
            held = own.get(kind)
            if held is not None and name in held:
                return held[name]
        raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")

    def __setattr__(self, name: str, value: Any) -> None:
        changes.count += 1
        own = self.__dict__
        if isinstance(value, Parameter):
            if "_parameters" not in own:
                raise AttributeError("cannot assign parameters before Module.__init__() call")
            self._forget(name, self._parameters)
            self.register_parameter(name, value)
        elif isinstance(value, Module):
            if "_modules" not in own:
                raise AttributeError("cannot assign module before Module.__init__() call")
            self._check_slot(name, value, "_parameters")
            self._forget(name, self._modules)
            self._modules[name] = value
        elif isinstance(value, Buffer):
            if "_buffers" not in own:
                raise AttributeError("cannot assign buffer before Module.__init__() call")
            self._check_slot(name, value, "_parameters", "_modules")
            self._forget(name, self._buffers)
            self.register_buffer(name, value, value.persistent)
        else:
            for kind in ("_parameters", "_modules", "_buffers"):
                if name in own.get(kind, ()):
                    if value is not None and not (kind == "_buffers" and isinstance(value, Tensor)):
                        self._check_slot(name, value, kind)
                    own[kind][name] = value
                    return
            object.__setattr__(self, name, value)

    def _check_slot(self, name: str, value: Any, *kinds: str) -> None:
        """Raise where ``name`` is one of ``kinds``, which ``value`` is not."""
        for kind in kinds:
            if name in self.__dict__[kind]:
                what, expected = _KINDS[kind]
                raise TypeError(
                    f"cannot assign '{_typename(value)}' as {what} '{name}' ({expected} or None expected)"
                )

    def _forget(self, name: str, but: Mapping[str, Any] | None = None) -> None:
        """Remove ``name`` from everything that holds it, except for ``but``: there it keeps its place."""
        for held in (self.__dict__, self._parameters, self._buffers, self._modules):
            if held is not but:
                held.pop(name, None)
        self._non_persistent_buffers_set.discard(name)

    def __delattr__(self, name: str) -> None:
        changes.count += 1
        if any(name in kind for kind in (self._parameters, self._buffers, self._modules)):
            self._forget(name)
        else:
            object.__delattr__(self, name)

    def __dir__(self) -> list[str]:
        names = {*super().__dir__(), *self._parameters, *self._modules, *self._buffers}
        return sorted(name for name in names if not name[:1].isdigit())

    def _check_name(self, name: Any, what: str, held: Mapping[str, Any]) -> None:
        if not isinstance(name, str):
            raise TypeError(f"{what} name should be a string. Got {_typename(name)}")
        if hasattr(self, name) and name not in held:
            raise KeyError(f"attribute '{name}' already exists")
        if "." in name:
            raise KeyError(f'{what} name can\'t contain "."' + (f", got: {name}" if what == "module" else ""))
        if name == "":
            raise KeyError(f'{what} name can\'t be empty string ""')

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Add a parameter under ``name``; None reserves the name."""
        if "_parameters" not in self.__dict__:
            raise AttributeError("cannot assign parameter before Module.__init__() call")
        self._check_name(name, "parameter", self._parameters)
        if param is not None:
            if not isinstance(param, Parameter):
                raise TypeError(
                    f"cannot assign '{_typename(param)}' object to parameter '{name}' "
                    "(torch.nn.Parameter or None required)"
                )
            if not param.is_leaf:
                raise ValueError(
                    f"Cannot assign non-leaf Tensor to parameter '{name}'. Model parameters must be "
                    f"created explicitly. To express '{name}' as a function of another Tensor, compute "
                    "the value in the forward() method."
                )
        changes.count += 1
        self._parameters[name] = param

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Add a tensor that is state but no parameter; ``persistent`` puts it in the ``state_dict``."""
        if "_buffers" not in self.__dict__:
            raise AttributeError("cannot assign buffer before Module.__init__() call")
        self._check_name(name, "buffer", self._buffers)
        if tensor is not None and not isinstance(tensor, Tensor):
            raise TypeError(
                f"cannot assign '{_typename(tensor)}' object to buffer '{name}' "
                "(torch Tensor or None required)"
            )
        changes.count += 1
        self._buffers[name] = tensor
        if persistent:
            self._non_persistent_buffers_set.discard(name)
        else:
            self._non_persistent_buffers_set.add(name)

    def add_module(self, name: str, module: Module | None) -> None:
        """Add a submodule under ``name``."""
        if not isinstance(module, Module) and module is not None:
            raise TypeError(f"{_typename(module)} is not a Module subclass")
        self._check_name(name, "module", self._modules)
        changes.count += 1
        self._modules[name] = module

    def register_module(self, name: str, module: Module | None) -> None:
        """Add a submodule under ``name``, as `add_module` does."""
        self.add_module(name, module)

    def get_submodule(self, target: str) -> Module:
        """Return the submodule at a dotted path; the module itself for an empty one."""
        module: Any = self
        for item in target.split(".") if target else ():
            if not hasattr(module, item):
                raise AttributeError(f"{module._get_name()} has no attribute `{item}`")
            module = getattr(module, item)
            if not isinstance(module, Module):
                raise AttributeError(f"`{item}` is not an nn.Module")
        return module  # type: ignore[no-any-return]

    def get_parameter(self, target: str) -> Parameter:
        """Return the parameter at a dotted path."""
        return self._get(target, Parameter, "an nn.Parameter")  # type: ignore[no-any-return]

    def get_buffer(self, target: str) -> Tensor:
        """Return the buffer at a dotted path."""
        path, _, name = target.rpartition(".")
        found = self._get(target, Tensor, "a buffer")
        if name not in self.get_submodule(path)._buffers:
            raise AttributeError(f"`{name}` is not a buffer")
        return found  # type: ignore[no-any-return]

    def _get(self, target: str, kind: type, called: str) -> Any:
        path, _, name = target.rpartition(".")
        module = self.get_submodule(path)
        if not hasattr(module, name):
            raise AttributeError(f"{module._get_name()} has no attribute `{name}`")
        found = getattr(module, name)
        if not isinstance(found, kind):
            raise AttributeError(f"`{name}` is not {called}")
        return found

    # -- walking the tree ------------------------------------------------------------------------------------

    def named_modules(
        self, memo: set[Module] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Module]]:
        """Yield this module and every module below it with its dotted path."""
        memo = set() if memo is None else memo
        if self in memo:
            return
        if remove_duplicate:
            memo.add(self)
        yield prefix, self
        for name, module in self._modules.items():
            if module is not None:
                yield from module.named_modules(
                    memo, f"{prefix}.{name}" if prefix else name, remove_duplicate
                )

    def modules(self) -> Iterator[Module]:
        """Yield this module and every module below it."""
        for _, module in self.named_modules():
            yield module

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """Yield the direct submodules with their names."""
        seen = set()
        for name, module in self._modules.items():
            if module is not None and module not in seen:
                seen.add(module)
                yield name, module

    def children(self) -> Iterator[Module]:
        """Yield the direct submodules."""
        for _, module in self.named_children():
            yield module

    def _named_members(self, kind: str, prefix: str, recurse: bool, remove_duplicate: bool) -> Iterator[Any]:
        seen: set[int] = set()
        modules = (
            self.named_modules(prefix=prefix, remove_duplicate=remove_duplicate)
            if recurse
            else [(prefix, self)]
        )
        for path, module in modules:
            for name, member in module.__dict__[kind].items():
                if member is None or id(member) in seen:
                    continue
                if remove_duplicate:
                    seen.add(id(member))
                yield f"{path}.{name}" if path else name, member

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """Yield the parameters with their dotted paths, each once."""
        return self._named_members("_parameters", prefix, recurse, remove_duplicate)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """Yield the parameters, each once."""
        for _, parameter in self.named_parameters(recurse=recurse):
            yield parameter

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        """Yield the buffers with their dotted paths, each once."""
        return self._named_members("_buffers", prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """Yield the buffers, each once."""
        for _, buffer in self.named_buffers(recurse=recurse):
            yield buffer

    def apply(self: T, fn: Callable[[Module], object]) -> T:
        """Call ``fn`` on every module below this one, then on this one; return this one."""
        for module in self.children():
            module.apply(fn)
        fn(self)
        return self

    # -- state -----------------------------------------------------------------------------------------------

    def state_dict(
        self, *, destination: Any = None, prefix: str = "", keep_vars: bool = False
    ) -> dict[str, Any]:
        """Return the parameters and persistent buffers by dotted path, detached unless ``keep_vars``."""
        found: Any = destination
        if found is None:
            found = OrderedDict()
            found._metadata = OrderedDict()  # attributes, since keys are for tensors
        if hasattr(found, "_metadata"):
            found._metadata[prefix[:-1]] = {"version": self._version}
        for hook in self._state_dict_pre_hooks.values():
            hook(self, prefix, keep_vars)
        for name, tensor in (*self._parameters.items(), *self._buffers.items()):
            if tensor is not None and name not in self._non_persistent_buffers_set:
                found[prefix + name] = tensor if keep_vars else tensor.detach()
        for name, module in self._modules.items():
            if module is not None:
                module.state_dict(destination=found, prefix=f"{prefix}{name}.", keep_vars=keep_vars)
        for hook in self._state_dict_hooks.values():
            returned = hook(self, found, prefix, {"version": self._version})
            found = found if returned is None else returned
        return found  # type: ignore[no-any-return]

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """Copy tensors into the parameters and buffers of the same paths.

        Args:
            state_dict: tensors by dotted path, as `state_dict` returns them.
            strict: raise where keys are missing or left over.
            assign: put the tensors themselves in place rather than copy their elements.

        Returns:
            A named tuple ``(missing_keys, unexpected_keys)``.

        Raises:
            RuntimeError: in PyTorch's words, for keys (when strict) and shapes that do not match.
        """
        return load(self, state_dict, strict, assign)

    # -- modes and conversions -------------------------------------------------------------------------------

    def train(self: T, mode: bool = True) -> T:
        """Set training mode here and below; return this module."""
        if not isinstance(mode, bool):
            raise ValueError("training mode is expected to be boolean")
        self.training = mode
        for module in self.children():
            module.train(mode)
        return self

    def eval(self: T) -> T:
        """Set evaluation mode here and below; return this module."""
        return self.train(False)

    def requires_grad_(self: T, requires_grad: bool = True) -> T:
        """Set whether gradients of the parameters are wanted; return this module."""
        for p in self.parameters():
            p.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the parameters' gradients, or fill them with zeros."""
        for p in self.parameters():
            zero_grad(p, set_to_none)

    def _apply(self: T, fn: Callable[[Tensor], Tensor]) -> T:
        """Replace buffers by ``fn`` of them, and give parameters and gradients the elements that it returns."""
        changes.count += 1
        with no_grad():
            for module in self.modules():
                for name, buffer in module._buffers.items():
                    module._buffers[name] = None if buffer is None else fn(buffer)
            for p in self.parameters():
                for tensor in (p, p._grad):
                    if tensor is not None:
                        changed = fn(tensor)
                        if changed is not tensor:
                            give(tensor, changed)
        return self

    def to(self: T, *args: Any, **kwargs: Any) -> T:
        """Convert floating-point parameters and buffers to a dtype, and all to a device; return this module.

        Takes ``to(device)``, ``to(dtype)``, ``to(device, dtype)`` or ``to(tensor)``. Parameters keep their
        identity.
        """
        kwargs.pop("non_blocking", None)
        device, dtype = kwargs.pop("device", None), kwargs.pop("dtype", None)
        for x in args:
            if isinstance(x, DType):
                dtype = x
            elif isinstance(x, Tensor):
                device, dtype = x.device, x.dtype
            elif isinstance(x, (str, Device)):
                device = x
        if kwargs:
            raise TypeError(f"to() received an invalid combination of arguments: unknown {', '.join(kwargs)}")
        if dtype is not None and not dtype.is_inexact:
            raise TypeError(
                f"nn.Module.to only accepts floating point or complex dtypes, but got desired dtype={dtype}"
            )
        place = None if device is None else Device(device)

        def convert(t: Tensor) -> Tensor:
            if place is not None and t.device is not place:
                t = t.to(place)
            return cast(t, dtype) if dtype is not None and t.dtype.is_inexact else t

        return self._apply(convert)

    def _to_floating(self: T, dtype: DType) -> T:
        return self._apply(lambda t: cast(t, dtype) if t.dtype.is_floating_point else t)

    def float(self: T) -> T:
        """Convert floating-point parameters and buffers to float32; return this module."""
        return self._to_floating(_dtype.float32)

    def double(self: T) -> T:
        """Convert floating-point parameters and buffers to float64; return this module."""
        return self._to_floating(_dtype.float64)

    def half(self: T) -> T:
        """Convert floating-point parameters and buffers to float16; return this module."""
        return self._to_floating(_dtype.float16)

    def bfloat16(self: T) -> T:
        """Convert floating-point parameters and buffers to bfloat16; return this module."""
        return self._to_floating(_dtype.bfloat16)

    def type(self: T, dst_type: DType) -> T:
        """Convert every parameter and buffer to a dtype; return this module."""
        return self._apply(lambda t: cast(t, dst_type))

    def cpu(self: T) -> T:
        """Move everything to the CPU; return this module."""
        return self.to("cpu")

    def cuda(self: T, device: int | Device | None = None) -> T:
        """Move everything to a GPU; return this module."""
        return self.to(device if isinstance(device, Device) else Device("cuda", device or 0))

    def to_jax(self, *, buffers: bool = False) -> tuple[Any, ...]:
        """Return this module as a pure function of JAX arrays, and its parameters as a pytree.

        ``fn(params, *args, **kwargs)`` takes and returns arrays where ``forward`` takes and returns tensors, and works
        under ``jax.jit``, ``grad``, ``vmap`` and the optimizers of optax. Later changes of this module's parameters
        are not seen by ``params``; training mode and the like are read when ``fn`` is called, or traced.

        Args:
            buffers: the function is ``fn(params, buffers, *args, **kwargs)``, and returns its result and the new
                buffers, such as running means; they are the third thing that is returned here. Otherwise buffers are
                constants, and a forward that writes to one raises.

        Returns:
            ``(fn, params)``, or ``(fn, params, buffers)``: dictionaries of arrays by dotted path.

        Raises:
            UnsupportedError: by ``fn`` under a transformation, where the forward draws random numbers, as dropout in
                training mode does: JAX would trace the draw once and repeat its numbers at every call.

        Example:
            >>> import jax
            >>> import tracegrad as torch
            >>> fn, params = torch.nn.Linear(2, 1).to_jax()
            >>> gradients = jax.grad(lambda params, x: fn(params, x).sum())(params, jax.numpy.ones((3, 2)))
            >>> gradients["weight"].tolist()
            [[3.0, 3.0]]
        """
        return to_jax(self, buffers)

    # -- printing --------------------------------------------------------------------------------------------

    def _get_name(self) -> str:
        return builtins.type(self).__name__

    def extra_repr(self) -> str:
        """Return what ``repr`` shows of this module besides its submodules."""
        return ""

    def __repr__(self) -> str:
        extra = self.extra_repr()
        lines = extra.split("\n") if extra else []
        below = [f"({name}): " + repr(module).replace("\n", "\n  ") for name, module in self._modules.items()]
        if len(lines) == 1 and not below:
            return f"{self._get_name()}({extra})"
        if not lines and not below:
            return f"{self._get_name()}()"
        return f"{self._get_name()}(\n  " + "\n  ".join(lines + below) + "\n)"


Module.__module__ = "tracegrad.nn"

_KINDS = {
    "_parameters": ("parameter", "torch.nn.Parameter"),
    "_modules": ("child module", "torch.nn.Module"),
    "_buffers": ("buffer", "torch.nn.Buffer, torch.Tensor"),
}


def _typename(x: Any) -> str:
    """Return the name that PyTorch's messages give the type of ``x``."""
    kind = type(x)
    if kind is Tensor:
        return f"torch.{type_name(x.dtype)}Tensor"
    if isinstance(x, type):
        kind = x
    module = kind.__module__.replace("tracegrad", "torch")
    return kind.__qualname__ if module == "builtins" else f"{module}.{kind.__qualname__}"


def zero_grad(p: Tensor, set_to_none: bool) -> None:
    """Forget the gradient of ``p``, or fill it with zeros."""
    if p._grad is not None:
        if set_to_none:
            p._grad = None
        else:
            fill_with_zeros(p._grad)
