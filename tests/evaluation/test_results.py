import csv
import json
import re

import numpy as np
import pytest

from escnet_d2.evaluation import write_summary
from escnet_d2.evaluation.confusion import ClassCounts
from escnet_d2.evaluation.metrics import SCORES
from escnet_d2.evaluation.results import build_results, read_results, write_results

# Ground truth 0: 5 right, 3 called 1. Ground truth 1: 3 right, 1 called 2. No ground truth 2.
MATRIX = np.array([[5, 0, 0, 2], [3, 3, 0, 0], [0, 1, 0, 2]])
NAMES = ["cat|puss", "007", "sky"]


def make_results(names=NAMES, matrix=MATRIX):
    region = ClassCounts.from_confusion(matrix)
    return build_results("pets", names, seen=None, region=region, boundary=region, num_images=1)


def refuse_constant(name):
    raise AssertionError(f"{name} is not JSON")


def read_json(path):
    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse_constant)


def markdown_rows(path):
    """The cells of every table row."""
    lines = path.read_text(encoding="utf-8").splitlines()
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in lines if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows]


def test_results_json(tmp_path):
    write_results(make_results(), MATRIX, tmp_path)
    results = read_json(tmp_path / "results.json")
    assert list(results) == [
        "dataset",
        "mIoU",
        "mIoU_gt_or_pred",
        "fwIoU",
        "mACC",
        "pACC",
        "mIoU_seen",
        "mIoU_unseen",
        "hIoU",
        "boundary_mIoU",
        "num_classes",
        "num_classes_gt_or_pred",
        "num_images",
        "per_class",
    ]
    assert results["dataset"] == "pets"
    assert results["mIoU"] == pytest.approx((62.5 + 300 / 7) / 2)
    assert results["mIoU_seen"] is results["hIoU"] is None
    assert [results[name] for name in SCORES[-3:]] == [2, 3, 1]
    assert results["per_class"][0] == {
        "index": 0,
        "name": "cat|puss",
        "seen": None,
        "IoU": 62.5,
        "ACC": 62.5,
        "boundary_IoU": 62.5,
        "pixels_gt": 8,
        "pixels_pred": 5,
    }
    assert results["per_class"][2]["IoU"] is results["per_class"][2]["ACC"] is None


def test_markdown_shows_scores_classes_and_mistakes(tmp_path):
    write_results(make_results(), MATRIX, tmp_path)
    rows = markdown_rows(tmp_path / "results.md")
    assert ["mIoU", "52.68"] in rows
    assert ["hIoU", "-"] in rows
    # A bar in a name would end its cell; a name that looks like a number stays as it is.
    assert ["0", "cat\\|puss", "-", "62.50", "62.50", "62.50", "8", "5"] in rows
    assert any(row[:2] == ["1", "007"] for row in rows)
    # 3 of the 8 pixels of class 0.
    assert ["cat\\|puss", "007", "3", "37.50"] in rows


def test_confusion_matrix_files(tmp_path):
    write_results(make_results(), MATRIX, tmp_path)
    stored = np.load(tmp_path / "confusion_matrix.npy")
    assert stored.dtype == np.int64
    np.testing.assert_array_equal(stored, MATRIX)
    with (tmp_path / "confusion_matrix.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header[1:] == [*NAMES, "unlabelled"]
    assert rows[1] == ["007", "3", "3", "0", "0"]


@pytest.mark.parametrize("num_classes", [1, 60, 61])
def test_no_spreadsheet_of_many_classes(tmp_path, num_classes):
    matrix = np.eye(num_classes, num_classes + 1, dtype=np.int64)
    names = [str(index) for index in range(num_classes)]
    write_results(make_results(names, matrix), matrix, tmp_path)
    assert (tmp_path / "confusion_matrix.csv").exists() == (num_classes <= 60)
    assert "None." in (tmp_path / "results.md").read_text(encoding="utf-8")


def test_summary_of_several_data_sets(tmp_path):
    own, paper = tmp_path / "pets", tmp_path / "voc_2012_test_sem_seg"
    for folder in (own, paper):
        folder.mkdir()
        write_results(make_results(), MATRIX, folder)
    (tmp_path / "unfinished").mkdir()
    write_summary(read_results(tmp_path), tmp_path)
    table = read_json(tmp_path / "summary.json")
    # The papers' benchmarks come first.
    assert list(table) == [paper.name, own.name]
    assert list(table["pets"]) == list(SCORES)
    assert table["pets"]["fwIoU"] == pytest.approx(62.5 * 8 / 12 + 300 / 7 * 4 / 12)
    assert table["pets"]["hIoU"] is None
    assert table["pets"]["num_classes"] == 2
    with (tmp_path / "summary.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[1]["dataset"] == "pets"
    assert float(rows[1]["mIoU"]) == table["pets"]["mIoU"]
    assert rows[1]["hIoU"] == ""
    assert markdown_rows(tmp_path / "summary.md")[-1][:3] == ["pets", "52.68", "35.12"]


def test_twenty_mistakes_are_shown(tmp_path):
    names, matrix = list("abcdef"), np.arange(1, 43).reshape(6, 7)
    write_results(make_results(names, matrix), matrix, tmp_path)
    rows = markdown_rows(tmp_path / "results.md")
    header = next(i for i, row in enumerate(rows) if row[0] == "ground truth")
    assert len(rows) - header == 2 + 20
