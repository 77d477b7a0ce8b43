"""The training loop that both pre-trainings share, on Detectron2's hooks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from detectron2.engine import hooks
from detectron2.utils.events import CommonMetricPrinter, JSONWriter
from torch import nn

from escnet_d2.engine.checkpoint import TrainingCheckpointer
from escnet_d2.engine.train_loop import AccumulatingTrainer

_LOG_PERIOD = 20
_BETAS = (0.9, 0.98)


def run_pretraining(
    model: nn.Module,
    batches: Callable[[int], Iterator[Any]],
    output_dir: Path,
    *,
    max_iter: int,
    base_lr: float,
    weight_decay: float,
    warmup_iters: int,
    checkpoint_period: int,
    resume: bool,
) -> None:
    """Trains with AdamW, a linear warm-up and a cosine down to 0.

    Args:
        model: takes a batch, returns a dict of scalar losses; its weights are trained in place.
        batches: gives the endless batches from an iteration on, so that a resumed run sees what an
            uninterrupted one would.
        output_dir: for checkpoints, ``metrics.json`` and the log.
        max_iter: iterations in all.
        base_lr: peak learning rate.
        weight_decay: of matrices; vectors and embeddings have none.
        warmup_iters: iterations of the warm-up.
        checkpoint_period: iterations between checkpoints.
        resume: go on from the last checkpoint, where there is one.
    """
    output_dir.mkdir(parents=True, exist_ok=True)
    optimizer = torch.optim.AdamW(_parameter_groups(model, weight_decay), lr=base_lr, betas=_BETAS)
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda iteration: _learning_rate_factor(iteration, warmup_iters, max_iter)
    )
    trainer = AccumulatingTrainer(model, None, optimizer, device=next(model.parameters()).device)
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


def _parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    embeddings = {
        id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)
    }
    groups: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            is_matrix = parameter.dim() > 1 and id(parameter) not in embeddings
            groups[is_matrix and "pos" not in name].append(parameter)
    return [
        {"params": groups[True], "weight_decay": weight_decay},
        {"params": groups[False], "weight_decay": 0.0},
    ]


def _learning_rate_factor(iteration: int, warmup_iters: int, max_iter: int) -> float:
    warmup = min(1.0, (iteration + 1) / max(1, warmup_iters))
    return warmup * 0.5 * (1 + math.cos(math.pi * iteration / max_iter))
