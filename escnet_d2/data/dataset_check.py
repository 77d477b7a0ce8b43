"""Reads every image and label map of a data set, and says what would go wrong with them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import ExifTags, Image

from escnet_d2.io import DECODING_ERRORS, read_image, read_label_map

from .parallel import map_files
from .sem_seg_dataset import SemSegDataset
from .semantic_mapper import check_same_size

# Pillow's modes of label maps.
_LABEL_TYPES = {"1": "1-bit", "L": "uint8", "P": "uint8 palette", "I": "int32"}
_EIGHT_BIT_TYPES = ("1-bit", "uint8", "uint8 palette")
_EIGHT_BITS = 256
_MAX_LISTED = 20


@dataclass
class DatasetReport:
    """Findings in the files of one data set.

    Attributes:
        name: of the data set.
        class_names: K names, in label order.
        ignore_label: the value of unlabeled pixels.
        expected_images: labeled images of a complete copy; None if unknown.
        num_images: labeled images.
        class_pixels: int64 (K,), pixels of each class.
        class_images: int64 (K,), images that have the class.
        unlabeled_pixels: pixels of any other value.
        label_types: how many files store labels in which way, such as ``uint16``.
        problems: everything that training or evaluation would trip over, one sentence each.
        stray_values: label maps with values that are neither a class nor unlabeled, one sentence
            each.
        unlabeled_files: label maps without a pixel of any class.
    """

    name: str
    class_names: Sequence[str]
    ignore_label: int
    expected_images: int | None = None
    num_images: int = 0
    class_pixels: np.ndarray = field(init=False)
    class_images: np.ndarray = field(init=False)
    unlabeled_pixels: int = 0
    label_types: Counter = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    stray_values: list[str] = field(default_factory=list)
    unlabeled_files: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.class_pixels = np.zeros(len(self.class_names), dtype=np.int64)
        self.class_images = np.zeros(len(self.class_names), dtype=np.int64)

    @property
    def absent_classes(self) -> list[str]:
        """Names of the classes that no pixel has."""
        return [name for name, count in zip(self.class_names, self.class_pixels) if count == 0]

    @property
    def unlabeled_share(self) -> float:
        """Share of the pixels that are unlabeled; NaN where there are no pixels."""
        pixels = int(self.class_pixels.sum()) + self.unlabeled_pixels
        return self.unlabeled_pixels / pixels if pixels else float("nan")

    @property
    def warning(self) -> str:
        """A sentence on label maps without a labeled pixel; empty where every map has one."""
        files = self.unlabeled_files
        if not files:
            return ""
        some = ", ".join(files[:3]) + (", ..." if len(files) > 3 else "")
        return f"{len(files)} of {self.num_images} label maps are all unlabeled: {some}"

    def as_dict(self) -> dict[str, Any]:
        """Returns plain data for JSON."""
        return {
            "name": self.name,
            "num_images": self.num_images,
            "expected_images": self.expected_images,
            "num_classes": len(self.class_names),
            "ignore_label": self.ignore_label,
            "label_types": dict(self.label_types),
            "unlabelled_pixels": self.unlabeled_pixels,
            "unlabeled_files": self.unlabeled_files,
            "absent_classes": self.absent_classes,
            "class_pixels": self.class_pixels.tolist(),
            "class_images": self.class_images.tolist(),
            "problems": self.problems,
        }

    def read(
        self,
        pairs: Sequence[tuple[str, str]],
        *,
        num_workers: int = 0,
        headers_only: bool = False,
        also_unlabeled: Iterable[int] = (),
    ) -> None:
        """Adds what is in the pairs of files; see :func:`check_dataset`.

        Values of ``also_unlabeled`` count as unlabeled, as the ignore label does.
        """
        self.num_images = len(pairs)
        unlabeled = {self.ignore_label, *also_unlabeled}
        examine = partial(_examine, headers_only=headers_only)
        found = map_files(examine, pairs, title=self.name, num_workers=num_workers)
        for (_, label_file), facts in zip(pairs, found):
            if isinstance(facts, str):
                self.problems.append(facts)
                continue
            label_type, values, counts = facts
            self.label_types[label_type] += 1
            self._count(label_file, values, counts, unlabeled)

    def _count(
        self, label_file: str, values: np.ndarray, counts: np.ndarray, unlabeled: set[int]
    ) -> None:
        num_classes = len(self.class_names)
        is_class = (values >= 0) & (values < num_classes) & (values != self.ignore_label)
        self.class_pixels[values[is_class]] += counts[is_class]
        self.class_images[values[is_class]] += 1
        self.unlabeled_pixels += int(counts[~is_class].sum())
        if not is_class.any():
            self.unlabeled_files.append(label_file)
        stray = [value for value in values[~is_class].tolist() if value not in unlabeled]
        if stray:
            listed = ", ".join(map(str, stray[:10])) + (", ..." if len(stray) > 10 else "")
            self.stray_values.append(
                f"{label_file} has the value(s) {listed}: expected 0..{num_classes - 1} or "
                f"{self.ignore_label} (unlabeled)."
            )


def check_dataset(
    name: str, *, num_workers: int = 0, headers_only: bool = False, root: Path | None = None
) -> DatasetReport:
    """Reads all files of a registered data set; files that cannot be listed are a problem too.

    Args:
        name: a registered data set with ``stuff_classes``.
        num_workers: processes to use beside this one.
        headers_only: do not decode images; label maps are read in any case.
        root: where the benchmarks are, by default as ``$DETECTRON2_DATASETS`` says.

    Raises:
        ValueError: the data set has no class names.
    """
    metadata = MetadataCatalog.get(name)
    class_names = list(metadata.get("stuff_classes") or ())
    if not class_names:
        raise ValueError(f"The data set {name} has no stuff_classes: it has no label maps.")
    ignore_label, expected = metadata.get("ignore_label", 255), metadata.get("expected_images")
    report = DatasetReport(name, class_names, ignore_label, expected)
    pairs: list[tuple[str, str]] = []
    try:
        pairs = _pairs(DatasetCatalog[name], report, root)
    except (OSError, ValueError, AssertionError) as error:
        # Detectron2's own loader asserts that there are files.
        report.problems.append(str(error) or f"{type(error).__name__} when listing the files.")
    if expected not in (None, len(pairs)):
        report.problems.append(f"{len(pairs)} labeled images, expected {expected}.")
    report.read(
        pairs,
        num_workers=num_workers,
        headers_only=headers_only,
        # What releases write for unlabeled pixels, whatever the metadata say.
        also_unlabeled=(255 if len(class_names) < _EIGHT_BITS else 65535,),
    )
    report.problems += report.stray_values
    narrow = sum(report.label_types[kind] for kind in _EIGHT_BIT_TYPES)
    if narrow and len(class_names) > _EIGHT_BITS:
        report.problems.append(
            f"{narrow} label maps have 8 bits, which cannot hold {len(class_names)} classes."
        )
    return report


def check_folders(dataset: SemSegDataset) -> DatasetReport:
    """Reads all files of two folders; stray values are left to the caller.

    Args:
        dataset: need not be registered.

    Raises:
        FileNotFoundError: a folder does not exist.
        ValueError: a folder is empty, or two files have one name.
    """
    report = DatasetReport(dataset.name, dataset.classes, dataset.ignore_label)
    report.read(_pairs(dataset, report))
    return report


def first_lines(problems: Sequence[str]) -> list[str]:
    """Returns the first of many problems as indented lines, and how many more there are."""
    rest = len(problems) - _MAX_LISTED
    lines = [f"  {problem}" for problem in problems[:_MAX_LISTED]]
    return [*lines, f"  ... and {rest} more."] if rest > 0 else lines


def _pairs(
    entry: SemSegDataset | Callable[[], list[dict]],
    report: DatasetReport,
    root: Path | None = None,
) -> list[tuple[str, str]]:
    """Lists images with their label maps; what lacks its partner goes to the report."""
    if isinstance(entry, SemSegDataset):
        files = entry.find_files(root)
        lone_images = [] if entry.labels_select else files.images_without_label
        lone_labels = files.labels_without_image
        report.problems += [f"{file} is not a regular file." for file in files.not_files]
        report.problems += _without_partner(lone_images, "label map", lone_labels)
        report.problems += _without_partner(lone_labels, "image", lone_images)
        return [(str(image), str(label)) for image, label in files.pairs]
    pairs = [(sample["file_name"], sample.get("sem_seg_file_name")) for sample in entry()]
    report.problems += [f"{image} has no sem_seg_file_name." for image, label in pairs if not label]
    return [(image, label) for image, label in pairs if label]


def _without_partner(files: list[Path], missing: str, others: list[Path]) -> list[str]:
    """Writes a sentence on each file, with one that only another folder or case keeps from it."""
    similar = {other.stem.casefold(): other for other in others}
    sentences = []
    for file in files:
        other = similar.get(file.stem.casefold())
        hint = f": {other} is in another folder or case" if other else ""
        sentences.append(f"{file} has no {missing}{hint}.")
    return sentences


def _examine(
    pair: tuple[str, str], *, headers_only: bool
) -> tuple[str, np.ndarray, np.ndarray] | str:
    """Returns type, values and counts of a label map; or why training could not use the pair."""
    image_file, label_file = pair
    try:
        labels = read_label_map(label_file)
        with Image.open(label_file) as image:
            mode = image.mode
        # Decoded by default: a truncated file has a good header, and would stop training later.
        size = _upright_size(image_file) if headers_only else read_image(image_file).shape[:2]
        check_same_size(image_file, size, label_file, labels.shape)
    except (OSError, ValueError) as error:
        return str(error)
    label_type = _LABEL_TYPES.get(mode, "uint16" if mode.startswith("I;16") else "other")
    values, counts = np.unique(labels, return_counts=True)
    return label_type, values, counts


def _upright_size(image_file: str) -> tuple[int, int]:
    """Reads height and width as the EXIF orientation turns them; decodes images that have one."""
    try:
        with Image.open(image_file) as image:
            # Not image.getexif(), which decodes a PNG.
            if Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1) == 1:
                return image.size[::-1]
    except DECODING_ERRORS as error:
        raise ValueError(f"Cannot read image {image_file}: {error}") from error
    return read_image(image_file).shape[:2]
