import shutil

import numpy as np
import pytest
from detectron2.data import DatasetCatalog

from escnet_d2.config import get_cfg
from escnet_d2.data import (
    build_test_loader,
    build_train_loader,
    register_folder_dataset,
)
from escnet_d2.data.dataset_check import check_folders
from escnet_d2.data.folder_dataset import folder_dataset
from escnet_d2.io import read_image, read_label_map


@pytest.fixture
def cfg():
    cfg = get_cfg()
    cfg.SEED = 1
    cfg.SOLVER.IMS_PER_BATCH = 2
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.INPUT.MIN_SIZE_TRAIN = (96,)
    cfg.INPUT.MIN_SIZE_TEST = 64
    cfg.INPUT.CROP.ENABLED = True
    cfg.INPUT.CROP.TYPE = "absolute"
    cfg.INPUT.CROP.SIZE = [64, 64]
    cfg.INPUT.COLOR_AUG_SSD = True
    return cfg


def test_voc_palette_labels_are_class_indices(shared_data):
    folder = shared_data / "voc_sample/VOCdevkit/VOC2012"
    seen = set()
    for file in sorted((folder / "SegmentationClass").glob("*.png")):
        labels = read_label_map(file)
        seen |= set(np.unique(labels).tolist())
        assert labels.shape == read_image(folder / "JPEGImages" / f"{file.stem}.jpg").shape[:2]
    assert seen <= {*range(21), 255}
    assert {0, 15, 255} <= seen


def test_ade20k_labels(shared_data):
    folder = shared_data / "ade20k_sample/ADEChallengeData2016"
    classes = [f"class {index}" for index in range(151)]
    folders = folder / "images/validation", folder / "annotations/validation"
    report = check_folders(folder_dataset("ade", *folders, classes, ignore_label=0))
    assert report.num_images == 3
    assert report.problems == report.stray_values == []


def test_prepared_ade20k_is_found_below_the_root(shared_data, tmp_path, monkeypatch, cfg):
    source = shared_data / "ade20k_sample/ADEChallengeData2016"
    target = tmp_path / "ADEChallengeData2016"
    shutil.copytree(source / "images", target / "images")
    shutil.copytree(source / "annotations/validation", target / "annotations_detectron2/validation")
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    batches = list(build_test_loader(cfg, "ade20k_150_test_sem_seg"))
    assert [len(batch) for batch in batches] == [1, 1, 1]
    assert min(batches[0][0]["image"].shape[1:]) == 64
    assert batches[0][0]["vocabulary"].num_classes == 150


@pytest.mark.slow
def test_coco_mini(shared_data, cfg):
    folder = shared_data / "coco_mini"
    present = {}
    for split in ("train", "val"):
        folders = folder / "images" / split, folder / "annotations" / split
        report = check_folders(folder_dataset(split, *folders, folder / "classes.json"))
        assert report.problems == report.stray_values == []
        present[split] = report.class_pixels > 0
    # As the data's own description says.
    assert present["train"].sum() == 119
    assert present["val"].sum() == 124
    assert (present["val"] & ~present["train"]).sum() == 10

    register_folder_dataset(
        "coco_mini_train",
        folder / "images/train",
        folder / "annotations/train",
        folder / "classes.json",
    )
    assert len(DatasetCatalog.get("coco_mini_train")) == 100
    cfg.DATASETS.TRAIN = ("coco_mini_train",)
    loader = iter(build_train_loader(cfg))
    for _ in range(5):
        for sample in next(loader):
            assert sample["image"].shape == (3, 64, 64)
            assert sample["sem_seg"].shape == (64, 64)
            assert set(sample["sem_seg"].unique().tolist()) <= {*range(133), 255}
            assert sample["vocabulary"].num_classes == 133
