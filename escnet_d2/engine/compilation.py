"""torch.compile, region by region (MODEL.COMPILE)."""

from __future__ import annotations

from open_clip.transformer import ResidualAttentionBlock
from timm.models.convnext import ConvNeXtStage
from torch import nn

from escnet_d2.layers.class_transformer import ClassTransformer
from escnet_d2.layers.guided_upsampling import DoubleConv
from escnet_d2.layers.swin_pair import SwinPair
from escnet_d2.modeling.escnet import MaskDecoder
from escnet_d2.modeling.escnet.vision_language_fusion import VisionLanguageFusion
from escnet_d2.modeling.sed.convnext_block import ConvNextBlock

# Between them lie k-means, prompt sets and pruning, whose shapes follow from the images.
_REGIONS = (
    VisionLanguageFusion,
    MaskDecoder,
    SwinPair,
    ClassTransformer,
    ConvNextBlock,
    DoubleConv,
)
_IMAGE_REGIONS = (ResidualAttentionBlock, ConvNeXtStage)


def compile_regions(model: nn.Module) -> int:
    """Compiles blocks, decoders and the blocks of CLIP's image tower, when they first run.

    The modules stay what they are: names in checkpoints do not change.

    Args:
        model: a meta-architecture of this package.

    Returns:
        How many regions there are.
    """
    regions: list[str] = []
    for name, module in model.named_modules():
        is_region = isinstance(module, _REGIONS) or (
            "visual" in name.split(".") and isinstance(module, _IMAGE_REGIONS)
        )
        # What lies in a region is compiled with it.
        if is_region and not name.startswith(tuple(f"{region}." for region in regions)):
            module.compile()
            regions.append(name)
    return len(regions)
