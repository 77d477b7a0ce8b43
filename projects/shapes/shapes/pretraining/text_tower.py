"""The text tower of other weights, as the fixed side of a contrast."""

from __future__ import annotations

from torch import nn

from escnet_d2.weights import WeightsError, load_state_dict, model_weights_path
from escnet_d2.weights.baseline_keys import join_attention

# What belongs to neither tower.
_SCALES = ("logit_scale", "logit_bias")


def take_text_tower(model: nn.Module, weights: str) -> None:
    """Loads the text tower of other weights into a model and freezes it.

    The image tower and the temperature stay as they are.

    Args:
        model: an open_clip model, changed in place.
        weights: a path, or the name of shipped weights.

    Raises:
        WeightsError: the weights cannot be read, or their text tower does not fit.
    """
    path = model_weights_path(weights)
    text = {
        key: value.float()
        for key, value in join_attention(load_state_dict(path)).items()
        if _is_text(key)
    }
    try:
        missing, unexpected = model.load_state_dict(text, strict=False)
    except RuntimeError as error:
        raise WeightsError(f"The text tower of {path} does not fit: {error}") from error
    missing = [key for key in missing if _is_text(key)]
    if missing or unexpected:
        raise WeightsError(
            f"The text tower of {path} does not fit: missing {missing}, unexpected {unexpected}."
        )
    for key, parameter in model.named_parameters():
        if _is_text(key):
            parameter.requires_grad_(False)


def _is_text(key: str) -> bool:
    return not key.startswith("visual.") and key not in _SCALES
