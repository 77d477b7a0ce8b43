"""The program itself, in one process and in several."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from escnet_d2.engine import argument_parser

REPO = Path(__file__).resolve().parents[1]
SCRIPT = REPO / "train_net.py"
CLASSES = ["sky", "grass, lawn", "dog"]
NAME = "train_net_test"
# SGD, since AdamW's first steps turn differences of rounding into differences of the learning rate.
# Fully labelled images: a mean over labelled pixels would weigh mini-batches differently.
OPTIONS = [
    "DATASETS.TRAIN", f"('{NAME}_train',)",
    "DATASETS.TEST", f"('{NAME}_val',)",
    "MODEL.ESCNET.NUM_BLOCKS", "2",
    "MODEL.CLIP.RESOLUTION", "32",
    "INPUT.MIN_SIZE_TRAIN", "(32,)",
    "INPUT.CROP.SIZE", "(32, 32)",
    "INPUT.MIN_SIZE_TEST", "32",
    "SOLVER.OPTIMIZER", "SGD",
    "SOLVER.BASE_LR", "0.05",
    "SOLVER.WARMUP_ITERS", "0",
    "SOLVER.IMS_PER_BATCH", "4",
    "SOLVER.MAX_ITER", "2",
    "SOLVER.CHECKPOINT_PERIOD", "1",
    "SEED", "1",
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Five training and five test images, noise on blocks of color, for DATASETS.FOLDERS."""
    root = tmp_path_factory.mktemp("photos")
    generator = np.random.default_rng(0)
    splits = {}
    for split in ("train", "val"):
        roots = {kind: root / kind / split for kind in ("images", "labels")}
        for path in roots.values():
            path.mkdir(parents=True)
        for index in range(5):
            labels = generator.integers(0, 3, (2, 2)).repeat(18, 0).repeat(20, 1).astype(np.uint8)
            image = labels[..., None] * 80 + generator.integers(0, 60, (36, 40, 3))
            Image.fromarray(image.astype(np.uint8)).save(roots["images"] / f"{index}.png")
            Image.fromarray(labels).save(roots["labels"] / f"{index}.png")
        splits[split] = {
            "image_root": f"images/{split}", "sem_seg_root": f"labels/{split}", "num_images": 5,
        }  # fmt: skip
    content = {"name": NAME, "ignore_label": 255, "classes": CLASSES, "splits": splits}
    (root / "dataset.json").write_text(json.dumps(content))
    return root


def command(folder, output, *flags, opts=()):
    options = ["DATASETS.FOLDERS", f"('{folder}',)", "OUTPUT_DIR", str(output)]
    return ["--config-file", "escnet_tiny", *flags, *OPTIONS, *options, *map(str, opts)]


def run(arguments, *, launcher=(), timeout=300):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(
        [sys.executable, *launcher, str(SCRIPT), *arguments],
        env=environment, capture_output=True, text=True, timeout=timeout, check=False,
    )  # fmt: skip


def main(arguments):
    """Runs the script's main() here: the same in a fraction of the time."""
    spec = importlib.util.spec_from_file_location("train_net", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.main(argument_parser().parse_args(arguments))


def read_results(output):
    return json.loads((output / f"inference/{NAME}_val/results.json").read_text())


def read_model(output, name="model_final"):
    return torch.load(output / f"{name}.pth", weights_only=True)["model"]


@pytest.fixture(scope="module")
def trained(folder, tmp_path_factory):
    """A run of two iterations in one process."""
    output = tmp_path_factory.mktemp("trained")
    main(command(folder, output))
    return output


def test_a_run_leaves_its_files(trained):
    results = read_results(trained)
    assert results["num_images"] == 5
    assert results["mIoU_seen"] == results["mIoU"]
    assert [record["name"] for record in results["per_class"]] == CLASSES
    for name in ("config.yaml", "log.txt", "metrics.json", "model_0000000.pth", "model_final.pth"):
        assert (trained / name).is_file()
    assert (trained / "inference/summary.md").is_file()


def test_evaluation_of_a_checkpoint(trained, folder, tmp_path):
    weights = ["MODEL.WEIGHTS", trained / "model_final.pth"]
    main(command(folder, tmp_path, "--eval-only", opts=weights))
    assert read_results(tmp_path) == read_results(trained)
    assert not (tmp_path / "model_final.pth").exists()


def test_evaluation_without_weights_warns(folder, tmp_path):
    main(command(folder, tmp_path, "--eval-only"))
    assert "MODEL.WEIGHTS is empty" in (tmp_path / "log.txt").read_text()


def test_evaluation_of_the_last_checkpoint(trained, folder):
    before = read_results(trained)
    main(command(folder, trained, "--eval-only", "--resume"))
    assert read_results(trained) == before


def test_a_second_training_starts_only_when_told(folder, trained, tmp_path):
    output = tmp_path / "run"
    shutil.copytree(trained, output)
    (output / "model_0000777.pth").write_bytes((output / "model_0000000.pth").read_bytes())
    with pytest.raises(ValueError, match="holds checkpoints of another training"):
        main(command(folder, output))
    assert (output / "model_0000777.pth").exists()
    main(command(folder, output, "--overwrite"))
    assert not (output / "model_0000777.pth").exists()
    lines = [(path / "metrics.json").read_text().count("\n") for path in (trained, output)]
    assert lines[0] == lines[1]
    expected, again = read_model(trained), read_model(output)
    assert all(torch.equal(expected[name], again[name]) for name in expected)


def test_the_console_is_short_and_the_file_complete(folder, tmp_path, capsys):
    main(command(folder, tmp_path))
    console = capsys.readouterr().out
    assert len(console.splitlines()) < 25
    for text in ("Training ESCNet", "total_loss", "mIoU"):
        assert text in console
    written = (tmp_path / "log.txt").read_text()
    for text in ("Running with full config", "Environment info", "Model:", "clip norm: "):
        assert text in written
        assert text not in console
    assert "\x1b" not in console + written


@pytest.mark.slow
def test_resumed_in_a_new_process_equals_uninterrupted(trained, folder, tmp_path):
    (tmp_path / "model_0000000.pth").write_bytes((trained / "model_0000000.pth").read_bytes())
    (tmp_path / "last_checkpoint").write_text("model_0000000.pth")
    result = run(command(folder, tmp_path, "--resume", opts=["DATALOADER.NUM_WORKERS", 1]))
    assert result.returncode == 0, result.stderr
    assert "from iteration 1 to 2" in result.stdout
    expected, resumed = read_model(trained), read_model(tmp_path)
    assert all(torch.equal(expected[name], resumed[name]) for name in expected)
    assert read_results(tmp_path) == read_results(trained)


@pytest.mark.slow
def test_two_processes_that_accumulate_equal_one(trained, folder, tmp_path):
    # Twice two mini-batches of one image are the one process's batch of four.
    opts = ["SOLVER.IMS_PER_BATCH", 2, "SOLVER.GRAD_ACCUM_STEPS", 2]
    result = run(command(folder, tmp_path, "--num-gpus", "2", opts=opts))
    assert result.returncode == 0, result.stderr
    start = read_model(trained, "model_0000000")
    expected, distributed = read_model(trained), read_model(tmp_path)
    for name in expected:
        assert torch.allclose(expected[name], distributed[name], atol=2e-5), name
    moved = max((expected[name] - start[name]).abs().max() for name in expected)
    assert moved > 1e-3  # The tolerance would not hide an update.
    losses = [
        json.loads((output / "metrics.json").read_text().splitlines()[0])["total_loss"]
        for output in (trained, tmp_path)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    saved = torch.load(tmp_path / "model_final.pth", weights_only=True)
    assert len(saved["random_states"]) == 2


@pytest.mark.slow
def test_torchrun_evaluates_like_one_process(trained, folder, tmp_path):
    weights = ["MODEL.WEIGHTS", trained / "model_final.pth"]
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    arguments = command(folder, tmp_path, "--eval-only", opts=weights)
    result = run(arguments, launcher=launcher)
    assert result.returncode == 0, result.stderr
    assert "World size: 2" in (tmp_path / "log.txt").read_text()
    assert read_results(tmp_path) == read_results(trained)


@pytest.mark.slow
def test_a_failing_process_ends_all(folder, tmp_path):
    opts = ["MODEL.WEIGHTS", "nowhere.pth"]
    result = run(command(folder, tmp_path, "--eval-only", "--num-gpus", "2", opts=opts))
    assert result.returncode == 2
    assert "train_net.py: error: MODEL.WEIGHTS nowhere.pth is not a file" in result.stderr
    assert "Traceback" not in result.stderr
