"""The program itself, in one process and in several."""

import json
import shutil

import pytest
import torch

NAME = "train_net_test"
# SGD, since AdamW's first steps turn differences of rounding into differences of the learning rate.
# Fully labeled images: a mean over labeled pixels would weigh mini-batches differently.
OPTIONS = [
    "SOLVER.OPTIMIZER", "SGD",
    "SOLVER.BASE_LR", 0.05,
    "SOLVER.WARMUP_ITERS", 0,
    "SOLVER.IMS_PER_BATCH", 4,
    "SOLVER.MAX_ITER", 2,
    "SOLVER.CHECKPOINT_PERIOD", 1,
    "SEED", 1,
]  # fmt: skip


@pytest.fixture(scope="module")
def train_net(prepared_folder, tmp_path_factory, run_program):
    """Runs the program, by default in this process, with a usage error's message or a success."""
    folder = prepared_folder(tmp_path_factory.mktemp("photos"), NAME, train=5, val=5)

    def run(output, *flags, opts=(), program=run_program, error="", **options):
        arguments = ["--config-file", folder / "tiny.yaml", *flags, *OPTIONS, *opts]
        done = program("train_net.py", *arguments, "OUTPUT_DIR", output, **options)
        assert done.returncode == (2 if error else 0), done.stderr
        assert error in done.stderr
        return done

    return run


def read_results(output):
    return json.loads((output / f"inference/{NAME}_val/results.json").read_text())


def read_model(output, name="model_final"):
    return torch.load(output / f"{name}.pth", weights_only=True)["model"]


def assert_same_model(*outputs):
    first, second = map(read_model, outputs)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture(scope="module")
def trained(train_net, tmp_path_factory):
    """A run of two iterations in one process."""
    output = tmp_path_factory.mktemp("trained")
    train_net(output)
    return output


def test_a_run_leaves_its_files(trained):
    results = read_results(trained)
    assert results["num_images"] == 5
    assert results["mIoU_seen"] == results["mIoU"]
    assert [record["name"] for record in results["per_class"]] == ["sky", "grass, lawn", "dog"]
    for name in ("config.yaml", "log.txt", "metrics.json", "model_0000000.pth", "model_final.pth"):
        assert (trained / name).is_file()
    assert (trained / "inference/summary.md").is_file()


def test_evaluation_of_a_checkpoint(trained, train_net, tmp_path):
    before = read_results(trained)
    train_net(tmp_path, "--eval-only", opts=["MODEL.WEIGHTS", trained / "model_final.pth"])
    assert read_results(tmp_path) == before
    assert not (tmp_path / "model_final.pth").exists()
    # The last one of a run.
    train_net(trained, "--eval-only", "--resume")
    assert read_results(trained) == before


def test_evaluation_without_weights_warns(train_net, tmp_path):
    train_net(tmp_path, "--eval-only")
    assert "MODEL.WEIGHTS is empty" in (tmp_path / "log.txt").read_text()


def test_a_second_training_starts_only_when_told(train_net, trained, tmp_path):
    output = tmp_path / "run"
    shutil.copytree(trained, output)
    (output / "model_0000777.pth").write_bytes((output / "model_0000000.pth").read_bytes())
    train_net(output, error="holds checkpoints of another training")
    assert (output / "model_0000777.pth").exists()
    train_net(output, "--overwrite")
    assert not (output / "model_0000777.pth").exists()
    lines = [(path / "metrics.json").read_text().count("\n") for path in (trained, output)]
    assert lines[0] == lines[1]
    assert_same_model(trained, output)


def test_the_console_is_short_and_the_file_complete(train_net, tmp_path):
    console = train_net(tmp_path).stdout
    assert len(console.splitlines()) < 25
    for text in ("Training ESCNet", "total_loss", "mIoU"):
        assert text in console
    written = (tmp_path / "log.txt").read_text()
    for text in ("Running with full config", "Environment info", "Model:", "clip norm: "):
        assert text in written
        assert text not in console
    assert "\x1b" not in console + written


@pytest.mark.slow
def test_resumed_in_a_new_process_equals_uninterrupted(trained, train_net, start_program, tmp_path):
    (tmp_path / "model_0000000.pth").write_bytes((trained / "model_0000000.pth").read_bytes())
    (tmp_path / "last_checkpoint").write_text("model_0000000.pth")
    opts = ["DATALOADER.NUM_WORKERS", 1]
    done = train_net(tmp_path, "--resume", opts=opts, program=start_program)
    assert "from iteration 1 to 2" in done.stdout
    assert_same_model(trained, tmp_path)
    assert read_results(tmp_path) == read_results(trained)


@pytest.mark.slow
def test_two_processes_that_accumulate_equal_one(trained, train_net, start_program, tmp_path):
    # Twice two mini-batches of one image are the one process's batch of four.
    opts = ["SOLVER.IMS_PER_BATCH", 2, "SOLVER.GRAD_ACCUM_STEPS", 2]
    train_net(tmp_path, "--num-gpus", 2, opts=opts, program=start_program)
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
def test_torchrun_evaluates_like_one_process(trained, train_net, start_program, tmp_path):
    weights = ["MODEL.WEIGHTS", trained / "model_final.pth"]
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    train_net(tmp_path, "--eval-only", opts=weights, program=start_program, launcher=launcher)
    assert "World size: 2" in (tmp_path / "log.txt").read_text()
    assert read_results(tmp_path) == read_results(trained)
