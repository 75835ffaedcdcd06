"""Bad input: PyTorch's exception type and wording, at the user's own line, with all usable afterwards.

Each case is source text that runs in both libraries, and PyTorch's message, so that it is tested without PyTorch too.
"""

# ruff: noqa: E501 (PyTorch's own sentences)
from __future__ import annotations

import re
import traceback
import warnings
from pathlib import Path

import pytest

import tracegrad

CASES = {
    # numbers
    "huge number": ("torch.ones(2) * 2**70", OverflowError, "int too big to convert"),
    # shapes
    "broadcast": ("torch.ones(2, 3) + torch.ones(4)", RuntimeError,
                  "The size of tensor a (3) must match the size of tensor b (4) at non-singleton dimension 1"),
    "broadcast mul": ("torch.ones(2, 3) * torch.ones(3, 3)", RuntimeError,
                      "The size of tensor a (2) must match the size of tensor b (3) at non-singleton dimension 0"),
    "matmul": ("torch.ones(2, 3) @ torch.ones(4, 5)", RuntimeError,
               "mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)"),
    "matmul vector": ("torch.ones(2, 3) @ torch.ones(4)", RuntimeError,
                      "size mismatch, got input (2), mat (2x3), vec (4)"),
    "matmul dtype": ("torch.ones(2, 3) @ torch.ones(3, 2).double()", RuntimeError,
                     "expected m1 and m2 to have the same dtype, but got: float != double"),
    "matmul 0-dim": ("torch.ones(()) @ torch.ones(3)", RuntimeError,
                     "both arguments to matmul need to be at least 1D, but they are 0D and 1D"),
    "mm": ("torch.mm(torch.ones(3), torch.ones(3))", RuntimeError, "self must be a matrix"),
    "dot": ("torch.dot(torch.ones(3), torch.ones(2))", RuntimeError,
            "inconsistent tensor size, expected tensor [3] and src [2] to have the same number of elements, but got 3 "
            "and 2 elements respectively"),
    "linear": ("torch.nn.functional.linear(torch.ones(2, 3), torch.ones(4, 5))", RuntimeError,
               "mat1 and mat2 shapes cannot be multiplied (2x3 and 5x4)"),
    "cat": ("torch.cat([torch.ones(2, 3), torch.ones(2, 2)])", RuntimeError,
            "Sizes of tensors must match except in dimension 0. Expected size 3 but got size 2 for tensor number 1 in the "
            "list."),
    "cat 0-dim": ("torch.cat([torch.ones(()), torch.ones(2)])", RuntimeError,
                  "zero-dimensional tensor (at position 0) cannot be concatenated"),
    "cat nothing": ("torch.cat([])", (RuntimeError, ValueError), "expected a non-empty list of Tensors"),
    "stack": ("torch.stack([torch.ones(2), torch.ones(3)])", RuntimeError,
              "stack expects each tensor to be equal size, but got [2] at entry 0 and [3] at entry 1"),
    "view": ("torch.ones(2, 3).view(4, 2)", RuntimeError, "shape '[4, 2]' is invalid for input of size 6"),
    "reshape": ("torch.ones(2, 3).reshape(-1, 4)", RuntimeError, "shape '[-1, 4]' is invalid for input of size 6"),
    "two unknown": ("torch.ones(2, 3).reshape(-1, -1)", RuntimeError, "only one dimension can be inferred"),
    "expand": ("torch.ones(2, 3).expand(2, 4)", RuntimeError,
               "The expanded size of the tensor (4) must match the existing size (3) at non-singleton dimension 1.  Target "
               "sizes: [2, 4].  Tensor sizes: [2, 3]"),
    "t": ("torch.ones(2, 3, 4).t()", RuntimeError, "t() expects a tensor with <= 2 dimensions, but self is 3D"),
    "permute": ("torch.ones(2, 3).permute(0, 0)", RuntimeError, "permute(): duplicate dims are not allowed."),
    "sum dim": ("torch.ones(2, 3).sum(2)", IndexError,
                "Dimension out of range (expected to be in range of [-2, 1], but got 2)"),
    "transpose dim": ("torch.ones(2, 3).transpose(0, -3)", IndexError,
                      "Dimension out of range (expected to be in range of [-2, 1], but got -3)"),
    "repeated dim": ("torch.ones(2, 3).sum((0, 0))", RuntimeError, "dim 0 appears multiple times in the list of dims"),
    "amax empty": ("torch.ones(0).amax()", (IndexError, RuntimeError), ""),
    "argmax empty": ("torch.ones(0).argmax()", IndexError,
                     "argmax(): Expected reduction dim to be specified for input.numel() == 0."),
    "topk": ("torch.ones(3).topk(4)", RuntimeError, "selected index k out of range"),
    "chunk": ("torch.ones(3).chunk(0)", RuntimeError, "chunk expects `chunks` to be greater than 0, got: 0"),
    "split": ("torch.ones(5).split([2, 2])", RuntimeError,
              "split_with_sizes expects split_sizes to sum exactly to 5 (input tensor's size at dimension 0), but got "
              "split_sizes=[2, 2]"),
    "conv2d": ("torch.nn.functional.conv2d(torch.ones(1, 3, 4, 4), torch.ones(2, 2, 2, 2))", RuntimeError,
               "Given groups=1, weight of size [2, 2, 2, 2], expected input[1, 3, 4, 4] to have 2 channels, but got 3 "
               "channels instead"),
    "layer_norm": ("torch.nn.functional.layer_norm(torch.ones(2, 3), (2,))", RuntimeError,
                   "Given normalized_shape=[2], expected input with shape [*, 2], but got input of size[2, 3]"),
    "cross_entropy": ("torch.nn.functional.cross_entropy(torch.ones(2, 3), torch.tensor([0]))", ValueError,
                      "Expected input batch_size (2) to match target batch_size (1)."),
    # indices
    "index": ("torch.ones(2, 3)[2]", IndexError, "index 2 is out of bounds for dimension 0 with size 2"),
    "index negative": ("torch.ones(2, 3)[0, -4]", IndexError, "index -4 is out of bounds for dimension 1 with size 3"),
    "too many indices": ("torch.ones(2)[0, 0]", IndexError, "too many indices for tensor of dimension 1"),
    "index 0-dim": ("torch.ones(())[0]", IndexError,
                    "invalid index of a 0-dim tensor. Use `tensor.item()` in Python or `tensor.item<T>()` in C++ to "
                    "convert a 0-dim tensor to a number"),
    "mask": ("torch.ones(3)[torch.tensor([True, False])]", IndexError,
             "The shape of the mask [2] at index 0 does not match the shape of the indexed tensor [3] at index 0"),
    "float index": ("torch.ones(3)[torch.ones(2)]", IndexError,
                    "tensors used as indices must be long, int, byte or bool tensors"),
    "negative step": ("torch.ones(3)[::-1]", ValueError, "step must be greater than zero"),
    # dtypes
    "mean of integers": ("torch.tensor([1, 2]).mean()", RuntimeError,
                         "mean(): could not infer output dtype. Input dtype must be either a floating point or complex "
                         "dtype. Got: Long"),
    "softmax of integers": ("torch.softmax(torch.tensor([1, 2]), 0)", RuntimeError, "not implemented for 'Long'"),
    "bool minus": ("torch.tensor([True]) - torch.tensor([True])", RuntimeError,
                   "Subtraction, the `-` operator, with two bool tensors is not supported. Use the `^` or `logical_xor()` "
                   "operator instead."),
    "negative bool": ("-torch.tensor([True])", RuntimeError,
                      "Negation, the `-` operator, on a bool tensor is not supported. If you are trying to invert a mask, "
                      "use the `~` or `logical_not()` operator instead."),
    "in-place result type": ("x = torch.tensor([1, 2]); x.add_(0.5)", RuntimeError,
                             "result type Float can't be cast to the desired output type Long"),
    "in-place shape": ("x = torch.ones(3); x.add_(torch.ones(2, 3))", RuntimeError,
                       "output with shape [3] doesn't match the broadcast shape [2, 3]"),
    "integer power": ("torch.tensor([2]) ** -1", RuntimeError,
                      "Integers to negative integer powers are not allowed."),
    "where": ("torch.where(torch.ones(2), 1.0, 2.0)", RuntimeError,
              "where expected condition to be a boolean tensor, but got a tensor with dtype Float"),
    "gather": ("torch.gather(torch.ones(2), 0, torch.ones(2))", RuntimeError,
               "gather(): Expected dtype int32/int64 for index"),
    "ragged": ("torch.tensor([[1], [2, 3]])", ValueError, "expected sequence of length 1 at dim 1 (got 2)"),
    # gradients
    "backward of many": ("x = torch.ones(2, requires_grad=True); (x * 2).backward()", RuntimeError,
                         "grad can be implicitly created only for scalar outputs"),
    "backward of none": ("torch.ones(()).backward()", RuntimeError,
                         "element 0 of tensors does not require grad and does not have a grad_fn"),
    "gradient shape": ("x = torch.ones(2, requires_grad=True); (x * 2).backward(torch.ones(3))", RuntimeError,
                       "Mismatch in shape: grad_output[0] has a shape of torch.Size([3]) and output[0] has a shape of "
                       "torch.Size([2])."),
    "second backward": ("x = torch.ones(2, requires_grad=True); y = (x * x).sum(); y.backward(); y.backward()",
                        RuntimeError, "Trying to backward through the graph a second time (or directly access saved tensors "
                        "after they have already been freed). Saved intermediate values of the graph are freed when you call "
                        ".backward() or autograd.grad(). Specify retain_graph=True if you need to backward through the graph "
                        "a second time or if you need to access saved tensors after calling backward."),
    "in-place on a leaf": ("x = torch.ones(2, requires_grad=True); x.add_(1)", RuntimeError,
                           "a leaf Variable that requires grad is being used in an in-place operation."),
    "+= on a leaf": ("x = torch.ones(2, requires_grad=True); x += 1", RuntimeError,
                     "a leaf Variable that requires grad is being used in an in-place operation."),
    "integer wants": ("torch.tensor([1, 2], requires_grad=True)", RuntimeError,
                      "Only Tensors of floating point and complex dtype can require gradients"),
    "integer requires_grad_": ("torch.tensor([1, 2]).requires_grad_()", RuntimeError,
                               "only Tensors of floating point dtype can require gradients"),
    "non-leaf flag": ("x = torch.ones(2, requires_grad=True); (x * 2).requires_grad_(False)", RuntimeError,
                      "you can only change requires_grad flags of leaf variables. If you want to use a computed variable in "
                      "a subgraph that doesn't require differentiation use var_no_grad = var.detach()."),
    "unused": ("x = torch.ones(2, requires_grad=True); z = torch.ones(2, requires_grad=True); "
               "torch.autograd.grad((x * 2).sum(), z)", RuntimeError, "appears to not have been used in the graph"),
    "grad wrt constant": ("x = torch.ones(2, requires_grad=True); torch.autograd.grad((x * 2).sum(), torch.ones(2))",
                          RuntimeError, "One of the differentiated Tensors does not require grad"),
    "retain_grad": ("torch.ones(2).retain_grad()", RuntimeError,
                    "can't retain_grad on Tensor that has requires_grad=False"),
    "grad size": ("x = torch.ones(2, requires_grad=True); x.grad = torch.ones(3)", RuntimeError,
                  "attempting to assign a gradient of size '[3]' to a tensor of size '[2]'. Please ensure that the gradient and the "
                  "tensor are the same size"),
    "deepcopy": ("x = torch.ones(2, requires_grad=True); (x * 2).__deepcopy__({})", RuntimeError,
                 "Only Tensors created explicitly by the user (graph leaves) support the deepcopy protocol at the moment."),
    # reading
    "numpy": ("torch.ones(2, requires_grad=True).numpy()", RuntimeError,
              "Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead."),
    "item": ("torch.ones(2).item()", RuntimeError, "a Tensor with 2 elements cannot be converted to Scalar"),
    "bool": ("bool(torch.ones(2))", RuntimeError, "Boolean value of Tensor with more than one value is ambiguous"),
    "bool of none": ("bool(torch.ones(0))", RuntimeError, "Boolean value of Tensor with no values is ambiguous"),
    "float": ("float(torch.ones(2))", ValueError, "only one element tensors can be converted to Python scalars"),
    "int": ("int(torch.ones(2))", ValueError, "only one element tensors can be converted to Python scalars"),
    "grad type": ("x = torch.ones(2, requires_grad=True); x.grad = torch.ones(2).double()", RuntimeError,
                  "attempting to assign a gradient with dtype 'double' to a tensor with grad_dtype 'Float'."),
    "len": ("len(torch.ones(()))", TypeError, "len() of a 0-d tensor"),
    "iter": ("list(torch.ones(()))", TypeError, "iteration over a 0-d tensor"),
    "index float": ("[1, 2][torch.ones(())]", TypeError,
                    "only integer tensors of a single element can be converted to an index"),
    # libraries
    "learning rate": ("torch.optim.SGD([torch.ones(1, requires_grad=True)], lr=-1.0)", ValueError,
                      "Invalid learning rate: -1.0"),
    "momentum": ("torch.optim.SGD([torch.ones(1, requires_grad=True)], lr=0.1, momentum=-1.0)", ValueError,
                 "Invalid momentum value: -1.0"),
    "nesterov": ("torch.optim.SGD([torch.ones(1, requires_grad=True)], lr=0.1, nesterov=True)", ValueError,
                 "Nesterov momentum requires a momentum and zero dampening"),
    "betas": ("torch.optim.Adam([torch.ones(1, requires_grad=True)], betas=(1.0, 0.9))", ValueError,
              "Invalid beta parameter at index 0: 1.0"),
    "no parameters": ("torch.optim.Adam([])", ValueError, "optimizer got an empty parameter list"),
    "a tensor as parameters": ("torch.optim.Adam(torch.ones(2))", TypeError,
                               "params argument given to the optimizer should be an iterable of Tensors or dicts, but got"),
    "non-leaf parameter": ("x = torch.ones(1, requires_grad=True); torch.optim.SGD([x * 2], lr=0.1)", ValueError,
                           "can't optimize a non-leaf Tensor"),
    "dropout": ("torch.nn.functional.dropout(torch.ones(2), 1.5)", ValueError,
                "dropout probability has to be between 0 and 1, but got 1.5"),
    "reduction": ("torch.nn.functional.mse_loss(torch.ones(2), torch.ones(2), reduction='max')", ValueError,
                  "max is not a valid value for reduction"),
    "nothing forward": ("torch.nn.Module()(1)", NotImplementedError,
                        'Module [Module] is missing the required "forward" function'),
    "no attribute": ("torch.nn.Linear(2, 2).wieght", AttributeError, "'Linear' object has no attribute 'wieght'"),
}  # fmt: skip


def raised(torch, source):
    with pytest.raises(Exception) as caught:  # noqa: PT011
        exec(compile(source, "<user's own line>", "exec"), {"torch": torch})
    return caught.value


@pytest.mark.parametrize("name", CASES)
def test_type_wording_and_line(name):
    source, kind, message = CASES[name]
    before = torch_state()
    error = raised(tracegrad, source)
    assert isinstance(error, kind), f"{type(error).__name__}: {error}"
    assert re.search(re.escape(message), str(error)), str(error)
    frames = traceback.extract_tb(error.__traceback__)
    package = str(Path(tracegrad.__file__).parent)
    outside = [f for f in frames if not f.filename.startswith(package) and "jax" not in f.filename]
    assert outside[-1].filename == "<user's own line>", [f.filename for f in outside]
    check_usable(*before)


def torch_state():
    x = tracegrad.tensor([1.0, 2.0], requires_grad=True)
    pending = (x * 3).sum()
    return x, pending


def check_usable(x, pending):
    """What was pending before an error is not lost, and the tape goes on."""
    assert tracegrad.is_grad_enabled()
    more = pending + (x * x).sum()
    more.backward()
    assert x.grad.tolist() == [5.0, 7.0] and pending.item() == 9.0 and more.item() == 14.0


@pytest.mark.oracle
@pytest.mark.parametrize("name", CASES)
def test_as_pytorch(name):
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle: pip install -e .[oracle]")
    source, kind, message = CASES[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = raised(torch, source)
    ours = raised(tracegrad, source)
    assert re.search(re.escape(message), str(theirs)), f"the case itself is wrong: {theirs}"
    assert type(ours) is type(theirs), f"{ours!r} and {theirs!r}"
    if message:
        theirs_first, ours_first = str(theirs).splitlines()[0], str(ours).splitlines()[0]
        assert message in ours_first or ours_first == theirs_first, f"{ours_first!r} and {theirs_first!r}"


def test_grad_of_a_non_leaf_warns():
    x = tracegrad.ones(2, requires_grad=True)
    y = x * 2
    with pytest.warns(UserWarning, match="The .grad attribute of a Tensor that is not a leaf Tensor is being") as seen:
        assert y.grad is None
    assert seen[0].filename == __file__
    y.retain_grad()
    assert y.grad is None
    y.sum().backward()
    assert y.grad.tolist() == [1.0, 1.0]


def test_an_error_in_the_middle_of_a_training_step(compiled):
    w = tracegrad.ones(3, requires_grad=True)
    optimizer = tracegrad.optim.SGD([w], lr=0.5)
    for step in range(6):
        optimizer.zero_grad()
        loss = (w * w).sum()
        if step % 2:
            with pytest.raises(RuntimeError, match="must match the size"):
                loss + (w * tracegrad.ones(4))
        loss.backward()
        optimizer.step()
        assert w.tolist() == [0.0, 0.0, 0.0]
        if step == 3:
            compiled()
    assert compiled() == 0


def test_a_failed_backward_leaves_gradients_alone():
    x = tracegrad.tensor([1.0, 2.0], requires_grad=True)
    y = (x * x).sum()
    y.backward()
    with pytest.raises(RuntimeError, match="second time"):
        (y + x.sum()).backward()
    assert x.grad.tolist() == [2.0, 4.0]
    x.sum().backward()
    assert x.grad.tolist() == [3.0, 5.0]
