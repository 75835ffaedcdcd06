"""The tensor: the handle with every op as a method, its reading, and its part of autograd."""

from __future__ import annotations

import copy
import warnings
import weakref
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax import Array

from tracegrad import _dtype
from tracegrad._device import Device
from tracegrad._dtype import DType
from tracegrad._engine import flush, trace
from tracegrad._engine.value import Variable, aval, concrete
from tracegrad._errors import UnsupportedError
from tracegrad._handle import Handle, as_view, check_inplace, constant, detach, tensor_of, want_grad, write
from tracegrad._methods import Methods
from tracegrad._ops import blending, creation, indexing, linalg, math, pointwise, rearranging, shape, splitting
from tracegrad._ops._declare import cast_rule, inplace
from tracegrad._ops._filling import copy_rule, fill_rule
from tracegrad._printing import tensor_repr
from tracegrad.autograd import _api, _graph


class Tensor(Methods):
    """An n-dimensional array that remembers how it was made.

    Made by ``tracegrad.tensor`` and the other creation functions; ``Tensor(2, 3)`` and ``Tensor([1, 2])`` work as in
    PyTorch. Elements are computed when somebody reads them; nothing else tells.

    See https://docs.pytorch.org/docs/stable/tensors.html
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> Tensor:
        """Return a float tensor of these sizes, or of these elements."""
        made = object.__new__(cls)
        if len(args) == 1 and not isinstance(args[0], int):
            source = args[0]
            made._value = constant(creation.tensor(source, dtype=_dtype.get_default_dtype())._value
                                   if not isinstance(source, Handle) else source._value)  # fmt: skip
        else:
            made._value = creation.empty(*(args or (0,)))._value
        return made

    # -- operators -------------------------------------------------------------------------------------------------

    __add__ = pointwise.add
    __radd__ = pointwise.add
    __iadd__ = inplace(pointwise.add)
    __sub__ = pointwise.sub
    __rsub__ = pointwise.rsub
    __isub__ = inplace(pointwise.sub)
    __mul__ = pointwise.mul
    __rmul__ = pointwise.mul
    __imul__ = inplace(pointwise.mul)
    __truediv__ = pointwise.div
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
    __and__ = pointwise.bitwise_and
    __rand__ = pointwise.bitwise_and
    __iand__ = inplace(pointwise.bitwise_and)
    __or__ = pointwise.bitwise_or
    __ror__ = pointwise.bitwise_or
    __ior__ = inplace(pointwise.bitwise_or)
    __xor__ = pointwise.bitwise_xor
    __rxor__ = pointwise.bitwise_xor
    __ixor__ = inplace(pointwise.bitwise_xor)
    __lshift__ = pointwise.bitwise_left_shift
    __rshift__ = pointwise.bitwise_right_shift
    __eq__ = pointwise.eq  # type: ignore[assignment]
    __ne__ = pointwise.ne  # type: ignore[assignment]
    __lt__ = pointwise.lt
    __le__ = pointwise.le
    __gt__ = pointwise.gt
    __ge__ = pointwise.ge
    __hash__ = object.__hash__
    __neg__ = pointwise.neg
    __pos__ = pointwise.positive
    __abs__ = Methods.abs
    __getitem__ = indexing.getitem

    def __setitem__(self, index: Any, value: Any) -> None:
        """Refuse: writes through an index are not supported yet."""
        raise UnsupportedError("x[index] = value is not supported yet; use torch.where, masked_fill or scatter_add")

    def __invert__(self) -> Tensor:
        if self.dtype.is_inexact:
            raise TypeError("~ (operator.invert) is only implemented on integer and Boolean-type tensors")
        return pointwise.bitwise_not(self)

    def __rmatmul__(self, other: Any) -> Tensor:
        return linalg.matmul(other, self)

    # -- reading ---------------------------------------------------------------------------------------------------

    def __repr__(self) -> str:
        return tensor_repr(self)

    def __format__(self, spec: str) -> str:
        if self.ndim == 0 and not self._value.spec.wants:
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
        if self._value.spec.wants and not force:
            raise RuntimeError("Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead.")
        return np.array(trace.force(self._value))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        array = self.numpy()
        return array if dtype is None else array.astype(dtype)

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
        return self.jax().__dlpack__(**kwargs)

    def __dlpack_device__(self) -> Any:
        return self.jax().__dlpack_device__()  # type: ignore[attr-defined]

    def __bool__(self) -> bool:
        count = self._value.spec.aval.numel
        if count == 0:
            raise RuntimeError("Boolean value of Tensor with no values is ambiguous")
        if count > 1:
            raise RuntimeError("Boolean value of Tensor with more than one value is ambiguous")
        return bool(self.item())

    def _one(self) -> Any:
        if self._value.spec.aval.numel != 1:
            raise ValueError("only one element tensors can be converted to Python scalars")
        return self.item()

    def __int__(self) -> Any:
        return int(self._one())

    def __float__(self) -> Any:
        return float(self._one())

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

    def __contains__(self, element: Any) -> bool:
        return bool(pointwise.eq(self, element).any())

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

    def stride(self, dim: int | None = None) -> Any:
        """Return the strides, in elements, of a contiguous tensor of this shape."""
        strides, step = [], 1
        for size in reversed(self._value.spec.aval.shape):
            strides.append(step)
            step *= max(size, 1)
        strides.reverse()
        return tuple(strides) if dim is None else strides[dim]

    def is_contiguous(self) -> bool:
        """Return True: XLA lays tensors out as it likes, and shows them contiguous."""
        return True

    def is_floating_point(self) -> bool:
        """Return whether the dtype is a real floating-point type."""
        return self.dtype.is_floating_point

    def is_complex(self) -> bool:
        """Return whether the dtype is complex."""
        return self.dtype.is_complex

    @property
    def is_cuda(self) -> bool:
        """Whether the elements live on a GPU."""
        return self.device.type == "cuda"

    @property
    def real(self) -> Tensor:
        """The real part; of a real tensor, the tensor itself."""
        return math.real(self)

    @property
    def imag(self) -> Tensor:
        """The imaginary part."""
        return math.imag(self)

    @property
    def mH(self) -> Tensor:
        """The tensor with its last two dimensions swapped, conjugated."""
        return math.conj(self.mT)

    @property
    def T(self) -> Tensor:
        """The tensor with its dimensions reversed."""
        return shape.permute(self, tuple(range(self.ndim - 1, -1, -1)))

    @property
    def mT(self) -> Tensor:
        """The tensor with its last two dimensions swapped."""
        if self.ndim < 2:
            raise RuntimeError("tensor.mT is only supported on matrices or batches of matrices. Got "
                               f"{self.ndim}-D tensor.")
        return shape.transpose(self, -2, -1)

    def to(self, *args: Any, dtype: DType | None = None, device: Device | str | None = None, non_blocking: bool = False,
           copy: bool = False) -> Tensor:  # fmt: skip
        """Return this tensor with another dtype, on another device, or both; itself where nothing changes."""
        for x in args:
            if isinstance(x, DType):
                dtype = x
            elif isinstance(x, Handle):
                dtype, device = x.dtype, x.device
            elif isinstance(x, (Device, str)):
                device = x
            elif isinstance(x, bool):
                pass
            else:
                raise TypeError(f"to() received an invalid combination of arguments - got ({type(x).__name__})")
        result = self
        if dtype is not None and dtype is not self.dtype:
            result = trace.record(cast_rule, (dtype,), result)
        if device is not None and Device(device).type != self.device.type:
            result = _move(result, Device(device))
        return rearranging.clone(result) if copy and result is self else result

    def type(self, dtype: DType | str | None = None) -> Any:
        """Return the name of the tensor's type, such as ``torch.FloatTensor``, or the tensor with another dtype."""
        if dtype is None:
            return f"torch.{_dtype.type_name(self.dtype)}Tensor"
        return self.to(dtype)

    def type_as(self, other: Tensor) -> Tensor:
        """Return this tensor with the dtype and device of ``other``."""
        return self.to(other)

    def float(self) -> Tensor:
        """Return this tensor as float32."""
        return self.to(_dtype.float32)

    def double(self) -> Tensor:
        """Return this tensor as float64."""
        return self.to(_dtype.float64)

    def half(self) -> Tensor:
        """Return this tensor as float16."""
        return self.to(_dtype.float16)

    def bfloat16(self) -> Tensor:
        """Return this tensor as bfloat16."""
        return self.to(_dtype.bfloat16)

    def int(self) -> Tensor:
        """Return this tensor as int32."""
        return self.to(_dtype.int32)

    def long(self) -> Tensor:
        """Return this tensor as int64."""
        return self.to(_dtype.int64)

    def short(self) -> Tensor:
        """Return this tensor as int16."""
        return self.to(_dtype.int16)

    def char(self) -> Tensor:
        """Return this tensor as int8."""
        return self.to(_dtype.int8)

    def byte(self) -> Tensor:
        """Return this tensor as uint8."""
        return self.to(_dtype.uint8)

    def bool(self) -> Tensor:
        """Return whether each element is nonzero."""
        return self.to(_dtype.bool_)

    def cpu(self) -> Tensor:
        """Return this tensor on the CPU."""
        return self.to("cpu")

    def cuda(self) -> Tensor:
        """Return this tensor on the first GPU."""
        return self.to("cuda")

    def where(self, condition: Tensor, other: Any) -> Tensor:
        """Return this tensor's elements where ``condition`` holds, else those of ``other``."""
        return blending.where(condition, self, other)

    # -- writing ---------------------------------------------------------------------------------------------------

    def copy_(self, src: Any, non_blocking: Any = False) -> Tensor:
        """Copy the elements of ``src``, broadcast and converted, into this tensor; gradients flow to ``src``."""
        check_inplace(self)
        source = src if isinstance(src, Handle) else creation.tensor(src)
        of = self._value.spec.aval
        return write(self, trace.record(copy_rule, (of.shape, of.dtype), source))

    def zero_(self) -> Tensor:
        """Set every element to zero."""
        return self.fill_(0)

    def fill_(self, value: Any) -> Tensor:
        """Set every element to ``value``, a number or a 0-dim tensor."""
        check_inplace(self)
        of = self._value.spec.aval
        if isinstance(value, Handle) and value.ndim:
            raise RuntimeError("fill_ only supports 0-dimension value tensor but got tensor with "
                               f"{value.ndim} dimensions.")
        return write(self, trace.record(fill_rule, (of,), value))

    # -- autograd --------------------------------------------------------------------------------------------------

    @property
    def requires_grad(self) -> Any:
        """Whether gradients of what is computed from this tensor are wanted."""
        return self._value.spec.wants

    @requires_grad.setter
    def requires_grad(self, wants: Any) -> None:
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
                "for more informations.", UserWarning, stacklevel=2)
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
                    "(defaults to the tensor's dtype).")
        self._grad = value

    @grad.deleter
    def grad(self) -> None:
        self._grad = None

    @property
    def grad_fn(self) -> Any:
        """The step of the backward graph that made this tensor, None for a leaf."""
        return _graph.grad_fn(self._value)

    @property
    def retains_grad(self) -> Any:
        """Whether ``retain_grad`` was called on this non-leaf."""
        return self._retains

    def retain_grad(self) -> None:
        """Have backwards fill ``.grad`` of this tensor although it is no leaf."""
        value = self._value
        if not value.spec.wants:
            raise RuntimeError("can't retain_grad on Tensor that has requires_grad=False")
        if self.is_leaf or self._retains:
            return
        self._retains = True
        if value.source is not None:
            assert not isinstance(value.source, Variable)
            value.source.retains = weakref.ref(self)
        else:
            assert value.trace is not None
            value.trace.retained[value.slot] = weakref.ref(self)

    def detach(self) -> Tensor:
        """Return a tensor with the same elements through which no gradient flows. Writes to either show in both."""
        return as_view(detach(self), self, detach)

    def detach_(self) -> Tensor:
        """Make this tensor a leaf that wants no gradients."""
        if self._remake is not None:
            raise RuntimeError("Can't detach views in-place. Use detach() instead.")
        self._value = constant(self._value)
        self._variable = None
        return self

    @property
    def data(self) -> Tensor:
        """The tensor without its history: writes to it are not seen by autograd."""
        return as_view(detach(self), self, detach)

    @data.setter
    def data(self, new: Tensor) -> None:
        value = constant(new._value)
        if self._variable is not None and self._value.spec.wants:
            value = trace.mark_variable(value, self._variable)
        self._value = value

    # -- copies ----------------------------------------------------------------------------------------------------

    def __deepcopy__(self, memo: dict[Any, Any]) -> Tensor:
        if not self.is_leaf:
            raise RuntimeError("Only Tensors created explicitly by the user (graph leaves) support the deepcopy "
                               "protocol at the moment. If you were attempting to deepcopy a module, this may be "
                               "because of a torch.nn.utils.weight_norm usage, see "
                               "https://github.com/pytorch/pytorch/pull/103001")  # fmt: skip
        known = memo.get(id(self))
        if known is not None:
            return known  # type: ignore[no-any-return]
        made = object.__new__(type(self))
        memo[id(self)] = made
        made._value = constant(self._value)
        if self._value.spec.wants:
            want_grad(made)
        if self._grad is not None:
            made._grad = copy.deepcopy(self._grad, memo)
        return made

    def __reduce_ex__(self, protocol: Any) -> Any:
        return (_rebuild, (type(self), np.array(trace.force(self._value)), self.dtype, self.requires_grad))


def _type_word(dtype: DType) -> str:
    return {"float32": "float", "float64": "double", "float16": "c10::Half", "int64": "long int"}.get(
        dtype.name, dtype.name)


def _rebuild(cls: type[Tensor], array: np.ndarray[Any, Any], dtype: DType, wants: bool) -> Tensor:
    made = object.__new__(cls)
    made._value = concrete(array, aval(array.shape, dtype))
    if wants:
        want_grad(made)
    return made


def _move(tensor: Tensor, device: Device) -> Tensor:
    """Return ``tensor`` on another device; a boundary between programs."""
    array = tensor.jax()
    place = trace.to_device(np.asarray(array), aval(array.shape, tensor.dtype, device))
    return tensor_of(concrete(place, aval(array.shape, tensor.dtype, device)))


def _flatten(tensor: Tensor) -> tuple[tuple[Any, ...], Any]:
    return (tensor.jax(),), (type(tensor), tensor.dtype, tensor.requires_grad and tensor.is_leaf)


def _unflatten(static: Any, children: tuple[Any, ...]) -> Tensor:
    cls, dtype, wants = static
    made: Tensor = object.__new__(cls)
    array = children[0]
    shape = tuple(getattr(array, "shape", ()))
    made._value = concrete(array, aval(shape, dtype))
    if wants:
        want_grad(made)
    return made


jax.tree_util.register_pytree_node(Tensor, _flatten, _unflatten)
trace.bind(Tensor, flush.flush)
