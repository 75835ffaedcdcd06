"""What people train, and how: each a few steps of a well-known idiom."""

from __future__ import annotations

import copy

from _models import data, fill, fit, line, mlp
from _same import same


def weights_of(model):
    return [p.tolist() for p in model.parameters()]


@same
def test_a_gan_alternates_two_optimizers(torch):
    nn = torch.nn
    g, d = fill(torch, nn.Linear(1, 2)), fill(torch, nn.Linear(2, 1))
    og, od = torch.optim.Adam(g.parameters(), lr=0.01), torch.optim.Adam(d.parameters(), lr=0.01)
    real, noise = data(torch)[0], torch.tensor([[0.1], [0.2], [-0.3], [0.5]])
    bce, ones, zeros = nn.functional.binary_cross_entropy_with_logits, torch.ones(4, 1), torch.zeros(4, 1)
    losses = []
    for _ in range(2):
        fake = g(noise)
        od.zero_grad()
        loss_d = bce(d(real), ones) + bce(d(fake.detach()), zeros)
        loss_d.backward()
        od.step()
        og.zero_grad()
        loss_g = bce(d(fake), ones)
        loss_g.backward()
        og.step()
        losses.append((loss_d.item(), loss_g.item()))
    return losses, weights_of(g), weights_of(d)


@same
def test_wgan_clamps_the_critic(torch):
    critic = line(torch)
    optimizer = torch.optim.SGD(critic.parameters(), lr=0.5)
    real, fake = data(torch)[0], data(torch)[0] * 0.5
    for _ in range(3):
        optimizer.zero_grad()
        (critic(fake).mean() - critic(real).mean()).backward()
        optimizer.step()
        for p in critic.parameters():
            p.data.clamp_(-0.3, 0.3)
    return weights_of(critic)


@same
def test_a_gradient_penalty_differentiates_a_gradient(torch):
    critic = mlp(torch)
    optimizer = torch.optim.SGD(critic.parameters(), lr=0.1)
    x = data(torch)[0].clone().requires_grad_()
    found = []
    for _ in range(2):
        optimizer.zero_grad()
        out = critic(x)
        (g,) = torch.autograd.grad(out.sum(), x, create_graph=True)
        penalty = ((g.norm(2, dim=1) - 1) ** 2).mean()
        (out.mean() + 10 * penalty).backward()
        optimizer.step()
        found.append(penalty.item())
    return found, weights_of(critic)


@same
def test_gradients_accumulated_over_micro_batches(torch):
    model = line(torch)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = data(torch)
    for i in range(4):
        loss = torch.nn.functional.mse_loss(model(x[i : i + 1]), y[i : i + 1]) / 2
        loss.backward()
        if i % 2:
            optimizer.step()
            optimizer.zero_grad()
    return weights_of(model)


@same
def test_clipping_by_global_norm_every_step(torch):
    model = line(torch)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    x, y = data(torch)
    norms = []
    for _ in range(3):
        optimizer.zero_grad()
        (100 * (model(x) - y) ** 2).mean().backward()
        norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5))
        optimizer.step()
    return [n.item() for n in norms], weights_of(model)


@same
def test_truncated_backpropagation_through_time(torch):
    w = torch.tensor(0.5, requires_grad=True)
    optimizer = torch.optim.SGD([w], lr=0.1)
    h, losses = torch.zeros(2), []
    for t in range(6):
        h = torch.tanh(w * h + torch.tensor([1.0, -0.5]))
        losses.append((h - 0.1 * t).pow(2).mean())
        if t % 3 == 2:
            optimizer.zero_grad()
            sum(losses).backward()
            optimizer.step()
            h, losses = h.detach(), []
    return w.item(), h


@same
def test_maml_differentiates_through_an_inner_step(torch):
    meta = torch.tensor([0.5, -0.5], requires_grad=True)
    optimizer = torch.optim.Adam([meta], lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        total = 0.0
        for task in (1.0, 2.0):
            inner = ((meta - task) ** 2).sum()
            (g,) = torch.autograd.grad(inner, meta, create_graph=True)
            fast = meta - 0.1 * g
            total = total + ((fast - task) ** 3).sum()
        total.backward()
        optimizer.step()
    return total.item(), meta.tolist(), meta.grad.tolist()


@same
def test_meta_learning_with_functional_call(torch):
    model = line(torch)
    x, y = data(torch)
    params = dict(model.named_parameters())
    loss = torch.nn.functional.mse_loss(torch.func.functional_call(model, params, (x,)), y)
    grads = torch.autograd.grad(loss, params.values(), create_graph=True)
    fast = {k: p - 0.1 * g for (k, p), g in zip(params.items(), grads)}
    torch.nn.functional.mse_loss(torch.func.functional_call(model, fast, (x,)), y).backward()
    return [p.grad.tolist() for p in model.parameters()], weights_of(model)


@same
def test_reinforce_branches_on_values(torch):
    policy = torch.tensor([0.1, -0.2], requires_grad=True)
    optimizer = torch.optim.SGD([policy], lr=0.1)
    actions = []
    for step in range(3):
        p = policy.softmax(0)
        action = 0 if p[0].item() > 0.5 else 1
        reward = 1.0 if action == step % 2 else -1.0
        optimizer.zero_grad()
        (-p[action].log() * reward).backward()
        optimizer.step()
        actions.append(action)
    return actions, policy.tolist()


@same
def test_k_means_writes_its_centres_in_place(torch):
    x = torch.tensor([[0.0, 0.0], [0.1, 0.2], [2.0, 2.0], [2.2, 1.9]])
    centres = x[[0, 1]].clone()
    for _ in range(3):
        nearest = ((x[:, None] - centres[None]) ** 2).sum(-1).argmin(1)
        for k in range(2):
            if (nearest == k).any():
                centres[k] = x[nearest == k].mean(0)
    return centres, nearest


@same
def test_power_iteration_for_a_spectral_norm(torch):
    w = torch.tensor([[1.0, 2.0], [0.5, -1.0]], requires_grad=True)
    u = torch.tensor([1.0, 0.0])
    with torch.no_grad():
        for _ in range(5):
            v = torch.nn.functional.normalize(w.t() @ u, dim=0)
            u.copy_(torch.nn.functional.normalize(w @ v, dim=0))
    sigma = u @ w @ v
    (w / sigma).sum().backward()
    return sigma.item(), u, w


@same
def test_spectral_norm_in_a_module_with_a_buffer(torch):
    class Spectral(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = fill(torch, torch.nn.Linear(2, 1))
            self.register_buffer("u", torch.ones(1))

        def forward(self, x):
            w = self.layer.weight
            with torch.no_grad():
                v = torch.nn.functional.normalize(w.t() @ self.u, dim=0)
                self.u = torch.nn.functional.normalize(w @ v, dim=0)
            return torch.nn.functional.linear(x, w / (self.u @ w @ v), self.layer.bias)

    model = Spectral()
    losses = fit(torch, model, torch.optim.SGD(model.parameters(), lr=0.1))
    return losses, weights_of(model), model.u


@same
def test_losses_mixed_with_weights_that_are_learned(torch):
    model, log_sigma = line(torch), torch.zeros(2, requires_grad=True)
    optimizer = torch.optim.Adam([*model.parameters(), log_sigma], lr=0.05)
    x, y = data(torch)
    for _ in range(2):
        optimizer.zero_grad()
        out = model(x)
        terms = torch.stack([torch.nn.functional.mse_loss(out, y), torch.nn.functional.l1_loss(out, y)])
        (terms * torch.exp(-log_sigma) + log_sigma).sum().backward()
        optimizer.step()
    return weights_of(model), log_sigma.tolist(), terms.tolist()


@same
def test_a_contrastive_loss_over_all_pairs(torch):
    model = fill(torch, torch.nn.Linear(2, 2))
    x = data(torch)[0]
    z = torch.nn.functional.normalize(torch.cat([model(x), model(x + 0.1)]), dim=1)
    similarity = (z @ z.t() / 0.5).masked_fill(torch.eye(8, dtype=torch.bool), float("-inf"))
    target = (torch.arange(8) + 4) % 8
    loss = torch.nn.functional.cross_entropy(similarity, target)
    loss.backward()
    return loss.item(), model.weight.grad, model.bias.grad


@same
def test_distillation_from_a_teacher_under_no_grad(torch):
    teacher, student = mlp(torch).eval(), line(torch)
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
    x, _ = data(torch)
    for _ in range(2):
        with torch.no_grad():
            target = teacher(x)
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(student(x), target)
        loss.backward()
        optimizer.step()
    return loss.item(), weights_of(student), [p.grad for p in teacher.parameters()], target.requires_grad


@same
def test_distillation_by_softened_probabilities(torch):
    logits = torch.tensor([[1.0, 2.0, 0.5]], requires_grad=True)
    teacher = torch.tensor([[0.5, 1.5, -1.0]])
    loss = torch.nn.functional.kl_div((logits / 2).log_softmax(1), (teacher / 2).softmax(1), reduction="batchmean") * 4
    loss.backward()
    return loss.item(), logits


@same
def test_label_smoothing_and_class_weights(torch):
    logits = torch.tensor([[1.0, 2.0, 0.5], [0.0, -1.0, 1.0]], requires_grad=True)
    target = torch.tensor([1, 2])
    f = torch.nn.functional.cross_entropy
    losses = f(logits, target, label_smoothing=0.1), f(logits, target, weight=torch.tensor([1.0, 2.0, 0.5])), \
        f(logits, target, reduction="none").max(), f(logits, torch.tensor([1, -100]))
    sum(losses).backward()
    return [x.item() for x in losses], logits


@same
def test_a_schedule_in_the_loop(torch):
    model = line(torch)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=4)
    rates = []
    for _ in range(4):
        fit(torch, model, optimizer, 1)
        schedule.step()
        rates.append(optimizer.param_groups[0]["lr"])
    return rates, weights_of(model)


@same
def test_warm_up_by_a_lambda(torch):
    model = line(torch)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / 3))
    losses = []
    for _ in range(3):
        losses += fit(torch, model, optimizer, 1)
        schedule.step()
    return losses, weights_of(model)


@same
def test_early_stopping_restores_the_best_state(torch):
    model = line(torch)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.9)
    best, state, seen = float("inf"), None, []
    x, y = data(torch)
    for _ in range(4):
        fit(torch, model, optimizer, 1)
        model.eval()
        with torch.no_grad():
            loss = torch.nn.functional.mse_loss(model(x), y).item()
        model.train()
        seen.append(loss)
        if loss < best:
            best, state = loss, copy.deepcopy(model.state_dict())
    model.load_state_dict(state)
    with torch.no_grad():
        again = torch.nn.functional.mse_loss(model(x), y).item()
    return seen, abs(again - best) < 1e-6, weights_of(model)


@same
def test_an_actor_and_a_critic_share_a_trunk(torch):
    nn = torch.nn
    trunk, actor, critic = fill(torch, nn.Linear(2, 2)), fill(torch, nn.Linear(2, 2)), fill(torch, nn.Linear(2, 1))
    optimizer = torch.optim.SGD([*trunk.parameters(), *actor.parameters(), *critic.parameters()], lr=0.1)
    x, reward, action = data(torch)[0], torch.tensor([1.0, 0.0, -1.0, 0.5]), torch.tensor([0, 1, 1, 0])
    for _ in range(2):
        h = trunk(x).tanh()
        value = critic(h).squeeze(1)
        advantage = (reward - value).detach()
        chosen = actor(h).log_softmax(1).gather(1, action[:, None]).squeeze(1)
        optimizer.zero_grad()
        (-(chosen * advantage).mean() + 0.5 * (reward - value).pow(2).mean()).backward()
        optimizer.step()
    return weights_of(trunk), weights_of(actor), weights_of(critic)


@same
def test_a_target_network_by_polyak_averaging(torch):
    online, target = line(torch), line(torch)
    target.load_state_dict(online.state_dict())
    optimizer = torch.optim.SGD(online.parameters(), lr=0.1)
    x, _ = data(torch)
    for _ in range(2):
        with torch.no_grad():
            goal = 1 + 0.9 * target(x).max()
        optimizer.zero_grad()
        (online(x) - goal).pow(2).mean().backward()
        optimizer.step()
        for t, o in zip(target.parameters(), online.parameters()):
            t.data.mul_(0.9).add_(o.data, alpha=0.1)
    return weights_of(target), weights_of(online)


@same
def test_an_adversarial_example_by_the_sign_of_a_gradient(torch):
    model = mlp(torch)
    x, y = data(torch)
    x = x.clone()
    for _ in range(2):
        x.requires_grad_(True)
        loss = torch.nn.functional.mse_loss(model(x), y)
        (g,) = torch.autograd.grad(loss, x)
        x = (x + 0.1 * g.sign()).clamp(-1, 1).detach()
    return x, [p.grad for p in model.parameters()]


@same
def test_a_variational_autoencoder_with_given_noise(torch):
    nn = torch.nn
    encode, decode = fill(torch, nn.Linear(2, 4)), fill(torch, nn.Linear(2, 2))
    optimizer = torch.optim.Adam([*encode.parameters(), *decode.parameters()], lr=0.01)
    x, noise = data(torch)[0], torch.tensor([[0.1, -0.2]]).expand(4, 2)
    for _ in range(2):
        mean, log_var = encode(x).chunk(2, dim=1)
        z = mean + noise * (0.5 * log_var).exp()
        loss = nn.functional.mse_loss(decode(z), x) - 0.5 * (1 + log_var - mean**2 - log_var.exp()).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return loss.item(), weights_of(encode), weights_of(decode)


@same
def test_attention_from_scratch(torch):
    x = torch.arange(6.0).reshape(1, 3, 2).sin()
    qkv = fill(torch, torch.nn.Linear(2, 6))
    q, k, v = qkv(x).split(2, dim=-1)
    mask = torch.ones(3, 3).tril().bool()
    scores = (q @ k.transpose(-2, -1) / 2**0.5).masked_fill(~mask, float("-inf"))
    out = scores.softmax(-1) @ v
    same_thing = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    out.sum().backward()
    return out.tolist(), torch.allclose(out, same_thing, atol=1e-5), qkv.weight.grad


@same
def test_a_recurrent_cell_over_a_sequence(torch):
    cell = fill(torch, torch.nn.Linear(4, 2))
    h, outs = torch.zeros(2, 2), []
    for x in data(torch)[0].view(2, 2, 2):
        h = torch.tanh(cell(torch.cat([x, h], dim=1)))
        outs.append(h)
    torch.stack(outs).pow(2).sum().backward()
    return h.tolist(), cell.weight.grad


@same
def test_a_dynamic_loss_scale(torch):
    model = line(torch)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scale, skipped = 2.0**126, 0
    x, y = data(torch)
    for _ in range(3):
        optimizer.zero_grad()
        (torch.nn.functional.mse_loss(model(x), y) * 16 * scale).backward()
        grads = [p.grad for p in model.parameters()]
        if all(torch.isfinite(g).all() for g in grads):
            for g in grads:
                g.div_(scale)
            optimizer.step()
        else:
            skipped += 1
            scale /= 2.0**10
    return skipped, scale, weights_of(model)


@same
def test_checkpointed_layers_give_the_same_gradients(torch):
    model = mlp(torch)
    x = data(torch)[0].clone().requires_grad_()
    hidden = torch.utils.checkpoint.checkpoint(model[:2], x, use_reentrant=False)
    model[2](hidden).sum().backward()
    return [p.grad.tolist() for p in model.parameters()], x.grad


@same
def test_per_sample_gradients_by_vmap(torch):
    model = line(torch)
    params = {k: p.detach() for k, p in model.named_parameters()}
    x, y = data(torch)

    def loss(params, x, y):
        return torch.nn.functional.mse_loss(torch.func.functional_call(model, params, (x[None],)), y[None])

    grads = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))(params, x, y)
    return {k: g.tolist() for k, g in grads.items()}


@same
def test_an_optimizer_written_by_the_user(torch):
    class Lion(torch.optim.Optimizer):
        def __init__(self, params, lr=0.1, beta=0.9):
            super().__init__(params, {"lr": lr, "beta": beta})

        @torch.no_grad()
        def step(self, closure=None):
            for group in self.param_groups:
                for p in group["params"]:
                    if p.grad is None:
                        continue
                    state = self.state[p]
                    if not state:
                        state["average"] = torch.zeros_like(p)
                    average = state["average"]
                    average.mul_(group["beta"]).add_(p.grad, alpha=1 - group["beta"])
                    p.add_(average.sign(), alpha=-group["lr"])

    model = line(torch)
    optimizer = Lion(model.parameters())
    losses = fit(torch, model, optimizer, 3)
    return losses, weights_of(model), [s["average"].tolist() for s in optimizer.state.values()]


@same
def test_sharpness_aware_minimisation_steps_there_and_back(torch):
    model = line(torch)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = data(torch)
    for _ in range(2):
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(model(x), y).backward()
        with torch.no_grad():
            moves = [0.05 * p.grad / p.grad.norm() for p in model.parameters()]
            for p, e in zip(model.parameters(), moves):
                p.add_(e)
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(model(x), y).backward()
        with torch.no_grad():
            for p, e in zip(model.parameters(), moves):
                p.sub_(e)
        optimizer.step()
    return weights_of(model)
