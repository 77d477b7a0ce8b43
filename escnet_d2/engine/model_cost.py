"""The cost of a model: parameters, operations, time and memory per image, memory of training."""

from __future__ import annotations

import resource
import statistics
import sys
import time
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

_MEGABYTE = 2**20


def measure_cost(model: nn.Module, samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Measures inference one image at a time, whose text embeddings are there already.

    Args:
        model: on its device; is put into eval mode.
        samples: what the test mapper gives, one or more.

    Returns:
        ``parameters`` and ``trainable_parameters``: their numbers. ``gflops``: billions of
        floating-point operations of the first image, a multiplication and an addition counted as
        two; of matrix products, convolutions and attention. ``latency_ms`` and
        ``latency_spread_ms``: median and interquartile range of the milliseconds per image.
        ``peak_memory_mb``: most memory in use, in MiB: on a GPU what tensors take there; on a CPU
        the process's, with Python and libraries. ``images``: how many were timed. ``device``: such
        as "cuda:0, NVIDIA A100" or "cpu, 2 threads". ``classes``: entries of the vocabulary.
        ``image_size``: height and width of the first image as the model gets it.

    Raises:
        ValueError: ``samples`` is empty.
    """
    if not samples:
        raise ValueError("There is no image to measure the cost on.")
    model.eval()
    device = next(model.parameters()).device
    is_gpu = device.type == "cuda"

    def milliseconds(sample: dict[str, Any]) -> float:
        start = time.perf_counter()
        model([sample])
        if is_gpu:
            torch.cuda.synchronize(device)
        return 1000 * (time.perf_counter() - start)

    with torch.no_grad():
        # Embeds the classes and loads kernels; does not count.
        milliseconds(samples[0])
        if is_gpu:
            torch.cuda.reset_peak_memory_stats(device)
        times = [milliseconds(sample) for sample in samples]
        memory = peak_memory(device)
        # Last: counting makes everything slow.
        operations = _operations(model, samples[0])
    low, _, high = statistics.quantiles(times, n=4) if len(times) > 1 else (0.0, 0.0, 0.0)
    name = torch.cuda.get_device_name(device) if is_gpu else f"{torch.get_num_threads()} threads"
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "trainable_parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "gflops": operations / 1e9,
        "latency_ms": statistics.median(times),
        "latency_spread_ms": high - low,
        "peak_memory_mb": memory / _MEGABYTE,
        "images": len(samples),
        "device": f"{device}, {name}",
        "classes": samples[0]["vocabulary"].num_entries,
        "image_size": list(samples[0]["image"].shape[1:]),
    }


def _operations(model: nn.Module, sample: dict[str, Any]) -> int:
    # torch's counter follows modules by the gradients of their inputs, and fails where these are
    # wanted but nothing records them.
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        model.requires_grad_(False)
        with FlopCounterMode(display=False) as counter:
            model([sample])
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
    return counter.get_total_flops()


def peak_memory(device: torch.device) -> int:
    """Returns the most bytes in use so far.

    Args:
        device: on a GPU what tensors took there since its statistics were reset; on a CPU what the
            process took, with Python and libraries.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Kilobytes on Linux, bytes on macOS.
    return peak if sys.platform == "darwin" else peak * 1024


def saved_bytes(model: nn.Module, batch: list[dict[str, Any]]) -> int:
    """Counts what a forward pass in training keeps for the backward pass, on any device.

    Args:
        model: in training mode, not wrapped for distributed training; keeps no gradient of it.
        batch: what the training mapper gives.

    Returns:
        Bytes of the storages that are kept, each once; the model's own weights do not count.
    """
    kept: weakref.WeakSet[_Saved] = weakref.WeakSet()

    def pack(tensor: Tensor) -> _Saved:
        saved = _Saved(tensor.detach())
        kept.add(saved)
        return saved

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda saved: saved.tensor):
        losses = model(batch)
    storages = [saved.tensor.untyped_storage() for saved in kept]
    sizes = {storage.data_ptr(): storage.nbytes() for storage in storages}
    for tensor in (*model.parameters(), *model.buffers()):
        sizes.pop(tensor.untyped_storage().data_ptr(), None)
    # Till here: the graph of the losses is what keeps the tensors.
    del losses
    return sum(sizes.values())


@dataclass(eq=False)
class _Saved:
    """A tensor in the place of which autograd keeps this; gone when the graph is."""

    tensor: Tensor
