import math

import numpy as np
import pytest

from escnet_d2.evaluation.confusion import ClassCounts
from escnet_d2.evaluation.metrics import (
    harmonic_mean,
    match_seen_classes,
    sem_seg_scores,
)

# 3 classes. 0: 5 of 8 pixels found, predicted on 5 -> IoU 5 / (8 + 5 - 5) = 62.5.
# 1: 3 of 4 found, predicted on 6 -> IoU 3 / (4 + 6 - 3) = 300 / 7.
# 2: not in the ground truth, predicted on 1.
REGION = ClassCounts(np.array([5, 3, 0]), np.array([8, 4, 0]), np.array([5, 6, 1]))
# Boundaries: 0: 2 / (4 + 3 - 2) = 40; 1: 1 / (2 + 3 - 1) = 25.
BOUNDARY = ClassCounts(np.array([2, 1, 0]), np.array([4, 2, 0]), np.array([3, 3, 1]))
IOU_1 = 300 / 7


def test_the_two_formulas_agree_when_every_predicted_class_exists():
    region = ClassCounts(REGION.intersection[:2], REGION.target[:2], REGION.prediction[:2])
    scores = sem_seg_scores(region, region, None)
    assert scores["mIoU"] == scores["mIoU_gt_or_pred"]
    assert scores["num_classes"] == scores["num_classes_gt_or_pred"] == 2


def test_seen_and_unseen_need_classes_in_the_ground_truth():
    unknown = sem_seg_scores(REGION, BOUNDARY, None)
    assert all(math.isnan(unknown[name]) for name in ("mIoU_seen", "mIoU_unseen", "hIoU"))
    # The one unseen class never shows up in the ground truth.
    all_seen = sem_seg_scores(REGION, BOUNDARY, [True, True, False])
    assert all_seen["mIoU_seen"] == all_seen["mIoU"]
    assert math.isnan(all_seen["mIoU_unseen"])
    assert math.isnan(all_seen["hIoU"])

    # A seen class that never shows up leaves the others' mean alone.
    assert sem_seg_scores(REGION, BOUNDARY, [True, False, True])["mIoU_seen"] == 62.5


def test_one_pixel_makes_a_class():
    one = np.array([1, 0])
    scores = sem_seg_scores(ClassCounts(one, one, one), ClassCounts(one, one, one), [True, False])
    assert scores["mIoU"] == scores["mIoU_gt_or_pred"] == scores["mIoU_seen"] == 100
    assert scores["num_classes"] == scores["num_classes_gt_or_pred"] == 1


def test_harmonic_mean():
    assert harmonic_mean(0.0, 0.0) == 0.0
    assert harmonic_mean(0.0, 80.0) == 0.0
    assert harmonic_mean(30.0, 60.0) == pytest.approx(40.0)
    assert math.isnan(harmonic_mean(float("nan"), 50.0))
    assert math.isnan(harmonic_mean(0.0, float("nan")))


@pytest.mark.parametrize(
    ("name", "training", "seen"),
    [
        ("dog", ["cat", "dog"], True),
        ("Dog ", ["dog"], True),
        ("airconditioner", ["air conditioner"], True),
        ("TV monitor", ["tvmonitor"], True),
        ("couch, sofa", ["sofa"], True),
        ("couch", ["sofa|couch"], True),
        ("sofa", ["couch"], False),
        ("hot dog", ["dog"], False),
        ("dog", [], False),
        (", ", ["a,,b"], False),
    ],
)
def test_any_name_counts_whatever_its_case_and_spaces(name, training, seen):
    assert match_seen_classes([name], training) == [seen]


def test_order_follows_the_data_set():
    assert match_seen_classes(["a", "b", "c"], ["c", "a"]) == [True, False, True]
