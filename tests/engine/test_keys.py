"""The trie's key holds everything that changes an op's meaning (a naive key is silently wrong here)."""

import numpy as np
import pytest

import tracegrad as torch


def test_int_float_and_bool_scalars_are_different_keys():
    x = torch.tensor([1, 2])
    assert (x * 2).dtype is torch.int64
    assert (x * 2.0).dtype is torch.float32
    assert (x * True).dtype is torch.int64
    assert (torch.tensor([True]) * 2).dtype is torch.int64
    assert (torch.tensor([True]) * True).dtype is torch.bool


def test_signed_zeros_are_different_keys():
    x = torch.tensor([1.0])
    assert (x / 0.0).item() == float("inf")
    assert (x / -0.0).item() == float("-inf")


def test_every_nan_is_one_key(compiled):
    x, mask = torch.tensor([1.0, 2.0]), torch.tensor([True, False])
    results = []
    for _ in range(5):
        results.append(x.masked_fill(mask, float("nan")).tolist())
    assert all(np.isnan(r[0]) and r[1] == 2.0 for r in results)
    assert compiled() <= 2


def test_grad_mode_is_part_of_the_history():
    w = torch.tensor([2.0], requires_grad=True)
    for _ in range(2):
        with torch.no_grad():
            a = w * w
        b = w * w
        assert not a.requires_grad and b.requires_grad
        b.backward()
    assert w.grad.tolist() == [8.0]


def test_requires_grad_after_use_as_a_constant_points_at_a_fresh_value():
    for _ in range(2):
        x = torch.tensor([3.0])
        y = x * 2
        x.requires_grad_()
        z = x * 2
        assert not y.requires_grad and z.requires_grad
        z.backward()
        assert x.grad.tolist() == [2.0]
        x.requires_grad_(False)
        assert not (x * 2).requires_grad


def test_default_dtype_is_read_when_the_op_is_called():
    assert torch.ones(2).dtype is torch.float32
    torch.set_default_dtype(torch.float64)
    assert torch.ones(2).dtype is torch.float64
    assert (torch.tensor([1]) * 1.5).dtype is torch.float64
    assert (torch.tensor([4]).sqrt()).dtype is torch.float64
    torch.set_default_dtype(torch.float32)
    assert (torch.tensor([1]) * 1.5).dtype is torch.float32
    assert (torch.tensor([4]).sqrt()).dtype is torch.float32


def test_changing_numbers_become_inputs_per_site(compiled):
    x = torch.tensor([1.0, 2.0])

    def step(i):
        y = x
        for scale in (0.5, 1.5, 2.5):
            y = y * (scale + i)
        y = (y + 10.0 * i) / (3.0 + i) - (7.0 - i)
        return y.tolist()

    def expected(i):
        y = np.array([1.0, 2.0], np.float32)
        for scale in (0.5, 1.5, 2.5):
            y = y * np.float32(scale + i)
        return ((y + np.float32(10.0 * i)) / np.float32(3.0 + i) - np.float32(7.0 - i)).tolist()

    for i in (0, 1, 2, 3, 0, 5, 1, 7):
        np.testing.assert_allclose(step(i), expected(i), rtol=1e-6)
    assert compiled() <= 3


def test_ten_schedules_through_zero_and_one_cost_one_more_program(compiled):
    x = torch.tensor([1.0, 2.0, 3.0])
    for i in range(12):
        numbers = [((i + k) % 5) / 2 for k in range(10)]
        y = x
        y = y * numbers[0] + numbers[1]
        y = y * numbers[2] + numbers[3]
        y = y * numbers[4] + numbers[5]
        y = y * numbers[6] + numbers[7]
        y = y * numbers[8] + numbers[9]
        want = np.array([1.0, 2.0, 3.0], np.float32)
        for k in range(0, 10, 2):
            want = want * np.float32(numbers[k]) + np.float32(numbers[k + 1])
        np.testing.assert_allclose(y.tolist(), want, rtol=1e-5)
    assert compiled() <= 2


def test_moving_slices_never_recompile(compiled):
    x = torch.arange(100)
    for i in range(0, 100, 10):
        assert x[i : i + 10].tolist() == list(range(i, i + 10))
        assert x[i].item() == i
        assert x[-i - 1].item() == 99 - i
    assert compiled() <= 6


@pytest.mark.parametrize("exponent", [2, 3, 0.5, 1, 0, -1])
def test_pow_exponents(exponent):
    x = torch.tensor([1.5, 2.0])
    np.testing.assert_allclose((x**exponent).tolist(), np.array([1.5, 2.0]) ** exponent, rtol=1e-6)
