"""What a format is given to write: images with their labels, and options."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ..palette import class_colors, is_background

# Regions that touch at a corner are one.
_CONNECTIVITY = 8


@dataclass(frozen=True)
class ExportOptions:
    """What all formats have in common.

    Attributes:
        class_names: the K classes of the labels.
        min_area: smaller connected regions stay unlabeled, in pixels.
        simplify: how far polygons may be from the border of their region, in pixels.
        separate_regions: an annotation for each connected region instead of one for each class.
        image_prefix: stands before the file names of Label Studio's tasks.
    """

    class_names: tuple[str, ...]
    min_area: int = 0
    simplify: float = 1.0
    separate_regions: bool = False
    image_prefix: str = "/data/local-files/?d="

    def __post_init__(self) -> None:
        for name in ("min_area", "simplify"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}.")

    @property
    def colors(self) -> np.ndarray:
        """(K, 3) uint8, RGB."""
        return class_colors(self.class_names)

    @property
    def things(self) -> list[int]:
        """Indices of the classes that are annotated as objects: all but the background."""
        names = enumerate(self.class_names)
        return [index for index, name in names if not is_background(name)]


@dataclass(frozen=True)
class LabeledImage:
    """One image.

    Attributes:
        path: where the image itself is.
        name: unique, with ``/`` between folders and mostly without suffix.
        labels: (H, W) int32, index of a class or -1.
        scores: mean score in [0, 1] of each class present.
    """

    path: Path
    name: str
    labels: np.ndarray
    scores: Mapping[int, float]

    @property
    def file(self) -> str:
        """The image's file below its input folder, with ``/`` between folders."""
        has_suffix = self.path.name == self.name.rpartition("/")[2]
        return self.name if has_suffix else self.name + self.path.suffix

    def masks(self, options: ExportOptions) -> Iterator[tuple[int, np.ndarray]]:
        """Yields index and (H, W) bool mask of each annotation; never an empty one."""
        for index in sorted({*np.unique(self.labels).tolist()} & {*options.things}):
            mask = self.labels == index
            if options.separate_regions:
                yield from ((index, region) for region in _regions(mask))
            else:
                yield index, mask


def without_small_regions(labels: np.ndarray, min_area: int) -> np.ndarray:
    """Returns labels in which connected regions of a class below ``min_area`` pixels are -1."""
    kept = labels.copy()
    for index in np.unique(labels[labels >= 0]):
        mask = (labels == index).astype(np.uint8)
        _, regions, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=_CONNECTIVITY)
        is_small = stats[:, cv2.CC_STAT_AREA] < min_area
        # Region 0 is what is not the class.
        is_small[0] = False
        kept[is_small[regions]] = -1
    return kept


def _regions(mask: np.ndarray) -> Iterator[np.ndarray]:
    count, regions = cv2.connectedComponents(mask.astype(np.uint8), connectivity=_CONNECTIVITY)
    yield from (regions == region for region in range(1, count))
