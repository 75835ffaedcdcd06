"""Hooks of modules: PyTorch's order, arguments and errors."""

from __future__ import annotations

import copy

import pytest
from _both import WAYS, check

import tracegrad

PROGRAMS = []


def program(function):
    PROGRAMS.append(function)
    return function


def small(torch, wants=True):
    """Return a model with fixed weights, and an input."""
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Tanh(), torch.nn.Linear(3, 1))
    with torch.no_grad():
        for i, p in enumerate(model.parameters()):
            p.copy_(torch.arange(float(p.numel())).reshape(p.shape) * 0.1 + i * 0.01)
    return model, torch.tensor([[1.0, 2.0], [0.5, -1.0]], requires_grad=wants)


@program
def forward_hooks(torch, note):
    model, x = small(torch)
    layer = model[0]
    layer.register_forward_pre_hook(lambda m, args: (note("pre", len(args), *args), (args[0] * 2,))[1])
    layer.register_forward_pre_hook(lambda m, args: (note("first"), args[0] + 1)[1], prepend=True)
    layer.register_forward_hook(lambda m, args, out: (note("post", *args, out), out + 1)[1])
    handle = layer.register_forward_hook(lambda m, args, out: note("second", out))
    layer.register_forward_hook(lambda m, args, out: note("ahead", out), prepend=True)
    note(model(x))
    handle.remove()
    with layer.register_forward_hook(lambda m, args, out: out * 0):
        note(layer(x))
    return layer(x)


@program
def hooks_with_keywords(torch, note):
    class Scale(torch.nn.Module):
        def forward(self, x, *, by=2):
            return x * by

    module = Scale()
    module.register_forward_pre_hook(lambda m, args, kwargs: ((args[0] + 1,), {"by": kwargs["by"] * 2}),
                                     with_kwargs=True)  # fmt: skip
    module.register_forward_hook(lambda m, args, kwargs, out: note(*args, kwargs["by"], out), with_kwargs=True)
    note(module(torch.ones(2), by=3))
    module.register_forward_pre_hook(lambda m, args, kwargs: args, with_kwargs=True)
    module(torch.ones(2), by=3)


@program
def hooks_called_in_any_case(torch, note):
    class Fails(torch.nn.Module):
        def forward(self, x):
            raise ValueError("mine")

    module = Fails()
    module.register_forward_hook(lambda m, args, out: note("always", out), always_call=True)
    module.register_forward_hook(lambda m, args, out: note("never"))
    module.register_forward_hook(lambda m, args, out: 1 // 0, always_call=True)
    module(torch.ones(2))


@program
def full_backward_hooks(torch, note):
    model, x = small(torch)
    for i, layer in enumerate(model):
        layer.register_full_backward_hook(lambda m, gi, go, i=i: note(i, *gi, *go))
        layer.register_full_backward_pre_hook(lambda m, go, i=i: note("pre", i, *go))
    y = model(x)
    note(y)
    y.sum().backward()
    return x.grad, [p.grad for p in model.parameters()]


@program
def full_backward_hooks_replace(torch, note):
    model, x = small(torch)
    model[1].register_full_backward_hook(lambda m, gi, go: (gi[0] * 3,))
    model[1].register_full_backward_hook(lambda m, gi, go: note("second", *gi, *go))
    model[1].register_full_backward_hook(lambda m, gi, go: note("first", *gi), prepend=True)
    model[1].register_full_backward_pre_hook(lambda m, go: (go[0] * 5,))
    model(x).sum().backward()
    return x.grad, [p.grad for p in model.parameters()]


@program
def gradients_of_parameters_are_there(torch, note):
    model, x = small(torch)
    model[2].register_full_backward_hook(lambda m, gi, go: note(m.weight.grad, model[0].weight.grad))
    model(x).sum().backward()


@program
def without_gradients_of_inputs(torch, note):
    model, x = small(torch, wants=False)
    model[0].register_full_backward_hook(lambda m, gi, go: note(*gi, *go))
    model(x).sum().backward()
    model[0].register_full_backward_hook(lambda m, gi, go: (go[0],))
    model(x).sum().backward()


@program
def several_inputs_and_outputs(torch, note):
    class Two(torch.nn.Module):
        def forward(self, a, factor, b):
            return a * factor, "text", b.exp(), (a + b).detach()

    module = Two()
    module.register_full_backward_hook(lambda m, gi, go: (note("post", *gi, *go), (gi[0] * 2, None, gi[2] * 3))[1])
    module.register_full_backward_pre_hook(lambda m, go: note("pre", *go))
    a, b = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    c, _, d, e = module(a, 4, b)
    note(c.requires_grad, d.requires_grad, e.requires_grad)
    (c * d + e).sum().backward()
    return a.grad, b.grad


@program
def wrong_numbers_of_gradients(torch, note):
    for register, result in (("register_full_backward_hook", lambda m, gi, go: (None, None)),
                             ("register_full_backward_pre_hook", lambda m, go: (go[0], go[0]))):  # fmt: skip
        model, x = small(torch)
        getattr(model[1], register)(result)
        try:
            model(x).sum().backward()
        except RuntimeError as error:
            note(str(error))


@program
def hooks_of_the_old_kind(torch, note):
    model, x = small(torch)
    model[1].register_backward_hook(lambda m, gi, go: (note(*gi, *go), (gi[0] * 2,))[1])
    model(x).sum().backward()
    note(x.grad)
    model.register_backward_hook(lambda m, gi, go: note(len(gi), *go))
    model(x).sum().backward()
    try:
        model.register_full_backward_hook(lambda m, gi, go: None)
    except RuntimeError as error:
        note(str(error))
    model[0].register_full_backward_hook(lambda m, gi, go: None)
    model[0].register_backward_hook(lambda m, gi, go: None)


@program
def hooks_of_all_modules(torch, note):
    module = torch.nn.modules.module
    model, x = small(torch)
    model[0].register_forward_hook(lambda m, args, out: note("own"))
    handles = [
        module.register_module_forward_pre_hook(lambda m, args: note("pre", type(m).__name__)),
        module.register_module_forward_hook(lambda m, args, out: note("post", type(m).__name__)),
        module.register_module_forward_hook(lambda m, args, kwargs, out: note(len(kwargs)), with_kwargs=True),
        module.register_module_full_backward_hook(lambda m, gi, go: note("backward", type(m).__name__, *go)),
        module.register_module_full_backward_pre_hook(lambda m, go: note("before", type(m).__name__)),
    ]
    try:
        model(x).sum().backward()
        try:
            module.register_module_backward_hook(lambda m, gi, go: None)
        except RuntimeError as error:
            note(str(error))
    finally:
        for handle in handles:
            handle.remove()
    model(x).sum().backward()
    return x.grad


@program
def second_derivatives(torch, note):
    model, x = small(torch)
    model[1].register_full_backward_hook(lambda m, gi, go: note(*gi, *go))
    (g,) = torch.autograd.grad(model(x).sum(), x, create_graph=True)
    (g * g).sum().backward()
    return x.grad


@program
def under_no_grad(torch, note):
    model, x = small(torch)
    model.register_full_backward_hook(lambda m, gi, go: note("never"))
    model.register_forward_hook(lambda m, args, out: note(out.requires_grad))
    with torch.no_grad():
        return model(x)


@program
def state_dict_hooks(torch, note):
    model, _ = small(torch)
    model.register_state_dict_pre_hook(lambda m, prefix, keep: note("pre", prefix, keep))
    model[0].register_state_dict_post_hook(lambda m, state, prefix, meta: state.pop(prefix + "bias") and None)
    model._register_state_dict_hook(lambda m, state, prefix, meta: {"renamed." + k: v for k, v in state.items()})
    note(*model.state_dict())
    model[2].register_state_dict_post_hook(lambda m, state, prefix, meta: state)
    model.state_dict()


@program
def load_state_dict_hooks(torch, note):
    model, _ = small(torch)
    state = {"old." + k: v for k, v in model.state_dict().items()}

    def rename(module, state, prefix, meta, strict, missing, unexpected, messages):
        note(prefix, strict, missing, unexpected, messages)
        for key in list(state):
            if key.startswith("old."):
                state[key[4:]] = state.pop(key)

    model.register_load_state_dict_pre_hook(rename)
    model.register_load_state_dict_post_hook(lambda m, keys: note(keys.missing_keys, keys.unexpected_keys))
    model.load_state_dict(state)
    note(len(state), *state)
    state["old.extra"] = state["old.0.weight"]
    del state["old.2.bias"]
    forgive = model.register_load_state_dict_post_hook(lambda m, keys: (keys[0].clear(), keys[1].clear()) and None)
    model.load_state_dict(state)
    forgive.remove()
    model.load_state_dict(state)


@program
def dictionaries(torch, note):
    layer = torch.nn.Linear(2, 2)
    layer.register_forward_hook(lambda m, args, out: out * 0)
    twin = copy.deepcopy(layer)
    note(len(layer._forward_hooks), len(twin._forward_hooks), len(layer._backward_hooks))
    layer._forward_hooks.clear()
    return twin(torch.ones(1, 2)), bool((layer(torch.ones(1, 2)) != 0).any())


@pytest.mark.oracle
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("run", PROGRAMS, ids=lambda p: p.__name__)
def test_module_hooks_as_in_pytorch(run, way):
    torch = pytest.importorskip("torch")
    torch.nn.modules.module._global_is_full_backward_hook = None
    tracegrad.nn._hooks.flags.full = None
    check(run, way)


def test_a_step_with_module_hooks_is_one_program(compiled):
    torch = tracegrad
    model, x = small(torch)
    for layer in model:
        layer.register_full_backward_hook(lambda m, gi, go: tuple(g * 2 if g is not None else None for g in gi))
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    torch.synchronize()
    counts = []
    for _ in range(5):
        optimizer.zero_grad()
        model(x).sum().backward()
        optimizer.step()
        counts.append(compiled())
    assert counts[2:] == [0, 0, 0]
