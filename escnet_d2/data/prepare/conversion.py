"""Converting many files: on several processes, resumable, each file whole or not at all."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from escnet_d2.io import atomic_path

from ..datasets.builtin import all_datasets

logger = logging.getLogger(__name__)

_CHUNK = 16


@dataclass(frozen=True)
class Settings:
    """How to convert.

    Attributes:
        root: the folder of all data sets.
        num_workers: processes to use beside this one; 0 converts in this one.
        force: convert again what is there and up to date.
    """

    root: Path
    num_workers: int = 0
    force: bool = False


@dataclass(frozen=True)
class Job:
    """One label map to write.

    Attributes:
        source: the owners' file; where it is newer than the targets, they are written again.
        targets: the files to write.
        content: what the conversion needs beside them; must be picklable.
    """

    source: Path
    targets: tuple[Path, ...]
    content: Any = None

    def is_done(self) -> bool:
        """Whether all targets are there and none is older than the source."""
        if not all(target.is_file() for target in self.targets):
            return False
        newest = _last_change(self.source)
        return all(_last_change(target) >= newest for target in self.targets)


def _last_change(file: Path) -> float:
    """When the file was written or came here: archives give what is unpacked its old time."""
    status = file.stat()
    return max(status.st_mtime, status.st_ctime)


@dataclass
class Prepared:
    """What a preparation did.

    Attributes:
        datasets: names of the data sets whose label maps were written.
        problems: what keeps the result from being complete or right, one sentence each.
    """

    datasets: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def label_folder(name: str, settings: Settings) -> Path:
    """Where the label maps of a registered data set are written."""
    return all_datasets()[name].prepared_folders(settings.root)[1]


def image_folder(name: str, settings: Settings) -> Path:
    """Where the images of a registered data set are."""
    return all_datasets()[name].prepared_folders(settings.root)[0]


def run_jobs(
    jobs: Sequence[Job],
    convert: Callable[[Job], None],
    *,
    settings: Settings,
    title: str,
) -> None:
    """Runs ``convert`` on the jobs that are not done yet.

    Args:
        jobs: what to write.
        convert: a function at the top level of a module, or a partial of one, that writes a job's
            targets.
        settings: processes, and whether to redo everything.
        title: name of the progress bar, which is shown on terminals only.

    Raises:
        FileNotFoundError: a source is missing.
        ValueError: a source cannot be converted; names it.
    """
    waiting = [job for job in jobs if settings.force or not job.is_done()]
    logger.info("%s: %d of %d files to write.", title, len(waiting), len(jobs))
    if not waiting:
        return
    if settings.num_workers > 0:
        with ProcessPoolExecutor(settings.num_workers) as pool:
            try:
                _finish(pool.map(convert, waiting, chunksize=_CHUNK), waiting, title)
            except BaseException:
                # Else leaving the block would first work off everything that is queued.
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    else:
        _finish(map(convert, waiting), waiting, title)


def save_labels(labels: np.ndarray, target: Path) -> None:
    """Writes a label map atomically: 8- or 16-bit grey, by its type and the target's suffix.

    Args:
        labels: (H, W), uint8 or uint16.
        target: a ``.png`` or ``.tif`` file.

    Raises:
        TypeError: another type of labels.
    """
    if labels.dtype not in (np.uint8, np.uint16):
        raise TypeError(f"Label maps are written as uint8 or uint16, not {labels.dtype}.")
    with atomic_path(target) as temporary:
        Image.fromarray(labels).save(temporary, "TIFF" if target.suffix == ".tif" else "PNG")


def label_table(index_of_value: dict[int, int]) -> np.ndarray:
    """A look-up table for 8-bit label maps: uint8 (256,), 255 for every value without an index.

    Args:
        index_of_value: class index by value of the owners' file.
    """
    table = np.full(256, 255, dtype=np.uint8)
    for value, index in index_of_value.items():
        table[value] = index
    return table


def listed_files(folder: Path, ids: Iterable[str], suffix: str) -> tuple[list[Path], list[str]]:
    """The files of a list that are there, and a sentence about those that are not.

    Args:
        folder: where the files are.
        ids: names without suffix.
        suffix: such as ``.png``.

    Raises:
        FileNotFoundError: none is there.
    """
    files = [folder / f"{id_}{suffix}" for id_ in ids]
    present = [file for file in files if file.is_file()]
    if not present:
        raise FileNotFoundError(f"{folder} has none of the {len(files)} files of the split.")
    missing = len(files) - len(present)
    if not missing:
        return present, []
    first = next(file for file in files if not file.is_file())
    return present, [f"{missing} of {len(files)} files are missing, such as {first}."]


def _finish(results: Iterable[None], jobs: Sequence[Job], title: str) -> None:
    # disable=None: no bar where nobody watches, such as in a log file.
    for _ in tqdm(results, total=len(jobs), desc=title, unit="file", disable=None):
        pass
