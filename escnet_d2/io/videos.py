"""Frames of videos, cameras and streams, one by one, and MP4 files written the same way."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Union

import cv2
import numpy as np

# A video file, the URL of a stream, or the index of a camera, also as text.
VideoSource = Union[int, str, os.PathLike]

# Frames decoded and not yet taken.
_READ_AHEAD = 2
# The length that a file announces may be a guess; seconds missing at its end that are a fault.
_MISSING = 0.5
# Frames per second of sources that do not say.
_USUAL_RATE = 25.0
# Per second, of the times in MP4 files.
_TICKS = 90_000
# Constant quality of H.264: 18 can hardly be told from the original, 23 is usual.
_QUALITY = "20"


class Frame(NamedTuple):
    """One picture of a video.

    Attributes:
        number: among all frames of the source, from 0.
        seconds: since the first one.
        pixels: (H, W, 3) uint8, RGB.
    """

    number: int
    seconds: float
    pixels: np.ndarray


class VideoReader:
    """Iterates once over the frames of a video, which a thread decodes ahead of their use.

    A few frames are held, however long the video is. Cameras and live streams do not wait: those
    of their frames that nobody is ready for are dropped.

    Attributes:
        name: of the source, for messages.
        every: how many frames there are to one that is read.
        is_live: a camera, or a stream without an end.
        num_frames: as the file announces it, which may be a little off; None where it does not.
        rate: frames per second.
        size: (H, W) of the first frame.
    """

    def __init__(self, source: VideoSource, *, every: int = 1) -> None:
        """Opens a source and decodes its first frame.

        Args:
            source: a video file, the URL of a stream, or the index of a camera, also as text.
            every: read each n-th frame only.

        Raises:
            FileNotFoundError: no such file.
            OSError: a camera or stream that can't be opened.
            ValueError: not a video, one without frames, or ``every`` below 1.
        """
        if every < 1:
            raise ValueError(f"Every n-th frame can be read for n from 1, got {every}.")
        text = os.fspath(source) if isinstance(source, os.PathLike) else str(source)
        is_camera, is_url = text.isdecimal(), "://" in text
        if not is_camera and not is_url and not Path(text).is_file():
            raise FileNotFoundError(f"There is no video file {text}.")
        self.name, self.every = f"camera {text}" if is_camera else text, every
        with _quiet():
            # OpenCV's other readers of files and URLs take pictures for videos.
            backend = cv2.CAP_ANY if is_camera else cv2.CAP_FFMPEG
            self._capture = cv2.VideoCapture(int(text) if is_camera else text, backend)
            is_open = self._capture.isOpened()
            self._first = self._capture.read()[1] if is_open else None
        if not is_open and is_camera:
            raise OSError(f"There is no {self.name}, or another program uses it.")
        if not is_open and is_url:
            raise OSError(f"The stream {text} can't be opened.")
        if not is_open:
            raise ValueError(f"{text} is not a video, or damaged.")
        if self._first is None:
            raise ValueError(f"{self.name} has no frames.")
        self.size = self._first.shape[:2]
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self.rate = rate if 0 < rate < 1000 else _USUAL_RATE
        count = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self.num_frames = None if is_camera or count <= 0 else count
        self.is_live = (is_camera or is_url) and self.num_frames is None

    def __iter__(self) -> Iterator[Frame]:
        """Yields the frames in order.

        Raises:
            OSError: the video breaks off, or its frames change their size; names the frame.
        """
        frames: queue.Queue[Frame | Exception | None] = queue.Queue(_READ_AHEAD)
        stop = threading.Event()
        threading.Thread(target=self._decode, args=(frames, stop), daemon=True).start()
        try:
            while (item := frames.get()) is not None:
                if isinstance(item, Exception):
                    raise item
                yield item
        finally:
            stop.set()

    def _decode(self, frames: queue.Queue, stop: threading.Event) -> None:
        """Fills the queue, at last with None or an exception."""
        end = None
        try:
            for frame in self._frames():
                if self.is_live and frames.full():
                    frames.get_nowait()
                _put(frames, frame, stop)
                if stop.is_set():
                    break
        except Exception as error:  # noqa: BLE001 - raised again where the frames are used
            end = error
        self._capture.release()
        _put(frames, end, stop)

    def _frames(self) -> Iterator[Frame]:
        start, number, seconds = time.monotonic(), 0, 0.0
        yield Frame(0, 0.0, cv2.cvtColor(self._first, cv2.COLOR_BGR2RGB))
        while self._capture.grab():
            number += 1
            if self.is_live:
                seconds = time.monotonic() - start
            else:
                # Frames need not be equally far apart. Some files hold no times.
                read = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
                seconds = read if read > seconds else seconds + 1 / self.rate
            if number % self.every:
                continue
            _, pixels = self._capture.retrieve()
            if pixels is None or pixels.shape[:2] != self.size:
                raise OSError(f"{self.name}: frame {number} is damaged or of another size.")
            yield Frame(number, seconds, cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB))
        if self.is_live:
            raise OSError(f"{self.name} broke off at frame {number + 1}.")
        if self.num_frames and (self.num_frames - 1) / self.rate - seconds > _MISSING:
            raise OSError(
                f"{self.name} breaks off at frame {number + 1} of {self.num_frames}: it is "
                "damaged, or the connection was lost."
            )


class VideoWriter:
    """Writes frames to an MP4 file (H.264) that plays up to its last seconds wherever it ends.

    Unlike other files of a run it is there from the first frame on, so that hours of a camera
    outlive a crash. To be used in a ``with`` statement.
    """

    def __init__(self, path: str | os.PathLike, *, rate: float) -> None:
        """Creates the folder; the file comes with the first frame.

        Args:
            path: ends in ``.mp4``; replaced.
            rate: frames per second, about; each frame has a time of its own.

        Raises:
            ImportError: PyAV is not installed.
            OSError: the file can't be written.
        """
        import av

        Path(path).parent.mkdir(parents=True, exist_ok=True)
        # Written in parts that play as they are; once complete they become an ordinary file.
        parts = "hybrid_fragmented+frag_every_frame"
        options = {"movflags": parts, "flush_packets": "1"}
        self._file = av.open(os.fspath(path), "w", format="mp4", options=options)
        self._stream = self._file.add_stream("libx264", rate=Fraction(rate).limit_denominator(1001))
        self._stream.options = {"crf": _QUALITY, "preset": "veryfast", "tune": "zerolatency"}
        self._stream.pix_fmt = "yuv420p"
        self._stream.gop_size = max(1, round(2 * rate))
        self._stream.codec_context.time_base = Fraction(1, _TICKS)
        self._last = -1

    def write(self, pixels: np.ndarray, seconds: float) -> None:
        """Adds a frame.

        Args:
            pixels: (H, W, 3) uint8, RGB, all of one size.
            seconds: when it is shown, after the frame before it.
        """
        import av

        height, width = pixels.shape[:2]
        # H.264 halves colors: sides are even.
        pixels = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
        if self._last < 0:
            self._stream.height, self._stream.width = pixels.shape[:2]
        self._last = frame.pts = max(round(seconds * _TICKS), self._last + 1)
        frame.time_base = Fraction(1, _TICKS)
        self._file.mux(self._stream.encode(frame))

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Completes the file, also after an error: what was written plays."""
        # PyAV creates the file with the first frame.
        if self._last >= 0:
            with self._file:
                self._file.mux(self._stream.encode(None))


def _put(frames: queue.Queue, item: Frame | Exception | None, stop: threading.Event) -> None:
    """Puts an item as soon as there is room, or gives up once nobody takes any more."""
    while not stop.is_set():
        try:
            frames.put(item, timeout=0.1)
        except queue.Full:
            continue
        return


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps OpenCV and FFmpeg from telling on stderr what an exception says in one line."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(level)
