"""PASCAL VOC 2012 from its palette PNGs, without background (PAS-20) and with it (PAS-20b)."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from .archives import VOC_2012, VOC_AUG
from .conversion import LabelWriter, listed_files, read_8bit_labels

_FOLDER = "VOCdevkit/VOC2012"
_CLASSES = {value: value - 1 for value in range(1, 21)}
# The class of the background in each data set.
_BACKGROUND = {"voc_2012_test_sem_seg": 255, "voc_2012_test_background_sem_seg": 20}
_HINT = (
    "VOC's label maps are palette PNGs with 0 to 20 and 255. A program that converted them to RGB "
    "has lost the class indices; SegmentationObject numbers objects, not classes."
)
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
        what = f"{split} does not exist."
        for misplaced in ("VOC2012", "VOCdevkit/VOCdevkit/VOC2012", f"TrainVal/{_FOLDER}"):
            if (writer.root / misplaced / "ImageSets").is_dir():
                what += f" {writer.root / misplaced} belongs at {folder}."
        raise VOC_2012.missing(writer.root, what)
    ids = split.read_text(encoding="utf-8").split()
    if len(ids) in _OTHER_YEARS:
        raise ValueError(
            f"{split} lists {len(ids)} images: this is VOC {_OTHER_YEARS[len(ids)]}. PAS-20 needs "
            f"VOC 2012 with 1449. {VOC_2012.how_to_get(writer.root)}"
        )
    sources = (folder / "SegmentationClassAug", folder / "SegmentationClass")
    source = next(filter(Path.is_dir, sources), None)
    if source is None:
        what = f"{folder} has neither SegmentationClassAug nor SegmentationClass."
        raise VOC_AUG.missing(writer.root, what)
    files = {id_: (file,) for id_, file in listed_files(source, ids, ".png").items()}
    for name, background in _BACKGROUND.items():
        index_of_value = {**_CLASSES, 0: background, 255: 255}
        read = partial(read_8bit_labels, index_of_value=index_of_value, hint=_HINT)
        writer.write(name, read, files)
    return list(_BACKGROUND)
