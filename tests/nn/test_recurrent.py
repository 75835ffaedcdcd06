"""Recurrent layers and cells against PyTorch: values, every gradient, errors; in every way of recording."""

from __future__ import annotations

import copy
import itertools
import pickle
from typing import Any

import numpy as np
import pytest
from _both import check

import tracegrad as tg
from tracegrad import func, nn

SIZES = {"input_size": 2, "hidden_size": 3}


def numbers(torch: Any, *shape: int, seed: int = 0, grad: bool = True) -> Any:
    made = torch.tensor(np.random.default_rng(seed).standard_normal(shape))
    return made.requires_grad_() if grad else made


def filled(torch: Any, module: Any) -> Any:
    """Give the parameters of a module numbers that every library has."""
    with torch.no_grad():
        for k, p in enumerate(module.parameters()):
            p.copy_(numbers(torch, *p.shape, seed=k, grad=False) / 2)
    return module


def flat(x: Any) -> list[Any]:
    return [y for part in x for y in flat(part)] if isinstance(x, (tuple, list)) else [x]


def layer(torch: Any, kind: str, **options: Any) -> Any:
    return filled(torch, getattr(torch.nn, kind)(**SIZES, dtype=torch.float64, **options))


def states(torch: Any, module: Any, batch: tuple[int, ...]) -> Any:
    lead = module.num_layers * (2 if module.bidirectional else 1), *batch
    hidden = numbers(torch, *lead, module.proj_size or module.hidden_size, seed=50)
    return (hidden, numbers(torch, *lead, module.hidden_size, seed=51)) if module.mode == "LSTM" else hidden


def run(torch: Any, note: Any, kind: str, batched: bool, given: bool, **options: Any) -> None:
    module = layer(torch, kind, **options)
    x = numbers(torch, 4, 3, 2, seed=100) if batched else numbers(torch, 4, 2, seed=100)
    batch = () if not batched else (4,) if module.batch_first else (3,)
    hx = states(torch, module, batch) if given else None
    outs = flat(module(x, hx))
    note(*outs)
    note([out.shape for out in outs])
    sum((out * out.cos()).sum() for out in outs).backward()
    leaves = [x, *(flat(hx) if given else ()), *module.parameters()]
    note(*(leaf.grad for leaf in leaves))


CASES = [(kind, *case) for kind in ("RNN", "LSTM", "GRU") for case in (
    (True, True, {"bidirectional": True, "num_layers": 2}),
    (False, False, {"batch_first": True, "bias": False}),
)]  # fmt: skip
CASES += [("RNN", True, False, {"nonlinearity": "relu", "bias": False, "batch_first": True}),
          ("LSTM", False, True, {"proj_size": 2, "bias": False, "num_layers": 2}),
          ("LSTM", True, False, {"bidirectional": True, "batch_first": True}),
          ("GRU", False, True, {"bidirectional": True, "bias": False})]  # fmt: skip


@pytest.mark.oracle
@pytest.mark.parametrize("kind, batched, given, options", CASES, ids=str)
def test_layers_as_in_pytorch(kind: str, batched: bool, given: bool, options: Any) -> None:
    check(lambda torch, note: run(torch, note, kind, batched, given, **options), "lazy")


@pytest.mark.oracle
@pytest.mark.parametrize("way", ("again", "read", "eager"))
@pytest.mark.parametrize("kind", ("RNN", "LSTM", "GRU"))
def test_when_it_is_run_does_not_matter(kind: str, way: str) -> None:
    options = {"bidirectional": True, "proj_size": 1} if kind == "LSTM" else {"num_layers": 2}
    check(lambda torch, note: run(torch, note, kind, True, True, **options), way)


@pytest.mark.oracle
def test_a_loop_of_layers_is_rolled() -> None:
    def program(torch: Any, note: Any) -> None:
        module, x, hx, total = layer(torch, "LSTM"), numbers(torch, 2, 3, 2), None, 0
        for _ in range(10):
            out, hx = module(x, hx)
            total = total + out.sin().mean()
            x = out[..., :2] * 0.9
        total.backward()
        note(total, *(p.grad for p in module.parameters()))

    check(program, "lazy")
    assert "rolled: " in str(tg.explain())


@pytest.mark.oracle
def test_single_precision_and_graph_as_in_pytorch() -> None:
    def program(torch: Any, note: Any) -> None:
        for kind, options in itertools.product(("RNN", "LSTM", "GRU"), ({}, {"bidirectional": True})):
            module = filled(torch, getattr(torch.nn, kind)(**SIZES, **options))
            outs = flat(module(numbers(torch, 4, 3, 2, grad=False).float()))
            note(*outs, [type(out.grad_fn).__name__ for out in outs])

    check(program, "lazy")


@pytest.mark.filterwarnings("ignore:Complex modules are a new feature")
@pytest.mark.parametrize("dtype", ("float16", "bfloat16", "complex128"))
@pytest.mark.parametrize("kind", ("LSTM", "GRU"))
def test_other_dtypes(kind: str, dtype: str) -> None:
    torch = pytest.importorskip("torch")
    found = []
    for lib in (tg, torch):
        of = getattr(lib, dtype)
        module = filled(lib, getattr(lib.nn, kind)(**SIZES)).to(of)
        x = numbers(lib, 4, 3, 2, grad=False).to(of).requires_grad_()
        out, _ = module(x)
        assert out.dtype == of
        (out * out).real.sum().backward() if dtype == "complex128" else (out * out).sum().backward()
        gradients = [x.grad, *(p.grad for p in module.parameters())]
        found.append([np.array(t.detach().to(of if "complex" in dtype else lib.float64).tolist())
                      for t in (out, *gradients)])  # fmt: skip
    for a, b in zip(*found):
        np.testing.assert_allclose(a, b, *((1e-10, 1e-10) if "complex" in dtype else (0.05, 0.02)))


# -- derivatives -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind, options", [("RNN", {}), ("LSTM", {"proj_size": 1}), ("GRU", {})])
def test_derivatives_to_the_second_order(kind: str, options: Any) -> None:
    module = filled(tg, getattr(nn, kind)(1, 2, bias=False, dtype=tg.float64, **options))
    others = {name: p.detach() for name, p in module.named_parameters()}

    def of(x: Any, weight: Any, *state: Any) -> Any:
        weights = {**others, "weight_hh_l0": weight}
        return func.functional_call(module, weights, (x, state if kind == "LSTM" else state[0]))[0]

    leaves = numbers(tg, 2, 1, 1), module.weight_hh_l0, *flat(states(tg, module, (1,)))
    assert tg.autograd.gradcheck(of, leaves)
    assert tg.autograd.gradgradcheck(of, leaves)


@pytest.mark.oracle
@pytest.mark.parametrize("kind", ("RNN", "LSTM", "GRU"))
def test_gradient_penalty_as_in_pytorch(kind: str) -> None:
    def program(torch: Any, note: Any) -> None:
        module = layer(torch, kind, num_layers=2)
        x = numbers(torch, 4, 3, 2)
        (slope,) = torch.autograd.grad(module(x)[0].sin().sum(), x, create_graph=True)
        note(slope)
        ((slope.norm() - 1) ** 2).backward()
        note(x.grad, *(p.grad for p in module.parameters()))

    check(program, "read")


@pytest.mark.parametrize("kind", ("RNN", "LSTM", "GRU"))
def test_transforms(kind: str) -> None:
    module = layer(tg, kind)
    weights, x = dict(module.named_parameters()), numbers(tg, 3, 4, 2, 2, grad=False)

    def loss(weights: Any, x: Any) -> Any:
        return func.functional_call(module, weights, (x,))[0].square().sum()

    each = func.vmap(func.grad(loss), (None, 0))(weights, x)
    loss(weights, x[1]).backward()
    for name, p in module.named_parameters():
        np.testing.assert_allclose(each[name][1].detach().numpy(), p.grad.numpy(), 1e-9, 1e-12)
    models = [layer(tg, kind) for _ in range(2)]
    with tg.no_grad():
        models[1].weight_hh_l0.mul_(0.5)
    stacked, _ = func.stack_module_state(models)
    both = func.vmap(lambda w, x: func.functional_call(module, w, (x,))[0], (0, None))(stacked, x[0])
    for k, model in enumerate(models):
        np.testing.assert_allclose(both[k].detach().numpy(), model(x[0])[0].detach().numpy(), 1e-9, 1e-12)
    tangent = numbers(tg, 4, 2, 2, seed=3, grad=False)
    _, forward = func.jvp(lambda x: module(x)[0], (x[0],), (tangent,))
    eps = 1e-6
    moved = [module(x[0] + sign * eps * tangent)[0].detach().numpy() for sign in (1, -1)]
    np.testing.assert_allclose(forward.detach().numpy(), (moved[0] - moved[1]) / (2 * eps), 1e-5, 1e-7)


@pytest.mark.parametrize("kind", ("LSTM", "GRU"))
def test_training_compiled_and_not(kind: str) -> None:
    losses = []
    for compiled in (False, True):
        module = layer(tg, kind, num_layers=2)
        optimizer = tg.optim.SGD(module.parameters(), 0.1)

        def step(x: Any, module: Any = module, optimizer: Any = optimizer) -> Any:
            optimizer.zero_grad()
            loss = module(x)[0].square().mean()
            loss.backward()
            optimizer.step()
            return loss

        run = tg.compile(step) if compiled else step
        losses.append([run(numbers(tg, 4, 3, 2, grad=False)).item() for _ in range(5)])
    np.testing.assert_allclose(losses[0], losses[1], 1e-12)
    assert losses[0][-1] < losses[0][0]


# -- the module --------------------------------------------------------------------------------------------------------


@pytest.mark.oracle
def test_parameters_and_state_as_in_pytorch() -> None:
    def program(torch: Any, note: Any) -> None:
        for kind, options in (("LSTM", {"num_layers": 2, "bidirectional": True, "proj_size": 2}), ("GRU", {}),
                              ("RNN", {"bias": False, "num_layers": 2})):  # fmt: skip
            module = getattr(torch.nn, kind)(**SIZES, **options)
            note([(name, p.shape, p.requires_grad) for name, p in module.named_parameters()])
            note(list(module.state_dict()), [len(weights) for weights in module.all_weights], module.mode)
            note(module.flatten_parameters(), module.all_weights[0][1] is module.weight_hh_l0)
            other = getattr(torch.nn, kind)(**SIZES, **options)
            other.load_state_dict(module.state_dict())
            note(*(bool((a == b).all()) for a, b in zip(module.parameters(), other.parameters())), str(module))
        for kind in ("RNNCell", "LSTMCell", "GRUCell"):
            module = getattr(torch.nn, kind)(2, 3, bias=False)
            note([(name, p.shape) for name, p in module.named_parameters()], str(module), module.bias_ih is None)
        note(str(torch.nn.RNNCell(2, 3, nonlinearity="relu")), str(torch.nn.GRU(2, 3, 2, False, True, 0.5, True)))
        note(torch.nn.RNN(2, 3, 1, "relu", False).nonlinearity, issubclass(torch.nn.LSTM, torch.nn.RNNBase))
        from_place = torch.nn.modules.rnn.LSTM is torch.nn.LSTM
        note(from_place, torch.nn.LSTM(2, 3).get_expected_hidden_size(torch.ones(4, 5, 2), None))

    check(program, "lazy")


@pytest.mark.parametrize("kind", ("LSTM", "GRUCell"))
def test_weights_at_first(kind: str) -> None:
    drawn = np.concatenate([p.detach().numpy().ravel() for p in getattr(nn, kind)(40, 100).parameters()])
    assert np.abs(drawn).max() <= 0.1 and abs(drawn.mean()) < 1e-3
    np.testing.assert_allclose(np.quantile(drawn, (0.25, 0.75)), (-0.05, 0.05), atol=2e-3)


def test_copies_and_other_weights() -> None:
    module, x = layer(tg, "LSTM"), numbers(tg, 4, 3, 2, grad=False)
    expected = module(x)[0].tolist()
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert other(x)[0].tolist() == expected and other.weight_ih_l0 is not module.weight_ih_l0
    zeros = {name: tg.zeros_like(p) for name, p in module.named_parameters()}
    assert not func.functional_call(module, zeros, (x,))[0].any()
    assert module(x)[0].tolist() == expected
    module.weight_hh_l0 = nn.Parameter(tg.zeros(12, 3, dtype=tg.float64))
    assert module(x)[0].tolist() != expected
    assert module.float()(x.float())[0].dtype is tg.float32


def test_dropout_is_between_layers_and_fresh() -> None:
    module, x = layer(tg, "GRU", num_layers=2, dropout=0.5), tg.ones(3, 4, 2, dtype=tg.float64)
    first, second = module(x)[0], module(x)[0]
    assert (first != second).any()
    module.eval()
    assert module(x)[0].tolist() == module(x)[0].tolist()
    module.train().dropout = 1.0
    assert module(x)[0].tolist() == module(x + 1)[0].tolist()  # nothing reaches the second layer
    assert module(x)[1][0].tolist() != module(x + 1)[1][0].tolist()
    module.num_layers = 1
    module._flat_weights_names = module._flat_weights_names[:4]
    assert module(x)[0].tolist() != module(x + 1)[0].tolist()
    with pytest.warns(UserWarning, match="dropout option adds dropout after all but last recurrent layer") as seen:
        nn.LSTM(2, 3, dropout=0.5)
    assert seen[0].filename == __file__


@pytest.mark.oracle
def test_errors_as_in_pytorch() -> None:
    def program(torch: Any, note: Any) -> None:
        def fails(call: Any) -> None:
            try:
                call()
            except Exception as error:
                note(type(error).__name__, str(error))
            else:
                note("nothing was raised")

        z = torch.zeros

        def layers(kind: str) -> None:
            make = getattr(torch.nn, kind)
            module = make(3, 4)

            def state(h: Any) -> Any:
                return (h, z(1, 2, 4)) if kind == "LSTM" else h

            for x in (z(1, 2, 3, 4), z(5, 2, 4), z(5, 2, 3, dtype=torch.float64), z(5, 2, 3, dtype=torch.int64),
                      z(0, 2, 3)):  # fmt: skip
                fails(lambda x=x: module(x))
            for h in (z(1, 3, 4), z(2, 4), z(1, 2, 5)):
                fails(lambda h=h: module(z(5, 2, 3), state(h)))
            fails(lambda: module(z(5, 3), state(z(1, 1, 4))))
            fails(lambda: module(z(5, 2, 3), 3))
            fails(lambda: module([1.0]))
            if kind != "LSTM":
                fails(lambda: module(z(5, 2, 3), z(1, 2, 4, dtype=torch.float64)))
            for args, options in (((3, 0), {}), ((0, 3), {}), ((3, 4, 0), {}), ((3, 4), {"bias": 1}), ((3.0, 4), {}),
                                  ((3, 4), {"batch_first": 1}), ((3, 4.0), {}), ((3, 4), {"dropout": 2}),
                                  ((3, 4), {"dropout": True}), ((3, 4), {"dropout": "a"}),
                                  ((3, 4), {"proj_size": 4}), ((3, 4), {"proj_size": -1})):  # fmt: skip
                fails(lambda args=args, options=options: make(*args, **options))
        def cells(kind: str) -> None:
            cell = getattr(torch.nn, kind)(3, 4)

            def state(h: Any) -> Any:
                return (h, z(2, 4)) if kind == "LSTMCell" else h

            for x in (z(2, 2, 3), z(2, 4), z(2, 3, dtype=torch.float64)):
                fails(lambda x=x: cell(x))
            for h in (z(2, 5), z(3, 4), z(1, 2, 4), z(4) if kind != "LSTMCell" else z(3, 4)):
                fails(lambda h=h: cell(z(2, 3), state(h)))
        for kind in ("RNN", "LSTM", "GRU"):
            layers(kind)
            cells(kind + "Cell")
        fails(lambda: torch.nn.RNN(3, 4, nonlinearity="sin"))
        fails(lambda: torch.nn.LSTM(3, 4)(z(5, 2, 3), (z(1, 2, 4), z(1, 2, 5))))
        fails(lambda: torch.nn.LSTM(3, 4)(z(5, 2, 3), (z(1, 2, 4),) * 3))
        fails(lambda: torch.nn.RNNCell(3, 4, nonlinearity="sin")(z(2, 3)))
        fails(lambda: torch.nn.LSTMCell(3, 4)(z(2, 3), (z(2, 4),)))
        weights = [z(16, 3), z(16, 4), z(16), z(16)]
        fails(lambda: torch.lstm(z(5, 2, 3), [z(1, 2, 4)], weights, True, 1, 0.0, False, False, False))
        fails(lambda: torch.gru(z(5, 2, 3), z(1, 2, 4), weights[:3], True, 1, 0.0, False, False, False))
        fails(lambda: torch.gru(z(5, 2, 3), z(1, 2, 4), weights, True, 2, 0.0, False, False, False))

    check(program, "lazy")


def test_errors_of_our_own() -> None:
    z, weights = tg.zeros, [tg.zeros(12, 3), tg.zeros(12, 2), tg.zeros(2, 2)]
    rest = False, 1, 0.0, False, False, False
    with pytest.raises(RuntimeError, match="the projection of a recurrent layer from 3 to 2 must be"):
        tg.lstm(z(5, 4, 3), (z(1, 4, 2), z(1, 4, 3)), weights, *rest)
    with pytest.raises(RuntimeError, match="with 3 gates and hidden size 4 must have 12 rows"):
        tg.gru(z(5, 4, 3), z(1, 4, 4), [z(9, 3), z(12, 4)], *rest)
    with pytest.raises(RuntimeError, match="must have the dtype and the batch size of its input, Float and 4"):
        tg.gru(z(5, 4, 3), z(1, 1, 4), [z(12, 3), z(12, 4)], *rest)


def test_one_step_and_empty_batches() -> None:
    for kind in ("RNN", "LSTM", "GRU"):
        module = layer(tg, kind, bidirectional=True)
        x = numbers(tg, 1, 2, 2)
        both = module(x)[0]
        assert tg.allclose(both[0, 0], module(x[:, :1])[0][0, 0])
        out, _ = module(x[:, :0])
        out.sum().backward()
        assert out.shape == (1, 0, 6) and not module.weight_hh_l0.grad.any()


# -- cells -------------------------------------------------------------------------------------------------------------


@pytest.mark.oracle
@pytest.mark.parametrize("way", ("lazy", "again", "read", "eager"))
@pytest.mark.parametrize("kind", ("RNNCell", "LSTMCell", "GRUCell"))
def test_cells_as_in_pytorch(kind: str, way: str) -> None:
    def program(torch: Any, note: Any) -> None:
        cell = filled(torch, getattr(torch.nn, kind)(2, 3, dtype=torch.float64))
        x = numbers(torch, 12, 4, 2)  # long enough for the loop to be rolled
        h = None
        for t in range(12 if way == "lazy" else 2):
            h = cell(x[t], h)
        outs = flat(h)
        note(*outs, [type(out.grad_fn).__name__ for out in outs if kind != "LSTMCell"])
        sum((out * out.cos()).sum() for out in outs).backward()
        note(x.grad, *(p.grad for p in cell.parameters()))
        if way == "lazy":
            note(*flat(cell(x[0, 0])), *flat(filled(torch, getattr(torch.nn, kind)(2, 3, False))(torch.ones(1, 2))))

    check(program, way)


def test_relu_cell() -> None:
    cell, x = nn.RNNCell(2, 3, nonlinearity="relu"), tg.ones(4, 2)
    h = cell(x, tg.ones(4, 3))
    w, u, b, c = cell.parameters()
    assert tg.allclose(h, (x @ w.T + b + tg.ones(4, 3) @ u.T + c).relu())


# -- sequences of several lengths --------------------------------------------------------------------------------------


PACKED = [("RNN", {"bias": False}), ("LSTM", {"proj_size": 2}), ("LSTM", {}), ("GRU", {"num_layers": 2})]


@pytest.mark.oracle
@pytest.mark.parametrize("kind, options, way", [*((*case, "lazy") for case in PACKED), (*PACKED[1], "read"),
                                                (*PACKED[3], "eager")], ids=str)  # fmt: skip
def test_packed_sequences_as_in_pytorch(kind: str, options: Any, way: str) -> None:
    def program(torch: Any, note: Any) -> None:
        module = layer(torch, kind, bidirectional=way == "lazy", **options)
        x = numbers(torch, 4, 3, 2)
        for given in (False, True) if way == "lazy" else (True,):
            hx = states(torch, module, (3,)) if given else None
            sequences = torch.nn.utils.rnn.pack_padded_sequence(x, torch.tensor([2, 4, 1]), enforce_sorted=False)
            packed, last = module(sequences, hx)
            note(packed.data, packed.batch_sizes, packed.sorted_indices, packed.unsorted_indices, *flat(last))
            out, lengths = torch.nn.utils.rnn.pad_packed_sequence(packed, batch_first=True, padding_value=-1.0)
            note(out, lengths)
            module.zero_grad()
            sum((t * t.cos()).sum() for t in (out, *flat(last))).backward()
            note(x.grad, *(p.grad for p in module.parameters()), *(t.grad for t in (flat(hx) if given else ())))

    check(program, way)


@pytest.mark.oracle
def test_functions_as_pytorchs_layers_call_them() -> None:
    def program(torch: Any, note: Any) -> None:
        _VF = torch._VF
        for mode, kind in (("lstm", "LSTM"), ("gru", "GRU"), ("rnn_tanh", "RNN"), ("rnn_relu", "RNN")):
            module = layer(torch, kind, bidirectional=True)
            weights = [p for group in module.all_weights for p in group]
            x = numbers(torch, 3, 2, 2)
            hx, run = states(torch, module, (2,)), getattr(_VF, mode)
            outs = [*run(x, hx, weights, True, 1, 0.0, False, True, False),
                    *run(x.reshape(6, 2)[:4], torch.tensor([2, 1, 1]), hx, weights, True, 1, 0.0, False, True)]
            note(*outs)
            sum((out * out.cos()).sum() for out in outs).backward()
            note(x.grad, *(p.grad for p in weights), *(h.grad for h in flat(hx)))
        note(_VF.relu(torch.ones(2)), _VF.gru_cell(*(torch.ones(n, 2) for n in (1, 1, 6, 6))), hasattr(_VF, "nothing"))

    check(program, "lazy")


def test_derivatives_with_lengths() -> None:
    module, x = filled(tg, nn.LSTM(1, 2, dtype=tg.float64)), numbers(tg, 3, 2, 1)

    def of(x: Any) -> Any:
        packed, _ = module(nn.utils.rnn.pack_padded_sequence(x, [3, 1]))
        return packed.data

    assert tg.autograd.gradcheck(of, (x,)) and tg.autograd.gradgradcheck(of, (x,))


@pytest.mark.oracle
@pytest.mark.parametrize("way", ("lazy", "read"))
def test_padding_and_packing_as_in_pytorch(way: str) -> None:
    def program(torch: Any, note: Any) -> None:
        tools, x = torch.nn.utils.rnn, torch.arange(12.0).reshape(4, 3)

        def attempt(call: Any) -> None:
            try:
                note(*call())
            except Exception as error:
                note(type(error).__name__, str(error))

        for lengths in ([4, 2, 1], [3, 2, 1], [4, 2, 0], [2, 4, 1], [4, 2], [[4, 2, 1]], [4.0, 2.0, 1.0]):
            attempt(lambda lengths=lengths: tools.pack_padded_sequence(x, torch.tensor(lengths)))
        attempt(lambda: tools.pack_padded_sequence(x, [3, 3, 2, 1], batch_first=True))
        attempt(lambda: tools.pack_padded_sequence(x, [1, 3, 2, 3], True, False))
        attempt(lambda: tools.pack_padded_sequence(torch.zeros(0, 3), [1, 1, 1]))
        wide = torch.arange(24).reshape(2, 3, 4)
        packed = tools.pack_padded_sequence(wide, [1, 2, 1], enforce_sorted=False)
        for options in ({}, {"batch_first": True, "padding_value": 1.5, "total_length": 5}, {"total_length": 1}):
            attempt(lambda options=options: tools.pad_packed_sequence(packed, **options))
        parts = [torch.ones(2, 2), torch.arange(6.0).reshape(3, 2), torch.zeros(1, 2)]
        for options in ({}, {"batch_first": True, "padding_value": 2.0, "padding_side": "left"}):
            attempt(lambda options=options: (tools.pad_sequence(parts, **options),))
        attempt(lambda: (tools.pad_sequence(parts, padding_side="up"),))
        attempt(lambda: (tools.pad_sequence([]),))
        attempt(lambda: (tools.pad_sequence((torch.ones(n).int() for n in (1, 2)), padding_value=1.5),))
        attempt(lambda: tools.pack_sequence(parts))
        attempt(lambda: tools.unpack_sequence(tools.pack_sequence(parts, enforce_sorted=False)))
        attempt(lambda: tools.unpad_sequence(x, torch.tensor([1, 3, 2, 3]), True))
        attempt(lambda: (tools.invert_permutation(torch.tensor([2, 0, 1])), tools.invert_permutation(None)))
        attempt(lambda: tools.PackedSequence(x))
        same = tools.PackedSequence(x, torch.tensor([4]))
        note(same.to(torch.float32) is same, same.double().data, tools.PackedSequence((x, torch.tensor([4])))[0])
        note([getattr(same, name)().data for name in ("long", "int", "short", "char", "byte", "half", "float", "cpu")])
        note(str(same), same.is_cuda)

    check(program, way)


def test_lengths_beyond_the_input() -> None:
    with pytest.raises(RuntimeError, match="at most the 4 time steps"):
        nn.utils.rnn.pack_padded_sequence(tg.ones(4, 2), [5, 1])


def test_one_program_whatever_the_lengths(compiled: Any) -> None:
    module = layer(tg, "GRU")
    for k, lengths in enumerate(([4, 2, 2], [4, 2, 2], [4, 3, 1])):
        packed, _ = module(nn.utils.rnn.pack_padded_sequence(numbers(tg, 4, 3, 2, seed=k), lengths))
        packed.data.sum().backward()
        assert module.weight_hh_l0.grad.isfinite().all().item()
        module.zero_grad()
        programs = compiled()
    assert not programs
