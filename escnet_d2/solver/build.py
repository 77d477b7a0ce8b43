"""From the configuration to an optimizer."""

from __future__ import annotations

import logging
from typing import Any

import torch
from detectron2.config import CfgNode
from torch import nn

from .clipping import with_gradient_clipping
from .groups import build_parameter_groups

OPTIMIZERS = {"AdamW": torch.optim.AdamW, "SGD": torch.optim.SGD}

logger = logging.getLogger(__name__)


def build_optimizer(cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
    """Builds the optimizer named by ``SOLVER.OPTIMIZER`` over :func:`build_parameter_groups`.

    Args:
        cfg: ``SOLVER``; ``MOMENTUM`` and ``NESTEROV`` are for SGD only.
        model: as built, before it is wrapped for distributed training.

    Raises:
        ValueError: an unknown optimizer or type of clipping, or nothing to train.
    """
    wanted = cfg.SOLVER.OPTIMIZER
    # The CAT-Seg and SED releases write ADAMW.
    name = next((known for known in OPTIMIZERS if known.upper() == wanted.upper()), None)
    if name is None:
        raise ValueError(
            f"SOLVER.OPTIMIZER must be one of {', '.join(OPTIMIZERS)}, got {wanted!r}."
        )
    options: dict[str, Any] = {"lr": cfg.SOLVER.BASE_LR, "weight_decay": cfg.SOLVER.WEIGHT_DECAY}
    if name == "SGD":
        options.update(momentum=cfg.SOLVER.MOMENTUM, nesterov=cfg.SOLVER.NESTEROV)
    groups = build_parameter_groups(cfg, model)
    for group in groups:
        logger.info(
            "%s: %d tensors, learning rate %g, weight decay %g",
            group["name"],
            len(group["params"]),
            group["lr"],
            group["weight_decay"],
        )
    return with_gradient_clipping(cfg, OPTIMIZERS[name])(groups, **options)
