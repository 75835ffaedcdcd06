"""Values that are JAX tracers replay inline: JAX's transforms work over code that uses tensors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tracegrad as torch

X = jnp.asarray([0.5, 1.0, 2.0])


def wrap(array):
    return torch.from_jax(array)


def f(array):
    x = wrap(array)
    return ((x * x).sin() + x.exp()).sum().jax()


def want(array):
    return (jnp.sin(array * array) + jnp.exp(array)).sum()


def test_jit():
    np.testing.assert_allclose(jax.jit(f)(X), want(X), rtol=1e-6)
    np.testing.assert_allclose(f(X), want(X), rtol=1e-6)


def test_grad():
    np.testing.assert_allclose(jax.grad(f)(X), jax.grad(want)(X), rtol=1e-6)
    np.testing.assert_allclose(jax.jit(jax.grad(f))(X), jax.grad(want)(X), rtol=1e-6)
    np.testing.assert_allclose(jax.hessian(f)(X), jax.hessian(want)(X), rtol=1e-5)


def test_vmap():
    batch = jnp.stack([X, X + 1, X * 2])
    np.testing.assert_allclose(jax.vmap(f)(batch), jax.vmap(want)(batch), rtol=1e-6)
    np.testing.assert_allclose(jax.vmap(jax.grad(f))(batch), jax.vmap(jax.grad(want))(batch), rtol=1e-6)


def test_tensors_as_arguments_and_results():
    def g(t):
        return t * 2 + 1

    out = jax.jit(g)(torch.tensor([1.0, 2.0]))
    assert isinstance(out, torch.Tensor) and out.tolist() == [3.0, 5.0]


def test_backward_inside_jit():
    def g(array):
        x = wrap(array).requires_grad_()
        y = (x * x * x).sum()
        y.backward()
        return x.grad.jax()

    np.testing.assert_allclose(jax.jit(g)(X), 3 * X * X, rtol=1e-6)


def test_concrete_parameters_inside_jit():
    w = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    pending = w * 2

    def g(array):
        return (wrap(array) * pending + w).sum().jax()

    np.testing.assert_allclose(jax.jit(g)(X), (X * jnp.asarray([2.0, 4.0, 6.0]) + jnp.asarray([1.0, 2, 3])).sum())
    assert pending.tolist() == [2.0, 4.0, 6.0]


def test_recording_goes_on_after_a_transform():
    x = torch.tensor([1.0, 2.0])
    y = x * 2
    jax.jit(f)(X)
    z = y + 1
    assert z.tolist() == [3.0, 5.0]


def test_64_bit_tags_inside_a_32_bit_trace():
    def g(array):
        t = wrap(array)
        return t.argmax().jax(), (t.sum() * 2).jax()

    index, total = jax.jit(g)(X)
    assert int(index) == 2 and float(total) == pytest.approx(7.0)
