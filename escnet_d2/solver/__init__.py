"""Optimizer with the paper's parameter groups."""

from .build import OPTIMIZERS, build_optimizer
from .clipping import CLIP_TYPES
from .groups import build_parameter_groups

__all__ = ["CLIP_TYPES", "OPTIMIZERS", "build_optimizer", "build_parameter_groups"]
