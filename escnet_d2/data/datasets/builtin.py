"""Registers the benchmarks, and reports which of them are on this machine."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..sem_seg_dataset import SemSegDataset, register_sem_seg
from .builtin_meta import BENCHMARKS, all_datasets

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class DatasetStatus:
    """State of one benchmark on disk.

    Attributes:
        name: its name in the catalogs.
        num_images: labeled images found, 0 where a folder is missing.
        expected_images: labeled images of a complete copy.
        problem: what is wrong, empty when the data set is complete.
    """

    name: str
    num_images: int
    expected_images: int
    problem: str

    @property
    def is_ready(self) -> bool:
        """True if the data set is complete."""
        return not self.problem


def register_builtin() -> None:
    """Registers the benchmarks; safe to call again, and beside a package that did so before."""
    for dataset in all_datasets().values():
        differences = register_sem_seg(dataset)
        if differences:
            logger.warning(
                "The data set %s is registered already, with other %s: left as it is.",
                dataset.name,
                " and ".join(differences),
            )


def dataset_status(
    root: str | os.PathLike | None = None, names: Sequence[str] = BENCHMARKS
) -> list[DatasetStatus]:
    """Looks for the benchmarks on disk; reads folder listings only.

    Args:
        root: where to look, by default ``$DETECTRON2_DATASETS`` or ``./datasets``.
        names: data sets of :func:`all_datasets`, by default the eight benchmarks.

    Returns:
        One entry per data set, in the order given or of docs/datasets.md.
    """
    folder = None if root is None else Path(root).expanduser().absolute()
    known = all_datasets()
    return [_status(known[name], folder) for name in names]


def _status(dataset: SemSegDataset, root: Path | None) -> DatasetStatus:
    num_images, problem = 0, ""
    missing = [str(folder) for folder in dataset.folders(root) if not os.path.isdir(folder)]
    if missing:
        problem = f"missing: {', '.join(missing)}"
    else:
        try:
            num_images = len(dataset.find_files(root).pairs)
        except (OSError, ValueError) as error:
            problem = str(error)
        else:
            if num_images != dataset.expected_images:
                problem = f"{num_images} labeled images, expected {dataset.expected_images}"
    return DatasetStatus(dataset.name, num_images, dataset.expected_images or 0, problem)
