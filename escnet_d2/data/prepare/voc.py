"""PASCAL VOC 2012 from its palette PNGs, without background (PAS-20) and with it (PAS-20b)."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from .archives import VOC_2012, VOC_AUG
from .conversion import LabelWriter, label_table, listed_files, read_8bit_labels

_FOLDER = "VOCdevkit/VOC2012"
_NUM_CLASSES = 20
_NUM_IMAGES = 1449
_UNLABELED = 255
# Images in ImageSets/Segmentation/val.txt of the other years.
_OTHER_YEARS = {213: 2007, 512: 2008, 750: 2009, 964: 2010, 1111: 2011}


def prepare_voc(writer: LabelWriter) -> list[str]:
    """Converts the validation split of VOC 2012.

    1 to 20 become 0 to 19, 255 stays; 0, the background, becomes 255 for PAS-20 and 20 for PAS-20b.
    Where ``SegmentationClassAug`` is missing, VOC's own ``SegmentationClass`` is read.
    """
    folder = writer.root / _FOLDER
    split = folder / "ImageSets/Segmentation/val.txt"
    if not split.is_file():
        raise FileNotFoundError(
            f"{split} does not exist.{_wrong_folder(writer.root)} "
            f"{VOC_2012.how_to_get(writer.root)}"
        )
    ids = split.read_text(encoding="utf-8").split()
    if len(ids) in _OTHER_YEARS:
        raise ValueError(
            f"{split} lists {len(ids)} images: this is VOC {_OTHER_YEARS[len(ids)]}. PAS-20 needs "
            f"VOC 2012 with {_NUM_IMAGES}. {VOC_2012.how_to_get(writer.root)}"
        )
    sources = (folder / "SegmentationClassAug", folder / "SegmentationClass")
    source = next(filter(Path.is_dir, sources), None)
    if source is None:
        raise FileNotFoundError(
            f"{folder} has neither SegmentationClassAug nor SegmentationClass. "
            f"{VOC_AUG.how_to_get(writer.root)}"
        )
    files = {id_: (file,) for id_, file in listed_files(source, ids, ".png").items()}
    classes = {value: value - 1 for value in range(1, _NUM_CLASSES + 1)}
    tables = {
        "voc_2012_test_sem_seg": label_table(classes),
        "voc_2012_test_background_sem_seg": label_table({**classes, 0: _NUM_CLASSES}),
    }
    for name, table in tables.items():
        writer.write(name, partial(_read_labels, table=table), files)
    return list(tables)


def _read_labels(file: Path, *, table: np.ndarray) -> np.ndarray:
    try:
        labels = read_8bit_labels(file)
    except ValueError as error:
        raise ValueError(
            f"{error} VOC's label maps are palette PNGs; a program that converted them to RGB has "
            "lost the class indices."
        ) from error
    strange = labels[(labels > _NUM_CLASSES) & (labels != _UNLABELED)]
    if strange.size:
        raise ValueError(
            f"{file} has the value {strange[0]}: VOC's classes are 0 to {_NUM_CLASSES}, and "
            "255 is unlabeled. SegmentationObject numbers objects, not classes."
        )
    return table[labels]


def _wrong_folder(root: Path) -> str:
    """Writes a sentence about a VOC that is there but not where or what it should be."""
    for misplaced in ("VOC2012", "VOCdevkit/VOCdevkit/VOC2012", f"TrainVal/{_FOLDER}"):
        if (root / misplaced / "ImageSets").is_dir():
            return f" {root / misplaced} belongs at {root / _FOLDER}."
    years = sorted((root / "VOCdevkit").glob("VOC20[01][0-9]"))
    if years:
        found = " and ".join(str(year) for year in years)
        return f" {found} is another year; VOC 2010 is for PASCAL-Context only."
    return ""
