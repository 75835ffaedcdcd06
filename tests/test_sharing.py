"""Whose elements a tensor has: parameters, other dtypes, conjugates, ``x.data = y`` and in-place changes of shape."""

from __future__ import annotations

import pytest
from _snippets import same

import tracegrad

several = pytest.mark.parametrize
pytestmark = pytest.mark.oracle


@several("text", [
    "p = torch.nn.Parameter(x); x[0] = 9\nwith torch.no_grad(): p[1] = 2\n"
    "r = [x, p, x._version, p._version, p.data_ptr() == x.data_ptr(), p._base, p.is_leaf]",
    "p = torch.nn.Parameter(y); (p * 3).sum().backward(); r = [p.grad, w.grad, p.is_leaf]",
    "p = torch.nn.Parameter(x[0]); x.add_(1); (p * p).sum().backward(); r = [p, p.grad, p._base, p._is_view()]",
    "p = torch.nn.Parameter(x, False); p[0] = 7; r = [x, p, p.requires_grad]",
    "p = torch.nn.Parameter(x); o = torch.optim.SGD([p], lr=0.5); p.sum().backward(); o.step(); r = [p, x]; o.step()"
    "; r += [p, x]",
    "p = torch.nn.Parameter(x); o = torch.optim.SGD([p], lr=0.5, momentum=0.5); p.sum().backward(); "
    "del x; o.step(); o.step(); r = p",
    "import copy; p = torch.nn.Parameter(x); q = copy.deepcopy(p); x[0] = 9; r = [p, q]",
    "p = torch.nn.Parameter(x); q = torch.nn.Parameter(p); x[0] = 9; (p * q).sum().backward(); r = [p.grad, q.grad]",
    "e = torch.nn.Embedding.from_pretrained(x); x[0] = 9; r = e.weight",
    "u = torch.Tensor(x); u[0] = 1; r = [x, u, x._version, u._version]",
    "u = torch.nn.Buffer(x); u[0] = 1; r = [x, u, x._version, u._version]",
    "m = torch.nn.Linear(3, 2); s = {'weight': x, 'bias': x[:, 0]}; m.load_state_dict(s, assign=True); x.fill_(3)\n"
    "r = list(m.parameters())",
    "torch.nn.Parameter(i)", "torch.nn.Parameter([1.0])", "torch.nn.Parameter(torch.ones(2), requires_grad=True)",
])  # fmt: skip
def test_parameters_share(text):
    same(text, eager=True)


@several("text", [
    "r = [x.view(torch.int32), x.view(torch.float16).shape, x.view(torch.uint8).stride(), x.view(dtype=torch.int32)]",
    "v = x.view(torch.int32); x[0] = 1; r = [v]; v[0, 1] = 1073741824; r += [x, x._version, v._version]",
    "v = x.view(torch.int16); v[1] = 0; r = [x, v, v._base, v._is_view()]; x.neg_(); r += [v]",
    "v = x.view(-1).view(torch.float64); u = x[1:]; v[2] = 0; r = [x, u, v.shape]; u.fill_(0); r += [v]",
    "a = torch.zeros(4, 4); v = a[2:, 2:].view(torch.float64); v.fill_(2); r = [a, v.storage_offset(), v.stride(),"
    " v.data_ptr() - a.data_ptr()]",
    "v = c.view(torch.float32); v[0, 1] = 5; r = [c, v]; c.mul_(1j); r += [v]",
    "r = [c.view(torch.int64), c.to(torch.complex128).view(torch.complex64).shape, x[:, :2].clone().view("
    "torch.complex64), c.view(torch.float64)]",
    "r = [(x > 2).view(torch.uint8), torch.tensor([1, 2, 0], dtype=torch.uint8).view(torch.bool), i.view(torch.int32)]",
    "b = x > 2; v = b.view(torch.int8); v[0, 0] = 1; r = b",
    "v = y.view(torch.int32); r = [v.requires_grad, y.view(torch.float32).requires_grad, y.view(torch.float32)._base]",
    "v = y.view(torch.float32); v.mul_(2); (y * y).sum().backward(); r = [y, w.grad]",
    "r = [torch.tensor(1.5).view(torch.int32), torch.zeros(0).view(torch.float64), x.view(torch.float32)]",
    "r = [x.T.view(torch.int32), x.T.view(torch.int32).stride(), x[:, 1:].view(torch.int16).shape]",
    "v = x.t().view(torch.int32); v.zero_(); r = x",
    "x.view(torch.float64)", "torch.ones(()).view(torch.float64)", "torch.ones(()).view(torch.int16)",
    "torch.ones(4, 4).t().view(torch.float64)", "torch.ones(4, 4).t().view(torch.int16)",
    "torch.ones(4, 4)[:, 1:3].view(torch.float64)", "torch.ones(4, 4)[:, ::2].view(torch.float64)",
    "torch.ones(3, 5)[:, :2].view(torch.float64)", "torch.ones(2, 0).view(torch.float64)", "x.view(torch.complex64)",
    "c.conj().view(torch.float32)", "c.conj().imag.view(torch.int32)", "r = c.conj().view(torch.complex64)",
    "x.view(torch.int32).float().sum().backward()",
])  # fmt: skip
def test_elements_as_another_dtype(text):
    same(text, eager=True)


def test_views_of_other_dtypes_apart():
    same("a = torch.arange(3) + 0j; v = a.real[2:]; u = a[2:]; u.fill_(7); r = [v, u, a]\n"
         "v = a.detach().real[2:]; u = a.view(torch.float32)[2:4]; u.fill_(9); r += [v, u, a, a[1:2]]", eager=True)


@several("text", [
    "d = c.clone(); v = d.conj(); v.mul_(2j); r = [d, v, d._version, v._version, v._base is d, v.data_ptr() =="
    " d.data_ptr(), v.stride(), v.is_conj(), d.is_conj()]; d[0] = 5j; r += [v]; v[1] = 1j; r += [d]",
    "r = [c.conj().is_conj(), c.conj().conj().is_conj(), c.conj()[0].is_conj(), c.conj().t().is_conj(),"
    " c.conj().detach().is_conj(), c.conj().contiguous().is_conj(), (c.conj() * 2).is_conj(), x.conj().is_conj(),"
    " x.conj() is x, torch.is_conj(c.conj()), torch.conj_physical(c).is_conj(),"
    " c.conj().to(torch.complex128).is_conj(),"
    " torch.zeros_like(c.conj()).is_conj(), c.conj().reshape(4, 1).is_conj(), c.conj().resolve_conj().is_conj()]",
    "r = [c.conj().resolve_conj(), c.resolve_conj() is c, x.resolve_conj() is x, torch.resolve_conj(c.conj())]",
    "r = [c.conj().imag.is_neg(), c.conj().real.is_neg(), c.imag.is_neg(), c.conj().imag.resolve_neg().is_neg(),"
    " c.conj().imag.resolve_neg(), (-c).is_neg(), torch.is_neg(x), torch.resolve_neg(x) is x,"
    " c.conj().imag[0].is_neg(),"
    " c.conj().imag.is_conj()]",
    "v = c.conj().imag; v.add_(10); r = [c, v]", "v = c.conj().real; v.add_(10); r = [c, v]",
    "r = [c.mH, c.mH.is_conj(), c.adjoint().is_conj(), c.H, c.H.is_conj(), x.H, x.mH.is_conj(), c.mH._base is c]",
    "v = c.mH; v[0] = 1j; r = [c, v]; c.mul_(2); r += [v]",
    "v = c.clone().H; v.mul_(1j); r = v._base",
    "d = c.clone().requires_grad_(); e = d * 1; v = e.conj(); v.mul_(2j); torch.view_as_real(e * (1 + 2j)).sum()"
    ".backward(); r = [e, v, d.grad, v.grad_fn is None]",
    "d = c.clone().requires_grad_(); r = [d.conj().grad_fn, d.conj().resolve_conj().grad_fn, d.conj().conj().grad_fn]"
    "; (d.conj() * d).real.sum().backward(); r += [d.grad]",
    "d = c.clone().requires_grad_(); d.conj().mul_(2)",
    "with torch.no_grad(): v = c.conj(); v += 1j\nr = [c, v]",
    "torch.view_as_real(c.conj())", "c.conj().numpy()", "c.conj().imag.numpy()",
    "r = c.conj().numpy(force=True).tolist()",
    "torch.ones(2, 2, 2).H", "torch.ones(3).H", "torch.ones(3).mH",
    "r = torch.tensor(2.0).mT", "torch.ones(3).adjoint()", "r = torch.ones(()).H",
    "d = c.clone(); d.conj_physical_(); r = [d, torch.conj_physical(x), c.conj_physical()]",
    "r = [c.conj().tolist(), c.conj()[0, 0].item(), str(c.conj()), str(c.conj().imag)]",
])  # fmt: skip
def test_conjugates(text):
    same(text, eager=True)


@several("text", [
    f"{how}; y.data = {new}; {then}" for how in ("pass", "y = w * w") for new in (
        "torch.ones(5)", "torch.ones(2, 2, 3)",
        "torch.ones(2, 3, dtype=torch.float64)", "torch.ones(())")
    for then in ("y.sum().backward(); r = [y, w.grad]", "r = [y, y.is_leaf, y.grad_fn is None]")] + [
    "v = y[0]; y.data = torch.zeros(5); v.sum().backward(); r = [w.grad, y.shape, v]",
    "z = torch.zeros(5); y.data = z; z.add_(1); y.mul_(2); r = [y, z]",
    "y.data = torch.zeros(2, 3, dtype=torch.int64)",
    "y.set_(torch.zeros(5)); r = y",
])  # fmt: skip
def test_data_of_another_shape_in_a_history(text):
    tracegrad.clear_caches()  # no cut may be known: behind one, the op that an error names is known no longer
    same(text, eager="sum().backward" not in text)  # nor is it there


TURNS = ["t_()", "unsqueeze_(0)", "transpose_(0, 1)", "swapaxes_(0, 1)", "squeeze_()"]


@several("turn", TURNS)
@several("other", ["x[0]", "x.detach()", "x.view(-1)", "x.data", "x[:, 1].detach()"])
def test_a_change_of_shape_is_of_this_tensor_alone(turn, other):
    same(f"""
o = {other}; u = o[:1]
x.{turn}; x.add_(1); o.mul_(3); u.sub_(1)
r = [x, o, u, x.shape, o.shape, x._version, x._base, x._is_view(), x.stride(), o.stride(), x.storage_offset(),
     x.data_ptr() == o.data_ptr(), x.is_contiguous()]
v = x[0]; v.zero_(); r += [x, o, v]
""", eager=True)
    same(f"""
x = w * torch.arange(6.0).reshape(2, 3); o = {other}
x.{turn}; x.mul_(2); o.mul_(3) if o.requires_grad else o.add_(1)
(x * x).sum().backward(); r = [x, o, w.grad, x._base, x.is_leaf]
""")


@several("text", [
    "v = x[0]; v.unsqueeze_(0); v.add_(1); r = [x, v, v.shape, x._version, v.stride()]",
    "v = y[0]; v.unsqueeze_(0); v.mul_(3); (y * y).sum().backward(); r = [y, v, w.grad, v._base is y]",
    "v = w[0]; d = w.detach()\nwith torch.no_grad(): w.t_()\nw.data.add_(1)\n"
    "r = [w, v, d, w.is_leaf, w.shape, w.stride()]",
    "a, b = x.unbind(); a.unsqueeze_(0); a.add_(1); r = [a, b, x]", "a, b = y.unbind(); a.unsqueeze_(0)",
    "a = torch.ones(3).expand(2, 3); b = a[0]; a.t_(); r = [a, a.stride(), b]",
    "v = x.t(); x.t_(); del x; v.add_(1); r = v", "w[0].unsqueeze_(0)", "v = w.detach(); w.t_()",
    "o = x[1:]; x.squeeze_(0); r = [x, o, x._version]", "o = x[0]; x.transpose_(0, 7)",
    "o = x[0]; x.t_(); x.t_(); x.mul_(2); r = [x, o, o._base is x]", "o = x[0]; x.t_(); r = o._base is x",
    "o = x[0]; x.t_().unsqueeze_(1).squeeze_(1).t_(); x += 1; r = [o, x, x.is_contiguous()]",
    "d = x.detach(); x.t_(); e = x.detach(); e.add_(1); d.mul_(2); r = [x, d, e]",
    "p = torch.nn.Parameter(x)\nwith torch.no_grad(): p.t_()\np.sum().backward(); x.add_(1); r = [p, x, p.grad]",
])  # fmt: skip
def test_changes_of_shape(text):
    same(text, eager=True)


def test_a_tensor_alone_turns_as_well():
    same("x.t_(); r = [x, x.stride(), x.is_contiguous(), x._base, x._version]; x.add_(1); x.t_(); r += [x, x.stride()]"
         "; x.t_(); x.view(-1)", eager=True)  # fmt: skip
    same("y.t_(); y.mul_(3); y.unsqueeze_(0); y[0, 0].mul_(2); (y * y).sum().backward(); r = [y, w.grad, y._version]",
         eager=True)  # fmt: skip


@several("text", [
    "import copy; r = copy.deepcopy([c, c.conj(), c.mH])", "import copy; r = copy.deepcopy([x.view(torch.int32)])",
    "import copy; r = copy.deepcopy([c, c.real, c.imag]); r[0].mul_(1j)",
    "import copy; r = copy.deepcopy([x, x.view(torch.int32), x.view(torch.int16)]); r[0].mul_(2)",
    "import pickle; r = pickle.loads(pickle.dumps([c, c.conj(), x, x.view(torch.int32), c.real]))",
    "import io; b = io.BytesIO(); torch.save([c, c.conj(), c.mH], b); b.seek(0); r = torch.load(b)"
    "; r += [r[1].is_conj()]"
    "; r[0].mul_(2)",
    "import io; b = io.BytesIO(); torch.save([c.conj().imag], b); b.seek(0); r = torch.load(b); r += [r[0].is_neg()]",
    "import io; b = io.BytesIO(); torch.save([x, x.view(torch.int32)], b)",
    "import copy; o = x[0]; x.t_(); r = copy.deepcopy([x, o]); r += [r[0].stride()]; r[0].add_(1)",
    "r = [c.conj().as_strided((2,), (1,), 1), c.real.as_strided((2,), (2,)), c.conj().imag.as_strided((2,), (2,))]",
    "x.t_(); r = x.as_strided((2,), (1,), 1)", "c.real.as_strided((2,), (2,)).zero_(); r = c",
])  # fmt: skip
def test_copies_keep_what_is_shared(text):
    same(text)
