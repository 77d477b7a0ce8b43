"""Label maps as COCO run-length codes."""

from __future__ import annotations

import numpy as np
from pycocotools import mask as coco_mask


def class_rles(labels: np.ndarray) -> dict[int, dict]:
    """Encodes the region of every class present as COCO's compressed run lengths.

    One pass over the image for all classes, instead of one mask per class.

    Args:
        labels: (H, W) integers.

    Returns:
        Class index, ascending, to ``{"size": [H, W], "counts": str}``, as ``pycocotools.mask``
        reads it.
    """
    height, width = labels.shape
    # COCO counts down the columns.
    flat = labels.ravel(order="F")
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    ends = np.append(starts[1:], flat.size)
    classes = flat[starts]
    order = np.argsort(classes, kind="stable")
    present, firsts = np.unique(classes[order], return_index=True)
    rles = {}
    for index, runs in zip(present, np.split(order, firsts[1:])):
        edges = np.stack([starts[runs], ends[runs]], axis=1).ravel()
        counts = np.diff(edges, prepend=0, append=flat.size)
        if counts[-1] == 0:
            counts = counts[:-1]
        rle = coco_mask.frPyObjects(
            {"size": [height, width], "counts": counts.tolist()}, height, width
        )
        rles[int(index)] = {"size": [height, width], "counts": rle["counts"].decode("ascii")}
    return rles
