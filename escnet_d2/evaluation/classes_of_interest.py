"""MESS's score over the classes that matter, without "others" and "background"."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def classes_of_interest_miou(
    per_class: Sequence[Mapping[str, Any]], classes: Iterable[int]
) -> float | None:
    """CoI-mIoU as the MESS benchmark computes it (Blumenstiel et al., NeurIPS 2023).

    The mean of the IoU over those of the classes that are in the ground truth or the prediction; a
    class that is only predicted counts as 0, as in ``mIoU_gt_or_pred``.

    Args:
        per_class: ``per_class`` of a data set's ``results.json``.
        classes: indices of the classes of interest.

    Returns:
        In percent; None where none of the classes occurs.
    """
    chosen = [per_class[index] for index in classes]
    occurring = [record for record in chosen if record["pixels_gt"] or record["pixels_pred"]]
    if not occurring:
        return None
    return sum(record["IoU"] or 0.0 for record in occurring) / len(occurring)
