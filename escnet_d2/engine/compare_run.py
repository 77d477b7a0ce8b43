"""One model of a comparison, in a process of its own.

``python -m escnet_d2.engine.compare_run FILE`` reads a :class:`ModelRun` from a JSON file and
writes what came of it beside that file; :func:`run_in_process` does so from another program.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.utils.logger import setup_logger
from torch import nn

from escnet_d2.data import SemanticDatasetMapper
from escnet_d2.evaluation.report import SCORES
from escnet_d2.io import write_json

from .benchmark_run import FAILURES, evaluate_datasets
from .checkpoint import TrainingCheckpointer
from .model_cost import measure_cost
from .model_description import lacks_weights
from .precision import INFERENCE_DTYPES, autocast
from .setup import check_config, load_config
from .trainer import Trainer

logger = logging.getLogger(__name__)

_SPEC_NAME, _RECORD_NAME, _LOG_NAME = "run.json", "record.json", "log.txt"


@dataclass(frozen=True)
class ModelRun:
    """What to evaluate.

    Attributes:
        name: of the row; runs of one name are of one method, such as its seeds.
        config: a configuration, by name or file.
        weights: a checkpoint, or "" for an untrained model.
        datasets: registered names.
        opts: ``KEY VALUE`` pairs.
        cost_images: images of the first data set that the cost is measured on.
        allow_incomplete: evaluate data sets that lack images too.
    """

    name: str
    config: str
    weights: str
    datasets: tuple[str, ...]
    opts: tuple[object, ...] = field(default=())
    cost_images: int = 10
    allow_incomplete: bool = False


def run_in_process(run: ModelRun, folder: str | Path) -> dict[str, Any]:
    """Evaluates a model in a new process, which may die without harm.

    Args:
        run: what to evaluate.
        folder: for its files and its log; results of an earlier run there are kept.

    Returns:
        As :func:`evaluate_run`, or ``name`` and ``error`` where it failed.
    """
    folder = Path(folder).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _RECORD_NAME).unlink(missing_ok=True)
    write_json(folder / _SPEC_NAME, dataclasses.asdict(run))
    with (folder / _LOG_NAME).open("a", encoding="utf-8") as log:
        done = subprocess.run(
            [sys.executable, "-m", __name__, str(folder / _SPEC_NAME)],
            stdout=log,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if done.returncode == 0:
        return json.loads((folder / _RECORD_NAME).read_text(encoding="utf-8"))
    lines = (folder / _LOG_NAME).read_text(encoding="utf-8", errors="replace").splitlines()
    last = next((line for line in reversed(lines) if line.strip()), "")
    error = f"exit code {done.returncode}: {last.strip()[:200]} ({folder / _LOG_NAME})"
    return {"name": run.name, "weights": run.weights, "error": error}


def evaluate_run(run: ModelRun, folder: str | Path) -> dict[str, Any]:
    """Evaluates a model on its data sets, and measures its cost on the first that is there.

    Args:
        run: what to evaluate.
        folder: ``OUTPUT_DIR``.

    Returns:
        ``name``, ``config``, ``weights``; ``untrained``: whether part of the model has random
        weights; ``datasets``: state, detail and scores of each by name; ``cost``:
        fields of :class:`ModelCost` and ``dataset``, or None.

    Raises:
        FileNotFoundError: no such configuration or checkpoint.
        RuntimeError: a checkpoint that does not fit.
        ValueError: an unknown key, value or data set.
    """
    options = [*run.opts, "DATASETS.TEST", tuple(run.datasets), "OUTPUT_DIR", str(folder)]
    cfg = load_config(run.config, options)
    cfg.MODEL.WEIGHTS = run.weights
    check_config(cfg, world_size=1, eval_only=True)
    cfg.freeze()
    torch.set_float32_matmul_precision(cfg.MODEL.FLOAT32_MATMUL)
    model = Trainer.build_model(cfg)
    if run.weights:
        TrainingCheckpointer(model).load(run.weights)
    # Before the evaluation, whose memory would count.
    cost = _cost(cfg, model, run)
    outcomes = evaluate_datasets(
        cfg, model, run.datasets, weights=run.weights, allow_incomplete=run.allow_incomplete
    )
    return {
        "name": run.name,
        "config": run.config,
        "weights": run.weights,
        "untrained": lacks_weights(cfg),
        "datasets": {
            outcome.name: {
                "state": outcome.state,
                "detail": outcome.detail,
                "scores": {key: outcome.results[key] for key in SCORES} if outcome.results else {},
            }
            for outcome in outcomes
        },
        "cost": cost,
    }


def _cost(cfg: CfgNode, model: nn.Module, run: ModelRun) -> dict[str, Any] | None:
    """Cost on the first data set that works; None where none does, or no image is asked for."""
    if run.cost_images < 1:
        return None
    for name in run.datasets:
        try:
            mapper = SemanticDatasetMapper(cfg, is_train=False, dataset_names=[name])
            images = DatasetCatalog.get(name)[: run.cost_images]
            samples = [mapper({**image, "dataset_name": name}) for image in images]
            with autocast(cfg.MODEL.DEVICE, INFERENCE_DTYPES[cfg.TEST.DTYPE]):
                return {**dataclasses.asdict(measure_cost(model, samples)), "dataset": name}
        except FAILURES:
            # The evaluation says what is wrong with it, and goes on with the others.
            logger.info("No cost is measured on %s.", name, exc_info=True)
    return None


def main(arguments: Sequence[str]) -> None:
    """Runs what a file describes.

    Args:
        arguments: the file.
    """
    setup_logger(name="escnet_d2")
    spec = Path(arguments[0])
    content = json.loads(spec.read_text(encoding="utf-8"))
    run = ModelRun(
        **{**content, "datasets": tuple(content["datasets"]), "opts": tuple(content["opts"])}
    )
    write_json(spec.with_name(_RECORD_NAME), evaluate_run(run, spec.parent))


if __name__ == "__main__":
    main(sys.argv[1:])
