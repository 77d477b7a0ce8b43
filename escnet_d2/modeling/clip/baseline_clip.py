"""The CLIP models of CAT-Seg and SED, by the names of their official configurations."""

from __future__ import annotations

import open_clip
from detectron2.config import CfgNode
from torch import nn

from .build import build_clip_model
from .text import Tokenizer

# The open_clip model, the tag of its weights, and the entries of open_clip's configuration of the
# image tower that were otherwise in the open_clip version that the baseline used.
BASELINE_CLIPS = {
    "ViT-B/16": ("ViT-B-16-quickgelu", "openai", {}),
    "ViT-L/14@336px": ("ViT-L-14-336-quickgelu", "openai", {}),
    "Convnext-B": (
        "convnext_base_w_320",
        "laion_aesthetic_s13b_b82k",
        {"timm_drop": 0.0, "timm_drop_path": None},
    ),
    "Convnext-L": (
        "convnext_large_d_320",
        "laion2b_s29b_b131k_ft_soup",
        {"timm_drop": 0.1, "timm_drop_path": 0.1},
    ),
}


def baseline_embed_dim(name: str) -> int:
    """Returns the channels that images and texts share, by a name of the baselines or open_clip."""
    return open_clip.get_model_config(_clip(name)[0])["embed_dim"]


def build_baseline_clip(cfg: CfgNode, *, split_attention: bool) -> tuple[nn.Module, Tokenizer]:
    """Builds the CLIP of MODEL.SEM_SEG_HEAD.CLIP_PRETRAINED and its tokenizer.

    Its weights are those of MODEL.CLIP.WEIGHTS, or random where a checkpoint (MODEL.WEIGHTS) brings
    them.

    Args:
        cfg: the configuration.
        split_attention: separate q, k and v weights, as CAT-Seg's checkpoints have.

    Raises:
        ValueError: neither a name of the baselines nor one of open_clip.
        WeightsError: the weights cannot be found, or do not fit.
    """
    wanted = cfg.MODEL.SEM_SEG_HEAD.CLIP_PRETRAINED
    if wanted not in BASELINE_CLIPS and wanted not in open_clip.list_models():
        raise ValueError(
            f"MODEL.SEM_SEG_HEAD.CLIP_PRETRAINED must be one of {', '.join(BASELINE_CLIPS)} or an "
            f"open_clip model, got {wanted!r}."
        )
    name, tag, vision_options = _clip(wanted)
    weights = cfg.MODEL.CLIP.WEIGHTS
    model = build_clip_model(
        name,
        tag if weights == "openai" else weights,
        load=not cfg.MODEL.WEIGHTS,
        split_attention=split_attention,
        vision_options=vision_options,
    )
    return model, open_clip.get_tokenizer(name)


def _clip(name: str) -> tuple[str, str, dict[str, object]]:
    return BASELINE_CLIPS.get(name, (name, "openai", {}))
