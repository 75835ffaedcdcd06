"""Forward-mode derivatives: tensors that carry a tangent along.

Nothing is carried: a dual tensor is a fresh variable with its tangent noted beside it, and `unpack_dual` differentiates
the recorded way from the variables of the level to the tensor asked for. A level is in grad mode, also where it was
entered under ``no_grad``. What is computed under ``no_grad`` inside of it has no tangent, unlike PyTorch's.
"""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

from tracegrad._grad_mode import enable_grad
from tracegrad.autograd._levels import Levels, alias

if TYPE_CHECKING:
    from tracegrad._tensor import Tensor


class UnpackedDualTensor(NamedTuple):
    """What `unpack_dual` returns."""

    primal: Tensor
    tangent: Tensor | None


class _Level:
    """The one forward-mode level: its variables with their tangents."""

    def __init__(self) -> None:
        self.levels = Levels()
        self.duals: list[tuple[Tensor, Tensor]] = []


_stack: list[_Level] = []


def enter_dual_level() -> int:
    """Begin a level, in which dual tensors can be made, and return its number.

    Raises:
        RuntimeError: inside another level, as in PyTorch; nest `tracegrad.func.jvp` instead.
    """
    if _stack:
        raise RuntimeError("Nested forward mode AD is not supported at the moment")
    level = _Level()
    level.levels.__enter__()
    _stack.append(level)
    return 0


def exit_dual_level(*, level: int | None = None) -> None:
    """End the level; its tangents are gone."""
    if not _stack or (level is not None and level != len(_stack) - 1):
        raise RuntimeError("Trying to exit a forward AD level that was not the last one that was created. This is not "
                           "supported.")  # fmt: skip
    _stack.pop().levels.__exit__()


class dual_level:
    """A context with a forward-mode level.

    See https://docs.pytorch.org/docs/stable/generated/torch.autograd.forward_ad.dual_level.html

    Example:
        >>> import tracegrad as torch
        >>> import tracegrad.autograd.forward_ad as fwAD
        >>> with fwAD.dual_level():
        ...     x = fwAD.make_dual(torch.tensor(3.0), torch.tensor(1.0))
        ...     fwAD.unpack_dual(x * x).tangent
        tensor(6.)
    """

    def __enter__(self) -> int:
        return enter_dual_level()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:  # fmt: skip
        exit_dual_level()


def make_dual(tensor: Tensor, tangent: Tensor, *, level: int | None = None) -> Tensor:
    """Return a tensor with the elements of ``tensor`` and the tangent ``tangent``.

    Args:
        tensor: floating point or complex.
        tangent: of the shape of ``tensor``.
        level: the number of the level, the current one when None.

    Raises:
        RuntimeError: outside of a level, or where the shapes differ.
        ValueError: for integers and bools.
    """
    if not _stack:
        raise RuntimeError("Trying to create a dual Tensor for forward AD but no level exists, make sure to "
                           "enter_dual_level() first.")  # fmt: skip
    check_dual(tensor, tangent)
    now = _stack[-1]
    with enable_grad():
        dual = now.levels.fresh(tensor)
        now.duals.append((dual, tangent))
        return alias(dual)  # which, unlike a variable, may be written to


def unpack_dual(tensor: Tensor, *, level: int | None = None) -> UnpackedDualTensor:
    """Return a tensor without its tangent, and the tangent, None where it has none."""
    if not _stack:
        return UnpackedDualTensor(tensor, None)
    now = _stack[-1]
    levels = now.levels
    with enable_grad():
        if not (now.duals and tensor._value.spec.wants):
            return UnpackedDualTensor(tensor, None)
        (tangent,) = levels.push([tensor], [d for d, _ in now.duals], [t for _, t in now.duals])
    primal = levels.close(tensor)
    if tangent is None:
        return UnpackedDualTensor(primal, None)
    return UnpackedDualTensor(primal, levels.close(tangent))


def check_dual(primal: Any, tangent: Any) -> None:
    """Raise where ``tangent`` cannot be a tangent of ``primal``."""
    for name, x in (("primal", primal), ("tangent", tangent)):
        if not x.dtype.is_inexact:
            raise ValueError(f"Expected {name} to be floating point or complex, but got: {x.dtype}")
    if tangent.shape != primal.shape:
        raise RuntimeError("Trying to set a forward gradient that has a different size than that of the original "
                           f"Tensor, this is not supported. Tensor is of size {list(primal.shape)} while the given "
                           f"forward gradient is of size {list(tangent.shape)}.")  # fmt: skip
