"""The methods of tensors that are ops. Written by ``python -m tracegrad._ops._generate``."""

from tracegrad._handle import Handle
from tracegrad._ops import activation, blending, calculus, comparison, copies, counting, creation, distances, exponents, factors, gathering, indexing, linalg, math, measures, pointwise, products, random, random_fills, ranking, ranks, rearranging, reduction, repeating, rounding, running, scattering, shape, solving, sorting, special, spectra, splitting, spread, thresholds, viewing, windows, writing
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

    # calculus
    diff = calculus.diff

    # comparison
    allclose = comparison.allclose
    bitwise_and = comparison.bitwise_and
    bitwise_and_ = inplace(comparison.bitwise_and)
    bitwise_left_shift = comparison.bitwise_left_shift
    bitwise_left_shift_ = inplace(comparison.bitwise_left_shift)
    bitwise_not = comparison.bitwise_not
    bitwise_not_ = inplace(comparison.bitwise_not)
    bitwise_or = comparison.bitwise_or
    bitwise_or_ = inplace(comparison.bitwise_or)
    bitwise_right_shift = comparison.bitwise_right_shift
    bitwise_right_shift_ = inplace(comparison.bitwise_right_shift)
    bitwise_xor = comparison.bitwise_xor
    bitwise_xor_ = inplace(comparison.bitwise_xor)
    eq = comparison.eq
    eq_ = inplace(comparison.eq)
    equal = comparison.equal
    ge = comparison.ge
    ge_ = inplace(comparison.ge)
    greater = comparison.gt
    greater_ = inplace(comparison.gt)
    greater_equal = comparison.ge
    greater_equal_ = inplace(comparison.ge)
    gt = comparison.gt
    gt_ = inplace(comparison.gt)
    isclose = comparison.isclose
    le = comparison.le
    le_ = inplace(comparison.le)
    less = comparison.lt
    less_ = inplace(comparison.lt)
    less_equal = comparison.le
    less_equal_ = inplace(comparison.le)
    logical_and = comparison.logical_and
    logical_and_ = inplace(comparison.logical_and)
    logical_not = comparison.logical_not
    logical_not_ = inplace(comparison.logical_not)
    logical_or = comparison.logical_or
    logical_or_ = inplace(comparison.logical_or)
    logical_xor = comparison.logical_xor
    logical_xor_ = inplace(comparison.logical_xor)
    lt = comparison.lt
    lt_ = inplace(comparison.lt)
    ne = comparison.ne
    ne_ = inplace(comparison.ne)
    not_equal = comparison.ne
    not_equal_ = inplace(comparison.ne)

    # copies
    narrow_copy = copies.narrow_copy

    # counting
    bincount = counting.bincount
    histc = counting.histc
    histogram = counting.histogram
    unique = counting.unique
    unique_consecutive = counting.unique_consecutive

    # creation
    new_empty = creation.new_empty
    new_full = creation.new_full
    new_ones = creation.new_ones
    new_tensor = creation.new_tensor
    new_zeros = creation.new_zeros

    # distances
    dist = distances.dist
    renorm = distances.renorm
    renorm_ = inplace(distances.renorm)

    # exponents
    frexp = exponents.frexp
    gcd = exponents.gcd
    gcd_ = inplace(exponents.gcd)
    lcm = exponents.lcm
    lcm_ = inplace(exponents.lcm)
    ldexp = exponents.ldexp
    ldexp_ = inplace(exponents.ldexp)
    nextafter = exponents.nextafter
    nextafter_ = inplace(exponents.nextafter)

    # factors
    cholesky = factors.cholesky
    cholesky_inverse = factors.cholesky_inverse
    cholesky_solve = factors.cholesky_solve
    qr = factors.qr

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
    copysign = math.copysign
    copysign_ = inplace(math.copysign)
    cos = math.cos
    cos_ = inplace(math.cos)
    cosh = math.cosh
    cosh_ = inplace(math.cosh)
    deg2rad = math.deg2rad
    deg2rad_ = inplace(math.deg2rad)
    exp = math.exp
    exp_ = inplace(math.exp)
    exp2 = math.exp2
    exp2_ = inplace(math.exp2)
    expm1 = math.expm1
    expm1_ = inplace(math.expm1)
    hypot = math.hypot
    hypot_ = inplace(math.hypot)
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

    # measures
    matrix_exp = measures.matrix_exp

    # pointwise
    add = pointwise.add
    add_ = inplace(pointwise.add)
    div = pointwise.div
    div_ = inplace(pointwise.div)
    divide = pointwise.div
    divide_ = inplace(pointwise.div)
    float_power = pointwise.float_power
    float_power_ = inplace(pointwise.float_power)
    floor_divide = pointwise.floor_divide
    floor_divide_ = inplace(pointwise.floor_divide)
    fmod = pointwise.fmod
    fmod_ = inplace(pointwise.fmod)
    mul = pointwise.mul
    mul_ = inplace(pointwise.mul)
    multiply = pointwise.mul
    multiply_ = inplace(pointwise.mul)
    neg = pointwise.neg
    neg_ = inplace(pointwise.neg)
    negative = pointwise.neg
    negative_ = inplace(pointwise.neg)
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

    # products
    addbmm = products.addbmm
    addbmm_ = inplace(products.addbmm)
    addr = products.addr
    addr_ = inplace(products.addr)

    # random
    bernoulli = random.bernoulli
    binomial = random.binomial
    multinomial = random.multinomial
    poisson = random.poisson

    # random_fills
    bernoulli_ = random_fills.bernoulli_
    cauchy_ = random_fills.cauchy_
    exponential_ = random_fills.exponential_
    geometric_ = random_fills.geometric_
    log_normal_ = random_fills.log_normal_
    normal_ = random_fills.normal_
    random_ = random_fills.random_
    uniform_ = random_fills.uniform_

    # ranking
    median = ranking.median
    mode = ranking.mode
    nanmedian = ranking.nanmedian
    nanquantile = ranking.nanquantile
    quantile = ranking.quantile

    # ranks
    pinverse = ranks.pinverse

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
    aminmax = reduction.aminmax
    any = reduction.any
    argmax = reduction.argmax
    argmin = reduction.argmin
    count_nonzero = reduction.count_nonzero
    logsumexp = reduction.logsumexp
    max = reduction.max
    mean = reduction.mean
    min = reduction.min
    nanmean = reduction.nanmean
    nansum = reduction.nansum
    norm = reduction.norm
    prod = reduction.prod
    sum = reduction.sum
    sum_to_size = reduction.sum_to_size

    # repeating
    repeat = repeating.repeat
    repeat_interleave = repeating.repeat_interleave
    tile = repeating.tile

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

    # running
    cummax = running.cummax
    cummin = running.cummin
    cumprod = running.cumprod
    cumprod_ = inplace(running.cumprod)
    cumsum = running.cumsum
    cumsum_ = inplace(running.cumsum)
    logcumsumexp = running.logcumsumexp

    # scattering
    as_strided = scattering.as_strided
    as_strided_scatter = scattering.as_strided_scatter
    diagflat = scattering.diagflat
    diagonal_scatter = scattering.diagonal_scatter
    index_copy = scattering.index_copy
    index_copy_ = inplace(scattering.index_copy)
    index_reduce = scattering.index_reduce
    index_reduce_ = inplace(scattering.index_reduce)
    put = scattering.put
    put_ = inplace(scattering.put)
    scatter_reduce = scattering.scatter_reduce
    scatter_reduce_ = inplace(scattering.scatter_reduce)
    select_scatter = scattering.select_scatter
    slice_scatter = scattering.slice_scatter

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
    reshape = shape.reshape
    reshape_as = shape.reshape_as
    squeeze = shape.squeeze
    swapaxes = shape.swapaxes
    swapdims = shape.swapdims
    t = shape.t
    transpose = shape.transpose
    unflatten = shape.unflatten
    unsqueeze = shape.unsqueeze
    view = shape.view
    view_as = shape.view_as

    # solving
    det = solving.det
    inverse = solving.inverse
    logdet = solving.logdet
    matrix_power = solving.matrix_power
    slogdet = solving.slogdet

    # sorting
    argsort = sorting.argsort
    kthvalue = sorting.kthvalue
    msort = sorting.msort
    sort = sorting.sort
    topk = sorting.topk

    # special
    digamma = special.digamma
    digamma_ = inplace(special.digamma)
    erf = special.erf
    erf_ = inplace(special.erf)
    erfc = special.erfc
    erfc_ = inplace(special.erfc)
    erfinv = special.erfinv
    erfinv_ = inplace(special.erfinv)
    i0 = special.i0
    i0_ = inplace(special.i0)
    igamma = special.igamma
    igamma_ = inplace(special.igamma)
    igammac = special.igammac
    igammac_ = inplace(special.igammac)
    lgamma = special.lgamma
    lgamma_ = inplace(special.lgamma)
    logit = special.logit
    logit_ = inplace(special.logit)
    mvlgamma = special.mvlgamma
    mvlgamma_ = inplace(special.mvlgamma)
    polygamma = special.polygamma
    polygamma_ = inplace(special.polygamma)
    sinc = special.sinc
    sinc_ = inplace(special.sinc)

    # spectra
    svd = spectra.svd

    # splitting
    chunk = splitting.chunk
    dsplit = splitting.dsplit
    hsplit = splitting.hsplit
    split = splitting.split
    split_with_sizes = splitting.split_with_sizes
    tensor_split = splitting.tensor_split
    unbind = splitting.unbind
    unsafe_chunk = splitting.unsafe_chunk
    unsafe_split = splitting.unsafe_split
    vsplit = splitting.vsplit

    # spread
    corrcoef = spread.corrcoef
    cov = spread.cov
    std = spread.std
    var = spread.var

    # thresholds
    hardshrink = thresholds.hardshrink
    prelu = thresholds.prelu

    # viewing
    conj = viewing.conj
    conj_physical = viewing.conj_physical
    conj_physical_ = inplace(viewing.conj_physical)
    is_conj = viewing.is_conj
    is_neg = viewing.is_neg
    resolve_conj = viewing.resolve_conj
    resolve_neg = viewing.resolve_neg
    unfold = viewing.unfold

    # windows
    istft = windows.istft
    stft = windows.stft

    # writing
    index_put = writing.index_put
    index_put_ = inplace(writing.index_put)
    masked_scatter = writing.masked_scatter
    masked_scatter_ = inplace(writing.masked_scatter)
