"""Points for SAM from class probabilities: the middle of each cluster of patches that are alike."""

from __future__ import annotations

import cv2
import numpy as np
from torch import Tensor

# What a change of class counts beside distance: patches of wholly different classes are as far
# apart as 3 sqrt(2) times the mean distance of neighboring points.
_CLASS_WEIGHT = 3.0
_KMEANS_ITERATIONS = 10


def cluster_points(probability: Tensor, budget: int) -> np.ndarray:
    """Chooses patches for SAM to look at.

    K-means over patches, by position and class probabilities (their square roots, so by Hellinger's
    distance), which starts from patches that are far apart; of each cluster the patch nearest to
    its mean. So points spread over the image, more of them where classes change, and lie inside
    things, where the surest patches need not.

    Args:
        probability: of each class at each patch, (K, H, W).
        budget: most points.

    Returns:
        Integers (P, 2), (column, row), P at most the budget and at most H W.
    """
    height, width = probability.shape[1:]
    rows, columns = np.divmod(np.arange(height * width), width)
    places = np.stack([columns, rows], axis=1)
    if budget >= len(places):
        return places
    classes = probability.float().flatten(1).sqrt().t().cpu().numpy()
    spacing = (len(places) / budget) ** 0.5
    patches = np.concatenate([places / spacing, _CLASS_WEIGHT * classes], axis=1, dtype=np.float32)
    # The surest patch, then always the one farthest from all chosen.
    nearest = np.zeros(len(places), np.int32)
    distance = _distances(patches, patches[classes.max(axis=1).argmax()])
    for cluster in range(1, budget):
        further = _distances(patches, patches[distance.argmax()])
        nearest[further < distance] = cluster
        distance = np.minimum(distance, further)
    stop = (cv2.TERM_CRITERIA_COUNT, _KMEANS_ITERATIONS, 0.0)
    _, _, means = cv2.kmeans(patches, budget, nearest, stop, 1, cv2.KMEANS_USE_INITIAL_LABELS)
    return places[np.unique([_distances(patches, mean).argmin() for mean in means])]


def _distances(patches: np.ndarray, center: np.ndarray) -> np.ndarray:
    """Squared distances of patches (N, C) from a center (C,)."""
    return ((patches - center) ** 2).sum(axis=1)
