"""YOLO's polygons, a text file per image, with the ``data.yaml`` that ultralytics trains on."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np
import yaml
from PIL import Image

from escnet_d2.io import atomic_path, read_image, write_text

from .labeled_image import ExportOptions, LabeledImage

# From a pixel's corner: ultralytics cuts the rest off, supervision rounds, both find the pixel.
_OFFSET = 0.25
# Of images that ultralytics reads as they are; others become PNGs.
_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


def write(folder: Path, images: Iterable[LabeledImage], options: ExportOptions) -> None:
    """Writes ``images/``, which ultralytics wants beside ``labels/``, and ``data.yaml`` last."""
    numbers = {index: number for number, index in enumerate(options.things)}
    for image in images:
        _copy_image(image, folder / "images")
        lines = [
            " ".join([str(numbers[index]), *(f"{value:.6f}" for value in polygon.ravel())])
            for index, mask in image.masks(options)
            for polygon in polygons(mask, options.simplify)
        ]
        write_text(folder / "labels" / f"{image.name}.txt", "".join(f"{line}\n" for line in lines))
    names = {number: options.class_names[index] for index, number in numbers.items()}
    # Whoever trains replaces val by images of their own.
    content = {"train": "images", "val": "images", "names": names}
    write_text(folder / "data.yaml", yaml.safe_dump(content, allow_unicode=True, sort_keys=False))


def polygons(mask: np.ndarray, simplify: float) -> Iterator[np.ndarray]:
    """Traces each connected region of a mask; holes are joined to the outline by a slit.

    Args:
        mask: (H, W) bool.
        simplify: how far a polygon may be from the region's border, in pixels; at 0,
            ``cv2.fillPoly`` gives the mask back.

    Yields:
        (n, 2) with n >= 3: pixels on the border, (x, y) divided by width and height.
    """
    size = np.array([mask.shape[1], mask.shape[0]])
    contours, hierarchy = cv2.findContours(
        mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE
    )
    contours = [cv2.approxPolyDP(contour, simplify, True)[:, 0] for contour in contours]
    for number, contour in enumerate(contours):
        if hierarchy[0, number, 3] < 0:
            holes = [contours[i] for i in range(len(contours)) if hierarchy[0, i, 3] == number]
            polygon = _join(contour, holes)
            # Less than three points are no polygon to readers.
            polygon = np.concatenate([polygon, polygon[-1:].repeat(max(0, 3 - len(polygon)), 0)])
            yield (polygon + _OFFSET) / size


def _join(outline: np.ndarray, holes: list[np.ndarray]) -> np.ndarray:
    """Walks along the outline and, from its nearest point to each hole, around that and back."""
    for hole in sorted(holes, key=lambda hole: _gap(outline, hole).min()):
        start, entry = np.unravel_index(_gap(outline, hole).argmin(), (len(outline), len(hole)))
        around = [*hole[entry:], *hole[: entry + 1]]
        outline = np.concatenate([outline[: start + 1], around, outline[start:]])
    return outline


def _gap(outline: np.ndarray, hole: np.ndarray) -> np.ndarray:
    return np.square(outline[:, None] - hole[None]).sum(axis=2)


def _copy_image(image: LabeledImage, folder: Path) -> None:
    suffix = image.path.suffix.lower()
    # Names without their suffix are unique, and so are the label files that go by them.
    with atomic_path(folder / f"{image.name}{suffix if suffix in _SUFFIXES else '.png'}") as path:
        if suffix in _SUFFIXES:
            shutil.copyfile(image.path, path)
        else:
            Image.fromarray(read_image(image.path)).save(path, format="PNG")
