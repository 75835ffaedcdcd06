"""`tracegrad.linalg` against PyTorch: values, gradients of functions that no gauge changes, texts, errors."""

# ruff: noqa: E501 (tables: one case a line)
from __future__ import annotations

import numpy as np
import pytest

import tracegrad

RNG = np.random.default_rng(5)


def normal(*shape, dtype="float64"):
    a = RNG.normal(size=shape)
    return (a + 1j * RNG.normal(size=shape)).astype(dtype) if dtype.startswith("complex") else a.astype(dtype)


SQUARE, BATCH, TALL, WIDE = normal(3, 3), normal(2, 3, 3), normal(4, 3), normal(2, 3, 5)
COMPLEX = normal(3, 3, dtype="complex128")
POSITIVE = BATCH @ np.swapaxes(BATCH, -1, -2) + np.eye(3)
HERMITIAN = COMPLEX @ COMPLEX.conj().T + np.eye(3)
SQUARES = {"matrix": SQUARE, "batch": BATCH, "complex": COMPLEX}

#: what is computed of ``x`` -> the arrays it is compared on; `t` makes a tensor, `L` is ``torch.linalg``
SAME = {
    "L.inv(x)": SQUARES,
    "L.inv_ex(x)": SQUARES,
    "torch.inverse(x)": SQUARES,
    "L.det(x)": SQUARES,
    "x.det()": {"singular": np.ones((3, 3)), "one": normal(1, 1), "four": normal(4, 4)},
    "L.slogdet(x)": SQUARES,
    "torch.slogdet(x)": {"batch": BATCH},
    "torch.logdet(x)": {"positive": POSITIVE},
    "L.solve(x, t(B3))": {"matrix": SQUARE, "batch": BATCH},
    "L.solve(x, t(B3).to(x.dtype))": {"complex": COMPLEX},
    "L.solve(x, t(B3)[:, 0])": {"matrix": SQUARE},
    "L.solve(x, t(B3).mT, left=False)": {"matrix": SQUARE},
    "L.solve(t(POSITIVE), x)": {"vectors": normal(2, 3), "matrices": normal(2, 3, 4)},
    "L.solve_ex(x, t(B3))": {"matrix": SQUARE},
    "L.solve_triangular(x, t(B3), upper=True)": {"matrix": SQUARE, "batch": BATCH},
    "L.solve_triangular(x, t(B3).mT, upper=False, left=False, unitriangular=True)": {"matrix": SQUARE},
    "L.lu(x)": {"matrix": SQUARE, "batch": BATCH, "tall": TALL, "wide": WIDE},
    "L.lu_factor(x)": {"matrix": SQUARE, "batch": BATCH},
    "L.lu_factor_ex(x)": {"matrix": SQUARE},
    "L.lu_solve(*L.lu_factor(x), t(B3))": {"matrix": SQUARE, "batch": BATCH},
    "L.lu_solve(*L.lu_factor(x), t(B3).mT, left=False)": {"matrix": SQUARE},
    "L.lu_solve(*L.lu_factor(x), t(B3).to(x.dtype), adjoint=True)": {"matrix": SQUARE, "complex": COMPLEX},
    "L.lu_solve(*L.lu_factor(x), t(B3).mT.to(x.dtype), left=False, adjoint=True)": {"complex": COMPLEX},
    "L.tensorinv(x.reshape(1, 3, 3), ind=2)": {"matrix": SQUARE},
    "L.tensorsolve(x.reshape(3, 1, 3), t(B3)[:, :1])": {"matrix": SQUARE},
    "L.cholesky(x)": {"batch": POSITIVE, "hermitian": HERMITIAN},
    "L.cholesky(x, upper=True)": {"batch": POSITIVE, "hermitian": HERMITIAN},
    "L.cholesky_ex(x)": {"batch": POSITIVE},
    "L.cholesky_ex(x).info": {"not positive": np.stack([np.eye(3), np.diag([1.0, 1.0, -1.0])])},
    "torch.cholesky(x)": {"batch": POSITIVE},
    "torch.cholesky_solve(t(B3), L.cholesky(x))": {"batch": POSITIVE},
    "torch.cholesky_inverse(x, upper=True)": {"matrix": SQUARE, "batch": BATCH},
    "L.qr(x)": {"tall": TALL, "wide": WIDE, "matrix": SQUARE, "complex": COMPLEX},
    "L.qr(x.detach(), 'complete')": {"tall": TALL, "wide": WIDE},
    "L.qr(x.detach(), 'r')": {"tall": TALL},
    "torch.qr(x)": {"tall": TALL},
    "L.householder_product(x, t(B3)[0])": {"tall": normal(4, 3)},
    "L.svdvals(x)": {"tall": TALL, "wide": WIDE, "complex": COMPLEX, "repeated": np.eye(3)},
    "gauge(L.svd(x, full_matrices=False))": {"tall": TALL, "wide": WIDE, "complex": COMPLEX},
    "gauge(L.svd(x))": {"tall": TALL, "wide": WIDE},
    "torch.svd(x, compute_uv=False)": {"tall": TALL},
    "torch.svd(x).S": {"tall": TALL},
    "L.eigvalsh(x)": {"batch": POSITIVE, "hermitian": HERMITIAN, "any": SQUARE, "repeated": np.eye(3)},
    "L.eigvalsh(x, UPLO='U')": {"any": SQUARE},
    "L.eigh(x).eigenvalues": {"batch": POSITIVE, "repeated": np.eye(3)},
    "spectral(*L.eigh(x))": {"batch": POSITIVE, "hermitian": HERMITIAN, "any": SQUARE},
    "sums(L.eigvals(x))": {"matrix": SQUARE, "batch": BATCH, "complex": COMPLEX},
    "spectral_of(*L.eig(x))": {"matrix": SQUARE, "complex": COMPLEX},
    "L.pinv(x)": {"tall": TALL, "wide": WIDE, "complex": COMPLEX},
    "L.pinv(x, rtol=1e-3)": {"tall": TALL},
    "L.pinv(x, atol=1e-3)": {"wide": WIDE},
    "L.pinv(x.detach(), atol=0.5, rtol=0.5)": {"tall": TALL, "zero": np.zeros((2, 3))},
    "L.pinv(x, hermitian=True)": {"batch": POSITIVE},
    "torch.pinverse(x)": {"tall": TALL},
    "L.matrix_rank(x)": {"tall": TALL, "ones": np.ones((3, 3)), "zeros": np.zeros((2, 2)), "batch": BATCH},
    "L.matrix_rank(x, hermitian=True)": {"ones": np.ones((3, 3))},
    "L.matrix_rank(x, atol=1.0)": {"tall": TALL},
    "L.matrix_rank(x, 1.0)": {"tall": TALL},
    "L.lstsq(x, t(B4)).solution": {"tall": TALL},
    "L.lstsq(x.detach(), t(B4))": {"tall": TALL},
    "L.lstsq(x.detach(), t(B4), driver='gelsd').singular_values": {"tall": TALL},
    "L.lstsq(x.detach(), t(B4), driver='gelsd').residuals": {"tall": TALL},
    "L.lstsq(x, t(B3)).solution": {"wide": WIDE[0]},
    "L.matrix_power(x, 0)": {"matrix": SQUARE},
    "L.matrix_power(x, 1)": {"matrix": SQUARE},
    "L.matrix_power(x, 5)": {"matrix": SQUARE, "batch": BATCH},
    "L.matrix_power(x, -2)": {"matrix": SQUARE},
    "x.long().matrix_power(2)": {"integers": np.arange(4.0).reshape(2, 2)},
    "L.matrix_exp(x)": {"matrix": SQUARE, "batch": BATCH, "large": 10 * SQUARE, "complex": COMPLEX},
    "L.multi_dot([x, t(B3), t(B4).mT])": {"matrix": SQUARE, "vector": normal(3)},
    "L.vecdot(x, x.conj() * 2)": {"matrix": SQUARE, "complex": COMPLEX},
    "L.vander(x)": {"vector": normal(3), "zero": np.zeros(2), "matrix": SQUARE},
    "L.vander(x.long(), N=4)": {"vector": np.array([0.0, 1.0, 2.0])},
    "L.cross(x, t(SQUARE) + 1)": {"matrix": SQUARE},
    "L.diagonal(x)": {"batch": BATCH},
    "L.diagonal(x, offset=1, dim1=0, dim2=2)": {"batch": BATCH},
    "L.matmul(x, x)": {"batch": BATCH},
    **{f"L.norm(x, {p})": {"vector": normal(4), "matrix": SQUARE} for p in ("2", "1", "-1", "torch.inf", "-torch.inf")},
    **{f"L.norm(x, {p})": {"matrix": SQUARE, "tall": TALL} for p in ("None", "'fro'", "'nuc'", "-2")},
    "L.norm(x, 3, dim=1)": {"matrix": SQUARE},
    "L.norm(x, 1, dim=(0, 2), keepdim=True)": {"batch": BATCH},
    "L.norm(x)": {"zeros": np.zeros((2, 2)), "batch": BATCH},
    "L.vector_norm(x.detach(), 0)": {"vector": np.array([1.0, 0.0, 2.0])},
    "L.vector_norm(x, 2.5, dim=(0, 1))": {"batch": BATCH},
    "L.vector_norm(x.float(), dtype=torch.float64)": {"vector": normal(3)},
    "L.matrix_norm(x, 'nuc', dim=(0, 2), keepdim=True)": {"batch": BATCH},
    "L.matrix_norm(x, -2)": {"wide": WIDE},
    "L.matrix_norm(x, -torch.inf)": {"wide": WIDE},
    "L.cond(x, -2)": {"matrix": SQUARE},
    "L.cond(x)": {"matrix": SQUARE, "batch": BATCH, "singular": np.diag([1.0, 0.0])},
    **{f"L.cond(x.detach(), {p})": {"matrix": SQUARE} for p in ("1", "-1", "torch.inf", "'fro'", "'nuc'")},
    "L.cond(x.detach(), 1)": {"singular": np.zeros((2, 2))},
}  # fmt: skip

B3, B4 = normal(3, 2), normal(4, 2)


def scope(torch):
    def gauge(factors):
        u, s, vh = factors
        k = s.shape[-1]
        u, vh = u[..., :k], vh[..., :k, :]
        return u @ (s[..., :, None] * vh), s, (u * s[..., None, :].to(u.dtype)) @ u.mH

    def spectral(values, vectors):
        return values, (vectors * (values**2)[..., None, :].to(vectors.dtype)) @ vectors.mH

    def spectral_of(values, vectors):
        return sums(values), (vectors * (values**2)[..., None, :]) @ torch.linalg.inv(vectors)

    def sums(values):
        return [(values**k).sum(-1) for k in (1, 2, 3)]

    return {"torch": torch, "L": torch.linalg, "t": lambda a: torch.tensor(a), "B3": B3, "B4": B4, "SQUARE": SQUARE,
            "POSITIVE": POSITIVE, "gauge": gauge, "spectral": spectral, "sums": sums, "spectral_of": spectral_of}  # fmt: skip


def flat(out):
    return [y for x in out for y in flat(x)] if isinstance(out, (tuple, list)) else [out]


def weights(shape, dtype):
    a = np.random.default_rng(3).normal(size=tuple(shape))
    return a + 0.5j * np.random.default_rng(4).normal(size=tuple(shape)) if "complex" in str(dtype) else a


def run(torch, source, array, twice):
    x = torch.tensor(array, requires_grad=True)
    outs = flat(eval(source, {**scope(torch), "x": x}))  # noqa: S307
    loss = 0.0
    for out in outs:
        if out.requires_grad:
            term = (out * torch.tensor(weights(out.shape, out.dtype)).to(out.dtype)).sum()
            loss = loss + (term.real if "complex" in str(out.dtype) else term)
    grads = []
    if isinstance(loss, float):
        return outs, grads
    grads.append(torch.autograd.grad(loss, x, create_graph=twice)[0])
    if twice and grads[0].requires_grad:
        total = (grads[0] * torch.tensor(weights(array.shape, grads[0].dtype)).to(grads[0].dtype)).sum()
        grads.append(torch.autograd.grad(total.real if "complex" in str(total.dtype) else total, x)[0])
    return outs, grads


def as_numpy(x):
    return np.asarray(x.detach().clone().resolve_conj() if hasattr(x, "resolve_conj") else x.detach())


#: Ops whose second derivative is compared too.
TWICE = ("L.inv(x)", "L.det(x)", "L.slogdet(x)", "L.solve(x, t(B3))", "L.cholesky(x)", "L.qr(x)", "L.svdvals(x)",
         "gauge(L.svd(x, full_matrices=False))", "spectral(*L.eigh(x))", "L.pinv(x)", "L.matrix_power(x, 5)")  # fmt: skip
#: Functions of Hermitian matrices: the other part of their gradients has no meaning, and others distribute it otherwise.
OF_HERMITIAN = ("eigh", "eigvalsh", "L.cholesky", "hermitian=True")
CASES = [(source, name) for source, arrays in SAME.items() for name in arrays]


@pytest.mark.oracle
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("source", "name"), CASES)
def test_matches_pytorch(source, name):
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle: pip install -e .[oracle]")
    array = SAME[source][name]
    twice = name in ("matrix", "tall", "hermitian") and source in TWICE
    mine, theirs = run(tracegrad, source, array, twice), run(torch, source, array, twice)
    for what, ours, expected in zip(("value", "gradient"), mine, theirs):
        assert len(ours) == len(expected), what
        for i, (a, b) in enumerate(zip(ours, expected)):
            assert (str(a.dtype), tuple(a.shape)) == (str(b.dtype), tuple(b.shape)), (what, i)
            a_, b_ = as_numpy(a), as_numpy(b)
            if what == "gradient" and any(part in source for part in OF_HERMITIAN):
                a_, b_ = (g + np.conj(np.swapaxes(g, -1, -2)) for g in (a_, b_))
            np.testing.assert_allclose(a_, b_, 1e-8, 1e-8, err_msg=f"{what} {i}")
            if what == "value":
                assert a.requires_grad == b.requires_grad, i


@pytest.mark.oracle
@pytest.mark.parametrize(
    "source",
    ["L.svd(t(I))", "L.eigh(t(I))", "L.eig(t(I))", "L.slogdet(t(I))", "torch.slogdet(t(I))", "L.lu(t(I))", "L.inv_ex(t(I))",
     "L.cholesky_ex(t(I))", "L.lu_factor(t(I))", "L.lu_factor_ex(t(I))", "L.lstsq(t(I), t(I))", "L.solve_ex(t(I), t(I))",
     "torch.svd(t(I))"],
)  # fmt: skip
def test_results_print_as_pytorchs(source):
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle: pip install -e .[oracle]")
    texts = [repr(eval(source, {**scope(lib), "I": np.diag([2.0, 1.0])})) for lib in (tracegrad, torch)]  # noqa: S307
    assert texts[0] == texts[1]


REFUSED = """
L.inv(torch.zeros(3, 3)) | L.inv(torch.stack([torch.eye(2), torch.zeros(2, 2)])) | torch.inverse(torch.zeros(2, 2))
L.inv(torch.ones(2, 3)) | L.inv(torch.ones(3)) | L.inv(torch.ones(2, 2).long()) | L.inv(torch.ones(2, 2).half())
L.inv(torch.ones(2, 2)) | L.inv_ex(torch.ones(2, 2), check_errors=True) | L.matrix_power(torch.zeros(2, 2), -1)
L.solve(torch.zeros(3, 3), torch.ones(3)) | L.solve(torch.eye(2), torch.ones(3)) | L.solve(torch.eye(2), torch.ones(3, 2))
L.solve(torch.ones(2, 3), torch.ones(2)) | L.solve(torch.eye(2), torch.ones(2).double())
L.cholesky(-torch.eye(3)) | L.cholesky(torch.stack([torch.eye(2), -torch.eye(2)])) | torch.cholesky(-torch.eye(2))
L.cholesky(torch.tensor([[1.0, 2.0, 0.0], [2.0, 1.0, 0.0], [0.0, 0.0, 1.0]])) | L.cholesky(torch.ones(2, 3))
L.cholesky(torch.full((2, 2), torch.nan)) | L.cholesky_ex(-torch.eye(2), check_errors=True)
L.cholesky(torch.diag(torch.tensor([1.0, 1.0, 1.0, 1.0, -1.0, 1.0, -1.0])))
L.lu_factor(torch.zeros(2, 2)) | L.lu(torch.ones(3)) | L.lu(torch.ones(2, 2), pivot=False) | L.lu(torch.ones(2, 2).long())
torch.cholesky_inverse(torch.zeros(2, 2)) | torch.cholesky_solve(torch.ones(3, 1), torch.eye(2))
L.svd(torch.full((2, 2), torch.nan)) | L.pinv(torch.full((2, 2), torch.nan)) | L.eig(torch.full((2, 2), torch.nan))
L.svd(torch.ones(3)) | L.svd(torch.ones(2, 2).long()) | L.svd(torch.ones(2, 2), driver="gesvd") | torch.svd(torch.ones(2))
L.eigh(torch.ones(2, 2), UPLO="x") | L.eigh(torch.ones(2, 3)) | L.eigh(torch.ones(2, 2).long()) | L.eig(torch.ones(2, 2).long())
L.qr(torch.ones(2, 2), mode="x") | L.qr(torch.ones(2)) | L.qr(torch.ones(2, 2).half())
L.cond(torch.eye(2), 5) | L.cond(torch.ones(2)) | L.matrix_norm(torch.eye(2), "x") | L.matrix_norm(torch.eye(2), 3)
L.matrix_norm(torch.eye(2), 2, dim=(0, 0)) | L.matrix_norm(torch.ones(2)) | L.matrix_norm(torch.eye(2).long())
L.norm(torch.eye(2), "fro", dim=0) | L.norm(torch.ones(2, 2, 2), "fro") | L.norm(torch.ones(2, 2, 2), 2, dim=(0, 1, 2))
L.norm(torch.ones(2, 2, 2), 2) | L.vector_norm(torch.ones(2), dtype=torch.complex64) | L.vector_norm(torch.ones(0), torch.inf) | L.vector_norm(torch.eye(2).long())
L.multi_dot([torch.eye(2)]) | L.multi_dot([torch.eye(2), torch.ones(2, 3), torch.eye(2)]) | L.multi_dot([torch.eye(2), torch.ones(2, 2, 2)])
L.vecdot(torch.ones(2).long(), torch.ones(2).long()) | L.cross(torch.ones(2), torch.ones(2)) | L.lstsq(torch.eye(2), torch.ones(3, 2))
L.tensorinv(torch.eye(6).reshape(2, 3, 2, 3), ind=1) | L.tensorsolve(torch.eye(6).reshape(2, 3, 6), torch.ones(2, 2))
L.lu_solve(torch.eye(2), torch.tensor([1, 2]), torch.eye(2)) | L.vander(torch.ones(2).half()) | L.det(torch.ones(2, 3))
L.slogdet(torch.ones(2, 2).half()) | torch.logdet(torch.ones(2, 3)) | L.matrix_exp(torch.ones(2)) | L.matrix_rank(torch.ones(2))
L.solve_triangular(torch.ones(2, 3), torch.ones(2, 1), upper=True) | L.householder_product(torch.ones(2, 3), torch.ones(3))
"""
REFUSED = [s.strip() for line in REFUSED.strip().splitlines() for s in line.split(" | ")]


def refusal(torch, source):
    try:
        for x in flat(eval(source, {"torch": torch, "L": torch.linalg})):  # noqa: S307
            x.tolist()
    except Exception as error:
        return error
    return None


@pytest.mark.oracle
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("source", REFUSED)
def test_errors_are_pytorchs(source):
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle: pip install -e .[oracle]")
    mine, theirs = refusal(tracegrad, source), refusal(torch, source)
    assert str(mine) == str(theirs)
    assert isinstance(mine, tracegrad.linalg.LinAlgError) == isinstance(theirs, torch.linalg.LinAlgError)
    assert type(mine).__name__.lstrip("_") == type(theirs).__name__.lstrip("_")


def test_backwards_that_have_no_derivative_are_refused():
    for mode in ("complete", "r"):
        q, r = tracegrad.linalg.qr(tracegrad.ones(3, 2, requires_grad=True), mode)
        with pytest.raises(RuntimeError, match="linalg_qr"):
            r.sum().backward()


def test_out():
    out = tracegrad.empty(2, 2)
    assert tracegrad.linalg.inv(2 * tracegrad.eye(2), out=out) is out
    assert out.tolist() == [[0.5, 0.0], [0.0, 0.5]]
