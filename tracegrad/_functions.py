"""The ops as functions. Written by ``python -m tracegrad._ops._generate``."""

from tracegrad._ops._declare import inplace as _inplace
from tracegrad._ops.activation import celu as celu
from tracegrad._ops.activation import log_softmax as log_softmax
from tracegrad._ops.activation import relu as relu
from tracegrad._ops.activation import selu as selu
from tracegrad._ops.activation import softmax as softmax
from tracegrad._ops.assembling import cartesian_prod as cartesian_prod
from tracegrad._ops.assembling import column_stack as column_stack
from tracegrad._ops.assembling import combinations as combinations
from tracegrad._ops.blending import addcdiv as addcdiv
from tracegrad._ops.blending import addcmul as addcmul
from tracegrad._ops.blending import clamp as clamp
from tracegrad._ops.blending import clamp as clip
from tracegrad._ops.blending import clamp_max as clamp_max
from tracegrad._ops.blending import clamp_min as clamp_min
from tracegrad._ops.blending import fmax as fmax
from tracegrad._ops.blending import fmin as fmin
from tracegrad._ops.blending import heaviside as heaviside
from tracegrad._ops.blending import lerp as lerp
from tracegrad._ops.blending import maximum as maximum
from tracegrad._ops.blending import minimum as minimum
from tracegrad._ops.blending import nan_to_num as nan_to_num
from tracegrad._ops.blending import where as where
from tracegrad._ops.buffers import asarray as asarray
from tracegrad._ops.buffers import from_file as from_file
from tracegrad._ops.buffers import frombuffer as frombuffer
from tracegrad._ops.calculus import cumulative_trapezoid as cumulative_trapezoid
from tracegrad._ops.calculus import diff as diff
from tracegrad._ops.calculus import gradient as gradient
from tracegrad._ops.calculus import trapezoid as trapezoid
from tracegrad._ops.calculus import trapezoid as trapz
from tracegrad._ops.calculus import vander as vander
from tracegrad._ops.comparison import allclose as allclose
from tracegrad._ops.comparison import bitwise_and as bitwise_and
from tracegrad._ops.comparison import bitwise_left_shift as bitwise_left_shift
from tracegrad._ops.comparison import bitwise_not as bitwise_not
from tracegrad._ops.comparison import bitwise_or as bitwise_or
from tracegrad._ops.comparison import bitwise_right_shift as bitwise_right_shift
from tracegrad._ops.comparison import bitwise_xor as bitwise_xor
from tracegrad._ops.comparison import eq as eq
from tracegrad._ops.comparison import equal as equal
from tracegrad._ops.comparison import ge as ge
from tracegrad._ops.comparison import ge as greater_equal
from tracegrad._ops.comparison import gt as greater
from tracegrad._ops.comparison import gt as gt
from tracegrad._ops.comparison import isclose as isclose
from tracegrad._ops.comparison import le as le
from tracegrad._ops.comparison import le as less_equal
from tracegrad._ops.comparison import logical_and as logical_and
from tracegrad._ops.comparison import logical_not as logical_not
from tracegrad._ops.comparison import logical_or as logical_or
from tracegrad._ops.comparison import logical_xor as logical_xor
from tracegrad._ops.comparison import lt as less
from tracegrad._ops.comparison import lt as lt
from tracegrad._ops.comparison import ne as ne
from tracegrad._ops.comparison import ne as not_equal
from tracegrad._ops.convolution import conv1d as conv1d
from tracegrad._ops.convolution import conv2d as conv2d
from tracegrad._ops.copies import alias_copy as alias_copy
from tracegrad._ops.copies import as_strided_copy as as_strided_copy
from tracegrad._ops.copies import diagonal_copy as diagonal_copy
from tracegrad._ops.copies import expand_copy as expand_copy
from tracegrad._ops.copies import narrow_copy as narrow_copy
from tracegrad._ops.copies import permute_copy as permute_copy
from tracegrad._ops.copies import select_copy as select_copy
from tracegrad._ops.copies import slice_copy as slice_copy
from tracegrad._ops.copies import split_copy as split_copy
from tracegrad._ops.copies import split_with_sizes_copy as split_with_sizes_copy
from tracegrad._ops.copies import squeeze_copy as squeeze_copy
from tracegrad._ops.copies import t_copy as t_copy
from tracegrad._ops.copies import transpose_copy as transpose_copy
from tracegrad._ops.copies import unbind_copy as unbind_copy
from tracegrad._ops.copies import unfold_copy as unfold_copy
from tracegrad._ops.copies import unsqueeze_copy as unsqueeze_copy
from tracegrad._ops.copies import view_as_complex_copy as view_as_complex_copy
from tracegrad._ops.copies import view_as_real_copy as view_as_real_copy
from tracegrad._ops.copies import view_copy as view_copy
from tracegrad._ops.counting import bincount as bincount
from tracegrad._ops.counting import bucketize as bucketize
from tracegrad._ops.counting import histc as histc
from tracegrad._ops.counting import histogram as histogram
from tracegrad._ops.counting import isin as isin
from tracegrad._ops.counting import searchsorted as searchsorted
from tracegrad._ops.counting import unique as unique
from tracegrad._ops.counting import unique_consecutive as unique_consecutive
from tracegrad._ops.counting import unravel_index as unravel_index
from tracegrad._ops.creation import arange as arange
from tracegrad._ops.creation import as_tensor as as_tensor
from tracegrad._ops.creation import complex as complex
from tracegrad._ops.creation import empty as empty
from tracegrad._ops.creation import empty_like as empty_like
from tracegrad._ops.creation import eye as eye
from tracegrad._ops.creation import from_numpy as from_numpy
from tracegrad._ops.creation import full as full
from tracegrad._ops.creation import full_like as full_like
from tracegrad._ops.creation import linspace as linspace
from tracegrad._ops.creation import logspace as logspace
from tracegrad._ops.creation import ones as ones
from tracegrad._ops.creation import ones_like as ones_like
from tracegrad._ops.creation import scalar_tensor as scalar_tensor
from tracegrad._ops.creation import tensor as tensor
from tracegrad._ops.creation import tril_indices as tril_indices
from tracegrad._ops.creation import triu_indices as triu_indices
from tracegrad._ops.creation import zeros as zeros
from tracegrad._ops.creation import zeros_like as zeros_like
from tracegrad._ops.distances import cdist as cdist
from tracegrad._ops.distances import dist as dist
from tracegrad._ops.distances import pdist as pdist
from tracegrad._ops.distances import renorm as renorm
from tracegrad._ops.dropout import alpha_dropout as alpha_dropout
from tracegrad._ops.dropout import dropout as dropout
from tracegrad._ops.dropout import feature_alpha_dropout as feature_alpha_dropout
from tracegrad._ops.exponents import frexp as frexp
from tracegrad._ops.exponents import gcd as gcd
from tracegrad._ops.exponents import lcm as lcm
from tracegrad._ops.exponents import ldexp as ldexp
from tracegrad._ops.exponents import nextafter as nextafter
from tracegrad._ops.factors import cholesky as cholesky
from tracegrad._ops.factors import cholesky_inverse as cholesky_inverse
from tracegrad._ops.factors import cholesky_solve as cholesky_solve
from tracegrad._ops.factors import qr as qr
from tracegrad._ops.gathering import gather as gather
from tracegrad._ops.gathering import index_add as index_add
from tracegrad._ops.gathering import index_fill as index_fill
from tracegrad._ops.gathering import index_select as index_select
from tracegrad._ops.gathering import masked_fill as masked_fill
from tracegrad._ops.gathering import scatter as scatter
from tracegrad._ops.gathering import scatter_add as scatter_add
from tracegrad._ops.gathering import take as take
from tracegrad._ops.gathering import take_along_dim as take_along_dim
from tracegrad._ops.indexing import argwhere as argwhere
from tracegrad._ops.indexing import masked_select as masked_select
from tracegrad._ops.indexing import narrow as narrow
from tracegrad._ops.indexing import nonzero as nonzero
from tracegrad._ops.indexing import select as select
from tracegrad._ops.linalg import addmm as addmm
from tracegrad._ops.linalg import addmv as addmv
from tracegrad._ops.linalg import baddbmm as baddbmm
from tracegrad._ops.linalg import bmm as bmm
from tracegrad._ops.linalg import cross as cross
from tracegrad._ops.linalg import dot as dot
from tracegrad._ops.linalg import einsum as einsum
from tracegrad._ops.linalg import ger as ger
from tracegrad._ops.linalg import inner as inner
from tracegrad._ops.linalg import kron as kron
from tracegrad._ops.linalg import matmul as matmul
from tracegrad._ops.linalg import mm as mm
from tracegrad._ops.linalg import mv as mv
from tracegrad._ops.linalg import outer as outer
from tracegrad._ops.linalg import tensordot as tensordot
from tracegrad._ops.linalg import trace as trace
from tracegrad._ops.linalg import vdot as vdot
from tracegrad._ops.math import abs as abs
from tracegrad._ops.math import abs as absolute
from tracegrad._ops.math import acos as acos
from tracegrad._ops.math import acos as arccos
from tracegrad._ops.math import acosh as acosh
from tracegrad._ops.math import acosh as arccosh
from tracegrad._ops.math import angle as angle
from tracegrad._ops.math import asin as arcsin
from tracegrad._ops.math import asin as asin
from tracegrad._ops.math import asinh as arcsinh
from tracegrad._ops.math import asinh as asinh
from tracegrad._ops.math import atan as arctan
from tracegrad._ops.math import atan as atan
from tracegrad._ops.math import atan2 as arctan2
from tracegrad._ops.math import atan2 as atan2
from tracegrad._ops.math import atanh as arctanh
from tracegrad._ops.math import atanh as atanh
from tracegrad._ops.math import copysign as copysign
from tracegrad._ops.math import cos as cos
from tracegrad._ops.math import cosh as cosh
from tracegrad._ops.math import deg2rad as deg2rad
from tracegrad._ops.math import exp as exp
from tracegrad._ops.math import exp2 as exp2
from tracegrad._ops.math import expm1 as expm1
from tracegrad._ops.math import hypot as hypot
from tracegrad._ops.math import log as log
from tracegrad._ops.math import log10 as log10
from tracegrad._ops.math import log1p as log1p
from tracegrad._ops.math import log2 as log2
from tracegrad._ops.math import logaddexp as logaddexp
from tracegrad._ops.math import logaddexp2 as logaddexp2
from tracegrad._ops.math import polar as polar
from tracegrad._ops.math import rad2deg as rad2deg
from tracegrad._ops.math import reciprocal as reciprocal
from tracegrad._ops.math import rsqrt as rsqrt
from tracegrad._ops.math import sgn as sgn
from tracegrad._ops.math import sigmoid as sigmoid
from tracegrad._ops.math import sign as sign
from tracegrad._ops.math import signbit as signbit
from tracegrad._ops.math import sin as sin
from tracegrad._ops.math import sinh as sinh
from tracegrad._ops.math import sqrt as sqrt
from tracegrad._ops.math import tan as tan
from tracegrad._ops.math import tanh as tanh
from tracegrad._ops.math import xlogy as xlogy
from tracegrad._ops.measures import matrix_exp as matrix_exp
from tracegrad._ops.normalization import cosine_similarity as cosine_similarity
from tracegrad._ops.normalization import group_norm as group_norm
from tracegrad._ops.normalization import layer_norm as layer_norm
from tracegrad._ops.normalization import rms_norm as rms_norm
from tracegrad._ops.pointwise import add as add
from tracegrad._ops.pointwise import div as div
from tracegrad._ops.pointwise import div as divide
from tracegrad._ops.pointwise import float_power as float_power
from tracegrad._ops.pointwise import floor_divide as floor_divide
from tracegrad._ops.pointwise import fmod as fmod
from tracegrad._ops.pointwise import mul as mul
from tracegrad._ops.pointwise import mul as multiply
from tracegrad._ops.pointwise import neg as neg
from tracegrad._ops.pointwise import neg as negative
from tracegrad._ops.pointwise import positive as positive
from tracegrad._ops.pointwise import pow as pow
from tracegrad._ops.pointwise import remainder as remainder
from tracegrad._ops.pointwise import rsub as rsub
from tracegrad._ops.pointwise import square as square
from tracegrad._ops.pointwise import sub as sub
from tracegrad._ops.pointwise import sub as subtract
from tracegrad._ops.pointwise import true_divide as true_divide
from tracegrad._ops.pooling import adaptive_avg_pool1d as adaptive_avg_pool1d
from tracegrad._ops.pooling import avg_pool1d as avg_pool1d
from tracegrad._ops.pooling import max_pool1d as max_pool1d
from tracegrad._ops.pooling import max_pool2d as max_pool2d
from tracegrad._ops.products import addbmm as addbmm
from tracegrad._ops.products import addr as addr
from tracegrad._ops.products import block_diag as block_diag
from tracegrad._ops.products import chain_matmul as chain_matmul
from tracegrad._ops.random import bernoulli as bernoulli
from tracegrad._ops.random import binomial as binomial
from tracegrad._ops.random import multinomial as multinomial
from tracegrad._ops.random import normal as normal
from tracegrad._ops.random import poisson as poisson
from tracegrad._ops.random import rand as rand
from tracegrad._ops.random import rand_like as rand_like
from tracegrad._ops.random import randint as randint
from tracegrad._ops.random import randint_like as randint_like
from tracegrad._ops.random import randn as randn
from tracegrad._ops.random import randn_like as randn_like
from tracegrad._ops.random import randperm as randperm
from tracegrad._ops.ranking import median as median
from tracegrad._ops.ranking import mode as mode
from tracegrad._ops.ranking import nanmedian as nanmedian
from tracegrad._ops.ranking import nanquantile as nanquantile
from tracegrad._ops.ranking import quantile as quantile
from tracegrad._ops.ranks import pinverse as pinverse
from tracegrad._ops.rearranging import clone as clone
from tracegrad._ops.rearranging import diag as diag
from tracegrad._ops.rearranging import diag_embed as diag_embed
from tracegrad._ops.rearranging import diagonal as diagonal
from tracegrad._ops.rearranging import flip as flip
from tracegrad._ops.rearranging import fliplr as fliplr
from tracegrad._ops.rearranging import flipud as flipud
from tracegrad._ops.rearranging import roll as roll
from tracegrad._ops.rearranging import rot90 as rot90
from tracegrad._ops.rearranging import tril as tril
from tracegrad._ops.rearranging import triu as triu
from tracegrad._ops.recurrent import gru as gru
from tracegrad._ops.recurrent import gru_cell as gru_cell
from tracegrad._ops.recurrent import lstm as lstm
from tracegrad._ops.recurrent import lstm_cell as lstm_cell
from tracegrad._ops.recurrent import rnn_relu as rnn_relu
from tracegrad._ops.recurrent import rnn_relu_cell as rnn_relu_cell
from tracegrad._ops.recurrent import rnn_tanh as rnn_tanh
from tracegrad._ops.recurrent import rnn_tanh_cell as rnn_tanh_cell
from tracegrad._ops.reduction import all as all
from tracegrad._ops.reduction import amax as amax
from tracegrad._ops.reduction import amin as amin
from tracegrad._ops.reduction import aminmax as aminmax
from tracegrad._ops.reduction import any as any
from tracegrad._ops.reduction import argmax as argmax
from tracegrad._ops.reduction import argmin as argmin
from tracegrad._ops.reduction import count_nonzero as count_nonzero
from tracegrad._ops.reduction import logsumexp as logsumexp
from tracegrad._ops.reduction import max as max
from tracegrad._ops.reduction import mean as mean
from tracegrad._ops.reduction import min as min
from tracegrad._ops.reduction import nanmean as nanmean
from tracegrad._ops.reduction import nansum as nansum
from tracegrad._ops.reduction import norm as norm
from tracegrad._ops.reduction import prod as prod
from tracegrad._ops.reduction import sum as sum
from tracegrad._ops.repeating import repeat as repeat
from tracegrad._ops.repeating import repeat_interleave as repeat_interleave
from tracegrad._ops.repeating import tile as tile
from tracegrad._ops.rounding import ceil as ceil
from tracegrad._ops.rounding import floor as floor
from tracegrad._ops.rounding import frac as frac
from tracegrad._ops.rounding import isfinite as isfinite
from tracegrad._ops.rounding import isinf as isinf
from tracegrad._ops.rounding import isnan as isnan
from tracegrad._ops.rounding import isneginf as isneginf
from tracegrad._ops.rounding import isposinf as isposinf
from tracegrad._ops.rounding import isreal as isreal
from tracegrad._ops.rounding import round as round
from tracegrad._ops.rounding import trunc as fix
from tracegrad._ops.rounding import trunc as trunc
from tracegrad._ops.running import cummax as cummax
from tracegrad._ops.running import cummin as cummin
from tracegrad._ops.running import cumprod as cumprod
from tracegrad._ops.running import cumsum as cumsum
from tracegrad._ops.running import logcumsumexp as logcumsumexp
from tracegrad._ops.scattering import as_strided as as_strided
from tracegrad._ops.scattering import as_strided_scatter as as_strided_scatter
from tracegrad._ops.scattering import diagflat as diagflat
from tracegrad._ops.scattering import diagonal_scatter as diagonal_scatter
from tracegrad._ops.scattering import index_copy as index_copy
from tracegrad._ops.scattering import index_reduce as index_reduce
from tracegrad._ops.scattering import put as put
from tracegrad._ops.scattering import scatter_reduce as scatter_reduce
from tracegrad._ops.scattering import select_scatter as select_scatter
from tracegrad._ops.scattering import slice_scatter as slice_scatter
from tracegrad._ops.shape import adjoint as adjoint
from tracegrad._ops.shape import atleast_1d as atleast_1d
from tracegrad._ops.shape import atleast_2d as atleast_2d
from tracegrad._ops.shape import atleast_3d as atleast_3d
from tracegrad._ops.shape import broadcast_tensors as broadcast_tensors
from tracegrad._ops.shape import broadcast_to as broadcast_to
from tracegrad._ops.shape import cat as cat
from tracegrad._ops.shape import concat as concat
from tracegrad._ops.shape import concatenate as concatenate
from tracegrad._ops.shape import dstack as dstack
from tracegrad._ops.shape import expand as expand
from tracegrad._ops.shape import expand_as as expand_as
from tracegrad._ops.shape import flatten as flatten
from tracegrad._ops.shape import hstack as hstack
from tracegrad._ops.shape import meshgrid as meshgrid
from tracegrad._ops.shape import moveaxis as moveaxis
from tracegrad._ops.shape import movedim as movedim
from tracegrad._ops.shape import permute as permute
from tracegrad._ops.shape import ravel as ravel
from tracegrad._ops.shape import reshape as reshape
from tracegrad._ops.shape import reshape_as as reshape_as
from tracegrad._ops.shape import squeeze as squeeze
from tracegrad._ops.shape import stack as stack
from tracegrad._ops.shape import swapaxes as swapaxes
from tracegrad._ops.shape import swapdims as swapdims
from tracegrad._ops.shape import t as t
from tracegrad._ops.shape import transpose as transpose
from tracegrad._ops.shape import unflatten as unflatten
from tracegrad._ops.shape import unsqueeze as unsqueeze
from tracegrad._ops.shape import view as view
from tracegrad._ops.shape import view_as as view_as
from tracegrad._ops.shape import vstack as row_stack
from tracegrad._ops.shape import vstack as vstack
from tracegrad._ops.solving import det as det
from tracegrad._ops.solving import inverse as inverse
from tracegrad._ops.solving import logdet as logdet
from tracegrad._ops.solving import matrix_power as matrix_power
from tracegrad._ops.solving import slogdet as slogdet
from tracegrad._ops.sorting import argsort as argsort
from tracegrad._ops.sorting import kthvalue as kthvalue
from tracegrad._ops.sorting import msort as msort
from tracegrad._ops.sorting import sort as sort
from tracegrad._ops.sorting import topk as topk
from tracegrad._ops.special import digamma as digamma
from tracegrad._ops.special import erf as erf
from tracegrad._ops.special import erfc as erfc
from tracegrad._ops.special import erfinv as erfinv
from tracegrad._ops.special import i0 as i0
from tracegrad._ops.special import igamma as igamma
from tracegrad._ops.special import igammac as igammac
from tracegrad._ops.special import lgamma as lgamma
from tracegrad._ops.special import logit as logit
from tracegrad._ops.special import mvlgamma as mvlgamma
from tracegrad._ops.special import polygamma as polygamma
from tracegrad._ops.special import sinc as sinc
from tracegrad._ops.spectra import svd as svd
from tracegrad._ops.splitting import chunk as chunk
from tracegrad._ops.splitting import dsplit as dsplit
from tracegrad._ops.splitting import hsplit as hsplit
from tracegrad._ops.splitting import split as split
from tracegrad._ops.splitting import split_with_sizes as split_with_sizes
from tracegrad._ops.splitting import tensor_split as tensor_split
from tracegrad._ops.splitting import unbind as unbind
from tracegrad._ops.splitting import unsafe_chunk as unsafe_chunk
from tracegrad._ops.splitting import unsafe_split as unsafe_split
from tracegrad._ops.splitting import vsplit as vsplit
from tracegrad._ops.spread import corrcoef as corrcoef
from tracegrad._ops.spread import cov as cov
from tracegrad._ops.spread import std as std
from tracegrad._ops.spread import std_mean as std_mean
from tracegrad._ops.spread import var as var
from tracegrad._ops.spread import var_mean as var_mean
from tracegrad._ops.thresholds import hardshrink as hardshrink
from tracegrad._ops.thresholds import prelu as prelu
from tracegrad._ops.thresholds import rrelu as rrelu
from tracegrad._ops.thresholds import threshold as threshold
from tracegrad._ops.viewing import conj as conj
from tracegrad._ops.viewing import conj_physical as conj_physical
from tracegrad._ops.viewing import imag as imag
from tracegrad._ops.viewing import is_conj as is_conj
from tracegrad._ops.viewing import is_neg as is_neg
from tracegrad._ops.viewing import real as real
from tracegrad._ops.viewing import resolve_conj as resolve_conj
from tracegrad._ops.viewing import resolve_neg as resolve_neg
from tracegrad._ops.viewing import view_as_complex as view_as_complex
from tracegrad._ops.viewing import view_as_real as view_as_real
from tracegrad._ops.windows import bartlett_window as bartlett_window
from tracegrad._ops.windows import blackman_window as blackman_window
from tracegrad._ops.windows import hamming_window as hamming_window
from tracegrad._ops.windows import hann_window as hann_window
from tracegrad._ops.windows import istft as istft
from tracegrad._ops.windows import kaiser_window as kaiser_window
from tracegrad._ops.windows import stft as stft
from tracegrad._ops.writing import index_put as index_put
from tracegrad._ops.writing import masked_scatter as masked_scatter

abs_ = _inplace(abs)
acos_ = _inplace(acos)
acosh_ = _inplace(acosh)
addmv_ = _inplace(addmv)
arccos_ = _inplace(arccos)
arccosh_ = _inplace(arccosh)
arcsin_ = _inplace(arcsin)
arcsinh_ = _inplace(arcsinh)
arctan_ = _inplace(arctan)
arctanh_ = _inplace(arctanh)
asin_ = _inplace(asin)
asinh_ = _inplace(asinh)
atan_ = _inplace(atan)
atanh_ = _inplace(atanh)
ceil_ = _inplace(ceil)
celu_ = _inplace(celu)
clamp_ = _inplace(clamp)
clamp_max_ = _inplace(clamp_max)
clamp_min_ = _inplace(clamp_min)
clip_ = _inplace(clip)
conj_physical_ = _inplace(conj_physical)
cos_ = _inplace(cos)
cosh_ = _inplace(cosh)
deg2rad_ = _inplace(deg2rad)
erf_ = _inplace(erf)
erfc_ = _inplace(erfc)
exp_ = _inplace(exp)
exp2_ = _inplace(exp2)
expm1_ = _inplace(expm1)
fix_ = _inplace(fix)
floor_ = _inplace(floor)
frac_ = _inplace(frac)
gcd_ = _inplace(gcd)
i0_ = _inplace(i0)
index_put_ = _inplace(index_put)
lcm_ = _inplace(lcm)
ldexp_ = _inplace(ldexp)
log_ = _inplace(log)
log10_ = _inplace(log10)
log1p_ = _inplace(log1p)
log2_ = _inplace(log2)
logit_ = _inplace(logit)
nan_to_num_ = _inplace(nan_to_num)
neg_ = _inplace(neg)
negative_ = _inplace(negative)
rad2deg_ = _inplace(rad2deg)
reciprocal_ = _inplace(reciprocal)
relu_ = _inplace(relu)
round_ = _inplace(round)
rsqrt_ = _inplace(rsqrt)
selu_ = _inplace(selu)
sigmoid_ = _inplace(sigmoid)
sin_ = _inplace(sin)
sinc_ = _inplace(sinc)
sinh_ = _inplace(sinh)
sqrt_ = _inplace(sqrt)
square_ = _inplace(square)
tan_ = _inplace(tan)
tanh_ = _inplace(tanh)
trunc_ = _inplace(trunc)
xlogy_ = _inplace(xlogy)
