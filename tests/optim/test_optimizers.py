"""Optimizers and schedules: PyTorch's numbers, layout and errors; one program whatever the schedule does."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

import tracegrad as tg
from tracegrad import optim
from tracegrad._engine import program
from tracegrad.optim import lr_scheduler

SGD_CASES = [
    {"momentum": m, "dampening": d, "weight_decay": w, "nesterov": n, "maximize": x}
    for m in (0, 0.9) for d in (0, 0.3) for w in (0, 0.1) for n in (False, True) for x in (False, True)
    if not (n and (m == 0 or d)) and not (d and m == 0)
]
ADAM_CASES = [
    {"betas": (0.8, 0.95), "eps": 1e-6, "weight_decay": w, "amsgrad": a, "maximize": x}
    for w in (0, 0.1) for a in (False, True) for x in (False, True)
]
CASES = [("SGD", c) for c in SGD_CASES] + [(name, c) for name in ("Adam", "AdamW") for c in ADAM_CASES]


def weights(api: Any, dtype: str = "float64") -> list[Any]:
    rng = np.random.default_rng(0)
    return [api.tensor(rng.normal(size=s).astype(dtype), requires_grad=True) for s in ((3, 4), (4,), (2, 2))]


def train(api: Any, optimizer: Any, ws: list[Any], steps: int = 20, skip: Any = (), after: Any = None) -> list[Any]:
    for i in range(steps):
        optimizer.zero_grad()
        for j, w in enumerate(ws):
            if (i, j) not in skip:
                ((w * w) * float(j + 1) + w).sum().backward()
        optimizer.step()
        if after is not None:
            after()
    return [w.detach().numpy() for w in ws]


@pytest.fixture
def torch() -> Any:
    return pytest.importorskip("torch", reason="PyTorch is the oracle: pip install -e .[oracle]")


@pytest.mark.oracle
@pytest.mark.parametrize(("name", "options"), CASES, ids=str)
@pytest.mark.parametrize("skip", [(), {(0, 1), (5, 2)}], ids=["all", "some"])
def test_matches_torch(torch: Any, name: str, options: dict[str, Any], skip: Any) -> None:
    found = []
    for api in (torch, tg):
        ws = weights(api)
        found.append(train(api, getattr(api.optim, name)(ws, lr=0.01, **options), ws, skip=skip))
    for theirs, ours in zip(*found):
        np.testing.assert_allclose(ours, theirs, rtol=1e-11, atol=1e-12)


@pytest.mark.oracle
@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW"])
def test_float32_and_complex(torch: Any, name: str) -> None:
    for dtype, tolerance in (("float32", 1e-5), ("complex128", 1e-11)):
        found = []
        for api in (torch, tg):
            rng = np.random.default_rng(1)
            data = (rng.normal(size=5) + 1j * rng.normal(size=5)) if dtype[0] == "c" else rng.normal(size=5)
            w = api.tensor(data.astype(dtype), requires_grad=True)
            optimizer = getattr(api.optim, name)([w], lr=0.05)
            for _ in range(20):
                optimizer.zero_grad()
                (w.abs() * w.abs()).sum().backward()
                optimizer.step()
            found.append(w.detach().numpy())
        np.testing.assert_allclose(found[1], found[0], rtol=tolerance, atol=tolerance)


@pytest.mark.oracle
@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW"])
def test_state_dict_has_torchs_layout(torch: Any, name: str) -> None:
    options = {"momentum": 0.9} if name == "SGD" else {}
    shown = []
    for api in (torch, tg):
        ws = weights(api)
        optimizer = getattr(api.optim, name)(ws, lr=0.01, **options)
        train(api, optimizer, ws, 3, skip={(0, 1)})
        shown.append(optimizer.state_dict())
    theirs, ours = shown
    assert ours["param_groups"] == theirs["param_groups"]
    assert ours["state"].keys() == theirs["state"].keys()
    for key, state in theirs["state"].items():
        assert ours["state"][key].keys() == state.keys()
        for part, tensor in state.items():
            np.testing.assert_allclose(ours["state"][key][part].numpy(), tensor.numpy(), rtol=1e-11)
            assert str(ours["state"][key][part].dtype) == str(tensor.dtype)
    # a checkpoint of PyTorch's goes on here
    given = {"param_groups": theirs["param_groups"],
             "state": {k: {n: tg.tensor(t.numpy()) for n, t in s.items()} for k, s in theirs["state"].items()}}
    ws = weights(tg)
    optimizer = getattr(optim, name)(ws, lr=1.0, **options)
    optimizer.load_state_dict(given)
    assert optimizer.param_groups[0]["lr"] == 0.01
    assert repr(optimizer) == repr(getattr(torch.optim, name)(weights(torch), lr=0.01, **options))


@pytest.mark.parametrize("name", ["SGD", "Adam"])
def test_saved_and_loaded_goes_on_the_same(name: str) -> None:
    options = {"momentum": 0.9} if name == "SGD" else {"amsgrad": True}
    whole = weights(tg)
    train(tg, getattr(optim, name)(whole, lr=0.01, **options), whole, 10)
    ws = weights(tg)
    first = getattr(optim, name)(ws, lr=0.01, **options)
    train(tg, first, ws, 4)
    second = getattr(optim, name)(ws, lr=0.5, **options)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    train(tg, second, ws, 6)
    for a, b in zip(whole, ws):
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-12)


def test_a_schedule_compiles_nothing() -> None:
    for make in (lambda ws: optim.SGD(ws, lr=0.1, momentum=0.9), lambda ws: optim.AdamW(ws, lr=0.1)):
        ws = weights(tg, "float32")
        optimizer = make(ws)
        schedule = lr_scheduler.CosineAnnealingLR(optimizer, 10)
        train(tg, optimizer, ws, 3, after=schedule.step)
        before = program.count()
        train(tg, optimizer, ws, 12, after=schedule.step)
        optimizer.param_groups[0]["weight_decay"] = optimizer.param_groups[0]["weight_decay"] * 2
        train(tg, optimizer, ws, 2, after=schedule.step)
        assert program.count() == before


def test_parameters_keep_their_identity() -> None:
    w = tg.ones(3, requires_grad=True)
    optimizer = optim.SGD([w], lr=0.5)
    w.sum().backward()
    old = w.detach().numpy()
    held = old.copy()
    optimizer.step()
    assert w.is_leaf and w.requires_grad and w.tolist() == [0.5, 0.5, 0.5]
    np.testing.assert_array_equal(old, held)
    optimizer.zero_grad()
    assert w.grad is None
    (w * w).sum().backward()
    assert w.grad.tolist() == [1.0, 1.0, 1.0]
    optimizer.zero_grad(set_to_none=False)
    assert w.grad.tolist() == [0.0, 0.0, 0.0]


def test_step_outside_grad_mode_and_with_a_closure() -> None:
    w = tg.ones(1, requires_grad=True)
    optimizer = optim.SGD([w], lr=0.25)

    def closure() -> Any:
        optimizer.zero_grad()
        loss = (w * w).sum()
        loss.backward()
        return loss

    with tg.no_grad():
        assert optimizer.step(closure).item() == 1.0
    assert w.item() == 0.5
    assert not tg.tensor(1.0).requires_grad


def test_groups_have_options_of_their_own() -> None:
    a, b = tg.ones(1, requires_grad=True), tg.ones(1, requires_grad=True)
    optimizer = optim.SGD([{"params": [a]}, {"params": b, "lr": 0.25}], lr=0.5)
    optimizer.add_param_group({"params": [tg.ones(1, requires_grad=True)], "momentum": 0.9})
    (a + b).sum().backward()
    optimizer.step()
    assert (a.item(), b.item()) == (0.5, 0.75)
    assert [g["lr"] for g in optimizer.param_groups] == [0.5, 0.25, 0.5]


def test_a_tensor_as_learning_rate() -> None:
    w, lr = tg.ones(1, requires_grad=True), tg.tensor(0.5)
    optimizer = optim.SGD([w], lr=lr)
    w.sum().backward()
    optimizer.step()
    assert w.item() == 0.5


def test_one_of_the_users_own() -> None:
    class Plain(optim.Optimizer):
        def __init__(self, params: Any):
            super().__init__(params, {"lr": 0.5})

        def step(self, closure: Any = None) -> None:
            with tg.no_grad():
                for group in self.param_groups:
                    for p in group["params"]:
                        state = self.state[p]
                        state["count"] = state.get("count", 0) + 1
                        p.add_(p.grad * -group["lr"])

    w = tg.ones(2, requires_grad=True)
    optimizer = Plain([w])
    w.sum().backward()
    optimizer.step()
    assert w.tolist() == [0.5, 0.5]
    assert optimizer.state_dict()["state"] == {0: {"count": 1}}


P = tg.ones(2, requires_grad=True)
BAD = [
    (lambda: optim.SGD([P], lr=-1.0), ValueError, "Invalid learning rate: -1.0"),
    (lambda: optim.SGD([P], momentum=-1), ValueError, "Invalid momentum value: -1"),
    (lambda: optim.SGD([P], weight_decay=-1), ValueError, "Invalid weight_decay value: -1"),
    (lambda: optim.SGD([P], nesterov=True), ValueError, "Nesterov momentum requires a momentum and zero dampening"),
    (lambda: optim.Adam([P], eps=-1), ValueError, "Invalid epsilon value: -1"),
    (lambda: optim.Adam([P], betas=(1.0, 0.9)), ValueError, "Invalid beta parameter at index 0: 1.0"),
    (lambda: optim.AdamW([P], betas=(0.9, -1)), ValueError, "Invalid beta parameter at index 1: -1"),
    (lambda: optim.SGD([]), ValueError, "optimizer got an empty parameter list"),
    (lambda: optim.SGD([P * 2]), ValueError, "can't optimize a non-leaf Tensor"),
    (lambda: optim.SGD([{"params": [P]}, {"params": [P]}]), ValueError,
     "some parameters appear in more than one parameter group"),
    (lambda: optim.SGD([3]), TypeError, "optimizer can only optimize Tensors, but one of the params is int"),
    (lambda: optim.SGD(P), TypeError, "params argument given to the optimizer should be an iterable of Tensors or "
                                      "dicts, but got torch.FloatTensor"),
    (lambda: lr_scheduler.StepLR(3, 1), TypeError, "int is not an Optimizer"),
    (lambda: lr_scheduler.LambdaLR(optim.SGD([P]), []), ValueError, "Expected 1 lr_lambdas, but got 0"),
    (lambda: optim.SGD([P]).load_state_dict({"state": {}, "param_groups": []}), ValueError,
     "loaded state dict has a different number of parameter groups"),
    (lambda: optim.SGD([P]).load_state_dict({"state": {}, "param_groups": [{"params": []}]}), ValueError,
     "loaded state dict contains a parameter group that doesn't match the size of optimizer's group"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "kind", "message"), BAD, ids=[b[2][:40] for b in BAD])
def test_errors_are_torchs(call: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind) as caught:
        call()
    assert str(caught.value) == message


# -- parameters that become others -------------------------------------------------------------------------------------


@pytest.mark.oracle
@pytest.mark.parametrize("options", [("Adam", {}), ("Adam", {"amsgrad": True}), ("SGD", {"momentum": 0.9})], ids=str)
@pytest.mark.parametrize("way", ["pruned", "swapped", "grown", "halved", "doubled and back"])
def test_states_keep_their_elements_when_parameters_change(torch: Any, options: Any, way: str) -> None:
    def seen(api: Any) -> Any:
        ws = [api.nn.Parameter(api.arange(1.0, n + 1)) for n in (2, 3, 2, 4)]
        optimizer = getattr(api.optim, options[0])(ws, lr=0.1, **options[1])
        train(api, optimizer, ws, 2)
        grads = [w.grad for w in ws]
        for w in ws:
            w.grad = None
        if way == "pruned":
            ws[0].data = ws[0].data[:1]
            del optimizer.state[ws[0]]
        if way == "swapped":  # as many elements as before
            ws[1].data, ws[3].data = ws[3].data, ws[1].data
        if way == "grown":
            ws[1].data = api.ones(7)
        if way == "halved":
            for w in ws:
                w.data = w.data.half()
        if way == "doubled and back":
            for w in ws:
                w.data = w.data.double()
                w.data = w.data.float()
        if way in ("pruned", "doubled and back"):
            train(api, optimizer, ws, 2)
        else:
            ws[0].grad = None if way == "halved" else grads[0]
            optimizer.step()
        states = optimizer.state_dict()["state"]
        kept = [w.detach().tolist() for w in ws]
        return kept, {i: {k: (str(v.dtype), v.tolist()) for k, v in s.items()} for i, s in states.items()}

    (ours, mine), (others, theirs) = seen(tg), seen(torch)
    for a, b in zip(ours, others, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)
    assert {i: {*s} for i, s in mine.items()} == {i: {*s} for i, s in theirs.items()}
    for i, state in theirs.items():
        for key, (dtype, elements) in state.items():
            assert mine[i][key][0] == dtype
            np.testing.assert_allclose(mine[i][key][1], elements, rtol=1e-5)


@pytest.mark.parametrize("name", ["Adam", "SGD"])
@pytest.mark.parametrize("shape", [(6,), (3, 1), (1,)])
def test_states_of_another_shape_are_refused(name: str, shape: Any) -> None:
    ws = [tg.nn.Parameter(tg.ones(n)) for n in (2, 3, 2, 4)]
    optimizer = getattr(optim, name)(ws, lr=0.1, **({"momentum": 0.9} if name == "SGD" else {}))
    train(tg, optimizer, ws, 2)
    ws[1].data = tg.ones(shape)
    with pytest.raises(RuntimeError, match=r"a gradient of shape \[3\]"):
        optimizer.step()
    ws[1].grad = None
    with pytest.raises(RuntimeError, match=r"states of shape \[3\]"):
        train(tg, optimizer, ws, 1)
    del optimizer.state[ws[1]]
    train(tg, optimizer, ws, 1)
    assert ws[1].shape == shape and {*optimizer.state[ws[1]]} == {*optimizer.state[ws[0]]}


# -- schedules ---------------------------------------------------------------------------------------------------------

SCHEDULES = {
    "LambdaLR": ((lambda step: 0.9**step,), {}),
    "StepLR": ((3,), {"gamma": 0.5}),
    "MultiStepLR": (([2, 5, 5, 9],), {"gamma": 0.5}),
    "ExponentialLR": ((0.9,), {}),
    "CosineAnnealingLR": ((5,), {"eta_min": 0.001}),
}


@pytest.mark.oracle
@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_match_torch(torch: Any, name: str) -> None:
    args, options = SCHEDULES[name]
    rates = []
    for api in (torch, tg):
        optimizer = api.optim.SGD([api.ones(1, requires_grad=True)], lr=0.1)
        schedule = getattr(api.optim.lr_scheduler, name)(optimizer, *args, **options)
        found = [schedule.get_last_lr()[0]]
        for _ in range(13):
            optimizer.step()
            schedule.step()
            found.append(schedule.get_last_lr()[0])
        resumed = getattr(api.optim.lr_scheduler, name)(optimizer, *args, **options, last_epoch=12)
        for _ in range(2):
            resumed.step() if api is tg else resumed.step()
            found.append(resumed.get_last_lr()[0])
        rates.append(found)
    np.testing.assert_allclose(rates[1], rates[0], rtol=1e-9)


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_saved_and_loaded(name: str) -> None:
    args, options = SCHEDULES[name]

    def make() -> Any:
        optimizer = optim.SGD([tg.ones(1, requires_grad=True)], lr=0.1)
        return optimizer, getattr(lr_scheduler, name)(optimizer, *args, **options)

    (optimizer, schedule), (other, loaded) = make(), make()
    for _ in range(4):
        optimizer.step()
        schedule.step()
    loaded.load_state_dict(schedule.state_dict())
    other.load_state_dict(optimizer.state_dict())
    for o, s in ((optimizer, schedule), (other, loaded)):
        o.step()
        s.step()
    assert loaded.get_last_lr() == schedule.get_last_lr()


def test_a_schedule_before_the_optimizer_warns() -> None:
    schedule = lr_scheduler.StepLR(optim.SGD([P], lr=0.1), 3)
    with pytest.warns(UserWarning, match="before `optimizer.step\\(\\)`"):
        schedule.step()
