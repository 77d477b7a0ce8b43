"""Facts of the open-vocabulary benchmarks: names, folders, classes, counts.

Names, folders and label values are those of the CAT-Seg and SED releases, so that data prepared for
them is found as it is; data laid out for SAN, FC-CLIP or MESS is found too. Class names are
stripped: the "bed " of CAT-Seg's ADE20K-150 list is "bed" here.
"""

from __future__ import annotations

from ..class_lists import read_class_list
from ..sem_seg_dataset import ROOT_VARIABLE, SemSegDataset

BACKGROUND_CLASS = "background"
# Values of the PNGs of stuffthingmaps that no image has; the others below 182 are the 171 classes.
COCO_UNUSED_VALUES = (11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90)
COCO_STUFF_VALUES = tuple(value for value in range(182) if value not in COCO_UNUSED_VALUES)
# Category ids of COCO's panoptic annotations, things and then stuff, in class order.
COCO_PANOPTIC_IDS = (
    *(id_ for id_ in range(1, 91) if id_ - 1 not in COCO_UNUSED_VALUES),
    *(92, 93, 95, 100, 107, 109, 112, 118, 119, 122, 125, 128, 130, 133, 138, 141, 144, 145, 147),
    *(148, 149, 151, 154, 155, 156, 159, 161, 166, 168, 171, 175, 176, 177, 178, 180, 181),
    *range(184, 201),
)
_ADE150, _ADE847 = "ADEChallengeData2016", "ADE20K_2021_17_01"
_VOC2010, _VOC2012 = "VOCdevkit/VOC2010", "VOCdevkit/VOC2012"


def _below(folder: str, images: str, labels: str) -> tuple[str, str]:
    return f"{folder}/{images}", f"{folder}/{labels}"


# Folders of images and of label maps, by release, where users have the same labels on disk.
LAYOUTS: dict[str, dict[str, tuple[str, str]]] = {
    **{
        f"coco_stuff_{split}": {
            "catseg": _below(
                "coco-stuff", f"images/{split}2017", f"annotations_detectron2/{split}2017"
            ),
            "san": _below("coco", f"{split}2017", f"stuffthingmaps_detectron2/{split}2017"),
        }
        for split in ("train", "val")
    },
    **{
        f"coco_panoptic_{split}": {
            "ours": (f"coco-stuff/images/{split}2017", f"coco/panoptic_semseg_{split}2017"),
            "fcclip": _below("coco", f"{split}2017", f"panoptic_semseg_{split}2017"),
        }
        for split in ("train", "val")
    },
    "ade150": {
        "catseg": _below(_ADE150, "images/validation", "annotations_detectron2/validation"),
    },
    "ade847": {
        "catseg": _below(
            _ADE847, "images_detectron2/validation", "annotations_detectron2/validation"
        ),
    },
    "pc59": {
        "catseg": _below(_VOC2010, "JPEGImages", "annotations_detectron2/pc59_val"),
        "san": _below("pcontext/val", "image", "label"),
        "fcclip": _below("pascal_ctx_d2", "images/validation", "annotations_ctx59/validation"),
    },
    "pc459": {
        "catseg": _below(_VOC2010, "JPEGImages", "annotations_detectron2/pc459_val"),
        "san": _below("pcontext_full/val", "image", "label"),
        "fcclip": _below("pascal_ctx_d2", "images/validation", "annotations_ctx459/validation"),
    },
    "voc20": {
        "catseg": _below(_VOC2012, "JPEGImages", "annotations_detectron2/val"),
        "san": _below("VOC2012", "JPEGImages", "annotations_detectron2/val"),
        "fcclip": _below("pascal_voc_d2", "images/validation", "annotations_pascal20/validation"),
    },
    # Background is 20, the last class.
    "voc20b": {
        "catseg": _below(_VOC2012, "JPEGImages", "annotations_detectron2_bg/val"),
        "mess": _below(_VOC2012, "JPEGImages", "annotations_detectron2/val_bg"),
    },
    # Background is 0, the first class.
    "voc21": {
        "fcclip": _below("pascal_voc_d2", "images/validation", "annotations_pascal21/validation"),
    },
}
# The class list of labels that are not called like it.
_CLASS_LISTS = {
    **{f"coco_stuff_{split}": "coco" for split in ("train", "val")},
    **{f"coco_panoptic_{split}": "coco_panoptic" for split in ("train", "val")},
}
_SIXTEEN_BITS = ("ade847", "pc459")
EXPECTED_IMAGES = {
    "coco_stuff_train": 118287,
    "coco_stuff_val": 5000,
    "coco_panoptic_train": 118287,
    "coco_panoptic_val": 5000,
    "ade150": 2000,
    "ade847": 2000,
    "pc59": 5104,
    "pc459": 5104,
    "voc20": 1449,
    "voc20b": 1449,
    "voc21": 1449,
}


# Name, labels, release whose folders come first (by default the first of ``LAYOUTS``), class list,
# value of unlabeled pixels; every value beyond the classes is unlabeled as well.
# The data sets of the ESC-Net, CAT-Seg and SED papers.
_BENCHMARKS = (
    ("coco_2017_train_stuff_all_sem_seg", "coco_stuff_train", "", "coco", 255),
    ("coco_2017_test_stuff_all_sem_seg", "coco_stuff_val", "", "coco", 255),
    ("ade20k_150_test_sem_seg", "ade150", "", "ade150", 255),
    ("ade20k_full_sem_seg_freq_val_all", "ade847", "", "ade847", 65535),
    ("context_59_test_sem_seg", "pc59", "", "pc59", 255),
    # Other releases write 65535 into the same files.
    ("context_459_test_sem_seg", "pc459", "", "pc459", 459),
    ("voc_2012_test_sem_seg", "voc20", "", "voc20", 255),
    ("voc_2012_test_background_sem_seg", "voc20b", "", "voc20", 255),
)
# COCO's 133 panoptic classes as semantic labels, and the benchmarks under the names, class lists
# and label values of SAN, FC-CLIP and MESS. ``ade20k_sem_seg_val`` (SAN, MESS) is Detectron2's own.
_OTHERS = (
    ("coco_2017_train_panoptic_sem_seg", "coco_panoptic_train", "", "coco_panoptic", 255),
    ("coco_2017_val_panoptic_sem_seg", "coco_panoptic_val", "", "coco_panoptic", 255),
    ("coco_2017_train_stuff_sem_seg", "coco_stuff_train", "san", "coco", 255),
    ("coco_2017_test_stuff_sem_seg", "coco_stuff_val", "san", "coco", 255),
    ("ade20k_full_sem_seg_val", "ade847", "san", "ade847", 65535),
    ("pcontext_sem_seg_val", "pc59", "san", "pc59", 255),
    ("pcontext_full_sem_seg_val", "pc459", "san", "pc459_spaced", 65535),
    ("voc_sem_seg_val", "voc20", "san", "voc20_san", 255),
    ("openvocab_coco_2017_train_stuff_sem_seg", "coco_stuff_train", "san", "coco_fcclip", 255),
    ("openvocab_coco_2017_test_stuff_sem_seg", "coco_stuff_val", "san", "coco_fcclip", 255),
    ("openvocab_ade20k_sem_seg_val", "ade150", "fcclip", "ade150_fcclip", 255),
    ("openvocab_ade20k_full_sem_seg_val", "ade847", "fcclip", "ade847_fcclip", 65535),
    ("openvocab_pascal_ctx59_sem_seg_val", "pc59", "fcclip", "pc59_fcclip", 255),
    ("openvocab_pascal_ctx459_sem_seg_val", "pc459", "fcclip", "pc459_fcclip", 65535),
    ("openvocab_pascal20_sem_seg_val", "voc20", "fcclip", "voc20_fcclip", 255),
    ("openvocab_pascal21_sem_seg_val", "voc21", "fcclip", "voc21_fcclip", 255),
    ("pascal_context_59_sem_seg_val", "pc59", "mess", "pc59", 255),
    ("pascal_context_459_sem_seg_val", "pc459", "mess", "pc459", 65535),
    ("voc_2012_sem_seg_val", "voc20", "mess", "voc20", 255),
    ("voc_2012_sem_seg_val_bg", "voc20b", "mess", "voc20", 255),
)
BENCHMARKS = tuple(name for name, *_ in _BENCHMARKS)


def all_datasets() -> dict[str, SemSegDataset]:
    """Describes every data set that this package registers, by name: ``BENCHMARKS`` come first."""
    with_background = {"classes": (*read_class_list("voc20"), BACKGROUND_CLASS)}
    entries = read_class_list("voc20b")
    stuff_ids = {"dataset_ids": tuple(value + 1 for value in COCO_STUFF_VALUES)}
    panoptic_ids = {"dataset_ids": COCO_PANOPTIC_IDS}
    further_facts = {
        "coco_2017_train_stuff_all_sem_seg": stuff_ids,
        "coco_2017_test_stuff_all_sem_seg": stuff_ids,
        "coco_2017_train_panoptic_sem_seg": panoptic_ids,
        "coco_2017_val_panoptic_sem_seg": panoptic_ids,
        # 59 text entries, of which those beyond VOC's 20 classes all mean background.
        "voc_2012_test_background_sem_seg": {
            **with_background,
            "evaluator_type": "sem_seg_background",
            "vocabulary_classes": entries,
            "vocabulary_to_class": tuple(min(index, 20) for index in range(len(entries))),
        },
        # One prompt for the background.
        "voc_2012_sem_seg_val_bg": with_background,
    }
    return {
        name: _describe(name, *row, **further_facts.get(name, {}))
        for name, *row in (*_BENCHMARKS, *_OTHERS)
    }


def _describe(
    name: str, labels: str, release: str, class_list: str, ignore_label: int, **facts: object
) -> SemSegDataset:
    layouts = LAYOUTS[labels]
    # A stable sort: the others keep their order.
    first_to_last = sorted(layouts, key=lambda other: other != release)
    return SemSegDataset(
        name=name,
        layouts=tuple(layouts[name] for name in first_to_last),
        ignore_label=ignore_label,
        label_suffixes=(".tif",) if labels in _SIXTEEN_BITS else (".png",),
        labels_select=True,
        expected_images=EXPECTED_IMAGES[labels],
        class_list=_CLASS_LISTS.get(labels, labels),
        hint=(
            f"The environment variable {ROOT_VARIABLE} says where data sets are (by default "
            "./datasets); datasets/README.md says how to prepare this one."
        ),
        **{"classes": read_class_list(class_list), "image_suffixes": (".jpg",), **facts},
    )
