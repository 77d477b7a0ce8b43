"""Boundary IoU (Cheng et al., CVPR 2021, arXiv 2103.16562) for all classes of an image at once."""

from __future__ import annotations

import cv2
import numpy as np

from .confusion import ClassCounts

# Stands for "no class here": unlabeled pixels and everything outside of the image.
_OUTSIDE = -1


def band_width(height: int, width: int, dilation: float) -> int:
    """Returns the width of the boundary band in pixels: a share of the diagonal, at least 1."""
    return max(1, round(dilation * float(np.hypot(height, width))))


def boundary_band(labels: np.ndarray, width: int) -> np.ndarray:
    """Finds the pixels near the boundary of their own class's mask.

    The reference erodes the mask of each class ``width`` times with a 3 x 3 kernel, the outside of
    the image counting as background, and keeps what the erosion took away. A pixel survives that
    erosion exactly where the (2 * width + 1)-sided square around it holds one label only, so one
    minimum and one maximum filter over the label map find the bands of all classes.

    Args:
        labels: values from 0 to 2^24 - 1, shape (H, W); -1 is background for every class.
        width: in pixels, from 1 on.

    Returns:
        bool, shape (H, W).
    """
    # float32: the one type of OpenCV's filters that holds any number of classes.
    padded = cv2.copyMakeBorder(
        labels.astype(np.float32), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=_OUTSIDE
    )
    window = np.ones((2 * width + 1, 2 * width + 1), dtype=np.uint8)
    uniform = cv2.erode(padded, window) == cv2.dilate(padded, window)
    return ~uniform[1:-1, 1:-1]


def boundary_counts(
    prediction: np.ndarray, target: np.ndarray, *, num_classes: int, dilation: float
) -> ClassCounts:
    """Counts the pixels that each class's bands hold in prediction and ground truth, and share.

    Unlabeled pixels belong to no mask, in the prediction neither: both masks of a class are cut to
    the labeled area first, and the edge of that area is a boundary like the edge of the image.

    Args:
        prediction: predicted labels in 0..K-1, shape (H, W).
        target: ground truth labels, shape (H, W); values outside 0..K-1 are unlabeled.
        num_classes: K.
        dilation: width of the band as a share of the image diagonal.
    """
    labeled = (target >= 0) & (target < num_classes)
    target = np.where(labeled, target.astype(np.int64), _OUTSIDE)
    prediction = np.where(labeled, prediction.astype(np.int64), _OUTSIDE)
    width = band_width(*target.shape, dilation)
    target_band = boundary_band(target, width) & labeled
    prediction_band = boundary_band(prediction, width) & labeled
    shared = target_band & prediction_band & (target == prediction)
    return ClassCounts(
        intersection=np.bincount(target[shared], minlength=num_classes),
        target=np.bincount(target[target_band], minlength=num_classes),
        prediction=np.bincount(prediction[prediction_band], minlength=num_classes),
    )
