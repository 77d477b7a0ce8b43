"""Runs a predictor over a video: decodes ahead, draws and encodes in the background."""

from __future__ import annotations

import logging
import os
import re
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from escnet_d2.io import VideoReader, VideoWriter, write_text
from escnet_d2.outputs import SegmentedFrame

from .predictor import OpenVocabPredictor

# Segmented and not yet written, some 15 bytes each.
_PIXELS_WAITING = 2**25
_MOST_WAITING = 4
_NUM_DRAWING = 2

logger = logging.getLogger(__name__)


@dataclass
class VideoReport:
    """What became of a video.

    Attributes:
        num_frames: segmented and written.
        seconds: of wall-clock time.
        is_interrupted: by Ctrl-C.
        error: what the video broke off with.
    """

    num_frames: int = 0
    seconds: float = 0.0
    is_interrupted: bool = False
    error: OSError | None = None

    def __str__(self) -> str:
        """Returns one line for people."""
        rate = self.num_frames / max(self.seconds, 1e-9)
        return f"{self.num_frames} frames in {self.seconds:.1f} s, {rate:.2f} per second"


def segment_video(
    reader: VideoReader,
    predictor: OpenVocabPredictor,
    output: str | os.PathLike,
    *,
    labels: str | os.PathLike | None = None,
    smoothing: float = 0.0,
    min_score: float = 0.0,
    opacity: float = 0.5,
    side_by_side: bool = False,
    progress: bool = True,
) -> VideoReport:
    """Segments a video into its default vocabulary and writes it with its overlay.

    A video that breaks off and Ctrl-C end the run early: what was segmented is written, and plays.

    Args:
        reader: the video, opened.
        predictor: with a vocabulary.
        output: the MP4 file to write or replace.
        labels: also write each frame's label PNG, ``<number>.png``, and ``classes.txt`` there, in
            the place of an earlier video's.
        smoothing: as in :meth:`OpenVocabPredictor.stream`.
        min_score: pixels with a lower score stay without a class.
        opacity: of the overlay, in [0, 1].
        side_by_side: the overlay beside the frame itself.
        progress: show a progress bar.

    Raises:
        ImportError: PyAV is not installed.
        OSError: a file can't be written.
        ValueError: ``smoothing`` is out of range.
    """
    report, start = VideoReport(), time.perf_counter()
    waiting: deque[Future] = deque()

    def write(result: SegmentedFrame, picture: Future) -> None:
        writer.write(picture.result(), result.seconds)
        if labels is not None:
            result.save(Path(labels, f"{result.number:06}.png"))

    def draw(result: SegmentedFrame) -> np.ndarray:
        # The legend's size changes with the classes in view.
        options = {"opacity": opacity, "side_by_side": side_by_side, "with_legend": False}
        return np.asarray(result.overlay(**options))

    def finish(keep: int) -> None:
        while len(waiting) > keep:
            waiting.popleft().result()
            report.num_frames += 1
            bar.update()

    with ExitStack() as stack:
        writer = stack.enter_context(VideoWriter(output, rate=reader.rate / reader.every))
        if labels is not None:
            # Once the video can be written.
            _start_labels(Path(labels), predictor.class_names)
        total = reader.num_frames and -(-reader.num_frames // reader.every)
        bar = stack.enter_context(tqdm(total=total, unit="frame", disable=not progress))
        stack.enter_context(logging_redirect_tqdm())
        # One writes, in order; what is drawn waits for it.
        writing = stack.enter_context(ThreadPoolExecutor(1))
        drawing = stack.enter_context(ThreadPoolExecutor(_NUM_DRAWING))
        try:
            for frame in predictor.stream(reader, smoothing=smoothing):
                result = frame.confident(min_score) if min_score else frame
                waiting.append(writing.submit(write, result, drawing.submit(draw, result)))
                finish(keep=min(_MOST_WAITING, _PIXELS_WAITING // result.labels.size))
        except KeyboardInterrupt:
            report.is_interrupted = True
            logger.warning("Interrupted; finishing what is being written.")
        except OSError as error:
            report.error = error
        finish(keep=0)
    report.seconds = time.perf_counter() - start
    return report


def _start_labels(folder: Path, class_names: Sequence[str]) -> None:
    """Writes ``classes.txt``; where there is one, deletes the frames that came with it."""
    classes = folder / "classes.txt"
    for old in folder.glob("*.png") if classes.exists() else ():
        if re.fullmatch(r"\d{6,}", old.stem):
            old.unlink()
    write_text(classes, "".join(f"{name}\n" for name in class_names))
