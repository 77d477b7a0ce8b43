"""Processes that share a run of ``escnet-d2 segment``, one of which is killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

REPO = Path(__file__).resolve().parents[1]
NUMBER = 40
ARGUMENTS = ("--allow-untrained", "--vocabulary", "dog, sky", "--save", "labels,json")
SMALL = ("--opts", "MODEL.CLIP.RESOLUTION", "32", "INPUT.MIN_SIZE_TEST", "32")
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


def write_photos(folder, size=(20, 30, 3)):
    """Writes photos of noise and returns their names."""
    (folder / "photos").mkdir()
    generator = np.random.default_rng(0)
    names = [f"photos/{index}.png" for index in range(NUMBER)]
    for name in names:
        pixels = generator.integers(0, 256, size, dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
    return names


def start(folder, index, count, *flags):
    """Starts a task of a SLURM array."""
    names = {"ID": 5 + 2 * index, "MIN": 5, "STEP": 2, "COUNT": count}
    array = {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in names.items()}
    command = [sys.executable, "-m", "escnet_d2", "segment", *ARGUMENTS]
    return subprocess.Popen(
        [*command, "--input", "@list.txt", "--output", "shared", *flags, *SMALL],
        cwd=folder,
        env={**os.environ, **array, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPO)},
        stderr=subprocess.PIPE,
        text=True,
    )


def results(folder):
    """Contents by name of all that an image leaves."""
    files = [path for kind in ("labels", "json") for path in (folder / kind).rglob("*.*")]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def summary(folder):
    content = json.loads((folder / "summary.json").read_text())
    return content.pop("seconds"), content


@pytest.mark.slow
def test_a_shared_run_with_a_killed_process_becomes_that_of_one(
    tmp_path, run_program, start_program
):
    names = write_photos(tmp_path)
    # One that is not there costs its own result only.
    (tmp_path / "list.txt").write_text("\n".join([*names[:7], "photos/gone.png", *names[7:]]))
    alone = ("--input", "@list.txt", "--output", "alone", *SMALL)
    assert run_program("escnet-d2", "segment", *ARGUMENTS, *alone, cwd=tmp_path).returncode == 1

    tasks = [start(tmp_path, index, 2) for index in range(2)]
    while not (tmp_path / "shared/json/photos/0.png.json").exists() and tasks[0].poll() is None:
        time.sleep(0.01)
    tasks[0].kill()
    errors = [task.communicate()[1] for task in tasks]
    # The one with the missing image is whole, the other one not.
    assert tasks[1].returncode == 1, errors[1]
    assert tasks[0].returncode == -9
    before = results(tmp_path / "shared")
    assert NUMBER < len(before) < 2 * NUMBER
    _, content = summary(tmp_path / "shared")
    assert content["state"] == "running"

    # What is missing is done by torchrun.
    flags = ("--input", "@list.txt", "--output", "shared", "--resume", *SMALL)
    done = start_program(
        "escnet-d2", "segment", *ARGUMENTS, *flags, launcher=TORCHRUN, cwd=tmp_path
    )
    assert results(tmp_path / "shared") == results(tmp_path / "alone"), done.stderr
    _, content = summary(tmp_path / "shared")
    _, expected = summary(tmp_path / "alone")
    counts = content.pop("counts")
    assert counts["done"] + counts["skipped"] == expected.pop("counts")["done"] == NUMBER
    assert counts["skipped"] >= len(before) // 2 - 1
    assert content == expected


@pytest.mark.slow
def test_a_process_with_failures_stops_no_other_one_of_torchrun(tmp_path, start_program):
    # All of the second process's images are missing: it is done long before the first one.
    names = write_photos(tmp_path, size=(1200, 1600, 3))
    lines = [line for name in names for line in (name, f"{name}.gone")]
    (tmp_path / "list.txt").write_text("\n".join(lines))
    flags = ("--input", "@list.txt", "--output", "shared", *SMALL)
    done = start_program(
        "escnet-d2", "segment", *ARGUMENTS, *flags, launcher=TORCHRUN, cwd=tmp_path
    )
    assert done.returncode == 1
    _, content = summary(tmp_path / "shared")
    assert content["state"] == "complete", done.stderr
    assert (content["counts"]["done"], content["counts"]["failed"]) == (NUMBER, NUMBER)


def test_an_overwriting_part_and_a_part_that_runs_twice_are_refused(tmp_path):
    from escnet_d2.outputs import RunFolder
    from escnet_d2.structures import Vocabulary

    def part(index, count):
        vocabulary = Vocabulary.from_classes(["cat"])
        return RunFolder(tmp_path, vocabulary, description={}, settings={}, part=(index, count))

    with pytest.raises(ValueError, match="--overwrite is for a single process"):
        part(0, 2).open(overwrite=True).__enter__()
    with part(0, 2).open(), part(1, 2).open():
        with pytest.raises(BlockingIOError, match="part 1 of 2"):
            part(1, 2).open().__enter__()
        with pytest.raises(BlockingIOError, match="writing to"):
            part(0, 1).open().__enter__()
