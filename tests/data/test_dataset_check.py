import json
import subprocess
import sys

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import ExifTags, Image

from escnet_d2.data import register_folder_dataset
from escnet_d2.data.check import main
from escnet_d2.data.dataset_check import check_dataset
from escnet_d2.data.folder_dataset import folder_dataset, write_manifest

CLASSES = ["cat", "dog", "grass", "sky"]


def put_pair(folder, name, labels, size=None):
    """Writes a black image, of the size of its label map by default, and the label map."""
    for kind in ("images", "labels"):
        (folder / kind).mkdir(exist_ok=True)
    Image.new("RGB", size or labels.shape[::-1]).save(folder / "images" / f"{name}.png")
    Image.fromarray(labels).save(folder / "labels" / f"{name}.png")


@pytest.fixture
def broken(tmp_path):
    """Four pairs of which one is sound, a lone image and a lone label map."""
    images, labels = tmp_path / "images", tmp_path / "labels"

    def put(name, values, size=None):
        put_pair(tmp_path, name, np.asarray(values, np.uint8), size)

    put("sound", [[0, 1, 1, 255]])
    put("outside", [[0, 9, 4, 255]])
    put("size", [[0, 1]], size=(3, 1))
    put("truncated", np.zeros((64, 64)))
    data = (images / "truncated.png").read_bytes()
    (images / "truncated.png").write_bytes(data[: len(data) // 2])
    put("alone", [[0]])
    (images / "alone.png").unlink()
    Image.new("RGB", (1, 1)).save(images / "bare.png")
    register_folder_dataset("broken_val", images, labels, CLASSES)
    return tmp_path


@pytest.mark.parametrize("workers", [0, 2])
def test_everything_wrong_is_found(broken, workers):
    report = check_dataset("broken_val", num_workers=workers)
    assert report.num_images == 4
    found = " ".join(report.problems)
    assert len(report.problems) == 5
    for part in (
        "bare.png has no label map",
        "alone.png has no image",
        "size.png is 3 x 1 pixels",
        "truncated.png",
        "outside.png has the value(s) 4, 9: expected 0..3 or 255",
    ):
        assert part in found
    assert report.absent_classes == ["grass", "sky"]
    assert report.class_pixels.tolist() == [2, 2, 0, 0]
    assert report.class_images.tolist() == [2, 1, 0, 0]
    assert report.unlabeled_pixels == 4


def test_headers_only_does_not_decode_images(broken):
    turned = Image.Exif()
    turned[ExifTags.Base.Orientation] = 6
    for suffix in ("jpg", "png", "tif"):
        Image.new("RGB", (3, 5)).save(broken / f"images/turned_{suffix}.{suffix}", exif=turned)
        Image.new("L", (5, 3)).save(broken / f"labels/turned_{suffix}.png")
    problems = " ".join(check_dataset("broken_val", headers_only=True).problems)
    assert "size.png is 3 x 1 pixels" in problems
    assert "truncated" not in problems
    assert "turned" not in problems


def test_sixteen_bit_labels_and_what_releases_write_for_unlabeled(tmp_path):
    classes = [f"class {index}" for index in range(300)]
    put_pair(tmp_path, "wide", np.array([[299, 300, 65535]], np.uint16))
    put_pair(tmp_path, "narrow", np.array([[5, 255, 0]], np.uint8))
    folders = tmp_path / "images", tmp_path / "labels"
    register_folder_dataset("wide_val", *folders, classes, ignore_label=300)
    report = check_dataset("wide_val")
    assert report.label_types == {"uint16": 1, "uint8": 1}
    # 65535 and the ignore label are unlabeled; 255 is a class here.
    assert report.problems == ["1 label maps have 8 bits, which cannot hold 300 classes."]
    assert report.unlabeled_pixels == 2


def test_data_set_of_another_package(tmp_path, make_folders):
    images, labels = make_folders(tmp_path, num_classes=3)
    pairs = [(file, labels / file.name) for file in sorted(images.iterdir())]

    def samples():
        with_labels = [{"file_name": str(i), "sem_seg_file_name": str(s)} for i, s in pairs]
        return [*with_labels, {"file_name": "x.png"}]

    DatasetCatalog.register("foreign_val", samples)
    MetadataCatalog.get("foreign_val").set(stuff_classes=("a", "b", "c"), expected_images=3)
    (labels / "1.png").unlink()
    report = check_dataset("foreign_val")
    assert len(report.problems) == 3
    found = " ".join(report.problems)
    for part in ("x.png has no sem_seg_file_name", "2 labeled images, expected 3", "1.png does"):
        assert part in found


def test_main_prints_a_table_and_writes_json(broken, tmp_path, capsys):
    assert main(["broken_val", "--json", str(tmp_path / "report.json")]) == 1
    output = capsys.readouterr().out
    assert "| broken_val | 4        | -" in output
    assert "2 classes never occur: grass, sky" in output
    (report,) = json.loads((tmp_path / "report.json").read_text())
    assert report["class_pixels"] == [2, 2, 0, 0]
    assert len(report["problems"]) == 5


def test_main_on_a_prepared_folder(tmp_path, make_folders, capsys):
    images, labels = make_folders(tmp_path, count=3, size=(8, 8))
    split = folder_dataset("pets_val", images, labels, ["a", "b", "c"], expected_images=3)
    write_manifest(tmp_path, "pets", {"val": split})
    assert main([str(tmp_path)]) == 0
    output = capsys.readouterr().out
    assert "| pets_val   | 3        | 3          | uint8    | 3 of 3    | 1.6 %" in output
    (images / "1.png").unlink()
    assert main([str(tmp_path / "dataset.json"), "--headers-only"]) == 1
    assert "2 labeled images, expected 3" in capsys.readouterr().out


def test_main_on_missing_benchmarks(tmp_path, capsys):
    assert main(["benchmarks", "--root", str(tmp_path)]) == 1
    output = capsys.readouterr().out
    assert output.count("does not exist") == 2 * 8
    assert str(tmp_path / "VOCdevkit/VOC2012") in output


@pytest.mark.parametrize("name", ["nothing_of_this_name", "coco_2017_val"])
def test_names_that_cannot_be_checked(name, capsys):
    assert main([name]) == 2
    assert capsys.readouterr().err.startswith("error: ")


@pytest.mark.slow
def test_it_runs_as_a_module(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "escnet_d2.data.check", "voc_2012_test_sem_seg", "--root", tmp_path],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "voc_2012_test_sem_seg" in done.stdout
    assert "Traceback" not in done.stderr
