"""Confusion matrices and the per-class pixel counts that every score is computed from.

K is the number of classes. In a ground truth map, every value outside 0..K-1 means "not labeled".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ClassCounts:
    """Pixels that two label maps give to each class, and agree on.

    Attributes:
        intersection: pixels of the class in both, int64, shape (K,).
        target: pixels of the class in the ground truth, int64, shape (K,).
        prediction: labeled pixels of the class in the prediction, int64, shape (K,).
    """

    intersection: np.ndarray
    target: np.ndarray
    prediction: np.ndarray

    @classmethod
    def zeros(cls, num_classes: int) -> ClassCounts:
        """Returns the counts of no image at all."""
        return cls(*(np.zeros(num_classes, dtype=np.int64) for _ in range(3)))

    @classmethod
    def from_confusion(cls, matrix: np.ndarray) -> ClassCounts:
        """Sums up a confusion matrix of shape (K, K + 1); see :func:`confusion_matrix`."""
        labeled = matrix[:, :-1]
        return cls(labeled.diagonal().copy(), labeled.sum(axis=0), labeled.sum(axis=1))

    @property
    def union(self) -> np.ndarray:
        """Returns the labeled pixels of the class in either, int64, shape (K,)."""
        return self.target + self.prediction - self.intersection

    def __add__(self, other: ClassCounts) -> ClassCounts:
        return ClassCounts(
            self.intersection + other.intersection,
            self.target + other.target,
            self.prediction + other.prediction,
        )


def confusion_matrix(prediction: np.ndarray, target: np.ndarray, num_classes: int) -> np.ndarray:
    """Counts how often each predicted class meets each ground truth class.

    It is the matrix of Detectron2's evaluator without its last row, which is always empty there.

    Args:
        prediction: predicted labels in 0..K-1, any integer type, shape (H, W).
        target: ground truth labels, any integer type, shape (H, W).
        num_classes: K.

    Returns:
        int64, shape (K, K + 1): the row is the predicted class, the column the ground truth class;
        the last column holds the unlabeled pixels.

    Raises:
        ValueError: the shapes differ, or a predicted label is outside 0..K-1.
    """
    if prediction.shape != target.shape:
        ours, theirs = (" x ".join(map(str, labels.shape)) for labels in (prediction, target))
        raise ValueError(
            f"The prediction is {ours} but the ground truth is {theirs} (height x width)."
        )
    if prediction.size and (prediction.min() < 0 or prediction.max() >= num_classes):
        wrong = np.unique(prediction[(prediction < 0) | (prediction >= num_classes)])
        raise ValueError(
            f"Predicted labels must be in 0..{num_classes - 1}, found {wrong[:10].tolist()}."
        )
    target = target.astype(np.int64)
    columns = np.where((target >= 0) & (target < num_classes), target, num_classes)
    cells = prediction.astype(np.int64) * (num_classes + 1) + columns
    counts = np.bincount(cells.ravel(), minlength=num_classes * (num_classes + 1))
    return counts.reshape(num_classes, num_classes + 1).astype(np.int64, copy=False)


def top_confusions(matrix: np.ndarray, limit: int) -> list[tuple[int, int, int]]:
    """Finds the mistakes that cost most pixels.

    Args:
        matrix: confusion matrix, shape (K, K + 1).
        limit: how many to return at most.

    Returns:
        (ground truth class, predicted class, pixels), most pixels first; ties in the order of the
        classes. Mistakes that never happened are left out.
    """
    mistakes = matrix[:, :-1].T.copy()
    np.fill_diagonal(mistakes, 0)
    order = np.argsort(-mistakes, axis=None, kind="stable")[:limit]
    targets, predictions = np.unravel_index(order, mistakes.shape)
    return [
        (int(target), int(prediction), int(mistakes[target, prediction]))
        for target, prediction in zip(targets, predictions)
        if mistakes[target, prediction] > 0
    ]
