"""The text of modules, parameters, optimizers and the small objects: PyTorch's."""

from __future__ import annotations

from typing import Any

import pytest

import tracegrad as tg

OBJECTS = """
nn.Linear(3, 4)
nn.Linear(3, 4, bias=False)
nn.Identity()
nn.Embedding(5, 3)
nn.LSTM(3, 4, 2, proj_size=2, bidirectional=True)
nn.GRU(3, 4, batch_first=True)
nn.RNN(3, 4, nonlinearity='relu', bias=False)
nn.RNNCell(3, 4, False, 'relu')
nn.Embedding(5, 3, padding_idx=1)
nn.EmbeddingBag(5, 3)
nn.Conv1d(2, 3, 3)
nn.Conv2d(2, 4, 3, stride=2, padding=1)
nn.Conv2d(2, 4, (3, 5), padding=(1, 2), dilation=2, groups=2, bias=False)
nn.Conv2d(2, 4, 3, padding='same')
nn.Conv2d(2, 4, 3, padding_mode='reflect', padding=1)
nn.BatchNorm1d(3)
nn.BatchNorm2d(3, eps=1e-3, momentum=None, affine=False)
nn.LayerNorm(3)
nn.LayerNorm((2, 3), eps=1e-6, elementwise_affine=False)
nn.LayerNorm(3, bias=False)
nn.GroupNorm(2, 4)
nn.GroupNorm(2, 4, affine=False)
nn.RMSNorm(3)
nn.RMSNorm((2, 3), eps=1e-6)
nn.ReLU()
nn.ReLU(inplace=True)
nn.ReLU6()
nn.LeakyReLU()
nn.LeakyReLU(0.2, inplace=True)
nn.ELU()
nn.ELU(0.5, True)
nn.GELU()
nn.GELU('tanh')
nn.SiLU()
nn.SiLU(True)
nn.Sigmoid()
nn.Tanh()
nn.Softmax()
nn.Softmax(dim=1)
nn.LogSoftmax(dim=-1)
nn.Softplus()
nn.Softplus(2, 10)
nn.Hardtanh()
nn.Hardtanh(-2, 2)
nn.Dropout()
nn.Dropout(0.1, inplace=True)
nn.MaxPool1d(2)
nn.MaxPool2d(2)
nn.MaxPool2d((2, 3), stride=1, padding=1, dilation=2, ceil_mode=True)
nn.AvgPool1d(2)
nn.AvgPool2d(2, 1, 1)
nn.AdaptiveAvgPool2d((1, None))
nn.AdaptiveAvgPool2d(1)
nn.Flatten()
nn.Flatten(0, 2)
nn.Unflatten(1, (2, 3))
nn.MSELoss()
nn.L1Loss(reduction='sum')
nn.CrossEntropyLoss()
nn.CrossEntropyLoss(weight=torch.ones(3), label_smoothing=.1)
nn.NLLLoss()
nn.BCELoss()
nn.BCEWithLogitsLoss()
nn.BCEWithLogitsLoss(pos_weight=torch.ones(2))
nn.SmoothL1Loss()
nn.HuberLoss()
nn.KLDivLoss()
nn.Sequential()
nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
nn.Sequential(nn.Sequential(nn.Linear(2, 3), nn.ReLU()), nn.ModuleList([nn.Linear(1, 1), nn.Linear(1, 1), nn.ReLU()]))
nn.ModuleList()
nn.ModuleList([nn.Linear(2, 2) for _ in range(4)])
nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2), nn.Linear(2, 3)])
nn.ModuleDict()
nn.ModuleDict({'a':nn.Linear(1, 2), 'b':nn.Sequential(nn.ReLU(), nn.Tanh())})
nn.ParameterList()
nn.ParameterList([torch.nn.Parameter(torch.zeros(2, 3)), torch.nn.Parameter(torch.zeros(1))])
nn.Parameter(torch.zeros(2))
nn.Parameter(torch.zeros(2), requires_grad=False)
nn.Buffer(torch.zeros(2))
[nn.Parameter(torch.zeros(2))]
{'a':torch.zeros(2)}
(torch.zeros(1), torch.ones(1))
torch.float32
torch.bool
torch.device('cpu')
torch.device('cuda', 1)
torch.Size([1, 2])
torch.strided
torch.contiguous_format
torch.finfo(torch.float32)
torch.iinfo(torch.int8)
torch.Tensor
type(torch.zeros(1))
str(nn.Linear(1, 1))
optim.SGD([torch.zeros(1, requires_grad=True)], lr=.1)
optim.SGD([torch.zeros(1, requires_grad=True)], lr=.1, momentum=.9, nesterov=True)
optim.Adam([torch.zeros(1, requires_grad=True)])
optim.AdamW([torch.zeros(1, requires_grad=True)], lr=1e-4, weight_decay=.1)
optim.Adam([{'params':[torch.zeros(1, requires_grad=True)]}, {'params':[torch.ones(1, requires_grad=True)], 'lr':.5}])
optim.lr_scheduler.StepLR(optim.SGD([torch.zeros(1, requires_grad=True)], lr=.1), 2)
""".split("\n")[1:-1]


@pytest.mark.oracle
@pytest.mark.parametrize("text", OBJECTS)
def test_text_is_pytorchs(text: str) -> None:
    torch = pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")

    def shown(library: Any) -> tuple[str, str]:
        made = eval(text, {"torch": library, "nn": library.nn, "optim": library.optim})
        # A scheduler, like every plain object, shows where it is; so no more than its beginning is compared.
        return tuple(s.replace("tracegrad", "torch").partition(" object at ")[0] for s in (repr(made), str(made)))

    assert shown(tg) == shown(torch)


class Block(tg.nn.Module):
    """A module with texts of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = tg.nn.ModuleList([tg.nn.Linear(2, 2) for _ in range(3)])
        self.last = tg.nn.Sequential(tg.nn.ReLU())
        self.nothing = None

    def extra_repr(self) -> str:
        return "depth=3"


def test_modules_of_a_users_own() -> None:
    assert repr(Block()) == """\
Block(
  depth=3
  (layers): ModuleList(
    (0-2): 3 x Linear(in_features=2, out_features=2, bias=True)
  )
  (last): Sequential(
    (0): ReLU()
  )
)"""


def test_generators_and_classes_say_where_they_are_public() -> None:
    assert repr(tg.Generator()).startswith("<tracegrad.Generator object at 0x")
    assert repr(tg.Tensor) == "<class 'tracegrad.Tensor'>"
    assert repr(tg.nn.Parameter) == "<class 'tracegrad.nn.Parameter'>"
