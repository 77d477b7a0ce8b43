#!/usr/bin/env python
r"""Evaluates a checkpoint on many data sets in one process and writes one table.

::

    python tools/evaluate_all.py --config-file escnet_vitb16_384_bs4_80k \
        --overlay benchmarks --overlay sliding_window MODEL.WEIGHTS model_final.pth
    python tools/evaluate_all.py --config-file FILE --datasets A-150,PC-59 --num-gpus 4

The model is built once; each data set brings its own classes. Data sets that are not prepared are
skipped, one that fails does not stop the others, and finished ones are not evaluated again.
docs/evaluation.md has more.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml
from detectron2.utils import comm

from escnet_d2.data import dataset_status
from escnet_d2.engine import Trainer, TrainingCheckpointer, argument_parser, launch, setup
from escnet_d2.engine.benchmark_run import FAILED, evaluate_datasets
from escnet_d2.engine.benchmark_table import write_tables
from escnet_d2.engine.config_files import find_config
from escnet_d2.engine.model_description import lacks_weights
from escnet_d2.evaluation import write_summary
from escnet_d2.evaluation.published import BENCHMARK_NAMES

logger = logging.getLogger("escnet_d2.evaluate_all")

TRAINING_SPLIT = "coco_2017_train_stuff_all_sem_seg"
DATASETS_KEY = "DATASETS.TEST"


def evaluation_parser() -> argparse.ArgumentParser:
    """The arguments: those of ``train_net.py``, and which data sets."""
    parser = argument_parser()
    parser.description = __doc__
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add(
        "--overlay",
        action="append",
        default=[],
        metavar="NAME_OR_FILE",
        help="settings on top of the configuration: a file, or a name of configs/eval; repeatable",
    )
    add(
        "--datasets",
        metavar="NAME,...",
        help="registered names or the papers' (A-150); default: the overlay's, else the benchmarks",
    )
    add("--rerun", action="store_true", help="evaluate again what has results")
    add("--allow-incomplete", action="store_true", help="evaluate data sets that lack images too")
    add("--title", default="this run", help="name of the table's row")
    return parser


def overlay_options(name_or_path: str) -> list[object]:
    """Reads an overlay as ``KEY VALUE`` pairs.

    Args:
        name_or_path: a path, or the name of a file in ``configs/eval``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no configuration.
    """
    if not Path(name_or_path).suffix:
        name_or_path = f"eval/{name_or_path}.yaml"
    path = find_config(name_or_path)
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} is no configuration.")
    return [part for pair in _flattened(content) for part in pair]


def _flattened(node: dict, prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in node.items():
        if isinstance(value, dict):
            yield from _flattened(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def all_options(args: argparse.Namespace) -> list[object]:
    """All changes to the configuration, those that win last.

    Args:
        args: of :func:`evaluation_parser`.

    Raises:
        FileNotFoundError: an overlay does not exist.
        ValueError: an overlay is no configuration, or no data set is named.
    """
    benchmarks = [status.name for status in dataset_status() if status.name != TRAINING_SPLIT]
    options: list[object] = [DATASETS_KEY, tuple(benchmarks)]
    for overlay in args.overlay:
        options += overlay_options(overlay)
    if args.datasets is not None:
        names = [name.strip() for name in args.datasets.split(",") if name.strip()]
        if not names:
            raise ValueError("--datasets names no data set.")
        options += [DATASETS_KEY, tuple(BENCHMARK_NAMES.get(name, name) for name in names)]
    return [*options, *args.opts]


def main(args: argparse.Namespace) -> None:
    """Runs one process of the evaluation; ends with exit code 1 if a data set failed.

    Args:
        args: of :func:`evaluation_parser`, with all options in ``opts``.
    """
    try:
        cfg = setup(args, require_test_data=False)
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"evaluate_all.py: error: {error}")
    model = Trainer.build_model(cfg)
    checkpointer = TrainingCheckpointer(model, cfg.OUTPUT_DIR)
    resume = args.resume and checkpointer.has_checkpoint()
    weights = checkpointer.get_checkpoint_file() if resume else cfg.MODEL.WEIGHTS
    untrained = not weights and lacks_weights(cfg)
    if untrained:
        logger.warning("MODEL.WEIGHTS is empty: evaluating a head that was never trained.")
    checkpointer.resume_or_load(cfg.MODEL.WEIGHTS, resume=resume)
    outcomes = evaluate_datasets(
        cfg,
        model,
        cfg.DATASETS.TEST,
        weights=weights,
        rerun=args.rerun,
        allow_incomplete=args.allow_incomplete,
    )
    if comm.is_main_process():
        folder = Path(cfg.OUTPUT_DIR) / "inference"
        results = {outcome.name: outcome.results for outcome in outcomes if outcome.results}
        write_summary(results, folder)
        source = weights or ("weights that were never trained" if untrained else "CLIP's weights")
        text = write_tables(outcomes, folder, title=args.title, source=source)
        logger.info("Tables in %s:\n%s", folder, text)
    comm.synchronize()
    if any(outcome.state == FAILED for outcome in outcomes):
        sys.exit(1)


def run(arguments: Sequence[str] | None = None) -> None:
    """Reads the command line and starts the processes.

    Args:
        arguments: of the command line, by default those of this process.
    """
    args = evaluation_parser().parse_args(arguments)
    args.eval_only = True
    try:
        args.opts = all_options(args)
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"evaluate_all.py: error: {error}")
    launch(main, args)


if __name__ == "__main__":
    run()
