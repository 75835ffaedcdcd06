"""Linear algebra, as in ``torch.linalg``. See https://docs.pytorch.org/docs/stable/linalg.html.

Errors that depend on elements, such as a singular matrix, are raised when a value is read; see "Checked errors" in
``docs/architecture.md``.
"""

from tracegrad._errors import LinAlgError as LinAlgError
from tracegrad._ops import factors, solving, spectra
from tracegrad._ops.factors import cholesky_ex as cholesky_ex
from tracegrad._ops.factors import householder_product as householder_product
from tracegrad._ops.linalg import matmul as matmul
from tracegrad._ops.measures import cond as cond
from tracegrad._ops.measures import cross as cross
from tracegrad._ops.measures import diagonal as diagonal
from tracegrad._ops.measures import matrix_exp as matrix_exp
from tracegrad._ops.measures import matrix_norm as matrix_norm
from tracegrad._ops.measures import multi_dot as multi_dot
from tracegrad._ops.measures import norm as norm
from tracegrad._ops.measures import vander as vander
from tracegrad._ops.measures import vecdot as vecdot
from tracegrad._ops.measures import vector_norm as vector_norm
from tracegrad._ops.ranks import lstsq as lstsq
from tracegrad._ops.ranks import matrix_rank as matrix_rank
from tracegrad._ops.ranks import pinv as pinv
from tracegrad._ops.solving import det as det
from tracegrad._ops.solving import inv as inv
from tracegrad._ops.solving import inv_ex as inv_ex
from tracegrad._ops.solving import lu as lu
from tracegrad._ops.solving import lu_factor as lu_factor
from tracegrad._ops.solving import lu_factor_ex as lu_factor_ex
from tracegrad._ops.solving import lu_solve as lu_solve
from tracegrad._ops.solving import matrix_power as matrix_power
from tracegrad._ops.solving import solve as solve
from tracegrad._ops.solving import solve_ex as solve_ex
from tracegrad._ops.solving import solve_triangular as solve_triangular
from tracegrad._ops.solving import tensorinv as tensorinv
from tracegrad._ops.solving import tensorsolve as tensorsolve
from tracegrad._ops.spectra import eig as eig
from tracegrad._ops.spectra import eigh as eigh
from tracegrad._ops.spectra import eigvals as eigvals
from tracegrad._ops.spectra import eigvalsh as eigvalsh
from tracegrad._ops.spectra import svdvals as svdvals

# Functions that differ from those of the same name in ``torch``, by their signature or their results' names.
cholesky = factors.factor
qr = factors.orthogonal
svd = spectra.singular
slogdet = solving.sign_and_logarithm
