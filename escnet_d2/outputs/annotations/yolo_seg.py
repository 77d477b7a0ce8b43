"""YOLO's polygons, a text file per image, with the ``data.yaml`` that ultralytics trains on."""

from __future__ import annotations

import shutil
from collections import defaultdict
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
# Of points whose distances are looked at together.
_PAIRS = 2**20
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
    # With all points, so that the shortest slit is found, which crosses no other hole.
    contours, hierarchy = cv2.findContours(
        mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE
    )
    contours = [contour[:, 0] for contour in contours]
    holes = defaultdict(list)
    for contour, (_, _, _, parent) in zip(contours, hierarchy[0]):
        holes[parent].append(contour)
    # Those without a parent are the outlines.
    for number, (contour, (_, _, _, parent)) in enumerate(zip(contours, hierarchy[0])):
        if parent < 0:
            polygon = np.concatenate(
                [_simplified(line, simplify)[:-1] for line in _lines(contour, holes[number])]
            )
            # Less than three points are no polygon to readers.
            polygon = np.concatenate([polygon, polygon[-1:].repeat(max(0, 3 - len(polygon)), 0)])
            yield (polygon + _OFFSET) / size


def _lines(outline: np.ndarray, holes: list[np.ndarray]) -> list[np.ndarray]:
    """Walks along the outline and, from its nearest point to each hole, around that and back.

    Returns:
        The way, cut at the ends of the slits: each line begins where the one before ends.
    """
    way, is_end = outline, np.zeros(len(outline), bool)
    owners = np.repeat(np.arange(len(holes)), [len(hole) for hole in holes])
    points = np.concatenate([np.zeros((0, 2), outline.dtype), *holes])
    gaps, origins = _nearest(points, outline)
    for _ in holes:
        # Always the nearest hole, to any place of the way so far.
        point = gaps.argmin()
        (start, *_) = np.flatnonzero((way == origins[point]).all(axis=1))
        ring = holes[owners[point]]
        turn = np.roll(ring, np.flatnonzero(owners == owners[point])[0] - point, axis=0)
        ends = np.arange(len(ring) + 1) % len(ring) == 0
        is_end[start] = True
        way = np.concatenate([way[: start + 1], turn, turn[:1], way[start:]])
        is_end = np.concatenate([is_end[: start + 1], ends, is_end[start:]])
        gaps[owners == owners[point]] = np.inf
        closer, rings = _nearest(points, ring)
        is_closer = (closer < gaps) & np.isfinite(gaps)
        gaps[is_closer], origins[is_closer] = closer[is_closer], rings[is_closer]
    ends = np.flatnonzero(is_end) if is_end.any() else np.array([0])
    # Once around, from the first end to itself.
    way = np.concatenate([way[ends[0] :], way[: ends[0] + 1]])
    cuts = [*(ends - ends[0]), len(way) - 1]
    return [way[begin : end + 1] for begin, end in zip(cuts, cuts[1:])]


def _nearest(points: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Finds for each of n points (x, y) the squared distance to the nearest other, and that."""
    gaps, nearest = np.zeros(len(points)), np.zeros_like(points)
    step = max(1, _PAIRS // len(others))
    # The small distances that count are exact in float32.
    x, y = points.astype(np.float32).T
    other_x, other_y = others.astype(np.float32).T
    for first in range(0, len(points), step):
        part = slice(first, first + step)
        squares = np.subtract.outer(x[part], other_x) ** 2
        squares += np.subtract.outer(y[part], other_y) ** 2
        gaps[part], nearest[part] = squares.min(axis=1), others[squares.argmin(axis=1)]
    return gaps, nearest


def _simplified(line: np.ndarray, simplify: float) -> np.ndarray:
    """Leaves points out of a line (n, 2), but for its ends; of a loop, the farthest stays too."""
    if len(line) < 3:
        return line
    if not simplify:
        # Where the direction changes; approxPolyDP would cut the tips of thin spurs off, too.
        turns = (np.diff(line, 2, axis=0) != 0).any(axis=1)
        return line[np.concatenate([[True], turns, [True]])]
    if (line[0] == line[-1]).all():
        middle = np.square(line - line[0]).sum(axis=1).argmax()
        halves = line[: middle + 1], line[middle:]
        first, second = (_simplified(half, simplify) for half in halves)
        return np.concatenate([first[:-1], second])
    return cv2.approxPolyDP(line, simplify, False)[:, 0]


def _copy_image(image: LabeledImage, folder: Path) -> None:
    suffix = image.path.suffix.lower()
    # Names without their suffix are unique, and so are the label files that go by them.
    with atomic_path(folder / f"{image.name}{suffix if suffix in _SUFFIXES else '.png'}") as path:
        if suffix in _SUFFIXES:
            shutil.copyfile(image.path, path)
        else:
            Image.fromarray(read_image(image.path)).save(path, format="PNG")
