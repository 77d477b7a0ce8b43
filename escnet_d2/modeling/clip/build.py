"""open_clip models in float32, with weights of open_clip's tags, of a file, or random.

CAT-Seg's and SED's go by the names of their official configurations.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import open_clip
from detectron2.config import CfgNode
from open_clip.model import resize_pos_embed
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from torch import nn

from escnet_d2.weights import WeightsError, clip_weights_file, load_state_dict

from .attention import SplitAttention
from .text import Tokenizer

open_clip.add_model_config(Path(__file__).parent / "model_configs")

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


def build_clip_model(
    name: str,
    weights: str,
    *,
    load: bool = True,
    split_attention: bool = True,
    vision_options: Mapping[str, object] | None = None,
) -> nn.Module:
    """Builds an open_clip model and loads its weights.

    The tag of the weights decides whether QuickGELU is used, as OpenAI's weights need, whatever
    the name says. A path does not tell, so there the name must (``ViT-B-16-quickgelu``).

    Args:
        name: an open_clip model name, or one of our ``model_configs``.
        weights: a path, the name of shipped weights, a pre-training tag of open_clip, or "random".
        load: False leaves the model random, for a checkpoint that brings all weights.
        split_attention: give every attention separate q, k and v weights.
        vision_options: replace entries of open_clip's configuration of the image tower.

    Raises:
        ValueError: no such model.
        WeightsError: the weights cannot be found, or do not fit the model.
    """
    known = open_clip.list_models()
    if name not in known:
        vits = ", ".join(n for n in known if "ViT" in n or n.startswith("escnet"))
        raise ValueError(f"MODEL.CLIP.NAME {name!r} is not an open_clip model; ViTs are: {vits}.")
    config = open_clip.get_model_config(name)
    tag = open_clip.get_pretrained_cfg(name, weights)
    config["quick_gelu"] = tag.get("quick_gelu", False) or config.get("quick_gelu", False)
    config["vision_cfg"].update(vision_options or {})
    tower = open_clip.CustomTextCLIP if config.pop("custom_text", False) else open_clip.CLIP
    try:
        model = tower(**config)
    except TypeError as error:
        raise ValueError(f"MODEL.CLIP.NAME {name!r} is not a plain CLIP model: {error}") from error
    if split_attention:
        _split_attention(model)
    if load and weights != "random":
        path = clip_weights_file(name, weights)
        state_dict = {key: value.float() for key, value in load_state_dict(path).items()}
        try:
            resize_pos_embed(state_dict, model)
            model.load_state_dict(state_dict)
        except RuntimeError as error:
            raise WeightsError(f"{path} does not fit MODEL.CLIP.NAME {name}: {error}") from error
    return model


def baseline_embed_dim(name: str) -> int:
    """Returns the channels that images and texts share, by a name of the baselines or open_clip."""
    return open_clip.get_model_config(_clip(name)[0])["embed_dim"]


def build_baseline_clip(cfg: CfgNode, *, convnext: bool) -> tuple[nn.Module, Tokenizer]:
    """Builds the CLIP of MODEL.SEM_SEG_HEAD.CLIP_PRETRAINED and its tokenizer.

    Its weights are those of MODEL.CLIP.WEIGHTS, or random where a checkpoint (MODEL.WEIGHTS) brings
    them.

    Args:
        cfg: the configuration.
        convnext: SED's image tower; else CAT-Seg's, a ViT with separate q, k and v weights.

    Raises:
        ValueError: neither a name of the baselines nor one of open_clip, or another image tower.
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
        split_attention=not convnext,
        vision_options=vision_options,
    )
    (check_convnext if convnext else check_plain_vit)(model.visual, wanted)
    return model, open_clip.get_tokenizer(name)


def check_plain_vit(visual: nn.Module, name: str) -> None:
    """Raises ValueError unless a tower is a ViT whose dense features are defined here."""
    plain = (
        isinstance(visual, VisionTransformer)
        and visual.attn_pool is None
        and visual.pool_type == "tok"
        and visual.proj is not None
        and all(isinstance(block, ResidualAttentionBlock) for block in visual.transformer.resblocks)
    )
    if not plain:
        raise ValueError(
            f"MODEL.CLIP.NAME {name!r} has no plain ViT image tower (class token, linear "
            "projection). Use one such as ViT-B-16-quickgelu or ViT-L-14-336-quickgelu."
        )


def is_convnext(visual: nn.Module) -> bool:
    """Tells a ConvNeXt image tower with a projection from others."""
    trunk = getattr(visual, "trunk", None)
    return (
        len(getattr(trunk, "stages", ())) == 4
        and hasattr(trunk, "stem")
        and hasattr(getattr(trunk, "head", None), "norm")
        and len(visual.head) > 0
    )


def names_convnext(name: str) -> bool:
    """Tells whether a name of the baselines or of open_clip is that of a ConvNeXt."""
    config = open_clip.get_model_config(_clip(name)[0]) or {}
    return "convnext" in config.get("vision_cfg", {}).get("timm_model_name", "")


def check_convnext(visual: nn.Module, name: str) -> None:
    """Raises ValueError for image towers that are not a ConvNeXt with a projection."""
    if not is_convnext(visual):
        raise ValueError(
            f"MODEL.SEM_SEG_HEAD.CLIP_PRETRAINED {name!r} has no ConvNeXt image tower. Use one "
            "such as Convnext-B or Convnext-L."
        )


def _clip(name: str) -> tuple[str, str, dict[str, object]]:
    return BASELINE_CLIPS.get(name, (name, "openai", {}))


def _split_attention(model: nn.Module) -> None:
    for module in list(model.modules()):
        for child_name, child in list(module.named_children()):
            if isinstance(child, nn.MultiheadAttention):
                setattr(module, child_name, SplitAttention.from_joint(child))
