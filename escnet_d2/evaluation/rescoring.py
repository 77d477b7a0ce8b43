"""Scores of predictions that another program has written."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog

from .predictions import decode_label_map
from .sem_seg_evaluator import SemSegEvaluator


def rescore_predictions(
    path: str | Path,
    dataset_name: str,
    *,
    output_dir: str | Path | None = None,
    allow_incomplete: bool = False,
) -> dict[str, float]:
    """Scores a ``sem_seg_predictions.json`` of Detectron2's evaluator, ours or another's.

    Images are found by the ends of their paths, so that the file may come from another machine.

    Args:
        path: records with ``file_name``, ``category_id`` and ``segmentation`` (COCO run lengths).
        dataset_name: a registered data set, whose ground truth is read.
        output_dir: folder for the evaluator's files; None writes none.
        allow_incomplete: score what is there where images have no prediction.

    Returns:
        ``{"mIoU": ...}`` in percent, as :meth:`SemSegEvaluator.evaluate` has them.

    Raises:
        FileNotFoundError: the file or the data set is not there.
        ValueError: the file is not such a list, does not fit the data set, leaves out images or
            pixels, or has an image twice; names the file.
    """
    path = Path(path)
    by_file = defaultdict(list)
    try:
        for record in json.loads(path.read_text(encoding="utf-8")):
            by_file[str(record["file_name"])].append(record)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ValueError(f"{path} is not a list of COCO predictions: {error!r}.") from error
    samples = DatasetCatalog.get(dataset_name)
    names: dict[str, str] = {}
    for file, name in _matches(list(by_file), samples, path):
        if file in names:
            raise ValueError(f"{path} has two predictions of {file}: {names[file]} and {name}.")
        names[file] = name
    found = [sample for sample in samples if sample["file_name"] in names]
    missing = [sample["file_name"] for sample in samples if sample["file_name"] not in names]
    if missing and not allow_incomplete:
        raise ValueError(
            f"{path} has no prediction for {len(missing)} of {len(samples)} images of "
            f"{dataset_name}, such as {missing[0]}."
        )
    ids = MetadataCatalog.get(dataset_name).get("stuff_dataset_id_to_contiguous_id")
    evaluator = SemSegEvaluator(dataset_name, output_dir=output_dir, save_predictions=False)
    for sample in found:
        name = names[sample["file_name"]]
        try:
            labels = decode_label_map(by_file[name], ids)
            evaluator.process([sample], [{"label_map": labels}])
        except ValueError as error:
            raise ValueError(f"{path}, {name}: {error}") from error
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"{path}, {name} is not COCO's run lengths: {error!r}.") from error
    return dict(evaluator.evaluate()["sem_seg"])


def _matches(
    names: Sequence[str], samples: Sequence[Mapping[str, Any]], path: Path
) -> Iterator[tuple[str, str]]:
    """Yields the data set's file name and the predictions' name of each image."""
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
