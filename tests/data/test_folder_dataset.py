import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from escnet_d2.config import get_cfg
from escnet_d2.data import build_train_loader, register_folder_dataset, register_prepared_folder
from escnet_d2.data.folder_dataset import folder_dataset, read_manifest, write_manifest

# -- registering two folders --


def test_register_and_load(tmp_path, make_folders):
    image_root, label_root = make_folders(tmp_path)
    register_folder_dataset("pets", image_root, label_root, ["cat", "couch|sofa", "dog"])
    metadata = MetadataCatalog.get("pets")
    assert metadata.stuff_classes == ["cat", "couch, sofa", "dog"]
    assert metadata.ignore_label == 255
    assert metadata.evaluator_type == "sem_seg"
    assert metadata.image_root == str(image_root)
    assert metadata.sem_seg_root == metadata.seg_seg_root == str(label_root)
    samples = DatasetCatalog.get("pets")
    assert [Path(sample["file_name"]).name for sample in samples] == ["0.png", "1.png"]
    assert {sample["dataset_name"] for sample in samples} == {"pets"}


def test_files_pair_by_name_in_sub_folders_whatever_their_suffix(tmp_path, caplog):
    images = ("images/a/1.JPG", "images/b/1.webp", "images/c.png", "images/.hidden.png")
    labels = ("labels/a/1.png", "labels/b/1.tif", "labels/d.png", "labels/notes.md")
    for file in (*images, *labels):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    register_folder_dataset("pets", tmp_path / "images", tmp_path / "labels", ["cat"])
    with caplog.at_level(logging.WARNING):
        samples = DatasetCatalog.get("pets")
    assert [(Path(s["file_name"]).name, Path(s["sem_seg_file_name"]).name) for s in samples] == [
        ("1.JPG", "1.png"),
        ("1.webp", "1.tif"),
    ]
    assert "1 image(s) without label map, such as" in caplog.text and "c.png" in caplog.text
    assert "1 label map(s) without image, such as" in caplog.text and "d.png" in caplog.text


def test_folders_that_share_no_file_or_are_missing(tmp_path, make_folders):
    image_root, label_root = make_folders(tmp_path, count=1)
    (label_root / "0.png").rename(label_root / "zero.png")
    register_folder_dataset("pets", image_root, label_root, ["cat"])
    with pytest.raises(ValueError, match="pets: No image in"):
        DatasetCatalog.get("pets")
    shutil.rmtree(image_root)
    with pytest.raises(FileNotFoundError, match=f"pets: The image folder {image_root}"):
        DatasetCatalog.get("pets")


def test_registering_again(tmp_path, make_folders):
    folders = make_folders(tmp_path)
    for _ in range(2):
        register_folder_dataset("pets", *folders, ["cat"])
    with pytest.raises(ValueError, match="pets is registered already, with other classes and ign"):
        register_folder_dataset("pets", *folders, ["dog"], ignore_label=0)
    assert MetadataCatalog.get("pets").stuff_classes == ["cat"]


@pytest.mark.parametrize(
    ("name", "classes", "message"),
    [
        ("ade20k_150_test_sem_seg", ["cat"], "ade20k_150_test_sem_seg is registered already"),
        *((name, ["cat"], "is unfit") for name in ("", "a b", "a/b", "../a")),
        ("pets", Path("nowhere/none.txt"), r"none\.txt does not exist"),
    ],
)
def test_unfit_names_and_classes(name, classes, message):
    error = FileNotFoundError if isinstance(classes, Path) else ValueError
    with pytest.raises(error, match=message):
        register_folder_dataset(name, "images", "labels", classes)


# -- prepared folders --


def test_prepare_register_and_train(project, capsys, prepare):
    assert prepare() == 0
    output = capsys.readouterr().out
    assert "train: 2 images" in output
    assert "couch, sofa" in output
    assert "pets_train, pets_val" in output
    for path in (project / "prepared", project / "prepared/dataset.json"):
        assert register_prepared_folder(path) == ["pets_train", "pets_val"]
    assert MetadataCatalog.get("pets_train").expected_images == 2
    cfg = get_cfg()
    cfg.DATASETS.TRAIN = ("pets_train",)
    cfg.SOLVER.IMS_PER_BATCH = 2
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.INPUT.MIN_SIZE_TRAIN = (8,)
    batch = next(iter(build_train_loader(cfg)))
    assert batch[0]["sem_seg"].shape == batch[0]["image"].shape[1:] == (8, 8)
    assert batch[0]["vocabulary"].class_names == ("cat", "couch", "dog")


def test_prepared_folder_can_move_with_its_data(project, tmp_path_factory, prepare):
    assert prepare() == 0
    content = json.loads((project / "prepared" / "dataset.json").read_text())
    assert content["splits"]["val"] == {
        "image_root": "../val/images",
        "sem_seg_root": "../val/labels",
        "num_images": 1,
    }
    moved = tmp_path_factory.mktemp("moved") / "project"
    shutil.move(str(project), str(moved))
    register_prepared_folder(moved / "prepared")
    [sample] = DatasetCatalog.get("pets_val")
    assert sample["file_name"] == str(moved / "val" / "images" / "0.png")


# -- checks of the files --


def test_values_beyond_the_classes_need_consent(project, capsys, prepare):
    path = project / "val/labels/0.png"
    labels = np.array(Image.open(path))
    labels[1, 1] = 200
    Image.fromarray(labels).save(path)
    assert prepare() == 1
    assert f"{path} has the value(s) 200" in capsys.readouterr().err
    assert prepare("--allow-unlabelled-values") == 0
    assert f"taken for unlabeled: {path}" in capsys.readouterr().out


def test_another_ignore_label(project, caplog, prepare):
    for file in project.glob("*/labels/*.png"):
        labels = np.array(Image.open(file))
        Image.fromarray(np.where(labels == 255, 2, labels).astype(np.uint8)).save(file)
    assert prepare("--ignore-label", "2") == 0
    assert "The ignore label 2 is also the class 'dog'" in caplog.text
    register_prepared_folder(project / "prepared")
    assert MetadataCatalog.get("pets_val").ignore_label == 2


def test_long_lists_of_problems_are_cut(project, capsys, prepare):
    for index in range(30):
        Image.new("RGB", (4, 4)).save(project / "train/images" / f"lone{index}.png")
    assert prepare() == 1
    error = capsys.readouterr().err
    assert "30 file(s) cannot be used" in error and "... and 10 more." in error


def write(folder, *splits, name="pets", classes=("a", "b"), ignore_label=255):
    folders = folder / "images", folder / "labels"
    return write_manifest(
        folder,
        name,
        {
            split: folder_dataset(
                f"{name}_{split}", *folders, classes, ignore_label=ignore_label, expected_images=1
            )
            for split in splits
        },
    )


def test_another_data_set_is_not_written_over(tmp_path):
    path = write(tmp_path, "train")
    before = path.read_bytes()
    for splits, other in (
        (["train"], {"name": "cars"}),
        (["val"], {"classes": ("a", "c")}),
        (["val"], {"ignore_label": 0}),
    ):
        with pytest.raises(FileExistsError, match="pets.*splits train, which has another"):
            write(tmp_path, *splits, **other)
    assert path.read_bytes() == before


def test_a_split_may_join_others_and_be_prepared_again_with_other_classes(tmp_path):
    path = write(tmp_path, "train")
    write(tmp_path, "train", classes=("a", "c"))
    write(tmp_path, "val", classes=("a", "c"))
    splits = read_manifest(path)[1]
    assert {split: dataset.classes for split, dataset in splits.items()} == {
        "train": ("a", "c"),
        "val": ("a", "c"),
    }
