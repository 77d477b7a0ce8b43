"""What a training will take: memory that is kept, the forecast, and the command."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from detectron2.data import DatasetCatalog
from torch import nn
from torch.utils.checkpoint import checkpoint

from escnet_d2.data import resolve_vocabulary  # noqa: F401  (registers the benchmarks)
from escnet_d2.data.stand_ins import draw_samples, replaced_samples
from escnet_d2.engine.forecast import forecast
from escnet_d2.engine.model_cost import saved_bytes
from escnet_d2.engine.preflight import EvaluationTime, Measurements, Memory
from escnet_d2.io import read_image, read_label_map

MEASURED = Measurements(
    device="cpu, 1 threads",
    processes=1,
    stand_ins=(),
    classes=100,
    step=0.5,
    step_range=(0.4, 0.6),
    waiting=0.1,
    computing=0.4,
    loading=0.1,
    all_reduce=None,
    memory=Memory(weights=1, gradients=1, optimizer=2, saved=2**30, peak=2**30),
    evaluations={"a": EvaluationTime(90, 10.0, 1.0), "b": EvaluationTime(20, 0.0, 2.5)},
)
# Four images on each of two GPUs of 20 GiB.
ON_GPUS = dataclasses.replace(
    MEASURED,
    device="GPU",
    processes=2,
    all_reduce=0.2,
    memory=Memory(
        weights=2**30,
        gradients=2**30,
        optimizer=2**30,
        saved=2**30,
        peak=12 * 2**30,
        total=20 * 2**30,
        one_image=6 * 2**30,
        another_image=2**31,
    ),
)


class Layers(nn.Module):
    def __init__(self, *, recompute):
        super().__init__()
        self.first, self.second = nn.Linear(8, 16), nn.Linear(16, 2)
        self.recompute = recompute

    def forward(self, x):
        run = nn.Sequential(self.first, nn.ReLU(), self.second)
        # Nothing leads back through this: what it kept is gone.
        self.unused = self.first(x).square().detach()
        y = checkpoint(run, x, use_reentrant=False) if self.recompute else run(x)
        return {"loss": y.sum()}


@pytest.mark.parametrize(("recompute", "numbers"), [(False, 4 * 8 + 4 * 16), (True, 4 * 8)])
def test_what_is_kept_for_the_backward_pass(recompute, numbers):
    # The input and the activation, which two layers share; the weights are there anyway.
    assert saved_bytes(Layers(recompute=recompute), torch.rand(4, 8)) == 4 * numbers


def test_hours_and_cost(tiny_cfg):
    tiny_cfg.SOLVER.MAX_ITER, tiny_cfg.TEST.EVAL_PERIOD = 7200, 2000
    result = forecast(tiny_cfg, MEASURED, price=3.0)
    # After 2000, 4000, 6000 and 7200 steps: 10 + 90 x 1 + 20 x 2.5 seconds each.
    assert result.training_hours == pytest.approx(1.0)
    assert result.evaluation_hours == pytest.approx(4 * 150 / 3600)
    assert result.cost == pytest.approx(3.0 * (1 + 1 / 6))
    assert result.largest_batch is None
    assert forecast(tiny_cfg, ON_GPUS, price=3.0).cost == pytest.approx(2 * result.cost)
    unknown = {"a": EvaluationTime(None, 10.0, 1.0)}
    result = forecast(tiny_cfg, dataclasses.replace(MEASURED, evaluations=unknown))
    assert result.evaluation_hours is result.cost is None
    assert result.hours == result.training_hours


def test_a_loader_that_cannot_keep_up_sets_the_pace(tiny_cfg):
    slow = dataclasses.replace(MEASURED, waiting=0.1, loading=1.0)
    assert forecast(tiny_cfg, slow).step == 0.5  # It loads in the step itself.
    assert "NUM_WORKERS 2 or more" in forecast(tiny_cfg, slow).advice[0]
    tiny_cfg.DATALOADER.NUM_WORKERS = 4
    result = forecast(tiny_cfg, slow)
    assert result.step == 1.0
    assert "NUM_WORKERS 10 " in result.advice[0]
    assert not any("NUM_WORKERS" in text for text in forecast(tiny_cfg, MEASURED).advice)


def test_a_busy_machine_is_told(tiny_cfg):
    busy = dataclasses.replace(MEASURED, computing=0.2)
    assert "other programs" in forecast(tiny_cfg, busy).advice[0]
    assert not any("other programs" in text for text in forecast(tiny_cfg, MEASURED).advice)


def test_the_largest_batch_and_advice_on_gpus(tiny_cfg):
    tiny_cfg.SOLVER.IMS_PER_BATCH = 8
    result = forecast(tiny_cfg, ON_GPUS)
    # 92 % of 20 GiB: 6 for the first image, 2 for each of six more.
    assert result.largest_batch == 7
    text = " ".join(result.advice)
    for word in ("SOLVER.AMP.ENABLED True", "FLOAT32_MATMUL high", "Exchanging gradients"):
        assert word in text
    assert "GRADIENT_CHECKPOINTING" not in text
    tiny_cfg.SOLVER.AMP.ENABLED = True
    tiny_cfg.SOLVER.IMS_PER_BATCH = 14
    text = " ".join(forecast(tiny_cfg, ON_GPUS).advice)
    assert "AMP" not in text
    for word in ("ESCNET.GRADIENT_CHECKPOINTING True", "TRAIN_CLASSES", "CLASS_CHUNK_SIZE"):
        assert word in text
    full = dataclasses.replace(ON_GPUS.memory, another_image=float("inf"))
    assert forecast(tiny_cfg, dataclasses.replace(ON_GPUS, memory=full)).largest_batch == 1


def test_drawn_samples_stand_in_for_a_while(tmp_path):
    name = "ade20k_full_sem_seg_freq_val_all"
    before = DatasetCatalog[name]
    samples = draw_samples(name, tmp_path / "drawn", 2)
    with replaced_samples({name: samples}):
        first = DatasetCatalog.get(name)[0]
    assert DatasetCatalog[name] is before
    labels = read_label_map(first["sem_seg_file_name"])
    assert read_image(first["file_name"]).shape[:2] == labels.shape == (480, 640)
    # 847 classes do not fit into 8 bits.
    assert 255 < labels.max() < 847


def test_the_command(prepared_folder, run_program, tmp_path):
    folder = prepared_folder(tmp_path / "photos", "preflight_test", train=4, val=3)
    names = ("DATASETS.TEST", "('preflight_test_val', 'pascal_context_59_sem_seg_val')")
    report, output = tmp_path / "report.json", tmp_path / "run"
    done = run_program(
        "escnet-d2", "preflight", "--config-file", folder / "tiny.yaml", "--steps", 2,
        "--price", 2, "--output", report, *names, "SOLVER.MAX_ITER", 3600, "OUTPUT_DIR", output,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert not output.exists()
    content = json.loads(report.read_text())
    measured, result = content["measured"], content["forecast"]
    assert measured["stand_ins"] == ["pascal_context_59_sem_seg_val"]
    assert measured["classes"] == 3
    assert result["training_hours"] == pytest.approx(measured["step"])
    assert result["cost"] == pytest.approx(2 * result["hours"])
    numbers = {name: own["num_images"] for name, own in measured["evaluations"].items()}
    assert numbers == {"preflight_test_val": 3, "pascal_context_59_sem_seg_val": 5104}
    memory = measured["memory"]
    # Everything trains, by AdamW: two numbers and a step for each.
    assert memory["gradients"] <= memory["weights"]
    assert 2 * memory["gradients"] <= memory["optimizer"] < 2.1 * memory["gradients"]
    assert memory["saved"] > 0
    assert "3600 steps in" in done.stdout
    assert "mIoU" not in done.stdout
    error = run_program("escnet-d2", "preflight", "--config-file", "escnet_tiny", "--steps", 0)
    assert (error.returncode, "--steps must be 1 or more" in error.stderr) == (2, True)


@pytest.mark.slow
def test_two_processes_measure_their_exchange(prepared_folder, start_program, tmp_path):
    folder = prepared_folder(tmp_path / "photos", "preflight_two", train=4, val=2)
    report = tmp_path / "report.json"
    done = start_program(
        "escnet-d2", "preflight", "--config-file", folder / "tiny.yaml", "--num-gpus", 2,
        "--steps", 1, "--output", report,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    measured = json.loads(report.read_text())["measured"]
    assert measured["processes"] == 2
    assert measured["all_reduce"] > 0
    assert done.stdout.count("all-reduce") == 1
