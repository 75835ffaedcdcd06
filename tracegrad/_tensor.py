"""The tensor: the handle with every op as a method, its reading, and its part of autograd."""

from __future__ import annotations

import numbers
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from jax import Array

from tracegrad import _dtype
from tracegrad._conversions import Conversions
from tracegrad._copying import deep_copy, reduced, shallow_copy
from tracegrad._dtype import DType
from tracegrad._engine import flush, trace
from tracegrad._engine.retaining import retain
from tracegrad._handle import Handle, alias, constant, want_grad
from tracegrad._jaxtree import register
from tracegrad._ops import (
    _queries,
    blending,
    comparison,
    creation,
    indexing,
    linalg,
    operators,
    pointwise,
    rearranging,
    shape,
    sharing,
    splitting,
    turning,
    viewing,
    writing,
)
from tracegrad._ops._declare import inplace
from tracegrad._printing import tensor_repr
from tracegrad.autograd import _api, _graph, _hooks
from tracegrad.autograd._hooks import RemovableHandle


class Tensor(Conversions):
    """An n-dimensional array that remembers how it was made.

    Made by ``tracegrad.tensor`` and the other creation functions; ``Tensor(2, 3)`` and ``Tensor([1, 2])`` work as in
    PyTorch. Elements are computed when somebody reads them; nothing else tells.

    See https://docs.pytorch.org/docs/stable/tensors.html
    """

    __module__ = "tracegrad"

    def __new__(cls, *args: Any, **kwargs: Any) -> Tensor:
        """Return a float tensor of these sizes, or of these elements."""
        made = object.__new__(cls)
        if len(args) == 1 and not isinstance(args[0], int):
            source = args[0]
            if isinstance(source, Handle):
                made = alias(source)  # type: ignore[arg-type]
                made.__class__ = cls
            else:
                made._value = constant(creation.tensor(source, dtype=_dtype.get_default_dtype())._value)
        else:
            made._value = creation.empty(*(args or (0,)))._value
        return made

    #: Of a tensor that JAX built: its array, and the one that JAX gave, where they differ in dtype.
    _child: tuple[Any, Any] | None = None

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        register(cls)

    # -- operators -------------------------------------------------------------------------------------------------

    __add__ = operators.add
    __radd__ = operators.add
    __iadd__ = inplace(pointwise.add)
    __sub__ = operators.sub
    __rsub__ = pointwise.rsub
    __isub__ = inplace(pointwise.sub)
    __mul__ = operators.mul
    __rmul__ = operators.mul
    __imul__ = inplace(pointwise.mul)
    __truediv__ = operators.truediv
    __rtruediv__ = pointwise.rtruediv
    __itruediv__ = inplace(pointwise.div)
    __floordiv__ = pointwise.floor_divide
    __rfloordiv__ = pointwise.rfloordiv
    __ifloordiv__ = inplace(pointwise.floor_divide)
    __mod__ = pointwise.remainder
    __rmod__ = pointwise.rmod
    __imod__ = inplace(pointwise.remainder)
    __pow__ = pointwise.pow
    __rpow__ = pointwise.rpow
    __ipow__ = inplace(pointwise.pow)
    __matmul__ = linalg.matmul
    __and__ = comparison.bitwise_and
    __rand__ = comparison.bitwise_and
    __iand__ = inplace(comparison.bitwise_and)
    __or__ = comparison.bitwise_or
    __ror__ = comparison.bitwise_or
    __ior__ = inplace(comparison.bitwise_or)
    __xor__ = comparison.bitwise_xor
    __rxor__ = comparison.bitwise_xor
    __ixor__ = inplace(comparison.bitwise_xor)
    __lshift__ = comparison.bitwise_left_shift
    __rshift__ = comparison.bitwise_right_shift
    __eq__ = operators.eq
    __ne__ = operators.ne
    __lt__ = operators.lt
    __le__ = operators.le
    __gt__ = operators.gt
    __ge__ = operators.ge
    __hash__ = object.__hash__
    __neg__ = pointwise.neg
    __pos__ = pointwise.positive
    __abs__ = Conversions.abs
    __getitem__ = indexing.getitem

    __setitem__ = writing.setitem
    __delitem__ = writing.deny_deletion

    def __invert__(self) -> Tensor:
        if self.dtype.is_inexact:
            raise TypeError("~ (operator.invert) is only implemented on integer and Boolean-type tensors")
        return comparison.bitwise_not(self)

    def __rmatmul__(self, other: Any) -> Tensor:
        return linalg.matmul(other, self)

    # -- reading ---------------------------------------------------------------------------------------------------

    def __repr__(self) -> str:
        return tensor_repr(self)

    def __format__(self, spec: str) -> str:
        if type(self) is Tensor and self.ndim == 0:
            return format(self.item(), spec)
        return object.__format__(self, spec)

    def item(self) -> Any:
        """Return the one element as a Python number.

        Raises:
            RuntimeError: where there is not exactly one element.
        """
        array = np.asarray(trace.force(self._value))
        if array.size != 1:
            raise RuntimeError(f"a Tensor with {array.size} elements cannot be converted to Scalar")
        return array.item()

    def tolist(self) -> Any:
        """Return the elements as nested lists of Python numbers."""
        return np.asarray(trace.force(self._value)).tolist()

    def numpy(self, *, force: bool = False) -> np.ndarray[Any, Any]:
        """Return a copy of the elements as a NumPy array.

        Raises:
            RuntimeError: where the tensor wants gradients, unless ``force``.
        """
        return np.array(self._host(force))

    def _host(self, force: bool = False) -> np.ndarray[Any, Any]:
        """Return the elements where they are, if that is in the host's memory; nobody may write to them."""
        if self._value.spec.wants and not force:
            raise RuntimeError("Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead.")
        if self._storage is not None and not force:
            viewing.check_bits(self)
        if self.dtype is _dtype.bfloat16:
            raise TypeError("Got unsupported ScalarType BFloat16")
        return np.asarray(trace.force(self._value))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        if copy is False:
            if self.device.type != "cpu" or (dtype is not None and np.dtype(dtype) != self.dtype.np):
                raise ValueError("Unable to avoid copy while creating an array as requested.")
            array = self._host().view()
            array.flags.writeable = False
            return array
        array = self.numpy()
        return array if dtype is None else array.astype(dtype, copy=False)

    def __array_wrap__(self, array: Any, context: Any = None, return_scalar: bool = False) -> Tensor:
        # What NumPy's functions make of tensors are tensors; bools are bytes, as PyTorch has it.
        return creation.from_numpy(array.astype(np.uint8) if array.dtype == bool else array)

    def jax(self) -> Array:
        """Return the elements as a ``jax.Array``. Later in-place ops do not change it."""
        array = trace.force(self._value)
        if type(array) is np.ndarray:
            array = self._value.array = trace.to_device(array, self._value.spec.aval)
        return array  # type: ignore[no-any-return]

    __array_priority__ = 1000  # NumPy arrays on the left leave the operator to us

    def __jax_array__(self) -> Array:
        return self.jax()

    def __dlpack__(self, **kwargs: Any) -> Any:
        if self.requires_grad:
            raise BufferError("Can't export tensors that require gradient, use tensor.detach()")
        return self.jax().__dlpack__(**kwargs)

    def __dlpack_device__(self) -> Any:
        return self.jax().__dlpack_device__()  # type: ignore[attr-defined]

    def __bool__(self) -> bool:
        count = self._value.spec.aval.numel
        if count == 0:
            raise RuntimeError("Boolean value of Tensor with no values is ambiguous")
        if count > 1:
            raise RuntimeError("Boolean value of Tensor with more than one value is ambiguous")
        return bool(np.asarray(trace.force(self._value, "bool")).item())

    def _one(self) -> Any:
        if self._value.spec.aval.numel != 1:
            raise ValueError("only one element tensors can be converted to Python scalars")
        return self.item()

    def __int__(self) -> Any:
        return int(_real(self._one(), "int64_t"))

    def __float__(self) -> Any:
        return float(_real(self._one(), "double"))

    def __complex__(self) -> complex:
        return complex(self._one())

    def __index__(self) -> int:
        if self.dtype.category > _dtype.INTEGRAL or self._value.spec.aval.numel != 1:
            raise TypeError("only integer tensors of a single element can be converted to an index")
        return int(self.item())

    def __len__(self) -> int:
        if self.ndim == 0:
            raise TypeError("len() of a 0-d tensor")
        return self._value.spec.aval.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        if self.ndim == 0:
            raise TypeError("iteration over a 0-d tensor")
        return iter(splitting.unbind(self))

    def __reversed__(self) -> Tensor:
        return rearranging.flip(self, (0,)) if self.ndim else self

    def __contains__(self, element: Any) -> bool:
        if not isinstance(element, (Handle, numbers.Number)):
            raise RuntimeError("Tensor.__contains__ only supports Tensor or scalar, but you passed in a "
                               f"{type(element)}.")
        return bool(comparison.eq(self, element).any())  # type: ignore[arg-type]

    # -- shape and type --------------------------------------------------------------------------------------------

    def size(self, dim: int | None = None) -> Any:
        """Return the shape, or the size of one dimension."""
        return self.shape if dim is None else self.shape[dim]

    def dim(self) -> int:
        """Return the number of dimensions."""
        return self.ndim

    ndimension = dim

    def numel(self) -> int:
        """Return the number of elements."""
        return self._value.spec.aval.numel

    nelement = numel

    def element_size(self) -> int:
        """Return the number of bytes of one element."""
        return self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        """The number of bytes of all elements."""
        return self.numel() * self.dtype.itemsize

    @property
    def itemsize(self) -> int:
        """The number of bytes of one element."""
        return self.dtype.itemsize

    stride = sharing.stride
    storage_offset = sharing.storage_offset
    is_contiguous = sharing.is_contiguous
    data_ptr = sharing.data_ptr
    untyped_storage = sharing.untyped_storage
    is_set_to = sharing.is_set_to

    def _is_view(self) -> Any:
        return self._base is not None if self._steps else False

    is_nonzero = _queries.is_nonzero
    is_signed = _queries.is_signed
    is_inference = _queries.is_inference
    is_same_size = _queries.is_same_size

    def is_floating_point(self) -> bool:
        """Return whether the dtype is a real floating-point type."""
        return self.dtype.is_floating_point

    def is_complex(self) -> bool:
        """Return whether the dtype is complex."""
        return self.dtype.is_complex

    @property
    def real(self) -> Tensor:
        """The real part; of a real tensor, the tensor itself."""
        return viewing.real(self)

    @property
    def imag(self) -> Tensor:
        """The imaginary part."""
        return viewing.imag(self)

    @property
    def mH(self) -> Tensor:
        """The tensor with its last two dimensions swapped, conjugated."""
        if self.ndim == 1:
            raise RuntimeError("tensor.mH is only supported on matrices or batches of matrices. Got 1-D tensor.")
        if not self.ndim:
            warnings.warn("Tensor.mH is deprecated on 0-D tensors. Consider using x.conj().", stacklevel=2)
            return viewing.conj(self)
        return shape.adjoint(self)

    @property
    def H(self) -> Tensor:
        """A matrix transposed, conjugated."""
        if self.ndim not in (0, 2):
            remedy = " For batches of matrices, consider using tensor.mH" if self.ndim > 2 else ""
            raise RuntimeError("tensor.H is only supported on matrices (2-D tensors). Got "
                               f"{self.ndim}-D tensor.{remedy}")
        if not self.ndim:
            warnings.warn("Tensor.H is deprecated on 0-D tensors. Consider using x.conj().", stacklevel=2)
            return viewing.conj(self)
        return shape.adjoint(self)

    @property
    def T(self) -> Tensor:
        """The tensor with its dimensions reversed."""
        return shape.reverse(self)

    @property
    def mT(self) -> Tensor:
        """The tensor with its last two dimensions swapped."""
        if not self.ndim:
            warnings.warn("Tensor.mT is deprecated on 0-D tensors. This function is the identity in these cases.",
                          stacklevel=2)
            return self
        if self.ndim < 2:
            raise RuntimeError("tensor.mT is only supported on matrices or batches of matrices. Got "
                               f"{self.ndim}-D tensor.")
        return shape.transpose(self, -2, -1)

    def where(self, condition: Tensor, other: Any) -> Tensor:
        """Return this tensor's elements where ``condition`` holds, else those of ``other``."""
        return blending.where(condition, self, other)  # type: ignore[no-any-return]

    # -- writing ---------------------------------------------------------------------------------------------------

    copy_ = sharing.copy_
    zero_ = sharing.zero_
    fill_ = sharing.fill_
    resize_ = sharing.resize_
    set_ = sharing.set_
    squeeze_ = turning.squeeze_
    unsqueeze_ = turning.unsqueeze_
    t_ = turning.t_
    transpose_ = turning.transpose_
    swapaxes_ = turning.swapaxes_
    swapdims_ = turning.swapdims_
    fill_diagonal_ = turning.fill_diagonal_

    # -- autograd --------------------------------------------------------------------------------------------------

    @property
    def requires_grad(self) -> Any:
        """Whether gradients of what is computed from this tensor are wanted."""
        return self._value.spec.wants

    @requires_grad.setter
    def requires_grad(self, wants: Any) -> None:
        if not self.is_leaf and (wants is True or wants == 1):
            raise RuntimeError("you can only change requires_grad flags of leaf variables.")
        want_grad(self, wants is True or wants == 1)

    def requires_grad_(self, requires_grad: Any = True) -> Tensor:
        """Set ``requires_grad`` in place and return this tensor.

        Raises:
            RuntimeError: for integers and bools, and for False on a tensor that is no leaf.
        """
        want_grad(self, requires_grad is True or requires_grad == 1)
        return self

    def backward(self, gradient: Tensor | None = None, retain_graph: Any = None, create_graph: Any = False,
                 inputs: Tensor | Sequence[Tensor] | None = None, retain_variables: Any = None) -> None:  # fmt: skip
        """Accumulate the gradients of this tensor into the ``.grad`` of the leaves.

        Args:
            gradient: the cotangent, of this tensor's shape; may be left out for a one-element tensor.
            retain_graph: keep what was saved for a further backward; ``create_graph`` when None.
            create_graph: record the backward so that it can be differentiated itself.
            inputs: accumulate into these leaves only.
            retain_variables: the old name of ``retain_graph``.

        See https://docs.pytorch.org/docs/stable/generated/torch.Tensor.backward.html
        """
        if retain_variables is not None:
            warnings.warn("retain_variables is deprecated, use retain_graph instead", FutureWarning, stacklevel=2)
            retain_graph = retain_variables
        _api.backward(self, gradient, retain_graph, create_graph, inputs=inputs)

    @property
    def grad(self) -> Tensor | None:
        """The gradient that backwards accumulated, None before the first."""
        if self._grad is None and not self.is_leaf and not self._retains:
            warnings.warn(
                "The .grad attribute of a Tensor that is not a leaf Tensor is being accessed. Its .grad attribute "
                "won't be populated during autograd.backward(). If you indeed want the .grad field to be populated "
                "for a non-leaf Tensor, use .retain_grad() on the non-leaf Tensor. If you access the non-leaf Tensor "
                "by mistake, make sure you access the leaf Tensor instead. See github.com/pytorch/pytorch/pull/30531 "
                "for more information.", UserWarning, stacklevel=2)
        return self._grad

    @grad.setter
    def grad(self, value: Tensor | None) -> None:
        if value is not None:
            if not isinstance(value, Handle):
                raise TypeError(f"assigned grad expected to be a Tensor or None but got grad of type "
                                f"{type(value).__name__}")
            if value._value.spec.aval.shape != self._value.spec.aval.shape:
                raise RuntimeError(f"attempting to assign a gradient of size '{list(value.shape)}' to a tensor of size "
                                   f"'{list(self.shape)}'. Please ensure that the gradient and the tensor are the same "
                                   "size")
            if value.dtype is not self.dtype:
                raise RuntimeError(
                    f"attempting to assign a gradient with dtype '{_type_word(value.dtype)}' to a tensor with "
                    f"grad_dtype '{_dtype.type_name(self.dtype)}'. The gradient must match the tensor's grad_dtype "
                    "(defaults to the tensor's dtype). You can set the tensor's grad_dtype attribute with a specific "
                    "dtype, or None to allow any dtype. Set grad_dtype with caution. Diverging the dtypes of a tensor "
                    "and its gradient may break downstream systems that assume they match.")
        self._grad = value

    @grad.deleter
    def grad(self) -> None:
        self._grad = None

    @property
    def grad_fn(self) -> Any:
        """The step of the backward graph that made this tensor, None for a leaf."""
        return _graph.grad_fn(self._value)

    @property
    def output_nr(self) -> Any:
        """Which output of its ``grad_fn`` this tensor is."""
        value = self._value
        return _hooks.node_of(value)[2] if value.spec.wants and not self.is_leaf else 0

    def register_hook(self, hook: Callable[[Tensor], Tensor | None]) -> RemovableHandle:
        """Call ``hook`` with every gradient of this tensor, before it goes further back.

        The hook may return another gradient, of the same shape and dtype, to use instead. Hooks run in the order in
        which they were registered, without recording for gradients unless ``create_graph`` was asked for. What a hook
        computes is part of the same program as the backward.

        Returns:
            A handle whose ``remove()`` removes the hook.

        Raises:
            RuntimeError: where this tensor does not want gradients.

        See https://docs.pytorch.org/docs/stable/generated/torch.Tensor.register_hook.html

        Example:
            >>> import tracegrad as torch
            >>> x = torch.ones(2, requires_grad=True)
            >>> handle = x.register_hook(lambda grad: grad * 2)
            >>> x.sum().backward()
            >>> x.grad
            tensor([2., 2.])
        """
        return _hooks.register_hook(self, hook)

    def register_post_accumulate_grad_hook(self, hook: Callable[[Tensor], None]) -> RemovableHandle:
        """Call ``hook`` with this leaf whenever a backward has added to its ``.grad``.

        Raises:
            RuntimeError: on a tensor that is no leaf, or does not want gradients.

        See https://docs.pytorch.org/docs/stable/generated/torch.Tensor.register_post_accumulate_grad_hook.html
        """
        return _hooks.register_post_accumulate_grad_hook(self, hook)

    @property
    def retains_grad(self) -> Any:
        """Whether ``retain_grad`` was called on this non-leaf."""
        return self._retains is not None

    def retain_grad(self) -> None:
        """Have backwards fill ``.grad`` of this tensor although it is no leaf."""
        value = self._value
        if not value.spec.wants:
            raise RuntimeError("can't retain_grad on Tensor that has requires_grad=False")
        if self.is_leaf or self._retains:
            return
        retain(self, value)

    detach = sharing.detach
    detach_ = sharing.detach_
    data = property(sharing.data, sharing.set_data)

    # -- copies ----------------------------------------------------------------------------------------------------

    def __copy__(self) -> Tensor:
        return shallow_copy(self)

    def __deepcopy__(self, memo: dict[Any, Any]) -> Tensor:
        return deep_copy(self, memo)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return reduced(self)

    @staticmethod
    def _make_subclass(cls: Any, data: Tensor, require_grad: Any = False) -> Any:
        made = sharing.detach(data)
        made.__class__ = cls
        want_grad(made, require_grad is True)
        return made

    def as_subclass(self, cls: Any) -> Any:
        """Return a view of this tensor of the class ``cls``, derived from ``Tensor``; gradients flow through it."""
        made = self.view(self.shape)
        made.__class__ = cls
        return made


def _real(number: Any, kind: str) -> Any:
    """Return the real part of ``number``, which must be all of it."""
    if isinstance(number, complex):
        if number.imag:
            raise RuntimeError(f"value cannot be converted to type {kind} without overflow")
        return number.real
    return number


def _type_word(dtype: DType) -> str:
    return {"float32": "float", "float64": "double", "float16": "c10::Half", "int64": "long int"}.get(
        dtype.name, dtype.name)


register(Tensor)
Tensor.__module__ = "tracegrad"
trace.bind(Tensor, flush.flush)
