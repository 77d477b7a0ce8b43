from __future__ import annotations

import io
import json

import numpy as np
import pytest
from PIL import Image

from escnet_d2.outputs import SegmentedImage
from escnet_d2.structures import Segmentation

LABELS = np.array([[2, 2, 2, -1], [2, 2, 2, 0]], np.int32)
SCORES = np.linspace(0.1, 0.8, 8, dtype=np.float32).reshape(2, 4)
NAMES = ("sky", "dog", "grass")
PIXELS = np.random.default_rng(0).integers(0, 256, (2, 4, 3), dtype=np.uint8)


def result(image=PIXELS, labels=LABELS):
    return SegmentedImage(labels, SCORES, NAMES, image)


def test_the_overlay_is_of_the_image_however_it_was_given(tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    expected = result().overlay(opacity=0.3, side_by_side=True)
    for image in (tmp_path / "a.png", str(tmp_path / "a.png"), Image.fromarray(PIXELS)):
        drawn = result(image).overlay(opacity=0.3, side_by_side=True)
        np.testing.assert_array_equal(np.asarray(drawn), np.asarray(expected))
    # Magnified 128 times, with the image itself to the left.
    np.testing.assert_array_equal(np.asarray(expected)[::128, :512:128], PIXELS)


def test_notebooks_show_the_overlay():
    with Image.open(io.BytesIO(result()._repr_png_())) as shown:
        assert shown.format == "PNG"
        np.testing.assert_array_equal(np.asarray(shown), np.asarray(result().overlay()))


def test_saving(tmp_path):
    result().save(tmp_path / "labels.png")
    with Image.open(tmp_path / "labels.png") as image:
        np.testing.assert_array_equal(np.asarray(image), np.where(LABELS < 0, 255, LABELS))
    result("photos/a.jpg").save(tmp_path / "record.json")
    record = json.loads((tmp_path / "record.json").read_text())
    assert (record["file"], record["width"]) == ("photos/a.jpg", 4)
    assert [found["name"] for found in record["classes"]] == ["grass", "sky"]
    with pytest.raises(ValueError, match=r"a\.jpg: .*\.png \(labels\).*overlay\(\)"):
        result().save(tmp_path / "a.jpg")


def test_it_stays_an_image_without_unsure_pixels():
    sure = result().confident(0.25)
    assert isinstance(sure, SegmentedImage)
    assert isinstance(sure, Segmentation)
    assert sure.labels.tolist() == [[-1, -1, 2, -1], [2, 2, 2, 0]]
    assert sure.image is PIXELS


def test_supervision_gets_masks_scores_and_names():
    pytest.importorskip("supervision")
    found = result().to_supervision()
    assert found.class_id.tolist() == [0, 2]
    assert found.data["class_name"].tolist() == ["sky", "grass"]
    np.testing.assert_array_equal(found.mask, [LABELS == 0, LABELS == 2])
    np.testing.assert_allclose(found.confidence, [0.8, SCORES[LABELS == 2].mean()])
    assert found.xyxy.tolist() == [[3, 1, 3, 1], [0, 0, 2, 1]]
    assert len(result(labels=np.full_like(LABELS, -1)).to_supervision()) == 0
