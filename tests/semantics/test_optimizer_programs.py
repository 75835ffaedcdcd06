"""Optimizers in odd programs."""

from __future__ import annotations

import copy
import pickle

from _models import data, fit, line, mlp
from _same import failing, same


def quadratic(torch, w):
    loss = ((w - 1) ** 2).sum()
    loss.backward()
    return loss


def weights(torch):
    return torch.tensor([1.0, -2.0], requires_grad=True), torch.tensor([3.0, 0.5], requires_grad=True)


@same
def test_parameters_without_gradients_are_skipped(torch):
    w, v = weights(torch)
    optimizer = torch.optim.Adam([w, v], lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        quadratic(torch, w)
        optimizer.step()
    return w.tolist(), v, len(optimizer.state)


@same
def test_a_parameter_that_joins_late_counts_its_own_steps(torch):
    w, v = weights(torch)
    optimizer = torch.optim.Adam([w, v], lr=0.1)
    for i in range(3):
        optimizer.zero_grad()
        quadratic(torch, w)
        if i:
            quadratic(torch, v)
        optimizer.step()
    return w.tolist(), v.tolist(), [optimizer.state[p]["step"].item() for p in (w, v)]


@same
def test_groups_with_their_own_rates(torch):
    w, v = weights(torch)
    optimizer = torch.optim.SGD([{"params": [w]}, {"params": [v], "lr": 0.5}], lr=0.1, momentum=0.5)
    for _ in range(2):
        optimizer.zero_grad()
        quadratic(torch, w * v)
        optimizer.step()
    return w.tolist(), v.tolist(), [g["lr"] for g in optimizer.param_groups]


@same
def test_a_group_added_in_the_middle(torch):
    w, v = weights(torch)
    optimizer = torch.optim.Adam([w], lr=0.1)
    for i in range(3):
        optimizer.zero_grad()
        quadratic(torch, w * v)
        optimizer.step()
        if i == 0:
            optimizer.add_param_group({"params": v, "lr": 0.01})
    with failing() as twice:
        optimizer.add_param_group({"params": [w]})
    return w.tolist(), v.tolist(), twice


@same
def test_the_rate_changed_by_hand(torch):
    w, _ = weights(torch)
    optimizer = torch.optim.SGD([w], lr=0.1)
    found = []
    for lr in (0.1, 0.2, 0.0):
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.zero_grad()
        quadratic(torch, w)
        optimizer.step()
        found.append(w.tolist())
    return found


@same
def test_a_tensor_as_rate(torch):
    w, _ = weights(torch)
    rate = torch.tensor(0.1)
    optimizer = torch.optim.Adam([w], lr=rate)
    for _ in range(2):
        optimizer.zero_grad()
        quadratic(torch, w)
        optimizer.step()
        rate.mul_(0.5)
    return w.tolist(), optimizer.param_groups[0]["lr"]


@same
def test_a_closure_is_called_with_gradients(torch):
    w, _ = weights(torch)
    optimizer = torch.optim.SGD([w], lr=0.1)

    def closure():
        optimizer.zero_grad()
        return quadratic(torch, w)

    with torch.no_grad():
        return optimizer.step(closure), w.tolist(), optimizer.step(closure)


@same
def test_momentum_is_read_between_steps(torch):
    w, v = weights(torch)
    optimizer = torch.optim.SGD([w, v], lr=0.1, momentum=0.9)
    found = []
    for _ in range(3):
        optimizer.zero_grad()
        quadratic(torch, w * v)
        optimizer.step()
        found.append(optimizer.state[w]["momentum_buffer"].tolist())
    return found, w.tolist(), v.tolist()


@same
def test_momentum_is_written_between_steps(torch):
    w, v = weights(torch)
    optimizer = torch.optim.SGD([w, v], lr=0.1, momentum=0.9)
    for i in range(4):
        optimizer.zero_grad()
        quadratic(torch, w * v)
        optimizer.step()
        if i == 1:
            optimizer.state[w]["momentum_buffer"].zero_()
        if i == 2:
            optimizer.state[v]["momentum_buffer"] = torch.ones(2)
    return w.tolist(), v.tolist(), optimizer.state[v]["momentum_buffer"].tolist()


@same
def test_a_held_state_keeps_being_updated(torch):
    w, v = weights(torch)
    optimizer = torch.optim.Adam([w, v], lr=0.1)
    quadratic(torch, w * v)
    optimizer.step()
    held = optimizer.state[w]["exp_avg"]
    for _ in range(2):
        optimizer.step()
    return held.tolist(), held is optimizer.state[w]["exp_avg"], w.tolist()


@same
def test_adam_moments_and_steps_are_read(torch):
    w, v = weights(torch)
    optimizer = torch.optim.AdamW([w, v], lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        quadratic(torch, w * v)
        optimizer.step()
    state = optimizer.state[v]
    return list(state), state["step"].tolist(), state["step"].dtype, state["exp_avg"].tolist(), \
        state["exp_avg_sq"].tolist()


@same
def test_moments_are_cleared_to_restart(torch):
    w, _ = weights(torch)
    optimizer = torch.optim.Adam([w], lr=0.1)
    for i in range(4):
        optimizer.zero_grad()
        quadratic(torch, w)
        optimizer.step()
        if i == 1:
            optimizer.state.clear()
    return w.tolist(), optimizer.state[w]["step"].item()


@same
def test_the_step_counter_is_written(torch):
    w, v = weights(torch)
    optimizer = torch.optim.Adam([w, v], lr=0.1)
    for i in range(4):
        optimizer.zero_grad()
        quadratic(torch, w * v)
        optimizer.step()
        if i == 0:
            optimizer.state[w]["step"].fill_(10)
        if i == 1:
            optimizer.state[v]["step"] = torch.tensor(3.0)
    return w.tolist(), v.tolist(), [s["step"].item() for s in optimizer.state.values()]


@same
def test_a_held_step_counter_counts_on(torch):
    w, v = weights(torch)
    optimizer = torch.optim.Adam([w, v], lr=0.1)
    quadratic(torch, w * v)
    optimizer.step()
    held = optimizer.state[w]["step"]
    optimizer.step()
    optimizer.step()
    return held.item(), w.tolist(), optimizer.state_dict()["state"][1]["step"].item()


@same
def test_an_optimizer_is_pickled_with_its_states(torch):
    w, _ = weights(torch)
    optimizer = torch.optim.Adam([w], lr=0.1)
    for _ in range(2):
        quadratic(torch, w)
        optimizer.step()
    twin = pickle.loads(pickle.dumps(optimizer))
    (p,) = twin.param_groups[0]["params"]
    quadratic(torch, p)
    twin.step()
    return p.tolist(), w.tolist(), twin.state[p]["step"].item()


@same
def test_one_state_is_removed(torch):
    w, v = weights(torch)
    optimizer = torch.optim.SGD([w, v], lr=0.1, momentum=0.9)
    for i in range(3):
        optimizer.zero_grad()
        quadratic(torch, w * v)
        optimizer.step()
        if i == 0:
            del optimizer.state[w]
    return w.tolist(), v.tolist()


@same
def test_a_state_dict_is_loaded_into_a_fresh_optimizer(torch):
    model = mlp(torch)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    fit(torch, model, optimizer, 2)
    other = torch.optim.Adam(model.parameters(), lr=0.9)
    other.load_state_dict(optimizer.state_dict())
    losses = fit(torch, model, other, 2)
    return losses, other.param_groups[0]["lr"], model[0].weight.tolist()


@same
def test_a_state_dict_is_loaded_in_the_middle_to_go_back(torch):
    model = line(torch)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    fit(torch, model, optimizer, 2)
    saved = copy.deepcopy([model.state_dict(), optimizer.state_dict()])
    first = fit(torch, model, optimizer, 2)
    model.load_state_dict(saved[0])
    optimizer.load_state_dict(saved[1])
    second = fit(torch, model, optimizer, 2)
    return first, second, [a.item() for a in first] == [b.item() for b in second]


@same
def test_the_layout_of_a_state_dict(torch):
    w, v = weights(torch)
    optimizer = torch.optim.SGD([{"params": [w]}, {"params": [v], "lr": 0.5}], lr=0.1, momentum=0.9)
    quadratic(torch, w * v)
    optimizer.step()
    state = optimizer.state_dict()
    return list(state), list(state["state"]), [g["params"] for g in state["param_groups"]], \
        sorted(state["param_groups"][1]), state["state"][1]["momentum_buffer"].tolist()


@same
def test_state_dicts_of_other_layouts_are_refused(torch):
    w, v = weights(torch)
    with failing() as error:
        torch.optim.SGD([w], lr=0.1).load_state_dict(torch.optim.SGD([w, v], lr=0.1).state_dict())
    return error


@same
def test_two_optimizers_on_the_same_parameter(torch):
    w, _ = weights(torch)
    a, b = torch.optim.SGD([w], lr=0.1), torch.optim.Adam([w], lr=0.1)
    for _ in range(2):
        w.grad = None
        quadratic(torch, w)
        a.step()
        b.step()
    return w.tolist()


@same
def test_a_step_without_zero_grad_uses_the_sum(torch):
    w, _ = weights(torch)
    optimizer = torch.optim.SGD([w], lr=0.1)
    for _ in range(3):
        quadratic(torch, w)
        optimizer.step()
    return w


@same
def test_gradients_edited_before_the_step(torch):
    w, v = weights(torch)
    optimizer = torch.optim.SGD([w, v], lr=0.1)
    quadratic(torch, w * v)
    w.grad.mul_(0.5)
    v.grad = torch.ones(2)
    optimizer.step()
    return w, v


@same
def test_weights_edited_between_steps(torch):
    w, _ = weights(torch)
    optimizer = torch.optim.Adam([w], lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        quadratic(torch, w)
        optimizer.step()
        with torch.no_grad():
            w.clamp_(-1, 0.9)
        w.data[1] += 0.5
    return w.tolist()


@same
def test_a_view_of_the_weights_follows_the_steps(torch):
    w, _ = weights(torch)
    view, twin = w[:1], w.detach()
    optimizer = torch.optim.SGD([w], lr=0.1)
    quadratic(torch, w)
    optimizer.step()
    return w.tolist(), view.tolist(), twin.tolist()


@same
def test_bad_optimizers_are_refused(torch):
    w, _ = weights(torch)
    found = []
    for make in (lambda: torch.optim.SGD([], lr=0.1), lambda: torch.optim.SGD(w, lr=0.1),
                 lambda: torch.optim.SGD([w], lr=-1), lambda: torch.optim.SGD([w * 2], lr=0.1),
                 lambda: torch.optim.Adam([w], betas=(1.0, 0.9)), lambda: torch.optim.SGD([w], lr=0.1, nesterov=True),
                 lambda: torch.optim.SGD([3.0], lr=0.1)):  # fmt: skip
        with failing() as error:
            make()
        found.append(error)
    return found


@same
def test_how_an_optimizer_prints(torch):
    w, v = weights(torch)
    print(torch.optim.SGD([w], lr=0.1, momentum=0.9))
    print(torch.optim.AdamW([{"params": [w]}, {"params": [v], "lr": 1.0}], lr=0.1))


@same
def test_schedules_step_by_step(torch):
    w, _ = weights(torch)
    schedules = torch.optim.lr_scheduler
    rates = []
    for make in (lambda o: schedules.StepLR(o, 2, 0.1), lambda o: schedules.ExponentialLR(o, 0.5),
                 lambda o: schedules.LambdaLR(o, lambda e: 1 / (e + 1)), lambda o: schedules.CosineAnnealingLR(o, 3),
                 lambda o: schedules.MultiStepLR(o, [1, 2], 0.1)):  # fmt: skip
        optimizer = torch.optim.SGD([w], lr=1.0)
        schedule = make(optimizer)
        for _ in range(4):
            optimizer.step()
            schedule.step()
            rates.append(schedule.get_last_lr())
    return rates


@same
def test_a_schedule_resumed_from_its_state(torch):
    model = line(torch)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
    fit(torch, model, optimizer, 1)
    schedule.step()
    state = schedule.state_dict()
    other = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
    other.load_state_dict(state)
    fit(torch, model, optimizer, 1)
    other.step()
    return other.get_last_lr(), other.last_epoch, state["last_epoch"], model.weight.tolist()


@same
def test_an_optimizer_is_deepcopied_with_its_model(torch):
    model = line(torch)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    fit(torch, model, optimizer, 2)
    model2, optimizer2 = copy.deepcopy((model, optimizer))
    fit(torch, model2, optimizer2, 1)
    x, _ = data(torch)
    return model2(x).tolist(), model(x).tolist()


@same
def test_maximize_weight_decay_and_nesterov_together(torch):
    w, _ = weights(torch)
    optimizer = torch.optim.SGD([w], lr=0.01, momentum=0.9, nesterov=True, weight_decay=0.1, maximize=True)
    for _ in range(3):
        optimizer.zero_grad()
        quadratic(torch, w)
        optimizer.step()
    return w.tolist()


@same
def test_clipping_by_norm_and_by_value(torch):
    w, v = weights(torch)
    quadratic(torch, w * v * 10)
    norm = torch.nn.utils.clip_grad_norm_([w, v], 1.0)
    torch.nn.utils.clip_grad_value_([v], 0.1)
    nothing = torch.nn.utils.clip_grad_norm_([torch.ones(1, requires_grad=True)], 1.0)
    return norm, w, v, nothing


@same
def test_gradients_that_are_not_finite_are_noticed(torch):
    w, _ = weights(torch)
    (w * float("inf")).sum().backward()
    with failing() as error:
        torch.nn.utils.clip_grad_norm_([w], 1.0, error_if_nonfinite=True)
    return error, w
