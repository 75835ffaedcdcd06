"""Modules: the tree of names, state, printing and errors as PyTorch has them; every layer against PyTorch."""

from __future__ import annotations

import copy
import pickle
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest

import tracegrad as tg
from tracegrad import nn


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 8)
        self.rest = nn.Sequential(nn.ReLU(), nn.BatchNorm1d(8), nn.Linear(8, 2, bias=False))
        self.scale = nn.Parameter(tg.ones(1))
        self.register_buffer("seen", tg.zeros(1), persistent=False)

    def forward(self, x: Any) -> Any:
        return self.rest(self.first(x)) * self.scale


def test_names() -> None:
    net = Net()
    names = ["scale", "first.weight", "first.bias", "rest.1.weight", "rest.1.bias", "rest.2.weight"]
    assert [n for n, _ in net.named_parameters()] == names
    assert [n for n, _ in net.named_buffers()] == ["seen", "rest.1.running_mean", "rest.1.running_var",
                                                   "rest.1.num_batches_tracked"]  # fmt: skip
    assert [n for n, _ in net.named_modules()] == ["", "first", "rest", "rest.0", "rest.1", "rest.2"]
    assert [n for n, _ in net.named_children()] == ["first", "rest"]
    assert list(net.state_dict()) == ["scale", "first.weight", "first.bias", "rest.1.weight", "rest.1.bias",
                                      "rest.1.running_mean", "rest.1.running_var", "rest.1.num_batches_tracked",
                                      "rest.2.weight"]  # fmt: skip
    assert net.get_submodule("rest.2") is net.rest[2]
    assert net.get_parameter("rest.2.weight") is net.rest[2].weight
    assert net.get_buffer("rest.1.running_var") is net.rest[1].running_var
    assert len(list(net.parameters())) == 6 and net.rest[2].bias is None
    shared = nn.Sequential(net.first, net.first)
    assert [n for n, _ in shared.named_parameters()] == ["0.weight", "0.bias"]
    assert len(shared.state_dict()) == 4


def test_attributes() -> None:
    net = Net()
    net.scale = None
    assert net.scale is None and "scale" not in net.state_dict()
    del net.first
    assert not hasattr(net, "first")
    net.first = nn.Identity()
    net.extra = nn.Buffer(tg.ones(2))
    assert "extra" in net.state_dict() and "extra" in dir(net)
    net.seen = tg.ones(1)
    assert dict(net.named_buffers())["seen"].item() == 1 and "seen" not in net.state_dict()
    net.plain = 3
    assert net.plain == 3


def test_state_is_copied_in_place() -> None:
    a, b = Net(), Net()
    kept = dict(b.named_parameters())
    assert str(b.load_state_dict(a.state_dict())) == "<All keys matched successfully>"
    for name, p in b.named_parameters():
        assert p is kept[name] and p.is_leaf and p.requires_grad
        np.testing.assert_array_equal(p.detach().numpy(), a.get_parameter(name).detach().numpy())
    x = tg.ones(3, 4)
    assert a.eval()(x).tolist() == b.eval()(x).tolist()
    state = a.state_dict()
    state["new"] = state.pop("scale")
    found = b.load_state_dict(state, strict=False)
    assert found.missing_keys == ["scale"] and found.unexpected_keys == ["new"]
    assert all(not t.requires_grad for t in state.values())


def test_copies_and_pickles() -> None:
    net = Net()
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert other.first.weight is not net.first.weight
        assert isinstance(other.first.weight, nn.Parameter) and other.first.weight.requires_grad
        assert other.first.weight.tolist() == net.first.weight.tolist()
        with tg.no_grad():
            other.scale.fill_(3.0)
        assert net.scale.item() == 1
    twice = nn.ModuleList([net.first, net.first])
    copied = copy.deepcopy(twice)
    assert copied[0] is copied[1]


def test_modes_and_conversions() -> None:
    net = Net()
    weight = net.first.weight
    assert net.training and not net.eval().training and not net.rest[1].training
    net.double()
    assert net.first.weight is weight and weight.dtype is tg.float64 and weight.is_leaf and weight.requires_grad
    assert net.rest[1].num_batches_tracked.dtype is tg.int64
    net(tg.ones(3, 4, dtype=tg.float64)).sum().backward()
    assert weight.grad.dtype is tg.float64
    net.to(tg.float32)
    assert weight.grad.dtype is tg.float32
    assert net.half().scale.dtype is tg.float16 and net.float().scale.dtype is tg.float32
    net.zero_grad()
    assert weight.grad is None
    net.requires_grad_(False)
    assert not any(p.requires_grad for p in net.parameters())
    seen = []
    net.apply(lambda m: seen.append(type(m).__name__))
    assert seen == ["Linear", "ReLU", "BatchNorm1d", "Linear", "Sequential", "Net"]


def test_parameters_are_their_own() -> None:
    data = tg.ones(2, requires_grad=True)
    p = nn.Parameter(data * 2)
    assert p.is_leaf and p.requires_grad
    (p * 3).sum().backward()
    assert p.grad.tolist() == [3.0, 3.0] and data.grad is None
    assert repr(p) == "Parameter containing:\ntensor([2., 2.], requires_grad=True)"
    assert not nn.Parameter(data, requires_grad=False).requires_grad


def test_containers() -> None:
    seq = nn.Sequential(OrderedDict([("a", nn.Linear(2, 3)), ("b", nn.ReLU())]))
    assert seq.a is seq[0] and seq[-1] is seq.b and len(seq) == 2
    assert isinstance(seq[:1], nn.Sequential) and list(seq[:1].state_dict()) == ["a.weight", "a.bias"]
    seq = nn.Sequential(nn.ReLU()).append(nn.Tanh()).insert(0, nn.Sigmoid())
    assert [type(m).__name__ for m in seq] == ["Sigmoid", "ReLU", "Tanh"]
    del seq[1]
    seq[0] = nn.Identity()
    assert list(seq._modules) == ["0", "1"] and isinstance(seq.pop(), nn.Tanh)
    layers = nn.ModuleList([nn.Linear(2, 2)])
    layers += [nn.ReLU()]
    assert len(layers) == 2 and len(list(layers.parameters())) == 2 and layers[0] in layers
    assert len(layers[:1]) == 1
    named = nn.ModuleDict({"x": nn.ReLU(), "y": nn.Linear(1, 1)})
    assert list(named) == ["x", "y"] and "x" in named and len(named) == 2
    assert [n for n, _ in named.named_parameters()] == ["y.weight", "y.bias"]
    held = nn.ParameterList([tg.ones(2), nn.Parameter(tg.zeros(1))])
    assert [n for n, _ in held.named_parameters()] == ["0", "1"] and held[0].requires_grad


def test_embedding_bag() -> None:
    x = tg.tensor([[1, 2, 2], [0, 3, 1]])
    for mode in ("mean", "sum"):
        bag = nn.EmbeddingBag(5, 3, mode=mode)
        rows = bag.weight.detach().numpy()[x.numpy()]
        np.testing.assert_allclose(bag(x).detach().numpy(), getattr(rows, mode)(1), rtol=1e-6)


def linear() -> Any:
    return nn.Linear(2, 2)


class Early(nn.Module):
    def __init__(self) -> None:
        self.a = nn.ReLU()


BAD = [
    (lambda: linear().foo, AttributeError, "'Linear' object has no attribute 'foo'"),
    (lambda: setattr(linear(), "weight", tg.ones(2)), TypeError,
     "cannot assign 'torch.FloatTensor' as parameter 'weight' (torch.nn.Parameter or None expected)"),
    (lambda: setattr(nn.Sequential(nn.ReLU()), "0", 3), TypeError,
     "cannot assign 'int' as child module '0' (torch.nn.Module or None expected)"),
    (lambda: setattr(nn.BatchNorm1d(2), "running_mean", 3), TypeError,
     "cannot assign 'int' as buffer 'running_mean' (torch.nn.Buffer, torch.Tensor or None expected)"),
    (lambda: Early(), AttributeError, "cannot assign module before Module.__init__() call"),
    (lambda: linear().register_parameter("a.b", None), KeyError, "'parameter name can\\'t contain \".\"'"),
    (lambda: linear().register_parameter("", None), KeyError, "'parameter name can\\'t be empty string \"\"'"),
    (lambda: linear().register_parameter("forward", None), KeyError, "\"attribute 'forward' already exists\""),
    (lambda: linear().register_parameter("a", tg.ones(2)), TypeError,
     "cannot assign 'torch.FloatTensor' object to parameter 'a' (torch.nn.Parameter or None required)"),
    (lambda: linear().add_module("a", 3), TypeError, "int is not a Module subclass"),
    (lambda: linear().get_submodule("x"), AttributeError, "Linear has no attribute `x`"),
    (lambda: linear().get_submodule("weight"), AttributeError, "`weight` is not an nn.Module"),
    (lambda: linear().get_parameter("in_features"), AttributeError, "`in_features` is not an nn.Parameter"),
    (lambda: nn.Module()(2), NotImplementedError, 'Module [Module] is missing the required "forward" function'),
    (lambda: linear().to(tg.int32), TypeError,
     "nn.Module.to only accepts floating point or complex dtypes, but got desired dtype=torch.int32"),
    (lambda: linear().train(3), ValueError, "training mode is expected to be boolean"),
    (lambda: nn.Sequential(nn.ReLU())[3], IndexError, "index 3 is out of range"),
    (lambda: nn.Dropout(2.0), ValueError, "dropout probability has to be between 0 and 1, but got 2.0"),
    (lambda: nn.BatchNorm2d(3)(tg.ones(3, 3)), ValueError, "expected 4D input (got 2D input)"),
    (lambda: nn.Conv2d(3, 4, 3, groups=2), ValueError, "in_channels must be divisible by groups"),
    (lambda: linear().load_state_dict({}), RuntimeError,
     'Error(s) in loading state_dict for Linear:\n\tMissing key(s) in state_dict: "weight", "bias". '),
    (lambda: linear().load_state_dict({"weight": tg.ones(2), "x": 1, "bias": 2}), RuntimeError,
     'Error(s) in loading state_dict for Linear:\n\tUnexpected key(s) in state_dict: "x". \n\t'
     "size mismatch for weight: copying a param with shape torch.Size([2]) from checkpoint, the shape in current "
     'model is torch.Size([2, 2]).\n\tWhile copying the parameter named "bias", expected torch.Tensor or Tensor-like '
     "object from checkpoint but received <class 'int'>"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "kind", "message"), BAD, ids=[b[2][:40] for b in BAD])
def test_errors_are_torchs(call: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind) as caught:
        call()
    assert str(caught.value) == message


# -- against PyTorch ---------------------------------------------------------------------------------------------------

X1, X2, X3, X4 = (6,), (3, 6), (2, 4, 9), (2, 4, 8, 9)
LAYERS = [
    ("Linear", (6, 3), {}, X2), ("Linear", (6, 3), {"bias": False}, X1), ("Identity", (3,), {"a": 1}, X2),
    ("Conv1d", (4, 6, 3), {"stride": 2, "padding": 1}, X3), ("Conv1d", (4, 6, 3), {"padding": "same"}, X3),
    ("Conv2d", (4, 6, 3), {}, X4), ("Conv2d", (4, 6, (3, 2), 2, 1, 2, 2, False), {}, X4),
    ("Conv2d", (4, 2, 3), {"padding": 1, "padding_mode": "reflect"}, X4),
    ("BatchNorm1d", (6,), {}, X2), ("BatchNorm1d", (4,), {"momentum": None}, X3), ("BatchNorm2d", (4,), {}, X4),
    ("BatchNorm2d", (4,), {"affine": False, "track_running_stats": False}, X4),
    ("LayerNorm", (6,), {}, X2), ("LayerNorm", ([8, 9],), {"bias": False}, X4), ("GroupNorm", (2, 4), {}, X4),
    ("RMSNorm", (6,), {}, X2), ("RMSNorm", ([8, 9],), {"eps": 1e-3}, X4), ("Dropout", (0.0,), {}, X2),
    ("ReLU", (), {}, X2), ("ReLU6", (), {}, X2), ("GELU", (), {}, X2), ("GELU", ("tanh",), {}, X2),
    ("SiLU", (), {}, X2), ("ELU", (0.5,), {}, X2), ("LeakyReLU", (0.2,), {}, X2), ("Softplus", (2.0,), {}, X2),
    ("Hardtanh", (-0.5, 0.7), {}, X2),
    ("Tanh", (), {}, X2), ("Sigmoid", (), {}, X2), ("Softmax", (1,), {}, X2), ("LogSoftmax", (0,), {}, X2),
    ("MaxPool1d", (2,), {"stride": 1}, X3), ("MaxPool2d", ((2, 3),), {"padding": 1}, X4), ("MaxPool2d", (2,), {}, X4),
    ("AvgPool1d", (3,), {"padding": 1}, X3), ("AvgPool2d", (2,), {"ceil_mode": True, "count_include_pad": False}, X4),
    ("AdaptiveAvgPool2d", ((2, 3),), {}, X4), ("Flatten", (), {}, X4), ("Unflatten", (1, (2, 3)), {}, X2),
]  # fmt: skip


@pytest.fixture
def torch() -> Any:
    return pytest.importorskip("torch", reason="PyTorch is the oracle: pip install -e .[oracle]")


@pytest.mark.oracle
@pytest.mark.parametrize(("name", "args", "options", "shape"), LAYERS, ids=str)
def test_layer_matches_torch(torch: Any, name: str, args: Any, options: Any, shape: Any) -> None:
    theirs = getattr(torch.nn, name)(*args, **options).double()
    ours = getattr(nn, name)(*args, **options).double()
    assert repr(ours) == repr(theirs)
    ours.load_state_dict({k: tg.tensor(v.numpy()) for k, v in theirs.state_dict().items()})
    x = np.random.default_rng(0).normal(size=shape)
    for training in (True, False):
        theirs.train(training), ours.train(training)
        a, b = torch.tensor(x, requires_grad=True), tg.tensor(x, requires_grad=True)
        y, z = theirs(a), ours(b)
        np.testing.assert_allclose(z.detach().numpy(), y.detach().numpy(), rtol=1e-6, atol=1e-8)
        (y * y).sum().backward(), (z * z).sum().backward()
        np.testing.assert_allclose(b.grad.numpy(), a.grad.numpy(), rtol=1e-6, atol=1e-7)
    for (key, p), q in zip(theirs.named_parameters(), ours.parameters()):
        np.testing.assert_allclose(q.grad.numpy(), p.grad.numpy(), rtol=1e-6, atol=1e-7, err_msg=key)
    for key, value in theirs.state_dict().items():
        np.testing.assert_allclose(ours.state_dict()[key].numpy(), value.numpy(), rtol=1e-6, err_msg=key)


LOSSES = [("MSELoss", {}), ("L1Loss", {"reduction": "sum"}), ("SmoothL1Loss", {"beta": 0.5}),
          ("HuberLoss", {"delta": 0.5}), ("BCELoss", {}), ("BCEWithLogitsLoss", {"pos_weight": [1.0, 2.0, 0.5]}),
          ("KLDivLoss", {"reduction": "batchmean"}),
          ("CrossEntropyLoss", {"label_smoothing": 0.1}), ("CrossEntropyLoss", {"weight": [1.0, 2.0, 0.5]}),
          ("NLLLoss", {"ignore_index": 1})]  # fmt: skip


@pytest.mark.oracle
@pytest.mark.parametrize(("name", "options"), LOSSES, ids=str)
def test_loss_matches_torch(torch: Any, name: str, options: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    x, soft, hard = rng.uniform(0.1, 0.9, (5, 3)), rng.uniform(0.1, 0.9, (5, 3)), np.array([0, 2, 1, 2, 0])
    found = []
    for api in (torch, tg):
        made = {k: api.tensor(v, dtype=api.float64) if isinstance(v, list) else v for k, v in options.items()}
        loss = getattr(api.nn, name)(**made)
        a = api.tensor(x, requires_grad=True)
        y = loss(a, api.tensor(hard if name in ("CrossEntropyLoss", "NLLLoss") else soft))
        y.backward()
        found.append((repr(loss), y.item(), a.grad.numpy(), list(loss.state_dict())))
    assert found[0][0] == found[1][0] and found[0][3] == found[1][3]
    assert found[1][1] == pytest.approx(found[0][1], rel=1e-7)
    np.testing.assert_allclose(found[1][2], found[0][2], rtol=1e-6, atol=1e-9)


@pytest.mark.oracle
def test_containers_print_as_torchs(torch: Any) -> None:
    def build(n: Any) -> list[Any]:
        deep = n.Sequential(OrderedDict([("a", n.Linear(2, 2)), ("b", n.Sequential(n.ReLU(), n.Tanh()))]))
        return [deep, n.ModuleList([n.Linear(2, 2), n.Linear(2, 2), n.ReLU()]), n.ModuleList(), n.Sequential(),
                n.ModuleList([deep, copy.deepcopy(deep)]), n.ModuleDict({"x": n.ReLU()}), n.Embedding(3, 4, 0),
                n.EmbeddingBag(3, 4), n.CrossEntropyLoss(), n.ReLU(True), n.Conv1d(2, 3, 3, padding="same")]

    for ours, theirs in zip(build(nn), build(torch.nn)):
        assert repr(ours) == repr(theirs)


@pytest.mark.oracle
def test_utils_match_torch(torch: Any) -> None:
    for order in (2.0, 1.0, float("inf")):
        found = []
        for api in (torch, tg):
            ws = [api.tensor(np.arange(1.0, n + 1), requires_grad=True) for n in (3, 4)]
            sum((w * w).sum() for w in ws).backward()
            norm = api.nn.utils.clip_grad_norm_(ws, 2.0, norm_type=order)
            found.append([norm.item(), *(w.grad.numpy().copy() for w in ws)])
            api.nn.utils.clip_grad_value_(ws, 0.3)
            found[-1] += [w.grad.numpy() for w in ws]
            vector = api.nn.utils.parameters_to_vector(ws)
            api.nn.utils.vector_to_parameters(vector.detach() * 2, ws)
            found[-1] += [w.detach().numpy() for w in ws]
        for ours, theirs in zip(found[1], found[0]):
            np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    w = tg.ones(2, requires_grad=True)
    w.grad = tg.tensor([1.0, float("nan")])
    with pytest.raises(RuntimeError, match="The total norm of order 2.0 for gradients from `parameters` is non-finite"):
        tg.nn.utils.clip_grad_norm_([w], 1.0, error_if_nonfinite=True)


@pytest.mark.oracle
def test_what_shared_elements_with_a_parameter_keeps_them(torch: Any) -> None:
    for api in (torch, tg):
        ws = [api.nn.Parameter(api.ones(n)) for n in (2, 3)]
        alias, part = ws[0].detach(), ws[1].detach()[1:]
        for k in range(2):
            api.nn.utils.vector_to_parameters(api.arange(5.0) + k, ws)
        with api.no_grad():
            ws[1].mul_(2)
        assert [x.tolist() for x in (alias, part, *ws)] == [[1, 1], [1, 1], [1, 2], [6, 8, 10]]
        (ws[0] * ws[1][:2]).sum().backward()
        assert ws[0].grad.tolist() == [6, 8] and ws[1].grad.tolist() == [1, 2, 0]


@pytest.mark.oracle
@pytest.mark.parametrize("way", ["half", "double", "float", "_apply"])
def test_aliases_keep_the_elements_of_a_converted_module(torch: Any, way: str) -> None:
    def seen(api: Any) -> Any:
        module = api.nn.BatchNorm1d(2)
        saved, weight, buffer = module.state_dict(), module.weight, module.running_mean
        alias, part = weight.detach(), module.bias.data[1:]
        module(api.arange(6.0).reshape(3, 2)).pow(2).sum().backward()
        gradient = weight.grad
        alias_of_gradient = gradient.detach()
        getattr(module, way)(*([lambda t: t * 2] if way == "_apply" else []))
        with api.no_grad():
            module.weight.add_(1)
            module.running_mean.add_(1)
        module(api.ones(3, 2, dtype=weight.dtype)).sum().backward()
        tensors = (*saved.values(), alias, part, weight, gradient, alias_of_gradient, buffer, *module.buffers())
        same = [module.weight is weight, weight.grad is gradient, module.running_mean is buffer]
        return same, [(str(t.dtype), np.round(t.tolist(), 3).tolist()) for t in tensors]

    assert seen(tg) == seen(torch)


@pytest.mark.parametrize("of", ["module", "optimizer"])
def test_gradients_filled_with_zeros_are_the_same_tensors(of: str) -> None:
    module = nn.Linear(2, 1)
    module(tg.ones(1, 2)).sum().backward()
    gradients = [p.grad for p in module.parameters()]
    (module if of == "module" else tg.optim.SGD(module.parameters())).zero_grad(set_to_none=False)
    assert [g.tolist() for g in gradients] == [[[0.0, 0.0]], [0.0]]
    (module(tg.ones(1, 2)) * 3).sum().backward()
    assert all(p.grad is g for p, g in zip(module.parameters(), gradients))
    assert [g.tolist() for g in gradients] == [[[3.0, 3.0]], [3.0]]
    module.weight.grad = module.weight * 2
    module.zero_grad(set_to_none=False)
    assert module.weight.grad.grad_fn is None and not module.weight.grad.requires_grad


def test_a_weight_that_is_computed() -> None:
    source = nn.Parameter(tg.tensor([[1.0, 2.0]]))
    layer = nn.Linear(2, 1)
    del layer.weight
    layer.weight = source * 2
    bias = layer.bias.item()
    layer(tg.ones(1, 2)).sum().backward()
    assert source.grad is not None and source.grad.tolist() == [[2.0, 2.0]]
    np.testing.assert_allclose(layer(tg.ones(1, 2)).item(), 6.0 + bias)
