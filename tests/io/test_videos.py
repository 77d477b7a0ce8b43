"""Videos, written and read back; what breaks off, is no video, or does not wait."""

import shutil
import time

import cv2
import numpy as np
import pytest

from escnet_d2.io import VideoReader, VideoWriter

av = pytest.importorskip("av", reason="the extra `video` is not installed")
RATE, SIZE = 20, (51, 64)


def gray(number):
    return np.full((*SIZE, 3), 4 * number, np.uint8)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """60 frames that brighten, the last two for a second; beside it the file before its end."""
    path = tmp_path_factory.mktemp("videos") / "clip.mp4"
    with VideoWriter(path, rate=RATE) as writer:
        for number in range(60):
            # Noise, so that there are bytes to damage.
            noise = np.random.default_rng(number).integers(0, 9, (*SIZE, 3), np.uint8)
            writer.write(gray(number) + noise, number / RATE if number < 58 else number - 55)
        shutil.copy(path, path.with_name("killed.mp4"))
    return path


def numbers(frames):
    """Checks that frames are what their numbers say."""
    frames = list(frames)
    for frame in frames:
        assert abs(frame.pixels.mean() - 4 * frame.number - 4) < 3
    return [frame.number for frame in frames]


def test_frames_come_back_with_their_times(clip):
    reader = VideoReader(clip)
    # H.264 has no odd sides.
    assert (reader.num_frames, reader.size, reader.is_live) == (60, (52, 64), False)
    frames = list(reader)
    assert numbers(frames) == [*range(60)]
    seconds = [frame.seconds for frame in frames]
    assert np.allclose(seconds[:58], np.arange(58) / RATE, atol=0.01)
    assert np.allclose(seconds[58:], [3, 4], atol=0.01)
    assert numbers(VideoReader(str(clip), every=25)) == [0, 25, 50]
    with pytest.raises(ValueError, match="got 0"):
        VideoReader(clip, every=0)


def test_what_a_killed_program_has_written_plays(clip):
    found = numbers(VideoReader(clip.with_name("killed.mp4")))
    assert found == [*range(len(found))]
    assert len(found) >= 55


def test_a_damaged_video_gives_what_is_whole_and_names_the_frame(clip, tmp_path):
    content = bytearray(clip.read_bytes())
    half = len(content) // 2
    content[half : half + 400] = bytes(400)
    (tmp_path / "damaged.mp4").write_bytes(content)
    found = []
    with pytest.raises(OSError, match=r"damaged.mp4 breaks off at frame (\d+) of 60") as error:
        found.extend(VideoReader(tmp_path / "damaged.mp4"))
    assert f"frame {len(found)} of" in str(error.value)
    assert len(found) > 10


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        ("missing.mp4", FileNotFoundError, "no video file"),
        ("text.mp4", ValueError, "text.mp4 is not a video"),
        ("empty.mp4", ValueError, "empty.mp4 has no frames"),
        (99, OSError, "There is no camera 99"),
        ("99", OSError, "There is no camera 99"),
        ("http://127.0.0.1:9/live", OSError, "The stream .* can't be opened"),
    ],
)
def test_sources_that_are_no_videos(source, error, message, tmp_path, capfd):
    (tmp_path / "text.mp4").write_text("no video")
    with av.open(str(tmp_path / "empty.mp4"), "w", options={"movflags": "empty_moov"}) as file:
        file.add_stream("libx264", rate=RATE)
        file.start_encoding()
    is_file = isinstance(source, str) and source.endswith(".mp4")
    with pytest.raises(error, match=message):
        VideoReader(tmp_path / source if is_file else source)
    assert capfd.readouterr().err == ""


class Camera:
    """As cv2.VideoCapture: 50 frames, one in two milliseconds."""

    def __init__(self, source, backend):
        self.number = -1

    def isOpened(self):  # noqa: N802 - OpenCV's name
        return True

    def get(self, key):
        return 0.0

    def grab(self):
        time.sleep(0.002)
        self.number += 1
        return self.number < 50

    def retrieve(self):
        return True, gray(abs(self.number))

    def read(self):
        self.grab()
        return self.retrieve()

    def release(self):
        pass


def test_a_camera_does_not_wait(monkeypatch):
    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    reader = VideoReader(0)
    assert (reader.is_live, reader.num_frames) == (True, None)
    found = []
    with pytest.raises(OSError, match="camera 0 broke off at frame 50"):
        for frame in reader:
            found.append(frame.number)
            time.sleep(0.03)
    assert found[-1] >= 48
    assert len(found) < 15


def test_a_reader_that_is_left_stops_decoding(monkeypatch):
    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    monkeypatch.setattr(Camera, "grab", lambda camera: (time.sleep(0.002), True)[1])
    released = []
    monkeypatch.setattr(Camera, "release", lambda camera: released.append(camera))
    next(frames := iter(VideoReader(0)))
    frames.close()
    deadline = time.monotonic() + 5
    while not released and time.monotonic() < deadline:
        time.sleep(0.01)
    assert released
