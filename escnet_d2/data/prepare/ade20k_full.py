"""ADE20K-847 from the full ADE20K of 2021: colour-coded objects to 16-bit class indices."""

from __future__ import annotations

import io
import logging
import pickle
import re
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from escnet_d2.io import DECODING_ERRORS, atomic_path

from ..class_lists import read_class_list
from ..datasets.facts import ade847_object_ids
from .archives import ADE20K_FULL
from .conversion import (
    Job,
    Prepared,
    Settings,
    image_folder,
    label_folder,
    run_jobs,
    save_labels,
)

logger = logging.getLogger(__name__)

FULL_FOLDER = "ADE20K_2021_17_01"
DATASET = "ade20k_full_sem_seg_freq_val_all"
UNLABELLED = 65535
# Images whose shorter side is longer are made smaller, labels and all.
MAX_SHORT_SIDE = 512
# A-150's, and the full data set of 2016 with other object ids.
_OTHER_VARIANTS = ("ADEChallengeData2016", "ADE20K_2016_07_26")
# R = 255, G = 255: the highest code of an object, plus one.
_NUM_CODES = 25 * 256 + 256


def prepare_ade20k_847(settings: Settings) -> Prepared:
    """Converts the validation images that the index names, and their ``_seg.png``.

    An object's id is ``(R // 10) * 256 + G``; the 847 most frequent ones are the classes. As in the
    CAT-Seg release, images and labels whose shorter side exceeds 512 pixels are resized to it,
    images bilinearly and labels to the nearest pixel, and images are written as JPEG anew.

    Args:
        settings: ``root`` holds ``ADE20K_2021_17_01`` with ``index_ade20k.pkl`` and ``images``.

    Raises:
        FileNotFoundError: the data set is not there; names another variant of ADE20K that is.
        ValueError: the index or an image cannot be read, or is of another variant.
    """
    files, problems = _validation_images(settings.root)
    images, labels = image_folder(DATASET, settings), label_folder(DATASET, settings)
    jobs = [
        Job(file, (images / file.name, labels / f"{file.stem}.tif"))
        for file in files
        if file.is_file()
    ]
    if not jobs:
        raise FileNotFoundError(
            f"None of the {len(files)} validation images exists, such as {files[0]}. "
            f"{ADE20K_FULL.how_to_get(settings.root)}"
        )
    if len(jobs) < len(files):
        problems.append(f"{len(files) - len(jobs)} of {len(files)} validation images are missing.")
    convert = partial(convert_full_image, table=object_table())
    run_jobs(jobs, convert, settings=settings, title="ADE20K-847")
    return Prepared([DATASET], problems)


def object_table() -> np.ndarray:
    """Class index by object id: uint16 (6656,), 65535 for objects that are no class."""
    table = np.full(_NUM_CODES, UNLABELLED, dtype=np.uint16)
    for index, object_id in enumerate(ade847_object_ids()):
        table[object_id] = index
    return table


def convert_full_image(job: Job, *, table: np.ndarray) -> None:
    """Writes one image and its label map.

    Args:
        job: the image; its targets are the image and the label map to write.
        table: see :func:`object_table`.

    Raises:
        FileNotFoundError: the image has no ``_seg.png`` beside it.
        ValueError: a file cannot be read, or is not colour-coded, or the sizes differ.
    """
    image = _read_rgb(job.source)
    mask_file = job.source.with_name(f"{job.source.stem}_seg.png")
    mask = _read_rgb(mask_file, must_be_coloured=True).astype(np.int64)
    objects = mask[:, :, 0] // 10 * 256 + mask[:, :, 1]
    if objects.shape != image.shape[:2]:
        raise ValueError(f"{job.source} and {mask_file} differ in size.")
    size = target_size(*objects.shape)
    if size != objects.shape:
        image = _resize_linear(image, size)
        objects = resize_nearest(objects, size)
    image_file, label_file = job.targets
    with atomic_path(image_file) as temporary:
        Image.fromarray(image).save(temporary, "JPEG")
    # Last, since what has a label map counts as done.
    save_labels(table[objects], label_file)


def target_size(height: int, width: int) -> tuple[int, int]:
    """Height and width that an image is written with.

    Args:
        height: in pixels.
        width: in pixels.
    """
    short = min(height, width)
    if short <= MAX_SHORT_SIDE:
        return height, width
    if width >= height:
        return MAX_SHORT_SIDE, round(width / float(height) * MAX_SHORT_SIDE)
    return round(height / float(width) * MAX_SHORT_SIDE), MAX_SHORT_SIDE


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

    Args:
        labels: (H, W).
        size: height and width wanted.
    """
    rows, columns = (
        # 1 / (new / old) and not old / new: the products differ in the last bit.
        np.minimum(np.floor(np.arange(new) * (1.0 / (new / old))).astype(np.int64), old - 1)
        for old, new in zip(labels.shape, size)
    )
    return labels[rows[:, None], columns]


def read_index(file: Path) -> dict[str, Any]:
    """Reads ``index_ade20k.pkl`` without running what a pickle may hold.

    Args:
        file: the index of the release.

    Returns:
        The index; objects of other kinds than Python's own and NumPy's arrays are placeholders.

    Raises:
        ValueError: no pickle, or without the keys ``folder`` and ``filename``.
    """
    try:
        content = _InertUnpickler(io.BytesIO(file.read_bytes())).load()
        missing = [key for key in ("folder", "filename") if key not in content]
    except (pickle.UnpicklingError, *DECODING_ERRORS, AttributeError, ImportError) as error:
        raise ValueError(f"{file} cannot be read: {error}") from error
    if missing:
        raise ValueError(f"{file} has no {' and no '.join(missing)}: it is no index of ADE20K.")
    return content


def _validation_images(root: Path) -> tuple[list[Path], list[str]]:
    """The validation images, and what is doubtful about the release."""
    folder = root / FULL_FOLDER
    if not folder.is_dir():
        others = [name for name in _OTHER_VARIANTS if (root / name).is_dir()]
        wrong = f" {' and '.join(others)}, which is there, is another variant." if others else ""
        raise FileNotFoundError(f"{folder} does not exist.{wrong} {ADE20K_FULL.how_to_get(root)}")
    index_file = folder / "index_ade20k.pkl"
    if not index_file.is_file():
        files = sorted((folder / "images").rglob("ADE_val_*.jpg"))
        if not files:
            raise FileNotFoundError(
                f"{folder} has neither index_ade20k.pkl nor images/**/ADE_val_*.jpg. "
                f"{ADE20K_FULL.how_to_get(root)}"
            )
        logger.info("%s does not exist: taking ADE_val_*.jpg.", index_file)
        return files, []
    index = read_index(index_file)
    files = [
        root / str(place) / str(name)
        for place, name in zip(index["folder"], index["filename"])
        if _is_validation(str(name))
    ]
    if not files:
        raise ValueError(f"{index_file} names no validation image.")
    return files, _doubts_about_objects(index, index_file)


def _is_validation(name: str) -> bool:
    # ADE_val_00000001.jpg, ADE_train_00000001.jpg, ADE_frame_..._.jpg
    parts = name.split("_")
    return len(parts) > 1 and parts[1] == "val"


def _doubts_about_objects(index: dict[str, Any], file: Path) -> list[str]:
    """Holds the index's object names, where it has all of them, against the class list."""
    ids = ade847_object_ids()
    names = index.get("objectnames")
    if not isinstance(names, (list, tuple, np.ndarray)) or len(names) < max(ids):
        return []
    expected = [names_of.split(",")[0].strip() for names_of in read_class_list("ade847")]
    found = [str(names[id_ - 1]).split(",")[0].strip() for id_ in ids]
    differing = [pair for pair in zip(found, expected) if pair[0] != pair[1]]
    if len(differing) <= len(ids) // 2:
        return []
    return [
        f"{file} numbers objects in another way ({differing[0][0]!r} where {differing[0][1]!r} "
        f"is expected): A-847 is made from {FULL_FOLDER} and no other release."
    ]


def _read_rgb(file: Path, *, must_be_coloured: bool = False) -> np.ndarray:
    """Pixels (H, W, 3) uint8 as stored: no EXIF orientation, as the label maps have none."""
    if not file.is_file():
        raise FileNotFoundError(f"{file} does not exist.")
    try:
        with Image.open(file) as image:
            if must_be_coloured and image.mode not in ("RGB", "RGBA"):
                raise ValueError(
                    f"mode {image.mode}, where objects are coded by colour: is it {FULL_FOLDER}?"
                )
            return np.asarray(image.convert("RGB"))
    except DECODING_ERRORS as error:
        raise ValueError(f"{file} cannot be read: {error}") from error


class _Placeholder:
    """Stands for an object of a class that the index need not have."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        """Takes anything."""

    def __setstate__(self, state: object) -> None:
        """Takes anything."""


class _InertUnpickler(pickle.Unpickler):
    """Makes Python's own types and NumPy's arrays, and placeholders of all else."""

    _NUMPY = {"_reconstruct", "scalar", "ndarray", "dtype", "_frombuffer"}

    def find_class(self, module: str, name: str) -> Any:
        """Looks a global up, as pickle asks."""
        if module.split(".")[0] == "numpy" and name in self._NUMPY:
            # NumPy 2 renamed numpy.core to numpy._core.
            core = "numpy._core" if np.lib.NumpyVersion(np.__version__) >= "2.0.0" else "numpy.core"
            return super().find_class(re.sub(r"^numpy\._?core", core, module), name)
        if (module, name) in {("collections", "OrderedDict"), ("_codecs", "encode")}:
            return super().find_class(module, name)
        return _Placeholder
