"""Special functions, under PyTorch's names.

See https://docs.pytorch.org/docs/stable/special.html
"""

from tracegrad._ops.activation import log_softmax as log_softmax
from tracegrad._ops.activation import softmax as softmax
from tracegrad._ops.bessel import bessel_j0 as bessel_j0
from tracegrad._ops.bessel import bessel_j1 as bessel_j1
from tracegrad._ops.bessel import bessel_y0 as bessel_y0
from tracegrad._ops.bessel import bessel_y1 as bessel_y1
from tracegrad._ops.bessel import modified_bessel_i0 as modified_bessel_i0
from tracegrad._ops.bessel import modified_bessel_i1 as modified_bessel_i1
from tracegrad._ops.bessel import modified_bessel_k0 as modified_bessel_k0
from tracegrad._ops.bessel import modified_bessel_k1 as modified_bessel_k1
from tracegrad._ops.bessel import scaled_modified_bessel_k0 as scaled_modified_bessel_k0
from tracegrad._ops.bessel import scaled_modified_bessel_k1 as scaled_modified_bessel_k1
from tracegrad._ops.bessel import spherical_bessel_j0 as spherical_bessel_j0
from tracegrad._ops.math import exp2 as exp2
from tracegrad._ops.math import expm1 as expm1
from tracegrad._ops.math import log1p as log1p
from tracegrad._ops.math import sigmoid as expit  # noqa: F401
from tracegrad._ops.math import xlogy as xlogy
from tracegrad._ops.reduction import logsumexp as logsumexp
from tracegrad._ops.rounding import round as round
from tracegrad._ops.special import digamma as digamma
from tracegrad._ops.special import digamma as psi  # noqa: F401
from tracegrad._ops.special import entr as entr
from tracegrad._ops.special import erf as erf
from tracegrad._ops.special import erfc as erfc
from tracegrad._ops.special import erfcx as erfcx
from tracegrad._ops.special import erfinv as erfinv
from tracegrad._ops.special import i0 as i0
from tracegrad._ops.special import i0e as i0e
from tracegrad._ops.special import i1 as i1
from tracegrad._ops.special import i1e as i1e
from tracegrad._ops.special import igamma as gammainc  # noqa: F401
from tracegrad._ops.special import igammac as gammaincc  # noqa: F401
from tracegrad._ops.special import lgamma as gammaln  # noqa: F401
from tracegrad._ops.special import log_ndtr as log_ndtr
from tracegrad._ops.special import logit as logit
from tracegrad._ops.special import mvlgamma as multigammaln  # noqa: F401
from tracegrad._ops.special import ndtr as ndtr
from tracegrad._ops.special import ndtri as ndtri
from tracegrad._ops.special import polygamma as polygamma
from tracegrad._ops.special import sinc as sinc
from tracegrad._ops.special import xlog1py as xlog1py
from tracegrad._ops.special import zeta as zeta
