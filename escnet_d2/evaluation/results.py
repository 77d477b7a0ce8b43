"""The results of one data set: one content, written to the files of its folder and read back."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from escnet_d2.io import write_json

from .confusion import ClassCounts, top_confusions
from .metrics import SCORES, class_accuracy, class_iou, sem_seg_scores
from .tables import markdown_table, write_csv

RESULTS_NAME = "results.json"
# A confusion matrix of more classes is no longer readable as a spreadsheet.
MAX_CSV_CLASSES = 60
TOP_CONFUSIONS = 20


def build_results(
    dataset_name: str,
    class_names: Sequence[str],
    *,
    seen: Sequence[bool] | None,
    region: ClassCounts,
    boundary: ClassCounts,
    num_images: int,
) -> dict[str, Any]:
    """Builds the content of ``results.json``: ``dataset``, every score and ``per_class``.

    Args:
        dataset_name: in Detectron2's catalogs.
        class_names: K names.
        seen: whether each class is in the training vocabulary; None where that is unknown.
        region: counts over all labeled pixels.
        boundary: counts over the boundary bands.
        num_images: that were evaluated.

    Returns:
        Scores in percent, None where undefined.
    """
    scores = {**sem_seg_scores(region, boundary, seen), "num_images": num_images}
    iou, accuracy, boundary_iou = class_iou(region), class_accuracy(region), class_iou(boundary)
    per_class = [
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
    return {
        "dataset": dataset_name,
        **{name: _none_if_undefined(scores[name]) for name in SCORES},
        "per_class": per_class,
    }


def write_results(results: dict[str, Any], matrix: np.ndarray, output_dir: Path) -> None:
    """Writes ``results.md``, ``confusion_matrix.*`` and, last, ``results.json``.

    Args:
        results: see :func:`build_results`.
        matrix: the confusion matrix, int64, shape (K, K + 1).
        output_dir: the data set's folder, which exists.
    """
    names = [record["name"] for record in results["per_class"]]
    (output_dir / "results.md").write_text(_results_markdown(results, matrix), encoding="utf-8")
    np.save(output_dir / "confusion_matrix.npy", matrix)
    if len(names) <= MAX_CSV_CLASSES:
        write_csv(
            output_dir / "confusion_matrix.csv",
            ["predicted \\ ground truth", *names, "unlabelled"],
            ([name, *row.tolist()] for name, row in zip(names, matrix)),
        )
    # Last: a data set that has this file is finished.
    write_json(output_dir / RESULTS_NAME, results)


def read_results(inference_dir: str | Path) -> dict[str, dict[str, Any]]:
    """Reads the results of all data sets of a run.

    Args:
        inference_dir: ``OUTPUT_DIR/inference``, which may be missing.

    Returns:
        Contents of ``results.json`` by data set, in alphabetical order.
    """
    return {
        path.parent.name: json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(Path(inference_dir).glob(f"*/{RESULTS_NAME}"))
    }


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


def _none_if_undefined(value: float) -> float | int | None:
    if isinstance(value, int):
        return value
    return None if math.isnan(value) else float(value)
