"""Facts of the open-vocabulary benchmarks: names, folders, classes, counts.

Names, folders and label values are those of the CAT-Seg and SED releases, so that data prepared for
them is found as it is. Class names are stripped: the "bed " of their ADE20K-150 list is "bed" here.
"""

from __future__ import annotations

from ..class_lists import read_class_list
from ..sem_seg_dataset import ROOT_VARIABLE, SemSegDataset

BACKGROUND_CLASS = "background"
_JPG, _PNG, _TIF = (".jpg",), (".png",), (".tif",)


def builtin_meta() -> tuple[SemSegDataset, ...]:
    """Returns the eight data sets of the ESC-Net, CAT-Seg and SED papers."""
    return (
        _benchmark(
            "coco_2017_train_stuff_all_sem_seg",
            "coco-stuff/images/train2017",
            "coco-stuff/annotations_detectron2/train2017",
            classes="coco",
            expected_images=118287,
        ),
        _benchmark(
            "coco_2017_test_stuff_all_sem_seg",
            "coco-stuff/images/val2017",
            "coco-stuff/annotations_detectron2/val2017",
            classes="coco",
            expected_images=5000,
        ),
        _benchmark(
            "ade20k_150_test_sem_seg",
            "ADEChallengeData2016/images/validation",
            "ADEChallengeData2016/annotations_detectron2/validation",
            classes="ade150",
            expected_images=2000,
        ),
        _benchmark(
            "ade20k_full_sem_seg_freq_val_all",
            "ADE20K_2021_17_01/images_detectron2/validation",
            "ADE20K_2021_17_01/annotations_detectron2/validation",
            classes="ade847",
            expected_images=2000,
            ignore_label=65535,
            label_suffixes=_TIF,
        ),
        _benchmark(
            "context_59_test_sem_seg",
            "VOCdevkit/VOC2010/JPEGImages",
            "VOCdevkit/VOC2010/annotations_detectron2/pc59_val",
            classes="pc59",
            expected_images=5104,
        ),
        _benchmark(
            "context_459_test_sem_seg",
            "VOCdevkit/VOC2010/JPEGImages",
            "VOCdevkit/VOC2010/annotations_detectron2/pc459_val",
            classes="pc459",
            expected_images=5104,
            # Other releases write 65535 into the same files; values >= 459 all count as unlabelled.
            ignore_label=459,
            label_suffixes=_TIF,
        ),
        _benchmark(
            "voc_2012_test_sem_seg",
            "VOCdevkit/VOC2012/JPEGImages",
            "VOCdevkit/VOC2012/annotations_detectron2/val",
            classes="voc20",
            expected_images=1449,
        ),
        _voc_with_background(),
    )


def _voc_with_background() -> SemSegDataset:
    """PAS-20b: 59 text entries, of which those beyond VOC's 20 classes all mean background."""
    classes, entries = read_class_list("voc20"), read_class_list("voc20b")
    background = len(classes)
    return _benchmark(
        "voc_2012_test_background_sem_seg",
        "VOCdevkit/VOC2012/JPEGImages",
        "VOCdevkit/VOC2012/annotations_detectron2_bg/val",
        classes=(*classes, BACKGROUND_CLASS),
        expected_images=1449,
        evaluator_type="sem_seg_background",
        vocabulary_classes=entries,
        vocabulary_to_class=tuple(min(index, background) for index in range(len(entries))),
    )


def _benchmark(
    name: str,
    image_dir: str,
    sem_seg_dir: str,
    *,
    classes: str | tuple[str, ...],
    expected_images: int,
    label_suffixes: tuple[str, ...] = _PNG,
    **facts: object,
) -> SemSegDataset:
    return SemSegDataset(
        name=name,
        image_dir=image_dir,
        sem_seg_dir=sem_seg_dir,
        classes=read_class_list(classes) if isinstance(classes, str) else classes,
        image_suffixes=_JPG,
        label_suffixes=label_suffixes,
        labels_select=True,
        expected_images=expected_images,
        hint=(
            f"The environment variable {ROOT_VARIABLE} says where data sets are (by default "
            "./datasets); datasets/README.md says how to prepare this one."
        ),
        **facts,
    )
