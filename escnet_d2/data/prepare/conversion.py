"""Writing many label maps: on several processes, resumable, each file whole or not at all."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from escnet_d2.io import atomic_path, read_label_map

from ..datasets.builtin_meta import all_datasets
from ..parallel import map_files

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LabelWriter:
    """Writes the label maps of data sets; those that exist are done.

    Attributes:
        root: the folder of all data sets.
        num_workers: processes to use beside this one; 0 works in this one.
        force: write what exists as well.
    """

    root: Path
    num_workers: int = 0
    force: bool = False

    def write(
        self, dataset: str, read: Callable[..., np.ndarray], files: Mapping[str, tuple[Any, ...]]
    ) -> None:
        """Writes the label maps of one data set.

        Args:
            dataset: one of :func:`all_datasets`, whose folder and file type are used.
            read: returns a label map, uint8 or uint16 of shape (H, W); a function at the top level
                of a module, or a partial of one.
            files: the arguments of ``read``, by file name of the label map without its suffix.

        Raises:
            FileNotFoundError: a source is missing.
            ValueError: a source cannot be converted; names it.
        """
        known = all_datasets()[dataset]
        folder, (suffix,) = known.prepared_folders(self.root)[1], known.label_suffixes
        jobs = [(folder / f"{stem}{suffix}", arguments) for stem, arguments in files.items()]
        waiting = [job for job in jobs if self.force or not job[0].is_file()]
        logger.info("%s: %d of %d files to write.", dataset, len(waiting), len(jobs))
        write = partial(_write_label_map, read=read)
        for _ in map_files(write, waiting, title=dataset, num_workers=self.num_workers):
            pass


def _write_label_map(job: tuple[Path, tuple[Any, ...]], *, read: Callable[..., np.ndarray]) -> None:
    target, arguments = job
    labels = read(*arguments)
    with atomic_path(target) as temporary:
        Image.fromarray(labels).save(temporary, "TIFF" if target.suffix == ".tif" else "PNG")


def read_8bit_labels(file: Path) -> np.ndarray:
    """Reads an 8-bit label map as it is.

    Args:
        file: PNG whose gray values or palette indices are the labels.

    Returns:
        (H, W), 0..255.

    Raises:
        ValueError: the file is colored or damaged, or has other values.
    """
    labels = read_label_map(file)
    if labels.min() < 0 or labels.max() > 255:
        raise ValueError(f"{file} has values outside 0..255: is it the right file?")
    return labels


def label_table(index_of_value: Mapping[int, int]) -> np.ndarray:
    """A look-up table for 8-bit label maps: uint8 (256,), 255 for every value without an index.

    Args:
        index_of_value: class index by value of the owners' file.
    """
    table = np.full(256, 255, dtype=np.uint8)
    table[list(index_of_value)] = list(index_of_value.values())
    return table


def listed_files(folder: Path, ids: Iterable[str], suffix: str) -> dict[str, Path]:
    """The files of a list that exist, by id; a warning counts those that do not.

    Args:
        folder: where the files are.
        ids: names without suffix.
        suffix: such as ``.png``.

    Raises:
        FileNotFoundError: none exists.
    """
    files = {id_: folder / f"{id_}{suffix}" for id_ in ids}
    present = {id_: file for id_, file in files.items() if file.is_file()}
    if not present:
        raise FileNotFoundError(f"{folder} has none of the {len(files)} files of the split.")
    missing = [file for id_, file in files.items() if id_ not in present]
    if missing:
        logger.warning(
            "%d of %d files are missing, such as %s.", len(missing), len(files), missing[0]
        )
    return present
