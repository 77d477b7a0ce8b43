"""Results as files: one folder per data set, and one summary table over several data sets."""

from __future__ import annotations

import csv
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tabulate import tabulate

from escnet_d2.io import write_json

from .confusion import ClassCounts, top_confusions
from .metrics import class_accuracy, class_iou

# The scores of one data set, in the order of every table and file.
SCORES = (
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
)
# A confusion matrix of more classes is no longer readable as a spreadsheet.
MAX_CSV_CLASSES = 60
TOP_CONFUSIONS = 20

logger = logging.getLogger(__name__)


def class_records(
    class_names: Sequence[str],
    *,
    seen: Sequence[bool] | None,
    region: ClassCounts,
    boundary: ClassCounts,
) -> list[dict[str, Any]]:
    """One row per class: its scores in percent and its pixel counts; None where undefined.

    Args:
        class_names: K names.
        seen: whether each class is in the training vocabulary; None where that is unknown.
        region: counts over all labelled pixels.
        boundary: counts over the boundary bands.
    """
    iou = class_iou(region)
    accuracy = class_accuracy(region)
    boundary_iou = class_iou(boundary)
    return [
        {
            "index": index,
            "name": name,
            "seen": None if seen is None else bool(seen[index]),
            "IoU": _none_if_undefined(iou[index]),
            "ACC": _none_if_undefined(accuracy[index]),
            "boundary_IoU": _none_if_undefined(boundary_iou[index]),
            "pixels_gt": int(region.target[index]),
            "pixels_pred": int(region.prediction[index]),
        }
        for index, name in enumerate(class_names)
    ]


def build_results(
    dataset_name: str, scores: Mapping[str, float], per_class: list[dict[str, Any]]
) -> dict[str, Any]:
    """The content of ``results.json``: ``dataset``, every name in ``SCORES`` and ``per_class``."""
    return {
        "dataset": dataset_name,
        **{name: _none_if_undefined(scores[name]) for name in SCORES},
        "per_class": per_class,
    }


def write_results(results: dict[str, Any], matrix: np.ndarray, output_dir: Path) -> None:
    """Writes ``results.json``, ``results.md``, ``confusion_matrix.npy`` and, for few classes, .csv.

    Args:
        results: see :func:`build_results`.
        matrix: the confusion matrix, int64, shape (K, K + 1).
        output_dir: the data set's folder, which exists.
    """
    names = [record["name"] for record in results["per_class"]]
    write_json(output_dir / "results.json", results)
    (output_dir / "results.md").write_text(_results_markdown(results, matrix), encoding="utf-8")
    np.save(output_dir / "confusion_matrix.npy", matrix)
    if len(names) <= MAX_CSV_CLASSES:
        write_csv(
            output_dir / "confusion_matrix.csv",
            ["predicted \\ ground truth", *names, "unlabelled"],
            ([name, *row.tolist()] for name, row in zip(names, matrix)),
        )


def write_summary(results: dict[str, dict], output_dir: str | Path) -> None:
    """Writes one table over several data sets: ``summary.json``, ``summary.csv``, ``summary.md``.

    To be called on one process only. The Markdown table is logged as well.

    Args:
        results: for each data set what :meth:`SemSegEvaluator.evaluate` returned
            (``{"sem_seg": {"mIoU": ...}}``) or the inner dict alone. Scores that are missing there
            are undefined: null in JSON, empty in CSV, "-" in Markdown.
        output_dir: the folder to write to, made where needed: ``OUTPUT_DIR/inference``.
    """
    output_dir = Path(output_dir)
    output_dir.mkdir(parents=True, exist_ok=True)
    table = {
        dataset: {name: _score(scores.get("sem_seg", scores), name) for name in SCORES}
        for dataset, scores in results.items()
    }
    rows = [[dataset, *scores.values()] for dataset, scores in table.items()]
    write_json(output_dir / "summary.json", table)
    write_csv(output_dir / "summary.csv", ["dataset", *SCORES], rows)
    markdown = markdown_table(["dataset", *SCORES], rows)
    (output_dir / "summary.md").write_text(markdown + "\n", encoding="utf-8")
    logger.info("Results on %d data sets, in percent:\n%s", len(rows), markdown)


def score_table(results: Mapping[str, Any]) -> str:
    """The scores of one data set as a Markdown table with one row."""
    return markdown_table(["dataset", *SCORES], [[results["dataset"], *map(results.get, SCORES)]])


def _results_markdown(results: Mapping[str, Any], matrix: np.ndarray) -> str:
    records = results["per_class"]
    names = [record["name"] for record in records]
    mistakes = [
        [names[target], names[prediction], pixels, 100 * pixels / matrix[:, target].sum()]
        for target, prediction, pixels in top_confusions(matrix, TOP_CONFUSIONS)
    ]
    sections = [
        f"# {results['dataset']}",
        "All scores are in percent; - means undefined.",
        markdown_table(["score", "value"], [[name, results[name]] for name in SCORES]),
        "## Classes",
        markdown_table(list(records[0]), [list(record.values()) for record in records]),
        "## Most frequent mistakes",
        markdown_table(["ground truth", "predicted", "pixels", "% of the class"], mistakes)
        if mistakes
        else "None.",
    ]
    return "\n\n".join(sections) + "\n"


def markdown_table(headers: list[str], rows: list[list[Any]]) -> str:
    """A table for Markdown: numbers with two digits, "-" for None.

    Args:
        headers: of the columns.
        rows: one value per column.
    """
    # Numbers are formatted here: tabulate would turn a class named "007" into 7.
    return tabulate(
        [[_cell(value) for value in row] for row in rows],
        headers=headers,
        tablefmt="github",
        disable_numparse=True,
    )


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.2f}"
    return str(value).replace("|", "\\|")


def _score(scores: Mapping[str, float], name: str) -> float | int | None:
    """One score of an evaluator's result, where counts are floats for Detectron2's writers."""
    value = scores.get(name)
    return int(value) if value is not None and name.startswith("num_") else value


def _none_if_undefined(value: float) -> float | int | None:
    if isinstance(value, int):
        return value
    return None if math.isnan(value) else float(value)


def write_csv(path: Path, header: list[str], rows: Iterable[list[Any]]) -> None:
    """Writes a table; None becomes an empty cell.

    Args:
        path: the file.
        header: of the columns.
        rows: one value per column.
    """
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
