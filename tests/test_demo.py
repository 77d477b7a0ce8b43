"""The demo as users run it, on the real model (escnet_tiny, random weights)."""

from __future__ import annotations

import functools
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

PROGRAM = "demo/demo.py"
VOCABULARY = "couch|sofa, dog, 猫"
# Runs the program that follows and prints the peak of its own memory in kB at its end. What a
# parent learns of its children on Linux includes its own memory, which they begin with.
WITH_PEAK = """
import pathlib, re, runpy, sys
sys.argv.pop(0)
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    print(*re.findall(r"VmHWM:.*", pathlib.Path("/proc/self/status").read_text()))
"""


@pytest.fixture(scope="module")
def demo(run_program):
    """Runs the demo in this process."""
    return functools.partial(run_program, PROGRAM, "--allow-untrained")


def files_in(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.*"))


def start(folder, number, *arguments, until):
    """Starts the demo on noise in ``folder`` and returns its process once a file is there."""
    (folder / "photos").mkdir()
    for index in range(number):
        photo(60, 60, index).save(folder / "photos" / f"{index}.png")
    program = [sys.executable, str(Path(__file__).parents[1] / PROGRAM), "--allow-untrained"]
    process = subprocess.Popen(
        [*program, "--input", "photos", "--output", "out", *arguments],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
        # A test run that was started in the background ignores the signal, and so would its child.
        preexec_fn=functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 120
    while not (folder / "out" / until).exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    return process


def stamps(folder):
    return {
        name: (folder / name).stat().st_mtime_ns
        for name in files_in(folder)
        if name.split("/")[0] in ("overlays", "labels", "json")
    }


def photo(height, width, seed=0):
    """Smooth colors, so that the file is small and truncating it loses pixels."""
    noise = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.BICUBIC)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory, demo):
    """Every kind of picture and non-picture, run once without options."""
    folder = tmp_path_factory.mktemp("mixed")
    photos = folder / "photos"
    photos.mkdir()
    photo(60, 80).save(photos / "rgb.jpg")
    photo(60, 80, seed=1).save(photos / "café 猫.jpg")
    photo(50, 40).convert("L").save(photos / "gray.png")
    Image.fromarray(np.arange(30 * 20, dtype=np.uint16).reshape(30, 20) * 100).save(
        photos / "deep.png"
    )
    rgba = photo(40, 40).convert("RGBA")
    rgba.putalpha(100)
    rgba.save(photos / "rgba.png")
    Image.new("RGB", (1, 1), (10, 200, 30)).save(photos / "pixel.bmp")
    photo(300, 300).save(photos / "cut.jpg")
    (photos / "cut.jpg").write_bytes((photos / "cut.jpg").read_bytes()[:-1500])
    (photos / "text.jpg").write_text("no picture")
    (photos / "notes.txt").write_text("not even by name")
    arguments = ("--input", "photos", "--output", "out", "--vocabulary", VOCABULARY)
    return folder, demo(*arguments, cwd=folder)


def read_summary(folder):
    return json.loads((folder / "summary.json").read_text(encoding="utf-8"))


def test_good_images_are_done_and_bad_ones_reported(mixed):
    folder, done = mixed
    assert done.returncode == 1, done.stderr
    good = ["café 猫", "deep", "gray", "pixel", "rgb", "rgba"]
    assert files_in(folder / "out" / "labels") == [f"{name}.png" for name in good]
    assert files_in(folder / "out" / "json") == [f"{name}.json" for name in good]
    assert len(files_in(folder / "out" / "overlays")) == 6
    summary = read_summary(folder / "out")
    assert summary["state"] == "complete"
    bad = ["cut.jpg", "text.jpg"]
    assert [Path(failure["file"]).name for failure in summary["failures"]] == bad
    for name in bad:
        assert re.search(rf"Failed: .*{re.escape(name)}", done.stderr)
    expected = {"found": 8, "done": 6, "skipped": 0, "failed": 2}
    assert summary["counts"] == {**expected, "not_reached": 0, "ignored_files": 1}
    classes = (folder / "out" / "classes.txt").read_text(encoding="utf-8")
    assert classes.splitlines() == ["couch", "dog", "猫"]


def test_label_png_json_and_overlay_agree(mixed):
    folder, _ = mixed
    totals = np.zeros(3, int)
    for path in sorted((folder / "out" / "json").iterdir()):
        record = json.loads(path.read_text(encoding="utf-8"))
        with Image.open(folder / "out" / "labels" / f"{path.stem}.png") as image:
            labels = np.asarray(image)
        with Image.open(folder / record["file"]) as image:
            assert (record["width"], record["height"]) == image.size
        assert labels.shape == (record["height"], record["width"])
        assert record["class_names"] == ["couch", "dog", "猫"]
        decoded = np.full(labels.shape, 255)
        for found in record["classes"]:
            mask = coco_mask.decode(found["rle"]).astype(bool)
            decoded[mask] = found["index"]
            assert found["area"] == mask.sum()
            assert 0 <= found["score"] <= 1
            totals[found["index"]] += found["area"]
        np.testing.assert_array_equal(decoded, labels)
        assert sum(found["area"] for found in record["classes"]) == labels.size
    assert [entry["area"] for entry in read_summary(folder / "out")["classes"]] == totals.tolist()


def test_untrained_weights_are_called_so_everywhere(mixed):
    folder, done = mixed
    record = json.loads((folder / "out" / "json" / "rgb.json").read_text(encoding="utf-8"))
    for weights in (record["weights"], read_summary(folder / "out")["weights"]):
        assert weights["trained"] is False
        assert weights["description"].startswith("UNTRAINED")
    assert "UNTRAINED" in done.stderr
    with Image.open(folder / "out" / "labels" / "rgb.png") as image:
        assert image.info["Comment"] == "UNTRAINED"


def test_resume(mixed, demo):
    folder, _ = mixed
    first = read_summary(folder / "out")
    before = stamps(folder / "out")
    (folder / "out" / "labels" / "rgb.png").unlink()
    arguments = ("--input", "photos", "--output", "out", "--resume", "--vocabulary")
    done = demo(*arguments, VOCABULARY, cwd=folder)
    # The broken images are tried again.
    assert done.returncode == 1, done.stderr
    assert "5 skipped" in done.stderr
    after = stamps(folder / "out")
    redone = {name for name in before if after[name] != before[name]}
    assert redone == {"overlays/rgb.jpg", "labels/rgb.png", "json/rgb.json"}
    # Untrained weights are the same in every process, so the totals are too.
    assert read_summary(folder / "out")["classes"] == first["classes"]

    done = demo(*arguments, "dog, cat", cwd=folder)
    assert done.returncode == 2
    assert "other settings (vocabulary.class_names" in done.stderr.splitlines()[-1]
    assert stamps(folder / "out") == after
    assert read_summary(folder / "out")["vocabulary"]["class_names"] == ["couch", "dog", "猫"]


def test_folders_with_equal_names_a_glob_and_options(tmp_path, demo):
    for name in ("a/1.png", "b/1.png", "b/sub/2.jpg", "b/10.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        photo(20, 30).save(tmp_path / name)
    (tmp_path / "list.txt").write_text("# mine\ncouch, sofa\ndog\n")
    done = demo(
        *("--input", "a", "b/**/*.*", "--output", "b/out", "--vocabulary", "list.txt"),
        *("--batch-size", "3", "--save", "labels,json", "--synonyms", "max"),
        *("--background-threshold", "1.0", "--opts", "INPUT.MIN_SIZE_TEST", "64"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    out = tmp_path / "b" / "out"
    assert files_in(out / "labels") == ["a/1.png", "b/1.png", "b/10.png", "b/sub/2.png"]
    assert not (out / "overlays").exists()
    summary = read_summary(out)
    assert summary["vocabulary"]["entries"] == [["couch"], ["sofa"], ["dog"]]
    assert [entry["name"] for entry in summary["classes"]] == ["couch", "dog", "background"]
    assert summary["opts"][-2:] == ["INPUT.MIN_SIZE_TEST", "64"]
    # Scores below 1 are all below the threshold.
    assert summary["classes"][2]["area_fraction"] > 0.99
    # A second run does not take its outputs for inputs.
    again = demo(
        *("--input", "b", "--recursive", "--output", "b/out", "--vocabulary", "dog"),
        *("--save", "labels", "--overwrite"),
        cwd=tmp_path,
    )
    assert again.returncode == 0, again.stderr
    assert read_summary(out)["counts"]["found"] == 3


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_huge_image_needs_little_memory(tmp_path, start_program):
    gradient = np.linspace(0, 255, 4500).astype(np.uint8)
    Image.fromarray(np.broadcast_to(gradient, (4000, 4500)).copy()).save(tmp_path / "huge.png")
    words = ",".join(f"thing {number}" for number in range(20))
    arguments = ("--input", "huge.png", "--output", "out", "--vocabulary", words)
    launcher = ("-c", WITH_PEAK)
    done = start_program(PROGRAM, "--allow-untrained", *arguments, launcher=launcher, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "out" / "labels" / "huge.png") as image:
        assert image.size == (4500, 4000)
    peak = int(re.search(r"VmHWM:\s+(\d+) kB", done.stdout).group(1))
    # 1.6 GB of torch, the model, image, labels and the scores of some classes at full size. Those
    # of all classes would be another gigabyte.
    assert peak < 2.1e6


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_stopped_run_goes_on_without_redoing_or_losing_images(tmp_path, demo, number):
    words = ("--vocabulary", "dog, sky", "--batch-size", "1")
    process = start(tmp_path, 60, *words, until="overlays/5.png")
    process.send_signal(number)
    _, errors = process.communicate(timeout=120)
    out = tmp_path / "out"
    whole = {
        name: stamp
        for name, stamp in stamps(out).items()
        if (out / "overlays" / f"{Path(name).stem}.png").exists()
    }
    assert 0 < len(whole) < 3 * 60
    if number == signal.SIGINT:
        assert process.returncode == 130, errors
        assert "Traceback" not in errors
        summary = read_summary(out)
        assert summary["state"] == "interrupted"
        assert summary["counts"]["done"] == len(files_in(out / "json")) == len(whole) / 3
        assert not list(out.rglob("*.tmp"))
    (out / "labels" / f".{'0' * 32}.tmp").write_text("half of a label map")
    done = demo("--input", "photos", "--output", "out", *words, "--resume", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    after = stamps(out)
    assert len(after) == 3 * 60
    assert {name: after[name] for name in whole} == whole
    assert read_summary(out)["counts"]["skipped"] == len(whole) / 3
    fresh = demo("--input", "photos", "--output", "fresh", *words, cwd=tmp_path)
    assert fresh.returncode == 0, fresh.stderr
    assert read_summary(out)["classes"] == read_summary(tmp_path / "fresh")["classes"]


@pytest.mark.parametrize("settings", [False, True])
def test_a_vocabulary_is_not_overwritten(tmp_path, demo, settings):
    own = tmp_path / "out" / "classes.txt"
    own.parent.mkdir()
    own.write_text("couch, sofa  # and more\ndog\n")
    if settings:
        own.with_name("settings.json").touch()
    photo(8, 8).save(tmp_path / "a.png")
    arguments = ("--input", "a.png", "--output", "out", "--vocabulary", "out/../out/classes.txt")
    done = demo(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert "is what this run would overwrite" in done.stderr
    assert own.read_text().startswith("couch, sofa  # and")
