"""Says what a training will take on this machine, before it is started; see docs/training.md.

::

    escnet-d2 preflight --config-file escnet_vitb16_384_bs4_80k --num-gpus 4 --price 2.50

Takes the options and keys of ``escnet-d2 train`` that say what is trained and where. Trains for a
few steps, evaluates on a few images, and prints the hours to the end of the schedule, memory, the
largest batch that fits, the cost, and what to change. Where the data are not there, images are
drawn. Reads nothing of OUTPUT_DIR and writes nothing to it.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from .train import add_launch_arguments, resolve_config


def argument_parser() -> argparse.ArgumentParser:
    """Defines the arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--config-file", metavar="FILE", help="a path or a name; default: that of --weights")
    add("--weights", metavar="FILE|NAME", help="where to start; default: MODEL.WEIGHTS")
    add("--steps", type=int, default=10, help="steps to time, after two more (%(default)s)")
    add("--price", type=float, help="of a GPU for an hour, in any currency")
    add("--output", type=Path, metavar="FILE", help="what was measured and follows, as JSON")
    add_launch_arguments(parser)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Reads the command line and starts the processes; ends as ``engine.launch`` says.

    Args:
        arguments: of the command line, by default those of this process.

    Returns:
        0.
    """
    args = argument_parser().parse_args(arguments)
    from escnet_d2.config import check_at_least
    from escnet_d2.engine import launch, one_line_errors

    args.eval_only = args.resume = False
    with one_line_errors():
        check_at_least("--steps", args.steps, 1)
        check_at_least("--price", args.price or 0, 0)
        resolve_config(args)
    launch(run, args)
    return 0


def run(args: argparse.Namespace) -> None:
    """Runs one process of the measurement.

    Args:
        args: of :func:`argument_parser`.
    """
    import tempfile

    from detectron2.utils import comm

    from escnet_d2.engine.forecast import as_data, as_text, forecast
    from escnet_d2.engine.preflight import measure_training
    from escnet_d2.engine.setup import checked_config, set_up_torch
    from escnet_d2.io import write_json

    cfg = checked_config(args)
    with tempfile.TemporaryDirectory() as folder:
        cfg.OUTPUT_DIR = folder
        cfg.freeze()
        set_up_torch(cfg, is_train=True)
        measured = measure_training(cfg, steps=args.steps)
    if not comm.is_main_process():
        return
    result = forecast(cfg, measured, price=args.price)
    print(as_text(cfg, measured, result))
    if args.output:
        write_json(args.output, as_data(measured, result))
