"""The founding article on using autograd: a mean and its gradient, tracking switched on late and off."""

from __future__ import annotations

from typing import Any

ONES = """\
tensor([[1., 1., 1., 1., 1.],
        [1., 1., 1., 1., 1.],
        [1., 1., 1., 1., 1.],
        [1., 1., 1., 1., 1.],
        [1., 1., 1., 1., 1.]], requires_grad=True)
"""
EIGHTS = """\
tensor([[8., 8., 8., 8., 8.],
        [8., 8., 8., 8., 8.],
        [8., 8., 8., 8., 8.],
        [8., 8., 8., 8., 8.],
        [8., 8., 8., 8., 8.]], grad_fn=<AddBackward0>)
"""
FORTIES = """\
tensor([[40., 40., 40., 40., 40.],
        [40., 40., 40., 40., 40.],
        [40., 40., 40., 40., 40.],
        [40., 40., 40., 40., 40.],
        [40., 40., 40., 40., 40.]], grad_fn=<MulBackward0>)
"""
FIFTHS = """\
tensor([[0.2000, 0.2000, 0.2000, 0.2000, 0.2000],
        [0.2000, 0.2000, 0.2000, 0.2000, 0.2000],
        [0.2000, 0.2000, 0.2000, 0.2000, 0.2000],
        [0.2000, 0.2000, 0.2000, 0.2000, 0.2000],
        [0.2000, 0.2000, 0.2000, 0.2000, 0.2000]])
"""


def test_gradient_of_a_mean(notebook: Any) -> None:
    assert notebook("""
import tracegrad as torch
x = torch.ones(5,5,requires_grad = True)
""") == ""
    assert notebook("x") == ONES
    assert notebook("""
#add operation
y = x + 7
print(y)
""") == EIGHTS
    assert notebook("""
# multiplication operation
z = y*5
print(z)
""") == FORTIES
    assert notebook("""
#mean of z
mean = z.mean()
print(mean)
""") == "tensor(40., grad_fn=<MeanBackward0>)\n"
    assert notebook("""
#backpropagation
mean.backward()
# gradient
print(x.grad)
""") == FIFTHS


def test_tracking_switched_on_late(notebook: Any) -> None:
    assert notebook("""
import tracegrad as torch
a = torch.ones(3,3)
print(a)
#operation
a = a+5
print(a)
print(a.requires_grad)
# enable autograd
a.requires_grad_(True)
#opeation on a
b = (a*a).sum()
print(b)
print(b.grad_fn)
""") == """\
tensor([[1., 1., 1.],
        [1., 1., 1.],
        [1., 1., 1.]])
tensor([[6., 6., 6.],
        [6., 6., 6.],
        [6., 6., 6.]])
False
tensor(324., grad_fn=<SumBackward0>)
<SumBackward0 object at 0x...>
"""


def test_tracking_switched_off(notebook: Any) -> None:
    """The article's last program; the indentation of the ``with`` block, lost in print, is restored."""
    notebook("""
import tracegrad as torch
x = torch.ones(5,5,requires_grad = True)
""")
    assert notebook("""
# stop tensor from tracking history with torch.no_grad() :
print(x.requires_grad)
y=x*2
print(y.requires_grad)
with torch.no_grad():
    y = x*2
    print(y.requires_grad)
""") == "True\nTrue\nFalse\n"
