"""Control flow on values, numpy in between, printing and random numbers in programs."""

from __future__ import annotations

import math

import numpy as np
from _models import data, fit, line
from _same import failing, same


@same
def test_an_if_on_a_value_chooses_the_graph(torch):
    found = []
    for start in (1.0, -1.0):
        w = torch.tensor(start, requires_grad=True)
        y = w * 2 if w > 0 else w * w
        y.backward()
        found.append((y.item(), w.grad.item()))
    return found


@same
def test_a_while_on_a_norm(torch):
    w = torch.tensor([1.0, 0.5], requires_grad=True)
    y, turns = w, 0
    while y.data.norm() < 10:
        y = y * 2
        turns += 1
    y.sum().backward()
    return turns, y, w


@same
def test_newton_until_converged(torch):
    x = torch.tensor(3.0, requires_grad=True)
    turns = 0
    while turns < 20:
        turns += 1
        f = x**2 - 2
        (g,) = torch.autograd.grad(f, x)
        with torch.no_grad():
            x -= f / g
        if f.abs() < 1e-4:
            break
    return turns, abs(x.item() - math.sqrt(2)) < 1e-5


@same
def test_truth_of_tensors(torch):
    with failing() as many:
        bool(torch.ones(2))
    with failing() as none:
        bool(torch.ones(0))
    return many, none, bool(torch.tensor([[0.0]])), not torch.tensor(0), 1 if torch.tensor(float("nan")) else 0


@same
def test_min_max_sorted_and_sum_of_python(torch):
    xs = [torch.tensor(3.0), torch.tensor(1.0, requires_grad=True), torch.tensor(2.0)]
    total = sum(xs)
    total.backward()
    return max(xs), min(xs), [x.item() for x in sorted(xs)], total, any(x > 2 for x in xs), all(torch.ones(2)), \
        sum(torch.arange(3)), max(torch.arange(3))


@same
def test_in_and_index_and_len(torch):
    x = torch.tensor([[1, 2], [3, 4]])
    return 3 in x, 7 in x, len(x), [len(r) for r in x], x.tolist().index([3, 4]), [int(v) for v in x[0]], \
        list(range(x[1, 0]))


@same
def test_tensors_as_keys_of_dicts_are_by_identity(torch):
    a, b = torch.ones(1), torch.ones(1)
    table = {a: 1, b: 2}
    return table[a], table[b], len({a, b, a}), a == b, hash(a) == hash(a)


@same
def test_unpacking_and_stars(torch):
    a, b = torch.arange(2.0, requires_grad=True)
    first, *rest = torch.arange(3.0)
    values, indices = torch.tensor([2.0, 5.0, 1.0]).max(0)
    h, w = torch.ones(2, 3).shape
    (a * 3 + b).backward()
    return a.item(), rest, values, indices, h, w, torch.stack([*torch.ones(2, 2)])


@same
def test_named_results(torch):
    x = torch.tensor([[2.0, 5.0], [1.0, 0.0]])
    top = x.topk(1)
    return x.max(1).values, x.min(0).indices, x.sort().values, top.values, top[1], x.median(1).values, x.mode(1).values


@same
def test_early_exit_by_nan(torch):
    w = torch.tensor(1.0, requires_grad=True)
    for turn in range(5):
        loss = (w - 1 - turn).log() if turn == 2 else w * w
        if torch.isnan(loss):
            break
        loss.backward()
    return turn, loss, w


@same
def test_binary_search_on_a_threshold(torch):
    x = torch.tensor([0.1, 0.4, 0.35, 0.8])
    low, high = 0.0, 1.0
    for _ in range(6):
        middle = (low + high) / 2
        if (x > middle).sum() > 2:
            low = middle
        else:
            high = middle
    return low, high


@same
def test_a_generator_under_no_grad(torch):
    w = torch.ones(2, requires_grad=True)

    def batches():
        with torch.no_grad():
            for i in range(2):
                yield w * i

    return [(b, torch.is_grad_enabled()) for b in map(lambda b: b + 1, batches())], torch.is_grad_enabled()


@same
def test_numpy_arrays_come_in_and_go_out(torch):
    a = np.arange(6, dtype=np.float32).reshape(2, 3)
    x = torch.from_numpy(a.copy())
    y = torch.tensor(a, dtype=torch.float64)
    return (x * 2).numpy(), y.numpy().dtype.name, np.asarray(x), np.array(x[0]), torch.as_tensor(a[0]), x.numpy().shape


@same
def test_a_tensor_that_wants_gradients_has_no_numpy(torch):
    w = torch.ones(2, requires_grad=True)
    with failing() as error:
        w.numpy()
    with failing() as other:
        np.asarray(w * 2)
    return error, other, w.detach().numpy(), (w * 2).detach().cpu().numpy()


@same
def test_numpy_functions_of_tensors(torch):
    x = torch.tensor([1.0, 4.0, 9.0])
    return np.sqrt(x), np.mean(x.numpy()), float(np.max(x.numpy())), np.allclose(x, [1, 4, 9]), np.stack([x, x]).shape


@same
def test_numpy_scalars_in_arithmetic(torch):
    x = torch.ones(2)
    return x * np.float32(2), x + np.float64(0.5), x * np.int64(3), torch.tensor(np.float64(1.5)), \
        torch.tensor(np.int32(4)), torch.arange(2) * np.float32(2), x**np.int64(2), torch.full((1,), np.pi)


@same
def test_numpy_indices_and_masks(torch):
    x = torch.arange(4.0)
    i, mask = np.array([2, 0]), np.array([True, False, False, True])
    y = x.clone()
    y[i] = 7
    return x[i], x[mask], x[np.int64(1)], y, x[i[0] :]


@same
def test_numpy_decides_and_torch_trains(torch):
    w = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    order = np.argsort(-w.detach().numpy())
    picked = w[torch.as_tensor(order[:2].copy())]
    picked.sum().backward()
    return order, w


@same
def test_lists_of_tensors_and_nested_lists_make_tensors(torch):
    with failing() as ragged:
        torch.tensor([[1, 2], [3]])
    return torch.tensor([torch.tensor(1.0), torch.tensor(2.0)]), torch.tensor([[1, 2.5], [True, 0]]), ragged, \
        torch.tensor([]), torch.tensor(range(3)), torch.tensor([np.float32(1), np.float32(2)])


@same
def test_losses_printed_in_training(torch):
    model = line(torch)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = data(torch)
    for epoch in range(2):
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(model(x), y)
        print(f"{epoch}: {loss:.3f} {loss.item():.2e}", loss.shape, loss.dtype)
        loss.backward()
        optimizer.step()
    print(loss.detach().round(decimals=2), model)


@same
def test_tensors_printed_with_their_suffixes(torch):
    w = torch.tensor([1.0, 2.5], requires_grad=True)
    print(w, w * 2, w.detach(), w.sum(), w > 1, w.double(), torch.arange(3), torch.tensor([]), sep="\n")
    print([w[0], {"a": torch.ones(1, 2)}], torch.zeros(2, 2, dtype=torch.int8), torch.tensor([1 + 2j]))
    print(w.shape, w.size(), w.dtype, w.device, w.grad, torch.nn.Parameter(torch.ones(1)))


@same
def test_numbers_printed_of_mixed_sizes(torch):
    print(torch.tensor([1e-8, 1.0, 1e5]), torch.tensor([float("nan"), float("inf"), -1.0]), torch.tensor([0.1, 0.25]))
    print(torch.arange(2000), torch.zeros(40, 40), torch.tensor([[True], [False]]), torch.tensor(3.14159265), sep="\n")
    print(f"{torch.tensor(3.14159):.2f} {torch.tensor(42):5d} {torch.tensor(True)} {torch.ones(2)}")


@same
def test_gradients_printed_inside_hooks(torch):
    w = torch.tensor([1.0, 2.0], requires_grad=True)
    h = w * 3
    h.register_hook(lambda g: print("gradient", g))
    w.register_hook(lambda g: print("leaf", g))
    (h * h).sum().backward()
    print(w.grad)


@same
def test_modules_printed(torch):
    nn = torch.nn

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.features = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2), nn.ReLU(inplace=True),
                                          nn.MaxPool2d(2))
            self.drop = nn.Dropout(0.1)
            self.heads = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2), nn.LayerNorm(2)])
            self.table = nn.Embedding(3, 2, padding_idx=0)
            self.loss = nn.CrossEntropyLoss()

        def extra_repr(self):
            return "extra"

    print(Net())


@same
def test_one_seed_gives_one_sequence(torch):
    torch.manual_seed(3)
    a, b = torch.randn(2), torch.rand(2)
    torch.manual_seed(3)
    c = torch.randn(2)
    print_me = c.tolist()
    d = torch.rand(2)
    return torch.equal(a, c), torch.equal(b, d), torch.equal(a, b), len(print_me), torch.initial_seed()


@same
def test_the_state_of_the_generator_goes_back(torch):
    torch.manual_seed(1)
    torch.randn(3)
    state = torch.get_rng_state()
    a = torch.randn(2)
    torch.set_rng_state(state)
    return torch.equal(a, torch.randn(2)), torch.equal(a, torch.randn(2)), state.dtype


@same
def test_generators_are_independent_of_the_global_one(torch):
    g, h = torch.Generator().manual_seed(5), torch.Generator().manual_seed(5)
    a = torch.randn(2, generator=g)
    torch.manual_seed(0)
    torch.rand(7)
    return torch.equal(a, torch.randn(2, generator=h)), torch.equal(a, torch.randn(2, generator=g)), g.initial_seed()


@same
def test_fork_rng_leaves_no_trace(torch):
    torch.manual_seed(2)
    a = torch.rand(2)
    torch.manual_seed(2)
    with torch.random.fork_rng():
        torch.rand(5)
        torch.manual_seed(9)
    return torch.equal(a, torch.rand(2))


@same
def test_the_same_seed_trains_the_same_model_twice(torch):
    found = []
    for _ in range(2):
        torch.manual_seed(7)
        model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Dropout(0.5), torch.nn.Linear(3, 1))
        fit(torch, model, torch.optim.SGD(model.parameters(), lr=0.1))
        found.append(torch.cat([p.detach().flatten() for p in model.parameters()]).tolist())
    return found[0] == found[1]


@same
def test_dropout_is_fresh_in_training_and_off_in_eval(torch):
    drop = torch.nn.Dropout(0.5)
    x = torch.ones(64, requires_grad=True)
    a, b = drop(x), drop(x)
    a.sum().backward()
    drop.eval()
    return torch.equal(a, b), sorted(set(a.tolist())), torch.equal(x.grad, a.detach()), \
        torch.equal(drop(x), x)


@same
def test_random_draws_have_shapes_dtypes_and_ranges(torch):
    u, i, p = torch.rand(100), torch.randint(2, 5, (50,)), torch.randperm(6)
    x = torch.empty(50).uniform_(-1, 1)
    return u.min().item() >= 0, u.max().item() < 1, sorted(set(i.tolist())), i.dtype, sorted(p.tolist()), p.dtype, \
        bool((x.abs() <= 1).all()), torch.randn(2, 3).shape, torch.bernoulli(torch.tensor([0.0, 1.0])), \
        torch.multinomial(torch.tensor([0.0, 1.0]), 1), torch.rand_like(x).shape


@same
def test_reparametrised_noise_lets_gradients_through(torch):
    torch.manual_seed(0)
    mean, deviation = torch.zeros(3, requires_grad=True), torch.ones(3, requires_grad=True)
    noise = torch.randn(3)
    (mean + deviation * noise).sum().backward()
    return mean, torch.equal(deviation.grad, noise)
