import pytest
from detectron2.data import DatasetCatalog

from escnet_d2.config import get_cfg
from escnet_d2.data import build_train_loader, register_folder_dataset
from escnet_d2.data.dataset_check import check_folders
from escnet_d2.data.folder_dataset import folder_dataset


def test_ade20k_labels(shared_data):
    folder = shared_data / "ade20k_sample/ADEChallengeData2016"
    classes = [f"class {index}" for index in range(151)]
    folders = folder / "images/validation", folder / "annotations/validation"
    report = check_folders(folder_dataset("ade", *folders, classes, ignore_label=0))
    assert report.num_images == 3
    assert report.problems == report.stray_values == []


@pytest.mark.slow
def test_coco_mini(shared_data):
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

    folders = folder / "images/train", folder / "annotations/train"
    register_folder_dataset("coco_mini_train", *folders, folder / "classes.json")
    assert len(DatasetCatalog.get("coco_mini_train")) == 100
    cfg = get_cfg()
    cfg.DATASETS.TRAIN = ("coco_mini_train",)
    cfg.SOLVER.IMS_PER_BATCH = 2
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.INPUT.MIN_SIZE_TRAIN = (96,)
    cfg.INPUT.CROP.ENABLED = True
    cfg.INPUT.CROP.TYPE = "absolute"
    cfg.INPUT.CROP.SIZE = [64, 64]
    cfg.INPUT.COLOR_AUG_SSD = True
    loader = iter(build_train_loader(cfg))
    for _ in range(5):
        for sample in next(loader):
            assert sample["image"].shape == (3, 64, 64)
            assert sample["sem_seg"].shape == (64, 64)
            assert set(sample["sem_seg"].unique().tolist()) <= {*range(133), 255}
            assert sample["vocabulary"].num_classes == 133
