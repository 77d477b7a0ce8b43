"""PASCAL-Context with 59 classes (from JSON) and with 459 (from .mat files)."""

from __future__ import annotations

import json
import logging
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from .archives import PASCAL_CONTEXT_59, PASCAL_CONTEXT_459, VOC_2010, Archive
from .conversion import LabelWriter, listed_files, packaged_list

logger = logging.getLogger(__name__)

_FOLDER = "VOCdevkit/VOC2010"
_UNLABELED_8BIT = 255
_UNLABELED_16BIT = 65535
# The 59 of the 459 categories that PC-59 keeps, by the owners' ids; sorted, they are the classes.
# fmt: off
PC59_CATEGORY_IDS = (
    2, 9, 18, 19, 22, 23, 25, 31, 33, 34, 44, 45, 46, 59, 65, 68, 72, 80, 85, 98, 104, 105, 113,
    115, 144, 158, 159, 162, 187, 189, 207, 220, 232, 258, 259, 260, 284, 295, 296, 308, 324, 326,
    347, 349, 354, 355, 360, 366, 368, 397, 415, 416, 420, 424, 427, 440, 445, 454, 458,
)
# fmt: on


def prepare_pascal_context_59(writer: LabelWriter) -> list[str]:
    """Draws the masks of ``trainval_merged.json`` for the images of phase "val".

    Masks are drawn in the file's order, later ones over earlier ones; what no mask of the 59
    categories covers is unlabeled.
    """
    file = writer.root / _FOLDER / "trainval_merged.json"
    if not file.is_file():
        raise _missing(writer.root, file, PASCAL_CONTEXT_59)
    logger.info("Reading %s.", file)
    try:
        images, annotations = _read_detail(file)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{file} is not a trainval_merged.json: {error!r}") from error
    bare = [image["file_name"] for key, image in images.items() if not annotations[key]]
    if bare:
        raise ValueError(f"{file} has {len(bare)} images without annotation, such as {bare[0]}.")
    name = "context_59_test_sem_seg"
    files = {
        Path(image["file_name"]).stem: (
            image["file_name"],
            (image["height"], image["width"]),
            annotations[key],
        )
        for key, image in images.items()
    }
    writer.write(name, _draw_masks, files)
    return [name]


def _draw_masks(name: str, size: tuple[int, int], masks: list[tuple[int, dict]]) -> np.ndarray:
    """Draws the label map of an image from pairs of a category id and COCO's run lengths."""
    labels = np.full(size, _UNLABELED_8BIT, dtype=np.uint8)
    index_of_id = {id_: index for index, id_ in enumerate(PC59_CATEGORY_IDS)}
    for category, runs in masks:
        if isinstance(runs["counts"], list):  # Not compressed.
            runs = coco_mask.frPyObjects(runs, *runs["size"])
        mask = coco_mask.decode(runs).astype(bool)
        if mask.shape != tuple(size):
            raise ValueError(f"A mask of {name} is {mask.shape}, not {size}.")
        # Of a category that is not a class, too: it covers what was drawn before.
        labels[mask] = index_of_id.get(category, _UNLABELED_8BIT)
    return labels


def prepare_pascal_context_459(writer: LabelWriter) -> list[str]:
    """Converts the ``LabelMap`` of the .mat files: 1 to 459 become 0 to 458, 0 becomes 65535.

    The images are those of ``VOCdevkit/VOC2010/pascalcontext_val.txt`` or, where that is missing,
    of the same list in this package.
    """
    folder = writer.root / _FOLDER
    source = folder / "trainval"
    if not source.is_dir():
        raise _missing(writer.root, source, PASCAL_CONTEXT_459)
    split = folder / "pascalcontext_val.txt"
    if split.is_file():
        ids = split.read_text(encoding="utf-8").split()
    else:
        ids = packaged_list("pascal_context_val.txt")
    files = listed_files(source, ids, ".mat")
    _mat_reader()  # Before processes are started, each of which would fail alike.
    name = "context_459_test_sem_seg"
    writer.write(name, _read_mat, {id_: (file,) for id_, file in files.items()})
    return [name]


def _read_mat(file: Path) -> np.ndarray:
    loadmat = _mat_reader()
    try:
        labels = loadmat(file).get("LabelMap")
    except FileNotFoundError:
        raise
    except (ValueError, TypeError, NotImplementedError, OSError, EOFError) as error:
        raise ValueError(f"{file} cannot be read: {error}") from error
    if not isinstance(labels, np.ndarray) or labels.ndim != 2 or labels.dtype.kind not in "uif":
        raise ValueError(f"{file} has no LabelMap of shape (height, width).")
    labels = labels.astype(np.int64)
    if labels.min() < 0 or labels.max() >= _UNLABELED_16BIT:
        raise ValueError(f"{file} has labels outside 0..{_UNLABELED_16BIT - 1}.")
    return np.where(labels == 0, _UNLABELED_16BIT, labels - 1).astype(np.uint16)


def _read_detail(file: Path) -> tuple[dict[Any, dict], dict[Any, list]]:
    """Reads validation images by id, and (category id, run lengths) pairs of each in order."""
    content = json.loads(file.read_text(encoding="utf-8"))
    images = {item["image_id"]: item for item in content["images"] if item["phase"] == "val"}
    if not images:
        raise ValueError("no image has the phase 'val'")
    annotations: dict[Any, list] = {key: [] for key in images}
    for item in content["annos_segmentation"]:
        if item["image_id"] in annotations:
            runs = item["segmentation"]
            annotations[item["image_id"]].append((item["category_id"], runs))
    return images, annotations


def _mat_reader() -> Any:
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise RuntimeError(
            "PASCAL-Context 459 comes as .mat files, which SciPy reads: pip install scipy."
        ) from error
    return partial(loadmat, appendmat=False)


def _missing(root: Path, path: Path, archive: Archive) -> FileNotFoundError:
    what = f"{path} does not exist."
    if not (root / _FOLDER / "JPEGImages").is_dir():
        what = str(VOC_2010.missing(root, f"{what} PASCAL-Context needs VOC 2010."))
    return archive.missing(root, what)
