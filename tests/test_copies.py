"""Copies: ``copy.copy``, ``copy.deepcopy`` and pickles leave the same tensors, aliases and gradients as PyTorch's."""

from __future__ import annotations

import copy
import pickle
import re
import warnings
from typing import Any

import pytest

import tracegrad as tg

#: Each ends with a list ``out``; ``C`` is the way of copying.
PROGRAMS = {
    "leaf": """
x=T.tensor([1.,2.],requires_grad=True)
y=C(x)
out=[y,y.is_leaf,y.grad,y is x]
""",
    "grad": """
x=T.tensor([1.,2.],requires_grad=True)
(x*x).sum().backward()
y=C(x)
out=[y,y.grad, y.grad is x.grad]
""",
    "view": """
b=T.arange(6.)
v=b[2:5]
w=C(v)
w[0]=100.
out=[w,b,v,w.stride(),w.storage_offset(),w._base is None]
""",
    "alias pair": """
b=T.arange(6.)
v=b[1:4]
p,q=C((b,v))
p[2]=50.
q[0]=60.
out=[p,q,b,v]
""",
    "alias pair2": """
b=T.arange(6.)
v=b[1:4]
q,p=C((v,b))
p[2]=50.
q[0]=60.
out=[p,q,b,v]
""",
    "two views": """
b=T.arange(6.)
v,u=b[1:4],b[2:6]
q,p=C((v,u))
p[0]=50.
q[0]=60.
q.mul_(2)
out=[p,q,b,v,u]
""",
    "transpose": """
b=T.arange(6.).reshape(2,3)
t=b.t()
q,p=C([t,b])
q[0,1]=9.
out=[q,p,b,q.stride()]
""",
    "detach": """
b=T.arange(3.)
d=b.detach()
q,p=C([d,b])
q[0]=9.
out=[q,p,b,d]
""",
    "detach leaf": """
b=T.arange(3.).requires_grad_()
d=b.detach()
q,p=C([d,b])
q[0]=9.
out=[q,p,b,d,p.requires_grad,q.requires_grad]
""",
    "same twice": """
b=T.arange(3.)
p,q=C([b,b])
out=[p is q,p]
""",
    "expand": """
b=T.tensor([1.])
e=b.expand(3)
q=C(e)
out=[q,q.stride()]
""",
    "attr": """
b=T.arange(3.)
b.tag='hi'
b.peer=b*2
q=C(b)
out=[q,q.tag,q.peer,b.peer is q.peer]
""",
    "param": """
p=T.nn.Parameter(T.ones(2))
p.note=3
q=C(p)
out=[q,type(q).__name__,getattr(q,'note',None),q.is_leaf]
""",
    "param grad": """
p=T.nn.Parameter(T.ones(2))
p.grad=T.ones(2)
q=C(p)
out=[q,q.grad]
""",
    "frozen param": """
p=T.nn.Parameter(T.ones(2),requires_grad=False)
q=C(p)
out=[q,q.requires_grad]
""",
    "nonleaf": """
x=T.ones(2,requires_grad=True)
y=x*2
q=C(y)
out=[q,q.is_leaf]
""",
    "dtypes": """
names="bool uint8 int8 int16 int32 int64 float16 bfloat16 float64 complex64 complex128".split()
out=[C(T.ones(2,dtype=getattr(T,n))) for n in names]
""",
    "empty": """
out=[C(T.ones(0,3)),C(T.tensor(5))]
""",
    "module": """
m=T.nn.Linear(2,2)
m.buf=T.ones(2)
m.weight.data.fill_(1.);m.bias.data.fill_(2.)
n=C(m)
n.weight.data.fill_(7.)
out=[m.weight,n.weight,n.bias,n]
""",
    "shared module": """
m=T.nn.Linear(2,2)
s=T.nn.Sequential(m,m)
n=C(s)
out=[n[0] is n[1],len(list(n.parameters()))]
""",
    "tied": """
a,b=T.nn.Linear(2,2),T.nn.Linear(2,2)
b.weight=a.weight
s=T.nn.Sequential(a,b)
n=C(s)
out=[n[0].weight is n[1].weight,len(list(n.parameters()))]
""",
    "optimizer": """
m=T.nn.Linear(2,1)
o=T.optim.Adam(m.parameters())
m(T.ones(1,2)).sum().backward()
o.step()
m2,o2=C((m,o))
out=[o2.param_groups[0]['params'][0] is m2.weight,len(o2.state)]
""",
    "generator": """
g=T.Generator().manual_seed(5)
T.rand(3,generator=g)
h=C(g)
out=[h.initial_seed(),T.equal(T.rand(3,generator=g),T.rand(3,generator=h))]
""",
    "size": """
s=T.Size([2,3])
q=C(s)
out=[q,type(q).__name__]
""",
    "dtype dev": """
out=[C(T.float32) is T.float32,C(T.device('cpu')),C(T.strided)==T.strided]
""",
    "inference": """
with T.inference_mode():
    x=T.ones(2)
    y=C(x)
out=[y]
""",
    "nograd view": """
x=T.ones(3,requires_grad=True)
with T.no_grad():
    y=C(x)
out=[y,y.requires_grad]
""",
    "write after": """
x=T.ones(3)
y=C(x)
x.add_(1)
out=[x,y]
""",
    "shared grad": """
x=T.ones(3,requires_grad=True)
y=C(x)
(y*2).sum().backward()
out=[x.grad,y.grad]
""",
}


def pickled(x: Any) -> Any:
    return pickle.loads(pickle.dumps(x))


WAYS = {"copy": copy.copy, "deepcopy": copy.deepcopy, "pickle": pickled}

#: PyTorch's own pickles (not those of `torch.save`) hold shared elements twice; ours hold them once.
SHARED = ("alias pair", "alias pair2", "two views", "transpose", "detach", "detach leaf")


def outcome(library: Any, program: str, way: Any) -> str:
    names: dict[str, Any] = {"T": library, "C": way}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exec(program, names)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return re.sub("0x[0-9a-f]+", "0x", repr(names["out"])).replace("tracegrad", "torch")


@pytest.mark.oracle
@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("way", WAYS)
def test_copies_are_pytorchs(way: str, name: str) -> None:
    torch = pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")
    theirs = WAYS["deepcopy" if way == "pickle" and name in SHARED else way]
    assert outcome(tg, PROGRAMS[name], WAYS[way]) == outcome(torch, PROGRAMS[name], theirs)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_protocol(protocol: int) -> None:
    x = tg.tensor([[1.5, 2.0]], dtype=tg.bfloat16, requires_grad=True)
    p = tg.nn.Parameter(tg.ones(2))
    base = tg.arange(4)
    made = pickle.loads(pickle.dumps([x, p, base[1:], base, tg.float16, tg.Size([3])], protocol))
    y, q, part, whole, dtype, size = made
    assert y.requires_grad and y.is_leaf and y.dtype is tg.bfloat16 and y.tolist() == [[1.5, 2.0]]
    assert type(q) is tg.nn.Parameter and q.requires_grad
    part[0] = 9
    assert whole.tolist() == [0, 9, 2, 3] and base.tolist() == [0, 1, 2, 3]
    assert dtype is tg.float16 and type(size) is tg.Size


def test_pending_tensors() -> None:
    x = tg.ones(3) * 2
    y = copy.deepcopy(x)
    x.add_(1)
    assert y.tolist() == [2, 2, 2] and pickled(x).tolist() == [3, 3, 3]


def test_a_copy_of_a_leaf_gets_gradients_of_its_own() -> None:
    x = tg.ones(2, requires_grad=True)
    for made in (copy.copy(x), copy.deepcopy(x), pickled(x)):
        (made * 3).sum().backward()
        assert made.grad.tolist() == [3, 3] and x.grad is None


def test_a_deep_copy_of_a_model_trains_apart() -> None:
    model = tg.nn.Sequential(tg.nn.Linear(2, 3), tg.nn.BatchNorm1d(3), tg.nn.Linear(3, 1))
    twin = copy.deepcopy(model)
    before = [p.tolist() for p in model.parameters()]
    optimizer = tg.optim.SGD(twin.parameters(), lr=0.1)
    twin(tg.randn(4, 2)).sum().backward()
    optimizer.step()
    assert [p.tolist() for p in model.parameters()] == before != [p.tolist() for p in twin.parameters()]
    assert model[1].num_batches_tracked.item() == 0 and twin[1].num_batches_tracked.item() == 1


class Marked(tg.Tensor):
    """A tensor of a class of its own."""


def test_subclasses() -> None:
    x = tg.ones(2, requires_grad=True)
    s = (x * 2).as_subclass(Marked)
    assert type(s) is Marked and s.grad_fn is not None
    s.sum().backward()
    assert x.grad.tolist() == [2, 2]
    leaf = tg.Tensor._make_subclass(Marked, tg.ones(2), True)
    assert type(leaf) is Marked and leaf.requires_grad and leaf.is_leaf
    for made in (copy.copy(leaf), copy.deepcopy(leaf), pickled(leaf)):
        assert type(made) is Marked and made.requires_grad and made.tolist() == [1, 1]


def test_memory_formats_are_names_that_survive_copies() -> None:
    assert repr(tg.contiguous_format) == "torch.contiguous_format"
    for format in (tg.strided, tg.preserve_format, tg.contiguous_format, tg.channels_last):
        assert copy.deepcopy(format) is format and pickled(format) is format
    assert tg.ones(2).clone(memory_format=tg.preserve_format).tolist() == [1, 1]
