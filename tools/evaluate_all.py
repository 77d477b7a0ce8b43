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
from collections.abc import Sequence
from pathlib import Path

from detectron2.utils import comm

from escnet_d2.config import key_values, read_config
from escnet_d2.data.datasets.mess import MESS_DATASETS, MESS_NAMES
from escnet_d2.engine import (
    Trainer,
    TrainingCheckpointer,
    argument_parser,
    launch,
    one_line_errors,
    setup,
)
from escnet_d2.engine.config_files import find_config
from escnet_d2.engine.evaluation_run import (
    FAILED,
    KEPT,
    SKIPPED,
    evaluate_datasets,
    measure_first_images,
)
from escnet_d2.engine.model_description import lacks_weights
from escnet_d2.engine.output_dir import inference_dir
from escnet_d2.evaluation import write_summary
from escnet_d2.evaluation.published import BENCHMARK_NAMES
from escnet_d2.evaluation.results import read_results
from escnet_d2.evaluation.tables import DatasetOutcome, write_benchmarks
from escnet_d2.io import write_json

logger = logging.getLogger("escnet_d2.evaluate_all")


def evaluation_parser() -> argparse.ArgumentParser:
    """Defines the arguments: those of ``train_net.py``, and which data sets."""
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
        help="registered names or the papers' (A-150); default: the overlays', else the "
        "configuration's DATASETS.TEST",
    )
    add("--rerun", action="store_true", help="evaluate again what has results")
    add("--allow-incomplete", action="store_true", help="evaluate data sets that lack images too")
    add("--cost-images", type=int, default=0, metavar="N", help="measure the cost on N images too")
    add("--title", default="this run", help="name of the table's row")
    return parser


def overlay_options(name_or_path: str) -> list[object]:
    """Reads an overlay as ``KEY VALUE`` pairs.

    Args:
        name_or_path: a path, or the name of a file in ``configs/eval``.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is not a configuration.
    """
    if not Path(name_or_path).suffix:
        name_or_path = f"eval/{name_or_path}.yaml"
    return [part for pair in key_values(read_config(find_config(name_or_path))) for part in pair]


def all_options(args: argparse.Namespace) -> list[object]:
    """Returns all changes to the configuration, those that win last.

    Args:
        args: of :func:`evaluation_parser`.

    Raises:
        FileNotFoundError: an overlay does not exist.
        ValueError: an overlay is not a configuration, or no data set is named.
    """
    options = [part for overlay in args.overlay for part in overlay_options(overlay)]
    if args.datasets is not None:
        names = [name.strip() for name in args.datasets.split(",") if name.strip()]
        if not names:
            raise ValueError("--datasets names no data set.")
        options += ["DATASETS.TEST", tuple(BENCHMARK_NAMES.get(name, name) for name in names)]
    return [*options, *args.opts]


def main(args: argparse.Namespace) -> None:
    """Runs one process of the evaluation.

    It ends with exit code 1 if a data set failed, or if none of them has results.

    Args:
        args: of :func:`evaluation_parser`, with all options in ``opts``.
    """
    cfg = setup(args, require_test_data=False, rerun=args.rerun)
    model = Trainer.build_model(cfg)
    checkpointer = TrainingCheckpointer(model, cfg.OUTPUT_DIR)
    resume = args.resume and checkpointer.has_checkpoint()
    weights = checkpointer.get_checkpoint_file() if resume else cfg.MODEL.WEIGHTS
    untrained = not weights and lacks_weights(cfg)
    source = weights or ("weights that were never trained" if untrained else "CLIP's weights")
    if untrained:
        logger.warning("MODEL.WEIGHTS is empty: evaluating a head that was never trained.")
    checkpointer.resume_or_load(cfg.MODEL.WEIGHTS, resume=resume)
    folder = inference_dir(cfg)
    if comm.is_main_process() and args.cost_images > 0:
        # Before the evaluation, whose memory would count.
        write_json(folder / "cost.json", measure_first_images(cfg, model, args.cost_images))
    outcomes = evaluate_datasets(cfg, model, allow_incomplete=args.allow_incomplete)
    if comm.is_main_process():
        unfinished = {outcome.name for outcome in outcomes if outcome.state in (SKIPPED, FAILED)}
        results = {name: r for name, r in read_results(folder).items() if name not in unfinished}
        write_summary(results, folder)
        # Those that other commands have evaluated into this folder, too.
        others = [DatasetOutcome(name, KEPT) for name in results if name not in cfg.DATASETS.TEST]
        text = write_benchmarks(
            [*outcomes, *others],
            results,
            folder,
            title=args.title,
            source=source,
            untrained=untrained,
            mess=MESS_DATASETS if {*cfg.DATASETS.TEST, *results} & {*MESS_NAMES} else (),
        )
        logger.info("Tables in %s:\n%s", folder, text)
    comm.synchronize()
    states = {outcome.state for outcome in outcomes}
    if FAILED in states or states == {SKIPPED}:
        sys.exit(1)


def run(arguments: Sequence[str] | None = None) -> None:
    """Reads the command line and starts the processes.

    Args:
        arguments: of the command line, by default those of this process.
    """
    args = evaluation_parser().parse_args(arguments)
    args.eval_only = True
    with one_line_errors():
        args.opts = all_options(args)
    launch(main, args)


if __name__ == "__main__":
    run()
