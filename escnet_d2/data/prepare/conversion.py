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

from escnet_d2.io import DECODING_ERRORS, atomic_path, read_label_map

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


def read_8bit_labels(file: Path, *, index_of_value: Mapping[int, int], hint: str) -> np.ndarray:
    """Reads a PNG whose gray values or palette indices are labels, as class indices.

    Args:
        file: the PNG.
        index_of_value: the class, or 255 for none, of each value of 0..255 that it may have.
        hint: a sentence on the right file, for messages.

    Returns:
        uint8 (H, W).

    Raises:
        ValueError: the file is colored or damaged, or has other values.
    """
    values = list(index_of_value)
    try:
        labels = read_label_map(file)
        strange = labels[~np.isin(labels, values)]
        if strange.size:
            raise ValueError(f"{file} has the value {strange[0]}.")
    except ValueError as error:
        raise ValueError(f"{error} {hint}") from error
    table = np.zeros(256, dtype=np.uint8)
    table[values] = list(index_of_value.values())
    return table[labels]


def read_rgb(file: Path, *, must_be_colored: bool = False) -> np.ndarray:
    """Reads pixels as stored: uint8 (H, W, 3), without EXIF orientation, as label maps have none.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is damaged or, with ``must_be_colored``, gray or a palette image.
    """
    if not file.is_file():
        raise FileNotFoundError(f"{file} does not exist.")
    try:
        with Image.open(file) as image:
            if must_be_colored and image.mode not in ("RGB", "RGBA"):
                raise ValueError(f"mode {image.mode}, where objects are coded by color.")
            return np.asarray(image.convert("RGB"))
    except DECODING_ERRORS as error:
        raise ValueError(f"{file} cannot be read: {error}") from error


def packaged_list(name: str) -> list[str]:
    """Reads a list of the owners that comes with this package, one word per line."""
    return (Path(__file__).parent / name).read_text(encoding="utf-8").split()


def listed_files(folder: Path, ids: Iterable[str], suffix: str) -> dict[str, Path]:
    """Finds the files ``id + suffix`` that exist, by id; a warning counts those that do not.

    Raises:
        FileNotFoundError: none exists.
    """
    files = {id_: folder / f"{id_}{suffix}" for id_ in ids}
    present = {id_: file for id_, file in files.items() if file.is_file()}
    if not present:
        raise FileNotFoundError(f"{folder} has none of the {len(files)} files of the split.")
    missing = [file for id_, file in files.items() if id_ not in present]
    if missing:
        message = "%d of %d files are missing, such as %s."
        logger.warning(message, len(missing), len(files), missing[0])
    return present
