"""tools/precompute_masks.py and tools/probe_masks.py."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

CONFIG = ("--config-file", "sam_mi_tiny")


@pytest.fixture(scope="module")
def photos(prepared_folder, tmp_path_factory):
    return prepared_folder(tmp_path_factory.mktemp("photos"), "photos", train=3, val=2)


def test_masks_are_written_once_and_trained_on(run_program, photos, tmp_path):
    masks = tmp_path / "masks"
    command = ("tools/precompute_masks.py", *CONFIG, "--input", photos / "images/train")
    command += ("--output", masks, "--opts", "MODEL.MASKS.GRID_SIDE", 3)
    done = run_program(*command)
    assert done.returncode == 0, done.stderr
    assert "3 of 3 files written" in done.stdout
    (masks / "1.json").unlink()
    kept = (masks / "0.json").stat().st_mtime_ns
    assert "1 of 3 files written" in run_program(*command).stdout
    assert (masks / "0.json").stat().st_mtime_ns == kept
    trained = run_program(
        "train_net.py", *CONFIG, "DATASETS.FOLDERS", f"('{photos}',)",
        "DATASETS.TRAIN", "('photos_train',)", "MODEL.MASKS.SOURCE", "file",
        "MODEL.MASKS.DIR", masks, "SOLVER.MAX_ITER", 2, "SOLVER.IMS_PER_BATCH", 2,
        "OUTPUT_DIR", tmp_path / "run",
    )  # fmt: skip
    assert trained.returncode == 0, trained.stderr
    metrics = [
        json.loads(line) for line in (tmp_path / "run/metrics.json").read_text().splitlines()
    ]
    assert metrics[-1]["masks_per_image"] > 0
    # And back: what was trained on files finds its masks by SAM.
    weights = torch.load(tmp_path / "run/model_final.pth", weights_only=True)["model"]
    assert not any(name.startswith("prompter") for name in weights)


def test_processes_share_the_images(run_program, photos, tmp_path, monkeypatch):
    # What torchrun tells each process.
    for name, value in (("WORLD_SIZE", "2"), ("MASTER_ADDR", "localhost"), ("MASTER_PORT", "1")):
        monkeypatch.setenv(name, value)
    for rank, number in (("0", 2), ("1", 1)):
        monkeypatch.setenv("RANK", rank)
        monkeypatch.setenv("LOCAL_RANK", rank)
        done = run_program(
            "tools/precompute_masks.py", *CONFIG, "--input", photos / "images/train",
            "--output", tmp_path / "masks", "--opts", "MODEL.MASKS.GRID_SIDE", 2,
        )  # fmt: skip
        assert f"{number} of 3 files written" in done.stdout, done.stderr
    assert len(list((tmp_path / "masks").iterdir())) == 3


def test_images_of_one_name_are_refused(run_program, tmp_path):
    for suffix in ("png", "jpg"):
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / f"a.{suffix}")
    done = run_program(
        "tools/precompute_masks.py", *CONFIG, "--input", tmp_path, "--output", tmp_path / "masks"
    )
    assert done.returncode != 0 and "would share" in done.stderr
    assert not (tmp_path / "masks").exists()


def test_points_are_compared(run_program, photos, tmp_path):
    output = tmp_path / "masks.json"
    done = run_program(
        "tools/probe_masks.py", *CONFIG, "--dataset", "photos_val", "--output", output,
        "--allow-untrained", "--opts", "DATASETS.FOLDERS", f"('{photos}',)",
        "MODEL.MASKS.GRID_SIDE", 4, "MODEL.MASKS.NUM_POINTS", 6,
        "MODEL.MASKS.POINTS_PER_BATCH", 6,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    points = json.loads(output.read_text())["points"]
    assert {name: row["points"] for name, row in points.items()} == {
        "prompter": 6, "random": 6, "uniform": 4, "dense grid": 16,
    }  # fmt: skip
    assert points["prompter"]["decoder calls"] == 1 and points["dense grid"]["decoder calls"] == 3
    assert "| dense grid" in done.stdout
    refused = run_program(
        "tools/probe_masks.py", "--config-file", "cat_seg_tiny", "--dataset", "photos_val",
        "--output", output,
    )  # fmt: skip
    assert refused.returncode != 0 and "has no point prompter" in refused.stderr


def test_masks_are_judged_against_regions(load_program):
    judge = load_program("tools/probe_masks.py").judge
    regions = torch.zeros(2, 8, 8, dtype=torch.bool)
    regions[0, :4], regions[1, 4:] = True, True
    halves = torch.stack([regions[0].clone(), regions[0].clone(), regions[1]])
    halves[0, :, 4:], halves[1, :, :4] = False, False
    found = judge(halves, regions)
    assert found == {
        "masks": 3, "recall 50": 0.5, "recall 75": 0.5, "masks per region": 1.5, "covered": 0.5,
    }  # fmt: skip
    assert judge(regions, regions)["recall 75"] == 1.0
    assert judge(halves[:0], regions)["masks"] == 0


@pytest.mark.slow
def test_two_processes_and_half_precision_train(start_program, photos, tmp_path):
    done = start_program(
        "train_net.py", *CONFIG, "--num-gpus", 2, "DATASETS.FOLDERS", f"('{photos}',)",
        "DATASETS.TRAIN", "('photos_train',)", "DATASETS.TEST", "('photos_val',)",
        "SOLVER.MAX_ITER", 2, "SOLVER.IMS_PER_BATCH", 2, "SOLVER.AMP.ENABLED", True,
        "SOLVER.AMP.DTYPE", "bfloat16", "TEST.DTYPE", "bfloat16", "OUTPUT_DIR", tmp_path,
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "inference/photos_val/results.json").read_text())
    assert results["num_images"] == 2
