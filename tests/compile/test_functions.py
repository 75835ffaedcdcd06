"""``tracegrad.compile`` of functions and modules: results, gradients through them, refusals, errors."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from _compiled import batches, check, replayed, same

import tracegrad as torch
from tracegrad._errors import UnsupportedError


def test_a_function_of_tensors():
    compiled = check(lambda: (lambda x: (x * 2 + 1, [x.sum()]), tuple), batches(6, 3))
    assert replayed(compiled, 3)


def test_a_decorator_with_options_and_keyword_arguments():
    @torch.compile(fullgraph=True, mode="default", name="double")
    def twice(x, *, by=2):
        """Return a multiple."""
        return {"y": x * by}

    for k in range(5):
        assert twice(torch.full((2,), float(k)), by=2)["y"].tolist() == [2.0 * k] * 2
    assert twice(torch.ones(2), by=3)["y"].tolist() == [3.0, 3.0]
    assert twice.__name__ == "double" and twice.__doc__ == "Return a multiple." and twice.replays


def test_captured_tensors_are_read_at_the_call():
    w = torch.ones(2)
    f = torch.compile(lambda x: x * w)
    for k in range(5):
        with torch.no_grad():
            w.fill_(k)
        assert f(torch.ones(2)).tolist() == [k, k]
    assert replayed(f, 2)


def test_a_forward_differentiates_outside():
    def make():
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))
        return model, lambda: [p.grad.clone() for p in model.parameters()]

    (plain, state), (model, compiled_state) = make(), make()
    f = torch.compile(model)
    for (x,) in batches(6, 5, 3):
        xs = [x.clone().requires_grad_() for _ in range(2)]
        for function, given in zip((plain, f), xs):
            y = function(given * 2)
            (y * y).mean().backward()
        assert same(state(), compiled_state()) and same(xs[0].grad, xs[1].grad)
    assert replayed(f._compiled, 3)


def test_second_gradients_go_through_a_compiled_function():
    f = torch.compile(lambda x: (x**3).sum())
    for k in range(1, 6):
        x = torch.tensor([float(k)], requires_grad=True)
        (g,) = torch.autograd.grad(f(x), x, create_graph=True)
        g.sum().backward()
        assert x.grad.tolist() == [6.0 * k]
    assert replayed(f, 2)


def test_a_graph_is_freed_as_outside():
    f = torch.compile(lambda x: (x * x).sum())
    for _ in range(5):
        x = torch.tensor([2.0], requires_grad=True)
        y = f(x)
        y.backward()
        assert x.grad.tolist() == [4.0]
        with pytest.raises(RuntimeError, match="second time"):
            y.backward()


# -- modules -----------------------------------------------------------------------------------------------------------


def test_a_compiled_module_is_the_module():
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Dropout(0.5))
    f = torch.compile(model)
    assert isinstance(f, torch.nn.Module) and f._orig_mod is model
    assert [id(p) for p in f.parameters()] == [id(p) for p in model.parameters()]
    assert list(f.state_dict()) == ["_orig_mod.0.weight", "_orig_mod.0.bias"]
    f.eval()
    assert not f.training and not model.training and not model[1].training
    x = torch.ones(1, 2)
    for _ in range(5):
        assert same(f(x), model(x))
    assert replayed(f._compiled, 2)
    f.extra = 3
    assert model.extra == 3 and f[0] is model[0] and len(f) == 2
    f.load_state_dict(f.state_dict())
    assert same(f(x), model(x))


@pytest.mark.oracle
def test_compiled_modules_have_the_keys_of_pytorch():
    real = pytest.importorskip("torch")
    ours = torch.compile(torch.nn.Sequential(torch.nn.Linear(2, 3)))
    theirs = real.compile(real.nn.Sequential(real.nn.Linear(2, 3)), backend="eager")
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert [n for n, _ in ours.named_parameters()] == [n for n, _ in theirs.named_parameters()]


# -- refusals, ends ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options, message", [
    ({"dynamic": True}, "dynamic=True"), ({"backend": "eager"}, "expected a backend"), ({"options": {"a": 1}}, "no o"),
])  # fmt: skip
def test_options_that_are_refused(options, message):
    with pytest.raises(torch.UnsupportedError, match=message):
        torch.compile(lambda x: x, **options)


def test_functions_that_are_refused():
    def generate():
        yield 1

    with pytest.raises(torch.UnsupportedError, match="generator"):
        torch.compile(generate)
    with pytest.raises(RuntimeError, match="Unrecognized mode"):
        torch.compile(len, mode="fast")
    with pytest.raises(torch.UnsupportedError, match="NumPy array"):
        torch.compile(lambda a: torch.from_numpy(a))(np.ones(2))
    assert torch.compile(generate, disable=True) is generate


def test_exceptions_leave_everything_usable():
    w = torch.ones(2, requires_grad=True)

    def f(x):
        y = w * x
        if x.shape[0] == 3:
            raise KeyError("mine")
        return y.sum()

    compiled = torch.compile(f)
    for _ in range(4):
        with pytest.raises(RuntimeError, match="size of tensor"):
            compiled(torch.ones(5))
        assert compiled(torch.ones(2)).item() == 2.0
    assert replayed(compiled, 2) and (w * 2).tolist() == [2.0, 2.0]


def test_inside_of_other_modes():
    f = torch.compile(lambda x: x.sin() * 2)
    g = torch.compile(lambda x: f(x) + 1)
    x = torch.ones(2)
    expected = (x.sin() * 2).tolist()
    for _ in range(4):
        assert g(x).tolist() == [e + 1 for e in expected]
        with torch.eager():
            assert f(x).tolist() == expected
        assert torch.func.vmap(f)(x).tolist() == expected
    assert replayed(g, 2) and not f.calls


def test_errors_of_elements_are_raised_at_a_read():
    table = torch.ones(3, 2)
    f = torch.compile(lambda i: table[i].sum())
    for _ in range(4):
        assert f(torch.tensor([0, 2])).item() == 4.0
    bad = f(torch.tensor([0, 1]) * 5)
    with pytest.raises(IndexError):
        bad.item()
    assert f(torch.tensor([0, 2])).item() == 4.0


def test_a_module_that_is_compiled_in_place():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Dropout(0.5), torch.nn.Linear(3, 2))
    plain, x = copy.deepcopy(model), torch.linspace(-1, 1, 6).view(2, 3)
    assert model.compile() is None and model(x).shape == (2, 2)
    compiled = model.__dict__["_compiled_call_impl"]
    for train in (False, True):
        model.train(train)
        plain.train(train)
        for k in range(5):
            results = []
            for m in (model, plain):
                torch.manual_seed(k)
                m.zero_grad()
                out = m(x)
                out.sum().backward()
                results.append([out, *(p.grad for p in m.parameters())])
                with torch.no_grad():
                    for p in m.parameters():
                        p.mul_(0.9)
            assert same(*results)
    assert compiled.replays >= 4 and model.state_dict().keys() == plain.state_dict().keys()
    calls = compiled.calls
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), copy.copy(model)):
        other.eval()
        other(x)
        other.forward(x)
    model.forward(x)
    assert compiled.calls == calls and "_compiled_call_impl" not in other.__dict__


def test_a_part_that_is_compiled_and_one_that_has_hooks():
    seen = []
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    model[0].compile()
    x = torch.ones(1, 2)
    expected = model[1].forward(model[0].forward(x))
    model[1].register_forward_hook(lambda *_: seen.append(1))
    for _ in range(4):
        assert same(model(x), expected)
    assert len(seen) == 4
    whole = torch.compile(model)
    assert same(whole(x), expected)
    with pytest.raises(UnsupportedError, match="dynamic"):
        model.compile(dynamic=True)
