"""The training loop that both pre-trainings share: arguments, Detectron2's hooks, the gate."""

from __future__ import annotations

import argparse
import logging
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.engine import hooks
from detectron2.utils.env import seed_all_rng
from detectron2.utils.events import CommonMetricPrinter, JSONWriter
from detectron2.utils.logger import setup_logger
from torch import nn

from escnet_d2.config import get_cfg
from escnet_d2.engine import find_config
from escnet_d2.engine.checkpoint import TrainingCheckpointer
from escnet_d2.engine.train_loop import AccumulatingTrainer
from escnet_d2.io import write_json

_WEIGHT_DECAY = 0.05
_BETAS = (0.9, 0.98)
_LOG_PERIOD = 20

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
        True if it did: only then the weights are worth an export.
    """
    began = time.process_time()
    run_pretraining(
        model,
        batches,
        args.output,
        max_iter=args.max_iter,
        base_lr=args.base_lr,
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


def run_pretraining(
    model: nn.Module,
    batches: Callable[[int], Iterator[Any]],
    output_dir: Path,
    *,
    max_iter: int,
    base_lr: float,
    resume: bool,
    warmup_iters: int = 100,
    checkpoint_period: int = 200,
) -> None:
    """Trains with AdamW, a linear warm-up and a cosine down to 0.

    Args:
        model: takes a batch, returns a dict of scalar losses; its weights are trained in place.
        batches: gives the endless batches from an iteration on, so that a resumed run sees what an
            uninterrupted one would.
        output_dir: for checkpoints, ``metrics.json`` and the log.
        max_iter: iterations in all.
        base_lr: peak learning rate.
        resume: go on from the last checkpoint if there is one.
        warmup_iters: iterations of the warm-up.
        checkpoint_period: iterations between checkpoints.
    """
    output_dir.mkdir(parents=True, exist_ok=True)
    optimizer = torch.optim.AdamW(_parameter_groups(model), lr=base_lr, betas=_BETAS)
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda iteration: _learning_rate_factor(iteration, warmup_iters, max_iter)
    )
    trainer = AccumulatingTrainer(model, optimizer, device=next(model.parameters()).device)
    checkpointer = TrainingCheckpointer(model, str(output_dir), trainer=trainer)
    trainer.register_hooks(
        [
            hooks.IterationTimer(),
            hooks.LRScheduler(optimizer, scheduler),
            hooks.PeriodicCheckpointer(checkpointer, checkpoint_period),
            hooks.PeriodicWriter(
                [CommonMetricPrinter(max_iter), JSONWriter(str(output_dir / "metrics.json"))],
                period=_LOG_PERIOD,
            ),
        ]
    )
    start = 0
    if resume and checkpointer.has_checkpoint():
        checkpointer.resume_or_load("", resume=True)
        start = trainer.iter + 1
    trainer.start_loader(batches(start))
    trainer.train(start, max_iter)


def _parameter_groups(model: nn.Module) -> list[dict[str, Any]]:
    """Matrices decay, vectors and embeddings do not."""
    embeddings = {
        id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)
    }
    groups: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            is_matrix = parameter.dim() > 1 and id(parameter) not in embeddings
            groups[is_matrix and "pos" not in name].append(parameter)
    return [
        {"params": groups[True], "weight_decay": _WEIGHT_DECAY},
        {"params": groups[False], "weight_decay": 0.0},
    ]


def _learning_rate_factor(iteration: int, warmup_iters: int, max_iter: int) -> float:
    warmup = min(1.0, (iteration + 1) / max(1, warmup_iters))
    return warmup * 0.5 * (1 + math.cos(math.pi * iteration / max_iter))
