"""Label maps as COCO run-length codes."""

from __future__ import annotations

import numpy as np
from pycocotools import mask as coco_mask


def class_rles(labels: np.ndarray) -> dict[int, dict]:
    """Encodes the region of every class present as COCO's compressed run lengths.

    Args:
        labels: (H, W) integers; negative ones are no class.

    Returns:
        Class index, ascending, to ``{"size": [H, W], "counts": str}``, as ``pycocotools.mask``
        reads it.
    """
    rles = {}
    # Row by row: of a large image even the copy that sorting makes is large.
    present = {int(index) for row in labels for index in np.unique(row)}
    for index in sorted(index for index in present if index >= 0):
        mask = np.empty(labels.shape, bool, order="F")
        rle = coco_mask.encode(np.equal(labels, index, out=mask).view(np.uint8))
        rles[index] = {"size": list(labels.shape), "counts": rle["counts"].decode("ascii")}
    return rles
