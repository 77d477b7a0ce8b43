"""A run is a folder: its settings, a lock while somebody writes, and the outputs of each image."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

import numpy as np
import portalocker

from escnet_d2.io import TEMPORARY_FILES, atomic_path, read_label_map, write_json, write_text
from escnet_d2.structures import Segmentation, Vocabulary

from .image_files import ImageFile
from .label_png import save_label_png
from .overlay import draw_overlay
from .palette import class_colors
from .records import RunReport, image_record

# Kind of output to its folder.
OUTPUT_KINDS = {"overlay": "overlays", "labels": "labels", "json": "json"}
SETTINGS_FILE, CLASSES_FILE, SUMMARY_FILE = "settings.json", "classes.txt", "summary.json"
LOCK_FILE = ".lock"
# Of processes that share a run: each one's report and lock.
PARTS_FOLDER = "parts"
# Seconds in which another process has prepared the folder, or added its part to the summary.
_PATIENCE = 60
# Photos stay small as JPEG; everything else keeps its crisp edges as PNG.
_JPEG_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif")
_JPEG_QUALITY = 92


class RunFolder:
    """Overlays, label PNGs and JSON records under one folder; threads may write at once."""

    def __init__(
        self,
        path: str | os.PathLike,
        vocabulary: Vocabulary,
        *,
        description: Mapping[str, object],
        settings: Mapping[str, object],
        kinds: Collection[str] = tuple(OUTPUT_KINDS),
        opacity: float = 0.5,
        side_by_side: bool = False,
        min_score: float = 0.0,
        note: str = "",
        part: tuple[int, int] = (0, 1),
    ) -> None:
        """Touches nothing yet, see :meth:`open`.

        Args:
            path: the folder.
            vocabulary: the classes.
            description: plain data for every record and the summary: config, weights.
            settings: plain data on which the outputs depend, beside the other arguments.
            kinds: outputs wanted, of :data:`OUTPUT_KINDS`.
            opacity: of the colors in overlays, in [0, 1].
            side_by_side: overlays stand beside the image.
            min_score: pixels with a lower score stay without a class, in [0, 1].
            note: stands in the legend of every overlay and as a comment in every label PNG.
            part: which of how many processes this is that write to the folder, each its own
                images; they need not run at once.

        Raises:
            ValueError: an unknown kind or none, or an opacity or score out of range.
            OSError: as :func:`check_output_folder`.
        """
        check_output_folder(path)
        if set(kinds) - set(OUTPUT_KINDS) or not kinds:
            raise ValueError(
                f"Outputs must be some of {', '.join(OUTPUT_KINDS)}, got {', '.join(kinds)!r}."
            )
        for name, value in (("opacity", opacity), ("confidence", min_score)):
            if not 0 <= value <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {value}.")
        self.path = Path(path)
        self.vocabulary = vocabulary
        self.kinds = tuple(kinds)
        self.description = dict(description)
        self._colors = class_colors(vocabulary.class_names)
        self._looks = {"opacity": opacity, "side_by_side": side_by_side}
        self._min_score = min_score
        self._note = note
        self._index, self._count = part
        # Through JSON, as tuples come back as lists.
        own = {"vocabulary": asdict(vocabulary), **self._looks, "min_score": min_score}
        self._settings = json.loads(json.dumps({**settings, **own}))
        self._resume = False

    def check(self, *, overwrite: bool = False) -> None:
        """Finds what is in the way of :meth:`open`, which looks again, without changing anything.

        Raises:
            FileExistsError: as :meth:`open`.
        """
        earlier_kinds, earlier_settings = self._earlier_run()
        differences = list(_differences(earlier_settings, self._settings))
        if differences and not overwrite:
            more = f" and {len(differences) - 4} more" if len(differences) > 4 else ""
            raise FileExistsError(
                f"{self.path} holds a run with other settings ({', '.join(differences[:4])}"
                f"{more}): choose another --output, or delete its results by --overwrite."
            )

    @contextmanager
    def open(self, *, resume: bool = False, overwrite: bool = False) -> Iterator[RunFolder]:
        """Locks the folder, writes its settings and class list, and removes a killed run's rest.

        Args:
            resume: regard images as done whose outputs are there.
            overwrite: delete the outputs of the run that is there and begin again.

        Yields:
            This object.

        Raises:
            BlockingIOError: another run is writing to the folder, or this part of it.
            ValueError: ``overwrite`` by one of several processes, which may delete what another one
                has written.
            FileExistsError: outputs of a run with other settings, or files that no run has written,
                are in the way.
        """
        if overwrite and self._count > 1:
            raise ValueError(
                "--overwrite is for a single process: with several, one would delete what another "
                "has written. Delete the folder, or choose another --output."
            )
        with self._locked():
            self.check(overwrite=overwrite)
            earlier_kinds, _ = self._earlier_run()
            if overwrite:
                for kind in earlier_kinds:
                    shutil.rmtree(self.path / OUTPUT_KINDS[kind])
            kinds = sorted({*self.kinds, *earlier_kinds})
            write_json(self.path / SETTINGS_FILE, {"outputs": kinds, "settings": self._settings})
            names = (" ".join(name.split()) for name in self.vocabulary.class_names)
            write_text(self.path / CLASSES_FILE, "".join(f"{name}\n" for name in names))
            self._resume = resume
            yield self

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Keeps other runs out, but for the other parts of this one."""
        self.path.mkdir(parents=True, exist_ok=True)
        file, busy = self.path / LOCK_FILE, f"writing to {self.path}"
        if self._count == 1:
            with lock_file(file, busy):
                self._remove_temporary_files()
                yield
            return
        own = self._part_file(self._index).with_suffix(LOCK_FILE)
        own.parent.mkdir(exist_ok=True)
        with lock_file(own, f"writing part {self._index} of {self._count} of {self.path}"):
            # Only where no other part is being written, whose temporary files they may be.
            with suppress(BlockingIOError), lock_file(file, busy):
                self._remove_temporary_files()
            with lock_file(file, busy, shared=True, timeout=_PATIENCE):
                yield

    def _remove_temporary_files(self) -> None:
        for folder in (self.path / name for name in (*OUTPUT_KINDS.values(), PARTS_FOLDER)):
            for file in folder.rglob(TEMPORARY_FILES):
                file.unlink()
        for file in self.path.glob(TEMPORARY_FILES):
            file.unlink()

    def _part_file(self, index: int) -> Path:
        return self.path / PARTS_FOLDER / f"{index}-of-{self._count}.json"

    def _earlier_run(self) -> tuple[list[str], dict[str, object]]:
        """Returns the kinds of output that runs have left here, and their settings.

        Refuses to write over what no run has written: labels drawn by hand, a class list.
        """
        file, content = self.path / SETTINGS_FILE, {"outputs": [], "settings": {}}
        # In this order: another process of this run writes the file before any output.
        filled = [kind for kind, name in OUTPUT_KINDS.items() if any((self.path / name).glob("*"))]
        has_run = file.exists()
        try:
            if has_run:
                content = json.loads(file.read_text(encoding="utf-8"))
            kinds = [kind for kind in filled if kind in content["outputs"]]
            settings = dict(content["settings"])
        except (ValueError, KeyError, TypeError) as error:
            raise FileExistsError(
                f"{file} is not the settings of a run: choose another --output."
            ) from error
        others = {*filled} & {*self.kinds} - {*kinds}
        taken = [self.path / OUTPUT_KINDS[kind] for kind in others]
        if not has_run:
            files = (self.path / CLASSES_FILE, self.path / SUMMARY_FILE)
            taken += [file for file in files if file.exists()]
        if taken:
            raise FileExistsError(
                f"{', '.join(map(str, sorted(taken)))} would be overwritten, but no {SETTINGS_FILE}"
                f" in {self.path} says that a run has written it: choose another --output."
            )
        # A run that ended before its first image ties nobody down.
        return kinds, settings if kinds else self._settings

    def paths(self, image: ImageFile) -> dict[str, Path]:
        """Returns where the wanted outputs of an image go, by kind."""
        is_jpeg = image.path.suffix.lower() in _JPEG_SUFFIXES
        suffixes = {"overlay": ".jpg" if is_jpeg else ".png", "labels": ".png", "json": ".json"}
        return {
            # Not with_suffix: names may have dots of their own.
            kind: self.path / OUTPUT_KINDS[kind] / (image.name + suffixes[kind])
            for kind in self.kinds
        }

    def is_done(self, image: ImageFile) -> bool:
        """Returns whether ``resume`` may skip an image.

        No wanted output is missing, older, or empty, as a crash of the machine leaves files.
        """
        if not self._resume:
            return False
        try:
            modified = image.path.stat().st_mtime_ns
            return all(
                path.is_file() and path.stat().st_size > 0 and path.stat().st_mtime_ns >= modified
                for path in self.paths(image).values()
            )
        except OSError:
            # The image has gone since it was listed; reading it will say so.
            return False

    def areas(self, image: ImageFile) -> np.ndarray:
        """Reads the pixels of each class in a finished image, (K,); 0 without records or labels."""
        paths, areas = self.paths(image), np.zeros(len(self._colors), np.int64)
        if "json" in paths:
            record = json.loads(paths["json"].read_text(encoding="utf-8"))
            for found in record["classes"]:
                areas[found["index"]] = found["area"]
        elif "labels" in paths:
            labels = read_label_map(paths["labels"])
            areas += np.bincount(labels[labels < len(areas)], minlength=len(areas))
        return areas

    def write(self, image: ImageFile, pixels: np.ndarray, segmentation: Segmentation) -> np.ndarray:
        """Writes the wanted outputs of one image, each atomically.

        Args:
            image: names the outputs.
            pixels: (H, W, 3) uint8, RGB.
            segmentation: labels and scores (H, W).

        Returns:
            Pixels of each class, (K,).

        Raises:
            ValueError: a label that is not a class, or an image of another size.
        """
        # A copy of the labels, which of a large photo are large.
        if self._min_score:
            segmentation = segmentation.confident(self._min_score)
        areas = segmentation.class_areas()
        paths = self.paths(image)
        if "labels" in paths:
            save_label_png(paths["labels"], segmentation.labels, self._colors, note=self._note)
        if "json" in paths:
            record = image_record(segmentation, file=str(image.path), settings=self.description)
            write_json(paths["json"], record)
        if "overlay" in paths:
            options = {"colors": self._colors, **self._looks, "note": self._note}
            overlay = draw_overlay(pixels, segmentation, **options)
            with atomic_path(paths["overlay"]) as temporary:
                if paths["overlay"].suffix == ".jpg":
                    overlay.save(temporary, format="JPEG", quality=_JPEG_QUALITY)
                else:
                    overlay.save(temporary, format="PNG")
        return areas

    def write_summary(self, report: RunReport) -> None:
        """Writes ``summary.json``, of all processes of the run as far as they have come."""
        settings = {**self.description, "vocabulary": asdict(self.vocabulary)}
        if self._count == 1:
            write_json(self.path / SUMMARY_FILE, report.summary(settings))
            return
        write_json(self._part_file(self._index), report.as_dict())
        busy = f"writing {self.path / SUMMARY_FILE}"
        with lock_file(self.path / PARTS_FOLDER / LOCK_FILE, busy, timeout=_PATIENCE):
            files = filter(Path.is_file, map(self._part_file, range(self._count)))
            parts = [json.loads(file.read_text(encoding="utf-8")) for file in files]
            merged = RunReport.merge(parts, self._count)
            write_json(self.path / SUMMARY_FILE, merged.summary(settings))


@contextmanager
def lock_file(path: Path, what: str, *, shared: bool = False, timeout: float = 0) -> Iterator[None]:
    """Locks a file, which is made; raises BlockingIOError if another process keeps it locked."""
    kind = portalocker.LockFlags.SHARED if shared else portalocker.LockFlags.EXCLUSIVE
    lock = portalocker.Lock(
        path,
        mode="a",
        timeout=timeout,
        fail_when_locked=not timeout,
        flags=kind | portalocker.LockFlags.NON_BLOCKING,
    )
    try:
        lock.acquire()
    except portalocker.LockException as error:
        raise BlockingIOError(
            f"Another run is {what}: wait for it, or choose another --output."
        ) from error
    try:
        yield
    finally:
        lock.release()


def check_output_folder(path: str | os.PathLike) -> None:
    """Makes sure that a folder is there or can be made.

    Raises:
        NotADirectoryError: the path is empty, or a file is in its place or above it.
    """
    folder = Path(path).absolute()
    first = next(parent for parent in (folder, *folder.parents) if os.path.lexists(parent))
    if not os.fspath(path) or not first.is_dir():
        raise NotADirectoryError(
            f"The output {os.fspath(path)!r} must name a folder"
            + (f", but {first} is a file." if os.fspath(path) else ".")
        )


def _differences(earlier: object, now: object, name: str = "") -> Iterator[str]:
    """Names the settings in which two runs differ, such as ``vocabulary.class_names``."""
    if isinstance(earlier, dict) and isinstance(now, dict):
        for key in sorted({*earlier, *now}):
            yield from _differences(earlier.get(key), now.get(key), f"{name}.{key}".lstrip("."))
    elif earlier != now:
        yield name
