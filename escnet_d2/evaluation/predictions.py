"""Label maps as COCO run-length codes, for ``sem_seg_predictions.json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from escnet_d2.structures.run_lengths import class_rles

_NO_CLASS = -1


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
    records = []
    for label, segmentation in class_rles(labels).items():
        if category_ids is not None and label not in category_ids:
            raise ValueError(f"Class {label} has no id among stuff_dataset_id_to_contiguous_id.")
        category = label if category_ids is None else category_ids[label]
        records.append(
            {"file_name": file_name, "category_id": category, "segmentation": segmentation}
        )
    return records


def decode_label_map(
    records: Sequence[Mapping[str, Any]], category_ids: Mapping[int, int] | None = None
) -> np.ndarray:
    """Puts the segments of one image back together; inverts :func:`encode_label_map`.

    Args:
        records: one or more, with ``category_id`` and ``segmentation``.
        category_ids: class index of each of the data set's own ids; None for indices.

    Returns:
        Class indices, int64 (H, W).

    Raises:
        ValueError: sizes that differ, an id of no class, or a pixel without a class.
    """
    sizes = {tuple(record["segmentation"]["size"]) for record in records}
    if len(sizes) != 1:
        raise ValueError(f"its segments are of different sizes: {sorted(sizes)}.")
    labels = np.full(sizes.pop(), _NO_CLASS, dtype=np.int64)
    for record in records:
        category = record["category_id"]
        if category_ids is not None and category not in category_ids:
            raise ValueError(f"category_id {category} is none of the data set's ids.")
        mask = coco_mask.decode(record["segmentation"]).astype(bool)
        labels[mask] = category if category_ids is None else category_ids[category]
    unclassified = int((labels == _NO_CLASS).sum())
    if unclassified:
        raise ValueError(f"{unclassified} of {labels.size} pixels have no class.")
    return labels
