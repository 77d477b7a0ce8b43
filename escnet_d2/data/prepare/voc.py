"""PASCAL VOC 2012 from its palette PNGs, without background (PAS-20) and with it (PAS-20b)."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from escnet_d2.io import read_label_map

from .archives import VOC_2012, VOC_AUG
from .coco import check_bytes
from .conversion import (
    Job,
    Prepared,
    Settings,
    label_folder,
    label_table,
    listed_files,
    run_jobs,
    save_labels,
)

FOLDER = "VOCdevkit/VOC2012"
_NUM_CLASSES = 20
_NUM_IMAGES = 1449
_UNLABELLED = 255
# Images in ImageSets/Segmentation/val.txt of the other years.
_OTHER_YEARS = {213: 2007, 512: 2008, 750: 2009, 964: 2010, 1111: 2011}


def prepare_voc(settings: Settings) -> Prepared:
    """Converts the validation split of VOC 2012.

    1 to 20 become 0 to 19, 255 stays; 0, the background, becomes 255 for PAS-20 and 20 for PAS-20b.

    Args:
        settings: ``root`` holds ``VOCdevkit/VOC2012`` with ``ImageSets`` and
            ``SegmentationClassAug`` or, where that is missing, VOC's own ``SegmentationClass``.

    Raises:
        FileNotFoundError: the list of images or all label maps are missing; names a VOC that is
            there in the wrong place or of the wrong year.
        ValueError: the list is another year's, or a label map cannot be read or has other values.
    """
    folder = settings.root / FOLDER
    split = folder / "ImageSets/Segmentation/val.txt"
    if not split.is_file():
        raise FileNotFoundError(
            f"{split} does not exist.{_wrong_folder(settings.root)} "
            f"{VOC_2012.how_to_get(settings.root)}"
        )
    ids = split.read_text(encoding="utf-8").split()
    if len(ids) in _OTHER_YEARS:
        raise ValueError(
            f"{split} lists {len(ids)} images: this is VOC {_OTHER_YEARS[len(ids)]}. PAS-20 needs "
            f"VOC 2012 with {_NUM_IMAGES}. {VOC_2012.how_to_get(settings.root)}"
        )
    source = folder / "SegmentationClassAug"
    if not source.is_dir():
        source = folder / "SegmentationClass"
    if not source.is_dir():
        raise FileNotFoundError(
            f"{folder} has neither SegmentationClassAug nor SegmentationClass. "
            f"{VOC_AUG.how_to_get(settings.root)}"
        )
    files, problems = listed_files(source, ids, ".png")
    classes = {value: value - 1 for value in range(1, _NUM_CLASSES + 1)}
    tables = {
        "voc_2012_test_sem_seg": label_table(classes),
        "voc_2012_test_background_sem_seg": label_table({**classes, 0: _NUM_CLASSES}),
    }
    for name, table in tables.items():
        target = label_folder(name, settings)
        jobs = [Job(file, (target / file.name,)) for file in files]
        convert = partial(convert_voc_map, table=table)
        run_jobs(jobs, convert, settings=settings, title=name)
    return Prepared(list(tables), problems)


def convert_voc_map(job: Job, *, table: np.ndarray) -> None:
    """Writes one label map.

    Args:
        job: a PNG whose palette indices or grey values are VOC's ids, and its target.
        table: uint8 (256,), class index by id.

    Raises:
        ValueError: the file is coloured, or has values that are no class of VOC.
    """
    try:
        labels = read_label_map(job.source)
    except ValueError as error:
        raise ValueError(
            f"{error} VOC's label maps are palette PNGs; a program that converted them to RGB has "
            "lost the class indices."
        ) from error
    check_bytes(job.source, labels)
    strange = labels[(labels > _NUM_CLASSES) & (labels != _UNLABELLED)]
    if strange.size:
        raise ValueError(
            f"{job.source} has the value {strange[0]}: VOC's classes are 0 to {_NUM_CLASSES}, and "
            "255 is unlabelled. SegmentationObject numbers objects, not classes."
        )
    save_labels(table[labels], job.targets[0])


def _wrong_folder(root: Path) -> str:
    """A sentence about a VOC that is there but not where or what it should be."""
    misplaced = [root / "VOC2012", root / "VOCdevkit/VOCdevkit/VOC2012", root / "TrainVal" / FOLDER]
    for folder in misplaced:
        if (folder / "ImageSets").is_dir():
            return f" {folder} belongs at {root / FOLDER}."
    years = sorted((root / "VOCdevkit").glob("VOC20[01][0-9]"))
    if years:
        found = " and ".join(str(year) for year in years)
        return f" {found} is another year; VOC 2010 serves PASCAL-Context only."
    return ""
