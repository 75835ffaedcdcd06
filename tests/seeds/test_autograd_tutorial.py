"""The founding tutorial: a 2x2 tensor and its gradient, a loop that ends by value, tracking switched off."""

from __future__ import annotations

from typing import Any

import pytest


def test_tensor_and_gradient(notebook: Any) -> None:
    assert notebook("""
import tracegrad as torch
x = torch.ones(2, 2, requires_grad=True)
print(x)
""") == """\
tensor([[1., 1.],
        [1., 1.]], requires_grad=True)
"""
    assert notebook("""
y = x + 2
print(y)
""") == """\
tensor([[3., 3.],
        [3., 3.]], grad_fn=<AddBackward0>)
"""
    assert notebook("print(y.grad_fn)") == "<AddBackward0 object at 0x...>\n"
    assert notebook("""
z = y * y * 3
out = z.mean()
print(z, out)
""") == """\
tensor([[27., 27.],
        [27., 27.]], grad_fn=<MulBackward0>) tensor(27., grad_fn=<MeanBackward0>)
"""
    assert notebook("""
a = torch.randn(2, 2)
a = ((a * 3) / (a - 1))
print(a.requires_grad)
a.requires_grad_(True)
print(a.requires_grad)
b = (a * a).sum()
print(b.grad_fn)
""") == """\
False
True
<SumBackward0 object at 0x...>
"""
    assert notebook("out.backward()") == ""
    assert notebook("print(x.grad)") == """\
tensor([[4.5000, 4.5000],
        [4.5000, 4.5000]])
"""


def test_implicit_gradient_is_one(notebook: Any) -> None:
    """What the tutorial says of ``out.backward()``: the same as handing in a one."""
    notebook("""
import tracegrad as torch
x = torch.ones(2, 2, requires_grad=True)
y = x + 2
z = y * y * 3
out = z.mean()
""")
    notebook("out.backward(torch.tensor(1.))")
    assert notebook("print(x.grad)") == """\
tensor([[4.5000, 4.5000],
        [4.5000, 4.5000]])
"""


LOOP = """
y = x * 2
while y.data.norm() < 1000:
    y = y * 2
print(y)
"""
GRADIENT = """
gradients = torch.tensor([0.1, 1.0, 0.0001], dtype=torch.float)
y.backward(gradients)
print(x.grad)
"""


def test_loop_that_ends_by_value(notebook: Any) -> None:
    """The tutorial's loop from the very numbers it drew: what it printed, over the doublings it took."""
    notebook("""
import tracegrad as torch
x = torch.tensor([-590.4467, 97.6760, 921.0221], dtype=torch.float) / 512
x.requires_grad_(True)
""")
    assert notebook(LOOP) == "tensor([-590.4467,   97.6760,  921.0221], grad_fn=<MulBackward0>)\n"
    assert notebook(GRADIENT) == "tensor([5.1200e+01, 5.1200e+02, 5.1200e-02])\n"


@pytest.mark.parametrize("seed", range(3))
def test_loop_on_random_numbers(notebook: Any, seed: int) -> None:
    notebook(f"""
import tracegrad as torch
torch.manual_seed({seed})
""")
    notebook("x = torch.randn(3, requires_grad=True)")
    assert notebook(LOOP).endswith(", grad_fn=<MulBackward0>)\n")
    notebook(GRADIENT)
    x, y = notebook.names["x"], notebook.names["y"]
    doublings = (y.detach() / x.detach()).numpy()
    assert (doublings == doublings[0]).all() and doublings[0] >= 2
    assert 1000 <= float(y.detach().norm()) and float(y.detach().norm()) / 2 < 1000
    assert x.grad.tolist() == pytest.approx([0.1 * doublings[0], doublings[0], 0.0001 * doublings[0]])
    assert notebook("""
print(x.requires_grad)
print((x ** 2).requires_grad)
with torch.no_grad():
    print((x ** 2).requires_grad)
""") == "True\nTrue\nFalse\n"
