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
