"""The command, on the real model (escnet_tiny, random weights); formats: test_annotations.py."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from escnet_d2.commands import autolabel
from escnet_d2.io import read_label_map

WORDS = ("--vocabulary", "dog, sky|heaven, grass", "--allow-untrained")


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """Runs the command beside two photos and a broken one; returns its code and what it says."""
    (tmp_path / "photos").mkdir()
    for seed, name in enumerate(("a.jpg", "b.png")):
        noise = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((60, 50), Image.BICUBIC).save(tmp_path / "photos" / name)
    (tmp_path / "photos/broken.jpg").write_text("no picture")
    monkeypatch.chdir(tmp_path)

    def command(*arguments):
        code = autolabel.main(["--input", "photos", "--output", "out", *WORDS, *arguments])
        return code, capsys.readouterr().err

    return command


def test_annotations_are_of_all_images_that_could_be_segmented(command, tmp_path):
    # Half of the pixels are unsure.
    code, errors = command("--to", "coco", "yolo-seg", "--save", "overlay", "--confidence", "0.5")
    assert code == 1, errors
    assert "Failed: photos/broken.jpg" in errors
    out = tmp_path / "out"
    coco = COCO(str(out / "coco/annotations.json"))
    assert [image["file_name"] for image in coco.dataset["images"]] == ["a.jpg", "b.png"]
    for image in coco.dataset["images"]:
        labels = read_label_map(out / f"labels/{image['file_name'].split('.')[0]}.png")
        found = coco.loadAnns(coco.getAnnIds(imgIds=image["id"]))
        for annotation in found:
            mask = coco.annToMask(annotation)
            np.testing.assert_array_equal(mask, labels == annotation["category_id"] - 1)
        assert {a["category_id"] - 1 for a in found} == {*np.unique(labels)} - {255}
    assert (out / "yolo-seg/images/a.jpg").read_bytes() == (tmp_path / "photos/a.jpg").read_bytes()
    # Another format of the same results, without segmenting again.
    before = {path: path.stat().st_mtime_ns for path in (out / "labels").iterdir()}
    code, errors = command("--to", "cvat", "--confidence", "0.5", "--resume", "--min-area", "9")
    assert code == 1, errors
    assert "2 skipped" in errors
    assert {path: path.stat().st_mtime_ns for path in (out / "labels").iterdir()} == before
    assert (out / "cvat/annotations.xml").read_text().count("<image ") == 2
    assert (out / "coco/annotations.json").exists()


def test_annotations_are_no_photos(command, tmp_path):
    (tmp_path / "photos/broken.jpg").unlink()
    arguments = ("--recursive", "--output", "photos/labeled", "--to", "png", "yolo-seg")
    assert command(*arguments)[0] == 0
    code, errors = command(*arguments, "--resume")
    assert code == 0, errors
    assert "0 of 2 images done, 2 skipped" in errors


def test_processes_that_share_a_run_export_once_it_is_complete(command, tmp_path, monkeypatch):
    (tmp_path / "photos/broken.jpg").unlink()
    monkeypatch.setenv("SLURM_ARRAY_TASK_COUNT", "2")
    monkeypatch.setenv("SLURM_ARRAY_TASK_MIN", "0")
    for number, message in enumerate(
        ("follow when the other", "Annotations of 2 images: out/coco")
    ):
        monkeypatch.setenv("SLURM_ARRAY_TASK_ID", str(number))
        code, errors = command("--to", "coco")
        assert code == 0, errors
        assert message in errors
        assert (tmp_path / "out/coco").exists() == bool(number)


@pytest.mark.parametrize("name", autolabel.FORMATS)
def test_images_without_any_class_are_exported_too(command, tmp_path, name):
    (tmp_path / "photos/broken.jpg").unlink()
    code, errors = command("--to", name, "--confidence", "1")
    assert code == 0, errors
    assert f"Annotations of 2 images: out/{name}" in errors
    assert json.loads((tmp_path / f"out/{name}/export.json").read_text())["format"] == name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--min-area", "-1"], "min_area must be at least 0"),
        (["--simplify", "-0.5"], "simplify must be at least 0"),
        (["--confidence", "1.5"], "confidence must be in [0, 1], got 1.5"),
    ],
)
def test_bad_values_are_refused_before_the_work(command, tmp_path, arguments, message):
    code, errors = command("--to", "coco", *arguments)
    assert code == 2
    assert message in errors
    assert len(errors.splitlines()) == 1
    assert not (tmp_path / "out").exists()
