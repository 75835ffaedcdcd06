"""Tensors that share elements: views, aliases, writes through them, their gradients, versions and identities."""

from __future__ import annotations

import gc
import threading
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _snippets import same

import tracegrad
from tracegrad._engine.trace import state

oracle = pytest.mark.oracle
several = pytest.mark.parametrize


def runs_of():
    tracegrad.synchronize()
    return tracegrad.cache_sizes()["runs"]


# -- writes through every kind of view -------------------------------------------------------------------------------

VIEWS = ["y[0]", "y[:, 1]", "y[1:, ::2]", "y[None, ..., 1:]", "y.view(3, 2)", "y.t()", "y.T[1]", "y.permute(1, 0)",
         "y.unsqueeze(0)", "y[:1].squeeze()", "y.narrow(1, 1, 2)", "y.select(1, 2)", "y.diagonal()", "y.diagonal(1)",
         "y.movedim(0, 1)", "y.unflatten(1, (3, 1))", "y.flatten()", "y.reshape(-1)[2:4]", "y.mT", "y.adjoint()",
         "y.tensor_split(2, 1)[0]", "y.unfold(1, 2, 2)", "y[torch.tensor(1)]", "y.swapaxes(0, 1)[0]",
         "y.expand(1, 2, 3)", "y.view_as(torch.ones(6))", "y.reshape(1, 6)[0, 1::2]", "y[...]"]  # fmt: skip


@oracle
@several("view", VIEWS)
def test_write_through_a_view(view):
    same(f"""
v = {view}
z = y * y
v.mul_(3)
v += w.sum()
(y * torch.arange(6.0).reshape(2, 3)).sum().backward(retain_graph=True)
r = [y, v, z, y._version, v._version, v._base is y, v.grad_fn is None, w.grad]
""")
    same(f"v = {view}\nwith torch.no_grad(): v.zero_()\ny.sum().backward(); r = [y, v, w.grad]")


@oracle
@several("view", ["c.real", "c.imag", "torch.view_as_real(c)", "c.adjoint()", "c[0].real", "c.imag[1]",
                  "torch.view_as_complex(torch.view_as_real(c))"])  # fmt: skip
def test_write_through_a_view_of_complex_numbers(view):
    same(f"v = {view}; v.mul_(2); v += 1; r = [c, v, c._version, v._base is c, v.stride(), v.storage_offset()]")
    same(f"d = c.clone().requires_grad_(); c = d * 1; v = {view}; v.mul_(2); v += 1\n"
         "torch.view_as_real(c * (1 + 2j)).sum().backward(); r = [c, d.grad]")  # fmt: skip


@oracle
@several("text", [
    "v = x[0]; u = v[1:]; t = x.t(); x[0, 1] = 7; r = [v, u, t, u._base is x]",
    "v = x.view(-1); u = v.view(3, 2)[1]; u.fill_(9); r = [x, v, u, u._base is x]",
    "d = x.detach(); d[0] = 5; r = [x, d, x._version, d._version, d._is_view(), d._base]",
    "d = x.data; d[0] = 5; x += 1; r = [x, d, x._version, d._version]",
    "d = x[0].detach(); e = d[1:]; x.mul_(2); d.add_(1); e.neg_(); r = [x, d, e, e._base is d, d._base, d._is_view()]",
    "a = x.detach(); b = a.detach(); del a; b.add_(1); r = [x, b, b._version]",
    "a = x[0].detach(); b = x[:, 0].detach(); del x; a.add_(1); b.mul_(2); r = [a, b]",
    "d = y.detach(); d.mul_(2); y.sum().backward(); r = [y, d, w.grad]",
    "d = y[0].detach(); d.mul_(2); y.sum().backward(); r = [y, d, w.grad]",
    "d = x[0].detach().requires_grad_(); x.add_(1); (d * 2).sum().backward(); r = [d, d.grad, d.is_leaf, x]",
    "v = x[0].requires_grad_(); x.add_(1); r = [v, v.is_leaf, x.requires_grad]; (v * v).sum().backward(); r +="
    " [v.grad]",
    "v = x[0].requires_grad_(); x.mul_(w); r = [v, v.is_leaf]",
    "v = y[0]; y.detach_(); r = [v.requires_grad, y.requires_grad, y.is_leaf]",
    "v = x[0]; x.mul_(w); v.sum().backward(); r = [v, v.requires_grad, w.grad]",
    "v = y[0]; y.mul_(w); (v * v).sum().backward(); r = [v, w.grad]",
    "v = y[0]; g, = torch.autograd.grad(y.sum(), y); y.mul_(2); r = torch.autograd.grad(v.sum(), y)",
    "a = y[0]; b = y[0]; y.mul_(2); r = torch.autograd.grad((a * 3 + b).sum(), [a, b])",
    "y.view(-1).zero_(); y.sum().backward(); r = [y.requires_grad, w.grad]",
    "with torch.no_grad(): w[0] += 10; w.view(-1)[5] = 0\n(w * w).sum().backward(); r = [w, w.grad, w.is_leaf]",
    "z = w * w\nwith torch.no_grad(): w.data[0] = 0\nz2 = w * w; r = [z, z2]",
    "v = w[0]\nwith torch.no_grad(): w.mul_(2)\n(v * v).sum().backward(); r = [v, w.grad]",
    "p = torch.nn.Parameter(torch.ones(2, 2)); v = p.view(-1)\nwith torch.no_grad(): v.mul_(3)\nr = [p, p.is_leaf]",
    "z = x.expand(2, 2, 3); x += 1; r = [z, z._base is x]",
    "x.expand(2, 2, 3).fill_(4); r = x", "x[:, :1].expand(2, 3).add_(1)", "x.expand(2, 2, 3).zero_(); r = x",
    "u = x.unfold(1, 2, 1); u.copy_(torch.arange(8.0).reshape(2, 2, 2)); r = x",
    "a, b = x.unbind(); a.add_(1); b.mul_(a); r = [x, a, b]",
    "a, b = x.split(1); x.mul_(2); b.zero_(); r = [x, a, b, b._base is x]",
    "a, b = x.chunk(2); a.copy_(b); r = x", "for row in x: row.mul_(2)\nr = x",
    "a = x.split([1, 2], 1)[1]; a.fill_(8); r = x",
    "x.t().copy_(torch.arange(6).reshape(3, 2)); r = x", "x[0].copy_(x[1] * 2); r = x",
    "x.mul_(2).t().add_(1).view_as(x.t())[0].neg_(); r = x",
    "x.diagonal().fill_(-1); r = x", "torch.nn.functional.relu(y[0], inplace=True); r = y",
    "z = torch.zeros(3); torch.add(x[0], 1, out=z); torch.mul(x[0], 2, out=x[1]); r = [z, x]",
    "g = torch.zeros(6); w.grad = g.view(2, 3); y.sum().backward(); r = [g, w.grad]",
    "g = torch.zeros(2, 3); w.grad = g; y.sum().backward(); r = [w.grad is g, g]",
    "y.sum().backward(retain_graph=True); g = w.grad; y.sum().backward(); r = [g is w.grad, g]",
])  # fmt: skip
def test_writes_and_gradients(text):
    same(text, eager=True)


@oracle
@several("text", [
    "w.add_(1)", "w[0].add_(1)", "w.view(-1).mul_(2)", "y.unbind()[1].add_(1)", "y.split(1)[0].add_(1)",
    "y.split([1, 1])[1].mul_(2)", "y.chunk(2)[0].zero_()", "next(iter(y)).add_(1)", "w[0].detach_()",
    "a = x.unbind()[0]; a.mul_(w[0])", "with torch.no_grad(): v = y[0]\nv.add_(1)",
    "with torch.no_grad(): v = x[0]\nv.mul_(w[0])", "with torch.no_grad(): v = x[0]\nv.mul_(2); r = x",
    "with torch.no_grad(): v = y.unbind()[0]\nv.add_(1)", "v = x[0].requires_grad_(); v.add_(1)",
    "y.requires_grad_(False)", "x.expand(2, 2, 3).copy_(x)", "x.t().view(-1)", "x.resize_(2); r = x",
    "x.resize_(2, 2); r = [x, x._version]", "y.resize_(3)", "w.resize_(3)", "w.data = 3",
    "w.data = torch.zeros(2, dtype=torch.int64)", "w.data = torch.zeros(5); r = [w, w.is_leaf, w._version]",
    "z = torch.zeros(2, 3); w.data = z; z.add_(1); r = [w, w._version, z._version]",
    "y.data = torch.ones(2, 3); y.sum().backward(); r = [y, w.grad]", "z = torch.ones(4); x.set_(z); z += 1; r = x",
    "x.set_(); r = x", "x.set_(torch.zeros(2)); r = [x, x._version]", "w.grad = 5", "w.grad = torch.zeros(2)",
    "f = torch.zeros(9); w.data = f[3:].view(2, 3); f.fill_(2); (w * w).sum().backward(); r = [w, w.grad, w.is_leaf]",
    "f = torch.zeros(9); x.data = f[3:].view(2, 3); x.add_(1); r = f",
    "v = x[0]; x.data = torch.ones(2, 3); x.add_(1); v.add_(5); r = [x, v]",
    "x.data += 1; v = x[0]; x.data.mul_(2); r = [x, v, x._version]",
    "w.requires_grad_(False); y.sum().backward(); r = [w.grad, w]",
    "x.fill_(torch.ones(2))", "x.copy_(torch.ones(4, 4, 4))", "i.fill_(float('nan'))", "i.fill_(2.7); r = i",
])  # fmt: skip
def test_rules_and_errors(text):
    same(text)


@oracle
@several("text", [
    "r = [x.data_ptr() == a.data_ptr() for a in (x.detach(), x.data, x.view(-1), x.t(), x[0], x[1], x.clone())]",
    "p = x.data_ptr(); x.add_(1); x[0] = 2; r = [p == x.data_ptr(), x[1].data_ptr() - p, x.t()[1].data_ptr() - p]",
    "r = [x[1].storage_offset(), x[:, 1].storage_offset(), x[1:, 2:].storage_offset(),"
    " x[torch.tensor(-1)].storage_offset()]",
    "r = [x.untyped_storage().data_ptr() == x[1].untyped_storage().data_ptr(), x[1].untyped_storage().nbytes()]",
    "r = [a.stride() for a in (x, x.t(), x[:, 1], x[::2], x[:, None], x[None], x.expand(2, 2, 3), x.diagonal(),"
    " x.unfold(1, 2, 1), x.view(3, 2), x.unsqueeze(-1), x[0:0], x.t().reshape(3, 2, 1), torch.zeros(2, 0, 3))]",
    "r = [a.is_contiguous() for a in (x, x.t(), x[:, 1], x[1], x[:, :2], x[:1, :2], x.t().contiguous(), x.T.T)]",
    "r = [a._is_view() for a in (x.t().reshape(3, 2, 1), x[:, 0].reshape(2, 1), x.t().flatten(), x[:, :2].flatten(),"
    " x[:, :2].reshape(2, 2, 1), x.contiguous(), x.t().contiguous(), x.real, x[[0]], x[x > 1])]",
    "r = [x.is_set_to(x.detach()), x.is_set_to(x.view(6)), x.view(6).is_set_to(x.view(6)), x[0].is_set_to(x[1])]",
    "r = [x.contiguous() is x, x.T.T.contiguous()._is_view(), x.flatten(1) is x, x.view(2, 3)._base is x]",
])  # fmt: skip
def test_where_elements_lie(text):
    same(text)


# -- what keeps what alive -------------------------------------------------------------------------------------------


def test_a_view_of_all_elements_lets_its_base_go():
    x = tracegrad.arange(6.0) + 1
    v, u = x.view(2, 3), x.view(3, 2)
    gone = weakref.ref(x)
    del x
    assert gone() is None
    v.mul_(2)
    assert u.tolist() == [[2, 4], [6, 8], [10, 12]]
    assert v._base is u._base and v._base.tolist() == [2, 4, 6, 8, 10, 12]


def test_aliases_let_go_of_the_graph():
    w = tracegrad.ones(3, requires_grad=True)
    y = w * 2
    gone = weakref.ref(y)
    kept = [y.detach(), y[0].detach(), y.data]
    y = None
    gc.collect()
    assert gone() is None
    assert kept[0]._value.source is None and not kept[1].requires_grad


def test_dead_aliases_are_forgotten():
    x = tracegrad.zeros(3)
    for _ in range(100):
        x[0], x.detach(), x[1:].detach()
        x.add_(1)
    assert len(x._storage.views) < 40 and len(x._storage.group.members) < 40
    assert x._storage.group.whole is None
    assert x.tolist() == [100, 100, 100]


# -- the law and the speed -------------------------------------------------------------------------------------------


def test_writes_flush_nothing():
    before = runs_of()
    x = tracegrad.zeros(4, 3)
    v, d = x[1], x.detach()
    for i in range(4):
        x[i] = i
        v += 1
        x[:, 0] *= 2
        d[x > 5] = 0
    assert tracegrad.cache_sizes()["runs"] == before
    assert x.tolist() == d.tolist() == [[0, 0, 0], [2, 4, 4], [0, 2, 2], [0, 3, 3]]


def test_a_loop_that_fills_a_buffer_is_one_program(compiled):
    w = tracegrad.ones(3, 4, requires_grad=True)
    optimizer = tracegrad.optim.SGD([w], lr=0.01)
    seen = []
    for _ in range(5):
        buffer, h = tracegrad.zeros(2, 4, 4), tracegrad.zeros(2, 4)
        for t in range(4):
            h = tracegrad.tanh(tracegrad.ones(2, 3) @ w + h)
            buffer[:, t] = h
        optimizer.zero_grad()
        buffer.pow(2).sum().backward()
        optimizer.step()
        seen.append(compiled())
    assert seen[2:] == [0, 0, 0]


def test_a_moving_pointer_compiles_nothing_anew(compiled):
    ring = tracegrad.zeros(10, 2)
    seen = []
    for i in range(8):
        ring[i] = tracegrad.ones(2) * (i + 0.5)
        seen.append(compiled())
    assert seen[2:] == [0] * 6
    assert ring[:, 0].tolist() == [0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7.5, 0, 0]


def test_adding_to_elements_is_linear():
    def recorded(n):
        tracegrad.synchronize()
        x = tracegrad.zeros(n) + 0
        for i in range(n):
            x[i] += 1.5
        return state.trace.node.real.weight

    assert recorded(20) - recorded(10) <= 45


def test_saved_values_are_never_corrupted():
    """PyTorch raises here: one of the variables needed for gradient computation has been modified."""
    w = tracegrad.tensor([1.0, 2.0], requires_grad=True)
    y = w * 3
    z = y * y  # saves y
    y.mul_(10)
    y[0] = 0
    z.sum().backward()
    assert w.grad.tolist() == [18, 36]
    a = tracegrad.tensor([1.0, 2.0], requires_grad=True)
    e = a.exp()
    (e * e).sum().backward(retain_graph=True)
    e[0] += 100
    (e * 2).sum().backward()
    np.testing.assert_allclose(a.grad.tolist(), 2 * np.exp([2, 4]) + 2 * np.exp([1, 2]), rtol=1e-5)


def test_writes_under_jax_transformations():
    def f(a):
        x = tracegrad.from_jax(a) * 2
        v = x[0]
        v.mul_(3)
        x[1, :2] = v[1:]
        x[x > 20] = 0.0
        return x.jax().sum()

    a = jnp.arange(6.0).reshape(2, 3)
    x = np.arange(6.0).reshape(2, 3) * 2
    x[0] *= 3
    x[1, :2] = x[0, 1:]
    x[x > 20] = 0
    assert float(f(a)) == float(jax.jit(f)(a)) == x.sum()
    assert jax.grad(f)(a).tolist() == [[6, 12, 12], [0, 0, 2]]


def test_a_write_from_another_thread():
    x = tracegrad.zeros(3)
    v = x[1:]
    worker = threading.Thread(target=lambda: v.add_(2))
    worker.start()
    worker.join()
    assert x.tolist() == [0, 2, 2]


def test_swapped_tensors():
    p, q = tracegrad.nn.Parameter(tracegrad.ones(2)), tracegrad.zeros(3)
    p.grad = tracegrad.ones(2)
    tracegrad.utils.swap_tensors(p, q)
    assert p.tolist() == [0, 0, 0] and type(q) is tracegrad.nn.Parameter and q.grad.tolist() == [1, 1]
    (q * 2).sum().backward()
    assert q.grad.tolist() == [3, 3]
    with pytest.raises(RuntimeError, match="is a view"):
        tracegrad.utils.swap_tensors(p, q[0])
