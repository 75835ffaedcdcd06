"""Samples of the ops of linear algebra that are functions of ``torch`` itself; `test_linalg.py` has the others."""

# ruff: noqa: E501 (a table: one op a line)
from __future__ import annotations

import numpy as np
from samples import COMPOSED, c, f, f32, i, kink, register, s


def positive(n: int) -> np.ndarray:
    a = f(n, n)
    return np.asarray(a @ a.T + np.eye(n))


register("det slogdet logdet inverse", lambda: [s(positive(3)), s(np.stack([positive(2), positive(2)])), s(f(2, 3)), s(f(3)), s(i(2, 2)), s(f32(2, 2).astype(np.float16))])
register("det inverse matrix_exp", lambda: [s(c(2, 2)), s(f(0, 3, 3))])
register("matrix_exp", lambda: [s(f(2, 2)), s(f(2, 2, 2)), s(f(2, 3)), s(i(2, 2))])
register("matrix_power", lambda: [s(f(2, 2), 0), s(f(2, 2), 3), s(positive(2), -2), s(i(2, 2), 2), s(f(2, 3), 2)])
# Gradients that are full matrices although one triangle is read, as PyTorch's are, are none of the function of n * n numbers.
register("cholesky", lambda: [kink(positive(3)), kink(positive(2), True), s(f(2, 3))])
register("cholesky_inverse", lambda: [kink(np.tril(positive(3))), kink(np.triu(positive(2)), True), s(f(2, 3))])
register("cholesky_solve", lambda: [kink(f(3, 2), np.tril(positive(3))), kink(f(2, 1), np.triu(positive(2)), True), s(f(3, 1), positive(2))])
register("qr", lambda: [s(f(3, 2)), s(f(2, 2)), s(f(3)), s(i(2, 2))])
register("svd", lambda: [kink(f(3, 2), True, False), s(f(3)), s(i(2, 2))])
register("pinverse", lambda: [s(f(3, 2)), s(f(2, 3)), s(f(3))])
COMPOSED |= {"matrix_power", "logdet", "pinverse", "inverse", "svd"}
