from __future__ import annotations

import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from escnet_d2.outputs.records import RunReport, image_record
from escnet_d2.structures import Segmentation
from escnet_d2.version import __version__


def segmentation(labels, scores=None, num_classes=5):
    labels = np.asarray(labels, np.int32)
    scores = np.full(labels.shape, 0.5) if scores is None else np.asarray(scores)
    names = tuple(f"name {index}" for index in range(num_classes))
    return Segmentation(labels, scores.astype(np.float32), names)


def test_areas_and_scores_by_hand():
    labels = np.array([[0, 0, 2], [2, 2, 2]])
    scores = np.array([[0.2, 0.4, 1.0], [0.5, 0.5, 0.0]])
    result = segmentation(labels, scores, num_classes=4)
    assert result.class_areas().tolist() == [2, 0, 4, 0]
    np.testing.assert_allclose(result.mean_scores(), [0.3, 0, 0.5, 0])


def test_strips_add_up(monkeypatch):
    generator = np.random.default_rng(0)
    result = segmentation(generator.integers(0, 5, (31, 17)), generator.random((31, 17)))
    areas, scores = result.class_areas(), result.mean_scores()
    monkeypatch.setattr("escnet_d2.structures.segmentation._STRIP", 3 * 17)
    np.testing.assert_array_equal(result.class_areas(), areas)
    np.testing.assert_allclose(result.mean_scores(), scores, rtol=1e-12)


def test_pixels_without_a_class_count_for_none():
    result = segmentation([[0, 0, 2], [2, 2, 2]], [[0.2, 0.4, 1], [0.5, 0.5, 0]], num_classes=4)
    unsure = result.confident(0.4)
    assert unsure.labels.tolist() == [[-1, 0, 2], [2, 2, -1]]
    assert unsure.class_areas().tolist() == [1, 0, 3, 0]
    np.testing.assert_allclose(unsure.mean_scores(), [0.4, 0, 2 / 3, 0], rtol=1e-6)
    assert unsure.areas() == {"name 2": 3 / 6, "name 0": 1 / 6}
    record = image_record(unsure, file="a.jpg", settings={})
    assert [found["index"] for found in record["classes"]] == [2, 0]
    assert result.areas() == {"name 2": 4 / 6, "name 0": 2 / 6}


@pytest.mark.parametrize("label", [-2, 3])
def test_labels_out_of_range(label):
    with pytest.raises(ValueError, match="-1 to 2"):
        segmentation([[0, label]], num_classes=3).class_areas()


def test_record_holds_all_there_is_to_know():
    labels = [[4, 4, 1], [4, 3, 0]]
    scores = [[0.5, 0.5, 1.0], [0.2, 1.0000001, 0.0]]
    record = image_record(
        segmentation(labels, scores), file="photos/a.jpg", settings={"weights": "here"}
    )
    record = json.loads(json.dumps(record, allow_nan=False))
    assert (record["file"], record["width"], record["height"]) == ("photos/a.jpg", 3, 2)
    assert (record["version"], record["weights"]) == (__version__, "here")
    assert record["class_names"] == [f"name {index}" for index in range(5)]
    found = [(c["index"], c["name"], c["area"], c["score"]) for c in record["classes"]]
    # Largest first, ties by index, and scores inside [0, 1] in spite of rounding.
    assert found == [
        (4, "name 4", 3, 0.4),
        (0, "name 0", 1, 0.0),
        (1, "name 1", 1, 1.0),
        (3, "name 3", 1, 1.0),
    ]
    assert sum(c["area"] for c in record["classes"]) == 6
    assert sum(c["area_fraction"] for c in record["classes"]) == pytest.approx(1)
    decoded = np.full((2, 3), -1)
    for c in record["classes"]:
        decoded[coco_mask.decode(c["rle"]).astype(bool)] = c["index"]
    np.testing.assert_array_equal(decoded, labels)


def test_summary():
    report = RunReport(["sky", "dog"], num_found=6, num_ignored=9, num_done=1, num_skipped=2)
    report.add_areas(np.array([20, 0]))
    report.add_areas(np.array([10, 10]))
    report.failures.append(("b.jpg", "broken"))
    report.state, report.seconds = "interrupted", 1.23456
    summary = json.loads(json.dumps(report.summary({"config": "tiny"})))
    assert summary["classes"] == [
        {"index": 0, "name": "sky", "area": 30, "area_fraction": 0.75, "images": 2},
        {"index": 1, "name": "dog", "area": 10, "area_fraction": 0.25, "images": 1},
    ]
    assert summary["counts"] == {
        "found": 6,
        "done": 1,
        "skipped": 2,
        "failed": 1,
        "not_reached": 2,
        "ignored_files": 9,
    }
    assert summary["failures"] == [{"file": "b.jpg", "reason": "broken"}]
    assert (summary["state"], summary["config"]) == ("interrupted", "tiny")
    assert summary["seconds"] == 1.235
