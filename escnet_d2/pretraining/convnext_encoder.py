"""A ConvNeXt CLIP as SED reads it, for :class:`RegionClip`, and a start from which it learns."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from detectron2.config import CfgNode
from torch import Tensor, nn

from escnet_d2.modeling.clip.baseline_clip import build_baseline_clip
from escnet_d2.modeling.clip.convnext import (
    STRIDE,
    PyramidFeatures,
    check_convnext,
    pyramid_features,
)
from escnet_d2.modeling.clip.text import TextEncoder


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
        self.model, tokenizer = build_baseline_clip(cfg, split_attention=False)
        check_convnext(self.model.visual, cfg.MODEL.SEM_SEG_HEAD.CLIP_PRETRAINED)
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

    def encode_image(self, images: Tensor) -> PyramidFeatures:
        """Dense features of normalised images (B, 3, h, w), sides multiples of 32."""
        return pyramid_features(self.model.visual, images)

    def encode_sentences(self, sentences: Sequence[str]) -> Tensor:
        """Unit embeddings (sentences, D)."""
        return self.text.encode_sentences(sentences)


@torch.no_grad()
def initialise_convnext(visual: nn.Module) -> None:
    """Sets the weights of an image tower so that its blocks do something from the first step on.

    timm starts small models as it starts large ones: layer scales of 1e-6 and narrow weights, which
    a few hundred steps hardly leave.

    Args:
        visual: open_clip's tower, see :func:`check_convnext`; changed in place.
    """
    for module in visual.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            # Keeps the variance of what it reads.
            nn.init.normal_(module.weight, std=1 / math.sqrt(module.weight[0].numel()))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for name, parameter in visual.named_parameters():
        if name.endswith(".gamma"):
            parameter.fill_(1.0)
