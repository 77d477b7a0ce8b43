"""The run over many images, with a stand-in for the model."""

from __future__ import annotations

import json
import logging

import numpy as np
import pytest
from PIL import Image

from escnet_d2.engine.prediction_run import segment_images
from escnet_d2.outputs import RunFolder, find_images
from escnet_d2.structures import Segmentation, Vocabulary

VOCABULARY = Vocabulary.from_classes(["dark", "bright"])


class BrightnessPredictor:
    """Splits an image by brightness; fails as it is told to."""

    def __init__(self, *, refuse_width=None, max_batch=100, interrupt_at=None):
        self.refuse_width = refuse_width
        self.max_batch = max_batch
        self.interrupt_at = interrupt_at
        self.batches = []

    def predict_batch(self, images, vocabulary, *, file_names):
        self.batches.append([image.shape[1] for image in images])
        if len(self.batches) == self.interrupt_at:
            raise KeyboardInterrupt
        if len(images) > self.max_batch:
            raise RuntimeError("CUDA out of memory")
        if any(image.shape[1] == self.refuse_width for image in images):
            raise KeyError("unexpected")
        results = []
        for image in images:
            assert image.dtype == np.uint8
            assert image.shape[2] == 3
            labels = (image.mean(axis=2) >= 128).astype(np.int32)
            scores = np.full(labels.shape, 0.75, np.float32)
            results.append(Segmentation(labels, scores, vocabulary.class_names))
        return results


@pytest.fixture
def photos(tmp_path):
    """Six images, 1 to 6 pixels wide; the even ones are bright."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for width in range(1, 7):
        color = (255, 255, 255) if width % 2 == 0 else (0, 0, 0)
        Image.new("RGB", (width, 2), color).save(folder / f"{width}.png")
    return folder


def run(
    photos,
    predictor=None,
    *,
    vocabulary=VOCABULARY,
    batch_size=1,
    resume=False,
    overwrite=False,
    **options,
):
    folder = RunFolder(
        photos.parent / "out", vocabulary, description={"weights": "w"}, settings={}, **options
    )
    images, num_ignored = find_images([str(photos)])
    with folder.open(resume=resume, overwrite=overwrite):
        return segment_images(
            images,
            predictor or BrightnessPredictor(),
            folder,
            num_ignored=num_ignored,
            batch_size=batch_size,
            progress=False,
        )


def summary_of(photos):
    return json.loads((photos.parent / "out" / "summary.json").read_text(encoding="utf-8"))


def labels_of(photos, name):
    with Image.open(photos.parent / "out" / "labels" / f"{name}.png") as image:
        return np.asarray(image)


def modification_times(photos):
    out = photos.parent / "out"
    return {
        path.relative_to(out): path.stat().st_mtime_ns
        for kind in ("overlays", "labels", "json")
        for path in (out / kind).rglob("*.*")
    }


@pytest.mark.parametrize("batch_size", [1, 4, 50])
def test_every_image_gets_its_own_result(photos, batch_size):
    predictor = BrightnessPredictor()
    report = run(photos, predictor, batch_size=batch_size)
    assert (report.num_done, report.failures, report.state) == (6, [], "complete")
    assert max(map(len, predictor.batches)) == min(batch_size, 6)
    assert sum(predictor.batches, []) == [1, 2, 3, 4, 5, 6]
    for width in range(1, 7):
        expected = np.full((2, width), width % 2 == 0)
        np.testing.assert_array_equal(labels_of(photos, width), expected)
    # Odd widths are dark: 2 * (1 + 3 + 5) pixels; even ones bright: 2 * (2 + 4 + 6).
    assert report.class_areas.tolist() == [18, 24]
    assert report.class_images.tolist() == [3, 3]
    assert len(modification_times(photos)) == 18


def test_a_bad_image_does_not_cost_its_batch(photos):
    (photos / "5.png").write_bytes((photos / "5.png").read_bytes()[:40])
    predictor = BrightnessPredictor(refuse_width=2)
    report = run(photos, predictor, batch_size=3)
    assert report.num_done == 4
    refused, (unreadable, _) = report.failures
    assert refused == (str(photos / "2.png"), "KeyError: 'unexpected'")
    assert unreadable == str(photos / "5.png")
    assert predictor.batches == [[1, 2, 3], [1], [2], [3], [4, 6]]
    # A further run tries both again.
    again = BrightnessPredictor()
    assert run(photos, again, resume=True).num_done == 1
    assert again.batches == [[2]]


def test_out_of_memory_falls_back_to_single_images(photos, caplog):
    with caplog.at_level(logging.WARNING):
        report = run(photos, BrightnessPredictor(max_batch=1), batch_size=6)
    assert (report.num_done, report.failures) == (6, [])
    assert "CUDA out of memory" in caplog.text


def test_an_output_that_cannot_be_written_is_reported(photos):
    blocked = photos.parent / "out" / "labels" / "4.png"
    # A folder where the file should go, in an output folder of ours.
    run(photos)
    blocked.unlink()
    (blocked / "x").mkdir(parents=True)
    report = run(photos)
    assert report.num_done == 5
    assert [file for file, _ in report.failures] == [str(photos / "4.png")]
    # No temporary file stays behind.
    assert not list((photos.parent / "out").rglob("*.tmp"))


def test_an_interrupted_run_leaves_a_usable_part(photos):
    report = run(photos, BrightnessPredictor(interrupt_at=4))
    assert (report.num_done, report.state) == (3, "interrupted")
    summary = summary_of(photos)
    assert summary["state"] == "interrupted"
    assert summary["counts"]["not_reached"] == 3
    assert sum(c["area"] for c in summary["classes"]) == 2 * (1 + 2 + 3)
    predictor = BrightnessPredictor()
    report = run(photos, predictor, resume=True)
    assert (report.num_skipped, report.num_done) == (3, 3)
    assert predictor.batches == [[4], [5], [6]]
    # The totals are those of an uninterrupted run.
    assert report.class_areas.tolist() == [18, 24]
    assert summary_of(photos)["state"] == "complete"


def test_resume_redoes_missing_outputs_and_changed_images(photos):
    run(photos, kinds=["labels"])
    assert run(photos, resume=True, kinds=["labels"]).num_skipped == 6
    # JSON was never written.
    assert run(photos, resume=True, kinds=["labels", "json"]).num_done == 6
    (photos.parent / "out" / "labels" / "2.png").unlink()
    Image.new("RGB", (5, 2), (255, 255, 255)).save(photos / "5.png")
    predictor = BrightnessPredictor()
    run(photos, predictor, resume=True, kinds=["labels"])
    assert predictor.batches == [[2], [5]]
    assert labels_of(photos, "5").all()


def test_an_image_that_changes_while_it_is_segmented_is_not_done(photos):
    class Meanwhile(BrightnessPredictor):
        def predict_batch(self, images, vocabulary, *, file_names):
            if images[0].shape[1] == 3:
                Image.new("RGB", (3, 2), (255, 255, 255)).save(photos / "3.png")
            return super().predict_batch(images, vocabulary, file_names=file_names)

    report = run(photos, Meanwhile())
    assert report.num_done == 5
    assert "changed while it was segmented" in report.failures[0][1]
    predictor = BrightnessPredictor()
    run(photos, predictor, resume=True)
    assert predictor.batches == [[3]]
    assert labels_of(photos, "3").all()


def test_a_damaged_record_is_done_again(photos):
    run(photos)
    for name, text in (("1", "{"), ("2", "[]"), ("3", '{"classes": [{"index": 9, "area": 1}]}')):
        (photos.parent / "out" / "json" / f"{name}.json").write_text(text)
    report = run(photos, resume=True)
    assert (report.num_skipped, report.num_done) == (3, 3)
    assert report.class_areas.tolist() == [18, 24]


def test_resume_tries_failed_images_again(photos):
    run(photos, BrightnessPredictor(refuse_width=4))
    predictor = BrightnessPredictor()
    assert run(photos, predictor, resume=True).num_done == 1
    assert predictor.batches == [[4]]


def test_background_is_gray(photos):
    vocabulary = Vocabulary.from_classes(["dark"], background="threshold")
    run(photos, vocabulary=vocabulary)
    with Image.open(photos.parent / "out" / "labels" / "2.png") as image:
        assert image.convert("RGB").getpixel((0, 0)) == (128, 128, 128)
