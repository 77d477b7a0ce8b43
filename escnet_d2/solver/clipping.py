"""Gradient clipping as part of the optimizer's step.

Inside ``step`` the gradients are complete: summed over accumulated mini-batches, averaged over
processes, and unscaled by the GradScaler, which unscales before it calls ``step``.
"""

from __future__ import annotations

from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.solver.build import maybe_add_gradient_clipping

CLIP_TYPES = ("full_model", "norm", "value")


def with_gradient_clipping(
    cfg: CfgNode, optimizer_class: type[torch.optim.Optimizer]
) -> type[torch.optim.Optimizer]:
    """Returns a class that clips gradients as ``SOLVER.CLIP_GRADIENTS`` says.

    Args:
        cfg: ``CLIP_TYPE`` is ``full_model`` (the norm over all parameters together), or
            Detectron2's ``norm`` or ``value`` (each parameter by itself).
        optimizer_class: returned as it is when clipping is not enabled.

    Raises:
        ValueError: an unknown ``CLIP_TYPE``.
    """
    clip = cfg.SOLVER.CLIP_GRADIENTS
    if not clip.ENABLED:
        return optimizer_class
    if clip.CLIP_TYPE not in CLIP_TYPES:
        raise ValueError(
            f"SOLVER.CLIP_GRADIENTS.CLIP_TYPE must be one of {', '.join(CLIP_TYPES)}, "
            f"got {clip.CLIP_TYPE!r}."
        )
    if clip.CLIP_TYPE == "full_model":
        return _clip_full_model(optimizer_class, max_norm=clip.CLIP_VALUE, norm_type=clip.NORM_TYPE)
    return maybe_add_gradient_clipping(cfg, optimizer_class)


def _clip_full_model(
    optimizer_class: type[torch.optim.Optimizer], *, max_norm: float, norm_type: float
) -> type[torch.optim.Optimizer]:
    class FullModelClippingOptimizer(optimizer_class):
        """Scales all gradients down together so that their joint norm is at most ``max_norm``."""

        def step(self, *args: Any, **kwargs: Any) -> Any:
            parameters = [p for group in self.param_groups for p in group["params"]]
            torch.nn.utils.clip_grad_norm_(parameters, max_norm, norm_type)
            return super().step(*args, **kwargs)

    return FullModelClippingOptimizer
