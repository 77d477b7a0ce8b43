"""Points for SAM from a score map: the peak of each region, then as far apart as possible."""

from __future__ import annotations

import cv2
import numpy as np
from torch import Tensor


def confident_points(probability: Tensor, budget: int) -> np.ndarray:
    """Chooses patches for SAM to look at.

    First the most confident patch of each connected region of one label, the most confident region
    first; then, up to the budget, the patch that is farthest from all chosen ones.

    Args:
        probability: of each class at each patch, (K, H, W).
        budget: most points.

    Returns:
        Integers (P, 2), (column, row); P is the budget or, where that is less, H W.
    """
    best, label = probability.float().max(dim=0)
    confidence, labels = best.cpu().numpy(), label.cpu().numpy()
    height, width = labels.shape
    peaks = []
    for value in np.unique(labels):
        number, regions = cv2.connectedComponents(
            (labels == value).astype(np.uint8), connectivity=4
        )
        for region in range(1, number):
            inside = np.where(regions == region, confidence, -np.inf)
            peaks.append(int(inside.argmax()))
    peaks.sort(key=lambda index: -confidence.flat[index])
    chosen = peaks[:budget]
    rows, columns = np.divmod(np.arange(height * width), width)
    places = np.stack([columns, rows], axis=1)
    distance = np.min([((places - places[index]) ** 2).sum(axis=1) for index in chosen], axis=0)
    while len(chosen) < min(budget, height * width):
        farthest = int(distance.argmax())
        chosen.append(farthest)
        distance = np.minimum(distance, ((places - places[farthest]) ** 2).sum(axis=1))
    return places[chosen]
