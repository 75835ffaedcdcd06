"""The handle: what a user holds. A tensor's state without its ops; in-place ops point it at another value.

NOTE [Aliases] A *base* is a tensor that has its own place on the tape. A *view* is made from its base by *steps*, the
view ops that lie between. A base and its views share a `Storage`, which refers to them weakly; a view holds its base
where the base has elements that the view lacks. A write to a view goes up its steps into the base (each view op says
how: `Viewing.put`), and the base's live views are made anew, so reading a view costs nothing. Other bases with the same
elements (``detach()``, ``.data``) have storages of their own, joined in a `Group`: they get the elements of a write and
keep their own place on the tape. Nothing refers in a circle, and no alias keeps another's history alive.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from tracegrad._device import Device
from tracegrad._dtype import DType
from tracegrad._engine import marking, retaining, trace
from tracegrad._engine.value import Aval, Value, Variable, concrete
from tracegrad._errors import UnsupportedError
from tracegrad._grad_mode import inference_mode, no_grad
from tracegrad._layout import Step, apart, overlaps, prepared
from tracegrad._rewriting import detach_rule, overwrite_rule, put_rule, whole_rule
from tracegrad._size import Size

if TYPE_CHECKING:
    from tracegrad._tensor import Tensor

#: What a view cannot be written to for, in grad mode: it was made in `no_grad`, in `inference_mode`, or by an op with
#: several results.
NO_GRAD, INFERENCE = "no_grad", "inference"


class Handle:
    """The state of a tensor."""

    _value: Value
    _grad: Tensor | None = None
    _variable: Variable | None = None  # a leaf's identity to the tape, once it wanted gradients
    _retains: retaining.Retaining | None = None  # of a non-leaf: where `retain_grad` was called
    _storage: Storage | None = None  # shared with views, or with the tensor that this is a view of
    _steps: tuple[Step, ...] = ()  # of a view: what makes it from its base
    _keeps: Tensor | None = None  # of a view that lacks elements of its base: the base
    _made: Any = None  # of a view: NO_GRAD, INFERENCE, or (number, name of the op) of a result among several
    _strided: bool = False  # whether its elements may not lie in order
    _writes: int = 0  # where there is no storage that counts them

    @property
    def shape(self) -> Any:
        """The sizes of the dimensions."""
        return Size(self._value.spec.aval.shape)

    @property
    def dtype(self) -> DType:
        """The element type."""
        return self._value.spec.aval.dtype

    @property
    def device(self) -> Device:
        """Where the elements live."""
        return self._value.spec.aval.device

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return len(self._value.spec.aval.shape)

    @property
    def _version(self) -> int:
        """How often this tensor, or what shares its elements, was written to."""
        if self._value.spec.inference:
            raise RuntimeError("Inference tensors do not track version counter.")
        storage = self._storage
        if storage is None:
            return self._writes
        return storage.writes if storage.clock is None else storage.clock[0]

    @property
    def _base(self) -> Tensor | None:
        """The tensor that this is a view of; None where it is no view."""
        storage = self._storage
        if storage is None or not self._steps:
            return None
        turned = storage.turned() if storage.turned is not None else None
        return storage.owner() if turned is None else None if turned is self else turned

    @property
    def is_leaf(self) -> bool:
        """Whether no recorded op made this tensor, as far as gradients go."""
        value = self._value
        return not value.spec.wants or isinstance(value.source, Variable)


class _Refs(list["weakref.ref[Any]"]):
    """Weak references; the dead are dropped when the list has doubled."""

    limit = 8

    def drop_dead(self, more: int) -> None:
        """Drop the dead, and have room for so many more, and as many as there are, before that is done again."""
        self[:] = [r for r in self if r() is not None]
        self.limit = 2 * len(self) + 8 + more

    def add(self, thing: Any) -> None:
        """Enter ``thing``."""
        if len(self) >= self.limit:
            self.drop_dead(0)
        self.append(weakref.ref(thing))


class Storage:
    """What a base and its views share: weak references to them, and how often they were written to."""

    views: Any = ()  # a `_Refs`, once there are any
    address: int = 0  # see `address`
    group: Group | None = None  # of storages with the same elements
    place: tuple[Step, ...] = ()  # where its elements are among those of the group
    clock: list[int] | None = None  # the count of writes that it shares with others of the group
    turned: weakref.ref[Tensor] | None = None  # the base that an in-place change of shape made a view, see `turning.py`

    def __init__(self, base: Tensor) -> None:
        self.base = weakref.ref(base)
        self.aval = base._value.spec.aval
        self.writes = base._writes

    def live(self) -> Iterator[Tensor]:
        """Yield the live views."""
        for r in self.views:
            view = r()
            if view is not None and view._storage is self:
                yield view

    def owner(self) -> Tensor | None:
        """Return the base, made anew from a view with all its elements where it died; None where nothing lives."""
        base = self.base()
        if base is None:
            for view in self.live():
                whole = view if view._keeps is None else view._keeps
                break
            else:
                return None
            spec = whole._value.spec
            with nullcontext() if spec.inference or not spec.wants and trace.state.mode.grad else inference_mode(False):
                base = _put_back(None, self.aval, whole._steps, whole)
            base._storage = self
            self.base = weakref.ref(base)
        return base

    def count(self) -> None:
        """Count a write."""
        if self.clock is None:
            self.writes += 1
        else:
            self.clock[0] += 1


class Group:
    """Storages with the same elements or parts of them; see NOTE [Aliases]."""

    __slots__ = ("aval", "members", "whole", "address")

    def __init__(self, of: Aval, address: int) -> None:
        self.aval = of  # of all elements
        self.members = _Refs()
        self.whole: Tensor | None = None  # all elements, while some member has only a part of them
        self.address = address

    def others(self, storage: Storage) -> list[Storage]:
        """Return the live members but ``storage``, and let go of what only dead ones needed."""
        live: list[Storage] = [s for r in self.members if (s := r()) is not None]
        if self.whole is not None and all(_covers(s.place) for s in live):
            self.whole = None
        return [s for s in live if s is not storage]


def _covers(steps: tuple[Step, ...]) -> bool:
    return all(step[3] for step in steps)


def tensor_of(value: Value) -> Tensor:
    """Return a new handle on ``value``."""
    tensor = object.__new__(trace._Tensor)
    tensor._value = value
    return tensor


def as_view(view: Tensor, input: Tensor, step: Step, strided: bool = False) -> Tensor:
    """Mark ``view`` as made from ``input`` by ``step``; ``strided``: its elements may not lie in order."""
    storage = input._storage
    if storage is None:
        storage = input._storage = Storage(input)
    steps = input._steps
    if steps:
        view._steps = (*steps, step)
        if input._keeps is not None:
            view._keeps = input._keeps
        elif not step[3]:
            view._keeps = input
        if input._made is not None:
            view._made = input._made
    else:
        view._steps = (step,)
        if not step[3] or input._variable is not None:
            view._keeps = input
    view._storage = storage
    views = storage.views
    if not views:
        storage.views = _Refs((weakref.ref(view),))
    elif len(views) < views.limit:
        views.append(weakref.ref(view))
    else:
        views.add(view)
    if strided or input._strided:
        view._strided = True
    if not trace.state.mode.grad:
        view._made = INFERENCE if trace.state.mode.inference else NO_GRAD
    return view


def as_parts(views: Sequence[Tensor], input: Tensor, how: Sequence[tuple[Step, Any]]) -> None:
    """Mark ``views`` as parts of ``input``, each by its step; with the number and the name for errors, or None."""
    storage = input._storage
    if storage is None:
        storage = input._storage = Storage(input)
    before, keeps = input._steps, input._keeps
    mode = trace.state.mode
    quiet = None if mode.grad else INFERENCE if mode.inference else NO_GRAD
    if keeps is None:
        keeps = input
    refs = storage.views
    if not refs:
        refs = storage.views = _Refs()
    elif len(refs) + len(views) > refs.limit:
        refs.drop_dead(len(views))
    for view, (step, whence) in zip(views, how):
        view._steps = (*before, step)
        view._keeps = keeps
        view._storage = storage
        view._strided = True
        view._made = quiet or whence or input._made
        refs.append(weakref.ref(view))


def alias(tensor: Tensor, counted: bool = True) -> Tensor:
    """Return a base with the elements of ``tensor`` through which no gradient flows: writes to either show in both.

    Unless ``counted``, the writes to one are not counted as writes to the other.
    """
    made = tensor_of(constant(tensor._value))
    if tensor._strided:
        made._strided = True
    storage = tensor._storage
    if storage is None:
        storage = tensor._storage = Storage(tensor)
    group = storage.group
    if group is None:
        group = storage.group = Group(storage.aval, storage.address)
        group.members.append(weakref.ref(storage))
    if storage.clock is None:
        storage.clock = [storage.writes]
    place = storage.place + tensor._steps
    if place and group.whole is None and not _covers(place):
        owner = storage.owner()
        assert owner is not None
        value = constant(owner._value) if owner._value.spec.wants else owner._value
        group.whole = _put_back(None, group.aval, storage.place, tensor_of(value))
    fresh = made._storage = Storage(made)
    fresh.group, fresh.place, fresh.clock = group, place, storage.clock if counted else None
    group.members.add(fresh)
    return made


def whole(shared: Storage | Group) -> Tensor:
    """Return a tensor with all the elements of a storage or a group, through which no gradient flows."""
    if isinstance(shared, Group) and shared.whole is not None:
        return shared.whole
    storage = next(s for r in shared.members if (s := r()) is not None) if isinstance(shared, Group) else shared
    owner = storage.owner()
    assert owner is not None
    place = storage.place if isinstance(shared, Group) else ()
    return _put_back(None, shared.aval, place, tensor_of(constant(owner._value)))


def share(tensor: Tensor, source: Tensor) -> None:
    """Have ``tensor`` give up its elements for those of ``source``, which it shares from now on.

    It keeps its place on the tape; its views keep the old elements.
    """
    made = alias(source, counted=False)
    old, new = tensor._storage, made._storage
    assert new is not None
    if old is not None and old.group is new.group and old.place + tensor._steps == new.place:
        return  # they do so already
    value = made._value
    if tensor._value.spec.wants:
        if isinstance(tensor._value.source, Variable):
            value = marking.mark_variable(value, tensor._value.source, again=True)
        else:
            value = _overwritten(tensor, value, passes=True)
    if old is not None and not tensor._steps:
        standing_in = tensor_of(tensor._value)
        standing_in._storage = old
        for view in old.live():
            if view._keeps is tensor or view._keeps is None:
                view._keeps = standing_in
        old.base = weakref.ref(standing_in)
    tensor._value, tensor._storage, tensor._strided = value, new, made._strided
    tensor._steps, tensor._keeps, tensor._made = (), None, None
    new.writes, new.base = tensor._writes, weakref.ref(tensor)
    if old is not None:  # its views go on sharing its count of writes
        if old.clock is None:
            old.clock = [old.writes]
        new.clock = old.clock


def want_grad(tensor: Tensor, wants: bool = True) -> None:
    """Make the leaf ``tensor`` want gradients, or no longer: either way it is pointed at a fresh value."""
    value = tensor._value
    if value.spec.wants is wants:
        return
    if wants:
        if value.spec.inference and not trace.state.mode.inference:
            raise RuntimeError("Setting requires_grad=True on inference tensor outside InferenceMode is not allowed.")
        if not value.spec.aval.dtype.is_inexact:
            raise RuntimeError("only Tensors of floating point dtype can require gradients")
        if tensor._variable is None:
            tensor._variable = Variable(tensor)
        tensor._value = marking.mark_variable(value, tensor._variable)
        return
    if not tensor.is_leaf:
        raise RuntimeError(
            "you can only change requires_grad flags of leaf variables. If you want to use a computed variable in a "
            "subgraph that doesn't require differentiation use var_no_grad = var.detach().")
    tensor._value = constant(value)


def constant(value: Value) -> Value:
    """Return ``value`` as a constant to every gradient, in a value of its own."""
    if value.array is not None and not trace.state.trace.recorded:
        made = concrete(value.array, value.spec.aval)
        if value.spec.inference:
            made.spec = value.spec.aval.inferred[0]
        return made
    return trace.record(detach_rule, (), tensor_of(value))._value  # type: ignore[no-any-return]


# -- writing ---------------------------------------------------------------------------------------------------------


def check_inplace(tensor: Tensor, fills: bool = False, elements: bool = True) -> None:
    """Raise where an in-place op on ``tensor`` would change a leaf that wants gradients, or one element twice.

    ``fills``: every element gets the same number. Unless ``elements``, they stay as they are.
    """
    value = tensor._value
    spec = value.spec
    if spec.inference and not trace.state.mode.inference:
        raise RuntimeError("Inplace update to inference tensor outside InferenceMode is not allowed.You can make a "
                           "clone to get a normal tensor before doing inplace update.See "
                           "https://github.com/pytorch/rfcs/pull/17 for more details.")
    if tensor._made is not None and trace.state.mode.grad:
        assert tensor._storage is not None
        base = tensor._storage.base()
        if spec.wants or base is not None and base._value.spec.wants:
            raise _refused(tensor)
    if spec.wants and trace.state.mode.grad:
        if tensor._steps:
            assert tensor._storage is not None
            base = tensor._storage.base()
            if isinstance(value.source, Variable) or base is not None and base.is_leaf:
                raise RuntimeError("a view of a leaf Variable that requires grad is being used in an in-place "
                                   "operation.")
        elif isinstance(value.source, Variable):
            raise RuntimeError("a leaf Variable that requires grad is being used in an in-place operation.")
    if elements and tensor._strided and overlaps(tensor, fills):
        raise RuntimeError("unsupported operation: more than one element of the written-to tensor refers to a single "
                           "memory location. Please clone() the tensor before performing the operation.")


def _refused(view: Tensor) -> RuntimeError:
    if view._made == INFERENCE:
        return RuntimeError(
            "A view was created in inference mode and is being modified inplace in normal mode. Given that this use "
            "case is ambiguous and error-prone, it is forbidden. You can clarify your code by moving both the view and "
            "the inplace either both inside the inference_mode block (if you don't want the inplace to be tracked) or "
            "both outside (if you want the inplace to be tracked).")
    if view._made == NO_GRAD:
        return RuntimeError(
            "A view was created in no_grad mode and is being modified inplace with grad mode enabled. Given that this "
            "use case is ambiguous and error-prone, it is forbidden. You can clarify your code by moving both the view "
            "and the inplace either both inside the no_grad block (if you don't want the inplace to be tracked) or "
            "both outside (if you want the inplace to be tracked).")
    number, name = view._made
    which = (f"Output {number} of {name} is a view and is being modified inplace." if view._value.spec.wants else
             "A view was created in no_grad mode and is being modified inplace with grad mode enabled.")
    return RuntimeError(f"{which} This view is the output of a function that returns multiple views. Such functions do "
                        "not allow the output views to be modified inplace. You should replace the inplace operation "
                        "by an out-of-place one.")


def write(tensor: Tensor, result: Tensor) -> Tensor:
    """Point ``tensor`` at the value of ``result``, as an in-place op does, and make its aliases follow."""
    storage, owner = tensor._storage, result._value.trace
    if owner is not None and owner.scoped:
        owner.note(tensor, result._value)  # type: ignore[attr-defined]
    if storage is None:
        tensor._value = _replacement(tensor, result._value)
        tensor._writes += 1
        if tensor._retains is not None:
            _retain_anew(tensor)
        return tensor
    if tensor._made is not None and result._value.spec.wants and trace.state.mode.grad:
        raise _refused(tensor)
    base, group = storage.base(), storage.group
    others = [] if group is None else group.others(storage)
    alone = not others and (base is None or base is tensor) and (group is None or group.whole is None)
    if alone and all(view is tensor for view in storage.live()):
        tensor._value = _replacement(tensor, result._value)
    else:
        # Everything is recorded before anything changes, so that an interrupt leaves the aliases as they were.
        changes = _changes(tensor, result, storage, others)
        for handle, value in changes if owner is not None and owner.scoped else ():
            owner.note(handle, value)  # type: ignore[union-attr]
        for handle, value in changes:
            handle._value = value
    for t in (tensor, base):
        if t is not None and t._retains is not None:
            _retain_anew(t)
    storage.count()
    return tensor


def _retain_anew(tensor: Tensor) -> None:
    """Have ``tensor``, which was written to, retain the gradient of its new value; as in PyTorch, a view none."""
    if tensor._steps:
        retaining.stop(tensor)
    elif trace.state.mode.grad:
        retaining.retain(tensor, tensor._value)


def count_write(tensor: Tensor) -> None:
    """Count a write to ``tensor`` and to what shares its elements."""
    if tensor._storage is None:
        tensor._writes += 1
    else:
        tensor._storage.count()


def resize(tensor: Tensor, result: Tensor) -> None:
    """Point ``tensor`` at the value of ``result``, which has another shape."""
    storage = tensor._storage
    if storage is not None:
        base = storage.base()
        alone = storage.group is None or not storage.group.others(storage)
        if not alone or base is not None and base is not tensor or any(v is not tensor for v in storage.live()):
            raise UnsupportedError(f"a tensor of shape {list(tensor.shape)} that shares its elements with others "
                                   f"cannot be resized to {list(result.shape)}. Make a new one, or clone() this one.")
        tensor._writes, tensor._storage = storage.writes if storage.clock is None else storage.clock[0], None
        tensor._steps, tensor._keeps, tensor._made, tensor._strided = (), None, None, False
    write(tensor, result)


def _changes(tensor: Tensor, result: Tensor, storage: Storage, others: list[Storage]) -> list[tuple[Tensor, Value]]:
    """Return the tensors that a write changes, with their new values."""
    base = storage.owner()
    assert base is not None
    whole = result if base is tensor else _put_back(base, storage.aval, tensor._steps, result)
    new = _replacement(base, whole._value)
    changes = [(base, new), *_remade(storage, new, tensor._steps)]
    group = storage.group
    if group is None or not (others or group.whole is not None):
        return changes
    whole = tensor_of(constant(new))
    if storage.place:
        whole = _put_back(group.whole, group.aval, storage.place, whole)
    if group.whole is not None:
        changes.append((group.whole, whole._value))
    for other in others:
        if storage.place and apart(group.aval, storage.place, other.place):
            continue
        owner = other.owner()
        if owner is not None:
            part = _under(owner, _replay(whole, other.place)._value)
            changes += [(owner, part), *_remade(other, part, ())]
    return changes


def _remade(storage: Storage, base: Value, written: tuple[Step, ...]) -> list[tuple[Tensor, Value]]:
    """Return the live views of ``storage`` with their values made anew from that of the base.

    ``written``: the steps to what was written to; views that share nothing with it stay, where no history does.
    """
    changes = []
    source = tensor_of(base)
    wants, mode = base.spec.wants, trace.state.mode
    for view in storage.live():
        old = view._value
        if written and not wants and not old.spec.wants and apart(storage.aval, written, view._steps):
            continue
        quiet = view._made in (NO_GRAD, INFERENCE)  # it has no history, and gets none
        context: Any = nullcontext()
        if wants and mode.grad is quiet:
            context = no_grad() if quiet else inference_mode(False)
        with context:
            value = _replay(source, view._steps)._value
        if old.spec.wants and not value.spec.wants and isinstance(old.source, Variable):
            value = marking.mark_variable(value, old.source, again=True)
        changes.append((view, value))
    return changes


def _replay(source: Tensor, steps: tuple[Step, ...]) -> Tensor:
    for rule, params, starts, _ in steps:
        source = trace.record(rule, params, source, *starts)
    return source


def _put_back(base: Tensor | None, of: Aval, steps: tuple[Step, ...], new: Tensor) -> Tensor:
    """Return the base, of aval ``of``, with ``new`` where the view is that ``steps`` lead to.

    Without ``base``, the steps are such that all of it is in the view.
    """
    if base is None:
        avals = [p.outs[0] for p in prepared(of, steps)]
        for (rule, params, _, _), to in zip(reversed(steps), reversed([of, *avals[:-1]])):
            new = trace.record(whole_rule, (rule, params, to), new)
        return new
    levels = [base]
    for rule, params, starts, _ in steps[:-1]:
        levels.append(trace.record(rule, params, levels[-1], *starts))
    for level, (rule, params, starts, _) in zip(reversed(levels), reversed(steps)):
        new = trace.record(put_rule, (rule, params), level, new, *starts)
    return new


def _replacement(tensor: Tensor, value: Value) -> Value:
    """Return ``value`` as what an in-place op points ``tensor`` at; a leaf that wants gradients stays its variable."""
    old = tensor._value
    if old.spec is value.spec and not old.spec.wants:
        return value
    if old.spec.inference is not value.spec.inference:
        value = marking.mark_inference(value, old.spec.inference)
    if old.spec.wants and isinstance(old.source, Variable):
        return marking.mark_variable(value if not value.spec.wants else constant(value), old.source, again=True)
    if old.spec.wants and not value.spec.wants:
        # Written without a history: under `no_grad` the old one stays, else gradients end here.
        return _overwritten(tensor, value, passes=not trace.state.mode.grad)
    return value


def _under(tensor: Tensor, value: Value) -> Value:
    """Return ``value``, which has no history, as new elements for ``tensor`` at its place on the tape."""
    old = tensor._value
    if old.spec.inference is not value.spec.inference:
        value = marking.mark_inference(value, old.spec.inference)
    if old.spec.wants and isinstance(old.source, Variable):
        return marking.mark_variable(value, old.source, again=True)
    return _overwritten(tensor, value, passes=True) if old.spec.wants else value


def _overwritten(tensor: Tensor, value: Value, passes: bool) -> Value:
    """Return ``value`` in the place of ``tensor`` on the tape; ``passes``: gradients flow on to what was there."""
    with inference_mode(False):
        return trace.record(overwrite_rule, (passes,), tensor, tensor_of(value))._value  # type: ignore[no-any-return]


#: A made-up address per storage, far enough from the next one.
_addresses = itertools.count(1 << 40, 1 << 36)


def is_alone(tensor: Tensor) -> bool:
    """Whether no other live tensor shares elements with ``tensor``."""
    storage = tensor._storage
    if storage is None:
        return True
    if tensor._steps or next(storage.live(), None) is not None:
        return False
    if storage.group is not None:
        if storage.group.others(storage):
            return False
        if not storage.place:  # so that nobody looks for the others again
            storage.address, storage.group = storage.group.address, None
    return True


def address(tensor: Tensor) -> int:
    """Return a number that stands for the address of the storage of ``tensor``."""
    storage = tensor._storage
    if storage is None:
        storage = tensor._storage = Storage(tensor)
    home = storage.group or storage
    if not home.address:
        home.address = next(_addresses)
    return home.address
