"""PyTorch's semantics in 150 lines of NumPy or jax.numpy: an independent oracle for random programs.

A cell holds an array. An in-place op replaces it, and its views and aliases follow. Under ``jax.grad`` the history of
a write is what PyTorch says it is: kept in grad mode; under ``no_grad`` the elements change and the history stays.
"""

from __future__ import annotations

import contextlib
import operator

import jax
import numpy as np

CATEGORY = {"b": 0, "i": 1, "f": 2}


class Reference:
    """The namespace ``torch`` of one run: ``Reference(np)`` or ``Reference(jnp)``."""

    float32, float64, int64, bool = "float32", "float64", "int64", "bool"

    def __init__(self, xp):
        self.xp = xp
        self.recording = True
        self.leaves = []  # those that want gradients, in order
        self.given = None  # arrays to use for them instead of their literals

    @contextlib.contextmanager
    def no_grad(self):
        before, self.recording = self.recording, False
        try:
            yield
        finally:
            self.recording = before

    def stop(self, a):
        return jax.lax.stop_gradient(a) if self.xp is not np else a

    def cell(self, a, view=None, base=None):
        made = Cell(self, a if self.recording else self.stop(a))
        if base is not None:
            base.views.append((made, view))
        return made

    def tensor(self, data, dtype=None, requires_grad=False):
        a = np.asarray(data)
        dtype = dtype or ("float32" if a.dtype.kind == "f" else a.dtype)
        a = self.xp.asarray(a.astype(dtype))
        if requires_grad:
            if a.dtype.kind != "f":
                raise RuntimeError("only floating point")
            if self.given is not None:
                a = self.given[len(self.leaves)]
            self.leaves.append(a)
        return Cell(self, a)

    def where(self, c, a, b):
        a, b = self.promoted(a, b)
        return self.cell(self.xp.where(c.a, a, b))

    def maximum(self, a, b):
        a, b = self.promoted(a, b)
        # PyTorch shares a tie's gradient
        return self.cell(self.xp.where(a > b, a, self.xp.where(b > a, b, (a + b) / 2 if a.dtype.kind == "f" else a)))

    def cat(self, cells, dim):
        dtype = cells[0].a.dtype
        for c in cells:
            dtype = np.dtype(_promote(dtype, c.a.dtype))
        if any(c.a.ndim == 0 for c in cells):
            raise RuntimeError("zero-dimensional tensor cannot be concatenated")
        return self.cell(self.xp.concatenate([c.a.astype(dtype) for c in cells], dim))

    def stack(self, cells):
        if len({c.a.shape for c in cells}) > 1:
            raise RuntimeError("stack expects each tensor to be equal size")
        return self.cat([c.unsqueeze(0) for c in cells], 0)

    def promoted(self, a, b):
        arrays = [x.a if isinstance(x, Cell) else x for x in (a, b)]
        dtype = result_type(*arrays)
        return [self.xp.asarray(x, dtype) if not hasattr(x, "astype") else x.astype(dtype) for x in arrays]


def _promote(a, b):
    a, b = np.dtype(a), np.dtype(b)
    if CATEGORY[a.kind] != CATEGORY[b.kind]:
        return max(a, b, key=lambda d: CATEGORY[d.kind])
    return np.promote_types(a, b)


def result_type(*operands):
    """PyTorch's promotion: tensors with dims, then 0-dim tensors, then numbers."""
    ranks = [None, None, None]
    for x in operands:
        if hasattr(x, "dtype"):
            rank, dtype = (0 if x.ndim else 1), np.dtype(x.dtype)
        else:
            rank, dtype = 2, np.dtype({bool: "bool", int: "int64", float: "float32"}[type(x)])
        ranks[rank] = dtype if ranks[rank] is None else _promote(ranks[rank], dtype)
    result = None
    for dtype in ranks:
        if dtype is not None and (result is None or CATEGORY[dtype.kind] > CATEGORY[result.kind]):
            result = dtype
    return result


def _is_bool(x):
    return x.a.dtype.kind == "b" if isinstance(x, Cell) else isinstance(x, bool)


def _binary(fn, division=False, subtraction=False):
    def run(self, other):
        if not isinstance(other, (Cell, bool, int, float)):
            return NotImplemented
        a, b = self.torch.promoted(self, other)
        if division and a.dtype.kind != "f":
            a, b = a.astype("float32"), b.astype("float32")
        if subtraction and any(_is_bool(x) for x in (self, other)):
            raise RuntimeError("Subtraction with a bool tensor is not supported")
        with np.errstate(all="ignore"):
            return self.torch.cell(fn(a, b))

    return run


def _reflected(fn, division=False, subtraction=False):
    return _binary(lambda a, b: fn(b, a), division, subtraction)


class Cell:
    """A tensor."""

    def __init__(self, torch, a):
        self.torch, self.a, self.views, self.base = torch, a, [], None

    __add__ = _binary(operator.add)
    __radd__ = __add__
    __sub__ = _binary(operator.sub, subtraction=True)
    __rsub__ = _reflected(operator.sub, subtraction=True)
    __mul__ = _binary(operator.mul)
    __rmul__ = __mul__
    __truediv__ = _binary(operator.truediv, True)
    __rtruediv__ = _reflected(operator.truediv, True)
    __gt__ = _binary(operator.gt)
    __eq__ = _binary(operator.eq)
    __hash__ = object.__hash__

    def __pow__(self, n):
        out = self
        for _ in range(n - 1):
            out = out * self
        return out

    def __neg__(self):
        if self.a.dtype.kind == "b":
            raise RuntimeError("Negation, the `-` operator, on a bool tensor is not supported.")
        return self.torch.cell(-self.a)

    def __matmul__(self, other):
        if self.a.dtype != other.a.dtype:
            raise RuntimeError("expected m1 and m2 to have the same dtype")
        if not self.a.ndim or not other.a.ndim:
            raise RuntimeError("both arguments to matmul need to be at least 1D")
        return self.torch.cell(self.a @ other.a)

    def __getitem__(self, index):
        if isinstance(index, Cell):
            return self.torch.cell(self.a[np.asarray(index.a)])
        parts = index if isinstance(index, tuple) else (index,)
        for axis, part in enumerate(parts):
            if isinstance(part, int) and not -self.a.shape[axis] <= part < self.a.shape[axis]:
                raise IndexError("index out of range")
        return self._view(lambda a: a[index])

    # -- floating-point functions ---

    def _float(self):
        return self.a if self.a.dtype.kind == "f" else self.a.astype("float32")

    def _map(self, name):
        return self.torch.cell(getattr(self.torch.xp, name)(self._float()))

    def sin(self):
        return self._map("sin")

    def cos(self):
        return self._map("cos")

    def tanh(self):
        return self._map("tanh")

    def sigmoid(self):
        return self.torch.cell(1 / (1 + self.torch.xp.exp(-self._float())))

    def abs(self):
        if self.a.dtype.kind == "b":
            raise RuntimeError("abs is not implemented for bool")
        return self.torch.cell(self.a * self.torch.stop(self.torch.xp.sign(self.a)))

    def relu(self):
        if self.a.dtype.kind == "b":
            raise RuntimeError("Boolean inputs not supported for relu")
        return self.torch.cell(self.torch.xp.where(self.a > 0, self.a, 0 * self.a))

    def log1p(self):
        return self._map("log1p")

    def softmax(self, dim):
        if self.a.dtype.kind != "f":
            raise RuntimeError("softmax is not implemented for integers")
        _axis(self.a, dim)
        e = self.torch.xp.exp(self.a - self.torch.stop(self.a).max(_axis(self.a, dim), keepdims=True)
                              if self.a.ndim else 0 * self.a)  # fmt: skip
        return self.torch.cell(e / e.sum(dim if self.a.ndim else None, keepdims=True))

    def float(self):
        return self.torch.cell(self.a.astype("float32")) if self.a.dtype != "float32" else self

    def double(self):
        return self.torch.cell(self.a.astype("float64")) if self.a.dtype != "float64" else self

    # -- reductions ---

    def sum(self, dim=None, keepdim=False):
        a = self.a if self.a.dtype.kind == "f" else self.a.astype("int64")
        return self.torch.cell(a.sum(_axis(a, dim), keepdims=keepdim).astype(a.dtype))

    def mean(self, dim=None, keepdim=False):
        if self.a.dtype.kind != "f":
            raise RuntimeError("mean(): could not infer output dtype")
        return self.torch.cell(self.a.mean(_axis(self.a, dim), keepdims=keepdim).astype(self.a.dtype))

    def var(self, dim, correction):
        if self.a.dtype.kind != "f":
            raise RuntimeError("std and var only support floating point and complex dtypes")
        return self.torch.cell(self.a.var(_axis(self.a, dim), ddof=correction).astype(self.a.dtype))

    def cumsum(self, dim):
        a = self.a if self.a.dtype.kind == "f" else self.a.astype("int64")
        return self.torch.cell(a.cumsum(_axis(a, dim)).reshape(a.shape).astype(a.dtype))

    def logsumexp(self, dim):
        xp, a = self.torch.xp, self._float()
        _axis(a, dim)
        return self.torch.cell(xp.log(xp.exp(a).sum(_axis(a, dim))).astype(a.dtype))

    def argmax(self, dim):
        _axis(self.a, dim)
        return self.torch.cell(self.a.argmax(_axis(self.a, dim)).astype("int64")) if self.a.ndim else self.torch.cell(
            self.torch.xp.asarray(0, "int64"))  # fmt: skip

    # -- shapes ---

    def _view(self, fn):
        made = self.torch.cell(fn(self.a))
        made.base = self
        self.views.append((made, fn))
        return made

    def reshape(self, *shape):
        return self._view(lambda a: a.reshape(shape))

    def unsqueeze(self, dim):
        return self._view(lambda a: self.torch.xp.expand_dims(a, dim))

    def squeeze(self):
        return self._view(lambda a: a.squeeze())

    def transpose(self, a, b):
        return self._view(lambda x: x.swapaxes(a, b) if x.ndim else x)

    def expand(self, *shape):
        def run(a):
            if len(shape) < a.ndim:
                raise RuntimeError("expand: too few sizes")
            sizes = [a.shape[i - len(shape) + a.ndim] if s == -1 else s for i, s in enumerate(shape)]
            return self.torch.xp.broadcast_to(a, tuple(sizes))

        return self._view(run)

    def flip(self, dim):
        if not self.a.ndim:
            raise IndexError("flip of a 0-dim tensor is left out")
        return self.torch.cell(self.torch.xp.flip(self.a, dim))

    def clone(self):
        return self.torch.cell(self.a + 0 if self.a.dtype.kind != "b" else self.a)

    def detach(self):
        made = self._view(self.torch.stop)
        made.a = self.torch.stop(made.a)
        return made

    # -- writing ---

    def _write(self, new):
        if CATEGORY[new.dtype.kind] > CATEGORY[self.a.dtype.kind]:
            raise RuntimeError("result type can't be cast")
        if new.shape != self.a.shape:
            raise RuntimeError("output doesn't match the broadcast shape")
        new = new.astype(self.a.dtype)
        torch = self.torch
        if torch.recording:
            self.a = new
        else:
            self._elements(new)
        if self.base is not None:  # an alias made by detach()
            self.base._elements(self.a)
            self.base._follow(self)
        self._follow(None)
        return self

    def _elements(self, new):
        """Change the elements and keep the history."""
        stop = self.torch.stop
        self.a = stop(new) + (self.a - stop(self.a)) if self.a.dtype.kind == "f" else new

    def _follow(self, but):
        for view, fn in self.views:
            if view is not but:
                view.a = fn(self.a)
                view._follow(None)

    def add_(self, other):
        return self._write((self + other).a)

    def sub_(self, other):
        return self._write((self - other).a)

    def mul_(self, other):
        return self._write((self * other).a)

    __iadd__, __imul__ = add_, mul_

    def zero_(self):
        return self._write(0 * self.a if self.a.dtype.kind != "b" else self.a & False)

    def copy_(self, other):
        return self._write(self.torch.xp.broadcast_to(other.a, self.a.shape).astype(self.a.dtype))


def _axis(a, dim):
    if dim is None or not a.ndim:
        return None if dim is None or dim in (0, -1) else _out_of_range()
    return dim if -a.ndim <= dim < a.ndim else _out_of_range()


def _out_of_range():
    raise IndexError("Dimension out of range")
