"""Label maps as COCO run-length codes."""

from __future__ import annotations

import numpy as np
from pycocotools import mask as coco_mask


def class_rles(labels: np.ndarray) -> dict[int, dict]:
    """Encodes the region of every class present as COCO's compressed run lengths.

    Args:
        labels: (H, W) integers.

    Returns:
        Class index, ascending, to ``{"size": [H, W], "counts": str}``, as ``pycocotools.mask``
        reads it.
    """
    rles = {}
    for index in np.unique(labels):
        rle = coco_mask.encode(np.asfortranarray(labels == index, np.uint8))
        rles[int(index)] = {"size": list(labels.shape), "counts": rle["counts"].decode("ascii")}
    return rles
