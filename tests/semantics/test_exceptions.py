"""Exceptions in the middle of programs: the right one, at the right line, and everything usable afterwards."""

from __future__ import annotations

from _models import data, fit, line, mlp
from _same import failing, same


@same
def test_a_wrong_shape_in_the_middle_of_a_step(torch):
    model = mlp(torch)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, _ = data(torch)
    with failing() as error:
        hidden = model[0](x)
        model[2](torch.cat([hidden, hidden], dim=1)).sum().backward()
    losses = fit(torch, model, optimizer)
    return error, losses, model[2].bias.tolist()


@same
def test_an_exception_between_backward_and_step_keeps_the_gradients(torch):
    model = line(torch)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, _ = data(torch)
    with failing() as error:
        model(x).sum().backward()
        raise KeyError("interrupted")
    optimizer.step()
    return error, model.weight


@same
def test_a_raising_hook_stops_the_backward(torch):
    w = torch.tensor([1.0, 2.0], requires_grad=True)

    def refuse(g):
        raise ValueError("no gradient today")

    h = w * 2
    handle = h.register_hook(refuse)
    loss = (h * h).sum()
    with failing() as error:
        loss.backward()
    before = w.grad
    handle.remove()
    (w * 3).sum().backward()
    return error, before, w


@same
def test_a_raising_hook_on_a_leaf(torch):
    w, v = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)

    def refuse(g):
        raise RuntimeError("leaf")

    handle = w.register_hook(refuse)
    with failing() as error:
        (w * v).sum().backward()
    handle.remove()
    w.grad = v.grad = None
    (w * v * 2).sum().backward()
    return error, w, v


@same
def test_hooks_that_return_nonsense(torch):
    w = torch.ones(2, requires_grad=True)
    found = []
    for bad in (3, torch.ones(3), "text"):
        h = w * 2
        h.register_hook(lambda g, bad=bad: bad)
        with failing() as error:
            h.sum().backward()
        found.append(error[0])
    w.grad = None
    (w * 2).sum().backward()
    return found, w


@same
def test_a_raising_forward_hook_leaves_the_module_usable(torch):
    model = line(torch)
    x, _ = data(torch)

    def refuse(module, args, out):
        raise ValueError("forward")

    handle = model.register_forward_hook(refuse)
    with failing() as error:
        model(x)
    handle.remove()
    return error, model(x)


@same
def test_a_closure_that_raises_changes_nothing(torch):
    model = line(torch)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    fit(torch, model, optimizer, 1)

    def closure():
        raise ZeroDivisionError("closure")

    with failing() as error:
        optimizer.step(closure)
    return error, fit(torch, model, optimizer, 1), model.weight.tolist()


@same
def test_a_failed_write_changes_nothing(torch):
    x = torch.arange(3.0)
    view = x[1:]
    found = []
    for attempt in (lambda: x.add_(torch.ones(4)), lambda: x.copy_(torch.ones(2)), lambda: view.mul_("text"),
                    lambda: x.fill_(torch.ones(2))):  # fmt: skip
        with failing() as error:
            attempt()
        found.append(error[0])
    return found, x, view


@same
def test_a_failed_operation_in_a_no_grad_block(torch):
    w = torch.ones(2, requires_grad=True)
    with failing() as error:
        with torch.no_grad():
            w.add_(1)
            w.add_(torch.ones(3))
    (w * w).sum().backward()
    return error, torch.is_grad_enabled(), w


@same
def test_errors_name_what_was_wrong(torch):
    x = torch.ones(2, 3)
    found = []
    for attempt in (lambda: x @ x, lambda: x.view(4), lambda: x + torch.ones(2), lambda: x.sum(dim=2),
                    lambda: x.reshape(-1, 4), lambda: x.squeeze(0).expand(3, 3), lambda: x.permute(0),
                    lambda: torch.cat([x, torch.ones(3, 3)], 1), lambda: torch.stack([x, x.t()]), lambda: x.item(),
                    lambda: x.transpose(0, 2), lambda: x.chunk(0), lambda: x.gather(0, torch.tensor([0])),
                    lambda: x.split([1, 2]), lambda: x.unflatten(1, (2, 2)), lambda: torch.eye(2).inverse() @ x.t(),
                    lambda: torch.zeros(2, 2).inverse().tolist(), lambda: x.no_such_method()):  # fmt: skip
        with failing() as error:
            attempt()
        found.append(error)
    return found, x


@same
def test_losses_refuse_wrong_targets(torch):
    f = torch.nn.functional
    logits = torch.ones(2, 3, requires_grad=True)
    found = []
    for attempt in (lambda: f.cross_entropy(logits, torch.tensor([0, 1, 2])),
                    lambda: f.cross_entropy(logits, torch.ones(2)),
                    lambda: f.cross_entropy(logits, torch.tensor([0, 3])).item(),
                    lambda: f.nll_loss(logits, torch.tensor([-1, 0])).item(),
                    lambda: f.binary_cross_entropy(torch.tensor([2.0]), torch.tensor([1.0])).item()):  # fmt: skip
        with failing() as error:
            attempt()
        found.append(error)
    f.cross_entropy(logits, torch.tensor([0, 2])).backward()
    return found, logits


@same
def test_an_embedding_refuses_rows_it_has_not(torch):
    table = torch.nn.Embedding(3, 2)
    with failing() as error:
        table(torch.tensor([0, 3])).sum().item()
    table(torch.tensor([0, 2])).sum().backward()
    return error, table.weight.grad


@same
def test_a_generator_closed_in_the_middle_of_no_grad(torch):
    def numbers():
        with torch.no_grad():
            yield 1
            yield 2

    g = numbers()
    next(g)
    g.close()
    return torch.is_grad_enabled(), (torch.ones(1, requires_grad=True) * 2).requires_grad


@same
def test_an_exception_inside_checkpoint(torch):
    w = torch.ones(2, requires_grad=True)

    def body(x):
        if x.shape[0] == 2:
            raise ValueError("in the body")
        return x * 2

    with failing() as error:
        torch.utils.checkpoint.checkpoint(body, w, use_reentrant=False)
    torch.utils.checkpoint.checkpoint(body, torch.cat([w, w]), use_reentrant=False).sum().backward()
    return error, w


@same
def test_an_exception_inside_vmap_and_grad(torch):
    x = torch.ones(2, 3)
    with failing() as mapped:
        torch.func.vmap(lambda row: row @ torch.ones(4))(x)
    with failing() as vector:
        torch.func.grad(lambda row: row * 2)(x)
    return mapped[0], vector, torch.func.vmap(lambda row: row.sum())(x), \
        torch.func.grad(lambda row: row.sum())(x).tolist()


@same
def test_a_failed_load_leaves_the_optimizer_as_it_was(torch):
    model = line(torch)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    fit(torch, model, optimizer, 1)
    with failing() as error:
        optimizer.load_state_dict({"state": {}, "param_groups": []})
    return error, fit(torch, model, optimizer, 1), model.weight.tolist()


@same
def test_half_of_a_loop_then_an_exception_then_the_rest(torch):
    w = torch.tensor(1.0, requires_grad=True)
    total = torch.zeros(())
    for i in range(4):
        with failing() as error:
            total = total + w * i
            if i == 2:
                total.reshape(3)
    total.backward()
    return error, total, w
