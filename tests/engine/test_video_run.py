"""Videos through the predictor: streams, smoothing, and files of runs that end early."""

import numpy as np
import pytest
import torch
from PIL import Image

import escnet_d2
from escnet_d2.engine.video_run import segment_video
from escnet_d2.io import VideoReader, VideoWriter
from escnet_d2.outputs import SegmentedFrame

pytest.importorskip("av", reason="the extra `video` is not installed")
SMALL = ("MODEL.CLIP.RESOLUTION", 64, "INPUT.MIN_SIZE_TEST", 64, "MODEL.ESCNET.NUM_BLOCKS", 1)


@pytest.fixture(scope="module")
def predictor():
    torch.manual_seed(0)
    return escnet_d2.OpenVocabPredictor("escnet_tiny", vocabulary="sky, grass, dog", opts=SMALL)


@pytest.fixture
def clip(tmp_path):
    rng = np.random.default_rng(0)
    with VideoWriter(tmp_path / "clip.mp4", rate=10) as writer:
        for number in range(6):
            blocks = rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)
            writer.write(blocks.repeat(16, 0).repeat(16, 1), number / 10)
    return tmp_path / "clip.mp4"


def test_a_stream_is_what_single_frames_give(predictor, clip):
    results = list(predictor.stream(clip, every=2))
    assert [result.number for result in results] == [0, 2, 4]
    for result, frame in zip(results, VideoReader(clip, every=2)):
        assert np.array_equal(result.image, frame.pixels)
        assert result.seconds == frame.seconds
        single = predictor(frame.pixels)
        assert np.array_equal(result.labels, single.labels)
        assert np.allclose(result.scores, single.scores, atol=1e-6)


def test_smoothing_averages_the_scores_of_all_classes(predictor, clip, monkeypatch):
    smooth = list(predictor.stream(clip, smoothing=0.25))
    monkeypatch.setattr(predictor.model, "label_map_only", False)
    mean = None
    for result in smooth:
        inputs = predictor.model_input(
            result.image, predictor.resolve_vocabulary("sky, grass, dog")
        )
        with torch.no_grad():
            scores = predictor.model([inputs])[0]["sem_seg"].numpy()
        mean = scores if mean is None else 0.25 * mean + 0.75 * scores
        assert np.allclose(result.scores, mean.max(axis=0), atol=1e-5)
    assert not np.allclose(smooth[-1].scores, scores.max(axis=0), atol=1e-5)
    with pytest.raises(ValueError, match="below 1, got 1"):
        next(predictor.stream(clip, smoothing=1))


class Stops:
    """A predictor whose video ends after three frames."""

    class_names = ("sky", "grass")

    def __init__(self, error):
        self.error = error

    def stream(self, reader, *, smoothing):
        for frame in list(reader)[:3]:
            labels = np.full(reader.size, frame.number % 2, np.int32)
            scores = np.full(reader.size, 0.4, np.float32)
            yield SegmentedFrame(labels, scores, self.class_names, frame.pixels, *frame[:2])
        raise self.error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError("breaks off at frame 3")])
def test_what_was_done_of_a_video_plays(error, clip, tmp_path):
    report = segment_video(VideoReader(clip), Stops(error), tmp_path / "out.mp4", progress=False)
    assert report.num_frames == 3
    assert report.is_interrupted == isinstance(error, KeyboardInterrupt)
    assert report.error is (None if report.is_interrupted else error)
    # Overlays of small pictures are magnified.
    frames = [frame.pixels for frame in VideoReader(tmp_path / "out.mp4")]
    assert [frame.shape for frame in frames] == [(448, 560, 3)] * 3
    assert list(tmp_path.glob(".*")) == []


def test_only_labels_of_an_earlier_video_are_replaced(clip, tmp_path):
    labels = tmp_path / "labels"
    labels.mkdir()
    own = ("2024-05-01 beach.png", "12.png", "notes.txt")
    for name in (*own, "000007.png"):
        (labels / name).touch()

    def segment(output):
        stops = Stops(KeyboardInterrupt())
        segment_video(VideoReader(clip), stops, output, labels=labels, progress=False)
        return {path.name for path in labels.iterdir()} - {*own}

    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        segment(tmp_path / "file/out.mp4")
    written = {f"{number:06}.png" for number in range(3)} | {"classes.txt"}
    assert (labels / "000007.png").exists()
    # No class list says that a video has left it.
    assert segment(tmp_path / "out.mp4") == written | {"000007.png"}
    assert segment(tmp_path / "again.mp4") == written


def test_no_file_is_left_of_no_frames(clip, tmp_path):
    stops = Stops(KeyboardInterrupt())
    stops.stream = lambda reader, smoothing: (_ for _ in ()).throw(KeyboardInterrupt)
    segment_video(VideoReader(clip), stops, tmp_path / "out.mp4", progress=False)
    assert not (tmp_path / "out.mp4").exists()


def test_the_command(clip, tmp_path, run_program):
    arguments = [
        *("escnet-d2", "video", "--input", clip, "--output", tmp_path / "out.mp4"),
        *("--weights", "escnet_tiny_shapes", "--vocabulary", "grass, plain red circle"),
    ]
    done = run_program(*arguments, "--labels", tmp_path / "labels", "--confidence", "0.3")
    assert done.returncode == 0, done.stderr
    assert "6 frames in " in done.stderr
    predictor = escnet_d2.OpenVocabPredictor(weights="escnet_tiny_shapes")
    pictures = list(VideoReader(tmp_path / "out.mp4"))
    assert len(pictures) == len(list((tmp_path / "labels").glob("*.png"))) == 6
    result = predictor(next(iter(VideoReader(clip))).pixels, "grass, plain red circle")
    result = result.confident(0.3)
    with Image.open(tmp_path / "labels/000000.png") as image:
        assert np.array_equal(np.asarray(image), np.where(result.labels < 0, 255, result.labels))
    overlay = np.asarray(result.overlay(with_legend=False)).astype(int)
    # What is lost in compression.
    assert np.abs(pictures[0].pixels - overlay).mean() < 6

    done = run_program(*arguments)
    assert done.returncode == 2
    assert "out.mp4 exists: choose another name, or --overwrite." in done.stderr.splitlines()[-1]
    for wrong, message in (
        (["--input", tmp_path / "labels"], "There is no video file"),
        (["--smoothing", "1"], "--smoothing must be"),
        (["--output", "out.avi"], "must end in .mp4"),
        (["--output", clip], "is the input"),
    ):
        done = run_program(*arguments, "--overwrite", *wrong)
        assert done.returncode == 2
        assert message in done.stderr.splitlines()[-1]
