"""The CLIP that a configuration reads, as it is pre-trained and measured."""

from __future__ import annotations

from detectron2.config import CfgNode

from escnet_d2.modeling.clip import ClipEncoder
from escnet_d2.modeling.meta_arch.baseline_segmentor import feature_grid

from ..scenes import SIZE
from .convnext_encoder import ConvNextEncoder, initialize_convnext
from .region_clip import RegionClip
from .vit_init import initialize_vit


def build_region_clip(cfg: CfgNode) -> RegionClip:
    """Builds the CLIP of a configuration.

    SED's is a ConvNeXt, which reads scenes enlarged to what FEATURE_RESOLUTION says.

    Args:
        cfg: MODEL.CLIP.WEIGHTS "random" gives the start of a pre-training.

    Raises:
        ValueError: the resolution is no whole multiple of a scene's size.
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
