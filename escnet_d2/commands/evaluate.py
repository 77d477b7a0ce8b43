r"""Evaluates a checkpoint on many data sets in one process and writes one table.

::

    escnet-d2 evaluate --weights model_large.pth --datasets A-150,PC-59 --num-gpus 4
    escnet-d2 evaluate --config-file escnet_vitb16_384_bs4_80k --weights model_final.pth \
        --overlay benchmarks --overlay sliding_window OUTPUT_DIR output/benchmarks

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

from .train import add_launch_arguments, resolve_config

logger = logging.getLogger(__name__)


def argument_parser() -> argparse.ArgumentParser:
    """Defines the arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--weights", metavar="FILE|NAME", help="checkpoint; default: MODEL.WEIGHTS")
    add("--config-file", metavar="FILE", help="a path or a name; default: that of --weights")
    add("--resume", action="store_true", help="evaluate the last checkpoint in OUTPUT_DIR")
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
    add_launch_arguments(parser)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Reads the command line and starts the processes; ends as ``engine.launch`` says.

    Args:
        arguments: of the command line, by default those of this process.

    Returns:
        0 where every data set was evaluated or skipped, but not all skipped.
    """
    args = argument_parser().parse_args(arguments)
    from escnet_d2.engine import launch, one_line_errors

    args.eval_only = True
    with one_line_errors():
        args.opts = all_options(args)
        resolve_config(args)
    launch(run, args)
    return 0


def overlay_options(name_or_path: str) -> list[object]:
    """Reads an overlay as ``KEY VALUE`` pairs.

    Args:
        name_or_path: a path, or the name of a file in ``configs/eval``.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is not a configuration.
    """
    from escnet_d2.config import key_values, read_config
    from escnet_d2.engine import find_config

    if not Path(name_or_path).suffix:
        name_or_path = f"eval/{name_or_path}.yaml"
    return [part for pair in key_values(read_config(find_config(name_or_path))) for part in pair]


def all_options(args: argparse.Namespace) -> list[object]:
    """Returns all changes to the configuration, those that win last.

    Args:
        args: of :func:`argument_parser`.

    Raises:
        FileNotFoundError: an overlay does not exist.
        ValueError: an overlay is not a configuration, or no data set is named.
    """
    from escnet_d2.evaluation.published import BENCHMARK_NAMES

    options = [part for overlay in args.overlay for part in overlay_options(overlay)]
    if args.datasets is not None:
        names = [name.strip() for name in args.datasets.split(",") if name.strip()]
        if not names:
            raise ValueError("--datasets names no data set.")
        options += ["DATASETS.TEST", tuple(BENCHMARK_NAMES.get(name, name) for name in names)]
    return [*options, *args.opts]


def run(args: argparse.Namespace) -> None:
    """Runs one process of the evaluation.

    It ends with exit code 1 if a data set failed, or if none of them has results.

    Args:
        args: of :func:`argument_parser`, with all options in ``opts``.
    """
    from detectron2.utils import comm

    from escnet_d2.data.datasets.mess import MESS_DATASETS, MESS_NAMES
    from escnet_d2.engine import setup
    from escnet_d2.engine.evaluation_run import (
        FAILED,
        KEPT,
        SKIPPED,
        evaluate_datasets,
        measure_first_images,
    )
    from escnet_d2.engine.model_description import lacks_weights
    from escnet_d2.engine.output_dir import inference_dir
    from escnet_d2.engine.trainer import model_to_evaluate
    from escnet_d2.evaluation import write_summary
    from escnet_d2.evaluation.results import read_results
    from escnet_d2.evaluation.tables import DatasetOutcome, write_benchmarks
    from escnet_d2.io import write_json

    cfg = setup(args, require_test_data=False, rerun=args.rerun)
    model, weights = model_to_evaluate(cfg, resume=args.resume)
    untrained = not weights and lacks_weights(cfg)
    source = weights or ("weights that were never trained" if untrained else "CLIP's weights")
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
