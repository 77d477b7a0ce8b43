"""Registers the benchmarks, and reports which of them are on this machine."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path

from ..sem_seg_dataset import SemSegDataset, register_sem_seg
from .builtin_meta import builtin_meta

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class DatasetStatus:
    """What was found of one benchmark.

    Attributes:
        name: its name in the catalogues.
        image_root: folder looked in for images.
        sem_seg_root: folder looked in for label maps.
        num_images: labelled images found, 0 where a folder is missing.
        expected_images: labelled images of a complete copy.
        problem: what is wrong, empty when the data set is complete.
    """

    name: str
    image_root: str
    sem_seg_root: str
    num_images: int
    expected_images: int
    problem: str

    @property
    def is_ready(self) -> bool:
        """Whether the data set is complete."""
        return not self.problem


def register_builtin() -> None:
    """Registers the benchmarks; safe to call again, and beside a package that did so before."""
    for dataset in builtin_meta():
        differences = register_sem_seg(dataset)
        if differences:
            logger.warning(
                "The data set %s is registered already, with other %s: left as it is.",
                dataset.name,
                " and ".join(differences),
            )


def dataset_status(root: str | os.PathLike | None = None) -> list[DatasetStatus]:
    """Looks for the benchmarks on disk; reads folder listings only.

    Args:
        root: where to look, by default ``$DETECTRON2_DATASETS`` or ``./datasets``.

    Returns:
        One entry per benchmark, in the order of docs/datasets.md.
    """
    folder = None if root is None else Path(root).expanduser().absolute()
    return [_status(dataset, folder) for dataset in builtin_meta()]


def _status(dataset: SemSegDataset, root: Path | None) -> DatasetStatus:
    image_root, sem_seg_root = dataset.folders(root)
    num_images, problem = 0, ""
    missing = [str(folder) for folder in (image_root, sem_seg_root) if not folder.is_dir()]
    if missing:
        problem = f"missing: {', '.join(missing)}"
    else:
        try:
            num_images = len(dataset.find_files(root).pairs)
        except ValueError as error:
            problem = str(error)
        else:
            if num_images != dataset.expected_images:
                problem = f"{num_images} labelled images, expected {dataset.expected_images}"
    return DatasetStatus(
        name=dataset.name,
        image_root=str(image_root),
        sem_seg_root=str(sem_seg_root),
        num_images=num_images,
        expected_images=dataset.expected_images or 0,
        problem=problem,
    )
