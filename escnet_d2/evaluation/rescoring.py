"""Scores of predictions that another program has written, by our evaluator."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from pycocotools import mask as coco_mask

from .sem_seg_evaluator import SemSegEvaluator

_NO_CLASS = -1


def rescore_predictions(
    path: str | Path,
    dataset_name: str,
    *,
    output_dir: str | Path | None = None,
    boundary_dilation: float = 0.02,
    allow_incomplete: bool = False,
) -> dict[str, float]:
    """Scores a ``sem_seg_predictions.json`` of Detectron2's evaluator, ours or another's.

    Images are found by the ends of their paths, so that the file may come from another machine.

    Args:
        path: records with ``file_name``, ``category_id`` and ``segmentation`` (COCO run lengths).
        dataset_name: a registered data set, whose ground truth is read.
        output_dir: folder for the evaluator's files; None writes none.
        boundary_dilation: as of :class:`SemSegEvaluator`.
        allow_incomplete: score what is there where images have no prediction.

    Returns:
        ``{"mIoU": ...}`` in percent, as :meth:`SemSegEvaluator.evaluate` has them.

    Raises:
        FileNotFoundError: the file or the data set is not there.
        ValueError: the file is not such a list, does not fit the data set, leaves out images or
            pixels, or has an image twice; names the file.
    """
    path = Path(path)
    try:
        records = json.loads(path.read_text(encoding="utf-8"))
        by_file = _by_file(records)
    except (json.JSONDecodeError, TypeError, KeyError) as error:
        raise ValueError(f"{path} is not a list of COCO predictions: {error!r}.") from error
    samples = DatasetCatalog.get(dataset_name)
    found: dict[str, str] = {}
    for file, name in _matches(list(by_file), samples, path):
        if file in found:
            raise ValueError(f"{path} has two predictions of {file}: {found[file]} and {name}.")
        found[file] = name
    missing = [s["file_name"] for s in samples if s["file_name"] not in found]
    if missing and not allow_incomplete:
        raise ValueError(
            f"{path} has no prediction for {len(missing)} of {len(samples)} images of "
            f"{dataset_name}, such as {missing[0]}."
        )
    metadata = MetadataCatalog.get(dataset_name)
    ids = metadata.get("stuff_dataset_id_to_contiguous_id")
    evaluator = SemSegEvaluator(
        dataset_name,
        output_dir=output_dir,
        distributed=False,
        boundary_dilation=boundary_dilation,
        save_predictions=False,
    )
    for sample in samples:
        if sample["file_name"] in found:
            name = found[sample["file_name"]]
            try:
                labels = decode_label_map(by_file[name], ids)
            except ValueError as error:
                raise ValueError(f"{path}, {name}: {error}") from error
            evaluator.process([sample], [{"label_map": labels}])
    return dict(evaluator.evaluate()["sem_seg"])


def decode_label_map(
    records: Sequence[Mapping[str, Any]], category_ids: Mapping[int, int] | None = None
) -> np.ndarray:
    """Puts the segments of one image back together; inverts :func:`encode_label_map`.

    Args:
        records: with ``category_id`` and ``segmentation``.
        category_ids: class index of each of the data set's own ids; None for indices.

    Returns:
        Class indices, int64 (H, W).

    Raises:
        ValueError: no segment, sizes that differ, an id of no class, or a pixel without a class.
    """
    if not records:
        raise ValueError("it has no segment.")
    sizes = {tuple(record["segmentation"]["size"]) for record in records}
    if len(sizes) > 1:
        raise ValueError(f"its segments are of different sizes: {sorted(sizes)}.")
    labels = np.full(sizes.pop(), _NO_CLASS, dtype=np.int64)
    for record in records:
        category = record["category_id"]
        if category_ids is not None:
            if category not in category_ids:
                raise ValueError(f"category_id {category} is none of the data set's ids.")
            category = category_ids[category]
        labels[coco_mask.decode(record["segmentation"]).astype(bool)] = category
    unclassified = int((labels == _NO_CLASS).sum())
    if unclassified:
        raise ValueError(f"{unclassified} of {labels.size} pixels have no class.")
    return labels


def _by_file(records: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    grouped = defaultdict(list)
    for record in records:
        grouped[record["file_name"]].append(record)
    return dict(grouped)


def _matches(
    names: Sequence[str], samples: Sequence[Mapping[str, Any]], path: Path
) -> Iterator[tuple[str, str]]:
    """(File of the data set, name in the predictions) of each prediction."""
    by_end: dict[str, list[str]] = defaultdict(list)
    for sample in samples:
        by_end[PurePath(sample["file_name"]).name].append(sample["file_name"])
    for name in names:
        candidates = by_end.get(PurePath(name).name, [])
        # As many folders as it takes to tell files of one name apart.
        depth = 1
        while len(candidates) > 1 and depth < len(PurePath(name).parts):
            depth += 1
            end = PurePath(name).parts[-depth:]
            candidates = [c for c in candidates if PurePath(c).parts[-depth:] == end]
        if len(candidates) != 1:
            raise ValueError(
                f"{path}: {name} fits {len(candidates)} images of the data set, expected one."
            )
        yield candidates[0], name
