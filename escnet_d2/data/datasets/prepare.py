"""Turns published label maps into class indices from 0, with 255 for unlabelled pixels."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from escnet_d2.structures.label_io import read_label_map

from .builtin_meta import builtin_meta

logger = logging.getLogger(__name__)

_UNLABELLED = 255
# Ids of COCO's things that no image is labelled with; the other ids below 182 are the 171 classes.
_COCO_UNUSED_IDS = (11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90)
_COCO_NUM_IDS = 182
_VOC_NUM_CLASSES = 20


def prepare_coco_stuff(root: Path, *, num_workers: int = 0) -> list[str]:
    """Converts the PNGs of ``stuffthingmaps_trainval2017.zip``, those splits that are there.

    Args:
        root: holds ``coco-stuff/annotations/{train,val}2017``.
        num_workers: processes to use beside this one.

    Returns:
        Names of the data sets written.

    Raises:
        FileNotFoundError: neither split is there.
        ValueError: a label map cannot be read, or has a value that is no byte.
    """
    used = [index for index in range(_COCO_NUM_IDS) if index not in _COCO_UNUSED_IDS]
    table = _table({value: index for index, value in enumerate(used)})
    sources = {
        f"coco_2017_{name}_stuff_all_sem_seg": root / "coco-stuff/annotations" / f"{split}2017"
        for name, split in (("train", "train"), ("test", "val"))
    }
    present = {name: source for name, source in sources.items() if source.is_dir()}
    if not present:
        raise FileNotFoundError(f"None of {', '.join(map(str, sources.values()))} exists.")
    for name, source in present.items():
        _convert(_label_maps(source), root, name, table, num_workers)
    return list(present)


def prepare_ade20k_150(root: Path, *, num_workers: int = 0) -> list[str]:
    """Converts the validation split of ``ADEChallengeData2016.zip``.

    Args:
        root: holds ``ADEChallengeData2016/annotations/validation``.
        num_workers: processes to use beside this one.

    Returns:
        Name of the data set written.

    Raises:
        FileNotFoundError: the label maps are not there.
        ValueError: a label map cannot be read, or has a value that is no byte.
    """
    source = root / "ADEChallengeData2016/annotations/validation"
    # 0 is "other"; the classes are 1 to 150.
    table = _table({value: value - 1 for value in range(1, 151)})
    name = "ade20k_150_test_sem_seg"
    _convert(_label_maps(source), root, name, table, num_workers)
    return [name]


def prepare_voc(root: Path, *, num_workers: int = 0) -> list[str]:
    """Converts the validation split of PASCAL VOC 2012, without background and with it as class 20.

    Args:
        root: holds ``VOCdevkit/VOC2012`` with ``ImageSets`` and ``SegmentationClassAug`` or, where
            that is missing, VOC's own ``SegmentationClass``.
        num_workers: processes to use beside this one.

    Returns:
        Names of the data sets written.

    Raises:
        FileNotFoundError: the list of images or a label map is not there.
        ValueError: a label map cannot be read, or has a value that is no byte.
    """
    folder = root / "VOCdevkit/VOC2012"
    source = folder / "SegmentationClassAug"
    if not source.is_dir():
        source = folder / "SegmentationClass"
    split = folder / "ImageSets/Segmentation/val.txt"
    files = [source / f"{stem}.png" for stem in split.read_text(encoding="utf-8").split()]
    objects = {value: value - 1 for value in range(1, _VOC_NUM_CLASSES + 1)}
    tables = {
        "voc_2012_test_sem_seg": _table(objects),
        "voc_2012_test_background_sem_seg": _table({**objects, 0: _VOC_NUM_CLASSES}),
    }
    for name, table in tables.items():
        _convert(files, root, name, table, num_workers)
    return list(tables)


PREPARE: dict[str, Callable[..., list[str]]] = {
    "coco_stuff": prepare_coco_stuff,
    "ade20k_150": prepare_ade20k_150,
    "voc": prepare_voc,
}


def _table(index_of_value: dict[int, int]) -> np.ndarray:
    table = np.full(256, _UNLABELLED, dtype=np.uint8)
    for value, index in index_of_value.items():
        table[value] = index
    return table


def _label_maps(folder: Path) -> list[Path]:
    files = sorted(folder.glob("*.png"))
    if not files:
        raise FileNotFoundError(f"There are no label maps in {folder}: unpack the archive there.")
    return files


def _convert(files: list[Path], root: Path, name: str, table: np.ndarray, num_workers: int) -> None:
    [dataset] = [dataset for dataset in builtin_meta() if dataset.name == name]
    target = dataset.folders(root)[1]
    target.mkdir(parents=True, exist_ok=True)
    logger.info("%s: writing %d label maps to %s", name, len(files), target)
    convert = partial(_convert_file, target=target, table=table)
    if num_workers > 0:
        with ProcessPoolExecutor(num_workers) as pool:
            _exhaust(pool.map(convert, files, chunksize=64))
    else:
        _exhaust(map(convert, files))


def _convert_file(file: Path, *, target: Path, table: np.ndarray) -> None:
    labels = read_label_map(file)
    if labels.min() < 0 or labels.max() >= len(table):
        raise ValueError(f"{file} has values outside 0..{len(table) - 1}: is it the right file?")
    Image.fromarray(table[labels]).save(target / file.name)


def _exhaust(results: Iterable[None]) -> None:
    for _ in results:
        pass
