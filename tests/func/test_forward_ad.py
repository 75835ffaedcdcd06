"""``autograd.forward_ad`` against PyTorch's."""

from __future__ import annotations

import pytest
from _compare import same

import tracegrad

pytestmark = pytest.mark.oracle


def level(use):
    def case(t):
        fw = t.autograd.forward_ad
        with fw.dual_level():
            return use(t, fw)

    return case


def x_of(t, *shape):
    count = 1
    for size in shape:
        count *= size
    return (t.arange(count, dtype=t.float64) * 0.37 - 0.8).sin().reshape(shape)


def dual(t, fw, *shape):
    return fw.make_dual(x_of(t, *shape), x_of(t, *shape) + 1)


def reverse_over_forward(t, fw):
    x, v = x_of(t, 3).requires_grad_(), x_of(t, 3).requires_grad_()
    y = (fw.make_dual(x, v) ** 3).sum()
    primal, tangent = fw.unpack_dual(y)
    return primal, tangent, *t.autograd.grad(tangent, (x, v))


def in_place(t, fw):
    x = dual(t, fw, 3)
    x.mul_(2)
    y = t.zeros(3, dtype=t.float64)
    y.add_(x.sin())
    return tuple(fw.unpack_dual(x)), tuple(fw.unpack_dual(y))


def functions(t):
    fw = t.autograd.forward_ad
    number = fw.enter_dual_level()
    result = fw.unpack_dual(dual(t, fw, 2) ** 2).tangent
    fw.exit_dual_level(level=number)
    return number, result


def under_no_grad(t):
    fw = t.autograd.forward_ad
    with t.no_grad(), fw.dual_level():
        return tuple(fw.unpack_dual(dual(t, fw, 2) ** 2))


CASES = {
    "elementwise": level(lambda t, fw: tuple(fw.unpack_dual(dual(t, fw, 3).sin() * 2))),
    "two": level(lambda t, fw: tuple(fw.unpack_dual(dual(t, fw, 2, 3) @ dual(t, fw, 3, 2)))),
    "with a constant": level(lambda t, fw: tuple(fw.unpack_dual(dual(t, fw, 3) * x_of(t, 3)))),
    "itself": level(lambda t, fw: tuple(fw.unpack_dual(dual(t, fw, 3)))),
    "no tangent": level(lambda t, fw: tuple(fw.unpack_dual(x_of(t, 3) * 2))),
    "detached": level(lambda t, fw: tuple(fw.unpack_dual(dual(t, fw, 3).detach()))),
    "no level": lambda t: tuple(t.autograd.forward_ad.unpack_dual(x_of(t, 3))),
    "reverse over forward": level(reverse_over_forward),
    "in place": level(in_place),
    "functions": functions,
    "under no_grad": under_no_grad,
    "of a level that ended": lambda t: (lambda x: tuple(level(lambda t, fw: fw.unpack_dual(x))(t)))(
        level(lambda t, fw: dual(t, fw, 2))(t)),
    "outside": lambda t: t.autograd.forward_ad.make_dual(x_of(t, 2), x_of(t, 2)),
    "exit without": lambda t: t.autograd.forward_ad.exit_dual_level(level=3),
    "ints": level(lambda t, fw: fw.make_dual(t.ones(2, dtype=t.int64), x_of(t, 2))),
    "ints as tangent": level(lambda t, fw: fw.make_dual(x_of(t, 2), t.ones(2, dtype=t.int64))),
    "shapes": level(lambda t, fw: fw.make_dual(x_of(t, 2), x_of(t, 3))),
    "nested": level(lambda t, fw: fw.enter_dual_level()),
}


@pytest.mark.parametrize("name", CASES)
def test_as_pytorch(name):
    same(CASES[name], wants=name != "of a level that ended")  # there it is still a variable


def test_a_level_ends_with_an_error_inside():
    with pytest.raises(ValueError), tracegrad.autograd.forward_ad.dual_level():
        raise ValueError
    assert tracegrad.autograd.forward_ad.unpack_dual(tracegrad.ones(2)).tangent is None
