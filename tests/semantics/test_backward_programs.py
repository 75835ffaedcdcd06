"""The graph as users handle it: retaining, accumulating, detaching, toggling, hooking."""

from __future__ import annotations

from _same import failing, same


def pair(torch):
    return torch.tensor([1.0, 2.0], requires_grad=True), torch.tensor([3.0, 4.0], requires_grad=True)


@same
def test_gradients_accumulate_until_cleared(torch):
    w, _ = pair(torch)
    (w * 2).sum().backward()
    first = w.grad.clone()
    (w * w).sum().backward()
    second = w.grad.clone()
    w.grad = None
    (w * 5).sum().backward()
    return first, second, w


@same
def test_a_gradient_once_held_is_accumulated_into(torch):
    w, _ = pair(torch)
    (w * w).sum().backward()
    held = w.grad
    (w * w).sum().backward()
    return held.tolist(), held is w.grad


@same
def test_a_second_backward_through_a_freed_graph_raises(torch):
    w, _ = pair(torch)
    loss = (w * w).sum()
    loss.backward()
    with failing() as error:
        loss.backward()
    return error, w


@same
def test_a_sum_can_be_pulled_through_twice(torch):
    w, _ = pair(torch)
    loss = w.sum()
    loss.backward()
    loss.backward()
    return w


@same
def test_retain_graph_allows_another(torch):
    w, _ = pair(torch)
    loss = (w * w).sum()
    loss.backward(retain_graph=True)
    loss.backward()
    with failing() as error:
        loss.backward()
    return w, error


@same
def test_two_losses_on_one_trunk(torch):
    w, v = pair(torch)
    trunk = (w * v).exp().sum()
    a, b = trunk * 2, trunk.log()
    a.backward(retain_graph=True)
    first = w.grad.clone()
    b.backward()
    return first, w, v


@same
def test_a_trunk_freed_by_the_first_loss_fails_for_the_second(torch):
    w, v = pair(torch)
    trunk = (w * v).exp()
    trunk.sum().backward()
    with failing() as error:
        trunk.mean().backward()
    return error, w


@same
def test_backward_with_a_gradient_of_ones_own(torch):
    w, v = pair(torch)
    out = w * v
    with failing() as none:
        out.backward()
    with failing() as shape:
        out.backward(torch.ones(3))
    out.backward(torch.tensor([1.0, 10.0]))
    return none, shape, w, v


@same
def test_autograd_grad_leaves_grad_alone(torch):
    w, v = pair(torch)
    g, h = torch.autograd.grad((w * v).sum(), (w, v))
    return g, h, w.grad, v.grad


@same
def test_autograd_grad_of_what_is_not_reached(torch):
    w, v = pair(torch)
    with failing() as error:
        torch.autograd.grad(w.sum(), (w, v))
    g, none = torch.autograd.grad((w * w).sum(), (w, v), allow_unused=True)
    zero = torch.autograd.grad((w * w).sum(), v, allow_unused=True, materialize_grads=True)
    return error, g.tolist(), none, [z.tolist() for z in zero]


@same
def test_gradients_with_respect_to_an_intermediate(torch):
    w, v = pair(torch)
    h = w * v
    loss = (h * h).sum()
    alone = torch.autograd.grad(loss, h, retain_graph=True)[0].tolist()
    return alone, [g.tolist() for g in torch.autograd.grad(loss, [h, w])]


@same
def test_higher_derivatives_of_a_polynomial(torch):
    x = torch.tensor(2.0, requires_grad=True)
    found, y = [], x**4
    for _ in range(3):
        (y,) = torch.autograd.grad(y, x, create_graph=True)
        found.append(y.detach())
    (last,) = torch.autograd.grad(y, x)
    return found, y.requires_grad, last.item()


@same
def test_detach_stops_the_gradient(torch):
    w, v = pair(torch)
    (w.detach() * v + (w * v).detach() * w).sum().backward()
    return w, v


@same
def test_no_grad_nests_with_enable_grad(torch):
    w, _ = pair(torch)
    with torch.no_grad():
        a = w * 2
        with torch.enable_grad():
            b = w * 3
            with torch.set_grad_enabled(False):
                c = b * 2
        d = b + 1
    e = a + b
    e.sum().backward()
    return a, b, c, d, e, w, torch.is_grad_enabled()


@same
def test_no_grad_as_a_decorator(torch):
    w, _ = pair(torch)

    @torch.no_grad()
    def evaluate(x):
        return x * w, torch.is_grad_enabled()

    return evaluate(w), (w * w).requires_grad


@same
def test_no_grad_is_left_when_an_exception_passes(torch):
    w, _ = pair(torch)
    with failing() as error, torch.no_grad():
        w + torch.ones(3)
    return error, torch.is_grad_enabled(), w * 2


@same
def test_inference_mode_records_no_history(torch):
    w, _ = pair(torch)

    @torch.inference_mode()
    def predict(x):
        return (w * x).tolist(), (w * x).requires_grad, torch.is_inference_mode_enabled(), torch.is_grad_enabled()

    return predict(w), torch.is_inference_mode_enabled(), w * 2


@same
def test_retain_grad_keeps_the_gradient_of_an_intermediate(torch):
    w, v = pair(torch)
    h = w * v
    h.retain_grad()
    (h * h).sum().backward()
    return h.grad, h.retains_grad, w


@same
def test_grad_of_a_non_leaf_warns_and_is_none(torch):
    w, v = pair(torch)
    h = w * v
    h.sum().backward()
    return h.grad


@same
def test_a_hook_rescales_a_gradient(torch):
    w, v = pair(torch)
    h = w * v
    handle = h.register_hook(lambda g: g * 10)
    h.sum().backward()
    first = w.grad.clone()
    handle.remove()
    (w * v).sum().backward()
    return first, w, v


@same
def test_hooks_on_leaves_clip_before_accumulation(torch):
    w, _ = pair(torch)
    w.register_hook(lambda g: g.clamp(max=3.0))
    for _ in range(2):
        (w * w * w).sum().backward()
    return w


@same
def test_a_hook_sees_the_whole_gradient_of_a_fan_out(torch):
    w, v = pair(torch)
    found = []
    h = w * v
    h.register_hook(lambda g: found.append(g.tolist()))
    (h.sum() + (h * h).sum() + h[0]).backward()
    return found, w


@same
def test_a_hook_before_a_write_belongs_to_the_old_value(torch):
    w, _ = pair(torch)
    found = []
    h = w * 2
    h.register_hook(lambda g: found.append(g.tolist()))
    h.mul_(5)
    h.sum().backward()
    return found, w


@same
def test_a_hook_after_a_write_belongs_to_the_new_value(torch):
    w, _ = pair(torch)
    found = []
    h = w * 2
    h.mul_(5)
    h.register_hook(lambda g: found.append(g.tolist()))
    h.sum().backward()
    return found, w


@same
def test_post_accumulate_hooks_step_at_once(torch):
    w, v = pair(torch)

    def step(p):
        with torch.no_grad():
            p -= 0.1 * p.grad
        p.grad = None

    for p in (w, v):
        p.register_post_accumulate_grad_hook(step)
    for _ in range(3):
        (w * v).sum().backward()
    return w, v


@same
def test_requires_grad_turned_off_in_the_middle(torch):
    w, v = pair(torch)
    y = w * v
    w.requires_grad_(False)
    z = w * v
    (y + z).sum().backward()
    return w, v, z


@same
def test_requires_grad_turned_on_after_use(torch):
    x = torch.ones(2)
    before = x * 2
    x.requires_grad_()
    after = x * 2
    (before + after).sum().backward()
    return before, after, x


@same
def test_only_leaves_change_requires_grad(torch):
    w, v = pair(torch)
    y = w * v
    with failing() as off:
        y.requires_grad = False
    with failing() as on:
        y.requires_grad = True
    return off, on, y.requires_grad_() is y


@same
def test_is_leaf_by_every_way_of_making_a_tensor(torch):
    w, _ = pair(torch)
    return w.is_leaf, (w * 1).is_leaf, w.detach().is_leaf, w.clone().is_leaf, w.data.is_leaf, torch.ones(1).is_leaf, \
        torch.nn.Parameter(w).is_leaf, w.detach().requires_grad_().is_leaf, (torch.ones(1) * 2).is_leaf


@same
def test_grad_can_be_assigned_and_is_checked(torch):
    w, _ = pair(torch)
    w.grad = torch.tensor([5.0, 5.0])
    (w * 2).sum().backward()
    errors = []
    for bad in (torch.ones(3), torch.ones(2, dtype=torch.float64), 3):
        with failing() as error:
            w.grad = bad
        errors.append(error)
    return w, errors


@same
def test_grad_can_be_edited_in_place_between_backwards(torch):
    w, _ = pair(torch)
    (w * w).sum().backward()
    w.grad.zero_()
    (w * 3).sum().backward()
    w.grad[0] += 100
    return w


@same
def test_a_loss_without_gradients_raises(torch):
    with failing() as error:
        torch.ones(1).sum().backward()
    with failing() as other:
        torch.autograd.grad(torch.ones(1).sum(), torch.ones(1))
    return error, other


@same
def test_the_graph_can_be_walked(torch):
    w, v = pair(torch)
    loss = ((w * v) + w.exp()).sum()
    node, names = loss.grad_fn, []
    while node is not None:
        names.append(type(node).__name__)
        node = node.next_functions[0][0] if node.next_functions else None
    return names, len(loss.grad_fn.next_functions), w.grad_fn


@same
def test_names_of_grad_fn(torch):
    w, v = pair(torch)
    m = w.outer(v)
    made = (w + v, w - v, w * v, w / v, w**2, -w, w.exp(), w.sum(), w.mean(), m @ m, m @ w, w.relu(), w[0], w[:1],
            m.t(), m.view(-1), w.clone(),
             torch.cat([w, v]), torch.stack([w, v]), w.max(), w.softmax(0), w.log_softmax(0),
            w.double(), torch.where(w > 1, w, v), w.norm(), w.std(), w.abs(), w.clamp(0))  # fmt: skip
    return [y.grad_fn.name() for y in made]


@same
def test_a_deep_chain(torch):
    w = torch.tensor(1.0, requires_grad=True)
    y = w
    for _ in range(300):
        y = y * 1.01
    y.backward()
    return y, w


@same
def test_backward_inside_no_grad(torch):
    w, v = pair(torch)
    loss = (w * v).sum()
    with torch.no_grad():
        loss.backward()
    return w, v


@same
def test_gradients_of_gradients_by_backward_of_backward(torch):
    w, _ = pair(torch)
    loss = (w**3).sum()
    (g,) = torch.autograd.grad(loss, w, create_graph=True)
    (g * g).sum().backward()
    return g.tolist(), w


@same
def test_inputs_of_backward_limit_where_gradients_go(torch):
    w, v = pair(torch)
    (w * v).sum().backward(inputs=[w])
    return w, v.grad


@same
def test_the_same_tensor_twice_in_one_op(torch):
    w, _ = pair(torch)
    (w * w + torch.stack([w, w]).sum(0)).sum().backward()
    return w


@same
def test_jacobian_and_hessian_of_a_small_function(torch):
    x = torch.tensor([1.0, 2.0])
    f = lambda x: (x**2 * torch.tensor([1.0, 3.0])).sum()  # noqa: E731
    return torch.autograd.functional.jacobian(lambda x: x.exp(), x), torch.autograd.functional.hessian(f, x), \
        torch.func.grad(f)(x), torch.func.vmap(lambda a: a * 2)(x)
