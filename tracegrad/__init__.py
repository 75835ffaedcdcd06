"""tracegrad: PyTorch's imperative face on JAX. ``import tracegrad as torch``.

Operations are recorded and run together as one compiled XLA program when somebody reads a value. See
``docs/architecture.md``.
"""

from math import e as e
from math import inf as inf
from math import nan as nan
from math import pi as pi

from tracegrad._engine.collection import collection_paused

with collection_paused:  # its passes over JAX's modules take a third of the time that an import takes
    from tracegrad import _VF as _VF
    from tracegrad import autograd as autograd
    from tracegrad import fft as fft
    from tracegrad import func as func
    from tracegrad import interop as interop
    from tracegrad import linalg as linalg
    from tracegrad import nn as nn
    from tracegrad import optim as optim
    from tracegrad import random as random
    from tracegrad import serialization as serialization
    from tracegrad import special as special
    from tracegrad import testing as testing
    from tracegrad import utils as utils

from tracegrad._compile import compile as compile
from tracegrad._conversions import BFloat16Tensor as BFloat16Tensor
from tracegrad._conversions import BoolTensor as BoolTensor
from tracegrad._conversions import ByteTensor as ByteTensor
from tracegrad._conversions import CharTensor as CharTensor
from tracegrad._conversions import DoubleTensor as DoubleTensor
from tracegrad._conversions import FloatTensor as FloatTensor
from tracegrad._conversions import HalfTensor as HalfTensor
from tracegrad._conversions import IntTensor as IntTensor
from tracegrad._conversions import LongTensor as LongTensor
from tracegrad._conversions import ShortTensor as ShortTensor
from tracegrad._device import Device as device
from tracegrad._device import get_default_device as get_default_device
from tracegrad._device import set_default_device as set_default_device
from tracegrad._dtype import DType as dtype
from tracegrad._dtype import bfloat16 as bfloat16
from tracegrad._dtype import bool_ as bool
from tracegrad._dtype import complex64 as cfloat
from tracegrad._dtype import complex64 as complex64
from tracegrad._dtype import complex128 as cdouble
from tracegrad._dtype import complex128 as complex128
from tracegrad._dtype import float16 as float16
from tracegrad._dtype import float16 as half
from tracegrad._dtype import float32 as float
from tracegrad._dtype import float32 as float32
from tracegrad._dtype import float64 as double
from tracegrad._dtype import float64 as float64
from tracegrad._dtype import get_default_dtype as get_default_dtype
from tracegrad._dtype import int8 as int8
from tracegrad._dtype import int16 as int16
from tracegrad._dtype import int16 as short
from tracegrad._dtype import int32 as int
from tracegrad._dtype import int32 as int32
from tracegrad._dtype import int64 as int64
from tracegrad._dtype import int64 as long
from tracegrad._dtype import promote_types as promote_types
from tracegrad._dtype import uint8 as uint8
from tracegrad._dtype import uint16 as uint16
from tracegrad._dtype import uint32 as uint32
from tracegrad._dtype import uint64 as uint64
from tracegrad._errors import UnsupportedError as UnsupportedError
from tracegrad._execution import cache_sizes as cache_sizes
from tracegrad._execution import clear_caches as clear_caches
from tracegrad._execution import eager as eager
from tracegrad._execution import synchronize as synchronize
from tracegrad._explain import explain as explain
from tracegrad._formats import channels_last as channels_last
from tracegrad._formats import contiguous_format as contiguous_format
from tracegrad._formats import preserve_format as preserve_format
from tracegrad._formats import strided as strided
from tracegrad._functions import *  # noqa: F403
from tracegrad._grad_mode import enable_grad as enable_grad
from tracegrad._grad_mode import inference_mode as inference_mode
from tracegrad._grad_mode import is_grad_enabled as is_grad_enabled
from tracegrad._grad_mode import is_inference_mode_enabled as is_inference_mode_enabled
from tracegrad._grad_mode import no_grad as no_grad
from tracegrad._grad_mode import set_default_dtype as set_default_dtype
from tracegrad._grad_mode import set_grad_enabled as set_grad_enabled
from tracegrad._interop import from_dlpack as from_dlpack
from tracegrad._interop import from_jax as from_jax
from tracegrad._limits import finfo as finfo
from tracegrad._limits import iinfo as iinfo
from tracegrad._ops._declare import is_tensor as is_tensor
from tracegrad._ops._generator import Generator as Generator
from tracegrad._ops._generator import default_generator as default_generator
from tracegrad._ops._generator import get_rng_state as get_rng_state
from tracegrad._ops._generator import initial_seed as initial_seed
from tracegrad._ops._generator import manual_seed as manual_seed
from tracegrad._ops._generator import seed as seed
from tracegrad._ops._generator import set_rng_state as set_rng_state
from tracegrad._ops._queries import broadcast_shapes as broadcast_shapes
from tracegrad._ops._queries import can_cast as can_cast
from tracegrad._ops._queries import is_complex as is_complex
from tracegrad._ops._queries import is_floating_point as is_floating_point
from tracegrad._ops._queries import is_inference as is_inference
from tracegrad._ops._queries import is_nonzero as is_nonzero
from tracegrad._ops._queries import is_same_size as is_same_size
from tracegrad._ops._queries import is_signed as is_signed
from tracegrad._ops._queries import numel as numel
from tracegrad._ops._queries import result_type as result_type
from tracegrad._printing import set_printoptions as set_printoptions
from tracegrad._size import Size as Size
from tracegrad._tensor import Tensor as Tensor
from tracegrad.func import vmap as vmap
from tracegrad.interop import wrap as wrap
from tracegrad.nn import functional as functional
from tracegrad.serialization import load as load
from tracegrad.serialization import save as save

del collection_paused
newaxis = None
__version__ = "0.1.0"
