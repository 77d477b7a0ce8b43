"""Runs a predictor over many images: reads ahead, predicts in batches, writes in the background."""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from escnet_d2.io import read_image
from escnet_d2.outputs import ImageFile, RunFolder, RunReport
from escnet_d2.structures import Segmentation

from .predictor import OpenVocabPredictor

# Decoding and encoding release the GIL, but share the cores with the model.
_NUM_THREADS = max(1, min(4, os.cpu_count() or 1))
# Eleven bytes of results and image each.
_PIXELS_WAITING = 2**26

logger = logging.getLogger(__name__)


def segment_images(
    images: Collection[ImageFile],
    predictor: OpenVocabPredictor,
    folder: RunFolder,
    *,
    num_ignored: int = 0,
    batch_size: int = 1,
    progress: bool = True,
) -> RunReport:
    """Segments images and writes their outputs and ``summary.json``.

    An image that cannot be read, segmented or written is reported and the others go on. A batch
    that fails, out of memory for instance, is repeated image by image. Ctrl-C ends the run early:
    what is being written is finished and the summary covers what is there.

    Args:
        images: what to segment; gone through once, and no further ahead than is read.
        predictor: the model; only ``predict_batch`` is called.
        folder: where the outputs go, opened.
        num_ignored: files among the inputs that are not images, for the summary.
        batch_size: images per call of the predictor.
        progress: show a progress bar.

    Raises:
        OSError: the summary cannot be written.
    """
    report = RunReport(folder.vocabulary.class_names, len(images), num_ignored)
    start = time.perf_counter()
    folder.write_summary(report)
    bar = tqdm(total=report.num_found, unit="image", disable=not progress)
    with bar, logging_redirect_tqdm(), ThreadPoolExecutor(_NUM_THREADS) as pool:
        run = _Run(predictor, folder, report, bar, pool)
        try:
            run.process(run.unfinished(images), batch_size)
            report.state = "complete"
        except KeyboardInterrupt:
            report.state = "interrupted"
            logger.warning("Interrupted; finishing what is being written.")
        finally:
            run.finish()
    report.seconds = time.perf_counter() - start
    folder.write_summary(report)
    return report


class _Loaded(NamedTuple):
    image: ImageFile
    # Before it was read, in ns.
    modified: int
    pixels: np.ndarray


def _load(image: ImageFile) -> _Loaded:
    return _Loaded(image, image.path.stat().st_mtime_ns, read_image(image.path))


@dataclass
class _Run:
    """The moving parts of one run; ``pool`` reads and writes images."""

    predictor: OpenVocabPredictor
    folder: RunFolder
    report: RunReport
    bar: tqdm
    pool: ThreadPoolExecutor
    writing: deque[tuple[ImageFile, Future]] = field(default_factory=deque)

    def unfinished(self, images: Iterable[ImageFile]) -> Iterator[ImageFile]:
        """Passes over images that are done, which the report counts."""
        for image in images:
            if self.folder.is_done(image) and self._is_counted(image):
                self.report.num_skipped += 1
                self.bar.update()
            else:
                yield image

    def process(self, images: Iterable[ImageFile], batch_size: int) -> None:
        """Reads, segments and hands to the writers, batch by batch."""
        batch: list[_Loaded] = []
        for image, future in self._read_ahead(images, depth=2 * batch_size):
            if self._succeeded(image, future):
                batch.append(future.result())
            if len(batch) == batch_size:
                self._segment(batch)
                batch = []
        if batch:
            self._segment(batch)

    def finish(self, keep: int = 0) -> None:
        """Waits for the outputs being written, but for the newest ``keep``."""
        while len(self.writing) > keep:
            image, future = self.writing.popleft()
            if self._succeeded(image, future):
                self.report.add_areas(future.result())
                self.report.num_done += 1
                self.bar.update()

    def _read_ahead(
        self, images: Iterable[ImageFile], depth: int
    ) -> Iterator[tuple[ImageFile, Future]]:
        """Yields in order, with ``depth`` images read or being read meanwhile."""
        reading: deque[tuple[ImageFile, Future]] = deque()
        for image in images:
            reading.append((image, self.pool.submit(_load, image)))
            if len(reading) > depth:
                yield reading.popleft()
        yield from reading

    def _is_counted(self, image: ImageFile) -> bool:
        try:
            self.report.add_areas(self.folder.areas(image))
        except (OSError, ValueError, LookupError, TypeError) as error:
            logger.warning("Doing %s again, its outputs are damaged: %s", image.path, error)
            return False
        return True

    def _segment(self, batch: Sequence[_Loaded]) -> None:
        """Predicts a batch, or its images one by one where that fails, and queues the outputs."""
        segmentations = []
        try:
            segmentations = self.predictor.predict_batch(
                [loaded.pixels for loaded in batch],
                self.folder.vocabulary,
                file_names=[loaded.image.path for loaded in batch],
            )
        except Exception as error:
            # Whatever it is, it must not cost the other images their results.
            if len(batch) == 1:
                logger.debug("Traceback of %s:", batch[0].image.path, exc_info=True)
                self._fail(batch[0].image, error)
                return
            logger.warning("A batch failed and is repeated image by image: %s", _reason(error))
        if not segmentations:
            # Outside of the handler, whose traceback holds on to the batch's tensors.
            torch.cuda.empty_cache()
            for loaded in batch:
                self._segment([loaded])
            return
        for loaded, segmentation in zip(batch, segmentations):
            future = self.pool.submit(self._write, loaded, segmentation)
            self.writing.append((loaded.image, future))
            # Results wait in memory until they are written.
            self.finish(keep=min(2 * _NUM_THREADS, _PIXELS_WAITING // segmentation.labels.size))

    def _write(self, loaded: _Loaded, segmentation: Segmentation) -> np.ndarray:
        if loaded.image.path.stat().st_mtime_ns != loaded.modified:
            raise ValueError("the file changed while it was segmented; --resume does it again.")
        return self.folder.write(loaded.image, loaded.pixels, segmentation)

    def _succeeded(self, image: ImageFile, future: Future) -> bool:
        error = future.exception()
        if error is not None:
            self._fail(image, error)
        return error is None

    def _fail(self, image: ImageFile, error: BaseException) -> None:
        reason = _reason(error)
        logger.error("Failed: %s: %s", image.path, reason)
        self.report.failures.append((str(image.path), reason))
        self.bar.update()


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
