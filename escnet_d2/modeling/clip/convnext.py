"""Dense features and the pyramid of open_clip's ConvNeXt image towers."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from escnet_d2.structures import ClipFeatures

# Image pixels to a cell of the last stage.
STRIDE = 32


def stage_dims(visual: nn.Module) -> tuple[int, ...]:
    """Returns the channels of the four stages."""
    return tuple(info["num_chs"] for info in visual.trunk.feature_info)


def pyramid_features(
    visual: nn.Module, images: Tensor, *, gradient_checkpointing: bool = False
) -> ClipFeatures:
    """Projects every cell of the last stage into the space that images and text share.

    open_clip's own head averages the map, normalizes and projects; here each cell is normalized
    and projected by itself.

    Args:
        visual: open_clip's image tower, see :func:`check_convnext`.
        images: normalized, (B, 3, h, w); h and w multiples of 32.
        gradient_checkpointing: recompute the stages in the backward pass.

    Returns:
        Features on the grid h / 32 x w / 32, and the four stages, at strides 4, 8, 16 and 32.
    """
    trunk = visual.trunk
    x = trunk.stem(images)
    stages = []
    for stage in trunk.stages:
        if gradient_checkpointing and torch.is_grad_enabled():
            x = checkpoint(stage, x, use_reentrant=False)
        else:
            x = stage(x)
        stages.append(x)
    x = trunk.head.norm(trunk.norm_pre(x))
    B, _, h, w = x.shape
    # One row per cell, so that dropout in the projection treats cells as the release's does.
    cells = visual.head(x.permute(0, 2, 3, 1).reshape(B * h * w, -1))
    return ClipFeatures(cells.view(B, h, w, -1).permute(0, 3, 1, 2), tuple(stages))
