"""Names and folders of SAN, FC-CLIP and MESS, and every registration through the loader."""

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from escnet_d2.config import get_cfg
from escnet_d2.data import build_test_loader
from escnet_d2.data.class_lists import read_class_list
from escnet_d2.data.datasets import all_datasets, builtin_meta
from escnet_d2.evaluation import SemSegEvaluator

VOC, PC, FC_VOC, FC_PC = (
    "VOCdevkit/VOC2012",
    "VOCdevkit/VOC2010",
    "pascal_voc_d2",
    "pascal_ctx_d2",
)
ADE_FULL = "ADE20K_2021_17_01"
# name: images, labels, class list, unlabelled, images in a complete copy; as the releases register.
ALIASES = {
    "coco_2017_train_stuff_sem_seg": (
        *("coco/train2017", "coco/stuffthingmaps_detectron2/train2017", "coco", 255, 118287),
    ),
    "coco_2017_test_stuff_sem_seg": (
        *("coco/val2017", "coco/stuffthingmaps_detectron2/val2017", "coco", 255, 5000),
    ),
    "ade20k_full_sem_seg_val": (
        f"{ADE_FULL}/images_detectron2/validation",
        f"{ADE_FULL}/annotations_detectron2/validation",
        *("ade847", 65535, 2000),
    ),
    "pcontext_sem_seg_val": ("pcontext/val/image", "pcontext/val/label", "pc59", 255, 5104),
    "pcontext_full_sem_seg_val": (
        *("pcontext_full/val/image", "pcontext_full/val/label", "pc459_spaced", 65535, 5104),
    ),
    "voc_sem_seg_val": (
        *("VOC2012/JPEGImages", "VOC2012/annotations_detectron2/val", "voc20_san", 255, 1449),
    ),
    "openvocab_coco_2017_train_stuff_sem_seg": (
        *("coco/train2017", "coco/stuffthingmaps_detectron2/train2017"),
        *("coco_fcclip", 255, 118287),
    ),
    "openvocab_coco_2017_test_stuff_sem_seg": (
        *("coco/val2017", "coco/stuffthingmaps_detectron2/val2017", "coco_fcclip", 255, 5000),
    ),
    "openvocab_ade20k_sem_seg_val": (
        "ADEChallengeData2016/images/validation",
        "ADEChallengeData2016/annotations_detectron2/validation",
        *("ade150_fcclip", 255, 2000),
    ),
    "openvocab_ade20k_full_sem_seg_val": (
        f"{ADE_FULL}/images_detectron2/validation",
        f"{ADE_FULL}/annotations_detectron2/validation",
        *("ade847_fcclip", 65535, 2000),
    ),
    "openvocab_pascal_ctx59_sem_seg_val": (
        f"{FC_PC}/images/validation",
        f"{FC_PC}/annotations_ctx59/validation",
        *("pc59_fcclip", 255, 5104),
    ),
    "openvocab_pascal_ctx459_sem_seg_val": (
        f"{FC_PC}/images/validation",
        f"{FC_PC}/annotations_ctx459/validation",
        *("pc459_fcclip", 65535, 5104),
    ),
    "openvocab_pascal20_sem_seg_val": (
        f"{FC_VOC}/images/validation",
        f"{FC_VOC}/annotations_pascal20/validation",
        *("voc20_fcclip", 255, 1449),
    ),
    "openvocab_pascal21_sem_seg_val": (
        f"{FC_VOC}/images/validation",
        f"{FC_VOC}/annotations_pascal21/validation",
        *("voc21_fcclip", 255, 1449),
    ),
    "pascal_context_59_sem_seg_val": (
        *(f"{PC}/JPEGImages", f"{PC}/annotations_detectron2/pc59_val", "pc59", 255, 5104),
    ),
    "pascal_context_459_sem_seg_val": (
        *(f"{PC}/JPEGImages", f"{PC}/annotations_detectron2/pc459_val", "pc459", 65535, 5104),
    ),
    "voc_2012_sem_seg_val": (
        *(f"{VOC}/JPEGImages", f"{VOC}/annotations_detectron2/val", "voc20", 255, 1449),
    ),
}
SIXTEEN_BITS = ("459", "full")


def put_pair(images, labels, values, *, sixteen_bits):
    for folder in (images, labels):
        folder.mkdir(parents=True, exist_ok=True)
    values = np.asarray(values, np.uint16 if sixteen_bits else np.uint8)
    Image.new("RGB", values.shape[::-1], (90, 60, 30)).save(images / "a.jpg")
    Image.fromarray(values).save(labels / f"a.{'tif' if sixteen_bits else 'png'}")


@pytest.mark.parametrize("name", sorted(ALIASES))
def test_aliases_are_as_their_release_registers_them(name, tmp_path, monkeypatch):
    images, labels, class_list, ignore_label, expected_images = ALIASES[name]
    sixteen_bits = any(part in name for part in SIXTEEN_BITS)
    put_pair(tmp_path / images, tmp_path / labels, [[0, 1]], sixteen_bits=sixteen_bits)
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    (sample,) = DatasetCatalog.get(name)
    assert sample["file_name"] == str(tmp_path / images / "a.jpg")
    metadata = MetadataCatalog.get(name)
    assert tuple(metadata.stuff_classes) == read_class_list(class_list)
    assert (metadata.ignore_label, metadata.expected_images) == (ignore_label, expected_images)
    assert metadata.evaluator_type == "sem_seg"


def test_mess_copy_of_voc_with_one_background_prompt(tmp_path, monkeypatch):
    name = "voc_2012_sem_seg_val_bg"
    metadata = MetadataCatalog.get(name)
    assert metadata.stuff_classes == [*read_class_list("voc20"), "background"]
    assert metadata.get("vocabulary_to_class") is None
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    labels = tmp_path / VOC / "annotations_detectron2/val_bg"
    put_pair(tmp_path / VOC / "JPEGImages", labels, [[20]], sixteen_bits=False)
    assert DatasetCatalog.get(name)[0]["sem_seg_file_name"] == str(labels / "a.png")


def test_detectron2s_own_ade20k_is_left_alone_with_the_listed_names():
    names = MetadataCatalog.get("ade20k_sem_seg_val").stuff_classes
    assert [", ".join(p.strip() for p in name.split(",")) for name in names] == list(
        read_class_list("ade150_detectron2")
    )


@pytest.mark.parametrize(
    ("name", "images", "labels"),
    [
        (
            "coco_2017_test_stuff_all_sem_seg",
            *("coco/val2017", "coco/stuffthingmaps_detectron2/val2017"),
        ),
        ("context_59_test_sem_seg", "pcontext/val/image", "pcontext/val/label"),
        (
            "context_59_test_sem_seg",
            *(f"{FC_PC}/images/validation", f"{FC_PC}/annotations_ctx59/validation"),
        ),
        ("pcontext_sem_seg_val", f"{PC}/JPEGImages", f"{PC}/annotations_detectron2/pc59_val"),
        ("voc_2012_test_sem_seg", "VOC2012/JPEGImages", "VOC2012/annotations_detectron2/val"),
        (
            "voc_2012_test_background_sem_seg",
            *(f"{VOC}/JPEGImages", f"{VOC}/annotations_detectron2/val_bg"),
        ),
    ],
)
def test_labels_in_another_releases_folders_are_found(tmp_path, monkeypatch, name, images, labels):
    put_pair(tmp_path / images, tmp_path / labels, [[0]], sixteen_bits=False)
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    assert DatasetCatalog.get(name)[0]["sem_seg_file_name"] == str(tmp_path / labels / "a.png")
    assert MetadataCatalog.get(name).sem_seg_root == str(tmp_path / labels)
    # What is prepared goes to the first layout all the same.
    assert all_datasets()[name].prepared_folders()[1] != tmp_path / labels


def test_a_complete_layout_wins_over_half_a_first_one(tmp_path, monkeypatch):
    (tmp_path / PC / "JPEGImages").mkdir(parents=True)
    put_pair(
        tmp_path / "pcontext/val/image", tmp_path / "pcontext/val/label", [[0]], sixteen_bits=False
    )
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    assert len(DatasetCatalog.get("context_59_test_sem_seg")) == 1


def test_coco_predictions_carry_cocos_ids():
    ids = MetadataCatalog.get("coco_2017_test_stuff_all_sem_seg").stuff_dataset_id_to_contiguous_id
    names = read_class_list("coco")
    assert len(ids) == 171
    assert [names[ids[coco_id]] for coco_id in (1, 13, 90, 92, 182)] == [
        *("person", "stop sign", "toothbrush", "banner", "wood")
    ]


@pytest.mark.parametrize("name", sorted(all_datasets()))
def test_every_registration_loads_maps_and_evaluates(name, tmp_path, monkeypatch):
    dataset = all_datasets()[name]
    if DatasetCatalog[name] != dataset:
        pytest.skip("registered by another package")
    num_classes = len(dataset.classes)
    sixteen_bits = dataset.label_suffixes == (".tif",)
    # Class 1 and the last one, then all that releases write for unlabelled pixels.
    strays = [dataset.ignore_label, num_classes, 65535 if sixteen_bits else 255]
    row = [1, 1, num_classes - 1, *strays]
    put_pair(*dataset.prepared_folders(tmp_path), [row, row], sixteen_bits=sixteen_bits)
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    cfg = get_cfg()
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.INPUT.MIN_SIZE_TEST = 8
    ((sample,),) = build_test_loader(cfg, name)
    assert sample["image"].shape[0] == 3
    assert sample["vocabulary"].num_classes == num_classes
    assert sample["vocabulary"].class_names[1] == dataset.classes[1].split(", ")[0] or (
        sample["vocabulary"].class_names[1] == dataset.classes[1]
    )
    # The first pixel of class 1 is right, the second is called the last class.
    prediction = torch.tensor([[1, num_classes - 1, num_classes - 1, 0, 0, 0]] * 2)
    evaluator = SemSegEvaluator(name, output_dir=None, distributed=False)
    evaluator.process([sample], [{"label_map": prediction}])
    scores = evaluator.evaluate()["sem_seg"]
    assert scores["num_classes"] == 2
    assert scores["mIoU"] == pytest.approx(50.0)
    assert scores["pACC"] == pytest.approx(100 * 2 / 3)


def test_the_eight_benchmarks_come_first():
    names = [dataset.name for dataset in builtin_meta()]
    assert len(names) == 8
    assert list(all_datasets())[:8] == names
