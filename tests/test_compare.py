"""The comparison: rows of models that ran, failed, and were published."""

import csv
import json
from pathlib import Path

import pytest
import torch
from torch import nn

from escnet_d2.commands import compare as program
from escnet_d2.engine.model_cost import measure_cost
from escnet_d2.evaluation.tables import write_comparison
from escnet_d2.structures import Vocabulary

NAME = "compare_test"


@pytest.fixture
def folder(prepared_folder, tmp_path):
    return prepared_folder(tmp_path / "data", NAME, val=2)


class OneLayer(nn.Module):
    """3 x 3 convolution of 3 channels to 2 without padding: 2 x 3 x 9 products to a cell."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3)
        self.frozen = nn.Parameter(torch.zeros(5), requires_grad=False)
        self.calls = 0

    def forward(self, batch):
        self.calls += 1
        assert len(batch) == 1
        assert not self.training
        return self.conv(batch[0]["image"])


def test_cost_is_counted():
    vocabulary = Vocabulary.from_classes(["a", "b", "c"])
    samples = [{"image": torch.randn(3, 12, 22), "vocabulary": vocabulary}] * 3
    model = OneLayer().train()
    cost = measure_cost(model, samples)
    assert cost["parameters"] == 2 * 3 * 9 + 2 + 5
    assert cost["trainable_parameters"] == 2 * 3 * 9 + 2
    assert cost["gflops"] == pytest.approx(2 * (10 * 20) * (2 * 3 * 9) / 1e9)
    assert model.calls == 1 + 3 + 1
    assert (cost["images"], cost["classes"], cost["image_size"]) == (3, 3, [12, 22])
    assert cost["latency_ms"] > 0
    assert cost["peak_memory_mb"] > 10
    with pytest.raises(ValueError, match="no image"):
        measure_cost(model, [])


def test_each_model_becomes_an_evaluation():
    args = program.argument_parser().parse_args(
        ["--output", "o", "--datasets", "A-150, my_val", "--images", "3", "--allow-incomplete"]
        + ["--model", "A b=c.yaml:w.pth", "--model", "B=sed_tiny", "--rerun"]
        + ["--model-opts", "A b", "SEED", "1", "--model-opts", "A b", "TEST.DTYPE", "float16"]
        + ["--model-opts", "B", "SEED", "-1", "--", "X.Y", "1"]
    )
    first, second = program.evaluations(args)
    folder = str(Path("o/models/01_A_b").absolute())
    shared = ["--cost-images", "3", "--allow-incomplete", "--rerun", "--", "X.Y", "1"]
    datasets = ["DATASETS.TEST", "('ade20k_150_test_sem_seg', 'my_val')"]
    assert first[:2] == ("A b", Path(folder))
    assert first[2] == [
        *("--config-file", "c.yaml", "--title", "A b", *shared, "SEED", "1"),
        *("TEST.DTYPE", "float16", *datasets, "MODEL.WEIGHTS", "w.pth", "OUTPUT_DIR", folder),
    ]
    # Without a checkpoint the configuration's own weights count.
    assert "MODEL.WEIGHTS" not in second[2]
    assert second[2][second[2].index("SEED") + 1] == "-1"


def record(name, miou, *, weights="w.pth"):
    cost = {
        "parameters": 2_500_000,
        "trainable_parameters": 500_000,
        "gflops": 1.5,
        "latency_ms": 12.0,
        "latency_spread_ms": 0.5,
        "peak_memory_mb": 300.0,
        "images": 2,
        "device": "cpu, 1 threads",
        "classes": 150,
        "dataset": "ade20k_150_test_sem_seg",
    }
    outcome = {"state": "evaluated", "detail": "", "scores": {"mIoU": miou}}
    return {
        "name": name,
        "weights": weights,
        "untrained": not weights,
        "datasets": {"ade20k_150_test_sem_seg": outcome},
        "cost": cost,
    }


def test_table_keeps_kinds_of_rows_apart(tmp_path):
    datasets = ["ade20k_150_test_sem_seg", "my_val"]
    records = [
        record("A", 10.0),
        record("A", 14.0),
        {"name": "B", "weights": "", "error": "exit code -9: killed"},
        record("C", None, weights=""),
    ]
    records[0]["datasets"]["ade20k_150_test_sem_seg"]["scores"].update(pACC=50.0, num_images=3)
    rescored = {"D": {"my_val": {"mIoU": 33.333, "num_images": 7}}}
    text = write_comparison(records, rescored, datasets, tmp_path, published=["cat-seg"])
    measured, published = text.split("## Published figures")
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in measured.splitlines()
        if line.startswith("| ")
    ]
    header, a, b, c, d = rows
    assert header[:3] == ["model", "A-150", "my_val"]
    # Sample standard deviation of 10 and 14.
    assert a[:4] == ["A", "12.00 ± 2.83", "-", "2.50"]
    assert a[4:8] == ["0.50", "1.50", "12.0 (0.5)", "300"]
    # Of 2,000: no score to stand beside published ones.
    assert a[8] == "2 runs; A-150: 3 of 2000 images"
    assert b[1:8] == ["-"] * 7
    assert "FAILED, exit code -9: killed" in b[8]
    assert c[1] == "-"
    assert "untrained" in c[8]
    assert d[:3] == ["D", "-", "33.33"]
    assert d[8] == "re-scored"
    assert "CAT-Seg" in published
    assert "31.8" in published
    assert "CAT-Seg" not in measured
    content = json.loads((tmp_path / "comparison.json").read_text())
    assert content["records"] == records
    assert (tmp_path / "comparison.csv").is_file()
    with (tmp_path / "scores.csv").open(newline="") as file:
        first, second = list(csv.DictReader(file))
    assert (first["model"], first["data set"], first["mIoU"]) == ("A", "A-150", "12.00 ± 2.83")
    assert (first["pACC"], first["fwIoU"], first["num_images"]) == ("50.00", "-", "3")
    assert (second["model"], second["data set"], second["num_images"]) == ("D", "my_val", "7")
    assert "| D       | my_val     | 33.33" in text.split("## All scores")[1]
    # A point needs every data set; here none has.
    assert not (tmp_path / "comparison.png").exists()
    write_comparison(records[:2], {}, datasets[:1], tmp_path)
    assert (tmp_path / "comparison.png").stat().st_size > 5000


@pytest.fixture
def compare(folder, run_program):
    """Runs the program on the folder's data set; returns what it prints."""

    def run(output, *arguments, code=0):
        arguments = ("--output", output, "--datasets", f"{NAME}_val", *arguments)
        options = ("DATASETS.FOLDERS", f"('{folder}',)", "INPUT.MIN_SIZE_TEST", 32)
        done = run_program("escnet-d2", "compare", *arguments, *options)
        assert done.returncode == code, done.stderr
        return done.stdout

    return run


def read_comparison(output):
    return json.loads((output / "comparison.json").read_text())


@pytest.mark.slow
def test_what_spoils_the_cost_spoils_nothing_else(folder, compare, tmp_path):
    (folder / "images/val/0.png").write_bytes(b"damaged")
    compare(tmp_path / "out", "--model", "CAT-Seg=cat_seg_tiny", code=1)
    (record,) = read_comparison(tmp_path / "out")["records"]
    assert record["cost"] is None
    assert "error" not in record
    outcome = record["datasets"][f"{NAME}_val"]
    assert outcome["state"] == "failed"
    assert "0.png" in outcome["detail"]


@pytest.mark.slow
def test_each_model_runs_by_itself_and_a_failure_costs_its_row(compare, tmp_path):
    output = tmp_path / "out"
    model = ("--images", 1, "--model", "CAT-Seg=cat_seg_tiny")
    broken = ("--model", f"broken=cat_seg_tiny:{tmp_path / 'missing.pth'}")
    assert "FAILED" in compare(output, *model, *broken, code=1)
    good, bad = read_comparison(output)["records"]
    assert good["datasets"][f"{NAME}_val"]["state"] == "evaluated"
    scores = good["datasets"][f"{NAME}_val"]["scores"]
    assert 0 <= scores["mIoU"] <= 100
    assert good["cost"]["parameters"] == 4_343_154
    assert good["cost"]["gflops"] > 0.1
    assert good["untrained"]
    assert "missing.pth is not a file" in bad["error"]
    assert (output / "models/02_broken/console.txt").is_file()

    # Again: what is finished is kept.
    compare(output, *model)
    (kept,) = read_comparison(output)["records"]
    assert kept["datasets"][f"{NAME}_val"] == {"state": "kept", "detail": "", "scores": scores}

    # The file that the run left scores the same.
    predictions = next(output.glob("models/01*/inference/*/sem_seg_predictions.json"))
    compare(tmp_path / "again", "--predictions", f"other={NAME}_val:{predictions}")
    again = read_comparison(tmp_path / "again")["rescored"]
    assert again["other"][f"{NAME}_val"]["mIoU"] == pytest.approx(scores["mIoU"])
