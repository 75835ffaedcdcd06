"""Inference tensors: what an op makes in inference mode, and what it makes of inference tensors outside.

Which it is stands in a value's spec, and so in the trie: on the hit path nobody asks.
"""

from __future__ import annotations

from collections.abc import Sequence

from tracegrad._engine import tape
from tracegrad._engine.op import Prepared
from tracegrad._engine.trie import Mode
from tracegrad._engine.value import Aval, Number, Value

UNSAVEABLE = (
    "Inference tensors cannot be saved for backward. Please do not use Tensors created in inference mode in "
    "computation tracked by autograd. To work around this, you can make a clone to get a normal tensor and use it in "
    "autograd, or use `torch.no_grad()` instead of `torch.inference_mode()`."
)


def settled(mode: Mode, prepared: Prepared, operands: Sequence[Aval | Number], values: Sequence[Value | None],
            wanted: list[int]) -> tuple[bool, list[int]]:  # fmt: skip
    """Return whether an op makes inference tensors, and the operands whose gradient is wanted after all.

    Args:
        mode: in which it is recorded.
        prepared: the op.
        operands: what it is recorded with.
        values: of the operands, None for numbers.
        wanted: the operands whose gradient would be wanted.

    Raises:
        RuntimeError: as PyTorch does, where its derivative would have to keep an inference tensor.
    """
    made_so = [i for i, v in enumerate(values) if v is not None and v.spec.inference]
    if all(v is None or v.spec.inference for v in values):
        wanted = []  # autograd knows nothing of ops on inference tensors alone
    lowering = prepared.lowering
    if wanted and lowering.saves and not tape.saved(prepared, operands, wanted).isdisjoint(made_so):
        raise RuntimeError(UNSAVEABLE)
    shares = lowering.view is not None or lowering.alias or lowering.renews > 0
    return 0 in made_so if shares else mode.inference, wanted
