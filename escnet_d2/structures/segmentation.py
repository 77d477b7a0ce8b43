"""The result for one image."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

# Pixels.
_STRIP = 2**24


@dataclass(frozen=True)
class Segmentation:
    """Semantic segmentation of one image at its own size.

    Attributes:
        labels: (H, W) int32, index into ``class_names``; -1 where there is none.
        scores: (H, W) float32 in [0, 1], score of the winning class.
        class_names: the output classes of the vocabulary.
    """

    labels: np.ndarray
    scores: np.ndarray
    class_names: tuple[str, ...]

    def class_areas(self) -> np.ndarray:
        """Counts the pixels of each class: (K,) int64.

        Raises:
            ValueError: a label outside -1 to K - 1.
        """
        low, high, num_classes = self.labels.min(), self.labels.max(), len(self.class_names)
        if low < -1 or high >= num_classes:
            raise ValueError(f"Labels must be -1 to {num_classes - 1}, got {low} to {high}.")
        return sum(
            np.bincount(1 + labels, minlength=1 + num_classes) for labels, _ in self._strips()
        )[1:]

    def areas(self) -> dict[str, float]:
        """Returns the share of the image in (0, 1] of each class present, the largest first."""
        areas = self.class_areas()
        order = np.argsort(-areas, kind="stable")
        return {
            self.class_names[index]: float(areas[index] / self.labels.size)
            for index in order
            if areas[index]
        }

    def confident(self, min_score: float) -> Segmentation:
        """Returns the same without the labels of pixels whose score is below ``min_score``."""
        labels = np.where(self.scores < min_score, np.int32(-1), self.labels)
        return dataclasses.replace(self, labels=labels)

    def mean_scores(self) -> np.ndarray:
        """Averages the winning score over the pixels of each class: (K,) float64, else 0."""
        sums = sum(
            np.bincount(1 + labels, weights=scores, minlength=1 + len(self.class_names))
            for labels, scores in self._strips()
        )
        return sums[1:] / np.maximum(self.class_areas(), 1)

    def _strips(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        # Some rows at a time: ``bincount`` copies them as 64-bit numbers.
        step = max(1, _STRIP // self.labels.shape[1])
        for top in range(0, len(self.labels), step):
            rows = slice(top, top + step)
            yield self.labels[rows].ravel(), self.scores[rows].ravel()
