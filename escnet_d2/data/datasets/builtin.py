"""Registers the benchmarks, and reports which of them are on this machine."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path

from ..sem_seg_dataset import SemSegDataset, register_sem_seg
from .builtin_meta import BENCHMARKS, all_datasets

logger = logging.getLogger(__name__)


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
) -> dict[str, tuple[int, str]]:
    """Looks for the benchmarks on disk; reads folder listings only.

    Args:
        root: where to look, by default ``$DETECTRON2_DATASETS`` or ``./datasets``.
        names: data sets of :func:`all_datasets`, by default the eight benchmarks.

    Returns:
        By data set, in the order given or of docs/datasets.md: how many labeled images there are,
        and what is wrong; an empty string where the data set is complete.
    """
    folder = None if root is None else Path(root).expanduser().absolute()
    known = all_datasets()
    return {name: _status(known[name], folder) for name in names}


def _status(dataset: SemSegDataset, root: Path | None) -> tuple[int, str]:
    missing = [str(folder) for folder in dataset.folders(root) if not os.path.isdir(folder)]
    if missing:
        return 0, f"missing: {', '.join(missing)}"
    try:
        found = len(dataset.find_files(root).pairs)
    except (OSError, ValueError) as error:
        return 0, str(error)
    if found == dataset.expected_images:
        return found, ""
    return found, f"{found} labeled images, expected {dataset.expected_images}"
