"""Modules in use: state dicts, sharing, freezing, containers, copies."""

from __future__ import annotations

import collections
import copy
import functools
import pickle

from _models import data, fill, fit, line, mlp
from _same import failing, same


@same
def test_a_state_dict_round_trip(torch):
    a, b = mlp(torch), torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Tanh(), torch.nn.Linear(3, 1))
    found = b.load_state_dict(a.state_dict())
    x, _ = data(torch)
    return str(found), torch.equal(a(x), b(x)), list(a.state_dict()), b


@same
def test_a_state_dict_shares_elements_with_the_model(torch):
    model = line(torch)
    state = model.state_dict()
    state["bias"].fill_(7)
    with torch.no_grad():
        model.weight.zero_()
    return model, state["weight"], state["bias"].requires_grad


@same
def test_a_state_dict_kept_by_reference_moves_with_training(torch):
    model = line(torch)
    kept, copied = model.state_dict(), copy.deepcopy(model.state_dict())
    fit(torch, model, torch.optim.SGD(model.parameters(), lr=0.1))
    return kept["weight"].tolist() == model.weight.tolist(), copied["weight"].tolist() == model.weight.tolist()


@same
def test_loading_a_state_dict_with_wrong_keys_and_shapes(torch):
    model = line(torch)
    with failing() as missing:
        model.load_state_dict({"weight": torch.ones(1, 2), "other": torch.ones(1)})
    with failing() as shape:
        model.load_state_dict({"weight": torch.ones(2, 2), "bias": torch.ones(1)})
    loose = model.load_state_dict({"bias": torch.tensor([3.0])}, strict=False)
    return missing, shape, str(loose), model.bias


@same
def test_loading_copies_into_the_same_parameters(torch):
    model = line(torch)
    weight = model.weight
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    fit(torch, model, optimizer, 1)
    model.load_state_dict({"weight": torch.ones(1, 2), "bias": torch.zeros(1)})
    losses = fit(torch, model, optimizer, 1)
    return weight is model.weight, losses, model.weight.tolist()


@same
def test_tied_weights_get_both_gradients(torch):
    class Tied(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = torch.nn.Embedding(3, 2)
            self.head = torch.nn.Linear(2, 3, bias=False)
            self.head.weight = self.embedding.weight

        def forward(self, i):
            return self.head(self.embedding(i))

    model = fill(torch, Tied())
    torch.nn.functional.cross_entropy(model(torch.tensor([0, 2])), torch.tensor([1, 0])).backward()
    return len(list(model.parameters())), list(model.state_dict()), model.embedding.weight


@same
def test_tied_weights_stay_tied_in_a_deepcopy(torch):
    a = line(torch)
    pair = torch.nn.ModuleList([a, torch.nn.Linear(2, 1)])
    pair[1].weight = a.weight
    twin = copy.deepcopy(pair)
    with torch.no_grad():
        twin[0].weight.zero_()
    return twin[0].weight is twin[1].weight, a.weight.tolist(), twin[1].weight.tolist()


@same
def test_a_layer_used_twice_sums_its_gradients(torch):
    layer = fill(torch, torch.nn.Linear(2, 2))
    x, _ = data(torch)
    layer(layer(x).tanh()).sum().backward()
    return layer


@same
def test_a_deepcopy_in_the_middle_of_training_goes_its_own_way(torch):
    model = line(torch)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    fit(torch, model, optimizer, 1)
    twin = copy.deepcopy(model)
    fit(torch, model, optimizer, 1)
    return model.weight.tolist(), twin, twin.weight.grad is not None


@same
def test_a_model_is_pickled_with_its_numbers(torch):
    model = mlp(torch)
    model.eval()
    twin = pickle.loads(pickle.dumps(model))
    x, _ = data(torch)
    return twin(x), twin.training, str(twin)


@same
def test_freezing_the_first_layer(torch):
    model = mlp(torch)
    for p in model[0].parameters():
        p.requires_grad = False
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    fit(torch, model, optimizer)
    return [(n, p.requires_grad, p.grad is None, p.tolist()) for n, p in model.named_parameters()]


@same
def test_unfreezing_during_training(torch):
    model = mlp(torch)
    model[0].requires_grad_(False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    fit(torch, model, optimizer, 1)
    before = model[0].weight.tolist()
    model.requires_grad_(True)
    fit(torch, model, optimizer, 1)
    return before, model[0].weight.tolist(), model[2].weight.tolist()


@same
def test_buffers_move_with_the_state_and_not_with_the_optimizer(torch):
    class Counter(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("calls", torch.tensor(0))
            self.register_buffer("scratch", torch.zeros(2), persistent=False)
            self.scale = torch.nn.Parameter(torch.ones(1))

        def forward(self, x):
            self.calls += 1
            self.scratch = x.detach().sum(0)
            return x * self.scale

    model = Counter()
    for _ in range(2):
        model(torch.ones(3, 2)).sum().backward()
    return model, list(model.state_dict()), [n for n, _ in model.named_buffers()]


@same
def test_train_and_eval_reach_every_child(torch):
    model = torch.nn.Sequential(torch.nn.Dropout(0.5), torch.nn.Sequential(torch.nn.BatchNorm1d(2)))
    x = data(torch)[0]
    model.eval()
    out = model(x)
    flags = [m.training for m in model.modules()]
    model[1].train()
    return out, flags, [m.training for m in model.modules()], model.eval() is model


@same
def test_batch_norm_keeps_running_statistics(torch):
    norm = torch.nn.BatchNorm1d(2)
    x = data(torch)[0]
    out = norm(x)
    norm(x * 2)
    norm.eval()
    out.sum().backward()
    buffers = {k: b.tolist() for k, b in norm.named_buffers()}
    return out.tolist(), buffers, norm(x).tolist(), norm.weight.grad


@same
def test_a_parameter_computed_by_a_property(torch):
    class Positive(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.raw = torch.nn.Parameter(torch.tensor([-1.0, 1.0]))

        @property
        def weight(self):
            return torch.nn.functional.softplus(self.raw)

        def forward(self, x):
            return (x * self.weight).sum()

    model = Positive()
    model(torch.ones(2)).backward()
    return model, model.weight, list(model.state_dict())


@same
def test_weight_normalisation_by_hand(torch):
    class Normed(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.v = torch.nn.Parameter(torch.tensor([[3.0, 4.0]]))
            self.g = torch.nn.Parameter(torch.tensor(2.0))

        def forward(self, x):
            return x @ (self.g * self.v / self.v.norm()).t()

    model = Normed()
    fit(torch, model, torch.optim.SGD(model.parameters(), lr=0.1))
    return model.v, model.g


@same
def test_assigning_attributes_registers_them_or_raises(torch):
    model = torch.nn.Module()
    model.a = torch.nn.Parameter(torch.ones(1))
    model.b = torch.ones(1)
    model.c = torch.nn.Identity()
    with failing() as wrong:
        model.a = torch.ones(1)
    model.a = None
    names = [n for n, _ in model.named_parameters()], [n for n, _ in model.named_children()]
    del model.c
    with failing() as gone:
        _ = model.c
    return wrong, names, gone, len(list(model.children()))


@same
def test_assigning_before_init_raises(torch):
    class Early(torch.nn.Module):
        def __init__(self):
            self.p = torch.nn.Parameter(torch.ones(1))

    with failing() as error:
        Early()
    return error


@same
def test_nested_containers_and_their_names(torch):
    nn = torch.nn
    model = nn.ModuleDict({"body": nn.ModuleList([nn.Linear(1, 1), nn.Sequential(nn.ReLU(), nn.Linear(1, 2))]),
                           "head": nn.Linear(2, 1)})  # fmt: skip
    model["body"].append(nn.Identity())
    return str(model), [n for n, _ in model.named_parameters()], \
        [n for n, _ in model.named_modules()], len(model["body"])


@same
def test_sequential_can_be_sliced_extended_and_changed(torch):
    model = mlp(torch)
    front = model[:2]
    model[1] = torch.nn.ReLU()
    named = torch.nn.Sequential(collections.OrderedDict([("a", torch.nn.Linear(2, 2)), ("b", torch.nn.ReLU())]))
    x = data(torch)[0]
    return front(x).tolist(), model(x).tolist(), str(model), str(named), named.a is named[0], len(model)


@same
def test_python_lists_hide_parameters(torch):
    class Hidden(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = [torch.nn.Linear(1, 1)]
            self.seen = torch.nn.ParameterList([torch.ones(1), torch.zeros(2)])

    return [n for n, _ in Hidden().named_parameters()], str(Hidden())


@same
def test_apply_initialises_every_linear_layer(torch):
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Sequential(torch.nn.Linear(2, 1)))

    def init(m):
        if isinstance(m, torch.nn.Linear):
            torch.nn.init.constant_(m.weight, 0.5)
            torch.nn.init.zeros_(m.bias)

    model.apply(init)
    return model(torch.ones(1, 2)), model


@same
def test_features_collected_by_forward_hooks(torch):
    model, features = mlp(torch), {}

    def keep(name, module, args, out):
        features[name] = out.detach()

    handles = [m.register_forward_hook(functools.partial(keep, n)) for n, m in model.named_children()]
    model(data(torch)[0]).sum().backward()
    for h in handles:
        h.remove()
    model(data(torch)[0] * 2)
    return features, len(model[0]._forward_hooks)


@same
def test_gradients_watched_by_full_backward_hooks(torch):
    model, norms = mlp(torch), []
    model[2].register_full_backward_hook(lambda m, gi, go: norms.append((gi[0].norm().item(), go[0].norm().item())))
    model(data(torch)[0]).sum().backward()
    return norms, model[0].weight.grad


@same
def test_zero_grad_sets_none_or_zeros(torch):
    model = line(torch)
    model(data(torch)[0]).sum().backward()
    held = model.weight.grad
    model.zero_grad(set_to_none=False)
    zeroed = held.tolist()
    model.zero_grad()
    return zeroed, model.weight.grad


@same
def test_casting_a_model_casts_parameters_and_buffers_that_are_floats(torch):
    model = torch.nn.BatchNorm1d(2)
    weight = model.weight
    model.double()
    kinds = {k: str(v.dtype) for k, v in model.state_dict().items()}
    model.to(torch.float32)
    return kinds, weight is model.weight, weight.dtype


@same
def test_a_module_called_wrongly(torch):
    model = line(torch)
    with failing() as nothing:
        model()
    with failing() as shape:
        model(torch.ones(2, 3))
    with failing() as no_forward:
        torch.nn.Module()(1)
    return nothing[0], shape, no_forward, model(torch.ones(2)).tolist()


@same
def test_ema_of_a_model_by_lerp(torch):
    model = line(torch)
    shadow = copy.deepcopy(model).requires_grad_(False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):
        fit(torch, model, optimizer, 1)
        with torch.no_grad():
            for s, p in zip(shadow.parameters(), model.parameters()):
                s.lerp_(p, 0.1)
    return shadow.weight.tolist(), model.weight.tolist(), shadow.weight.requires_grad


@same
def test_parameters_as_one_vector(torch):
    model = line(torch)
    vector = torch.nn.utils.parameters_to_vector(model.parameters())
    torch.nn.utils.vector_to_parameters(torch.ones(3), model.parameters())
    return vector.tolist(), vector.requires_grad, model.weight.tolist(), model.weight.requires_grad


@same
def test_a_parameter_replaced_after_the_optimizer_was_made_is_not_trained(torch):
    model = line(torch)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model.weight = torch.nn.Parameter(torch.ones(1, 2))
    fit(torch, model, optimizer, 1)
    return model.weight, model.bias.tolist()
