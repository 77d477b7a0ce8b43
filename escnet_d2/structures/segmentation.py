"""The result for one image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

# Pixels.
_STRIP = 2**24


@dataclass(frozen=True)
class Segmentation:
    """Semantic segmentation of one image at its own size.

    Attributes:
        labels: (H, W) int32, index into ``class_names``.
        scores: (H, W) float32 in [0, 1], score of the winning class.
        class_names: the output classes of the vocabulary.
    """

    labels: np.ndarray
    scores: np.ndarray
    class_names: tuple[str, ...]

    def class_areas(self) -> np.ndarray:
        """Counts the pixels of each class: (K,) int64, whose sum is H x W.

        Raises:
            ValueError: a label outside 0 to K - 1.
        """
        low, high, num_classes = self.labels.min(), self.labels.max(), len(self.class_names)
        if low < 0 or high >= num_classes:
            raise ValueError(f"Labels must be 0 to {num_classes - 1}, got {low} to {high}.")
        return sum(np.bincount(labels, minlength=num_classes) for labels, _ in self._strips())

    def mean_scores(self) -> np.ndarray:
        """Averages the winning score over the pixels of each class: (K,) float64, else 0."""
        sums = sum(
            np.bincount(labels, weights=scores, minlength=len(self.class_names))
            for labels, scores in self._strips()
        )
        return sums / np.maximum(self.class_areas(), 1)

    def _strips(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        # Some rows at a time: ``bincount`` copies them as 64-bit numbers.
        step = max(1, _STRIP // self.labels.shape[1])
        for top in range(0, len(self.labels), step):
            rows = slice(top, top + step)
            yield self.labels[rows].ravel(), self.scores[rows].ravel()
