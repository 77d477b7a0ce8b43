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
_JPG, _PNG, _TIF = (".jpg",), (".png",), (".tif",)
_VOC2010, _VOC2012 = "VOCdevkit/VOC2010", "VOCdevkit/VOC2012"
_ADE150, _ADE847 = "ADEChallengeData2016", "ADE20K_2021_17_01"

# Folders of images and of label maps, by release, where users have the same labels on disk.
LAYOUTS: dict[str, dict[str, tuple[str, str]]] = {
    **{
        f"coco_stuff_{split}": {
            "catseg": (
                f"coco-stuff/images/{split}2017",
                f"coco-stuff/annotations_detectron2/{split}2017",
            ),
            "san": (f"coco/{split}2017", f"coco/stuffthingmaps_detectron2/{split}2017"),
        }
        for split in ("train", "val")
    },
    **{
        f"coco_panoptic_{split}": {
            "ours": (f"coco-stuff/images/{split}2017", f"coco/panoptic_semseg_{split}2017"),
            "fcclip": (f"coco/{split}2017", f"coco/panoptic_semseg_{split}2017"),
        }
        for split in ("train", "val")
    },
    "ade150": {
        "catseg": (f"{_ADE150}/images/validation", f"{_ADE150}/annotations_detectron2/validation"),
    },
    "ade847": {
        "catseg": (
            f"{_ADE847}/images_detectron2/validation",
            f"{_ADE847}/annotations_detectron2/validation",
        ),
    },
    "pc59": {
        "catseg": (f"{_VOC2010}/JPEGImages", f"{_VOC2010}/annotations_detectron2/pc59_val"),
        "san": ("pcontext/val/image", "pcontext/val/label"),
        "fcclip": ("pascal_ctx_d2/images/validation", "pascal_ctx_d2/annotations_ctx59/validation"),
    },
    "pc459": {
        "catseg": (f"{_VOC2010}/JPEGImages", f"{_VOC2010}/annotations_detectron2/pc459_val"),
        "san": ("pcontext_full/val/image", "pcontext_full/val/label"),
        "fcclip": (
            "pascal_ctx_d2/images/validation",
            "pascal_ctx_d2/annotations_ctx459/validation",
        ),
    },
    "voc20": {
        "catseg": (f"{_VOC2012}/JPEGImages", f"{_VOC2012}/annotations_detectron2/val"),
        "san": ("VOC2012/JPEGImages", "VOC2012/annotations_detectron2/val"),
        "fcclip": (
            "pascal_voc_d2/images/validation",
            "pascal_voc_d2/annotations_pascal20/validation",
        ),
    },
    # Background is 20, the last class.
    "voc20b": {
        "catseg": (f"{_VOC2012}/JPEGImages", f"{_VOC2012}/annotations_detectron2_bg/val"),
        "mess": (f"{_VOC2012}/JPEGImages", f"{_VOC2012}/annotations_detectron2/val_bg"),
    },
    # Background is 0, the first class.
    "voc21": {
        "fcclip": (
            "pascal_voc_d2/images/validation",
            "pascal_voc_d2/annotations_pascal21/validation",
        ),
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


def builtin_meta() -> tuple[SemSegDataset, ...]:
    """Returns the eight data sets of the ESC-Net, CAT-Seg and SED papers."""
    return (
        _coco_stuff("coco_2017_train_stuff_all_sem_seg", "coco_stuff_train"),
        _coco_stuff("coco_2017_test_stuff_all_sem_seg", "coco_stuff_val"),
        benchmark("ade20k_150_test_sem_seg", "ade150", classes="ade150"),
        benchmark(
            "ade20k_full_sem_seg_freq_val_all", "ade847", classes="ade847", ignore_label=65535
        ),
        benchmark("context_59_test_sem_seg", "pc59", classes="pc59"),
        # Other releases write 65535 into the same files; values >= 459 all count as unlabeled.
        benchmark("context_459_test_sem_seg", "pc459", classes="pc459", ignore_label=459),
        benchmark("voc_2012_test_sem_seg", "voc20", classes="voc20"),
        _voc_with_background(),
    )


def panoptic_meta() -> tuple[SemSegDataset, ...]:
    """Returns COCO's 133 panoptic classes as semantic labels, training and validation."""
    return tuple(
        benchmark(
            f"coco_2017_{split}_panoptic_sem_seg",
            f"coco_panoptic_{split}",
            classes="coco_panoptic",
            dataset_ids=COCO_PANOPTIC_IDS,
        )
        for split in ("train", "val")
    )


def benchmark(
    name: str,
    labels: str,
    *,
    classes: str | tuple[str, ...],
    release: str = "",
    ignore_label: int = 255,
    **facts: object,
) -> SemSegDataset:
    """Describes one registration.

    Args:
        name: in Detectron2's catalogs.
        labels: which labels, a key of ``LAYOUTS``.
        classes: a bundled class list, or the class names.
        release: whose folders are looked in first, by default the first of ``LAYOUTS``.
        ignore_label: the value of unlabeled pixels; every value beyond the classes is one as well.
        **facts: further fields of :class:`SemSegDataset`.
    """
    layouts = dict(LAYOUTS[labels])
    first = layouts.pop(release, None) or layouts.pop(next(iter(layouts)))
    return SemSegDataset(
        name=name,
        image_dir=first[0],
        sem_seg_dir=first[1],
        other_dirs=tuple(layouts.values()),
        classes=read_class_list(classes) if isinstance(classes, str) else classes,
        ignore_label=ignore_label,
        image_suffixes=_JPG,
        label_suffixes=_TIF if labels in _SIXTEEN_BITS else _PNG,
        labels_select=True,
        expected_images=EXPECTED_IMAGES[labels],
        class_list=_CLASS_LISTS.get(labels, labels),
        hint=(
            f"The environment variable {ROOT_VARIABLE} says where data sets are (by default "
            "./datasets); datasets/README.md says how to prepare this one."
        ),
        **facts,
    )


def _coco_stuff(name: str, labels: str) -> SemSegDataset:
    ids = tuple(value + 1 for value in COCO_STUFF_VALUES)
    return benchmark(name, labels, classes="coco", dataset_ids=ids)


def _voc_with_background() -> SemSegDataset:
    """PAS-20b: 59 text entries, of which those beyond VOC's 20 classes all mean background."""
    classes, entries = read_class_list("voc20"), read_class_list("voc20b")
    background = len(classes)
    return benchmark(
        "voc_2012_test_background_sem_seg",
        "voc20b",
        classes=(*classes, BACKGROUND_CLASS),
        evaluator_type="sem_seg_background",
        vocabulary_classes=entries,
        vocabulary_to_class=tuple(min(index, background) for index in range(len(entries))),
    )
