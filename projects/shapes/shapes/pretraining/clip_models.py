"""The CLIP that a configuration reads, as it is pre-trained and measured."""

from __future__ import annotations

import torch
from detectron2.config import CfgNode
from torch import Tensor, nn

from escnet_d2.modeling.clip import ClipEncoder
from escnet_d2.modeling.clip.build import build_baseline_clip
from escnet_d2.modeling.clip.convnext import STRIDE, pyramid_features
from escnet_d2.modeling.clip.text import TextEncoder
from escnet_d2.modeling.windows import feature_grid
from escnet_d2.structures import ClipFeatures

from ..scenes import SIZE
from .clip_start import initialize_convnext, initialize_vit
from .region_clip import RegionClip


def build_region_clip(cfg: CfgNode) -> RegionClip:
    """Builds the CLIP of a configuration.

    SED's is a ConvNeXt, which reads scenes enlarged to what FEATURE_RESOLUTION says.

    Args:
        cfg: MODEL.CLIP.WEIGHTS "random" gives the start of a pre-training.

    Raises:
        ValueError: the resolution is not a whole multiple of a scene's size.
    """
    is_random = cfg.MODEL.CLIP.WEIGHTS == "random"
    if cfg.MODEL.META_ARCHITECTURE != "SED":
        clip = ClipEncoder(cfg)
        if is_random:
            initialize_vit(clip.model.visual)
        return RegionClip(clip)
    clip = ConvNextEncoder(cfg)
    grid = feature_grid(cfg)
    scale, rest = divmod(grid[0] * clip.patch_size, SIZE)
    if grid[0] != grid[1] or rest or not scale:
        raise ValueError(
            "MODEL.SEM_SEG_HEAD.FEATURE_RESOLUTION must be a square that enlarges scenes of "
            f"{SIZE} pixels by a whole factor, got {list(grid)}."
        )
    if is_random:
        initialize_convnext(clip.model.visual)
    return RegionClip(clip, scale=scale)


class ConvNextEncoder(nn.Module):
    """An open_clip model with a ConvNeXt image tower.

    Attributes:
        model: the open_clip model, with its own parameter names.
        text: embeds sentences with ``model``.
        patch_size: image pixels to a cell of the dense features.
    """

    patch_size = STRIDE

    def __init__(self, cfg: CfgNode) -> None:
        """Builds the model of a configuration of SED.

        Raises:
            ValueError: MODEL.SEM_SEG_HEAD.CLIP_PRETRAINED has no ConvNeXt image tower.
        """
        super().__init__()
        self.model, tokenizer = build_baseline_clip(cfg, convnext=True)
        self.pixel_statistics = (
            torch.tensor(cfg.MODEL.CLIP_PIXEL_MEAN),
            torch.tensor(cfg.MODEL.CLIP_PIXEL_STD),
        )
        self.text = TextEncoder(
            self.model,
            tokenizer,
            (),
            average_templates=False,
            batch_size=cfg.MODEL.CLIP.TEXT_BATCH_SIZE,
        )

    @property
    def temperature(self) -> Tensor:
        """Factor on cosines, a scalar."""
        return self.model.logit_scale.exp()

    def encode_image(self, images: Tensor) -> ClipFeatures:
        """Dense features of normalized images (B, 3, h, w), sides multiples of 32."""
        return pyramid_features(self.model.visual, images)
