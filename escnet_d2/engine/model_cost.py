"""What a model costs: parameters, operations, time and memory per image."""

from __future__ import annotations

import resource
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

_MEGABYTE = 2**20


@dataclass(frozen=True)
class ModelCost:
    """Cost of one image, whose text embeddings are there already.

    Attributes:
        parameters: number of all parameters.
        trainable_parameters: number of those that train.
        gflops: billions of floating-point operations of the first image, a multiplication and an
            addition counted as two; of matrix products, convolutions and attention.
        latency_ms: median milliseconds per image.
        latency_spread_ms: interquartile range of the milliseconds.
        peak_memory_mb: most memory in use, in MiB: on a GPU what tensors take there; on a CPU the
            process's, with Python and libraries.
        images: how many images were timed.
        device: such as "cuda:0, NVIDIA A100" or "cpu, 2 threads".
        classes: entries of the vocabulary of the images.
        image_size: (height, width) of the first image as the model gets it.
    """

    parameters: int
    trainable_parameters: int
    gflops: float
    latency_ms: float
    latency_spread_ms: float
    peak_memory_mb: float
    images: int
    device: str
    classes: int
    image_size: tuple[int, int]


def measure_cost(
    model: nn.Module, samples: Sequence[dict[str, Any]], *, warm_up: int = 1
) -> ModelCost:
    """Measures inference one image at a time.

    Args:
        model: on its device; is put into eval mode.
        samples: what the test mapper gives, one or more.
        warm_up: runs of the first image that do not count.

    Raises:
        ValueError: there is no sample.
    """
    if not samples:
        raise ValueError("There is no image to measure the cost on.")
    model.eval()
    device = next(model.parameters()).device
    with torch.no_grad():
        for _ in range(max(warm_up, 1)):
            model([samples[0]])
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        seconds = [_timed(model, sample, device) for sample in samples]
        memory = _peak_memory(device)
        # Last: counting makes everything slow.
        flops = _operations(model, samples[0])
    milliseconds = sorted(1000 * value for value in seconds)
    return ModelCost(
        parameters=sum(p.numel() for p in model.parameters()),
        trainable_parameters=sum(p.numel() for p in model.parameters() if p.requires_grad),
        gflops=flops / 1e9,
        latency_ms=statistics.median(milliseconds),
        latency_spread_ms=_interquartile_range(milliseconds),
        peak_memory_mb=memory / _MEGABYTE,
        images=len(samples),
        device=_describe(device),
        classes=samples[0]["vocabulary"].num_entries,
        image_size=tuple(samples[0]["image"].shape[1:]),
    )


def _operations(model: nn.Module, sample: dict[str, Any]) -> int:
    # torch's counter follows modules by the gradients of their inputs, and fails where these are
    # wanted but nothing records them.
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    counter = FlopCounterMode(display=False)
    try:
        model.requires_grad_(False)
        with counter:
            model([sample])
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
    return counter.get_total_flops()


def _timed(model: nn.Module, sample: dict[str, Any], device: torch.device) -> float:
    _wait(device)
    start = time.perf_counter()
    model([sample])
    _wait(device)
    return time.perf_counter() - start


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _peak_memory(device: torch.device) -> float:
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Kilobytes on Linux, bytes on macOS.
    return float(peak if sys.platform == "darwin" else peak * 1024)


def _interquartile_range(values: Sequence[float]) -> float:
    if len(values) < 2:
        return 0.0
    low, _, high = statistics.quantiles(values, n=4)
    return high - low


def _describe(device: torch.device) -> str:
    if device.type == "cuda":
        return f"{device}, {torch.cuda.get_device_name(device)}"
    return f"{device}, {torch.get_num_threads()} threads"
