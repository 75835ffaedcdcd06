"""The recurrent layers and cells."""

from tracegrad.nn._cells import GRUCell as GRUCell
from tracegrad.nn._cells import LSTMCell as LSTMCell
from tracegrad.nn._cells import RNNCell as RNNCell
from tracegrad.nn._cells import RNNCellBase as RNNCellBase
from tracegrad.nn._recurrent import GRU as GRU
from tracegrad.nn._recurrent import LSTM as LSTM
from tracegrad.nn._recurrent import RNN as RNN
from tracegrad.nn._recurrent import RNNBase as RNNBase
