import cv2
import numpy as np
import pytest

from escnet_d2.evaluation.boundary import band_width, boundary_band, boundary_counts
from escnet_d2.evaluation.metrics import class_iou


def reference_band(mask, width):
    """The published procedure for one mask: erode ``width`` times, keep what was lost."""
    mask = mask.astype(np.uint8)
    padded = cv2.copyMakeBorder(mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    eroded = cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=width)
    return (mask - eroded[1:-1, 1:-1]).astype(bool)


def blobs(rng, height, width, num_classes):
    """Random regions a few pixels wide, with some single pixels among them."""
    coarse = rng.integers(0, num_classes, (height // 6 + 1, width // 6 + 1))
    labels = np.kron(coarse, np.ones((6, 6), dtype=np.int64))[:height, :width]
    speckles = rng.random(labels.shape) < 0.01
    labels[speckles] = rng.integers(0, num_classes, speckles.sum())
    return labels


def test_band_width():
    assert band_width(300, 400, 0.02) == 10
    # 10.75 is nearer to 11.
    assert band_width(300, 400, 0.0215) == 11
    assert band_width(8, 8, 0.02) == 1
    assert band_width(1, 1, 0.02) == 1


def test_hand_worked_square():
    # An 8 x 8 image, so a band of 1 pixel; a 4 x 4 square, predicted one column to the right.
    target = np.zeros((8, 8), dtype=np.int64)
    target[2:6, 2:6] = 1
    prediction = np.zeros_like(target)
    prediction[2:6, 3:7] = 1
    counts = boundary_counts(prediction, target, num_classes=2, dilation=0.02)
    # The square's band is its outer ring of 12 pixels. The two rings share 3 pixels of the upper
    # and 3 of the lower side; their vertical sides miss each other.
    # The background: all 48 pixels of the ground truth touch the square or the edge of the image;
    # in the prediction the 6 pixels of column 1, rows 1-6, do neither: 42. Common background: 64
    # pixels less the 20 under either square = 44; less those 6 = 38.
    np.testing.assert_array_equal(counts.target, [48, 12])
    np.testing.assert_array_equal(counts.prediction, [42, 12])
    np.testing.assert_array_equal(counts.intersection, [38, 6])
    np.testing.assert_allclose(class_iou(counts), [100 * 38 / 52, 100 * 6 / 18])


@pytest.mark.parametrize("num_classes", [2, 21, 300])
@pytest.mark.parametrize("dilation", [0.02, 0.1, 1.0])
def test_equals_the_class_by_class_definition(num_classes, dilation):
    rng = np.random.default_rng(num_classes)
    target = blobs(rng, 61, 83, num_classes)
    prediction = np.where(rng.random(target.shape) < 0.98, target, blobs(rng, 61, 83, num_classes))
    target[40:50, 10:40] = 65535
    counts = boundary_counts(prediction, target, num_classes=num_classes, dilation=dilation)
    width = band_width(61, 83, dilation)
    labeled = target != 65535
    for label in range(num_classes):
        target_band = reference_band(target == label, width)
        prediction_band = reference_band((prediction == label) & labeled, width)
        assert counts.target[label] == target_band.sum()
        assert counts.prediction[label] == prediction_band.sum()
        assert counts.intersection[label] == (target_band & prediction_band).sum()
    assert counts.intersection.sum() > 0


def test_labels_beyond_8_bits_are_told_apart():
    labels = np.zeros((7, 12), dtype=np.int64)
    labels[:, 6:] = 256
    band = boundary_band(labels, 1)
    assert band[3, 5:7].all()
    assert not band[3, 2:5].any()


def test_unlabeled_pixels_cost_a_right_prediction_nothing():
    target = np.zeros((40, 40), dtype=np.int64)
    target[10:30, 10:30] = 1
    prediction = target.copy()
    target[5:15, 5:35] = 255
    counts = boundary_counts(prediction, target, num_classes=2, dilation=0.05)
    np.testing.assert_array_equal(class_iou(counts), [100, 100])
    # Whatever is predicted there makes no difference.
    prediction[5:15, 5:35] = 0
    again = boundary_counts(prediction, target, num_classes=2, dilation=0.05)
    np.testing.assert_array_equal(again.prediction, counts.prediction)


@pytest.mark.parametrize("unlabeled", [2, 255])
def test_small_unsigned_labels(unlabeled):
    target = np.array([[0, 0, unlabeled], [1, 1, unlabeled]], dtype=np.uint8)
    counts = boundary_counts(target % 2, target, num_classes=2, dilation=0.02)
    np.testing.assert_array_equal(counts.target, [2, 2])
    np.testing.assert_array_equal(counts.prediction, [2, 2])
