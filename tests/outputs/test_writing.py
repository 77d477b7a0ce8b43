from __future__ import annotations

import json
import os

import numpy as np
import pytest
from PIL import Image

from escnet_d2.outputs import (
    ImageFile,
    OutputWriter,
    RunLog,
    class_colors,
    source_stamp,
)
from escnet_d2.structures import Segmentation


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "photos" / "a.b.jpg"
    path.parent.mkdir()
    Image.new("RGB", (4, 3)).save(path)
    return ImageFile(path, "sub/a.b")


def result():
    labels = np.array([[0, 0, 0, 1]] * 3, np.int32)
    return Segmentation(labels, np.full((3, 4), 0.25, np.float32), ("sky", "dog"))


def writer(tmp_path, **options):
    return OutputWriter(
        tmp_path / "out", colors=class_colors(2), settings={"config": "c"}, **options
    )


def files_in(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_all_outputs_of_an_image(tmp_path, image):
    areas = writer(tmp_path).write(image, np.zeros((3, 4, 3), np.uint8), result())
    assert areas == {0: 9, 1: 3}
    assert files_in(tmp_path / "out") == [
        "json/sub/a.b.json",
        "labels/sub/a.b.png",
        "overlays/sub/a.b.jpg",
    ]
    record = json.loads((tmp_path / "out/json/sub/a.b.json").read_text())
    assert (record["file"], record["config"]) == (str(image.path), "c")
    with Image.open(tmp_path / "out/overlays/sub/a.b.jpg") as overlay:
        assert overlay.format == "JPEG"


def test_only_the_wanted_outputs(tmp_path, image):
    writer(tmp_path, kinds=["labels"]).write(image, np.zeros((3, 4, 3), np.uint8), result())
    assert files_in(tmp_path / "out") == ["labels/sub/a.b.png"]


def test_overlays_of_lossless_images_are_lossless(tmp_path, image):
    png = ImageFile(image.path.with_suffix(".png"), "a")
    assert writer(tmp_path).paths(png)["overlay"] == tmp_path / "out/overlays/a.png"


@pytest.mark.parametrize(
    "options", [{"kinds": ["overlays"]}, {"kinds": []}, {"opacity": -0.1}, {"opacity": 2}]
)
def test_wrong_options_of_the_writer(tmp_path, options):
    with pytest.raises(ValueError, match="Outputs must be some of overlay|opacity must be"):
        writer(tmp_path, **options)


def new_log(tmp_path, *, resume=True, **settings):
    log = RunLog(tmp_path / "log.jsonl", {"weights": "w", **settings})
    log.start(resume=resume)
    return log


def test_the_log_remembers(tmp_path, image):
    log = new_log(tmp_path)
    assert log.find(image, ["json"]) is None
    log.add(image, ["json"], {3: 12}, source_stamp(image.path))
    again = new_log(tmp_path)
    assert again.find(image, ["json"]).areas == {3: 12}
    assert again.find(image, ["json", "labels"]) is None
    assert again.changed_settings() == []
    # A second run for another kind adds to what is there.
    again.add(image, ["labels"], {3: 12}, source_stamp(image.path))
    assert new_log(tmp_path).find(image, ["json", "labels"]) is not None


def test_the_log_knows_when_results_are_out_of_date(tmp_path, image):
    new_log(tmp_path).add(image, ["json"], {}, source_stamp(image.path))
    other = new_log(tmp_path, weights="new", opacity=0.1)
    assert other.find(image, ["json"]) is None
    assert other.knows(image)
    assert other.changed_settings() == ["opacity", "weights"]
    # Results of the other settings replace the first ones, also for a third run with the first.
    other.add(image, ["labels"], {}, source_stamp(image.path))
    assert new_log(tmp_path).find(image, ["json"]) is None


def test_a_changed_image_is_not_done(tmp_path, image):
    new_log(tmp_path).add(image, ["json"], {}, source_stamp(image.path))
    assert new_log(tmp_path).find(image, ["json"]) is not None
    os.utime(image.path, ns=(0, 0))
    assert new_log(tmp_path).find(image, ["json"]) is None
    image.path.unlink()
    assert new_log(tmp_path).find(image, ["json"]) is None


def test_starting_anew_forgets(tmp_path, image):
    new_log(tmp_path).add(image, ["json"], {}, source_stamp(image.path))
    assert not new_log(tmp_path, resume=False).knows(image)
    assert not new_log(tmp_path).knows(image)


def test_a_log_cut_short_loses_its_last_line_only(tmp_path, image):
    log = new_log(tmp_path)
    log.add(image, ["json"], {0: 1}, source_stamp(image.path))
    log.add(ImageFile(image.path, "second"), ["json"], {0: 2}, source_stamp(image.path))
    path = tmp_path / "log.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    again = new_log(tmp_path)
    assert again.find(image, ["json"]).areas == {0: 1}
    assert not again.knows(ImageFile(image.path, "second"))
    again.add(ImageFile(image.path, "third"), ["json"], {0: 3}, source_stamp(image.path))
    assert new_log(tmp_path).find(ImageFile(image.path, "third"), ["json"]).areas == {0: 3}


def test_settings_with_tuples_are_equal_after_reading(tmp_path, image):
    new_log(tmp_path, opts=("A", 1)).add(image, ["json"], {}, source_stamp(image.path))
    again = new_log(tmp_path, opts=("A", 1))
    assert again.find(image, ["json"]) is not None
    assert again.changed_settings() == []
