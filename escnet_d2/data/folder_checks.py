"""Checks every file of a folder data set before it is trained on."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .class_lists import read_class_list
from .file_pairs import pair_files
from .folder_dataset import Manifest, Split, check_name
from .pair_checks import LabelTally, examine_pairs

logger = logging.getLogger(__name__)

_PROGRESS_STEP = 1000
_MAX_LISTED = 20


@dataclass
class SplitReport(LabelTally):
    """What was found in one split.

    Attributes:
        split: its folders and number of labelled images.
    """

    split: Split


def check_folder_dataset(
    *,
    name: str,
    folders: Mapping[str, tuple[str | os.PathLike, str | os.PathLike]],
    classes: str | os.PathLike,
    ignore_label: int = 255,
    allow_unlabelled_values: bool = False,
) -> tuple[Manifest, dict[str, SplitReport]]:
    """Reads all images and label maps, and describes the data set.

    Args:
        name: of the data set.
        folders: (images, label maps) by name of the split.
        classes: file of the class list, in label order.
        ignore_label: the value of unlabelled pixels.
        allow_unlabelled_values: accept values that are neither a class nor ``ignore_label``;
            they count as unlabelled.

    Returns:
        The manifest and one report per split.

    Raises:
        FileNotFoundError: a folder or the class list does not exist.
        ValueError: a name or the class list is unfit, or files are; lists the first of them.
    """
    class_names = read_class_list(classes)
    if not folders:
        raise ValueError("A data set needs at least one split.")
    if 0 <= ignore_label < len(class_names):
        logger.warning(
            "The ignore label %d is also the class %r, which no pixel will then have.",
            ignore_label,
            class_names[ignore_label],
        )
    reports = {
        check_name(split): check_split(
            image_root, sem_seg_root, num_classes=len(class_names), ignore_label=ignore_label
        )
        for split, (image_root, sem_seg_root) in folders.items()
    }
    problems = [problem for report in reports.values() for problem in report.problems]
    if not allow_unlabelled_values:
        problems += [stray for report in reports.values() for stray in report.stray_values]
    if problems:
        raise ValueError(_summary(problems))
    manifest = Manifest(
        name=check_name(name),
        classes=class_names,
        ignore_label=ignore_label,
        splits={split: report.split for split, report in reports.items()},
    )
    return manifest, reports


def check_split(
    image_root: str | os.PathLike,
    sem_seg_root: str | os.PathLike,
    *,
    num_classes: int,
    ignore_label: int,
) -> SplitReport:
    """Reads every file of one split.

    Args:
        image_root: folder of the images.
        sem_seg_root: folder of the label maps.
        num_classes: K.
        ignore_label: the value of unlabelled pixels.

    Raises:
        FileNotFoundError: a folder does not exist.
        ValueError: a folder is empty.
    """
    image_root = Path(image_root).expanduser().resolve()
    sem_seg_root = Path(sem_seg_root).expanduser().resolve()
    files = pair_files(image_root, sem_seg_root)
    report = SplitReport(
        num_classes=num_classes,
        ignore_label=ignore_label,
        split=Split(image_root, sem_seg_root, num_images=len(files.pairs)),
    )
    report.problems += [f"{image} has no label map." for image in files.images_without_label]
    report.problems += [f"{label} has no image." for label in files.labels_without_image]
    pairs = [(str(image), str(label)) for image, label in files.pairs]
    for count, facts in enumerate(examine_pairs(pairs), start=1):
        report.add(facts)
        if count % _PROGRESS_STEP == 0:
            logger.info("%s: %d of %d images read.", image_root, count, len(pairs))
    return report


def _summary(problems: list[str]) -> str:
    lines = [f"{len(problems)} file(s) cannot be used:", *problems[:_MAX_LISTED]]
    if len(problems) > _MAX_LISTED:
        lines.append(f"... and {len(problems) - _MAX_LISTED} more.")
    return "\n  ".join(lines)
