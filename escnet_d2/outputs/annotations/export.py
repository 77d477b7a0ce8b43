"""Makes annotations of what a run has left: label PNGs and records in, a folder per format out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from escnet_d2.io import read_label_map, write_json

from ..label_png import unlabeled_value
from ..run_folder import OUTPUT_KINDS, SETTINGS_FILE, lock_file
from . import coco, cvat, label_studio, png, yolo_seg
from .labeled_image import ExportOptions, LabeledImage, without_small_regions

# What ``--to`` takes, and the name of each one's folder.
FORMATS: dict[str, Callable[[Path, Iterable[LabeledImage], ExportOptions], None]] = {
    "coco": coco.write,
    "yolo-seg": yolo_seg.write,
    "png": png.write,
    "labelstudio": label_studio.write,
    "cvat": cvat.write,
}
# Says that an export has written the folder, and how.
EXPORT_FILE = "export.json"
_LOCK_FILE = ".export.lock"


def check_export(folder: Path, formats: Sequence[str]) -> None:
    """Makes sure that the formats exist and replace only what an export has written.

    Raises:
        ValueError: an unknown format.
        FileExistsError: a folder with files of others is in the way.
    """
    for name in formats:
        if name not in FORMATS:
            raise ValueError(f"Unknown format {name!r}; there are {', '.join(FORMATS)}.")
        target = folder / name
        if target.exists() and not (target / EXPORT_FILE).exists() and any(target.glob("*")):
            raise FileExistsError(
                f"{target} would be overwritten, but no {EXPORT_FILE} in it says that an export "
                "has written it: choose another --output."
            )


def export_run(folder: Path, formats: Sequence[str], **options: object) -> int:
    """Writes ``<folder>/<format>`` from the label PNGs and records that a run has left in a folder.

    Args:
        folder: of a :class:`RunFolder` with outputs ``labels`` and ``json``.
        formats: some of :data:`FORMATS`.
        options: of :class:`ExportOptions`, but for the class names, which the run's settings have.

    Returns:
        The number of images.

    Raises:
        ValueError: an option out of range.
        BlockingIOError: another process is writing annotations there.
        OSError: outputs of the run are missing, or :func:`check_export` refuses.
    """
    with lock_file(folder / _LOCK_FILE, f"writing annotations to {folder}"):
        return _export(folder, formats, options)


def _export(folder: Path, formats: Sequence[str], options: Mapping[str, object]) -> int:
    check_export(folder, formats)
    settings = json.loads((folder / SETTINGS_FILE).read_text(encoding="utf-8"))["settings"]
    names = tuple(" ".join(name.split()) for name in settings["vocabulary"]["class_names"])
    chosen = ExportOptions(names, **options)
    images = _Images(folder, chosen)
    for name in formats:
        shutil.rmtree(folder / name, ignore_errors=True)
        write_json(folder / name / EXPORT_FILE, {"format": name, **asdict(chosen)})
        FORMATS[name](folder / name, images, chosen)
    return len(images.records)


class _Images:
    """Goes through the images of a run as often as there are formats, one in memory at a time."""

    def __init__(self, folder: Path, options: ExportOptions) -> None:
        self._labels, self._options = folder / OUTPUT_KINDS["labels"], options
        self._json = folder / OUTPUT_KINDS["json"]
        self.records = sorted(self._json.rglob("*.json"))

    def __iter__(self) -> Iterator[LabeledImage]:
        no_class = unlabeled_value(len(self._options.class_names))
        for file in self.records:
            # Not with_suffix: names may have dots of their own.
            name = file.relative_to(self._json).as_posix()[: -len(".json")]
            try:
                record = json.loads(file.read_text(encoding="utf-8"))
                path = Path(record["file"])
                scores = {found["index"]: found["score"] for found in record["classes"]}
            except (ValueError, LookupError, TypeError) as error:
                raise ValueError(f"{file} is damaged; delete it and --resume: {error}") from error
            labels = read_label_map(self._labels / f"{name}.png").astype(np.int32)
            labels[labels == no_class] = -1
            if self._options.min_area > 1:
                labels = without_small_regions(labels, self._options.min_area)
            yield LabeledImage(path, name, labels, scores)
