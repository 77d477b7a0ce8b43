"""Detectron2's evaluator: from outputs and label files to scores, over all processes."""

from __future__ import annotations

import itertools
import json
import logging
import math
from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm

from escnet_d2.io import read_label_map

from .boundary import boundary_counts
from .confusion import ClassCounts, confusion_matrix
from .metrics import SCORES, match_seen_classes
from .predictions import encode_label_map
from .results import build_results, write_results
from .tables import score_table

logger = logging.getLogger(__name__)


class SemSegEvaluator(DatasetEvaluator):
    """Scores semantic segmentation on a registered data set.

    Ground truth values from K on, negative ones and the data set's ``ignore_label`` are unlabeled.
    docs/evaluation.md defines every score and lists the files written to ``output_dir``.

    Every image counts once: an image that arrives again, in one process or in two, is an error,
    since its pixels cannot be taken out of the sums any more. Detectron2's ``InferenceSampler``,
    which its test loader uses, never repeats one; samplers that pad do.
    """

    def __init__(
        self,
        dataset_name: str,
        *,
        output_dir: str | Path | None,
        seen_classes: Sequence[str] | None = None,
        boundary_dilation: float = 0.02,
        save_predictions: bool = True,
    ) -> None:
        """Prepares an evaluation.

        Args:
            dataset_name: a data set whose metadata has ``stuff_classes`` and ``ignore_label``.
            output_dir: the data set's own folder for results; None writes nothing.
            seen_classes: the training vocabulary, for the seen and unseen scores.
            boundary_dilation: width of Boundary IoU's band as a share of the image diagonal, in
                (0, 1].
            save_predictions: write ``sem_seg_predictions.json`` too.

        Raises:
            ValueError: no such metadata, repeated class names, a dilation out of range.
        """
        metadata = MetadataCatalog.get(dataset_name)
        class_names = metadata.get("stuff_classes")
        if not class_names:
            raise ValueError(
                f"Data set {dataset_name!r} has no stuff_classes in its metadata: is it registered?"
            )
        repeated = [name for name, count in Counter(class_names).items() if count > 1]
        if repeated:
            raise ValueError(f"Data set {dataset_name!r} repeats classes: {', '.join(repeated)}.")
        if not 0.0 < boundary_dilation <= 1.0:
            raise ValueError(f"boundary_dilation must be in (0, 1], got {boundary_dilation}.")
        self._dataset_name = dataset_name
        self._class_names = list(class_names)
        self._num_classes = len(self._class_names)
        self._ignore_label = metadata.get("ignore_label")
        self._expected_images = metadata.get("expected_images")
        dataset_ids = metadata.get("stuff_dataset_id_to_contiguous_id")
        self._category_ids = (
            {index: category for category, index in dataset_ids.items()} if dataset_ids else None
        )
        self._seen = (
            None if seen_classes is None else match_seen_classes(self._class_names, seen_classes)
        )
        self._output_dir = None if output_dir is None else Path(output_dir)
        self._boundary_dilation = boundary_dilation
        self._save_predictions = save_predictions and output_dir is not None
        if self._ignore_label is not None and 0 <= self._ignore_label < self._num_classes:
            logger.warning(
                "Data set %s: ignore_label %d is one of its %d classes, so the class %r has no "
                "ground truth.",
                dataset_name,
                self._ignore_label,
                self._num_classes,
                self._class_names[self._ignore_label],
            )
        self.reset()

    def reset(self) -> None:
        """Forgets every image."""
        self._matrix = np.zeros((self._num_classes, self._num_classes + 1), dtype=np.int64)
        self._boundary = ClassCounts.zeros(self._num_classes)
        self._predictions: list[dict] = []
        self._images: set[tuple[str, str]] = set()

    def process(self, inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Mapping]) -> None:
        """Adds a batch.

        Args:
            inputs: one dict per image with ``file_name`` and ``sem_seg_file_name``.
            outputs: one dict per image with ``sem_seg``, scores of shape (K, H, W), or
                ``label_map``, integers of shape (H, W); at the size of the ground truth.

        Raises:
            FileNotFoundError: a ground truth file is missing.
            ValueError: an output does not fit the data set or the ground truth, scores are NaN, a
                file is not a label image, or an image came before; the message names the file.
        """
        if len(inputs) != len(outputs):
            raise ValueError(f"{len(outputs)} outputs for {len(inputs)} images.")
        for image, output in zip(inputs, outputs):
            file_name, target_file = image["file_name"], image.get("sem_seg_file_name")
            if target_file is None:
                raise ValueError(f"{file_name} of {self._dataset_name} has no sem_seg_file_name.")
            if (file_name, target_file) in self._images:
                raise ValueError(f"{file_name} was evaluated before; reset() starts again.")
            target = read_label_map(target_file)
            if self._ignore_label is not None:
                target[target == self._ignore_label] = -1
            try:
                prediction = self._predicted_labels(image, output)
                self._matrix += confusion_matrix(prediction, target, self._num_classes)
            except ValueError as error:
                raise ValueError(f"{file_name}, ground truth {target_file}: {error}") from error
            self._boundary += boundary_counts(
                prediction,
                target,
                num_classes=self._num_classes,
                dilation=self._boundary_dilation,
            )
            if self._save_predictions:
                self._predictions += encode_label_map(
                    prediction, file_name, category_ids=self._category_ids
                )
            self._images.add((file_name, target_file))

    def evaluate(self) -> OrderedDict[str, dict[str, float]] | None:
        """Sums over the processes, computes the scores and writes the files.

        Returns:
            ``{"sem_seg": {"mIoU": ..., "IoU-<class>": ...}}`` with floats only, as Detectron2's
            printers and writers expect; undefined scores are left out. None on every process but
            the first.

        Raises:
            RuntimeError: no image at all, or an image on more than one process.
        """
        num_images = self._count_images()
        shares = comm.gather((self._matrix, self._boundary, self._predictions))
        if not shares:
            return None
        matrices, boundaries, predictions = zip(*shares)
        matrix = np.sum(matrices, axis=0)
        results = build_results(
            self._dataset_name,
            self._class_names,
            seen=self._seen,
            region=ClassCounts.from_confusion(matrix),
            boundary=sum(boundaries, ClassCounts.zeros(self._num_classes)),
            num_images=num_images,
        )
        metrics = _detectron2_metrics(results)
        logger.info("Results in percent:\n%s", score_table({self._dataset_name: results}))
        if self._output_dir is not None:
            self._output_dir.mkdir(parents=True, exist_ok=True)
            torch.save(metrics, self._output_dir / "sem_seg_evaluation.pth")
            if self._save_predictions:
                text = json.dumps(list(itertools.chain.from_iterable(predictions)))
                (self._output_dir / "sem_seg_predictions.json").write_text(text, encoding="utf-8")
            write_results(results, matrix, self._output_dir)
        defined = {name: value for name, value in metrics.items() if not math.isnan(value)}
        return OrderedDict(sem_seg=defined)

    def _predicted_labels(self, image: Mapping[str, Any], output: Mapping) -> np.ndarray:
        if "sem_seg" in output:
            scores = output["sem_seg"]
            if scores.dim() != 3:
                raise ValueError(f"sem_seg must be (K, H, W), got shape {tuple(scores.shape)}.")
            self._check_num_classes(len(scores))
            best, labels = scores.max(dim=0)
            # The maximum over a NaN is NaN, so this sees every one of them.
            if torch.isnan(best).any():
                raise ValueError("sem_seg has NaN scores.")
        elif "label_map" in output:
            labels = torch.as_tensor(output["label_map"])
            if labels.is_floating_point():
                raise ValueError(f"label_map must hold integers, got {labels.dtype}.")
            if image.get("vocabulary") is not None:
                self._check_num_classes(image["vocabulary"].num_classes)
        else:
            raise ValueError(f"The output has neither sem_seg nor label_map, only {list(output)}.")
        return labels.cpu().numpy()

    def _check_num_classes(self, num_classes: int) -> None:
        if num_classes != self._num_classes:
            raise ValueError(
                f"The model answers for {num_classes} classes, but data set "
                f"{self._dataset_name!r} has {self._num_classes}: is its vocabulary that of "
                "another data set?"
            )

    def _count_images(self) -> int:
        # On every process, so that all raise: where the first alone did, others would wait for it.
        times_seen = Counter(itertools.chain.from_iterable(comm.all_gather(self._images)))
        repeated = [file_name for (file_name, _), times in times_seen.items() if times > 1]
        if repeated:
            raise RuntimeError(
                f"{len(repeated)} images of {self._dataset_name!r} came to more than one process, "
                f"such as {min(repeated)}: evaluate with a sampler that does not pad, such as "
                "Detectron2's InferenceSampler."
            )
        if not times_seen:
            raise RuntimeError(f"No image of data set {self._dataset_name!r} was evaluated.")
        if self._expected_images not in (None, len(times_seen)):
            logger.warning(
                "Data set %s should have %d images, %d were evaluated: its scores are not "
                "comparable with published ones.",
                self._dataset_name,
                self._expected_images,
                len(times_seen),
            )
        return len(times_seen)


def _detectron2_metrics(results: Mapping[str, Any]) -> dict[str, float]:
    """Returns the results under the keys of Detectron2's own evaluator, and ours; None is NaN."""
    metrics = {name: results[name] for name in SCORES}
    for record in results["per_class"]:
        name, iou, boundary_iou = record["name"], record["IoU"], record["boundary_IoU"]
        metrics[f"IoU-{name}"] = iou
        metrics[f"BoundaryIoU-{name}"] = boundary_iou
        metrics[f"min(IoU, B-Iou)-{name}"] = None if iou is None else min(iou, boundary_iou)
        metrics[f"ACC-{name}"] = record["ACC"]
    return {key: math.nan if value is None else float(value) for key, value in metrics.items()}
