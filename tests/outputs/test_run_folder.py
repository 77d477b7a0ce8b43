from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from escnet_d2.outputs import ImageFile, RunFolder
from escnet_d2.structures import Segmentation, Vocabulary

VOCABULARY = Vocabulary.from_classes(["sky", "dog"])


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "photos" / "a.b.jpg"
    path.parent.mkdir()
    Image.new("RGB", (4, 3)).save(path)
    return ImageFile(path, "sub/a.b")


def run_folder(tmp_path, *, vocabulary=VOCABULARY, weights="w", **options):
    return RunFolder(
        tmp_path / "out",
        vocabulary,
        description={"config": "c"},
        settings={"weights": weights, "config": {"TEST": {"WINDOW": [1, 2], "FAST": True}}},
        **options,
    )


def write(folder, image):
    labels = np.array([[0, 0, 0, 1]] * 3, np.int32)
    result = Segmentation(labels, np.full((3, 4), 0.25, np.float32), ("sky", "dog"))
    return folder.write(image, np.zeros((3, 4, 3), np.uint8), result)


def open_and_close(folder, **options):
    with folder.open(**options):
        pass


def files_in(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("kind", ["labels", "json", "overlay"])
def test_areas_come_from_what_was_written(tmp_path, image, kind):
    folder = run_folder(tmp_path, kinds=[kind])
    assert write(folder, image).tolist() == [9, 3]
    assert folder.areas(image).tolist() == ([0, 0] if kind == "overlay" else [9, 3])
    # Nothing but what is wanted.
    assert len(files_in(tmp_path / "out")) == 1


def test_an_image_is_done_while_its_outputs_are_there_and_not_older(tmp_path, image):
    folder = run_folder(tmp_path)
    with folder.open(resume=True):
        assert not folder.is_done(image)
        write(folder, image)
        assert folder.is_done(image)
        (tmp_path / "out/labels/sub/a.b.png").unlink()
        assert not folder.is_done(image)
        write(folder, image)
        output = (tmp_path / "out/labels/sub/a.b.png").stat().st_mtime_ns
        os.utime(image.path, ns=(output + 1, output + 1))
        assert not folder.is_done(image)
        os.utime(image.path, ns=(output - 10**9, output - 10**9))
        assert folder.is_done(image)
        image.path.unlink()
        assert not folder.is_done(image)
    with folder.open():
        assert not folder.is_done(image)


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"vocabulary": Vocabulary.from_classes(["sky", "cat"])}, "vocabulary.class_names"),
        ({"weights": "other"}, "weights"),
        ({"opacity": 0.9}, "opacity"),
        ({"side_by_side": True}, "side_by_side"),
    ],
)
@pytest.mark.parametrize("resume", [False, True])
def test_a_run_with_other_settings_is_refused_by_name(tmp_path, image, change, names, resume):
    with run_folder(tmp_path).open() as folder:
        write(folder, image)
    before = {name: (tmp_path / "out" / name).read_bytes() for name in files_in(tmp_path / "out")}
    with pytest.raises(FileExistsError, match=rf"settings \(.*{names}.*another --output.*--over"):
        open_and_close(run_folder(tmp_path, **change), resume=resume)
    after = {name: (tmp_path / "out" / name).read_bytes() for name in files_in(tmp_path / "out")}
    assert after == before
    # Tuples and a run of the same settings are not a difference.
    open_and_close(run_folder(tmp_path), resume=resume)


def test_a_run_without_outputs_ties_nobody_down(tmp_path):
    open_and_close(run_folder(tmp_path))
    (tmp_path / "out/labels").mkdir()
    open_and_close(run_folder(tmp_path, weights="other"), resume=True)
    assert '"weights": "other"' in (tmp_path / "out/settings.json").read_text()


def test_overwriting_deletes_what_the_other_run_wrote(tmp_path, image):
    with run_folder(tmp_path, kinds=["overlay", "labels"]).open() as folder:
        write(folder, image)
    own = tmp_path / "out/json/mine.json"
    own.parent.mkdir()
    own.write_text("{}")
    other = Vocabulary.from_classes(["hot\ndog", "猫"])
    with run_folder(tmp_path, vocabulary=other, kinds=["labels"]).open(overwrite=True):
        assert files_in(tmp_path / "out") == [
            ".lock",
            "classes.txt",
            "json/mine.json",
            "settings.json",
        ]
        assert (tmp_path / "out/classes.txt").read_text(encoding="utf-8") == "hot dog\n猫\n"
    # Nothing is deleted before what is in the way is found.
    with pytest.raises(FileExistsError, match="json would be overwritten"):
        open_and_close(run_folder(tmp_path), overwrite=True)
    assert own.read_text() == "{}"


@pytest.mark.parametrize("name", ["labels/train/1.png", "classes.txt", "summary.json"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_files_of_others_are_not_overwritten(tmp_path, name, overwrite):
    own = tmp_path / "out" / name
    own.parent.mkdir(parents=True)
    own.write_text("drawn by hand")
    with pytest.raises(FileExistsError, match=r"no settings\.json.*choose another"):
        open_and_close(run_folder(tmp_path), overwrite=overwrite)
    assert own.read_text() == "drawn by hand"
    assert not (tmp_path / "out/settings.json").exists()


def test_labels_that_no_run_wrote_are_safe_from_a_second_run_too(tmp_path):
    own = tmp_path / "out/labels/1.png"
    own.parent.mkdir(parents=True)
    own.write_text("drawn by hand")
    open_and_close(run_folder(tmp_path, kinds=["overlay", "json"]))
    with pytest.raises(FileExistsError, match="labels would be overwritten"):
        open_and_close(run_folder(tmp_path, kinds=["labels"]))
    assert own.read_text() == "drawn by hand"


def test_settings_of_something_else_are_refused(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/settings.json").write_text('["an editor\'s"]')
    with pytest.raises(FileExistsError, match=r"settings\.json is not the settings of a run"):
        open_and_close(run_folder(tmp_path), overwrite=True)


def test_one_run_at_a_time(tmp_path):
    # In another process, since a lock holds for a whole process on some systems.
    script = (
        "import portalocker, sys\n"
        "portalocker.Lock(sys.argv[1], 'a', timeout=0, fail_when_locked=True).acquire()\n"
    )
    attempt = [sys.executable, "-c", script, str(tmp_path / "out/.lock")]
    with run_folder(tmp_path).open():
        assert subprocess.run(attempt, capture_output=True).returncode == 1
        with pytest.raises(BlockingIOError, match="Another run is writing to .*out"):
            open_and_close(run_folder(tmp_path), resume=True)
    assert subprocess.run(attempt, capture_output=True).returncode == 0


def test_what_a_killed_run_was_writing_is_removed(tmp_path):
    open_and_close(run_folder(tmp_path))
    rest = [tmp_path / "out" / name for name in ("labels/sub", "overlays", ".")]
    for folder in rest:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f".{'0a' * 16}.tmp").write_text("half")
    (tmp_path / "out/labels/.mine.tmp").write_text("kept")
    with run_folder(tmp_path).open(resume=True):
        assert [path.name for path in (tmp_path / "out").rglob("*.tmp")] == [".mine.tmp"]
