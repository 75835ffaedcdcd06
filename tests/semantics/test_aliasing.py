"""Aliases and in-place writes, as users meet them: who sees a write, and where gradients go."""

from __future__ import annotations

from _same import failing, same


@same
def test_a_write_through_a_slice_is_seen_by_the_base(torch):
    x = torch.zeros(3)
    part = x[1:]
    part.fill_(2)
    return x, part, x._version, part._version


@same
def test_a_write_to_the_base_is_seen_by_every_view(torch):
    x = torch.arange(6.0).reshape(2, 3)
    views = [x.t(), x[0], x.view(-1), x[:, 1:], x.diagonal()]
    x.mul_(10)
    return views


@same
def test_views_of_views_share_all_the_way(torch):
    x = torch.arange(6.0)
    y = x.view(2, 3).t()[1:]
    z = y[0]
    z += 100
    return x, y, z


@same
def test_a_copy_is_no_alias(torch):
    x = torch.arange(3.0)
    y, z = x.clone(), x[[0, 1, 2]]
    x.zero_()
    return x, y, z


@same
def test_augmented_assignment_is_in_place_and_plain_is_not(torch):
    x = torch.ones(2)
    y = x
    x += 1
    z = x
    x = x + 1
    return x, y, z, y is z


@same
def test_reshape_of_a_transpose_is_a_copy(torch):
    x = torch.arange(6.0).reshape(2, 3)
    flat = x.t().reshape(-1)
    flat[0] = 50
    return x, flat, flat.data_ptr() == x.data_ptr()


@same
def test_gradients_flow_through_a_write_to_a_slice(torch):
    w = torch.tensor([1.0, 2.0], requires_grad=True)
    out = torch.zeros(3)
    out[1:] = w * w
    out.sum().backward()
    return w, out


@same
def test_gradients_of_overwritten_elements_are_zero(torch):
    w = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    y = w * 2
    y[0] = 5.0
    y.sum().backward()
    return w, y


@same
def test_a_view_taken_before_a_write_gets_its_history(torch):
    x = torch.ones(3)
    head = x[:2]
    w = torch.tensor(4.0, requires_grad=True)
    x.mul_(w)
    head.sum().backward()
    return w, head, x


@same
def test_a_write_to_a_view_gives_the_base_a_history(torch):
    base = torch.ones(2, 3)
    row = base[0]
    w = torch.ones(3, requires_grad=True)
    row.add_(w)
    (base * base).sum().backward()
    return w, base, row


@same
def test_a_leaf_may_not_be_written_to_in_grad_mode(torch):
    w = torch.ones(2, requires_grad=True)
    with failing() as whole:
        w.add_(1)
    with failing() as part:
        w[0] = 3
    with failing() as view:
        w.view(-1).mul_(2)
    return w, whole, part, view


@same
def test_a_leaf_may_be_written_to_under_no_grad(torch):
    w = torch.ones(2, requires_grad=True)
    with torch.no_grad():
        w.add_(1)
        w[0] = 7
    (w * w).sum().backward()
    return w


@same
def test_a_detached_twin_shares_elements_and_no_history(torch):
    w = torch.tensor([1.0, 2.0], requires_grad=True)
    y = w * 3
    twin = y.detach()
    twin.zero_()
    y.sum().backward()
    return y.tolist(), y.requires_grad, twin, w


@same
def test_data_is_a_door_around_autograd(torch):
    w = torch.tensor([1.0, 2.0], requires_grad=True)
    y = w * w
    w.data.mul_(10)
    z = w * 2
    z.sum().backward()
    return w, w._version, z, y.detach()


@same
def test_data_can_be_replaced(torch):
    w = torch.tensor([1.0, 2.0], requires_grad=True)
    new = torch.tensor([5.0, 6.0])
    w.data = new
    (w * w).sum().backward()
    new.zero_()
    return w, new


@same
def test_copy_is_differentiable_in_its_source(torch):
    w = torch.tensor([1.0, 2.0], requires_grad=True)
    out = torch.zeros(2, 2)
    out.copy_(w)
    (out * torch.arange(4.0).view(2, 2)).sum().backward()
    return w, out


@same
def test_writes_in_a_loop_build_a_recurrence(torch):
    w = torch.tensor(2.0, requires_grad=True)
    state = torch.ones(2)
    for i in range(4):
        state[i % 2] = state.sum() * w
    state.sum().backward()
    return w, state


@same(instead=[[0.0, 0.0], [1.0, 2.0]])
def test_a_saved_value_is_not_corrupted_by_a_later_write(torch):
    w = torch.tensor([1.0, 2.0], requires_grad=True)
    y = w * 1
    z = y * y / 2
    y.zero_()
    z.sum().backward()
    return y, w.grad


@same
def test_in_place_activations(torch):
    w = torch.tensor([-1.0, 2.0], requires_grad=True)
    h = w * 2
    torch.nn.functional.relu(h, inplace=True)
    h = torch.nn.ReLU(inplace=True)(h + 1)
    h.sum().backward()
    return w, h


@same
def test_swap_by_tuple_assignment_of_copies(torch):
    x = torch.arange(4.0)
    x[0], x[3] = x[3].clone(), x[0].clone()
    return x


@same
def test_swap_by_tuple_assignment_of_views(torch):
    x = torch.arange(4.0)
    x[0], x[3] = x[3], x[0]
    return x


@same
def test_an_expanded_tensor_may_not_be_written_to(torch):
    x = torch.ones(1, 3).expand(2, 3)
    with failing() as error:
        x.add_(1)
    return error, x.stride()


@same
def test_unbound_rows_may_not_be_written_to_with_history(torch):
    w = torch.ones(2, 3, requires_grad=True)
    a, b = (w * 2).unbind()
    with failing() as error:
        a.add_(1)
    return error, b


@same
def test_iterating_gives_views(torch):
    x = torch.zeros(3, 2)
    for i, row in enumerate(x):
        row += i
    return x


@same
def test_out_writes_into_an_existing_tensor(torch):
    out = torch.zeros(3)
    alias = out[1:]
    got = torch.add(torch.ones(3), 2, out=out)
    return out, alias, got is out


@same
def test_ring_buffer_of_frames(torch):
    buffer = torch.zeros(3, 2)
    for t in range(5):
        buffer[t % 3] = torch.tensor([t, t + 0.5])
    return buffer, buffer._version


@same
def test_shifting_a_buffer_by_a_clone(torch):
    buffer = torch.arange(4.0)
    buffer[1:] = buffer[:-1].clone()
    buffer[0] = -1
    return buffer


@same
def test_fill_diagonal_through_a_view(torch):
    w = torch.tensor([1.0, 2.0], requires_grad=True)
    x = torch.zeros(2, 2)
    x.diagonal().copy_(w)
    x.logsumexp(0).sum().backward()
    return x, w


@same
def test_real_and_imaginary_parts_are_views(torch):
    z = torch.zeros(2, dtype=torch.complex64)
    z.real.fill_(1)
    z.imag.copy_(torch.tensor([2.0, 3.0]))
    return z


@same
def test_detach_in_place_cuts_the_history(torch):
    w = torch.tensor(3.0, requires_grad=True)
    h = w * 2
    h.detach_()
    out = h * w
    out.backward()
    return h, w


@same
def test_a_view_of_a_leaf_keeps_grad_of_the_leaf(torch):
    w = torch.arange(4.0, requires_grad=True)
    left, right = w[:2], w[2:]
    (left * right).sum().backward()
    return w, left, right._base is w


@same
def test_a_write_to_a_view_under_no_grad_keeps_the_leaf_a_leaf(torch):
    w = torch.ones(4, requires_grad=True)
    with torch.no_grad():
        w[:2].fill_(5)
    (w * w).sum().backward()
    return w


@same
def test_square_brackets_with_none_are_views(torch):
    x = torch.zeros(2)
    x[None, :, None] += 1
    x[...].mul_(3)
    return x


@same
def test_a_mask_write_then_backward(torch):
    w = torch.tensor([1.0, -2.0, 3.0], requires_grad=True)
    y = w * 2
    y[y < 0] = 0
    (y * y).sum().backward()
    return w, y


@same
def test_a_tensor_alone_can_be_resized(torch):
    x = torch.arange(4.0)
    x.resize_(2)
    return x


@same(instead=[[3.0, 2.0], [0.0, 2.0]])
def test_a_factor_overwritten_after_its_use_still_gives_the_right_gradient(torch):
    w = torch.tensor([1.0, 2.0], requires_grad=True)
    scale = torch.tensor([3.0, 2.0])
    y = w * scale
    scale[0] = 0
    y.sum().backward()
    return w.grad, scale
