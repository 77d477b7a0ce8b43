"""What a user gets for one image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


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
        num_classes = len(self.class_names)
        if self.labels.min() < 0 or self.labels.max() >= num_classes:
            raise ValueError(
                f"Labels must be 0 to {num_classes - 1}, "
                f"got {self.labels.min()} to {self.labels.max()}."
            )
        return np.bincount(self.labels.ravel(), minlength=num_classes)

    def mean_scores(self) -> np.ndarray:
        """Averages the winning score over the pixels of each class: (K,) float64, else 0."""
        sums = np.bincount(
            self.labels.ravel(), weights=self.scores.ravel(), minlength=len(self.class_names)
        )
        return sums / np.maximum(self.class_areas(), 1)
