"""The cost of a model: parameters, operations, time and memory per image."""

from __future__ import annotations

import resource
import statistics
import sys
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
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
        memory = torch.cuda.max_memory_allocated(device) if is_gpu else _process_memory()
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


def _process_memory() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Kilobytes on Linux, bytes on macOS.
    return peak if sys.platform == "darwin" else peak * 1024
