import numpy as np
import pytest

from escnet_d2.evaluation.confusion import ClassCounts, confusion_matrix, top_confusions

# Three classes; the lower right quarter is unlabeled.
TARGET = np.array([[0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 255, 255], [0, 0, 255, 255]])
PREDICTION = np.array([[0, 0, 1, 1], [0, 0, 1, 2], [0, 1, 2, 2], [1, 1, 0, 0]])
# Rows: predicted class. Columns: ground truth class, then unlabeled.
# Class 0 has 8 pixels: 5 found, 3 called class 1. Class 1 has 4: 3 found, 1 called class 2.
MATRIX = np.array([[5, 0, 0, 2], [3, 3, 0, 0], [0, 1, 0, 2]])


def test_hand_worked_matrix():
    matrix = confusion_matrix(PREDICTION, TARGET, 3)
    assert matrix.dtype == np.int64
    np.testing.assert_array_equal(matrix, MATRIX)


def test_counts_leave_unlabeled_pixels_out():
    counts = ClassCounts.from_confusion(MATRIX)
    np.testing.assert_array_equal(counts.intersection, [5, 3, 0])
    np.testing.assert_array_equal(counts.target, [8, 4, 0])
    np.testing.assert_array_equal(counts.prediction, [5, 6, 1])
    np.testing.assert_array_equal(counts.union, [8, 7, 1])
    doubled = counts + counts + ClassCounts.zeros(3)
    np.testing.assert_array_equal(doubled.union, [16, 14, 2])


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64])
def test_integer_types_do_not_overflow(dtype):
    # 200 * 201 leaves uint8 far behind.
    labels = np.full((2, 2), 199, dtype=dtype)
    matrix = confusion_matrix(labels, labels, 200)
    assert matrix[199, 199] == 4
    assert matrix.sum() == 4
    assert confusion_matrix(labels, labels, 459)[199, 199] == 4


def test_top_confusions():
    # Ground truth 0 called 1 costs 3 pixels, 1 called 2 costs 1; unlabeled pixels are no mistake.
    assert top_confusions(MATRIX, 10) == [(0, 1, 3), (1, 2, 1)]
    assert top_confusions(MATRIX, 1) == [(0, 1, 3)]
    assert top_confusions(np.array([[4, 0, 1], [0, 4, 1]]), 5) == []
    # Ties come in the order of the classes.
    pairs = [(a, b, 1) for a in range(40) for b in range(40) if a != b]
    assert top_confusions(np.ones((40, 41), dtype=np.int64), 2000) == pairs
