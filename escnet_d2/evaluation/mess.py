"""MESS's scores: over the classes that matter, and by domain (Blumenstiel et al., NeurIPS 2023)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from detectron2.data import MetadataCatalog

MESS_SCORES = ("mIoU_gt_or_pred", "CoI_mIoU")


def classes_of_interest_miou(
    per_class: Sequence[Mapping[str, Any]], classes: Iterable[int]
) -> float | None:
    """Computes CoI-mIoU as the MESS benchmark does: without "others" and "background".

    The mean of the IoU over those of the classes that are in the ground truth or the prediction; a
    class that is only predicted counts as 0, as in ``mIoU_gt_or_pred``.

    Args:
        per_class: ``per_class`` of a data set's ``results.json``.
        classes: indices of the classes of interest.

    Returns:
        In percent; None where none of the classes occurs.
    """
    chosen = [per_class[index] for index in classes]
    occurring = [record for record in chosen if record["pixels_gt"] or record["pixels_pred"]]
    if not occurring:
        return None
    return sum(record["IoU"] or 0.0 for record in occurring) / len(occurring)


def mess_scores(
    results: Mapping[str, Mapping[str, Any]], benchmark: Sequence[Any]
) -> dict[str, Any]:
    """Computes MESS's scores by data set, their means by domain, and the mean over all.

    Args:
        results: ``results.json`` by registered name; other data sets are left alone.
        benchmark: MESS's data sets, each with ``title``, ``domain`` and ``names``, the registered
            ones: PAXRay counts once, as the mean of its four parts.

    Returns:
        ``datasets``: title, domain and scores of each, None where it was not evaluated.
        ``domains`` and ``mean``: scores, and ``evaluated`` of ``datasets`` as the number of data
        sets that they average.
    """
    rows = [
        {
            "title": dataset.title,
            "domain": dataset.domain,
            **_means([_scores(name, results.get(name)) for name in dataset.names]),
        }
        for dataset in benchmark
    ]
    domains = {
        domain: _mean_of_evaluated([row for row in rows if row["domain"] == domain])
        for domain in dict.fromkeys(row["domain"] for row in rows)
    }
    return {"datasets": rows, "domains": domains, "mean": _mean_of_evaluated(rows)}


def _scores(name: str, results: Mapping[str, Any] | None) -> dict[str, float | None]:
    if results is None:
        return dict.fromkeys(MESS_SCORES)
    per_class = results["per_class"]
    classes = MetadataCatalog.get(name).get("classes_of_interest", range(len(per_class)))
    return {
        "mIoU_gt_or_pred": results["mIoU_gt_or_pred"],
        "CoI_mIoU": classes_of_interest_miou(per_class, classes),
    }


def _means(scores: Sequence[Mapping[str, float | None]]) -> dict[str, float | None]:
    columns = {name: [score[name] for score in scores] for name in MESS_SCORES}
    return {
        name: sum(values) / len(values) if values and None not in values else None
        for name, values in columns.items()
    }


def _mean_of_evaluated(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    evaluated = [row for row in rows if None not in (row[name] for name in MESS_SCORES)]
    return {**_means(evaluated), "evaluated": len(evaluated), "datasets": len(rows)}
