"""More programs with loops: without gradients, with numbers, hooks and reads within, differentiated in every way."""

from __future__ import annotations

import numpy as np
from _loops import B, D, F, H, T, case, rnn

import tracegrad as torch


@case
def loop_without_gradients(p):
    with torch.no_grad():
        h = rnn(p)[-1]
    (h * p["b"]).sum().backward()
    return h


@case
def no_grad_within(p):
    h, mean = p["h0"], torch.zeros(H)
    for t in range(T):
        h = torch.tanh(p["x"][:, t] @ p["W"] + h @ p["U"])
        with torch.no_grad():
            mean = mean * 0.9 + h.mean(0) * 0.1
    (h * mean).sum().backward()
    return mean


@case
def detached_within(p):
    h = p["h0"]
    for t in range(T):
        h = torch.tanh(p["x"][:, t] @ p["W"] + h.detach() @ p["U"] + h * 0.5)
    h.sum().backward()
    return h


@case
def truncated(p):
    h, loss = p["h0"], 0.0
    for t in range(T):
        if t == T // 2:
            h = h.detach()
        h = torch.tanh(p["x"][:, t] @ p["W"] + h @ p["U"])
        loss = loss + h.sum()
    loss.backward()
    return loss


@case
def dropout_within(p):
    h = p["h0"]
    for t in range(T):
        h = F.dropout(torch.tanh(p["x"][:, t] @ p["W"] + h @ p["U"]), 0.5)
    h.sum().backward()
    return h


@case
def draws_within(p):
    h = p["h0"]
    for _ in range(T):
        h = torch.tanh(h @ p["U"]) + 0.1 * torch.randn(B, H)
    h.sum().backward()
    return h


@case
def inplace_within(p):
    h, total = p["h0"], torch.zeros(B, H)
    for t in range(T):
        h = torch.tanh(p["x"][:, t] @ p["W"] + h @ p["U"])
        total += h
        total.mul_(0.9)
    total.sum().backward()
    return total


@case
def changing_numbers(p):
    h = p["h0"]
    for t in range(T):
        h = torch.tanh(h * (t + 0.5) + (t / 4) * p["x"][:, t]) * t
    h.sum().backward()
    return h


@case
def integers_carried(p):
    h, count = p["h0"], torch.zeros(H, dtype=torch.int64)
    for t in range(T):
        h = torch.tanh(p["x"][:, t] @ p["W"] + h @ p["U"])
        count = count + (h > 0).sum(0)
    (h * count).sum().backward()
    return count


@case
def an_embedding_within(p):
    tokens, h = torch.tensor(np.arange(B * T).reshape(B, T) % H), p["h0"]
    for t in range(T):
        h = torch.tanh(F.embedding(tokens[:, t], p["V"]) + h @ p["U"])
    h.sum().backward()
    return h


@case
def repeated_operand(p):
    h = p["h0"]
    for _ in range(T):
        h = torch.tanh(h @ p["U"] + p["U"][0] * h + p["b"] * p["b"])
    h.sum().backward()
    return h


@case
def read_before_backward(p):
    h = rnn(p)[-1]
    loss = h.sum()
    loss.item()
    loss.backward()
    return h


@case
def states_read_before_backward(p):
    hs = rnn(p)
    out = torch.stack(hs)
    loss = (out**2).sum()
    loss.item()
    hs[1].detach().numpy()
    (loss + hs[2].sum()).backward()
    return hs


@case
def early_state_after_flush(p):
    hs = rnn(p)
    hs[-1].detach().numpy()
    hs[2].sum().backward()
    return hs[1]


@case
def retained(p):
    hs = rnn(p)
    hs[-1].sum().backward(retain_graph=True)
    hs[2].sum().backward(retain_graph=True)
    torch.stack(hs).sum().backward()
    return hs[0]


@case
def retained_after_flush(p):
    hs = rnn(p)
    loss = torch.stack(hs).sum()
    loss.item()
    loss.backward(retain_graph=True)
    hs[3].sum().backward(retain_graph=True)
    loss.backward()
    return hs[0]


@case
def partial_gradients(p):
    hs = rnn(p)
    found = torch.autograd.grad(hs[-1].sum(), [p["U"]], retain_graph=True)
    return found, torch.autograd.grad(hs[3].sum(), [p["x"], p["h0"]])


@case
def gradients_of_states(p):
    hs = rnn(p)
    return torch.autograd.grad(hs[-1].sum(), [hs[0], hs[3], p["b"]])


@case
def gradients_of_states_after_flush(p):
    hs = rnn(p)
    loss = torch.stack(hs).sum()
    loss.item()
    return torch.autograd.grad(loss, [hs[0], hs[3], p["b"]])


@case
def gradients_of_states_that_end_there(p):
    ys, h = [], p["h0"]
    for _ in range(T):
        ys.append(h @ p["U"])
        h = torch.tanh(ys[-1].detach())
    total = (torch.stack(ys) ** 2).mean()
    return torch.autograd.grad(total, ys[:3], retain_graph=True), torch.autograd.grad(total, [ys[4], p["U"]])


@case
def gradients_of_inner_states_that_end_there(p):
    found, h = [], p["h0"]
    for _ in range(T):
        inner = []
        for _ in range(4):
            h = torch.tanh(h @ p["U"])
            inner.append(h)
            h = h.detach()
        found.append((inner, torch.stack(inner).prod(0)))
    total = sum(product.sum() for _, product in found)
    return torch.autograd.grad(total, [found[2][0][1], found[3][0][3]])


@case
def gradients_of_parts(p):
    xs, h = p["x"].unbind(1), p["h0"]
    for x in xs:
        h = torch.tanh(x @ p["W"] + h @ p["U"])
    total = h.sum()
    only = torch.autograd.grad(total, [xs[1], xs[-1]], retain_graph=True)
    return only, torch.autograd.grad(total, [xs[2], p["x"]])


@case
def all_states_in_every_trip(p):
    hs, h = rnn(p), p["h0"]
    for _ in range(T):
        h = torch.tanh(h @ p["V"] + torch.stack(hs).mean(0))
    h.sum().backward()
    return h


@case
def retained_gradients(p):
    hs = rnn(p)
    for h in hs:
        h.retain_grad()
    torch.stack(hs).sum().backward()
    return [h.grad for h in hs]


@case
def double_backward(p):
    h = rnn(p)[-1]
    (g,) = torch.autograd.grad((h**2).sum(), [p["U"]], create_graph=True)
    (g**2).sum().backward()
    return g


@case
def double_backward_after_flush(p):
    h = rnn(p)[-1]
    h.sum().item()
    (g,) = torch.autograd.grad((h**2).sum(), [p["U"]], create_graph=True)
    (g**2).sum().backward()
    return g


@case
def complex_states(p):
    h, u = torch.complex(p["h0"], p["h0"] * 0.5), torch.complex(p["U"], p["V"])
    for t in range(T):
        h = torch.sin(h @ u * 0.3 + p["x"][:, t])
    (h * h.conj()).real.sum().backward()
    return h.real


@case
def two_losses_of_one_loop(p):
    hs = rnn(p)
    a, b = hs[-1].sum(), hs[2].prod()
    (ga,) = torch.autograd.grad(a, [p["U"]], retain_graph=True)
    b.backward()
    return ga


@case
def simulation(p):
    place, speed = p["h0"].detach(), torch.zeros(B, H)
    for _ in range(T):
        speed = speed - 0.1 * place
        place = place + 0.1 * speed
    return place, speed


@case
def outputs_with_gaps(p):
    h, found = p["h0"], []
    for t in range(T):
        h = torch.tanh(p["x"][:, t] @ p["W"] + h @ p["U"])
        if t % 2:
            found.append(h.sum())
    torch.stack(found).prod().backward()
    return found


@case
def softmax_attention_over_past(p):
    h, out = p["h0"], torch.stack(rnn(p), 1)
    for _ in range(T):
        weights = torch.softmax((out @ h.unsqueeze(2)).squeeze(2), 1)
        h = (weights.unsqueeze(2) * out).sum(1) @ p["U"]
    h.sum().backward()
    return h


@case
def written_in_parts(p):
    h, out = p["h0"], torch.zeros(B, T, H)
    for t in range(T):
        h = torch.tanh(p["x"][:, t] @ p["W"] + h @ p["U"])
        out[:, t] = h
    (out**2).sum().backward()
    return out


@case
def a_state_of_another_loop_in_every_trip(p):
    hs, h = rnn(p), p["h0"]
    for _ in range(T):
        h = torch.tanh(h @ p["V"] * hs[2])
    h.sum().backward()
    return h, hs[0]


@case
def one_of_the_inputs_in_every_trip(p):
    xs = [torch.tensor(np.full((B, D), i / 3.0), requires_grad=True) for i in range(T)]
    ys, h = [], p["h0"]
    for x in xs:
        h = torch.tanh(h @ p["U"] + x) * xs[4]
        ys.append((h * xs[4]) @ p["V"])
    (h.sum() + ys[1].sum()).backward()
    return ys, [x.grad for x in xs]


@case
def lists_carried(p):
    before = [p["x"][:, t] for t in range(T)]
    for _ in range(4):
        h, hs = p["h0"], []
        for x in before:
            h = torch.tanh(x @ p["W"] + h @ p["U"])
            hs.append(h)
        before = hs
    torch.stack(hs).sum().backward()
    return before[1]


@case
def two_that_share_a_step(p):
    h = p["h0"]
    for step in (torch.sin, torch.cos) * 3 + (torch.sigmoid, torch.cos) * 2 + (torch.sigmoid,):
        h = step(h)
    h.sum().backward()
    return h


@case
def transposed_within(p):
    h = p["h0"]
    for t in range(T):
        h = torch.tanh(F.linear(p["x"][:, t], p["W"].t(), p["b"]) + h @ p["U"].t().contiguous())
    h.sum().backward()
    return h


@case
def transposed_and_asked_for(p):
    h, found = p["h0"], []
    for t in range(T):
        found.append(p["U"].t())
        h = torch.tanh(p["x"][:, t] + h @ found[-1])
    (h.sum() + found[2].sum()).backward(retain_graph=True)
    return torch.autograd.grad(h.sum() + found[2].prod(), [found[1], found[2], p["b"]], allow_unused=True)


@case
def hooked(p):
    h = p["h0"]
    for t in range(T):
        h = torch.tanh(p["x"][:, t] @ p["W"] + h @ p["U"])
        h.register_hook(lambda g: g * 2)
    h.sum().backward()
    return h


@case
def hooked_before_the_loop_in_effect(p):
    h = p["h0"]
    for t in range(T):
        u = p["U"].t()
        u.register_hook(lambda g: g * 2)
        h = torch.tanh(p["x"][:, t] @ p["W"] + h @ u)
    h.sum().backward()
    return h


class Scaled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * 2

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * x


@case
def custom_function_within(p):
    h = p["h0"]
    for t in range(T):
        h = torch.tanh(Scaled.apply(p["x"][:, t] @ p["W"]) + h @ p["U"])
    h.sum().backward()
    return h
