"""Trains and evaluates open-vocabulary semantic segmentation; see docs/training.md.

::

    escnet-d2 train --config-file my_photos.yaml
    escnet-d2 train --config-file escnet_vitb16_384_bs4_80k --num-gpus 4
    escnet-d2 train --config-file FILE --eval-only --weights model_final.pth
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence


def argument_parser() -> argparse.ArgumentParser:
    """Defines the arguments, most of which ``escnet-d2 evaluate`` has too."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--config-file", metavar="FILE", help="a path or a name; default: that of --weights")
    add("--weights", metavar="FILE|NAME", help="where to start; default: MODEL.WEIGHTS")
    add("--resume", action="store_true", help="go on from the last checkpoint in OUTPUT_DIR")
    add("--overwrite", action="store_true", help="train and delete the checkpoints in OUTPUT_DIR")
    add(
        "--allow-changes",
        action="store_true",
        help="--resume although model, training data or class list are not those of the run",
    )
    add("--eval-only", action="store_true", help="evaluate MODEL.WEIGHTS on DATASETS.TEST")
    add_launch_arguments(parser)
    return parser


def add_launch_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what :func:`escnet_d2.engine.launch` reads, and the configuration keys at the end."""
    add = parser.add_argument
    add("--num-gpus", type=int, default=1, help="on each machine; without a GPU, CPU processes")
    add("--num-machines", type=int, default=1)
    add("--machine-rank", type=int, default=0, help="number of this machine, from 0")
    add(
        "--dist-url",
        default="auto",
        help="where processes meet: tcp://<address of machine 0>:<port>; auto on one machine",
    )
    add(
        "--launcher",
        default="auto",
        choices=("auto", "detectron2", "torchrun", "slurm"),
        help="what starts the processes; auto finds torchrun's and srun's environment",
    )
    add("opts", nargs="*", metavar="KEY VALUE", help="configuration keys to change")


def resolve_config(args: argparse.Namespace) -> None:
    """Turns ``weights`` into a configuration, unless there is one, and a key of it; in place.

    Raises:
        FileNotFoundError, WeightsError: as :func:`escnet_d2.engine.checkpoint_config`.
        ValueError: there is neither.
    """
    from escnet_d2.engine import checkpoint_config

    if not (args.config_file or args.weights):
        raise ValueError("give --config-file, --weights or both.")
    if args.weights:
        args.config_file = args.config_file or checkpoint_config(args.weights)[1]
        args.opts = ["MODEL.WEIGHTS", args.weights, *args.opts]


def main(arguments: Sequence[str] | None = None) -> int:
    """Reads the command line and starts the processes; ends as ``engine.launch`` says.

    Args:
        arguments: of the command line, by default those of this process.

    Returns:
        0.
    """
    args = argument_parser().parse_args(arguments)
    from escnet_d2.engine import launch, one_line_errors

    with one_line_errors():
        resolve_config(args)
    launch(run, args)
    return 0


def run(args: argparse.Namespace) -> None:
    """Runs one process of a training or an evaluation.

    Args:
        args: of :func:`argument_parser`.
    """
    from detectron2.utils import comm

    from escnet_d2.engine import Trainer, setup
    from escnet_d2.engine.output_dir import empty_training_folder
    from escnet_d2.engine.trainer import model_to_evaluate

    cfg = setup(args)
    if args.eval_only:
        model, _ = model_to_evaluate(cfg, resume=args.resume)
        Trainer.test(cfg, model)
        return
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=args.resume)
    if args.overwrite and not args.resume and comm.is_main_process():
        empty_training_folder(cfg)
    trainer.train()
