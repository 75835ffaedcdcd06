"""PyTorch's conventions at kinks, ties, empty inputs and at the ends of number types, where JAX's are others."""

from __future__ import annotations

import math

import numpy as np
import pytest

import tracegrad

nan, inf = math.nan, math.inf

#: expression in x -> x, its gradient
GRADIENTS = {
    "x.abs()": ([0.0, -2.0], [0.0, -1.0]),
    "x.norm(p=1)": ([0.0, 0.0], [0.0, 0.0]),
    "x.norm()": ([0.0, 0.0], [0.0, 0.0]),
    "x.norm(p=3)": ([0.0, 0.0], [0.0, 0.0]),
    "x.std()": ([1.0, 1.0, 1.0], [0.0, 0.0, 0.0]),
    "torch.atan2(x, torch.zeros(1))": ([0.0], [0.0]),
    "torch.hypot(x, torch.zeros(1))": ([0.0], [nan]),
    "x**0": ([0.0, 2.0], [0.0, 0.0]),
    "x.clamp(0.0, 1.0)": ([0.0, 1.0, 0.5, 2.0], [1.0, 1.0, 1.0, 0.0]),
    "torch.nn.functional.hardtanh(x)": ([-1.0, 1.0, 0.5], [0.0, 0.0, 1.0]),
    "torch.nn.functional.leaky_relu(x)": ([0.0, 1.0], [0.01, 1.0]),
    "x.relu()": ([0.0, 1.0, -1.0], [0.0, 1.0, 0.0]),
    "torch.nn.functional.relu6(x)": ([0.0, 6.0, 3.0], [0.0, 0.0, 1.0]),
    "x.max(0).values": ([3.0, 1.0, 3.0], [1.0, 0.0, 0.0]),
    "x.min(0).values": ([1.0, 3.0, 1.0], [1.0, 0.0, 0.0]),
    "x.max()": ([3.0, 1.0, 3.0], [0.5, 0.0, 0.5]),
    "x.amax(0)": ([3.0, 1.0, 3.0], [0.5, 0.0, 0.5]),
    "x.amin()": ([1.0, 3.0, 1.0], [0.5, 0.0, 0.5]),
    "torch.maximum(x, torch.tensor([1.0, 2.0]))": ([1.0, 3.0], [0.5, 1.0]),
    "x.prod()": ([0.0, 2.0, 3.0], [6.0, 0.0, 0.0]),
    "x.cumprod(0)": ([0.0, 2.0, 3.0], [9.0, 0.0, 0.0]),
    "x.sqrt()": ([0.0, 4.0], [inf, 0.25]),
    "torch.where(x > 0, x.log(), x)": ([0.0, 2.0], [nan, 0.5]),
    "torch.xlogy(x, torch.tensor([0.0, 2.0]))": ([0.0, 1.0], [0.0, math.log(2.0)]),
    "x.sinc()": ([0.0], [0.0]),
    "x.sign()": ([0.0, 2.0], [0.0, 0.0]),
    "x.logsumexp(0)": ([-inf, 0.0], [0.0, 1.0]),
    "torch.softmax(x, 0)[1]": ([-inf, 0.0], [0.0, 0.0]),
    "torch.nn.functional.l1_loss(x, torch.zeros(2), reduction='sum')": ([0.0, 1.0], [0.0, 1.0]),
    "torch.nn.functional.smooth_l1_loss(x, torch.zeros(2), reduction='sum')": ([0.0, 1.0], [0.0, 1.0]),
    "x.sort(stable=True).values[0]": ([1.0, 1.0, 2.0], [1.0, 0.0, 0.0]),
    "x.median()": ([3.0, 1.0, 2.0, 4.0], [0.0, 0.0, 1.0, 0.0]),
    "x.median(0).values": ([2.0, 1.0, 2.0], [1.0, 0.0, 0.0]),
    "x.mode(0).values": ([1.0, 2.0, 1.0], [0.0, 0.0, 1.0]),
    "x.cummax(0).values": ([1.0, 1.0, 0.0], [1.0, 2.0, 0.0]),
    "x.norm(p=inf)": ([2.0, -2.0], [0.5, -0.5]),
    "x.norm(p=0.5)": ([0.0, 1.0], [0.0, 1.0]),
    "torch.zeros(2) ** x": ([0.0, 2.0], [0.0, 0.0]),
    "x ** torch.tensor([2.0, 0.5])": ([-1.5, 0.0], [-3.0, inf]),
    "x ** 1.5": ([0.0, -1.0], [0.0, nan]),
    "x.prod(0)": ([0.0, 0.0, 3.0], [0.0, 0.0, 0.0]),
    "x.var()": ([1.0, 1.0, 1.0], [0.0, 0.0, 0.0]),
    "x.var(correction=0)": ([1.0], [0.0]),
    "torch.cdist(x.reshape(1, 2), torch.zeros(1, 2))": ([0.0, 0.0], [0.0, 0.0]),
    "torch.nn.functional.cosine_similarity(x, torch.ones(2), 0)": ([0.0, 4.0], [0.1767767, 0.0]),
    "x.clamp(torch.zeros(3), torch.ones(3))": ([0.0, 1.0, 2.0], [1.0, 1.0, 0.0]),
    "torch.fmax(x, torch.tensor([1.0, nan]))": ([1.0, 2.0], [1.0, 1.0]),
    "x.log_softmax(0)[0]": ([-inf, -inf], [nan, nan]),
    "x.rsqrt()": ([0.0], [-inf]),
    "x.reciprocal()": ([0.0], [-inf]),
    "x.acos()": ([1.0], [-inf]),
    "x.relu() / x": ([0.0], [nan]),
    "(x * torch.tensor([False, True])).nan_to_num()": ([inf, 1.0], [0.0, 1.0]),
    "torch.nn.functional.softplus(x)": ([0.0, 25.0], [0.5, 1.0]),
    "torch.nn.functional.hardswish(x)": ([-3.0, 3.0], [0.0, 1.0]),
    "torch.nn.functional.elu(x)": ([0.0], [1.0]),
    "torch.nn.functional.huber_loss(x, torch.zeros(2), reduction='sum')": ([0.0, 1.0], [0.0, 1.0]),
    "torch.linalg.eigvalsh(x.diag()).sum()": ([1.0, 1.0], [1.0, 1.0]),
    "torch.linalg.svdvals(x.diag()).sum()": ([2.0, 2.0], [1.0, 1.0]),
    "torch.linalg.matrix_norm(x.diag(), 2)": ([2.0, 2.0], [0.5, 0.5]),
    "torch.nn.functional.max_pool2d(x.reshape(1, 2, 2), 2)": ([1.0, 1.0, 1.0, 1.0], [1.0, 0.0, 0.0, 0.0]),
}  # fmt: skip

#: expression -> elements, or the exception type
VALUES = {
    "torch.tensor([nan, inf, -inf, 3e10]).to(torch.int32).tolist()": [-(2**31)] * 4,
    "torch.tensor([1.5, -1.5, -0.5]).long().tolist()": [1, -1, 0],
    "(torch.tensor([1]) // torch.tensor([0])).tolist()": RuntimeError,
    "(torch.tensor([1]) % torch.tensor([0])).tolist()": RuntimeError,
    "torch.tensor([-7, 7]).div(torch.tensor([2, -2]), rounding_mode='trunc').tolist()": [-3, -3],
    "(torch.tensor([-7, 7]) // torch.tensor([2, -2])).tolist()": [-4, -4],
    "(torch.tensor([-7, 7]) % torch.tensor([2, -2])).tolist()": [1, -1],
    "torch.tensor([200], dtype=torch.uint8).sum().dtype": "torch.int64",
    "torch.tensor([200, 100], dtype=torch.uint8).sum().tolist()": 300,
    "(torch.tensor([200], dtype=torch.uint8) + 100).tolist()": [44],
    "torch.tensor([True, True]).sum().tolist()": 2,
    "torch.tensor([1.0, 3.0]).std().tolist()": math.sqrt(2.0),
    "torch.ones(1).var(correction=0).tolist()": 0.0,
    "torch.ones(0).sum().tolist()": 0.0,
    "torch.ones(0).prod().tolist()": 1.0,
    "torch.ones(0).mean().tolist()": nan,
    "torch.ones(0).max()": RuntimeError,
    "torch.ones(0, 3).amax(0)": IndexError,
    "torch.ones(0).all().tolist()": True,
    "torch.ones(0).any().tolist()": False,
    "torch.tensor([1, 2]).mean()": RuntimeError,
    "torch.tensor([nan, 1.0]).max().tolist()": nan,
    "torch.tensor([nan, 1.0]).argmax().tolist()": 0,
    "torch.tensor([1.0, nan]).sort().values.tolist()": [1.0, nan],
    "torch.tensor([3.0, 1.0, 2.0, 4.0]).median().tolist()": 2.0,
    "torch.tensor([0.5, 1.5, 2.5]).round().tolist()": [0.0, 2.0, 2.0],
    "(torch.tensor([False]) * torch.tensor([inf])).tolist()": [nan],
    "(torch.tensor([False]).float() * torch.tensor([inf])).tolist()": [nan],
    "(torch.tensor([3], dtype=torch.int16) ** torch.tensor([127], dtype=torch.int16)).tolist()": [10411],
    "(torch.tensor([2, 1, -1, 0]) ** torch.tensor([-1, -1, -1, 1])).tolist()": [0, 1, -1, 0],
    "torch.tensor([2]) ** -1": RuntimeError,
    "(torch.tensor([1], dtype=torch.int8) << torch.tensor([9], dtype=torch.int8)).tolist()": [0],
    "(torch.tensor([-5], dtype=torch.int8) >> torch.tensor([9], dtype=torch.int8)).tolist()": [-1],
    "torch.tensor([-128], dtype=torch.int8).abs().tolist()": [-128],
    "(-torch.tensor([1], dtype=torch.uint8)).tolist()": [255],
    "(torch.tensor([127], dtype=torch.int8) + 1).tolist()": [-128],
    "torch.tensor([2**63 - 1]).add(1).tolist()": [-(2**63)],
    "torch.tensor([-inf, -inf]).logsumexp(0).tolist()": -inf,
    "torch.tensor([-inf, -inf]).softmax(0).tolist()": [nan, nan],
    "torch.tensor([1.0, nan, 0.0]).min().tolist()": nan,
    "torch.tensor([1.0, nan, 0.0]).argmin().tolist()": 1,
    "torch.tensor([1.0, nan, 0.0]).topk(2).values.tolist()": [nan, 1.0],
    "torch.tensor([1.0, nan, 0.0]).sort(descending=True).values.tolist()": [nan, 1.0, 0.0],
    "torch.tensor([1.0, nan, 0.0]).median().tolist()": nan,
    "torch.tensor([1.0, nan, 0.0]).nanmedian().tolist()": 0.0,
    "torch.tensor([nan, 2.0]).clamp(0.0, 1.0).tolist()": [nan, 1.0],
    "torch.tensor([nan, 1.0]).fmax(torch.tensor([0.0, nan])).tolist()": [0.0, 1.0],
    "torch.tensor([nan, -0.0]).sign().tolist()": [0.0, 0.0],
    "torch.tensor([1.0, nan, 0.5]).cummax(0).values.tolist()": [1.0, nan, nan],
    "torch.tensor([1.0, nan]).nansum().tolist()": 1.0,
    "torch.ones(1).std().tolist()": nan,
    "torch.fmod(torch.tensor([-7, 7]), torch.tensor([2, -2])).tolist()": [-1, 1],
    "(torch.tensor([5.0]) % torch.tensor([0.0])).tolist()": [nan],
    "(torch.tensor([5.0, -5.0]) // torch.tensor([0.0])).tolist()": [inf, -inf],
    "(torch.tensor([inf, 5.0]) // torch.tensor([2.0, inf])).tolist()": [nan, 0.0],
    "torch.addcmul(*[torch.tensor(30000.0).half()] * 2, torch.tensor(-3.0).half()).tolist()": -60000.0,
    "torch.tensor([2]).pow(62).tolist()": [2**62],
    "(torch.tensor([0.0]) ** 0).tolist()": [1.0],
    "torch.tensor([1.0]).index_select(0, torch.tensor([1])).tolist()": IndexError,
    "torch.ones(3)[torch.tensor([3])].tolist()": IndexError,
    "torch.ones(3).gather(0, torch.tensor([3])).tolist()": RuntimeError,
    "torch.nn.functional.embedding(torch.tensor([4]), torch.ones(4, 2)).tolist()": IndexError,
}  # fmt: skip


def gradient(torch, source):
    x = torch.tensor(GRADIENTS[source][0], requires_grad=True)
    out = eval(source, {"torch": torch, "x": x, "nan": nan, "inf": inf})  # noqa: S307
    out.sum().backward()
    return x.grad.tolist()


def value(torch, source):
    try:
        result = eval(source, {"torch": torch, "nan": nan, "inf": inf})  # noqa: S307
    except Exception as error:
        return type(error)
    return str(result) if "dtype" in source[-6:] else result


def same(a, b):
    if isinstance(a, (type, str)) or isinstance(b, (type, str)):
        return a == b
    return np.allclose(a, b, 1e-6, 1e-7, equal_nan=True)


@pytest.mark.parametrize("source", GRADIENTS)
def test_gradients(source):
    assert same(gradient(tracegrad, source), GRADIENTS[source][1]), gradient(tracegrad, source)


@pytest.mark.parametrize("source", VALUES)
def test_values(source):
    assert same(value(tracegrad, source), VALUES[source]), value(tracegrad, source)


@pytest.mark.oracle
@pytest.mark.filterwarnings("ignore")
def test_these_are_pytorchs():
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle: pip install -e .[oracle]")
    wrong = [(s, gradient(torch, s)) for s, (_, g) in GRADIENTS.items() if not same(gradient(torch, s), g)]
    wrong += [(s, value(torch, s)) for s, v in VALUES.items() if not same(value(torch, s), v)]
    assert not wrong


def test_complex_gradients_are_conjugated_as_in_pytorch():
    z = tracegrad.tensor([1.0 + 2.0j], requires_grad=True)
    (z * z).real.sum().backward()
    assert z.grad.tolist() == [2.0 - 4.0j]
