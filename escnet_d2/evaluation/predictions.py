"""Predicted label maps as COCO run-length codes, for ``sem_seg_predictions.json``."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from pycocotools import mask as coco_mask


def encode_label_map(
    labels: np.ndarray, file_name: str, *, category_ids: Mapping[int, int] | None = None
) -> list[dict]:
    """Encodes a label map as one COCO segment per class in it (https://cocodataset.org/#format-results).

    Args:
        labels: class indices, shape (H, W).
        file_name: the image, copied into each record.
        category_ids: the data set's own id of each class index; None keeps the index.

    Returns:
        Records with ``file_name``, ``category_id`` and ``segmentation`` (``size`` [H, W] and
        compressed ``counts`` as text), in the order of the class indices.

    Raises:
        ValueError: a label is missing in ``category_ids``.
    """
    # All runs of the map are found once (down the columns, as COCO counts), then dealt out to their
    # classes: the time hardly depends on how many classes there are.
    height, width = labels.shape
    flat = labels.ravel(order="F")
    starts = np.concatenate([[0], np.flatnonzero(np.diff(flat)) + 1])
    stops = np.append(starts[1:], flat.size)
    run_labels = flat[starts]
    records = []
    for label in np.unique(run_labels).tolist():
        if category_ids is not None and label not in category_ids:
            raise ValueError(f"Class {label} has no id among stuff_dataset_id_to_contiguous_id.")
        of_class = run_labels == label
        edges = np.stack([starts[of_class], stops[of_class]], axis=1).ravel()
        counts = np.diff(edges, prepend=0)
        if edges[-1] < flat.size:
            counts = np.append(counts, flat.size - edges[-1])
        runs = {"size": [height, width], "counts": counts.tolist()}
        segmentation = coco_mask.frPyObjects(runs, height, width)
        records.append(
            {
                "file_name": file_name,
                "category_id": label if category_ids is None else category_ids[label],
                "segmentation": {
                    "size": [height, width],
                    "counts": segmentation["counts"].decode("ascii"),
                },
            }
        )
    return records
