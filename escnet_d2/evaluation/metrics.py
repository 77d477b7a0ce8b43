"""Scores of semantic segmentation, in percent, from per-class pixel counts.

A score without a definition, such as the IoU of a class that the ground truth never shows, is NaN
here; files and loggers get ``None`` or nothing instead.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from .confusion import ClassCounts

# The scores of one data set, in the order of every table and file.
SCORES = (
    "mIoU",
    "mIoU_gt_or_pred",
    "fwIoU",
    "mACC",
    "pACC",
    "mIoU_seen",
    "mIoU_unseen",
    "hIoU",
    "boundary_mIoU",
    "num_classes",
    "num_classes_gt_or_pred",
    "num_images",
)


def class_iou(counts: ClassCounts) -> np.ndarray:
    """Returns the IoU of each class in percent, shape (K,); NaN without ground truth."""
    return np.where(counts.target > 0, _percent(counts.intersection, counts.union), np.nan)


def class_accuracy(counts: ClassCounts) -> np.ndarray:
    """Returns the share of each class's pixels found in percent, (K,); NaN without ground truth."""
    return _percent(counts.intersection, counts.target)


def harmonic_mean(a: float, b: float) -> float:
    """Returns the harmonic mean of two percentages: 0 if both are 0, NaN if either is NaN."""
    return 2 * a * b / (a + b) if a + b != 0 else 0.0


def sem_seg_scores(
    region: ClassCounts, boundary: ClassCounts, seen: Sequence[bool] | None
) -> dict[str, float]:
    """Computes the scores of a whole data set.

    Args:
        region: counts over all labeled pixels.
        boundary: counts over the boundary bands.
        seen: whether each class is in the training vocabulary; None where that is unknown.

    Returns:
        In percent, NaN where undefined: ``mIoU``, the mean over the classes in the ground truth
        (the formula of Detectron2 since July 2022); ``mIoU_gt_or_pred``, the mean over the classes
        in the ground truth or the prediction, where a class that is only predicted counts as 0 (the
        formula of its release 0.6); ``fwIoU``, ``mACC``, ``pACC``; ``mIoU_seen``, ``mIoU_unseen``
        and their harmonic mean ``hIoU``; ``boundary_mIoU`` over the same classes as ``mIoU``. And
        the numbers of classes averaged: ``num_classes``, ``num_classes_gt_or_pred`` (int).
    """
    present = region.target > 0
    occurring = region.union > 0
    iou = class_iou(region)
    if seen is None:
        seen_iou = unseen_iou = float("nan")
    else:
        in_training = np.asarray(seen, dtype=bool)
        seen_iou, unseen_iou = _mean(iou[present & in_training]), _mean(iou[present & ~in_training])
    return {
        "mIoU": _mean(iou[present]),
        "mIoU_gt_or_pred": _mean(_percent(region.intersection, region.union)[occurring]),
        "fwIoU": _weighted_mean(iou[present], region.target[present]),
        "mACC": _mean(class_accuracy(region)[present]),
        "pACC": float(_percent(region.intersection.sum(), region.target.sum())),
        "mIoU_seen": seen_iou,
        "mIoU_unseen": unseen_iou,
        "hIoU": harmonic_mean(seen_iou, unseen_iou),
        "boundary_mIoU": _mean(class_iou(boundary)[present]),
        "num_classes": int(present.sum()),
        "num_classes_gt_or_pred": int(occurring.sum()),
    }


def match_seen_classes(class_names: Sequence[str], training_classes: Sequence[str]) -> list[bool]:
    """Marks the classes that share a name with the training vocabulary.

    Names of one class, such as "couch, sofa", are separated by a comma or ``|``; upper case and
    white space make no difference, so that "TV monitor" equals "tvmonitor". Nothing else is
    equated: "couch" is not "sofa" unless one of the lists says so.
    """
    known = {key for name in training_classes for key in _name_keys(name)}
    return [not known.isdisjoint(_name_keys(name)) for name in class_names]


def _name_keys(name: str) -> set[str]:
    return {"".join(part.split()).casefold() for part in re.split(r"[,|]", name)} - {""}


def _percent(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Returns 100 * part / whole, NaN where whole is 0."""
    return 100.0 * part / np.where(whole > 0, whole, np.nan)


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else float("nan")


def _weighted_mean(values: np.ndarray, weights: np.ndarray) -> float:
    return float(np.average(values, weights=weights)) if values.size else float("nan")
