"""The founding encyclopedia entry: a 3x3x3 tensor, its data, its gradient, a graph that a backward frees."""

from __future__ import annotations

from typing import Any

import pytest

MAKE = """
import tracegrad as torch
x = torch.ones(3,3,3,requires_grad=True)
print (x)
"""


def cube(number: str, end: str = "") -> str:
    """Return how 3x3x3 times the same number prints."""
    row = f"[{number}, {number}, {number}]"
    block = f"[{row},\n         {row},\n         {row}]"
    return f"tensor([{block},\n\n        {block},\n\n        {block}]{end})\n"


def test_cube_is_what_the_entry_shows() -> None:
    assert cube("3.", ", grad_fn=<MulBackward0>") == """\
tensor([[[3., 3., 3.],
         [3., 3., 3.],
         [3., 3., 3.]],

        [[3., 3., 3.],
         [3., 3., 3.],
         [3., 3., 3.]],

        [[3., 3., 3.],
         [3., 3., 3.],
         [3., 3., 3.]]], grad_fn=<MulBackward0>)
"""


def test_tensor_data_and_operation(notebook: Any) -> None:
    assert notebook(MAKE) == cube("1.", ", requires_grad=True")
    assert notebook("print (x.data)") == cube("1.")
    assert notebook("print (x.grad)") == "None\n"
    assert notebook("""
y = x * 3
print(y)
""") == cube("3.", ", grad_fn=<MulBackward0>")
    assert notebook("print (y.grad_fn)") == "<MulBackward0 object at 0x...>\n"


BACKWARD = """
x = torch.ones(3,3,3, requires_grad=True)
y = x * 3
y.backward(torch.ones(3,3,3))
print(x.grad)
"""
MORE = """
z = y * y * y
print(z)
"""
AGAIN = """
y.backward(gradient)

print(x.grad)
"""
#: What the entry shows at its end. It begins with "Tensor", a misprint: tensors print in lower case.
SHOWN = """\
tensor([[[ 3.9394,  5.6904,  3.2610],
         [ 3.5621, -0.7557,  4.3721],
         [ 7.6155,  9.2516,  2.9956]],

        [[ 1.4368,  0.5990,  7.6822],
         [ 1.8252, -2.0303, -2.0354],
         [ 0.1065,  1.2566,  2.5728]],

        [[-1.2817,  0.0793,  2.5414],
         [ 1.6439,  2.6008, -1.2971],
         [ 3.6977,  2.7832,  1.4368]]])
"""


def test_graph_is_freed_unless_retained(notebook: Any) -> None:
    notebook(MAKE)
    assert notebook(BACKWARD) == cube("3.")
    assert notebook(MORE) == cube("27.", ", grad_fn=<MulBackward0>")
    notebook("gradient = torch.randn(3,3,3)")
    with pytest.raises(RuntimeError, match="^Trying to backward through the graph a second time"):
        notebook(AGAIN)
    assert notebook("print(x.grad)") == cube("3.")


@pytest.mark.filterwarnings("ignore:retain_variables is deprecated")
@pytest.mark.parametrize("option", ["retain_graph", "retain_variables"])
def test_second_backward_accumulates(notebook: Any, option: str) -> None:
    """The random gradient is worked back from what the entry shows; today the option goes to ``backward``."""
    if option == "retain_variables" and notebook.library.__name__ == "torch":
        option = "retain_graph"  # PyTorch has dropped the old name
    notebook(MAKE)
    retaining = BACKWARD.replace("torch.ones(3,3,3))", f"torch.ones(3,3,3), {option}=True)")
    assert notebook(retaining) == cube("3.")
    assert notebook(MORE) == cube("27.", ", grad_fn=<MulBackward0>")
    notebook(f"gradient = (torch.tensor({SHOWN.removeprefix('tensor(').rstrip()[:-1]}) - 3) / 3")
    assert notebook(AGAIN) == SHOWN
