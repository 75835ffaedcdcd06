"""Reading and writing by index, in programs."""

from __future__ import annotations

from _same import failing, same


def table(torch, **options):
    return torch.arange(6.0, **options).reshape(2, 3)


@same
def test_rows_columns_steps_and_negative_indices(torch):
    x = table(torch)
    return x[0], x[-1, -2], x[:, 1], x[:, ::2], x[..., -1], x[1:, :2], x[0:0]


@same
def test_integer_tensors_pick_and_repeat_rows(torch):
    w = torch.ones(2, 3, requires_grad=True)
    i = torch.tensor([1, 0, 1])
    y = w[i] * torch.arange(3.0)
    y.sum().backward()
    return y, w


@same
def test_pairs_of_index_tensors_pick_elements(torch):
    x = table(torch)
    return x[torch.tensor([0, 1]), torch.tensor([2, 0])], x[[0, 1], [-1, 1]], x[torch.tensor([[0], [1]]), [0, 2]]


@same
def test_a_mask_picks_elements_with_gradient(torch):
    w = table(torch).requires_grad_()
    picked = w[w > 2]
    (picked * picked).sum().backward()
    return picked, w


@same
def test_a_row_mask_picks_rows(torch):
    x = table(torch)
    return x[torch.tensor([False, True])], x[[True, False]], x[:, torch.tensor([True, False, True])]


@same
def test_mixed_index_of_slice_none_and_tensor(torch):
    x = torch.arange(24.0).reshape(2, 3, 4)
    i = torch.tensor([2, 0])
    return x[:, None, i].shape, x[0, :, i], x[i[1:], ..., i], x[:, i, 1:3]


@same
def test_write_of_a_number_a_row_and_a_column(torch):
    x = table(torch)
    x[0, 0] = 9
    x[1] = torch.tensor([7.0, 8.0, 9.0])
    x[:, 2] = -1
    return x, x._version


@same
def test_write_broadcasts_its_value(torch):
    x = torch.zeros(2, 3)
    x[:, 1:] = torch.tensor([[1.0], [2.0]])
    x[[0, 1], 0] = torch.tensor(5.0)
    return x


@same
def test_write_through_index_tensors_takes_gradients(torch):
    w = torch.tensor([1.0, 2.0], requires_grad=True)
    x = torch.zeros(4)
    x[torch.tensor([3, 1])] = w * w
    (x * torch.arange(4.0)).sum().backward()
    return x, w


@same
def test_write_by_mask_of_as_many_values(torch):
    w = torch.tensor([1.0, 2.0], requires_grad=True)
    x = torch.tensor([0.0, 5.0, 0.0])
    x[x == 0] = w
    x.prod().backward()
    return x, w


@same
def test_a_histogram_by_index_add(torch):
    labels = torch.tensor([0, 2, 2, 1, 2])
    counts = torch.zeros(3)
    counts.index_add_(0, labels, torch.ones(5))
    return counts, torch.bincount(labels, minlength=4)


@same
def test_repeated_indices_in_augmented_assignment_count_once(torch):
    x = torch.zeros(3)
    x[[0, 0, 1]] += 1
    return x


@same
def test_index_put_accumulates(torch):
    x = torch.zeros(3)
    w = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    y = x.index_put((torch.tensor([0, 0, 1]),), w * 2, accumulate=True)
    (y * y).sum().backward()
    return y, w


@same
def test_gather_picks_the_chosen_class(torch):
    logits = table(torch).requires_grad_()
    target = torch.tensor([2, 0])
    picked = logits.log_softmax(1).gather(1, target[:, None]).squeeze(1)
    (-picked.mean()).backward()
    return picked, logits


@same
def test_scatter_makes_one_hot_rows(torch):
    target = torch.tensor([2, 0])
    hot = torch.zeros(2, 3).scatter_(1, target.unsqueeze(1), 1.0)
    return hot, torch.nn.functional.one_hot(target, 3).tolist()


@same
def test_scatter_add_sums_messages_of_a_graph(torch):
    w = torch.tensor([[1.0], [2.0], [3.0]], requires_grad=True)
    source, to = torch.tensor([0, 1, 2, 0]), torch.tensor([1, 1, 0, 2])
    out = torch.zeros(3, 1).scatter_add(0, to[:, None], w[source])
    (out * out).sum().backward()
    return out, w


@same
def test_where_with_one_argument_gives_indices(torch):
    x = torch.tensor([[0.0, 1.0], [2.0, 0.0]])
    return [i.tolist() for i in torch.where(x > 0)], x.nonzero(), x[x.nonzero(as_tuple=True)]


@same
def test_sort_and_index_back(torch):
    w = torch.tensor([3.0, 1.0, 2.0], requires_grad=True)
    values, order = w.sort(descending=True)
    back = torch.empty_like(values)
    back[order] = values * torch.arange(1.0, 4.0)
    back.sum().backward()
    return values, order, back, w


@same
def test_topk_then_masking_the_rest(torch):
    logits = torch.tensor([[1.0, 3.0, 2.0]], requires_grad=True)
    keep = logits.topk(2).indices
    mask = torch.full_like(logits, float("-inf")).scatter(1, keep, 0.0)
    p = (logits + mask).softmax(-1)
    p[0, 2].backward()
    return p, logits


@same
def test_minibatches_by_a_permutation(torch):
    data = torch.arange(10.0).reshape(5, 2)
    order = torch.tensor([3, 1, 4, 0, 2])
    return [data[order[i : i + 2]] for i in range(0, 5, 2)]


@same
def test_sliding_windows(torch):
    w = torch.arange(5.0, requires_grad=True)
    windows = w.unfold(0, 3, 1)
    (windows * torch.arange(3.0)).sum().backward()
    return windows, w


@same
def test_a_causal_mask(torch):
    scores = torch.zeros(3, 3, requires_grad=True)
    future = torch.triu(torch.ones(3, 3), 1).bool()
    p = scores.masked_fill(future, float("-inf")).softmax(-1)
    p[2, 0].backward()
    return future, p, scores


@same
def test_out_of_range_integers_raise_at_once(torch):
    x = table(torch)
    found = []
    for index in (2, -3, (0, 3), (0, 0, 0)):
        with failing() as error:
            x[index]
        found.append(error)
    return found, x[1]


@same
def test_out_of_range_lists_raise(torch):
    x = table(torch)
    with failing() as read:
        x[[0, 2]].tolist()
    with failing() as write:
        x[[0], [3]] = 1.0
        x.tolist()
    return read, write


@same
def test_writes_of_wrong_shapes_raise_and_leave_all_as_it_was(torch):
    x = table(torch)
    with failing() as row:
        x[0] = torch.ones(2)
    with failing() as mask:
        x[x > 3] = torch.ones(3)
    with failing() as kind:
        x[0.5] = 1
    return row, mask, kind, x


@same
def test_integer_tensors_index_as_python_numbers_do(torch):
    x = table(torch)
    i = torch.tensor(1)
    words = ["a", "b", "c"]
    return x[i], x[i, i + 1], words[i], list(range(10))[i : i + 2]


@same
def test_index_select_take_and_take_along_dim(torch):
    x = table(torch)
    order = x.argsort(1, descending=True)
    return x.index_select(1, torch.tensor([2, 0])), x.take(torch.tensor([0, 5])), x.take_along_dim(order, 1)


@same
def test_argmax_used_as_index_breaks_the_gradient_and_the_value_does_not(torch):
    w = torch.tensor([1.0, 5.0, 2.0], requires_grad=True)
    best = w.argmax()
    loss = w[best] * 3 + w.max()
    loss.backward()
    return best, loss, w


@same
def test_write_of_a_wider_dtype_is_cast(torch):
    x = torch.zeros(3, dtype=torch.int64)
    x[0] = 2.7
    x[1:] = torch.tensor([1.9, -1.9])
    y = torch.zeros(2)
    y[0] = torch.tensor(3, dtype=torch.float64)
    return x, y


@same
def test_two_masks_combined(torch):
    x = torch.arange(6.0)
    low, odd = x < 4, x.long() % 2 == 1
    x[low & ~odd] *= -1
    x[low ^ odd] += 100
    return x, (low | odd).sum(), low.any(), odd.all()


@same
def test_padding_sequences_by_writes(torch):
    sequences = [torch.ones(2), torch.full((3,), 2.0), torch.tensor([7.0])]
    batch = torch.zeros(len(sequences), max(map(len, sequences)))
    lengths = torch.tensor([len(s) for s in sequences])
    for row, s in zip(batch, sequences):
        row[: len(s)] = s
    mask = torch.arange(3)[None, :] < lengths[:, None]
    return batch, mask, (batch * mask).sum(1) / lengths


@same
def test_embedding_rows_written_under_no_grad(torch):
    table = torch.nn.Embedding(3, 2, padding_idx=0)
    with torch.no_grad():
        table.weight[1:] = torch.arange(4.0).view(2, 2)
    out = table(torch.tensor([[0, 1], [2, 1]]))
    out.sum().backward()
    return out, table.weight
