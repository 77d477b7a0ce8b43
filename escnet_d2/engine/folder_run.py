"""Runs a predictor over many images: reads ahead, predicts in batches, writes in the background."""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from escnet_d2.io import read_image, write_json, write_text
from escnet_d2.outputs import (
    OUTPUT_KINDS,
    ImageFile,
    ImageList,
    OutputWriter,
    RunLog,
    class_colors,
    run_summary,
    source_stamp,
)
from escnet_d2.structures import Segmentation, Vocabulary
from escnet_d2.structures.vocabulary import BACKGROUND_NAME

SUMMARY_FILE = "summary.json"
CLASSES_FILE = "classes.txt"
LOG_FILE = "progress.jsonl"

# Decoding and encoding release the GIL, but share the cores with the model.
_NUM_THREADS = max(1, min(4, os.cpu_count() or 1))

logger = logging.getLogger(__name__)


class Predictor(Protocol):
    """What a run needs of :class:`~escnet_d2.engine.OpenVocabPredictor`."""

    def predict_batch(
        self, images: Sequence[np.ndarray], vocabulary: Vocabulary
    ) -> list[Segmentation]:
        """Segments arrays (H, W, 3) uint8, RGB, of any sizes."""


@dataclass
class FolderRunReport:
    """What became of the images of a run.

    Attributes:
        class_areas: (K,) int64, pixels of each class over the images done and skipped.
        class_images: (K,) int64, how many of these images show each class.
        num_found: images that the run was given.
        num_done: images segmented and written by this run.
        num_skipped: images whose outputs were up to date.
        failures: (file, reason) of the images without a result.
        interrupted: whether Ctrl-C ended the run early.
        seconds: of wall-clock time.
    """

    class_areas: np.ndarray
    class_images: np.ndarray
    num_found: int
    num_done: int = 0
    num_skipped: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)
    interrupted: bool = False
    seconds: float = 0.0

    def __str__(self) -> str:
        """One line for people."""
        return (
            f"{self.num_done} of {self.num_found} images done, {self.num_skipped} skipped, "
            f"{len(self.failures)} failed, in {self.seconds:.1f} s"
        )

    def add_areas(self, areas: Mapping[int, int]) -> None:
        """Counts one image's classes; ``areas`` holds pixels by class index."""
        for index, area in areas.items():
            self.class_areas[index] += area
            self.class_images[index] += 1


def run_folder(
    image_list: ImageList,
    predictor: Predictor,
    vocabulary: Vocabulary,
    *,
    output_dir: str | os.PathLike,
    settings: Mapping[str, object],
    kinds: Sequence[str] = tuple(OUTPUT_KINDS),
    opacity: float = 0.5,
    batch_size: int = 1,
    resume: bool = False,
    progress: bool = True,
) -> FolderRunReport:
    """Segments images and writes their outputs, ``summary.json`` and ``classes.txt``.

    An image that cannot be read, segmented or written is reported and the others go on. A batch
    that fails, out of memory for instance, is repeated image by image. Ctrl-C ends the run early:
    what is being written is finished and the summary covers what is there.

    Args:
        image_list: what to segment.
        predictor: the model.
        vocabulary: the classes.
        output_dir: folder of all outputs.
        settings: plain data that says what made the labels (config, weights, ...); goes into every
            record, and ``resume`` compares it.
        kinds: outputs wanted, of ``overlay``, ``labels`` and ``json``.
        opacity: of the colours in overlays, in [0, 1].
        batch_size: images per call of the predictor.
        resume: skip images whose wanted outputs exist and were made with the same settings,
            vocabulary and opacity from the same image file.
        progress: show a progress bar.

    Raises:
        ValueError: an unknown kind of output, a batch size below 1, an opacity out of range.
        FileExistsError: ``output_dir`` holds files that no run of this kind has written, where the
            outputs would go.
        OSError: ``output_dir`` cannot be written.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}.")
    output_dir = Path(output_dir)
    names = vocabulary.class_names
    background = next((i for i, name in enumerate(names) if name.lower() == BACKGROUND_NAME), None)
    writer = OutputWriter(
        output_dir,
        colors=class_colors(len(names), background=background),
        settings=settings,
        kinds=kinds,
        opacity=opacity,
    )
    _check_output_dir(output_dir, kinds)
    settings = {**settings, "vocabulary": asdict(vocabulary)}
    log = RunLog(output_dir / LOG_FILE, {**settings, "opacity": opacity})
    report = FolderRunReport(
        class_areas=np.zeros(len(names), np.int64),
        class_images=np.zeros(len(names), np.int64),
        num_found=len(image_list.images),
    )

    def save_summary(state: str) -> None:
        write_json(
            output_dir / SUMMARY_FILE,
            run_summary(
                state=state,
                settings=settings,
                class_names=names,
                counts=_counts(report, image_list),
                class_areas=report.class_areas,
                class_images=report.class_images,
                failures=report.failures,
                seconds=report.seconds,
            ),
        )

    start = time.perf_counter()
    _warn_of_other_classes(log, image_list, names, output_dir)
    log.start(resume=resume)
    write_text(output_dir / CLASSES_FILE, "".join(" ".join(name.split()) + "\n" for name in names))
    todo = list(image_list.images)
    if resume:
        todo = _skip_done(todo, writer, log, report)
    save_summary("running")
    bar = tqdm(
        total=report.num_found, initial=report.num_skipped, unit="image", disable=not progress
    )
    with bar, logging_redirect_tqdm():
        run = _Run(predictor, vocabulary, writer, log, report, bar)
        try:
            run.process(todo, batch_size)
        except KeyboardInterrupt:
            report.interrupted = True
            logger.warning("Interrupted; finishing what is being written.")
        finally:
            run.close()
    report.seconds = time.perf_counter() - start
    save_summary("interrupted" if report.interrupted else "complete")
    return report


def _warn_of_other_classes(
    log: RunLog, image_list: ImageList, class_names: Sequence[str], output_dir: Path
) -> None:
    """Says which earlier results the new ``classes.txt`` does not describe."""
    others = [
        name
        for name, settings in log.others(image_list.images).items()
        if settings.get("vocabulary", {}).get("class_names") != list(class_names)
    ]
    if others:
        logger.warning(
            "%s keeps results of %d images that are not among these, such as %s, made with other "
            "classes: %s will not fit their label maps. Another output folder keeps them apart.",
            output_dir,
            len(others),
            others[0],
            CLASSES_FILE,
        )


def _check_output_dir(output_dir: Path, kinds: Sequence[str]) -> None:
    """Refuses to write over what is no output: labels drawn by hand, or somebody's class list.

    Every run starts its log before it writes anything else.
    """
    if (output_dir / LOG_FILE).is_file():
        return
    folders = [output_dir / OUTPUT_KINDS[kind] for kind in kinds]
    taken = [folder for folder in folders if folder.is_dir() and any(folder.iterdir())]
    taken += [
        file for file in (output_dir / CLASSES_FILE, output_dir / SUMMARY_FILE) if file.exists()
    ]
    if taken:
        raise FileExistsError(
            f"{', '.join(map(str, taken))} would be overwritten, but there is no {LOG_FILE} in "
            f"{output_dir}, so that no earlier run has written it: choose another output folder."
        )


def _counts(report: FolderRunReport, image_list: ImageList) -> dict[str, int]:
    reached = report.num_done + report.num_skipped + len(report.failures)
    return {
        "found": report.num_found,
        "done": report.num_done,
        "skipped": report.num_skipped,
        "failed": len(report.failures),
        "not_reached": report.num_found - reached,
        "ignored_files": image_list.num_ignored,
    }


def _skip_done(
    images: Sequence[ImageFile], writer: OutputWriter, log: RunLog, report: FolderRunReport
) -> list[ImageFile]:
    """Notes the images that are up to date in the report and returns the others."""
    todo = []
    num_redone = 0
    for image in images:
        done = log.find(image, writer.kinds)
        if done and all(path.is_file() for path in writer.paths(image).values()):
            report.num_skipped += 1
            report.add_areas(done.areas)
        else:
            todo.append(image)
            num_redone += log.knows(image)
    logger.info("Skipping %d images that are done.", report.num_skipped)
    if num_redone:
        changed = log.changed_settings()
        reason = f"changed: {', '.join(changed)}" if changed else "the image or an output changed"
        logger.warning("Redoing %d images (%s).", num_redone, reason)
    return todo


class _Loaded(NamedTuple):
    """An image that was read.

    Attributes:
        image: the file.
        stamp: :func:`source_stamp` from before it was read.
        pixels: (H, W, 3) uint8, RGB.
    """

    image: ImageFile
    stamp: tuple[int, int]
    pixels: np.ndarray

    @classmethod
    def read(cls, image: ImageFile) -> _Loaded:
        return cls(image, source_stamp(image.path), read_image(image.path))


class _Run:
    """The moving parts of one run: reader threads, the model, writer threads."""

    def __init__(
        self,
        predictor: Predictor,
        vocabulary: Vocabulary,
        writer: OutputWriter,
        log: RunLog,
        report: FolderRunReport,
        bar: tqdm,
    ) -> None:
        self._predictor = predictor
        self._vocabulary = vocabulary
        self._writer = writer
        self._log = log
        self._report = report
        self._bar = bar
        self._readers = ThreadPoolExecutor(_NUM_THREADS, thread_name_prefix="read")
        self._writers = ThreadPoolExecutor(_NUM_THREADS, thread_name_prefix="write")
        self._pending: deque[tuple[ImageFile, tuple[int, int], Future]] = deque()

    def process(self, images: Sequence[ImageFile], batch_size: int) -> None:
        """Reads, segments and hands to the writers, batch by batch."""
        batch: list[_Loaded] = []
        for image, future in self._read_ahead(images, depth=2 * batch_size):
            error = future.exception()
            if error is not None:
                self._fail(image, error)
                continue
            batch.append(future.result())
            if len(batch) == batch_size:
                self._segment(batch)
                batch = []
        if batch:
            self._segment(batch)

    def close(self) -> None:
        """Waits for the outputs being written."""
        self._readers.shutdown(wait=False, cancel_futures=True)
        while self._pending:
            self._finish_oldest()
        self._writers.shutdown()

    def _read_ahead(
        self, images: Sequence[ImageFile], depth: int
    ) -> Iterator[tuple[ImageFile, Future]]:
        """Yields in order, with ``depth`` images read or being read meanwhile."""
        remaining = iter(images)
        reading: deque[tuple[ImageFile, Future]] = deque()

        def read(image: ImageFile) -> None:
            reading.append((image, self._readers.submit(_Loaded.read, image)))

        for image in islice(remaining, depth):
            read(image)
        while reading:
            yield reading.popleft()
            for image in islice(remaining, 1):
                read(image)

    def _segment(self, batch: Sequence[_Loaded]) -> None:
        """Predicts a batch, or its images one by one where that fails, and queues the outputs."""
        try:
            segmentations = self._predictor.predict_batch(
                [loaded.pixels for loaded in batch], self._vocabulary
            )
        except Exception as error:
            # Whatever it is, it must not cost the other images their results.
            if len(batch) == 1:
                logger.debug("Traceback of %s:", batch[0].image.path, exc_info=True)
                self._fail(batch[0].image, error)
                return
            logger.warning("A batch failed and is repeated image by image: %s", _reason(error))
            segmentations = None
        if segmentations is None:
            # Outside of the handler, whose traceback holds on to the batch's tensors.
            torch.cuda.empty_cache()
            for loaded in batch:
                self._segment([loaded])
            return
        for loaded, segmentation in zip(batch, segmentations):
            future = self._writers.submit(
                self._writer.write, loaded.image, loaded.pixels, segmentation
            )
            self._pending.append((loaded.image, loaded.stamp, future))
            # Results wait in memory until they are written.
            while len(self._pending) > 2 * _NUM_THREADS:
                self._finish_oldest()

    def _finish_oldest(self) -> None:
        image, stamp, future = self._pending.popleft()
        error = future.exception()
        if error is not None:
            self._fail(image, error)
            return
        areas = future.result()
        try:
            self._log.add(image, self._writer.kinds, areas, stamp)
        except OSError as log_error:
            self._fail(image, log_error)
            return
        self._report.add_areas(areas)
        self._report.num_done += 1
        self._bar.update()

    def _fail(self, image: ImageFile, error: BaseException) -> None:
        reason = _reason(error)
        logger.error("Failed: %s: %s", image.path, reason)
        self._report.failures.append((str(image.path), reason))
        self._bar.update()


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
