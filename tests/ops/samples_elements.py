"""Samples of ops that pick, place, count and rank elements; see `samples`."""

# ruff: noqa: E501 (a table: one op a line)
from __future__ import annotations

import numpy as np
from samples import COMPOSED, Dtype, b, below, c, const, f, f32, i, i1, kink, pos, register, s

I64 = np.array
nan = float("nan")

# -- writing --

_REDUCTIONS = ("sum", "prod", "mean", "amax", "amin")
register("scatter_reduce", lambda: [
    *[s(f(2, 3), 1, below(3, 2, 3), f(2, 3), r) for r in _REDUCTIONS],
    *[s(f(3, 2), 0, below(3, 4, 2), f(4, 2), r, include_self=False) for r in _REDUCTIONS],
    *[s(f(3), 0, I64([0, 0, 2]), I64([0.0, 2.0, 3.0]), r) for r in ("prod", "mean")],
    kink(np.ones(2), 0, I64([0, 0]), np.ones(2), "amax"), kink(I64([0.0, 2.0]), 0, I64([0, 0]), I64([0.0, 3.0]), "prod"),
    s(i(3), 0, I64([0, 0, 1]), i(3), "mean"), s(f(), 0, I64(0), f(), "sum"), s(f(2), 0, I64([0]), f(1), "max"),
    s(f(2), 0, I64([0]), f32(1), "sum"), s(f(2), 0, I64([[0]]), f(1), "sum"), s(f(2), 0, f(2), f(2), "sum"),
    s(i(3), 0, I64([0, 0]), i(2), "amin", include_self=False), s(f(0), 0, below(3, 0), f(0), "sum")])  # fmt: skip
register("index_reduce", lambda: [*[s(f(3, 2), 0, I64([0, 2, 0]), f(3, 2), r) for r in ("prod", "mean", "amax", "amin")],
                                  *[s(f(2, 3), 1, I64([0, 2, 0]), f(2, 3), r, include_self=False) for r in ("prod", "mean", "amax")],
                                  s(f(3), 0, I64([1]), f(1), "sum"), s(f(3), 0, I64([[1]]), f(1), "prod")])  # fmt: skip
register("index_copy", lambda: [s(f(3, 2), 0, I64([2, 0]), f(2, 2)), s(f(2, 3), 1, I64([1]), f(2, 1)), s(f(3), 0, I64(1), f()),
                                s(f(3), 0, I64([1]), f32(1)), s(f(3), 0, I64([1, 0]), f(1)), s(f(3, 2), 0, I64([0]), f(1, 3)), s(f(), 0, I64([0]), f(1))])  # fmt: skip
register("put", lambda: [s(f(2, 3), I64([0, 5, -2]), f(3)), s(f(2, 3), I64([1, 1]), f(2), True), s(f(2), I64([0]), f32(1)), s(f(2), I64([0]), f(2))])
register("select_scatter", lambda: [s(f(2, 3), f(3), 0, 1), s(f(2, 3), f(2), -1, -1), s(f(2, 3), f(2), 0, 1), s(f(2), f(), 0, 5)])
register("slice_scatter", lambda: [s(f(4, 2), f(2, 2), 0, 1, 3), s(f(2, 4), f(2, 2), 1, 0, None, 2), s(f(4), f(4)), s(f(4), f(3), 0, 2), s(f(4), f(1), 0, -1)])
register("diagonal_scatter", lambda: [s(f(3, 3), f(3)), s(f(2, 4), f(2), 1), s(f(2, 3, 3), f(2, 2), -1, 1, 2), s(f(3, 3), f(2))])
register("as_strided_scatter", lambda: [s(const(f(2, 3)), f(2, 2), (2, 2), (3, 1)), s(const(f(6)), f(2), (2,), (2,), 1), s(f(3), f(2, 2), (2, 2), (2, 2))])
register("diagflat", lambda: [s(f(3)), s(f(2, 2), 1), s(f(), -1)])
register("index_add", lambda: [s(f(2, 3), 1, I64([2, 2]), f(2, 2), alpha=2.0), s(f(), 0, I64([0]), f(1)), s(f(3), 0, I64([0]), f32(1)), s(i(3), 0, I64([0, 0]), i(2))])
register("index_fill", lambda: [s(f(2, 3), -1, I64([0, 2]), np.asarray(2.0)), s(f(3), 0, I64([[0]]), 1.0), s(i(3), 0, I64([1]), 2), s(f(), 0, I64([0]), 1.5)])
register("masked_fill", lambda: [s(f(), b(), 1.0), s(f(2, 1), b(3), 2.0), s(c(2), b(2), 1 + 2j), s(f(2), b(2), 1 + 2j), s(f(0, 3), b(3), 1.0)])
register("scatter", lambda: [s(f(3), 0, I64([0, 0, 1]), f(3), reduce="add"), s(f(2, 3), 1, I64([[0], [2]]), 2.0, reduce="multiply"), s(f(3), 0, I64([1]), value=2.0),
                             s(f(), 0, I64(0), f()), s(i(3), 0, I64([0]), 1), s(f(3), 0, f(1), 1.0), s(f(3), 0, I64([0]), f32(1)), s(f(2, 2), 0, I64([0]), f(1))])  # fmt: skip
register("take", lambda: [s(f(2, 3), I64([[0, 5], [-1, 2]])), s(f(), I64([0])), s(f(3), I64(1)), s(f(3), f(2)), s(i(3), I64([0]))])
register("gather", lambda: [s(f(), 0, I64(0)), s(f(2, 3), -1, below(3, 1, 2)), s(c(2, 3), 1, below(3, 2, 2)), s(i(3), 0, I64([2, 2]))])
register("index_select", lambda: [s(f(), 0, I64([0])), s(f(2, 3), 1, below(3, 0)), s(c(3), 0, I64([1, 1])), s(f(3), 0, I64(1)), s(f(3), 0, f(1))])

# -- counting --

register("bincount", lambda: [s(below(4, 6)), s(below(3, 4), f32(4)), s(below(3, 4), f(4)), s(below(3, 4), None, 5), s(below(3, 0)), s(f(2)), s(i(3) - 9), s(below(2, 2, 2)), s(below(3, 4), i(4)), s(below(3, 2), minlength=-1)])
register("histc", lambda: [s(f(9), 4), s(f(2, 5), 3, -1.0, 1.0), s(np.ones(3), 3), s(f32(5), 4, 0, 2), s(i(4), 3), s(f(3), 0), s(f(3), 3, 2, 1), s(f(0), 3)])
register("histogram", lambda: [s(f(9), 4), s(f(5), 3, range=(-1.0, 1.0)), s(f(6), I64([-2.0, 0.0, 0.5, 3.0])), s(f(4), 3, weight=pos(4)), s(f(6), 4, density=True), s(i(3), 2)])
register("searchsorted", lambda: [s(np.sort(f(5)), f(2, 3)), s(np.sort(f(2, 4), -1), f(2, 3)), s(np.sort(f(5)), 0.5), s(np.sort(i(5)), i(4), right=True), s(np.sort(i(5)), i(4), side="right", out_int32=True),
                                  s(I64([3.0, 1.0, 2.0]), f(2), sorter=I64([1, 2, 0])), s(np.sort(f(4)), f32(2)), s(np.sort(f(2, 4), -1), f(3, 3)), s(np.sort(f(2, 4), -1), 1.0), s(np.sort(f(3)), f(2), side="left", right=True), s(np.sort(f(3)), f(2), side="up"), s(np.sort(f(3)), f())])  # fmt: skip
register("bucketize", lambda: [s(f(2, 3), np.sort(f(4))), s(i(3), np.sort(i(4)), right=True), s(0.3, np.sort(f(4)), out_int32=True), s(f(2), np.sort(f(2, 2), -1))])
register("isin", lambda: [s(i(2, 3), i(4)), s(i(4), i(3), invert=True), s(i(4), 2), s(2, i(4)), s(f(3), f(2)), s(i(3), f(3)), s(i(3), below(3, 0)), s(b(2), b(2))])
register("unique", lambda: [s(i(6)), s(i(2, 4), return_inverse=True), s(i(6), return_counts=True), s(below(2, 5, 2), dim=0, return_inverse=True, return_counts=True), s(below(2, 2, 5), dim=1), s(const(f(3))), s(b(4)), s(i(0)), s(i())])
register("unique_consecutive", lambda: [s(below(2, 6)), s(below(2, 2, 4), return_inverse=True), s(below(2, 6), return_counts=True), s(below(2, 5, 2), dim=0, return_inverse=True, return_counts=True), s(i(0)), s(const(f(2)))])
register("unravel_index", lambda: [s(below(6, 4), (2, 3)), s(I64(5), (2, 3)), s(below(6, 2, 2), 6), s(f(2), (2,)), s(below(2, 1), (-2,))])
register("count_nonzero", lambda: [s(f(2, 3), (0, 1)), s(b(3)), s(f()), s(f(2), 3)])

# -- ranking and running --

register("cummax cummin", lambda: [s(f(5), 0), s(f(2, 3), 1), s(i(6), 0), s(f(), 0), s(I64([1.0, nan, 0.5, nan]), 0), s(b(4), 0), s(f(0), 0), s(f(2), 2), kink(I64([1.0, 3.0, 3.0, 2.0]), 0)])
register("nanmedian", lambda: [s(I64([1.0, nan, 3.0, 2.0])), s(I64([[1.0, nan, 3.0], [nan, nan, 0.5]]), 1), s(f(4)), s(f(2, 3), 0, True), s(I64([nan, nan])), s(i(3))])
register("median", lambda: [s(I64([1.0, nan, 3.0])), s(I64([[1.0, nan], [2.0, 0.5]]), 1), s(i(5)), s(f(0)), s(b(3)), s(f(2, 0), 1)])
register("quantile nanquantile", lambda: [s(f(5), 0.3), s(f(2, 4), const(I64([0.0, 0.25, 1.0])), 1), s(f(2, 4), 0.5, 0, True), s(f(5), I64([0.1, 0.9]), 0, True), s(f(4), 0.6, interpolation="lower"),
         s(f(4), 0.6, interpolation="higher"), s(f(4), 0.6, interpolation="midpoint"), s(f(4), 0.6, interpolation="nearest"), s(I64([1.0, nan, 3.0]), 0.5), s(I64([[1.0, nan, 3.0], [nan, nan, nan]]), 0.5, 1),
         s(f(2, 2), 0.5, keepdim=True), s(f(3), 1.5), s(f32(4), 0.25), s(f(3), f32(2)), s(i(3), 0.5), s(f(0), 0.5), s(f(3), 0.5, interpolation="up"), kink(f(3), I64(0.5)), s(f(), 0.5)])  # fmt: skip
register("mode", lambda: [s(i(6)), s(below(2, 3, 5), 1), s(below(2, 3, 5), 0, True), s(f(3)), s(f()), s(b(3)), kink(I64([2.0, 1.0, 2.0, 1.0])), s(c(2)), s(f(0))])
register("aminmax", lambda: [s(f(2, 3)), s(f(2, 3), dim=1), s(f(2, 3), dim=0, keepdim=True), s(i(3)), s(f()), s(const(I64([1.0, nan]))), s(f(0)), s(b(3)), kink(I64([1.0, 1.0]))])
register("kthvalue", lambda: [s(f(2, 4), 2, 0, True), s(i(4), 1), s(f(3), 4), s(f(), 1), s(b(3), 1)])
register("topk", lambda: [s(I64([3, -1, 2, 7]), 2), s(b(3), 1), s(f(2, 3), 2, 1, True, False), s(f(3), -1), s(f32(4), 2)])
register("sort argsort", lambda: [s(b(4)), s(f(0)), s(i(2, 3), -1, True), s(c(2)), s(f(2), 3)])

# -- statistics --

register("cov", lambda: [s(f(2, 5)), s(f(5)), s(f(2, 4), correction=0), s(f(2, 4), fweights=i1(4)), s(f(2, 4), aweights=pos(4)), s(f(2, 4), correction=0, fweights=i1(4), aweights=pos(4)), s(c(2, 4)), s(i(2, 4)), s(f(2, 2, 2)), s(b(2, 3)), s(f(2, 4), fweights=f(4)), s(f(2, 4), aweights=i1(4)), s(f(2, 4), fweights=i1(3))])
register("corrcoef", lambda: [s(f(2, 5)), s(f(3, 4)), s(f(4)), s(c(2, 4)), s(f(2, 2, 2))])

# -- calculus --

register("diff", lambda: [s(f(5)), s(f(2, 4), 2), s(f(3, 2), 1, 0), s(f(4), 1, -1, f(1), f(2)), s(b(4)), s(i(4)), s(f(2), 3), s(f()), s(f(3), -1), s(f(3), 0), s(f(2, 2), prepend=f(2))])
register("trapezoid trapz cumulative_trapezoid", lambda: [s(f(4)), s(f(2, 4), dx=0.5), s(f(2, 3), f(3)), s(f(3, 2), f(3, 2), dim=0), s(i(4)), s(f(2, 3), f(2)), s(f(1)), s(f(4), i(4)), s(f(2, 2, 3), f(2, 3)), s(f(2, 2, 3), f(2, 3), dim=1), s(f(3), f())])
register("gradient", lambda: [s(f(5)), s(f(3, 4)), s(f(3, 4), dim=1), s(f(4), spacing=2.0), s(f(3, 4), spacing=[2.0, 0.5]), s(f(4), spacing=[np.sort(f(4))]), s(f(4), edge_order=2), s(f(3, 4), spacing=[np.sort(f(3)), np.sort(f(4))], edge_order=2), s(f(1)), s(f(3), edge_order=3), s(i(4)), s(f(3, 4), dim=(0,))])
register("vander", lambda: [s(const(f(3))), s(const(f(3)), 2), s(const(f(3)), 4, True), s(i(3)), s(f(2, 2)), s(f(3), 0), s(f(3), -1), s(const(c(2)))])

# -- distances and products --

register("cdist", lambda: [s(f(2, 3), f(4, 3)), s(f(2, 2, 3), f(2, 3), 1.0), s(f(2, 3), f(2, 3), 3.0), s(f(2, 3), f(2, 3), float("inf")), s(f(2, 3), f(2, 3), 0.0), s(f(3), f(2, 3)), s(f(2, 3), f(2, 2)), s(i(2, 3), f(2, 3)), s(f(0, 3), f(2, 3)), s(f(2, 0), f(3, 0)), s(f(2, 3), f(2, 3), -1.0)])
register("pdist", lambda: [s(f(3, 2)), s(f(4, 3), 1.0), s(f(3, 2), 3.0), s(f(3, 2), float("inf")), s(f(1, 2)), s(f(3)), s(f(3, 2), -1.0)])
register("dist", lambda: [s(f(3), f(3)), s(f(2, 3), f(3), 1), s(f(3), f(3), 3.0), s(f(2), f(2), float("inf")), s(f(3), f(2)), s(i(2), i(2)), s(c(2), c(2)), s(const(f(2)), const(f(2)), 0)])
register("renorm", lambda: [s(f(3, 2), 2, 0, 1.0), s(f(2, 3), 1, 1, 0.5), s(f(2, 2, 2), 2.0, -1, 1.0), s(f(3), 2, 0, 1.0), s(f(2, 2), 2, 0, -1.0), s(f(2, 2), -1, 0, 1.0), s(f(2, 2), 2, 0, 100.0), s(i(2, 2), 2, 0, 1.0)])
register("pairwise_distance", lambda: [s(f(2, 3), f(2, 3)), s(f(2, 3), f(3), 1.0, 0.0, True), s(f(3), f(3)), s(i(2, 3), i(2, 3))])
register("addr", lambda: [s(f(2, 3), f(2), f(3)), s(f(3), f(2), f(3), beta=0.5, alpha=2.0), s(np.full((2, 2), nan), f(2), f(2), beta=0), s(i(2, 2), i(2), i(2)), s(b(2, 2), b(2), b(2)), s(f(2, 2), f(2, 2), f(2)), s(f(3, 3), f(2), f(3)), s(i(2, 2), i(2), i(2), alpha=0.5)])
register("addbmm", lambda: [s(f(2, 2), f(3, 2, 3), f(3, 3, 2)), s(f(2), f(2, 2, 3), f(2, 3, 2), beta=0.5, alpha=2.0), s(f(2, 2), f(3, 2, 3), f(2, 3, 2)), s(f(2, 2), f(3, 2, 3), f(3, 2, 2)), s(f(2, 2), f(2, 3), f(3, 2, 2)), s(i(2, 2), i(3, 2, 3), i(3, 3, 2)), s(f(3, 3), f(3, 2, 3), f(3, 3, 2))])
register("chain_matmul", lambda: [s(f(2, 3), f(3, 4), f(4, 2)), s(f(2, 3), f(3, 2)), s(f(2, 2)), s(f(5, 2), f(2, 6), f(6, 3), f(3, 2)), s(f(3), f(3, 2))])
register("block_diag", lambda: [s(f(2, 2), f(1, 3)), s(f(2), f(), f(2, 1)), s(i(2), f(2)), s(f(2, 2, 2), f(1))])
register("column_stack row_stack", lambda: [s([f(3), f(3)]), s([f(2, 2), f(2, 2)]), s([f(2), f(2, 3)]), s([f(), f()])])
register("cartesian_prod", lambda: [s(f(2), f(3)), s(f(2)), s(i(2), i(2), i(2)), s(f(2, 2), f(2))])
register("combinations", lambda: [s(f(4)), s(f(3), 2, True), s(f(4), 3), s(f(3), 1), s(f(2), 3), s(f(2, 2)), s(f(2), 0)])
register("pixel_shuffle", lambda: [s(f(1, 4, 2, 3), 2), s(f(9, 1, 2), 3), s(f(3, 2, 2), 2), s(f(4, 2), 2)])
register("pixel_unshuffle", lambda: [s(f(1, 2, 4, 2), 2), s(f(1, 3, 6), 3), s(f(1, 3, 4), 2), s(f(4, 2), 2)])
register("im2col", lambda: [s(f(1, 2, 4, 5), 2), s(f(2, 1, 5, 5), (2, 3), 1, (1, 0), (2, 1)), s(f(2, 4, 4), 2, 2), s(f(1, 1, 2, 2), 3)])
register("col2im", lambda: [s(f(1, 4, 9), (4, 4), 2), s(f(2, 12, 6), (4, 4), (2, 3), 1, (0, 1), (2, 2)), s(f(4, 4), (4, 4), 2, 1, 0, 2), s(f(1, 3, 9), (4, 4), 2), s(f(1, 4, 8), (4, 4), 2)])

# -- numbers --

register("gcd lcm", lambda: [s(i(6), i(6)), s(i1(4), i1(2, 1)), s(i1(2), i1(2).astype(np.int32)), s(f(2), f(2)), s(b(2), b(2))])
register("ldexp", lambda: [s(f(3), i1(3)), s(const(f32(3)), i(3)), s(i(3), i(3)), s(f(2, 1), f(3))])
register("frexp", lambda: [s(f(2, 3) * 9), s(f32(3)), kink(I64([0.0, 8.0, -0.5])), s(i(2))])
register("nextafter", lambda: [s(f(3), f(3)), s(f32(2), f32(2)), s(i(2), i(2))])

# -- parts and choices --

register("split_with_sizes", lambda: [s(f(5, 2), (2, 3)), s(f(2, 4), (1, 3), 1), s(f(4), (1, 1))])
register("unsafe_split", lambda: [s(f(5, 2), 2), s(f(2, 4), 2, 1)])
register("unsafe_chunk", lambda: [s(f(5, 2), 2), s(f(2, 4), 2, 1)])
register("hsplit", lambda: [s(f(4), 2), s(f(2, 4), (1, 3)), s(f(2, 3), 2), s(f(), 1)])
register("vsplit", lambda: [s(f(4, 2), 2), s(f(4, 2), (1,)), s(f(4), 2)])
register("dsplit", lambda: [s(f(1, 2, 4), 2), s(f(2, 2), 2)])
register("where", lambda: [s(b(2, 3)), s(i(4)), s(b())])
register("polar", lambda: [s(pos(2, 3), f(3)), s(f32(2) ** 2, f32(2)), s(f(2), f32(2)), s(i(2), i(2))])
register("norm", lambda: [s(f(3, 2), "nuc"), s(f(2, 3, 2), "nuc", (0, 2)), s(f(2, 3, 3), "nuc", (1, 2), True), s(f(3), "nuc"), s(f(2, 2, 2), "nuc"), s(f(2, 2), "up")])
register("sum_to_size", lambda: [s(f(2, 3), 1, 3), s(f(2, 3), (3,)), s(f(2, 3), 2, 3), s(f(2, 3), 2), s(i(2, 3), 1), s(f(2, 2, 3), (2, 1)), s(b(2, 3), 3), s(b(), ())])
register("as_strided", lambda: [s(f(2, 3), (2, 2), (3, 1)), s(f(6), (2, 2), (1, 1), 1), s(f(3), (), ()), s(f(3), (2, 2), (2, 2)), s(f(3), (2,), (-1,)), s(i(4), (2,), (2,))])

# -- dtypes and sizes at the edge --

register("scatter_reduce", lambda: [s(b(4), 0, I64([0, 1, 1]), b(3), r, include_self=n) for r in _REDUCTIONS for n in (True, False)])
register("scatter_add", lambda: [s(b(4), 0, I64([0, 1, 1]), b(3)), s(f(3), 0, np.zeros(0), f(0))])
register("scatter", lambda: [s(b(4), 0, I64([0, 1, 1]), b(3), reduce=r) for r in ("add", "multiply")])
register("index_add", lambda: [s(b(4), 0, I64([0, 1, 1]), b(3), alpha=True), s(b(4), 0, I64([0]), b(1), alpha=False)])
register("put", lambda: [s(b(2, 2), I64([0, 1]), b(2), True)])
register("gather", lambda: [s(f(5), 0, np.zeros(0)), s(f(5), 0, below(2, 2, 0)), s(f(2, 3), 1, below(3, 2, 0))])
register("matmul", lambda: [s(f(2, 3, 0), f(0, 2)), s(f(0, 2, 3), f(3, 2))])
register("kron", lambda: [s(b(2, 2), b(2, 1)), s(f(2), f(2, 2)), s(f(2), f())])
register("tensordot", lambda: [s(f(1, 1, 1), f(2, 1, 2), dims=([0, 1], [2, 0])), s(f(2, 3), f(1, 2), dims=([0], [0]))])
register("linspace", lambda: [s(4.3, -3, 9, dtype=Dtype("int64"))])
register("logspace", lambda: [s(2, 1.2, 4, 5.0, dtype=Dtype("int64"))])
register("prod", lambda: [s(b(2, 3), 1, dtype=Dtype("bool"), keepdim=True)])
register("sum", lambda: [s(b(2, 3), 1, dtype=Dtype("bool"))])
register("diff", lambda: [s(f(2, 3), 0, 1, f(2, 1), f(2, 2))])
register("gradient", lambda: [s(f(4), spacing=None)])
register("histogram", lambda: [s(const(np.ones(3)), 2), s(const(f()), 1)])
register("searchsorted", lambda: [s(f(0, 0), f(0, 0)), s(f(0), f(2))])
register("unique_consecutive", lambda: [s(i(2, 0, 2), return_inverse=True, dim=1)])
register("logaddexp", lambda: [s(c(2, 3) * 3, c(3) * 3), s(c(2), c())])
register("logcumsumexp", lambda: [s(c(4) * 3, 0), s(c(2, 3), 1), s(f(0, 2), 0), s(f(), 0)])
register("addbmm", lambda: [s(i(2, 2), i(3, 2, 3), i(3, 3, 2), beta=0.6, alpha=2.7)])

COMPOSED |= {"quantile", "nanquantile", "cov", "corrcoef", "trapezoid", "trapz", "cumulative_trapezoid", "gradient", "vander", "cartesian_prod",
             "combinations", "chain_matmul", "pairwise_distance", "diff", "column_stack", "row_stack", "block_diag", "sum_to_size", "hsplit", "vsplit",
             "dsplit", "unsafe_split", "unsafe_chunk", "split_with_sizes", "norm"}  # fmt: skip
