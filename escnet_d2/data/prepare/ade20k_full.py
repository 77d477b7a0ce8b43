"""ADE20K-847 from the full ADE20K of 2021: color-coded objects to 16-bit class indices."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from escnet_d2.io import atomic_path

from ..datasets.builtin_meta import all_datasets
from .archives import ADE20K_FULL
from .conversion import LabelWriter, packaged_list, read_rgb

_FOLDER = "ADE20K_2021_17_01"
_IMAGES = "images/ADE/validation"
_DATASET = "ade20k_full_sem_seg_freq_val_all"
_UNLABELED = 65535
_MAX_SHORT_SIDE = 512
# R = 255, G = 255: the highest code of an object, plus one.
_NUM_CODES = 25 * 256 + 256


def prepare_ade20k_847(writer: LabelWriter) -> list[str]:
    """Converts the validation images and their ``_seg.png``.

    An object's id is ``(R // 10) * 256 + G``; the 847 most frequent ones are the classes. As in the
    CAT-Seg release, images and labels whose shorter side exceeds 512 pixels are resized to it,
    images bilinearly and labels to the nearest pixel, and all images are written again as JPEG.
    """
    images = all_datasets()[_DATASET].prepared_folders(writer.root)[0]
    class_of_object = np.full(_NUM_CODES, _UNLABELED, dtype=np.uint16)
    object_ids = list(map(int, packaged_list("ade847_object_ids.txt")))
    class_of_object[object_ids] = range(len(object_ids))
    writer.write(
        _DATASET,
        partial(_convert_image, class_of_object=class_of_object),
        {file.stem: (file, images / file.name) for file in _validation_images(writer.root)},
    )
    return [_DATASET]


def _convert_image(file: Path, target: Path, *, class_of_object: np.ndarray) -> np.ndarray:
    """Writes one image, and returns its label map, as large as what was written."""
    image = read_rgb(file)
    mask_file = file.with_name(f"{file.stem}_seg.png")
    mask = read_rgb(mask_file, must_be_colored=True).astype(np.int64)
    objects = mask[:, :, 0] // 10 * 256 + mask[:, :, 1]
    if objects.shape != image.shape[:2]:
        raise ValueError(f"{file} and {mask_file} differ in size.")
    size = target_size(*objects.shape)
    if size != objects.shape:
        image = _resize_linear(image, size)
        objects = resize_nearest(objects, size)
    # Before the label map, since what has a label map counts as done.
    with atomic_path(target) as temporary:
        Image.fromarray(image).save(temporary, "JPEG")
    return class_of_object[objects]


def target_size(height: int, width: int) -> tuple[int, int]:
    """Returns the height and width that an image is written with."""
    if min(height, width) <= _MAX_SHORT_SIDE:
        return height, width
    if width >= height:
        return _MAX_SHORT_SIDE, round(width / height * _MAX_SHORT_SIDE)
    return round(height / width * _MAX_SHORT_SIDE), _MAX_SHORT_SIDE


def _resize_linear(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    # OpenCV's threads do not survive in processes that are forked later.
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        return cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR)
    finally:
        cv2.setNumThreads(threads)


def resize_nearest(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resizes as OpenCV 4 does with INTER_NEAREST: pixel i comes from floor(i * old / new).

    Written out, since releases of OpenCV round differently, and labels must not depend on that.
    """
    rows, columns = (
        # 1 / (new / old) and not old / new: the products differ in the last bit.
        np.minimum(np.floor(np.arange(new) * (1.0 / (new / old))).astype(np.int64), old - 1)
        for old, new in zip(labels.shape, size)
    )
    return labels[rows[:, None], columns]


def _validation_images(root: Path) -> list[Path]:
    folder = root / _FOLDER / _IMAGES
    files = sorted(folder.rglob("ADE_val_*.jpg"))
    if not files:
        raise ADE20K_FULL.missing(root, f"There is no ADE_val_*.jpg in {folder}.")
    return files
