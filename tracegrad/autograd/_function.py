"""Custom Functions: the user's own forward, run and recorded without gradients, and backward, called at a cut.

Afterwards one step is recorded that gives the forward's results a place on the tape: an identity of them that has the
forward's tensor arguments as further, differentiable operands. Its key is the same at every iteration: the class's
name, the slots. The context of one call is in the cut that stands there, never in the trie.
"""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp

from tracegrad._engine import trace
from tracegrad._engine.inference import UNSAVEABLE
from tracegrad._engine.op import Lowering
from tracegrad._engine.scope import Scope
from tracegrad._engine.value import Aval, Value, Variable
from tracegrad._errors import UnsupportedError
from tracegrad._grad_mode import no_grad
from tracegrad._handle import Handle, alias, constant, count_write, tensor_of, want_grad, write
from tracegrad.autograd import _saved
from tracegrad.autograd._context import FunctionCtx as FunctionCtx
from tracegrad.autograd._hooks import Cut, attach
from tracegrad.autograd._mapped import VmapInfo, differentiated_inside, lanes_of, mapping, whole_batch
from tracegrad.autograd._steps import FREED

if TYPE_CHECKING:
    from tracegrad._engine.trie import Node
    from tracegrad._tensor import Tensor


class BackwardCFunction(FunctionCtx):
    """The context of one call of a custom Function."""

    _forward_cls: type[Function]
    _saved: list[Any] | None = None  # None once freed, or before anything was saved
    _freed = False
    _outputs: Sequence[tuple[int, Aval] | None] = ()  # per result: index in the step or -1, aval; None: no tensor
    _inputs: list[int]  # the arguments that are tensors
    _history: Callable[[int, Value], Tensor] | None = None
    _avals: list[Aval]  # of these
    _count: int  # how many arguments there were

    @property
    def saved_tensors(self) -> tuple[Tensor | None, ...]:
        """What was given to ``save_for_backward``.

        Raises:
            RuntimeError: after a backward without ``retain_graph``.
        """
        if self._freed:
            raise RuntimeError(FREED)
        if self._saved is None:
            return tuple(self.to_save or self.saved_for_forward)
        return tuple(None if saved is None else saved.unpack(self._history) for saved in self._saved)

    saved_variables = saved_tensors

    def name(self) -> str:
        """Return the name of this step of the backward graph."""
        return type(self).__name__

    def free(self) -> None:
        """Let go of what was saved, after a backward without ``retain_graph``."""
        if self._saved:
            self._freed = True
            self._saved = None

    def pull(self, node: Node, outs: Sequence[Tensor | None],
             history: Callable[[int, Value], Tensor]) -> list[Tensor | None]:  # fmt: skip
        """Call the user's backward.

        Args:
            node: the Function's step.
            outs: the gradients of its outputs.
            history: gives an output that was saved its place on the tape.

        Returns:
            The gradient of each wanted operand.
        """
        self._history = history
        given: list[Tensor | None] = []
        for output in self._outputs:
            gradient = None
            if output is not None:
                index, of = output
                gradient = outs[index] if index >= 0 else None
                if gradient is None and self.materialize_grads:
                    gradient = trace.record(_zeros, (of,))
            given.append(gradient)
        try:
            returned = self._backward()(self, *given)
        finally:
            self._history = None
        found = self._checked(returned)
        outputs = len(node.specs)
        return [found[self._inputs[i - outputs]] for i in node.wanted]

    def _backward(self) -> Callable[..., Any]:
        of = self._forward_cls
        own, vjp = of.backward is not Function.backward, of.vjp is not Function.vjp
        if own and vjp:
            raise RuntimeError("Implementing both 'backward' and 'vjp' for a custom Function is not allowed. You "
                               "should only implement one of them.")
        return of.vjp if vjp else of.backward

    def _checked(self, returned: Any) -> list[Tensor | None]:
        gradients = list(returned) if isinstance(returned, tuple) else [returned]
        while len(gradients) > self._count and gradients[-1] is None:
            gradients.pop()
        name = type(self).__name__
        if len(gradients) != self._count:
            raise RuntimeError(f"function {name} returned an incorrect number of gradients (expected {self._count}, "
                               f"got {len(gradients)})")
        for i, gradient in enumerate(gradients):
            if gradient is None:
                continue
            if i not in self._inputs:
                raise RuntimeError(f"function {name} returned a gradient different than None at position {i + 1}, but "
                                   "the corresponding forward input was not a Variable")
            if not isinstance(gradient, Handle):
                raise RuntimeError(f"expected Variable or None (got {type(gradient).__name__})")
            index = self._inputs.index(i)
            gradients[i] = _fitted(gradient, self._avals[index], name, index)
        return gradients


BackwardCFunction.__module__ = "tracegrad.autograd.function"


class _Meta(type):
    """Gives each Function its class of contexts, named after it."""

    _backward_cls: type[BackwardCFunction]

    def __init__(cls, name: str, bases: tuple[type, ...], attributes: dict[str, Any]):
        super().__init__(name, bases, attributes)
        made = type(name + "Backward", (BackwardCFunction,), {"_forward_cls": cls})
        made.__module__ = "tracegrad.autograd.function"
        cls._backward_cls = made


class Function(metaclass=_Meta):
    """The base of custom operations with a backward of the user's.

    A subclass defines the static methods ``forward(ctx, *args)`` and ``backward(ctx, *grad_outputs)``, or
    ``forward(*args)`` with ``setup_context(ctx, inputs, output)``; it is called by ``apply``.

    The forward is recorded without gradients, the backward is called when gradients arrive; what both record is part
    of the same program as everything around them. JAX's own transformations see the forward only.

    See https://docs.pytorch.org/docs/stable/autograd.html#torch.autograd.Function

    Example:
        >>> import tracegrad as torch
        >>> class Exp(torch.autograd.Function):
        ...     @staticmethod
        ...     def forward(ctx, x):
        ...         result = x.exp()
        ...         ctx.save_for_backward(result)
        ...         return result
        ...     @staticmethod
        ...     def backward(ctx, grad):
        ...         (result,) = ctx.saved_tensors
        ...         return grad * result
        >>> x = torch.zeros(2, requires_grad=True)
        >>> Exp.apply(x).sum().backward()
        >>> x.grad
        tensor([1., 1.])
    """

    generate_vmap_rule = False

    def __init__(self, *args: Any, **kwargs: Any):
        warnings.warn(
            f"{self.__class__} should not be instantiated. Methods on autograd functions are all static, so you should "
            "invoke them on the class itself. Instantiating an autograd function will raise an error in a future "
            "version of PyTorch.", DeprecationWarning, stacklevel=2)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Refuse, as PyTorch does: call ``apply`` of the class."""
        raise RuntimeError(
            "Legacy autograd function with non-static forward method is deprecated. Please use new-style autograd "
            "function with static forward method. (Example: "
            "https://pytorch.org/docs/stable/autograd.html#torch.autograd.Function)")

    @staticmethod
    def forward(*args: Any, **kwargs: Any) -> Any:
        """Compute the results; the first argument is the context, unless `setup_context` is defined."""
        raise NotImplementedError("You must implement the forward function for custom autograd.Function.")

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> Any:
        """Leave in ``ctx`` what the backward needs."""
        raise NotImplementedError("setup_context is not implemented.")

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        """Return the gradient of every argument, None for those that have none."""
        raise NotImplementedError("You must implement either the backward or vjp method for your custom "
                                  "autograd.Function to use it with backward mode AD.")

    vjp = backward

    @staticmethod
    def jvp(ctx: Any, *grad_inputs: Any) -> Any:
        """Return what the results change by where the arguments change by ``grad_inputs``."""
        raise NotImplementedError("You must implement the jvp function for custom autograd.Function to use it with "
                                  "forward mode AD.")

    @staticmethod
    def vmap(info: Any, in_dims: Any, *args: Any) -> Any:
        """Return the results, and their batch dims, for batched arguments; else ``vmap`` runs `forward` lane by lane.

        Args:
            info: with the attributes ``batch_size`` and ``randomness``.
            in_dims: for each argument, the dimension that is mapped; None for those that are not.
            *args: the arguments of ``forward``, tensors with the whole batch.
        """
        raise NotImplementedError("To use autograd.Function with vmap, you must either override the vmap staticmethod "
                                  "or set generate_vmap_rule=True.")

    @classmethod
    def apply(cls, *args: Any, **kwargs: Any) -> Any:
        """Run the forward, and record that gradients of its results go through the backward.

        Args:
            *args: the arguments of ``forward``; gradients go to those that are tensors themselves.
            **kwargs: further arguments, to which none go.

        Returns:
            What ``forward`` returned; the tensors in it want gradients where an argument does.
        """
        split = cls.setup_context is not Function.setup_context
        scope = mapping(args) if cls.vmap is not Function.vmap else None
        if scope is not None and not split:
            raise RuntimeError(
                "In order to use an autograd.Function with functorch transforms (vmap, grad, jvp, jacrev, ...), it "
                "must override the setup_context staticmethod. For more details, please see "
                "https://pytorch.org/docs/main/notes/extending.func.html")
        if scope is not None and not differentiated_inside(scope, args):
            return cls._mapped(scope, *args, **kwargs)
        if split:
            bound = inspect.signature(cls.forward).bind(*args, **kwargs)
            bound.apply_defaults()
            args, kwargs = bound.args, bound.kwargs
        ctx = cls._backward_cls()
        inputs = [i for i, x in enumerate(args) if isinstance(x, Handle)]
        before = [args[i]._value for i in inputs]
        ctx.needs_input_grad = tuple(isinstance(x, Handle) and x._value.spec.wants for x in args)
        recorded = trace.state.mode.grad and any(ctx.needs_input_grad)
        with no_grad():
            if split:
                forward = cls.forward if scope is None else functools.partial(cls._mapped, scope)
                output = forward(*args, **kwargs)
                cls.setup_context(ctx, args, output)
            else:
                output = cls.forward(ctx, *args, **kwargs)
        results = output if isinstance(output, tuple) else (output,)
        _check_marks(ctx, results)
        tensors = [args[i] for i in inputs]
        raw = [None if x is None else x._value for x in ctx.to_save]
        if recorded and any(v is not None and v.spec.inference for v in raw):
            raise RuntimeError(UNSAVEABLE)
        made = _record(ctx, tensors, before, results) if recorded else _unrecorded(ctx, tensors, results)
        ctx._inputs, ctx._avals, ctx._count = inputs, [v.spec.aval for v in before], len(args)
        if raw:
            _save(ctx, raw, tensors, before, results, made)
        return tuple(made) if isinstance(output, tuple) else made[0]

    @classmethod
    def _mapped(cls, scope: Scope, *args: Any, **kwargs: Any) -> Any:
        """Run the function's own ``vmap`` outside of ``scope`` on the whole batch."""
        if cls.generate_vmap_rule:
            raise RuntimeError(
                f"You tried to vmap over {cls.__name__}, but it has both generate_vmap_rule=True and an overridden "
                "vmap staticmethod. Please set generate_vmap_rule=False or delete the overridden vmap staticmethod to "
                "avoid ambiguity. For more details, please see https://pytorch.org/docs/main/notes/extending.func.html")
        given, dims = whole_batch(scope, args)
        with scope.outside():
            if all(d is None for d in dims):
                return cls.apply(*given, **kwargs)
            result = cls.vmap(VmapInfo(scope.size or 0, scope.randomness), dims, *given, **kwargs)
        return lanes_of(scope, result)


Function.__module__ = "tracegrad.autograd"


def _check_marks(ctx: BackwardCFunction, results: Sequence[Any]) -> None:
    for x in ctx.dirty_tensors:
        if not isinstance(x, Handle):
            raise RuntimeError("mark_dirty can only accept variables, but argument ")
        if not _among(x, results):
            raise RuntimeError("Some elements marked as dirty during the forward method were not returned as output. "
                               "The inputs that are modified inplace must all be outputs of the Function.")
    if not all(isinstance(x, Handle) for x in ctx.non_differentiable):
        raise RuntimeError("mark_non_differentiable only accepts variable arguments, but got ")
    for i, x in enumerate(ctx.to_save):
        if x is not None and not isinstance(x, Handle):
            raise TypeError(f"save_for_backward can only save variables, but argument {i} is of type "
                            f"{type(x).__name__}")


def _among(x: Any, things: Sequence[Any]) -> bool:
    return any(x is thing for thing in things)


def _unrecorded(ctx: BackwardCFunction, inputs: list[Tensor], results: Sequence[Any]) -> list[Any]:
    """Return the results of a call that no gradient goes through; an argument among them becomes an alias."""
    for x in ctx.dirty_tensors:  # a write of its own in PyTorch, besides those of the forward
        count_write(x)
    kept = [x for x in ctx.dirty_tensors if not x._value.spec.wants]
    return [alias(x) if _among(x, inputs) and not _among(x, kept) else x for x in results]


def _record(ctx: BackwardCFunction, inputs: list[Tensor], before: list[Value], results: Sequence[Any]) -> list[Any]:
    """Record the Function's step, and return the results with their place on the tape."""
    differentiable = [
        i for i, x in enumerate(results)
        if isinstance(x, Handle) and x.dtype.is_inexact and not _among(x, ctx.non_differentiable)
        and not _among(x, results[i + 1 :])  # what is returned twice is the last of these, as in PyTorch
    ]  # fmt: skip
    for x in ctx.dirty_tensors:
        if isinstance(x._value.source, Variable) and x._value.spec.wants:
            count_write(x)  # PyTorch has done so by now
            raise RuntimeError("a leaf Variable that requires grad has been used in an in-place operation.")
    ctx._outputs = [(differentiable.index(i) if i in differentiable else -1, x._value.spec.aval)
                    if isinstance(x, Handle) else None for i, x in enumerate(results)]  # fmt: skip
    made: list[Any] = [
        tensor_of(constant(x._value)) if isinstance(x, Handle) and x._value.spec.wants else x for x in results
    ]
    made = [alias(x) if _among(x, inputs) else x for x in made]
    if not differentiable:
        return made
    params = (type(ctx).__name__, len(differentiable), any(x is not None for x in ctx.to_save))
    outs = trace.record(step_rule, params, *(results[i] for i in differentiable), *map(tensor_of, before))
    outs = (outs,) if len(differentiable) == 1 else outs
    cut = Cut()
    cut.function = ctx
    attach(outs[0]._value, cut)
    for i, out in zip(differentiable, outs):
        new = out
        if _among(results[i], ctx.dirty_tensors):
            new = write(results[i], out)
        elif results[i]._storage is None and not _among(results[i], inputs):
            new = results[i]  # PyTorch returns what the forward did
            new._value = out._value
        made = [new if x is results[i] else old for x, old in zip(results, made)]
    return made


def step_rule(*args: Any) -> Lowering:
    """The rule of a Function's step: operands are the results, then the arguments."""
    *_, name, count, saves = args

    def fn(*operands: Any) -> Any:
        return operands[0] if count == 1 else tuple(operands[:count])

    def forward(*operands: Any) -> Any:
        return fn(*operands), ()

    def backward(saved: Any, cotangents: Any) -> Any:
        raise UnsupportedError(
            f"{name}: a custom autograd.Function inside a vmap or a checkpoint cannot be differentiated as a part of "
            "it. Call it outside, or write the operation with tracegrad's own.")

    return Lowering(fn, forward, backward, name, saves=saves, own=True,
                    constant=tuple(range(count)))  # fmt: skip


def _save(ctx: BackwardCFunction, values: Sequence[Value | None], inputs: list[Tensor], before: list[Value],
          results: Sequence[Any], made: Sequence[Any]) -> None:  # fmt: skip
    """Keep what the forward saved as ``values``, which later writes do not change."""
    saved: list[Any] = []
    for x, value in zip(ctx.to_save, values):
        if value is None:
            saved.append(None)
            continue
        place = -1
        shown = x
        for result, new, output in zip(results, made, ctx._outputs):
            if result is x and output is not None:
                place, shown = output[0], new
        if place < 0:
            value = next((v for t, v in zip(inputs, before) if t is x), value)
        saved.append(_saved.keep(x, value, place, shown))
    ctx._saved = saved
    ctx.to_save = ()


def _zeros(of: Aval) -> Lowering:
    return Lowering(lambda: jnp.zeros(of.shape, of.dtype.np), device=of.device)


def _fitted(gradient: Any, to: Aval, name: str, index: int) -> Tensor:
    """Return the gradient of an argument in its shape, where that was broadcast, and dtype."""
    of = gradient._value.spec.aval
    if of.shape == to.shape and of.dtype is to.dtype:
        return gradient  # type: ignore[no-any-return]
    lead = len(of.shape) - len(to.shape)
    if lead < 0 or any(a not in (1, b) for a, b in zip(to.shape, of.shape[lead:])):
        raise RuntimeError(f"Function {name} returned an invalid gradient at index {index} - got {list(of.shape)} but "
                           f"expected shape compatible with {list(to.shape)}")
    return trace.record(_fit, (to,), gradient)  # type: ignore[no-any-return]


def _fit(x: Aval, to: Aval) -> Lowering:
    lead = len(x.shape) - len(to.shape)
    dims = (*range(lead), *(lead + i for i, (a, b) in enumerate(zip(to.shape, x.shape[lead:])) if a != b))

    def fn(a: Any) -> Any:
        a = a.sum(dims, keepdims=True).reshape(to.shape) if dims else a
        real = x.dtype.is_complex and not to.dtype.is_complex
        return (a.real if real else a).astype(to.dtype.np)

    return Lowering(fn, name="SumBackward1", saves=False)


class _Twice(Function):
    """An alias whose gradient is refused."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        return alias(x)

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:
        raise RuntimeError("trying to differentiate twice a function that was marked with @once_differentiable")


def once_differentiable(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Say that a Function's backward cannot be differentiated itself: doing so raises, rather than give no gradient.

    Example:
        >>> import tracegrad as torch
        >>> from tracegrad.autograd.function import once_differentiable
        >>> class Double(torch.autograd.Function):
        ...     @staticmethod
        ...     def forward(ctx, x):
        ...         return x * 2
        ...     @staticmethod
        ...     @once_differentiable
        ...     def backward(ctx, grad):
        ...         return grad * 2
    """

    @functools.wraps(fn)
    def wrapper(ctx: Any, *args: Any, **kwargs: Any) -> Any:
        with no_grad():
            outputs = fn(ctx, *args, **kwargs)
        if not trace.state.mode.grad or not any(isinstance(x, Handle) and x._value.spec.wants for x in args):
            return outputs
        refused = [_refused(x) for x in (outputs if isinstance(outputs, tuple) else (outputs,))]
        return tuple(refused) if isinstance(outputs, tuple) else refused[0]

    return wrapper


def _refused(x: Any) -> Any:
    if not isinstance(x, Handle) or not x.dtype.is_inexact:
        return x
    leaf = tensor_of(constant(x._value))
    want_grad(leaf)
    return _Twice.apply(leaf)
