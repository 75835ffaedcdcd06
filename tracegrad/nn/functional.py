"""The functions behind the modules, under PyTorch's names."""

from tracegrad._ops._declare import inplace as _inplace
from tracegrad._ops.activation import celu as celu
from tracegrad._ops.activation import elu as elu
from tracegrad._ops.activation import gelu as gelu
from tracegrad._ops.activation import glu as glu
from tracegrad._ops.activation import hardsigmoid as hardsigmoid
from tracegrad._ops.activation import hardswish as hardswish
from tracegrad._ops.activation import hardtanh as hardtanh
from tracegrad._ops.activation import leaky_relu as leaky_relu
from tracegrad._ops.activation import log_softmax as log_softmax
from tracegrad._ops.activation import logsigmoid as logsigmoid
from tracegrad._ops.activation import mish as mish
from tracegrad._ops.activation import relu as relu
from tracegrad._ops.activation import relu6 as relu6
from tracegrad._ops.activation import selu as selu
from tracegrad._ops.activation import silu as silu
from tracegrad._ops.activation import softmax as softmax
from tracegrad._ops.activation import softmin as softmin
from tracegrad._ops.activation import softplus as softplus
from tracegrad._ops.activation import softsign as softsign
from tracegrad._ops.attention import scaled_dot_product_attention as scaled_dot_product_attention
from tracegrad._ops.classification import cross_entropy as cross_entropy
from tracegrad._ops.classification import nll_loss as nll_loss
from tracegrad._ops.convolution import conv1d as conv1d
from tracegrad._ops.convolution import conv2d as conv2d
from tracegrad._ops.convolution import pad as pad
from tracegrad._ops.distances import pairwise_distance as pairwise_distance
from tracegrad._ops.distances import pdist as pdist
from tracegrad._ops.dropout import alpha_dropout as alpha_dropout
from tracegrad._ops.dropout import dropout as dropout
from tracegrad._ops.dropout import dropout1d as dropout1d
from tracegrad._ops.dropout import dropout2d as dropout2d
from tracegrad._ops.dropout import dropout3d as dropout3d
from tracegrad._ops.dropout import feature_alpha_dropout as feature_alpha_dropout
from tracegrad._ops.dropout import gumbel_softmax as gumbel_softmax
from tracegrad._ops.folding import col2im as fold  # noqa: F401
from tracegrad._ops.folding import im2col as unfold  # noqa: F401
from tracegrad._ops.folding import pixel_shuffle as pixel_shuffle
from tracegrad._ops.folding import pixel_unshuffle as pixel_unshuffle
from tracegrad._ops.linear import bilinear as bilinear
from tracegrad._ops.linear import embedding as embedding
from tracegrad._ops.linear import linear as linear
from tracegrad._ops.linear import one_hot as one_hot
from tracegrad._ops.loss import binary_cross_entropy as binary_cross_entropy
from tracegrad._ops.loss import binary_cross_entropy_with_logits as binary_cross_entropy_with_logits
from tracegrad._ops.loss import huber_loss as huber_loss
from tracegrad._ops.loss import kl_div as kl_div
from tracegrad._ops.loss import l1_loss as l1_loss
from tracegrad._ops.loss import mse_loss as mse_loss
from tracegrad._ops.loss import smooth_l1_loss as smooth_l1_loss
from tracegrad._ops.math import sigmoid as sigmoid
from tracegrad._ops.math import tanh as tanh
from tracegrad._ops.normalization import batch_norm as batch_norm
from tracegrad._ops.normalization import cosine_similarity as cosine_similarity
from tracegrad._ops.normalization import group_norm as group_norm
from tracegrad._ops.normalization import layer_norm as layer_norm
from tracegrad._ops.normalization import normalize as normalize
from tracegrad._ops.normalization import rms_norm as rms_norm
from tracegrad._ops.pooling import adaptive_avg_pool1d as adaptive_avg_pool1d
from tracegrad._ops.pooling import adaptive_avg_pool2d as adaptive_avg_pool2d
from tracegrad._ops.pooling import avg_pool1d as avg_pool1d
from tracegrad._ops.pooling import avg_pool2d as avg_pool2d
from tracegrad._ops.pooling import max_pool1d as max_pool1d
from tracegrad._ops.pooling import max_pool2d as max_pool2d
from tracegrad._ops.thresholds import hardshrink as hardshrink
from tracegrad._ops.thresholds import prelu as prelu
from tracegrad._ops.thresholds import rrelu as rrelu
from tracegrad._ops.thresholds import softshrink as softshrink
from tracegrad._ops.thresholds import tanhshrink as tanhshrink
from tracegrad._ops.thresholds import threshold as threshold

relu_ = _inplace(relu)
elu_ = _inplace(elu)
selu_ = _inplace(selu)
celu_ = _inplace(celu)
leaky_relu_ = _inplace(leaky_relu)
hardtanh_ = _inplace(hardtanh)
