"""The state of every random generator of a process, as plain tensors and numbers."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def get_random_state() -> dict[str, Any]:
    """Captures the generators of Python, numpy, torch and, where there is one, the current GPU.

    Returns:
        Tensors, numbers and tuples only, so that ``torch.load(weights_only=True)`` reads it.
    """
    name, keys, position, has_gauss, cached_gaussian = np.random.get_state()  # noqa: NPY002
    return {
        "python": random.getstate(),
        "numpy": (
            name,
            torch.from_numpy(keys.astype(np.int64)),
            position,
            has_gauss,
            cached_gaussian,
        ),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Restores what :func:`get_random_state` captured.

    Args:
        state: possibly from a machine with another number of GPUs; the GPU's part is used only if
            both had one.
    """
    name, keys, *rest = state["numpy"]
    random.setstate(state["python"])
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


@contextmanager
def preserved_random_state() -> Iterator[None]:
    """Puts all generators back at the end, whatever was drawn inside."""
    state = get_random_state()
    try:
        yield
    finally:
        set_random_state(state)
