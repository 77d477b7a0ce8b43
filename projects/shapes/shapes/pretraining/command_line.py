"""What the programs of both pre-trainings share: arguments, set-up, the gate before the export."""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.utils.env import seed_all_rng
from detectron2.utils.logger import setup_logger
from torch import nn

from escnet_d2.config import get_cfg
from escnet_d2.engine import find_config
from escnet_d2.io import write_json

from .loop import run_pretraining

_WEIGHT_DECAY = 0.05
_WARMUP_ITERS = 100
_CHECKPOINT_PERIOD = 200

logger = logging.getLogger(__name__)


def argument_parser(description: str, *, max_iter: int, batch_size: int) -> argparse.ArgumentParser:
    """The arguments that both programs take.

    Args:
        description: of the program.
        max_iter: default.
        batch_size: default, in images.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--config-file", default="escnet_tiny_shapes", help="whose CLIP or SAM it is")
    add("--output", type=Path, required=True, metavar="DIR", help="for checkpoints and weights")
    add("--max-iter", type=int, default=max_iter, help="default %(default)s")
    add("--batch-size", type=int, default=batch_size, help="images, default %(default)s")
    add("--base-lr", type=float, default=1e-3, help="default %(default)s")
    add("--seed", type=int, default=0, help="default %(default)s")
    add("--num-threads", type=int, default=0, help="of torch; 0 leaves its choice")
    add("--num-workers", type=int, default=2, help="processes that draw scenes")
    add("--resume", action="store_true", help="go on from the last checkpoint")
    return parser


def start(args: argparse.Namespace) -> CfgNode:
    """Sets up loggers, threads and the seed; returns the configuration."""
    for name in ("escnet_d2", "detectron2"):
        setup_logger(str(args.output), name=name)
    setup_logger(name="fvcore")
    if args.num_threads:
        torch.set_num_threads(args.num_threads)
    seed_all_rng(args.seed)
    cfg = get_cfg()
    cfg.merge_from_file(find_config(args.config_file))
    return cfg


def train_and_measure(
    args: argparse.Namespace,
    model: nn.Module,
    batches: Callable[[int], Iterator[Any]],
    measure: Callable[[], dict[str, float]],
    *,
    gate: tuple[str, float],
) -> bool:
    """Trains, measures, writes ``accuracy.json``.

    Args:
        args: of :func:`argument_parser`.
        model: see :func:`run_pretraining`; in eval mode afterwards.
        batches: likewise.
        measure: gives the accuracy.
        gate: name of a score and what it must reach.

    Returns:
        Whether it did: only then the weights are worth an export.
    """
    began = time.process_time()
    run_pretraining(
        model,
        batches,
        args.output,
        max_iter=args.max_iter,
        base_lr=args.base_lr,
        weight_decay=_WEIGHT_DECAY,
        warmup_iters=_WARMUP_ITERS,
        checkpoint_period=_CHECKPOINT_PERIOD,
        resume=args.resume,
    )
    model.eval()
    accuracy = measure()
    logger.info("Accuracy: %s", {name: round(value, 3) for name, value in accuracy.items()})
    cost = {"cpu_seconds": round(time.process_time() - began), "iterations": args.max_iter}
    write_json(args.output / "accuracy.json", {**accuracy, **cost})
    name, wanted = gate
    if accuracy[name] < wanted:
        logger.error("%s is %.3f, below %.3f: nothing exported.", name, accuracy[name], wanted)
        return False
    return True
