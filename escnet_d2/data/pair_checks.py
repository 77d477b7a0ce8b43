"""What an image and its label map are, and the sums of that over a data set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from PIL import Image

from escnet_d2.io import read_image, read_label_map

from .semantic_mapper import check_same_size

# Pillow's modes of label maps.
_LABEL_TYPES = {"1": "1-bit", "L": "uint8", "P": "uint8 palette", "I": "int32"}
EIGHT_BIT_TYPES = ("1-bit", "uint8", "uint8 palette")
_CHUNK = 16


@dataclass(frozen=True)
class PairFacts:
    """What was found in one label map and its image.

    Attributes:
        label_file: the label map.
        values: int64 (V,), the values that occur, ascending.
        counts: int64 (V,), how many pixels have them.
        label_type: how the file stores them, such as ``uint8`` or ``uint16``; empty if unreadable.
        problem: why training could not use the pair, else empty.
    """

    label_file: str
    values: np.ndarray
    counts: np.ndarray
    label_type: str = ""
    problem: str = ""


@dataclass
class LabelTally:
    """Labels of many files.

    Attributes:
        num_classes: K.
        ignore_label: the value of unlabelled pixels.
        class_pixels: int64 (K,), labelled pixels of each class.
        class_images: int64 (K,), images that have the class.
        unlabelled_pixels: pixels of any other value.
        label_types: how many files store labels in which way.
        problems: files that training could not use, one sentence each.
        stray_values: label maps with values that are neither a class nor the ignore label, one
            sentence each.
    """

    num_classes: int
    ignore_label: int
    class_pixels: np.ndarray = field(init=False)
    class_images: np.ndarray = field(init=False)
    unlabelled_pixels: int = field(init=False, default=0)
    label_types: Counter = field(init=False, default_factory=Counter)
    problems: list[str] = field(init=False, default_factory=list)
    stray_values: list[str] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self.class_pixels = np.zeros(self.num_classes, dtype=np.int64)
        self.class_images = np.zeros(self.num_classes, dtype=np.int64)

    def add(self, facts: PairFacts, *, accepted: Iterable[int] = ()) -> None:
        """Adds one pair.

        Args:
            facts: of the pair.
            accepted: further values of unlabelled pixels that are not strays.
        """
        if facts.label_type:
            self.label_types[facts.label_type] += 1
        if facts.problem:
            self.problems.append(facts.problem)
            return
        values, counts = facts.values, facts.counts
        is_class = (values >= 0) & (values < self.num_classes) & (values != self.ignore_label)
        self.class_pixels[values[is_class]] += counts[is_class]
        self.class_images[values[is_class]] += 1
        self.unlabelled_pixels += int(counts[~is_class].sum())
        known = {self.ignore_label, *accepted}
        stray = [value for value in values[~is_class].tolist() if value not in known]
        if stray:
            listed = ", ".join(map(str, stray[:10])) + (", ..." if len(stray) > 10 else "")
            self.stray_values.append(
                f"{facts.label_file} has the value(s) {listed}: expected "
                f"0..{self.num_classes - 1} or {self.ignore_label} (unlabelled)."
            )


def examine_pairs(
    pairs: Iterable[tuple[str, str]], *, num_workers: int = 0, headers_only: bool = False
) -> Iterator[PairFacts]:
    """Examines pairs of files, in order.

    Args:
        pairs: image and label map of each.
        num_workers: processes to use beside this one.
        headers_only: trust that an image is sound if its header is; label maps are always read.
    """
    examine = partial(examine_pair, headers_only=headers_only)
    if num_workers <= 0:
        yield from map(examine, pairs)
        return
    with ProcessPoolExecutor(num_workers) as pool:
        yield from pool.map(examine, pairs, chunksize=_CHUNK)


def examine_pair(pair: tuple[str, str], *, headers_only: bool = False) -> PairFacts:
    """Examines one image and its label map.

    Args:
        pair: image and label map.
        headers_only: as in :func:`examine_pairs`.
    """
    image_file, label_file = map(str, pair)
    nothing = np.zeros(0, dtype=np.int64)
    label_type = ""
    try:
        labels = read_label_map(label_file)
        label_type = _label_type(label_file)
        # Decoded by default: a truncated file has a good header, and would stop training later.
        size = _upright_size(image_file) if headers_only else read_image(image_file).shape[:2]
        check_same_size(image_file, size, label_file, labels.shape)
    except (OSError, ValueError) as error:
        return PairFacts(label_file, nothing, nothing, label_type, str(error))
    values, counts = np.unique(labels, return_counts=True)
    return PairFacts(label_file, values, counts, label_type)


def _label_type(label_file: str) -> str:
    with Image.open(label_file) as image:
        return _LABEL_TYPES.get(image.mode, "uint16" if image.mode.startswith("I;16") else "other")


def _upright_size(image_file: str) -> tuple[int, int]:
    """Height and width once the EXIF orientation is applied."""
    with Image.open(image_file) as image:
        turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
        return image.size if turned else image.size[::-1]
