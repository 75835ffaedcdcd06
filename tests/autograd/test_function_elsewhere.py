"""Custom Functions where JAX transforms, in other threads, and where they fail."""

from __future__ import annotations

import threading

import jax
import numpy as np
from test_function import cube, leaf, made, pulled

import tracegrad


def test_in_a_jax_transformation():
    torch = tracegrad
    function = cube(torch)

    def loss(array):
        x = torch.from_jax(array).requires_grad_()
        y = function.apply(x * 2).sum()
        y.register_hook(lambda g: g * 3)
        y.backward()
        return x.grad.jax()

    found = jax.jit(loss)(np.array([1.0, 2.0], np.float32))
    assert np.allclose(found, 3 * 24 * np.array([1.0, 4.0]))


def test_in_threads():
    torch = tracegrad
    function = cube(torch)
    x = leaf(torch)
    y = function.apply(x)
    results = []

    def work():
        results.append(torch.autograd.grad((function.apply(x) + y).sum(), x, retain_graph=True)[0].tolist())

    for _ in range(2):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert results == [[6.0, 24.0]] * 2


def test_an_error_in_a_backward_has_the_users_lines():
    torch = tracegrad

    def backward(ctx, g):
        raise ValueError("here")

    try:
        pulled(torch, made(torch, lambda ctx, x: x * 2, backward))
    except ValueError as error:
        lines = []
        at = error.__traceback__
        while at is not None:
            lines.append(at.tb_frame.f_code.co_name)
            at = at.tb_next
        assert lines[-1] == "backward"
    x = leaf(torch)
    (x * 2).sum().backward()
    assert x.grad.tolist() == [2.0, 2.0]
