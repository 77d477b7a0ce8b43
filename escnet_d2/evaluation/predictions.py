"""Predicted label maps as COCO run-length codes, for ``sem_seg_predictions.json``."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from escnet_d2.structures.run_lengths import class_rles


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
        records.append(
            {
                "file_name": file_name,
                "category_id": label if category_ids is None else category_ids[label],
                "segmentation": segmentation,
            }
        )
    return records
