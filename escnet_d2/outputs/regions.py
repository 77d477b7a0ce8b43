"""What a label map says about each class: area and mean score."""

from __future__ import annotations

import numpy as np


def class_areas(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Counts the pixels of each class.

    Args:
        labels: (H, W) integers in 0..K-1.
        num_classes: K.

    Returns:
        (K,) int64; the sum is H x W.

    Raises:
        ValueError: a label outside 0..K-1.
    """
    if labels.min() < 0 or labels.max() >= num_classes:
        raise ValueError(
            f"Labels must be 0 to {num_classes - 1}, got {labels.min()} to {labels.max()}."
        )
    return np.bincount(labels.ravel(), minlength=num_classes)


def mean_scores(labels: np.ndarray, scores: np.ndarray, num_classes: int) -> np.ndarray:
    """Averages the winning score over the pixels of each class.

    Args:
        labels: (H, W) integers in 0..K-1.
        scores: (H, W) in [0, 1].
        num_classes: K.

    Returns:
        (K,) float64 in [0, 1]; 0 for classes without a pixel.
    """
    sums = np.bincount(labels.ravel(), weights=scores.ravel(), minlength=num_classes)
    return sums / np.maximum(np.bincount(labels.ravel(), minlength=num_classes), 1)
