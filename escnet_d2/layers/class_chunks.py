"""How computations over many classes are cut to bound memory."""

from __future__ import annotations


def class_chunks(num_classes: int, chunk_size: int) -> list[slice]:
    """Slices that cover ``range(num_classes)`` in order.

    Args:
        num_classes: K, 1 or more.
        chunk_size: classes per slice; 0 means all in one.
    """
    step = chunk_size if chunk_size > 0 else max(num_classes, 1)
    return [slice(start, min(start + step, num_classes)) for start in range(0, num_classes, step)]
