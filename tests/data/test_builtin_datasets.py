import logging

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from escnet_d2.data import dataset_status
from escnet_d2.data.datasets import register_builtin

VOC = "VOCdevkit/VOC2012"
PC = "VOCdevkit/VOC2010"
ADE = "ADEChallengeData2016"
# name: images, labels, number of classes, ignore label, images in a complete copy, label suffix
BENCHMARKS = {
    "coco_2017_train_stuff_all_sem_seg": (
        "coco-stuff/images/train2017",
        "coco-stuff/annotations_detectron2/train2017",
        171,
        255,
        118287,
        ".png",
    ),
    "coco_2017_test_stuff_all_sem_seg": (
        "coco-stuff/images/val2017",
        "coco-stuff/annotations_detectron2/val2017",
        171,
        255,
        5000,
        ".png",
    ),
    "ade20k_150_test_sem_seg": (
        f"{ADE}/images/validation",
        f"{ADE}/annotations_detectron2/validation",
        150,
        255,
        2000,
        ".png",
    ),
    "ade20k_full_sem_seg_freq_val_all": (
        "ADE20K_2021_17_01/images_detectron2/validation",
        "ADE20K_2021_17_01/annotations_detectron2/validation",
        847,
        65535,
        2000,
        ".tif",
    ),
    "context_59_test_sem_seg": (
        f"{PC}/JPEGImages",
        f"{PC}/annotations_detectron2/pc59_val",
        59,
        255,
        5104,
        ".png",
    ),
    "context_459_test_sem_seg": (
        f"{PC}/JPEGImages",
        f"{PC}/annotations_detectron2/pc459_val",
        459,
        459,
        5104,
        ".tif",
    ),
    "voc_2012_test_sem_seg": (
        f"{VOC}/JPEGImages",
        f"{VOC}/annotations_detectron2/val",
        20,
        255,
        1449,
        ".png",
    ),
    "voc_2012_test_background_sem_seg": (
        f"{VOC}/JPEGImages",
        f"{VOC}/annotations_detectron2_bg/val",
        21,
        255,
        1449,
        ".png",
    ),
}
WITH_BACKGROUND = "voc_2012_test_background_sem_seg"


def put_files(root, name, stems, *, image_stems=None):
    images, labels, *_, suffix = BENCHMARKS[name]
    for folder in (images, labels):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for stem in stems if image_stems is None else image_stems:
        Image.new("RGB", (4, 4)).save(root / images / f"{stem}.jpg")
    for stem in stems:
        Image.fromarray(np.zeros((4, 4), np.uint16 if suffix == ".tif" else np.uint8)).save(
            root / labels / f"{stem}{suffix}"
        )


@pytest.mark.parametrize("name", sorted(BENCHMARKS))
def test_metadata(name):
    _, _, num_classes, ignore_label, expected_images, _ = BENCHMARKS[name]
    metadata = MetadataCatalog.get(name)
    assert len(metadata.stuff_classes) == num_classes
    assert metadata.ignore_label == ignore_label
    assert metadata.expected_images == expected_images
    evaluator_type = "sem_seg_background" if name == WITH_BACKGROUND else "sem_seg"
    assert metadata.evaluator_type == evaluator_type
    assert metadata.seg_seg_root == metadata.sem_seg_root


@pytest.mark.parametrize("name", sorted(BENCHMARKS))
def test_load_pairs_files_below_the_root_of_the_moment(name, tmp_path, monkeypatch, caplog):
    put_files(tmp_path, name, ["b", "a"])
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    images, labels, _, _, expected_images, suffix = BENCHMARKS[name]
    with caplog.at_level(logging.WARNING):
        samples = DatasetCatalog.get(name)
    assert samples == [
        {
            "file_name": str(tmp_path / images / f"{stem}.jpg"),
            "sem_seg_file_name": str(tmp_path / labels / f"{stem}{suffix}"),
            "dataset_name": name,
        }
        for stem in "ab"
    ]
    assert MetadataCatalog.get(name).image_root == str(tmp_path / images)
    assert MetadataCatalog.get(name).sem_seg_root == str(tmp_path / labels)
    assert (
        f"has 2 labelled images in {tmp_path / labels}, expected {expected_images}" in caplog.text
    )


def test_images_of_other_splits_are_expected_but_lone_labels_are_reported(
    tmp_path, monkeypatch, caplog
):
    name = "voc_2012_test_sem_seg"
    put_files(tmp_path, name, ["a", "lone"], image_stems=["a", "other_split"])
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    with caplog.at_level(logging.WARNING):
        assert len(DatasetCatalog.get(name)) == 1
    assert "lone.png" in caplog.text
    assert "other_split.jpg" not in caplog.text


def test_root_expands_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DETECTRON2_DATASETS", "~/data")
    put_files(tmp_path / "data", "ade20k_150_test_sem_seg", ["a"])
    assert len(DatasetCatalog.get("ade20k_150_test_sem_seg")) == 1


def test_missing_folder_names_path_variable_and_instructions(tmp_path, monkeypatch):
    monkeypatch.delenv("DETECTRON2_DATASETS", raising=False)
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "datasets" / ADE / "images" / "validation"
    with pytest.raises(FileNotFoundError) as caught:
        DatasetCatalog.get("ade20k_150_test_sem_seg")
    for part in (str(folder), "DETECTRON2_DATASETS", "datasets/README.md"):
        assert part in str(caught.value)


def test_empty_folder_is_an_error(tmp_path, monkeypatch):
    put_files(tmp_path, "ade20k_150_test_sem_seg", [])
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    with pytest.raises(ValueError, match=r"ade20k_150_test_sem_seg.*has no \.jpg"):
        DatasetCatalog.get("ade20k_150_test_sem_seg")


def test_registering_again_is_silent(caplog):
    register_builtin()
    assert not caplog.records


def test_same_data_set_of_another_package_is_kept_and_completed(caplog):
    name = WITH_BACKGROUND
    metadata = MetadataCatalog.get(name)
    mine, entry = DatasetCatalog[name], MetadataCatalog[name]
    try:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
        DatasetCatalog.register(name, list)
        # As the other releases write it: with the misspelt key and a stray space.
        MetadataCatalog.get(name).set(
            stuff_classes=[*metadata.stuff_classes[:-1], "background "],
            ignore_label=255,
            seg_seg_root="there",
        )
        register_builtin()
        assert not caplog.records
        assert DatasetCatalog[name] is list
        assert MetadataCatalog.get(name).seg_seg_root == "there"
        assert len(MetadataCatalog.get(name).vocabulary_to_class) == 59
    finally:
        DatasetCatalog[name], MetadataCatalog[name] = mine, entry


def test_other_data_set_under_the_same_name_is_reported(caplog):
    name = "context_459_test_sem_seg"
    mine, entry = DatasetCatalog[name], MetadataCatalog[name]
    try:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
        DatasetCatalog.register(name, list)
        MetadataCatalog.get(name).set(stuff_classes=entry.stuff_classes, ignore_label=65535)
        register_builtin()
        assert name in caplog.text
        assert "ignore_label" in caplog.text
        assert "classes" not in caplog.text
        assert not hasattr(MetadataCatalog.get(name), "expected_images")
    finally:
        DatasetCatalog[name], MetadataCatalog[name] = mine, entry


def test_status_tells_missing_and_incomplete(tmp_path):
    put_files(tmp_path, "ade20k_150_test_sem_seg", ["a", "b"])
    status = {entry.name: entry for entry in dataset_status(tmp_path)}
    assert list(status) == list(BENCHMARKS)
    assert not any(entry.is_ready for entry in status.values())
    ade = status["ade20k_150_test_sem_seg"]
    assert (ade.num_images, ade.expected_images) == (2, 2000)
    assert ade.problem == "2 labelled images, expected 2000"
    voc = status["voc_2012_test_sem_seg"]
    assert voc.num_images == 0
    assert voc.problem.startswith("missing: ")
    assert str(tmp_path / VOC / "JPEGImages") in voc.problem


def test_status_of_a_complete_data_set(tmp_path):
    images, labels, *_ = BENCHMARKS["voc_2012_test_sem_seg"]
    for folder, suffix in ((images, "jpg"), (labels, "png")):
        (tmp_path / folder).mkdir(parents=True)
        for index in range(1449):
            (tmp_path / folder / f"{index}.{suffix}").touch()
    status = {entry.name: entry for entry in dataset_status(tmp_path)}
    assert status["voc_2012_test_sem_seg"].is_ready
