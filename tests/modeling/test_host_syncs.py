"""How often ESC-Net's forward would make the host wait for a GPU, counted on a CPU."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

WAITING = {
    "_local_scalar_dense", "_unique2", "bincount", "equal", "masked_select", "nonzero", "unique_dim"
}  # fmt: skip


class WaitingOperators(TorchDispatchMode):
    """Counts operators whose result, or its size, the host has to know."""

    def __init__(self, found):
        super().__init__()
        self.found = found

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        indices = args[1] if name.startswith(("index", "_index_put")) and len(args) > 1 else ()
        by_mask = isinstance(indices, (list, tuple)) and any(
            index is not None and index.dtype == torch.bool for index in indices
        )
        if name in WAITING or by_mask:
            self.found[name] += 1
        return func(*args, **(kwargs or {}))


class WaitingMethods(TorchFunctionMode):
    """Counts what reaches no operator on a CPU: lists from tensors, and tensors from lists."""

    def __init__(self, found):
        super().__init__()
        self.found = found

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if getattr(func, "__name__", "") in ("tolist", "new_tensor", "tensor", "as_tensor"):
            self.found[func.__name__] += 1
        return func(*args, **(kwargs or {}))


def waits(function):
    found = Counter()
    with WaitingMethods(found), WaitingOperators(found):
        function()
    return found


def test_each_way_to_wait_is_seen():
    x = torch.ones(3)
    assert waits(lambda: x[x > 0]) == {"index": 1}
    assert waits(lambda: x.clone().index_put_((x > 0,), x)).keys() & {"index_put_", "index_put"}
    assert waits(lambda: (x.nonzero(), x.tolist(), float(x[0]), x.unique())) == {
        "nonzero": 1, "tolist": 1, "_local_scalar_dense": 1, "_unique2": 1
    }  # fmt: skip
    assert waits(lambda: x.new_tensor([1.0])) == {"new_tensor": 1}
    index = torch.tensor([0, 2])
    assert not waits(lambda: x[index] + torch.where(x > 0, x, 0.0)[1:])


@pytest.mark.parametrize("chunk_size", [0, 2])
def test_each_block_waits_once(tiny_model, vocabulary, chunk_size):
    tiny_model.sem_seg_head.class_chunk_size = chunk_size
    text = tiny_model.encode_text(vocabulary.entries)
    images = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        found = waits(lambda: tiny_model.predict(images, text))
    assert found == {"tolist": len(tiny_model.sem_seg_head.blocks)}
