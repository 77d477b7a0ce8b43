"""open_clip models in float32, with weights of open_clip's tags, of a file, or random."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import open_clip
from open_clip.model import resize_pos_embed
from torch import nn

from escnet_d2.weights import WeightsError, clip_weights_file, load_state_dict

from .attention import SplitAttention

open_clip.add_model_config(Path(__file__).parent / "model_configs")


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


def _split_attention(model: nn.Module) -> None:
    for module in list(model.modules()):
        for child_name, child in list(module.named_children()):
            if isinstance(child, nn.MultiheadAttention):
                setattr(module, child_name, SplitAttention.from_joint(child))
