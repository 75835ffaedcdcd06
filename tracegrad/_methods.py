"""The methods of tensors that are ops. Written by ``python -m tracegrad._ops._generate``."""

from tracegrad._handle import Handle
from tracegrad._ops import activation, blending, creation, gathering, indexing, linalg, math, pointwise, random, rearranging, reduction, rounding, shape, sorting, splitting
from tracegrad._ops._declare import inplace


class Methods(Handle):
    """Every op as a method, by family."""

    # activation
    log_softmax = activation.log_softmax
    relu = activation.relu
    relu_ = inplace(activation.relu)
    softmax = activation.softmax

    # blending
    addcdiv = blending.addcdiv
    addcdiv_ = inplace(blending.addcdiv)
    addcmul = blending.addcmul
    addcmul_ = inplace(blending.addcmul)
    clamp = blending.clamp
    clamp_ = inplace(blending.clamp)
    clamp_max = blending.clamp_max
    clamp_max_ = inplace(blending.clamp_max)
    clamp_min = blending.clamp_min
    clamp_min_ = inplace(blending.clamp_min)
    clip = blending.clamp
    clip_ = inplace(blending.clamp)
    fmax = blending.fmax
    fmin = blending.fmin
    heaviside = blending.heaviside
    heaviside_ = inplace(blending.heaviside)
    lerp = blending.lerp
    lerp_ = inplace(blending.lerp)
    maximum = blending.maximum
    minimum = blending.minimum
    nan_to_num = blending.nan_to_num
    nan_to_num_ = inplace(blending.nan_to_num)

    # creation
    new_empty = creation.new_empty
    new_full = creation.new_full
    new_ones = creation.new_ones
    new_tensor = creation.new_tensor
    new_zeros = creation.new_zeros

    # gathering
    gather = gathering.gather
    index_add = gathering.index_add
    index_add_ = inplace(gathering.index_add)
    index_fill = gathering.index_fill
    index_fill_ = inplace(gathering.index_fill)
    index_select = gathering.index_select
    masked_fill = gathering.masked_fill
    masked_fill_ = inplace(gathering.masked_fill)
    scatter = gathering.scatter
    scatter_ = inplace(gathering.scatter)
    scatter_add = gathering.scatter_add
    scatter_add_ = inplace(gathering.scatter_add)
    take = gathering.take
    take_along_dim = gathering.take_along_dim

    # indexing
    argwhere = indexing.argwhere
    masked_select = indexing.masked_select
    narrow = indexing.narrow
    nonzero = indexing.nonzero
    select = indexing.select

    # linalg
    addmm = linalg.addmm
    addmm_ = inplace(linalg.addmm)
    addmv = linalg.addmv
    addmv_ = inplace(linalg.addmv)
    baddbmm = linalg.baddbmm
    baddbmm_ = inplace(linalg.baddbmm)
    bmm = linalg.bmm
    cross = linalg.cross
    dot = linalg.dot
    ger = linalg.ger
    inner = linalg.inner
    kron = linalg.kron
    matmul = linalg.matmul
    mm = linalg.mm
    mv = linalg.mv
    outer = linalg.outer
    trace = linalg.trace
    vdot = linalg.vdot

    # math
    abs = math.abs
    abs_ = inplace(math.abs)
    absolute = math.abs
    absolute_ = inplace(math.abs)
    acos = math.acos
    acos_ = inplace(math.acos)
    acosh = math.acosh
    acosh_ = inplace(math.acosh)
    angle = math.angle
    arccos = math.acos
    arccos_ = inplace(math.acos)
    arccosh = math.acosh
    arccosh_ = inplace(math.acosh)
    arcsin = math.asin
    arcsin_ = inplace(math.asin)
    arcsinh = math.asinh
    arcsinh_ = inplace(math.asinh)
    arctan = math.atan
    arctan_ = inplace(math.atan)
    arctan2 = math.atan2
    arctan2_ = inplace(math.atan2)
    arctanh = math.atanh
    arctanh_ = inplace(math.atanh)
    asin = math.asin
    asin_ = inplace(math.asin)
    asinh = math.asinh
    asinh_ = inplace(math.asinh)
    atan = math.atan
    atan_ = inplace(math.atan)
    atan2 = math.atan2
    atan2_ = inplace(math.atan2)
    atanh = math.atanh
    atanh_ = inplace(math.atanh)
    conj = math.conj
    copysign = math.copysign
    copysign_ = inplace(math.copysign)
    cos = math.cos
    cos_ = inplace(math.cos)
    cosh = math.cosh
    cosh_ = inplace(math.cosh)
    deg2rad = math.deg2rad
    deg2rad_ = inplace(math.deg2rad)
    digamma = math.digamma
    digamma_ = inplace(math.digamma)
    erf = math.erf
    erf_ = inplace(math.erf)
    erfc = math.erfc
    erfc_ = inplace(math.erfc)
    erfinv = math.erfinv
    erfinv_ = inplace(math.erfinv)
    exp = math.exp
    exp_ = inplace(math.exp)
    exp2 = math.exp2
    exp2_ = inplace(math.exp2)
    expm1 = math.expm1
    expm1_ = inplace(math.expm1)
    hypot = math.hypot
    hypot_ = inplace(math.hypot)
    lgamma = math.lgamma
    lgamma_ = inplace(math.lgamma)
    log = math.log
    log_ = inplace(math.log)
    log10 = math.log10
    log10_ = inplace(math.log10)
    log1p = math.log1p
    log1p_ = inplace(math.log1p)
    log2 = math.log2
    log2_ = inplace(math.log2)
    logaddexp = math.logaddexp
    logaddexp2 = math.logaddexp2
    logit = math.logit
    logit_ = inplace(math.logit)
    rad2deg = math.rad2deg
    rad2deg_ = inplace(math.rad2deg)
    reciprocal = math.reciprocal
    reciprocal_ = inplace(math.reciprocal)
    rsqrt = math.rsqrt
    rsqrt_ = inplace(math.rsqrt)
    sgn = math.sgn
    sgn_ = inplace(math.sgn)
    sigmoid = math.sigmoid
    sigmoid_ = inplace(math.sigmoid)
    sign = math.sign
    sign_ = inplace(math.sign)
    signbit = math.signbit
    sin = math.sin
    sin_ = inplace(math.sin)
    sinc = math.sinc
    sinc_ = inplace(math.sinc)
    sinh = math.sinh
    sinh_ = inplace(math.sinh)
    sqrt = math.sqrt
    sqrt_ = inplace(math.sqrt)
    tan = math.tan
    tan_ = inplace(math.tan)
    tanh = math.tanh
    tanh_ = inplace(math.tanh)
    xlogy = math.xlogy
    xlogy_ = inplace(math.xlogy)

    # pointwise
    add = pointwise.add
    add_ = inplace(pointwise.add)
    allclose = pointwise.allclose
    bitwise_and = pointwise.bitwise_and
    bitwise_and_ = inplace(pointwise.bitwise_and)
    bitwise_left_shift = pointwise.bitwise_left_shift
    bitwise_left_shift_ = inplace(pointwise.bitwise_left_shift)
    bitwise_not = pointwise.bitwise_not
    bitwise_not_ = inplace(pointwise.bitwise_not)
    bitwise_or = pointwise.bitwise_or
    bitwise_or_ = inplace(pointwise.bitwise_or)
    bitwise_right_shift = pointwise.bitwise_right_shift
    bitwise_right_shift_ = inplace(pointwise.bitwise_right_shift)
    bitwise_xor = pointwise.bitwise_xor
    bitwise_xor_ = inplace(pointwise.bitwise_xor)
    div = pointwise.div
    div_ = inplace(pointwise.div)
    divide = pointwise.div
    divide_ = inplace(pointwise.div)
    eq = pointwise.eq
    eq_ = inplace(pointwise.eq)
    equal = pointwise.equal
    float_power = pointwise.float_power
    float_power_ = inplace(pointwise.float_power)
    floor_divide = pointwise.floor_divide
    floor_divide_ = inplace(pointwise.floor_divide)
    fmod = pointwise.fmod
    fmod_ = inplace(pointwise.fmod)
    ge = pointwise.ge
    ge_ = inplace(pointwise.ge)
    greater = pointwise.gt
    greater_ = inplace(pointwise.gt)
    greater_equal = pointwise.ge
    greater_equal_ = inplace(pointwise.ge)
    gt = pointwise.gt
    gt_ = inplace(pointwise.gt)
    isclose = pointwise.isclose
    le = pointwise.le
    le_ = inplace(pointwise.le)
    less = pointwise.lt
    less_ = inplace(pointwise.lt)
    less_equal = pointwise.le
    less_equal_ = inplace(pointwise.le)
    logical_and = pointwise.logical_and
    logical_and_ = inplace(pointwise.logical_and)
    logical_not = pointwise.logical_not
    logical_not_ = inplace(pointwise.logical_not)
    logical_or = pointwise.logical_or
    logical_or_ = inplace(pointwise.logical_or)
    logical_xor = pointwise.logical_xor
    logical_xor_ = inplace(pointwise.logical_xor)
    lt = pointwise.lt
    lt_ = inplace(pointwise.lt)
    mul = pointwise.mul
    mul_ = inplace(pointwise.mul)
    multiply = pointwise.mul
    multiply_ = inplace(pointwise.mul)
    ne = pointwise.ne
    ne_ = inplace(pointwise.ne)
    neg = pointwise.neg
    neg_ = inplace(pointwise.neg)
    negative = pointwise.neg
    negative_ = inplace(pointwise.neg)
    not_equal = pointwise.ne
    not_equal_ = inplace(pointwise.ne)
    positive = pointwise.positive
    pow = pointwise.pow
    pow_ = inplace(pointwise.pow)
    remainder = pointwise.remainder
    remainder_ = inplace(pointwise.remainder)
    square = pointwise.square
    square_ = inplace(pointwise.square)
    sub = pointwise.sub
    sub_ = inplace(pointwise.sub)
    subtract = pointwise.sub
    subtract_ = inplace(pointwise.sub)
    true_divide = pointwise.true_divide
    true_divide_ = inplace(pointwise.true_divide)

    # random
    bernoulli = random.bernoulli
    bernoulli_ = random.bernoulli_
    exponential_ = random.exponential_
    multinomial = random.multinomial
    normal_ = random.normal_
    random_ = random.random_
    uniform_ = random.uniform_

    # rearranging
    clone = rearranging.clone
    contiguous = rearranging.contiguous
    diag = rearranging.diag
    diag_embed = rearranging.diag_embed
    diagonal = rearranging.diagonal
    flip = rearranging.flip
    fliplr = rearranging.fliplr
    flipud = rearranging.flipud
    roll = rearranging.roll
    rot90 = rearranging.rot90
    tril = rearranging.tril
    tril_ = inplace(rearranging.tril)
    triu = rearranging.triu
    triu_ = inplace(rearranging.triu)

    # reduction
    all = reduction.all
    amax = reduction.amax
    amin = reduction.amin
    any = reduction.any
    argmax = reduction.argmax
    argmin = reduction.argmin
    count_nonzero = reduction.count_nonzero
    cumprod = reduction.cumprod
    cumprod_ = inplace(reduction.cumprod)
    cumsum = reduction.cumsum
    cumsum_ = inplace(reduction.cumsum)
    logcumsumexp = reduction.logcumsumexp
    logsumexp = reduction.logsumexp
    max = reduction.max
    mean = reduction.mean
    median = reduction.median
    min = reduction.min
    nanmean = reduction.nanmean
    nansum = reduction.nansum
    norm = reduction.norm
    prod = reduction.prod
    std = reduction.std
    sum = reduction.sum
    var = reduction.var

    # rounding
    ceil = rounding.ceil
    ceil_ = inplace(rounding.ceil)
    fix = rounding.trunc
    fix_ = inplace(rounding.trunc)
    floor = rounding.floor
    floor_ = inplace(rounding.floor)
    frac = rounding.frac
    frac_ = inplace(rounding.frac)
    isfinite = rounding.isfinite
    isinf = rounding.isinf
    isnan = rounding.isnan
    isneginf = rounding.isneginf
    isposinf = rounding.isposinf
    isreal = rounding.isreal
    round = rounding.round
    round_ = inplace(rounding.round)
    trunc = rounding.trunc
    trunc_ = inplace(rounding.trunc)

    # shape
    adjoint = shape.adjoint
    broadcast_to = shape.broadcast_to
    expand = shape.expand
    expand_as = shape.expand_as
    flatten = shape.flatten
    moveaxis = shape.moveaxis
    movedim = shape.movedim
    permute = shape.permute
    ravel = shape.ravel
    repeat = shape.repeat
    repeat_interleave = shape.repeat_interleave
    reshape = shape.reshape
    reshape_as = shape.reshape_as
    squeeze = shape.squeeze
    swapaxes = shape.swapaxes
    swapdims = shape.swapdims
    t = shape.t
    tile = shape.tile
    transpose = shape.transpose
    unflatten = shape.unflatten
    unsqueeze = shape.unsqueeze
    view = shape.view
    view_as = shape.view_as

    # sorting
    argsort = sorting.argsort
    kthvalue = sorting.kthvalue
    msort = sorting.msort
    sort = sorting.sort
    topk = sorting.topk

    # splitting
    chunk = splitting.chunk
    split = splitting.split
    tensor_split = splitting.tensor_split
    unbind = splitting.unbind
