"""Dtypes as they come up in programs."""

from __future__ import annotations

from _same import failing, same


@same
def test_counters_of_integers_and_averages_of_floats(torch):
    correct = torch.tensor(0)
    total = 0
    for logits, label in [([1.0, 2.0], 1), ([3.0, 0.0], 1)]:
        correct += (torch.tensor(logits).argmax() == label).sum()
        total += 1
    return correct, correct / total, correct // total, correct.float().mean()


@same
def test_integers_divide_to_floats_and_floor_to_integers(torch):
    a = torch.tensor([7, -7])
    return a / 2, a // 2, a % 3, a % -3, torch.div(a, 2, rounding_mode="trunc"), a / torch.tensor([2.0, 2.0])


@same
def test_in_place_does_not_change_the_dtype(torch):
    a = torch.tensor([1, 2])
    with failing() as error:
        a /= 2
    with failing() as other:
        a += 0.5
    a //= 2
    a *= True
    return error, other, a


@same
def test_zero_dim_tensors_yield_to_tensors_with_dims(torch):
    x = torch.ones(2)
    return x * torch.tensor(2.0, dtype=torch.float64), x.half() * torch.tensor(2.0), x.int() * torch.tensor(2.5), \
        x.int() * torch.tensor(2, dtype=torch.int64), x.bool() * torch.tensor(3)


@same
def test_python_numbers_keep_the_category(torch):
    i, f, b = torch.tensor([1, 2], dtype=torch.int8), torch.ones(2).bfloat16(), torch.tensor([True, False])
    return i + 1, i + 1.5, f * 2, f * 2j, b + 1, b * 1.0, b + b, -i, 1 - i, 2**i


@same
def test_masks_multiply_into_losses(torch):
    w = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    mask = torch.tensor([True, False, True])
    loss = (w * mask).sum() / mask.sum()
    loss.backward()
    return loss, w


@same
def test_half_precision_casts_carry_gradients_back(torch):
    w = torch.tensor([1.0, 2.0], requires_grad=True)
    h = w.half() * 3
    loss = (h.float() ** 2).mean()
    loss.backward()
    return h, loss, w, w.grad.dtype


@same
def test_double_inputs_meet_float_weights(torch):
    layer = torch.nn.Linear(2, 1)
    with failing() as error:
        layer(torch.ones(1, 2, dtype=torch.float64))
    layer.double()
    return error, layer(torch.ones(1, 2, dtype=torch.float64)).dtype, layer.weight.dtype


@same
def test_default_dtype_decides_for_python_floats(torch):
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        found = torch.tensor(1.5).dtype, torch.ones(1).dtype, torch.tensor(1).dtype, (torch.tensor([1, 2]) / 2).dtype, \
            torch.arange(0, 1, 0.5).dtype, torch.tensor(1j).dtype, torch.nn.Linear(1, 1).weight.dtype
    finally:
        torch.set_default_dtype(before)
    return found, torch.tensor(1.5).dtype


@same
def test_sums_of_bools_and_small_integers_are_wide(torch):
    b, u = torch.tensor([True, True]), torch.tensor([200, 100], dtype=torch.uint8)
    return b.sum(), u.sum(), u + u, u.cumsum(0), u.prod(), u.float().mean(), b.float().mean()


@same
def test_means_of_integers_raise(torch):
    with failing() as error:
        torch.tensor([1, 2]).mean()
    with failing() as soft:
        torch.tensor([1, 2]).softmax(0)
    return error, soft, torch.tensor([1, 2]).mean(dtype=torch.float32), \
        torch.tensor([1, 2]).softmax(0, dtype=torch.float64)


@same
def test_only_floats_can_want_gradients(torch):
    with failing() as new:
        torch.tensor([1, 2], requires_grad=True)
    with failing() as later:
        torch.tensor([True]).requires_grad_()
    return new, later, torch.tensor([1j], requires_grad=True)


@same
def test_casts_to_integers_drop_the_history(torch):
    w = torch.tensor([1.7, -1.7], requires_grad=True)
    i = w.long()
    y = w * i
    y.sum().backward()
    return i, w, (w > 0), w.round()


@same
def test_type_as_to_and_their_identities(torch):
    x = torch.ones(2)
    return x.to(torch.float32) is x, x.to(torch.float64).dtype, x.type_as(torch.ones(1).int()).dtype, x.float() is x, \
        x.to(x.long()).dtype, x.to("cpu") is x, x.to(torch.float32, copy=True) is x


@same
def test_comparisons_give_bools_that_count(torch):
    a, b = torch.tensor([1, 2, 3]), torch.tensor([1.0, 2.5, 3.0])
    return a == b, (a == b).sum().item(), (a < b).float(), a.eq(2), torch.equal(a, a.clone()), a != 2


@same
def test_where_promotes_its_branches(torch):
    c = torch.tensor([True, False])
    return torch.where(c, 1, 0), torch.where(c, torch.tensor([1, 2]), 0.5), \
        torch.where(c, torch.ones(2).half(), torch.zeros(2))


@same
def test_cat_and_stack_promote(torch):
    i, f = torch.tensor([1]), torch.tensor([0.5])
    w = torch.tensor([2.0], requires_grad=True, dtype=torch.float64)
    joined = torch.cat([i, f, w])
    joined.sum().backward()
    return joined, torch.stack([i, f]), w


@same
def test_bytes_wrap_around(torch):
    u, s = torch.tensor([250, 5], dtype=torch.uint8), torch.tensor([127], dtype=torch.int8)
    return u + 10, u - 6, s + 1, -u, u.to(torch.int8), ~u, u << 1, u >> 1


@same
def test_complex_weights_get_conjugate_gradients(torch):
    z = torch.tensor([1 + 2j, 3 - 1j], requires_grad=True)
    loss = (z * z.conj()).real.sum() + z.abs().sum()
    loss.backward()
    return loss, z, z.real, z.angle()


@same
def test_backward_of_a_complex_loss_raises(torch):
    z = torch.tensor(1 + 2j, requires_grad=True)
    with failing() as error:
        (z * z).backward()
    return error, z


@same
def test_nan_and_inf_in_programs(torch):
    x = torch.tensor([1.0, float("nan"), float("inf"), -1.0])
    return x.isnan(), x.isfinite(), x.nan_to_num(0.0), x.max(), x[~x.isnan()].max(), x == x, \
        x.sqrt(), (x / 0), x.clamp(-1, 2)


@same
def test_float_of_a_sum_of_halves(torch):
    h = torch.full((4,), 0.1, dtype=torch.bfloat16)
    return h.sum(), h.float().sum(), h.mean(), (h @ h), float(h[0])


@same
def test_item_and_conversions_give_python_types(torch):
    made = torch.tensor(1), torch.tensor(1.0), torch.tensor(True), torch.tensor(1j)
    return [type(x.item()).__name__ for x in made], \
        int(torch.tensor(3.9)), float(torch.tensor(2)), bool(torch.tensor(0)), complex(torch.tensor(1.0)), \
        torch.tensor([[1, 2]]).tolist(), round(torch.tensor(2.5).item()), 10 * torch.tensor(2).item()


@same
def test_clamp_with_integers_and_tensor_bounds(torch):
    i = torch.tensor([1, 5, 9])
    w = torch.tensor([0.0, 1.0, 2.0], requires_grad=True)
    y = w.clamp(min=torch.tensor([0.5, 0.5, 0.5]), max=torch.tensor(1.5))
    y.sum().backward()
    return i.clamp(2, 6), i.clamp(min=2.5), y, w


@same
def test_arange_linspace_and_full_infer_dtypes(torch):
    return torch.arange(3), torch.arange(3.0), torch.arange(0, 1, 0.25), torch.full((2,), 3), \
        torch.full((2,), True), torch.full((1,), 2.0), torch.linspace(0, 1, 3), torch.zeros_like(torch.arange(2)), \
        torch.ones(2).new_full((1,), 7)
